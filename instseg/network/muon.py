"""Muon: steps for the kernels of hidden layers that weigh all their directions alike.

The momentum of a kernel, read as a matrix, is replaced by the nearest
semi-orthogonal one (Jordan et al. 2024, "Muon: An optimizer for hidden layers
in neural networks"), with the step's length that suits AdamW's learning rates
(Liu et al. 2025, 2502.16982, eq. 4). Keras has it for dense layers only.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# The quintic of Jordan et al.: singular values from 0.01 to 1 end near 1 after four rounds, and those of the momentum
# of a kernel of 192 outputs are 0.07 in the root mean square. A fifth round costs 2 % of a step.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 4
_MATCH_ADAM = 0.2


class Muon:
    """The optimiser.

    Parameters
    ----------
    kernels : sequence of tf.Variable
        Of two dimensions and more; the last is the layer's output.
    weight_decay : float
        Each step shrinks the kernels by this times the learning rate (decoupled, as in AdamW).
    momentum : float
        Share of the momentum that stays, 0..1 (Nesterov's).

    Attributes
    ----------
    momenta : list of tf.Variable
        One for each kernel: all that going on needs.
    """

    def __init__(self, kernels: Sequence[tf.Variable], weight_decay: float = 0.0, momentum: float = 0.95) -> None:
        self._kernels = list(kernels)
        self._weight_decay = weight_decay
        self._momentum = momentum
        self.momenta = [tf.Variable(tf.zeros(kernel.shape), trainable=False) for kernel in self._kernels]

    def apply(self, gradients: Sequence[Any], learning_rate: Any) -> None:
        """Change the kernels: the root mean square of the entries of each step is 0.2 times the learning rate.

        Costs O(m n^2) for a kernel of m x n, whatever the batch.
        """
        for kernel, momentum, gradient in zip(self._kernels, self.momenta, gradients, strict=True):
            ahead = gradient + self._momentum * momentum.assign(self._momentum * momentum + gradient)
            matrix = tf.reshape(ahead, (-1, ahead.shape[-1]))
            step = newton_schulz(matrix, learning_rate * _MATCH_ADAM * max(matrix.shape) ** 0.5)
            kernel.assign((1.0 - learning_rate * self._weight_decay) * kernel - tf.reshape(step, kernel.shape))


def newton_schulz(matrix: Any, length: Any = 1.0) -> Any:
    """Return nearly the semi-orthogonal matrix nearest to `matrix`: its singular values all become about `length`.

    The rounds of Newton and Schulz change the singular values only, so that they can be done on the small Gram matrix
    and cost n^3 rather than m n^2 each; two products with the matrix itself remain.

    Parameters
    ----------
    matrix : (m, n) float32
    length : float or () float32

    Returns
    -------
    (m, n) float32
        Singular values within about 0.7..1.2 lengths; directions of less than 1 % of the matrix's norm stay shorter.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return tf.transpose(newton_schulz(tf.transpose(matrix), length))
    gram = tf.matmul(matrix, matrix, transpose_a=True)
    # The squared Frobenius norm: of the small matrices only is anything more than once in memory.
    norm = tf.linalg.trace(gram) + 1e-14
    gram /= norm
    identity = tf.eye(matrix.shape[1], dtype=matrix.dtype)
    change = None
    for _ in range(_ROUNDS):
        step = _A * identity + _B * gram + _C * tf.matmul(gram, gram)
        change = step if change is None else tf.matmul(change, step)
        gram = tf.matmul(step, tf.matmul(gram, step))
    return tf.matmul(matrix, length * tf.math.rsqrt(norm) * change)
