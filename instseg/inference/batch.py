"""Files to files: what is to be done (`PredictJob`), and doing it in this process (`LocalExecutor`)."""

import dataclasses
import functools
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from instseg.errors import InstsegError
from instseg.inference.embedder import Embedder
from instseg.inference.failures import as_instseg_error, has_no_room, without_frames
from instseg.inference.measured import write_measured
from instseg.inference.options import PredictOptions, ProgressCallback, no_progress
from instseg.inference.outputs import OutputPaths
from instseg.inference.report_parts import ReportParts
from instseg.inference.results import ImageSummary, SavedResults, save_results
from instseg.inference.segmentation import Segmentation
from instseg.inference.tiled import segment_many
from instseg.inference.volume import segment_volumes
from instseg.inference.volume_results import save_volume_results
from instseg.io.container import result_stem, split_inner
from instseg.io.label_strips import LabelStrips
from instseg.io.source import ImageReader, open_image, open_planes
from instseg.io.volumes import VolumeReader, open_volume
from instseg.measurements.objects import PixelSize


@dataclass(frozen=True, kw_only=True)
class PredictJob:
    """Images to segment, and where their results go.

    Attributes
    ----------
    files : tuple of Path
    options : PredictOptions
    outputs : OutputPaths
        Its folders exist.
    planes : bool
        Whether stacks are taken plane by plane.
    planes_as_channels : bool
        Whether the planes of a stack are channels.
    volume : bool
        Whether files hold volumes.
    spacing : tuple of 3 floats or None
        The size of a voxel along Z, Y and X, where it is not what the files say.
    time : int or None
        Which of a file's volumes is taken, where there is one for each time point.
    report : ReportParts or None
        Where what a report shows of each image goes.
    pixel_size : tuple of float or None
        Height and width of a pixel in micrometres, or the sides of a voxel along Z, Y and X, where these are not what
        the files say.
    """

    files: tuple[Path, ...]
    options: PredictOptions
    outputs: OutputPaths
    planes: bool = False
    planes_as_channels: bool = False
    volume: bool = False
    spacing: tuple[float, float, float] | None = None
    time: int | None = None
    report: ReportParts | None = None
    pixel_size: PixelSize | None = None


class FileState(NamedTuple):
    """By what a file is known to be the same as before: reading it again would take as long as segmenting it."""

    size: int
    modified: int


