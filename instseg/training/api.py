"""Training a model from Python: what `instseg train` does, with keyword arguments of the names of its options."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from instseg.errors import UsageError
from instseg.io.atomic import StrPath
from instseg.models.directory import read_settings
from instseg.network.runtime import check_threads, load_tensorflow
from instseg.settings import (
    AugmentationName,
    DistanceName,
    ErrorName,
    LossName,
    MetricLossSettings,
    ModelSettings,
    Precision,
    Settings,
    TrainSettings,
)
from instseg.training.events import Event
from instseg.training.prepare import PreparedTraining, TrainingRequest, check_request, prepare_training

if TYPE_CHECKING:
    # Only for annotations: this module is imported before TensorFlow is loaded.
    import tensorflow as tf

    from instseg.network.strategy import StrategyName


class TrainingOptions(TypedDict, total=False):
    """Settings that `train` takes by name; their meanings, bounds and defaults are those of `instseg.settings`."""

    iterations: int
    minutes: float
    batch_size: int
    patch_size: int
    patch_depth: int
    learning_rate: float
    precision: Precision
    validation_share: float
    validation_every: int
    augmentation: AugmentationName
    seed: int
    embeddings: int
    loss: LossName
    push_distance_metric: DistanceName
    pull_distance_metric: DistanceName
    push_error_metric: ErrorName
    pull_error_metric: ErrorName
    push_margin: float
    pull_margin: float
    push_weight: float
    pull_weight: float
    regularization_error_metric: ErrorName
    regularization_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training ended with.

    Attributes
    ----------
    model : Path
        The model directory.
    report : Path
        Folder of the curves and pictures.
    iterations : int
        Steps that were taken, those before a resume included.
    seconds : float
        How long they took.
    scores : dict of str to float
        Of the best state, which is the model: mean AP over the validation images at IoU 0.5 ('AP50'), 0.75 ('AP75'),
        and over 0.50 to 0.90 ('AP50-90').
    best_iteration : int
        Steps that the best state had.
    validation_images : int
        How many images the scores are of.
    finished : bool
        False where the training was stopped before its end.
    """

    model: Path
    report: Path
    iterations: int
    seconds: float
    scores: dict[str, float]
    best_iteration: int
    validation_images: int
    finished: bool


def train(
    model_dir: str | PathLike[str],
    data: StrPath | Sequence[StrPath] | None = None,
    *,
    val: StrPath | Sequence[StrPath] | None = None,
    connected_components: bool = False,
    channels: str | None = None,
    ignore_label: int | None = None,
    spacing: Sequence[float] | None = None,
    network: str | Sequence[int] | None = None,
    pretrained: str | PathLike[str] | None = None,
    resume: bool | None = None,
    report: str | PathLike[str] | None = None,
    threads: int | None = None,
    strategy: "StrategyName" = "auto",
    progress: Callable[[Event], None] | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Unpack[TrainingOptions],
) -> TrainingResult:
    """Train a model on labelled images, or on generated discs.

    Parameters
    ----------
    model_dir : path-like
        Where the model is kept.
    data : path-like or sequence of path-like, optional
        Folder with `images/` and `labels/`, or several. By default endlessly generated discs. A folder whose labels
        are volumes trains a network of volumes.
    val : path-like or sequence of path-like, optional
        Such folders to validate on. By default a share of `data`.
    connected_components : bool
        Make each connected piece of a binary mask an instance.
    channels : str, optional
        Channels of the images to take, as `instseg.preprocessing.channels.parse_channels` reads it. By default all.
    ignore_label : int, optional
        Pixels of this value in label images take no part: they are neither background nor of an instance. 0, the
        background, with `loss='metric'` only, whose embeddings are then not learnt there.
    spacing : sequence of float, optional
        Of volumes: the size of a voxel along Z, Y and X, where the files do not say it.
    network : str or sequence of int, optional
        'tiny', 'small' (the default), 'large', or the channels of the network's levels, such as (32, 64, 128). With
        `pretrained` its own by default, and at least so many channels at as many levels.
    pretrained : path-like, optional
        Begin with the weights of this model: a directory, or the name of a model in the package. One of images can
        begin a training on volumes. On few images, the default of `learning_rate` is lower the better the model is on
        those of the validation already.
    resume : bool, optional
        True goes on with the model in `model_dir`, False replaces it. By default there must be none.
    report : path-like, optional
        Where curves and pictures go. By default `model_dir/report`.
    threads : int, optional
        Threads of TensorFlow, which must not be running yet. By default all cores.
    strategy : {'auto', 'one', 'mirrored', 'multi-worker'}
        Devices to learn on: one, all GPUs here, or all processes that TF_CONFIG names; auto: what there is.
    progress : callable, optional
        Takes the events of `instseg.training.events`.
    stop : callable, optional
        Asked after every iteration whether to save and end.
    **settings
        Those of `TrainSettings`, `ModelSettings` and `MetricLossSettings` that `TrainingOptions` names.

    Returns
    -------
    TrainingResult

    Raises
    ------
    UsageError
        If a parameter is unknown, out of its bounds, or contradicts another.
    InstsegError
        If the data cannot be trained on, a folder cannot be used, or the loss is no longer finite.

    Examples
    --------
    A tiny network and three steps, which teach nothing:

    >>> import tempfile
    >>> import instseg
    >>> from instseg.data.generate import generate_discs
    >>> folder = tempfile.mkdtemp()
    >>> _ = generate_discs(f"{folder}/discs", count=2)
    >>> result = instseg.train(f"{folder}/model", f"{folder}/discs", network=(8, 8), iterations=3, patch_size=32)
    >>> result.iterations, result.finished, sorted(result.scores)
    (3, True, ['AP50', 'AP50-90', 'AP75'])
    """
    check_threads(threads)
    groups = _split_settings(dict(settings))
    request = check_request(
        TrainingRequest(
            model_dir=Path(model_dir),
            data=_as_paths(data),
            val=_as_paths(val),
            connected_components=connected_components,
            channels=channels,
            ignore_label=ignore_label,
            spacing=spacing,
            network=network,
            pretrained=None if pretrained is None else Path(pretrained),
            resume=resume,
            train=groups[TrainSettings],
            model=groups[ModelSettings],
            metric=groups[MetricLossSettings],
        )
    )
    devices = load_strategy(strategy, threads)
    return run_training(
        prepare_training(request),
        report=None if report is None else Path(report),
        strategy=devices,
        progress=progress or (lambda event: None),
        stop=stop or (lambda: False),
    )


