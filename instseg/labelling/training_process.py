"""A training in a process of its own, which tells what it does and ends when it is told to or its parent is gone.

The parent writes one line of JSON, a `TrainingOrder`, to the process's standard input and holds it open: what comes
next, or its end, asks the training to save and end. The process writes a line of JSON for each event to its standard
output; what libraries print goes to its standard error.
"""

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instseg.errors import InstsegError

# Steps are told at most so often, in seconds.
_EVERY = 0.25
# So that what a person does in the meantime is answered first.
_NICENESS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOrder:
    """What a process is to train.

    Attributes
    ----------
    target, data : str
        The model directory, which is replaced, and the data folder.
    begin, before : str
        The model that the training begins with, and the one that is in use until it ends.
    settings : dict
        What else `instseg.train` takes: minutes or iterations, seed, channels.
    """

    target: str
    data: str
    begin: str
    before: str
    settings: dict[str, Any]


def main() -> None:
    """Do what the order on the standard input says."""
    # Not read ahead, so that what comes after the line is there for the thread that waits for it.
    with open(0, "rb", buffering=0, closefd=False) as orders:  # noqa: PTH123
        order = TrainingOrder(**json.loads(orders.readline()))
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as events:
        os.dup2(2, 1)
        os.nice(_NICENESS)
        stopped = threading.Event()
        threading.Thread(target=_wait, args=(stopped,), daemon=True).start()

        def tell(**event: Any) -> None:
            events.write(json.dumps(event) + "\n")

        try:
            train_order(order, tell, stopped.is_set)
        except InstsegError as error:
            tell(event="failed", message=str(error))
        except BrokenPipeError:
            # The parent is gone, and nobody will take the model.
            os._exit(1)


def _wait(stopped: threading.Event) -> None:
    """Wait for more on the standard input, or its end."""
    os.read(0, 1)
    stopped.set()


def train_order(order: TrainingOrder, tell: Callable[..., None], stop: Callable[[], bool]) -> None:
    """Train, and tell of it: events 'phase', 'step', 'note' and 'validated' on the way, and 'ended' at the end.

    Parameters
    ----------
    order : TrainingOrder
    tell : callable
        Takes `event`, the name, and what it has to say by keywords, JSON-ready.
    stop : callable
        Asked after every iteration whether to save and end.

    Raises
    ------
    InstsegError
        As `instseg.train` does.
    """
    from instseg.training.api import train
    from instseg.training.events import CheckpointSaved, DataWarning, Event, PhaseStarted, StepDone, WeightsTransferred

    tell(event="phase", phase="starting")
    last = 0.0

    def take(event: Event) -> None:
        nonlocal last
        if isinstance(event, StepDone):
            if event.progress < 1 and time.monotonic() - last < _EVERY:
                return
            last = time.monotonic()
            tell(event="step", iteration=event.iteration, loss=event.losses["loss"], progress=event.progress)
        elif isinstance(event, PhaseStarted):
            tell(event="phase", phase=event.phase)
        elif isinstance(event, CheckpointSaved):
            tell(event="validated", iteration=event.iteration, ap=event.scores.get("AP50"))
        elif isinstance(event, DataWarning):
            tell(event="note", message=event.message)
        elif isinstance(event, WeightsTransferred):
            tell(event="phase", phase="training")

    result = train(
        order.target, order.data, pretrained=order.begin, resume=False, progress=take, stop=stop, **order.settings
    )
    before = None
    if not result.finished:
        tell(event="phase", phase="comparing with the model before")
        before = validation_ap(order.before, Path(order.data), Path(order.target))
    tell(
        event="ended",
        finished=result.finished,
        iterations=result.iterations,
        seconds=result.seconds,
        ap=result.scores.get("AP50"),
        aside=bool(result.best_iteration) and _kept_images_aside(result.model),
        before=before,
    )


def _kept_images_aside(model: Path) -> bool:
    from instseg.models.config import read_training

    return bool(read_training(model).config.data.get("validated_apart", True))


def validation_ap(model: str, data: Path, trained: Path) -> float | None:
    """Return the AP at IoU 0.5 of a model on the images that another training was validated on.

    Returns
    -------
    float or None
        The mean over the images; None where nothing in them is labelled.
    """
    from instseg.evaluation.metrics import macro_average, score
    from instseg.inference.model import load
    from instseg.io.folders import find_pairs
    from instseg.io.pairs import read_pair
    from instseg.labels.regions import IGNORED
    from instseg.models.config import read_training

    held = set(read_training(trained).config.data["validation_images"])
    # In the precision of the validation that it is compared with.
    loaded, scores = load(model, precision="float32"), []
    for pair in find_pairs(data):
        if pair.name in held:
            image, truth = read_pair(pair, planes_as_channels=loaded.takes_planes_as_channels(None))
            if (truth != IGNORED).any():
                scores.append(score(truth, loaded.predict(image), [0.5]))
    return float(macro_average(scores).ap[0]) if scores else None


def order_line(order: TrainingOrder) -> str:
    """Return the line that the process expects."""
    return json.dumps(dataclasses.asdict(order)) + "\n"


if __name__ == "__main__":
    main()
