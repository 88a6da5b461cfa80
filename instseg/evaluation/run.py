"""What `instseg evaluate` does, as a function: a model on a data folder, or predictions, against true labels."""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from instseg.errors import InstsegError, format_names, printable
from instseg.evaluation.cases import Case, folder_cases, match_images, match_predictions, model_cases
from instseg.evaluation.pictures import error_panel, error_picture
from instseg.evaluation.report import EvaluationReport
from instseg.evaluation.request import EvaluationRequest
from instseg.evaluation.results import Evaluation, ImageResult, drop_small_truth, evaluate_image
from instseg.evaluation.tables import write_results
from instseg.inference.model import Model, load
from instseg.inference.options import Diameter, PlanesFrom, PredictOptions, ProgressCallback, no_progress
from instseg.io.atomic import StrPath, check_writable
from instseg.io.container import shown_name
from instseg.io.folders import find_images, find_pairs, match_folder
from instseg.io.images import write_picture
from instseg.labels.matching import drop_ignored
from instseg.labels.regions import IGNORED
from instseg.models.builtin import find_model
from instseg.models.config import read_training
from instseg.reports.page import SUFFIXES
from instseg.settings import ClusterSettings, FilterSettings, Precision, TileSettings, split_settings


def evaluate(
    model: Model | StrPath | None = None,
    *,
    data: StrPath | None = None,
    pred: StrPath | None = None,
    labels: StrPath | None = None,
    images: StrPath | None = None,
    csv: StrPath | None = None,
    picture: StrPath | None = None,
    report: StrPath | None = None,
    worst: int = 3,
    connected_components: bool = False,
    ignore_label: int | None = None,
    min_truth_size: int = 0,
    tta: bool = False,
    diameter: Diameter = None,
    channels: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    spacing: tuple[float, float, float] | None = None,
    planes_from: PlanesFrom | None = None,
    progress: ProgressCallback = no_progress,
    **settings: Any,
) -> Evaluation:
    """Compare predictions with labels: a model's on a data folder, or label images of one folder with those of another.

    Parameters
    ----------
    model : Model, path-like or str, optional
        A model that `instseg.load` opened, a model directory, or the name of a model in the package.
    data : path-like, optional
        For `model`: a folder with images/ and labels/, or images beside labels/. Labels that have planes along Z
        are volumes.
    pred, labels : path-like, optional
        Folders of predicted and of true label images, in the place of `model` and `data`.
    images : path-like, optional
        Folder of the images for `pred`, to draw `picture` and `report` on.
    csv : path-like, optional
        Also write a table with a row per image.
    picture : path-like, optional
        Also draw the errors in the worst images (.png).
    report : path-like, optional
        Also write a page (.html) that shows the figures, and the images with their errors, to pass on.
    worst : int
        Number of images in `picture`, 1 to 100.
    connected_components : bool
        Whether to take each connected piece of a mask as an instance, in `labels` and `pred` alike.
    ignore_label : int, optional
        Pixels of this true label do not count: predictions that lie mainly on them are left out, and of others the part
        on them.
    min_truth_size : int
        True instances of fewer pixels do not count.
    tta : bool
        Whether the model is to average over flips and quarter turns.
    diameter : float or 'auto', optional
        Typical diameter of the objects in pixels, if not as in training.
    channels : str, optional
        The images' channels to take, if not as in training.
    precision : {'float32', 'bfloat16'}, optional
        What the network computes in, where `model` is not opened yet; by default as `instseg.load` chooses.
    threads : int, optional
        Threads of TensorFlow, where it is not in use yet.
    spacing : tuple of 3 floats, optional
        Of volumes: the size of a voxel along Z, Y and X, where it is not what the files say.
    planes_from : {'z', 'zyx'}, optional
        Of volumes and a model of images: along which axes it sees planes; by default chosen by the spacing.
    progress : callable
        Takes how many images of how many are done, and a text.
    **settings
        Fields of `ClusterSettings`, `FilterSettings` and `TileSettings` for the model, such as `min_size=20`,
        `min_score=0.5` or `tile=2048`.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError
        If what is given excludes each other or is out of range.
    InstsegError
        If something cannot be read or written, images, labels and predictions do not belong together, or all pixels
        are ignored. There are no scores of a part of the images: the error names all files that cannot be read.

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
    clustering, filters, tiles = split_settings(settings, ClusterSettings, FilterSettings, TileSettings)
    request = EvaluationRequest(
        model=model if model is None or isinstance(model, Model) else Path(model),
        data=_as_path(data),
        pred=_as_path(pred),
        labels=_as_path(labels),
        images=_as_path(images),
        csv=_as_path(csv),
        picture=_as_path(picture),
        report=_as_path(report),
        worst=worst,
        connected_components=connected_components,
        ignore_label=ignore_label,
        min_truth_size=min_truth_size,
        tta=tta,
        diameter=diameter,
        channels=channels,
        precision=precision,
        threads=threads,
        spacing=spacing,
        planes_from=planes_from,
        clustering=clustering,
        filters=filters,
        tiles=tiles,
    )
    return run_evaluation(request, progress)


def _as_path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)


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
    return load(directory, precision=request.precision, threads=request.threads, quiet=quiet)


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
    if request.report is not None:
        check_writable(request.report, *SUFFIXES)
    total, cases = _folder_cases(request) if request.model is None else _model_cases(request, opener)
    results: list[ImageResult] = []
    worst = _WorstCases(0 if request.picture is None else request.worst)
    report = None if request.report is None else EvaluationReport(request, total)
    seen = _Oddities(request)
    with closing(cases):
        for number, case in enumerate(cases, start=1):
            if seen.counts(case):
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
                if report is not None:
                    report.add(case, result)
            progress(number, total, "")
    if not results:
        raise InstsegError(
            f"all pixels of the labels have the value {request.ignore_label} of `ignore_label`, so that there is "
            "nothing to compare; give another value, or leave it out"
            if request.ignore_label is not None
            else f"nothing in the images of {request.data} is labelled yet, so that there is nothing to compare"
        )
    evaluation = Evaluation(images=tuple(results), notes=tuple(seen.notes(results)))
    if request.csv is not None:
        write_results(request.csv, evaluation)
    if request.picture is not None:
        _write_picture(request.picture, worst, request.min_truth_size)
    if report is not None and request.report is not None:
        report.write(request.report, evaluation)
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
        filters=FilterSettings(**request.filters),
        tiles=TileSettings(**request.tiles),
        measure=True,
        planes_from=request.planes_from,
    )
    cases = model_cases(
        opener(request),
        pairs,
        data,
        options,
        connected_components=request.connected_components,
        ignore_label=request.ignore_label,
        spacing=request.spacing,
    )
    return len(pairs), cases


def _folder_cases(request: EvaluationRequest) -> tuple[int, Generator[Case]]:
    files = match_predictions(find_images([request.pred or Path()]), find_images([request.labels or Path()]))
    images = None if request.images is None else match_images(request.images, files)
    cases = folder_cases(
        files, images, connected_components=request.connected_components, ignore_label=request.ignore_label
    )
    return len(files), cases


class _Oddities:
    """What in the labels makes figures say less than one would think."""

    def __init__(self, request: EvaluationRequest) -> None:
        self._ignore_label = request.ignore_label
        self._data = request.data
        # A value that the training ignored, and that is the number of an instance here.
        self._forgotten = None if request.connected_components else _ignored_in_training(request)
        self._has_forgotten = False
        self._masks: list[str] = []
        self._of_volumes: dict[str, list[str]] = {}
        self._nothing_left: list[str] = []
        self._ignored, self._pixels = 0, 0

    def counts(self, case: Case) -> bool:
        """Take a case, and return whether it has a pixel that counts."""
        if case.looks_like_mask:
            self._masks.append(case.name)
        for note in case.notes:
            self._of_volumes.setdefault(note, []).append(case.name)
        ignored = case.truth == IGNORED
        self._ignored += int(ignored.sum())
        self._pixels += ignored.size
        if self._forgotten is not None and not self._has_forgotten:
            self._has_forgotten = bool((case.truth == self._forgotten).any())
        if not ignored.size or not ignored.all():
            return True
        self._nothing_left.append(case.name)
        return False

    def notes(self, results: list[ImageResult]) -> Generator[str]:
        """Say it, a sentence each."""
        if self._masks:
            masks = _count(self._masks, "prediction looks like a mask", "predictions look like masks")
            taken = "it is" if len(self._masks) == 1 else "each is"
            advice = "give `connected_components=True` to make every connected piece an instance"
            yield f"{masks}, {taken} taken as one instance; {advice}"
        if self._nothing_left:
            images = _count(self._nothing_left, "image is ignored", "images are ignored")
            yield f"{images} as a whole, and not in the figures"
        for note, names in self._of_volumes.items():
            yield f"{format_names(names)}: {note}"
        yield from self._left_out()
        if self._ignore_label is not None and not self._ignored:
            yield f"no label has the value {self._ignore_label} of `ignore_label`: nothing is ignored"
        if self._has_forgotten:
            yield (
                f"the training of the model ignored the label {self._forgotten}, and here it is taken for an instance; "
                f"give `ignore_label={self._forgotten}` if it has the same meaning in these labels"
            )
        if not any(result.truth for result in results):
            yield (
                "there is no true instance: mean AP over the images is the share of images in which nothing was "
                "predicted, and says nothing of instances"
            )

    def _left_out(self) -> Generator[str]:
        """Say what is not labelled yet in a folder that is being labelled."""
        pairs, mismatches = ([], []) if self._data is None else match_folder(self._data)
        for left_out in mismatches:
            names = [shown_name(path) for path in left_out.files]
            yield f"{_count(names, 'image is not labelled yet', 'images are not labelled yet')}, and left out"
        if partly := [pair.name for pair in pairs if pair.ignored is not None]:
            images = _count(partly, "image is labelled in parts", "images are labelled in parts")
            yield f"{images}: {self._ignored / self._pixels:.1%} of all pixels do not count"


def _ignored_in_training(request: EvaluationRequest) -> int | None:
    if request.ignore_label is not None or not isinstance(request.model, Path):
        return None
    ignored: int | None = read_training(find_model(request.model)).config.data.get("ignore_label")
    return ignored


def _count(names: list[str], one: str, several: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else several} ({format_names(names)})"


class _WorstCases:
    """Holds the cases of the lowest scores, worst first, and no others."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.cases: list[tuple[float, Case]] = []

    def add(self, score: float, case: Case) -> None:
        ranked = sorted([*self.cases, (score, case)], key=lambda ranked: (ranked[0], ranked[1].name))
        self.cases = ranked[: self._count]


def _write_picture(path: Path, worst: _WorstCases, min_truth_size: int) -> None:
    panels = []
    any_ignored = False
    for mean_ap, case in worst.cases:
        ignored = case.truth == IGNORED
        any_ignored = any_ignored or bool(ignored.any())
        labels = drop_small_truth(*drop_ignored(case.truth, case.predicted), min_truth_size)
        title = f"{printable(case.name)}: mean AP {mean_ap:.3f}"
        panels.append(error_panel(title, *labels, case.image, ignored if ignored.any() else None))
    write_picture(path, error_picture(panels, ignored=any_ignored))
