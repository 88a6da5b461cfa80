"""Clustering in three dimensions: the same as in two, with planes that lie farther apart than columns."""

import dataclasses

import numpy as np
import pytest

from instseg.clustering.cluster import cluster, default_settings, expand_labels
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.filters import kept_instances
from instseg.clustering.instances import Instances, measure_instances, merge_instances
from instseg.clustering.seeds import flatness
from instseg.errors import InstsegError
from instseg.labels.matching import match
from instseg.labels.regions import relabel_sequential
from instseg.settings import ClusterSettings, FilterSettings

SETTINGS = ClusterSettings(min_size=20)


def moved(maps, axes):
    """The maps of the volume with its axes in another order."""
    arrays = {name: np.transpose(array, (*axes, *range(3, array.ndim))) for name, array in maps.arrays().items()}
    return dataclasses.replace(maps, **arrays, spacing=tuple(maps.steps[axis] for axis in axes))


@pytest.mark.parametrize("seed", [0, 1])
def test_balls_are_found(ball_maps, seed):
    labels, maps = ball_maps(seed)
    found = cluster(maps, SETTINGS)
    assert (found.dtype, found.shape) == (np.int32, labels.shape)
    large = np.flatnonzero(np.bincount(labels.ravel()) >= 60)[1:]
    assert set(large) <= set(match(labels, found, 0.9).truth_ids.tolist())
    np.testing.assert_array_equal(found, relabel_sequential(found))


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_the_order_of_the_axes_changes_nothing(ball_maps, axes):
    _, maps = ball_maps(2)
    expected = cluster(maps, SETTINGS)
    found = np.transpose(cluster(moved(maps, axes), SETTINGS), np.argsort(axes))
    assert len(match(expected, found, 1.0).iou) == expected.max() == found.max() > 5


@pytest.mark.parametrize(
    "changes", [{}, {"seed_window": 5}, {"position_weight": 0.5}, {"fill_holes": True}, {"method": "hdbscan"}]
)
def test_one_plane_is_clustered_as_an_image(ball_maps, changes):
    _, maps = ball_maps(1, noise=0.2)
    plane = maps.foreground.sum(axis=(1, 2)).argmax()
    image = Embeddings(**{name: array[plane] for name, array in maps.arrays().items()})
    volume = Embeddings(**{name: array[plane : plane + 1] for name, array in maps.arrays().items()})
    settings = ClusterSettings(**changes)
    expected = cluster(image, settings)
    assert expected.max() > 1
    np.testing.assert_array_equal(cluster(volume, settings)[0], expected)


def test_objects_that_share_embeddings_are_parted_where_they_do_not_touch():
    values = np.zeros((5, 4, 6, 1), np.float32)
    foreground = np.ones((5, 4, 6), np.float32)
    foreground[2] = 0
    found = cluster(Embeddings(values, foreground), ClusterSettings(bandwidth=1.0))
    assert found[:, 0, 0].tolist() == [1, 1, 0, 2, 2]
    # Over a corner they do.
    foreground[2, 0, 0] = 1
    assert cluster(Embeddings(values, foreground), ClusterSettings(bandwidth=1.0)).max() == 1


def test_positions_are_weighted_by_the_spacing():
    # Ten planes of nothing but position: those within a bandwidth of each other are one.
    maps = Embeddings(np.zeros((10, 1, 1, 1)), np.ones((10, 1, 1)), spacing=(1.0, 1.0, 1.0))
    settings = ClusterSettings(method="hdbscan", position_weight=1.0, min_cluster_size=2, min_samples=1, min_size=1)
    near = np.concatenate([np.zeros(5), np.full(5, 30.0)])[:, None, None, None]
    apart = cluster(dataclasses.replace(maps, embeddings=near), settings)
    assert apart.ravel().tolist() == [1] * 5 + [2] * 5
    wide = cluster(dataclasses.replace(maps, embeddings=near, spacing=(100.0, 1.0, 1.0)), settings)
    # Planes a hundred columns apart outweigh what their embeddings say.
    assert not np.array_equal(wide, apart)


def test_labels_grow_over_faces_and_not_over_corners():
    labels, mask = np.zeros((3, 3, 3), np.int32), np.zeros((3, 3, 3), bool)
    labels[0, 0, 0] = 7
    mask[:, 0, 0] = mask[2, 0] = True
    mask[1, 1, 1] = True
    grown = expand_labels(labels, mask)
    assert grown[:, 0, 0].tolist() == [7, 7, 7]
    assert grown[2, 0].tolist() == [7, 7, 7]
    assert grown[1, 1, 1] == 0


