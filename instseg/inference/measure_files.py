"""Files of labels, and the images that they belong to, to one table of all objects and one of all images.

Files whose planes are a depth are volumes, which are measured as such.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from instseg.errors import InstsegError, UsageError, format_names
from instseg.inference.failures import as_instseg_error
from instseg.inference.measured import measure_labels, resolve_pixel_size
from instseg.inference.options import ProgressCallback, no_progress
from instseg.io.atomic import StrPath, check_writable, is_zarr
from instseg.io.folders import LABEL_ENDINGS, search_images
from instseg.io.image_names import stem_of
from instseg.io.label_strips import open_labels
from instseg.io.source import ImageReader, open_image
from instseg.io.tables import TABLE_SUFFIXES, require_table, write_columns, write_csv
from instseg.io.volumes import VolumeReader, is_volume, open_volume
from instseg.measurements.objects import Columns, PixelSize, check_pixel_size
from instseg.measurements.summary import SUMMARY_COLUMNS, summarise

_OME = ".ome"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFile:
    """What became of a file of labels.

    Attributes
    ----------
    name : str
        The stem of the image, or of the labels where there is no image.
    labels : Path
    image : Path or None
    figures : dict or None
        What `instseg.measurements.summary.summarise` says of it.
    error : InstsegError or None
        Why it could not be measured.
    """

    name: str
    labels: Path
    image: Path | None = None
    figures: dict[str, Any] | None = None
    error: InstsegError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureResult:
    """What was measured.

    Attributes
    ----------
    files : tuple of MeasuredFile
    columns : dict of str to (N,) array
        The table of all objects, as it was written; with 'image' as its first column where labels were a folder.
    notes : tuple of str
        What was left out.
    """

    files: tuple[MeasuredFile, ...]
    columns: Columns
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[MeasuredFile, ...]:
        """The files that could not be measured."""
        return tuple(file for file in self.files if file.error is not None)


class _Pair(NamedTuple):
    name: str
    labels: Path
    image: Path | None


def measure_files(
    labels: StrPath,
    images: StrPath | None = None,
    *,
    out: StrPath,
    summary: StrPath | None = None,
    pixel_size: PixelSize | None = None,
    connected_components: bool = False,
    progress: ProgressCallback = no_progress,
) -> MeasureResult:
    """Measure the objects in label images or volumes of labels from anywhere, and write a row for each.

    Files that do not fit into memory (OME-Zarr, large TIFF) are read part by part; the table is in memory.

    Parameters
    ----------
    labels : path-like
        A label image, or a folder of them.
    images : path-like, optional
        The image, or the folder of images of the same names, that intensities are measured in.
    out : path-like
        Table of all objects, .csv or .parquet, in the columns that `instseg.measurements.column_names` names.
    summary : path-like, optional
        Table of all images (.csv): how many objects they have, how densely they lie, how large they are.
    pixel_size : tuple of float, optional
        Height and width of a pixel in micrometres, or the sides of a voxel along Z, Y and X, where it is not what the
        files say.
    connected_components : bool
        Whether every connected piece of a binary mask is an object.
    progress : callable
        Takes how many files are done, of how many, and a text.

    Returns
    -------
    MeasureResult
        A file of a folder that cannot be measured costs no other.

    Raises
    ------
    UsageError, InstsegError
        If there are no labels or no images for them, or tables cannot be written; or if a single file cannot be
        measured.

    Examples
    --------
    >>> import tempfile
    >>> import instseg
    >>> from instseg.data.generate import generate_discs
    >>> folder = tempfile.mkdtemp()
    >>> _ = generate_discs(f"{folder}/discs", count=2)
    >>> result = instseg.measure_files(f"{folder}/discs/labels", f"{folder}/discs/images", out=f"{folder}/objects.csv")
    >>> [file.name for file in result.files], list(result.columns)[:3]
    (['0000', '0001'], ['image', 'label', 'centroid-0'])
    """
    labels, images = Path(labels), None if images is None else Path(images)
    if pixel_size is not None:
        check_pixel_size(pixel_size)
    _check_tables(Path(out), None if summary is None else Path(summary))
    single = is_zarr(labels) or not labels.is_dir()
    pairs, notes = ([_Pair(stem_of(images or labels), labels, images)], ()) if single else _pairs(labels, images)
    files, tables = [], []
    unknown: list[str] = []
    for number, pair in enumerate(pairs, start=1):
        file = MeasuredFile(name=pair.name, labels=pair.labels, image=pair.image)
        try:
            columns, figures, known = _measure(pair, pixel_size, connected_components)
        except Exception as error:  # Whatever it is, it is this file's.
            if single:
                raise
            files.append(_with(file, error=as_instseg_error(error)))
        else:
            files.append(_with(file, figures=figures))
            tables.append((pair.name, columns))
            unknown += [] if known else [pair.name]
        progress(number, len(pairs), "")
    columns = tables[0][1] if single else _joined(tables)
    write_columns(out, columns)
    if summary is not None:
        _write_summary(summary, files)
    return MeasureResult(files=tuple(files), columns=columns, notes=(*notes, *_size_notes(unknown)))


def _with(file: MeasuredFile, **changes: Any) -> MeasuredFile:
    return MeasuredFile(name=file.name, labels=file.labels, image=file.image, **changes)


def _check_tables(out: Path, summary: Path | None) -> None:
    check_writable(out, *TABLE_SUFFIXES)
    require_table(out)
    if summary is not None:
        check_writable(summary, ".csv")
        if summary.resolve() == out.resolve():
            raise UsageError("`out` and `summary` cannot share a file; give each its own name")


def _write_summary(path: StrPath, files: Sequence[MeasuredFile]) -> None:
    figures = {file.name: file.figures for file in files if file.figures is not None}
    # Images and volumes have different columns; what a row has not is empty.
    columns = dict.fromkeys(name for of_file in figures.values() for name in of_file) or SUMMARY_COLUMNS
    rows = [(name, *(of_file.get(column) for column in columns)) for name, of_file in figures.items()]
    write_csv(path, ("image", *columns), rows)


def _size_notes(unknown: Sequence[str]) -> Iterator[str]:
    if unknown:
        names = f"1 volume ({unknown[0]})" if len(unknown) == 1 else f"{len(unknown)} volumes ({format_names(unknown)})"
        yield (
            f"the files of {names} do not say how large a voxel is, so that all is counted in voxels, as if these were "
            "cubes; give `pixel_size` in micrometres, along Z, Y and X"
        )


def _measure(
    pair: _Pair, pixel_size: PixelSize | None, connected_components: bool
) -> tuple[Columns, dict[str, Any], bool]:
    """Return the table of a file, its figures, and whether lengths mean what they say."""
    volume = is_volume(pair.labels)
    labels = open_labels(pair.labels, connected_components=connected_components, volume=volume)
    image: ImageReader | VolumeReader | None = None
    try:
        if pair.image is not None:
            image = open_volume(pair.image) if volume else open_image(pair.image)
        columns = measure_labels(labels, image, pixel_size=pixel_size)
        size = resolve_pixel_size(pixel_size, image, labels)
        return columns, summarise(columns["area"], labels.shape, size), not volume or size is not None
    finally:
        labels.close()
        if image is not None:
            image.close()


def _pairs(labels: Path, images: Path | None) -> tuple[list[_Pair], tuple[str, ...]]:
    """Return the label images of a folder, each with its image, where there is a folder of these."""
    found = search_images([labels])
    if images is None:
        return [_Pair(stem_of(path), path, None) for path in found.files], found.notes
    if not images.is_dir() or is_zarr(images):
        raise UsageError(f"{labels} is a folder and {images} is none; give the folder of the images")
    by_stem: dict[str, list[Path]] = {}
    for path in search_images([images]).files:
        by_stem.setdefault(stem_of(path).removesuffix(_OME), []).append(path)
    pairs: list[_Pair] = []
    alone: list[str] = []
    doubled: list[str] = []
    for path in found.files:
        matches = _images_of(stem_of(path), by_stem)
        if len(matches) == 1:
            pairs.append(_Pair(stem_of(matches[0]), path, matches[0]))
        else:
            (doubled if matches else alone).append(path.name)
    if alone:
        raise InstsegError(
            f"{len(alone)} label images in {labels} have no image in {images} ({format_names(alone)}); add their "
            "images, or give the labels alone"
        )
    if doubled:
        raise InstsegError(
            f"{len(doubled)} label images in {labels} have several images in {images} ({format_names(doubled)}); keep "
            "one file of each name"
        )
    unused = sum(len(paths) for paths in by_stem.values()) - len({pair.image for pair in pairs})
    notes = (f"{unused} images have no labels and are left out",) if unused else ()
    return pairs, (*found.notes, *notes)


def _images_of(stem: str, by_stem: dict[str, list[Path]]) -> list[Path]:
    """Return the images of a label image, whose name may have what tools append to it."""
    plain = stem.removesuffix(_OME)
    endings = [ending for ending in LABEL_ENDINGS if plain.lower().endswith(ending)]
    for name in (plain, *(plain[: len(plain) - len(ending)] for ending in endings)):
        if (images := by_stem.get(name.removesuffix(_OME))) is not None:
            return images
    return []


def _joined(tables: Sequence[tuple[str, Columns]]) -> Columns:
    """Return the rows of all tables with the name of the image first; NaN where an image has no such column."""
    if not tables:
        return {"image": np.zeros(0, str)}
    columns: Columns = {"image": np.concatenate([np.full(len(one["label"]), name) for name, one in tables])}
    names = dict.fromkeys(name for _, one in tables for name in one)
    for name in names:
        parts = [one.get(name, np.full(len(one["label"]), np.nan)) for _, one in tables]
        columns[name] = np.concatenate(parts)
    return columns
