"""Training data that do not fit into memory: read when they are needed, in an order that the seed decides."""

import numpy as np
import pytest
from typer.testing import CliRunner

from instseg.cli import app
from instseg.data.cached_samples import CachedSamples
from instseg.data.datasets import folder_data, train_val_split
from instseg.data.discs import draw_discs
from instseg.data.patches import SamplePatches
from instseg.data.samples import make_sample
from instseg.errors import InstsegError
from instseg.io.folders import Pair
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.settings import DiscSettings, TrainSettings

SETTINGS = TrainSettings(batch_size=4, patch_size=32)


def sample(number, side=40):
    """A sample whose image is its number everywhere, but for a corner."""
    image = np.full((side, side), number, np.uint16)
    image[0, 0] = number + 1
    return make_sample(image, np.full((side, side), 1 + number, np.int32))


class Readers:
    def __init__(self, count):
        self.read = []
        self.all = [lambda number=number: self._read(number) for number in range(count)]

    def _read(self, number):
        self.read.append(number)
        return sample(number)


@pytest.fixture
def folder(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number in range(6):
        image, labels = draw_discs(np.random.default_rng(number), DiscSettings(size=48, min_discs=3, max_discs=5))
        write_picture(tmp_path / f"images/{number}.png", image)
        write_labels(tmp_path / f"labels/{number}.png", labels)
    return tmp_path


def test_the_last_used_stay():
    readers = Readers(5)
    samples = CachedSamples(readers.all, 2 * sample(0).nbytes)
    assert len(samples) == 5
    for number in (0, 1, 0, 1, 2, 1, 0, 2):
        assert samples[number].image[1, 1, 0] == number
    # 2 took the place of 0, 0 that of 2, and 2 that of 1.
    assert readers.read == [0, 1, 2, 0, 2]
    assert readers.read.count(3) == 0
    part = samples[1::2]
    assert [one.image[1, 1, 0] for one in part] == [1, 3]


def test_one_sample_is_kept_whatever_its_size():
    readers = Readers(2)
    samples = CachedSamples(readers.all, 1)
    for number in (0, 0, 1, 1):
        assert samples[number] is not None
    assert readers.read == [0, 1]


def shown(patches, batches):
    """Which images each of some batches shows."""
    chosen = []
    choose = patches._choose
    patches._choose = lambda rng, number: chosen.append(choose(rng, number)) or chosen[-1]
    for number in batches:
        patches.batch(number)
    return np.reshape(chosen, (len(batches), -1))


def test_patches_come_from_a_window_that_moves_over_all_images():
    samples = [sample(number) for number in range(30)]
    make = {"batch_size": 4, "patch_size": 16, "seed": 3}
    seen = shown(SamplePatches(samples, **make, shuffle_buffer=5), range(60))
    assert set(seen.ravel().tolist()) == set(range(30))
    for number in range(50):
        # At most the five of a window and those that came in since.
        assert len(set(seen[number : number + 4].ravel().tolist())) <= 5 + 3
    again = shown(SamplePatches(samples, **make, shuffle_buffer=5), range(40, 60))
    np.testing.assert_array_equal(again, seen[40:])
    other = shown(SamplePatches(samples, **(make | {"seed": 4}), shuffle_buffer=5), range(60))
    assert not np.array_equal(other, seen)
    counts = np.bincount(shown(SamplePatches(samples, **make, shuffle_buffer=5), range(900)).ravel(), minlength=30)
    assert counts.min() > 0.7 * counts.mean()


def test_data_are_the_same_read_at_once_or_when_needed(folder):
    eager, lazy = (folder_data(folder, SETTINGS, max_bytes=most) for most in (2**30, 1))
    assert isinstance(lazy.validation, CachedSamples)
    assert not isinstance(eager.validation, CachedSamples)
    for name in ("channels", "scale", "diameters", "class_names", "description"):
        assert getattr(eager, name) == getattr(lazy, name)
    for one, other in zip(eager.validation, lazy.validation, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
    batch = lazy.patches.batch(7)
    assert batch.images.shape == (4, 32, 32, 1)
    again = folder_data(folder, SETTINGS, max_bytes=1).patches.batch(7)
    np.testing.assert_array_equal(batch.images, again.images)
    np.testing.assert_array_equal(batch.labels, again.labels)


def test_few_images_are_read_before_the_training_begins(folder, monkeypatch):
    monkeypatch.setattr("instseg.data.cached_samples._EXAMINED", 2)
    told = []
    folder_data(folder, SETTINGS, max_bytes=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_classes_come_from_the_table(folder):
    rows = []
    for number in range(6):
        _, labels = draw_discs(np.random.default_rng(number), DiscSettings(size=48, min_discs=3, max_discs=5))
        rows += [f"{number},{label},{'odd' if label % 2 else 'even'}" for label in np.unique(labels[labels > 0])]
    (folder / "classes.csv").write_text("\n".join(["image,label,class", *rows]))
    data = folder_data(folder, SETTINGS, max_bytes=1)
    assert data.class_names == ("even", "odd")
    batch = data.patches.batch(0)
    assert set(np.unique(batch.classes)) == {0, 1, 2}
    np.testing.assert_array_equal(batch.classes > 0, batch.labels > 0)
    (folder / "classes.csv").write_text("\n".join(["image,label,class", *rows[:-1]]))
    with pytest.raises(InstsegError, match=r"1 instances of .*5.png have no class"):
        for number in range(40):
            folder_data(folder, SETTINGS, max_bytes=1, val=folder).patches.batch(number)
    (folder / "classes.csv").unlink()
    (folder / "classes").mkdir()
    for number in range(6):
        write_labels(folder / f"classes/{number}.png", np.ones((48, 48), np.int32))
    with pytest.raises(InstsegError, match="do not fit into memory, and their classes .*write them into classes.csv"):
        folder_data(folder, SETTINGS, max_bytes=1)


def test_images_that_differ_in_channels_are_told(folder):
    data = folder_data(folder, SETTINGS, max_bytes=1, val=folder)
    write_picture(folder / "images/3.png", np.zeros((48, 48, 3), np.uint8))
    with pytest.raises(InstsegError, match="the images differ in channels: .* with 1 .*; 1 with 3"):
        for number in range(60):
            data.patches.batch(number)


def test_folders_without_instances_are_told(folder):
    for path in (folder / "labels").iterdir():
        write_labels(path, np.zeros((48, 48), np.int32))
    with pytest.raises(InstsegError, match="none of 5 label images of .* holds an instance"):
        folder_data(folder, SETTINGS, max_bytes=1)


def test_a_file_that_breaks_during_the_training_ends_it_in_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("instseg.data.cached_samples._EXAMINED", 1)
    for path in sorted((folder / "images").iterdir())[:5]:
        path.write_bytes(path.read_bytes()[:60])
    data = None
    for seed in range(20):
        # The one that is looked at, and the one to validate on, have to be whole.
        try:
            settings = TrainSettings(
                iterations=3, batch_size=2, patch_size=32, seed=seed, validation_every=100, validation_share=0.5
            )
            data = folder_data(folder, settings, max_bytes=1)
            break
        except InstsegError:
            continue
    assert data is not None
    from instseg.models.config import TrainingConfig
    from instseg.settings import ModelSettings
    from instseg.training.loop import iter_training

    plan = TrainingConfig(model=ModelSettings(embeddings=4, widths=(8, 8)), train=settings)
    with pytest.raises(InstsegError, match=r"^cannot read .*png: it is damaged or cut off"):
        list(iter_training(tmp_path / "model", plan, data))


def test_validation_takes_no_more_than_it_looks_at():
    pairs = [Pair(str(number), None, None) for number in range(1000)]
    training, validation = train_val_split(pairs, TrainSettings())
    assert (len(training), len(validation)) == (960, 40)
    assert len(train_val_split(pairs[:390], TrainSettings())[1]) == 39


def test_the_command_trains_on_data_larger_than_memory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(folder_data.__kwdefaults__, "max_bytes", 1)
    options = ["--batch-size", "2", "--patch-size", "32", "--iterations", "2"]
    done = CliRunner().invoke(app, ["train", "model", "--data", ".", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
