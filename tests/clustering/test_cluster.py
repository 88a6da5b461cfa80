import dataclasses
import tracemalloc

import numpy as np
import pytest

from instseg.clustering.assignment import NOISE
from instseg.clustering.cluster import cluster, expand_labels, hdbscan_clusters
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.seeds import flatness
from instseg.data.discs import draw_discs
from instseg.errors import UsageError
from instseg.labels.matching import match
from instseg.settings import ClusterSettings, DiscSettings

METHODS = ("fast", "hdbscan")


def maps_of(values, *, foreground=1.0, seeds=1.0, bandwidth=None, settings=None):
    """Embeddings of one dimension from a table (H, W); by default all is foreground and every pixel may be a seed."""
    values = np.asarray(values, np.float32)
    shape = values.shape[:2]

    def plane(given):
        return None if given is None else np.broadcast_to(np.asarray(given, np.float32), shape)

    return Embeddings(
        embeddings=values if values.ndim == 3 else values[..., None],
        foreground=plane(foreground),
        seeds=plane(seeds),
        bandwidth=plane(bandwidth),
        settings=settings,
    )


def settings(**changes):
    return ClusterSettings(**{"bandwidth": 1.0, "min_size": 1, "min_cluster_size": 5, "min_samples": 2, **changes})


def jitter(shape, scale=0.01, seed=0):
    """Noise that breaks ties, since points at one place have no density."""
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


TWO = np.array([[0, 0, 0, 9, 9, 9]] * 4, np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_two_clusters(method):
    found = cluster(maps_of(TWO + jitter(TWO.shape)), settings(method=method))
    assert found.dtype == np.int32
    assert found.tolist() == [[1, 1, 1, 2, 2, 2]] * 4


@pytest.mark.parametrize("method", METHODS)
def test_no_foreground_is_all_background(method):
    found = cluster(maps_of(TWO, foreground=0.49), settings(method=method))
    assert found.dtype == np.int32
    assert found.tolist() == [[0] * 6] * 4


@pytest.mark.parametrize("method", METHODS)
def test_the_foreground_threshold_is_inclusive(method):
    foreground = [0.5, 0.5, 0.49, 0.5, 0.5, 0.5]
    found = cluster(maps_of(TWO + jitter(TWO.shape), foreground=foreground), settings(method=method))
    assert found.tolist() == [[1, 1, 0, 2, 2, 2]] * 4


@pytest.mark.parametrize("method", METHODS)
def test_all_foreground_is_one_instance(method):
    values = 5 + jitter((8, 8, 2))
    assert (cluster(maps_of(values), settings(method=method, min_cluster_size=5)) == 1).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seeds", [None, 1.0])
def test_identical_embeddings_are_one_instance(method, seeds):
    values = np.zeros((12, 12, 3), np.float32)
    found = cluster(maps_of(values, seeds=seeds), settings(method=method, bandwidth=None, min_cluster_size=5))
    assert (found == 1).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("min_size", "expected"), [(1, 1), (2, 0)])
def test_an_image_of_one_pixel(method, min_size, expected):
    if method == "hdbscan":
        expected = 0  # A cluster has two pixels at least.
    found = cluster(maps_of([[3.0]]), settings(method=method, min_size=min_size))
    assert found.tolist() == [[expected]]


def test_pixels_that_are_not_connected_never_share_an_instance():
    foreground = [[1, 1, 0, 0, 0], [1, 0, 1, 0, 1], [0, 0, 0, 0, 1]]
    found = cluster(maps_of(np.zeros((3, 5)), foreground=foreground), settings())
    # Corners connect.
    assert found.tolist() == [[1, 1, 0, 0, 0], [1, 0, 1, 0, 2], [0, 0, 0, 0, 2]]


def test_a_cluster_that_another_cuts_in_two_is_two_instances():
    assert cluster(maps_of([[0, 0, 9, 0, 0]] * 2), settings()).tolist() == [[1, 1, 2, 3, 3]] * 2


def test_labels_are_consecutive_in_raster_order():
    values = [[9, 9, 0, 0], [9, 9, 0, 0], [5, 5, 9, 9], [5, 5, 9, 9]]
    assert cluster(maps_of(values), settings()).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 1, 1], [3, 3, 1, 1]]


def test_position_weight_parts_what_lies_apart():
    values = np.zeros((2, 12), np.float32)
    seeds = [0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.8, 0.1, 0.1]
    maps = maps_of(values, seeds=seeds)
    assert cluster(maps, settings(bandwidth=3.0)).tolist() == [[1] * 12] * 2
    assert cluster(maps, settings(bandwidth=3.0, position_weight=1.0)).tolist() == [[1] * 6 + [2] * 6] * 2


