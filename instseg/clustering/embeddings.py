"""What the network returns for an image: embeddings, foreground, and further maps that clustering uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.errors import InstsegError
from instseg.settings import ClusterSettings

# Squares of larger values overflow float32, and those of smaller ones vanish.
_LARGEST = 1e15
MAP_NAMES = ("embeddings", "foreground", "seeds", "bandwidth", "classes")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What the network returns for an image or a volume, which is all that clustering needs.

    Maps of an image are of shape (H, W), rows before columns; those of a volume are of shape (Z, Y, X), planes before
    rows before columns, and their pixels are voxels. The arrays are checked when the object is built. Floats of any
    size are accepted, and stored as float32.

    Attributes
    ----------
    embeddings : (H, W, D) or (Z, Y, X, D) float32
        A vector for each pixel, of finite values up to 1e15.
    foreground : (H, W) or (Z, Y, X) float32
        Probability that a pixel belongs to an object, 0..1.
    seeds : (H, W) or (Z, Y, X) float32 or None
        How well a pixel represents its object, 0..1; high at the centre.
    bandwidth : (H, W) or (Z, Y, X) float32 or None
        Distance in embedding space at which the membership in the object of a pixel is one half, 1e-15..1e15.
    settings : ClusterSettings or None
        Those that the model was tuned to.
    classes : (H, W, K) or (Z, Y, X, K) float32 or None
        Probability of each class, given that a pixel belongs to an object, 0..1.
    class_names : tuple of str
        K names; by default '1', '2' ... 'K', and none without `classes`.
    calibration : ScoreCalibration or None
        What the scores of instances mean.
    spacing : tuple of float or None
        How far pixels lie apart along each axis, in columns: (2.0, 1.0, 1.0) where planes are twice as far apart as
        columns. None stands for 1 along each axis.

    Raises
    ------
    InstsegError
        If an array has another shape, type or range.

    Examples
    --------
    >>> maps = Embeddings(embeddings=np.zeros((2, 3, 8)), foreground=np.ones((2, 3)))
    >>> maps.embeddings.shape, maps.embeddings.dtype
    ((2, 3, 8), dtype('float32'))
    """

    embeddings: NDArray[np.float32]
    foreground: NDArray[np.float32]
    seeds: NDArray[np.float32] | None = None
    bandwidth: NDArray[np.float32] | None = None
    settings: ClusterSettings | None = None
    classes: NDArray[np.float32] | None = None
    class_names: tuple[str, ...] = ()
    calibration: ScoreCalibration | None = None
    spacing: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in MAP_NAMES:
            if (array := getattr(self, name)) is not None:
                object.__setattr__(self, name, _finite(name, array))
        self._check_shapes()
        self._check_class_names()
        self._check_values()
        if self.spacing is not None:
            object.__setattr__(self, "spacing", _checked_spacing(self.spacing, self.ndim))

    @property
    def ndim(self) -> int:
        """Number of axes: 2 of an image, 3 of a volume."""
        return self.foreground.ndim

    @property
    def steps(self) -> tuple[float, ...]:
        """The spacing along each axis, 1 where nothing is known."""
        return self.spacing or (1.0,) * self.ndim

    def _check_shapes(self) -> None:
        if self.embeddings.ndim not in (3, 4) or 0 in self.embeddings.shape:
            raise InstsegError(
                f"'embeddings' is of shape {self.embeddings.shape}, "
                "expected (height, width, dimensions), or (planes, height, width, dimensions) of a volume"
            )
        expected = self.embeddings.shape[:-1]
        for name in ("foreground", "seeds", "bandwidth"):
            array = getattr(self, name)
            if array is not None and array.shape != expected:
                raise InstsegError(f"'{name}' is of shape {array.shape}, expected {expected} as 'embeddings' has")
        if self.classes is not None and (
            self.classes.ndim != self.embeddings.ndim or self.classes.shape[:-1] != expected
        ):
            axes = ", ".join(map(str, expected))
            raise InstsegError(f"'classes' is of shape {self.classes.shape}, expected ({axes}, classes)")

    def _check_class_names(self) -> None:
        count = 0 if self.classes is None else self.classes.shape[-1]
        if count and not self.class_names:
            object.__setattr__(self, "class_names", tuple(str(number) for number in range(1, count + 1)))
        if len(self.class_names) != count:
            raise InstsegError(
                f"'class_names' holds {len(self.class_names)} names, expected {count}, one for each class"
            )

    def _check_values(self) -> None:
        for name in ("foreground", "seeds", "classes"):
            array = getattr(self, name)
            if array is not None and not (array.min() >= 0 and array.max() <= 1):
                raise InstsegError(f"'{name}' goes from {array.min():g} to {array.max():g}, expected 0 to 1")
        if self.bandwidth is not None and not self.bandwidth.min() > 0:
            raise InstsegError(f"'bandwidth' goes down to {self.bandwidth.min():g}, expected values above 0")
        if (extreme := max(float(self.embeddings.max()), -float(self.embeddings.min()))) > _LARGEST:
            raise InstsegError(f"'embeddings' goes up to {extreme:g}, expected at most {_LARGEST:g}; scale them down")
        if self.bandwidth is not None:
            least, most = float(self.bandwidth.min()), float(self.bandwidth.max())
            if least < 1 / _LARGEST or most > _LARGEST:
                raise InstsegError(f"'bandwidth' goes from {least:g} to {most:g}, expected 1e-15 to 1e15; scale it")

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return all maps that are not None by name, the embeddings included."""
        return {name: array for name in MAP_NAMES if (array := getattr(self, name)) is not None}


def _checked_spacing(values: Sequence[float], axes: int) -> tuple[float, ...]:
    """Return a spacing as a tuple; it has a number above 0 for each axis."""
    spacing = tuple(float(value) for value in values)
    if len(spacing) != axes or not all(1 / _LARGEST <= value <= _LARGEST for value in spacing):
        raise InstsegError(f"'spacing' is {spacing}, expected {axes} numbers above 0, one for each axis")
    return spacing


def _finite(name: str, values: ArrayLike) -> NDArray[np.float32]:
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind != "f":
        raise InstsegError(f"'{name}' is {array.dtype}, expected floats; convert it with .astype('float32')")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    # The extremes are NaN or infinite if any value is, and take no second array of this shape.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise InstsegError(f"'{name}' holds NaN or infinite values, expected finite floats")
    return array
