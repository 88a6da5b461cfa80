"""An overlap loss on soft instances, for position-aware embeddings.

Each instance is a ball in embedding space: its centre is the mean of its pixels' embeddings, its radius their mean
bandwidth, and the membership of a pixel falls from 1 at the centre to one half at the bandwidth. The loss is one minus
the Dice overlap of these memberships with the true pixels of the instance, so that training improves what evaluation
measures. It follows Neven et al. (2019), https://arxiv.org/abs/1906.11109, and EmbedSeg (Lalit et al. 2021,
https://arxiv.org/abs/2101.10033), with Dice in place of the Lovász hinge.
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from instseg.settings import MAX_INSTANCES

# The logit of a probability that is 0 in float32, and whose cross-entropy and gradients are, too.
_SURE_BACKGROUND = -1000.0


class OverlapTerms(NamedTuple):
    """The terms of the loss of each image, each (B,) float32 and at least 0."""

    overlap: Any
    bandwidth: Any
    seed: Any


def membership(squared_distance: Any, bandwidth: Any) -> Any:
    """Return exp(-ln 2 (d / bandwidth)^2): 1 at the centre, 1/2 at the bandwidth."""
    return tf.exp(-math.log(2.0) * squared_distance / tf.square(bandwidth))


def overlap_loss(
    embeddings: Any, bandwidth: Any, seed_logits: Any, labels: Any, max_instances: int = MAX_INSTANCES
) -> OverlapTerms:
    """Return the loss of soft instances compared with the true ones, for each image.

    One matrix product gives the memberships of all foreground pixels in all instances of an image. Time and memory are
    O(foreground pixels · instances) for each image, so that this is meant for patches, which `subsample_2x2` thins out.

    Parameters
    ----------
    embeddings : (B, H, W, D) or (B, Z, H, W, D) float32
        In any unit; B has to be known when the graph is built.
    bandwidth : (B, H, W) or (B, Z, H, W) float32
        Above 0, in the unit of the embeddings.
    seed_logits : (B, H, W) or (B, Z, H, W) float32
        Before the sigmoid.
    labels : (B, H, W) or (B, Z, H, W) int32
        0 is background, which counts in the seed term only. Instances are 1..N with few gaps, as memory grows with the
        largest label. Pixels of negative labels are ignored: they count in no term and in no mean.
    max_instances : int
        Instances of larger labels do not count in any term, so that memory is bounded.

    Returns
    -------
    OverlapTerms
        overlap: mean over the instances of 1 - Dice. bandwidth: mean squared deviation of a pixel's log bandwidth from
        the mean of its instance. seed: mean squared error of the seed against the membership of the pixel in its own
        instance (0 on background). Without instances only the last is above 0, and where all pixels are ignored
        none is.
    """
    batch, dimensions = tf.shape(labels)[0], embeddings.shape[-1]
    pixels = tf.size(labels[0])
    e = tf.reshape(embeddings, (batch, pixels, dimensions))
    labels = tf.reshape(labels, (batch, pixels))
    # |e - c|^2 = |e|^2 - 2 e.c + |c|^2 loses digits far from the origin, which is moved to the mean of the image, or
    # near it: ignored pixels enter as zeros.
    e -= tf.stop_gradient(tf.reduce_mean(tf.where(labels[..., None] < 0, 0.0, e), axis=1, keepdims=True))
    log_bandwidth = tf.reshape(tf.math.log(bandwidth), (batch, pixels))
    seed = tf.sigmoid(tf.reshape(seed_logits, (batch, pixels)))
    count = tf.clip_by_value(tf.reduce_max(labels), 1, max_instances)
    counted = (labels > 0) & (labels <= count)
    foreground = tf.cast(counted, e.dtype)
    # Number 0 of each image stands for all pixels that do not count.
    numbers = tf.where(counted, labels, 0) + (count + 1) * tf.range(batch)[:, None]

    def by_instance(values: Any) -> Any:
        return tf.math.unsorted_segment_sum(values, numbers, batch * (count + 1))

    area = by_instance(foreground)
    sums = by_instance(tf.concat([e, log_bandwidth[..., None]], axis=2) * foreground[..., None])
    means = sums / tf.maximum(area, 1.0)[:, None]
    own_means = tf.gather(means, numbers)
    own_squared = tf.reduce_sum(tf.square(e - own_means[..., :-1]), axis=2)
    own_membership = membership(own_squared, tf.exp(own_means[..., -1])) * foreground
    # Image by image, as their numbers of pixels and instances differ: one array for all would be larger.
    of_images = tf.unstack(tf.reshape(means, (-1, count + 1, dimensions + 1)), num=embeddings.shape[0])
    parts = zip(tf.unstack(e), tf.unstack(tf.where(counted, labels, 0)), of_images, strict=True)
    total = tf.concat([_total_membership(*part) for part in parts], axis=0)
    dice = 2.0 * by_instance(own_membership) / tf.maximum(total + area, 1e-6)
    present = tf.reshape(tf.cast(area > 0, e.dtype), (batch, count + 1))
    lost = tf.reduce_sum((1.0 - tf.reshape(dice, (batch, count + 1))) * present, axis=1)
    overlap = lost / tf.maximum(tf.reduce_sum(present, axis=1), 1.0)

    deviation = tf.square(log_bandwidth - tf.stop_gradient(own_means[..., -1])) * foreground
    deviation = tf.reduce_sum(deviation, axis=1) / tf.maximum(tf.reduce_sum(foreground, axis=1), 1.0)

    seed_error = tf.square(seed - tf.stop_gradient(own_membership))
    weight = foreground + 0.25 * tf.cast(labels == 0, e.dtype)
    seed_error = tf.reduce_sum(seed_error * weight, axis=1) / tf.maximum(tf.reduce_sum(weight, axis=1), 0.25)
    return OverlapTerms(overlap, deviation, seed_error)


def _total_membership(e: Any, numbers: Any, means: Any) -> Any:
    """Return for each instance of an image, and number 0 for none, the sum of the memberships of all foreground pixels.

    The table of memberships is the largest array of the loss, so that each pass over it takes time: a single matrix
    product of (e, |e|^2, 1) and (-2 c, 1, |c|^2) / bandwidth^2 gives the exponents.
    """
    e = tf.boolean_mask(e, numbers > 0)
    present = tf.reduce_max(numbers)
    centre, log_bandwidth = means[1 : present + 1, :-1], means[1 : present + 1, -1:]
    squared = tf.reduce_sum(tf.square(centre), axis=1, keepdims=True)
    steepness = -math.log(2.0) * tf.exp(-2.0 * log_bandwidth)
    of_instances = steepness * tf.concat([-2.0 * centre, tf.ones_like(squared), squared], 1)
    of_pixels = tf.concat([e, tf.reduce_sum(tf.square(e), axis=1, keepdims=True), tf.ones_like(e[:, :1])], 1)
    exponents = tf.minimum(tf.matmul(of_pixels, of_instances, transpose_b=True), 0.0)
    return tf.pad(tf.reduce_sum(tf.exp(exponents), axis=0), [[1, tf.shape(means)[0] - 1 - present]])


def subsample_2x2(choice: Any, *maps: Any) -> tuple[Any, ...]:
    """Take one pixel of each block of 2 x 2, chosen block by block.

    The loss of a quarter of the pixels takes a quarter of the time, and with a new choice at each step all four pixels
    of a block are trained alike.

    Parameters
    ----------
    choice : (B, H/2, W/2) or (B, Z, H/2, W/2) int32
        0..3: upper left, upper right, lower left, lower right. Volumes are thinned out plane by plane.
    *maps : (B, [Z,] H, W) or (B, [Z,] H, W, D)
        Of any dtype; H and W are even.

    Returns
    -------
    tuple
        The maps at half the height and width.
    """
    return tuple(_take(value, choice) for value in maps)


def _take(value: Any, choice: Any) -> Any:
    flat = value.shape.rank == choice.shape.rank
    depth = 1 if flat else value.shape[-1]
    shape = tf.shape(value)
    height, width = (shape[axis] for axis in ((-2, -1) if flat else (-3, -2)))
    blocks = tf.nn.space_to_depth(tf.reshape(value, (-1, height, width, depth)), 2)
    leading = shape[: choice.shape.rank - 2]
    blocks = tf.reshape(blocks, tf.concat([leading, [height // 2, width // 2, 4, depth]], 0))
    # A sum of one value and three zeros: its gradient is a product, whereas that of a gather is a slow scatter.
    taken = tf.reduce_sum(
        tf.where(tf.one_hot(choice, 4, True, False)[..., None], blocks, tf.zeros_like(blocks)), axis=-2
    )
    return taken[..., 0] if flat else taken


def foreground_loss(class_logits: Any, classes: Any) -> Any:
    """Return cross-entropy plus (1 - Dice) of the foreground of each image, whatever its classes.

    Parameters
    ----------
    class_logits : (B, H, W, classes) or (B, Z, H, W, classes) float32
        Before the softmax; class 0 is background.
    classes : (B, H, W) or (B, Z, H, W) int32
        True classes. Pixels of negative classes are ignored.

    Returns
    -------
    (B,) float32
        0 for an image of which all pixels are ignored.
    """
    truth = tf.cast(classes > 0, class_logits.dtype)
    if class_logits.shape[-1] == 2:
        background, foreground = tf.unstack(class_logits, axis=-1)
    else:
        background, foreground = class_logits[..., 0], tf.reduce_logsumexp(class_logits[..., 1:], axis=-1)
    # This is the logit of a softmax over all classes, in a third of the time.
    logit = foreground - background
    # Sure background costs nothing, neither in the entropy nor in Dice.
    ignored = classes < 0
    logit = tf.where(ignored, _SURE_BACKGROUND, logit)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(truth, logit)
    probability = tf.sigmoid(logit)
    axes = tuple(range(1, classes.shape.rank))
    inside = tf.reduce_sum(probability * truth, axis=axes)
    total = tf.reduce_sum(probability, axis=axes) + tf.reduce_sum(truth, axis=axes)
    # With one pixel added on both sides an empty image that is predicted as empty costs nothing.
    dice = (2.0 * inside + 1.0) / (total + 1.0)
    # A factor of 1 without ignored pixels, which changes no digit.
    pixels = tf.size(classes[0])
    counted = pixels - tf.math.count_nonzero(ignored, axis=axes, dtype=tf.int32)
    of_counted = tf.cast(pixels, entropy.dtype) / tf.cast(tf.maximum(counted, 1), entropy.dtype)
    return tf.reduce_mean(entropy, axis=axes) * of_counted + 1.0 - dice


def class_loss(class_logits: Any, classes: Any) -> Any:
    """Return the cross-entropy among the classes, as the mean over the foreground of each image.

    This is a term of its own, as in a mean over all pixels the classes of few objects on much background would hardly
    count, and not be learnt.

    Parameters
    ----------
    class_logits : (B, H, W, classes) or (B, Z, H, W, classes) float32
        Before the softmax; class 0 is background.
    classes : (B, H, W) or (B, Z, H, W) int32
        True classes; pixels of 0 or below do not count.

    Returns
    -------
    (B,) float32
        0 for an image without foreground.
    """
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(classes - 1, 0), class_logits[..., 1:])
    foreground = tf.cast(classes > 0, class_logits.dtype)
    axes = tuple(range(1, classes.shape.rank))
    return tf.math.divide_no_nan(tf.reduce_sum(entropy * foreground, axis=axes), tf.reduce_sum(foreground, axis=axes))
