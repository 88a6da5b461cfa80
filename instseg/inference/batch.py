"""Files to files: what is to be done (`PredictJob`), and doing it in this process (`LocalExecutor`)."""

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.inference.embedder import Embedder
from instseg.inference.options import PredictOptions, ProgressCallback, no_progress
from instseg.inference.outputs import OutputPaths
from instseg.inference.results import ImageSummary, save_results
from instseg.inference.tiled import segment_many
from instseg.io.images import read_planes
from instseg.io.source import ArrayReader, ImageReader, open_image


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
    """

    files: tuple[Path, ...]
    options: PredictOptions
    outputs: OutputPaths
    planes: bool = False
    planes_as_channels: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What became of an image.

    Attributes
    ----------
    number : int
        Of its file in the job, from 1.
    path : Path
        The file.
    summary : ImageSummary or None
        None where it could not be segmented.
    error : InstsegError or None
        Why it could not be segmented.
    """

    number: int
    path: Path
    summary: ImageSummary | None = None
    error: InstsegError | None = None


class Executor(Protocol):
    """Who does a job: this process, or the workers of a cluster."""

    def run(self, job: PredictJob, progress: ProgressCallback = no_progress) -> Iterator[FileResult]:
        """Segment the files of a job and write their results; one that cannot be read or written costs no other.

        Parameters
        ----------
        job : PredictJob
        progress : ProgressCallback
            Takes how many files are done, or, of a single image, how many tiles.

        Yields
        ------
        FileResult
            For each image, in the files' order.

        Raises
        ------
        InstsegError
            If the job cannot go on, whatever the file.
        """


class LocalExecutor:
    """Segments files in this process: the network is at one image while the one before is clustered and written.

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
        throughput = Throughput(no_progress if single else progress, len(job.files))
        of_tiles = progress if single else no_progress
        for segmentation in segment_many(self._embedder, _readers(job, images), job.options, of_tiles):
            image = images.popleft()
            result = _save(segmentation, job.outputs, image)
            throughput.add(image.number, result.summary)
            yield result


class Throughput:
    """Adds how fast images are done to a progress that counts files."""

    def __init__(self, progress: ProgressCallback, total: int) -> None:
        self._progress, self._total = progress, total
        self._start, self._pixels = time.perf_counter(), 0

    def add(self, done: int, summary: ImageSummary | None) -> None:
        """Take how many files are done, and the figures of the last image."""
        self._pixels += 0 if summary is None else summary.pixels
        seconds = max(time.perf_counter() - self._start, 1e-9)
        speed = f"{done / seconds:.1f} images/s, {self._pixels / 1e6 / seconds:.2f} megapixels/s"
        self._progress(done, self._total, speed)


class _Image(NamedTuple):
    number: int
    file: Path
    name: str


def _save(segmentation: Any, outputs: OutputPaths, image: _Image) -> FileResult:
    try:
        if isinstance(segmentation, InstsegError):
            raise segmentation
        summary = save_results(segmentation, outputs, image.name)
    except InstsegError as error:
        return FileResult(number=image.number, path=image.file, error=error)
    return FileResult(number=image.number, path=image.file, summary=summary)


def _readers(job: PredictJob, images: "deque[_Image]") -> Iterator[Callable[[], ImageReader]]:
    """Yield a function that opens an image for each, and note in `images` which it is."""
    for number, file in enumerate(job.files, start=1):
        if not job.planes:
            images.append(_Image(number, file, file.stem))
            yield functools.partial(open_streamable, file, job, file.stem)
            continue
        try:
            planes = read_planes(file)
        except InstsegError as error:
            images.append(_Image(number, file, file.stem))
            yield functools.partial(_raise, error)
            continue
        for index, plane in enumerate(planes):
            images.append(_Image(number, file, f"{file.stem}-{index:04d}"))
            yield functools.partial(_as_reader, plane, file)


def open_streamable(file: Path, job: PredictJob, name: str) -> ImageReader:
    """Open an image of a job, whose results have to be such that can be written the way the image is read.

    Raises
    ------
    InstsegError
        If the image cannot be read, or is streamed and a result needs all of it at once.
    """
    image = open_image(file, planes_as_channels=job.planes_as_channels)
    if image.streamed:
        try:
            job.outputs.check_streamable(file, name)
        except InstsegError:
            image.close()
            raise
    return image


def _as_reader(plane: NDArray[Any], file: Path) -> ImageReader:
    return ArrayReader(plane, file)


def _raise(error: InstsegError) -> ImageReader:
    raise error
