"""Volumes in blocks are put together as volumes in one piece, in memory and on the disc."""

from types import SimpleNamespace

import numpy as np
import pytest

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import measure_instances
from instseg.errors import InstsegError
from instseg.inference.label_store import LabelsInMemory, LabelsOnDisk
from instseg.inference.options import PredictOptions
from instseg.inference.segmentation import Assembler
from instseg.labels.matching import match
from instseg.settings import ClusterSettings, FilterSettings
from instseg.tiling.grid import Grid

SETTINGS = ClusterSettings(min_size=20)


def block_of(maps, box):
    """The maps of a block, with positions from its first voxel on."""
    arrays = {name: array[box.slices_in(box.whole(maps.foreground.shape))] for name, array in maps.arrays().items()}
    arrays["embeddings"] = arrays["embeddings"] - np.multiply(box.begin, maps.steps)
    return Embeddings(**arrays, spacing=maps.spacing)


def assembled(maps, grid, *, streamed=False, **options):
    plan = SimpleNamespace(
        grid=grid, clustering=SETTINGS, calibration=ScoreCalibration(intercept=0.5), magnification=1.0
    )
    assembler = Assembler(plan, SimpleNamespace(streamed=streamed), PredictOptions(measure=True, **options), True)
    for tile in grid:
        assert not assembler.complete
        assembler.add(tile, block_of(maps, tile.extent))
    assert assembler.complete
    return assembler.finish()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("side", [(36, 64, 64), (48, 60, 60), (48, 64, 64)])
def test_blocks_equal_the_whole(ball_maps, tmp_path, side, streamed):
    _, maps = ball_maps(3, depth=48, size=64, balls=40)
    # Each block sees whole balls beyond its core.
    grid = Grid(maps.foreground.shape, side=side, overlap=(12, 24, 24))
    expected = cluster(maps, SETTINGS)
    done = assembled(maps, grid, streamed=streamed, workspace=tmp_path)
    assert isinstance(done.store, LabelsOnDisk if streamed and len(grid) > 1 else LabelsInMemory)
    assert len(match(expected, done.labels, 0.99).iou) == expected.max() > 20
    assert done.labels.max() == expected.max()
    for planes in (1, 5, 48, 100):
        np.testing.assert_array_equal(np.concatenate(list(done.strips(planes))), done.labels)
    instances = measure_instances(done.labels, maps).calibrated(ScoreCalibration(intercept=0.5))
    for name in ("label", "area", "centroid", "bbox"):
        np.testing.assert_allclose(getattr(done.instances, name), getattr(instances, name))
    assert list(tmp_path.iterdir()) == []


def test_embeddings_of_blocks_are_those_of_the_volume(ball_maps):
    _, maps = ball_maps(0)
    grid = Grid(maps.foreground.shape, side=(14, 30, 30), overlap=(4, 8, 8))
    kept = assembled(maps, grid, return_embeddings=True).embeddings
    assert (kept.spacing, kept.settings) == (maps.spacing, SETTINGS)
    for name, array in maps.arrays().items():
        np.testing.assert_allclose(getattr(kept, name), array, atol=1e-4)


def test_filters_look_at_whole_objects_of_the_volume(ball_maps):
    _, maps = ball_maps(0)
    for side in ((14, 30, 30), (24, 48, 48)):
        grid = Grid(maps.foreground.shape, side=side, overlap=(4, 8, 8))
        done = assembled(maps, grid, filters=FilterSettings(exclude_border=True))
        assert 0 < done.labels.max() == len(done.instances) < assembled(maps, grid).labels.max()
        assert not any(np.take(done.labels, end, axis).any() for axis in range(3) for end in (0, -1))


def test_a_full_disc_is_said_in_one_line(tmp_path):
    with pytest.raises(InstsegError, match=r"cannot keep the labels of 4 x 5 x 6 pixels on the disc: .* make room for"):
        LabelsOnDisk(Grid((4, 5, 6), side=4, overlap=1), tmp_path / "nowhere")
