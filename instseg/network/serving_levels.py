"""The levels of images in the network's graph, by the rules of `instseg.preprocessing.levels`."""

from typing import Any

import numpy as np
import tensorflow as tf

from instseg.preprocessing.levels import (
    BORDER_WITHIN,
    HOT_NOISE,
    HOT_SHARE,
    LEAST_PICTURE,
    LEAST_SIDE,
    MEDIAN_DEVIATION,
    NOISE_EXTENT,
    NOISE_SAMPLES,
    NOISE_STEP,
    OBJECT_PERCENTILE,
    ROUNDED_NOISE,
    ROUNDING,
    SIGNIFICANT,
    SPARSE,
    UPPER_QUARTILE,
)
from instseg.preprocessing.normalisation import HIGH_PERCENTILE, LOW_PERCENTILE
from instseg.settings import LevelsRule


def levels_of_images(images: Any, rule: LevelsRule) -> tuple[Any, Any]:
    """Return the low and the high levels (B, C) of images (B, H, W, C) float32, as `image_levels` does.

    So of volumes (B, Z, H, W, C), whose planes are seen as one image, in which each is below the one before.
    """
    if images.shape.rank == 5:
        shape = tf.shape(images)
        images = tf.reshape(images, (shape[0], shape[1] * shape[2], shape[3], images.shape[-1]))
    shape = tf.shape(images)
    if rule == "percentiles":
        values = tf.reshape(images, (shape[0], shape[1] * shape[2], shape[3]))
        low, high = _percentiles(values, (LOW_PERCENTILE, HIGH_PERCENTILE))
        return low, high
    channels = tf.reshape(tf.transpose(images, (0, 3, 1, 2)), (shape[0] * shape[3], shape[1], shape[2]))
    # One after the other, as the parts within borders differ in size.
    levels = tf.map_fn(_robust_levels, channels, fn_output_signature=tf.TensorSpec((2,), tf.float32))
    pairs = tf.reshape(levels, (shape[0], shape[3], 2))
    return pairs[..., 0], pairs[..., 1]


def _percentiles(values: Any, wanted: tuple[float, ...]) -> list[Any]:
    """Return percentiles (B, C) of values (B, N, C), as `numpy.percentile` does."""
    ordered = tf.sort(values, axis=1)
    last = tf.cast(tf.shape(values)[1] - 1, tf.float64)

    def at(percentile: float) -> Any:
        position = last * (percentile / 100.0)
        below = tf.floor(position)
        weight = tf.cast(position - below, tf.float32)
        lower = ordered[:, tf.cast(below, tf.int32)]
        upper = ordered[:, tf.cast(tf.math.ceil(position), tf.int32)]
        return lower + weight * (upper - lower)

    return [at(percentile) for percentile in wanted]


def _percentiles_of(values: Any, wanted: tuple[float, ...]) -> list[Any]:
    """Return percentiles () of all values."""
    return [value[0, 0] for value in _percentiles(tf.reshape(values, (1, -1, 1)), wanted)]


def _robust_levels(channel: Any) -> Any:
    picture = _within_border(channel)
    low, middle, high = _percentiles_of(picture, (LOW_PERCENTILE, 50.0, HIGH_PERCENTILE))

    def corrected() -> Any:
        noise = _noise(picture)
        whole = tf.cast(tf.reduce_all(tf.equal(picture, tf.floor(picture))), tf.float32)
        sure = SIGNIFICANT * noise + ROUNDING * whole
        # What is dark is what is bright in the negative.
        above, bright = _reach(picture - middle, high - middle, middle - low, HIGH_PERCENTILE, noise, sure)
        below, dark = _reach(middle - picture, middle - low, above, 100 - LOW_PERCENTILE, noise, sure)
        rounded = tf.where(noise > 0, tf.maximum(noise, ROUNDED_NOISE * whole), noise)
        wanted = NOISE_EXTENT * rounded * tf.maximum(0.0, 1 - (bright + dark) / SPARSE)
        missing = tf.maximum(0.0, wanted - below - above)
        return tf.where(
            dark > bright,
            tf.stack([middle - below - missing, middle + above]),
            tf.stack([middle - below, middle + above + missing]),
        )

    large = tf.reduce_min(tf.shape(picture)) >= LEAST_SIDE
    return tf.cond(large, corrected, lambda: tf.stack([low, high]))


