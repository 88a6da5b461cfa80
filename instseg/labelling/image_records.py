"""What is kept of each image between two sittings: its state, so that a folder opens without replaying all journals."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from instseg.errors import InstsegError
from instseg.io.atomic import atomic_write
from instseg.io.json_text import read_json
from instseg.labelling.image_state import State
from instseg.labelling.label_files import Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """How an image was when it was saved last.

    Attributes
    ----------
    state : str
        'new', 'partly' or 'accepted'.
    objects, confirmed : int or None
        Instances, and how many of them are confirmed; None where labels that exist were not read yet.
    predicted : bool
        Whether a model's instances are among what was done.
    journal : int
        Bytes of the journal that the files hold; -1 while they are written, when they may hold more or less.
    stamp : Stamp or None
        Of the file of labels; None where there is none.
    """

    state: State = "new"
    objects: int | None = 0
    confirmed: int | None = 0
    predicted: bool = False
    journal: int = 0
    stamp: Stamp | None = None

    def write(self, path: Path) -> None:
        """Write the record.

        Raises
        ------
        InstsegError
            If it cannot be written.
        """
        content: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        content["stamp"] = None if self.stamp is None else [self.stamp.size, self.stamp.mtime, self.stamp.digest]
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return a record; None where there is none that can be used, so that the journal has to say."""
        if not path.exists():
            return None
        try:
            content = read_json(path)
            stamp = None if content["stamp"] is None else Stamp(*content["stamp"])
            record = cls(**{name: content[name] for name in _PLAIN}, stamp=stamp)
        except (InstsegError, KeyError, TypeError):
            return None
        return record if record.state in ("new", "partly", "accepted") and isinstance(record.journal, int) else None


_PLAIN = ("state", "objects", "confirmed", "predicted", "journal")
