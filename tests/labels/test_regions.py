import numpy as np
import pytest
from scipy import ndimage

from instseg.errors import UsageError
from instseg.labels.regions import (
    connected_components,
    dense_labels,
    equivalent_diameter,
    fill_holes,
    find_runs,
    relabel_sequential,
)


def test_pieces_are_numbered_in_raster_order_and_split_by_value():
    labels = np.array(
        [
            [5, 5, 0, 2, 2],
            [0, 5, 0, 0, 2],
            [3, 0, 5, 0, 0],
            [3, 3, 0, 0, 5],
        ]
    )
    by_eight = [
        [1, 1, 0, 2, 2],
        [0, 1, 0, 0, 2],
        [3, 0, 1, 0, 0],
        [3, 3, 0, 0, 4],
    ]
    by_four = [
        [1, 1, 0, 2, 2],
        [0, 1, 0, 0, 2],
        [3, 0, 4, 0, 0],
        [3, 3, 0, 0, 5],
    ]
    assert connected_components(labels).tolist() == by_eight
    assert connected_components(labels, connectivity=4).tolist() == by_four
    assert connected_components(labels).dtype == np.int32


def test_touching_instances_stay_apart():
    assert connected_components(np.array([[1, 2], [1, 2]])).tolist() == [[1, 2], [1, 2]]


def test_a_row_does_not_touch_the_next_rows_begin_around_the_border():
    assert connected_components(np.array([[0, 0, 1], [1, 0, 0]])).tolist() == [[0, 0, 1], [2, 0, 0]]


def test_pieces_that_meet_only_far_below():
    labels = np.array([[1, 0, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]])
    assert (connected_components(labels) == (labels > 0)).all()


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (23, 17), (60, 64)])
def test_pieces_equal_scipys_value_by_value(connectivity, shape):
    labels = np.random.default_rng(3).integers(0, 3, shape).astype(np.uint16)
    structure = np.ones((3, 3)) if connectivity == 8 else None
    expected = np.zeros(shape, np.int64)
    for value in (1, 2):
        pieces, count = ndimage.label(labels == value, structure)
        expected = np.where(pieces > 0, pieces + expected.max(), expected)
        assert count > 0
    assert np.array_equal(connected_components(labels, connectivity=connectivity), relabel_sequential(expected))


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("shape", [(1, 9, 30), (9, 1, 30), (30, 9, 1), (7, 11, 13), (40, 30, 20)])
def test_pieces_of_volumes_equal_scipys_value_by_value(connectivity, shape):
    labels = np.random.default_rng(3).choice([0, 0, 0, 0, 1, 2], shape).astype(np.uint16)
    structure = np.ones((3, 3, 3)) if connectivity == 26 else None
    expected = np.zeros(shape, np.int64)
    for value in (1, 2):
        pieces, count = ndimage.label(labels == value, structure)
        expected = np.where(pieces > 0, pieces + expected.max(), expected)
        assert count > 1
    assert np.array_equal(connected_components(labels, connectivity=connectivity), relabel_sequential(expected))


def test_a_plane_does_not_touch_the_next_around_its_edges():
    labels = np.zeros((2, 3, 3), int)
    labels[0, 2, 2] = labels[1, 0, 0] = labels[1, 1, 2] = 1
    assert connected_components(labels)[[0, 1, 1], [2, 0, 1], [2, 0, 2]].tolist() == [1, 2, 1]
    assert connected_components(labels, connectivity=6).max() == 3


def test_pieces_of_background_and_of_no_pixels():
    assert connected_components(np.zeros((2, 3), np.uint8)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert connected_components(np.zeros((0, 3), np.uint8)).shape == (0, 3)


def test_pieces_refuse_what_is_no_label_image():
    with pytest.raises(UsageError, match=r"float64 of shape \(2, 2\), expected integers"):
        connected_components(np.ones((2, 2)))
    with pytest.raises(UsageError, match="connectivity is 6, expected 4 or 8"):
        connected_components(np.ones((2, 2), int), connectivity=6)
    with pytest.raises(UsageError, match="connectivity is 8, expected 6 or 26"):
        connected_components(np.ones((2, 2, 2), int), connectivity=8)
    with pytest.raises(UsageError, match=r"of shape \(2,\), expected integers of shape \(H, W\) or \(Z, Y, X\)"):
        connected_components(np.ones(2, int))


@pytest.mark.parametrize("scale", [1, 10**12])
def test_remap_numbers_by_first_appearance(scale):
    labels = np.array([[0, 9, 4], [9, 0, 1]], np.int64) * scale
    result = relabel_sequential(labels)
    assert result.tolist() == [[0, 1, 2], [1, 0, 3]]
    assert result.dtype == np.int32


def test_remap_takes_unsigned_values_beyond_int64():
    assert relabel_sequential(np.array([[2**64 - 1, 0, 2**63]], np.uint64)).tolist() == [[1, 0, 2]]


def test_remap_does_not_depend_on_the_numbers():
    labels = np.random.default_rng(0).integers(0, 50, (40, 40))
    numbers = np.random.default_rng(1).permutation(np.arange(1, 51)) * 100_000
    permuted = np.where(labels > 0, numbers[labels - 1], 0)
    assert np.array_equal(relabel_sequential(permuted), relabel_sequential(labels))


def test_remap_refuses_negative_values():
    with pytest.raises(UsageError, match="negative value -1"):
        relabel_sequential(np.array([[-1, 2]]))


@pytest.mark.parametrize("seed", range(8))
def test_filled_holes_equal_scipys_hole_by_hole(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 1, 1, 1, 2], (11, 13))
    labels = np.kron(coarse, np.ones((2, 3), int)).astype(np.int32)
    grounds, count = ndimage.label(labels == 0)
    expected = labels.copy()
    for ground in range(1, count + 1):
        hole = grounds == ground
        around = set(labels[ndimage.binary_dilation(hole) & ~hole])
        edge = hole[0].any() or hole[-1].any() or hole[:, 0].any() or hole[:, -1].any()
        if not edge and len(around) == 1:
            expected[hole] = around.pop()
    assert (expected != labels).any()
    np.testing.assert_array_equal(fill_holes(labels), expected)


