"""What training on volumes needs beside what images need: voxel sizes, shapes of patches, parts to validate on."""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from instseg.data.samples import Sample
from instseg.data.survey import FolderSurvey
from instseg.io.folders import Pair
from instseg.io.stored_volume import read_volume_header
from instseg.io.volumes import is_volume
from instseg.labels.regions import IGNORED

# Of a validation volume, so many voxels are looked at: about what the network does in a second on two cores.
VALIDATION_VOXELS = 1 << 21
# Corners that a part to validate on may have along each axis.
_CORNERS = 4


def are_volumes(pairs: Sequence[Pair]) -> bool:
    """Return whether the pairs of a folder are volumes, as the labels of the first say."""
    return bool(pairs) and is_volume(pairs[0].labels)


def known_spacing(pair: Pair) -> tuple[float, float, float] | None:
    """Return the relative size of a voxel that the file of a volume tells, or that of its labels; None without any."""
    geometries = (read_volume_header(path).geometry for path in (pair.image, pair.labels))
    spacings = (None if one is None else one.relative_spacing for one in geometries)
    return next((one for one in spacings if one is not None), None)


def common_spacing(
    pairs: Sequence[Pair], survey: FolderSurvey, given: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """Return the size of a voxel along Z, Y and X relative to that along X, which a network learns for.

    Parameters
    ----------
    pairs : sequence of Pair
        Of volumes. Only their headers are read.
    survey : FolderSurvey
        Takes what the files say.
    given : sequence of float, optional
        Three numbers above 0, for files that do not say it.

    Returns
    -------
    tuple of float
        The medians of the volumes; (1, 1, 1) where nothing is known.
    """
    asked = None if given is None else (given[0] / given[2], given[1] / given[2], 1.0)
    known = []
    for pair in pairs:
        spacing = asked or known_spacing(pair)
        survey.inspect_spacing(pair.image, spacing)
        known += [] if spacing is None else [spacing]
    if not known:
        return 1.0, 1.0, 1.0
    depths, heights, _ = zip(*known, strict=True)
    return statistics.median(depths), statistics.median(heights), 1.0


def volume_patch_shape(
    patch_size: int, patch_depth: int | None, spacing: Sequence[float], multiple: int
) -> tuple[int, int, int]:
    """Return the shape of the patches of volumes.

    Parameters
    ----------
    patch_size : int
        Height and width.
    patch_depth : int or None
        Planes, by default as deep as wide.
    spacing : sequence of float
        The size of a voxel along Z, Y and X, relative to that along X.
    multiple : int
        What the number of planes becomes a multiple of, as the network needs it.

    Examples
    --------
    >>> volume_patch_shape(64, None, (2, 1, 1), 8), volume_patch_shape(64, None, (5, 1, 1), 4)
    ((32, 64, 64), (12, 64, 64))
    """
    depth = patch_size / spacing[0] if patch_depth is None else patch_depth
    return max(1, round(depth / multiple)) * multiple, patch_size, patch_size


def validation_part(sample: Sample, spacing: Sequence[float], voxels: int = VALIDATION_VOXELS) -> Sample:
    """Return the part of a volume to validate on: the one with the most labelled voxels, of at most so many in all.

    Parts are about as deep as wide, by the spacing, and the volume itself where it is small enough. Levels stay those
    of the whole volume.
    """
    shape = _part_shape(sample.labels.shape, spacing, voxels)
    if shape == sample.labels.shape:
        return sample
    labelled = (sample.labels > 0) & (sample.labels != IGNORED)
    # The sums over all boxes at once (Crow 1984: summed-area tables).
    sums = np.pad(labelled.astype(np.int32), ((1, 0),) * 3)
    for axis in range(3):
        np.cumsum(sums, axis=axis, out=sums)
    free = [whole - part for whole, part in zip(sample.labels.shape, shape, strict=True)]
    places = [sorted({round(step * room / (_CORNERS - 1)) for step in range(_CORNERS)}) for room in free]

    def count(corner: tuple[int, ...]) -> int:
        ends = [(first, first + length) for first, length in zip(corner, shape, strict=True)]
        signs = ((z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1))
        return int(
            sum((-1) ** (3 - sum(one)) * int(sums[ends[0][one[0]], ends[1][one[1]], ends[2][one[2]]]) for one in signs)
        )

    corners = [(z, y, x) for z in places[0] for y in places[1] for x in places[2]]
    best = max(corners, key=count)
    part = tuple(slice(first, first + length) for first, length in zip(best, shape, strict=True))
    return sample._replace(image=sample.image[part].copy(), labels=sample.labels[part].copy())


def _part_shape(shape: tuple[int, ...], spacing: Sequence[float], voxels: int) -> tuple[int, ...]:
    extents = [side * step for side, step in zip(shape, spacing, strict=True)]
    extent = max(extents)
    while True:
        part = tuple(min(side, max(1, round(extent / step))) for side, step in zip(shape, spacing, strict=True))
        if math.prod(part) <= voxels or max(part) == 1:
            return part
        extent *= 0.95