def test_position_weight_counts_for_hdbscan():
    values = jitter((3, 12))
    foreground = [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    points = np.stack(np.broadcast_arrays(np.float32(0), values), axis=-1)
    maps = maps_of(points, foreground=foreground)
    together = settings(method="hdbscan", min_cluster_size=10, position_weight=0.0)
    expected = [[1] * 4 + [0] * 4 + [2] * 4] * 3
    assert cluster(maps, together).tolist() == expected
    assert cluster(maps, settings(method="hdbscan", min_cluster_size=10, position_weight=1.0)).tolist() == expected


def test_pieces_below_the_smallest_size_are_noise():
    values = [[0, 0, 0, 9], [0, 0, 0, 9]]
    assert cluster(maps_of(values), settings(min_size=2, noise="drop")).tolist() == [[1, 1, 1, 2]] * 2
    assert cluster(maps_of(values), settings(min_size=3, noise="drop")).tolist() == [[1, 1, 1, 0]] * 2
    assert cluster(maps_of(values), settings(min_size=3, noise="nearest")).tolist() == [[1, 1, 1, 1]] * 2
    assert cluster(maps_of(values), settings(min_size=9, noise="nearest")).tolist() == [[0] * 4] * 2


def test_a_small_piece_alone_belongs_to_the_background():
    found = cluster(maps_of(np.zeros((1, 7)), foreground=[1, 1, 1, 1, 0, 1, 1]), settings(min_size=3))
    assert found.tolist() == [[1, 1, 1, 1, 0, 0, 0]]


def test_noise_goes_to_the_nearest_that_touches_or_is_dropped():
    values = [[0, 0, 0, 4, 5, 9, 9, 9]] * 3
    maps = maps_of(values, seeds=[0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1])
    assert cluster(maps, settings(noise="drop")).tolist() == [[1, 1, 1, 0, 0, 2, 2, 2]] * 3
    assert cluster(maps, settings(noise="nearest")).tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]] * 3


def test_membership_decides_what_is_noise():
    # At the bandwidth membership is one half.
    maps = maps_of([[0, 0, 0, 1, 2]], seeds=[0.1, 0.9, 0.1, 0.1, 0.1])
    for threshold, expected in ((0.51, [1, 1, 1, 0, 0]), (0.2, [1, 1, 1, 1, 0]), (0.01, [1, 1, 1, 1, 1])):
        found = cluster(maps, settings(bandwidth=0.9, noise="drop", membership_threshold=threshold))
        assert found.tolist() == [expected]


def test_instances_start_at_seeds_only():
    values = [[0, 0, 0, 9, 9, 9]]
    maps = maps_of(values, seeds=[0.1, 0.9, 0.1, 0.1, 0.4, 0.1])
    assert cluster(maps, settings(noise="drop")).tolist() == [[1, 1, 1, 0, 0, 0]]
    assert cluster(maps, settings(noise="drop", seed_threshold=0.3)).tolist() == [[1, 1, 1, 2, 2, 2]]
    assert cluster(maps, settings(seed_threshold=0.95)).tolist() == [[0] * 6]


def test_each_instance_has_a_reach_of_its_own():
    # A large object about 0 with a reach of 10, a small one at 6: inside that reach, but with one of its own.
    large, small = [0, -6, 5, 0, 4, -5, 0], [6, 6.2, 5.9]
    values = np.array([large + small] * 4, np.float32)
    bandwidth = np.array([10] * len(large) + [1] * len(small), np.float32)
    seeds = [0.1, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1]
    own = settings(bandwidth=None)
    expected = [[1] * len(large) + [2] * len(small)] * 4
    assert cluster(maps_of(values, seeds=seeds, bandwidth=bandwidth), own).tolist() == expected
    # With one bandwidth for all they are one.
    assert cluster(maps_of(values, seeds=seeds), settings(bandwidth=10.0)).tolist() == [[1] * 10] * 4


def test_the_bandwidth_asked_for_goes_before_that_of_the_file():
    maps = maps_of(TWO, bandwidth=100.0)
    assert cluster(maps, settings(bandwidth=None)).max() == 1
    assert cluster(maps, settings(bandwidth=1.0)).max() == 2


def test_the_settings_of_the_file_apply_unless_others_are_given():
    maps = maps_of(TWO, settings=settings(bandwidth=100.0))
    assert cluster(maps).max() == 1
    assert cluster(maps, settings()).max() == 2
    assert cluster(maps_of(np.zeros((3, 3)))).max() == 0  # By default of 10 pixels at least.


