"""The numbers of objects in volumes are those of scikit-image, whatever the slabs that labels come in."""

import warnings

import numpy as np
import pytest
from scipy import ndimage

from instseg.errors import InstsegError
from instseg.measurements import column_names, measure, measure_strips, sweep
from instseg.measurements.summary import VOLUME_SUMMARY_COLUMNS, summarise

PROPERTIES = (
    *("label", "centroid", "bbox", "area", "equivalent_diameter_area", "axis_major_length", "axis_minor_length"),
    *("extent", "intensity_mean", "intensity_median", "intensity_std", "intensity_min", "intensity_max"),
)


def blobs(seed):
    """Blobs that touch, have holes, and are in several pieces."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 24, 3))
    noise = ndimage.gaussian_filter(rng.random(shape), rng.uniform(0.3, 2))
    labels = ndimage.label(noise > np.quantile(noise, rng.uniform(0.3, 0.8)))[0]
    return labels % 7 if seed % 2 else labels * 5


@pytest.mark.parametrize("seed", range(8))
def test_numbers_are_those_of_scikit_image(seed):
    labels = blobs(seed)
    image = np.random.default_rng(seed).integers(0, 60_000, (*labels.shape, 2)).astype(np.uint16)
    with warnings.catch_warnings(action="ignore"):
        from skimage.measure import regionprops_table

        expected = regionprops_table(labels, image, properties=PROPERTIES)
    found = measure(labels, image)
    for name, values in expected.items():
        # The axes are square roots of what is 0 but for rounding, in objects of one voxel; scikit-image has NaN there.
        exact = np.isfinite(values)
        np.testing.assert_allclose(found[name][exact], values[exact], rtol=1e-9, atol=1e-6, err_msg=name)
    assert set(found) - set(expected) == {"touches_border", "intensity_sum-0", "intensity_sum-1"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("planes", [1, 2, 5])
def test_slabs_change_no_number(seed, planes):
    labels = blobs(seed)
    image = np.random.default_rng(seed).random((*labels.shape, 1)).astype(np.float32)
    whole = measure(labels, image[..., 0], pixel_size=(2.0, 0.5, 0.5))
    in_slabs = measure_strips(
        lambda depth: (labels[first : first + depth] for first in range(0, len(labels), depth)),
        labels.shape,
        lambda first, last: image[first:last],
        channels=1,
        pixel_size=(2.0, 0.5, 0.5),
        rows=planes,
    )
    assert list(whole) == list(in_slabs) == column_names(1, (2.0, 0.5, 0.5), ndim=3)
    for name, values in whole.items():
        np.testing.assert_array_equal(in_slabs[name], values, err_msg=name)


def test_numbers_worked_out_by_hand():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:3, 2:4, 1:5] = 4
    labels[4, 5, 6] = 9
    found = measure(labels, labels, pixel_size=(2.0, 0.5, 0.25))
    assert found["area"].tolist() == [16, 1]
    assert [found[f"centroid-{axis}"].tolist() for axis in range(3)] == [[1.5, 4], [2.5, 5], [2.5, 6]]
    boxes = np.stack([found[f"bbox-{index}"] for index in range(6)]).T
    assert boxes.tolist() == [[1, 2, 1, 3, 4, 5], [4, 5, 6, 5, 6, 7]]
    assert found["extent"].tolist() == [1, 1]
    assert found["touches_border"].tolist() == [False, True]
    assert found["intensity_sum"].tolist() == [64, 9]
    assert found["volume_um3"].tolist() == [4, 0.25]
    assert found["centroid_um-0"].tolist() == [3, 8]
    assert found["equivalent_diameter_area_um"] == pytest.approx(np.cbrt(6 / np.pi * np.array([4, 0.25])))
    # A row of four voxels of 0.25, and two planes of 2: of these, the longer direction is that across the planes.
    assert found["axis_major_length"][0] == pytest.approx(np.sqrt(20 * 15 / 12))
    assert found["axis_major_length_um"][0] == pytest.approx(np.sqrt(20 * 4 * 3 / 12))


def test_labels_without_objects_have_all_columns():
    empty = measure(np.zeros((2, 3, 4), np.int32), np.zeros((2, 3, 4, 2)), pixel_size=(1, 1, 1))
    assert all(len(values) == 0 for values in empty.values())
    assert list(empty) == column_names(2, (1, 1, 1), ndim=3)
    assert not {"perimeter", "eccentricity", "orientation", "solidity", "euler_number", "area_um2"} & set(empty)


def test_objects_larger_than_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(sweep, "_MAX_PENDING_BYTES", 100)
    labels = np.ones((6, 9, 9), np.int32)
    with pytest.raises(InstsegError, match="the objects that reach over plane 0 would take"):
        measure_strips(lambda planes: iter((labels[:3], labels[3:])), labels.shape, rows=3)


def test_figures_of_a_volume():
    figures = summarise(np.array([10, 30]), (5, 20, 10), (2.0, 0.5, 0.5))
    assert tuple(figures) == VOLUME_SUMMARY_COLUMNS
    assert figures == {
        "depth": 5,
        "height": 20,
        "width": 10,
        "count": 2,
        "density": 2000.0,
        "median_volume": 20.0,
        "foreground_share": 0.04,
        "density_per_mm3": 4e6,
        "median_volume_um3": 10.0,
    }
    assert summarise(np.zeros(0, int), (5, 20, 10))["median_volume"] is None
