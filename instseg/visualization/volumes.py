"""Volumes as pictures: their maximum along z, and three orthogonal sections, with the outlines of the instances."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.visualization.colours import Picture
from instseg.visualization.pictures import hstack, outlined, to_rgb8, vstack

# Share of white in the lines that show where the other sections are.
_LINE = 0.3


class VolumePicture:
    """Takes a volume slab after slab, and draws what it shows; memory is that of the slab and of a few planes.

    Parameters
    ----------
    shape : (int, int, int)
        Planes, rows and columns.
    spacing : sequence of 3 floats
        Size of a voxel along z, y and x, in any unit: planes are shown as far apart as they are.
    at : (int, int, int), optional
        The voxel that the sections go through; by default that in the middle.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        at: tuple[int, int, int] | None = None,
    ) -> None:
        self.shape = shape
        self.at = tuple(side // 2 for side in shape) if at is None else at
        self._spacing = tuple(float(step) for step in spacing)
        self._planes = 0
        self._highest: NDArray[Any] | None = None
        self._nearest = np.zeros(shape[1:], np.int64)
        # Parts of the sections across z, y and x.
        self._image: tuple[list[NDArray[Any]], ...] = ([], [], [])
        self._labels: tuple[list[NDArray[Any]], ...] = ([], [], [])

    def add(self, volume: NDArray[np.number], labels: NDArray[np.integer] | None = None) -> None:
        """Take the planes that follow those taken.

        Parameters
        ----------
        volume : (z, Y, X) or (z, Y, X, C) numbers
        labels : (z, Y, X) integers, optional
            0 is background.
        """
        if not len(volume):
            return
        labels = np.zeros(volume.shape[:3], np.int32) if labels is None else labels
        top = volume.max(axis=0)
        self._highest = top if self._highest is None else np.maximum(self._highest, top)
        for plane in labels:
            np.copyto(self._nearest, plane, where=self._nearest == 0)
        z, y, x = self.at
        for parts, values in ((self._image, volume), (self._labels, labels)):
            if self._planes <= z < self._planes + len(volume):
                parts[0].append(values[z - self._planes].copy())
            parts[1].append(values[:, y].copy())
            parts[2].append(values[:, :, x].copy())
        self._planes += len(volume)

    def draw(self) -> Picture:
        """Return the picture (h, w, 3) uint8 of all planes, which have to have been taken."""
        if self._highest is None or self._planes != self.shape[0]:
            raise ValueError(f"{self._planes} planes of {self.shape[0]} have been taken; add the others first")
        steps = {axis: self._positions(axis) for axis in range(3)}
        sections = [_resampled(self._section(self._image, across), across, steps) for across in range(3)]
        masks = [_resampled(self._section(self._labels, across), across, steps) for across in range(3)]
        grounds = _stretched_alike(sections)
        z, y, x = (min(int(np.searchsorted(steps[axis], self.at[axis])), len(steps[axis]) - 1) for axis in range(3))
        xy, zx, zy = (outlined(ground, mask) for ground, mask in zip(grounds, masks, strict=True))
        yz = zy.transpose(1, 0, 2).copy()
        for picture, row, column in ((xy, y, x), (zx, z, x), (yz, y, z)):
            _cross(picture, row, column)
        highest = _resampled(self._highest, 0, steps)
        whole = outlined(to_rgb8(highest), _resampled(self._nearest, 0, steps))
        z_name, y_name, x_name = (f"{name} = {index}" for name, index in zip("zyx", self.at, strict=True))
        across = vstack([hstack(xy, yz, captions=[z_name, x_name]), hstack(zx, captions=[y_name])])
        return hstack(hstack(whole, captions=["maximum along z"]), across, gap=12)

    def _section(self, parts: tuple[list[NDArray[Any]], ...], across: int) -> NDArray[Any]:
        return parts[0][0] if across == 0 else np.concatenate(parts[across])

    def _positions(self, axis: int) -> NDArray[np.intp]:
        """Return which voxel each pixel of an axis shows: as many pixels as the axis is long in the finest spacing."""
        step = self._spacing[axis] / min(self._spacing[1:])
        length = max(1, round(self.shape[axis] * step))
        return np.minimum(((np.arange(length) + 0.5) / step).astype(np.intp), self.shape[axis] - 1)


def volume_picture(
    volume: NDArray[np.number],
    labels: NDArray[np.integer] | None = None,
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    at: tuple[int, int, int] | None = None,
) -> Picture:
    """Draw the maximum of a volume along z beside three orthogonal sections, with the outlines of instances.

    In the maximum, an instance hides those of later planes. Voxels are shown as they are, in the proportions of
    `spacing`.

    Parameters
    ----------
    volume : (Z, Y, X) or (Z, Y, X, C) numbers
        Stretched as by `instseg.visualization.pictures.to_rgb8`, the three sections alike.
    labels : (Z, Y, X) integers, optional
        0 is background.
    spacing, at
        As `VolumePicture` takes them.

    Returns
    -------
    picture : (h, w, 3) uint8
    """
    picture = VolumePicture(volume.shape[:3], spacing, at)
    picture.add(volume, labels)
    return picture.draw()


def _resampled(section: NDArray[Any], across: int, steps: dict[int, NDArray[np.intp]]) -> NDArray[Any]:
    rows, columns = (steps[axis] for axis in range(3) if axis != across)
    resampled: NDArray[Any] = section[rows[:, None], columns[None, :]]
    return resampled


def _stretched_alike(sections: Sequence[NDArray[np.number]]) -> list[Picture]:
    """Stretch sections by the values of all of them."""
    pixels = [section.reshape(1, section.shape[0] * section.shape[1], *section.shape[2:]) for section in sections]
    stretched = to_rgb8(np.concatenate(pixels, axis=1))
    ends = np.cumsum([part.shape[1] for part in pixels])[:-1]
    parts = np.split(stretched, ends, axis=1)
    return [part.reshape(*section.shape[:2], 3) for part, section in zip(parts, sections, strict=True)]


def _cross(picture: Picture, row: int, column: int) -> None:
    """Draw thin lines along a row and a column, in place."""
    for line in (picture[row], picture[:, column]):
        line[...] = np.rint((1 - _LINE) * line + _LINE * 255).astype(np.uint8)
