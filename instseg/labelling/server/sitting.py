"""A folder that is being labelled: its documents, the network, the rounds of training, and what the page is told."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.inference.options import PredictOptions
from instseg.io.atomic import StrPath
from instseg.io.image_file import ImageFileError
from instseg.io.source import STREAMING_PIXELS, ImageReader, open_image
from instseg.labelling.document import Document
from instseg.labelling.folder import LabelFolder
from instseg.labelling.journal import StorageError
from instseg.labelling.network_worker import LoadedModel, NetworkWorker
from instseg.labelling.ordering import order
from instseg.labelling.predictions import number_classes
from instseg.labelling.rounds import Rounds
from instseg.labelling.segmenting import earlier_prediction
from instseg.labelling.server.background import Background
from instseg.labelling.server.images import Images, NoSuchImageError
from instseg.labelling.server.model_loading import load_round, takes_planes_as_channels
from instseg.labelling.server.rendering import TILE, tile_box
from instseg.labelling.server.scores import Scores
from instseg.labelling.server.writer import Writer
from instseg.models.builtin import find_model
from instseg.tiling.grid import Box

# Documents that are kept open, and the pixels that they may have together.
_OPEN, _OPEN_PIXELS = 6, 200_000_000
# What it means to a person if work in the background goes wrong.
_NOT_SHOWN = "what the model found in an image cannot be shown"
_NOT_RECORDED = "how good the model was in an image cannot be noted"

Load = Callable[[Path, Path, int, PredictOptions], LoadedModel]


class Sitting:
    """A folder that is being labelled, as `instseg.labelling.server.routes` answers for it.

    Parameters
    ----------
    folder : path-like
        Holds images, or a folder `images` of them.
    model : path-like or str
        The model that the labelling begins with.
    options : PredictOptions, optional
        How images are seen: channels and diameter.
    load : callable, optional
        What opens the model of a round, in the thread that uses it; by default `load_round`.

    Attributes
    ----------
    folder : LabelFolder
    rounds : Rounds
    images : Images
    writer : Writer

    Raises
    ------
    InstsegError
        If there is no such folder or model, another process works on the folder, or what is kept there cannot be read.
    """

    def __init__(
        self,
        folder: StrPath,
        model: StrPath = "general",
        options: PredictOptions | None = None,
        load: Load = load_round,
    ) -> None:
        self._options, self._load = options or PredictOptions(), load
        self._planes_as_channels = takes_planes_as_channels(find_model(Path(model)), self._options)
        self.folder = LabelFolder(folder, planes_as_channels=self._planes_as_channels)
        try:
            self.rounds = Rounds(self.folder.path, Path(model), self._round_ended)
        except BaseException:
            self.folder.close()
            raise
        self._model = str(model)
        self.writer, self.images, self._scores = Writer(), Images(self._open_image), Scores()
        self._names = [image.name for image in self.folder.images]
        self._lock, self._proposing = threading.RLock(), threading.Lock()
        self._documents: OrderedDict[int, Document] = OrderedDict()
        self._unreadable: dict[int, str] = {}
        self._ranks: dict[int, int] = {}
        self._folder_version, self._is_order_old = 1, True
        # What takes a document's time. The worker never waits for a document, as an action may wait for the worker.
        self._background = Background()
        shapes = ((image.index, image.shape or (0, 0)) for image in self.folder.images)
        self._too_large = frozenset(index for index, shape in shapes if shape[0] * shape[1] > STREAMING_PIXELS)
        self._worker = NetworkWorker(
            self._names,
            self.images.reader,
            lambda index, _: self._background.later(_NOT_SHOWN, self._propose_to_open, [index]),
            lambda: self._background.later(_NOT_SHOWN, self._propose_to_open, None),
            self._options,
            too_large=self._too_large,
        )

    def start(self) -> None:
        """Open the model and begin to segment, in the background."""
        self._worker.start()
        self._reorder()
        self._use_model()

    def close(self) -> None:
        """Save all, stop a training that runs, and end all threads."""
        self.rounds.close()
        self._worker.close()
        self._background.close()
        self.folder.close()

    def _open_image(self, index: int) -> ImageReader:
        image = self.folder.images[index]
        if image.error is not None:
            raise NoSuchImageError(image.error)
        try:
            reader = open_image(image.path, planes_as_channels=self._planes_as_channels)
        except ImageFileError as error:
            # Its header was in order, and what follows is not.
            self._unreadable[index] = str(error)
            self._changed()
            raise NoSuchImageError(str(error)) from error
        self._unreadable.pop(index, None)
        return reader

    def _use_model(self) -> None:
        number, model = self.rounds.number, self.rounds.model
        self._worker.use(lambda: self._load(self.folder.path, model, number, self._options))

    def _propose_to_open(self, indices: Sequence[int] | None) -> None:
        """Show what the model has found in those of some images, or of all, that are open."""
        with self._lock:
            documents = dict(self._documents)
        for index in documents if indices is None else indices:
            if index in documents:
                self._propose(index, documents[index])
        self._changed()

    def _propose(self, index: int, document: Document) -> None:
        """Show a person what the model has found, once: what is made of it afterwards stays."""
        name, predictions = self._names[index], self._worker.predictions
        with self._proposing:
            if predictions is None or document.state == "accepted" or predictions.is_taken(name):
                return
            if (found := predictions.read(name, document.shape)) is None:
                # What was damaged is made again.
                self._changed()
                return
            numbers, names = number_classes(found.classes, self.folder.classes)
            if names != self.folder.classes:
                self.folder.set_classes(names)
            document.set_prediction(found.labels, numbers)
            predictions.take(name)

    def _round_ended(self) -> None:
        self._worker.pause(False)
        status = self.rounds.status()
        if status is not None and status["state"] in ("done", "stopped") and status["message"] is None:
            self._use_model()
        self._changed()

    def _changed(self) -> None:
        with self._lock:
            self._folder_version += 1
            self._is_order_old = True

    def _reorder(self) -> None:
        """Order the images by what is worth labelling next: those that are segmented, then the others as they are."""
        with self._lock:
            if not self._is_order_old:
                return
            self._is_order_old = False
        states = [self.folder.state(index) for index in range(len(self._names))]
        predictions = self._worker.predictions
        candidates, labelled = {}, []
        for name, state in zip(self._names, states, strict=True):
            found = None if predictions is None else predictions.traits_of(name)
            if found is not None and state == "accepted":
                labelled.append(found)
            elif found is not None:
                candidates[name] = found
        first = {name: rank for rank, name in enumerate(order(candidates, labelled))}
        to_come = [index for index, state in enumerate(states) if state != "accepted"]
        to_come.sort(key=lambda index: first.get(self._names[index], len(first)))
        done = [index for index, state in enumerate(states) if state == "accepted"]
        with self._lock:
            self._ranks = {index: rank for rank, index in enumerate(to_come) if self._names[index] in first}
        # Of accepted images, too, it is worth to know what the model finds: that is how good it is.
        self._worker.queue([index for index in (*to_come, *done) if self.folder.images[index].error is None])

    def document(self, index: int) -> Document:
        """Return an image in work, opened where it is not.

        Raises
        ------
        NoSuchImageError
            If there is none of this number, or it cannot be read.
        """
        if not 0 <= index < len(self._names):
            raise NoSuchImageError(f"there is no image {index}")
        if (error := self.folder.images[index].error) is not None:
            raise NoSuchImageError(error)
        with self._lock:
            document = self._documents.get(index)
            if document is not None:
                self._documents.move_to_end(index)
                return document
            try:
                document = self.folder.document(index, lambda box: self._worker.window(index, box))
            except StorageError:
                raise
            except InstsegError as error:
                raise NoSuchImageError(str(error)) from error
            self._documents[index] = document
            for oldest in list(self._documents)[:-1]:
                if len(self._documents) > _OPEN or sum(map(_pixels, self._documents.values())) > _OPEN_PIXELS:
                    del self._documents[oldest]
                    self.folder.release(oldest)
        # Takes a while for large images, and fails where nothing can be stored; they are to be seen all the same.
        self._background.now(_NOT_SHOWN, self._propose, index, document)
        return document

    def folder_view(self) -> dict[str, Any]:
        """Return what `/api/folder` answers."""
        self._reorder()
        predictions = self._worker.predictions
        images = []
        for index, image in enumerate(self.folder.images):
            height, width, channels = image.shape or (0, 0, 0)
            objects, confirmed = self.folder.counts(index)
            if not objects and predictions is not None and not predictions.is_taken(image.name):
                # What an image will show that nobody has opened since it was segmented.
                objects = predictions.count(image.name)
            images.append(
                {
                    "index": index,
                    "name": image.name,
                    "state": self.folder.state(index),
                    "height": height,
                    "width": width,
                    "channels": channels,
                    "objects": objects,
                    "confirmed": confirmed,
                    "predicted": self._is_predicted(index),
                    "error": image.error or self._unreadable.get(index),
                    "model_error": self._model_error(index),
                    "rank": self._ranks.get(index),
                    "ap": self.rounds.ap(image.name),
                }
            )
        return {
            "folder": str(self.folder.path),
            "model": self._model if self.rounds.number == 0 else f"round {self.rounds.number}",
            "images": images,
            "classes": [{"id": number, "name": name} for number, name in self.folder.classes.items()],
            "rounds": self.rounds.summary(),
            "notes": list(self.folder.notes),
        }

    def image_view(self, index: int) -> dict[str, Any]:
        """Return what `/api/images/I` answers."""
        document = self.document(index)
        if self._background.failed(_NOT_SHOWN):
            self._background.now(_NOT_SHOWN, self._propose, index, document)
        outcome = document.outcome().to_dict()
        return {
            "index": index,
            "name": self._names[index],
            **self.images.sizes(index),
            "tile": TILE,
            **{name: outcome[name] for name in ("version", "state", "objects", "confirmed", "undo", "redo")},
            "embedded": self._worker.share(index),
            "predicted": self._is_predicted(index),
            "model_error": self._model_error(index),
        }

    def _is_predicted(self, index: int) -> bool:
        """Return whether no instances of the model are to come."""
        predictions = self._worker.predictions
        return index in self._too_large or (predictions is not None and predictions.has(self._names[index]))

    def _model_error(self, index: int) -> str | None:
        """Return why the model finds nothing in an image."""
        if (failure := self._worker.failure(index)) is not None:
            return str(failure)
        if index in self._too_large:
            return "the image is too large for all of it to be segmented; click its objects, and confirm what is right"
        return None

    def labels(self, index: int, level: int, row: int, column: int) -> tuple[int, NDArray[np.int32]]:
        """Return the version and a tile (h, w) of the labels; -1 is where it is not known what is there."""
        document = self.document(index)
        box = tile_box(document.shape, level, row, column)
        return document.version, document.read(box, mark_unknown=True, step=1 << level)

    def objects(self, index: int) -> dict[str, Any]:
        """Return what `/api/images/I/objects` answers."""
        document = self.document(index)
        version, objects = document.version, document.objects()
        return {
            "version": version,
            "ids": objects.ids.tolist(),
            "confirmed": objects.ids[objects.confirmed].tolist(),
            "classes": objects.classes.tolist(),
            "scores": self._scores.of(self._names[index], document, objects, self._worker.predictions),
        }

    def act(self, index: int, action: dict[str, Any]) -> dict[str, Any]:
        """Do what a person wants, and return the outcome."""
        document = self.document(index)
        before = document.outcome()
        outcome = document.act(action)
        if outcome.version == before.version:
            return outcome.to_dict()
        if outcome.state != before.state:
            self._changed()
            if outcome.state == "accepted":
                self._background.later(_NOT_RECORDED, self._record, index, document)
        return outcome.to_dict()

    def _record(self, index: int, document: Document) -> None:
        """Have an accepted image say how good the model was."""
        name, predictions = self._names[index], self._worker.predictions
        found = None if predictions is None else predictions.read(name, document.shape)
        if found is not None:
            before = earlier_prediction(self.folder.path, self.rounds.number, name, document.shape)
            self.rounds.record(name, document.read(), found.labels, before)
            self._changed()

    def look(self, index: int, box: list[float]) -> dict[str, Any]:
        """Take what is on the screen, and return which share of the embeddings is there."""
        document = self.document(index)
        height, width = document.shape
        seen = Box(*(round(float(value)) for value in box)).intersection(Box(0, 0, height, width))
        self._worker.look(index, None if 0 in seen.shape else seen)
        return {"embedded": self._worker.share(index)}

    def status(self, page: str | None) -> dict[str, Any]:
        """Return what `/api/status` answers."""
        self._reorder()
        worker, predictions = self._worker, self._worker.predictions
        readable = [image.index for image in self.folder.images if image.error is None]
        done = sum(self._is_predicted(index) or worker.failure(index) is not None for index in readable)
        model = "loading" if worker.loading else "ready"
        if worker.error is not None:
            model = str(worker.error)
        vain = None if worker.disc_error is None else f"what the model finds cannot be kept: {worker.disc_error}"
        return {
            "writer": page is not None and self.writer.hear(page),
            "model": model,
            "training": self._training(),
            "segmenting": None if predictions is None or done == len(readable) else {"done": done, "of": len(readable)},
            "images": self._folder_version,
            "message": self._background.problem or vain,
            "disc": self.folder.error,
        }

    def _training(self) -> dict[str, Any] | None:
        status = self.rounds.status()
        if status is None:
            return None
        result = status["message"]
        if result is None and status["done"]:
            result = "the new model is in use, and segments the other images anew"
        return {**status, "text": status["phase"], "result": result}

    def start_training(self, minutes: float) -> dict[str, Any]:
        """Begin a round of training with all that is labelled."""
        if not self.folder.flush() and (error := self.folder.error) is not None:
            raise InstsegError(f"what is labelled cannot be saved, and would be missing in the training: {error}")
        # Images that nobody looks at can wait: the new model segments them anew.
        self._worker.pause(True)
        try:
            self.rounds.start(minutes, channels=self._options.channels)
        except BaseException:
            self._worker.pause(self.rounds.running)
            raise
        return {"training": self._training()}

    def stop_training(self) -> dict[str, Any]:
        """Ask the round of training to save and end."""
        self.rounds.stop()
        return {"training": self._training()}

    def set_classes(self, names: dict[int, str]) -> dict[str, Any]:
        """Take the names of the classes, by number."""
        self.folder.set_classes(names)
        self._changed()
        return {"classes": [{"id": number, "name": name} for number, name in self.folder.classes.items()]}


def _pixels(document: Document) -> int:
    return document.shape[0] * document.shape[1]
