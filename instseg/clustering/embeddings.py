"""What the network returns for an image: embeddings, foreground, and further maps that clustering uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.errors import InstsegError
from instseg.settings import ClusterSettings

# Squares of larger values overflow float32, and those of smaller ones vanish.
_LARGEST = 1e15
# So many values are looked at at once.
_PART = 2**16
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
        extremes = {}
        for name in MAP_NAMES:
            if (values := getattr(self, name)) is not None:
                array, extremes[name] = _finite(name, values)
                object.__setattr__(self, name, array)
        self._check_shapes()
        self._check_class_names()
        _check_extremes(extremes)
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

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return all maps that are not None by name, the embeddings included."""
        return {name: array for name in MAP_NAMES if (array := getattr(self, name)) is not None}


def _checked_spacing(values: Sequence[float], axes: int) -> tuple[float, ...]:
    """Return a spacing as a tuple; it has a number above 0 for each axis."""
    spacing = tuple(float(value) for value in values)
    if len(spacing) != axes or not all(1 / _LARGEST <= value <= _LARGEST for value in spacing):
        raise InstsegError(f"'spacing' is {spacing}, expected {axes} numbers above 0, one for each axis")
    return spacing


def _finite(name: str, values: ArrayLike) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Return values as an array of float32, and the smallest and the largest, which are finite."""
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind != "f":
        raise InstsegError(f"'{name}' is {array.dtype}, expected floats; convert it with .astype('float32')")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    if not array.size:
        return array, (0.0, 0.0)
    flat = array.reshape(-1)
    # Each part is in the processor's cache when its largest value is looked for. Extremes are NaN or infinite if any
    # value is, and take no second array of this shape.
    parts = [flat[start : start + _PART] for start in range(0, flat.size, _PART)]
    pairs = np.array([(part.min(), part.max()) for part in parts])
    least, most = float(pairs.min()), float(pairs.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise InstsegError(f"'{name}' holds NaN or infinite values, expected finite floats")
    return array, (least, most)


def _check_extremes(extremes: Mapping[str, tuple[float, float]]) -> None:
    """Check the smallest and the largest value of each map."""
    for name in ("foreground", "seeds", "classes"):
        least, most = extremes.get(name, (0.0, 0.0))
        if not (least >= 0 and most <= 1):
            raise InstsegError(f"'{name}' goes from {least:g} to {most:g}, expected 0 to 1")
    least, most = extremes.get("bandwidth", (1.0, 1.0))
    if not least > 0:
        raise InstsegError(f"'bandwidth' goes down to {least:g}, expected values above 0")
    if (extreme := max(map(abs, extremes["embeddings"]))) > _LARGEST:
        raise InstsegError(f"'embeddings' goes up to {extreme:g}, expected at most {_LARGEST:g}; scale them down")
    if least < 1 / _LARGEST or most > _LARGEST:
        raise InstsegError(f"'bandwidth' goes from {least:g} to {most:g}, expected 1e-15 to 1e15; scale it")
