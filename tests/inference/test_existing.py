"""Results that are there are left only if they are what the job would make, or if nobody can tell."""

import dataclasses
import os
from pathlib import Path

import pytest

from instseg.errors import InstsegError
from instseg.inference.batch import FileResult, file_state
from instseg.inference.existing import KeptResult, check_no_results, without_results
from instseg.inference.outputs import OutputFolder
from instseg.inference.run_record import Making, RunRecord, read_records

MAKING = Making(version="1.0", model="nuclei", digest="ab", settings={"format": "png", "min_size": 10})


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("out").mkdir()
    files = [Path(f"in/{name}.tif") for name in "abc"]
    for file in files:
        file.write_text("pixels")
    return files


def note(files, making=MAKING, **fields):
    """Write labels of some images, and how they were made."""
    with RunRecord(Path("out"), None, making, {}) as record:
        for file in files:
            labels = Path(f"out/{file.stem}.png")
            labels.write_text("labels")
            values = {"labels": labels, "state": file_state(file)} | fields
            record.add(FileResult(number=1, path=file, name=file.stem, **values))


def remaining(files, making=MAKING, planes=False, overwrite=False, extras=None):
    outputs = OutputFolder(Path("out"), making.settings["format"], extras or {}, files, shared=True)
    return without_results(outputs, files, planes, making, read_records(Path("out")), overwrite)


def test_what_is_there_and_the_same_stays(images):
    note(images[:2])
    assert remaining(images)[:3] == (tuple(images[2:]), 2, ())
    assert remaining(images).kept == tuple(
        KeptResult(file.stem, file, Path(f"out/{file.stem}.png"), None, None) for file in images[:2]
    )
    # With both choices as well: nothing is out of date.
    assert remaining(images, overwrite=True)[:3] == (tuple(images[2:]), 2, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"settings": {"format": "png", "min_size": 20}}, "min_size=10, now 20"),
        ({"digest": "cd"}, "other weights of the model nuclei"),
        ({"digest": "cd", "model": "mine"}, "model=nuclei, now mine"),
    ],
)
def test_results_of_another_making_are_refused_unless_they_may_be_replaced(images, change, reason):
    note(images[:2])
    now = dataclasses.replace(MAKING, **change)
    with pytest.raises(InstsegError) as raised:
        remaining(images, now)
    assert str(raised.value) == (
        f"out holds results of 2 of the images that were made otherwise ({reason}); "
        "add `overwrite=True` to make these anew, or give another folder"
    )
    assert remaining(images, now, overwrite=True)[:3] == (tuple(images), 0, ())


def test_an_image_that_has_changed_is_out_of_date(images):
    note(images)
    images[0].write_text("other pixels")
    status = images[1].stat()
    os.utime(images[1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(InstsegError, match=r"results of 2 of the images .* \(the image has changed since\)"):
        remaining(images)
    assert remaining(images, overwrite=True)[:3] == (tuple(images[:2]), 1, ())


def test_results_of_which_nobody_knows_are_kept_with_a_note(images):
    Path("out/a.png").write_text("of another tool")
    note(images[1:2])
    found = remaining(images)
    assert (found.files, found.skipped) == ((images[2],), 2)
    assert found.notes == ("1 results are kept of which no run has noted how they were made",)
    # They may be of anything, and go where results may be replaced.
    assert remaining(images, overwrite=True)[:3] == ((images[0], images[2]), 1, ())


def test_results_of_another_version_are_kept_with_a_note(images):
    note(images)
    found = remaining(images, dataclasses.replace(MAKING, version="2.0"))
    assert (found.files, found.notes) == ((), ("3 results are kept that instseg 1.0 made",))


def test_what_has_failed_or_is_not_whole_is_done_again(images):
    note(images[:1], labels=None, error=InstsegError("no memory"))
    note(images[1:])
    Path("out/b.png").unlink()
    Path("out/c.png").write_bytes(b"")
    assert remaining(images)[:3] == (tuple(images), 0, ())


def test_labels_in_a_tiff_as_they_are_too_many_for_a_png_are_there(images):
    note(images[:1], labels=Path("out/a.tif"))
    Path("out/a.png").rename("out/a.tif")
    Path("out/b.tif").write_text("labels of a run with another format")
    assert remaining(images)[:3] == (tuple(images[1:]), 1, ())


def test_a_stack_is_there_with_all_of_its_planes(images):
    stack = images[0]
    with RunRecord(Path("out"), None, MAKING, {}) as record:
        for index in range(3):
            labels = Path(f"out/a-{index:04d}.png")
            labels.write_text("labels")
            planes = {"planes": 3, "labels": labels, "state": file_state(stack)}
            record.add(FileResult(number=1, path=stack, name=labels.stem, **planes))
    # How many planes this one has, nobody has noted.
    Path("out/b-0000.png").write_text("labels")
    assert remaining(images, planes=True)[:3] == (tuple(images[1:]), 1, ())
    labels.unlink()
    assert remaining(images, planes=True)[:3] == (tuple(images), 0, ())


def test_an_incomplete_zarr_group_is_no_result(images):
    making = dataclasses.replace(MAKING, settings={"format": "zarr"})
    Path("out/a.zarr").mkdir()
    Path("out/a.zarr/zarr.json").write_text("{}")
    assert remaining(images, making)[:3] == (tuple(images), 0, ())


def test_results_are_counted_that_a_run_would_replace(images):
    outputs = OutputFolder(Path("out"), "png", {}, images, shared=True)
    check_no_results(outputs, images, False, {})
    Path("out/a-0000.png").write_text("labels")
    check_no_results(outputs, images, False, {})
    with pytest.raises(InstsegError, match="out holds results of 1 of the images; add `skip_existing=True`"):
        check_no_results(outputs, images, True, {})


def test_a_table_of_earlier_labels_is_none_of_these(images):
    Path("tables").mkdir()
    for file in images:
        Path(f"tables/{file.stem}.csv").write_text("label")
    note(images[:1])
    note(images[1:], figures={"count": 0})
    assert remaining(images).files == ()
    assert remaining(images, extras={"measure": Path("tables")}).files == (images[0],)