def test_seeds_are_averaged_so_that_single_pixels_start_nothing():
    values = np.zeros((9, 9), np.float32)
    values[6, 6] = 9
    seeds = np.full((9, 9), 0.3, np.float32)
    seeds[1:4, 1:4], seeds[6, 6] = 0.9, 0.95
    assert cluster(maps_of(values, seeds=seeds), settings()).max() == 2
    averaged = cluster(maps_of(values, seeds=seeds), settings(seed_window=3))
    assert averaged.tolist() == np.ones((9, 9), int).tolist()
    # What lies outside the foreground counts as 0: 0.9 of 4 in 9 pixels is too little.
    corner = np.zeros((9, 9), np.float32)
    corner[:2, :2] = 1
    few = maps_of(np.zeros((9, 9)), foreground=corner, seeds=np.full((9, 9), 0.9))
    assert cluster(few, settings()).max() == 1
    assert cluster(few, settings(seed_window=3, noise="drop")).max() == 0


def test_without_seeds_flat_places_start_instances():
    values = np.concatenate([np.zeros((9, 9)), np.full((9, 9), 40.0)], axis=1)[..., None] + jitter((9, 18, 1), 0.5)
    foreground = np.ones((9, 18), bool)
    flat = flatness(foreground, values.reshape(-1, 1).astype(np.float32), 1.0)
    assert flat.shape == (9, 18)
    assert (flat > 0).all() and (flat <= 1).all()
    assert flat[4, 4] > flat[4, 8]
    assert flat[4, 13] > flat[4, 9]
    # Neither seeds nor a bandwidth: measured from the changes between neighbours.
    found = cluster(maps_of(values, seeds=None), settings(bandwidth=None))
    assert found.tolist() == [[1] * 9 + [2] * 9] * 9


def test_one_object_is_one_cluster_of_hdbscan():
    rng = np.random.default_rng(0)
    points = rng.normal(3, 0.5, (200, 4)).astype(np.float32)
    found = hdbscan_clusters(points, ClusterSettings())
    assert found.dtype == np.int32
    assert set(found.tolist()) <= {0, NOISE}
    assert (found == 0).mean() > 0.9


def test_hdbscan_takes_any_number_of_points():
    for count in (0, 1, 2, 19):
        found = hdbscan_clusters(np.zeros((count, 3), np.float32), ClusterSettings())
        assert found.tolist() == [NOISE] * count


def test_hdbscan_numbers_clusters_from_0():
    rng = np.random.default_rng(1)
    centres = np.array([[0, 0], [50, 0], [0, 50], [50, 50]])
    points = np.concatenate([centre + rng.normal(0, 1, (40, 2)) for centre in centres]).astype(np.float32)
    found = hdbscan_clusters(points, ClusterSettings(metric="euclidean"))
    blocks = found.reshape(4, 40)
    majority = [int(np.bincount(block[block >= 0]).argmax()) for block in blocks]
    assert sorted(majority) == [0, 1, 2, 3]
    assert set(found.tolist()) <= {NOISE, 0, 1, 2, 3}


# grow


def test_grow_by_hand():
    labels = np.array([[1, 0, 0, 0, 2], [0, 0, 0, 0, 0]], np.int32)
    mask = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 1]], bool)
    assert expand_labels(labels, mask).tolist() == [[1, 1, 0, 2, 2], [1, 0, 0, 2, 2]]


