"""What the network returns for an image: embeddings, foreground, and further maps that clustering uses."""

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
    """What the network returns for an image of H rows and W columns, which is all that clustering needs.

    The arrays are checked when the object is built. Floats of any size are accepted, and stored as float32.

    Attributes
    ----------
    embeddings : (H, W, D) float32
        A vector for each pixel, of finite values up to 1e15.
    foreground : (H, W) float32
        Probability that a pixel belongs to an object, 0..1.
    seeds : (H, W) float32 or None
        How well a pixel represents its object, 0..1; high at the centre.
    bandwidth : (H, W) float32 or None
        Distance in embedding space at which the membership in the object of a pixel is one half, 1e-15..1e15.
    settings : ClusterSettings or None
        Those that the model was tuned to.
    classes : (H, W, K) float32 or None
        Probability of each class, given that a pixel belongs to an object, 0..1.
    class_names : tuple of str
        K names; by default '1', '2' ... 'K', and none without `classes`.
    calibration : ScoreCalibration or None
        What the scores of instances mean.

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

    def __post_init__(self) -> None:
        for name in MAP_NAMES:
            if (array := getattr(self, name)) is not None:
                object.__setattr__(self, name, _finite(name, array))
        if self.embeddings.ndim != 3 or 0 in self.embeddings.shape:
            raise InstsegError(
                f"'embeddings' is of shape {self.embeddings.shape}, expected (height, width, dimensions)"
            )
        height, width = self.embeddings.shape[:2]
        for name in ("foreground", "seeds", "bandwidth"):
            array = getattr(self, name)
            if array is not None and array.shape != (height, width):
                expected = (height, width)
                raise InstsegError(f"'{name}' is of shape {array.shape}, expected {expected} as 'embeddings' has")
        if self.classes is not None and (self.classes.ndim != 3 or self.classes.shape[:2] != (height, width)):
            raise InstsegError(f"'classes' is of shape {self.classes.shape}, expected ({height}, {width}, classes)")
        count = 0 if self.classes is None else self.classes.shape[2]
        if count and not self.class_names:
            object.__setattr__(self, "class_names", tuple(str(number) for number in range(1, count + 1)))
        if len(self.class_names) != count:
            raise InstsegError(
                f"'class_names' holds {len(self.class_names)} names, expected {count}, one for each class"
            )
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
