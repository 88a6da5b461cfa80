"""Label images beside images, in the layouts that other tools take."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from instseg.annotations.writers.writer import Writer, names_of_classes
from instseg.io.folders import IMAGES, LABELS
from instseg.io.images import write_picture
from instseg.io.label_images import MAX_PNG_LABEL, write_labels
from instseg.io.labelled_image import LabelledImage
from instseg.io.tables import write_csv
from instseg.labels.column_runs import column_runs

CLASSES, SCORES = "classes.csv", "scores.csv"
"""The tables beside label images."""

_PNG, _TIFFS = ".png", (".tif", ".tiff")


class PairsWriter(Writer):
    """The folder that `train` takes: images/, labels/ and classes.csv; scores.csv where scores are known.

    Parameters
    ----------
    folder, class_names
        As `Writer` has them.
    suffix : str
        Of the labels: '.png', where labels fit into it, '.tif' or '.npy'.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], *, suffix: str) -> None:
        super().__init__(folder, class_names)
        self._suffix = suffix
        self._images: list[LabelledImage] = []
        (folder / LABELS).mkdir()

    def image_path(self, name: str) -> Path:
        """See `Writer.image_path`."""
        return self.folder / IMAGES / name

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        suffix = _fitting(self._suffix, image)
        write_labels(self.folder / LABELS / f"{Path(image.name).stem}{suffix}", image.labels)
        # Without the pixels, which would fill the memory.
        none = np.zeros((0, 0), np.int32)
        self._images.append(
            LabelledImage(
                name=image.name, labels=none, label=image.label, score=image.score, class_number=image.class_number
            )
        )
        return Counter()

    def finish(self) -> None:
        """See `Writer.finish`."""
        if self.class_names:
            write_csv(self.folder / CLASSES, ("image", "label", "class"), self._classes())
        if any(image.score is not None for image in self._images):
            write_csv(self.folder / SCORES, ("image", "label", "score"), self._scores())

    def _classes(self) -> Iterator[tuple[object, ...]]:
        names = names_of_classes(self.class_names)
        for image in self._images:
            numbers = () if image.class_number is None else image.class_number.tolist()
            yield from ((image.name, label, names[n]) for label, n in zip(image.label.tolist(), numbers, strict=True))

    def _scores(self) -> Iterator[tuple[object, ...]]:
        for image in self._images:
            yield from ((image.name, *pair) for pair in zip(image.label.tolist(), image.scores(), strict=True))


class CellposeWriter(Writer):
    """Cellpose: a_masks.tif beside a.png, as its training takes them."""

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        write_labels(self.folder / f"{Path(image.name).stem}_masks.tif", image.labels)
        return Counter()


class StarDistWriter(Writer):
    """StarDist: images/ and masks/, with the same names in both where the image is a PNG or a TIFF."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, class_names)
        (folder / "masks").mkdir()

    def image_path(self, name: str) -> Path:
        """See `Writer.image_path`."""
        return self.folder / IMAGES / name

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        name = Path(image.name)
        known = name.suffix.lower() in (_PNG, *_TIFFS)
        name = name.with_suffix(_fitting(name.suffix, image) if known else ".tif")
        write_labels(self.folder / "masks" / name, image.labels)
        return Counter()


class DsbWriter(Writer):
    """The Data Science Bowl of 2018: a folder for each image, with images/ and a mask for each object in masks/."""

    def image_path(self, name: str) -> Path:
        """See `Writer.image_path`."""
        return self.folder / Path(name).stem / IMAGES / name

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        masks = self.folder / Path(image.name).stem / "masks"
        masks.mkdir(parents=True)
        runs, mask = column_runs(image.labels), np.zeros(image.labels.shape, np.uint8)
        for label, (top, left, bottom, right) in zip(runs.label.tolist(), runs.bbox.tolist(), strict=True):
            part = mask[top:bottom, left:right]
            part[image.labels[top:bottom, left:right] == label] = 255
            write_picture(masks / f"{label:05d}.png", mask)
            part[...] = 0
        return Counter()


def _fitting(suffix: str, image: LabelledImage) -> str:
    """Return a suffix of labels, or that of TIFF for a PNG that could not hold them."""
    too_many = suffix.lower() == _PNG and len(image.label) and int(image.label[-1]) > MAX_PNG_LABEL
    return ".tif" if too_many else suffix


def pairs_writer(suffix: str) -> Callable[[Path, Sequence[str]], Writer]:
    """Return a function that makes a `PairsWriter` of a suffix."""
    return lambda folder, class_names: PairsWriter(folder, class_names, suffix=suffix)
