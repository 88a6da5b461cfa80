"""The plain discriminative loss: pixels are pulled to their centroid, and centroids push each other away."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from instseg.errors import UsageError
from instseg.loss.distance import Distance, EuclideanDistanceMetric, ManhattanDistanceMetric
from instseg.loss.error import ErrorFunction, LogCoshErrorMetric, SquaredErrorMetric
from instseg.loss.segment_sums import count_pixels, find_segments, gather_to_pixels, sum_segments
from instseg.settings import MetricLossSettings

_DEFAULTS = MetricLossSettings()
_DISTANCES: dict[str, Distance] = {"manhattan": ManhattanDistanceMetric(), "euclidean": EuclideanDistanceMetric()}
_ERRORS: dict[str, ErrorFunction] = {"squared": SquaredErrorMetric(), "logcosh": LogCoshErrorMetric()}
_CALLABLES = {
    "push_distance_metric": "of two arrays (..., D)",
    "pull_distance_metric": "of two arrays (..., D)",
    "push_error_metric": "of one array",
    "pull_error_metric": "of one array",
    "regularization_error_metric": "of one array",
}
_NUMBERS = ("push_margin", "pull_margin", "push_weight", "pull_weight", "regularization_weight")


class MetricLossTerms(NamedTuple):
    """The loss of each image and its terms, not yet weighted: (B,) float each."""

    total: tf.Tensor
    push: tf.Tensor
    pull: tf.Tensor
    regularization: tf.Tensor


def metric_loss(
    predicted_embeddings: tf.Tensor,
    instance_labels: tf.Tensor,
    *,
    push_distance_metric: Distance = _DISTANCES[_DEFAULTS.push_distance_metric],
    pull_distance_metric: Distance = _DISTANCES[_DEFAULTS.pull_distance_metric],
    push_error_metric: ErrorFunction = _ERRORS[_DEFAULTS.push_error_metric],
    pull_error_metric: ErrorFunction = _ERRORS[_DEFAULTS.pull_error_metric],
    push_margin: float = _DEFAULTS.push_margin,
    pull_margin: float = _DEFAULTS.pull_margin,
    push_weight: float = _DEFAULTS.push_weight,
    pull_weight: float = _DEFAULTS.pull_weight,
    regularization_error_metric: ErrorFunction = _ERRORS[_DEFAULTS.regularization_error_metric],
    regularization_weight: float = _DEFAULTS.regularization_weight,
    ignore_label: int | None = _DEFAULTS.ignore_label,
) -> MetricLossTerms:
    """Return the discriminative loss of each image, and its terms.

    The centroid of an instance is the mean embedding of its pixels. Per image:

    - push: mean over all unordered pairs of centroids of `error(max(0, push_margin - distance))`;
      0 with fewer than two instances.
    - pull: mean over all pixels of `error(max(0, distance(pixel, own centroid) - pull_margin))`.
    - regularization: mean over all numbers in the centroids of `error(number)`.

    Push and pull are those of De Brabandere et al. [1]_, except that their pull is a mean of the means of instances,
    and here each pixel has the same weight.

    The graph has no loop over instances or images, and takes any batch, height and width. With N pixels and at most K
    instances in an image, it needs memory for a few arrays of N*D and K*K*D numbers for each image.

    Parameters
    ----------
    predicted_embeddings : (B, H, W, D) float
        Embeddings. Half precision is converted to float32, and float64 stays float64.
    instance_labels : (B, H, W) or (B, H, W, 1) integer
        Labels, 0 or above, with or without gaps. 0, the background, counts as one more instance unless it is ignored.
    push_distance_metric, pull_distance_metric : callable
        Distance between centroids, and of a pixel to its centroid: from two arrays (..., D) to an array (...). The
        gradient has to be finite where both are equal.
    push_error_metric, pull_error_metric, regularization_error_metric : callable
        Cost of a distance beyond its margin, or of a coordinate: from an array to one of the same shape.
    push_margin : float
        Centroids farther apart than this cost nothing, 0 or above.
    pull_margin : float
        Pixels nearer to their centroid than this cost nothing, 0 or above.
    push_weight, pull_weight, regularization_weight : float
        Weights in the total, 0 or above.
    ignore_label : int or None
        Pixels of this label count neither in centroids nor in the pull and its denominator, and get no gradient. The
        loss of an image of which all pixels are ignored is 0.

    Returns
    -------
    MetricLossTerms
        total, push, pull and regularization, (B,) float each. The total is weighted, the terms are not.

    Raises
    ------
    UsageError
        If ranks, shapes or dtypes do not fit.

    References
    ----------
    .. [1] B. De Brabandere, D. Neven, L. Van Gool, "Semantic Instance Segmentation
       with a Discriminative Loss Function", 2017, https://arxiv.org/abs/1708.02551

    Examples
    --------
    Two instances, each with two pixels at a distance of 1 from their centroid:

    >>> embeddings = tf.constant([[[[0.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]]])
    >>> terms = metric_loss(embeddings, [[[0, 0], [2, 2]]])
    >>> [round(float(term[0]), 5) for term in terms]
    [1.00005, 0.0, 1.0, 0.5]
    """
    embeddings, labels = _flat_inputs(predicted_embeddings, instance_labels)
    counted = None if ignore_label is None else tf.cast(labels, tf.int64) != ignore_label
    if counted is not None:
        # Whatever the ignored pixels hold, NaN included, stays out of values and gradients.
        embeddings = tf.where(counted[..., tf.newaxis], embeddings, tf.zeros_like(embeddings))

    segments = find_segments(labels)
    sizes = tf.cast(count_pixels(segments, counted), embeddings.dtype)
    # Padding and the ignored label have size 0 and the centroid 0, which counts nowhere.
    centroids = tf.math.divide_no_nan(sum_segments(embeddings, segments), sizes[..., tf.newaxis])

    pull = _pull(
        embeddings,
        gather_to_pixels(centroids, segments),
        counted,
        pull_distance_metric,
        pull_error_metric,
        pull_margin,
    )
    present = sizes > 0
    push = _push(centroids, present, push_distance_metric, push_error_metric, push_margin)
    regularization = _regularization(centroids, present, regularization_error_metric)
    total = push_weight * push + pull_weight * pull + regularization_weight * regularization
    return MetricLossTerms(total, push, pull, regularization)


def _pull(
    embeddings: tf.Tensor,
    own_centroids: tf.Tensor,
    counted: tf.Tensor | None,
    distance: Distance,
    error: ErrorFunction,
    margin: float,
) -> tf.Tensor:
    """Return the mean error (B,) over the pixels (B, N, D) that are counted (B, N)."""
    distances = distance(embeddings, own_centroids)
    _check_shape(distances, embeddings.shape[:-1], "pull_distance_metric")
    errors = error(tf.nn.relu(distances - margin))
    _check_shape(errors, distances.shape, "pull_error_metric")
    if counted is None:
        counts = tf.repeat(tf.shape(errors)[1], tf.shape(errors)[0])
    else:
        counts = tf.math.count_nonzero(counted, axis=1)
        errors = tf.where(counted, errors, tf.zeros_like(errors))
    return _mean(tf.reduce_sum(errors, axis=1), counts)


def _push(
    centroids: tf.Tensor, present: tf.Tensor, distance: Distance, error: ErrorFunction, margin: float
) -> tf.Tensor:
    """Return the mean error (B,) over the pairs of centroids (B, K, D) that are present (B, K)."""
    distances = distance(centroids[:, :, tf.newaxis], centroids[:, tf.newaxis, :])
    _check_shape(distances, tf.TensorShape([None, None, None]), "push_distance_metric")
    errors = error(tf.nn.relu(margin - distances))
    _check_shape(errors, distances.shape, "push_error_metric")
    order = tf.range(tf.shape(centroids)[1])
    once = order[:, tf.newaxis] < order[tf.newaxis, :]
    pairs = present[:, :, tf.newaxis] & present[:, tf.newaxis, :] & once
    errors = tf.where(pairs, errors, tf.zeros_like(errors))
    return _mean(tf.reduce_sum(errors, axis=[1, 2]), tf.math.count_nonzero(pairs, axis=[1, 2]))


def _regularization(centroids: tf.Tensor, present: tf.Tensor, error: ErrorFunction) -> tf.Tensor:
    """Return the mean error (B,) over all numbers of the centroids (B, K, D) that are present (B, K)."""
    errors = error(centroids)
    _check_shape(errors, centroids.shape, "regularization_error_metric")
    errors = tf.where(present[..., tf.newaxis], errors, tf.zeros_like(errors))
    counts = tf.math.count_nonzero(present, axis=1, dtype=tf.int32) * tf.shape(centroids)[2]
    return _mean(tf.reduce_sum(errors, axis=[1, 2]), counts)


def _mean(sums: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Return sums divided by integer counts, 0 where there was nothing to count."""
    return tf.math.divide_no_nan(sums, tf.cast(counts, sums.dtype))


def _check_shape(result: tf.Tensor, expected: tf.TensorShape, name: str) -> None:
    """Check, while the graph is built, the shape of what a callable of the user returned."""
    if not result.shape.is_compatible_with(expected):
        form = "the distances without the last axis" if "distance" in name else "an array of the same shape"
        message = f"{name} gave an array of shape {result.shape} where {expected} was expected; return {form}"
        raise UsageError(message, parameter=name)


def _flat_inputs(predicted_embeddings: tf.Tensor, instance_labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the embeddings (B, N, D), float32 or float64, and the labels (B, N), once they are checked."""
    embeddings = tf.convert_to_tensor(predicted_embeddings)
    # NumPy converts a list of large integers to int64; TensorFlow would convert any list to int32.
    labels = instance_labels if tf.is_tensor(instance_labels) else np.asarray(instance_labels)
    labels = tf.convert_to_tensor(labels)
    _check_inputs(embeddings, labels)
    if embeddings.dtype != tf.float64:
        embeddings = tf.cast(embeddings, tf.float32)
    # int32 is faster, but has to hold every label of the dtype.
    labels = tf.cast(labels, tf.int32 if labels.dtype.max <= tf.int32.max else tf.int64)
    if len(labels.shape) == 4:
        labels = tf.squeeze(labels, axis=-1)

    shape = tf.shape(embeddings)
    if not (embeddings.shape[:3].is_fully_defined() and labels.shape.is_fully_defined()):
        message = "predicted_embeddings and instance_labels differ in batch, height or width"
        tf.debugging.assert_equal(tf.shape(labels), shape[:3], message=message)
    images, depth = shape[0], embeddings.shape[3] or shape[3]
    pixels = shape[1] * shape[2]
    return tf.reshape(embeddings, [images, pixels, depth]), tf.reshape(labels, [images, pixels])


def _check_inputs(embeddings: tf.Tensor, labels: tf.Tensor) -> None:
    if embeddings.shape.rank != 4:
        raise UsageError(
            f"predicted_embeddings have shape {embeddings.shape}, expected (batch, height, width, dimensions)",
            parameter="predicted_embeddings",
        )
    if embeddings.dtype.is_complex or embeddings.dtype in (tf.bool, tf.string):
        raise UsageError(
            f"predicted_embeddings are {embeddings.dtype.name}, expected floating point numbers",
            parameter="predicted_embeddings",
        )
    if not labels.dtype.is_integer:
        raise UsageError(
            f"instance_labels are {labels.dtype.name}, expected integers. Keras casts labels to float32 on the way "
            "to a loss function: compile the model with instseg.loss.KerasMetricLoss, which keeps them",
            parameter="instance_labels",
        )
    rank = labels.shape.rank
    if rank not in (3, 4) or (rank == 4 and labels.shape[3] not in (1, None)):
        raise UsageError(
            f"instance_labels have shape {labels.shape}, expected (batch, height, width) or (batch, height, width, 1)",
            parameter="instance_labels",
        )
    if not embeddings.shape[:3].is_compatible_with(labels.shape[:3]):
        raise UsageError(
            f"predicted_embeddings have shape {embeddings.shape} and instance_labels {labels.shape}; "
            "expected the same batch, height and width",
            parameter="predicted_embeddings",
        )


@keras.saving.register_keras_serializable(package="instseg")
@dataclass(frozen=True)
class MetricLoss:
    """The plain discriminative loss with its options, which `metric_loss` explains.

    Called with `(predicted_embeddings, instance_labels)`, it returns the mean over the batch as a scalar. For
    `model.compile`, wrap it in `KerasMetricLoss`.

    Keras can save and load it (`get_config`, `from_config`). For that, a distance or an error of your own has to be
    registered with Keras.

    Attributes
    ----------
    push_distance_metric, pull_distance_metric : callable
        Distance between centroids, and of a pixel to its centroid: from two arrays (..., D) to an array (...).
    push_error_metric, pull_error_metric : callable
        Cost of a distance beyond the margin: from an array to one of the same shape.
    push_margin, pull_margin : float
        Centroids farther apart than the first, and pixels nearer than the second, cost nothing; 0 or above.
    push_weight, pull_weight : float
        Weights in the total, 0 or above.
    regularization_error_metric : callable
        Cost of a coordinate of a centroid; it keeps centroids from drifting to infinity.
    regularization_weight : float
        Weight of the regularization in the total, 0 or above.
    ignore_label : int or None
        Pixels of this label count neither in centroids nor in the pull and its denominator.

    Raises
    ------
    UsageError
        If a margin or weight is negative or not finite, a metric is not callable,
        or the ignored label is not an integer of 0 or above.

    Examples
    --------
    >>> loss = MetricLoss(pull_margin=0.5)
    >>> embeddings = tf.constant([[[[0.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]]])
    >>> round(float(loss(embeddings, [[[0, 0], [2, 2]]])), 5)
    0.25005
    """

    push_distance_metric: Distance = _DISTANCES[_DEFAULTS.push_distance_metric]
    pull_distance_metric: Distance = _DISTANCES[_DEFAULTS.pull_distance_metric]
    push_error_metric: ErrorFunction = _ERRORS[_DEFAULTS.push_error_metric]
    pull_error_metric: ErrorFunction = _ERRORS[_DEFAULTS.pull_error_metric]
    push_margin: float = _DEFAULTS.push_margin
    pull_margin: float = _DEFAULTS.pull_margin
    push_weight: float = _DEFAULTS.push_weight
    pull_weight: float = _DEFAULTS.pull_weight
    regularization_error_metric: ErrorFunction = _ERRORS[_DEFAULTS.regularization_error_metric]
    regularization_weight: float = _DEFAULTS.regularization_weight
    ignore_label: int | None = _DEFAULTS.ignore_label

    def __post_init__(self) -> None:
        for name, arguments in _CALLABLES.items():
            value, example = getattr(self, name), getattr(MetricLoss, name)
            if not callable(value) or isinstance(value, type):
                message = f"{name} is {value!r}, expected a callable {arguments}, such as {example!r}"
                raise UsageError(message, parameter=name)
        for name in _NUMBERS:
            value = getattr(self, name)
            if not (isinstance(value, Real) and math.isfinite(value) and float(value) >= 0):
                raise UsageError(f"{name} is {value!r}, expected 0 or a number above 0", parameter=name)
            # TensorFlow converts a number of Python to the dtype of the array beside it, but not one of NumPy.
            object.__setattr__(self, name, float(value))
        label: object = self.ignore_label
        if label is not None:
            if not (isinstance(label, Integral) and 0 <= int(label) < 2**63):
                message = f"ignore_label is {label!r}, expected an integer of 0 or above, or None"
                raise UsageError(message, parameter="ignore_label")
            object.__setattr__(self, "ignore_label", int(label))

    def __call__(self, predicted_embeddings: tf.Tensor, instance_labels: tf.Tensor) -> tf.Tensor:
        """Return the mean loss of the batch.

        Parameters
        ----------
        predicted_embeddings : (B, H, W, D) float
            Embeddings.
        instance_labels : (B, H, W) or (B, H, W, 1) integer
            Labels, 0 or above; 0 is background.

        Returns
        -------
        () float
            float64 for float64 embeddings, float32 for all others.
        """
        total = self.terms(predicted_embeddings, instance_labels).total
        return _mean(tf.reduce_sum(total), tf.size(total))

    def terms(self, predicted_embeddings: tf.Tensor, instance_labels: tf.Tensor) -> MetricLossTerms:
        """Return the loss of each image and its terms, (B,) each; the arguments are those of a call."""
        return metric_loss(predicted_embeddings, instance_labels, **self._options())

    @classmethod
    def from_settings(cls, settings: MetricLossSettings) -> Self:
        """Build the loss from settings, where distances and errors are names."""
        options = settings.to_dict()
        for name in _CALLABLES:
            choices: dict[str, Callable[..., Any]] = _DISTANCES if "distance" in name else _ERRORS
            options[name] = choices[options[name]]
        return cls(**options)

    def get_config(self) -> dict[str, Any]:
        """Return the options as plain data, for Keras to save."""
        return {name: keras.saving.serialize_keras_object(value) for name, value in self._options().items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the loss from the options that Keras saved."""
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})

    def _options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
