"""The history of the benchmarks: what is recorded, compared and shown, on figures made up here."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from instseg.errors import InstsegError

BENCHMARKS = Path(__file__).parent / "benchmarks"
EPYC = {"cpu": "EPYC", "cores": 2, "flags": ["avx2", "avx512f"], "memory_gib": 24, "system": "Linux x86_64"}


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def history():
    return load("history")


@pytest.fixture
def run(history, monkeypatch, tmp_path):
    """`run.py`, whose history is a file in `tmp_path`."""
    # Scripts in one folder import each other by their names.
    monkeypatch.setitem(sys.modules, "history", history)
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.jsonl")
    return load("run")


def entry(version, figures, commit=None, machine=EPYC, date="2026-01-01"):
    figures = {name: {"value": value, "better": better} for name, (value, better) in figures.items()}
    return {
        "version": version,
        "commit": commit,
        "date": date,
        "python": "3.12.0",
        "packages": {},
        "machine": machine,
        "figures": figures,
    }


def test_figures_are_noted_only_where_they_are_asked_for(history, tmp_path, monkeypatch):
    monkeypatch.delenv(history.FIGURES, raising=False)
    history.record("time over the network", 1.1, better="lower")
    monkeypatch.setenv(history.FIGURES, str(tmp_path / "figures"))
    history.record("time over the network", 1.098765, better="lower")
    history.record("times as fast", 12.0, better="higher")
    assert history.read_figures(tmp_path / "figures") == {
        "time over the network": {"value": 1.099, "better": "lower"},
        "times as fast": {"value": 12.0, "better": "higher"},
    }


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_figure_is_a_number_above_0(history, value):
    with pytest.raises(ValueError, match="expected a number above 0"):
        history.record("ratio", value, better="lower")


def test_a_figure_has_a_direction_and_a_name_of_its_own(history, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="expected lower or higher"):
        history.record("ratio", 1.0, better="less")
    monkeypatch.setenv(history.FIGURES, str(tmp_path / "figures"))
    for _ in range(2):
        history.record("ratio", 1.0, better="lower")
    with pytest.raises(ValueError, match="two figures have the name 'ratio'"):
        history.read_figures(tmp_path / "figures")


def test_worse_by_more_than_a_tenth_is_told_in_both_directions(history):
    before = entry("1.0", {"a": (1.0, "lower"), "b": (1.0, "higher"), "c": (2.0, "lower"), "d": (2.0, "higher")})
    # The first two are a tenth worse, the others better by half.
    same = entry("1.1", {"a": (1.1, "lower"), "b": (0.91, "higher"), "c": (1.0, "lower"), "d": (3.0, "higher")})
    assert history.compare(same, before) == []
    worse = entry("1.1", {"a": (1.2, "lower"), "b": (0.8, "higher"), "c": (2.0, "lower"), "d": (2.0, "higher")})
    assert history.compare(worse, before) == [
        "regression: a is 1.2, and was 1 in 1.0: 20% worse",
        "regression: b is 0.8, and was 1 in 1.0: 25% worse",
    ]


def test_what_cannot_be_compared_is_told(history):
    before = entry("1.0", {"gone": (1.5, "lower"), "turned": (2.0, "lower")}, commit="abc1234")
    now = entry("1.1", {"turned": (9.0, "higher"), "new": (1.0, "lower")})
    assert history.compare(now, before) == [
        "not measured: gone, which was 1.5 in 1.0 (abc1234)",
        "not comparable: of turned now higher is better, in 1.0 (abc1234) lower",
    ]


def test_the_measure_is_the_last_of_another_version_on_such_a_machine(history):
    small = EPYC | {"memory_gib": 8}
    arm = EPYC | {"cpu": "Neoverse"}
    old, older = entry("1.1", {}, date="2026-02-01"), entry("1.0", {})
    other, own = entry("1.2", {}, machine=arm), entry("2.0", {}, commit="abc")
    earlier = [older, old, other, own]
    assert history.last_version(entry("2.0", {}, commit="abc", machine=small), earlier) is old
    assert history.last_version(entry("2.0", {}, commit="def"), earlier) is own
    assert history.last_version(entry("2.0", {}, machine=EPYC | {"cores": 4}), earlier) is None
    assert history.last_version(entry("2.0", {}, machine=EPYC | {"flags": ["avx2"]}), earlier) is None


def test_records_are_read_as_they_were_appended(history, tmp_path):
    path = tmp_path / "history.jsonl"
    assert history.read_history(path) == []
    first, second = entry("1.0", {"a": (1.0, "lower")}), entry("1.1", {})
    # Somebody's editor has left out the last end of a line.
    path.write_text(json.dumps(first), encoding="utf-8")
    history.append(second, path)
    assert history.read_history(path) == [first, second]
    assert path.read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "{}", "[]", '{"version": "1.0"', ""])
def test_a_damaged_line_is_named(history, tmp_path, line):
    path = tmp_path / "history.jsonl"
    path.write_text(f"{json.dumps(entry('1.0', {}))}\n{line}\n", encoding="utf-8")
    with pytest.raises(InstsegError, match="line 2 of .*history.jsonl is no record of benchmarks"):
        history.read_history(path)


def test_a_value_that_is_none_is_no_record(history, tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(entry("1.0", {"a": (0.0, "lower")})), encoding="utf-8")
    with pytest.raises(InstsegError, match="line 1"):
        history.read_history(path)


def test_tables_show_a_row_a_figure_and_the_last_six_versions(history):
    records = [entry(f"1.{number}", {"a": (1.0 + number / 100, "lower")}) for number in range(8)]
    records.append(entry("2.0", {"a": (1.5, "lower"), "b": (12_345.0, "higher")}, commit="abc", date="2026-03-01"))
    records.append(entry("1.0", {"c": (1.0, "lower")}, machine=EPYC | {"cpu": "Neoverse"}))
    first, second = history.tables(records).split("\n\nNeoverse")
    lines = first.splitlines()
    assert lines[0] == "EPYC, 2 cores, 24 GiB, Linux x86_64: avx2 avx512f"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]]
    assert cells[0] == ["", *(f"1.{number}, 2026-01-01" for number in range(3, 8)), "2.0 (abc), 2026-03-01"]
    assert cells[2] == ["a (lower is better)", "1.03", "1.04", "1.05", "1.06", "1.07", "1.5"]
    assert cells[3] == ["b (higher is better)", "", "", "", "", "", "12,345"]
    assert lines[-1] == "regression: a is 1.5, and was 1.07 in 1.7: 40% worse"
    assert "| c (lower is better) |" in second
    assert "regression" not in second


def test_of_a_version_the_newest_record_counts(history):
    records = [entry("1.0", {"a": (1.0, "lower")}), entry("1.1", {"a": (9.0, "lower")})]
    records.append(entry("1.0", {"a": (2.0, "lower")}, date="2026-05-05"))
    header, _, row = history.tables(records).splitlines()[2:5]
    assert [cell.strip() for cell in header.split("|")[2:4]] == ["1.1, 2026-01-01", "1.0, 2026-05-05"]
    assert [cell.strip() for cell in row.split("|")[2:4]] == ["9", "2"]


def test_a_record_says_version_and_machine_but_not_which_machine(history):
    made = history.make_record({"a": {"value": 1.0, "better": "lower"}})
    assert set(made) == {"version", "commit", "date", "python", "packages", "machine", "figures"}
    assert set(made["machine"]) == set(EPYC)
    assert made["machine"]["cores"] > 0
    assert made["machine"]["memory_gib"] >= 0
    assert made["machine"]["cpu"]
    # What was made is what is read.
    assert history.machine_kind(json.loads(json.dumps(made))) == history.machine_kind(made)


def test_the_committed_history_can_be_read(history):
    history.tables(history.read_history(BENCHMARKS / "history.jsonl"))


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from history import record
record("ratio", float(sys.argv[1]), better="lower")
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(folder=str(BENCHMARKS)), encoding="utf-8")
    return str(path)


def test_figures_are_written_appended_and_compared(run, history, script, tmp_path, monkeypatch, capsys):
    earlier = history.make_record({"ratio": {"value": 1.0, "better": "lower"}}) | {"version": "0.0.1"}
    history.append(earlier)
    monkeypatch.setattr(run, "commands", lambda model, quick: [[script, "1.3", "0"]])
    run.main(["model", "--json", str(tmp_path / "out.json")])
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["figures"] == {"ratio": {"value": 1.3, "better": "lower"}}
    assert history.read_history() == [earlier, written]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("regression: ratio is 1.3, and was 1 in 0.0.1")
    assert last.endswith("30% worse")
    run.main(["--history"])
    assert "| ratio (lower is better) |" in capsys.readouterr().out


def test_a_script_that_fails_and_a_quick_run_leave_the_history(run, history, script, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "commands", lambda model, quick: [[script, "1.3", "3"]])
    with pytest.raises(SystemExit, match="failed: .*script.py; nothing was appended"):
        run.main(["model", "--json", str(tmp_path / "out.json")])
    assert (tmp_path / "out.json").exists()
    monkeypatch.setattr(run, "commands", lambda model, quick: [[script, "1.3", "0"]])
    run.main(["model", "--quick", "--json", str(tmp_path / "out.json")])
    run.main(["model"])
    assert history.read_history() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "--json", "none/out.json"], "the folder none does not exist"),
        (["model", "--json", "out.txt"], "ends in .json"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_anything_runs(run, monkeypatch, arguments, message):
    monkeypatch.setattr(run, "commands", lambda model, quick: pytest.fail("it runs"))
    with pytest.raises(SystemExit, match=message):
        run.main(arguments)


@pytest.mark.parametrize("arguments", [[], ["model", "--history"], ["--history", "--quick"]])
def test_wrong_usage_is_told(run, arguments, capsys):
    with pytest.raises(SystemExit) as error:
        run.main(arguments)
    assert error.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("quick", [True, False])
def test_scripts_have_the_options_that_they_are_run_with(run, quick):
    for name, *arguments in run.commands("model", quick):
        source = (BENCHMARKS / name).read_text(encoding="utf-8")
        for option in (word for word in arguments if word.startswith("--")):
            assert f'"{option}"' in source, (name, option)


def test_the_history_is_printed_from_the_shell():
    done = subprocess.run([sys.executable, str(BENCHMARKS / "run.py"), "--history"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
