"""Models see images by the rule of levels that they have learnt with, wherever an image is from."""

import dataclasses

import numpy as np
import pytest
import tifffile

import instseg
from instseg.data.discs import draw_discs
from instseg.data.samples import make_sample
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader
from instseg.preprocessing.level_choice import LevelChoice
from instseg.preprocessing.levels import estimate_levels, image_levels
from instseg.preprocessing.normalisation import percentiles
from instseg.settings import DiscSettings, ModelSettings, TileSettings
from instseg.tiling.grid import Box

RULES = ["robust", "percentiles"]


@pytest.fixture
def models(tiny_model):
    loaded = {rule: instseg.load(tiny_model) for rule in RULES}
    for rule, model in loaded.items():
        model.settings = dataclasses.replace(model.settings, levels=rule)
    return loaded


@pytest.fixture(scope="module")
def discs():
    return draw_discs(np.random.default_rng(3), DiscSettings(size=150, min_discs=12, max_discs=12))[0]


@pytest.fixture(scope="module")
def framed(discs):
    return np.pad(discs, ((40, 20), (0, 90)), constant_values=65535)


class Streamed(ArrayReader):
    """An array that is read part by part."""

    streamed = True


def test_models_that_do_not_say_it_know_percentiles_only(tiny_model):
    assert ModelSettings().levels == "robust"
    stored = ModelSettings().to_dict()
    assert ModelSettings.from_dict(stored).levels == "robust"
    del stored["levels"]
    assert ModelSettings.from_dict(stored).levels == "percentiles"
    assert instseg.load("shapes").settings.levels in RULES
    assert instseg.load(tiny_model).settings.levels == "robust"
    with pytest.raises(instseg.InstsegError, match="levels is 'other', expected one of robust, percentiles"):
        ModelSettings(levels="other")


@pytest.mark.parametrize("rule", RULES)
def test_levels_are_by_the_rule_of_the_model(models, framed, rule):
    model, image = models[rule], framed[..., None]
    plan = ImageTiles(model, ArrayReader(framed), PredictOptions()).plan()
    np.testing.assert_array_equal(plan.levels, image_levels(image, rule))
    streamed = ImageTiles(model, Streamed(framed), PredictOptions()).plan()
    read = lambda box: image[box.top : box.bottom, box.left : box.right]  # noqa: E731
    np.testing.assert_array_equal(streamed.levels, estimate_levels(framed.shape, read, rule))
    assert (plan.levels[1] < percentiles(image)[1]) == (rule == "robust")
    sample = make_sample(framed, np.zeros(framed.shape, np.int32), rule)
    np.testing.assert_array_equal([sample.low, sample.high], plan.levels)
    assert sample.levels == rule
    expected = model.embed_tile(image, plan.levels, picture=plan.picture).arrays()
    for name, values in model.embed(framed).arrays().items():
        np.testing.assert_array_equal(values, expected[name])


def test_a_border_is_not_seen(models, discs, framed):
    model = models["robust"]
    inner = model.predict(discs)
    assert inner.max() > 5
    np.testing.assert_array_equal(model.predict(framed), np.pad(inner, ((40, 20), (0, 90))))
    plan = ImageTiles(model, ArrayReader(framed), PredictOptions()).plan()
    assert plan.picture == Box(40, 0, 190, 150)
    assert ImageTiles(models["percentiles"], ArrayReader(framed), PredictOptions()).plan().picture == Box(
        0, 0, 210, 240
    )


def test_a_border_is_not_seen_in_tiles(models, discs, framed):
    """Some tiles are all border, others in part."""
    model = models["robust"]
    tiles = TileSettings(tile=80, overlap=24)
    whole = model.segment(framed)
    cut = model.segment(framed, tiles=tiles)
    assert whole.labels.max() == cut.labels.max()
    assert (whole.labels != cut.labels).mean() < 0.01
    np.testing.assert_allclose(
        cut.embeddings.embeddings[45:185, 5:145, :2], whole.embeddings.embeddings[45:185, 5:145, :2], atol=3
    )
    assert not cut.embeddings.foreground[:, 150:].any()


def test_the_diameter_is_estimated_within_a_border(models, discs, framed):
    model = models["robust"]
    plans = [ImageTiles(model, ArrayReader(image), PredictOptions(diameter="auto")).plan() for image in (discs, framed)]
    assert plans[0].magnification == plans[1].magnification


def test_an_export_keeps_the_rule(tiny_model, tmp_path):
    from instseg.models.export import export_compact

    export_compact(tiny_model, tmp_path / "copy")
    assert instseg.load(tmp_path / "copy").settings.levels == "robust"


def test_files_and_arrays_have_the_same_levels(models, framed, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", framed)
    model = models["robust"]
    np.testing.assert_array_equal(model.predict(tmp_path / "a.tif"), model.predict(framed))


def test_levels_that_are_given_are_those_that_the_network_sees(models, discs):
    model = models["robust"]
    for options in ({"levels": (100, 30_000)}, {"percentiles": (2, 90)}):
        plan = ImageTiles(model, ArrayReader(discs), PredictOptions(level_choice=LevelChoice(**options))).plan()
        expected = LevelChoice(**options).of_image(discs[..., None], "robust")
        np.testing.assert_array_equal(plan.levels, expected)
        maps = model.embed(discs, **options)
        np.testing.assert_array_equal(maps.embeddings, model.embed_tile(discs[..., None], expected).embeddings)
        assert model.predict(discs, **options).max() == model.segment(discs, **options).labels.max()
    # Nothing is brighter than the low level.
    assert model.predict(discs, levels=(70_000, 80_000)).max() == 0
    (result,) = model.segment_many([discs], levels=(70_000, 80_000))
    assert result.labels.max() == 0


def test_values_are_those_of_the_file_where_channels_are_inverted(models, discs):
    model = models["robust"]
    dark = 65_535 - discs
    same = model.predict(dark, channels="dark", levels=(65_535 - 40_000, 65_535 - 1_000))
    np.testing.assert_array_equal(same, model.predict(discs, levels=(1_000, 40_000)))


@pytest.mark.parametrize("kind", [ArrayReader, Streamed])
def test_zeros_that_are_ignored_hold_no_objects_and_do_not_count(models, discs, kind):
    model, image = models["robust"], discs.astype(np.uint16) + 1_000 - discs // 8
    rows, columns = np.indices(image.shape)
    outside = rows + columns < 110
    image[outside] = 0
    options = PredictOptions(level_choice=LevelChoice(ignore_zeros=True), tiles=TileSettings(tile=96, overlap=24))
    tiles = ImageTiles(model, kind(image), options)
    plan = tiles.plan()
    assert plan.levels[0][0] > 500
    assert ImageTiles(model, kind(image), PredictOptions()).plan().levels[0][0] < 500
    for tile in plan.grid:
        part = outside[tile.extent.slices_in(Box(0, 0, *image.shape))]
        assert not tiles.embed(plan, tile).foreground[part].any()
    labels = model.predict(image, ignore_zeros=True)
    assert labels.max() > 3
    assert not labels[outside].any()
