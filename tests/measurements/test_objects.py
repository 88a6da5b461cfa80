"""The numbers of objects are those of scikit-image, whatever the bands that labels come in."""

import warnings

import numpy as np
import pytest
from scipy import ndimage

from instseg.errors import InstsegError, UsageError
from instseg.measurements import column_names, measure, measure_strips, sweep

PROPERTIES = (
    *("label", "centroid", "bbox", "area", "perimeter", "equivalent_diameter_area", "axis_major_length"),
    *("axis_minor_length", "eccentricity", "orientation", "solidity", "euler_number"),
    *("intensity_mean", "intensity_median", "intensity_std", "intensity_min", "intensity_max"),
)


def scikit_image(labels, image):
    with warnings.catch_warnings(action="ignore"):
        from skimage.measure import regionprops_table

        return regionprops_table(labels, image, properties=PROPERTIES)


def smooth_labels(seed):
    """Blobs, that touch, have holes and are in several pieces."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 90, 2))
    noise = ndimage.gaussian_filter(rng.random(shape), rng.uniform(0.3, 3))
    labels = ndimage.label(noise > np.quantile(noise, rng.uniform(0.2, 0.8)))[0]
    return labels % 7 if seed % 2 else labels * 5


def scattered_labels(seed):
    """Single pixels of few labels in many pieces."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 6, (17, 23)) * rng.integers(0, 2, (17, 23)) * 1000


def image_of(shape, seed, dtype=np.uint16, channels=2):
    values = np.random.default_rng(seed).normal(0, 3000, (*shape, channels))
    return values.astype(dtype) if np.dtype(dtype).kind != "u" else np.abs(values).astype(dtype)


