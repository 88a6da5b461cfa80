"""The batches of a training, made beside it by a few threads."""

from typing import Any

import tensorflow as tf

from instseg.data.patches import BatchSource
from instseg.errors import InstsegError
from instseg.models.config import TrainingConfig

_WORKERS = 2
_PREFETCHED = 4


def batch_dataset(
    patches: BatchSource, size: int, config: TrainingConfig, first: int, failures: list[InstsegError]
) -> tf.data.Dataset:
    """Return the batches from number `first` on, in their order.

    Parameters
    ----------
    patches : BatchSource
        Makes them.
    size : int
        Patches in each: of several processes, those of this one.
    config : TrainingConfig
        The settings of the training.
    first : int
        Steps before this one.
    failures : list of InstsegError
        Takes the errors of `patches`, as TensorFlow raises others in their place.

    Returns
    -------
    tf.data.Dataset
        Of tuples of images (size, P, P, C) float32, labels (size, P, P) int32, and, where the model has class names,
        classes (size, P, P) int32. Of volumes there is an axis of D planes before P.
    """
    train, model = config.train, config.model
    planes = () if model.ndim == 2 else (train.patch_depth,)
    shape = (size, *planes, train.patch_size, train.patch_size)

    def make(number: Any) -> tuple[Any, ...]:
        def draw(number: Any) -> tuple[Any, ...]:
            try:
                return tuple(value for value in patches.batch(int(number)) if value is not None)
            except InstsegError as error:
                failures.append(error)
                raise

        kinds = (tf.float32, tf.int32, tf.int32)[: 3 if model.class_names else 2]
        images, *pixelwise = tf.numpy_function(draw, [number], kinds)
        images.set_shape((*shape, model.channels))
        for values in pixelwise:
            values.set_shape(shape)
        return images, *pixelwise

    numbers = tf.data.Dataset.range(first, train.iterations if train.minutes is None else 2**31)
    # AutoGraph has nothing to convert, and keeps its sources as temporary files, which a killed process leaves.
    plain = tf.autograph.experimental.do_not_convert(make)
    # In order, whichever thread is first: the same seed has to give the same training.
    return numbers.map(plain, num_parallel_calls=_WORKERS, deterministic=True).prefetch(_PREFETCHED)
