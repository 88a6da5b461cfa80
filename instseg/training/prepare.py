"""From what is asked of a training to its settings and data: a fresh one, one that begins with a model, or a resume."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from instseg.data.datasets import TrainingData
from instseg.errors import UsageError, check_parameter
from instseg.io.volumes import check_spacing
from instseg.models.builtin import find_model
from instseg.models.config import TrainingConfig, read_training, training_progress
from instseg.models.directory import check_resumable, current_generation, read_settings
from instseg.network.objective import objective_of
from instseg.preprocessing.channels import parse_channels
from instseg.settings import (
    NETWORKS,
    VOLUME_PATCH_SIZE,
    MetricLossSettings,
    ModelSettings,
    Settings,
    TrainSettings,
)
from instseg.training.source import Counter, DataSource

# Going on with other values of these is meaningful; all others belong to the model.
_CHANGEABLE = ("iterations", "minutes", "validation_every", "precision")
_MAX_LEVELS, _MAX_WIDTH = 6, 1024
# Of volumes, where nothing else is asked for: two patches have as many voxels as sixteen of images have pixels, and an
# object of 24 pixels, the largest that the network is shown, lies in one with what is around it.
_VOLUME_PATCHES = {"patch_size": VOLUME_PATCH_SIZE, "batch_size": 2}

# Models of so many images check the size of objects. With the check an image of 512 x 512 takes three to five times as
# long, and of more images most kinds gain nothing by it.
_FEW_IMAGES = 5


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What is asked of a training.

    Attributes
    ----------
    model_dir : Path
        Where the model is kept.
    data, val : tuple of Path
        Folders with images and labels to train on, and to validate on; none: generated discs, and a share of `data`.
    connected_components : bool
        Whether each connected piece of a binary mask is an instance.
    channels : str or None
        The images' channels to take; None: all.
    ignore_label : int or None
        Pixels of this value in label images take no part; 0 is the background, which `MetricLossSettings` can ignore.
    spacing : sequence of float, str or None
        Of volumes: the size of a voxel along Z, Y and X, where the files do not say it.
    network : str, sequence of int or None
        As `parse_network` takes it; None: the small one, or that of `pretrained`.
    pretrained : Path or None
        Directory or name of a model whose weights the training begins with.
    resume : bool or None
        Whether to go on with the model in `model_dir`, or to replace it; None: there must be none.
    train, model, metric : mapping of str to value
        Settings of `TrainSettings`, `ModelSettings` and `MetricLossSettings` that differ from their defaults.
    """

    model_dir: Path
    data: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    connected_components: bool = False
    channels: str | None = None
    ignore_label: int | None = None
    spacing: Sequence[float] | None = None
    network: str | Sequence[int] | None = None
    pretrained: Path | None = None
    resume: bool | None = None
    train: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    metric: Mapping[str, Any] = field(default_factory=dict)


class PreparedTraining(NamedTuple):
    """A training that can begin.

    Attributes
    ----------
    model_dir : Path
    config : TrainingConfig
    data : TrainingData
    resume : bool
    iteration, seconds : int, float
        Steps that were taken before a resume, and how long they took.
    adapt_rate : bool
        Whether the learning rate, which nobody has given, depends on what the model to begin with knows already.
    """

    model_dir: Path
    config: TrainingConfig
    data: TrainingData
    resume: bool
    iteration: int
    seconds: float
    adapt_rate: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.resume and training_progress(self.config.train, self.iteration, self.seconds) >= 1


def check_request(request: TrainingRequest) -> TrainingRequest:
    """Check what is asked of a training, as far as that goes without TensorFlow and without reading its data.

    Returns
    -------
    TrainingRequest
        With `resume` decided, `pretrained` a directory, and `model` and `metric` completed by `network` and by what a
        network has in common with the one that it begins with.

    Raises
    ------
    UsageError
        If something is out of its bounds or contradicts something else.
    InstsegError
        If a model that is named cannot be read.
    """
    _source(request).check(given=not request.resume)
    if request.channels is not None:
        parse_channels(request.channels)
    if request.spacing is not None:
        request = dataclasses.replace(request, spacing=check_spacing(request.spacing))
    request = _with_ignored_background(request)
    if {"iterations", "minutes"} <= request.train.keys():
        raise UsageError("`iterations` and `minutes` both say when to end; give one of them")
    resume = _check_resume(request.model_dir, request.resume)
    if request.pretrained is not None and resume:
        raise UsageError("`pretrained` begins a training and `resume` goes on with one; give one of them")
    if request.network is not None:
        model = {**request.model, "widths": parse_network(request.network)}
        request = dataclasses.replace(request, model=model)
    if request.pretrained is not None:
        request = _inherit(request, find_model(request.pretrained))
    groups: tuple[tuple[type[Settings], Mapping[str, Any]], ...] = (
        (TrainSettings, request.train),
        (ModelSettings, request.model),
        (MetricLossSettings, request.metric),
    )
    for settings, given in groups:
        settings(**given)
    return dataclasses.replace(request, resume=resume)


