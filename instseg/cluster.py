"""Embeddings to labels. No TensorFlow here."""

import numpy as np
from numpy.typing import NDArray

from instseg.embeddings import Embeddings
from instseg.modes import CACHED, NOISE, find_instances
from instseg.regions import connected_pieces, fill_holes, remap_consecutive
from instseg.settings import ClusterSettings


def cluster(maps: Embeddings, settings: ClusterSettings | None = None) -> NDArray[np.int32]:
    """Turn embeddings into labels.

    The foreground pixels are clustered by their embeddings; every connected
    piece of a cluster is an instance of its own, so pixels that are not
    connected (over edges or corners) never share one; pieces below the smallest size
    are noise like the pixels of no cluster, and noise goes to the nearest
    instance that it is connected with, or to the background. Holes are filled on request.

    Parameters
    ----------
    maps : Embeddings
        Embeddings (H, W, D), foreground (H, W) and the maps that came with them.
    settings : ClusterSettings, optional
        By default those that the embeddings bring along, else the general defaults.

    Returns
    -------
    (H, W) int32
        0 is background, instances 1..N in raster order of their first pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from instseg.embeddings import Embeddings
    >>> values = np.array([[0, 0, 0, 9, 9, 9]] * 4, np.float32)[..., None]
    >>> maps = Embeddings(embeddings=values, foreground=np.ones((4, 6), np.float32))
    >>> cluster(maps, ClusterSettings(bandwidth=1.0))[0]
    array([1, 1, 1, 2, 2, 2], dtype=int32)
    """
    settings = settings or maps.settings or ClusterSettings()
    foreground = maps.foreground >= settings.foreground_threshold
    labels = np.zeros(foreground.shape, np.int32)
    if not foreground.any():
        return labels
    points = _points(maps.embeddings, foreground, settings.position_weight)
    if settings.method == "hdbscan":
        found = density_clusters(points, settings)
    else:
        found = find_instances(maps, foreground, points, settings)
    labels[foreground] = found + 1
    pieces = connected_pieces(labels)
    _drop_small(pieces, settings.min_size)
    if settings.noise == "nearest":
        pieces = grow(pieces, foreground)
    if settings.fill_holes:
        pieces = fill_holes(pieces)
    return remap_consecutive(pieces)


def density_clusters(points: NDArray[np.float32], settings: ClusterSettings) -> NDArray[np.int32]:
    """Cluster points with HDBSCAN (Campello, Moulavi, Sander 2013).

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
    """
    from hdbscan import HDBSCAN

    if len(points) < settings.min_cluster_size or len(points) <= settings.min_samples:
        return np.full(len(points), NOISE, np.int32)
    points = points.astype(np.float64)
    # HDBSCAN never returns all points as one cluster, so that an image of one object would be noise, and its
    # `allow_single_cluster` keeps only the densest core. Beside a group far away that object is one cluster of two.
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
        # More start worker processes and gain nothing.
        core_dist_n_jobs=1,
    )
    found: NDArray[np.int32] = clusterer.fit_predict(np.concatenate([points, far])).astype(np.int32)
    labels, group = found[:-count], found[-1]
    # The group's number is nobody's; it has none where all points are noise.
    return np.where(labels > group, labels - 1, labels).astype(np.int32) if group >= 0 else labels


def grow(labels: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Let labels grow over the unlabelled pixels of a mask, one ring of neighbours at a time.

    Every pixel is visited once, so time is O(pixels) however far labels grow.

    Parameters
    ----------
    labels : (H, W) int32
        0 is unlabelled.
    mask : (H, W) bool
        Where labels may grow. What is connected (over edges) with no label stays 0.

    Returns
    -------
    (H, W) int32
    """
    # A border of one pixel spares every step the check for the image's edge.
    padded = np.pad(labels, 1)
    flat = padded.ravel()
    empty = (np.pad(mask, 1) & (padded == 0)).ravel()
    width = padded.shape[1]
    steps = np.array([-width, -1, 1, width])
    vacant = np.flatnonzero(empty)
    around = flat[vacant[:, None] + steps]
    touched = around > 0
    has = touched.any(axis=1)
    frontier = vacant[has]
    flat[frontier] = around[has, np.argmax(touched[has], axis=1)]
    empty[frontier] = False
    while len(frontier):
        reached = frontier[:, None] + steps
        free = empty[reached]
        source = np.broadcast_to(frontier[:, None], reached.shape)[free]
        target = reached[free]
        flat[target] = flat[source]
        empty[target] = False
        frontier = np.unique(target)
    return padded[1:-1, 1:-1].copy()


def _points(
    embeddings: NDArray[np.float32], foreground: NDArray[np.bool_], position_weight: float
) -> NDArray[np.float32]:
    points = embeddings[foreground]
    if position_weight > 0:
        positions = np.argwhere(foreground).astype(np.float32) * np.float32(position_weight)
        points = np.concatenate([points, positions], axis=1)
    return points


def _drop_small(labels: NDArray[np.int32], min_size: int) -> None:
    """Make labels of fewer pixels background, in place, part by part: NumPy counts 64-bit integers."""
    parts = np.array_split(labels.reshape(-1), max(1, labels.size // CACHED))
    area = np.zeros(int(labels.max()) + 1, np.intp)
    for part in parts:
        area += np.bincount(part, minlength=len(area))
    keep = np.where(area >= min_size, np.arange(len(area)), 0).astype(np.int32)
    for part in parts:
        part[:] = keep[part]
