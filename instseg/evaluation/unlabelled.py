"""Objects that a model is sure of and that have no label: such a set teaches a network to miss."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.data.problems import Problem, ProblemList
from instseg.data.samples import SampleReader
from instseg.errors import InstsegError, UsageError
from instseg.inference.model import Model
from instseg.io.folders import Pair, match_folder
from instseg.io.images import read_image
from instseg.io.volumes import is_volume

# So many images of a folder tell it, spread over all.
_IMAGES = 20
# The score from which on the model is sure, and the share of an instance that may lie on labels.
_SURE, _LABELLED_SHARE = 0.8, 0.1


def find_unlabelled(
    model: Model,
    data: str | PathLike[str],
    *,
    connected_components: bool = False,
    ignore_label: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Problem, ...]:
    """Return the images of a data folder whose labels leave out most of the objects, as a model sees it.

    Up to 20 images are segmented, spread over the folder. An object has no label if the model scores it 0.8 or more and
    a tenth of its pixels or less are labelled or ignored. Pairs that cannot be read are `check_data`'s to report.

    Parameters
    ----------
    model : Model
        One that finds objects of this kind, such as `general`, or one trained on images that are labelled completely.
    data : path-like
        A folder that holds `images/` and `labels/`.
    connected_components, ignore_label
        As `check_data` takes them.
    progress : callable
        Is called with the number of images segmented so far and of all.

    Returns
    -------
    tuple of Problem
        A warning that names the images in which more objects have no label than have one; else nothing. Of volumes, a
        note that says that they are not looked at.

    Raises
    ------
    InstsegError
        If one of the two folders is missing or holds no image, or the images have channels that the model cannot take.
    """
    folder = Path(data)
    pairs, _ = match_folder(folder)
    if _first_is_volume(pairs):
        return (Problem("note", "no model looks for objects without a label in volumes", "leave `model` out", 0, ()),)
    if model.settings.ndim == 3:
        raise UsageError(f"this is a model of volumes, and {folder} holds images; give a model of images, or none")
    pairs = pairs[:: -(-len(pairs) // _IMAGES)] if pairs else []
    reader = SampleReader(folder, connected_components, None, None, ignore_label or None)
    problems = ProblemList()
    for done, pair in enumerate(pairs, start=1):
        labels = _read_labels(reader, pair)
        if labels is not None:
            unlabelled, labelled = _count(model, pair, labels)
            if unlabelled > labelled:
                problems.add(
                    "warning",
                    f"{unlabelled} objects that the model is sure of have no label, {labelled} have one",
                    "label all objects, or give pixels that nobody has labelled a value for `ignore_label`, as what "
                    "has no label is learnt as background; fine if these are other things than yours",
                    pair.labels,
                )
        progress(done, len(pairs))
    return problems.merged(folder)


def _first_is_volume(pairs: Sequence[Pair]) -> bool:
    # What cannot be read is reported elsewhere.
    with suppress(InstsegError, OSError):
        return bool(pairs) and is_volume(pairs[0].labels)
    return False


def _read_labels(reader: SampleReader, pair: Pair) -> NDArray[np.int32] | None:
    try:
        return reader.read(pair).labels
    except (InstsegError, OSError):
        return None


def _count(model: Model, pair: Pair, labels: NDArray[np.int32]) -> tuple[int, int]:
    """Return how many instances that the model is sure of have no label, and how many labels there are."""
    found = model.segment(read_image(pair.image), return_embeddings=False)
    instances = cast(Instances, found.instances)
    sure = instances.label[instances.score >= _SURE]
    pixels = np.bincount(found.labels.ravel())
    on_labels = np.bincount(found.labels[labels != 0], minlength=len(pixels))
    unlabelled = on_labels[sure] <= _LABELLED_SHARE * pixels[sure]
    return int(unlabelled.sum()), len(np.unique(labels[labels > 0]))
