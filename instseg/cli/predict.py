"""`instseg predict`."""

import functools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

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
from instseg.errors import InstsegError, UsageError
from instseg.settings import ClusterSettings, ModelSettings, TileSettings

if TYPE_CHECKING:
    from instseg.instances import Instances
    from instseg.predict import Model
    from instseg.segment import How, Segmented

# What needs all of an image at once, and how it is asked for.
_WHOLE = {"npz": "--embeddings", "embeddings": "--embeddings-picture", "overlay": "--overlay", "outlines": "--outlines"}
# Fewer instances than this say nothing about the size of objects.
_TELLING = 5
# Of the extra files; the first is that of the files in a folder.
_SUFFIXES = {
    "npz": (".npz",),
    "embeddings": (".png",),
    "overlay": (".png",),
    "scores": (".csv",),
    "outlines": (".geojson", ".zip"),
}


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
        targets: _Targets = _OneImage(out, extras, files[0])
    else:
        kept = overwrite or skip_existing or shard is not None
        targets = _ManyImages(out_dir or Path(), file_format, extras, files, kept)
        if not overwrite:
            done = [file for file in files if targets.holds(file.stem, planes)]
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


class _Targets(Protocol):
    """Where the results of an image go, by its name; refused when it is made if they cannot go there."""

    def prepare(self) -> None: ...

    def labels(self, name: str) -> Path: ...

    def wants(self, kind: str) -> bool: ...

    def holds(self, name: str, planes: bool) -> bool: ...

    def extra(self, kind: str, name: str) -> Path | None: ...


class _OneImage:
    def __init__(self, out: Path, extras: dict[str, Path | None], image: Path) -> None:
        from instseg.extras import require_zarr
        from instseg.files import require_target, require_zarr_target
        from instseg.images import LABEL_SUFFIXES
        from instseg.outlines import require_format

        if out.suffix.lower() == ".zarr":
            require_zarr()
            require_zarr_target(out)
        else:
            require_target(out, *LABEL_SUFFIXES, ".zarr")
        for kind, path in extras.items():
            if path is not None:
                require_target(path, *_SUFFIXES[kind])
        if extras["outlines"] is not None:
            require_format(extras["outlines"])
        paths = [path.resolve() for path in (out, *extras.values()) if path is not None]
        if len(set(paths)) < len(paths):
            raise UsageError("labels, embeddings and pictures cannot share a file; give each its own name")
        if image.resolve() in paths:
            raise UsageError(f"{image} is the image itself and would be replaced; give the results another name")
        self._out, self._extras = out, extras

    def prepare(self) -> None:
        """Nothing is missing: the folder of a single file is never made."""

    def holds(self, name: str, planes: bool) -> bool:
        return self._out.exists()

    def labels(self, name: str) -> Path:
        return self._out

    def wants(self, kind: str) -> bool:
        return self._extras[kind] is not None

    def extra(self, kind: str, name: str) -> Path | None:
        return self._extras[kind]


class _ManyImages:
    def __init__(
        self, folder: Path, suffix: str, extras: dict[str, Path | None], files: list[Path], shared: bool
    ) -> None:
        self._folder, self._suffix, self._extras = folder, suffix, extras
        self._folders = [folder, *(other for other in extras.values() if other is not None)]
        self._require_free(files, shared)

    def prepare(self) -> None:
        """Make the folders."""
        from instseg.files import make_folder

        for folder in self._folders:
            make_folder(folder)

    def holds(self, name: str, planes: bool) -> bool:
        """Return whether all results of an image are there; of a stack, whether those of its first plane are."""
        name = f"{name}-0000" if planes else name
        found = [self.labels(name), *(self.extra(kind, name) for kind in self._extras)]
        return all(path.exists() for path in found if path is not None)

    def labels(self, name: str) -> Path:
        return self._folder / f"{name}.{self._suffix}"

    def wants(self, kind: str) -> bool:
        return self._extras[kind] is not None

    def extra(self, kind: str, name: str) -> Path | None:
        folder = self._extras[kind]
        return None if folder is None else folder / f"{name}{_SUFFIXES[kind][0]}"

    def _require_free(self, files: list[Path], shared: bool) -> None:
        """See that names are unique, folders can be used and nothing is replaced unasked."""
        from instseg.files import require_folder

        doubled = sorted(name for name, count in Counter(file.stem for file in files).items() if count > 1)
        if doubled:
            shown = ", ".join(doubled[:3])
            raise UsageError(f"{len(doubled)} image names occur twice ({shown}); segment their folders apart")
        if len({folder.resolve() for folder in self._folders}) < len(self._folders):
            raise UsageError("labels, embeddings and pictures cannot share a folder; give each its own")
        sources = {file.parent.resolve() for file in files}
        for folder in self._folders:
            require_folder(folder)
            if folder.resolve() in sources:
                raise UsageError(f"{folder} holds the images, which results could replace; give another folder")
            found = folder.iterdir() if folder.is_dir() else ()
            taken = [path for path in found if not path.name.startswith(".")]
            if taken and not shared:
                raise InstsegError(
                    f"{folder} holds {len(taken)} files; add --overwrite or --skip-existing, or give another folder"
                )


def _one(model: "Model", file: Path, stacked: bool, how: "How", targets: _Targets) -> "Segmented":
    from instseg.segment import segment_all

    with terminal.counting("Segmenting") as count:
        for found in segment_all(model, [functools.partial(_open, file, stacked, targets, "")], how, count):
            if isinstance(found, InstsegError):
                raise found
            return found
    raise AssertionError("an image gives a result")


def _open(file: Path, stacked: bool, targets: _Targets, name: str) -> Any:
    """Read an image, or open one that is too large for memory, for which some results cannot be made."""
    from instseg.decoding import header
    from instseg.files import is_zarr
    from instseg.images import read_image
    from instseg.omezarr import ZarrSource
    from instseg.sources import LARGE, TiffSource, reads_in_parts

    if is_zarr(file):
        _require_parts(file, targets, name)
        return ZarrSource(file)
    found = header(file, most_pixels=None)
    if stacked or found.height * found.width <= LARGE or not reads_in_parts(file):
        return read_image(file, stacked=stacked)
    _require_parts(file, targets, name)
    return TiffSource(file)


def _require_parts(file: Path, targets: _Targets, name: str) -> None:
    """See that all results of an image that is read part by part can be written so."""
    if targets.labels(name).suffix.lower() == ".png":
        raise InstsegError(
            f"{file} is read part by part, and its labels are written so, as TIFF; give --out NAME.tif or --format tif"
        )
    pictures = [option for kind, option in _WHOLE.items() if targets.wants(kind)]
    if pictures:
        what = " and ".join(pictures)
        raise InstsegError(f"{file} is read part by part, which {what} cannot be; leave it out, or cut out a part")


def _write(found: "Segmented", targets: _Targets, file: Path, name: str) -> _Found:
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
    model: "Model", files: list[Path], planes: bool, stacked: bool, how: "How", targets: _Targets
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
    files: list[Path], planes: bool, stacked: bool, jobs: "deque[_Job]", targets: _Targets
) -> Iterator[Callable[[], Any]]:
    """Give a function that reads an image for each, and note in `jobs` what it is."""
    from instseg.images import read_planes

    for number, file in enumerate(files, start=1):
        if not planes:
            jobs.append(_Job(number, file, file.stem))
            yield functools.partial(_open, file, stacked, targets, file.stem)
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
