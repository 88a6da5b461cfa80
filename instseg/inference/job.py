"""From what a caller names (images, outputs, choices) to a job that is known to be possible."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from instseg.errors import InstsegError, UsageError
from instseg.inference.batch import PredictJob
from instseg.inference.options import Diameter, PredictOptions
from instseg.inference.outputs import OutputFolder, OutputPaths, SingleOutput
from instseg.io.atomic import StrPath
from instseg.io.folders import find_images
from instseg.models.builtin import find_model
from instseg.models.config import read_training
from instseg.preprocessing.channels import parse_channels
from instseg.settings import ClusterSettings, ModelSettings, TileSettings

LabelFormat = Literal["png", "tif", "zarr"]


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
    """

    job: PredictJob
    model: Path
    settings: ModelSettings
    skipped: int


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


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """What a caller wants of `predict`.

    Attributes
    ----------
    model : Path
        A model directory, or the name of a model in the package.
    images : sequence of path-like
        Files, folders or patterns.
    out, out_dir : path-like or None
        A file for the labels of one image, or a folder for those of many: one of the two.
    file_format : {'png', 'tif', 'zarr'}
        Of the labels in `out_dir`.
    overwrite, skip_existing : bool
        Whether to replace results, or to leave images out that have theirs.
    shard : str or None
        'I/N' takes every N-th image from the I-th on.
    planes : bool
        Whether to take stacks plane by plane.
    extras : mapping of str to path-like or None
        Further results by `instseg.inference.outputs.EXTRAS`: files beside `out`, folders beside `out_dir`.
    distributed : bool
        Whether workers do the job, which write the labels of a single image as OME-Zarr only.
    tta, diameter, channels
        As `PredictOptions` has them.
    clustering, tiles : mapping of str to value
        Those settings of `ClusterSettings` and `TileSettings` that are not the defaults.
    """

    model: Path
    images: Sequence[StrPath]
    out: StrPath | None = None
    out_dir: StrPath | None = None
    file_format: LabelFormat = "png"
    overwrite: bool = False
    skip_existing: bool = False
    shard: str | None = None
    planes: bool = False
    extras: Mapping[str, StrPath | None] = field(default_factory=dict)
    distributed: bool = False
    tta: bool = False
    diameter: Diameter = None
    channels: str | None = None
    clustering: Mapping[str, Any] = field(default_factory=dict)
    tiles: Mapping[str, Any] = field(default_factory=dict)


def prepare_job(request: PredictRequest) -> PreparedJob:
    """Find images, check where results go, make the folders, and put the job together; TensorFlow is not needed.

    Raises
    ------
    UsageError, InstsegError
        If choices exclude each other, there is no image, or results cannot be written.
    """
    tiles = TileSettings(**request.tiles)
    _check_request(request)
    files = _shard_of(find_images([Path(image) for image in request.images]), request.shard)
    outputs, remaining = _outputs_of(request, files)
    model = find_model(request.model)
    settings = read_training(model).config.model
    if isinstance(request.diameter, float | int):
        # Refused before TensorFlow takes its seconds.
        settings.magnification(request.diameter)
    outputs.prepare()
    options = PredictOptions(
        tta=request.tta,
        diameter=request.diameter,
        channels=request.channels,
        overrides=request.clustering,
        tiles=tiles,
        measure=outputs.wants("scores", "outlines", "overlay"),
        return_embeddings=outputs.wants("embeddings", "embeddings_picture"),
        workspace=Path(request.out_dir or ".") if request.out is None else Path(request.out).parent,
    )
    job = PredictJob(
        files=tuple(remaining),
        options=options,
        outputs=outputs,
        planes=request.planes,
        planes_as_channels=request.channels is not None or settings.channel_choice is not None,
    )
    return PreparedJob(job, model, settings, len(files) - len(remaining))


def _check_request(request: PredictRequest) -> None:
    """Check that no two choices exclude each other."""
    if (request.out is None) == (request.out_dir is None):
        raise UsageError("expected either `out=FILE` for one image or `out_dir=DIR` for many; give one of them")
    if request.out is not None and (request.skip_existing or request.shard is not None):
        raise UsageError("`skip_existing` and `shard` are for many images; give `out_dir=DIR`, or leave them out")
    if request.skip_existing and (request.overwrite or request.planes):
        other = "overwrite" if request.overwrite else "planes"
        raise UsageError(f"`skip_existing` and `{other}` cannot go together; give one of them")


def _outputs_of(request: PredictRequest, files: list[Path]) -> tuple[OutputPaths, list[Path]]:
    """Return where results go, and the files that have none yet."""
    extras = {kind: None if path is None else Path(path) for kind, path in request.extras.items()}
    if request.out is not None:
        return _single_output(Path(request.out), extras, files, request.planes, request.distributed), files
    shared = request.overwrite or request.skip_existing or request.shard is not None
    folder = OutputFolder(Path(request.out_dir or "."), request.file_format, extras, files, shared)
    if request.overwrite:
        return folder, files
    return folder, _without_results(folder, files, request.planes, request.skip_existing)


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


def _without_results(outputs: OutputFolder, files: list[Path], planes: bool, skip_existing: bool) -> list[Path]:
    done = {file for file in files if outputs.holds(file.stem, planes)}
    if done and not skip_existing:
        raise InstsegError(
            f"{outputs.folder} holds results of {len(done)} of the images; "
            "add `skip_existing=True` or `overwrite=True`, or give another folder"
        )
    return [file for file in files if file not in done]


def _shard_of(files: list[Path], shard: str | None) -> list[Path]:
    """Return every N-th file from the I-th on for a shard 'I/N', so that the parts are as like each other as can be."""
    if shard is None:
        return files
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"shard is {shard}, expected I/N with I from 1 to N, such as 1/4", parameter="shard")
    return files[int(number) - 1 :: int(count)]
