"""A folder in work: its images and their states, their documents, and saving all of it where other commands read it.

FOLDER/labels/NAME.png, FOLDER/ignored/NAME.png, FOLDER/classes.csv    what training and all else read
FOLDER/.labelling/journal/NAME.jsonl                                  what was done, before anything else is written
FOLDER/.labelling/images/NAME.json                                    how each image was when it was saved
FOLDER/.labelling/replaced/                                           labels that made room for others
FOLDER/.labelling/lock                                                held by the process that works on the folder
"""

import contextlib
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.atomic import StrPath, ensure_dir, is_zarr, write_errors
from instseg.io.container import located
from instseg.io.folders import IGNORED_REGIONS, IMAGES, LABELLING, LABELS, find_images, image_folder, match_folders
from instseg.io.formats import read_header
from instseg.io.image_names import stem_of
from instseg.io.locks import file_lock
from instseg.io.source import STREAMING_PIXELS, open_image, read_geometry
from instseg.labelling.class_list import ClassList
from instseg.labelling.document import Document
from instseg.labelling.image_records import ImageRecord
from instseg.labelling.image_state import State
from instseg.labelling.journal import Journal
from instseg.labelling.label_files import Stamp, file_numbers, move_away, read_existing, write_files
from instseg.labelling.saving import Saver
from instseg.labelling.tools import EmbeddingsSource

# Documents that are kept although nobody asks for them at present, and the pixels that they may have together.
_KEPT, _KEPT_PIXELS = 8, 200_000_000


@dataclass(slots=True)
class LabelledImage:
    """An image of a folder in work.

    Attributes
    ----------
    index : int
        Its place in the folder.
    name : str
        Its stem, by which its labels are named.
    path : Path
    shape : (int, int, int) or None
        Height, width and channels; None where it cannot be read.
    error : str or None
        Why it cannot be labelled.
    """

    index: int
    name: str
    path: Path
    shape: tuple[int, int, int] | None = None
    error: str | None = None


