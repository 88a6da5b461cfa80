"""The journal of an image: what has been done to it, line by line, from which its labels and its undo history return.

A line is a JSON object: the heading, a `base` (what the history begins with), a change that was `do`ne, a change in the
place of the last one (`replace`), `undo` or `redo`. Lines are only ever appended. A line that a killed process has not
completed is cut off when the journal is opened next.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from instseg.errors import InstsegError
from instseg.io.atomic import atomic_write
from instseg.io.json_text import parse_json
from instseg.labelling.changes import Change

FORMAT = 1
"""The version of the format, in the heading."""

Step = Literal["base", "do", "replace", "undo", "redo"]
"""What a line of a journal says."""

# Characters of the longest line: a change of all pixels of a very large image.
_LONGEST_LINE = 2**30


class StorageError(InstsegError):
    """What has been done cannot be stored; nothing has changed, so that it can be done again when there is space."""


class Record(NamedTuple):
    """A line of a journal.

    Attributes
    ----------
    step : str
        'base', 'do', 'replace', 'undo' or 'redo'.
    change : Change or None
        Of the first three.
    place : int
        The byte at which the line begins, for `Journal.change_at`.
    by_model : bool
        Whether a model made the change, and no person.
    """

    step: Step
    change: Change | None
    place: int
    by_model: bool = False


class Journal:
    """A journal on the disc. It is made with the first record.

    One thread writes; `size` may be read, and `synchronise` called, by any.

    Parameters
    ----------
    path : Path
        Ends in .jsonl.
    shape : tuple of int
        Height and width of the image.

    Attributes
    ----------
    size : int
        Bytes that hold complete lines.
    damage : str or None
        What was cut off when it was opened, beyond a line that was not completed.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path, self.shape = path, shape
        self.size = 0
        self.damage: str | None = None
        self._file: int | None = None
        self._closed = False

    def records(self) -> Iterator[Record]:
        """Yield what has been done so far, and cut off what is damaged behind it; before anything is appended.

        What is cut off that holds more than a line that was not completed is kept beside the journal, in a file whose
        name ends in '.damaged'.

        Raises
        ------
        InstsegError
            If it cannot be read, or is the journal of an image of another size.
        """
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as file:
                place = 0
                while line := file.readline(_LONGEST_LINE):
                    try:
                        record = self._parse(line, place)
                    except ValueError as error:
                        self._cut_off(place, None if not line.endswith(b"\n") and not file.read(1) else str(error))
                        return
                    place += len(line)
                    self.size = place
                    if record is not None:
                        yield record
        except OSError as error:
            raise InstsegError(f"cannot read {self.path}: {error.strerror}; check the permissions") from error

    def _parse(self, line: bytes, place: int) -> Record | None:
        """Return what a line says, None for the heading."""
        if not line.endswith(b"\n"):
            raise ValueError("a line is not complete")
        content = parse_json(line, _LONGEST_LINE)
        if place == 0:
            self._check_heading(content)
            return None
        if not isinstance(content, dict) or content.get("step") not in ("base", "do", "replace", "undo", "redo"):
            raise ValueError("a line is no step")
        change = None
        if content["step"] not in ("undo", "redo"):
            try:
                change = Change.from_json(content.get("change"), self.shape)
            except InstsegError as error:
                raise ValueError(str(error)) from error
        return Record(content["step"], change, place, content.get("by_model") is True)

    def _check_heading(self, content: Any) -> None:
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InstsegError(
                f"cannot use {self.path}: it is no journal of format {FORMAT}; move it away to begin with the labels"
            )
        if content.get("shape") != list(self.shape):
            raise InstsegError(
                f"cannot use {self.path}: it is of an image of {content.get('shape')} pixels, and this one has "
                f"{list(self.shape)}; move it away to begin anew"
            )

    def _cut_off(self, place: int, damage: str | None) -> None:
        if damage is not None:
            kept = self.path.with_suffix(".damaged")
            with atomic_write(kept) as temporary:
                temporary.write_bytes(self.path.read_bytes())
            self.damage = f"{self.path} is damaged ({damage}): what was done after that is in {kept} only"
        os.truncate(self.path, place)

    def append(self, step: Step, change: Change | None = None, *, by_model: bool = False) -> int:
        """Add a line; it is with the operating system when this returns, so that a killed process loses nothing.

        Returns
        -------
        int
            The byte at which the line begins.

        Raises
        ------
        StorageError
            If the disc is full or cannot be written; the journal is as before.
        """
        content: dict[str, Any] = {"step": step}
        if change is not None:
            content["change"] = change.to_json()
        if by_model:
            content["by_model"] = True
        line = _line(content)
        heading = b"" if self.size else _line({"format": FORMAT, "shape": list(self.shape)})
        if self._closed:
            # Another process may have the folder by now.
            raise StorageError(f"cannot write {self.path}: the folder is closed; open it again, and do it there")
        try:
            self._write(heading + line)
        except OSError as error:
            raise StorageError(
                f"cannot write {self.path}: {error.strerror or error}; nothing was changed, do it again when there is "
                "space"
            ) from error
        place = self.size + len(heading)
        self.size = place + len(line)
        return place

    def _write(self, content: bytes) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # What an earlier attempt may have left behind the end is overwritten, or cut off.
            os.ftruncate(self._file, self.size)
            done = 0
            while done < len(content):
                done += os.pwrite(self._file, content[done : done + 2**26], self.size + done)
        except OSError:
            os.ftruncate(self._file, self.size)
            raise

    def change_at(self, place: int) -> Change:
        """Return the change of a line, by the byte at which it begins.

        Raises
        ------
        StorageError
            If the file has been damaged since.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(place)
                record = self._parse(file.readline(_LONGEST_LINE), place)
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read {self.path}: {error}; was it changed by another program?") from error
        if record is None or record.change is None:
            raise StorageError(f"cannot read {self.path}: there is no change at byte {place}")
        return record.change

    def synchronise(self) -> None:
        """Have the disc hold what was appended.

        Raises
        ------
        OSError
            If it cannot.
        """
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file: nothing can be appended any more."""
        self._closed = True
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        # Documents that nobody needs any more are not closed one by one.
        self.close()


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"
