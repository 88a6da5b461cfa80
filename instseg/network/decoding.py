"""How the network's raw output is read: two heads, whose maps get their units from the objective."""

from typing import Any, NamedTuple

import tensorflow as tf

from instseg.network.objective import objective_of, pixel_coordinates
from instseg.settings import ModelSettings


class Outputs(NamedTuple):
    """The network's maps over a batch of images; of volumes (B, Z, H, W) instead of (B, H, W).

    Attributes
    ----------
    embeddings : (B, H, W, D) float32
        With the overlap loss: in pixels; the first two dimensions are the
        position (row, column) that the pixel points to, and of volumes the first three (plane, row, column), in the
        unit of an X pixel. With the metric loss: free.
    class_logits : (B, H, W, classes) float32
        Before the softmax; class 0 is background.
    seed_logits : (B, H, W) float32 or None
        Before the sigmoid: how well the pixel's embedding represents its instance.
    bandwidth : (B, H, W) float32 or None
        Distance in pixels, in embedding space, at which membership is one half.
    """

    embeddings: Any
    class_logits: Any
    seed_logits: Any
    bandwidth: Any


def decode_outputs(raw: Any, settings: ModelSettings, diameter: Any | None = None) -> Outputs:
    """Take the network's raw maps apart and give them their units.

    Parameters
    ----------
    raw : (B, H, W, R) or (B, Z, H, W, R) float32
        What the network returned.
    settings : ModelSettings
        Those that the network was built with.
    diameter : float or () float32, optional
        Diameter in the maps' pixels of an object of the typical size, by default the settings'.

    Returns
    -------
    Outputs
        Positions are relative to the upper left pixel of the batch's images.
    """
    return decode_heads(*split_heads(raw, settings), settings, diameter)


def decode_heads(maps: Any, class_logits: Any, settings: ModelSettings, diameter: Any | None = None) -> Outputs:
    """Give the maps of the heads their units, as `decode_outputs`, where they were never one array.

    Putting them together and taking them apart again takes a twenty-fifth of the time of the small network.

    Parameters
    ----------
    maps : (B, H, W, R - classes) or (B, Z, H, W, R - classes) float32
        Of the embedding head.
    class_logits : (B, H, W, classes) or (B, Z, H, W, classes) float32
        Of the semantic head.
    settings, diameter
        As `decode_outputs` takes them.
    """
    coordinates = pixel_coordinates(tf.shape(maps)[1:-1], settings.spacing)
    diameter = settings.diameter if diameter is None else diameter
    return Outputs(**objective_of(settings).decode(maps, coordinates, diameter), class_logits=class_logits)


def split_heads(raw: Any, settings: ModelSettings) -> tuple[Any, Any]:
    """Part raw maps (B, H, W, R) into those of the embedding head (B, H, W, R - classes) and the class logits."""
    # A split has one gradient; slices would have one each, all as large as the whole.
    maps, class_logits = tf.split(raw, [raw.shape[-1] - settings.classes, settings.classes], axis=-1)
    return maps, class_logits
