"""What the loss of a model means for everything else: its maps, their units, the terms of a step, the clustering.

Everything that differs between the losses is here; other modules ask `objective_of(settings)`. TensorFlow is imported
by the methods that compute with it, as the command line asks for names and numbers before it is loaded.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from instseg.settings import ClusterSettings, LossName, MetricLossSettings, ModelSettings

# Of a typical object's area: 20 pixels for the example discs, where it gave an AP at IoU 0.5 of 0.983 for 0.981.
_MIN_SIZE_SHARE = 0.07
# Of a typical object's diameter.
_SEED_WINDOW_SHARE = 0.35
# Networks of volumes see seeds over some planes already, and averages miss what little is seen of an object behind
# others: of 250 balls, AP at IoU 0.5 was 0.991 with 1, 0.983 with 3 and 0.951 with 7.
_SEED_WINDOW_OF_VOLUMES = 1
# Averages over a window are low in objects that are smaller than typical: 0.710 for 0.706 with a threshold of 0.5.
_SEED_THRESHOLD = 0.4
# Of the typical diameter: what an instance of a neutral network reaches.
_NEUTRAL_BANDWIDTH = 0.4
_MAX_LOG_PRECISION = 4.0
_BANDWIDTH_WEIGHT = 0.5
_SEED_WEIGHT = 1.0


class Objective(ABC):
    """What a loss means for a model.

    Attributes
    ----------
    settings : ModelSettings
        Those of the model.
    positions : bool
        Whether the first dimensions of the embeddings are a position in pixels: row and column, of volumes plane, row
        and column, in X pixels.
    has_options : bool
        Whether `MetricLossSettings` change the loss.
    """

    positions: ClassVar[bool]
    has_options: ClassVar[bool]

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def embedding_maps(self) -> tuple[str, ...]:
        """The names of the raw maps of the embedding head, in their order."""

    @property
    def semantic_maps(self) -> tuple[str, ...]:
        """The names of the raw maps of the semantic head, in their order."""
        objects = self.settings.class_names or tuple(str(number) for number in range(1, self.settings.classes))
        return ("background", *(f"class {name}" for name in objects))

    @property
    def map_count(self) -> int:
        """The number of all raw maps of the network."""
        return len(self.embedding_maps) + self.settings.classes

    @abstractmethod
    def decode(self, maps: Any, coordinates: Any, diameter: Any) -> dict[str, Any]:
        """Give the raw maps of the embedding head their units.

        Parameters
        ----------
        maps : (B, H, W, R) or (B, Z, H, W, R) float32
            All of them, or any choice of pixels of them.
        coordinates : (B or 1, H, W, 2) or (B or 1, Z, H, W, 3) float32
            Row and column of the pixels, of volumes plane, row and column, as `pixel_coordinates` returns them.
        diameter : float or () float32
            Of an object of the typical size, in the unit of the coordinates.

        Returns
        -------
        dict
            embeddings, seed_logits and bandwidth, as `instseg.network.decoding.Outputs` has them.
        """

    @abstractmethod
    def loss_terms(self, maps: Any, labels: Any, seed: Any, metric: MetricLossSettings) -> dict[str, Any]:
        """Return the terms, each () float32, that the raw maps of the embedding head are trained with.

        Parameters
        ----------
        maps : (B, H, W, R) or (B, Z, H, W, R) float32
            Over patches of the size that the network sees.
        labels : (B, H, W) or (B, Z, H, W) int32
            0 is background, instances 1..N; pixels of `IGNORED` count in no term.
        seed : (2,) int32
            Of what is drawn by chance.
        metric : MetricLossSettings
            Options of the loss, where it has any.
        """

    @abstractmethod
    def default_clustering(self, metric: MetricLossSettings) -> ClusterSettings:
        """Return the clustering settings that fit what the embeddings are trained for."""

    def adapt_weights(self, name: str, weights: Any, ratio: float) -> Any:
        """Adapt the weights of a raw map to another typical diameter, so that what it says in pixels stays.

        Parameters
        ----------
        name : str
            Of a map of the embedding head.
        weights : (1, 1, C, 4) or (4,) float32
            The part of a kernel or of a bias that gives the map.
        ratio : float
            The diameter that the weights were learnt with over the one they are wanted for.
        """
        del name, ratio
        return weights

    @property
    def _min_size(self) -> int:
        # Anything smaller is a splinter of an object rather than one.
        return max(1, round(_MIN_SIZE_SHARE * math.pi / 4 * self.settings.diameter**2))

    def _seeded_clustering(self) -> ClusterSettings:
        # An odd number. Seeds as they are split objects whose middle is in doubt: on nuclei (diameter 20) a window of 7
        # gave a mean AP of 0.627 for 0.612, 5 gave 0.621 and 9 0.626.
        window = 2 * round(_SEED_WINDOW_SHARE * self.settings.diameter / 2 - 0.5) + 1
        return self._for_axes(
            ClusterSettings(min_size=self._min_size, seed_window=max(1, window), seed_threshold=_SEED_THRESHOLD)
        )

    def _for_axes(self, settings: ClusterSettings) -> ClusterSettings:
        """Return settings for images as they are for what the model sees."""
        if self.settings.spacing is None:
            return settings
        return dataclasses.replace(settings.for_volume(self.settings.spacing), seed_window=_SEED_WINDOW_OF_VOLUMES)


class OverlapObjective(Objective):
    """Overlap of soft instances: embeddings begin with a position, and there are a seed and a bandwidth map."""

    positions = True
    has_options = False

    @property
    def embedding_maps(self) -> tuple[str, ...]:
        """The names of the raw maps: of the embeddings, the seed and the logarithm of the inverse bandwidth."""
        # Of volumes the plane comes first, and what they have in common with images has the same name.
        plane = ("plane",) if self.settings.ndim == 3 else ()
        others = (f"position {number}" for number in range(self.settings.embeddings - len(plane)))
        return (*plane, *others, "seed", "log_precision")

    def decode(self, maps: Any, coordinates: Any, diameter: Any) -> dict[str, Any]:
        """Give the raw maps their units: all but the seed are learnt in diameters."""
        import tensorflow as tf

        axes, dimensions = self.settings.ndim, self.settings.embeddings
        offsets, free, seed_logits, log_precision = tf.split(maps, [axes, dimensions - axes, 1, 1], axis=-1)
        embeddings = tf.concat([offsets * diameter + coordinates, free * diameter], axis=-1)
        limited = tf.clip_by_value(log_precision, -_MAX_LOG_PRECISION, _MAX_LOG_PRECISION)
        bandwidth = _NEUTRAL_BANDWIDTH * diameter * tf.exp(-limited)
        return {"embeddings": embeddings, "seed_logits": seed_logits[..., 0], "bandwidth": bandwidth[..., 0]}

    def loss_terms(self, maps: Any, labels: Any, seed: Any, metric: MetricLossSettings) -> dict[str, Any]:
        """Return the terms `embedding`, `bandwidth` and `seed`, from one pixel of each 2 x 2, chosen by chance."""
        del metric
        import tensorflow as tf

        from instseg.loss.overlap import overlap_loss, subsample_2x2

        shape = tf.shape(labels)
        coordinates = tf.repeat(pixel_coordinates(shape[1:], self.settings.spacing), shape[0], axis=0)
        # In diameters, whatever the size of the objects; patches are as the network sees them.
        coordinates /= self.settings.diameter * self.settings.scale
        choice = _subsample_choice(shape, seed)
        maps, coordinates, labels = subsample_2x2(choice, maps, coordinates, labels)
        decoded = self.decode(maps, coordinates, 1.0)
        terms = overlap_loss(decoded["embeddings"], decoded["bandwidth"], decoded["seed_logits"], labels)
        return {
            "embedding": tf.reduce_mean(terms.overlap),
            "bandwidth": _BANDWIDTH_WEIGHT * tf.reduce_mean(terms.bandwidth),
            "seed": _SEED_WEIGHT * tf.reduce_mean(terms.seed),
        }

    def default_clustering(self, metric: MetricLossSettings) -> ClusterSettings:
        """Return settings that look for seeds, averaged over a part of a typical object."""
        del metric
        return self._seeded_clustering()

    def adapt_weights(self, name: str, weights: Any, ratio: float) -> Any:
        """Adapt the weights of a raw map: positions scale with the diameter, bandwidths by their logarithm."""
        import numpy as np

        if name.startswith(("plane", "position")):
            return weights * np.float32(ratio)
        if name == "log_precision" and weights.ndim == 1:
            return weights + np.float32(-math.log(ratio))
        return weights


class MetricObjective(Objective):
    """Plain pull and push: all dimensions of the embeddings are free, and there are no other maps."""

    positions = False
    has_options = True

    @property
    def embedding_maps(self) -> tuple[str, ...]:
        """The names of the raw maps: those of the embeddings."""
        return tuple(f"metric {number}" for number in range(self.settings.embeddings))

    def decode(self, maps: Any, coordinates: Any, diameter: Any) -> dict[str, Any]:
        """Return the raw maps as they are."""
        del coordinates, diameter
        return {"embeddings": maps, "seed_logits": None, "bandwidth": None}

    def loss_terms(self, maps: Any, labels: Any, seed: Any, metric: MetricLossSettings) -> dict[str, Any]:
        """Return the term `embedding`."""
        del seed
        import tensorflow as tf

        from instseg.loss import MetricLoss

        # The loss ignores one label, 0 or above. Ignored pixels join a background that is ignored, too; else all
        # labels move up by one, which makes ignored pixels the 0.
        labels = labels + 1 if metric.ignore_label is None else tf.maximum(labels, 0)
        if self.settings.ndim == 3:
            # Where a pixel is does not count, so that the planes can lie one under the other.
            batch, depth, height, width = tf.unstack(tf.shape(labels))
            labels = tf.reshape(labels, (batch, depth * height, width))
            maps = tf.reshape(maps, (batch, depth * height, width, maps.shape[-1]))
        return {"embedding": MetricLoss.from_settings(dataclasses.replace(metric, ignore_label=0))(maps, labels)}

    def default_clustering(self, metric: MetricLossSettings) -> ClusterSettings:
        """Return settings that use what the push margin says of the distances between instances."""
        if metric.push_margin == 0:
            return self._seeded_clustering()
        # Centroids are trained to lie a push margin apart, but the network sees equal objects far apart as the same:
        # with positions, an instance reaches about as far as a typical radius. Of a short training on discs this gave
        # AP at IoU 0.5 of 0.95; without positions at most 0.73, and HDBSCAN 0.86.
        bandwidth = metric.push_margin / 4
        position_weight = round(bandwidth / (_NEUTRAL_BANDWIDTH * self.settings.diameter), 5)
        return self._for_axes(
            ClusterSettings(min_size=self._min_size, bandwidth=bandwidth, position_weight=position_weight)
        )


_OBJECTIVES: dict[LossName, type[Objective]] = {"overlap": OverlapObjective, "metric": MetricObjective}


def objective_of(settings: ModelSettings) -> Objective:
    """Return what the loss of a model means for it."""
    return _OBJECTIVES[settings.loss](settings)


def _subsample_choice(shape: Any, seed: Any) -> Any:
    """Draw which pixel of each 2 x 2 of labels of a shape (B, [Z,] H, W) is taken, int32 of 0..3.

    It is of shape (B, [Z,] H / 2, W / 2).
    """
    import tensorflow as tf

    from instseg.network.strategy import replica_count

    replicas = replica_count()
    blocks = (replicas * shape[0], *tf.unstack(shape[1:-2]), shape[-2] // 2, shape[-1] // 2)
    choice = tf.random.stateless_uniform(blocks, seed, 0, 4, tf.int32)
    if replicas == 1:
        return choice
    # What one device would draw for this part of the batch.
    part = tf.distribute.get_replica_context().replica_id_in_sync_group
    return choice[part * shape[0] : (part + 1) * shape[0]]


def pixel_coordinates(shape: Any, spacing: Sequence[float] | None = None) -> Any:
    """Return where each pixel is along each axis, (1, H, W, 2) or (1, Z, H, W, 3) float32.

    Parameters
    ----------
    shape : (2,) or (3,) int32 or sequence of int
        The number of pixels along each axis.
    spacing : sequence of float, optional
        The distance of pixels along each axis; 1 by default.
    """
    import tensorflow as tf

    lengths = tf.unstack(shape) if tf.is_tensor(shape) else shape
    axes = [tf.cast(tf.range(length), tf.float32) for length in lengths]
    if spacing is not None:
        axes = [axis * step for axis, step in zip(axes, spacing, strict=True)]
    return tf.stack(tf.meshgrid(*axes, indexing="ij"), -1)[None]
