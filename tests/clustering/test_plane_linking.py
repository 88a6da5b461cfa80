"""Sections in planes are joined to objects of a volume."""

import numpy as np
import pytest

from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import Instances, measure_instances
from instseg.clustering.plane_linking import PlaneLinker
from instseg.labels.matching import match
from instseg.labels.regions import relabel_sequential
from instseg.settings import ClusterSettings


def plane_maps(labels, centres=None, bandwidth=3.0):
    """Maps of a plane whose pixels know the centre of their section, or what `centres` says by label."""
    embeddings = np.zeros((*labels.shape, 2), np.float32)
    for label in np.unique(labels[labels > 0]):
        pixels = labels == label
        embeddings[pixels] = np.argwhere(pixels).mean(axis=0) if centres is None else centres[label]
    foreground = np.where(labels > 0, 0.8, 0.1).astype(np.float32)
    return Embeddings(embeddings, foreground, bandwidth=np.full(labels.shape, bandwidth, np.float32))


def link(planes, *, positions=True, min_size=1, maps=None):
    """Link planes of labels; return the labels of the volume and its instances."""
    linker, done = PlaneLinker(positions=positions, min_size=min_size), []
    for number, plane in enumerate(planes):
        plane = np.asarray(plane, np.int32)
        done += linker.add(plane, plane_maps(plane) if maps is None else maps[number])
        # Three planes are held at most.
        assert len(done) == max(0, number - 1)
    done += linker.flush()
    assert [number for number, _ in done] == list(range(len(planes)))
    linked = linker.finish()
    labels = np.stack([linked.label_of[numbers] for _, numbers in done])
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(linked.instances.area, np.bincount(labels.ravel())[1:])
    np.testing.assert_array_equal(linked.instances.label, np.arange(1, labels.max() + 1))
    return labels, linked.instances


def disc(radius, centre=(15, 15), size=32):
    rows, columns = np.mgrid[:size, :size]
    return np.hypot(rows - centre[0], columns - centre[1]) < radius


def stack(*radii, centre=(15, 15)):
    return [disc(radius, centre).astype(np.int32) if radius else np.zeros((32, 32), np.int32) for radius in radii]


@pytest.mark.parametrize("positions", [True, False])
def test_sections_of_one_object_are_joined(positions):
    labels, instances = link(stack(0, 4, 7, 8, 7, 4, 0), positions=positions)
    assert labels.max() == 1
    assert instances.bbox[0, [0, 3]].tolist() == [1, 6]
    assert instances.centroid[0] == pytest.approx([3, 15, 15])
    assert instances.score[0] == pytest.approx(0.8)


@pytest.mark.parametrize("positions", [True, False])
def test_objects_side_by_side_stay_apart(positions):
    planes = [one + 2 * other for one, other in zip(stack(6, 7, 6), stack(6, 7, 6, centre=(15, 30)), strict=True)]
    # Numbers in planes mean nothing.
    planes[1] = np.where(planes[1] > 0, 3 - planes[1], 0)
    labels, _ = link(planes, positions=positions)
    assert labels.max() == 2
    np.testing.assert_array_equal(labels, relabel_sequential(np.stack([planes[0], 3 - planes[1], planes[2]]) % 3))


def test_what_lies_on_another_object_with_its_centre_elsewhere_is_another():
    one, other = disc(8), disc(3, (15, 20))
    planes = [one.astype(np.int32), other.astype(np.int32)]
    maps = [plane_maps(planes[0]), plane_maps(planes[1], {1: (15, 28)})]
    assert link(planes, maps=maps)[0].max() == 2
    # Masks alone say that the small section is a part of the large one.
    assert link(planes, maps=maps, positions=False)[0].max() == 1


@pytest.mark.parametrize("positions", [True, False])
def test_balls_on_top_of_each_other_are_cut_at_the_waist(positions):
    labels, instances = link(stack(3, 7, 8, 7, 4, 7, 8, 7, 3), positions=positions, min_size=20)
    assert labels.max() == 2
    assert [labels[z].max() for z in (0, 3, 5, 8)] == [1, 1, 2, 2]
    assert instances.bbox[:, 3].tolist()[1] == 9


def test_noise_at_a_pole_is_no_waist():
    labels, _ = link(stack(3, 2, 4, 7, 8, 7, 3), min_size=60)
    assert labels.max() == 1
    assert (labels[0] > 0).any()


def test_a_plane_that_misses_an_object_is_filled():
    labels, instances = link(stack(7, 8, 0, 8, 7))
    assert labels.max() == 1
    np.testing.assert_array_equal(labels[2] > 0, disc(8))
    assert instances.bbox[0].tolist()[::3] == [0, 5]
    # Two planes are not.
    labels, _ = link(stack(7, 8, 0, 0, 8, 7))
    assert labels.max() == 2
    assert not labels[2:4].any()


def test_gaps_one_after_the_other_and_side_by_side_are_filled():
    planes = [
        one + 2 * other
        for one, other in zip(stack(7, 7, 0, 7, 0, 7), stack(7, 0, 7, 0, 7, 7, centre=(15, 31)), strict=True)
    ]
    labels, _ = link([relabel_sequential(plane) for plane in planes])
    assert labels.max() == 2
    assert all(len(np.unique(plane)) == 3 for plane in labels)


def test_a_gap_that_another_object_fills_is_none():
    planes = stack(7, 7, 7)
    maps = [plane_maps(planes[0]), plane_maps(planes[1], {1: (90, 90)}), plane_maps(planes[2])]
    assert link(planes, maps=maps)[0].max() == 3


def test_small_objects_vanish():
    planes = [one + 2 * other for one, other in zip(stack(7, 7, 7), stack(0, 2, 0, centre=(3, 3)), strict=True)]
    assert link(planes)[0].max() == 2
    labels, instances = link(planes, min_size=50)
    assert labels.max() == len(instances) == 1


def test_planes_without_objects():
    labels, instances = link(stack(0, 0, 0, 0))
    assert not labels.any()
    assert (len(instances), instances.ndim) == (0, 3)
    assert link(stack(5))[0].max() == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_balls_by_their_planes(ball_maps, seed):
    labels, maps = ball_maps(seed)
    # The planes know nothing of planes.
    planes = [
        Embeddings(maps.embeddings[z, ..., 1:], maps.foreground[z], maps.seeds[z], maps.bandwidth[z])
        for z in range(len(labels))
    ]
    sections = [cluster(plane, ClusterSettings(min_size=4, seed_threshold=0.1)) for plane in planes]
    found, instances = link(sections, maps=planes, min_size=20)
    large = np.flatnonzero(np.bincount(labels.ravel()) >= 100)[1:]
    assert len(large) > 4
    assert np.isin(large, match(labels, found, 0.5).truth_ids).mean() >= 0.75
    # What was measured in planes is what the labels of the volume say; scores know the centres of planes only.
    whole = measure_instances(found, maps)
    for name in ("label", "area", "centroid", "bbox"):
        np.testing.assert_allclose(getattr(instances, name), getattr(whole, name))
    assert set(Instances.array_names()) > {"label", "area", "centroid", "bbox"}
