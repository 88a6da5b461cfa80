"""What `instseg predict` does, as a function; `train`, `evaluate` and `check_data` stand in their packages.

Keyword arguments are named like the command's options. Results are returned instead of printed, and what goes wrong is
raised as `InstsegError`.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from instseg.distributed.client import DaskCluster, make_cluster
from instseg.distributed.predict import DaskExecutor
from instseg.distributed.tasks import model_ref
from instseg.inference.batch import Executor, LocalExecutor
from instseg.inference.job import PreparedJob, check_predict_options, prepare_job
from instseg.inference.model import load
from instseg.inference.options import Diameter, PlanesFrom, ProgressCallback, no_progress
from instseg.inference.request import LabelFormat, PredictRequest, TableFormat
from instseg.inference.run import PredictResult, no_images, run_job
from instseg.io.atomic import StrPath
from instseg.measurements.objects import PixelSize
from instseg.settings import ClusterSettings, FilterSettings, Precision, TileSettings, split_settings


def predict_files(
    model: StrPath,
    images: StrPath | Sequence[StrPath],
    *,
    out: StrPath | None = None,
    out_dir: StrPath | None = None,
    file_format: LabelFormat | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    shard: str | None = None,
    planes: bool = False,
    volume: bool = False,
    spacing: tuple[float, float, float] | None = None,
    planes_from: PlanesFrom | None = None,
    time: int | None = None,
    embeddings: StrPath | None = None,
    embeddings_picture: StrPath | None = None,
    overlay: StrPath | None = None,
    scores: StrPath | None = None,
    outlines: StrPath | None = None,
    measure: StrPath | None = None,
    measure_format: TableFormat = "csv",
    pixel_size: PixelSize | None = None,
    report: StrPath | None = None,
    coco: StrPath | None = None,
    yolo: StrPath | None = None,
    tta: bool = False,
    diameter: Diameter = None,
    channels: str | None = None,
    levels: tuple[float, float] | None = None,
    percentiles: tuple[float, float] | None = None,
    ignore_zeros: bool = False,
    precision: Precision | None = None,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    scheduler_file: StrPath | None = None,
    progress: ProgressCallback = no_progress,
    **settings: Any,
) -> PredictResult:
    """Segment image files, and write labels and whatever else is wanted.

    Parameters
    ----------
    model : path-like or str
        A model directory, or the name of a model in the package.
    images : path-like, or sequence of path-like
        Files, folders or patterns.
    out : path-like, optional
        Labels of one image: .png (16 bit), .tif or .npy (32 bit), or .zarr; of a volume all but .png. Either this or
        `out_dir`.
    out_dir : path-like, optional
        Folder for the labels of many images, named like these.
    file_format : {'png', 'tif', 'npy', 'zarr'}, optional
        Of the labels in `out_dir`; by default 'png', and 'tif' for volumes.
    overwrite, skip_existing : bool
        Whether to replace results that `out_dir` holds, or to leave images out that have theirs. Results that were
        made with another model or other settings are refused then; with both, they are replaced and others stay.
    shard : str, optional
        'I/N': the I-th of N parts of the images, for N runs side by side.
    planes : bool
        Whether to take a stack's planes as images.
    volume : bool
        Whether to take files, and folders of planes, as volumes.
    spacing : (float, float, float), optional
        The size of a voxel along Z, Y and X, in any unit, where it is not what the files say.
    planes_from : {'z', 'zyx'}, optional
        Whether a model of images sees planes along z alone, whose objects are joined, or along all three axes; by
        default chosen by the spacing.
    time : int, optional
        Which time point to take, from 0, of files that hold a volume for each.
    embeddings, embeddings_picture, overlay, scores, outlines : path-like, optional
        Further results: with `out` files (.npz, .png, .png, .csv, .geojson or .zip), with `out_dir` folders.
    coco : path-like, optional
        A file of COCO (.json) of all objects, with their scores.
    yolo : path-like, optional
        A folder for a data set of YOLO segmentation of all objects.
    report : path-like, optional
        A page (.html) that shows all images with their objects, to pass on.
    measure : path-like, optional
        Table of size, shape and intensity of the objects (.csv or .parquet), with `out_dir` a folder; then
        `summary.csv` beside the labels has the figures of each image.
    measure_format : {'csv', 'parquet'}
        Of the tables in a folder.
    pixel_size : tuple of float, optional
        Height and width of a pixel in micrometres for these tables, or the sides of a voxel along Z, Y and X, where
        they are not what the files say.
    tta : bool
        Whether to average over flips and quarter turns.
    diameter : float or 'auto', optional
        Typical diameter of the objects in pixels, if not as in training.
    channels : str, optional
        The images' channels to take.
    levels, percentiles : (float, float), optional
        The values of the files that become 0 and 1, or the percentiles that these are; by default the model's rule
        finds them.
    ignore_zeros : bool
        Whether pixels that are 0 in all channels hold no image.
    precision : {'float32', 'bfloat16'}, optional
        What the network computes in: by default bfloat16 on CPUs that are made for it, each worker by itself.
    threads : int, optional
        Threads of TensorFlow, of each worker if there are some; they are set when TensorFlow is first used.
    workers : int, optional
        How many processes on this machine are to do it.
    scheduler, scheduler_file : optional
        Address of a Dask scheduler, or the file that it has written.
    progress : callable
        Takes how many files are done (of one image, how many tiles), of how many, and a text.
    **settings
        Fields of `ClusterSettings`, `FilterSettings` and `TileSettings`, such as `min_size=20`, `exclude_border=True`
        or `tile=2048`.

    Returns
    -------
    PredictResult
        An image that fails costs no other: see `failed`, and `stopped` for why the run ended early.

    Raises
    ------
    UsageError, InstsegError
        If choices exclude each other, there is no image or model, or results cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import instseg
    >>> from instseg.data.generate import generate_discs
    >>> folder = tempfile.mkdtemp()
    >>> _ = generate_discs(f"{folder}/discs", count=2)
    >>> result = instseg.predict_files("shapes", f"{folder}/discs/images", out_dir=f"{folder}/labels")
    >>> [image.path.name for image in result.images], len(result.failed)
    (['0000.png', '0001.png'], 0)
    """
    clustering, filters, tiles = split_settings(settings, ClusterSettings, FilterSettings, TileSettings)
    check_predict_options(diameter, channels, clustering)
    file = None if scheduler_file is None else Path(scheduler_file)
    cluster = make_cluster(workers, scheduler, file, threads)
    request = PredictRequest(
        model=Path(model),
        images=[images] if isinstance(images, (str, PathLike)) else images,
        out=out,
        out_dir=out_dir,
        file_format=file_format,
        overwrite=overwrite,
        skip_existing=skip_existing,
        shard=shard,
        planes=planes,
        volume=volume,
        spacing=spacing,
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
        diameter=diameter,
        channels=channels,
        levels=levels,
        percentiles=percentiles,
        ignore_zeros=ignore_zeros,
        precision=precision,
        measure_format=measure_format,
        pixel_size=pixel_size,
        clustering=clustering,
        filters=filters,
        tiles=tiles,
    )
    return _run(prepare_job(request), cluster, threads, precision, progress)


def _run(
    prepared: PreparedJob,
    cluster: DaskCluster | None,
    threads: int | None,
    precision: Precision | None,
    progress: ProgressCallback,
) -> PredictResult:
    if not prepared.job.files:
        return no_images(prepared)
    executor: Executor
    if cluster is None:
        executor = LocalExecutor(load(prepared.model, precision=prepared.precision, threads=threads))
    else:
        executor = DaskExecutor(cluster, model_ref(prepared.model, cluster.threads_of_each, precision))
    return run_job(executor, prepared, progress)
