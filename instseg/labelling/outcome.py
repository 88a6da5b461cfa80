"""What a document answers: what an action has changed, and which instances there are."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.labelling.image_state import State
from instseg.tiling.grid import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an action has changed, and how the image is now.

    Attributes
    ----------
    version : int
        Grows with every change, over restarts, too.
    boxes : tuple of Box
        Where labels have changed, or what is known of them.
    selected : int or None
        The instance that the action has made or changed.
    objects, confirmed : int
        Instances, and how many of them are confirmed.
    state : str
        'new', 'partly' or 'accepted'.
    undo, redo : int
        How many steps can be taken back, and done again.
    message : str or None
        What to tell the person, such as why nothing has changed.
    """

    version: int
    boxes: tuple[Box, ...] = ()
    selected: int | None = None
    objects: int
    confirmed: int
    state: State
    undo: int
    redo: int
    message: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as values of JSON."""
        return {**asdict(self), "boxes": [list(box) for box in self.boxes]}


class Objects(NamedTuple):
    """The instances of an image.

    Attributes
    ----------
    ids : (N,) int32
        Ascending.
    confirmed : (N,) bool
    classes : (N,) int32
        0 where an instance has none.
    boxes : (N, 4) int32
        Top, left, bottom, right.
    """

    ids: NDArray[np.int32]
    confirmed: NDArray[np.bool_]
    classes: NDArray[np.int32]
    boxes: NDArray[np.int32]