def file_state(path: Path) -> FileState | None:
    """Return the size of a file in bytes and when it was modified, in nanoseconds; None where it cannot be looked at.

    Of a Zarr folder it is the state of its metadata: chunks can be many.
    """
    path = split_inner(path).file
    try:
        files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
        states = [file.stat() for file in files]
    except OSError:
        return None
    return FileState(sum(one.st_size for one in states), max((one.st_mtime_ns for one in states), default=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What became of an image, or of a plane of a stack.

    Attributes
    ----------
    number : int
        Of its file in the job, from 1.
    path : Path
        The file.
    name : str
        That its results have.
    planes : int or None
        How many planes the file has, where they are taken as images.
    summary : ImageSummary or None
        None where it could not be segmented.
    error : InstsegError or None
        Why it could not be segmented.
    labels : Path or None
        Where its labels are.
    notes : tuple of str
        What somebody who uses the results should know.
    seconds : float
        Since the result before.
    state : FileState or None
        That of the file before it was read.
    figures : dict or None
        What `instseg.measurements.summary.summarise` says of the image, where its objects were measured.
    changes : Counter
        How many objects are other in annotations than in the labels, by what is other.
    """

    number: int
    path: Path
    name: str = ""
    planes: int | None = None
    summary: ImageSummary | None = None
    error: InstsegError | None = None
    labels: Path | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    state: FileState | None = None
    figures: dict[str, Any] | None = None
    changes: Counter[str] = field(default_factory=Counter)


class Executor(Protocol):
    """Who does a job: this process, or the workers of a cluster."""

    def run(self, job: PredictJob, progress: ProgressCallback = no_progress) -> Iterator[FileResult]:
        """Segment the files of a job and write their results; one that fails, in whatever way, costs no other.

        Parameters
        ----------
        job : PredictJob
        progress : ProgressCallback
            Takes how many files are done, or, of a single image, how many tiles.

        Yields
        ------
        FileResult
            For each image, as soon as it is done.

        Raises
        ------
        InstsegError
            If the job cannot go on, whatever the file: there is no room for results, for example.
        """


class LocalExecutor:
    """Segments files in this process: the network is at some images while the one before is clustered and written.

    Parameters
    ----------
    embedder : Embedder
        Such as the model that `instseg.load` returns.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def run(self, job: PredictJob, progress: ProgressCallback = no_progress) -> Iterator[FileResult]:
        """See `Executor.run`."""
        # Filled by the thread that reads.
        images: deque[_Image] = deque()
        single = len(job.files) == 1 and not job.planes
        throughput = Throughput(
            no_progress if single else progress, len(job.files), "voxels" if job.volume else "pixels"
        )
        of_tiles = progress if single else no_progress
        start = time.perf_counter()
        with closing(self._segment(job, images, of_tiles)) as segmentations:
            for segmentation in segmentations:
                image = images.popleft()
                result = _save(segmentation, job, image, start)
                # It is not to take memory while the next one is waited for.
                del segmentation
                start = time.perf_counter()
                throughput.add(image.number, result.summary)
                yield result
                if result.error is not None and has_no_room(result.error):
                    raise no_room_error(len(job.files) - image.number)

    def _segment(
        self, job: PredictJob, images: "deque[_Image]", progress: ProgressCallback
    ) -> Generator[Segmentation | InstsegError]:
        if job.volume:
            return segment_volumes(self._embedder, _readers(job, images), job.options, progress)
        return segment_many(self._embedder, _readers(job, images), job.options, progress)


def no_room_error(left: int) -> InstsegError:
    """Return the error that ends a job where results cannot be written any more, with so many files not done."""
    return InstsegError(
        f"there is no room for results, so {left} files were not tried; make room and go on with `skip_existing=True`"
    )


class Throughput:
    """Adds how fast images are done to a progress that counts files."""

    def __init__(self, progress: ProgressCallback, total: int, unit: str = "pixels") -> None:
        self._progress, self._total, self._unit = progress, total, unit
        self._start, self._pixels = time.perf_counter(), 0

    def add(self, done: int, summary: ImageSummary | None) -> None:
        """Take how many files are done, and the figures of the last image."""
        self._pixels += 0 if summary is None else summary.pixels
        seconds = max(time.perf_counter() - self._start, 1e-9)
        speed = f"{done / seconds:.1f} images/s, {self._pixels / 1e6 / seconds:.2f} mega{self._unit}/s"
        self._progress(done, self._total, speed)


class _Image(NamedTuple):
    number: int
    file: Path
    name: str
    planes: int | None
    state: FileState | None
    plane: int = 0


def _save(segmentation: Segmentation | InstsegError, job: PredictJob, image: _Image, start: float) -> FileResult:
    result = FileResult(number=image.number, path=image.file, name=image.name, planes=image.planes, state=image.state)
    try:
        if isinstance(segmentation, InstsegError):
            raise segmentation
        saved = _save_files(segmentation, job, image)
        figures = _measure(segmentation, job, image)
        if job.report is not None:
            state = file_state(saved.labels)
            with closing(_reopened(segmentation.image, job, image)) as pixels:
                job.report.write(image.name, pixels, segmentation.strips, segmentation.instances, state)
        result = dataclasses.replace(
            result, summary=saved.summary, labels=saved.labels, notes=saved.notes, figures=figures
        )
        if (annotations := job.outputs.annotations) is not None:
            written = annotations.write(segmentation, image.file, image.name, plane=image.planes is not None)
            result = dataclasses.replace(result, notes=(*saved.notes, *written.notes), changes=written.changes)
    except Exception as error:  # Whatever it is, it is this image's.
        result = dataclasses.replace(result, error=without_frames(as_instseg_error(error)))
    return dataclasses.replace(result, seconds=time.perf_counter() - start)


def _save_files(segmentation: Segmentation, job: PredictJob, image: _Image) -> SavedResults:
    if not job.volume:
        return save_results(segmentation, job.outputs, image.name)
    with closing(_reopened(segmentation.image, job, image)) as volume:
        return save_volume_results(segmentation, job.outputs, image.name, volume)


def _measure(segmentation: Segmentation, job: PredictJob, image: _Image) -> dict[str, Any] | None:
    """Write the table of what is measured, where it is wanted; return the figures of the image."""
    if (path := job.outputs.extra("measure", image.name)) is None:
        return None
    labels = LabelStrips(segmentation.store.shape, segmentation.strips, streamed=segmentation.image.streamed)
    with closing(_reopened(segmentation.image, job, image)) as pixels:
        return write_measured(path, labels, pixels, pixel_size=job.pixel_size, instances=segmentation.instances)


def _reopened(pixels: Any, job: PredictJob, image: _Image) -> Any:
    """Return an image to be read once more; one that is streamed was closed when its last tile had been read."""
    if not pixels.streamed:
        return pixels
    if job.volume:
        return open_volume(image.file, spacing=job.spacing, time=job.time)
    if job.planes:
        return open_planes(image.file)[image.plane]
    return open_image(image.file, planes_as_channels=job.planes_as_channels)


def _readers(job: PredictJob, images: "deque[_Image]") -> Iterator[Callable[[], Any]]:
    """Yield a function that opens an image or a volume for each, and note in `images` which it is."""
    for number, file in enumerate(job.files, start=1):
        state = file_state(file)
        if not job.planes:
            name = result_stem(file)
            images.append(_Image(number, file, name, None, state))
            yield functools.partial(_open_volume if job.volume else open_streamable, file, job, name)
            continue
        try:
            _check_link(file)
            planes = open_planes(file)
        except Exception as error:  # Whatever it is, it is this file's.
            images.append(_Image(number, file, result_stem(file), None, state))
            yield functools.partial(_raise, error)
            continue
        for index in range(len(planes)):
            name = plane_name(file, index)
            images.append(_Image(number, file, name, len(planes), state, index))
            yield functools.partial(_open_plane, planes, index, job, file)


def plane_name(file: Path, index: int) -> str:
    """Return the name of the results of a plane of a stack, by its index from 0."""
    return f"{result_stem(file)}-{index:04d}"


def open_streamable(file: Path, job: PredictJob, name: str) -> ImageReader:
    """Open an image of a job, whose results have to be such that can be written the way the image is read.

    Raises
    ------
    InstsegError
        If the image cannot be read, is streamed and a result needs all of it at once, or its results cannot have their
        names.
    """
    job.outputs.check_names(name)
    _check_link(file)
    return _checked(open_image(file, planes_as_channels=job.planes_as_channels), job, file, name)


def _open_volume(file: Path, job: PredictJob, name: str) -> VolumeReader:
    """Open a volume of a job; errors as `open_streamable`."""
    job.outputs.check_names(name)
    _check_link(file)
    volume = open_volume(file, spacing=job.spacing, time=job.time)
    if volume.streamed:
        try:
            job.outputs.check_streamable(file, name, volume=True)
        except InstsegError:
            volume.close()
            raise
    return volume


def _open_plane(planes: Sequence[ImageReader], index: int, job: PredictJob, file: Path) -> ImageReader:
    name = plane_name(file, index)
    job.outputs.check_names(name)
    return _checked(planes[index], job, file, name)


def _checked(image: ImageReader, job: PredictJob, file: Path, name: str) -> ImageReader:
    if image.streamed:
        try:
            job.outputs.check_streamable(file, name)
        except InstsegError:
            image.close()
            raise
    return image


def _check_link(file: Path) -> None:
    if file.is_symlink() and not os.path.exists(file):  # noqa: PTH110
        raise InstsegError(
            f"{file} is a link to {file.readlink()}, which is not there; fetch that file (with git-annex or DataLad: "
            "get), or remove the link"
        )


def _raise(error: Exception) -> ImageReader:
    raise error
