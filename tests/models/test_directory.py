"""The model directory: generations, what is refused, and a process killed at every step of saving."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instseg.errors import InstsegError
from instseg.models.directory import (
    FORMAT,
    check_trainable,
    commit,
    current_generation,
    read_generation,
    read_settings,
    training_lock,
)

LINKS = ["current", "fingerprint.pb", "instseg.json", "saved_model.pb", "variables"]


def writer(number):
    """A stand-in for a SavedModel: a file, and a folder with a file, which both tell the number."""

    def write(folder):
        (folder / "saved_model.pb").write_text(str(number))
        (folder / "fingerprint.pb").write_text(str(number))
        (folder / "checkpoint").mkdir()
        (folder / "variables").mkdir()
        (folder / "variables" / "weights").write_text(str(number))

    return write


def save(folder, number):
    check_trainable(folder)
    return commit(folder, {"number": number}, writer(number))


def content(folder):
    """The numbers in all files that a reader of the directory itself finds."""
    files = [folder / "saved_model.pb", folder / "fingerprint.pb", folder / "variables" / "weights"]
    return [json.loads((folder / "instseg.json").read_text())["number"], *(int(path.read_text()) for path in files)]


def generations(folder):
    return sorted(path.name for path in (folder / "generations").iterdir())


def error_of(call, *args):
    with pytest.raises(InstsegError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def model(tmp_path):
    """A directory with one generation, of number 1."""
    folder = tmp_path / "model"
    save(folder, 1)
    return folder


def test_a_commit_is_read_back_through_the_directory_itself(model):
    generation, settings = read_settings(model)
    assert sorted(settings.pop("sha256")) == ["saved_model.pb", "variables/weights"]
    assert settings == {"format": FORMAT, "number": 1}
    assert generation == model / "generations" / "000001"
    assert current_generation(model) == generation
    assert content(model) == [1, 1, 1, 1]
    assert sorted(path.name for path in model.iterdir()) == sorted([*LINKS, "generations"])
    assert all((model / name).is_symlink() for name in LINKS)


def test_links_are_relative_so_that_a_directory_can_be_moved(model, tmp_path):
    moved = model.rename(tmp_path / "moved")
    assert content(moved) == [1, 1, 1, 1]
    assert read_settings(moved)[1]["number"] == 1
    save(moved, 2)
    assert content(moved) == [2, 2, 2, 2]


def test_the_generation_before_is_kept_for_its_readers_and_older_ones_go(model):
    for number in range(2, 6):
        save(model, number)
        assert content(model) == [number] * 4
        assert generations(model) == [f"{number - 1:06d}", f"{number:06d}"]


def test_numbers_above_six_digits_still_count_up(model):
    (model / "generations" / "000001").rename(model / "generations" / "999999")
    (model / "current").unlink()
    (model / "current").symlink_to("generations/999999")
    assert save(model, 2).name == "1000000"
    assert save(model, 3).name == "1000001"
    assert content(model) == [3, 3, 3, 3]
    assert generations(model) == ["1000000", "1000001"]


@pytest.mark.parametrize("failing", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_a_write_that_fails_leaves_the_generation_before(model, failing):
    def write(folder):
        writer(2)(folder)
        raise failing

    assert "cannot save the model" in error_of(commit, model, {"number": 2}, write)
    assert content(model) == [1, 1, 1, 1]
    save(model, 3)
    assert content(model) == [3, 3, 3, 3]
    assert generations(model) == ["000001", "000002"]


def test_an_empty_or_missing_folder_holds_no_model(tmp_path):
    assert current_generation(tmp_path) is None
    assert current_generation(tmp_path / "missing") is None
    assert f"{tmp_path} holds no instseg model" in error_of(read_settings, tmp_path)
    assert "there is no model" in error_of(read_settings, tmp_path / "missing")


def test_a_file_is_no_model_directory(tmp_path):
    file = tmp_path / "image.png"
    file.touch()
    for call in (current_generation, read_settings, check_trainable):
        message = error_of(call, file)
        assert str(file) in message
        assert "file" in message


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "photo.png").touch()
    assert "photo.png" in error_of(check_trainable, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_report_that_was_begun_first_is_no_other_file(tmp_path):
    (tmp_path / "report").mkdir()
    save(tmp_path, 1)
    assert content(tmp_path) == [1, 1, 1, 1]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "shelf").mkdir(mode=0o555)
    error_of(check_trainable, tmp_path / "shelf")
    error_of(check_trainable, tmp_path / "shelf" / "model")


def test_a_plain_copy_opens_but_cannot_be_trained_in(model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    assert content(copy) == [1, 1, 1, 1]
    assert read_settings(copy)[1]["number"] == 1
    message = error_of(check_trainable, copy)
    assert "copy without links" in message
    assert "cp -a" in message
    assert content(copy) == [1, 1, 1, 1]


def test_a_copy_with_links_can_be_trained_in_and_leaves_the_original(model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy, symlinks=True)
    save(copy, 2)
    assert content(copy) == [2, 2, 2, 2]
    assert content(model) == [1, 1, 1, 1]


def test_a_single_generation_copied_out_opens(model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model / "generations" / "000001", copy)
    generation, settings = read_settings(copy)
    assert (generation, settings["number"]) == (copy, 1)
    error_of(check_trainable, copy)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "1", '"format"', "{}", '{"number": 1}', "\xff", "[" * 99_999, "9" * 9_999, " " * 2**21],
)
def test_damaged_settings_are_told(model, text):
    (model / "current" / "instseg.json").write_text(text, encoding="latin-1")
    message = error_of(read_settings, model)
    assert str(model) in message
    assert "damaged" in message


@pytest.mark.parametrize("found", [FORMAT + 1, 0, "1", None])
def test_another_format_is_told(model, found):
    (model / "current" / "instseg.json").write_text(json.dumps({"format": found}))
    assert f"has format {found}, this version reads 2 and {FORMAT}" in error_of(read_settings, model)


def test_a_link_to_a_generation_that_was_removed_is_no_model(model):
    shutil.rmtree(model / "generations" / "000001")
    assert "holds no instseg model" in error_of(read_settings, model)


def without_links(folder):
    """As `rsync -r` copies it."""
    for name in LINKS:
        (folder / name).unlink()


def with_texts(folder):
    """As archives without links are unpacked: each holds what it pointed to."""
    for name in LINKS:
        target = str((folder / name).readlink())
        (folder / name).unlink()
        (folder / name).write_text(target)


def with_empty_files(folder):
    without_links(folder)
    for name in LINKS:
        (folder / name).touch()


@pytest.mark.parametrize("lose", [without_links, with_texts, with_empty_files])
def test_a_copy_whose_links_are_lost_opens_and_is_trained_in(model, lose):
    save(model, 2)
    lose(model)
    generation, settings = read_settings(model)
    assert (generation, settings["number"]) == (model / "generations" / "000002", 2)
    assert not (model / "current").is_symlink()
    save(model, 3)
    assert content(model) == [3, 3, 3, 3]
    assert sorted(path.name for path in model.iterdir()) == sorted([*LINKS, "generations"])
    assert all((model / name).is_symlink() for name in LINKS)


@pytest.mark.parametrize("broken", ["saved_model.pb", "instseg.json", "variables/weights"])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_without_links_the_last_complete_generation_counts(model, broken, how):
    save(model, 2)
    without_links(model)
    file = model / "generations" / "000002" / broken
    if how == "missing":
        file.unlink()
    else:
        file.write_text("")
    assert read_settings(model)[1]["number"] == 1


def test_a_copy_that_lost_its_links_and_its_generations_is_told(model):
    with_texts(model)
    shutil.rmtree(model / "generations")
    message = error_of(read_settings, model)
    assert str(model) in message
    assert "damaged" in message


@pytest.mark.parametrize("lose", [lambda model: None, with_texts])
def test_a_missing_generation_that_counts_is_told_with_its_repair(model, lose):
    save(model, 2)
    lose(model)
    shutil.rmtree(model / "generations" / "000002")
    message = error_of(read_settings, model)
    assert "generations/000002, which counts, is missing" in message
    subprocess.run(message.partition("complete one: ")[2], shell=True, check=True)
    assert read_settings(model)[1]["number"] == 1
    save(model, 3)
    assert content(model) == [3, 3, 3, 3]


def test_what_became_of_a_link_is_read_only_where_it_names_a_generation(model, tmp_path):
    other = shutil.copytree(model / "generations" / "000001", tmp_path / "other")
    (other / "instseg.json").write_text(json.dumps({"format": FORMAT, "number": 7}))
    with_texts(model)
    (model / "current").write_text("../other")
    assert read_settings(model)[1]["number"] == 1


def test_a_copy_in_which_links_became_what_they_point_to_is_repaired_as_its_refusal_says(model, tmp_path):
    save(model, 2)
    copy = shutil.copytree(model, tmp_path / "copy")
    names = error_of(check_trainable, copy).partition("or remove ")[2].removesuffix(" from it").split(", ")
    assert sorted(names) == LINKS
    for name in names:
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    save(copy, 3)
    assert content(copy) == [3, 3, 3, 3]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
@pytest.mark.parametrize("saves_before", [0, 2])
def test_a_file_system_without_links_keeps_models(tmp_path, monkeypatch, number, saves_before):
    model = tmp_path / "model"
    for before in range(1, saves_before + 1):
        save(model, before)
    if saves_before:
        with_texts(model)

    def refused(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "symlink", refused)
    for now in (saves_before + 1, saves_before + 2, saves_before + 3):
        save(model, now)
        generation, settings = read_settings(model)
        assert settings["number"] == now
        assert content(generation) == [now] * 4
    assert (model / "current").read_text() == f"generations/{saves_before + 3:06d}"
    assert len(generations(model)) == 2
    monkeypatch.undo()
    save(model, saves_before + 4)
    assert content(model) == [saves_before + 4] * 4


def test_a_file_system_that_is_full_is_no_file_system_without_links(model, monkeypatch):
    def refused(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "symlink", refused)
    assert "No space left on device" in error_of(commit, model, {"number": 2}, writer(2))
    monkeypatch.undo()
    assert content(model) == [1, 1, 1, 1]


def test_a_generation_that_is_replaced_while_it_is_read_is_read_again(model):
    read = []

    def slow(generation, settings):
        read.append(settings["number"])
        for number in range(len(read) + 1, len(read) + 4 if len(read) == 1 else 0):
            save(model, number)
        return (generation / "variables" / "weights").read_text()

    assert read_generation(model, slow) == "4"
    assert read == [1, 4]


def test_what_a_reader_finds_wrong_with_the_generation_that_counts_is_raised(model):
    def damaged(generation, settings):
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        read_generation(model, damaged)


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/weights"])
def test_files_that_are_not_as_they_were_written_are_told(model, file):
    number = read_generation(model, lambda generation, settings: settings["number"])
    assert number == 1
    (model / "current" / file).write_text("2")
    assert f"damaged (not as they were written: {file})" in error_of(read_generation, model, lambda *given: None)
    (model / "current" / file).unlink()
    assert "damaged" in error_of(read_generation, model, lambda *given: None)


def test_a_model_of_an_earlier_version_has_no_checksums(model):
    path = model / "current" / "instseg.json"
    path.write_text(json.dumps({"format": FORMAT, "number": 1}))
    (model / "current" / "saved_model.pb").write_text("2")
    assert read_generation(model, lambda generation, settings: settings["number"]) == 1


def test_settings_that_vanish_while_they_are_read_are_read_again(model, monkeypatch):
    from instseg.models import directory

    read = directory._settings_text

    def replaced(generation):
        if generation.name == "000001":
            for number in (2, 3, 4):
                save(model, number)
        return read(generation)

    monkeypatch.setattr(directory, "_settings_text", replaced)
    assert read_settings(model)[1]["number"] == 4


def test_a_second_training_is_kept_out_and_a_lock_leaves_nothing(model):
    with training_lock(model):
        with pytest.raises(InstsegError, match="another training is writing to"), training_lock(model):
            pass
        with pytest.raises(InstsegError, match="another training is writing to"), training_lock(model):
            pass
    with training_lock(model):
        pass
    assert sorted(path.name for path in model.iterdir()) == sorted([*LINKS, "generations"])


# Python reports every call to the file system to audit hooks, before it is done. A child that counts them and
# kills itself at the N-th has done exactly N - 1; with N from 1 on, every state on the way is seen.
KILLED_EVERYWHERE = """
import os, shutil, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from test_directory import content, generations, save
from instseg.errors import InstsegError
from instseg.models.directory import read_settings

