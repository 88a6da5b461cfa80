"""Settings of prediction: tiles, the clustering, and which instances are left out."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from instseg.errors import check_parameter
from instseg.settings.base import DistanceName, Settings, check_choice, check_not_negative, check_positive, option

ClusterMethod = Literal["fast", "hdbscan"]
NoiseRule = Literal["nearest", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSettings(Settings):
    """Settings of the overlapping tiles that large images are cut into; a smaller image is one tile."""

    tile: int | None = option(
        None, "Largest height and width of what is looked at at once, in pixels. By default what `memory` allows."
    )
    overlap: int | None = option(
        None, "Pixels that a tile sees beyond what it decides. By default what the network and the objects need."
    )
    memory: float = option(1.5, "Memory to take, in GiB, about, images and labels of up to 100 megapixels included.")
    skip_background: bool = option(
        True, "The network is not shown what looks like places of an image in which it has found nothing."
    )

    def __post_init__(self) -> None:
        if self.tile is not None:
            check_parameter(0 < self.tile < 2**20, "tile", self.tile, "a number of pixels above 0")
        if self.overlap is not None:
            check_parameter(0 <= self.overlap < 2**20, "overlap", self.overlap, "a number of pixels from 0 on")
        check_positive(self, "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings(Settings):
    """Settings of the clustering, which turns embeddings into labels."""

    method: ClusterMethod = option("fast", "fast: modes of the embeddings; hdbscan: density clustering of all pixels.")
    foreground_threshold: float = option(0.5, "Pixels of at least this foreground probability are clustered, 0 to 1.")
    bandwidth: float | None = option(
        None, "Reach of an instance in embedding space. By default that of the file, else measured. Fast only."
    )
    seed_threshold: float = option(0.5, "An instance starts at a pixel of at least this seed value, 0 to 1. Fast only.")
    seed_window: int = option(
        1, "Seed values are averaged over a square of this side, so that single pixels start nothing. Fast only."
    )
    membership_threshold: float = option(0.2, "Pixels of less membership in any instance are noise, 0 to 1. Fast only.")
    min_size: int = option(10, "Smallest instance in pixels.")
    metric: DistanceName = option("manhattan", "Distance between embeddings. HDBSCAN only.")
    min_cluster_size: int = option(20, "Fewest pixels of a cluster. HDBSCAN only.")
    min_samples: int = option(5, "Neighbours that make a pixel dense. HDBSCAN only.")
    position_weight: float = option(0.0, "Pixel coordinates times this are appended to the embeddings.")
    noise: NoiseRule = option("nearest", "Pixels of no instance go to the nearest that touches, or are dropped.")
    fill_holes: bool = option(False, "Background that one instance surrounds becomes part of it.")

    def __post_init__(self) -> None:
        check_choice(self, "method", ("fast", "hdbscan"))
        check_choice(self, "metric", ("manhattan", "euclidean"))
        check_choice(self, "noise", ("nearest", "drop"))
        for name in ("foreground_threshold", "seed_threshold", "membership_threshold"):
            value = getattr(self, name)
            check_parameter(0 < value < 1, name, value, "above 0 and below 1")
        if self.bandwidth is not None:
            check_positive(self, "bandwidth")
            check_parameter(1e-6 <= self.bandwidth <= 1e6, "bandwidth", self.bandwidth, "0.000001 to 1000000")
        check_positive(self, "min_size", "min_samples")
        check_parameter(1 <= self.seed_window <= 1001, "seed_window", self.seed_window, "1 to 1001 pixels")
        check_parameter(self.min_cluster_size >= 2, "min_cluster_size", self.min_cluster_size, "at least 2 pixels")
        check_not_negative(self, "position_weight")
        check_parameter(self.position_weight <= 1e6, "position_weight", self.position_weight, "at most 1000000")

    def rescaled(self, magnification: float, ndim: int = 2) -> "ClusterSettings":
        """Return the settings for objects so many times as large in pixels along each of `ndim` axes."""
        # An odd number stays odd, as the window is centred on a pixel.
        window = 2 * round((self.seed_window * magnification - 1) / 2) + 1
        return dataclasses.replace(
            self,
            seed_window=min(max(1, window), 1001),
            min_size=max(1, round(self.min_size * magnification**ndim)),
            position_weight=self.position_weight / magnification,
        )

    def for_volume(self, spacing: Sequence[float]) -> "ClusterSettings":
        """Return the settings for volumes, from those for images: discs of so many pixels become balls of voxels.

        Parameters
        ----------
        spacing : sequence of float
            How far planes, rows and columns lie apart, in columns.

        Examples
        --------
        >>> ClusterSettings(min_size=79).for_volume((2.0, 1.0, 1.0)).min_size
        264
        """

        def ball(disc: int) -> int:
            return max(1, round(4 / 3 * math.pi * math.pow(disc / math.pi, 1.5) / math.prod(spacing)))

        return dataclasses.replace(
            self, min_size=ball(self.min_size), min_cluster_size=max(2, ball(self.min_cluster_size))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSettings(Settings):
    """Which instances are left out of the labels once they are known; their pixels become background.

    Unlike `ClusterSettings.min_size`, below which pieces are given to a neighbour or were never an object, filters
    change no other instance, and a whole instance counts, whatever tiles it was found in.
    """

    max_size: int | None = option(None, "Instances of more pixels are left out.")
    exclude_border: bool = option(False, "Instances that touch the border of the image are left out.")
    min_score: float | None = option(
        None, "Instances of a lower score are left out, 0 to 1; by default what the model says."
    )

    def __post_init__(self) -> None:
        if self.max_size is not None:
            check_positive(self, "max_size")
        if self.min_score is not None:
            check_parameter(0 <= self.min_score <= 1, "min_score", self.min_score, "a score from 0 to 1")

    @property
    def active(self) -> bool:
        """Whether any instance may be left out."""
        return self.max_size is not None or self.exclude_border or bool(self.min_score)
