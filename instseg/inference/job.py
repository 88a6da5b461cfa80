"""From what a caller names (images, outputs, choices) to a job that is known to be possible."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from instseg.clustering.filters import complete_filters
from instseg.errors import UsageError
from instseg.inference.annotation_files import AnnotationFiles, AnnotationPlan, folder_annotations, single_annotations
from instseg.inference.batch import PredictJob
from instseg.inference.existing import Remaining, check_no_results, without_results
from instseg.inference.memory import check_memory
from instseg.inference.options import Diameter, PredictOptions
from instseg.inference.outputs import OutputFolder, OutputPaths, SingleOutput
from instseg.inference.report import ReportPlan, plan_report
from instseg.inference.request import LabelFormat, PredictRequest
from instseg.inference.run_record import Making, RunRecord, read_records
from instseg.inference.volume_job import check_volume_file, check_volume_model, check_volume_request
from instseg.io.folders import search_images
from instseg.io.volumes import find_volumes
from instseg.measurements.objects import check_pixel_size
from instseg.models.builtin import find_model
from instseg.models.config import TrainingConfig, model_digest, read_training
from instseg.network.runtime import default_precision
from instseg.preprocessing.channels import parse_channels
from instseg.preprocessing.level_choice import LevelChoice
from instseg.settings import ClusterSettings, FilterSettings, ModelSettings, Precision, TileSettings
from instseg.version import installed_version


class PreparedJob(NamedTuple):
    """A job, and what was found on the way to it.

    Attributes
    ----------
    job : PredictJob
        Perhaps without files, where all have their results.
    model : Path
        The model directory.
    settings : ModelSettings
        What the model's network is.
    skipped : int
        Images that were left out as their results exist.
    notes : tuple of str
        What was left out besides, and what is not known of results that exist.
    record : RunRecord or None
        Of how results in a folder are made.
    shard : str or None
        As the request has it.
    precision : {'float32', 'bfloat16'}
        As the request has it, or as the machine suits.
    report : ReportPlan or None
        The page that is to be written in the end.
    annotations : AnnotationPlan or None
        The files of annotations that are to be written in the end.
    """

    job: PredictJob
    model: Path
    settings: ModelSettings
    skipped: int
    notes: tuple[str, ...]
    record: RunRecord | None
    shard: str | None
    precision: Precision
    report: ReportPlan | None = None
    annotations: AnnotationPlan | None = None


def check_predict_options(diameter: Diameter, channels: str | None, clustering: Mapping[str, Any]) -> None:
    """Check choices that no image and no model is needed for.

    Raises
    ------
    UsageError
        If one is out of its range.
    """
    ClusterSettings(**clustering)
    if channels is not None:
        parse_channels(channels)
    if isinstance(diameter, str) and diameter != "auto":
        raise UsageError(f"diameter is {diameter}, expected a number of pixels, or auto", parameter="diameter")


def prepare_job(request: PredictRequest) -> PreparedJob:
    """Find images, check where results go, make the folders, and put the job together; TensorFlow is not needed.

    Raises
    ------
    UsageError, InstsegError
        If choices exclude each other, there is no image, or results cannot be written.
    """
    tiles, choice = TileSettings(**request.tiles), _level_choice(request)
    filters = FilterSettings(**request.filters)
    check_memory(tiles, here=not request.distributed)
    _check_request(request)
    folders = [Path(path) for path in (request.out_dir, request.yolo, *request.extras.values()) if path is not None]
    found = (find_volumes if request.volume else search_images)(request.images, results=folders)
    files = _shard_of(list(found.files), request.shard)
    outputs = _outputs_of(request, files)
    model = find_model(request.model)
    config = read_training(model).config
    check_volume_model(request, config.model)
    check_volume_file(request, files)
    if isinstance(request.diameter, float | int):
        # Refused before TensorFlow takes its seconds.
        config.model.magnification(request.diameter)
    outputs.annotations = _annotation_files(request, config)
    record, remaining = None, Remaining(tuple(files), 0, ())
    if isinstance(outputs, OutputFolder):
        making, records = _making(request, model, config), read_records(outputs.folder)
        record = RunRecord(outputs.folder, request.shard, making, records)
        if request.skip_existing:
            remaining = without_results(outputs, files, request.planes, making, records, request.overwrite)
        elif not request.overwrite:
            check_no_results(outputs, files, request.planes, records)
    report = _report_plan(request, model, config, remaining)
    outputs.prepare()
    annotations = None
    if outputs.annotations is not None:
        outputs.annotations.prepare()
        annotations = AnnotationPlan(outputs.annotations, tuple(found.files), request.planes, outputs.labels)
    if report is not None:
        report.prepare()
    options = _predict_options(request, config, choice, filters, tiles, outputs, report)
    job = PredictJob(
        files=remaining.files,
        options=options,
        outputs=outputs,
        planes=request.planes,
        planes_as_channels=_planes_as_channels(request, config),
        volume=request.volume,
        spacing=request.spacing,
        time=request.time,
        report=None if report is None else report.parts,
        pixel_size=request.pixel_size,
    )
    notes = (*found.notes, *remaining.notes)
    about = (record, request.shard, _precision(request), report, annotations)
    return PreparedJob(job, model, config.model, remaining.skipped, notes, *about)


def _predict_options(
    request: PredictRequest,
    config: TrainingConfig,
    choice: LevelChoice,
    filters: FilterSettings,
    tiles: TileSettings,
    outputs: OutputPaths,
    report: ReportPlan | None,
) -> PredictOptions:
    return PredictOptions(
        tta=request.tta,
        diameter=request.diameter,
        channels=request.channels,
        level_choice=choice,
        overrides=request.clustering,
        filters=filters,
        tiles=tiles,
        # Scores also tell whether the model knows such images.
        measure=config.calibration is not None
        or report is not None
        or outputs.annotations is not None
        or filters.active
        or outputs.wants("scores", "outlines", "overlay", "measure"),
        return_embeddings=outputs.wants("embeddings", "embeddings_picture"),
        workspace=Path(request.out_dir or ".") if request.out is None else Path(request.out).parent,
        planes_from=request.planes_from,
    )


def _annotation_files(request: PredictRequest, config: TrainingConfig) -> AnnotationFiles | None:
    coco, yolo = (None if path is None else Path(path) for path in (request.coco, request.yolo))
    if request.out_dir is None:
        return single_annotations(coco, yolo, config.model.class_names)
    return folder_annotations(coco, yolo, config.model.class_names, Path(request.out_dir), _is_shared(request))


def _is_shared(request: PredictRequest) -> bool:
    """Return whether a folder of results may hold some."""
    return request.overwrite or request.skip_existing or request.shard is not None


def _planes_as_channels(request: PredictRequest, config: TrainingConfig) -> bool:
    return request.channels is not None or config.model.channel_choice is not None


def _report_plan(
    request: PredictRequest, model: Path, config: TrainingConfig, remaining: Remaining
) -> ReportPlan | None:
    if request.report is None:
        return None
    return plan_report(
        Path(request.report),
        _making(request, model, config),
        remaining,
        folder=None if request.out_dir is None else Path(request.out_dir),
        shard=request.shard,
        planes=request.planes,
        planes_as_channels=_planes_as_channels(request, config),
    )


def _making(request: PredictRequest, model: Path, config: TrainingConfig) -> Making:
    """Return all that labels depend on, with what the model says where the request says nothing."""
    settings = {
        "format": _label_format(request),
        "planes": request.planes,
        "tta": request.tta,
        "diameter": request.diameter,
        "channels": request.channels,
        **_level_choice(request).to_dict(),
        "precision": _precision(request),
        **config.clustering.to_dict(),
        **request.clustering,
        # Images that are shown magnified have the model's settings adapted, and these not.
        "replaced": [] if request.diameter is None else sorted(request.clustering),
        **complete_filters(FilterSettings(**request.filters), config.calibration).to_dict(),
        **TileSettings(**request.tiles).to_dict(),
    }
    if request.volume:
        spacing = None if request.spacing is None else list(request.spacing)
        settings |= {"volume": True, "spacing": spacing, "time": request.time, "planes_from": request.planes_from}
    if request.extras.get("measure") is not None:
        # Labels do not depend on it, and tables do.
        settings["pixel_size"] = None if request.pixel_size is None else list(request.pixel_size)
    name = str(request.model)
    # Images that are there were made in the other as well as in this one.
    unchosen = ("precision",) if request.precision is None else ()
    digest = model_digest(model)
    return Making(version=installed_version(), model=name, digest=digest, settings=settings, unchosen=unchosen)


def _precision(request: PredictRequest) -> Precision:
    return request.precision or default_precision()


def _label_format(request: PredictRequest) -> LabelFormat:
    return request.file_format or ("tif" if request.volume else "png")


def _level_choice(request: PredictRequest) -> LevelChoice:
    return LevelChoice(levels=request.levels, percentiles=request.percentiles, ignore_zeros=request.ignore_zeros)


def _check_request(request: PredictRequest) -> None:
    """Check that no two choices exclude each other."""
    check_volume_request(request)
    if (request.out is None) == (request.out_dir is None):
        raise UsageError("expected either `out=FILE` for one image or `out_dir=DIR` for many; give one of them")
    if request.out is not None and (request.skip_existing or request.shard is not None):
        raise UsageError("`skip_existing` and `shard` are for many images; give `out_dir=DIR`, or leave them out")
    if request.pixel_size is not None:
        check_pixel_size(request.pixel_size)
        if request.extras.get("measure") is None:
            raise UsageError("`pixel_size` is for measurements; give `measure=FILE`, or leave it out")


def _outputs_of(request: PredictRequest, files: list[Path]) -> OutputPaths:
    extras = {kind: None if path is None else Path(path) for kind, path in request.extras.items()}
    if request.out is not None:
        return _single_output(Path(request.out), extras, files, request.planes, request.distributed)
    shared = _is_shared(request)
    tables = f".{request.measure_format}"
    return OutputFolder(Path(request.out_dir or "."), _label_format(request), extras, files, shared, tables)


def _single_output(
    out: Path, extras: Mapping[str, Path | None], files: Sequence[Path], planes: bool, distributed: bool
) -> SingleOutput:
    if len(files) > 1:
        raise UsageError(f"`out` is for one image, but {len(files)} were found; give `out_dir=DIR`")
    if planes:
        raise UsageError("`out` is for one image, `planes` gives many; give `out_dir=DIR`")
    if distributed and out.suffix.lower() != ".zarr":
        raise UsageError(f"workers write the labels of one image as OME-Zarr, not as {out}; give `out=NAME.zarr`")
    return SingleOutput(out, extras, files[0])


def _shard_of(files: list[Path], shard: str | None) -> list[Path]:
    """Return every N-th file from the I-th on for a shard 'I/N', so that the parts are as like each other as can be."""
    if shard is None:
        return files
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"shard is {shard}, expected I/N with I from 1 to N, such as 1/4", parameter="shard")
    return files[int(number) - 1 :: int(count)]
