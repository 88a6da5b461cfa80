"""The data of a training: what is read, measured, split and rescaled, and which mistakes are reported."""

import tracemalloc

import numpy as np
import pytest

from instseg.data.datasets import disc_data, folder_data, suggest_scale, train_val_split
from instseg.data.rng import BATCHES, SPLIT, VALIDATION, generator
from instseg.data.samples import rescale_sample
from instseg.errors import InstsegError
from instseg.io.folders import Pair
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.settings import DiscSettings, TrainSettings

DISCS = DiscSettings(size=48, min_discs=3, max_discs=6)
SETTINGS = TrainSettings(batch_size=5, patch_size=32, seed=7)


def same(one, other):
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


def write_folder(folder, labels, images=None):
    """A training folder of 16 x 16 images, one of each label array."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, one in enumerate(labels):
        image = rng.integers(0, 256, (16, 16), np.uint8) if images is None else images[number]
        write_picture(folder / "images" / f"{number}.png", image)
        write_labels(folder / "labels" / f"{number}.png", one)
    return folder


def squares(*sides):
    """Labels of squares, one below the other."""
    labels = np.zeros((16, 16), np.int32)
    top = 0
    for number, side in enumerate(sides, start=1):
        labels[top : top + side, :side] = number
        top += side
    return labels


def test_the_diameter_is_that_of_the_median_instance(tmp_path):
    # Areas 4, 9 and 25 in one image, 9 and 16 in the other: the median is 9.
    # Numbers may have gaps.
    gaps = np.array([0, 2, 40, 30_000], np.int32)
    folder = write_folder(tmp_path / "data", [gaps[squares(2, 3, 5)], squares(3, 4)])
    data = folder_data(folder, SETTINGS, val=folder)
    assert data.diameters.typical == pytest.approx(2 * np.sqrt(9 / np.pi), abs=0.005)
    assert data.channels == 1
    described = {"kind": "folder", "training_images": 2, "validation_images": ["0", "1"]}
    assert data.description == described
    assert same(data.patches.batch(3), folder_data(folder, SETTINGS, val=folder).patches.batch(3))


def test_large_objects_are_learnt_in_smaller_images(tmp_path):
    labels = np.zeros((200, 160), np.int32)
    labels[20:120, 10:110] = 1
    labels[130:190, 50:150] = 2
    image = np.where(labels > 0, 200, 10).astype(np.uint8)
    folder = write_folder(tmp_path / "data", [labels], [image])
    data = folder_data(folder, SETTINGS)
    typical = 2 * np.sqrt(8000 / np.pi)
    assert data.diameters.typical == pytest.approx(typical, abs=0.01)
    assert data.scale == pytest.approx(48 / typical, rel=1e-3)
    small = rescale_sample(data.validation[0], data.scale)
    assert small.image.shape == (95, 76, 1)
    assert 2 * np.sqrt(np.median(np.bincount(small.labels.ravel())[1:]) / np.pi) == pytest.approx(48, rel=0.03)
    # Validation uses the images at their own size, as prediction does.
    assert data.validation[0].labels.shape == (200, 160)
    batches = [data.patches.batch(number) for number in range(10)]
    assert max((batch.labels > 0).mean() for batch in batches) > 0.3


@pytest.mark.parametrize(("diameter", "scale"), [(4.0, 2.0), (8.0, 1.0), (20.0, 1.0), (48.0, 1.0), (96.0, 0.5)])
def test_scales(diameter, scale):
    assert suggest_scale(diameter) == scale


def test_memory_does_not_grow_with_the_numbers_of_labels(tmp_path):
    folder = write_folder(tmp_path / "data", [])
    labels = squares(2, 3)
    labels[labels == 2] = 20_000_000
    write_picture(folder / "images" / "0.png", np.zeros((16, 16), np.uint8))
    write_labels(folder / "labels" / "0.tif", labels)
    tracemalloc.start()
    data = folder_data(folder, SETTINGS)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.diameters.typical == pytest.approx(2 * np.sqrt(6.5 / np.pi), abs=0.005)
    assert most < 20_000_000


def test_pieces_of_masks_are_instances_when_asked_for(tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[2:4, 2:4] = mask[8:11, 8:11] = 255
    folder = write_folder(tmp_path / "data", [])
    write_picture(folder / "images" / "0.png", mask)
    write_picture(folder / "labels" / "0.png", mask)
    data = folder_data(folder, SETTINGS, connected_components=True)
    assert data.validation[0].labels.max() == 2
    # The median of 4 and 9.
    assert data.diameters.typical == pytest.approx(2 * np.sqrt(6.5 / np.pi), abs=0.005)


def test_channels_that_differ_are_reported(tmp_path):
    images = [np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)]
    folder = write_folder(tmp_path / "data", [squares(4)] * 3, images)
    with pytest.raises(InstsegError, match=r"2 with 1 \(such as 0.png\); 1 with 3 \(such as 1.png\)"):
        folder_data(folder, SETTINGS, val=folder)


def test_labels_without_an_instance_are_reported(tmp_path):
    folder = write_folder(tmp_path / "data", [squares()] * 3)
    with pytest.raises(InstsegError, match="no label in .* holds an instance"):
        folder_data(folder, SETTINGS)


def test_reading_is_counted(tmp_path):
    folder = write_folder(tmp_path / "data", [squares(4)] * 3)
    counts = []
    folder_data(folder, SETTINGS, progress=lambda done, of: counts.append((done, of)))
    assert counts == [(1, 3), (2, 3), (3, 3)]


def pairs(tmp_path, number):
    return [Pair(str(index), tmp_path / f"{index}.png", tmp_path / f"{index}.tif") for index in range(number)]


@pytest.mark.parametrize(
    ("number", "share", "held_back"), [(2, 0.5, 1), (2, 0.9, 1), (3, 0.9, 2), (5, 0.2, 1), (6, 0.1, 1), (20, 0.25, 5)]
)
def test_the_split_is_disjoint_and_both_parts_have_something(tmp_path, number, share, held_back):
    everything = pairs(tmp_path, number)
    training, validation = train_val_split(everything, TrainSettings(validation_share=share))
    assert len(validation) == held_back
    assert sorted([*training, *validation], key=str) == sorted(everything, key=str)


def test_the_split_follows_the_seed(tmp_path):
    everything = pairs(tmp_path, 20)
    splits = [train_val_split(everything, TrainSettings(seed=seed, validation_share=0.5)) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_few_pairs_are_both(tmp_path):
    five = pairs(tmp_path, 5)
    assert train_val_split(five, TrainSettings()) == (five, five)
    assert train_val_split(five[:1], TrainSettings(validation_share=0.9)) == (five[:1], five[:1])
    training, validation = train_val_split(five, TrainSettings(), least=1)
    assert (len(training), len(validation)) == (4, 1)


def test_generated_data_repeat_with_the_seed_and_validation_is_not_trained_on():
    first, again, other = (disc_data(TrainSettings(patch_size=32, seed=seed), DISCS) for seed in (0, 0, 1))
    assert same(first.patches.batch(0), again.patches.batch(0))
    assert not same(first.patches.batch(0), other.patches.batch(0))
    for one, repeated, others in zip(first.validation, again.validation, other.validation, strict=True):
        assert np.array_equal(one.image, repeated.image)
        assert not np.array_equal(one.image, others.image)
    assert first.channels == 1
    # Squared radii are uniform in 50..135.
    assert 2 * np.sqrt(50) * 0.7 < first.diameters.typical < 2 * np.sqrt(135)
    assert first.description["kind"] == "discs"
    assert first.description["size"] == 48


def test_named_pairs_are_kept_for_validation(tmp_path):
    everything = pairs(tmp_path, 4)
    training, validation = train_val_split(everything, SETTINGS, ("1", "3", "gone"))
    assert ([pair.name for pair in training], [pair.name for pair in validation]) == (["0", "2"], ["1", "3"])
    # Names of all pairs, or of none, decide nothing.
    for names in (("0", "1", "2", "3"), ("gone",), ()):
        assert train_val_split(everything, SETTINGS, names) == train_val_split(everything, SETTINGS)


def test_instances_in_validation_images_only_are_reported(tmp_path):
    folder = write_folder(tmp_path / "data", [squares(), squares(), squares(4)])
    message = "only the 1 images of .* kept for validation hold instances, not the 2 to train on; give another `seed`"
    with pytest.raises(InstsegError, match=message):
        folder_data(folder, SETTINGS, validation_names=["2"])
    assert folder_data(folder, SETTINGS, validation_names=["0"]).diameters.typical > 0
    other = write_folder(tmp_path / "other", [squares(4)])
    with pytest.raises(InstsegError, match="no label in .* holds an instance"):
        folder_data(write_folder(tmp_path / "empty", [squares()]), SETTINGS, val=other)


def test_the_scale_is_chosen_by_the_typical_diameter(tmp_path):
    folder = write_folder(tmp_path / "data", [squares(4), squares(4)])
    asked = []
    data = folder_data(folder, SETTINGS, scale=lambda diameter: asked.append(diameter) or 1.5)
    assert asked == [data.diameters.typical]
    assert data.scale == 1.5
    # Validation images stay as they are.
    assert data.validation[0].image.shape == (16, 16, 1)


def test_no_two_uses_draw_the_same_numbers():
    keys = [(0,), (1,), (2,), (2**31 - 1,)]
    keys = [(seed, *key) for (seed,) in keys for key in ((BATCHES, 0), (BATCHES, 1), (VALIDATION,), (SPLIT,))]
    first = {tuple(generator(*key).integers(2**32, size=4)) for key in keys}
    assert len(first) == len(keys)


def test_a_folder_to_validate_on_has_to_hold_instances(tmp_path):
    folder = write_folder(tmp_path / "data", [squares(3), squares(4)])
    empty = write_folder(tmp_path / "val", [squares(), squares()])
    with pytest.raises(InstsegError, match="none of the 2 label images of .*val holds an instance, expected some to"):
        folder_data(folder, SETTINGS, val=empty)


def test_validation_images_without_instances_are_told(tmp_path):
    folder = write_folder(tmp_path / "data", [squares(3), squares()])
    said = [
        problem.what
        for seed in range(8)
        if (data := folder_data(folder, TrainSettings(patch_size=16, seed=seed), validation_names=["1"]))
        for problem in data.problems
    ]
    what = "none of the images kept for validation holds an instance (1), so that scores say nothing"
    assert said.count(what) == 8


def test_of_streamed_data_is_told_what_the_images_read_beforehand_show(tmp_path):
    folder = write_folder(tmp_path / "data", [squares(3) + 1, squares(4) + 1])
    for max_bytes in (1, 2**30):
        data = folder_data(folder, TrainSettings(patch_size=16), val=folder, max_bytes=max_bytes)
        (problem,) = [each for each in data.problems if "looks like the background" in each.what]
        assert (problem.count, sorted(problem.files)) == (2, ["labels/0.png", "labels/1.png"])
