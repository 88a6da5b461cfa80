"""How the results in a folder were made: `run.json` beside them, which later runs read.

While a run goes on, a hidden journal gets a line for every image: that costs next to nothing, and stays whatever ends
the process. `run.json` is written in one step from time to time and at the end; what killed runs have left in journals
goes into that of the next one. A shard of a run has files of its own, so that shards can run side by side.
"""

import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from instseg.errors import InstsegError
from instseg.inference.batch import FileResult, FileState
from instseg.inference.failures import UnexpectedError
from instseg.io.atomic import atomic_write, write_errors
from instseg.io.folders import is_report
from instseg.io.json_text import parse_json, read_json
from instseg.io.locks import acquire, release
from instseg.preprocessing.level_choice import LevelChoice
from instseg.settings import FilterSettings

_FORMAT = 1
# More than a million images take; what is larger is none of ours.
_LARGEST = 2**30
# Seconds between two writings of the file, at least, and how many times as long as one takes.
_INTERVAL, _TIMES = 30.0, 50


@dataclass(frozen=True, kw_only=True)
class Making:
    """What labels depend on besides the image.

    Attributes
    ----------
    version : str
        Of this package.
    model : str
        Directory or name of the model.
    digest : str
        SHA-256 of its settings, graph and weights.
    settings : mapping of str to JSON-ready value
        All choices that change labels, with those of the model where none was made.
    unchosen : tuple of str
        Those settings that the machine decided: results of another machine are as good.
    """

    version: str
    model: str
    digest: str
    settings: Mapping[str, Any]
    unchosen: tuple[str, ...] = field(default=(), compare=False)

    def differences(self, now: "Making") -> list[str]:
        """Say what is other in another making; the version of the package apart."""
        found = []
        if self.digest != now.digest:
            other = f"model={self.model}, now {now.model}"
            found.append(f"other weights of the model {now.model}" if self.model == now.model else other)
        # What only one of them knows is of another version.
        # Versions without filters have left nothing out, and those without a choice of levels have found them out.
        before = FilterSettings(min_score=0.0).to_dict() | LevelChoice().to_dict() | dict(self.settings)
        compared = [name for name in now.settings if name in before and name not in now.unchosen]
        changed = [name for name in compared if before[name] != now.settings[name]]
        return found + [f"{name}={_shown(before[name])}, now {_shown(now.settings[name])}" for name in changed]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        model = {"name": self.model, "sha256": self.digest}
        return {"instseg": self.version, "model": model, "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, stored: Any) -> "Making":
        """Build it from what `to_dict` returned.

        Raises
        ------
        ValueError
            If it is none.
        """
        model = _field(stored, "model", dict)
        return cls(
            version=_field(stored, "instseg", str),
            model=_field(model, "name", str),
            digest=_field(model, "sha256", str),
            settings=_field(stored, "settings", dict),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """What is known of the results of an image, or of a plane of a stack.

    Attributes
    ----------
    making : Making
    name : str
        That the results have.
    labels : str or None
        The name of the file of the labels; None where there is none.
    failed : bool
        Whether it could not be segmented.
    state : FileState or None
        That of the image.
    planes : int or None
        How many planes the image has, where they were taken as images.
    finished : float
        When, in seconds since 1970.
    entry : dict
        All of this and more, as the file has it.
    """

    making: Making
    name: str
    labels: str | None
    failed: bool
    state: FileState | None
    planes: int | None
    finished: float
    entry: dict[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        """The name of the labels that were asked for, which is not always that which they have."""
        return f"{self.name}.{self.making.settings.get('format')}"

    @classmethod
    def from_entry(cls, making: Making, entry: Any) -> "ImageRecord":
        """Build it from an entry of the file.

        Raises
        ------
        ValueError
            If it is none.
        """
        size, modified = _field(entry, "bytes", int, NoneType), _field(entry, "modified", int, NoneType)
        return cls(
            making=making,
            name=_field(entry, "name", str),
            labels=_field(entry, "labels", str, NoneType),
            failed=_field(entry, "error", str, NoneType) is not None,
            state=None if size is None or modified is None else FileState(size, modified),
            planes=_field(entry, "planes", int, NoneType),
            finished=float(_field(entry, "finished", int, float)),
            entry=entry,
        )


Records = dict[str, ImageRecord]
"""What is known of the results in a folder, by `ImageRecord.key`."""


def report_name(kind: str, shard: str | None, suffix: str) -> str:
    """Return the name of a report on a run, such as 'run.json', or 'run-2-of-4.json' for the shard '2/4'.

    Names are those that `instseg.io.folders.is_report` knows.
    """
    return f"{kind}{'' if shard is None else '-' + shard.replace('/', '-of-')}{suffix}"


def read_records(folder: Path) -> Records:
    """Return what all runs have noted of the results in a folder, the last of each.

    Raises
    ------
    InstsegError
        If a file is damaged.
    """
    if not folder.is_dir():
        return {}
    files = [path for path in sorted(folder.glob("run*.json")) if is_report(path)]
    records = [record for path in files for record in _read_file(path)]
    return _latest(records + [record for path in sorted(folder.glob(".run*.jsonl")) for record in _read_journal(path)])


class RunRecord:
    """The record of a run, to be used in a `with` block.

    Parameters
    ----------
    folder : Path
        Of the results.
    shard : str or None
        'I/N' where the run is one of several.
    making : Making
    known : Records
        What was there before.

    Raises
    ------
    InstsegError
        At the end, if the file cannot be written.
    """

    def __init__(self, folder: Path, shard: str | None, making: Making, known: Records) -> None:
        self._folder, self._making, self._known, self._is_shard = folder, making, known, shard is not None
        self.path = folder / report_name("run", shard, ".json")
        self._journal = folder / f".{self.path.stem}.{secrets.token_hex(4)}.jsonl"
        self._descriptor = -1
        self._records: Records = {}
        self._written, self._next = (0, 0), 0.0

    def __enter__(self) -> "RunRecord":
        left = [(path, descriptor) for path in self._journals() if (descriptor := _held(path)) is not None]
        for path, _ in left:
            self._take(_read_journal(path))
        with write_errors(self._journal):
            self._descriptor = _new_journal(self._journal)
        self._append({"format": _FORMAT, **self._making.to_dict()})
        try:
            self._write()
        except InstsegError:
            release(self._journal, self._descriptor)
            raise
        for path, descriptor in left:
            release(path, descriptor)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self._write()
        except InstsegError:
            # The journal stays, and the next run reads it.
            os.close(self._descriptor)
            # What ended the run matters more.
            if kind is None:
                raise
        else:
            release(self._journal, self._descriptor)

    def add(self, result: FileResult) -> None:
        """Take a result."""
        record = ImageRecord.from_entry(self._making, _entry(result))
        self._records[record.key] = record
        self._append(record.entry)
        self._remove_replaced(record)
        if time.monotonic() >= self._next:
            self._write()

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the figures of the images of the folder whose objects were measured, by the names of their results.

        They are those of all runs, but for a shard, which knows of its own.
        """
        records = (self._records if self._is_shard else {**self._known, **self._records}).values()
        measured = {record.name: record.entry.get("measured") for record in records if not record.failed}
        return {name: figures for name, figures in sorted(measured.items()) if isinstance(figures, dict)}

    def _append(self, line: dict[str, Any]) -> None:
        # A full disc is told by the results, and by the file at the end.
        with suppress(OSError):
            os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    def _remove_replaced(self, record: ImageRecord) -> None:
        """Remove labels of more objects than a PNG holds, where a PNG is in their place now."""
        before = self._known.get(record.key)
        if before is not None and record.labels == record.key and before.labels == f"{record.name}.tif":
            with suppress(OSError):
                (self._folder / before.labels).unlink(missing_ok=True)

    def _journals(self) -> list[Path]:
        return sorted(self._folder.glob(f".{self.path.stem}.*.jsonl"))

    def _take(self, records: Iterable[ImageRecord]) -> None:
        self._records = _latest([*records, *self._records.values()])

    def _write(self) -> None:
        start = time.monotonic()
        if self.path.exists() and _version_of(self.path) != self._written:
            # An earlier run's, or that of another run into the same folder.
            self._take(_read_file(self.path))
        with atomic_write(self.path) as temporary:
            temporary.write_text(_text(self._making, self._records.values()), encoding="utf-8")
        self._written = _version_of(self.path)
        now = time.monotonic()
        self._next = now + max(_INTERVAL, _TIMES * (now - start))


def _entry(result: FileResult) -> dict[str, Any]:
    """Return a result as the file has it."""
    summary, error = result.summary, result.error
    entry: dict[str, Any] = {"image": str(result.path), "name": result.name}
    entry["labels"] = None if result.labels is None else result.labels.name
    if result.planes is not None:
        entry["planes"] = result.planes
    if result.state is not None:
        entry |= {"bytes": result.state.size, "modified": result.state.modified}
    if summary is not None:
        entry |= {"shape": list(summary.shape), "instances": summary.instances}
        entry |= {"diameter": round(float(summary.diameter), 2), "magnification": round(summary.magnification, 4)}
    if result.figures is not None:
        entry["measured"] = result.figures
    entry |= {"seconds": round(result.seconds, 3), "finished": round(time.time(), 3), "notes": list(result.notes)}
    if error is not None:
        entry["error"] = str(error)
        if isinstance(error, UnexpectedError):
            entry["traceback"] = error.details
    return entry


def _text(making: Making, records: Iterable[ImageRecord]) -> str:
    """Return the text of the file: the making of this run with its images, a line for each, and those before."""
    parts: dict[str, tuple[Making, list[str]]] = {_identity(making): (making, [])}
    for record in records:
        parts.setdefault(_identity(record.making), (record.making, []))[1].append(json.dumps(record.entry))
    own, *earlier = (_part(*part) for part in parts.values())
    others = ",\n".join("{" + part + "}" for part in earlier)
    return f'{{\n"format": {_FORMAT},{own},\n"earlier": [{others}]\n}}\n'


def _part(making: Making, entries: list[str]) -> str:
    head = json.dumps(making.to_dict(), indent=1)[1:-2]
    return f'{head},\n "images": [\n  ' + ",\n  ".join(entries) + "\n ]"


def _identity(making: Making) -> str:
    return json.dumps(making.to_dict(), sort_keys=True)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _latest(records: Iterable[ImageRecord]) -> Records:
    found: Records = {}
    for record in records:
        if (other := found.get(record.key)) is None or other.finished <= record.finished:
            found[record.key] = record
    return found


def _field(stored: Any, name: str, *kinds: type) -> Any:
    value = stored.get(name) if isinstance(stored, dict) else stored
    if not isinstance(stored, dict) or not isinstance(value, kinds):
        raise ValueError(f"it has no {name} that is {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def _read_file(path: Path) -> list[ImageRecord]:
    try:
        stored = read_json(path, max_bytes=_LARGEST)
        if _field(stored, "format", int) > _FORMAT:
            raise ValueError("a newer version of instseg has written it")
        records = []
        for part in [stored, *_field(stored, "earlier", list)]:
            making = Making.from_dict(part)
            records += [ImageRecord.from_entry(making, entry) for entry in _field(part, "images", list)]
        return records
    except (InstsegError, ValueError) as error:
        raise InstsegError(
            f"cannot tell how the results in {path.parent} were made: {path.name} is damaged ({error}); remove it to "
            "take them as they are"
        ) from error


def _read_journal(path: Path) -> list[ImageRecord]:
    """Read the lines of a journal that are whole; a process that is killed may leave one that is not."""
    try:
        first, *lines = path.read_bytes().splitlines() or [b""]
        making = Making.from_dict(parse_json(first))
    except (OSError, ValueError):
        return []
    records = []
    for line in lines:
        with suppress(ValueError):
            records.append(ImageRecord.from_entry(making, parse_json(line)))
    return records


def _new_journal(path: Path) -> int:
    try:
        descriptor = acquire(path, os.O_APPEND)
    except OSError:
        # Perhaps the file system has no locks: then nobody takes it for one that was left.
        descriptor = None
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if descriptor is None else descriptor


def _held(path: Path) -> int | None:
    """Lock a journal; return None where its run goes on, or nobody can tell."""
    try:
        return acquire(path)
    except OSError:
        return None


def _version_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
