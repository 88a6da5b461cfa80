"""The classes of a folder in work: their names by number, and `classes.csv`, which training reads."""

import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from instseg.annotations.output import UNCLASSIFIED
from instseg.data.classes import FOLDER, TABLE, ClassNames, read_class_table, sort_class_names
from instseg.errors import InstsegError, UsageError, check_parameter
from instseg.io.atomic import atomic_write, write_errors
from instseg.io.json_text import read_json
from instseg.io.tables import write_csv
from instseg.labelling.actions import MAX_CLASS

NAMES = "classes.json"
"""The file in the folder of the work that holds the names."""


class ClassList:
    """The names of classes, and the classes of all instances of a folder.

    Any thread may call any method.

    Parameters
    ----------
    folder : Path
        The data folder.
    work : Path
        Where names are kept.

    Raises
    ------
    InstsegError
        If the table or the names cannot be read, or the folder has class images, which are not written here.
    """

    def __init__(self, folder: Path, work: Path) -> None:
        if (folder / FOLDER).is_dir():
            raise InstsegError(
                f"{folder} holds class images in {FOLDER}/, which labelling does not write; move them away to label"
            )
        self._path, self._stored = folder / TABLE, work / NAMES
        self._lock = threading.Lock()
        self._table: dict[str, ClassNames] = read_class_table(self._path) if self._path.exists() else {}
        found = sort_class_names(
            name for names in self._table.values() for name in names.values() if name != UNCLASSIFIED
        )
        kept = _read_names(self._stored) if self._stored.exists() else {}
        self._names = _with_numbers(found, kept)
        if self._names != kept:
            # Journals tell classes by these numbers, so that they are to stay, whatever the table holds another time.
            self._store(self._names)

    @property
    def names(self) -> dict[int, str]:
        """The name of each class, by its number 1..255."""
        with self._lock:
            return dict(self._names)

    def rename(self, names: Mapping[int, str]) -> None:
        """Give classes names; those of a number that had another one are renamed in the table, too.

        Raises
        ------
        UsageError
            If a number is out of its range, or a name is empty or there twice.
        InstsegError
            If they cannot be written.
        """
        for number, name in names.items():
            check_parameter(0 < number <= MAX_CLASS, "classes", number, f"numbers from 1 to {MAX_CLASS}")
            if not name.strip() or name != name.strip() or name == UNCLASSIFIED:
                raise UsageError(f"classes holds the name {name!r}, expected a name of its own", parameter="classes")
        if len(set(names.values())) < len(names):
            raise UsageError("classes holds a name twice, expected different ones", parameter="classes")
        with self._lock:
            new = {self._names[number]: name for number, name in names.items() if number in self._names}
            self._store(names)
            if any(old != name for old, name in new.items()):
                table = {
                    image: {label: new.get(name, name) for label, name in labels.items()}
                    for image, labels in self._table.items()
                }
                self._write(table)
            # Not before both are written: what could not be is the same when it is tried again.
            self._names = dict(sorted(names.items()))

    def _store(self, names: Mapping[int, str]) -> None:
        with atomic_write(self._stored) as temporary:
            temporary.write_text(json.dumps([[number, name] for number, name in sorted(names.items())]))

    def numbers_of(self, image: str) -> dict[int, int]:
        """Return the number of the class of each label of an image that has one, as the table says."""
        with self._lock:
            numbers = {name: number for number, name in self._names.items()}
            return {label: numbers[name] for label, name in self._table.get(image, {}).items() if name in numbers}

    def set_image(self, image: str, classes: Mapping[int, int]) -> None:
        """Note the number of the class of each label of an image, 0 where a label has none, and write the table.

        A class without a name gets its number as name. Where any label of the folder has a class, those without are of
        the class 'unclassified', as training wants one for each; where none has, there is no table.

        Raises
        ------
        InstsegError
            If it cannot be written.
        """
        with self._lock:
            if new := set(classes.values()) - {0} - self._names.keys():
                names = {**self._names, **{number: _free_name(number, self._names) for number in sorted(new)}}
                self._store(names)
                self._names = names
            named = {label: self._names.get(number, UNCLASSIFIED) for label, number in classes.items()}
            table = {**self._table, image: named}
            if not named:
                del table[image]
            if table != self._table or self._is_classified(table) != self._path.exists():
                self._write(table)

    @staticmethod
    def _is_classified(table: Mapping[str, ClassNames]) -> bool:
        return any(name != UNCLASSIFIED for names in table.values() for name in names.values())

    def _write(self, table: dict[str, ClassNames]) -> None:
        if self._is_classified(table):
            rows = ((image, label, table[image][label]) for image in sorted(table) for label in sorted(table[image]))
            write_csv(self._path, ("image", "label", "class"), rows)
        else:
            with write_errors(self._path):
                self._path.unlink(missing_ok=True)
        self._table = table


def _with_numbers(names: Iterable[str], kept: Mapping[int, str]) -> dict[int, str]:
    """Return classes by number: those that are kept, and new ones with the numbers that follow."""
    numbered = dict(kept)
    for name in names:
        if name not in kept.values():
            numbered[max(numbered, default=0) + 1] = name
    return numbered


def _free_name(number: int, names: Mapping[int, str]) -> str:
    """Return the name of a class that a person has given a number only."""
    name = str(number)
    while name in names.values():
        name = f"class {name}"
    return name


def _read_names(path: Path) -> dict[int, str]:
    try:
        return {int(number): str(name) for number, name in read_json(path)}
    except (TypeError, ValueError) as error:
        raise InstsegError(f"cannot read {path}: it is no list of classes; remove it to name them anew") from error
