"""Predictions against labels over a whole folder: image by image, pooled over instances and averaged over images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.instances import Instances
from instseg.metrics import THRESHOLDS, MeanScores, Scores, average, pool, score
from instseg.mistakes import MISTAKES, find_mistakes
from instseg.overlaps import match, overlap_table

Labels = NDArray[np.int32]

_RATIOS = ("ap", "precision", "recall", "f1", "matched_iou", "pq")
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """One image's figures.

    Attributes
    ----------
    name : str
    truth, predicted : int
        Numbers of instances, those that were left out on request not counted.
    scores : Scores
        At IoU 0.50 to 0.95.
    mistakes : dict of str to int
        How many of each of `MISTAKES`, at IoU 0.5.
    confidence, right : (M,) float64 and (M,) bool, or None
        The model's score of each predicted instance, where it gave one, and whether it matches at IoU 0.5.
    of_classes : dict of str to Scores
        Where classes are known, the scores of true and predicted instances of each class alone.
    """

    name: str
    truth: int
    predicted: int
    scores: Scores
    mistakes: dict[str, int]
    confidence: NDArray[np.float64] | None = None
    right: NDArray[np.bool_] | None = None
    of_classes: dict[str, Scores] = field(default_factory=dict)

    def row(self) -> dict[str, str | int | float]:
        """Return the figures as one flat row of a table."""
        return {
            "image": self.name,
            "truth": self.truth,
            "predicted": self.predicted,
            "mean_ap": round(self.scores.mean_ap, 6),
            **{f"ap{_percent(t)}": round(float(ap), 6) for t, ap in zip(THRESHOLDS, self.scores.ap, strict=True)},
            **{name: round(float(getattr(self.scores, name)[0]), 6) for name in _RATIOS[1:]},
            **self.mistakes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The figures of several images.

    Attributes
    ----------
    images : tuple of ImageResult
        At least one.
    """

    images: tuple[ImageResult, ...]

    @property
    def per_image(self) -> MeanScores:
        """Ratios of each image, averaged: every image weighs the same."""
        return average([image.scores for image in self.images])

    @property
    def pooled(self) -> Scores:
        """Ratios of the counts summed over all images: every instance weighs the same."""
        return pool([image.scores for image in self.images])

    @property
    def of_classes(self) -> dict[str, Scores]:
        """By class, the ratios of the counts summed over all images; empty where classes are not known."""
        names = dict.fromkeys(name for image in self.images for name in image.of_classes)
        return {
            name: pool([image.of_classes[name] for image in self.images if name in image.of_classes]) for name in names
        }

    @property
    def mistakes(self) -> dict[str, int]:
        """How many of each of `MISTAKES` in all images."""
        return {name: sum(image.mistakes[name] for image in self.images) for name in MISTAKES}

    @property
    def count_error(self) -> dict[str, float]:
        """Predicted minus true instances of an image: the mean ('bias'), and that without the sign ('absolute')."""
        errors = np.array([image.predicted - image.truth for image in self.images])
        return {"bias": float(errors.mean()), "absolute": float(np.abs(errors).mean())}

    @property
    def auroc(self) -> float | None:
        """How well the model's scores rank right above wrong instances at IoU 0.5: see `auroc`; None without scores."""
        ranked = [image for image in self.images if image.confidence is not None and image.right is not None]
        if not ranked:
            return None
        confidence = np.concatenate([image.confidence for image in ranked if image.confidence is not None])
        return auroc(confidence, np.concatenate([image.right for image in ranked if image.right is not None]))

    def worst(self, count: int) -> list[ImageResult]:
        """Return the images of the lowest mean AP, worst first."""
        return sorted(self.images, key=lambda image: (image.scores.mean_ap, image.name))[:count]

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-ready values."""
        return {
            "images": len(self.images),
            "truth": sum(image.truth for image in self.images),
            "predicted": sum(image.predicted for image in self.images),
            "thresholds": list(THRESHOLDS),
            "per_image": _ratios(self.per_image),
            "pooled": _ratios(self.pooled),
            "count_error": self.count_error,
            "mistakes": self.mistakes,
            "score_auroc": self.auroc,
            "classes": {name: _counts(scores) | _ratios(scores) for name, scores in self.of_classes.items()},
            "results": [image.row() for image in self.images],
        }


def compare(
    name: str,
    truth: Labels,
    predicted: Labels,
    *,
    min_truth_size: int = 0,
    found: Instances | None = None,
    classes: Mapping[int, str] | None = None,
) -> ImageResult:
    """Score one prediction.

    Parameters
    ----------
    name : str
        Of the image.
    truth, predicted : (H, W) integers
        0 is background; other labels may be any positive integers.
    min_truth_size : int
        True instances of fewer pixels do not count, nor do predictions mainly on them.
    found : Instances, optional
        The predicted instances with their scores.
    classes : mapping of int to str, optional
        The true class of each label, to compare with the classes of `found`.

    Returns
    -------
    ImageResult

    Raises
    ------
    InstsegError
        If their sizes differ.
    """
    if truth.shape != predicted.shape:
        sizes = f"{_size(predicted)} pixels and its labels are {_size(truth)}"
        raise InstsegError(f"the prediction of {name} is {sizes}; expected equal sizes; compare labels of one image")
    truth, predicted = counted(truth, predicted, min_truth_size)
    scores = score(truth, predicted, THRESHOLDS)
    confidence = right = None
    if found is not None:
        kept = np.isin(found.id, predicted)
        confidence, right = found.score[kept], np.isin(found.id[kept], match(truth, predicted).predicted_ids)
    return ImageResult(
        name=name,
        truth=int(scores.tp[0] + scores.fn[0]),
        predicted=int(scores.tp[0] + scores.fp[0]),
        scores=scores,
        mistakes=find_mistakes(truth, predicted).counts(),
        confidence=confidence,
        right=right,
        of_classes={} if found is None or classes is None else _by_class(truth, predicted, found, classes),
    )


def _by_class(truth: Labels, predicted: Labels, found: Instances, classes: Mapping[int, str]) -> dict[str, Scores]:
    """Score the instances of each class alone: one that is found as another is missed here, and a false alarm there."""
    predicted_classes = np.array(found.classes)
    scores = {}
    for name in dict.fromkeys((*found.class_names, *sorted(set(classes.values())))):
        true_ids = [label for label, of_label in classes.items() if of_label == name]
        ids = found.id[predicted_classes == name]
        scores[name] = score(_only(truth, np.array(true_ids, truth.dtype)), _only(predicted, ids), THRESHOLDS)
    return scores


def _only(labels: Labels, ids: NDArray[np.integer]) -> Labels:
    return np.where(np.isin(labels, ids), labels, 0).astype(labels.dtype)


def auroc(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float | None:
    """Return the area under the receiver operating characteristic curve.

    The share of pairs of a right and a wrong instance in which the right one
    has the higher score; equal scores count half (Mann and Whitney 1947).

    Parameters
    ----------
    confidence : (M,) floats
        Scores.
    right : (M,) bool

    Returns
    -------
    float or None
        0..1, 0.5 for scores that say nothing; None if all are right or all wrong.

    Examples
    --------
    >>> auroc(np.array([0.9, 0.8, 0.4, 0.4]), np.array([True, True, True, False]))
    0.8333333333333334
    """
    from scipy.stats import rankdata

    good, bad = int(np.count_nonzero(right)), int(np.count_nonzero(~right))
    if not good or not bad:
        return None
    ranks = rankdata(confidence)[right].sum()
    return float((ranks - good * (good + 1) / 2) / (good * bad))


def counted(truth: Labels, predicted: Labels, min_truth_size: int) -> tuple[Labels, Labels]:
    """Take out true instances of fewer than `min_truth_size` pixels, and what was found of them.

    A prediction of which more than half lies on what was taken out goes, too.

    Parameters
    ----------
    truth, predicted : (H, W) integers
        0 is background.
    min_truth_size : int

    Returns
    -------
    truth, predicted : (H, W) integers
        The same labels, 0 where something was taken out.
    """
    if min_truth_size <= 1:
        return truth, predicted
    table = overlap_table(truth, predicted)
    small = table.truth_areas < min_truth_size
    return _without(truth, table.truth_ids[small]), _without(predicted, table.predicted_ids[table.excused(small)])


def _without(labels: Labels, ids: NDArray[np.integer]) -> Labels:
    return np.where(np.isin(labels, ids), 0, labels).astype(labels.dtype) if len(ids) else labels


def match_predictions(predictions: Sequence[Path], labels: Sequence[Path]) -> list[tuple[str, Path, Path]]:
    """Put label images with the predictions of the same name; suffixes may differ.

    Parameters
    ----------
    predictions, labels : sequences of Path

    Returns
    -------
    list of (name, labels, prediction)
        Sorted by name.

    Raises
    ------
    InstsegError
        If a file has no partner, or two of one side share a name.
    """
    sides = []
    for what, files in (("predictions", predictions), ("labels", labels)):
        by_name = {file.stem: file for file in files}
        if len(by_name) < len(files):
            doubled = [file.name for file in files if by_name[file.stem] != file]
            raise InstsegError(f"{len(doubled)} {what} share a name ({_few(doubled)}); keep one file of each name")
        sides.append(by_name)
    predicted, true = sides
    problems = []
    if alone := sorted(true.keys() - predicted.keys()):
        problems.append(f"{len(alone)} labels have no prediction ({_few(alone)}): predict these images, too")
    if alone := sorted(predicted.keys() - true.keys()):
        problems.append(f"{len(alone)} predictions have no labels ({_few(alone)}): add or remove them")
    if problems:
        raise InstsegError(f"cannot compare the folders: {'; '.join(problems)}")
    return [(name, true[name], predicted[name]) for name in sorted(true)]


def _ratios(scores: Scores | MeanScores) -> dict[str, Any]:
    return {"mean_ap": scores.mean_ap, **{name: getattr(scores, name).tolist() for name in _RATIOS}}


def _counts(scores: Scores) -> dict[str, int]:
    return {"truth": int(scores.tp[0] + scores.fn[0]), "predicted": int(scores.tp[0] + scores.fp[0])}


def _percent(threshold: float) -> int:
    return round(100 * threshold)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _size(labels: Labels) -> str:
    return " x ".join(str(side) for side in labels.shape)
