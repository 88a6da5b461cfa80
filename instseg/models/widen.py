"""Weights of a trained network for one of the same shape with more channels, which begins by doing the same.

Each channel is repeated, and what its copies pass on adds up to what it did (Chen et al. 2016, "Net2Net", 1511.05641,
section 2.1). Copies that passed on the same would stay the same for ever, so that they differ by random weights that
cancel out.
"""

import numpy as np
from numpy.typing import NDArray

from instseg.network.architecture import Weights, is_first_layer, is_output_layer


def widened(name: str, value: Weights, initial: Weights) -> Weights:
    """Return a weight of a network for one of more channels.

    Parameters
    ----------
    name : str
        Of the weight, such as 'encoder0_conv1/kernel'.
    value : (..., I, O) float32, or (O,)
        Of the network: a kernel, or a number for each channel.
    initial : (..., I', O') float32, or (O',)
        The random weights of the other: how copies of a channel differ.

    Returns
    -------
    (..., I', O') float32, or (O',)
        Channels of the image, and those that are the network's output, stay as many as they are.
    """
    if not is_output_layer(name) and value.shape[-1] < initial.shape[-1]:
        value = value[..., _sources(value.shape[-1], initial.shape[-1])]
    if value.ndim == 1 or is_first_layer(name) or value.shape[-2] >= initial.shape[-2]:
        return value
    sources = _sources(value.shape[-2], initial.shape[-2])
    is_copy = (sources[:, None] == sources).astype(np.float32)
    copies = is_copy.sum(axis=1, keepdims=True)
    shared: Weights = value[..., sources, :] / copies
    # Output layers that have to be filled map by map have others than the network at first.
    return shared + initial - is_copy @ initial / copies if shared.shape == initial.shape else shared


def _sources(before: int, after: int) -> NDArray[np.intp]:
    """Return of which channel each is a copy: the same for all layers of a width, as the outputs of some are added."""
    return np.arange(after) % before