def test_a_hole_with_another_instance_in_it_or_at_the_edge_is_none():
    ring = np.pad(np.zeros((5, 5), np.int32), 1, constant_values=7)
    inhabited = ring.copy()
    inhabited[3, 3] = 2
    np.testing.assert_array_equal(fill_holes(inhabited), inhabited)
    np.testing.assert_array_equal(fill_holes(ring[1:]), ring[1:])
    np.testing.assert_array_equal(fill_holes(ring), np.full((7, 7), 7))
    assert fill_holes(np.zeros((0, 4), np.int32)).shape == (0, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("factor", [1, 10])
def test_dense_labels_are_numbered_in_their_own_order(dtype, factor):
    # Labels far larger than the image are sorted, others counted.
    labels = np.array([[0, 9, 9], [4, 4, 9], [0, 25, 0]], dtype) * dtype(factor)
    ids, numbers = dense_labels(labels)
    assert ids.tolist() == [4 * factor, 9 * factor, 25 * factor]
    assert ids.dtype == dtype
    assert numbers.tolist() == [[0, 2, 2], [1, 1, 2], [0, 3, 0]]
    assert numbers.dtype == np.int32


@pytest.mark.parametrize("large", [1, 1000])
def test_dense_labels_without_background_or_without_instances(large):
    ids, numbers = dense_labels(np.array([[2, 1]]) * large)
    assert (ids.tolist(), numbers.tolist()) == ([large, 2 * large], [[2, 1]])
    ids, numbers = dense_labels(np.zeros((2, 1), np.int32))
    assert (ids.tolist(), numbers.tolist()) == ([], [[0], [0]])
    ids, numbers = dense_labels(np.zeros((0, 3), np.int32))
    assert (ids.size, numbers.shape, numbers.dtype) == (0, (0, 3), np.int32)


def test_huge_labels_become_dense():
    ids, numbers = dense_labels(np.array([[0, 2**63, 2**62, 2**63]], np.uint64))
    assert ids.tolist() == [2**62, 2**63]
    assert numbers.tolist() == [[0, 2, 1, 2]]


def test_equivalent_diameters():
    diameters = equivalent_diameter(np.array([0, 3, 12]))
    np.testing.assert_allclose(diameters, [0, 2 * (3 / np.pi) ** 0.5, 4 * (3 / np.pi) ** 0.5])
    assert diameters.dtype == np.float64
    assert equivalent_diameter(np.pi / 4) == 1


@pytest.mark.parametrize("share", [0.0005, 0.5])
def test_runs_are_the_same_in_sparse_and_in_dense_images(share):
    rng = np.random.default_rng(3)
    labels = (rng.random((150, 170)) < share) * rng.integers(1, 4, (150, 170))
    runs = find_runs(labels)
    assert runs.lengths.sum() == labels.size
    assert np.array_equal(np.repeat(runs.values, runs.lengths).reshape(labels.shape), labels)
    expected = np.zeros(labels.shape, int)
    for value in (1, 2, 3):
        pieces, _ = ndimage.label(labels == value, np.ones((3, 3)))
        expected += (pieces > 0) * (pieces * 4 + value)
    found = np.repeat(runs.components, runs.lengths).reshape(labels.shape)
    pairs = set(zip(expected.ravel().tolist(), found.ravel().tolist(), strict=True))
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}) == found.max() + 1


def test_holes_of_volumes_are_filled_and_tunnels_are_not():
    labels = np.zeros((5, 5, 7), np.int32)
    labels[1:4, 1:4, 1:4] = 3
    labels[2, 2, 2] = 0
    filled = labels.copy()
    filled[2, 2, 2] = 3
    assert np.array_equal(fill_holes(labels), filled)
    # A way out over a face, and none over a corner.
    tunnel = labels.copy()
    tunnel[1, 2, 2] = 0
    assert np.array_equal(fill_holes(tunnel), tunnel)
    labels[1, 1, 1] = filled[1, 1, 1] = 0
    assert np.array_equal(fill_holes(labels), filled)
    # What two surround is no hole of either, nor is what lies at the edge.
    labels[2, 2, 3] = 8
    assert fill_holes(labels)[2, 2, 2] == 0
    assert fill_holes(np.ascontiguousarray(labels[2:]))[0, 2, 2] == 0


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1)])
def test_the_order_of_axes_changes_no_pieces_and_no_holes(axes):
    labels = np.kron(np.random.default_rng(5).choice([0, 1, 1, 1, 2], (6, 5, 4)), np.ones((2, 2, 2), int)).astype(
        np.int32
    )
    back = np.argsort(axes)
    moved = np.ascontiguousarray(np.transpose(labels, axes))
    assert np.array_equal(np.transpose(fill_holes(moved), back), fill_holes(labels))
    pieces = np.transpose(connected_components(moved), back)
    assert np.array_equal(relabel_sequential(pieces), connected_components(labels))
