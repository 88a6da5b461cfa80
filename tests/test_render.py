"""Pictures: their shapes and types, and the exact colours of tiny cases."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from instseg import charts, render

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
    picture = render.to_rgb8(image)
    assert_picture(picture, (4, 6))
    assert (picture[:, :3] == 0).all()
    assert (picture[:, 3:] == 255).all()


def test_to_rgb8_clips_outliers() -> None:
    image = np.arange(10_000, dtype=np.float64).reshape(100, 100)
    image[0, 0], image[-1, -1] = -1e9, 1e9
    picture = render.to_rgb8(image)[:, :, 0]
    assert picture[0, 0] == picture[0, 99] == 0
    assert picture[-1, -1] == picture[-1, 81] == 255
    assert picture[50, 0] in (126, 127)


def test_to_rgb8_shows_the_one_bright_pixel() -> None:
    image = np.zeros((100, 100), np.uint16)
    image[40, 40] = 9
    assert render.to_rgb8(image).sum() == 3 * 255


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf, -np.inf, 1e300])
def test_to_rgb8_of_a_constant_is_black(value: float) -> None:
    assert not render.to_rgb8(np.full((3, 4), value)).any()


def test_to_rgb8_of_colour_stretches_each_channel() -> None:
    image = np.zeros((2, 2, 3))
    image[0, 0] = [1, 20, 300]
    picture = render.to_rgb8(image)
    assert picture[0, 0].tolist() == [255, 255, 255]
    assert not picture[1].any()


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (4, [0, 1, 2])])
def test_to_rgb8_of_other_channels(channels: int, shown: list[int]) -> None:
    image = np.random.default_rng(0).random((5, 6, channels))
    picture = render.to_rgb8(image)
    assert_picture(picture, (5, 6))
    for position, channel in enumerate(shown):
        assert (picture[:, :, position] == render.to_rgb8(image[:, :, channel])[:, :, 0]).all()


def test_label_colours_are_bright_distinct_and_black_on_the_ground() -> None:
    labels = np.arange(1001).reshape(7, 143)
    picture = render.label_colours(labels)
    assert_picture(picture, (7, 143))
    colours = picture.reshape(-1, 3).astype(int)
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[1:].max(axis=1).min() >= 150
    assert len(np.unique(colours[1:], axis=0)) > 800
    assert np.abs(np.diff(colours[1:], axis=0)).sum(axis=1).min() >= 100  # labels that follow each other


def test_label_colours_belong_to_the_label() -> None:
    few, many = np.array([[0, 3]]), np.arange(5)[None]
    assert render.label_colours(few)[0, 1].tolist() == render.label_colours(many)[0, 3].tolist()
    for dtype in (np.uint8, np.uint16, np.int64, np.uint64):
        assert (render.label_colours(few.astype(dtype)) == render.label_colours(few)).all()


def test_label_colours_of_huge_labels() -> None:
    labels = np.array([[0, 3, 10**15]], np.uint64)
    picture = render.label_colours(labels)
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, 1].tolist() == render.label_colours(np.array([[3]]))[0, 0].tolist()
    assert picture[0, 2].max() >= 150


def test_overlay_outlines_inside_the_instance() -> None:
    picture = render.overlay(np.zeros((5, 5)), LABELS, fill=0.0)
    colours = render.label_colours(LABELS)
    outline = LABELS > 0
    outline[2, 2] = False  # the only pixel of 7 with no neighbour of another label
    assert (picture[outline] == colours[outline]).all()
    assert not picture[~outline].any()


def test_overlay_shows_classes_in_the_colours_of_their_legend() -> None:
    classes = np.zeros(10, np.int32)
    classes[[7, 9]] = 2, 1
    picture = render.overlay(np.zeros((5, 5)), LABELS, fill=0.0, classes=classes)
    legend = render.classes_legend(200, ["first", "second"])
    shown = {tuple(colour) for colour in legend.reshape(-1, 3).tolist()}
    assert tuple(picture[1, 1].tolist()) in shown
    assert tuple(picture[4, 4].tolist()) in shown
    assert picture[1, 1].tolist() != picture[4, 4].tolist()


def test_overlay_fills_lightly() -> None:
    picture = render.overlay(np.zeros((5, 5)), LABELS, fill=0.5)
    assert picture[2, 2].tolist() == np.rint(render.label_colours(LABELS)[2, 2] / 2).tolist()
    assert not picture[0].any()


def test_overlay_is_thicker_on_large_images() -> None:
    labels = np.zeros((2000, 40), np.int32)
    labels[100:1900, 10:30] = 1
    picture = render.overlay(np.zeros(labels.shape), labels, fill=0.0)
    assert picture[1000].any(axis=1).nonzero()[0].tolist() == [10, 11, 28, 29]
    assert picture[:, 20].any(axis=1).nonzero()[0].tolist() == [100, 101, 1898, 1899]


def test_overlay_without_instances_is_the_image() -> None:
    image = np.random.default_rng(0).random((6, 5, 3))
    assert (render.overlay(image, np.zeros((6, 5), np.int32)) == render.to_rgb8(image)).all()


def test_foreground_picture_ends_of_the_scale() -> None:
    picture = render.foreground_picture(np.array([[0.0, 1.0, -3.0, 8.0, np.nan]]))
    assert picture[0].tolist() == [DARK_VIOLET, YELLOW, DARK_VIOLET, YELLOW, DARK_VIOLET]
    assert render.foreground_picture(np.array([[False, True]]))[0].tolist() == [DARK_VIOLET, YELLOW]


@pytest.mark.parametrize(
    ("dimensions", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (8, (2, 4)), (16, (4, 4))]
)
def test_embeddings_picture_is_a_grid(dimensions: int, grid: tuple[int, int]) -> None:
    embeddings = np.random.default_rng(0).normal(size=(40, 60, dimensions)).astype(np.float32)
    picture = render.embeddings_picture(embeddings, np.ones((40, 60)))
    head, gap = 20, 4
    rows, columns = grid
    assert_picture(picture, (rows * (40 + head) + (rows - 1) * gap, columns * 60 + (columns - 1) * gap))


def test_embeddings_picture_stretches_the_foreground_and_dims_the_ground() -> None:
    embeddings = np.array([[[0.0], [0.0], [5.0], [5.0], [900.0]]], np.float32)
    foreground = np.array([[1.0, 0.5, 1.0, 0.9, 0.1]])
    panel = render.embeddings_picture(embeddings, foreground)[-1]
    assert panel.tolist() == [DARK_VIOLET, DARK_VIOLET, YELLOW, YELLOW, [c // 6 for c in YELLOW]]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_embeddings_picture_without_anything_to_see(value: float) -> None:
    embeddings = np.full((4, 4, 3), value, np.float32)
    for foreground in (np.zeros((4, 4)), np.ones((4, 4))):
        assert render.embeddings_picture(embeddings, foreground).dtype == np.uint8


def test_side_by_side_pads_and_captions() -> None:
    red, green = np.full((2, 3, 3), (255, 0, 0), np.uint8), np.full((4, 2, 3), (0, 255, 0), np.uint8)
    picture = render.side_by_side(red, green, gap=1)
    assert_picture(picture, (4, 6))
    assert (picture[:2, :3] == red).all()
    assert (picture[:, 4:] == green).all()
    assert (picture[2:, :3] == DARK).all()
    assert (picture[:, 3] == DARK).all()
    wide = np.repeat(red, 30, axis=1)
    captioned = render.side_by_side(wide, captions=["image"])
    assert (captioned[-2:] == wide).all()
    assert len(np.unique(captioned[:-2])) > 5  # some letters
    assert render.side_by_side(wide, captions=[""])[:-2].tolist() == [[DARK] * 90] * (len(captioned) - 2)


def test_side_by_side_names_its_mistakes() -> None:
    with pytest.raises(ValueError, match="got 0 pictures"):
        render.side_by_side()
    with pytest.raises(ValueError, match="got 1 pictures and 2 captions"):
        render.side_by_side(np.zeros((2, 2, 3), np.uint8), captions=["a", "b"])


def coloured(picture: np.ndarray, ink: tuple[int, int, int]) -> int:
    return int((picture == ink).all(axis=2).sum())


BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "series",
    [
        {},
        {"empty": []},
        {"one": [(3, 0.5)]},
        {"one": [(0, 0.0)]},
        {"constant": [(0, 2.0), (1, 2.0), (2, 2.0)]},
        {"nan only": [(0, math.nan), (1, math.inf)]},
        {"gap": [(0, 1.0), (1, math.nan), (2, 3.0), (3, 4.0)]},
        {"negative": [(0, -1.0), (1, -2.0)]},
        {"tiny": [(0, 1e-300), (1, 5e-324)], "huge": [(0, 1e300)]},
        {"almost constant": [(0, 1e9), (1, 1e9 + 1e-6)]},
        {f"many {i}": [(0, 1.0), (1, i + 1.0)] for i in range(40)},
        {"a name " * 30: [(0, 1.0), (1, 2.0)]},
    ],
)
def test_curves_of_anything(series: dict[str, list[tuple[float, float]]], log_y: bool) -> None:
    picture = charts.curves(series, title="Loss", x_label="iteration", log_y=log_y)
    assert_picture(picture, (540, 960))
    assert (picture[0] == 255).all()
    assert picture.min() < 100  # the title at least


def test_curves_draws_each_line_in_its_ink() -> None:
    falling, rising = [(0, 9.0), (10, 1.0)], [(0, 1.0), (10, 9.0)]
    both = charts.curves({"a": falling, "b": rising}, title="", x_label="")
    assert coloured(both, BLUE) > 500
    assert coloured(both, ORANGE) > 500
    assert coloured(charts.curves({"a": falling}, title="", x_label=""), ORANGE) == 0


def test_curves_leaves_a_gap_where_values_are_missing() -> None:
    whole = [(float(x), 1.0 + x) for x in range(11)]
    gap = [(x, math.nan if 3 <= x <= 7 else y) for x, y in whole]
    with_gap, without = (charts.curves({"a": points}, title="", x_label="") for points in (gap, whole))
    assert coloured(with_gap, BLUE) < 0.7 * coloured(without, BLUE)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: render.label_colours(LABELS),
        lambda: render.overlay(LABELS, LABELS),
        lambda: render.embeddings_picture(np.dstack([LABELS, LABELS.T]).astype(float), LABELS > 0),
        lambda: charts.curves({"a": [(0, 1.0), (1, 2.0)]}, title="t", x_label="x"),
    ],
)
def test_the_same_input_gives_the_same_picture(draw: Callable[[], np.ndarray]) -> None:
    assert (draw() == draw()).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_images_without_pixels(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, np.int32)
    assert_picture(render.to_rgb8(nothing), shape)
    assert_picture(render.label_colours(nothing), shape)
    assert_picture(render.overlay(nothing, nothing), shape)
    assert_picture(render.foreground_picture(nothing), shape)
