"""`instseg predict`."""

import functools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from instseg.cli import terminal
from instseg.cli.model import (
    Diameter,
    KnownModel,
    LearntChannels,
    Tta,
    load_model,
    parse_diameter,
    require_channels,
    require_model,
)
from instseg.cli.options import Given, settings_options
from instseg.cli.targets import ManyImages, OneImage, Targets, require_parts
from instseg.errors import InstsegError, UsageError
from instseg.settings import ClusterSettings, ModelSettings, TileSettings

if TYPE_CHECKING:
    from instseg.instances import Instances
    from instseg.predict import Model
    from instseg.segment import How, Segmented

# Fewer instances than this say nothing about the size of objects.
_TELLING = 5


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
    threads: Annotated[int | None, typer.Option(help="Threads of TensorFlow.", show_default="all cores")] = None,
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
    loaded = load_model(model, threads)
    from instseg.segment import How

    stacked = channels is not None or loaded.settings.channel_choice is not None
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
    if out is not None:
        found = [_write(_one(loaded, files[0], stacked, how, targets), targets, files[0], "")]
        typer.echo(f"{out}: {found[0].instances} instances")
    else:
        found = _segment_all(loaded, files, planes, stacked, how, targets)
    if size is None:
        _warn(found, loaded.settings)
    elif size == "auto":
        _tell_sizes(found)


def _part_of(files: list[Path], shard: str | None) -> list[Path]:
    """Return every N-th file from the I-th on for a shard I/N, so that the parts are as like each other as can be."""
    if shard is None:
        return files
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard is {shard}, expected I/N with I from 1 to N, such as 1/4")
    return files[int(number) - 1 :: int(count)]


class _Found(NamedTuple):
    """What an image holds."""

    instances: int
    diameter: float
    """Median over the instances, in pixels; 0 without any."""
    magnification: float


def _warn(found: "list[_Found]", settings: ModelSettings) -> None:
    """Say so where the objects are of another size than those that the model has learnt."""
    unlike = [one.diameter for one in found if one.instances >= _TELLING and settings.plainly_unlike(one.diameter)]
    if unlike:
        typical = sorted(unlike)[len(unlike) // 2]
        where = "the objects" if len(found) == 1 else f"the objects in {len(unlike)} of {len(found)} images"
        shown, learnt = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in (typical, settings.diameter))
        terminal.note(
            f"Note: {where} measure about {shown} pixels, those of the training {learnt}; try --diameter {shown}"
        )


def _tell_sizes(found: "list[_Found]") -> None:
    """Say at which sizes images were seen, where these were found out."""
    counts = Counter(round(one.magnification, 2) for one in found)
    told = ", ".join(f"{count} at {size:g} times its size" for size, count in sorted(counts.items()))
    terminal.note(f"Images were shown to the network as they are best recognised: {told}")


def _one(model: "Model", file: Path, stacked: bool, how: "How", targets: Targets) -> "Segmented":
    from instseg.segment import segment_all

    with terminal.counting("Segmenting") as count:
        for found in segment_all(model, [functools.partial(open_image, file, stacked, targets, "")], how, count):
            if isinstance(found, InstsegError):
                raise found
            return found
    raise AssertionError("an image gives a result")


def open_image(file: Path, stacked: bool, targets: Targets, name: str) -> Any:
    """Read an image, or open one that is too large for memory, for which some results cannot be made."""
    from instseg.decoding import header
    from instseg.files import is_zarr
    from instseg.images import read_image
    from instseg.omezarr import ZarrSource
    from instseg.sources import LARGE, TiffSource, reads_in_parts

    if is_zarr(file):
        require_parts(file, targets, name)
        return ZarrSource(file)
    found = header(file, most_pixels=None)
    if stacked or found.height * found.width <= LARGE or not reads_in_parts(file):
        return read_image(file, stacked=stacked)
    require_parts(file, targets, name)
    return TiffSource(file)


