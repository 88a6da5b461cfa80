"""How `instseg train` shows what goes on: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from instseg.cli import terminal
from instseg.cli.options import terminal_text
from instseg.settings import TrainSettings
from instseg.training.events import CheckpointSaved, DataWarning, Event, PhaseStarted, StepDone, WeightsTransferred

_PLAIN_LINE_EVERY = 20.0
_TOTAL = 10_000


@contextmanager
def progress_display(train: TrainSettings) -> Iterator[Callable[[Event], None]]:
    """Give a function that shows events: as a live bar on a terminal, as a plain line now and then elsewhere."""
    if sys.stderr.isatty():
        with _bar(train) as show:
            yield show
    else:
        yield _PlainLines(train)


class _PlainLines:
    def __init__(self, train: TrainSettings) -> None:
        self._train = train
        self._next = 0.0
        self._start: tuple[float, float] | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, DataWarning):
            terminal.print_note(event.message)
        if isinstance(event, WeightsTransferred):
            terminal.print_note(_describe_transfer(event))
        if isinstance(event, CheckpointSaved):
            terminal.print_note(_describe_save(event))
        if isinstance(event, StepDone):
            self._show_step(event)

    def _show_step(self, event: StepDone) -> None:
        now = time.perf_counter()
        left = ""
        if self._start is None:
            # The first step also builds the graph and says nothing of the pace.
            self._start = now, event.progress
        elif event.progress > self._start[1]:
            pace = (now - self._start[0]) / (event.progress - self._start[1])
            left = f", {_format_clock(pace * (1 - event.progress))} left"
        if now >= self._next or event.progress >= 1:
            self._next = now + _PLAIN_LINE_EVERY
            count, losses = _format_iteration(event, self._train), _format_losses(event)
            terminal.print_note(f"iteration {count} {losses} {event.images_per_second:.1f} images/s{left}")


@contextmanager
def _bar(train: TrainSettings) -> Iterator[Callable[[Event], None]]:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    # Names of folders may look like markup.
    console = terminal.console(stderr=True, highlight=False, markup=False)
    # Two lines, as one with everything does not fit into 80 columns.
    progress = Progress(
        TextColumn("Training"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    second_line = Text()
    task = progress.add_task("", total=_TOTAL, count="", speed="")
    started = False
    with Live(Group(progress, second_line), console=console, refresh_per_second=4):

        def show(event: Event) -> None:
            nonlocal started
            if isinstance(event, DataWarning):
                console.print(terminal_text(event.message))
            if isinstance(event, WeightsTransferred):
                console.print(_describe_transfer(event))
            if isinstance(event, CheckpointSaved):
                console.print(_describe_save(event))
            if isinstance(event, PhaseStarted):
                second_line.plain = event.phase
            if not isinstance(event, StepDone):
                return
            speed = f"{event.images_per_second:.1f} images/s"
            # What came before the first step is no progress of this run, from which the time left is computed.
            update = progress.update if started else progress.reset
            count = _format_iteration(event, train)
            update(task, completed=round(_TOTAL * event.progress), count=count, speed=speed)
            started = True
            second_line.plain = _format_losses(event)

        yield show


def _describe_transfer(event: WeightsTransferred) -> str:
    changes = "; ".join(event.changes) or "all of them as they are"
    return f"Begins with the weights of {event.model}: {changes}"


def _describe_save(event: CheckpointSaved) -> str:
    scores = format_scores(event.scores)
    if event.best.iteration == event.iteration:
        return f"saved at iteration {event.iteration}: {scores}"
    return f"iteration {event.iteration}: {scores}; that of {event.best.iteration} stays, it is better"


def _format_iteration(event: StepDone, train: TrainSettings) -> str:
    return f"{event.iteration}/{train.iterations}" if train.minutes is None else str(event.iteration)


def _format_losses(event: StepDone) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in event.losses.items())


def format_scores(scores: dict[str, float]) -> str:
    """Return scores for a line, such as 'AP50 0.912, AP75 0.801'."""
    if not scores:
        return "nothing to measure, as the validation images hold no instance"
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def _format_clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