def _within_border(channel: Any) -> Any:
    part, wide = channel, tf.reduce_min(tf.shape(channel)) >= LEAST_SIDE
    for corner in (0, -1):
        different = tf.not_equal(part, part[corner, corner])
        touched = tf.logical_not(tf.reduce_any(different[corner]) & tf.reduce_any(different[:, corner]))
        rows, columns = (_extent(tf.reduce_any(different, axis=axis)) for axis in (1, 0))
        box = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
        size = tf.cast(tf.size(different[box]), tf.float64)
        of_border = size - tf.cast(tf.math.count_nonzero(different[box]), tf.float64)
        large = size >= LEAST_PICTURE * tf.cast(tf.size(channel), tf.float64)
        is_border = wide & touched & large & (of_border <= BORDER_WITHIN * size)
        within = part[box]
        part = tf.cond(is_border, lambda within=within: within, lambda part=part: part)
    return part


def _extent(flags: Any) -> tuple[Any, Any]:
    """Return where the true ones of some flags begin and end: everywhere, if there are none."""
    flags = tf.cast(flags, tf.int32)
    first = tf.argmax(flags, output_type=tf.int32)
    return first, tf.size(flags) - tf.argmax(flags[::-1], output_type=tf.int32)


def _noise(picture: Any) -> Any:
    step = NOISE_STEP
    every = tf.maximum(1, tf.cast(tf.round(tf.size(picture, out_type=tf.int64) / NOISE_SAMPLES), tf.int32))
    last = tf.shape(picture)[0] - 2 * step
    rows = [picture[start : last + start : every] for start in (0, step, 2 * step)]
    difference = rows[0] - 2 * rows[1] + rows[2]
    difference = difference[:, : -2 * step] - 2 * difference[:, step:-step] + difference[:, 2 * step :]
    median, upper = _percentiles_of(tf.abs(difference), (50.0, 75.0))
    return tf.where(median > 0, median / MEDIAN_DEVIATION, upper / UPPER_QUARTILE)


def _reach(distances: Any, reach: Any, other: Any, percentile: float, noise: Any, sure: Any) -> tuple[Any, Any]:
    """Return how far a level is from the median, and the share beyond noise, as `_Side.corrected` does."""
    height, width = tf.shape(distances)[0], tf.shape(distances)[1]

    def is_hot(without: Any) -> Any:
        return reach - without > tf.maximum(HOT_NOISE * noise, HOT_SHARE * (without + other))

    pairs = tf.minimum(distances[:-1], distances[1:])
    squares = tf.minimum(pairs[:, :-1], pairs[:, 1:])
    rows = tf.maximum(squares[:-1:2], squares[1::2])
    squares = tf.reshape(tf.maximum(rows[:, :-1:2], rows[:, 1::2]), (-1,))
    neighbours = [
        distances[row : height - 2 + row : 2, column : width - 2 + column : 2]
        for row in range(3)
        for column in range(3)
        if (row, column) != (1, 1)
    ]
    similar = tf.minimum(distances[1:-1:2, 1:-1:2], tf.reduce_max(tf.stack(neighbours), axis=0))
    similar = _value_at(tf.reshape(similar, (-1,)), percentile)
    hot = is_hot(_value_at(squares, percentile)) & is_hot(similar)
    reach = tf.where(hot, similar, reach)
    significant = tf.boolean_mask(squares, squares > SIGNIFICANT * noise)
    share = tf.cast(tf.size(significant) / tf.size(squares), tf.float32)
    sparse = (share > 0) & (share < SPARSE)
    farther = tf.cond(sparse, lambda: tf.maximum(reach, _value_at(significant, OBJECT_PERCENTILE)), lambda: reach)
    return farther, tf.reduce_mean(tf.cast(squares > sure, tf.float32))


def _value_at(values: Any, percentile: float) -> Any:
    last = tf.cast(tf.size(values) - 1, tf.float64)
    return tf.sort(values)[tf.cast(last * (percentile / 100.0), tf.int32)]
