"""What a report shows of an image: made while the image and its labels are at hand, and kept beside the report.

A part is a JSON file, so that workers can make it, a run that was broken off has not made it in vain, and a report of
many images needs the memory of one.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances, median_diameter
from instseg.io.atomic import atomic_write
from instseg.io.json_text import read_json
from instseg.io.source import ImageReader
from instseg.labels.regions import dense_labels, equivalent_diameter
from instseg.reports.outlines import outline_paths
from instseg.reports.pictures import Budget, Picture, Reducer, band_rows, encode, to_8bit
from instseg.tiling.grid import Box
from instseg.visualization.colours import label_colours

Strips = Callable[[int], Iterator[NDArray[np.integer]]]
"""Takes a number of rows, and gives the labels of an image from the top, so many rows at a time."""

# Channels whose intensities are shown.
_MOST_CHANNELS = 3
_LARGEST_PART = 2**30


@dataclass(frozen=True, kw_only=True)
class ReportParts:
    """Where the parts of a report go, and how large they may be.

    Attributes
    ----------
    folder : Path
        Hidden, and removed with the last part.
    budget : Budget
    """

    folder: Path
    budget: Budget

    def path(self, name: str) -> Path:
        """Return where the part of the image is whose results have a name."""
        return self.folder / f"{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:40]}.json"

    def write(self, name: str, image: ImageReader, strips: Strips, instances: Instances | None, state: Any) -> None:
        """Make the part of an image, in a pass over its pixels by bands.

        Parameters
        ----------
        name : str
            That the results have.
        image : ImageReader
        strips : callable
            Gives the labels.
        instances : Instances or None
            What is known of the objects; without, their sizes and positions are taken from the labels.
        state : sequence of int
            By which the file of the labels is known to be the same as before.

        Raises
        ------
        InstsegError
            If it cannot be written, or the image cannot be read.
        """
        part = _part(image, strips, instances, self.budget)
        with atomic_write(self.path(name)) as temporary:
            temporary.write_text(json.dumps(part | {"state": state}, separators=(",", ":")), encoding="utf-8")

    def read(self, name: str) -> dict[str, Any]:
        """Return the part of an image.

        Raises
        ------
        InstsegError
            If it is not there.
        """
        part: dict[str, Any] = read_json(self.path(name), max_bytes=_LARGEST_PART)
        return part


class _Sweep:
    """What is added up over the pixels of an image: those of each label, their positions and their intensities.

    Attributes
    ----------
    label : (N,) integers
        The labels that occur, ascending; they may be of any size.
    """

    def __init__(self, channels: int, positions: bool) -> None:
        self.label: NDArray[np.integer] = np.zeros(0, np.int64)
        self._sums = np.zeros((1 + channels + (2 if positions else 0), 0))
        self._channels, self._positions = channels, positions

    def add(self, top: int, labels: NDArray[np.integer], band: NDArray[Any]) -> None:
        ids, numbers = dense_labels(labels)
        flat, count = numbers.ravel(), len(ids) + 1
        of_band = np.zeros((len(self._sums), count))
        of_band[0] = np.bincount(flat, minlength=count)
        pixels = band.reshape(len(flat), -1)
        for channel in range(self._channels):
            of_band[1 + channel] = np.bincount(flat, pixels[:, channel], count)
        if self._positions:
            rows, columns = np.nonzero(labels)
            inside = numbers[rows, columns]
            of_band[-2] = np.bincount(inside, rows + top, count)
            of_band[-1] = np.bincount(inside, columns, count)
        label = np.union1d(self.label, ids)
        sums = np.zeros((len(self._sums), len(label)))
        sums[:, np.searchsorted(label, self.label)] = self._sums
        sums[:, np.searchsorted(label, ids)] += of_band[:, 1:]
        self.label, self._sums = label, sums

    def areas(self) -> NDArray[np.float64]:
        """Return the number of pixels (N,) of each label."""
        areas: NDArray[np.float64] = self._sums[0]
        return areas

    def means(self) -> NDArray[np.float64]:
        """Return the means (N, channels) of the pixels of each label."""
        means: NDArray[np.float64] = self._sums[1 : 1 + self._channels] / self._sums[0]
        return means.T

    def centroids(self) -> NDArray[np.float64]:
        """Return row and column (N, 2) of the centroid of each label."""
        centroids: NDArray[np.float64] = self._sums[-2:] / self._sums[0]
        return centroids.T


def _part(image: ImageReader, strips: Strips, instances: Instances | None, budget: Budget) -> dict[str, Any]:
    height, width, channels = image.shape
    side = budget.traced_side
    reducer, stride = Reducer(image.shape, side), max(1, max(height, width) // side)
    sweep = _Sweep(min(channels, _MOST_CHANNELS), instances is None)
    first_row, first_column = min(stride // 2, height - 1), min(stride // 2, width - 1)
    sampled = []
    top = 0
    for labels in strips(band_rows(image.shape, 4, reducer.rows_multiple)):
        band = image.read(Box(top, 0, top + len(labels), width))
        reducer.add(band)
        sweep.add(top, labels, band)
        sampled.append(labels[(first_row - top) % stride :: stride, first_column::stride])
        top += len(labels)
    reduced = reducer.finish()
    pixels = to_8bit(reduced.values)
    larger = budget.large_side and max(height, width) > budget.side
    outlines = outline_paths(np.concatenate(sampled), budget.outline_bytes)
    return {
        "shape": [height, width],
        "picture": encode(pixels, budget.side, budget.picture_bytes, reduced.covered),
        "large": encode(pixels, budget.large_side, budget.large_bytes, reduced.covered) if larger else None,
        "stride": stride,
        "paths": list(outlines.paths.values()),
        "left_out": outlines.left_out,
        **_numbers(sweep, instances, np.array(list(outlines.paths), np.int64), height * width),
    }


def _numbers(sweep: _Sweep, instances: Instances | None, drawn: NDArray[np.int64], pixels: int) -> dict[str, Any]:
    """Return the numbers of the image and those of its objects; the rows are those of the labels that are drawn."""
    label, area, means = sweep.label, sweep.areas(), sweep.means()
    place = np.searchsorted(label, drawn)
    known = None if instances is None else np.searchsorted(instances.label, drawn)
    centroid = sweep.centroids()[place] if instances is None else instances.centroid[known]
    names = ["mean intensity"] if means.shape[1] == 1 else [f"mean of channel {c + 1}" for c in range(means.shape[1])]
    columns: dict[str, list[Any]] = {
        "object": drawn.tolist(),
        "area": area[place].astype(np.int64).tolist(),
        "diameter": np.round(equivalent_diameter(area[place]), 2).tolist(),
    }
    classes: list[str] = []
    colour_of = drawn
    if instances is not None:
        columns["score"] = np.round(instances.score[known], 4).tolist()
        if instances.class_names:
            classes = list(instances.class_names)
            colour_of = instances.class_probabilities.argmax(axis=1)[known] + 1
            columns["class"] = [classes[number - 1] for number in colour_of.tolist()]
    columns |= {name: np.round(centroid[:, axis], 1).tolist() for axis, name in enumerate(("row", "column"))}
    columns |= {name: _rounded(means[place, channel]) for channel, name in enumerate(names)}
    return {
        "columns": list(columns),
        "rows": [list(row) for row in zip(*columns.values(), strict=True)],
        "colours": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in label_colours(colour_of).tolist()],
        "classes": classes,
        "objects": len(label),
        "area": area.astype(np.int64).tolist(),
        "intensity": {name: _rounded(means[:, channel]) for channel, name in enumerate(names)},
        "diameter": round(median_diameter(area.astype(np.int64)), 2),
        "covered": round(float(area.sum()) / pixels, 4),
        "score": round(float(np.median(instances.score)), 4) if instances is not None and len(label) else None,
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """Return values with five significant digits, and those that are not finite as 0."""
    values = np.nan_to_num(values, posinf=0, neginf=0)
    with np.errstate(divide="ignore"):
        digits = 4 - np.floor(np.log10(np.abs(values), out=np.zeros_like(values), where=values != 0))
    scale = 10.0 ** np.clip(digits, -300, 300)
    rounded: list[float] = (np.round(values * scale) / scale).tolist()
    return rounded


def picture_of(part: dict[str, Any], *, large: bool) -> Picture:
    """Return the picture of a part, the large one if it is wanted and there is one."""
    return Picture(*((large and part["large"]) or part["picture"]))
