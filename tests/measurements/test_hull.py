"""Convex hulls have the pixels that scikit-image gives them."""

import warnings

import numpy as np
import pytest

from instseg.measurements import hull
from instseg.measurements.hull import convex_areas


def rows_of(mask):
    """The rows of a mask that hold pixels, from the first one on, with the first and the last of these."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = [np.flatnonzero(mask[row]) for row in rows]
    return rows - rows[0], np.array([one[0] for one in columns]), np.array([one[-1] for one in columns])


def scikit_image(mask):
    with warnings.catch_warnings(action="ignore"):
        from skimage.morphology import convex_hull_image

        return int(convex_hull_image(mask).sum())


def random_masks(seed):
    rng = np.random.default_rng(seed)
    for _ in range(25):
        mask = rng.random(rng.integers(1, 40, 2)) < rng.uniform(0.02, 0.6)
        if mask.any():
            yield mask


@pytest.mark.parametrize("table", [1 << 21, 50])
def test_areas_of_objects_of_many_sizes(table, monkeypatch):
    monkeypatch.setattr(hull, "_TABLE", table)
    masks = [mask for seed in range(4) for mask in random_masks(seed)]
    parts = [rows_of(mask) for mask in masks]
    objects = np.concatenate([np.full(len(part[0]), number) for number, part in enumerate(parts)])
    rows, first, last = (np.concatenate([part[index] for part in parts]) for index in range(3))
    # Rows may come in any order.
    order = np.random.default_rng(0).permutation(len(objects))
    areas = convex_areas(objects[order], rows[order], first[order], last[order], len(masks))
    assert areas.tolist() == [scikit_image(mask) for mask in masks]


def test_no_object_has_no_area():
    nothing = np.zeros(0, np.intp)
    assert convex_areas(nothing, nothing, nothing, nothing, 0).tolist() == []
