"""Memory, objects and the network's stride set the tiles."""

import pytest

from instseg.settings import ModelSettings, TileSettings
from instseg.tiling.sizes import plan_tiles, tile_alignment


def test_memory_sets_the_tiles():
    settings = ModelSettings(diameter=20.0, diameter_p95=40.0)
    sizes = [len(plan_tiles((9000, 9000), settings, TileSettings(memory=memory), maps=12)) for memory in (0.01, 1.5, 4)]
    assert sizes[0] > sizes[1] > sizes[2] >= 1
    assert len(plan_tiles((400, 400), settings, TileSettings(), maps=12)) == 1


def test_what_an_image_holds_is_not_for_its_tiles():
    settings = ModelSettings(diameter=20.0, diameter_p95=40.0)
    held = (0, 2**29, 2**40)
    sizes = [len(plan_tiles((9000, 9000), settings, TileSettings(), maps=12, held=taken)) for taken in held]
    assert sizes[0] < sizes[1] < sizes[2] < 4 * sizes[0]


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0, 0.37, 1.4142, 3.3333, 0.08])
def test_tiles_fall_on_the_cells_of_the_network(scale):
    multiple = tile_alignment(scale, 16)
    cells = multiple * scale / 16
    assert round(cells) >= 1
    assert abs(cells - round(cells)) * 16 < 0.11
    assert multiple < 5000
