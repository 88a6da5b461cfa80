"""`instseg train`."""

import dataclasses
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from instseg.cli import terminal
from instseg.cli.model import Channels, find_model, require_channels
from instseg.cli.options import Given, settings_options
from instseg.errors import UsageError
from instseg.settings import NETWORKS, MetricLossSettings, ModelSettings, TrainSettings

if TYPE_CHECKING:
    from instseg.data.training import TrainingData
    from instseg.plan import Plan
    from instseg.strategy import StrategyName
    from instseg.train import Begun, Busy, Saved, Step

# Going on with other values of these is meaningful; all others belong to the model.
_CHANGEABLE = ("iterations", "minutes", "validation_every", "precision")
# Generated discs: what a model's settings say of its data, where they say nothing else.
_NO_SOURCE: dict[str, Any] = {"data": None, "val": None, "connected_components": False, "channels": None}
_PLAIN_LINE_EVERY = 20.0
_PARTS = 10_000


@settings_options(training=TrainSettings, model=ModelSettings, metric=MetricLossSettings)
def train(
    model_dir: Annotated[
        Path, typer.Argument(metavar="MODEL_DIR", help="Where the model is kept.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with images/ and labels/.", show_default="endlessly generated discs"),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Such a folder to validate on.", show_default="a share of --data"),
    ] = None,
    connected_components: Annotated[
        bool, typer.Option("--connected-components", help="Make each connected piece of a binary mask an instance.")
    ] = False,
    channels: Channels = None,
    network: Annotated[
        Literal["small", "large"] | None,
        typer.Option(
            help="Large takes nearly twice the time and learns more: for an hour and longer.", show_default="small"
        ),
    ] = None,
    begin_with: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="MODEL", help="Begin with the weights of this model.", show_default="random weights"
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option("--resume/--fresh", help="Go on with the model in MODEL_DIR, or replace it.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where curves and pictures go.", show_default="MODEL_DIR/report"),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of TensorFlow.", show_default="all cores")] = None,
    strategy: Annotated[
        Literal["auto", "one", "mirrored", "multi-worker"],
        typer.Option(
            help="Devices to learn on: one, all GPUs here, or all processes that TF_CONFIG names; auto: what there is."
        ),
    ] = "auto",
    *,
    training: Given,
    model: Given,
    metric: Given,
) -> None:
    """Train a model on your labelled images, or on generated discs.

    Ctrl-C saves the model after the running iteration; --resume goes on.
    """
    terminal.require_threads(threads)
    if val is not None and data is None and not resume:
        raise UsageError("--val is given without --data; give both, or neither to train on generated discs")
    if channels is not None and data is None and not resume:
        raise UsageError("--channels is given without --data; generated discs have one channel")
    if connected_components and data is None and not resume:
        raise UsageError("--connected-components is given without --data; generated discs have labels")
    require_channels(channels)
    if {"iterations", "minutes"} <= training.keys():
        raise UsageError("--iterations and --minutes both say when to end; give one of them")
    resuming = _resuming(model_dir, resume)
    if begin_with is not None and resuming:
        raise UsageError("--from begins a training and --resume goes on with one; give one of them")
    if network is not None:
        model = model | {"widths": NETWORKS[network]}
    if begin_with is not None:
        begin_with = find_model(begin_with)
        model, metric = _inherited(begin_with, model, metric)
    wish = _Wish(data, val, connected_components, channels, begin_with, training, model, metric)
    # Numbers out of their bounds are told before TensorFlow takes its seconds.
    for settings, given in ((TrainSettings, training), (ModelSettings, model), (MetricLossSettings, metric)):
        settings(**given)
    devices = _load_tensorflow(threads, strategy)
    if resuming:
        from instseg.plan import progress, stored_training

        before = stored_training(model_dir)
        plan, prepared = _prepare_resume(before.plan, wish, model_dir)
        if progress(plan.train, before.iteration, before.seconds) >= 1:
            has, option = f"{before.iteration:,} iterations", "--iterations"
            if plan.train.minutes is not None:
                has, option = f"{before.seconds / 60:.1f} minutes", "--minutes"
            terminal.note(f"{model_dir} has its {has}; give more by {option} to go on")
            return
    else:
        plan, prepared = _prepare_fresh(wish)
    _run(model_dir, plan, prepared, report or model_dir / "report", resuming, devices)