def parse_network(network: str | Sequence[int]) -> tuple[int, ...]:
    """Return the channels of a network's levels, finest first.

    Parameters
    ----------
    network : str or sequence of int
        'tiny', 'small', 'large', or the channels of 1 to 6 levels, also as a text such as '32,64'.

    Raises
    ------
    UsageError
        If it is none of these.

    Examples
    --------
    >>> parse_network("small"), parse_network("8,16"), parse_network((8, 16))
    ((32, 64, 128, 192), (8, 16), (8, 16))
    """
    if isinstance(network, str) and network in NETWORKS:
        return NETWORKS[network]
    try:
        widths = tuple(int(width) for width in (network.split(",") if isinstance(network, str) else network))
    except (TypeError, ValueError):
        widths = ()
    fits = 1 <= len(widths) <= _MAX_LEVELS and all(1 <= width <= _MAX_WIDTH for width in widths)
    names = ", ".join(NETWORKS)
    expected = f"{names}, or the channels of 1 to {_MAX_LEVELS} levels, 1 to {_MAX_WIDTH} each, such as 32,64,128"
    check_parameter(fits, "network", network, expected)
    return widths


def prepare_training(request: TrainingRequest, progress: Counter = lambda done, total: None) -> PreparedTraining:
    """Read the data of a training and complete its settings.

    Parameters
    ----------
    request : TrainingRequest
        As `check_request` returned it.
    progress : callable
        Takes how many images of how many have been read.

    Raises
    ------
    UsageError
        If a resume is asked for something that the model does not fit.
    InstsegError
        If the data cannot be trained on, or a model cannot be read.
    """
    if not request.resume:
        return _prepare_fresh(request, progress)
    stored = read_training(request.model_dir)
    config, data = _prepare_resume(stored.config, request, progress)
    return PreparedTraining(request.model_dir, config, data, True, stored.iteration, stored.seconds)


def _with_ignored_background(request: TrainingRequest) -> TrainingRequest:
    """Check the label to ignore; the background is left out by the metric loss, and not from the data."""
    label = request.ignore_label
    if label is None:
        return request
    check_parameter(0 <= label < 2**32, "ignore_label", label, "the number of a label, 0 to 4294967295")
    if label:
        return request
    return dataclasses.replace(request, ignore_label=None, metric={**request.metric, "ignore_label": 0})


def _check_resume(model_dir: Path, resume: bool | None) -> bool:
    """Return whether to go on with the model in a folder."""
    holds_model = current_generation(model_dir) is not None
    if resume:
        read_settings(model_dir)
        check_resumable(model_dir)
        return True
    if holds_model and resume is None:
        raise UsageError(
            f"{model_dir} already holds a model; add `resume=True` to go on with it, or `resume=False` to replace it"
        )
    return False


def _inherit(request: TrainingRequest, pretrained: Path) -> TrainingRequest:
    """Add to what is asked for what a network has in common with the one that it begins with."""
    before = read_training(pretrained).config
    model, metric = dict(request.model), dict(request.metric)
    widths = tuple(model.get("widths", before.model.widths))
    if not before.model.can_widen_to(widths):
        given, own = (",".join(map(str, one)) for one in (widths, before.model.widths))
        raise UsageError(
            f"network has levels of {given} channels, expected at least those of {pretrained}, {own}; leave it out, or "
            "begin with a model of a smaller network",
            parameter="network",
        )
    inherited: dict[str, Any] = {"loss": before.model.loss, "widths": before.model.widths}
    if model.get("loss", before.model.loss) == before.model.loss:
        inherited["embeddings"] = before.model.embeddings
        if objective_of(before.model).has_options:
            metric = before.metric.to_dict() | metric
    return dataclasses.replace(request, pretrained=pretrained, model=inherited | model, metric=metric)


def _prepare_fresh(request: TrainingRequest, progress: Counter) -> PreparedTraining:
    if request.metric and not objective_of(ModelSettings(**request.model)).has_options:
        names = ", ".join(f"`{name}`" for name in request.metric)
        raise UsageError(f"{names} belong to `loss='metric'`; add it, or leave them out")
    source = _source(request)
    volumes = source.holds_volumes()
    defaults = _VOLUME_PATCHES if volumes else {}
    train, metric = TrainSettings(**{**defaults, **request.train}), MetricLossSettings(**request.metric)
    asked = ModelSettings(**request.model, ndim=3 if volumes else 2)
    _check_patch_size(train, asked)
    begin = None if request.pretrained is None else read_training(request.pretrained).config.model
    if begin is not None and begin.ndim == 3 and not volumes:
        raise UsageError(
            f"{request.pretrained} is a model of volumes, and the data are images; give a model of images, or volumes",
            parameter="pretrained",
        )
    data = source.read(train, asked, begin, (), progress)
    model = dataclasses.replace(
        asked,
        channels=data.channels,
        channel_choice=request.channels,
        classes=1 + max(1, len(data.class_names)),
        class_names=data.class_names,
        diameter=data.diameters.typical,
        diameter_p5=data.diameters.smallest,
        diameter_p95=data.diameters.largest,
        scale=data.scale,
        estimate_diameter=data.estimate_diameter,
        check_diameter=_is_diameter_checked(data, asked),
        spacing=data.spacing,
    )
    if data.patch_shape is not None:
        train = dataclasses.replace(train, patch_depth=data.patch_shape[0])
    config = TrainingConfig(
        model=model,
        train=train,
        metric=metric,
        clustering=objective_of(model).default_clustering(metric),
        data=_describe(data, source),
        pretrained=None if request.pretrained is None else str(request.pretrained.resolve()),
    )
    adapt_rate = request.pretrained is not None and "learning_rate" not in request.train
    return PreparedTraining(request.model_dir, config, data, False, 0, 0.0, adapt_rate)


