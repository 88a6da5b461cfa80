"""`instseg predict`."""

import functools
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from instseg.cli import terminal
from instseg.cli.model import (
    Diameter,
    KnownModel,
    LearntChannels,
    ModelPrecision,
    Tta,
    load_model,
    parse_diameter,
    read_model,
    require_channels,
    require_model,
)
from instseg.cli.options import Given, settings_options
from instseg.errors import InstsegError, UsageError
from instseg.settings import ClusterSettings, ModelSettings, TileSettings
from instseg.targets import ManyImages, OneImage, Targets

if TYPE_CHECKING:
    from instseg.batch import Done, Found
    from instseg.predict import Model
    from instseg.segment import How
    from instseg.workers import Cluster, ModelFile

# Fewer instances than this say nothing about the size of objects.
_TELLING = 5
_MOST_WORKERS = 1024


@settings_options(clustering=ClusterSettings, tiles=TileSettings)
def predict(
    model: KnownModel,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Images, folders or patterns.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels of one image: .png (16 bit), .tif (32 bit) or .zarr.")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the labels of many images, named like these.")
    ] = None,
    file_format: Annotated[
        Literal["png", "tif", "zarr"], typer.Option("--format", help="Of the labels in --out-dir.")
    ] = "png",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that --out-dir holds.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave images out whose results --out-dir holds.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Take the I-th of N parts of the images, for N runs side by side.")
    ] = None,
    planes: Annotated[
        bool, typer.Option("--planes", help="Take a stack's planes as images: NAME-0000, NAME-0001, ... in --out-dir.")
    ] = False,
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
    channels: LearntChannels = None,
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
    precision: ModelPrecision = "float32",
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
    clustering: Given,
    tiles: Given,
) -> None:
    """Segment images: one label per object.

    The clustering settings stored in the model apply; options replace them.
    """
    ClusterSettings(**clustering)
    TileSettings(**tiles)
    terminal.require_threads(threads)
    require_channels(channels)
    size = parse_diameter(diameter)
    if (out is None) == (out_dir is None):
        raise UsageError("expected either --out FILE for one image or --out-dir DIR for many; give one of them")
    cluster = _cluster_of(workers, scheduler, scheduler_file, threads)
    from instseg.data.folder import find_images

    files = _part_of(find_images(images), shard)
    if out is not None and (skip_existing or shard is not None):
        raise UsageError("--skip-existing and --shard are for many images; give --out-dir DIR, or leave them out")
    if skip_existing and (overwrite or planes):
        other = "--overwrite" if overwrite else "--planes"
        raise UsageError(f"--skip-existing and {other} cannot go together; give one of them")
    extras = {
        "npz": embeddings,
        "embeddings": embeddings_picture,
        "overlay": overlay,
        "scores": scores,
        "outlines": outlines,
    }
    if out is not None:
        if len(files) > 1:
            raise UsageError(f"--out is for one image, but {len(files)} were found; give --out-dir DIR")
        if planes:
            raise UsageError("--out is for one image, --planes gives many; give --out-dir DIR")
        if cluster is not None and out.suffix.lower() != ".zarr":
            raise UsageError(f"workers write the labels of one image as OME-Zarr, not as {out}; give --out NAME.zarr")
        targets: Targets = OneImage(out, extras, files[0])
    else:
        kept = overwrite or skip_existing or shard is not None
        targets = many = ManyImages(out_dir or Path(), file_format, extras, files, kept)
        if not overwrite:
            done = [file for file in files if many.holds(file.stem, planes)]
            if done and not skip_existing:
                raise InstsegError(
                    f"{out_dir} holds results of {len(done)} of the images; "
                    "add --skip-existing or --overwrite, or give another folder"
                )
            files = [file for file in files if file not in set(done)]
            if done:
                terminal.note(f"{len(done)} images have their results already")
    # A mistyped model is told at once, and leaves no empty folders.
    model = require_model(model, size)
    targets.prepare()
    if not files:
        typer.echo("0 images, 0 instances")
        return
    settings = read_model(model)
    stacked = channels is not None or settings.channel_choice is not None
    from instseg.segment import How

    how = How(
        tta=tta,
        diameter=size,
        channels=channels,
        changes=clustering,
        tiles=TileSettings(**tiles),
        described=any(targets.wants(kind) for kind in ("scores", "outlines", "overlay")),
        mapped=any(targets.wants(kind) for kind in ("npz", "embeddings")),
        workspace=out_dir or (out or Path()).parent,
    )
    if cluster is not None:
        from instseg.workers import model_file

        found = _spread(
            cluster, model_file(model, cluster.threads_of_each, precision), files, planes, stacked, how, targets
        )
    else:
        loaded = load_model(model, threads, precision)
        if out is not None:
            found = [_one(loaded, files[0], stacked, how, targets)]
            typer.echo(f"{out}: {found[0].instances} instances")
        else:
            found = _summed_up(_many(loaded, files, planes, stacked, how, targets), len(files))
    if size is None:
        _warn(found, settings)
    elif size == "auto":
        _tell_sizes(found)