def _load_tensorflow(threads: int | None, name: "StrategyName") -> Any:
    """Load TensorFlow and return the strategy of the training."""
    found = []

    def make() -> None:
        from instseg.strategy import make_strategy

        found.append(make_strategy(name))

    with terminal.waiting("Loading TensorFlow"):
        from instseg.runtime import load_tensorflow

        load_tensorflow(threads, make)
    return found[0]


@dataclasses.dataclass(frozen=True)
class _Wish:
    """What the command line asks for."""

    data: Path | None
    val: Path | None
    connected_components: bool
    channels: str | None
    begin_with: Path | None
    training: Given
    model: Given
    metric: Given


def _resuming(model_dir: Path, resume: bool | None) -> bool:
    from instseg.store import current_generation, read_settings, require_resumable

    holds_model = current_generation(model_dir) is not None
    if resume:
        read_settings(model_dir)
        require_resumable(model_dir)
        return True
    if holds_model and resume is None:
        raise UsageError(f"{model_dir} already holds a model; add --resume to go on with it, or --fresh to replace it")
    return False


def _inherited(begin_with: Path, model: Given, metric: Given) -> tuple[Given, Given]:
    """Add to what was asked for what a network has in common with the one that it begins with."""
    from instseg.plan import stored_training

    before = stored_training(begin_with).plan
    if tuple(model.get("widths", before.model.widths)) != before.model.widths:
        raise UsageError(
            f"--network is another one than that of {begin_with}; leave it out, or begin with a model of that network"
        )
    same = {name: getattr(before.model, name) for name in ("loss", "widths")}
    if model.get("loss", before.model.loss) == before.model.loss:
        same["embeddings"] = before.model.embeddings
        if before.model.loss == "metric":
            metric = before.metric.to_dict() | metric
    return same | model, metric


def _prepare_fresh(wish: _Wish) -> "tuple[Plan, TrainingData]":
    from instseg.plan import Plan, fitting_clustering, stored_training

    training = TrainSettings(**wish.training)
    loss = ModelSettings(**wish.model).loss
    if wish.metric and loss != "metric":
        names = ", ".join("--" + name.replace("_", "-") for name in wish.metric)
        raise UsageError(f"{names} belong to --loss metric; add it, or leave them out")
    metric = MetricLossSettings(**wish.metric)
    source = _source(wish)
    begin = None if wish.begin_with is None else stored_training(wish.begin_with).plan.model
    prepared = _load(source, training, None if begin is None else begin.familiar_scale)
    model = ModelSettings(
        **wish.model,
        channels=prepared.channels,
        channel_choice=wish.channels,
        classes=1 + max(1, len(prepared.class_names)),
        class_names=prepared.class_names,
        diameter=prepared.diameters.typical,
        smallest_diameter=prepared.diameters.smallest,
        largest_diameter=prepared.diameters.largest,
        scale=prepared.scale,
    )
    plan = Plan(
        model=model,
        train=training,
        metric=metric,
        clustering=fitting_clustering(model, metric),
        data={**prepared.description, "source": _anywhere(source)},
        begin_with=None if wish.begin_with is None else str(wish.begin_with.resolve()),
    )
    return plan, prepared


