"""The adapter between `MetricLoss` and `model.compile`."""

from typing import Any, Self

import keras
import tensorflow as tf

from instseg.loss.metric import MetricLoss


@keras.saving.register_keras_serializable(package="instseg")
class KerasMetricLoss(keras.losses.Loss):  # type: ignore[misc, unused-ignore]
    """`MetricLoss` in the form that `model.compile(loss=...)` takes.

    It exchanges the arguments, as Keras calls a loss with `(y_true, y_pred)`, and it keeps the labels integers: for any
    other loss, function or `Loss.call`, Keras casts the labels to float32, where 2^24 and 2^24 + 1 are equal.

    On a GPU compile the model with `jit_compile=False`: the number of instances differs from batch to batch, and XLA
    does not accept arrays of varying size.

    Parameters
    ----------
    loss : MetricLoss or None
        The loss with its options; None stands for the default options.
    reduction : str or None
        How the losses of the images are reduced to one number, as in `keras.losses.Loss`.
    name : str or None
        Name of the loss; None stands for one that Keras makes.

    Examples
    --------
    >>> loss = KerasMetricLoss(MetricLoss(pull_margin=0.5))
    >>> embeddings = tf.constant([[[[0.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]]])
    >>> round(float(loss(tf.constant([[[0, 0], [2, 2]]]), embeddings)), 5)
    0.25005
    """

    def __init__(
        self, loss: MetricLoss | None = None, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.loss = MetricLoss() if loss is None else loss

    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
        """Return the loss of a batch, reduced.

        Parameters
        ----------
        y_true : (B, H, W) or (B, H, W, 1) integer
            Labels, 0 or above; 0 is background.
        y_pred : (B, H, W, D) float
            Embeddings.
        sample_weight : (B,) float or None
            Weight of each image.

        Returns
        -------
        () float
            One loss for each image, (B,), without a reduction.
        """
        # Keras casts the arguments of `call`: losses may be cast, and labels may not.
        losses = self.loss.terms(y_pred, y_true).total
        return super().__call__(losses, losses, sample_weight)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the losses of the images (B,), which `__call__` computed."""
        return y_pred

    def get_config(self) -> dict[str, Any]:
        """Return the options as plain data, for Keras to save."""
        return {**super().get_config(), "loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the loss from the options that Keras saved."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
