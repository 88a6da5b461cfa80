"""The size at which objects are surest is that of the training, or near it."""

import copy
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import instseg
from instseg.cli import app
from instseg.clustering.instances import Instances
from instseg.data.discs import draw_discs
from instseg.evaluation.metrics import score
from instseg.inference.diameter import (
    _FAR,
    _Found,
    _highest_contrast_crop,
    _TriedSizes,
    estimate_magnification,
    resolve_magnification,
)
from instseg.io.images import write_picture
from instseg.io.label_images import read_labels
from instseg.preprocessing.normalisation import percentiles
from instseg.settings import DiscSettings
from instseg.tiling.grid import Box


@pytest.fixture(scope="module")
def model():
    """A model that has learnt enough to tell sizes apart, whatever the version of TensorFlow."""
    return instseg.load("shapes")


@pytest.fixture(scope="module")
def image():
    return draw_discs(np.random.default_rng(12), DiscSettings(size=160, min_discs=14, max_discs=14))[0]


def larger(image, times):
    return np.kron(image, np.ones((times, times), image.dtype))


def magnification(model, image):
    image = image[..., None]
    return estimate_magnification(model, image, percentiles(image))


def test_objects_as_in_training_are_left_as_they_are(model, image):
    assert 0.7 < magnification(model, image) < 1.5


def test_larger_objects_are_made_smaller(model, image):
    assert 0.45 / 3 < magnification(model, larger(image, 3)) < 1.5 / 3


def test_the_found_size_serves_as_well_as_the_known_one(model, image):
    large = larger(image, 3)
    expected = larger(model.predict(image), 3)
    assert score(expected, model.predict(large), (0.5,)).f1[0] < 0.5
    auto = score(expected, model.predict(large, diameter="auto"), (0.5,)).f1[0]
    assert auto > 0.9 * score(expected, model.predict(large, diameter=57.0), (0.5,)).f1[0]


def test_no_size_costs_more_than_that_of_the_training(model, image, monkeypatch):
    seen = []
    embed = model.embed_tile

    def watched(part, levels, *, magnification):
        seen.append(np.multiply(part.shape[:2], magnification * model.settings.scale).max())
        return embed(part, levels, magnification=magnification)

    monkeypatch.setattr(model, "embed_tile", watched)
    magnification(model, larger(image, 3))
    assert len(seen) >= 3
    assert max(seen) < 384 + 8


def test_of_what_is_enlarged_the_part_with_objects_is_seen(model):
    part = np.zeros((384, 384, 1), np.uint8)
    part[350:356, 20:26] = 255
    tried = _TriedSizes(model, part, percentiles(part), _FAR)
    assert tried.area(0) == tried.area(-2) == Box(0, 0, 384, 384)
    assert tried.area(2) == Box(192, 0, 384, 192)
    # An image that is small enlarged, too, is seen as a whole.
    assert _TriedSizes(model, part[:160], percentiles(part), _FAR).area(2).shape == (160, 192)


def found_of(model, scores, diameter):
    """Return two instances of one diameter, in those of the training; the second is in the upper left corner."""
    labels = np.zeros((100, 100), np.int32)
    labels[40:60, 40:60], labels[:20, :20] = 1, 2
    instances = Instances(
        label=np.array([1, 2], np.int32),
        score=np.array(scores),
        area=np.full(2, round(np.pi / 4 * (diameter * model.settings.diameter) ** 2)),
        centroid=np.array([[49.5, 49.5], [9.5, 9.5]]),
        bbox=np.array([[40, 40, 60, 60], [0, 0, 20, 20]]),
    )
    return _Found(instances, labels, Box(0, 0, 100, 100))


def test_smaller_sizes_have_to_be_surer_where_objects_look_small(model):
    def tried_sizes(diameter):
        both = found_of(model, (0.8, 0.2), diameter)
        tried = _TriedSizes(model, np.zeros((100, 100, 1)), None, _FAR)
        tried._found = {-2: both, 0: both, 2: both, 4: None}
        return tried

    large, small = tried_sizes(2.5), tried_sizes(1.0)
    middle, whole = Box(25, 25, 75, 75), Box(0, 0, 100, 100)
    assert large.confidence(0, whole) == pytest.approx(0.5)
    assert large.confidence(0, middle) == pytest.approx(0.8)
    assert large.confidence(-2, middle) == large.confidence(2, middle) == pytest.approx(0.8 * 0.98)
    assert small.confidence(-2, middle) == pytest.approx(0.8 * 0.98 * 0.8, rel=0.01)
    assert small.confidence(2, middle) == pytest.approx(0.8 * 0.98)
    assert small.confidence(4, middle) == small.confidence(0, Box(80, 80, 90, 90)) == 0


