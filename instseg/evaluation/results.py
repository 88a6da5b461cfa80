"""What an evaluation finds: the figures of each image, their means over images, and their sums over instances."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.errors import InstsegError
from instseg.evaluation.error_analysis import ERROR_KINDS, classify_errors
from instseg.evaluation.metrics import THRESHOLDS, MeanScores, Scores, macro_average, micro_average, score
from instseg.evaluation.reliability import ReliabilityBin, expected_calibration_error, matched_iou, reliability
from instseg.labels.matching import contingency_table, drop_ignored

Labels = NDArray[np.integer]

# Names in tables and JSON, where they differ from those of attributes.
_RATIOS = {
    "ap": "ap",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "matched_iou": "mean_matched_iou",
    "pq": "pq",
}
_ERROR_NAMES = {"false_negatives": "missed", "false_positives": "false_alarms"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """The figures of one image.

    Attributes
    ----------
    name : str
        The stem of its file.
    truth, predicted : int
        Numbers of instances; those that `min_truth_size` takes out are not counted.
    scores : Scores
        At IoU 0.50 to 0.95.
    errors : dict of str to int
        Number of errors of each of `ERROR_KINDS`, at IoU 0.5.
    confidence : (M,) float64 or None
        The model's score of each predicted instance, 0..1; None where the prediction came without.
    is_true_positive : (M,) bool or None
        Whether each predicted instance matches at IoU 0.5; None where `confidence` is.
    per_class : dict of str to Scores
        Where classes are known, the scores of true and predicted instances of each class alone.
    """

    name: str
    truth: int
    predicted: int
    scores: Scores
    errors: dict[str, int]
    confidence: NDArray[np.float64] | None = None
    is_true_positive: NDArray[np.bool_] | None = None
    per_class: dict[str, Scores] = field(default_factory=dict)

    def row(self) -> dict[str, str | int | float]:
        """Return the figures as one flat row of a table, by the names of its columns."""
        return {
            "image": self.name,
            "truth": self.truth,
            "predicted": self.predicted,
            "mean_ap": round(self.scores.mean_ap, 6),
            **{f"ap{_percent(t)}": round(float(ap), 6) for t, ap in zip(THRESHOLDS, self.scores.ap, strict=True)},
            **{name: round(ratios[0], 6) for name, ratios in _ratios(self.scores).items() if name != "ap"},
            **named_errors(self.errors),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The figures of several images.

    Attributes
    ----------
    images : tuple of ImageResult
        At least one.
    notes : tuple of str
        What one should know of the figures, a sentence each.
    """

    images: tuple[ImageResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def per_image(self) -> MeanScores:
        """Means over the images of their ratios: every image weighs the same."""
        return macro_average([image.scores for image in self.images])

    @property
    def pooled(self) -> Scores:
        """Counts summed over all images, and their ratios: every instance weighs the same.

        The ratios are NaN where no image has an instance, true or predicted.
        """
        return micro_average([image.scores for image in self.images])

    @property
    def per_class(self) -> dict[str, Scores]:
        """By class, what `pooled` is for all instances; empty where classes are not known."""
        names = dict.fromkeys(name for image in self.images for name in image.per_class)
        return {
            name: micro_average([image.per_class[name] for image in self.images if name in image.per_class])
            for name in names
        }

    @property
    def errors(self) -> dict[str, int]:
        """Number of errors of each of `ERROR_KINDS` in all images, at IoU 0.5."""
        return {kind: sum(image.errors[kind] for image in self.images) for kind in ERROR_KINDS}

    @property
    def count_error(self) -> dict[str, float]:
        """Predicted minus true instances of an image: the mean ('bias'), and the mean of absolutes ('absolute')."""
        differences = np.array([image.predicted - image.truth for image in self.images])
        return {"bias": float(differences.mean()), "absolute": float(np.abs(differences).mean())}

    @property
    def auroc(self) -> float | None:
        """How well the model's scores rank true above false positives at IoU 0.5: see `auroc`; None without scores."""
        scored = self._scored()
        return None if scored is None else auroc(*scored)

    @property
    def reliability(self) -> list[ReliabilityBin]:
        """The model's scores beside the share of instances that are right at IoU 0.5; empty without scores."""
        scored = self._scored()
        return [] if scored is None else reliability(*scored)

    @property
    def ece(self) -> float | None:
        """How far scores are from probabilities: see `expected_calibration_error`; None without scores."""
        return expected_calibration_error(self.reliability)

    def _scored(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        """Return the scores of all predicted instances and whether they are true positives; None without scores."""
        pairs = [
            (image.confidence, image.is_true_positive)
            for image in self.images
            if image.confidence is not None and image.is_true_positive is not None
        ]
        if not pairs:
            return None
        confidence, is_true_positive = zip(*pairs, strict=True)
        return np.concatenate(confidence), np.concatenate(is_true_positive)

    def worst(self, count: int) -> list[ImageResult]:
        """Return the images of the lowest mean AP, worst first."""
        return sorted(self.images, key=lambda image: (image.scores.mean_ap, image.name))[:count]

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-ready values; None stands for a ratio of nothing to nothing."""
        return {
            "images": len(self.images),
            "truth": sum(image.truth for image in self.images),
            "predicted": sum(image.predicted for image in self.images),
            "thresholds": list(THRESHOLDS),
            "per_image": _mean_ap(self.per_image) | _ratios(self.per_image),
            "pooled": _mean_ap(self.pooled) | _ratios(self.pooled),
            "count_error": self.count_error,
            "mistakes": named_errors(self.errors),
            "score_auroc": self.auroc,
            "score_ece": self.ece,
            "score_reliability": [one._asdict() for one in self.reliability],
            "classes": {
                name: _counts(scores) | _mean_ap(scores) | _ratios(scores) for name, scores in self.per_class.items()
            },
            "notes": list(self.notes),
            "results": [image.row() for image in self.images],
        }


def evaluate_image(
    name: str,
    truth: Labels,
    predicted: Labels,
    *,
    min_truth_size: int = 0,
    instances: Instances | None = None,
    classes: Mapping[int, str] | None = None,
) -> ImageResult:
    """Compare the predicted labels of one image with the true ones.

    Parameters
    ----------
    name : str
        Of the image, for tables and messages.
    truth, predicted : (H, W) or (Z, Y, X) integers
        0 is background; other labels may be any positive integers. Pixels whose true label is `IGNORED` do not count,
        nor do predictions that lie mainly on them: see `drop_ignored`.
    min_truth_size : int
        True instances of fewer pixels do not count, nor do predictions mainly on them: see `drop_small_truth`.
    instances : Instances, optional
        The predicted instances with their scores.
    classes : mapping of int to str, optional
        The true class of each label, to compare with the classes of `instances`.

    Returns
    -------
    ImageResult

    Raises
    ------
    InstsegError
        If their sizes differ.

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2]])
    >>> predicted = np.array([[7, 7, 7, 0, 0, 0, 9]])
    >>> result = evaluate_image("cells", truth, predicted)
    >>> result.truth, result.predicted, round(result.scores.mean_ap, 3)
    (2, 2, 0.296)
    """
    if truth.shape != predicted.shape:
        sizes = f"{_size(predicted)} pixels and its labels are {_size(truth)}"
        raise InstsegError(f"the prediction of {name} is {sizes}; expected equal sizes; compare labels of one image")
    truth, predicted = drop_small_truth(*drop_ignored(truth, predicted), min_truth_size)
    scores = score(truth, predicted, THRESHOLDS)
    confidence = is_true_positive = None
    if instances is not None:
        present, iou = matched_iou(truth, predicted, instances.label)
        is_true_positive = iou > 0
        confidence = instances.score[present]
    return ImageResult(
        name=name,
        truth=int(scores.tp[0] + scores.fn[0]),
        predicted=int(scores.tp[0] + scores.fp[0]),
        scores=scores,
        errors=classify_errors(truth, predicted).counts(),
        confidence=confidence,
        is_true_positive=is_true_positive,
        per_class={} if instances is None or classes is None else _by_class(truth, predicted, instances, classes),
    )


def _by_class(truth: Labels, predicted: Labels, instances: Instances, classes: Mapping[int, str]) -> dict[str, Scores]:
    """Score each class alone: an instance of the wrong class is missing from one and too many in another."""
    predicted_classes = np.array(instances.classes)
    scores = {}
    for name in dict.fromkeys((*instances.class_names, *sorted(set(classes.values())))):
        true_ids = [label for label, class_name in classes.items() if class_name == name]
        ids = instances.label[predicted_classes == name]
        scores[name] = score(_only(truth, np.array(true_ids, truth.dtype)), _only(predicted, ids), THRESHOLDS)
    return scores


def _only(labels: Labels, ids: NDArray[np.integer]) -> Labels:
    return np.where(np.isin(labels, ids), labels, 0).astype(labels.dtype)


def auroc(confidence: NDArray[np.floating], is_true_positive: NDArray[np.bool_]) -> float | None:
    """Return the area under the receiver operating characteristic curve.

    It is the share of pairs of a true and a false positive in which the true one has the higher score; equal scores
    count half (Mann and Whitney 1947).

    Parameters
    ----------
    confidence : (M,) floats
        The model's score of each predicted instance.
    is_true_positive : (M,) bool

    Returns
    -------
    float or None
        0..1, 0.5 for scores that say nothing; None if all are true positives, or none is.

    Examples
    --------
    >>> auroc(np.array([0.9, 0.8, 0.4, 0.4]), np.array([True, True, True, False]))
    0.8333333333333334
    """
    from scipy.stats import rankdata

    true, false = int(np.count_nonzero(is_true_positive)), int(np.count_nonzero(~is_true_positive))
    if not true or not false:
        return None
    ranks = rankdata(confidence)[is_true_positive].sum()
    return float((ranks - true * (true + 1) / 2) / (true * false))


def drop_small_truth(truth: Labels, predicted: Labels, min_truth_size: int) -> tuple[Labels, Labels]:
    """Remove true instances of fewer than `min_truth_size` pixels, and the predictions of them.

    A prediction is removed if more than half of it lies on what was removed.

    Parameters
    ----------
    truth, predicted : (H, W) or (Z, Y, X) integers
        0 is background.
    min_truth_size : int

    Returns
    -------
    truth, predicted : (H, W) or (Z, Y, X) integers
        The same labels, 0 where something was removed.
    """
    if min_truth_size <= 1:
        return truth, predicted
    table = contingency_table(truth, predicted)
    small = table.truth_areas < min_truth_size
    return _without(truth, table.truth_ids[small]), _without(predicted, table.predicted_ids[table.ignored(small)])


def _without(labels: Labels, ids: NDArray[np.integer]) -> Labels:
    return np.where(np.isin(labels, ids), 0, labels).astype(labels.dtype) if len(ids) else labels


def named_errors(errors: Mapping[str, int]) -> dict[str, int]:
    """Return the numbers of errors by the names that they have in tables and JSON: 'missed', 'false_alarms', ..."""
    return {_ERROR_NAMES.get(kind, kind): count for kind, count in errors.items()}


def _mean_ap(scores: Scores | MeanScores) -> dict[str, Any]:
    return {"mean_ap": _number(scores.mean_ap)}


def _ratios(scores: Scores | MeanScores) -> dict[str, Any]:
    return {name: [_number(value) for value in getattr(scores, ratio).tolist()] for name, ratio in _RATIOS.items()}


def _number(value: float) -> float | None:
    # JSON has no NaN.
    return None if math.isnan(value) else value


def _counts(scores: Scores) -> dict[str, int]:
    return {"truth": int(scores.tp[0] + scores.fn[0]), "predicted": int(scores.tp[0] + scores.fp[0])}


def _percent(threshold: float) -> int:
    return round(100 * threshold)


def _size(labels: Labels) -> str:
    return " x ".join(str(side) for side in labels.shape)
