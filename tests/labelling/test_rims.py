import numpy as np
import pytest

from instseg.labelling.rims import rim_of
from instseg.labels.rasterise import Region, crop
from instseg.tiling.grid import Box

ROWS, COLUMNS = np.ogrid[:80, :80]


def disc(row, column, radius):
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2


def rim(labels, mask):
    boxes = {}
    for label in np.unique(labels[labels > 0]).tolist():
        rows, columns = np.nonzero(labels == label)
        boxes[label] = Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    return rim_of(labels, boxes, crop(Region(0, 0, mask)))


@pytest.fixture
def labels():
    return disc(40, 40, 15).astype(np.int32) * 7


def test_rings_and_slivers_are_rims(labels):
    ring = disc(40, 40, 18) & (labels == 0)
    assert rim(labels, ring) == 7
    assert rim(labels, ring & (ROWS < 40)) == 7
    assert rim(labels, ring & (ROWS < 26)) == 7
    assert rim(labels, disc(40, 40, 20) & (labels == 0)) == 7, "it goes around all of it"


def test_objects_that_touch_are_none(labels):
    assert rim(labels, disc(40, 66, 12) & (labels == 0)) is None
    assert rim(labels, disc(40, 62, 12) & (labels == 0)) is None
    small = disc(40, 60, 3).astype(np.int32) * 3
    assert rim(small, disc(40, 65, 2) & (small == 0)) is None, "as small as its neighbour"
    assert rim(labels, disc(10, 10, 5)) is None


def test_a_large_object_around_a_crumb_is_none():
    crumb = disc(40, 40, 3).astype(np.int32)
    assert rim(crumb, disc(40, 40, 12) & (crumb == 0)) is None


def test_at_the_edge_of_the_image(labels):
    moved = np.roll(labels, -40, axis=0)
    moved[40:] = 0
    assert rim(moved, disc(0, 40, 18) & (moved == 0)) == 7
