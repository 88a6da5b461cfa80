"""The model's instances of the images of a folder: made in the background, kept on the disc, a folder a round.

FOLDER/.labelling/predictions/ROUND/model          which model it was, and how it saw the images
FOLDER/.labelling/predictions/ROUND/NAME.png       the labels, or .tif beyond 65,535 instances
FOLDER/.labelling/predictions/ROUND/NAME.json      scores and traits, written last: then the labels are complete
FOLDER/.labelling/predictions/ROUND/NAME.taken     the instances are in the document, where they may have changed
"""

import hashlib
import json
import shutil
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.inference.options import PredictOptions
from instseg.inference.segmentation import Assembler, Segmentation
from instseg.io.atomic import atomic_write, ensure_dir, write_errors
from instseg.io.folders import LABELLING
from instseg.io.label_images import MAX_PNG_LABEL, read_label_values, write_labels
from instseg.io.source import ImageReader, whole_box
from instseg.labelling.embedding_tiles import EmbeddingTiles
from instseg.labelling.ordering import Traits, describe
from instseg.tiling.grid import Box

PREDICTIONS = "predictions"

# Without a suffix, as an image may be called "model".
_MODEL_FILE = "model"
# Traits are those of at most so many rows and columns.
_TRAIT_SIDE = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model found in an image.

    Attributes
    ----------
    labels : (H, W) int32
        0 is background, instances are 1..N.
    scores : (N,) float64
        How sure the model is of each.
    classes : tuple of str
        The class of each, empty where the model knows none.
    """

    labels: NDArray[np.int32]
    scores: NDArray[np.float64]
    classes: tuple[str, ...] = ()


class Predictions:
    """The predictions of one model, on the disc. Those of another that has had this round's place are removed.

    Parameters
    ----------
    folder : Path
        The folder that is labelled.
    round_number : int
    model : dict
        What tells this model, and how it sees images, from others: JSON-ready.

    Raises
    ------
    InstsegError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, round_number: int, model: dict[str, Any]) -> None:
        self._folder = folder / LABELLING / PREDICTIONS / str(round_number)
        text = json.dumps(model, sort_keys=True)
        if _read_text(self._folder / _MODEL_FILE) != text:
            shutil.rmtree(self._folder, ignore_errors=True)
            ensure_dir(self._folder)
            _write_text(self._folder / _MODEL_FILE, text)
        found = {path.stem: stored for path in self._folder.glob("*.json") if (stored := _read_summary(path))}
        self._traits = {name: traits for name, (traits, _) in found.items()}
        self._counts = {name: count for name, (_, count) in found.items()}

    @property
    def traits(self) -> dict[str, Traits]:
        """What is known of each image that has been segmented, by name."""
        return dict(self._traits)

    def has(self, name: str) -> bool:
        """Return whether an image has been segmented."""
        return _file_name(name) in self._traits

    def traits_of(self, name: str) -> Traits | None:
        """Return what is known of an image, None before it is segmented."""
        return self._traits.get(_file_name(name))

    def count(self, name: str) -> int:
        """Return how many instances an image has, 0 before it is segmented."""
        return self._counts.get(_file_name(name), 0)

    def read(self, name: str, shape: tuple[int, int]) -> Prediction | None:
        """Return the instances of an image of H rows and W columns.

        None where it has not been segmented, its size has changed since, or what is stored is damaged: then it is to be
        segmented again.
        """
        name = _file_name(name)
        if name not in self._traits:
            return None
        prediction = _read_prediction(self._folder, name)
        if prediction is None or prediction.labels.shape != shape:
            del self._traits[name]
            return None
        return prediction

    def is_taken(self, name: str) -> bool:
        """Return whether a document has the instances of an image already."""
        return (self._folder / f"{_file_name(name)}.taken").exists()

    def take(self, name: str) -> None:
        """Note that a document has the instances of an image.

        Raises
        ------
        InstsegError
            If the disc is full.
        """
        with write_errors(self._folder):
            (self._folder / f"{_file_name(name)}.taken").touch()

    def write(self, name: str, segmentation: Segmentation, traits: Traits) -> Prediction:
        """Keep the instances of an image, and return them.

        Raises
        ------
        InstsegError
            If the disc is full.
        """
        name = _file_name(name)
        labels, instances = segmentation.labels, segmentation.instances
        scores = np.zeros(0) if instances is None else instances.score
        classes = () if instances is None else tuple(instances.classes)
        suffix = ".png" if int(labels.max()) <= MAX_PNG_LABEL else ".tif"
        write_labels(self._folder / f"{name}{suffix}", labels)
        stored = {
            "suffix": suffix,
            "scores": [round(float(score), 4) for score in scores],
            "classes": classes,
            "traits": traits.to_dict(),
        }
        _write_text(self._folder / f"{name}.json", json.dumps(stored))
        self._traits[name], self._counts[name] = traits, len(scores)
        return Prediction(labels, scores, classes)


