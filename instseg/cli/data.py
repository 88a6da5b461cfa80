"""The `data` commands: make example data, and check one's own before training."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal
from instseg.cli.model import Channels, require_channels
from instseg.cli.options import Given, settings_options
from instseg.errors import InstsegError
from instseg.settings import DiscSettings, TrainSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from instseg.data.check import Problem, Report

app = typer.Typer(help="Make example data, or check your own.", no_args_is_help=True, rich_markup_mode=None)

_MAX_COUNT = 10_000
# The names that `generate` gives, and that `--overwrite` may therefore take away.
_GENERATED = re.compile(r"\d{4}\.png")


@app.command()
@settings_options(discs=DiscSettings)
def generate(
    count: Annotated[int, typer.Option(min=1, max=_MAX_COUNT, help="Images to draw.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder to write to: images/, labels/ and preview.png.")] = Path("discs"),
    seed: Annotated[int, typer.Option(min=0, help="Image I depends on this and I only.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace images that an earlier run made.")] = False,
    *,
    discs: Given,
) -> None:
    """Draw example images of discs, with their labels.

    The same seed gives the same files, and a larger count adds to a smaller one's.
    """
    settings = DiscSettings(**discs)

    import numpy as np

    from instseg.data.discs import draw_discs
    from instseg.files import make_folder
    from instseg.images import write_labels, write_picture

    _clear(out, overwrite)
    images, labels = make_folder(out / "images"), make_folder(out / "labels")
    total = 0
    with terminal.counting("Drawing") as advance:
        for index in range(count):
            image, drawn = draw_discs(np.random.default_rng([seed, index]), settings)
            if index == 0:
                _write_preview(out / "preview.png", image, drawn)
            # Labels first: a run that is cut short leaves no image without them.
            write_labels(labels / f"{index:04}.png", drawn)
            write_picture(images / f"{index:04}.png", image)
            total += int(drawn.max())
            advance(index + 1, count)
    noun = "image" if count == 1 else "images"
    typer.echo(f"wrote {count} {noun} with {total} discs to {out}; see {out / 'preview.png'}")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds images/ and labels/.")],
    patch_size: Annotated[
        int, typer.Option(help="Height and width of the training patches in pixels.")
    ] = TrainSettings().patch_size,
    connected_components: Annotated[
        bool, typer.Option("--connected-components", help="Take each connected piece of a binary mask as an instance.")
    ] = False,
    channels: Channels = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Read a data folder and list all that training would stumble over.

    The exit code is 1 if training could not use the folder, else 0.
    """
    patch_size = TrainSettings(patch_size=patch_size).patch_size
    require_channels(channels)
    from instseg.data.check import check_folder

    with terminal.counting("Reading") as advance:
        report = check_folder(
            folder,
            connected_components=connected_components,
            channels=channels,
            patch_size=patch_size,
            progress=advance,
        )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report)
    if not report.usable_for_training:
        raise typer.Exit(1)


def _clear(out: Path, overwrite: bool) -> None:
    """Make sure that nothing of an earlier run is mixed with this one, and that nothing else is lost.

    Only what `generate` writes is removed: NNNN.png in the two folders, and the preview.
    """
    folders = [folder for folder in (out / "images", out / "labels") if folder.is_dir()]
    present = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    foreign = [path for path in present if not (_GENERATED.fullmatch(path.name) and path.is_file())]
    preview = out / "preview.png"
    if foreign:
        raise InstsegError(f"{out} holds files that generate did not write, such as {foreign[0]}; give another --out")
    if (present or preview.exists()) and not overwrite:
        raise InstsegError(f"{out} holds images already; add --overwrite to replace them or give another --out")
    try:
        for path in present:
            path.unlink()
        preview.unlink(missing_ok=True)
    except OSError as error:
        raise InstsegError(f"cannot replace {error.filename}: {error.strerror}; check the permissions") from error


def _write_preview(path: Path, image: "NDArray[np.uint16]", labels: "NDArray[np.int32]") -> None:
    from instseg.images import write_picture
    from instseg.render import label_colours, side_by_side, to_rgb8

    write_picture(path, side_by_side(to_rgb8(image), label_colours(labels)))


def _print(report: "Report") -> None:
    from rich.console import Console

    console = Console()
    console.print(_summary(report))
    if report.problems:
        console.print(_problems(report.problems))
    errors = sum(problem.severity == "error" for problem in report.problems)
    warnings = len(report.problems) - errors
    verdict = "training cannot use this folder" if errors else "training can use this folder"
    console.print(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}: {verdict}", highlight=False)


def _summary(report: "Report") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(report.folder), title_justify="left", show_header=False)
    sizes = list(report.sizes.items())
    listed = ", ".join(f"{size} ({number})" for size, number in sizes[:3]) + (", ..." if len(sizes) > 3 else "")
    instances, diameters = report.instances, report.diameters
    rows = {
        "pairs": f"{report.pairs}, {report.usable} of them usable",
        "sizes in pixels": listed or "-",
        "height, width": "{} to {}, {} to {}".format(*report.height, *report.width),
        "values": _kinds(report.dtypes),
        "channels": _kinds(report.channels),
        "instances": f"{instances['total']:,}",
        "instances per image": f"{instances['min']} to {instances['max']}, median {instances['median']:g}",
        "diameters in pixels": f"median {diameters['50']:g}, 90 % within {diameters['5']:g} to {diameters['95']:g}",
        **({"shown in training": f"{report.scale:.2g} times as large"} if report.scale != 1 else {}),
        "foreground": f"{report.foreground:.1%} of all pixels",
        **({"classes": escape(_kinds(report.classes))} if report.classes else {}),
        "instances in pieces": str(report.disconnected),
        "images without instances": str(report.empty),
        "images of one value": str(report.constant),
        "images below the patch size": str(report.small),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _problems(problems: "tuple[Problem, ...]") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Problems", title_justify="left", show_lines=True)
    for heading in ("", "files", "problem", "what to do"):
        table.add_column(heading, overflow="fold")
    for problem in problems:
        names = "\n".join(escape(name) for name in problem.files)
        more = problem.count - len(problem.files)
        colour = "red" if problem.severity == "error" else "yellow"
        table.add_row(
            f"[{colour}]{problem.severity}[/]",
            names + (f"\nand {more} more" if more else ""),
            escape(problem.what),
            escape(problem.advice),
        )
    return table


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} ({number})" for kind, number in counts.items()) or "-"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
