"""Problems of a data folder, gathered file by file: what is wrong, what to do, and in which files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")

# A problem names so many of its files.
_NAMED = 5
# A line about a problem names so many.
_NAMED_IN_LINE = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that prevents training ('error') or may make its result worse ('warning'), or what is good to know.

    Attributes
    ----------
    severity : {'error', 'warning', 'note'}
    what, advice : str
        What is wrong, with the numbers of the first file, and what to do. Parameters are in backticks.
    count : int
        Number of files with the problem; 0 for one of the whole folder.
    files : tuple of str
        Paths of the first few of them, relative to the data folder.
    """

    severity: Severity
    what: str
    advice: str
    count: int
    files: tuple[str, ...]

    def line(self) -> str:
        """Return the problem in one line, such as 'warning: labels/a.png and 3 more: there are no instances; ...'."""
        named = ", ".join(self.files[:_NAMED_IN_LINE])
        more = self.count - len(self.files[:_NAMED_IN_LINE])
        files = f"{named}{f' and {more} more' if more else ''}: " if self.files else ""
        return f"{self.severity}: {files}{self.what}; {self.advice}"


class ProblemList:
    """Gathers problems; the same problem in several files is one, even if its numbers differ."""

    def __init__(self) -> None:
        self._found: dict[tuple[Severity, str], list[tuple[str, str, Path | None]]] = {}

    def add(self, severity: Severity, what: str, advice: str, path: Path | None = None) -> None:
        """Add a problem of a file, or of the whole folder."""
        kind = re.sub(r"\d[\d.,]*", "#", what)
        self._found.setdefault((severity, kind), []).append((what, advice, path))

    def add_mixed(self, severity: Severity, name: str, files: Mapping[str, list[Path]], advice: str) -> None:
        """Add that files differ in something, if they do; those that differ from most are named."""
        if len(files) < 2:
            return
        most, *others = sorted(files, key=lambda key: -len(files[key]))
        counted = ", ".join(f"{key} in {len(files[key])}" for key in (most, *others))
        for path in (path for key in others for path in files[key]):
            self.add(severity, f"the images differ in their {name} ({counted})", advice, path)

    def merged(self, folder: Path) -> tuple[Problem, ...]:
        """Return the problems, errors first and notes last; files in the folder are named relative to it."""
        problems = []
        for (severity, _), occurrences in self._found.items():
            what, advice, _ = occurrences[0]
            if any(other != what for other, _, _ in occurrences):
                what += " (in the first; the numbers differ)"
            files = [_name(path, folder) for _, _, path in occurrences if path is not None]
            problems.append(Problem(severity, what, advice, len(files), tuple(files[:_NAMED])))
        return by_severity(problems)


def by_severity(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems in the order of their severity, errors first."""
    return tuple(sorted(problems, key=lambda problem: _ORDER.index(problem.severity)))


def _name(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
