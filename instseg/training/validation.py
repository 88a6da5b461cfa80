"""How good a state of the network is, and what its scores mean, from its labels of validation images."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration, ScoredImage, fit_score_calibration
from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.filters import complete_filters, filter_instances
from instseg.clustering.instances import Instances, measure_instances
from instseg.data.samples import Sample
from instseg.evaluation.reliability import matched_iou
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.model import Model
from instseg.inference.native_blocks import embed_volume
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader
from instseg.labels.regions import IGNORED
from instseg.settings import FilterSettings
from instseg.training.events import Validation
from instseg.training.tuning import SCORED, FoundInstances, tune_min_score

_VALIDATION_IMAGES = 40
# Of a network of 8 dimensions, 44 bytes a pixel.
_MAX_PIXELS = 4_000_000
_AP_AT = (0.5, 0.75)
_BEST_BY = "AP50-90"


class ValidationImages:
    """The validation images, with the embeddings that one state of the network gave some of them.

    Embeddings are computed once and held for whoever asks next, until `forget`: those of images that are one tile, of
    about 4 megapixels in all.

    Parameters
    ----------
    samples : sequence of Sample
        All validation images; every n-th of them is scored, so that there are at most `most`.
    most : int

    Attributes
    ----------
    scored : range
        Indices of the samples that are scored.
    """

    def __init__(self, samples: Sequence[Sample], most: int = _VALIDATION_IMAGES) -> None:
        self._samples = samples
        self.scored = range(0, len(samples), max(1, -(-len(samples) // most)))
        self._embeddings: dict[int, Embeddings] = {}
        self._pixels = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def for_tuning(self) -> Iterator[int]:
        """Return the indices of the scored samples that thresholds are tuned on: as many as patience allows."""
        pixels = 0
        for index in self.scored:
            size = self._samples[index].labels.size
            if pixels and pixels + size > _MAX_PIXELS:
                return
            pixels += size
            yield index

    def forget(self) -> None:
        """Drop the embeddings, as the network has changed or nobody will ask for them soon."""
        self._embeddings.clear()
        self._pixels = 0

    def embed(self, model: Model, index: int) -> Embeddings:
        """Return the embeddings of a sample."""
        embeddings = self._single_tile(model, index)
        return model.embed(self._samples[index].image) if embeddings is None else embeddings

    def measure(self, model: Model, index: int) -> tuple[NDArray[np.int32], Instances]:
        """Return the labels int32 of a sample, as `Model.predict` does, and its instances."""
        embeddings = self._single_tile(model, index)
        if embeddings is not None:
            labels = cluster(embeddings, model.clustering.rescaled(1.0, model.settings.ndim))
            instances = measure_instances(labels, embeddings).calibrated(model.calibration)
            filters = complete_filters(FilterSettings(), model.calibration)
            instances, label_of = filter_instances(instances, filters, labels.shape, int(labels.max(initial=0)))
            return label_of[labels], instances
        segmentation = model.segment(self._samples[index].image, return_embeddings=False)
        if segmentation.instances is None:
            raise ValueError("instances were to be measured, but there are none")
        return segmentation.labels, segmentation.instances

    def segment(self, model: Model, index: int) -> tuple[NDArray[np.int32], Embeddings]:
        """Return the labels int32 of a sample and its embeddings."""
        embeddings = self._single_tile(model, index)
        if embeddings is not None:
            return self.measure(model, index)[0], embeddings
        segmentation = model.segment(self._samples[index].image, return_embeddings=True)
        if segmentation.embeddings is None:
            raise ValueError("embeddings were asked for, but there are none")
        return segmentation.labels, segmentation.embeddings

    def _single_tile(self, model: Model, index: int) -> Embeddings | None:
        """Return the embeddings of a sample that is one tile, and hold them if they fit; None of a larger one.

        Parts of volumes are one tile.
        """
        if index in self._embeddings:
            return self._embeddings[index]
        if model.settings.ndim == 3:
            return self._hold(index, _embed_volume(model, self._samples[index]))
        tiles = ImageTiles(model, ArrayReader(self._samples[index].image), PredictOptions())
        plan = tiles.plan()
        if len(plan.grid) > 1:
            return None
        (tile,) = plan.grid
        return self._hold(index, tiles.embed(plan, tile))

    def _hold(self, index: int, embeddings: Embeddings) -> Embeddings:
        """Hold the embeddings of a sample, if they fit."""
        if self._pixels + embeddings.foreground.size <= _MAX_PIXELS:
            self._embeddings[index] = embeddings
            self._pixels += embeddings.foreground.size
        return embeddings


def _embed_volume(model: Model, sample: Sample) -> Embeddings:
    """Return the embeddings of a volume, whose voxels are those of the training, with the levels of the sample."""
    return embed_volume(model, sample.image, (sample.low, sample.high))


def validate(model: Model, images: ValidationImages, *, calibrate: bool = True) -> Validation:
    """Cluster the samples that are scored as `predict` would, and score the labels.

    Samples of which all pixels are ignored do not count. Without an instance in any of the others there are no scores:
    1 for images in which nothing is found would say nothing of instances.

    Parameters
    ----------
    model : Model
        Without a calibration.
    images : ValidationImages
    calibrate : bool
        Whether to fit a calibration. The scores are then those without the instances that it leaves out.
    """
    found = []
    for index in images.scored:
        truth = images[index].labels
        if (truth != IGNORED).any():
            labels, instances = images.measure(model, index)
            counted, iou = matched_iou(truth, labels, instances.label)
            found.append(FoundInstances(instances.score[counted], iou, len(np.unique(truth[truth > 0]))))
    if not any(one.true for one in found):
        return Validation({}, [])
    min_score = 0.0
    calibration = fit_score_calibration([ScoredImage(one.score, one.iou > 0) for one in found]) if calibrate else None
    if calibration is not None:
        found = [one._replace(score=calibration.apply(one.score)) for one in found]
        min_score = tune_min_score(found)
        calibration = dataclasses.replace(calibration, min_score=min_score)
    ap = np.array([one.average_precision(min_score) for one in found])
    at = {f"AP{100 * t:.0f}": float(ap[:, SCORED.index(t)].mean()) for t in _AP_AT}
    return Validation({**at, _BEST_BY: float(ap.mean())}, ap.mean(axis=1).tolist(), calibration)


def fit_calibration(model: Model, samples: Sequence[Sample]) -> ScoreCalibration | None:
    """Fit what the scores of a finished model mean to labelled images, which it should not have learnt from.

    `instseg.models.config.write_calibration` stores it in the model directory.

    Parameters
    ----------
    model : Model
        A calibration that it has does not count.
    samples : sequence of Sample
        As `make_sample` returns them, of the channels that the network takes, and of objects of a size that it knows.

    Returns
    -------
    ScoreCalibration or None
        None if the images hold no instance, or none was found.
    """
    uncalibrated = copy.copy(model)
    uncalibrated.calibration = None
    uncalibrated.settings = model.settings.for_samples()
    return validate(uncalibrated, ValidationImages(samples, most=max(1, len(samples)))).calibration
