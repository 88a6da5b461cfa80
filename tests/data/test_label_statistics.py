"""What label images hold, and by which signs values are told apart that do not number instances."""

import numpy as np
import pytest
from PIL import Image

from instseg.data.label_statistics import crumb_limit, label_statistics, measure_diameters
from instseg.labels.regions import IGNORED

LABELS = np.array(
    [
        [7, 7, 0, 0, 3],
        [7, 0, 0, 0, 0],
        [0, 0, 0, 0, 3],
        [9, 9, IGNORED, 0, 3],
    ],
    np.int32,
)


def discs(*, square=False):
    """Nine discs or squares of radius 6, 1..9, in an image of 90 x 90, of which none touch."""
    rows, columns = np.ogrid[:90, :90]
    labels = np.zeros((90, 90), np.int32)
    for number in range(9):
        down, right = np.abs(rows - 15 - 30 * (number // 3)), np.abs(columns - 15 - 30 * (number % 3))
        labels[np.maximum(down, right) < 6 if square else down**2 + right**2 < 36] = number + 1
    return labels


def rims(labels, value):
    """The labels with the background pixels beside them set to a value."""
    padded = np.pad(labels, 1)
    near = np.max([np.roll(padded, shift, axis) for axis in (0, 1) for shift in (-1, 1)], axis=0)[1:-1, 1:-1]
    return np.where((labels == 0) & (near > 0), value, labels)


def resized(values):
    picture = Image.fromarray(values.astype(np.uint8)).resize((140, 140), Image.Resampling.BILINEAR)
    return np.asarray(picture).astype(np.int32)


def suspicion(labels, **options):
    found = label_statistics(labels, **options).suspicion
    return None if found is None else found.what


def test_instances_are_counted_by_hand():
    found = label_statistics(LABELS)
    assert found.ids.tolist() == [3, 7, 9]
    assert (found.areas.tolist(), found.pieces.tolist(), found.ignored) == ([3, 3, 2], [2, 1, 1], 1)
    assert found.suspicion is None


def test_pieces_are_instances_with_connected_components():
    found = label_statistics(LABELS, connected_components=True)
    assert (found.ids.tolist(), found.areas.tolist()) == ([1, 2, 3, 4], [3, 1, 2, 2])
    assert found.pieces.tolist() == [1, 1, 1, 1]


def test_an_image_without_instances():
    found = label_statistics(np.zeros((3, 4), np.int32))
    assert (len(found.ids), len(found.areas), found.ignored, found.suspicion) == (0, 0, 0, None)


@pytest.mark.parametrize("areas", [[5, 6, 7, 8], [10] * 50 + [200], [21, 900]])
def test_small_objects_among_small_ones_are_no_crumbs(areas):
    areas = np.array(areas)
    assert not (areas <= crumb_limit(areas)).any()


def test_crumbs_are_not_measured_while_most_foreground_is_of_others():
    areas = np.array([1] * 900 + [300, 320, 340])
    assert measure_diameters(areas, crumb_limit(areas)) == measure_diameters(np.array([300, 320, 340]))
    assert measure_diameters(np.array([4, 4]), 9).typical == pytest.approx(2.26)
    assert crumb_limit(np.zeros(0, np.int64)) == 0


def test_well_formed_labels_raise_no_suspicion():
    numbers = np.arange(1, 65).reshape(8, 8)
    tissue = np.kron(numbers, np.ones((6, 6), np.int32))
    for labels in (discs(), discs() * 40, tissue, tissue + 200, np.kron(numbers, np.pad(np.ones((5, 5), int), 1))):
        assert suspicion(labels) is None
    assert suspicion(np.where(discs() == 4, 255, discs())) is None


@pytest.mark.parametrize("square", [False, True])
def test_smoothed_edges_of_masks_are_recognised(square):
    smooth = resized((discs(square=square) > 0) * 255)
    expected = f"its {len(np.unique(smooth)) - 1} values look like smoothed or compressed edges"
    assert suspicion(smooth).startswith(expected)
    assert suspicion(smooth, connected_components=True).startswith(expected)


def test_labels_that_were_resized_with_interpolation_are_recognised():
    assert "smoothed or compressed edges" in suspicion(resized(discs() * 20))


def test_classes_are_told_from_instances():
    classes = np.where(discs() > 0, discs() % 3 + 1, 0)
    assert suspicion(classes) == "its values look like classes, not instances: 9 pieces of 3 values"
    assert suspicion((discs() > 0) * 2) == "its values look like classes, not instances: 9 pieces"
    assert suspicion(classes, connected_components=True) is None
    # One object in two pieces is one.
    assert suspicion(np.where(discs() < 3, discs() // 2 * 8 + discs() % 2 * 8, 0)) is None


@pytest.mark.parametrize("value", [1, 255])
def test_a_numbered_background_is_recognised(value):
    labels = discs() + 1 if value == 1 else np.where(discs() == 0, 255, discs())
    share = (discs() == 0).mean()
    expected = f"the label {value} looks like the background: it covers {share:.0%} of the image, and 0 does not occur"
    assert suspicion(labels) == expected


def test_a_numbered_background_is_recognised_beside_lines_of_0():
    labels = rims(discs(), IGNORED)
    lines = np.where(labels == IGNORED, 0, labels + 1)
    assert "the label 1 looks like the background" in suspicion(lines)


@pytest.mark.parametrize("instances", [1, 2, 9])
def test_boundaries_that_stand_for_nothing_are_recognised(instances):
    labels = rims(np.where(discs() <= instances, discs(), 0), 255)
    found = label_statistics(labels).suspicion
    assert found.what == "the label 255 looks like boundaries or unlabelled ground between the instances"
    assert found.advice.startswith("give `ignore_label=255`")
    left = label_statistics(np.where(labels == 255, IGNORED, labels))
    assert (len(left.ids), left.suspicion) == (instances, None)
