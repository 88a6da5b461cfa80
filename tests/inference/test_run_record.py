"""What a run notes beside its results is there whatever ends it, and no run takes it from another."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from instseg.errors import InstsegError
from instseg.inference.batch import FileResult, FileState
from instseg.inference.failures import UnexpectedError
from instseg.inference.results import ImageSummary
from instseg.inference.run_record import Making, RunRecord, read_records, report_name
from instseg.preprocessing.level_choice import LevelChoice
from instseg.settings import FilterSettings

MAKING = Making(version="1.0", model="nuclei", digest="ab", settings={"format": "png", "min_size": 10, "tile": None})
SUMMARY = ImageSummary(7, 12.345, 1.0, (30, 40))


def done(name, **fields):
    values = {"summary": SUMMARY, "labels": Path(f"out/{name}.png"), "state": FileState(5, 123456789)} | fields
    return FileResult(number=1, path=Path(f"in/{name}.tif"), name=name, **values)


def run(folder, *results, shard=None, making=MAKING):
    with RunRecord(folder, shard, making, read_records(folder)) as record:
        for result in results:
            record.add(result)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_described_with_all_its_images(tmp_path):
    failure = done("b", summary=None, labels=None, error=UnexpectedError("odd", "Traceback"), seconds=1.23456)
    run(tmp_path, done("a", notes=("no position",)), failure)
    assert names(tmp_path) == ["run.json"]
    stored = json.loads((tmp_path / "run.json").read_text())
    assert stored["instseg"] == "1.0"
    assert stored["model"] == {"name": "nuclei", "sha256": "ab"}
    assert stored["settings"] == MAKING.settings
    first, second = stored["images"]
    assert first["image"] == "in/a.tif"
    assert {name: first[name] for name in ("labels", "shape", "instances", "bytes", "modified", "notes")} == {
        "labels": "a.png",
        "shape": [30, 40],
        "instances": 7,
        "bytes": 5,
        "modified": 123456789,
        "notes": ["no position"],
    }
    assert "error" not in first
    assert (second["error"], second["traceback"], second["seconds"]) == ("odd", "Traceback", 1.235)
    records = read_records(tmp_path)
    assert sorted(records) == ["a.png", "b.png"]
    assert (records["a.png"].failed, records["b.png"].failed) == (False, True)
    assert records["a.png"].state == FileState(5, 123456789)
    assert records["a.png"].making == MAKING


def test_what_a_killed_run_has_done_is_known_and_goes_over_to_the_next(tmp_path):
    record = RunRecord(tmp_path, None, MAKING, {})
    record.__enter__()
    record.add(done("a"))
    record.add(done("b"))
    # The process ends here: its locks are free, and its last line may be half of one.
    os.close(record._descriptor)
    (journal,) = tmp_path.glob(".run.*.jsonl")
    journal.write_bytes(journal.read_bytes() + b'{"image": "in/c')
    assert sorted(read_records(tmp_path)) == ["a.png", "b.png"]
    run(tmp_path, done("c"))
    assert names(tmp_path) == ["run.json"]
    assert sorted(read_records(tmp_path)) == ["a.png", "b.png", "c.png"]


def test_an_interrupted_run_leaves_its_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunRecord(tmp_path, None, MAKING, {}) as record:
        record.add(done("a"))
        raise KeyboardInterrupt
    assert names(tmp_path) == ["run.json"]
    assert sorted(read_records(tmp_path)) == ["a.png"]


def test_runs_side_by_side_keep_what_is_the_others(tmp_path):
    with RunRecord(tmp_path, None, MAKING, {}) as one:
        one.add(done("a"))
        with RunRecord(tmp_path, None, MAKING, {}) as other:
            other.add(done("b"))
            # What the other one has not written yet is read from its journal.
            assert sorted(read_records(tmp_path)) == ["a.png", "b.png"]
        one.add(done("c"))
    assert names(tmp_path) == ["run.json"]
    assert sorted(read_records(tmp_path)) == ["a.png", "b.png", "c.png"]


def test_shards_have_files_of_their_own(tmp_path):
    run(tmp_path, done("a"), shard="1/2")
    run(tmp_path, done("b"), shard="2/2")
    assert names(tmp_path) == ["run-1-of-2.json", "run-2-of-2.json"]
    assert sorted(read_records(tmp_path)) == ["a.png", "b.png"]
    assert report_name("failed", "2/4", ".csv") == "failed-2-of-4.csv"


def test_images_of_earlier_runs_keep_how_they_were_made(tmp_path):
    other = dataclasses.replace(MAKING, settings=MAKING.settings | {"min_size": 20})
    run(tmp_path, done("a"), done("b"))
    run(tmp_path, done("b"), making=other)
    stored = json.loads((tmp_path / "run.json").read_text())
    assert [image["name"] for image in stored["images"]] == ["b"]
    (earlier,) = stored["earlier"]
    assert [image["name"] for image in earlier["images"]] == ["a"]
    records = read_records(tmp_path)
    assert {key: record.making.settings["min_size"] for key, record in records.items()} == {"a.png": 10, "b.png": 20}
    # The same image in another format is another result.
    run(tmp_path, done("a", labels=Path("a.tif")), making=dataclasses.replace(MAKING, settings={"format": "tif"}))
    assert sorted(read_records(tmp_path)) == ["a.png", "a.tif", "b.png"]


def test_differences_are_named():
    assert MAKING.differences(dataclasses.replace(MAKING, version="2.0")) == []
    other = Making(version="1.0", model="mine", digest="cd", settings={"format": "png", "min_size": 20, "tile": 128})
    assert MAKING.differences(other) == ["model=nuclei, now mine", "min_size=10, now 20", "tile=null, now 128"]
    retrained = dataclasses.replace(MAKING, digest="cd")
    assert MAKING.differences(retrained) == ["other weights of the model nuclei"]
    # A setting that an earlier version had not is no difference.
    assert MAKING.differences(dataclasses.replace(MAKING, settings=MAKING.settings | {"new": 1})) == []


def test_a_tiff_in_place_of_a_png_goes_when_a_png_can_hold_the_labels(tmp_path):
    (tmp_path / "a.tif").write_text("of 70,000 objects")
    run(tmp_path, done("a", labels=tmp_path / "a.tif"))
    assert (tmp_path / "a.tif").exists()
    (tmp_path / "a.png").write_text("of 7 objects")
    run(tmp_path, done("a"))
    assert names(tmp_path) == ["a.png", "run.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"format": 2}',
        '{"format": "1"}',
        '{"format": 1, "instseg": "1", "model": [], "settings": {}, "images": [], "earlier": []}',
        '{"format": 1, "instseg": "1", "model": {"name": "a", "sha256": 5}, "settings": {}, "images": []}',
        '{"format": 1, "instseg": "1", "model": {"name": "a", "sha256": "b"}, "settings": {}, "images": [7], '
        '"earlier": []}',
        '{"format": 1, "instseg": "1", "model": {"name": "a", "sha256": "b"}, "settings": {}, "images": '
        '[{"name": "a", "labels": 7, "finished": 0}], "earlier": []}',
    ],
)
def test_a_damaged_file_is_told_in_a_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(
        InstsegError, match=r"run\.json is damaged \(.*\); remove it to take them as they are"
    ) as raised:
        read_records(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_has_no_records(tmp_path):
    assert read_records(tmp_path / "none") == {}


def test_a_disc_that_is_full_at_the_end_is_told_and_the_journal_stays(tmp_path, monkeypatch):
    def full(path):
        raise InstsegError(f"cannot write {path}: No space left on device")

    with pytest.raises(InstsegError, match="No space left"), RunRecord(tmp_path, None, MAKING, {}) as record:
        record.add(done("a"))
        monkeypatch.setattr("instseg.inference.run_record.atomic_write", full)
    assert sorted(read_records(tmp_path)) == ["a.png"]


def test_the_time_of_a_long_run_is_not_spent_on_its_record(tmp_path, monkeypatch):
    """The whole file is written at the beginning and the end only, if these are near each other."""
    monkeypatch.setattr("instseg.inference.run_record._INTERVAL", 1e9)
    written = []
    write = RunRecord._write
    monkeypatch.setattr(RunRecord, "_write", lambda self: (written.append(1), write(self))[1])
    run(tmp_path, *(done(str(number)) for number in range(500)))
    assert len(written) == 2
    assert len(read_records(tmp_path)) == 500


def test_records_of_versions_without_filters_have_left_nothing_out():
    before = Making(version="0.1", model="nuclei", digest="a", settings={"min_size": 10})
    unfiltered = FilterSettings(min_score=0.0).to_dict()
    now = Making(version="0.2", model="nuclei", digest="a", settings={"min_size": 10, **unfiltered, "other": 1})
    assert before.differences(now) == []
    filtered = Making(version="0.2", model="nuclei", digest="a", settings={"min_size": 10, **unfiltered, "max_size": 9})
    assert before.differences(filtered) == ["max_size=null, now 9"]
    chosen = LevelChoice(levels=(1, 9)).to_dict()
    levels = Making(version="0.2", model="nuclei", digest="a", settings={"min_size": 10, **unfiltered, **chosen})
    assert before.differences(levels) == ["levels=null, now [1.0, 9.0]"]


def test_what_the_machine_decided_is_no_difference():
    before = Making(version="1", model="nuclei", digest="a", settings={"min_size": 10, "precision": "float32"})
    settings = {"min_size": 10, "precision": "bfloat16"}
    chosen = Making(version="1", model="nuclei", digest="a", settings=settings)
    unchosen = Making(version="1", model="nuclei", digest="a", settings=settings, unchosen=("precision",))
    assert before.differences(chosen) == ["precision=float32, now bfloat16"]
    assert before.differences(unchosen) == []
    # Results of both are results of one making.
    assert chosen == unchosen
    assert chosen.to_dict() == unchosen.to_dict()
