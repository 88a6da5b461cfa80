"""Pictures: their shapes and types, and the exact colours of tiny cases."""

from collections.abc import Callable

import numpy as np
import pytest

from instseg.visualization import pictures

DARK = [18, 18, 22]
DARK_VIOLET, YELLOW = [68, 1, 84], [253, 231, 37]  # the ends of viridis

LABELS = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 7, 7, 7, 0],
        [0, 7, 7, 7, 0],
        [0, 7, 7, 7, 0],
        [0, 0, 0, 9, 9],
    ]
)


def assert_picture(picture: np.ndarray, shape: tuple[int, int]) -> None:
    assert picture.dtype == np.uint8
    assert picture.shape == (*shape, 3)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int32, np.float16, np.float32, np.float64])
def test_to_rgb8_uses_the_full_range(dtype: type) -> None:
    image = np.zeros((4, 6), dtype)
    image[:, 3:] = 1
    picture = pictures.to_rgb8(image)
    assert_picture(picture, (4, 6))
    assert (picture[:, :3] == 0).all()
    assert (picture[:, 3:] == 255).all()


def test_to_rgb8_clips_outliers() -> None:
    image = np.arange(10_000, dtype=np.float64).reshape(100, 100)
    image[0, 0], image[-1, -1] = -1e9, 1e9
    picture = pictures.to_rgb8(image)[:, :, 0]
    assert picture[0, 0] == picture[0, 99] == 0
    assert picture[-1, -1] == picture[-1, 81] == 255
    assert picture[50, 0] in (126, 127)


def test_to_rgb8_shows_the_one_bright_pixel() -> None:
    image = np.zeros((100, 100), np.uint16)
    image[40, 40] = 9
    assert pictures.to_rgb8(image).sum() == 3 * 255


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf, -np.inf, 1e300])
def test_to_rgb8_of_a_constant_is_black(value: float) -> None:
    assert not pictures.to_rgb8(np.full((3, 4), value)).any()


def test_to_rgb8_of_colour_stretches_each_channel() -> None:
    image = np.zeros((2, 2, 3))
    image[0, 0] = [1, 20, 300]
    picture = pictures.to_rgb8(image)
    assert picture[0, 0].tolist() == [255, 255, 255]
    assert not picture[1].any()


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (4, [0, 1, 2])])
def test_to_rgb8_of_other_channels(channels: int, shown: list[int]) -> None:
    image = np.random.default_rng(0).random((5, 6, channels))
    picture = pictures.to_rgb8(image)
    assert_picture(picture, (5, 6))
    for position, channel in enumerate(shown):
        assert (picture[:, :, position] == pictures.to_rgb8(image[:, :, channel])[:, :, 0]).all()


def test_label_colours_are_bright_distinct_and_black_on_the_ground() -> None:
    labels = np.arange(1001).reshape(7, 143)
    picture = pictures.label2rgb(labels)
    assert_picture(picture, (7, 143))
    colours = picture.reshape(-1, 3).astype(int)
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[1:].max(axis=1).min() >= 150
    assert len(np.unique(colours[1:], axis=0)) > 800
    assert np.abs(np.diff(colours[1:], axis=0)).sum(axis=1).min() >= 100  # labels that follow each other


def test_label_colours_belong_to_the_label() -> None:
    few, many = np.array([[0, 3]]), np.arange(5)[None]
    assert pictures.label2rgb(few)[0, 1].tolist() == pictures.label2rgb(many)[0, 3].tolist()
    for dtype in (np.uint8, np.uint16, np.int64, np.uint64):
        assert (pictures.label2rgb(few.astype(dtype)) == pictures.label2rgb(few)).all()


def test_label_colours_of_huge_labels() -> None:
    labels = np.array([[0, 3, 10**15]], np.uint64)
    picture = pictures.label2rgb(labels)
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, 1].tolist() == pictures.label2rgb(np.array([[3]]))[0, 0].tolist()
    assert picture[0, 2].max() >= 150


def test_overlay_outlines_inside_the_instance() -> None:
    picture = pictures.overlay(np.zeros((5, 5)), LABELS, fill=0.0)
    colours = pictures.label2rgb(LABELS)
    outline = LABELS > 0
    outline[2, 2] = False  # the only pixel of 7 with no neighbour of another label
    assert (picture[outline] == colours[outline]).all()
    assert not picture[~outline].any()


def test_overlay_shows_classes_in_the_colours_of_their_legend() -> None:
    classes = np.zeros(10, np.int32)
    classes[[7, 9]] = 2, 1
    picture = pictures.overlay(np.zeros((5, 5)), LABELS, fill=0.0, classes=classes)
    legend = pictures.classes_legend(200, ["first", "second"])
    shown = {tuple(colour) for colour in legend.reshape(-1, 3).tolist()}
    assert tuple(picture[1, 1].tolist()) in shown
    assert tuple(picture[4, 4].tolist()) in shown
    assert picture[1, 1].tolist() != picture[4, 4].tolist()


