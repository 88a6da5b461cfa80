"""How images are segmented: what a caller chooses, beside the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from instseg.errors import check_parameter
from instseg.preprocessing.level_choice import LevelChoice
from instseg.settings import ClusterSettings, FilterSettings, TileSettings

Diameter = float | Literal["auto"] | None
"""Typical diameter of an image's objects in pixels; 'auto' estimates it, None means that of the training."""

PlanesFrom = Literal["z", "zyx"]
"""Along which axes of a volume planes are cut for a network of images."""

PercentileRange = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The values (C,) that normalisation maps to 0 and to 1."""

ProgressCallback = Callable[[int, int, str], None]
"""Takes how many of how many steps are done, and a detail to show."""


def no_progress(done: int, total: int, detail: str = "") -> None:
    """Show nothing."""


def check_planes_from(planes_from: object) -> None:
    """Check the choice of planes, which Python code may have any value for.

    Raises
    ------
    UsageError
        If it is none.
    """
    check_parameter(planes_from in (None, *get_args(PlanesFrom)), "planes_from", planes_from, "z or zyx")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How images are segmented.

    Attributes
    ----------
    tta : bool
        Whether to average over the image's flips and quarter turns.
    diameter : float, 'auto' or None
        Typical diameter of the objects in pixels, where it is not as in training.
    channels : str or None
        The image's channels to take, as `instseg.preprocessing.channels.parse_channels` reads it.
    level_choice : LevelChoice
        The values that become 0 and 1, where they are not to be found by the model's rule, and which pixels count.
    clustering : ClusterSettings or None
        By default the model's, for objects of the image's size.
    overrides : mapping of str to value
        Clustering settings that replace some of these.
    filters : FilterSettings
        Which instances are left out.
    tiles : TileSettings
        How large a part the network sees at once.
    measure : bool
        Whether to measure the instances.
    return_embeddings : bool
        Whether to keep the embeddings and maps of the whole image.
    workspace : Path or None
        Folder for the labels of streamed images until they are complete; None keeps all in memory.
    planes_from : {'z', 'zyx'} or None
        Of volumes, whether a network of images sees planes along z alone, whose instances are joined, or along all
        three axes; None chooses by the spacing.
    """

    tta: bool = False
    diameter: Diameter = None
    channels: str | None = None
    level_choice: LevelChoice = field(default_factory=LevelChoice)
    clustering: ClusterSettings | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    filters: FilterSettings = field(default_factory=FilterSettings)
    tiles: TileSettings = field(default_factory=TileSettings)
    measure: bool = False
    return_embeddings: bool = False
    workspace: Path | None = None
    planes_from: PlanesFrom | None = None
