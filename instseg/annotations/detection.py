"""Which format a source is in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from instseg.annotations import cellpose, coco, cvat, label_files, label_folders, labelme, outline_files, via, yolo
from instseg.annotations.objects import Annotations
from instseg.annotations.source import ReadOptions, Source
from instseg.errors import InstsegError, UsageError, format_names, printable


class Format(NamedTuple):
    """A format of annotations.

    Attributes
    ----------
    name, title : str
        What users choose it by, and what it is called in texts.
    detect : callable
        Says by what a source is recognised, or returns None.
    read : callable
        Reads a source.
    missing : callable or None
        Says what a JSON value lacks to be of this format, or returns None; None if the format is not in JSON.
    """

    name: str
    title: str
    detect: Callable[[Source], str | None]
    read: Callable[[Source, ReadOptions], Annotations]
    missing: Callable[[Any], str | None] | None = None


# What a source looks like that is of several formats counts in this order: the more particular ones first.
_FORMATS = (
    Format(coco.NAME, coco.TITLE, coco.detect, coco.read, coco.missing),
    Format(labelme.NAME, labelme.TITLE, labelme.detect, labelme.read, labelme.missing),
    Format(via.NAME, via.TITLE, via.detect, via.read, via.missing),
    Format(
        outline_files.QUPATH,
        outline_files.QUPATH_TITLE,
        outline_files.detect_geojson,
        outline_files.read_geojson,
        outline_files.missing_in_geojson,
    ),
    Format(cvat.NAME, cvat.TITLE, cvat.detect, cvat.read),
    Format(outline_files.IMAGEJ, outline_files.IMAGEJ_TITLE, outline_files.detect_rois, outline_files.read_imagej),
    Format(
        label_folders.NNUNET,
        label_folders.NNUNET_TITLE,
        label_folders.detect_nnunet,
        label_folders.read_nnunet,
        label_folders.missing_in_nnunet,
    ),
    Format(label_folders.CTC, label_folders.CTC_TITLE, label_folders.detect_ctc, label_folders.read_ctc),
    Format(
        label_folders.CTC_SILVER,
        f"{label_folders.CTC_TITLE}, silver truth",
        label_folders.detect_silver,
        label_folders.read_silver,
    ),
    Format(label_folders.DSB, label_folders.DSB_TITLE, label_folders.detect_dsb, label_folders.read_dsb),
    Format(yolo.NAME, yolo.TITLE, yolo.detect, yolo.read),
    Format(cellpose.NAME, cellpose.TITLE, cellpose.detect, cellpose.read),
    Format(label_files.NAME, label_files.TITLE, label_files.detect, label_files.read),
)

FORMATS = tuple(each.name for each in _FORMATS)
"""The names of all formats."""

_ALIASES = {"geojson": outline_files.QUPATH, "imagej-rois": outline_files.IMAGEJ}

# Pairs of formats of which a source may well be both, without a doubt which is meant.
_ALIKE = ({"cellpose", "pairs"}, {"ctc", "ctc-silver"})


def format_named(name: str) -> Format:
    """Return a format, also by the name that `export_annotations` has for it.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    name = _ALIASES.get(name, name)
    for each in _FORMATS:
        if each.name == name:
            return each
    raise UsageError(f"format is {name}, expected one of {', '.join(FORMATS)}", parameter="format")


def detect_format(source: Source) -> tuple[Format, str, list[str]]:
    """Find out which format a source is in.

    Returns
    -------
    format : Format
    evidence : str
        What it is recognised by.
    others : list of str
        The titles of other formats that the source looks like.

    Raises
    ------
    InstsegError
        If it is in none, with what was tried, or cannot be read.
    """
    found = [(each, evidence) for each in _FORMATS if (evidence := each.detect(source)) is not None]
    if not found:
        raise InstsegError(_nothing_found(source))
    best, evidence = found[0]
    others = [each.title for each, _ in found[1:] if {best.name, each.name} not in _ALIKE]
    return best, evidence, others


def _nothing_found(source: Source) -> str:
    """Say what was tried, and of a JSON file what it lacks."""
    documents = source.named(".json", ".geojson")
    if documents:
        name = printable(source.relative(documents[0]))
        lacks = "; ".join(
            f"{each.title}: {each.missing(source.json(documents[0]))}" for each in _FORMATS if each.missing
        )
        return f"{source.path}: {name} is none of the kinds of JSON that are known ({lacks}); export it as one of them"
    kinds = sorted({path.suffix.lower() or "no suffix" for path in source.files})
    holds = f"it holds files of the kinds {format_names(kinds)}" if kinds else "it is empty"
    if source.path.is_dir() and (below := _below(source)):
        return (
            f"{source.path} holds no annotations by itself, but {printable(below.name)} in it may; give one such folder"
        )
    return (
        f"{source.path} holds no annotations of a known kind: {holds}; expected one of {', '.join(FORMATS)}, "
        "which `format=NAME` chooses"
    )


def _below(source: Source) -> Path | None:
    """Return a folder in the source that is in a known format by itself."""
    for folder in sorted(path for path in source.path.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if label_files.detect(Source(folder)) is not None:
            return folder
    return None
