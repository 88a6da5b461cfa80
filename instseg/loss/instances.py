"""From pixels to instances and back: numbers for the labels, sums per instance, values spread over the members.

No step loops over instances or images. Instances are numbered per image and
padded to the most instances K that an image of the batch has, so that sums are
one dense array (B, K, D).
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# Labels below this need no search: a table of this size per image tells which are present.
_TABLE_LABELS = 2**16
# An instance's pixels are summed in this many parts: adding up a quarter of a million float32 one by one
# is wrong by up to 1 in 400, in parts by 1 in 10,000.
_PARTS = 32


class Instances(NamedTuple):
    """Which pixel belongs to which instance, in the forms that the sums need.

    Attributes
    ----------
    shape : (3,) int32
        B, N and K: images, pixels per image, and the most instances of an image.
    rows : (B*N,) int32
        For each pixel the row of its instance in an array (B*K, D).
    members : (parts*B*K, B*N) int64 and ()
        Sparse: the two coordinates of the ones, and the shape. A product with it adds up members, in parts.
    """

    shape: tf.Tensor
    rows: tf.Tensor
    members: tuple[tf.Tensor, tf.Tensor]


def find_instances(labels: tf.Tensor) -> Instances:
    """Find the instances of each image: the labels that are present.

    Parameters
    ----------
    labels : (B, N) int32 or int64
        Labels of the N pixels of each image; any integers. 0 is a label like any other.

    Returns
    -------
    Instances
        Numbered per image without gaps, in no particular order.

    Examples
    --------
    >>> instances = find_instances(tf.constant([[0, 7, 0, 2**40], [3, 3, 3, 3]], tf.int64))
    >>> instances.shape.numpy().tolist(), instances.rows.numpy().tolist()
    ([2, 4, 3], [0, 1, 0, 2, 3, 3, 3, 3])
    """
    images = tf.shape(labels)[0]
    flat = tf.reshape(labels, [-1])
    small = (tf.reduce_min(flat) >= 0) & (tf.reduce_max(flat) < _TABLE_LABELS)
    flat = tf.cond(small, lambda: tf.cast(flat, tf.int32), lambda: tf.unique(flat).idx)

    columns = tf.maximum(tf.reduce_max(flat), -1) + 1
    cells = tf.reshape(tf.reshape(flat, tf.shape(labels)) + tf.range(images)[:, tf.newaxis] * columns, [-1])
    table = tf.math.bincount(cells, minlength=images * columns, maxlength=images * columns)
    present = tf.cast(tf.reshape(table, [images, columns]) > 0, tf.int32)
    most = tf.maximum(tf.reduce_max(tf.reduce_sum(present, axis=1)), 0)
    row_of_cell = tf.cumsum(present, axis=1, exclusive=True) + tf.range(images)[:, tf.newaxis] * most
    rows = tf.gather(tf.reshape(row_of_cell, [-1]), cells)
    return Instances(tf.stack([images, tf.shape(labels)[1], most]), rows, _members(rows, tf.shape(labels), most))


def _members(rows: tf.Tensor, shape: tf.Tensor, most: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    images, count, most = (tf.cast(size, tf.int64) for size in (shape[0], shape[1], most))
    part = tf.range(count) // tf.maximum((count + _PARTS - 1) // _PARTS, 1)
    part_rows = tf.reshape(tf.cast(rows, tf.int64), [images, count]) + part * (images * most)
    coordinates = tf.stack([tf.reshape(part_rows, [-1]), tf.range(images * count)], axis=1)
    return coordinates, tf.stack([_PARTS * images * most, images * count])


def instance_sizes(instances: Instances, counted: tf.Tensor | None = None) -> tf.Tensor:
    """Count the pixels of each instance.

    Parameters
    ----------
    instances : Instances
        K at most an image.
    counted : (B, N) bool or None
        Pixels that count; None: all.

    Returns
    -------
    (B, K) int32
        0 for padding, and for instances without a counted pixel.

    Examples
    --------
    >>> instance_sizes(find_instances(tf.constant([[1, 0, 1], [5, 5, 5]]))).numpy().tolist()
    [[1, 2], [3, 0]]
    """
    images, _, most = tf.unstack(instances.shape)
    rows = instances.rows if counted is None else tf.boolean_mask(instances.rows, tf.reshape(counted, [-1]))
    sizes = tf.math.bincount(rows, minlength=images * most, maxlength=images * most)
    return tf.reshape(sizes, [images, most])


def instance_sums(values: tf.Tensor, instances: Instances) -> tf.Tensor:
    """Add up the values of each instance's pixels.

    Parameters
    ----------
    values : (B, N, D) float
        Values of each pixel.
    instances : Instances
        K at most an image.

    Returns
    -------
    (B, K, D) float
        0 for padding.

    Examples
    --------
    >>> instances = find_instances(tf.constant([[1, 0, 1], [5, 5, 5]]))
    >>> instance_sums(tf.constant([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]]), instances).numpy().tolist()
    [[[2.0], [4.0]], [[15.0], [0.0]]]
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
    def sums(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return _sums(values, instances), lambda upstream: _spread(upstream, instances)

    return sums(values)


def spread_to_pixels(values: tf.Tensor, instances: Instances) -> tf.Tensor:
    """Give each pixel the values of its instance.

    Parameters
    ----------
    values : (B, K, D) float
        Values of each instance.
    instances : Instances
        K at most an image.

    Returns
    -------
    (B, N, D) float

    Examples
    --------
    >>> spread_to_pixels(tf.constant([[[2.0], [4.0]]]), find_instances(tf.constant([[1, 0, 1]]))).numpy().tolist()
    [[[4.0], [2.0], [4.0]]]
    """

    # The gradient of `tf.gather` is sparse, and twice as slow to add up.
    @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
    def spread(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return _spread(values, instances), lambda upstream: _sums(upstream, instances)

    return spread(values)


def _spread(values: tf.Tensor, instances: Instances) -> tf.Tensor:
    images, count, _ = tf.unstack(instances.shape)
    depth = values.shape[-1] or tf.shape(values)[-1]
    return tf.reshape(tf.gather(tf.reshape(values, [-1, depth]), instances.rows), [images, count, depth])


def _sums(values: tf.Tensor, instances: Instances) -> tf.Tensor:
    images, _, most = tf.unstack(instances.shape)
    depth = values.shape[-1] or tf.shape(values)[-1]
    coordinates, shape = instances.members
    # On a CPU 2.5 times as fast as `tf.math.unsorted_segment_sum`.
    members = tf.SparseTensor(coordinates, tf.ones(tf.shape(coordinates)[:1], values.dtype), shape)
    sums = tf.sparse.sparse_dense_matmul(members, tf.reshape(values, [-1, depth]))
    return tf.reduce_sum(tf.reshape(sums, [_PARTS, images, most, depth]), axis=0)