def _cluster_of(
    workers: int | None, scheduler: str | None, scheduler_file: Path | None, threads: int | None
) -> "Cluster | None":
    """Return who is to do the work, if it is not this process."""
    given = [
        name
        for name, value in (("--workers", workers), ("--scheduler", scheduler), ("--scheduler-file", scheduler_file))
        if value is not None
    ]
    if not given:
        return None
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} cannot go together; give one of them")
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise UsageError(f"--workers is {workers}, expected a number from 1 to {_MOST_WORKERS}")
    from instseg.extras import require_dask

    require_dask()
    from instseg.workers import Cluster

    return Cluster(scheduler=scheduler, scheduler_file=scheduler_file, workers=workers, threads=threads)


def _part_of(files: list[Path], shard: str | None) -> list[Path]:
    """Return every N-th file from the I-th on for a shard I/N, so that the parts are as like each other as can be."""
    if shard is None:
        return files
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard is {shard}, expected I/N with I from 1 to N, such as 1/4")
    return files[int(number) - 1 :: int(count)]


def _warn(found: "list[Found]", settings: ModelSettings) -> None:
    """Say so where the objects are of another size than those that the model has learnt."""
    unlike = [one.diameter for one in found if one.instances >= _TELLING and settings.plainly_unlike(one.diameter)]
    if unlike:
        typical = sorted(unlike)[len(unlike) // 2]
        where = "the objects" if len(found) == 1 else f"the objects in {len(unlike)} of {len(found)} images"
        shown, learnt = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in (typical, settings.diameter))
        terminal.note(
            f"Note: {where} measure about {shown} pixels, those of the training {learnt}; try --diameter {shown}"
        )


def _tell_sizes(found: "list[Found]") -> None:
    """Say at which sizes images were seen, where these were found out."""
    counts = Counter(round(one.magnification, 2) for one in found)
    told = ", ".join(f"{count} at {size:g} times its size" for size, count in sorted(counts.items()))
    terminal.note(f"Images were shown to the network as they are best recognised: {told}")


def _one(model: "Model", file: Path, stacked: bool, how: "How", targets: Targets) -> "Found":
    from instseg.batch import open_image, write_results
    from instseg.segment import segment_all

    with terminal.counting("Segmenting") as count:
        for found in segment_all(model, [functools.partial(open_image, file, stacked, targets, "")], how, count):
            if isinstance(found, InstsegError):
                raise found
            return write_results(found, targets, file, "")
    raise AssertionError("an image gives a result")


def _many(model: "Model", files: list[Path], planes: bool, stacked: bool, how: "How", targets: Targets) -> "list[Done]":
    from instseg.batch import segment_files

    done = []
    with terminal.counting("Segmenting") as count:
        speed = _Speed(count, len(files))
        for one in segment_files(model, files, how, targets, planes=planes, stacked=stacked):
            done.append(one)
            speed.tell(one.number, 0 if isinstance(one.found, str) else one.found.pixels)
    return done


class _Speed:
    """Tells how fast images are done."""

    def __init__(self, count: terminal.Counter, total: int) -> None:
        self._count, self._total = count, total
        self._start, self._pixels = time.perf_counter(), 0

    def tell(self, done: int, pixels: int) -> None:
        """Say how many are done, and how many pixels more."""
        self._pixels += pixels
        seconds = time.perf_counter() - self._start
        speed = f"{done / seconds:.1f} images/s, {self._pixels / 1e6 / seconds:.2f} megapixels/s"
        self._count(done, self._total, speed)


def _summed_up(done: "list[Done]", files: int) -> "list[Found]":
    """Say what was found in many images, and what could not be segmented."""
    found = [one.found for one in done if not isinstance(one.found, str)]
    failures = [one.found for one in done if isinstance(one.found, str)]
    typer.echo(f"{len(found)} images, {sum(one.instances for one in found)} instances")
    if failures:
        for failure in failures[:10]:
            terminal.complain(failure)
        raise InstsegError(f"{len(failures)} of {files} files could not be segmented")
    return found


def _spread(
    cluster: "Cluster", model: "ModelFile", files: list[Path], planes: bool, stacked: bool, how: "How", targets: Targets
) -> "list[Found]":
    """Have the workers of a cluster do it."""
    from instseg.workers import predict_blocks, predict_files

    if isinstance(targets, ManyImages):
        with terminal.counting("Segmenting") as count:
            speed = _Speed(count, len(files))
            done = predict_files(cluster, model, files, how, targets, planes=planes, stacked=stacked, told=speed.tell)
        return _summed_up(done, len(files))
    with terminal.counting("Segmenting") as count:
        found = predict_blocks(cluster, model, files[0], how, targets, stacked=stacked, told=count)
    typer.echo(f"{targets.labels('')}: {found.instances} instances")
    return [found]
