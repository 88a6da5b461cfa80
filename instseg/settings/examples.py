"""Settings of generated examples: images of discs, volumes of balls."""

from dataclasses import dataclass

from instseg.errors import check_parameter
from instseg.settings.base import Settings, check_not_negative, check_positive, option


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscSettings(Settings):
    """Settings of generated example images: bright discs on a dark ground."""

    size: int = option(512, "Height and width of an image in pixels.")
    min_discs: int = option(25, "Fewest discs drawn in an image; those that others cover get no label.")
    max_discs: int = option(74, "Most discs drawn in an image.")
    noise: float = option(0.05, "Share of white Gaussian noise, 0 to 1.")

    def __post_init__(self) -> None:
        check_positive(self, "size")
        check_parameter(self.size <= 32_768, "size", self.size, "at most 32768 pixels")
        check_not_negative(self, "min_discs")
        most = "at least `min_discs` and at most 65535, so that labels fit into 16 bits"
        check_parameter(self.min_discs <= self.max_discs <= 65_535, "max_discs", self.max_discs, most)
        check_parameter(0 <= self.noise <= 1, "noise", self.noise, "a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class BallSettings(Settings):
    """Settings of generated example volumes: bright balls on a dark ground.

    Attributes
    ----------
    size : int
        Height and width of a plane in pixels.
    noise : float
        Share of white Gaussian noise, 0 to 1.
    """

    # No options of their own: those of the discs are meant.
    size: int = 256
    noise: float = 0.05
    depth: int = option(128, "With `volume`: number of planes.")
    spacing_z: float = option(2.0, "With `volume`: distance of neighbouring planes, in pixels.")
    min_balls: int = option(40, "With `volume`: fewest balls drawn; those that others cover get no label.")
    max_balls: int = option(80, "With `volume`: most balls drawn.")

    def __post_init__(self) -> None:
        check_positive(self, "size", "depth", "spacing_z")
        check_parameter(self.size <= 4_096, "size", self.size, "at most 4096 pixels for a volume")
        check_parameter(2 <= self.depth <= 4_096, "depth", self.depth, "2 to 4096 planes")
        check_parameter(0.1 <= self.spacing_z <= 10, "spacing_z", self.spacing_z, "0.1 to 10 pixels")
        check_not_negative(self, "min_balls")
        most = "at least `min_balls` and at most 65535, so that labels fit into 16 bits"
        check_parameter(self.min_balls <= self.max_balls <= 65_535, "max_balls", self.max_balls, most)
        check_parameter(0 <= self.noise <= 1, "noise", self.noise, "a share from 0 to 1")