def test_a_place_inside_of_a_large_object_is_as_sure_as_the_object(model):
    tried = _TriedSizes(model, np.zeros((100, 100, 1)), None, _FAR)
    tried._found[0] = found_of(model, (0.8, 0.2), 1.0)
    assert tried.confidence(0, Box(40, 40, 46, 46)) == pytest.approx(0.8)
    assert tried.confidence(0, Box(10, 10, 50, 50)) == pytest.approx(0.5)


def test_what_is_looked_at_lies_in_what_is_looked_at_one_step_below(model):
    image = np.random.default_rng(0).integers(0, 255, (384, 384, 1), np.uint8)
    tried = _TriedSizes(model, image, percentiles(image), _FAR)
    areas = [tried.area(steps) for steps in range(-6, 7)]
    assert areas[0] == Box(0, 0, 384, 384)
    assert areas[-1].shape == (48, 48)
    for outer, inner in itertools.pairwise(areas):
        assert inner.intersection(outer) == inner


@pytest.mark.parametrize(("surer", "taken"), [(0.88, {"auto": 2.0, None: 1.0}), (0.98, {"auto": 2.0, None: 2.0})])
def test_a_model_of_few_images_leaves_its_size_only_for_objects_that_are_surer_by_far(model, monkeypatch, surer, taken):
    """As they are, objects are found with a confidence of 0.8, and at twice their size with a higher one."""
    as_they_are, larger = found_of(model, (0.8, 0.8), 1.0), found_of(model, (surer, surer), 1.0)
    monkeypatch.setattr(_TriedSizes, "_find", lambda self, steps: {0: as_they_are, 2: larger}.get(steps))
    image = np.zeros((100, 100, 1), np.uint8)
    few, many = (copy.copy(model) for _ in range(2))
    few.settings = dataclasses.replace(model.settings, check_diameter=True)
    for diameter, expected in taken.items():
        assert resolve_magnification(few, image, percentiles(image), diameter) == pytest.approx(expected)
    many.settings = dataclasses.replace(model.settings, check_diameter=False)
    assert resolve_magnification(many, image, percentiles(image), None) == 1.0


@pytest.mark.parametrize(
    ("scores", "diameter", "sure"),
    [((0.95, 0.95), 1.0, True), ((0.95, 0.8), 1.0, False), ((0.95, 0.95), 2.2, False), ((0.95, 0.95), 0.45, False)],
)
def test_where_objects_are_sure_as_they_are_no_other_size_is_tried(model, monkeypatch, scores, diameter, sure):
    found = found_of(model, scores, diameter)
    tried = []

    def find(self, steps):
        tried.append(steps)
        return found if steps == 0 else None

    monkeypatch.setattr(_TriedSizes, "_find", find)
    image = np.zeros((100, 100, 1), np.uint8)
    assert estimate_magnification(model, image, percentiles(image)) == 1
    assert (tried == [0]) == sure


@pytest.mark.parametrize("value", [0, 77])
def test_where_nothing_is_found_nothing_changes(model, value):
    assert magnification(model, np.full((100, 90), value, np.uint8)) == 1.0
    assert magnification(model, np.full((1, 2), value, np.uint8)) == 1.0


def test_the_part_that_is_tried_is_where_the_objects_are():
    image = np.zeros((1500, 1300, 1), np.uint16)
    image[1030:1200:9, 520:800] = 1000
    part = _highest_contrast_crop(image, percentiles(image))
    assert part.max() == 1000
    assert part.shape[:2] == (384, 384)
    small = np.zeros((700, 30, 1), np.uint8)
    assert _highest_contrast_crop(small, percentiles(small)).shape == (384, 30, 1)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_commands_take_auto(model, image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("images", "labels"):
        Path("data", kind).mkdir(parents=True)
    large = larger(image, 3)
    write_picture(Path("data/images/a.png"), large)
    done = run("predict", "shapes", "data/images/a.png", "--out", "data/labels/a.png", "--diameter", "auto")
    assert done.exit_code == 0, done.stderr
    assert "Images were shown to the network as they are best recognised: 1 at 0." in done.stderr
    np.testing.assert_array_equal(read_labels(Path("data/labels/a.png")), model.predict(large, diameter="auto"))
    done = run("evaluate", "shapes", "--data", "data", "--diameter", "auto", "--json")
    assert '"mean_ap": 1.0' in done.stdout
    refused = run("predict", "shapes", "data/images/a.png", "--out", "b.png", "--diameter", "large")
    assert refused.exit_code == 2
    assert "--diameter is large, expected a number of pixels, or auto" in refused.stderr
