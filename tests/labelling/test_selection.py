import numpy as np
import pytest

from instseg.clustering.embeddings import Embeddings
from instseg.labelling.selection import REACHES, select
from instseg.settings import ClusterSettings


def scene(**changes):
    """Two objects that touch, each a ball around its centre as training makes it, and a dim one apart."""
    shape = (40, 60)
    truth = np.zeros(shape, np.int32)
    truth[5:20, 5:20] = 1
    truth[5:20, 20:35] = 2
    truth[25:36, 40:52] = 3
    rng = np.random.default_rng(0)
    centres = np.array([[50.0, 50.0], [0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    embeddings = (centres[truth] + rng.normal(0, 0.2, (*shape, 2))).astype(np.float32)
    foreground = np.array([0.005, 0.95, 0.9, 0.06], np.float32)[truth]
    maps = {"embeddings": embeddings, "foreground": foreground, "bandwidth": np.ones(shape, np.float32), **changes}
    return truth, Embeddings(**maps)


@pytest.mark.parametrize(("click", "number"), [((12.5, 8.5), 1), ((12.5, 33.5), 2), ((30.0, 45.0), 3)])
def test_a_click_selects_its_object(click, number):
    truth, maps = scene()
    assert np.array_equal(select(maps, [click]), truth == number)


def test_a_dim_object_is_found_although_it_is_hardly_foreground():
    truth, maps = scene()
    assert maps.foreground[30, 45] < 0.1
    assert np.array_equal(select(maps, [(30, 45)]), truth == 3)


def test_more_clicks_inside_add_and_those_outside_take_away():
    truth, maps = scene()
    assert np.array_equal(select(maps, [(12, 8), (12, 30)]), np.isin(truth, [1, 2]))
    wide = select(maps, [(12, 8)], reach=8.0)
    assert wide[12, 30]
    narrowed = select(maps, [(12, 8)], [(12, 30)], reach=8.0)
    assert np.array_equal(narrowed, truth == 1)


def test_reach_only_ever_adds_pixels():
    rng = np.random.default_rng(1)
    truth, maps = scene()
    noisy = Embeddings(
        embeddings=maps.embeddings + rng.normal(0, 0.6, maps.embeddings.shape),
        foreground=maps.foreground * rng.random(maps.foreground.shape).astype(np.float32),
        bandwidth=maps.bandwidth,
    )
    before = np.zeros(truth.shape, bool)
    for reach in REACHES:
        selected = select(noisy, [(12.5, 12.5)], reach=reach)
        assert (selected | ~before).all()
        before = selected
    assert before.sum() > 150


def test_pixels_that_are_not_free_are_left_out():
    truth, maps = scene()
    free = np.ones(truth.shape, bool)
    free[:, 10:] = False
    assert np.array_equal(select(maps, [(12, 7)], free=free), (truth == 1) & free)
    free[10:14, 5:9] = False
    ring = select(maps, [(8, 7)], free=free)
    assert np.array_equal(ring, (truth == 1) & free)
    assert not select(maps, [(12, 7)], free=free).any()


def test_holes_are_filled():
    truth, maps = scene()
    maps.foreground[12, 12] = 0.0
    maps.embeddings[12, 12] = 30.0
    assert np.array_equal(select(maps, [(8, 8)]), truth == 1)


@pytest.mark.parametrize("settings", [None, ClusterSettings(bandwidth=1.0)])
def test_models_without_bandwidth_will_do(settings):
    truth, maps = scene(bandwidth=None, settings=settings)
    for click, number in (((12.5, 8.5), 1), ((12.5, 33.5), 2), ((30.0, 45.0), 3)):
        selected = select(maps, [click])
        assert (selected & (truth == number)).sum() > 0.9 * (selected | (truth == number)).sum()


def test_flat_maps_give_what_is_connected():
    maps = Embeddings(embeddings=np.zeros((6, 6, 2)), foreground=np.ones((6, 6)))
    assert select(maps, [(3, 3)]).all()


def test_clicks_outside_of_the_maps_select_nothing():
    _, maps = scene()
    assert not select(maps, [(-1, 5), (3, 70)]).any()