def earlier_prediction(folder: Path, number: int, name: str, shape: tuple[int, int]) -> NDArray[np.int32] | None:
    """Return the labels (H, W) that the model of the last round before one found in an image; None if not known."""
    rounds = [int(path.name) for path in (folder / LABELLING / PREDICTIONS).glob("*") if path.name.isdecimal()]
    before = max((one for one in rounds if one < number), default=None)
    if before is None:
        return None
    stored = _read_prediction(folder / LABELLING / PREDICTIONS / str(before), _file_name(name))
    return None if stored is None or stored.labels.shape != shape else stored.labels


def segment_steps(
    tiles: EmbeddingTiles, image: int, reader: ImageReader, *, keep: bool
) -> Generator[None, None, tuple[Segmentation, Traits]]:
    """Segment an image, a tile a step, so that what somebody waits for can be done between two.

    Parameters
    ----------
    tiles : EmbeddingTiles
        What embeds them.
    image : int
    reader : ImageReader
    keep : bool
        Whether the embeddings are kept, as the image is in work.

    Returns
    -------
    tuple of Segmentation and Traits

    Raises
    ------
    UsageError, InstsegError
        As `EmbeddingTiles.plan` does.
    """
    plan = tiles.plan(image)
    options = PredictOptions(measure=True)
    assembler = Assembler(plan, reader, options, tiles.embedder.objective.positions)
    for tile in plan.grid:
        yield
        assembler.add(tile, tiles.compute(image, tile, keep=keep))
    result = assembler.finish()
    if result.instances is None:
        raise ValueError("instances are measured, as the options ask for it")
    return result, describe(_sample(reader), result.instances, reader.shape[0] * reader.shape[1])


def _sample(reader: ImageReader) -> NDArray[Any]:
    """Return some pixels (h, w, C) of an image: of one in memory every n-th, of a streamed one its middle."""
    box = whole_box(reader)
    if reader.streamed:
        top, left = max(0, (box.bottom - _TRAIT_SIDE) // 2), max(0, (box.right - _TRAIT_SIDE) // 2)
        return reader.read(Box(top, left, top + _TRAIT_SIDE, left + _TRAIT_SIDE).intersection(box))
    step = -(-max(box.shape) // _TRAIT_SIDE)
    pixels = reader.read(box)[::step, ::step]
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _file_name(name: str) -> str:
    """Return a name that a file system takes, whatever an image is called."""
    if name and "/" not in name and "\0" not in name and name not in (".", "..") and len(name.encode()) < 200:
        return name
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]


def _read_prediction(folder: Path, name: str) -> Prediction | None:
    with suppress(InstsegError, OSError, ValueError, KeyError, TypeError):
        stored = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        labels = read_label_values(folder / f"{name}{stored['suffix']}")
        return Prediction(labels, np.asarray(stored["scores"], np.float64), tuple(map(str, stored["classes"])))
    return None


def _read_summary(path: Path) -> tuple[Traits, int] | None:
    """Return the traits of an image and the number of its instances; None where they cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Traits.from_dict(stored["traits"]), len(stored["scores"])
    return None


def _read_text(path: Path) -> str | None:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8")
    return None


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
