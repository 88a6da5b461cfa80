"""Embeddings to labels: foreground, clusters, connected components, and what becomes of noise and small objects."""

import math

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.assignment import NOISE
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.modes import cluster_modes
from instseg.clustering.points import Points
from instseg.labels.regions import fill_holes, renumber
from instseg.labels.runs import find_runs
from instseg.settings import ClusterSettings


def cluster(maps: Embeddings, settings: ClusterSettings | None = None) -> NDArray[np.int32]:
    """Turn embeddings into labels.

    The foreground pixels are clustered by their embeddings. Each connected component of a cluster (over edges or
    corners) is an instance of its own. Components below the smallest size are noise, as pixels of no cluster are, and
    noise becomes part of the nearest instance that it is connected with, or background. Holes are filled on request.

    Parameters
    ----------
    maps : Embeddings
        Of an image or a volume.
    settings : ClusterSettings, optional
        By default `default_settings`.

    Returns
    -------
    (H, W) or (Z, Y, X) int32
        0 is background, instances 1..N in raster order of their first pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from instseg.clustering.embeddings import Embeddings
    >>> values = np.array([[0, 0, 0, 9, 9, 9]] * 4, np.float32)[..., None]
    >>> maps = Embeddings(embeddings=values, foreground=np.ones((4, 6), np.float32))
    >>> cluster(maps, ClusterSettings(bandwidth=1.0))[0]
    array([1, 1, 1, 2, 2, 2], dtype=int32)
    """
    settings = settings or default_settings(maps)
    foreground = maps.foreground >= settings.foreground_threshold
    if not foreground.any():
        return np.zeros(foreground.shape, np.int32)
    points = Points(maps, settings.position_weight)
    if settings.method == "hdbscan":
        pixels = np.flatnonzero(foreground)
        labels = np.zeros(foreground.shape, np.int32)
        labels.ravel()[pixels] = hdbscan_clusters(points.all_of(pixels), settings) + 1
    else:
        labels = cluster_modes(maps, foreground, points, settings)
    # From here on they change in place: an image of its own for each step takes longer than the step.
    _keep_components(labels, settings.min_size)
    if settings.noise == "nearest":
        _grow(labels, foreground)
    if settings.fill_holes:
        labels = fill_holes(labels)
    renumber(labels)
    return labels


def default_settings(maps: Embeddings) -> ClusterSettings:
    """Return the settings that are stored with embeddings, else the defaults; those of a volume are for balls."""
    if maps.settings is not None:
        return maps.settings
    return ClusterSettings() if maps.ndim == 2 else ClusterSettings().for_volume(maps.steps)


def hdbscan_clusters(points: NDArray[np.float32], settings: ClusterSettings) -> NDArray[np.int32]:
    """Cluster points with HDBSCAN [1]_.

    Parameters
    ----------
    points : (P, D) float32
        Embeddings.
    settings : ClusterSettings
        `metric`, `min_cluster_size`, `min_samples`.

    Returns
    -------
    (P,) int32
        0..N-1, or -1 for noise.

    References
    ----------
    .. [1] R. J. G. B. Campello, D. Moulavi, J. Sander, "Density-Based Clustering Based on Hierarchical Density
       Estimates", PAKDD 2013, https://doi.org/10.1007/978-3-642-37456-2_14
    """
    from hdbscan import HDBSCAN

    if len(points) < settings.min_cluster_size or len(points) <= settings.min_samples:
        return np.full(len(points), NOISE, np.int32)
    points = points.astype(np.float64)
    # HDBSCAN never returns all points as one cluster, so that the pixels of a single object would be noise, and its
    # option `allow_single_cluster` returns only the densest core. With a group of points far away that object is one
    # of two clusters.
    count = max(settings.min_cluster_size, settings.min_samples + 1)
    centre = points.mean(axis=0)
    reach = np.abs(points - centre).sum(axis=1).max() or 1.0
    far = np.tile(centre, (count, 1))
    far[:, 0] += reach * np.linspace(10, 11, count)
    clusterer = HDBSCAN(
        min_cluster_size=settings.min_cluster_size,
        min_samples=settings.min_samples,
        metric=settings.metric,
        algorithm="boruvka_kdtree",
        # More of them would start processes, and save no time.
        core_dist_n_jobs=1,
    )
    clusters: NDArray[np.int32] = clusterer.fit_predict(np.concatenate([points, far])).astype(np.int32)
    labels, group = clusters[:-count], clusters[-1]
    # The number of the group far away is taken out; it has none where all points are noise.
    return np.where(labels > group, labels - 1, labels).astype(np.int32) if group >= 0 else labels


def expand_labels(labels: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Let labels grow into the unlabelled pixels of a mask, by one neighbour (over edges or faces) at a time.

    Each pixel is visited once, so that time is O(pixels) however far labels grow.

    Parameters
    ----------
    labels : (H, W) or (Z, Y, X) int32
        0 is unlabelled.
    mask : bool of the labels' shape
        Where labels may grow. Pixels that the mask connects with no label stay 0.

    Returns
    -------
    int32 of the labels' shape

    Examples
    --------
    >>> labels = np.array([[1, 0, 0, 0, 2]], np.int32)
    >>> expand_labels(labels, np.array([[True, True, False, True, True]]))
    array([[1, 1, 0, 2, 2]], dtype=int32)
    """
    labels = labels.copy()
    _grow(labels, mask)
    return labels


def _grow(labels: NDArray[np.int32], mask: NDArray[np.bool_]) -> None:
    """Let labels grow as `expand_labels` does, in the array itself, which is contiguous."""
    empty = labels == 0
    empty &= mask
    vacant, empty, flat = np.flatnonzero(empty), empty.reshape(-1), labels.reshape(-1)
    if not len(vacant):
        return
    around = flat[_neighbours(vacant, labels.shape)]
    touched = around > 0
    has = touched.any(axis=1)
    frontier = vacant[has]
    flat[frontier] = around[has, np.argmax(touched[has], axis=1)]
    empty[frontier] = False
    while len(frontier):
        reached = _neighbours(frontier, labels.shape)
        free = empty[reached]
        source = np.broadcast_to(frontier[:, None], reached.shape)[free]
        target = reached[free]
        flat[target] = flat[source]
        empty[target] = False
        frontier = np.unique(target)


def _neighbours(pixels: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the neighbours (P, 2n) of pixels, as positions in the flat array, and the pixel itself beyond an edge."""
    before, after = [], []
    for axis, place in enumerate(np.unravel_index(pixels, shape)):
        stride = math.prod(shape[axis + 1 :])
        before.append(np.where(place > 0, pixels - stride, pixels))
        after.append(np.where(place < shape[axis] - 1, pixels + stride, pixels))
    return np.stack([*before, *reversed(after)], axis=1)


def _keep_components(labels: NDArray[np.int32], min_size: int) -> None:
    """Give each connected component of at least so many pixels a number of its own, and 0 to others, in place.

    Components are those of runs of pixels, as these are far fewer.
    """
    runs = find_runs(labels)
    area = np.bincount(runs.components, runs.lengths)
    kept = np.where(area >= min_size, np.arange(len(area)), 0).astype(np.int32)
    runs.paint(kept[runs.components], labels)
