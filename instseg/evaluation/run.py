"""What `instseg evaluate` does, as a function: a model on a data folder, or predictions, against true labels."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instseg.errors import UsageError, check_parameter
from instseg.evaluation.cases import Case, folder_cases, match_images, match_predictions, model_cases
from instseg.evaluation.pictures import error_panel, error_picture
from instseg.evaluation.results import Evaluation, ImageResult, drop_small_truth, evaluate_image
from instseg.evaluation.tables import write_csv
from instseg.inference.job import check_predict_options
from instseg.inference.model import Model, load
from instseg.inference.options import Diameter, PredictOptions, ProgressCallback, no_progress
from instseg.io.atomic import StrPath, check_writable
from instseg.io.folders import find_images, find_pairs
from instseg.io.images import write_picture
from instseg.models.builtin import find_model
from instseg.models.config import read_training
from instseg.network.runtime import load_tensorflow
from instseg.settings import ClusterSettings, Precision, TileSettings, split_settings

_MAX_WORST = 100


def evaluate(
    model: Model | StrPath | None = None,
    *,
    data: StrPath | None = None,
    pred: StrPath | None = None,
    labels: StrPath | None = None,
    images: StrPath | None = None,
    csv: StrPath | None = None,
    picture: StrPath | None = None,
    worst: int = 3,
    connected_components: bool = False,
    min_truth_size: int = 0,
    tta: bool = False,
    diameter: Diameter = None,
    channels: str | None = None,
    precision: Precision = "float32",
    threads: int | None = None,
    progress: ProgressCallback = no_progress,
    **settings: Any,
) -> Evaluation:
    """Compare predictions with labels: a model's on a data folder, or label images of one folder with those of another.

    Parameters
    ----------
    model : Model, path-like or str, optional
        A model that `instseg.load` opened, a model directory, or the name of a model in the package.
    data : path-like, optional
        For `model`: a folder with images/ and labels/.
    pred, labels : path-like, optional
        Folders of predicted and of true label images, in the place of `model` and `data`.
    images : path-like, optional
        Folder of the images for `pred`, to draw `picture` on.
    csv : path-like, optional
        Also write a table with a row per image.
    picture : path-like, optional
        Also draw the errors in the worst images (.png).
    worst : int
        Number of images in `picture`, 1 to 100.
    connected_components : bool
        Whether to take each connected piece of a true mask as an instance.
    min_truth_size : int
        True instances of fewer pixels do not count.
    tta : bool
        Whether the model is to average over flips and quarter turns.
    diameter : float or 'auto', optional
        Typical diameter of the objects in pixels, if not as in training.
    channels : str, optional
        The images' channels to take, if not as in training.
    precision : {'float32', 'bfloat16'}
        What the network computes in, where `model` is not opened yet.
    threads : int, optional
        Threads of TensorFlow, where it is not in use yet.
    progress : callable
        Takes how many images of how many are done, and a text.
    **settings
        Fields of `ClusterSettings` and `TileSettings` for the model, such as `min_size=20` or `tile=2048`.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError
        If what is given excludes each other or is out of range.
    InstsegError
        If something cannot be read or written, or images, labels and predictions do not belong together.

    Examples
    --------
    >>> import tempfile
    >>> import instseg
    >>> from instseg.data.generate import generate_discs
    >>> folder = tempfile.mkdtemp()
    >>> _ = generate_discs(folder, count=2)
    >>> evaluation = instseg.evaluate(pred=f"{folder}/labels", labels=f"{folder}/labels")
    >>> len(evaluation.images), evaluation.per_image.mean_ap
    (2, 1.0)
    """
    clustering, tiles = split_settings(settings, ClusterSettings, TileSettings)
    request = EvaluationRequest(
        model=model if model is None or isinstance(model, Model) else Path(model),
        data=_as_path(data),
        pred=_as_path(pred),
        labels=_as_path(labels),
        images=_as_path(images),
        csv=_as_path(csv),
        picture=_as_path(picture),
        worst=worst,
        connected_components=connected_components,
        min_truth_size=min_truth_size,
        tta=tta,
        diameter=diameter,
        channels=channels,
        precision=precision,
        threads=threads,
        clustering=clustering,
        tiles=tiles,
    )
    return run_evaluation(request, progress)


def _as_path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What is to be compared, and how; the attributes are the parameters of `evaluate`.

    It checks itself when it is built; no file is read for that.

    Attributes
    ----------
    clustering, tiles : mapping of str to value
        Fields of `ClusterSettings` and of `TileSettings`.

    Raises
    ------
    UsageError
        If what is given excludes each other or is out of range.
    """

    model: Model | Path | None = None
    data: Path | None = None
    pred: Path | None = None
    labels: Path | None = None
    images: Path | None = None
    csv: Path | None = None
    picture: Path | None = None
    worst: int = 3
    connected_components: bool = False
    min_truth_size: int = 0
    tta: bool = False
    diameter: Diameter = None
    channels: str | None = None
    precision: Precision = "float32"
    threads: int | None = None
    clustering: Mapping[str, Any] = field(default_factory=dict)
    tiles: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_predict_options(self.diameter, self.channels, self.clustering)
        TileSettings(**self.tiles)
        check_parameter(1 <= self.worst <= _MAX_WORST, "worst", self.worst, f"1 to {_MAX_WORST} images")
        check_parameter(self.min_truth_size >= 0, "min_truth_size", self.min_truth_size, "0 or a number above 0")
        self._check_sources()
        if self.images is not None and self.picture is None:
            raise UsageError("`images` is what `picture` draws on; give it, too, or leave `images` out")
        if self.model is not None and self.images is not None:
            raise UsageError("`images` goes with `pred`; with `model` the images of `data` are drawn on")
        if self.model is None:
            self._check_no_model_options()
        elif isinstance(self.model, Model) and (self.precision != "float32" or self.threads is not None):
            raise UsageError("`precision` and `threads` are for a model that is not opened yet; give them to `load`")

    def _check_sources(self) -> None:
        given = {"model": self.model, "data": self.data, "pred": self.pred, "labels": self.labels}
        has = {name: value is not None for name, value in given.items()}
        if has["model"] != has["data"] or has["pred"] != has["labels"] or has["model"] == has["pred"]:
            names = ", ".join(f"`{name}`" for name in given if has[name]) or "nothing"
            raise UsageError(
                f"got {names}, expected either `model=MODEL, data=DIR`, or `pred=DIR, labels=DIR`; give one of the two"
            )

    def _check_no_model_options(self) -> None:
        options = {
            "tta": self.tta,
            "diameter": self.diameter is not None,
            "channels": self.channels is not None,
            "precision": self.precision != "float32",
        }
        if any(options.values()):
            names = " and ".join(f"`{name}`" for name, given in options.items() if given)
            raise UsageError(f"{names} say how a model predicts; give `model=MODEL, data=DIR`")
        if self.clustering or self.tiles:
            names = ", ".join(f"`{name}`" for name in (*self.clustering, *self.tiles))
            raise UsageError(f"{names} change how a model segments; give `model=MODEL, data=DIR`")