def check(labels, image):
    expected, found = scikit_image(labels, image), measure(labels, image)
    round_ones = expected["axis_major_length"] - expected["axis_minor_length"] < 1e-6
    for name, values in expected.items():
        ours = found[name]
        if name == "orientation":
            # Both ends of the range are the same line; round objects have none.
            turn = np.abs(values - ours)[~round_ones]
            np.testing.assert_allclose(np.minimum(turn, np.pi - turn), 0, atol=1e-9)
        elif name in ("axis_minor_length", "axis_major_length", "eccentricity"):
            # Square roots of what is 0 but for rounding.
            np.testing.assert_allclose(ours, values, rtol=1e-9, atol=1e-6)
        else:
            np.testing.assert_allclose(ours, values, rtol=1e-5 if image.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("draw", [smooth_labels, scattered_labels])
@pytest.mark.parametrize("seed", range(8))
def test_numbers_are_those_of_scikit_image(draw, seed):
    labels = draw(seed)
    check(labels, image_of(labels.shape, seed))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_intensities_of_any_type(dtype):
    labels = smooth_labels(3)
    gray = image_of(labels.shape, 1, dtype, channels=1)[..., 0]
    check(labels, gray)
    # An image of one channel is gray.
    assert list(measure(labels, gray[..., None])) == list(measure(labels, gray))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rows", [2, 3, 10])
def test_bands_change_no_number(seed, rows):
    labels = smooth_labels(seed)
    image = image_of(labels.shape, seed, np.float32 if seed % 2 else np.uint16)
    whole = measure(labels, image, pixel_size=(0.5, 0.25))
    banded = measure_strips(
        lambda height: (labels[top : top + height] for top in range(0, len(labels), height)),
        labels.shape,
        lambda top, bottom: image[top:bottom],
        channels=2,
        pixel_size=(0.5, 0.25),
        rows=rows,
    )
    assert list(whole) == list(banded)
    for name, values in whole.items():
        np.testing.assert_array_equal(banded[name], values, err_msg=name)


def test_numbers_worked_out_by_hand():
    labels = np.zeros((6, 7), np.uint8)
    labels[1:4, 2:5] = 3
    labels[2, 3] = 0
    labels[5, 6] = 9
    found = measure(labels, labels, pixel_size=(2.0, 2.0))
    assert found["label"].tolist() == [3, 9]
    assert found["area"].tolist() == [8, 1]
    assert (found["centroid-0"].tolist(), found["centroid-1"].tolist()) == ([2, 5], [3, 6])
    assert np.stack([found[f"bbox-{index}"] for index in range(4)]).T.tolist() == [[1, 2, 4, 5], [5, 6, 6, 7]]
    assert found["euler_number"].tolist() == [0, 1]
    assert found["solidity"].tolist() == [8 / 9, 1]
    assert found["touches_border"].tolist() == [False, True]
    assert found["perimeter"].tolist() == [8, 0]
    assert found["intensity_sum"].tolist() == [24, 9]
    assert found["area_um2"].tolist() == [32, 4]
    assert (found["centroid_um-0"].tolist(), found["centroid_um-1"].tolist()) == ([4, 10], [6, 12])
    assert found["perimeter_um"].tolist() == [16, 0]
    assert found["axis_major_length_um"].tolist() == (2 * found["axis_major_length"]).tolist()


def test_pixels_that_are_not_square_have_no_perimeter_and_their_own_axes():
    labels = np.ones((4, 8), np.int32)
    found = measure(labels, pixel_size=(2.0, 1.0))
    assert "perimeter_um" not in found
    assert found["area_um2"].tolist() == [64]
    square = measure(np.ones((8, 8), np.int32))
    # In micrometres it is nearly as high as wide.
    assert found["axis_major_length_um"][0] == pytest.approx(square["axis_major_length"][0])
    assert found["axis_major_length"][0] == pytest.approx(2 * found["axis_minor_length"][0], rel=0.05)


def test_labels_without_objects_have_all_columns():
    found = measure(np.zeros((4, 5), np.uint16), np.zeros((4, 5, 3)), pixel_size=(1, 1))
    assert all(len(values) == 0 for values in found.values())
    assert list(found) == column_names(3, (1, 1))
    assert list(measure(np.zeros((0, 5), np.int32))) == column_names()
    assert list(measure(np.zeros((0, 5), np.int32), np.zeros((0, 5)))) == column_names(1)


def test_large_labels_and_few_of_them():
    labels = np.zeros((3, 4), np.uint32)
    labels[0, 0], labels[2, 1:] = 2**32 - 1, 7
    found = measure(labels, np.arange(12).reshape(3, 4))
    assert found["label"].tolist() == [7, 2**32 - 1]
    assert found["intensity_mean"].tolist() == [10, 0]


def test_labels_that_floats_do_not_tell_apart():
    labels = np.zeros((6, 9), np.uint64)
    labels[1:3, 1:3], labels[1:5, 4:8] = 2**60 + 1, 2**60 + 2
    found, small = measure(labels), measure(labels % np.uint64(2**60))
    assert found["label"].tolist() == [2**60 + 1, 2**60 + 2]
    assert found["perimeter"].tolist() == small["perimeter"].tolist() == [4, 12]


def test_values_that_are_no_numbers_are_not_hidden():
    labels = np.array([[1, 1, 2, 2]])
    found = measure(labels, np.array([[1, np.nan, 3, 4]], np.float32))
    for name in ("mean", "median", "std", "min", "max", "sum"):
        assert np.isnan(found[f"intensity_{name}"]).tolist() == [True, False]
    found = measure(labels, np.array([[1, np.inf, 3, 4]]))
    assert (found["intensity_max"].tolist(), np.isnan(found["intensity_std"]).tolist()) == ([np.inf, 4], [True, False])


@pytest.mark.parametrize(
    ("labels", "image", "size", "message"),
    [
        (np.zeros((2, 2)), None, None, "labels are float64 of shape"),
        (np.zeros((2, 2, 2, 2), int), None, None, "of shape \\(2, 2, 2, 2\\)"),
        (np.zeros((2, 2), int), np.zeros((2, 2, 2, 1)), None, "the image has shape"),
        (np.zeros((2, 2, 2), int), np.zeros((2, 2)), None, "expected \\(2, 2, 2\\)"),
        (np.zeros((2, 2), int), None, (2, 1, 1), "pixel_size is 2,1,1, expected .* as these labels are an image"),
        (np.zeros((2, 2, 2), int), None, (1, 1), "pixel_size is 1, expected three numbers of micrometres"),
        (np.zeros((2, 2), int), None, (1, 1, 1), "pixel_size is 1,1,1, expected .* as these labels are an image"),
        (np.full((2, 2), -3), None, None, "negative value -3"),
        (np.full((2, 2), 2**63, np.uint64), None, None, "the value 9223372036854775808, expected at most"),
        (np.zeros((2, 2), int), np.zeros((3, 2)), None, "the image has shape \\(3, 2\\), expected \\(2, 2\\)"),
        (np.zeros((2, 2), int), np.zeros((2, 2), str), None, "expected numbers"),
        (np.zeros((2, 2), int), None, (0, 1), "pixel_size is 0,1, expected a number of micrometres above 0"),
        (np.zeros((2, 2), int), None, (-1, -1), "pixel_size is -1"),
        (np.zeros((2, 2), int), None, (np.nan, 1), "pixel_size is nan,1"),
        (np.zeros((2, 2), int), None, (np.inf, 1), "pixel_size is inf,1"),
    ],
)
def test_what_cannot_be_measured_is_refused(labels, image, size, message):
    with pytest.raises(UsageError, match=message):
        measure(labels, image, pixel_size=size)


def test_objects_larger_than_the_memory_are_refused_before_the_work(monkeypatch):
    monkeypatch.setattr(sweep, "_MAX_PENDING_BYTES", 100)
    labels = np.ones((40, 40), np.int32)

    def read(top, bottom):
        raise AssertionError("the image is not read")

    with pytest.raises(InstsegError, match="the objects that reach over row 0 would take .* cut the image"):
        measure_strips(
            lambda rows: (labels[top : top + rows] for top in range(0, 40, rows)), (40, 40), read, channels=1, rows=10
        )
