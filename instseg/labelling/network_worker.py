"""The one thread that uses the network: embeddings that somebody waits for, those of the view, then all images.

The work is done in steps of a tile. Before each the thread looks what is the most urgent:

1. tiles that an action waits for;
2. the tiles of the view;
3. the instances of the image in work, whose tiles are kept on the way;
4. all other tiles of that image;
5. the same of the image that comes next;
6. the instances of all other images, in the order in which they are worth labelling.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Generator, Sequence
from typing import Any, NamedTuple

from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError
from instseg.inference.failures import as_instseg_error
from instseg.inference.options import PredictOptions
from instseg.inference.segmentation import Segmentation
from instseg.io.source import ImageReader
from instseg.labelling.embedding_tiles import BUDGET, EmbeddingTiles, tiles_under
from instseg.labelling.ordering import Traits
from instseg.labelling.segmenting import Prediction, Predictions, segment_steps
from instseg.tiling.grid import Box, TileIndex

_LOGGER = logging.getLogger("instseg")
# Seconds until an image is segmented again whose instances could not be kept.
_AGAIN = 30.0


class LoadedModel(NamedTuple):
    """A model as the worker uses it.

    Attributes
    ----------
    embedder : Embedder
    predictions : Predictions
        Where its predictions are kept.
    """

    embedder: Any
    predictions: Predictions


class NetworkWorker:
    """Embeds and segments the images of a folder in the background.

    Parameters
    ----------
    names : sequence of str
        Of the images, by index.
    open_image : callable
        Takes the index of an image and opens it.
    on_predicted : callable
        Takes the index of an image that has been segmented, and its `Prediction`; called in the worker's thread.
    on_model : callable
        Is called in the worker's thread when another model is in use, or could not be loaded.
    options : PredictOptions
        How images are seen: channels and diameter.
    budget : int
        Bytes of embeddings that are kept.
    too_large : collection of int
        Images that are not segmented, as their labels would not fit into memory; embeddings of what is on the screen
        are computed all the same.
    """

    def __init__(
        self,
        names: Sequence[str],
        open_image: Callable[[int], ImageReader],
        on_predicted: Callable[[int, Prediction], None],
        on_model: Callable[[], None] = lambda: None,
        options: PredictOptions | None = None,
        budget: int = BUDGET,
        too_large: Collection[int] = (),
    ) -> None:
        self._too_large = frozenset(too_large)
        self._names, self._open = list(names), open_image
        self._on_predicted, self._on_model = on_predicted, on_model
        self._options, self._budget = options or PredictOptions(), budget
        self._changed = threading.Condition()
        self._load: Callable[[], LoadedModel] | None = None
        self._tiles: EmbeddingTiles | None = None
        self._predictions: Predictions | None = None
        self._error: InstsegError | None = None
        self._demands: list[tuple[int, Box]] = []
        self._view: tuple[int, Box | None] | None = None
        self._order: list[int] = []
        self._failures: dict[int, InstsegError] = {}
        self._disc_error: InstsegError | None = None
        self._disc_tried = 0.0
        self._step: _Step | None = None
        self._closed = self._paused = False
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """End after the tile that is being computed, and wait for that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def use(self, load: Callable[[], LoadedModel]) -> None:
        """Have another model take the place of the one in use, as soon as it is loaded."""
        with self._changed:
            self._load, self._error = load, None
            self._changed.notify_all()

    def look(self, image: int, box: Box | None) -> None:
        """Say what is on the screen."""
        with self._changed:
            if self._tiles is not None and (self._view is None or self._view[0] != image):
                self._tiles.touch(image)
            self._view = (image, box)
            self._changed.notify_all()

    def queue(self, order: Sequence[int]) -> None:
        """Say in which order images are worth labelling, those to come: the others are not segmented."""
        with self._changed:
            self._order = list(order)
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Leave the images that nobody looks at alone, or go on with them: a training needs the machine."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    @property
    def predictions(self) -> Predictions | None:
        """Those of the model in use; None until one is loaded."""
        return self._predictions

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded."""
        return self._load is not None

    @property
    def error(self) -> InstsegError | None:
        """Why the model could not be loaded; None while all is well."""
        return self._error

    @property
    def disc_error(self) -> InstsegError | None:
        """Why predictions cannot be kept; it is tried again now and then."""
        return self._disc_error

    def failure(self, image: int) -> InstsegError | None:
        """Return why the model cannot see an image; None where it can, or has not tried."""
        return self._failures.get(image)

    def share(self, image: int) -> float:
        """Return which share of an image's embeddings is there."""
        tiles = self._tiles
        return 0.0 if tiles is None else tiles.share(image)

    def window(self, image: int, box: Box) -> tuple[Embeddings, Box] | None:
        """Return the embeddings of a part of an image; wait for those of its tiles that are missing, and no others.

        Parameters
        ----------
        image : int
        box : Box

        Returns
        -------
        tuple of Embeddings and Box, or None
            Positions are those in the part, which is cut where it reaches beyond the image; None if there is no model
            yet.

        Raises
        ------
        InstsegError
            If the model cannot be loaded or cannot see this image.
        """
        demand = (image, box)
        with self._changed:
            self._demands.append(demand)
            self._changed.notify_all()
        try:
            while True:
                with self._changed:
                    tiles, error = self._tiles, self._error or self._failures.get(image)
                    if tiles is None and error is None:
                        return None
                    if error is not None or tiles is None:
                        raise error or InstsegError("there is no model")
                # Copies some megabytes, for which nobody is to wait.
                if (window := tiles.window(image, box)) is not None:
                    return window
                with self._changed:
                    if self._closed:
                        raise InstsegError("the server is ending")
                    # The worker tells after each step; a step between the two calls is made up for by the time.
                    self._changed.wait(0.05)
        finally:
            with self._changed:
                self._demands.remove(demand)

    def _run(self) -> None:
        while True:
            step = None
            with self._changed:
                while not self._closed and self._load is None and (step := self._next_step()) is None:
                    self._changed.wait(None if self._disc_error is None else _AGAIN)
                if self._closed:
                    return
                load = self._load
            if load is not None:
                self._take_model(load)
            elif step is not None:
                self._do(step)
            with self._changed:
                self._changed.notify_all()

    def _take_model(self, load: Callable[[], LoadedModel]) -> None:
        try:
            loaded = load()
        except Exception as error:  # Whatever it is, the page tells it, and labelling by hand goes on.
            with self._changed:
                if self._load is load:
                    self._load, self._error = None, as_instseg_error(error)
        else:
            with self._changed:
                if self._load is not load:
                    return
                self._load, self._error, self._step = None, None, None
                self._failures, self._disc_error = {}, None
                self._tiles = EmbeddingTiles(loaded.embedder, self._open, self._options, self._budget)
                self._predictions = loaded.predictions
        self._on_model()

    def _next_step(self) -> "_Step | None":
        """Return what is the most urgent, None where all is done; the lock is held."""
        tiles, predictions = self._tiles, self._predictions
        if tiles is None or predictions is None:
            return None
        for image, box in self._demands:
            if image not in self._failures and _is_missing(tiles, image, box):
                return _Step(image, box)
        viewed = None if self._view is None else self._view[0]
        if self._view is not None and viewed is not None and viewed not in self._failures:
            seen = self._view[1]
            # Of a view that does not fit, what comes would take the place of what went before for ever.
            if seen is not None and tiles.fits(viewed, seen) and _is_missing(tiles, viewed, seen):
                return _Step(viewed, seen)
            if (step := self._whole_image(tiles, predictions, viewed)) is not None:
                return step
        return None if self._paused else self._next_image(tiles, predictions, viewed)

    def _next_image(self, tiles: EmbeddingTiles, predictions: Predictions, viewed: int | None) -> "_Step | None":
        to_come = [image for image in self._order if image != viewed and image not in self._failures]
        if to_come and (step := self._whole_image(tiles, predictions, to_come[0])) is not None:
            return step
        for image in to_come:
            if self._wants_instances(predictions, image):
                return self._segmenting(image, keep=False)
        return None

    def _wants_instances(self, predictions: Predictions, image: int) -> bool:
        is_in_vain = self._disc_error is not None and time.monotonic() < self._disc_tried + _AGAIN
        if is_in_vain or image in self._too_large:
            return False
        return not predictions.has(self._names[image])

    def _whole_image(self, tiles: EmbeddingTiles, predictions: Predictions, image: int) -> "_Step | None":
        """Return a step towards the instances and all embeddings of an image."""
        if self._wants_instances(predictions, image):
            return self._segmenting(image, keep=True)
        plan = tiles.known_plan(image)
        # Of an image that does not fit, the tiles of the view would have to go.
        if plan is None or (tiles.fits(image) and _is_missing(tiles, image, None)):
            return _Step(image, None)
        return None

    def _segmenting(self, image: int, *, keep: bool) -> "_Step":
        """Return the image's segmentation, or its next step where it is the one that has begun."""
        if self._step is None or self._step.image != image:
            self._step = _Step(image, None, segments=True, keep=keep)
        return self._step

    def _do(self, step: "_Step") -> None:
        tiles, predictions = self._tiles, self._predictions
        if tiles is None or predictions is None:
            return
        try:
            if step.segments:
                self._segment(step, tiles, predictions)
            else:
                tiles.plan(step.image)
                tiles.keep(self._waited_for(tiles))
                missing = tiles.missing(step.image, step.box)
                if missing:
                    tiles.compute(step.image, missing[0])
        except Exception as error:  # Whatever it is, it is this image's.
            _LOGGER.debug("image %s", self._names[step.image], exc_info=True)
            with self._changed:
                self._failures[step.image] = as_instseg_error(error)
                self._step = None

    def _waited_for(self, tiles: EmbeddingTiles) -> list[tuple[int, TileIndex]]:
        with self._changed:
            demands = list(self._demands)
        return [
            (image, tile.index)
            for image, box in demands
            if (plan := tiles.known_plan(image)) is not None
            for tile in tiles_under(plan, box)
        ]

    def _segment(self, step: "_Step", tiles: EmbeddingTiles, predictions: Predictions) -> None:
        if step.steps is None:
            step.steps = segment_steps(tiles, step.image, self._open(step.image), keep=step.keep)
        try:
            next(step.steps)
        except StopIteration as end:
            with self._changed:
                self._step = None
            segmentation, traits = end.value
            try:
                prediction = predictions.write(self._names[step.image], segmentation, traits)
            except InstsegError as error:
                self._disc_error, self._disc_tried = error, time.monotonic()
                return
            self._disc_error = None
            if predictions is self._predictions and self._load is None:
                self._on_predicted(step.image, prediction)


class _Step:
    """What the thread does next: a tile of an image, or of the part of it in a box, or a step of its segmentation."""

    def __init__(self, image: int, box: Box | None, *, segments: bool = False, keep: bool = True) -> None:
        self.image, self.box, self.segments, self.keep = image, box, segments, keep
        self.steps: Generator[None, None, tuple[Segmentation, Traits]] | None = None


def _is_missing(tiles: EmbeddingTiles, image: int, box: Box | None) -> bool:
    missing = tiles.missing(image, box)
    return missing is None or bool(missing)