def open_model(request: EvaluationRequest, *, quiet: bool = False) -> Model:
    """Open the model of a request; a wrong name or diameter is reported before TensorFlow takes its seconds.

    Parameters
    ----------
    request : EvaluationRequest
    quiet : bool
        Whether to hide what TensorFlow prints while it loads.

    Raises
    ------
    UsageError, InstsegError
        If there is no such model, it is damaged, or it is not made for objects of the diameter.
    """
    if isinstance(request.model, Model):
        return request.model
    directory = find_model(request.model or Path())
    if isinstance(request.diameter, float | int):
        read_training(directory).config.model.magnification(request.diameter)
    load_tensorflow(request.threads, quiet=quiet)
    return load(directory, precision=request.precision)


def run_evaluation(
    request: EvaluationRequest,
    progress: ProgressCallback = no_progress,
    opener: Callable[[EvaluationRequest], Model] = open_model,
) -> Evaluation:
    """Do what a request asks for.

    Parameters
    ----------
    request : EvaluationRequest
    progress : callable
        Takes how many images of how many are done, and a text.
    opener : callable
        Opens the model once the data folder is known to be there.

    Returns
    -------
    Evaluation

    Raises
    ------
    InstsegError
        As `evaluate` does.
    """
    if request.csv is not None:
        check_writable(request.csv, ".csv")
    if request.picture is not None:
        check_writable(request.picture, ".png")
    total, cases = _folder_cases(request) if request.model is None else _model_cases(request, opener)
    results: list[ImageResult] = []
    worst = _WorstCases(0 if request.picture is None else request.worst)
    with closing(cases):
        for number, case in enumerate(cases, start=1):
            result = evaluate_image(
                case.name,
                case.truth,
                case.predicted,
                min_truth_size=request.min_truth_size,
                instances=case.instances,
                classes=case.classes,
            )
            results.append(result)
            worst.add(result.scores.mean_ap, case)
            progress(number, total, "")
    evaluation = Evaluation(images=tuple(results))
    if request.csv is not None:
        write_csv(request.csv, evaluation)
    if request.picture is not None:
        _write_picture(request.picture, worst, request.min_truth_size)
    return evaluation


def _model_cases(
    request: EvaluationRequest, opener: Callable[[EvaluationRequest], Model]
) -> tuple[int, Generator[Case]]:
    data = request.data or Path()
    pairs = find_pairs(data)
    options = PredictOptions(
        tta=request.tta,
        diameter=request.diameter,
        channels=request.channels,
        overrides=request.clustering,
        tiles=TileSettings(**request.tiles),
        measure=True,
    )
    return len(pairs), model_cases(opener(request), pairs, data, options, request.connected_components)


def _folder_cases(request: EvaluationRequest) -> tuple[int, Generator[Case]]:
    files = match_predictions(find_images([request.pred or Path()]), find_images([request.labels or Path()]))
    images = None if request.images is None else match_images(request.images, files)
    return len(files), folder_cases(files, images, request.connected_components)


class _WorstCases:
    """Holds the cases of the lowest scores, worst first, and no others."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.cases: list[tuple[float, Case]] = []

    def add(self, score: float, case: Case) -> None:
        ranked = sorted([*self.cases, (score, case)], key=lambda ranked: (ranked[0], ranked[1].name))
        self.cases = ranked[: self._count]


def _write_picture(path: Path, worst: _WorstCases, min_truth_size: int) -> None:
    panels = [
        error_panel(
            f"{case.name}: mean AP {mean_ap:.3f}",
            *drop_small_truth(case.truth, case.predicted, min_truth_size),
            case.image,
        )
        for mean_ap, case in worst.cases
    ]
    write_picture(path, error_picture(panels))