def test_grow_follows_a_snake_and_not_the_straight_line():
    labels = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]], np.int32)
    mask = np.array([[1, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
    # Twelve steps lie between the ends; the pixel in the middle is as near to both.
    expected = np.array([[1, 1, 1, 1], [0, 0, 0, 1], [2, 0, 1, 1], [2, 0, 0, 0], [2, 2, 2, 2]])
    found = expand_labels(labels, mask)
    assert found[2, 1] in (1, 2)
    found[2, 1] = 0
    assert found.tolist() == expected.tolist()


def test_grow_leaves_what_it_cannot_reach():
    labels = np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.int32)
    # Over edges only: the corner does not connect.
    mask = np.array([[1, 1, 0, 1], [0, 0, 1, 0]], bool)
    assert expand_labels(labels, mask).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]


def test_grow_does_not_wrap_around_the_edges():
    labels = np.array([[0, 0, 1], [0, 0, 0]], np.int32)
    mask = np.array([[0, 0, 1], [1, 0, 0]], bool)
    assert expand_labels(labels, mask).tolist() == labels.tolist()


def test_grow_without_labels_or_without_room_changes_nothing():
    labels = np.array([[0, 3], [3, 0]], np.int32)
    assert expand_labels(labels, np.zeros((2, 2), bool)).tolist() == labels.tolist()
    assert expand_labels(np.zeros_like(labels), np.ones((2, 2), bool)).tolist() == [[0, 0], [0, 0]]


def test_grow_leaves_its_input_alone():
    labels = np.array([[1, 0]], np.int32)
    assert expand_labels(labels, np.ones((1, 2), bool)).tolist() == [[1, 1]]
    assert labels.tolist() == [[1, 0]]


def slow_grow(labels, mask):
    """Pixels of the mask by their number of steps from the labels, as a set of possible labels each."""
    height, width = labels.shape
    owners = {(r, c): {int(labels[r, c])} for r in range(height) for c in range(width) if labels[r, c]}
    front = dict(owners)
    while front:
        ring = {}
        for (row, column), names in front.items():
            for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= place[0] < height and 0 <= place[1] < width
                if inside and mask[place] and place not in owners:
                    ring.setdefault(place, set()).update(names)
        owners |= ring
        front = ring
    return owners


@pytest.mark.parametrize("seed", range(10))
def test_grow_gives_every_pixel_one_of_its_nearest(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 15)) < 0.7
    labels = np.where(mask & (rng.random(mask.shape) < 0.05), rng.integers(1, 5, mask.shape), 0).astype(np.int32)
    found, possible = expand_labels(labels, mask), slow_grow(labels, mask)
    for place, label in np.ndenumerate(found):
        assert int(label) in possible.get(place, {0})


# Invariants


def discs_maps(seed=0, size=160, noise=0.5):
    """What a good network would say of an image of discs: every pixel points to the centre of its disc."""
    rng = np.random.default_rng(seed)
    discs = DiscSettings(size=size, min_discs=14, max_discs=14)
    _, labels = draw_discs(rng, discs)
    labels = cluster_truth(labels)
    values = np.zeros((*labels.shape, 8), np.float32)
    places = np.indices(labels.shape)
    for label in range(1, labels.max() + 1):
        values[labels == label, :2] = [axis[labels == label].mean() for axis in places]
    values += rng.normal(0, noise, values.shape).astype(np.float32)
    offset = np.linalg.norm(values[..., :2] - np.moveaxis(places, 0, -1), axis=-1)
    seeds = np.exp(-((offset / 6) ** 2)) * (labels > 0)
    maps = Embeddings(
        embeddings=values,
        foreground=(labels > 0).astype(np.float32),
        seeds=seeds.astype(np.float32),
        bandwidth=np.full(labels.shape, 6, np.float32),
    )
    return maps, labels


def cluster_truth(labels):
    """Labels whose instances are connected and of at least 20 pixels."""
    from instseg.labels.regions import connected_components, relabel_sequential

    pieces = connected_components(labels)
    return relabel_sequential(np.where(np.bincount(pieces.ravel())[pieces] >= 20, pieces, 0))


