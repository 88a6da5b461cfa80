"""The network: an encoder-decoder with two heads, and the names of its weights.

A U-Net (Ronneberger et al. 2015, 1505.04597) that works at half the image's
resolution and finer nowhere: a stride-2 stem halves each side and both heads
give four sub-pixels per cell (Shi et al. 2016, 1609.05158), so every pixel has
its own output at a quarter of the cost.

For volumes it is the same network, which sees each plane as an image; between
its levels planes see their neighbours (Qiu et al. 2017, 1711.10305: kernels of
planes and of depth instead of one of both). It halves the planes only at levels
whose cells are no wider than deep by then.
"""

from collections.abc import Mapping

import keras
import numpy as np
from numpy.typing import NDArray

from instseg.network.layers import DEPTH_SUFFIX, OUTPUT_SUFFIX, LayerBuilder
from instseg.network.objective import objective_of
from instseg.network.strides import plane_strides
from instseg.settings import ModelSettings, Precision

Weights = NDArray[np.float32]

HEADS = ("embedding", "semantic")
"""The names of the layers that give the maps of each head, in the order of the raw maps."""

_FIRST = "encoder0_conv1"
# From an eighth of the image's resolution on, levels have one more convolution.
_DEEP = 2


def build_network(settings: ModelSettings, seed: int = 0, precision: Precision = "float32") -> keras.Model:
    """Wire the network.

    Parameters
    ----------
    settings : ModelSettings
        Channels, dimensions, classes, widths.
    seed : int
        Seed of the initial weights, which also depend on the order in which layers are made.
    precision : {'float32', 'bfloat16'}
        What hidden layers compute in. Weights are float32 either way, and so are normalisation's sums and the maps.

    Returns
    -------
    keras.Model
        (B, H, W, channels) or (B, Z, H, W, channels) float32 normalised to about 0..1, the sides multiples of
        `strides(settings)`, to raw maps (B, [Z,] H, W, R) float32 that `decode_outputs` takes apart. Its layers' names
        stay, as stored models know the weights by them; layers of a volume's planes have those of images.
    """
    layers = LayerBuilder(seed, "mixed_bfloat16" if precision == "bfloat16" else "float32")
    volumes, planes = settings.ndim == 3, plane_strides(settings)
    image = keras.Input((*(None,) * settings.ndim, settings.channels), name="image")
    x, skips = image, []
    for level, width in enumerate(settings.widths):
        name = f"encoder{level}_conv1" if level else _FIRST
        x = layers.convolution(x, width, name, kernel=3 if level else 5, strides=2)
        if volumes:
            x = layers.mix_planes(x, f"encoder{level}{DEPTH_SUFFIX}", planes[level])
        x = layers.convolution(x, width, f"encoder{level}_conv2")
        if level >= _DEEP:
            # Here weights cost the least time: a tenth more of it for 0.006 mean AP after as many steps.
            x = layers.add(x, layers.convolution(x, width, f"encoder{level}_conv3"), f"encoder{level}_sum")
        skips.append(x)
    for level, skip in reversed(list(enumerate(skips[:-1]))):
        width = skip.shape[-1]
        x = layers.convolution(x, width, f"decoder{level}_lateral", kernel=1)
        x = layers.upsample(x, f"decoder{level}_upsample", planes[level + 1])
        # Adding instead of concatenating saves a seventh of the step's time for the same quality.
        x = layers.add(x, skip, f"decoder{level}_sum")
        x = layers.convolution(x, width, f"decoder{level}_conv")
        if volumes:
            x = layers.mix_planes(x, f"decoder{level}{DEPTH_SUFFIX}")
    objective = objective_of(settings)
    # Seeds of weights are given out in this order.
    semantic = layers.head(x, len(objective.semantic_maps), HEADS[1], planes[0])
    embedding = layers.head(x, len(objective.embedding_maps), HEADS[0], planes[0])
    return keras.Model(image, keras.layers.Concatenate(name="maps")([embedding, semantic]), name="instseg")


def heads_of(network: keras.Model) -> keras.Model:
    """Return a network of the same layers that returns the maps of the embedding and of the semantic head apart."""
    return keras.Model(network.input, [network.get_layer(name).output for name in HEADS], name="heads")


def named_variables(network: keras.Model) -> dict[str, keras.Variable]:
    """Return the variables of a network by their names, such as 'encoder0_conv1/kernel'.

    The names, not the order, are what stored models and checkpoints go by.
    """
    return {f"{layer.name}/{variable.name}": variable for layer in network.layers for variable in layer.variables}


def set_named_weights(network: keras.Model, weights: Mapping[str, Weights]) -> None:
    """Set the weights of a network by their names, all of them.

    Raises
    ------
    KeyError
        If one is missing.
    """
    for name, variable in named_variables(network).items():
        variable.assign(weights[name])


def is_first_layer(name: str) -> bool:
    """Return whether a weight of a name belongs to the layer that sees the image."""
    return name.partition("/")[0] == _FIRST


def is_output_layer(name: str) -> bool:
    """Return whether a weight of a name belongs to a layer whose output is the network's."""
    return name.partition("/")[0].endswith(OUTPUT_SUFFIX)
