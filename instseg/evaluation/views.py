"""What pictures show of the labels that are compared: an image, or the plane of a volume with the most mistakes."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.evaluation.error_analysis import ErrorAnalysis, classify_errors


class View(NamedTuple):
    """An image, or one plane of a volume.

    Attributes
    ----------
    truth, predicted : (H, W) integers
        0 is background.
    image : (H, W) or (H, W, C) array, or None
    ignored : (H, W) bool, or None
        Pixels that do not count.
    analysis : ErrorAnalysis
        Of the whole image or volume.
    plane : int or None
        Which plane of a volume it is, from 0 on; None for an image.
    """

    truth: NDArray[np.integer]
    predicted: NDArray[np.integer]
    image: NDArray[Any] | None
    ignored: NDArray[np.bool_] | None
    analysis: ErrorAnalysis
    plane: int | None = None


def worst_view(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    image: NDArray[Any] | None = None,
    ignored: NDArray[np.bool_] | None = None,
) -> View:
    """Return what to show of labels, and how they are wrong.

    Of a volume this is the plane (Y, X) in which the most voxels belong to instances that are missed, made up, split or
    merged; without any such, that in which the most belong to true instances.

    Parameters
    ----------
    truth, predicted : (H, W) or (Z, Y, X) integers
        0 is background.
    image : (H, W) or (H, W, C), (Z, Y, X) or (Z, Y, X, C) array, optional
    ignored : bool of the shape of the labels, optional

    Examples
    --------
    >>> truth = np.zeros((3, 2, 2), int)
    >>> truth[1], truth[2, 0] = 1, 2
    >>> worst_view(truth, truth % 2).plane, worst_view(truth, truth).plane
    (2, 1)
    """
    analysis = classify_errors(truth, predicted)
    if truth.ndim == 2:
        return View(truth, predicted, image, ignored, analysis)
    plane = _worst_plane(truth, predicted, analysis)
    shown_image, shown_ignored = (None if values is None else values[plane] for values in (image, ignored))
    return View(truth[plane], predicted[plane], shown_image, shown_ignored, analysis, plane)


def _worst_plane(truth: NDArray[np.integer], predicted: NDArray[np.integer], analysis: ErrorAnalysis) -> int:
    wrong_truth = np.concatenate([analysis.false_negatives, analysis.splits])
    wrong_predicted = np.concatenate([analysis.false_positives, analysis.merges])
    # Plane by plane, as masks of the whole volume take memory.
    wrong = [
        np.count_nonzero(np.isin(true_plane, wrong_truth)) + np.count_nonzero(np.isin(plane, wrong_predicted))
        for true_plane, plane in zip(truth, predicted, strict=True)
    ]
    return int(np.argmax(wrong if any(wrong) else [np.count_nonzero(plane) for plane in truth]))
