"""Images and label images that belong together by their names: two folders, or one folder and endings of names.

StarDist and others have `images/` and `masks/`, with the same names in both; Cellpose, Omnipose and many scripts have
labels beside the images, as `a_masks.png` for `a.png`. Labels are numbers, indices of a palette or colours.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from instseg.annotations.objects import AnnotatedImage, Annotations, LabelImage
from instseg.annotations.source import ReadOptions, Source
from instseg.data.classes import ClassSource, find_classes
from instseg.errors import InstsegError, format_names, printable
from instseg.io.coloured_labels import read_foreign_labels
from instseg.io.folders import LABEL_ENDINGS, Pair
from instseg.io.image_names import PICTURE_SUFFIXES, SUFFIXES, stem_of

NAME = "pairs"
TITLE = "images and label images"

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "raw", "inputs", "input")
_LABEL_FOLDERS = ("labels", "label", "masks", "mask", "instances", "ground_truth", "groundtruth", "gt", "targets")
_IMAGE_ENDINGS = ("_img", "_image", "_raw", "-img", "-image")
# What Cellpose leaves beside images, that is neither image nor labels.
NO_IMAGES = ("_flows", "_cp_outlines", "_cp_output", "_outlines", "_overlay")


def detect(source: Source) -> str | None:
    """Say by what the source is recognised as this format, None if it is not."""
    if not source.path.is_dir():
        return None
    folders = _folders(source)
    if folders is not None and _images_in(source, folders[0]) and _labels_in(source, folders[1]):
        return f"it has the folders {folders[0].name}/ and {folders[1].name}/"
    pairs = pair_by_endings(source.image_files, source.image_files)
    if not pairs:
        return None
    endings = Counter(ending_of(label) for label in pairs.values())
    ending, count = endings.most_common(1)[0]
    return f"{count} images have labels beside them whose names end in {ending}"


def read(source: Source, options: ReadOptions) -> Annotations:
    """Read the annotations of a source."""
    folders = _folders(source)
    if folders is None:
        images = [path for path in source.image_files if not ending_of(path) and not is_no_image(path)]
        pairs = pair_by_endings(source.image_files, source.image_files)
        unused: list[Path] = [
            path for path in source.image_files if ending_of(path) and path not in set(pairs.values())
        ]
    else:
        images, labels = _images_in(source, folders[0]), _labels_in(source, folders[1])
        pairs = pair_by_names(images, labels)
        unused = [path for path in labels if path not in set(pairs.values())]
    if not pairs:
        raise InstsegError(
            f"{source.path} holds no pairs of images and labels; expected images/ and labels/ with the same names, "
            "or names such as a.png and a_masks.png"
        )
    result = Annotations(unannotated=[path for path in images if path not in pairs])
    result.missing = [(source.relative(path), "there is no such image") for path in unused]
    classes = _classes(source, result)
    for image, label in pairs.items():
        load = functools.partial(_load, Pair(stem_of(image), image, label), options.connected_components, classes)
        result.images.append(AnnotatedImage(image, load))
    return result


def _classes(source: Source, result: Annotations) -> ClassSource | None:
    """Return the classes beside the labels, in the form of data folders; note where they are in another."""
    try:
        classes = find_classes(source.folder)
    except InstsegError as error:
        result.notes.append(f"the classes beside the labels are not read: {error}")
        return None
    if classes is not None and classes.table is not None:
        result.class_names = sorted({name for names in classes.table.values() for name in names.values()}) or None
    return classes


def _load(pair: Pair, connected_components: bool, classes: ClassSource | None) -> LabelImage:
    image = load_labels(pair.labels, connected_components)
    return image if classes is None else replace(image, class_names=classes.names(pair, image.labels))


def load_labels(path: Path, connected_components: bool) -> LabelImage:
    """Read a label image."""
    read = read_foreign_labels(path, connected_components=connected_components)
    return LabelImage(read.labels, ignored=read.ignored)


def ending_of(path: Path) -> str:
    """Return what says that a file has the name of labels, '' if nothing does."""
    stem = stem_of(path).lower()
    return next((ending for ending in LABEL_ENDINGS if stem.endswith(ending) and stem != ending), "")


def is_no_image(path: Path) -> bool:
    """Return whether a file has the name of a picture that a tool leaves beside images."""
    return stem_of(path).lower().endswith(NO_IMAGES)


def pair_by_endings(files: Iterable[Path], labels: Iterable[Path]) -> dict[Path, Path]:
    """Return the labels of images in the same folder, by endings of their names.

    Raises
    ------
    InstsegError
        If an image has several labels of the same ending.
    """
    images = [path for path in files if not ending_of(path) and not is_no_image(path)]
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in labels:
        if ending_of(path):
            by_folder[path.parent].append(path)
    in_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in images:
        in_folder[path.parent].append(path)
    pairs: dict[Path, Path] = {}
    for folder, inside in in_folder.items():
        pairs |= pair_by_names(inside, by_folder[folder])
    return pairs


def pair_by_names(images: Sequence[Path], labels: Sequence[Path]) -> dict[Path, Path]:
    """Return the labels of images by the stems of their names, which may have endings.

    Raises
    ------
    InstsegError
        If an image may have several labels, or labels several images.
    """
    pairs: dict[Path, Path] = {}
    exact = _group(labels, _exact)
    for image in images:
        if len(found := exact.get(_exact(image), [])) == 1:
            pairs[image] = found[0]
    taken = set(pairs.values())
    loose = _group([path for path in labels if path not in taken], _without_ending)
    doubled = _group([path for path in images if path not in pairs], _image_key)
    for key, of_key in doubled.items():
        found = loose.get(key, [])
        if found and len(of_key) > 1:
            names = format_names([printable(path.name) for path in of_key])
            raise InstsegError(f"{names} may all belong to {found[0].name}; keep one image of each name")
        if len(found) > 1:
            # Of Cellpose's files and others the first ending of the list.
            ranks = [LABEL_ENDINGS.index(ending_of(path)) if ending_of(path) else -1 for path in found]
            if ranks.count(min(ranks)) > 1:
                names = format_names([printable(path.name) for path in found])
                raise InstsegError(f"{of_key[0].name} has several label images: {names}; keep one")
            found = [found[ranks.index(min(ranks))]]
        if found:
            pairs[of_key[0]] = found[0]
    return pairs


def _group(paths: Iterable[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return groups


def _exact(path: Path) -> str:
    return stem_of(path)


def _without_ending(path: Path) -> str:
    stem, ending = stem_of(path), ending_of(path)
    return (stem[: -len(ending)] if ending else stem).removesuffix(".ome")


def _image_key(path: Path) -> str:
    stem = stem_of(path).removesuffix(".ome")
    ending = next((one for one in _IMAGE_ENDINGS if stem.lower().endswith(one)), "")
    return stem[: -len(ending)] if ending else stem


def _folders(source: Source) -> tuple[Path, Path] | None:
    """Return the folder of images and that of labels, where there is one of each."""
    if not source.path.is_dir():
        return None
    named = {path.name.lower(): path for path in source.path.iterdir() if path.is_dir()}
    images = [named[name] for name in _IMAGE_FOLDERS if name in named]
    labels = [named[name] for name in _LABEL_FOLDERS if name in named]
    if not images or not labels:
        return None
    if len(labels) > 1:
        names = format_names([printable(f"{path.name}/") for path in labels])
        raise InstsegError(f"{source.path} has several folders of labels: {names}; keep one")
    return images[0], labels[0]


def _images_in(source: Source, folder: Path) -> list[Path]:
    """Return the images in a folder: pictures, and files of other kinds of names that no picture has."""
    pictures = [path for path in source.image_files if path.is_relative_to(folder)]
    stems = {stem_of(path) for path in pictures}
    kinds = tuple(suffix for suffix in SUFFIXES if suffix not in PICTURE_SUFFIXES)
    others = [path for path in source.named(*kinds) if path.is_relative_to(folder) and stem_of(path) not in stems]
    return sorted([*pictures, *(path for path in others if not is_cellpose_notes(path))])


def _labels_in(source: Source, folder: Path) -> list[Path]:
    """Return the label images in a folder: pictures and arrays of NumPy."""
    arrays = [path for path in source.named(".npy") if not is_cellpose_notes(path)]
    return sorted(path for path in {*source.image_files, *arrays} if path.is_relative_to(folder))


def is_cellpose_notes(path: Path) -> bool:
    """Return whether a file has the name of a pickle of Cellpose."""
    return path.name.lower().endswith("_seg.npy")