class LabelFolder:
    """A folder of images in work, which no other process works on meanwhile.

    Any thread may call any method.

    Parameters
    ----------
    path : path-like
        Holds images, or a folder `images` of them.
    planes_as_channels : bool
        Whether the planes of stacks are channels.

    Attributes
    ----------
    path, work, model : Path
        The folder, what is kept in it of the work, and where the model of the last round is.
    images : list of LabelledImage
        Sorted by path. Those that cannot be read have an `error`.
    notes : list of str
        What a person should know of the folder.

    Raises
    ------
    InstsegError
        If there is no such folder or no image in it, it cannot be written, or another process works on it.
    """

    def __init__(self, path: StrPath, *, planes_as_channels: bool = False) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            what = "it is a file" if self.path.exists() else "there is no such folder"
            raise InstsegError(f"cannot label {self.path}: {what}; give a folder of images")
        files = find_images([image_folder(self.path)])
        self.work, self.model = ensure_dir(self.path / LABELLING), self.path / "model"
        self.notes: list[str] = []
        if self.path.resolve().name == IMAGES and (outer := self.path.resolve().parent / LABELS).is_dir():
            self.notes.append(f"the labels in {outer} are of another folder: give {outer.parent} to go on with them")
        self._planes_as_channels = planes_as_channels
        self._exit = contextlib.ExitStack()
        busy = f"{self.path} is being labelled by another process; end that one, or open its page"
        with write_errors(self.work / "lock"):
            self._exit.enter_context(file_lock(self.work / "lock", busy))
        with contextlib.ExitStack() as unless_opened:
            unless_opened.callback(self._exit.close)
            for name in ("journal", "images"):
                ensure_dir(self.work / name)
            self._lock = threading.RLock()
            self._class_list = ClassList(self.path, self.work)
            self.images = self._list_images(files)
            self._existing = self._find_labels()
            self._records = [self._read_record(image) for image in self.images]
            self._open: weakref.WeakValueDictionary[int, Document] = weakref.WeakValueDictionary()
            self._kept: OrderedDict[int, Document] = OrderedDict()
            self._saver = Saver(self._save)
            self._restore()
            unless_opened.pop_all()

    @classmethod
    def open(cls, path: StrPath, *, planes_as_channels: bool = False) -> Self:
        """Open a folder; the same as `LabelFolder(path)`."""
        return cls(path, planes_as_channels=planes_as_channels)

    def _list_images(self, files: list[Path]) -> list[LabelledImage]:
        images = [LabelledImage(index, stem_of(path), path) for index, path in enumerate(files)]
        first: dict[str, LabelledImage] = {}
        for image in images:
            if (other := first.setdefault(image.name, image)) is not image:
                image.error = (
                    f"{other.path.name} has the same name, so that both would have the same labels; rename one"
                )
                continue
            try:
                image.shape = self._shape_of(image.path)
            except InstsegError as error:
                image.error = str(error)
        return images

    def _shape_of(self, path: Path) -> tuple[int, int, int]:
        """Return height, width and channels by the header, or by opening what has no header that says it."""
        if not is_zarr(located(path)):
            header = read_header(path, max_pixels=None)
            if header.planes == 1 and header.colour in ("gray", "rgb") and not header.alpha:
                return header.height, header.width, header.channels
        with contextlib.closing(open_image(path, planes_as_channels=self._planes_as_channels)) as reader:
            return reader.shape

    def _find_labels(self) -> dict[str, Path]:
        """Return the file of labels that each image has, by the image's name."""
        if not (self.path / LABELS).is_dir():
            return {}
        try:
            pairs, _ = match_folders(image_folder(self.path), self.path / LABELS)
        except InstsegError:
            # There is no file of labels in there.
            return {}
        return {pair.name: pair.labels for pair in pairs}

    def _labels_of(self, image: LabelledImage) -> Path:
        return self._existing.get(image.name, self.path / LABELS / f"{image.name}.png")

    def _ignored_of(self, image: LabelledImage) -> Path:
        return self.path / IGNORED_REGIONS / f"{image.name}.png"

    def _journal_of(self, image: LabelledImage) -> Path:
        return self.work / "journal" / f"{image.name}.jsonl"

    def _record_path(self, image: LabelledImage) -> Path:
        return self.work / "images" / f"{image.name}.json"

    def _read_record(self, image: LabelledImage) -> ImageRecord:
        journal = self._journal_of(image)
        if not journal.exists():
            if not self._labels_of(image).exists():
                return ImageRecord()
            state: State = "partly" if self._ignored_of(image).exists() else "accepted"
            return ImageRecord(state=state, objects=None, confirmed=None)
        record = ImageRecord.read(self._record_path(image))
        return record or ImageRecord(journal=-1)

    def _restore(self) -> None:
        """Save what a process that ended suddenly has noted in journals only."""
        for image, record in zip(self.images, self._records, strict=True):
            journal = self._journal_of(image)
            missing = record.stamp is not None and not self._labels_of(image).exists()
            if image.error is None and journal.exists() and (missing or journal.stat().st_size != record.journal):
                try:
                    self.document(image.index)
                except InstsegError as error:
                    image.error = str(error)
                else:
                    if missing or self._records[image.index].journal != journal.stat().st_size:
                        self._saver.queue(image.index)

    @property
    def error(self) -> str | None:
        """Why something cannot be saved at present; it is tried again until it can be."""
        return self._saver.error

    @property
    def classes(self) -> dict[int, str]:
        """The names of the classes by their numbers."""
        return self._class_list.names

    def set_classes(self, names: Mapping[int, str]) -> None:
        """Give classes names, by number.

        Raises
        ------
        UsageError
            If a number is out of its range, or a name is empty or there twice.
        InstsegError
            If they cannot be written.
        """
        self._class_list.rename(names)

    def state(self, index: int) -> State:
        """Return 'new', 'partly' or 'accepted'."""
        document = self._open.get(index)
        return self._records[index].state if document is None else document.state

    def counts(self, index: int) -> tuple[int | None, int | None]:
        """Return the numbers of instances and of confirmed ones; None for labels that were not read yet."""
        if (document := self._open.get(index)) is not None:
            outcome = document.outcome()
            return outcome.objects, outcome.confirmed
        return self._records[index].objects, self._records[index].confirmed

    def predicted(self, index: int) -> bool:
        """Return whether a model's instances have been set in the document of an image."""
        document = self._open.get(index)
        return self._records[index].predicted if document is None else document.predicted

    def document(self, index: int, embeddings: EmbeddingsSource | None = None) -> Document:
        """Return the document of an image: there is one of each image at a time.

        Parameters
        ----------
        index : int
        embeddings : callable, optional
            What the document asks for embeddings from now on.

        Raises
        ------
        InstsegError
            If the image, its labels or its journal cannot be read.
        IndexError
            If there is no such image.
        """
        image = self.images[index]
        if image.error is not None or image.shape is None:
            raise InstsegError(f"cannot label {image.path}: {image.error}")
        with self._lock:
            document = self._open.get(index)
            if document is None:
                document = self._load(image)
                document.on_change = lambda: self._saver.queue(index)
                self._open[index] = document
            if embeddings is not None:
                document.embeddings = embeddings
            self._kept[index] = document
            self._kept.move_to_end(index)
            self._let_go()
            return document

    def _load(self, image: LabelledImage) -> Document:
        height, width, _ = image.shape or (0, 0, 0)
        journal = Journal(self._journal_of(image), (height, width))
        path, record = self._labels_of(image), self._records[image.index]
        array = self._zeros((height, width))
        try:
            document = Document((height, width), journal=journal, array=array)
            if journal.damage is not None:
                self.notes.append(journal.damage)
            if not document.version and path.exists():
                # Nobody has done anything, or a process was killed before the journal had what it begins with.
                existing = self._zeros((height, width))
                read_existing(path, existing)
                classes = self._class_list.numbers_of(image.name)
                accepted = not self._ignored_of(image).exists()
                document = Document(
                    (height, width), labels=existing, classes=classes, accepted=accepted, journal=journal, array=array
                )
                self._note(image, document, Stamp.of(path))
            elif path.exists() and journal.damage is not None:
                self._take_in(image, document, "has more than is left of its journal")
            elif path.exists() and record.journal >= 0 and not (record.stamp and record.stamp.fits(path)):
                self._take_in(image, document, "was changed by another program")
        except OSError as error:
            raise InstsegError(f"cannot read {path}: {error.strerror or error}; check the permissions") from error
        return document

    def _take_in(self, image: LabelledImage, document: Document, why: str) -> None:
        """Take in labels that are not what the journal says, as a step that can be taken back."""
        path = self._labels_of(image)
        labels = self._zeros(document.shape)
        read_existing(path, labels)
        document.load_labels(
            labels, self._class_list.numbers_of(image.name), accepted=not self._ignored_of(image).exists()
        )
        self.notes.append(f"{path} {why}: its labels are taken, and can be undone")
        self._note(image, document, Stamp.of(path))

    def _zeros(self, shape: tuple[int, int]) -> NDArray[np.int32]:
        """Return zeros (H, W): in memory, or in a file without a name where images are larger than memory may be."""
        if shape[0] * shape[1] <= STREAMING_PIXELS:
            return np.zeros(shape, np.int32)
        path = self.work / f"pixels-{os.getpid()}-{threading.get_ident()}"
        try:
            array = np.memmap(path, np.int32, "w+", shape=shape)
        finally:
            path.unlink(missing_ok=True)
        return array

    def _let_go(self) -> None:
        """Forget documents that were not asked for lately, once they are saved."""
        for index in list(self._kept)[:-1]:
            pixels = sum(document.shape[0] * document.shape[1] for document in self._kept.values())
            if len(self._kept) <= _KEPT and pixels <= _KEPT_PIXELS:
                return
            if not self._saver.is_waiting(index):
                del self._kept[index]

    def release(self, index: int) -> None:
        """Say that a document is not needed any more; it is kept until it is saved."""
        with self._lock:
            if not self._saver.is_waiting(index):
                self._kept.pop(index, None)

    def save(self, index: int) -> None:
        """Have an image saved soon, which documents ask for themselves whenever they change."""
        self._saver.queue(index)

    def _save(self, index: int) -> None:
        """Write the files of an image; in the saver's thread."""
        image = self.images[index]
        document = self.document(index)
        if document.journal is None:
            return
        size, version = document.journal_size, document.version
        document.journal.synchronise()
        labels, stamp = self._labels_of(image), self._records[index].stamp
        if labels.exists() and not (stamp and stamp.fits(labels)):
            # Another program has written it meanwhile.
            move_away(labels, self.work)
        # While they are written, files may be of this state or of the last one.
        self._records[index] = replace(self._records[index], journal=-1)
        self._records[index].write(self._record_path(image))
        path = write_files(document, labels, self._ignored_of(image), self.work, lambda: read_geometry(image.path))
        self._class_list.set_image(image.name, _classes_in_file(document))
        if path is None:
            self._existing.pop(image.name, None)
        else:
            self._existing[image.name] = path
        self._note(image, document, None if path is None else Stamp.of(path), size)
        if document.version != version:
            self._saver.queue(index)

    def _note(self, image: LabelledImage, document: Document, stamp: Stamp | None, size: int | None = None) -> None:
        outcome = document.outcome()
        record = ImageRecord(
            state=outcome.state,
            objects=outcome.objects,
            confirmed=outcome.confirmed,
            predicted=document.predicted,
            journal=document.journal_size if size is None else size,
            stamp=stamp,
        )
        record.write(self._record_path(image))
        self._records[image.index] = record

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is saved; return False if it cannot be, for which `error` has the reason."""
        return self._saver.flush(timeout)

    def close(self) -> None:
        """Save all, and let other processes have the folder."""
        self._saver.close()
        with self._lock:
            for document in list(self._open.values()):
                document.close()
            self._open.clear()
            self._kept.clear()
        self._exit.close()


def _classes_in_file(document: Document) -> dict[int, int]:
    """Return the class of each confirmed instance by its number in the file of labels; 0 where it has none."""
    if document.state == "new":
        return {}
    objects = document.objects()
    numbers = file_numbers(objects.ids[objects.confirmed])
    return dict(zip(numbers.tolist(), objects.classes[objects.confirmed].tolist(), strict=True))