def _prepare_resume(before: "Plan", wish: _Wish, model_dir: Path) -> "tuple[Plan, TrainingData]":
    from instseg.plan import fitting_clustering

    if wish.model.get("widths", before.model.widths) != before.model.widths:
        raise UsageError(f"--network is another one than that of {model_dir}; leave it out, or give --fresh")
    groups = ((before.train, wish.training), (before.model, wish.model), (before.metric, wish.metric))
    for stored, given in groups:
        for name, value in given.items():
            if name not in _CHANGEABLE and getattr(stored, name) != value:
                option = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{option} is {value}, but {model_dir} was trained with {getattr(stored, name)}; "
                    "leave it out to go on, or give --fresh to begin anew"
                )
    # A number of iterations takes the place of minutes that the training was begun with.
    end: dict[str, Any] = {"minutes": None} if "iterations" in wish.training else {}
    training = dataclasses.replace(before.train, **end, **wish.training)
    known = dict(before.data.get("source") or {})
    if not known and wish.data is None:
        raise UsageError(f"{model_dir} does not say what it was trained on; give --data DIR to go on")
    source = _NO_SOURCE | known | {name: value for name, value in _source(wish).items() if value}
    if source["data"] is None and (source["val"] is not None or source["connected_components"]):
        raise UsageError("--val and --connected-components go with --data; give it, too")
    if wish.channels is not None and wish.channels != before.model.channel_choice:
        had = f"--channels {before.model.channel_choice}" if before.model.channel_choice else "all channels"
        raise UsageError(
            f"--channels is {wish.channels}, but {model_dir} was trained on {had}; leave it out, or give --fresh"
        )
    held = tuple(before.data.get("validation_images") or ())
    prepared = _load(source, training, lambda diameter: before.model.scale, held)
    if prepared.channels != before.model.channels:
        raise UsageError(
            f"the images have {prepared.channels} channels, but {model_dir} was trained on {before.model.channels}; "
            "convert them, or train into a new directory"
        )
    if prepared.class_names != before.model.class_names:
        had, has = (", ".join(names) or "none" for names in (before.model.class_names, prepared.class_names))
        raise UsageError(
            f"the classes are {has}, but {model_dir} was trained on {had}; mend them, or train into a new directory"
        )
    data = {**prepared.description, "source": _anywhere(source)}
    # What was tuned for the state before is tuned anew at the end.
    clustering = fitting_clustering(before.model, before.metric)
    return dataclasses.replace(before, train=training, data=data, clustering=clustering), prepared


def _source(wish: _Wish) -> dict[str, Any]:
    """Say where the data come from, in a form that the model's settings file can keep for --resume."""
    return {
        "data": None if wish.data is None else str(wish.data),
        "val": None if wish.val is None else str(wish.val),
        "connected_components": wish.connected_components,
        "channels": wish.channels,
    }


def _anywhere(source: dict[str, Any]) -> dict[str, Any]:
    """Return a source that is found from every working directory."""
    paths = {name: str(Path(source[name]).resolve()) for name in ("data", "val") if source[name] is not None}
    return {**source, **paths}


def _load(
    source: dict[str, Any],
    training: TrainSettings,
    scale: Callable[[float], float] | None,
    held: tuple[str, ...] = (),
) -> "TrainingData":
    from instseg.data.training import disc_data, folder_data

    if source["data"] is None:
        return disc_data(training)
    val = source["val"]
    with terminal.counting("Reading images") as count:
        return folder_data(
            Path(source["data"]),
            training,
            validation=None if val is None else Path(val),
            connected_components=source["connected_components"],
            channels=source.get("channels"),
            scale=scale,
            held=held,
            count=count,
        )


def _run(model_dir: Path, plan: "Plan", prepared: "TrainingData", report: Path, resuming: bool, strategy: Any) -> None:
    from instseg.train import Saved, Step
    from instseg.train import train as learn

    saved: Saved | None = None
    over = 0.0
    with _stopping() as stop, _showing(plan.train) as show:
        for event in learn(model_dir, plan, prepared, resume=resuming, report=report, stop=stop, strategy=strategy):
            show(event)
            if isinstance(event, Saved):
                saved = event
            elif isinstance(event, Step):
                over = event.progress
    if saved is None:
        return
    iterations = f"{saved.iteration:,} iterations"
    if saved.kept.iteration != saved.iteration:
        iterations += f", best after {saved.kept.iteration:,}"
    scores = _scores(saved.kept.scores)
    typer.echo(f"{model_dir}: {iterations}, {scores} on {_images(len(saved.kept.highest))}")
    if over < 1:
        where = shlex.quote(str(model_dir))
        if report != model_dir / "report":
            where += f" --report {shlex.quote(str(report))}"
        goal = _goal(plan.train)
        terminal.note(f"Stopped before its end. Go on with: instseg train {where} --resume {goal}")
    else:
        terminal.note(f"Segment images with: instseg predict {shlex.quote(str(model_dir))} IMAGE --out labels.png")