def test_flat_embeddings_are_flatter_inside():
    foreground = np.ones((5, 5, 5), bool)
    flat = flatness(foreground, np.zeros((125, 2), np.float32), 1.0)
    assert flat[2, 2, 2] == flat.max() > flat[0, 2, 2] > flat[0, 0, 0]
    assert flat.shape == foreground.shape
    # Windows of one plane each do not see that planes end.
    apart = flatness(foreground, np.zeros((125, 2), np.float32), 1.0, (9.0, 1.0, 1.0))
    np.testing.assert_allclose(apart[1], apart[2])


def test_settings_of_images_become_those_of_volumes():
    # A disc of 314 pixels has a radius of 10, as has a ball of 4189 voxels.
    volume = ClusterSettings(min_size=314, min_cluster_size=314, seed_window=7).for_volume((1.0, 1.0, 1.0))
    assert (volume.min_size, volume.min_cluster_size, volume.seed_window) == (4186, 4186, 7)
    assert ClusterSettings(min_size=314).for_volume((2.0, 1.0, 1.0)).min_size == 2093
    assert ClusterSettings(min_size=1).for_volume((90.0, 1.0, 1.0)).min_size == 1
    assert ClusterSettings(min_size=10).rescaled(2.0, ndim=3).min_size == 80


def test_settings_are_those_of_the_maps_or_of_balls():
    image = Embeddings(np.zeros((2, 2, 1)), np.ones((2, 2)))
    volume = Embeddings(np.zeros((1, 2, 2, 1)), np.ones((1, 2, 2)), spacing=(2.0, 1.0, 1.0))
    assert default_settings(image) == ClusterSettings()
    assert default_settings(volume) == ClusterSettings().for_volume((2.0, 1.0, 1.0)) != ClusterSettings()
    assert default_settings(dataclasses.replace(volume, settings=SETTINGS)) is SETTINGS


def test_maps_of_a_volume_are_checked():
    maps = Embeddings(np.zeros((2, 3, 4, 5)), np.ones((2, 3, 4)))
    assert (maps.ndim, maps.steps, maps.spacing) == (3, (1.0, 1.0, 1.0), None)
    assert Embeddings(np.zeros((3, 4, 5)), np.ones((3, 4))).steps == (1.0, 1.0)
    with pytest.raises(InstsegError, match=r"'foreground' is of shape \(3, 4\), expected \(2, 3, 4\) as"):
        Embeddings(np.zeros((2, 3, 4, 5)), np.ones((3, 4)))
    with pytest.raises(InstsegError, match=r"'classes' is of shape \(2, 3, 4\), expected \(2, 3, 4, classes\)"):
        dataclasses.replace(maps, classes=np.ones((2, 3, 4)))
    for spacing in ((1.0, 1.0), (0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0), (1.0, float("inf"), 1.0)):
        with pytest.raises(InstsegError, match=r"'spacing' is .*, expected 3 numbers above 0, one for each axis"):
            dataclasses.replace(maps, spacing=spacing)


def test_instances_of_a_volume_are_measured():
    labels = np.zeros((4, 5, 6), np.int32)
    labels[1:3, 2, 3:5] = 4
    labels[3, 4, 5] = 9
    maps = Embeddings(np.zeros((4, 5, 6, 3)), np.full(labels.shape, 0.5), seeds=np.full(labels.shape, 0.5))
    measured = measure_instances(labels, maps)
    assert measured.ndim == 3
    assert (measured.area.tolist(), measured.score.tolist()) == ([4, 1], [0.25, 0.25])
    assert measured.centroid.tolist() == [[1.5, 2, 3.5], [3, 4, 5]]
    assert measured.bbox.tolist() == [[1, 2, 3, 3, 3, 5], [3, 4, 5, 4, 5, 6]]
    assert list(measured.to_dict())[2:11] == [f"centroid-{i}" for i in range(3)] + [f"bbox-{i}" for i in range(6)]
    assert measured.translated((10, 20, 30)).bbox[1].tolist() == [13, 24, 35, 14, 25, 36]
    within = measure_instances(labels, maps, np.s_[2:4, 0:5, 0:6])
    assert within.area.tolist() == [2, 1]
    assert kept_instances(measured, FilterSettings(exclude_border=True), labels.shape).tolist() == [True, False]


def test_parts_in_planes_are_merged_to_instances_of_the_volume():
    labels = np.zeros((2, 4, 5), np.int32)
    labels[0, 1:3, 1:3] = labels[1, 2, 2:5] = 1
    maps = Embeddings(np.zeros((2, 4, 5, 1)), np.full(labels.shape, 0.5))
    planes = [Embeddings(maps.embeddings[z], maps.foreground[z]) for z in range(2)]
    parts = [measure_instances(labels[z], planes[z]).in_plane(z) for z in range(2)]
    merged, whole = merge_instances(parts, np.array([0, 1], np.int32)), measure_instances(labels, maps)
    for name in Instances.array_names():
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name))
