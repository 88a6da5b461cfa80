"""Background never reaches the network, and labels are the same as if it did."""

import pickle

import numpy as np
import pytest
from scipy import ndimage

from instseg.inference import image_tiles
from instseg.inference.background import Background, find_background
from instseg.inference.embedder import Embedder
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.options import PredictOptions
from instseg.inference.tiled import segment
from instseg.io.source import ArrayReader
from instseg.preprocessing.level_choice import LevelChoice
from instseg.settings import ClusterSettings, ModelSettings, TileSettings

SIDE = 1536
GROUND, NOISE = 120.0, 3.0
TILES = TileSettings(tile=800, overlap=64)
WITHOUT = TileSettings(tile=800, overlap=64, skip_background=False)
SETTINGS = ModelSettings(channels=1, embeddings=4, widths=(8, 8, 8, 8), diameter=20.0)


class Network:
    """Finds what differs from the ground by half of the extent of the levels; counts the pixels that it is shown."""

    def __init__(self, threshold=0.5, bright=True):
        self.threshold, self.bright, self.seen = threshold, bright, 0

    def __call__(self, images, low, high, magnification):
        self.seen += images.shape[0] * images.shape[1] * images.shape[2]
        shape = images.shape[:3]
        maps = {
            "embeddings": np.zeros((*shape, 4), np.float32),
            "foreground": np.zeros(shape, np.float32),
            "seeds": np.zeros(shape, np.float32),
            "bandwidth": np.ones(shape, np.float32),
        }
        maps["embeddings"][..., :2] = np.stack(np.indices(shape[1:]), axis=-1)
        for number, image in enumerate(images[..., 0]):
            share = (image - low[number, 0]) / max(high[number, 0] - low[number, 0], 1e-6)
            labels, count = ndimage.label(share >= self.threshold if self.bright else share <= self.threshold)
            centres = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))
            inside = labels > 0
            if count:
                mine = np.array(centres, np.float32)[labels[inside] - 1]
                maps["embeddings"][number][inside, :2] = mine
                maps["bandwidth"][number][inside] = 5
                maps["seeds"][number][inside] = np.exp(-np.linalg.norm(np.argwhere(inside) - mine, axis=1) / 20)
            maps["foreground"][number][inside] = 1
        return maps


def embedder_of(network):
    return Embedder(network, SETTINGS, ClusterSettings(min_size=5, seed_threshold=0.3))


def slide(bright=True, dtype=np.uint16, side=SIDE):
    """Return an image with noise around a field of objects, some of which are dim, and two objects far from it."""
    rng = np.random.default_rng(0)
    image = rng.normal(GROUND, NOISE, (side, side))
    objects = np.zeros((side, side))
    for row in range(500, 800, 40):
        for column in range(300, 800, 40):
            objects[row : row + 16, column : column + 16] = 100
    objects[1400:1404, 1300:1304] = 95
    objects[0:10, 1500:1512] = 95
    image += objects if bright else -objects
    return image.round().astype(dtype)


@pytest.fixture(autouse=True)
def _all_images_are_looked_at(monkeypatch):
    monkeypatch.setattr(image_tiles, "LEAST_PIXELS", 1)


def labels_and_seen(network, image, **options):
    found = {}
    for tiles in (TILES, WITHOUT):
        network.seen = 0
        result = segment(embedder_of(network), ArrayReader(image), PredictOptions(tiles=tiles, measure=True, **options))
        found[tiles.skip_background] = result, network.seen
    return found


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_labels_are_the_same_and_background_is_not_seen(bright, dtype):
    found = labels_and_seen(Network(bright=bright), slide(bright, dtype))
    (skipped, seen), (whole, all_seen) = found[True], found[False]
    np.testing.assert_array_equal(skipped.labels, whole.labels)
    assert whole.labels.max() == 8 * 13 + 2
    assert seen < 0.5 * all_seen
    for name, column in whole.instances.to_dict().items():
        np.testing.assert_allclose(skipped.instances.to_dict()[name], column, rtol=1e-5)


def test_one_tile_is_the_same_too():
    image, network = slide(), Network()
    one, many = (
        segment(embedder_of(network), ArrayReader(image), PredictOptions(tiles=TileSettings(tile=tile, overlap=64)))
        for tile in (2000, 800)
    )
    np.testing.assert_array_equal(one.labels, many.labels)


def test_a_network_that_finds_something_in_noise_sees_it_all():
    # Two pixels of ten thousand of the ground are beyond it.
    network = Network(threshold=0.16)
    found = labels_and_seen(network, slide())
    np.testing.assert_array_equal(found[True][0].labels, found[False][0].labels)
    assert found[True][1] >= found[False][1]


def test_nothing_but_noise_gives_no_objects():
    image = np.random.default_rng(0).normal(GROUND, NOISE, (SIDE, SIDE)).round().astype(np.uint8)
    for tiles in (TILES, TileSettings(tile=2000, overlap=64)):
        network = Network(threshold=2)
        result = segment(embedder_of(network), ArrayReader(image), PredictOptions(tiles=tiles, measure=True))
        assert result.labels.shape == image.shape
        assert not result.labels.any()
        assert len(result.instances) == 0
        assert network.seen < 0.2 * image.size


