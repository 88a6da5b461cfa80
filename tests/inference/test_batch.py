"""A file that fails costs no other, whatever it raises and wherever, and a full disc ends the run."""

import errno
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

import instseg
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.inference.batch import LocalExecutor, PredictJob, file_state
from instseg.inference.options import PredictOptions
from instseg.inference.outputs import OutputFolder, SingleOutput
from instseg.io.images import write_picture
from instseg.io.label_images import read_labels
from instseg.settings import DiscSettings

ERRORS = [
    TypeError("no number"),
    MemoryError(),
    RecursionError("too deep"),
    ValueError("of a library"),
    OSError(5, "I/O"),
]


@pytest.fixture(scope="module")
def model(tiny_model):
    return instseg.load(tiny_model)


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    files = [Path(f"in/{name}.png") for name in "abc"]
    for seed, file in enumerate(files):
        discs = DiscSettings(size=64, min_discs=3, max_discs=3)
        write_picture(file, draw_discs(np.random.default_rng(seed), discs)[0])
    return files


def run(model, files, suffix="png", **options):
    outputs = OutputFolder(Path("out"), suffix, {}, files, shared=True)
    outputs.prepare()
    job = PredictJob(files=tuple(files), options=PredictOptions(), outputs=outputs, **options)
    return LocalExecutor(model).run(job)


# Reading and embedding are done by one thread, clustering and writing by another.
PLACES = [
    "instseg.inference.batch.open_image",
    "instseg.preprocessing.level_choice.image_levels",
    "instseg.inference.segmentation.cluster",
    "instseg.inference.batch.save_results",
]


def fail_at(monkeypatch, place, error, call=2):
    """Have a function, by its full name, raise an error when it is called for the second time."""
    function, calls = pkgutil.resolve_name(place), []

    def fail(*args, **options):
        calls.append(1)
        if len(calls) == call:
            raise error
        return function(*args, **options)

    monkeypatch.setattr(place, fail)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", PLACES)
def test_a_file_costs_no_other(model, images, monkeypatch, place, error):
    fail_at(monkeypatch, place, error)
    found = list(run(model, images))
    assert [result.path.name for result in found] == ["a.png", "b.png", "c.png"]
    assert [result.error is None for result in found] == [True, False, True]
    assert isinstance(found[1].error, InstsegError)
    assert "\n" not in str(found[1].error)
    assert found[1].error.__traceback__ is None
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "c.png"]
    assert read_labels(Path("out/c.png")).max() == found[2].summary.instances
    assert [result.state for result in found] == [file_state(file) for file in images]


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_is_no_error_of_a_file(model, images, monkeypatch, place):
    fail_at(monkeypatch, place, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        list(run(model, images))


def test_a_full_disc_ends_the_run(model, images, monkeypatch):
    fail_at(monkeypatch, "instseg.inference.batch.save_results", OSError(errno.ENOSPC, "No space left", "out/b.png"))
    results = run(model, images)
    assert next(results).error is None
    assert "No space left" in str(next(results).error)
    with pytest.raises(InstsegError, match=r"no room for results, so 1 files were not tried; .*`skip_existing=True`"):
        next(results)


def test_links_that_lead_nowhere_and_names_that_are_too_long_fail_alone(model, images):
    Path("in/lost.png").symlink_to("nowhere.png")
    # With .tiff instead of .png, or the number of a plane, the name of a result is longer than that of its image.
    long = images[0].rename(f"in/{'x' * 251}.png")
    files = [Path("in/lost.png"), long, *images[1:]]
    found = list(run(model, files, suffix="zarr"))
    assert [result.error is None for result in found] == [False, False, True, True]
    assert str(found[0].error).startswith("in/lost.png is a link to nowhere.png, which is not there; fetch that file")
    assert str(found[1].error).startswith("the name of its result would have 256 bytes, expected at most 255")


def test_planes_are_images_of_their_own(model, images):
    planes = [instseg.read_image(file)[..., 0] for file in images]
    tifffile.imwrite("in/stack.tif", np.stack(planes), photometric="minisblack")
    Path("in/bad.tif").write_bytes(b"II*\0 no tiff")
    found = list(run(model, [Path("in/bad.tif"), Path("in/stack.tif")], planes=True))
    assert [(result.number, result.name, result.planes) for result in found] == [
        (1, "bad", None),
        *((2, f"stack-000{index}", 3) for index in range(3)),
    ]
    for file, result in zip(images, found[1:], strict=True):
        np.testing.assert_array_equal(read_labels(result.labels), model.predict(file))


@pytest.fixture
def many(monkeypatch):
    """More objects than a PNG holds, one in each pixel."""
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    monkeypatch.setattr("instseg.inference.segmentation.cluster", lambda maps, settings=None: labels)
    write_picture(Path("in/many.png"), np.zeros((300, 300), np.uint8))
    return labels


def test_more_objects_than_a_png_holds_go_into_a_tiff(model, images, many):
    Path("out").mkdir()
    Path("out/many.png").write_text("of an earlier run")
    (result,) = run(model, [Path("in/many.png")])
    assert result.labels == Path("out/many.tif")
    assert result.notes == ("89,999 objects are more than a 16-bit PNG can number; the labels are in out/many.tif",)
    np.testing.assert_array_equal(read_labels(result.labels), many)
    assert not Path("out/many.png").exists()


def test_that_tiff_never_replaces_the_image(model, images, many):
    tifffile.imwrite("in/image.tif", np.zeros((300, 300), np.uint8), photometric="minisblack")
    before = Path("in/image.tif").read_bytes()
    image = Path("in/image.tif")
    job = PredictJob(files=(image,), options=PredictOptions(), outputs=SingleOutput(Path("in/image.png"), {}, image))
    (result,) = LocalExecutor(model).run(job)
    assert "in/image.tif is the image; give `out=NAME.tif`" in str(result.error)
    assert image.read_bytes() == before


def test_the_state_of_a_file(tmp_path):
    assert file_state(tmp_path / "none.png") is None
    (tmp_path / "a.zarr" / "c").mkdir(parents=True)
    (tmp_path / "a.zarr" / "zarr.json").write_text("{}")
    assert file_state(tmp_path / "a.zarr").size == 2
    assert file_state(tmp_path / "a.zarr").modified == (tmp_path / "a.zarr" / "zarr.json").stat().st_mtime_ns