def _images(count: int) -> str:
    return "1 validation image" if count == 1 else f"{count} validation images"


def _goal(train: TrainSettings) -> str:
    return f"--iterations {train.iterations}" if train.minutes is None else f"--minutes {train.minutes:g}"


@contextmanager
def _stopping() -> Iterator[Any]:
    """Have the first Ctrl-C or SIGTERM ask the training to save and end, the second end it at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del frame
        if asked:
            raise KeyboardInterrupt
        asked = True
        terminal.note(f"{signal.Signals(number).name}: saving after this iteration; once more ends at once, unsaved")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _showing(train: TrainSettings) -> Iterator[Any]:
    """Show events as a live bar on a terminal, as a plain line now and then elsewhere."""
    if sys.stderr.isatty():
        with _bar(train) as show:
            yield show
    else:
        yield _PlainLines(train)


def _of_all(event: "Step", train: TrainSettings) -> str:
    return f"{event.iteration}/{train.iterations}" if train.minutes is None else str(event.iteration)


class _PlainLines:
    def __init__(self, train: TrainSettings) -> None:
        self._train = train
        self._next = 0.0
        self._start: tuple[float, float] | None = None

    def __call__(self, event: "Begun | Step | Saved | Busy") -> None:
        from instseg.train import Begun, Saved, Step

        if isinstance(event, Begun):
            terminal.note(_begun(event))
        if isinstance(event, Saved):
            terminal.note(_saved(event))
        if not isinstance(event, Step):
            return
        now = time.perf_counter()
        left = ""
        if self._start is None:
            # The first step also builds the graph and says nothing of the pace.
            self._start = now, event.progress
        elif event.progress > self._start[1]:
            pace = (now - self._start[0]) / (event.progress - self._start[1])
            left = f", {_clock(pace * (1 - event.progress))} left"
        if now >= self._next or event.progress >= 1:
            self._next = now + _PLAIN_LINE_EVERY
            terminal.note(
                f"iteration {_of_all(event, self._train)} {_losses(event)} {event.images_per_second:.1f} images/s{left}"
            )


@contextmanager
def _bar(train: TrainSettings) -> Iterator[Any]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from instseg.train import Begun, Busy, Saved, Step

    # Names of folders may look like markup.
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    # Two lines, as one with everything does not fit into 80 columns.
    progress = Progress(
        TextColumn("Training"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    losses = Text()
    task = progress.add_task("", total=_PARTS, count="", speed="")
    started = False
    with Live(Group(progress, losses), console=console, refresh_per_second=4):

        def show(event: "Begun | Step | Saved | Busy") -> None:
            nonlocal started
            if isinstance(event, Begun):
                console.print(_begun(event))
            if isinstance(event, Saved):
                console.print(_saved(event))
            if isinstance(event, Busy):
                losses.plain = event.what
            if not isinstance(event, Step):
                return
            speed = f"{event.images_per_second:.1f} images/s"
            # What came before the first step is no progress of this run, from which the time left is told.
            tell = progress.update if started else progress.reset
            tell(task, completed=round(_PARTS * event.progress), count=_of_all(event, train), speed=speed)
            started = True
            losses.plain = _losses(event)

        yield show


def _begun(event: "Begun") -> str:
    how = "; ".join(event.changes) or "all of them as they are"
    return f"Begins with the weights of {event.model}: {how}"


def _losses(event: "Step") -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in event.losses.items())


def _saved(event: "Saved") -> str:
    if event.kept.iteration == event.iteration:
        return f"saved at iteration {event.iteration}: {_scores(event.scores)}"
    return f"iteration {event.iteration}: {_scores(event.scores)}; that of {event.kept.iteration} stays, it is better"


def _scores(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
