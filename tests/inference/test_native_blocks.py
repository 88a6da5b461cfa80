"""Volumes through a network of volumes: blocks are parts of the whole, whatever the spacing."""

import numpy as np
import pytest

from instseg.errors import UsageError
from instseg.inference.embedder import Embedder
from instseg.inference.native_blocks import NativeBlocks, embed_volume
from instseg.inference.options import PredictOptions
from instseg.io.volumes import ArrayVolume
from instseg.network.architecture import build_network
from instseg.network.serving import ServingModule
from instseg.settings import ClusterSettings, ModelSettings, TileSettings
from instseg.tiling.grid import Box

SETTINGS = ModelSettings(ndim=3, spacing=(2.0, 1.0, 1.0), embeddings=4, widths=(4, 6), diameter=8.0)
LEVELS = np.zeros(1, np.float32), np.ones(1, np.float32)


@pytest.fixture(scope="module")
def embedder():
    network = build_network(SETTINGS)
    rng = np.random.default_rng(0)
    for variable in network.variables:
        size = 0.3 / np.sqrt(np.prod(variable.shape[:-1]))
        variable.assign(variable.numpy() + rng.uniform(-size, size, variable.shape))
    return Embedder(ServingModule(network, SETTINGS).embed, SETTINGS, ClusterSettings())


@pytest.fixture(scope="module")
def neutral():
    """A network whose voxels point to themselves."""
    network = build_network(SETTINGS)
    for variable in network.get_layer("embedding_subpixels").variables:
        variable.assign(np.zeros(variable.shape))
    return Embedder(ServingModule(network, SETTINGS).embed, SETTINGS, ClusterSettings())


def volume(*shape):
    return np.random.default_rng(1).uniform(0, 1, (*shape, 1)).astype(np.float32)


def test_blocks_are_parts_of_the_whole(embedder):
    seen = volume(12, 96, 24)
    options = PredictOptions(tiles=TileSettings(tile=72, overlap=24))
    blocks = NativeBlocks(embedder, ArrayVolume(seen, spacing=(2, 1, 1)), options)
    assert blocks.stages == 0
    assert blocks.positions
    assert blocks.plan.spacing == (2.0, 1.0, 1.0)
    tiles = list(blocks.plan.grid)
    assert len(tiles) > 1
    whole = embed_volume(embedder, seen, blocks.plan.levels)
    for tile in tiles:
        part = blocks.embed(tile.extent)
        assert part.spacing == (2.0, 1.0, 1.0)
        assert part.settings == blocks.plan.clustering
        within = tile.core.slices_in(tile.extent)
        of_whole = tile.core.slices_in(Box.whole(seen.shape[:3]))
        np.testing.assert_allclose(part.foreground[within], whole.foreground[of_whole], atol=1e-4)
        offset = np.array(tile.extent.begin) * (2, 1, 1)
        positions = part.embeddings[within][..., :3] + offset
        np.testing.assert_allclose(positions, whole.embeddings[of_whole][..., :3], atol=1e-2)
    blocks.close()


@pytest.mark.parametrize(
    "spacing", [(2.0, 1.0, 1.0), (2.1, 1.0, 1.0), (2.0, 1.2, 1.0), (4.0, 1.0, 1.0), (1.0, 1.0, 1.0)]
)
def test_positions_are_in_columns_whatever_the_spacing(neutral, spacing):
    maps = embed_volume(neutral, volume(8, 10, 12), LEVELS, spacing=spacing)
    assert maps.embeddings.shape == (8, 10, 12, 4)
    assert maps.spacing == spacing
    expected = np.stack(np.meshgrid(*map(np.arange, (8, 10, 12)), indexing="ij"), axis=-1) * spacing
    # The nearest plane that the network is shown lies at most half of its spacing away.
    tolerance = 1e-4 if spacing[0] in (2.0, 2.1) else 1.001
    np.testing.assert_allclose(maps.embeddings[..., 0], expected[..., 0], atol=tolerance)
    np.testing.assert_allclose(maps.embeddings[..., 1:3], expected[..., 1:], atol=1e-4)


def test_zeros_that_are_ignored_hold_nothing(embedder):
    from instseg.preprocessing.level_choice import LevelChoice

    seen = volume(4, 16, 16)
    seen[:, :, 8:] = 0
    blocks = NativeBlocks(
        embedder, ArrayVolume(seen, spacing=(2, 1, 1)), PredictOptions(level_choice=LevelChoice(ignore_zeros=True))
    )
    foreground = blocks.embed(Box.whole((4, 16, 16))).foreground
    assert (foreground[:, :, 8:] == 0).all()
    assert (foreground[:, :, :8] > 0).all()


def test_a_volume_that_does_not_say_its_spacing_is_taken_for_one_like_the_trainings(embedder):
    blocks = NativeBlocks(embedder, ArrayVolume(volume(4, 8, 8)), PredictOptions())
    assert blocks.plan.spacing == (2.0, 1.0, 1.0)
    assert blocks.notes == ("the file does not say how large a voxel is; 2 : 1 : 1 is taken, as in the training",)
    cubes = NativeBlocks(embedder, ArrayVolume(volume(4, 8, 8), spacing=(3, 3, 3)), PredictOptions())
    assert cubes.plan.spacing == (1.0, 1.0, 1.0)
    assert cubes.notes == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"diameter": "auto"}, "diameter is auto, expected a number"), ({"tta": True}, "tta is for models of images")],
)
def test_what_is_for_images_is_refused(embedder, options, message):
    with pytest.raises(UsageError, match=message):
        NativeBlocks(embedder, ArrayVolume(volume(4, 8, 8)), PredictOptions(**options))