def same_partition(first, second):
    pairs = set(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.fixture(scope="module")
def discs():
    return discs_maps()


@pytest.mark.parametrize("method", METHODS)
def test_both_methods_find_the_discs(discs, method):
    maps, labels = discs
    found = cluster(maps, ClusterSettings(method=method))
    assert found.max() == labels.max()
    assert match(labels, found).iou.mean() >= 0.98
    assert np.array_equal(found > 0, labels > 0)


def test_fast_agrees_with_hdbscan(discs):
    maps, labels = discs
    fast, dense = (cluster(maps, ClusterSettings(method=method)) for method in METHODS)
    pairs = match(fast, dense)
    assert len(pairs.iou) == fast.max() == dense.max()
    assert pairs.iou.mean() >= 0.98


@pytest.mark.parametrize("method", METHODS)
def test_results_are_deterministic(discs, method):
    chosen = ClusterSettings(method=method)
    assert np.array_equal(cluster(discs[0], chosen), cluster(discs[0], chosen))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("noise", ["drop", "nearest"])
def test_a_flipped_image_gives_the_flipped_partition(discs, axis, noise):
    maps, _ = discs
    flipped = Embeddings(
        **{name: np.flip(getattr(maps, name), axis) for name in ("embeddings", "foreground", "seeds", "bandwidth")}
    )
    chosen = ClusterSettings(noise=noise)
    assert same_partition(np.flip(cluster(flipped, chosen), axis), cluster(maps, chosen))


def test_the_order_of_dimensions_does_not_matter(discs):
    maps, _ = discs
    turned = Embeddings(
        embeddings=maps.embeddings[..., ::-1], foreground=maps.foreground, seeds=maps.seeds, bandwidth=maps.bandwidth
    )
    assert np.array_equal(cluster(turned, ClusterSettings()), cluster(maps, ClusterSettings()))


def test_a_background_border_changes_nothing(discs):
    maps, _ = discs
    wider = Embeddings(
        embeddings=np.pad(maps.embeddings, ((3, 5), (7, 2), (0, 0))),
        **{name: np.pad(getattr(maps, name), ((3, 5), (7, 2))) for name in ("foreground", "seeds")},
        bandwidth=np.pad(maps.bandwidth, ((3, 5), (7, 2)), constant_values=1),
    )
    inner = cluster(wider, ClusterSettings())[3:-5, 7:-2]
    assert np.array_equal(inner, cluster(maps, ClusterSettings()))


def test_the_maps_are_left_alone(discs):
    maps, _ = discs
    before = {name: getattr(maps, name).copy() for name in ("embeddings", "foreground", "seeds", "bandwidth")}
    for method in METHODS:
        cluster(maps, ClusterSettings(method=method))
    assert all(np.array_equal(getattr(maps, name), array) for name, array in before.items())


@pytest.mark.parametrize("seed", range(5))
def test_instances_are_connected_large_enough_and_numbered_in_raster_order(seed):
    from instseg.labels.regions import connected_components

    rng = np.random.default_rng(seed)
    maps = Embeddings(
        embeddings=rng.integers(0, 4, (20, 20, 2)).astype(np.float32) * 10,
        foreground=rng.random((20, 20), np.float32),
        seeds=rng.random((20, 20), np.float32),
    )
    for noise in ("drop", "nearest"):
        found = cluster(maps, settings(min_size=3, noise=noise, foreground_threshold=0.3))
        assert np.array_equal(found, connected_components(found)) or same_partition(found, connected_components(found))
        _, first = np.unique(found[found > 0], return_index=True)
        assert (np.diff(first) > 0).all()
        assert sorted(set(found.ravel().tolist()) - {0}) == list(range(1, found.max() + 1))
        assert not found[maps.foreground < 0.3].any()
        assert all(count >= 3 for count in np.bincount(found.ravel())[1:])


def test_memory_grows_with_the_pixels_where_all_are_seeds():
    """Pairs of seeds would be a quadratic number: 250 MiB here, 80 GiB for 256 x 256 pixels."""
    maps = maps_of(np.zeros((60, 60, 2), np.float32), bandwidth=3.0)
    cluster(maps, ClusterSettings())  # Imports take memory, too.
    tracemalloc.start()
    try:
        assert (cluster(maps, ClusterSettings()) == 1).all()
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bandwidth": 0.0}, "bandwidth is 0.0, expected a number above 0"),
        ({"bandwidth": float("nan")}, "bandwidth is nan, expected a number above 0"),
        ({"min_size": 0}, "min_size is 0, expected a number above 0"),
        ({"position_weight": -1.0}, "position_weight is -1.0, expected 0 or a number above 0"),
        ({"foreground_threshold": 0.0}, "foreground_threshold is 0.0, expected above 0 and below 1"),
        ({"seed_threshold": 1.0}, "seed_threshold is 1.0, expected above 0 and below 1"),
        ({"membership_threshold": 1.5}, "membership_threshold is 1.5, expected above 0 and below 1"),
        ({"min_cluster_size": 1}, "min_cluster_size is 1, expected at least 2 pixels"),
        ({"min_samples": 0}, "min_samples is 0, expected a number above 0"),
        ({"method": "slow"}, "method is 'slow', expected one of fast, hdbscan"),
        ({"noise": "keep"}, "noise is 'keep', expected one of nearest, drop"),
    ],
)
def test_settings_out_of_bounds_are_refused(changes, message):
    with pytest.raises(UsageError) as caught:
        ClusterSettings(**changes)
    assert str(caught.value) == message
    assert caught.value.parameter == next(iter(changes))


def test_holes_are_filled_on_request():
    foreground = np.zeros((12, 12), np.float32)
    foreground[2:9, 2:9] = 1
    foreground[4:6, 4:6] = 0
    maps = Embeddings(embeddings=np.zeros((12, 12, 2), np.float32), foreground=foreground)
    settings = ClusterSettings(bandwidth=1.0)
    assert cluster(maps, settings).sum() == 45
    assert cluster(maps, dataclasses.replace(settings, fill_holes=True)).sum() == 49