def _write(found: "Segmented", targets: Targets, file: Path, name: str) -> _Found:
    """Write all results of one image and say what was found in it."""
    import numpy as np

    from instseg.decoding import place
    from instseg.embeddings import write_embeddings
    from instseg.images import BAND, write_label_bands, write_labels, write_picture
    from instseg.instances import write_table
    from instseg.omezarr import ZarrSource, write_zarr_labels
    from instseg.outlines import write_outlines
    from instseg.render import embeddings_picture

    target = targets.labels(name)
    if target.suffix.lower() == ".zarr":
        like = found.image if isinstance(found.image, ZarrSource) else None
        write_zarr_labels(target, found.labels.shape, found.bands(BAND), like)
    else:
        where = place(file) if target.suffix.lower() in (".tif", ".tiff") else None
        if isinstance(found.labels, np.ndarray):
            write_labels(target, found.labels, where)
        else:
            write_label_bands(target, found.labels.shape, found.bands(BAND), where)
    if not isinstance(found.labels, np.ndarray):
        if found.instances is None:
            raise AssertionError("instances of stored labels are described")
        if (path := targets.extra("scores", name)) is not None:
            write_table(path, found.instances)
        return _measured(found.instances.area, found.magnification)
    if found.maps is not None:
        if (path := targets.extra("npz", name)) is not None:
            write_embeddings(path, found.maps)
        if (path := targets.extra("embeddings", name)) is not None:
            write_picture(path, embeddings_picture(found.maps.embeddings, found.maps.foreground))
    if found.instances is not None:
        if (path := targets.extra("overlay", name)) is not None:
            write_picture(path, _overlay(found.image, found.labels, found.instances))
        if (path := targets.extra("scores", name)) is not None:
            write_table(path, found.instances)
        if (path := targets.extra("outlines", name)) is not None:
            write_outlines(path, found.labels, found.instances)
    return _measured(np.bincount(found.labels.ravel())[1:], found.magnification)


def _measured(areas: Any, magnification: float) -> _Found:
    import numpy as np

    return _Found(len(areas), float(np.sqrt(np.median(areas) * 4 / np.pi)) if len(areas) else 0.0, magnification)


def _overlay(image: Any, labels: Any, found: "Instances") -> Any:
    """Draw the outlines, in the colours of classes where the model knows some."""
    import numpy as np

    from instseg.render import below_each_other, classes_legend, overlay

    if not found.class_names:
        return overlay(image, labels)
    classes = np.zeros(int(labels.max()) + 1, np.int32)
    classes[found.id] = found.class_probabilities.argmax(axis=1) + 1
    picture = overlay(image, labels, classes=classes)
    return below_each_other([picture, classes_legend(picture.shape[1], found.class_names)])


class _Job(NamedTuple):
    """An image to segment."""

    number: int
    """Of its file, from 1."""
    file: Path
    name: str


def _segment_all(
    model: "Model", files: list[Path], planes: bool, stacked: bool, how: "How", targets: Targets
) -> list[_Found]:
    """Segment image after image; one that cannot be read costs no other."""
    from instseg.segment import segment_all

    failures: list[str] = []
    written: list[_Found] = []
    # Filled by the thread that reads.
    jobs: deque[_Job] = deque()
    start, pixels = time.perf_counter(), 0
    with terminal.counting("Segmenting") as count:
        for found in segment_all(model, _readers(files, planes, stacked, jobs, targets), how):
            job = jobs.popleft()
            try:
                if isinstance(found, InstsegError):
                    raise found
                written.append(_write(found, targets, job.file, job.name))
                pixels += math.prod(found.labels.shape)
            except InstsegError as error:
                # Errors of reading name the file themselves.
                named = str(job.file) in str(error)
                failures.append(str(error) if named else f"{job.file}: {error}")
            seconds = time.perf_counter() - start
            speed = f"{job.number / seconds:.1f} images/s, {pixels / 1e6 / seconds:.2f} megapixels/s"
            count(job.number, len(files), speed)
    typer.echo(f"{len(written)} images, {sum(one.instances for one in written)} instances")
    if failures:
        for failure in failures[:10]:
            terminal.complain(failure)
        raise InstsegError(f"{len(failures)} of {len(files)} files could not be segmented")
    return written


def _readers(
    files: list[Path], planes: bool, stacked: bool, jobs: "deque[_Job]", targets: Targets
) -> Iterator[Callable[[], Any]]:
    """Give a function that reads an image for each, and note in `jobs` what it is."""
    from instseg.images import read_planes

    for number, file in enumerate(files, start=1):
        if not planes:
            jobs.append(_Job(number, file, file.stem))
            yield functools.partial(open_image, file, stacked, targets, file.stem)
            continue
        try:
            images = read_planes(file)
        except InstsegError as error:
            jobs.append(_Job(number, file, file.stem))
            yield functools.partial(_fail, error)
            continue
        for plane, image in enumerate(images):
            jobs.append(_Job(number, file, f"{file.stem}-{plane:04d}"))
            yield functools.partial(_given, image)


def _fail(error: InstsegError) -> Any:
    raise error


def _given(image: Any) -> Any:
    return image
