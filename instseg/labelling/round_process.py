"""A round of training that is going on, as its parent sees it: the process, what it says, and how it ended."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instseg.errors import InstsegError
from instseg.io.atomic import ensure_dir
from instseg.labelling.training_process import TrainingOrder, order_line

COMMAND = (sys.executable, "-P", "-m", "instseg.labelling.training_process")
"""What is run: of the packages that are installed, whatever lies in the working folder."""

# Points of a curve in the page.
_POINTS = 200
# Seconds that a process is given to end by itself.
_PATIENCE = 20.0


class RunningRound:
    """A round that is going on: its process, and the thread that hears it.

    Parameters
    ----------
    number : int
        Of the round.
    minutes : float
        How long it is to train.
    images : sequence of str
        The names of the images that it learns from.
    order : TrainingOrder
    log : Path
        The file that takes what the process prints.
    on_end : callable
        Takes this round, in another thread, when its process has ended; it has to call `finish`.

    Attributes
    ----------
    validation : float or None
        The AP at IoU 0.5 on the images that the training kept aside, once it is known; None if it kept none.
    done : bool
        Whether all is over.

    Raises
    ------
    InstsegError
        If the process cannot be started.
    """

    def __init__(
        self,
        number: int,
        minutes: float,
        images: Sequence[str],
        order: TrainingOrder,
        log: Path,
        on_end: Callable[["RunningRound"], None],
    ) -> None:
        self.number, self.minutes, self.images = number, minutes, list(images)
        self.validation: float | None = None
        self.done = False
        self._state, self._phase = "running", "starting"
        self._message: str | None = None
        self._share, self._began, self._log = 0.0, time.monotonic(), log
        self._curve: list[tuple[int, float]] = []
        self._ended: dict[str, Any] | None = None
        self._failure: str | None = None
        self._stopping = False
        try:
            ensure_dir(log.parent)
            with log.open("wb") as errors:
                # A session of its own, so that Ctrl-C in the terminal does not end it before it has saved.
                self._process = subprocess.Popen(
                    COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
                )
            self._send(order_line(order))
        except OSError as error:
            raise InstsegError(f"the training cannot be started: {error}; check memory and space") from error
        self._thread = threading.Thread(target=self._hear, args=(on_end,), daemon=True)
        self._thread.start()

    def _send(self, text: str) -> None:
        stream = self._process.stdin
        if stream is not None:
            stream.write(text.encode())
            stream.flush()

    def ask_to_stop(self) -> None:
        """Ask the process to save and end."""
        self._stopping = True
        # It may be over already.
        with contextlib.suppress(OSError, ValueError):
            self._send("stop\n")

    def close(self) -> None:
        """End the process: by itself if it does so soon."""
        if self.done:
            return
        self.ask_to_stop()
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join()

    def _hear(self, on_end: Callable[["RunningRound"], None]) -> None:
        process = self._process
        if process.stdout is not None:
            for line in process.stdout:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._take(json.loads(line))
            process.stdout.close()
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        on_end(self)

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "phase":
            self._phase = str(event["phase"])
        elif kind == "step":
            self._phase, self._share = "training", float(event["progress"])
            self._curve.append((int(event["iteration"]), float(event["loss"])))
            if len(self._curve) > 2 * _POINTS:
                del self._curve[1::2]
        elif kind == "ended":
            self._ended, self.validation = dict(event), event["ap"] if event["aside"] else None
        elif kind == "failed":
            self._failure = str(event["message"])

    def outcome(self) -> tuple[str, str | None]:
        """Return the state of a round whose process has ended, and why its model is not taken; None if it is."""
        if self._ended is None:
            if self._failure is not None:
                return "failed", self._failure
            how = _how_it_ended(self._process.returncode)
            return "failed", f"the training {how}; the model before stays in use, and {self._log} has its last words"
        if self._ended["finished"]:
            return "done", None
        now, before = self._ended["ap"], self._ended["before"]
        if now is None or before is None or now < before:
            return "stopped", "stopped before it was better than the model before, which stays in use"
        return "stopped", None

    def finish(self, state: str, message: str | None) -> None:
        """Take what became of the round."""
        self._state, self._message, self._phase = state, message, state
        self.done = True

    def status(self) -> dict[str, Any]:
        """Return what `Rounds.status` returns."""
        curve = list(self._curve)
        phase = "stopping" if self._stopping and not self.done else self._phase
        return {
            "round": self.number,
            "state": self._state,
            "done": self.done,
            "phase": phase,
            "share": self._share,
            "seconds": round(time.monotonic() - self._began, 1),
            "of": 60 * self.minutes,
            "curve": [list(point) for point in curve[:: -(-len(curve) // _POINTS) or 1]],
            "measure": "loss",
            "images": len(self.images),
            "message": self._message,
        }


def _how_it_ended(code: int) -> str:
    if code == -9:
        return "was killed, perhaps as memory ran out"
    return f"was ended by signal {-code}" if code < 0 else f"ended without a result (exit code {code})"
