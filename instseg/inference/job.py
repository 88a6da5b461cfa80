"""From what a caller names (images, outputs, choices) to a job that is known to be possible."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

from instseg.errors import InstsegError, UsageError
from instseg.inference.batch import PredictJob
from instseg.inference.options import Diameter, PredictOptions
from instseg.inference.outputs import OutputFolder, OutputPaths, SingleOutput
from instseg.io.folders import find_images
from instseg.models.config import read_training
from instseg.preprocessing.channels import parse_channels
from instseg.settings import ClusterSettings, ModelSettings, TileSettings

StrPath = str | PathLike[str]
LabelFormat = Literal["png", "tif", "zarr"]


class PreparedJob(NamedTuple):
    """A job, and what was found on the way to it.

    Attributes
    ----------
    job : PredictJob
        Perhaps without files, where all have their results.
    settings : ModelSettings
        What the model's network is.
    skipped : int
        Images that were left out as their results exist.
    """

    job: PredictJob
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


def prepare_job(
    model: Path,
    images: Sequence[StrPath],
    *,
    out: StrPath | None = None,
    out_dir: StrPath | None = None,
    file_format: LabelFormat = "png",
    overwrite: bool = False,
    skip_existing: bool = False,
    shard: str | None = None,
    planes: bool = False,
    extras: Mapping[str, StrPath | None] | None = None,
    distributed: bool = False,
    tta: bool = False,
    diameter: Diameter = None,
    channels: str | None = None,
    clustering: Mapping[str, Any] | None = None,
    tiles: TileSettings | None = None,
) -> PreparedJob:
    """Find images, check where results go, make the folders, and put the job together; TensorFlow is not needed.

    Parameters
    ----------
    model : Path
        A model directory.
    images : sequence of path-like
        Files, folders or patterns.
    out, out_dir : path-like, optional
        A file for the labels of one image, or a folder for those of many: one of the two.
    file_format : {'png', 'tif', 'zarr'}
        Of the labels in `out_dir`.
    overwrite, skip_existing : bool
        Whether to replace results, or to leave images out that have theirs.
    shard : str, optional
        'I/N' takes every N-th image from the I-th on.
    planes : bool
        Whether to take stacks plane by plane.
    extras : mapping of str to path-like or None
        Further results by `instseg.inference.outputs.EXTRAS`: files beside `out`, folders beside `out_dir`.
    distributed : bool
        Whether workers do the job, which write the labels of a single image as OME-Zarr only.
    tta, diameter, channels, clustering, tiles
        As `PredictOptions` has them (`clustering` are its overrides).

    Returns
    -------
    PreparedJob

    Raises
    ------
    UsageError, InstsegError
        If choices exclude each other, there is no image, or results cannot be written.
    """
    if (out is None) == (out_dir is None):
        raise UsageError("expected either `out=FILE` for one image or `out_dir=DIR` for many; give one of them")
    files = _shard_of(find_images([Path(image) for image in images]), shard)
    if out is not None and (skip_existing or shard is not None):
        raise UsageError("`skip_existing` and `shard` are for many images; give `out_dir=DIR`, or leave them out")
    if skip_existing and (overwrite or planes):
        other = "overwrite" if overwrite else "planes"
        raise UsageError(f"`skip_existing` and `{other}` cannot go together; give one of them")
    paths = {kind: None if path is None else Path(path) for kind, path in (extras or {}).items()}
    outputs: OutputPaths
    if out is not None:
        outputs = _single_output(Path(out), paths, files, planes, distributed)
        remaining = files
    else:
        shared = overwrite or skip_existing or shard is not None
        outputs = folder = OutputFolder(Path(out_dir or "."), file_format, paths, files, shared)
        remaining = files if overwrite else _without_results(folder, files, planes, skip_existing)
    settings = read_training(model).config.model
    if isinstance(diameter, float | int):
        # Refused before TensorFlow takes its seconds.
        settings.magnification(diameter)
    outputs.prepare()
    options = PredictOptions(
        tta=tta,
        diameter=diameter,
        channels=channels,
        overrides=clustering or {},
        tiles=tiles or TileSettings(),
        measure=outputs.wants("scores", "outlines", "overlay"),
        return_embeddings=outputs.wants("embeddings", "embeddings_picture"),
        workspace=Path(out_dir) if out_dir is not None else Path(out or ".").parent,
    )
    job = PredictJob(
        files=tuple(remaining),
        options=options,
        outputs=outputs,
        planes=planes,
        planes_as_channels=channels is not None or settings.channel_choice is not None,
    )
    return PreparedJob(job, settings, len(files) - len(remaining))


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
