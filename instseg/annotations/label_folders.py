"""Layouts of folders that say by themselves what is an image and what are labels.

* The Cell Tracking Challenge: `01/t000.tif` has its labels in `01_GT/SEG/man_seg000.tif` or in `01_ST/SEG`.
* The Data Science Bowl of 2018: `ID/images/ID.png`, and in `ID/masks/` a mask for each object.
* nnU-Net: `imagesTr/a_0000.png`, `labelsTr/a.png` and `dataset.json`.
"""

import functools
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from instseg.annotations.label_files import load_labels
from instseg.annotations.objects import NO_SHAPE, AnnotatedImage, Annotations, LabelImage, Objects
from instseg.annotations.source import ReadOptions, Source, class_text, image_stem
from instseg.errors import InstsegError
from instseg.io.coloured_labels import read_foreign_labels
from instseg.io.image_names import stem_of
from instseg.labels.rasterise import Region, crop
from instseg.labels.regions import connected_components

CTC, CTC_TITLE = "ctc", "Cell Tracking Challenge"
CTC_SILVER = "ctc-silver"
DSB, DSB_TITLE = "dsb", "Data Science Bowl"
NNUNET, NNUNET_TITLE = "nnunet", "nnU-Net"

_TRUTH = re.compile(r"(\d{2,3})_(GT|ST)")
_SEGMENTED = re.compile(r"man_seg(\d+)")
_SLICE = re.compile(r"man_seg_(\d+)_(\d+)")
_FRAME = re.compile(r"t(\d+)")
_CHANNEL = re.compile(r"(.+)_(\d{4})")


def detect_ctc(source: Source, kind: str = "GT") -> str | None:
    """Say by what the source is recognised as the challenge's, None if it is not."""
    found = _sequences(source, kind)
    return f"it has the folders {found[0][0].name}/ and {found[0][1].parent.name}/SEG/" if found else None


def detect_silver(source: Source) -> str | None:
    """Say by what the source is recognised as the challenge's silver truth, None if it is not."""
    return detect_ctc(source, "ST")


def read_ctc(source: Source, options: ReadOptions, kind: str = "GT") -> Annotations:
    """Read the gold truth, in which annotators may have left out frames, or (`kind` ST) the silver one of programs."""
    result = Annotations()
    sequences = _sequences(source, kind)
    if not sequences:
        raise InstsegError(
            f"{source.path} has no folders such as 01/ and 01_{kind}/SEG/; give the folder that holds both"
        )
    if kind == "GT" and _sequences(source, "ST"):
        result.notes.append(f"the silver truth (*_ST) is left out: `format='{CTC_SILVER}'` takes it instead")
    slices = 0
    for images, labels in sequences:
        inside = {path for path in source.image_files if path.parent == images}
        by_number = {int(match[1]): path for path in inside if (match := _FRAME.fullmatch(stem_of(path)))}
        used = set()
        for path in (path for path in source.image_files if path.parent == labels):
            match = _SEGMENTED.fullmatch(stem_of(path))
            if match is None:
                slices += _SLICE.fullmatch(stem_of(path)) is not None
                continue
            image = by_number.get(int(match[1]))
            if image is None:
                result.missing.append((source.relative(path), "there is no such image"))
                continue
            used.add(image)
            load = functools.partial(load_labels, path, options.connected_components)
            result.images.append(AnnotatedImage(image, load))
        result.unannotated += sorted(inside - used)
    if slices:
        result.notes.append(f"labels of single slices of stacks (man_seg_FRAME_SLICE): {slices}, left out")
    return result


def read_silver(source: Source, options: ReadOptions) -> Annotations:
    """Read the silver truth."""
    return read_ctc(source, options, "ST")


def _sequences(source: Source, kind: str) -> list[tuple[Path, Path]]:
    """Return the folders of images and of labels."""
    if not source.path.is_dir():
        return []
    found = []
    for path in sorted(source.path.iterdir()):
        match = _TRUTH.fullmatch(path.name)
        if match and match[2] == kind and (path / "SEG").is_dir() and (source.path / match[1]).is_dir():
            found.append((source.path / match[1], path / "SEG"))
    return found


def detect_dsb(source: Source) -> str | None:
    """Say by what the source is recognised as the bowl's, None if it is not."""
    # The image has the name of its folder, unlike those of folders such as train/ and test/.
    found = [
        folder
        for folder, (images, masks) in _samples(source).items()
        if masks and [stem_of(path) for path in images] == [folder.name]
    ]
    return f"{len(found)} folders have images/ and masks/ with a mask for each object" if found else None


def read_dsb(source: Source, options: ReadOptions) -> Annotations:
    """Read the annotations of a source."""
    del options
    result = Annotations()
    for folder, (images, masks) in _samples(source).items():
        if len(images) > 1:
            raise InstsegError(f"{folder / 'images'} holds {len(images)} images, expected one; keep one")
        if images and masks:
            result.images.append(AnnotatedImage(images[0], functools.partial(_load_masks, masks)))
        elif images:
            result.unannotated.append(images[0])
        else:
            result.missing.append((source.relative(folder), "there is no such image"))
    return result


