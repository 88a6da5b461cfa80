"""Rounds of training on what is labelled so far, and how good the model of each round was on what came after it.

A round trains in a process of its own, beside the model in use, whose place the new model takes when the round has
ended well. Each round begins with the model that the labelling began with, and learns from all that is labelled, so
that nothing stays of what a round learnt from labels that were wrong and are corrected, and no image that a training
keeps aside was learnt from before. To begin with the model of the round before gained 0.020 and 0.005 in AP at IoU 0.5
after the second round (cells in phase contrast, two beginnings), less than two draws of images differ by.

How good a model is shows without labelling anything for it: when an image is accepted, what the model in use had found
in it before anybody touched it is compared with what is accepted. No round learns from an image before the image has
counted for the model that was there. Beside it stands the model of the round before, on the same images, so that the
difference is not that of easier images.

These figures are too high by as much as people leave what they are shown: labels that began as predictions keep the
prediction's outlines wherever a person finds them good enough, so that the IoU of matched instances is the model's own
opinion, and an object that neither the model nor the person saw counts for nobody. AP at IoU 0.5 suffers little from
outlines, but is of no use to compare with the AP of labels that were drawn from nothing. The model whose prediction was
corrected gains more by this than the one of the round before, whose outlines nobody started from: the gain of a round
is an upper bound, too. Where images are taken in the order of what is worth labelling, they are harder than usual,
which lowers both alike.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, check_parameter
from instseg.io.atomic import atomic_write, ensure_dir
from instseg.io.folders import LABELLING, Pair, find_pairs
from instseg.io.formats import read_header
from instseg.io.json_text import parse_json
from instseg.labelling.round_model import MODEL, begin_beside, recover, replace_model
from instseg.labelling.round_process import RunningRound
from instseg.labelling.training_process import TrainingOrder
from instseg.models.builtin import find_model

STATE_FILE, LOG_FILE = "rounds.json", "training.log"

_IOU = 0.5
_LONGEST = 24 * 60


class Rounds:
    """The rounds of training of a folder.

    Parameters
    ----------
    folder : Path
        The folder that is labelled; what is kept goes to `folder/.labelling`.
    begin : path-like or str
        The model that the labelling begins with: a directory, or the name of a model in the package.
    on_change : callable
        Is called, from another thread, when a round has ended, well or not.

    Raises
    ------
    InstsegError
        If what is kept of earlier rounds cannot be read.
    """

    def __init__(self, folder: Path, begin: Path | str, on_change: Callable[[], None] = lambda: None) -> None:
        self._folder, self._begin, self._on_change = folder, begin, on_change
        self._kept = folder / LABELLING
        self._lock = threading.Lock()
        self._rounds, self._accepted = _read_state(self._kept / STATE_FILE)
        recover(folder)
        self._running: RunningRound | None = None

    @property
    def number(self) -> int:
        """The round that the model in use is of; 0 is the model that the labelling began with."""
        with self._lock:
            return self._number()

    def _number(self) -> int:
        return max((one["round"] for one in self._rounds if one["in_use"]), default=0)

    @property
    def model(self) -> Path:
        """The directory of the model in use."""
        return self._folder / MODEL if self.number else find_model(Path(self._begin))

    @property
    def running(self) -> bool:
        """Whether a round is going on."""
        running = self._running
        return running is not None and not running.done

    def start(self, minutes: float, **settings: Any) -> None:
        """Begin a round, and return at once.

        Parameters
        ----------
        minutes : float
            How long to train.
        **settings
            What else `instseg.train` takes, such as `channels`; None is as if it were not given.

        Raises
        ------
        UsageError
            If the number of minutes is not above 0, or more than a day.
        InstsegError
            If a round is going on, nothing is labelled, or the process cannot be started.
        """
        check_parameter(0 < minutes <= _LONGEST, "minutes", minutes, f"above 0 and at most {_LONGEST}")
        with self._lock:
            if self.running:
                raise InstsegError("a round of training is going on; wait for it, or stop it")
            pairs = find_pairs(self._folder)
            given = {name: value for name, value in settings.items() if value is not None}
            number = 1 + max((one["round"] for one in self._rounds), default=0)
            if not self._number() and (self._folder / MODEL).exists():
                raise InstsegError(
                    f"{self._folder / MODEL} is there and is of no round of training; rename it, so that the model of "
                    "the rounds can be kept there"
                )
            order = TrainingOrder(
                target=str(begin_beside(self._folder)),
                data=str(self._folder),
                begin=str(find_model(Path(self._begin))),
                before=str(self._folder / MODEL if self._number() else find_model(Path(self._begin))),
                settings={"minutes": minutes, "seed": number, "channels": _channels(pairs), **given},
            )
            names = [pair.name for pair in pairs]
            self._running = RunningRound(number, minutes, names, order, self._kept / LOG_FILE, self._end)

    def stop(self) -> None:
        """Ask the round that is going on to end, and return at once."""
        if (running := self._running) is not None:
            running.ask_to_stop()

    def close(self) -> None:
        """End the round that is going on, and wait for that."""
        if (running := self._running) is not None:
            running.close()

    def status(self) -> dict[str, Any] | None:
        """Return what the last round that was started does, JSON-ready; None before the first.

        Returns
        -------
        dict
            `round`, its number; `state`, one of 'running', 'done', 'stopped' and 'failed'; `done`, whether it is over;
            `phase`, in words; `share` of it that is over, 0..1; `seconds` so far, `of` so many; `curve`, pairs of
            iteration and loss, `measure`, what that is; `images`, how many it learns from; `message`, a line or None.
        """
        running = self._running
        return None if running is None else running.status()

    def record(
        self,
        name: str,
        truth: NDArray[np.integer],
        predicted: NDArray[np.integer],
        before: NDArray[np.integer] | None = None,
    ) -> None:
        """Take an image that was accepted, once; one that a round has learnt from does not count.

        Parameters
        ----------
        name : str
            Of the image.
        truth : (H, W) integers
            Its labels; 0 is background, and pixels of `IGNORED` do not count.
        predicted : (H, W) integers
            What the model in use had found there before anything was corrected.
        before : (H, W) integers, optional
            What the model of the round before had found.

        Raises
        ------
        InstsegError
            If the labels differ in size, or the state cannot be written.
        """
        with self._lock:
            number = self._number()
            if name in self._accepted or name in self._learnt_until(number):
                return
            self._accepted[name] = {
                "round": number,
                "ap": _ap(truth, predicted),
                "before": _ap(truth, before) if before is not None and number else None,
            }
            self._write()

    def _learnt_until(self, number: int) -> set[str]:
        """Return the images that rounds up to one have learnt from."""
        return {name for one in self._rounds if one["in_use"] and one["round"] <= number for name in one["images"]}

    def ap(self, name: str) -> float | None:
        """Return the AP at IoU 0.5 that the model in use had in an image when it was accepted; None if not known."""
        found = self._accepted.get(name)
        return None if found is None else found["ap"]

    def summary(self) -> list[dict[str, Any]]:
        """Return all rounds, JSON-ready.

        Returns
        -------
        list of dict
            Of each `round`, its number, with 0 the model that the labelling began with where images were accepted by
            it: `images`, how many it learnt from; `minutes`; `state`, one of 'begin', 'done', 'stopped' and 'failed';
            `message`, a line or None; `validation`, the AP at IoU 0.5 on the images that the training kept aside;
            `ap_after`, the mean AP at IoU 0.5 on the images that were accepted after it, `scored_on`, how many these
            are; and on those of them for which it is known, `ap_before`, that of the model of the round before, and
            `gained`, by how much the round is above.
        """
        with self._lock:
            first = {"round": 0, "images": [], "minutes": 0.0, "state": "begin", "message": None, "validation": None}
            rounds = (
                [first, *self._rounds] if any(not one["round"] for one in self._accepted.values()) else self._rounds
            )
            return [self._summarise(one) for one in rounds]

    def _summarise(self, one: Mapping[str, Any]) -> dict[str, Any]:
        scored = [found for found in self._accepted.values() if found["round"] == one["round"]]
        both = [found for found in scored if found["before"] is not None]
        shown = {name: one[name] for name in ("round", "minutes", "state", "message", "validation")}
        return {
            **shown,
            "images": len(one["images"]),
            "ap_after": _mean([found["ap"] for found in scored]),
            "scored_on": len(scored),
            "ap_before": _mean([found["before"] for found in both]),
            "gained": _mean([found["ap"] - found["before"] for found in both]),
        }

    def _end(self, running: "RunningRound") -> None:
        """Take the model of a round that has ended, if it ended well, and note the round."""
        with self._lock:
            state, message = running.outcome()
            if state in ("done", "stopped") and message is None:
                try:
                    replace_model(self._folder)
                except (InstsegError, OSError) as error:
                    state, message = "failed", str(error)
            in_use = state in ("done", "stopped") and message is None
            running.finish(state, message)
            self._rounds.append(
                {
                    "round": running.number,
                    "images": running.images,
                    "minutes": running.minutes,
                    "state": state,
                    "message": message,
                    "in_use": in_use,
                    "validation": running.validation,
                }
            )
            with contextlib.suppress(InstsegError):
                # The model is in its place; without a note of it, it would be taken for somebody else's.
                self._write()
        self._on_change()

    def _write(self) -> None:
        ensure_dir(self._kept)
        text = json.dumps({"rounds": self._rounds, "accepted": self._accepted}, indent=1)
        with atomic_write(self._kept / STATE_FILE) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def _channels(pairs: Sequence[Pair]) -> str | None:
    """Return a choice of channels by which gray and colour images can be learnt together; None where none is needed."""
    counts = {read_header(pair.image).channels for pair in pairs}
    return "rgb" if counts == {1, 3} else None


def _ap(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> float:
    from instseg.evaluation.metrics import score

    return round(float(score(truth, predicted, [_IOU]).ap[0]), 4)


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _read_state(path: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    try:
        if not os.path.lexists(path):
            return [], {}
        stored = parse_json(path.read_text(encoding="utf-8"))
        rounds = [
            {name: one[name] for name in ("round", "images", "minutes", "state", "message", "in_use", "validation")}
            for one in stored["rounds"]
        ]
        accepted = {
            str(name): {"round": int(one["round"]), "ap": float(one["ap"]), "before": one["before"]}
            for name, one in stored["accepted"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstsegError(f"cannot read {path}: {error}; remove it to forget the rounds of training") from error
    return rounds, accepted
