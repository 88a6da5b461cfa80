"""The figures of all benchmarks over versions: recording them, storing them, and comparing a version with the last.

Scripts call `record` for the figures that are to be compared from version to version: ratios of things timed in one
run, and gibibytes. `run.py --json` gathers them to a record with the version, the date and the machine, and appends it
to `history.jsonl` beside this file, a record a line; `run.py --history` prints that file as tables.
"""

import json
import math
import os
import platform
import subprocess
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import instseg
from instseg.errors import InstsegError
from instseg.version import installed_version

HISTORY = Path(__file__).with_name("history.jsonl")
FIGURES = "INSTSEG_BENCHMARK_FIGURES"
"""The environment variable that names the file to which scripts append their figures."""
REGRESSION = 0.1
"""A figure that is worse by more than this share is told."""

Better = Literal["lower", "higher"]
Record = dict[str, Any]
"""`version`, `commit`, `date`, `python`, `packages`, `machine`, and `figures`: for each name `value` and `better`."""

# What decides how fast networks are: widths of vectors, and instructions for other precisions.
_FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "sve", "bf16", "i8mm"),
)
_PACKAGES = ("tensorflow", "numpy", "scipy")
# So many versions fit beside each other into a terminal.
_COLUMNS = 6


def record(name: str, value: float, *, better: Better) -> None:
    """Note a figure for the history; nothing happens where a script runs by itself.

    Parameters
    ----------
    name : str
        What it says; it is the key by which versions are compared, so it stays what it is.
    value : float
        Above 0.
    better : {'lower', 'higher'}

    Raises
    ------
    ValueError
        If the value is none that could be compared.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}, expected a number above 0")
    if better not in ("lower", "higher"):
        raise ValueError(f"better is {better!r}, expected lower or higher")
    if path := os.environ.get(FIGURES):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, "value": float(f"{value:.4g}"), "better": better}) + "\n")


def read_figures(path: Path) -> dict[str, dict[str, Any]]:
    """Return what scripts have recorded, by name.

    Raises
    ------
    ValueError
        If two figures have one name.
    """
    figures: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        figure = json.loads(line)
        name = figure.pop("name")
        if name in figures:
            raise ValueError(f"two figures have the name {name!r}; give each its own")
        figures[name] = figure
    return figures


def make_record(figures: dict[str, dict[str, Any]]) -> Record:
    """Return figures with what they were measured by: version, date and machine."""
    checkout = Path(instseg.__file__).parents[1]
    return {
        "version": _version(checkout),
        "commit": _commit(checkout),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "packages": {package: installed_version(package) for package in _PACKAGES},
        "machine": machine(),
        "figures": figures,
    }


def _version(checkout: Path) -> str:
    """Return the version of the code that was measured: a package installed in place keeps that of its installation."""
    try:
        project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"]) if project["name"] == "instseg" else installed_version()
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return installed_version()


def _commit(checkout: Path) -> str | None:
    """Return the commit of a checkout, with a + where its package differs from it; None where it is no checkout."""
    git = ["git", "-C", str(checkout)]
    try:
        commit, changed = (
            subprocess.run([*git, *arguments], check=True, capture_output=True, text=True).stdout.strip()
            # The history itself may have changed, but what was measured has not.
            for arguments in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", "instseg"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+" if changed else commit


def machine() -> dict[str, Any]:
    """Return what the machine is, but not which: processor, cores, the flags that matter, memory in GiB."""
    cpu, flags = _processor()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 1 if affinity is None else len(affinity(0)),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> tuple[str, set[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        # macOS tells only the name.
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return told or platform.machine(), set()
    pairs = (line.partition(":") for line in text.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    # Clouds shorten the names of processors; these numbers tell one generation from another.
    name = fields.get("model name") or f"{platform.machine()} {fields.get('CPU part', '')}".strip()
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model')})"
    return name, flags


def machine_kind(entry: Record) -> tuple[Any, ...]:
    """Return what makes figures comparable: memory does not, as predictions take what they are told to."""
    one = entry["machine"]
    return one["cpu"], one["cores"], tuple(one["flags"]), one["system"]


def read_history(path: Path | None = None) -> list[Record]:
    """Return all records of a file, by default `HISTORY`, the oldest first; none where there is no file.

    Raises
    ------
    InstsegError
        If a line is no record.
    """
    path = path or HISTORY
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            machine_kind(entry)
            for figure in entry["figures"].values():
                if not figure["value"] > 0 or figure["better"] not in ("lower", "higher"):
                    raise ValueError
            _version_key(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InstsegError(f"line {number} of {path} is no record of benchmarks; mend or remove it") from error
        records.append(entry)
    return records


def append(entry: Record, path: Path | None = None) -> None:
    """Append a record to a file, by default `HISTORY`, as a line, in one write."""
    path = path or HISTORY
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    begin = "" if not text or text.endswith("\n") else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(begin + json.dumps(entry) + "\n")


def last_version(entry: Record, history: Iterable[Record]) -> Record | None:
    """Return the newest record of another version on the same kind of machine, None where there is none.

    One of the same version is no measure: a regression would be told once, and be the measure when it is run again.
    """
    own = machine_kind(entry), _version_key(entry)
    others = [one for one in history if machine_kind(one) == own[0] and _version_key(one) != own[1]]
    return others[-1] if others else None


def _version_key(entry: Record) -> tuple[str, str | None]:
    return entry["version"], entry["commit"]


def compare(entry: Record, before: Record) -> list[str]:
    """Return a line for each figure that is worse than before by more than 10 %, or missing."""
    lines = []
    for name, old in before["figures"].items():
        new = entry["figures"].get(name)
        if new is None:
            lines.append(f"not measured: {name}, which was {_number(old['value'])} in {title(before)}")
            continue
        if new["better"] != old["better"]:
            lines.append(f"not comparable: of {name} now {new['better']} is better, in {title(before)} {old['better']}")
            continue
        worse = new["value"] / old["value"] if new["better"] == "lower" else old["value"] / new["value"]
        if worse > 1 + REGRESSION:
            lines.append(
                f"regression: {name} is {_number(new['value'])}, and was {_number(old['value'])} in {title(before)}: "
                f"{worse - 1:.0%} worse"
            )
    return lines


def title(entry: Record) -> str:
    """Return the name of a version: with its commit, as a version takes many of them."""
    return entry["version"] if entry["commit"] is None else f"{entry['version']} ({entry['commit']})"


def tables(history: Sequence[Record]) -> str:
    """Return a Markdown table for each kind of machine: a row a figure, a column for each of the last six versions.

    Of a version that was measured several times, the newest record counts. After a table follows what is worse in its
    last column than in the one before.
    """
    if not history:
        return "there are no records yet; run.py MODEL --json FILE adds one"
    kinds: dict[tuple[Any, ...], dict[tuple[str, str | None], Record]] = {}
    for entry in history:
        versions = kinds.setdefault(machine_kind(entry), {})
        # Taken out first, so that versions stay in the order of their newest records.
        versions.pop(_version_key(entry), None)
        versions[_version_key(entry)] = entry
    return "\n\n".join(_table(list(versions.values())[-_COLUMNS:]) for versions in kinds.values())


def _table(records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(name for entry in reversed(records) for name in entry["figures"]))
    header = ["", *(f"{title(entry)}, {entry['date']}" for entry in records)]
    rows = []
    for name in names:
        figures = [entry["figures"].get(name) for entry in records]
        better = next(figure["better"] for figure in reversed(figures) if figure is not None)
        values = ["" if figure is None else _number(figure["value"]) for figure in figures]
        rows.append([f"{name} ({better} is better)", *values])
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    one = records[-1]["machine"]
    where = f"{one['cpu']}, {one['cores']} cores, {one['memory_gib']} GiB, {one['system']}: {' '.join(one['flags'])}"
    told = compare(records[-1], records[-2]) if len(records) > 1 else []
    return "\n".join(
        [where, "", *(_row(row, widths) for row in (header, ruler, *rows)), *([""] if told else []), *told]
    )


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if number == 0 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return f"| {' | '.join([first, *others])} |"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