def _as_paths(folders: StrPath | Sequence[StrPath] | None) -> tuple[Path, ...]:
    if folders is None:
        return ()
    return tuple(Path(folder) for folder in ([folders] if isinstance(folders, str | PathLike) else folders))


def load_strategy(name: "StrategyName", threads: int | None = None, *, quiet: bool = False) -> "tf.distribute.Strategy":
    """Load TensorFlow and return the devices of a training; parameters as `load_tensorflow` and `train` have them."""
    strategies: list[Any] = []

    def make() -> None:
        from instseg.network.strategy import make_strategy

        strategies.append(make_strategy(name))

    # The strategy of several processes has to come before the first operation.
    load_tensorflow(threads, make, quiet=quiet)
    return strategies[0]


def run_training(
    prepared: PreparedTraining,
    *,
    report: Path | None = None,
    strategy: "tf.distribute.Strategy | None" = None,
    progress: Callable[[Event], None],
    stop: Callable[[], bool],
) -> TrainingResult:
    """Run a prepared training to its end; parameters and errors as `train` has them."""
    from instseg.training.events import CheckpointSaved, DataWarning, StepDone
    from instseg.training.loop import iter_training

    folder, config = prepared.model_dir, prepared.config
    report = report or folder / "report"
    if prepared.finished:
        return _stored_result(prepared, report)
    warnings = [DataWarning(message=problem.line()) for problem in prepared.data.problems]
    iterations, share = prepared.iteration, 0.0
    saved: CheckpointSaved | None = None
    events = iter_training(
        folder,
        config,
        prepared.data,
        resume=prepared.resume,
        adapt_rate=prepared.adapt_rate,
        report=report,
        stop=stop,
        strategy=strategy,
    )
    for event in events:
        # Not before the first event, so that a training that cannot begin says only why.
        while warnings:
            progress(warnings.pop(0))
        progress(event)
        if isinstance(event, StepDone):
            iterations, share = event.iteration, event.progress
        elif isinstance(event, CheckpointSaved):
            saved = event
    return TrainingResult(
        model=folder,
        report=report,
        iterations=iterations,
        # Of several processes only the first validates and saves.
        seconds=saved.seconds if saved else 0.0,
        scores=saved.best.scores if saved else {},
        best_iteration=saved.best.iteration if saved else 0,
        validation_images=len(saved.best.highest) if saved else 0,
        finished=share >= 1,
    )


def _stored_result(prepared: PreparedTraining, report: Path) -> TrainingResult:
    """Return the result of a training that is over already."""
    _, stored = read_settings(prepared.model_dir)
    return TrainingResult(
        model=prepared.model_dir,
        report=report,
        iterations=prepared.iteration,
        seconds=prepared.seconds,
        scores=stored["validation"],
        best_iteration=stored["kept_iteration"],
        validation_images=len(stored.get("highest_of_images", ())),
        finished=True,
    )


def _split_settings(settings: dict[str, Any]) -> dict[type[Settings], dict[str, Any]]:
    """Sort settings by the class that they belong to; None stands for the default, as for all parameters.

    Raises
    ------
    UsageError
        If a name is unknown.
    """
    groups: dict[type[Settings], dict[str, Any]] = {TrainSettings: {}, ModelSettings: {}, MetricLossSettings: {}}
    homes = {one.name: group for group in groups for one in fields(group) if "help" in one.metadata}
    for name, value in settings.items():
        if name not in homes:
            near = difflib.get_close_matches(name, [*_PARAMETERS, *homes], n=1)
            advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(homes)}"
            raise UsageError(f"there is no parameter {name}; {advice}")
        if value is not None:
            groups[homes[name]][name] = value
    return groups


_PARAMETERS = tuple(name for name in train.__annotations__ if name not in ("settings", "return"))
