"""`instseg predict`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from instseg.cli import terminal
from instseg.cli.model import (
    Diameter,
    IgnoreZeros,
    LevelsChoice,
    ModelArgument,
    ModelChannels,
    ModelPrecision,
    PercentilesChoice,
    PixelSizeText,
    PlanesFromChoice,
    SpacingText,
    Tta,
    begin_reading,
    find_model,
    finish_reading,
    has_model,
    parse_diameter,
    parse_levels,
    parse_pixel_size,
    parse_spacing,
)
from instseg.cli.options import Overrides, settings_options
from instseg.cli.standard_streams import standard_streams
from instseg.errors import InstsegError
from instseg.settings import ClusterSettings, FilterSettings, ModelSettings, Precision, TileSettings

if TYPE_CHECKING:
    from instseg.distributed.client import DaskCluster
    from instseg.inference.batch import Executor
    from instseg.inference.job import PreparedJob
    from instseg.inference.loading import ModelReader
    from instseg.inference.request import PredictRequest
    from instseg.inference.results import ImageSummary
    from instseg.inference.run import PredictResult

# Fewer instances than this say nothing about the size of objects.
_MIN_INSTANCES = 5
_MAX_MESSAGES = 10


@settings_options(clustering=ClusterSettings, filters=FilterSettings, tiles=TileSettings)
@standard_streams
def predict(
    model: ModelArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Images, folders or patterns; - is standard input.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels of one image: .png (16 bit), .tif, .npy or .zarr; - is stdout."),
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the labels of many images, named like these.")
    ] = None,
    file_format: Annotated[
        Literal["png", "tif", "npy", "zarr"] | None,
        typer.Option("--format", help="Of the labels in --out-dir.", show_default="png, for volumes tif"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that --out-dir holds.")] = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Leave images out whose results --out-dir holds."),
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Take the I-th of N parts of the images, for N runs side by side.")
    ] = None,
    planes: Annotated[
        bool, typer.Option("--planes", help="Take a stack's planes as images: NAME-0000, NAME-0001, ... in --out-dir.")
    ] = False,
    volume: Annotated[
        bool, typer.Option("--volume", help="Take stacks, or folders of planes, as volumes: labels in 3-D.")
    ] = False,
    spacing: SpacingText = None,
    planes_from: PlanesFromChoice = None,
    time: Annotated[
        int | None,
        typer.Option(metavar="N", help="The time point to take, from 0, of files with a volume for each.", min=0),
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the embeddings (.npz); with --out-dir a folder.")
    ] = None,
    embeddings_picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the embeddings (.png); with --out-dir a folder.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the outlines (.png); with --out-dir a folder.")
    ] = None,
    tta: Tta = False,
    diameter: Diameter = None,
    channels: ModelChannels = None,
    levels: LevelsChoice = None,
    percentiles: PercentilesChoice = None,
    ignore_zeros: IgnoreZeros = False,
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also list the instances and their scores (.csv); with --out-dir a folder."),
    ] = None,
    outlines: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write polygons (.geojson, or .zip for ImageJ); with --out-dir a folder."
        ),
    ] = None,
    coco: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write all objects as COCO, with scores (.json).")
    ] = None,
    yolo: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write all objects as a data set of YOLO segmentation.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page that shows all of it, to pass on (.html).")
    ] = None,
    measure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also measure size, shape and intensity of the objects (.csv, .parquet); with --out-dir a folder.",
        ),
    ] = None,
    measure_format: Annotated[
        Literal["csv", "parquet"], typer.Option(help="Of the tables of --measure with --out-dir.")
    ] = "csv",
    pixel_size: PixelSizeText = None,
    precision: ModelPrecision = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of TensorFlow, of each worker if there are some.", show_default="all cores"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Have N processes on this machine do it.", show_default="none")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Have the workers of a Dask cluster do it.")
    ] = None,
    scheduler_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same, by the file that the scheduler has written.")
    ] = None,
    *,
    clustering: Overrides,
    filters: Overrides,
    tiles: Overrides,
) -> None:
    """Segment images: one label per object.

    The clustering settings stored in the model apply; options replace them.
    """
    terminal.check_threads(threads)
    size = parse_diameter(diameter)
    reader = None
    if workers is None and scheduler is None and scheduler_file is None and _may_begin(model, images):
        reader = begin_reading(model, precision, threads)
    from instseg.distributed.client import make_cluster
    from instseg.inference.job import check_predict_options
    from instseg.inference.request import PredictRequest

    check_predict_options(size, channels, clustering)
    cluster = make_cluster(workers, scheduler, scheduler_file, threads)
    request = PredictRequest(
        model=model,
        images=images,
        out=out,
        out_dir=out_dir,
        file_format=file_format,
        overwrite=overwrite,
        skip_existing=skip_existing,
        shard=shard,
        planes=planes,
        volume=volume,
        spacing=parse_spacing(spacing),
        planes_from=planes_from,
        time=time,
        extras={
            "embeddings": embeddings,
            "embeddings_picture": embeddings_picture,
            "overlay": overlay,
            "scores": scores,
            "outlines": outlines,
            "measure": measure,
        },
        report=report,
        coco=coco,
        yolo=yolo,
        distributed=cluster is not None,
        tta=tta,
        diameter=size,
        channels=channels,
        **parse_levels(levels, percentiles),
        ignore_zeros=ignore_zeros,
        precision=precision,
        measure_format=measure_format,
        pixel_size=parse_pixel_size(pixel_size),
        clustering=clustering,
        filters=filters,
        tiles=tiles,
    )
    _run(request, cluster, reader, threads)


def _run(
    request: "PredictRequest", cluster: "DaskCluster | None", reader: "ModelReader | None", threads: int | None
) -> None:
    """Do what was asked for, and print what became of it."""
    from instseg.inference.job import prepare_job
    from instseg.inference.run import no_images, run_job

    prepared = prepare_job(request)
    directory = find_model(request.model)
    _print_prepared(prepared)
    if not prepared.job.files:
        result = no_images(prepared)
        terminal.print_result("0 images, 0 instances")
        _print_notes(result)
        return
    if cluster is None:
        executor = _local_executor(reader or begin_reading(directory, request.precision, threads))
    else:
        executor = _dask_executor(cluster, directory, request.precision)
    with terminal.progress_bar("Segmenting") as progress:
        result = run_job(executor, prepared, progress)
    summaries = _report(result, request.out is not None, len(prepared.job.files))
    if request.diameter is None:
        _report_sizes(summaries, prepared.settings)
    elif request.diameter == "auto":
        _report_magnifications(summaries)


def _may_begin(model: Path, images: Sequence[Path]) -> bool:
    """Return whether there is a model, and may be an image, so that the model will probably be used."""
    return has_model(model) and (images[0].exists() or any(sign in str(images[0]) for sign in "*?["))


def _local_executor(reader: "ModelReader") -> "Executor":
    from instseg.inference.batch import LocalExecutor

    return LocalExecutor(finish_reading(reader))


def _dask_executor(cluster: "DaskCluster", model: Path, precision: Precision | None) -> "Executor":
    from instseg.distributed.predict import DaskExecutor
    from instseg.distributed.tasks import model_ref

    return DaskExecutor(cluster, model_ref(model, cluster.threads_of_each, precision))


def _print_prepared(prepared: "PreparedJob") -> None:
    """Print what is not segmented, and why."""
    if prepared.skipped:
        terminal.print_note(f"{prepared.skipped} images have their results already")
    for note in prepared.notes:
        terminal.print_note(f"Note: {note}")


def _report(result: "PredictResult", single: bool, files: int) -> "list[ImageSummary]":
    """Print what the images hold, and what could not be segmented."""
    summaries = [image.summary for image in result.images if image.summary is not None]
    if single:
        for image in result.failed:
            raise image.error or InstsegError(f"{image.path} could not be segmented")
        terminal.print_result(f"{result.images[0].labels}: {summaries[0].instances} instances")
        terminal.print_doubtful(sum(summary.doubtful for summary in summaries))
        _print_notes(result)
        if result.stopped is not None:
            raise result.stopped
        return summaries
    terminal.print_result(f"{len(summaries)} images, {sum(summary.instances for summary in summaries)} instances")
    terminal.print_doubtful(sum(summary.doubtful for summary in summaries))
    _print_notes(result)
    for image in result.failed[:_MAX_MESSAGES]:
        if image.error is not None:
            terminal.print_error(image.error.located(image.path))
    if result.failed:
        failed = len({image.path for image in result.failed})
        where = "" if result.failures is None else f"; {result.failures} names all of them"
        terminal.print_error(f"{failed} of {files} files could not be segmented{where}")
    if result.stopped is not None:
        raise result.stopped
    if result.failed:
        raise typer.Exit(1)
    return summaries


def _print_notes(result: "PredictResult") -> None:
    """Print what is to be known of results; what is the same for many images, once."""
    for line in result.annotations:
        terminal.print_note(line)
    images: dict[str, list[Path]] = {}
    for image in result.images:
        for note in image.notes:
            images.setdefault(note, []).append(image.path)
    # Those of most images first.
    for note, paths in sorted(images.items(), key=lambda one: -len(one[1]))[:_MAX_MESSAGES]:
        which = str(paths[0]) if len(paths) == 1 else f"{len(paths)} images, such as {paths[0]}"
        terminal.print_note(f"Note: {which}: {note}")
    if len(images) > _MAX_MESSAGES:
        terminal.print_note(f"Note: {len(images) - _MAX_MESSAGES} further notes are in run.json beside the results")


def _report_sizes(summaries: "Sequence[ImageSummary]", settings: ModelSettings) -> None:
    """Print a note where the objects are of another size than those that the model has learnt."""
    unlike = [
        summary.diameter
        for summary in summaries
        # The size of what is found says little where the model may not know such images, which a note says already.
        if summary.instances >= _MIN_INSTANCES
        and not summary.unfamiliar
        # As the network saw them.
        and settings.is_out_of_range(summary.diameter * summary.magnification)
    ]
    if unlike:
        typical = sorted(unlike)[len(unlike) // 2]
        where = "the objects" if len(summaries) == 1 else f"the objects in {len(unlike)} of {len(summaries)} images"
        shown, learnt = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in (typical, settings.diameter))
        terminal.print_note(
            f"Note: {where} measure about {shown} pixels, those of the training {learnt}; try --diameter {shown}"
        )


def _report_magnifications(summaries: "Sequence[ImageSummary]") -> None:
    """Print at which sizes images were seen, where these were estimated."""
    counts = Counter(round(summary.magnification, 2) for summary in summaries)
    sizes = ", ".join(f"{count} at {size:g} times its size" for size, count in sorted(counts.items()))
    terminal.print_note(f"Images were shown to the network as they are best recognised: {sizes}")