def test_overlay_fills_lightly() -> None:
    picture = pictures.overlay(np.zeros((5, 5)), LABELS, fill=0.5)
    assert picture[2, 2].tolist() == np.rint(pictures.label2rgb(LABELS)[2, 2] / 2).tolist()
    assert not picture[0].any()


def test_overlay_is_thicker_on_large_images() -> None:
    labels = np.zeros((2000, 40), np.int32)
    labels[100:1900, 10:30] = 1
    picture = pictures.overlay(np.zeros(labels.shape), labels, fill=0.0)
    assert picture[1000].any(axis=1).nonzero()[0].tolist() == [10, 11, 28, 29]
    assert picture[:, 20].any(axis=1).nonzero()[0].tolist() == [100, 101, 1898, 1899]


def test_overlay_without_instances_is_the_image() -> None:
    image = np.random.default_rng(0).random((6, 5, 3))
    assert (pictures.overlay(image, np.zeros((6, 5), np.int32)) == pictures.to_rgb8(image)).all()


def test_foreground_picture_ends_of_the_scale() -> None:
    picture = pictures.foreground_picture(np.array([[0.0, 1.0, -3.0, 8.0, np.nan]]))
    assert picture[0].tolist() == [DARK_VIOLET, YELLOW, DARK_VIOLET, YELLOW, DARK_VIOLET]
    assert pictures.foreground_picture(np.array([[False, True]]))[0].tolist() == [DARK_VIOLET, YELLOW]


@pytest.mark.parametrize(
    ("dimensions", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (8, (2, 4)), (16, (4, 4))]
)
def test_embeddings_picture_is_a_grid(dimensions: int, grid: tuple[int, int]) -> None:
    embeddings = np.random.default_rng(0).normal(size=(40, 60, dimensions)).astype(np.float32)
    picture = pictures.embeddings_picture(embeddings, np.ones((40, 60)))
    head, gap = 20, 4
    rows, columns = grid
    assert_picture(picture, (rows * (40 + head) + (rows - 1) * gap, columns * 60 + (columns - 1) * gap))


def test_embeddings_picture_stretches_the_foreground_and_dims_the_ground() -> None:
    embeddings = np.array([[[0.0], [0.0], [5.0], [5.0], [900.0]]], np.float32)
    foreground = np.array([[1.0, 0.5, 1.0, 0.9, 0.1]])
    panel = pictures.embeddings_picture(embeddings, foreground)[-1]
    assert panel.tolist() == [DARK_VIOLET, DARK_VIOLET, YELLOW, YELLOW, [c // 6 for c in YELLOW]]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_embeddings_picture_without_anything_to_see(value: float) -> None:
    embeddings = np.full((4, 4, 3), value, np.float32)
    for foreground in (np.zeros((4, 4)), np.ones((4, 4))):
        assert pictures.embeddings_picture(embeddings, foreground).dtype == np.uint8


def test_side_by_side_pads_and_captions() -> None:
    red, green = np.full((2, 3, 3), (255, 0, 0), np.uint8), np.full((4, 2, 3), (0, 255, 0), np.uint8)
    picture = pictures.hstack(red, green, gap=1)
    assert_picture(picture, (4, 6))
    assert (picture[:2, :3] == red).all()
    assert (picture[:, 4:] == green).all()
    assert (picture[2:, :3] == DARK).all()
    assert (picture[:, 3] == DARK).all()
    wide = np.repeat(red, 30, axis=1)
    captioned = pictures.hstack(wide, captions=["image"])
    assert (captioned[-2:] == wide).all()
    assert len(np.unique(captioned[:-2])) > 5  # some letters
    assert pictures.hstack(wide, captions=[""])[:-2].tolist() == [[DARK] * 90] * (len(captioned) - 2)


def test_side_by_side_names_its_mistakes() -> None:
    with pytest.raises(ValueError, match="got 0 pictures"):
        pictures.hstack()
    with pytest.raises(ValueError, match="got 1 pictures and 2 captions"):
        pictures.hstack(np.zeros((2, 2, 3), np.uint8), captions=["a", "b"])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: pictures.label2rgb(LABELS),
        lambda: pictures.overlay(LABELS, LABELS),
        lambda: pictures.embeddings_picture(np.dstack([LABELS, LABELS.T]).astype(float), LABELS > 0),
    ],
)
def test_the_same_input_gives_the_same_picture(draw: Callable[[], np.ndarray]) -> None:
    assert (draw() == draw()).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_images_without_pixels(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, np.int32)
    assert_picture(pictures.to_rgb8(nothing), shape)
    assert_picture(pictures.label2rgb(nothing), shape)
    assert_picture(pictures.overlay(nothing, nothing), shape)
    assert_picture(pictures.foreground_picture(nothing), shape)


def test_negative_labels_are_gray_and_change_no_other_colour():
    labels = np.array([[0, 1, 2], [5, 3, 1]])
    picture = pictures.label2rgb(np.where(labels == 5, -1, labels))
    assert picture[1, 0].tolist() == [128] * 3
    labels[1, 0] = 0
    picture[1, 0] = 0
    assert (picture == pictures.label2rgb(labels)).all()
