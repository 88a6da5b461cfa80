"""How good a state of the network is: its labels of validation images against the true ones."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.data.samples import Sample
from instseg.evaluation.metrics import macro_average, score
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.model import Model
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader
from instseg.labels.regions import IGNORED
from instseg.training.events import Validation

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
        All validation images; every n-th of them is scored, at most 40.

    Attributes
    ----------
    scored : range
        Indices of the samples that are scored.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self.scored = range(0, len(samples), max(1, -(-len(samples) // _VALIDATION_IMAGES)))
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

    def predict(self, model: Model, index: int) -> NDArray[np.int32]:
        """Return the labels (H, W) int32 of a sample, as `Model.predict` does."""
        embeddings = self._single_tile(model, index)
        if embeddings is None:
            return model.predict(self._samples[index].image)
        return cluster(embeddings, model.clustering.rescaled(1.0))

    def segment(self, model: Model, index: int) -> tuple[NDArray[np.int32], Embeddings]:
        """Return the labels (H, W) int32 of a sample and its embeddings."""
        embeddings = self._single_tile(model, index)
        if embeddings is not None:
            return cluster(embeddings, model.clustering.rescaled(1.0)), embeddings
        segmentation = model.segment(self._samples[index].image, return_embeddings=True)
        if segmentation.embeddings is None:
            raise ValueError("embeddings were asked for, but there are none")
        return segmentation.labels, segmentation.embeddings

    def _single_tile(self, model: Model, index: int) -> Embeddings | None:
        """Return the embeddings of a sample that is one tile, and hold them if they fit; None of a larger one."""
        if index in self._embeddings:
            return self._embeddings[index]
        tiles = ImageTiles(model, ArrayReader(self._samples[index].image), PredictOptions())
        plan = tiles.plan()
        if len(plan.grid) > 1:
            return None
        (tile,) = plan.grid
        embeddings = tiles.embed(plan, tile)
        if self._pixels + embeddings.foreground.size <= _MAX_PIXELS:
            self._embeddings[index] = embeddings
            self._pixels += embeddings.foreground.size
        return embeddings


def validate(model: Model, images: ValidationImages) -> Validation:
    """Cluster the samples that are scored as `predict` would, and score the labels.

    Samples of which all pixels are ignored do not count. Without an instance in any of the others there are no scores:
    1 for images in which nothing is found would say nothing of instances.
    """
    results = [
        score(images[index].labels, images.predict(model, index))
        for index in images.scored
        if (images[index].labels != IGNORED).any()
    ]
    if not any(one.tp[0] + one.fn[0] for one in results):
        return Validation({}, [])
    scores = macro_average(results)
    at = {f"AP{100 * t:.0f}": float(scores.ap[scores.thresholds.index(t)]) for t in _AP_AT}
    return Validation({**at, _BEST_BY: scores.mean_ap}, [one.mean_ap for one in results])
