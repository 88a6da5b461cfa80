"""Test-time augmentation: the eight ways that a square image can lie, and the way back for maps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def flip_rot90(image: NDArray[Any], quarters: int, flip: bool) -> NDArray[Any]:
    """Turn an image (H, W, C) counter-clockwise by quarters, then flip it left to right if asked to."""
    image = np.rot90(image, quarters)
    return np.ascontiguousarray(image[:, ::-1] if flip else image)


def undo_flip_rot90(
    maps: Mapping[str, NDArray[np.float32]], quarters: int, flip: bool, positions: bool
) -> dict[str, NDArray[np.float32]]:
    """Bring the maps of an image that `flip_rot90` turned back to the original's pixels.

    Parameters
    ----------
    maps : mapping of str to (H, W) or (H, W, D) float32
        What the network returned for the turned image.
    quarters : int
        0 to 3, and `flip`, as given to `flip_rot90`.
    flip : bool
    positions : bool
        Whether the first two dimensions of 'embeddings' are a position (row, column), which is turned, too.

    Returns
    -------
    dict of str to float32 array
    """
    height, width = maps["foreground"].shape
    upright = dict(maps)
    if positions:
        rows, columns = maps["embeddings"][..., 0], maps["embeddings"][..., 1]
        if flip:
            columns = width - 1 - columns
        for _ in range(quarters):
            rows, columns = columns, height - 1 - rows
            height, width = width, height
        upright["embeddings"] = np.concatenate([np.stack([rows, columns], -1), maps["embeddings"][..., 2:]], axis=-1)
    return {name: np.rot90(values[:, ::-1] if flip else values, -quarters) for name, values in upright.items()}