def test_padding_of_one_value_beside_noise_is_background_too():
    image = slide(side=2048)
    image[:, 900:1500] = 0
    found = labels_and_seen(Network(threshold=0.75), image)
    np.testing.assert_array_equal(found[True][0].labels, found[False][0].labels)
    assert found[True][1] < 0.6 * found[False][1]


def test_other_choices_keep_labels_the_same():
    for options in (
        {"level_choice": LevelChoice(levels=(110, 220))},
        {"level_choice": LevelChoice(ignore_zeros=True)},
        {"overrides": {"min_size": 40}},
        {"tta": True},
        {"channels": "dark"},
    ):
        found = labels_and_seen(Network(), slide(bright="channels" not in options), **options)
        np.testing.assert_array_equal(found[True][0].labels, found[False][0].labels)
        assert found[True][1] < 0.5 * found[False][1]


def test_who_wants_the_maps_gets_those_of_the_background():
    network, image = Network(), slide()
    result = segment(embedder_of(network), ArrayReader(image), PredictOptions(return_embeddings=True))
    assert network.seen >= image.size
    assert result.embeddings.foreground.shape == image.shape


def test_tiles_of_workers_hold_the_same(monkeypatch):
    tiles = ImageTiles(embedder_of(Network()), ArrayReader(slide()), PredictOptions(tiles=TILES))
    plan = pickle.loads(pickle.dumps(tiles.plan(skip_background=True)))
    assert plan.background is not None
    assert tiles.plan().background is None
    for tile in plan.grid:
        box, part = tiles.embed_occupied(plan, tile)
        whole = tiles.embed(plan, tile)
        within = box.slices_in(tile.extent)
        np.testing.assert_array_equal(whole.foreground[within], part.foreground)
        assert whole.foreground.sum() == part.foreground.sum()
        assert whole.foreground.shape == tile.extent.shape
    monkeypatch.setattr(image_tiles, "LEAST_PIXELS", SIDE**2 + 1)
    assert tiles.plan(skip_background=True).background is None


def background_of(image, foreground=lambda place: np.zeros(place.shape[:2], np.float32), levels=(110.0, 210.0)):
    low, high = (np.full(image.shape[2], level, np.float32) for level in levels)
    return find_background(iter([image]), image[..., 0].size, (low, high), 1.0, 16, foreground, 0.5)


@pytest.fixture(scope="module")
def ground():
    return np.random.default_rng(1).normal(GROUND, NOISE, (SIDE, SIDE, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "contrast"),
    [(4, 6.0), (8, 3.5), (20, 2.0), (60, 2.0)],
)
def test_dim_objects_are_no_background(ground, size, contrast):
    background = background_of(ground)
    assert isinstance(background, Background)
    assert not background.occupied(ground[:600, :600]).boxes
    part = ground[:600, :600].copy()
    part[301 : 301 + size, 205 : 205 + size] += contrast * NOISE
    occupied = background.occupied(part, 16)
    assert occupied.kept[301 : 301 + size, 205 : 205 + size].all()
    ((core, seen),) = occupied.boxes
    assert core.top <= 301
    assert core.left <= 205
    assert seen.top % 16 == 0
    # What the network says of the object's pixels depends on nothing beyond.
    assert seen.top <= 301 - 101 + 16
    assert seen.bottom >= 301 + size + 101 - 16
    assert seen.left <= 205 - 101 + 16


def test_what_is_flat_and_of_another_brightness_is_no_background(ground):
    background = background_of(ground)
    assert background.occupied(ground[:400, :400] + 20).kept.all()


def test_blurred_objects_are_no_background(ground):
    background = background_of(ground)
    rows, columns = np.indices((600, 600))
    blob = np.exp(-((rows - 300) ** 2 + (columns - 300) ** 2) / (2 * 20**2))
    occupied = background.occupied(ground[:600, :600] + 10 * NOISE * blob[..., None])
    assert occupied.kept[290:310, 290:310].all()


def test_a_brightness_in_which_something_was_found_is_no_background(ground):
    image = ground.copy()
    image[:, -512:] += 40
    background = background_of(image, lambda place: (place[..., 0] > 140).astype(np.float32))
    assert background.occupied(image[:400, -400:]).kept.all()
    assert not background.occupied(image[:400, :400]).boxes


def test_structures_are_no_noise():
    rng = np.random.default_rng(2)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 4)[..., None] * 50 + GROUND
    assert background_of(texture.astype(np.float32)) is None


def test_colours_are_looked_at_one_by_one(ground):
    image = np.concatenate([ground, ground[::-1], ground[:, ::-1]], axis=2)
    background = background_of(image)
    part = image[:400, :400].copy()
    part[200:220, 200:220, 2] += 4 * NOISE
    assert not background.occupied(image[:400, :400]).boxes
    assert background.occupied(part).kept[200:220, 200:220].all()


def test_far_objects_are_seen_in_boxes_of_their_own(ground):
    background = background_of(ground)
    part = ground.copy()
    part[100:120, 100:120] += 60
    part[1400:1420, 1400:1420] += 60
    boxes = background.occupied(part, 16).boxes
    assert len(boxes) == 2
    assert sum(core.shape[0] * core.shape[1] for core, _ in boxes) < 0.1 * SIDE**2
