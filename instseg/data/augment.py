"""Random changes of training patches, like those that another microscope or another day would make.

Patches are (P, P) of images and (D, P, P) of volumes. Planes of volumes are turned and blurred as images are, and
their order is turned over.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instseg.preprocessing.normalisation import BRIGHTEST, DARKEST

Image = NDArray[np.float32]
Labels = NDArray[np.int32]
PatchShape = int | tuple[int, ...]
"""The side of a patch, or its size along each axis."""
Positions = NDArray[np.floating]

STRONG_SCALE_JITTER = 2.0
"""Strong augmentation shows objects at up to so many times their size, and down to the inverse."""

# Share of strongly augmented patches whose size, and of those whose intensities, are left as they are.
_STRONG_PLAIN_SHARE = 0.4
# Share of those that are turned over.
_INVERTED_SHARE = 0.3
# Share of strongly augmented patches that show noise and no object.
_NOISE_SHARE = 0.03
# Share of strongly augmented patches with hot or dead pixels, and the powers of ten of the share that these are.
_HOT_SHARE, _HOT_PIXELS = 0.06, (-3.5, -2.0)

# Pixels that are tried to find one of an object; and where most of an image takes no part, one that does.
_TRIED, _TRIED_OF_IGNORED = 64, 4096
# Of volumes, in which objects are a smaller share.
_TRIED_OF_VOLUME = 1024


def augment(rng: np.random.Generator, image: Image, labels: Labels) -> tuple[Image, Labels]:
    """Flip and rotate a patch, and change its intensities, sharpness and noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all random numbers.
    image : (P, P, C) or (D, P, P, C) float32
        Normalised to about 0..1.
    labels : (P, P) or (D, P, P) int32
        0 is background.

    Returns
    -------
    image, labels
        Of the same shapes; the labels are flipped and rotated with the image, and otherwise unchanged.
    """
    image, labels = random_flip_rot90(rng, image, labels)
    if rng.random() < 0.3:
        image = _blur(rng, image)
    image = _intensity_jitter(rng, image)
    if rng.random() < 0.4:
        image = _noise(rng, image)
    return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(labels)


def augment_strongly(rng: np.random.Generator, image: Image, labels: Labels) -> tuple[Image, Labels]:
    """Augment a patch for a network that is to work on images of other kinds, too.

    Three of ten patches are turned over, dark for bright, so that objects are known by their outlines rather than by
    being bright. Two fifths are otherwise only flipped and rotated; some of the others lose the resolution that a
    smaller camera or a larger field of view would not have had. Colours are mixed, exchanged or taken away, and some
    gray patches get them, so that an object is not known by its colour alone. A few patches become noise, in which
    there is nothing, and a few get pixels like those of a damaged camera.

    Parameters
    ----------
    rng, image, labels
        As `augment` takes them.

    Returns
    -------
    image, labels
        As `augment` returns them.
    """
    if rng.random() < _NOISE_SHARE:
        return _noise_alone(rng, image.shape), np.zeros_like(labels)
    if rng.random() < _HOT_SHARE:
        image = _hot_pixels(rng, image)
    if image.shape[-1] == 3:
        image = _change_colours(rng, image)
    if rng.random() < _INVERTED_SHARE:
        image = 1 - image
    if rng.random() < _STRONG_PLAIN_SHARE:
        return random_flip_rot90(rng, image, labels)
    if rng.random() < 0.15:
        image = _coarsen(rng, image)
    return augment(rng, image, labels)


def strong_window(rng: np.random.Generator, labels: Labels, patch_size: PatchShape) -> tuple[float, ...]:
    """Choose where to cut a patch that shows objects at half to twice their size; parameters as `random_crop_window`.

    Two fifths of the windows are not zoomed.
    """
    zoom = 1.0
    if rng.random() >= _STRONG_PLAIN_SHARE:
        zoom = float(np.exp(rng.uniform(-np.log(STRONG_SCALE_JITTER), np.log(STRONG_SCALE_JITTER))))
    return random_crop_window(rng, labels, patch_size, zoom=zoom)


def smooth(image: Image, step: float) -> Image:
    """Smooth an image of which every `step`-th pixel will be taken, so that finer structure does not alias."""
    from scipy import ndimage

    axes = tuple(range(image.ndim - 1))
    smoothed: Image = ndimage.gaussian_filter(image, 0.3 * step, axes=axes, truncate=3.0)
    return smoothed


def _change_colours(rng: np.random.Generator, image: Image) -> Image:
    """Change the colours of a coloured patch, or give some to a gray one."""
    chance = rng.random()
    if (image == image[..., :1]).all():
        return _colour(rng, image) if chance < 0.3 else image
    if chance < 0.3:
        weights = rng.dirichlet(np.ones(3)).astype(np.float32)
        return np.repeat(image @ weights[:, None], 3, axis=-1)
    if chance < 0.45:
        return image[..., rng.permutation(3)]
    if chance < 0.75:
        mix = np.eye(3) + rng.uniform(-0.15, 0.15, (3, 3))
        mixed: Image = image @ (mix / mix.sum(axis=0)).astype(np.float32)
        return mixed
    return image


def _colour(rng: np.random.Generator, image: Image) -> Image:
    """Show a gray patch in some channels only, as a fluorophore is, or as coloured objects on another colour."""
    shown = rng.random(3) < 0.6
    shown[rng.integers(3)] = True
    if rng.random() < 0.5:
        return image * shown.astype(np.float32)
    gain = np.where(shown, rng.uniform(0.5, 1, 3), rng.uniform(0, 0.3, 3)) * rng.choice((-1, 1), 3, p=(0.25, 0.75))
    coloured: Image = image * gain.astype(np.float32) + np.maximum(-gain, 0).astype(np.float32)
    return coloured


def _noise_alone(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    """Return noise, white or with the correlation that an enlarged image has, on some level."""
    from scipy import ndimage

    noise = rng.standard_normal(shape, np.float32)
    if shape[-1] > 1 and rng.random() < 0.7:
        noise[:] = noise[..., :1]
    if rng.random() < 0.6:
        noise = ndimage.gaussian_filter(noise, rng.uniform(0.4, 2.5), axes=_plane_axes(noise), truncate=3.0)
    strength = rng.uniform(0.01, 0.25) / max(float(noise.std()), 1e-6)
    return np.asarray(rng.uniform(0, 1) + noise * np.float32(strength), np.float32)


def _hot_pixels(rng: np.random.Generator, image: Image) -> Image:
    """Set some pixels to one value beyond those of objects or background, as hot and dead ones of a camera are."""
    hot = rng.random(image.shape[:-1]) < 10 ** rng.uniform(*_HOT_PIXELS)
    value = rng.uniform(1, BRIGHTEST) if rng.random() < 0.7 else rng.uniform(DARKEST, 0)
    return np.where(hot[..., None], np.float32(value), image)


def _coarsen(rng: np.random.Generator, image: Image) -> Image:
    """Take a part of the resolution of a patch away."""
    height, width = image.shape[-3:-1]
    factor = rng.uniform(0.4, 0.8)
    rows, columns = (
        (np.arange(round(side * factor)) + 0.5) / round(side * factor) * side - 0.5 for side in (height, width)
    )
    coarse = _linear(smooth(image, 1 / factor), (rows, columns))
    back = [
        np.clip((np.arange(side) + 0.5) / side * length - 0.5, 0, length - 1)
        for side, length in ((height, len(rows)), (width, len(columns)))
    ]
    return _linear(coarse, back)


def _noise(rng: np.random.Generator, image: Image) -> Image:
    """Add noise like that of photon counts, which grows with the square root of the intensity.

    Noise of the same strength everywhere would hide the dim rims of nuclei out of focus, which some annotators include.
    """
    deviation = np.float32(rng.uniform(0, 0.05)) * np.sqrt(np.clip(image, 0, None) + np.float32(0.01))
    noisy: Image = image + deviation * rng.standard_normal(image.shape, np.float32)
    return noisy


def random_flip_rot90(rng: np.random.Generator, image: Image, labels: Labels) -> tuple[Image, Labels]:
    """Flip and rotate a patch by quarter turns to one of its eight orientations; no value changes.

    Volumes are turned in the plane, as wide as high, and half of them also have their planes in the opposite order.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all random numbers.
    image : (P, P, C) or (D, P, P, C) float32
    labels : (P, P) or (D, P, P) int32

    Returns
    -------
    image, labels
        Of the same shapes; they may be views.
    """
    quarters, flip = int(rng.integers(4)), bool(rng.integers(2))
    axes = _plane_axes(image)
    image, labels = np.rot90(image, quarters, axes), np.rot90(labels, quarters, axes)
    if labels.ndim == 3 and rng.integers(2):
        image, labels = image[::-1], labels[::-1]
    return (image[..., ::-1, :], labels[..., ::-1]) if flip else (image, labels)


def _plane_axes(image: Image) -> tuple[int, int]:
    """Return which axes of an image (H, W, C) or of a volume (Z, H, W, C) are its rows and columns."""
    return image.ndim - 3, image.ndim - 2


def _blur(rng: np.random.Generator, image: Image) -> Image:
    from scipy import ndimage

    blurred: Image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.5), axes=_plane_axes(image), truncate=3.0)
    return blurred


def _intensity_jitter(rng: np.random.Generator, image: Image) -> Image:
    """Apply gamma, a gain and an offset for each channel, and a slope of the illumination over the patch."""
    channels = image.shape[-1]
    if rng.random() < 0.5:
        image = np.sign(image) * np.abs(image) ** np.float32(rng.uniform(0.7, 1.4))
    gain = rng.uniform(0.7, 1.3, (channels,))
    offset = rng.uniform(-0.01, 0.01, (channels,))
    image = image * gain.astype(np.float32) + offset.astype(np.float32)
    if rng.random() < 0.3:
        slope = rng.uniform(-0.3, 0.3, 2)
        ramp_rows = np.linspace(-slope[0], slope[0], image.shape[-3], dtype=np.float32)
        ramp_columns = np.linspace(-slope[1], slope[1], image.shape[-2], dtype=np.float32)
        image = image * (1 + ramp_rows[:, None, None] + ramp_columns[None, :, None])
    return image


def random_crop_window(
    rng: np.random.Generator, labels: Labels, patch_size: PatchShape, *, zoom: float, foreground_share: float = 0.8
) -> tuple[float, ...]:
    """Choose where to cut a patch: for most patches around a pixel of an object, so that few are empty.

    Of an image that is mostly ignored, all patches are cut around a pixel that is not, as others would teach nothing.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all random numbers.
    labels : (H, W) or (Z, H, W) int32
        0 is background, `IGNORED` takes no part.
    patch_size : int or tuple of int
        Sides of the patch after zooming, in pixels.
    zoom : float
        Magnification: the sides of the window in the image are those of the patch over `zoom`. With 1, corners are
        whole pixels, so that nothing is interpolated.
    foreground_share : float
        Share of the patches that are cut around a pixel of an object, 0..1.

    Returns
    -------
    row, column, side : float
        Upper left corner and side of the window in pixels of the image; of volumes the first plane before it, and the
        side is that along X. The window leaves the image only where the image is smaller.
    """
    axes = labels.ndim
    sides = np.array(patch_shape(patch_size, axes)) / zoom
    free = np.maximum(np.array(labels.shape) - sides, 0.0)
    corner = rng.uniform(0, 1, axes) * free
    lowest = 1 if rng.random() < foreground_share else 0
    # A few random pixels, as a list of all foreground pixels of a large image would take time at each step.
    count = _TRIED if axes == 2 else _TRIED_OF_VOLUME
    tried = rng.integers(0, labels.size, count) if lowest else np.zeros(0, np.int64)
    hits = tried[labels.ravel()[tried] >= lowest]
    if not len(hits) and _is_mostly_ignored(labels):
        tried = rng.integers(0, labels.size, _TRIED_OF_IGNORED)
        known = tried[labels.ravel()[tried] >= 0]
        hits = known[labels.ravel()[known] >= lowest]
        hits = hits if len(hits) else known
    if len(hits):
        centre = np.array(np.unravel_index(hits[0], labels.shape)) + rng.uniform(-0.4, 0.4, axes) * sides
        corner = np.clip(centre - sides / 2, 0, free)
    if zoom == 1:
        corner = np.rint(corner)
    return *corner.tolist(), float(sides[-1])


def patch_shape(patch_size: PatchShape, axes: int) -> tuple[int, ...]:
    """Return the size of a patch along each of so many axes."""
    return (patch_size,) * axes if isinstance(patch_size, int) else patch_size


def _is_mostly_ignored(labels: Labels) -> bool:
    """Return whether half of an image or more takes no part, as a grid of its pixels tells."""
    step = max(1, int((labels.size / _TRIED_OF_IGNORED) ** (1 / labels.ndim)))
    return bool((labels[(np.s_[::step],) * labels.ndim] < 0).mean() >= 0.5)


def crop_and_resize(
    image: Image, labels: Labels, window: tuple[float, ...], patch_size: PatchShape
) -> tuple[Image, Labels]:
    """Cut a window and resize it to a patch: images linearly, labels nearest.

    Parameters
    ----------
    image : (H, W, C) or (Z, H, W, C) float32
        Normalised to about 0..1.
    labels : (H, W) or (Z, H, W) int32
        0 is background.
    window : tuple of float
        As `random_crop_window` returns it: the corner, and the side along X, in pixels.
    patch_size : int or tuple of int
        Sides of the patch.

    Returns
    -------
    image : (P, P, C) or (D, P, P, C) float32
        0 outside of the image, which is the value of its low percentile.
    labels : (P, P) or (D, P, P) int32
        0 outside of the image.
    """
    *corner, side = window
    shape = patch_shape(patch_size, labels.ndim)
    step = side / shape[-1]
    # Offsets are added to the corner as one number, which keeps patches of images the same to the last bit.
    positions = [first + ((np.arange(length) + 0.5) * step - 0.5) for first, length in zip(corner, shape, strict=True)]
    return _linear(image, positions), _nearest(labels, positions)


def _axis(positions: Positions, length: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    index = np.floor(positions + 0.5).astype(np.intp)
    return np.clip(index, 0, length - 1), (index >= 0) & (index < length)


def _nearest(labels: Labels, positions: Sequence[Positions]) -> Labels:
    pairs = [_axis(along, length) for along, length in zip(positions, labels.shape, strict=True)]
    taken = labels[np.ix_(*(index for index, _ in pairs))]
    for axis, (_, inside) in enumerate(pairs):
        taken = taken * inside.reshape([-1 if other == axis else 1 for other in range(labels.ndim)])
    return taken


def _linear(image: Image, positions: Sequence[Positions]) -> Image:
    """Interpolate along one axis after the other, the last ones of an image (..., C) that there are positions for.

    Two gathers for each axis are faster than a general affine map.
    """
    first = image.ndim - 1 - len(positions)
    for axis, along in enumerate(positions, start=first):
        image = _interpolate(image, along, axis)
    return image


def _interpolate(image: Image, positions: Positions, axis: int) -> Image:
    length = image.shape[axis]
    _, inside = _axis(positions, length)
    lower = np.clip(np.floor(positions), 0, length - 1)
    upper = np.minimum(lower + 1, length - 1)
    shape = [1] * image.ndim
    shape[axis] = len(positions)
    weight = np.clip(positions - lower, 0, 1).astype(np.float32).reshape(shape)
    low = np.take(image, lower.astype(np.intp), axis)
    high = np.take(image, upper.astype(np.intp), axis)
    between: Image = low + weight * (high - low)
    return between * inside.reshape(shape).astype(np.float32)
