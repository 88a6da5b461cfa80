"""`instseg train`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from instseg.cli import terminal
from instseg.cli.model import Channels, find_model, parse_spacing
from instseg.cli.options import Overrides, settings_options
from instseg.cli.signals import stop_on_signals
from instseg.settings import MetricLossSettings, ModelSettings, TrainSettings

if TYPE_CHECKING:
    from instseg.training.api import TrainingResult
    from instseg.training.prepare import PreparedTraining


@settings_options(training=TrainSettings, model=ModelSettings, metric=MetricLossSettings)
def train(
    model_dir: Annotated[
        Path, typer.Argument(metavar="MODEL_DIR", help="Where the model is kept.", show_default=False)
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder with images/ and labels/; several if given more than once.",
            show_default="endlessly generated discs",
        ),
    ] = None,
    val: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Such folders to validate on.", show_default="a share of --data"),
    ] = None,
    connected_components: Annotated[
        bool, typer.Option("--connected-components", help="Make each connected piece of a binary mask an instance.")
    ] = False,
    channels: Channels = None,
    ignore_label: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Leave out pixels of this value in label images, such as 255; with --loss metric 0, too.",
            show_default=False,
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="Z,Y,X",
            help="Size of a voxel of volumes along Z, Y and X, in any unit.",
            show_default="what the files say",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="<tiny|small|large|CHANNELS>",
            help="Tiny takes a third of the time and finds nearly as much. Large takes nearly twice the time and "
            "learns more: for an hour and longer. CHANNELS are those of the network's levels, such as 32,64,128.",
            show_default="small",
        ),
    ] = None,
    pretrained: Annotated[
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
    training: Overrides,
    model: Overrides,
    metric: Overrides,
) -> None:
    """Train a model on your labelled images, or on generated discs.

    Ctrl-C saves the model after the running iteration; --resume goes on.
    """
    from instseg.cli.train_progress import progress_display
    from instseg.training.api import load_strategy, run_training
    from instseg.training.prepare import TrainingRequest, check_request, prepare_training

    terminal.check_threads(threads)
    request = check_request(
        TrainingRequest(
            model_dir=model_dir,
            data=tuple(data or ()),
            val=tuple(val or ()),
            connected_components=connected_components,
            channels=channels,
            ignore_label=ignore_label,
            spacing=parse_spacing(spacing),
            network=network,
            pretrained=pretrained if pretrained is None or resume else find_model(pretrained),
            resume=resume,
            train=training,
            model=model,
            metric=metric,
        )
    )
    with terminal.spinner("Loading TensorFlow"):
        devices = load_strategy(strategy, threads, quiet=True)
    with terminal.progress_bar("Reading images") as count:
        prepared = prepare_training(request, count)
    if prepared.finished:
        _print_finished(prepared)
        return
    for line in prepared.data.description.get("shares", ()):
        terminal.print_note(line)
    with stop_on_signals() as stop, progress_display(prepared.config.train) as show:
        result = run_training(prepared, report=report, strategy=devices, progress=show, stop=stop)
    _print_result(result, prepared)


def _print_finished(prepared: "PreparedTraining") -> None:
    """Say that a resume has nothing to do."""
    taken, option = f"{prepared.iteration:,} iterations", "iterations"
    if prepared.config.train.minutes is not None:
        taken, option = f"{prepared.seconds / 60:.1f} minutes", "minutes"
    terminal.print_note(f"{prepared.model_dir} has its {taken}; give more by `{option}` to go on")


def _print_result(result: "TrainingResult", prepared: "PreparedTraining") -> None:
    from instseg.cli.train_progress import format_scores

    # Of several processes, those that do not validate have nothing to say.
    if not result.best_iteration:
        return
    iterations = f"{result.iterations:,} iterations"
    if result.best_iteration != result.iterations:
        iterations += f", best after {result.best_iteration:,}"
    kind = "" if prepared.data.validated_apart else ", all learnt from: expect less on others"
    images = "1 validation image" if result.validation_images == 1 else f"{result.validation_images} validation images"
    on_images = f" on {images}{kind}" if result.scores else ""
    terminal.print_result(f"{result.model}: {iterations}, {format_scores(result.scores)}{on_images}")
    model = shlex.quote(str(result.model))
    if result.finished:
        kind, options = "images", "IMAGE --out labels.png"
        if prepared.config.model.ndim == 3:
            kind, options = "volumes", "VOLUME --volume --out labels.tif"
        terminal.print_note(f"Segment {kind} with: instseg predict {model} {options}")
        return
    if result.report != result.model / "report":
        model += f" --report {shlex.quote(str(result.report))}"
    train = prepared.config.train
    goal = f"--iterations {train.iterations}" if train.minutes is None else f"--minutes {train.minutes:g}"
    terminal.print_note(f"Stopped before its end. Go on with: instseg train {model} --resume {goal}")