# The disc does not have to keep what a killed process has written, only what a machine without power has.
os.fsync = lambda descriptor: None
EVENTS = ("open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.listdir", "os.scandir")

def save_killed_at(folder, number, step):
    child = os.fork()
    if child == 0:
        left = step
        def hook(event, arguments):
            nonlocal left
            if event in EVENTS:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        save(folder, number)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status == 0

def found(folder):
    try:
        generation, settings = read_settings(folder)
    except InstsegError as error:
        assert "there is no model" in str(error) or "holds no instseg model" in str(error), error
        return 0
    number = settings["number"]
    assert content(generation) == [number] * 4, content(generation)
    # Killed in the first save of all, the directory has no links yet.
    if (folder / "current").is_symlink():
        assert content(folder) == [number] * 4, content(folder)
    return number

root = Path(sys.argv[1])
for before in (0, 2):
    base = root / f"base{before}"
    base.mkdir()
    for number in range(1, before + 1):
        save(base, number)
    seen, step, finished = [], 0, False
    while not finished:
        step += 1
        folder = root / f"{before}-{step}"
        shutil.copytree(base, folder, symlinks=True)
        finished = save_killed_at(folder, before + 1, step)
        seen.append(found(folder))
        # Killed a second time at the same place, then left alone.
        save_killed_at(folder, before + 2, step)
        assert found(folder) >= seen[-1]
        for number in (before + 3, before + 4):
            save(folder, number)
            assert found(folder) == number
        leftovers = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        assert not leftovers, (step, leftovers)
        assert len(generations(folder)) == 2, (step, generations(folder))
        shutil.rmtree(folder)
    # The old one, then the new one, and nothing between: one step commits.
    assert seen == sorted(seen) and set(seen) == {before, before + 1}, seen
    assert step > 20, step
    print(before, step)