def _samples(source: Source) -> dict[Path, tuple[list[Path], list[Path]]]:
    """Return the images and the masks of each folder of one image."""
    samples: dict[Path, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    if not source.path.is_dir():
        return {}
    for path in source.image_files:
        kind = path.parent.name
        # A folder of the source itself has many images, and is of another layout.
        if kind in ("images", "masks") and path.parent.parent != source.path:
            samples[path.parent.parent][kind == "masks"].append(path)
    return dict(sorted(samples.items()))


def _load_masks(paths: list[Path]) -> Objects:
    objects = Objects()
    for path in paths:
        mask = read_foreign_labels(path, connected_components=True).labels > 0
        size = (mask.shape[0], mask.shape[1])
        if objects.size not in (None, size):
            raise InstsegError(f"cannot read {path}: the masks of one image differ in size; export them again")
        objects.size = size
        region = crop(Region(0, 0, mask))
        if region.mask.size:
            objects.add(functools.partial(_copied, region))
        else:
            objects.dropped[NO_SHAPE] += 1
    return objects


def _copied(region: Region) -> Region:
    # The whole mask would stay in memory behind a part of it.
    return Region(region.top, region.left, region.mask.copy())


def missing_in_nnunet(value: Any) -> str | None:
    """Say what a JSON value lacks to be nnU-Net's `dataset.json`, None if it lacks nothing."""
    if not isinstance(value, dict):
        return "no object"
    if isinstance(value.get("labels"), dict) and ("channel_names" in value or "modality" in value):
        return None
    return "no 'labels' with 'channel_names' or 'modality'"


def detect_nnunet(source: Source) -> str | None:
    """Say by what the source is recognised as nnU-Net's, None if it is not."""
    folder = source.path
    if not all((folder / name).is_dir() for name in ("imagesTr", "labelsTr")):
        return None
    return "it has the folders imagesTr/ and labelsTr/"


def read_nnunet(source: Source, options: ReadOptions) -> Annotations:
    """Read images and labels; where the labels are classes, each connected piece of one has to be an object."""
    folder, result = source.path, Annotations()
    if detect_nnunet(source) is None:
        raise InstsegError(f"{folder} has no folders imagesTr/ and labelsTr/; give the folder that holds both")
    classes = _classes(source, folder / "dataset.json")
    cases: dict[str, list[Path]] = defaultdict(list)
    for path in source.image_files:
        if path.parent == folder / "imagesTr":
            match = _CHANNEL.fullmatch(image_stem(path))
            cases[match[1] if match else image_stem(path)].append(path)
    labels = {stem_of(path): path for path in source.image_files if path.parent == folder / "labelsTr"}
    several = sum(len(paths) > 1 for paths in cases.values())
    if several:
        result.notes.append(f"images of several channel files: {several}; the first channel (_0000) of each is taken")
    for name, paths in cases.items():
        if name not in labels:
            result.unannotated.append(paths[0])
            continue
        load = functools.partial(_load_classes, labels.pop(name), classes, options.connected_components)
        result.images.append(AnnotatedImage(paths[0], load))
    result.missing = [(source.relative(path), "there is no such image") for path in labels.values()]
    if options.connected_components:
        result.class_names = list(classes.values()) or None
    return result


def _classes(source: Source, path: Path) -> dict[int, str]:
    """Return the names of the values that `dataset.json` declares, without the background's."""
    if not path.is_file():
        return {}
    value = source.json(path)
    if missing_in_nnunet(value) is not None:
        raise InstsegError(f"cannot read {path}: it has {missing_in_nnunet(value)}; copy it again")
    # The first version has the names by the values, the second the values by the names.
    pairs = [(name, number) if isinstance(number, int) else (number, name) for name, number in value["labels"].items()]
    numbered = {int(number): class_text(name) for name, number in pairs if str(number).isdigit()}
    return {number: name for number, name in numbered.items() if number > 0 and name}


def _load_classes(path: Path, classes: dict[int, str], pieces: bool) -> LabelImage:
    labels = read_foreign_labels(path, connected_components=True).labels
    if not classes or int(labels.max(initial=0)) > max(classes):
        # More numbers than classes: those of objects.
        return load_labels(path, pieces)
    if not pieces:
        count = int(connected_components(labels).max(initial=0))
        what = f"its values are the classes of dataset.json, in {count} pieces, expected a number for each instance"
        raise InstsegError(
            f"cannot read {path}: {what}; give `connected_components=True` to make every connected piece an instance"
        )
    present = [number for number in np.unique(labels).tolist() if number > 0]
    return LabelImage(labels, {number: classes.get(number, str(number)) for number in present})
