"""Runs by hand, and as COCO's own tool writes them."""

import numpy as np
import pytest

from instseg.labels.column_runs import column_runs

LABELS = np.array(
    [
        [7, 0, 0, 9],
        [7, 0, 9, 9],
        [7, 7, 0, 9],
    ]
)


def test_runs_by_hand():
    runs = column_runs(LABELS)
    assert runs.label.tolist() == [7, 9]
    assert runs.counts.tolist() == [0, 3, 2, 1, 6, 7, 1, 1, 3]
    assert runs.first.tolist() == [0, 5, 9]
    assert runs.area.tolist() == [4, 4]
    assert runs.bbox.tolist() == [[0, 0, 3, 2], [0, 2, 3, 4]]


def test_nothing_has_no_runs():
    for labels in (np.zeros((3, 4), int), np.full((2, 2), -1)):
        runs = column_runs(labels)
        assert (len(runs.label), runs.bbox.shape, runs.compressed()) == (0, (0, 4), [])


@pytest.mark.parametrize("seed", range(8))
def test_texts_are_those_of_cocos_tool(seed):
    mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (17, 23)) * rng.choice([1, 1000])
    if seed % 2:
        # Long runs, so that numbers take several characters, and fewer than the two before.
        labels = labels.repeat(rng.integers(1, 400), 0).repeat(9, 1)
    runs = column_runs(labels.astype(np.int32))
    for index, (label, text) in enumerate(zip(runs.label.tolist(), runs.compressed(), strict=True)):
        encoded = mask.encode(np.asfortranarray(labels == label, np.uint8))
        assert text == encoded["counts"].decode()
        assert runs.area[index] == mask.area(encoded)
        x, y, width, height = mask.toBbox(encoded).tolist()
        assert runs.bbox[index].tolist() == [y, x, y + height, x + width]