"""


def test_killed_at_any_step_the_last_complete_generation_is_whole(tmp_path):
    tests = str(Path(__file__).parent)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_EVERYWHERE, str(tmp_path), tests], capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr


# The same with the files of a real model, for which TensorFlow is not needed while they are saved.
KILLED_AT = """
import os, shutil, signal, sys
from pathlib import Path
from instseg.models.directory import check_trainable, commit

folder, event_name, part = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def kill(event, arguments):
    if event == event_name and any(part in str(argument) for argument in arguments):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
check_trainable(folder)
copied = folder / "generations" / "000001"
commit(folder, {"number": 2}, lambda new: shutil.copytree(copied, new, dirs_exist_ok=True))
"""


@pytest.mark.parametrize(
    ("event", "part", "number"),
    [
        ("open", "000002.partial/variables", 1),
        ("os.rename", "000002.partial", 1),
        ("os.symlink", ".current.new", 1),
        ("os.rename", ".current.new", 1),
        ("os.scandir", "nowhere", 2),
    ],
)
def test_tensorflow_opens_a_model_whose_saving_was_killed(tiny_model, tmp_path, event, part, number):
    import tensorflow as tf

    folder = shutil.copytree(tiny_model, tmp_path / "model", symlinks=True)
    command = [sys.executable, "-c", KILLED_AT, str(folder), event, part]
    ended = subprocess.run(command, capture_output=True, timeout=240)
    assert ended.returncode == (-signal.SIGKILL if number == 1 else 0), ended.stderr
    assert current_generation(folder).name == f"{number:06d}"
    assert sorted(tf.saved_model.load(str(folder)).signatures) == ["serving_default", "with_percentiles"]
    assert read_settings(folder)[1].get("number", 1) == number