def _describe(data: TrainingData, source: DataSource) -> dict[str, Any]:
    """Return what a model says of its data: what was read and from where, and whether all of it was learnt from."""
    learnt = {} if data.validated_apart else {"validated_apart": False}
    return {**data.description, **learnt, "source": source.to_dict()}


def _is_diameter_checked(data: TrainingData, model: ModelSettings) -> bool:
    """Return whether a model learns from so few images that others may well have objects of other sizes."""
    few = 0 < data.description.get("training_images", 0) <= _FEW_IMAGES
    return few and model.ndim == 2 and not data.estimate_diameter


def _check_patch_size(train: TrainSettings, model: ModelSettings) -> None:
    """Check that the network can halve patches as often as it has levels, and that images have no planes."""
    if train.patch_depth is not None and model.ndim == 2:
        raise UsageError("`patch_depth` is for volumes, and the data are images; leave it out", parameter="patch_depth")
    stride = 2 ** len(model.widths)
    expected = f"a multiple of {stride} for a network of {len(model.widths)} levels"
    check_parameter(train.patch_size % stride == 0, "patch_size", train.patch_size, expected)


def _prepare_resume(
    before: TrainingConfig, request: TrainingRequest, progress: Counter
) -> tuple[TrainingConfig, TrainingData]:
    model_dir = request.model_dir
    _check_unchanged(before, request)
    # A number of iterations takes the place of minutes that the training was begun with.
    end: dict[str, Any] = {"minutes": None} if "iterations" in request.train else {}
    train = dataclasses.replace(before.train, **{**end, **request.train})
    source = DataSource.from_dict(before.data.get("source"), model_dir, _source(request))
    _check_same_channels(before, request)
    # What was learnt from, too, would be kept from the training where it has more images now.
    apart = before.data.get("validated_apart", True)
    held = tuple(before.data.get("validation_images") or ()) if apart else ()
    data = source.read(train, before.model, before.model, held, progress)
    if data.channels != before.model.channels:
        raise UsageError(
            f"the images have {data.channels} channels, but {model_dir} was trained on {before.model.channels}; "
            "convert them, or train into a new directory"
        )
    if (data.spacing is None) != (before.model.ndim == 2):
        kinds = ("volumes", "images") if before.model.ndim == 2 else ("images", "volumes")
        raise UsageError(
            f"the data are {kinds[0]}, but {model_dir} was trained on {kinds[1]}; train into a new directory"
        )
    if data.class_names != before.model.class_names:
        old, new = (", ".join(names) or "none" for names in (before.model.class_names, data.class_names))
        raise UsageError(
            f"the classes are {new}, but {model_dir} was trained on {old}; mend them, or train into a new directory"
        )
    # What was tuned for the state before is tuned anew at the end.
    clustering = objective_of(before.model).default_clustering(before.metric)
    model = dataclasses.replace(before.model, check_diameter=_is_diameter_checked(data, before.model))
    stored = _describe(data, source)
    return dataclasses.replace(before, model=model, train=train, data=stored, clustering=clustering), data


def _check_unchanged(before: TrainingConfig, request: TrainingRequest) -> None:
    """Check that no setting is asked to change that belongs to the model."""
    model_dir = request.model_dir
    if request.model.get("widths", before.model.widths) != before.model.widths:
        raise UsageError(
            f"network is another one than that of {model_dir}; leave it out, or give `resume=False`",
            parameter="network",
        )
    groups = ((before.train, request.train), (before.model, request.model), (before.metric, request.metric))
    for stored, given in groups:
        for name, value in given.items():
            if name not in _CHANGEABLE and getattr(stored, name) != value:
                raise UsageError(
                    f"{name} is {value}, but {model_dir} was trained with {getattr(stored, name)}; "
                    "leave it out to go on, or give `resume=False` to begin anew",
                    parameter=name,
                )


def _check_same_channels(before: TrainingConfig, request: TrainingRequest) -> None:
    choice = before.model.channel_choice
    if request.channels is not None and request.channels != choice:
        trained_on = f"`channels={choice!r}`" if choice else "all channels"
        raise UsageError(
            f"channels is {request.channels}, but {request.model_dir} was trained on {trained_on}; "
            "leave it out, or give `resume=False`",
            parameter="channels",
        )


def _source(request: TrainingRequest) -> DataSource:
    return DataSource(
        data=request.data,
        val=request.val,
        connected_components=request.connected_components,
        channels=request.channels,
        ignore_label=request.ignore_label,
        spacing=None if request.spacing is None else tuple(request.spacing),
    )
