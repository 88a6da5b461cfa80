"""The pixels of each instance as runs down the columns of the image, in the form that COCO has them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Bits of a number in one character of a compressed text, and characters of the largest number: 35 bits.
_BITS, _MOST_CHARACTERS = 5, 7


class ColumnRuns(NamedTuple):
    """The instances of a label image as runs of background and instance, in turns, down its columns.

    Attributes
    ----------
    label : (N,) integers
        Ascending.
    counts : (C,) int64
        The lengths of the runs of all instances, one instance after the other; the first of each is background. The
        sum of an instance's runs is the number of pixels of the image.
    first : (N + 1,) int64
        Where in `counts` each instance begins, and the end.
    area : (N,) int64
        Pixels of each instance.
    bbox : (N, 4) int64
        First row, first column, and the row and the column after the last.
    """

    label: NDArray[np.integer]
    counts: NDArray[np.int64]
    first: NDArray[np.int64]
    area: NDArray[np.int64]
    bbox: NDArray[np.int64]

    def compressed(self) -> list[str]:
        """Return the runs of each instance as the text that COCO's tools write, in ASCII.

        From its fourth run on, an instance has the difference to the run two before. A number is written five bits at
        a time, lowest first, each with a bit that says whether it goes on; the highest bit of the last is the sign.

        Examples
        --------
        >>> column_runs(np.array([[0, 1, 0], [0, 1, 1]])).compressed()
        ['221O']
        """
        place = np.arange(len(self.counts)) - np.repeat(self.first[:-1], np.diff(self.first))
        numbers, later = self.counts.copy(), np.flatnonzero(place > 2)
        numbers[later] -= self.counts[later - 2]
        size = np.ones(len(numbers), np.int64)
        for length in range(1, _MOST_CHARACTERS):
            limit = 1 << (_BITS * length - 1)
            size += (numbers < -limit) | (numbers >= limit)
        start = np.concatenate([[0], np.cumsum(size)])
        text = np.zeros(start[-1], np.uint8)
        for index in range(_MOST_CHARACTERS):
            chosen = np.flatnonzero(size > index)
            character = (numbers[chosen] >> (_BITS * index)) & 0x1F
            text[start[chosen] + index] = (character | (0x20 * (size[chosen] > index + 1))) + 48
        whole, ends = text.tobytes().decode("ascii"), start[self.first].tolist()
        return [whole[begin:end] for begin, end in zip(ends[:-1], ends[1:], strict=True)]


def column_runs(labels: NDArray[np.integer]) -> ColumnRuns:
    """Return the runs of all instances, in one pass over the pixels.

    Parameters
    ----------
    labels : (H, W) integers
        0 and what is below is background.

    Examples
    --------
    >>> runs = column_runs(np.array([[0, 1, 0], [0, 1, 1]]))
    >>> runs.counts.tolist(), runs.area.tolist(), runs.bbox.tolist()
    ([2, 2, 1, 1], [3], [[0, 1, 2, 3]])
    """
    height, total = labels.shape[0], labels.size
    flat = labels.ravel(order="F")
    start = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]) if total else np.zeros(0, np.int64)
    end = np.append(start[1:], total)[: len(start)]
    values = flat[start]
    kept = np.flatnonzero(values > 0)
    # Stable, so that the runs of an instance stay in order.
    kept = kept[np.argsort(values[kept], kind="stable")]
    start, end, values = start[kept], end[kept], values[kept]
    begins = np.flatnonzero(np.append(True, values[1:] != values[:-1])) if len(values) else np.zeros(0, np.int64)
    amount = np.diff(np.append(begins, len(values)))
    lasts = begins + amount - 1
    before = np.append(0, end[:-1])[: len(end)]
    before[begins] = 0
    rest = total - end[lasts]
    first = np.concatenate([[0], np.cumsum(2 * amount + (rest > 0))]).astype(np.int64)
    counts = np.empty(first[-1], np.int64)
    place = np.repeat(first[:-1] - 2 * begins, amount) + 2 * np.arange(len(values))
    counts[place], counts[place + 1] = start - before, end - start
    counts[(first[1:] - 1)[rest > 0]] = rest[rest > 0]
    area = np.add.reduceat(end - start, begins) if len(begins) else np.zeros(0, np.int64)
    return ColumnRuns(values[begins], counts, first, area, _boxes(start, end, begins, height))


def _boxes(
    start: NDArray[np.int64], end: NDArray[np.int64], begins: NDArray[np.int64], height: int
) -> NDArray[np.int64]:
    """Return the boxes around the runs of each instance, by the index of its first run."""
    if len(begins) == 0:
        return np.zeros((0, 4), np.int64)
    last = end - 1
    # A run that goes on in the next column reaches from edge to edge.
    several = last // height > start // height
    top, bottom = np.where(several, 0, start % height), np.where(several, height - 1, last % height)
    low = [np.minimum.reduceat(values, begins) for values in (top, start // height)]
    high = [np.maximum.reduceat(values, begins) + 1 for values in (bottom, last // height)]
    return np.stack([*low, *high], axis=1)
