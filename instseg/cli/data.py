"""`instseg data`: make example data, import and export annotations, and check one's own data before training."""

from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instseg.cli import terminal
from instseg.cli.command import Command
from instseg.cli.data_export import export
from instseg.cli.data_import import import_
from instseg.cli.model import Channels, check_channels, find_model, load_model
from instseg.cli.options import Overrides, settings_options, terminal_text
from instseg.errors import UsageError, printable
from instseg.settings import VOLUME_PATCH_SIZE, BallSettings, DiscSettings, TrainSettings

if TYPE_CHECKING:
    from rich.table import Table

    from instseg.data.check import DataReport
    from instseg.data.problems import Problem

app = typer.Typer(
    help="Make example data, import and export annotations, or check your own data.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("import", cls=Command)(import_)
app.command("export", cls=Command)(export)


@app.command(cls=Command)
@settings_options(discs=DiscSettings, balls=BallSettings)
def generate(
    count: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Images, or volumes, to draw.", show_default="3")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Draw so many frames of discs that move and divide, and list their tracks in man_track.txt.",
            show_default=False,
        ),
    ] = None,
    volume: Annotated[bool, typer.Option("--volume", help="Draw volumes of balls (.tif), 256 pixels wide.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to: images/, labels/ and preview.png.", show_default="discs, or balls"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Image I depends on this and I only.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace images that an earlier run made.")] = False,
    *,
    discs: Overrides,
    balls: Overrides,
) -> None:
    """Draw example images of discs, or volumes of balls, with their labels.

    The same seed gives the same files, and a larger count adds to a smaller one's.
    """
    given = {"count": count, "frames": frames, "volume": volume or None}
    both = [f"`{name}`" for name, value in given.items() if value is not None]
    if frames is not None and len(both) > 1:
        raise UsageError(f"{' and '.join(both)} exclude each other; give the one or the other")
    out = out or Path("balls" if volume else "discs")
    if volume:
        drawn = _draw_volumes(discs, balls, out=out, count=count or 3, seed=seed, overwrite=overwrite)
    elif balls:
        raise UsageError(f"{_named(balls)} for volumes; give `volume=True`, too")
    else:
        drawn = _draw_images(DiscSettings(**discs), frames, out=out, count=count or 3, seed=seed, overwrite=overwrite)
    terminal.print_result(f"wrote {drawn} to {out}; see {out / 'preview.png'}")


def _draw_images(settings: DiscSettings, frames: int | None, *, count: int, **arguments: Any) -> str:
    from instseg.data.generate import generate_discs
    from instseg.data.generate_frames import generate_frames

    with terminal.progress_bar("Drawing") as progress:
        if frames is not None:
            tracks = generate_frames(frames=frames, settings=settings, progress=progress, **arguments)
            return f"{terminal.count_text(frames, 'frame')} with {terminal.count_text(tracks, 'track')}"
        discs = generate_discs(count=count, settings=settings, progress=progress, **arguments)
    return f"{terminal.count_text(count, 'image')} with {discs} discs"


def _draw_volumes(discs: Overrides, balls: Overrides, *, count: int, **arguments: Any) -> str:
    names = {field.name for field in fields(BallSettings)}
    if others := discs.keys() - names:
        advice = "with `volume` there are `min_balls` and `max_balls`"
        raise UsageError(f"{_named(others)} for images of discs; {advice}")
    settings = BallSettings(**discs, **balls)
    from instseg.data.generate_volumes import generate_balls

    with terminal.progress_bar("Drawing") as progress:
        drawn = generate_balls(count=count, settings=settings, progress=progress, **arguments)
    return f"{terminal.count_text(count, 'volume')} with {drawn} balls"


def _named(names: Collection[str]) -> str:
    return " and ".join(f"`{name}`" for name in sorted(names)) + (" is" if len(names) == 1 else " are")


@app.command(cls=Command)
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds images/ and labels/.")],
    patch_size: Annotated[
        int | None,
        typer.Option(
            help="Height and width of the training patches in pixels.",
            show_default=f"{TrainSettings().patch_size}, of volumes {VOLUME_PATCH_SIZE}",
        ),
    ] = None,
    connected_components: Annotated[
        bool, typer.Option("--connected-components", help="Take each connected piece of a binary mask as an instance.")
    ] = False,
    channels: Channels = None,
    ignore_label: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Leave out pixels of this value in label images, such as 255.", show_default=False
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Also have a model look for objects without a label: a directory, or a name such as general.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Read a data folder and list all that training would stumble over.

    The exit code is 1 if training could not use the folder, else 0.
    """
    if patch_size is not None:
        TrainSettings(patch_size=patch_size)
    check_channels(channels)
    model = None if model is None else find_model(model)
    from instseg.data.check import check_data

    with terminal.progress_bar("Reading") as advance:
        report = check_data(
            folder,
            connected_components=connected_components,
            channels=channels,
            ignore_label=ignore_label,
            patch_size=patch_size,
            progress=advance,
        )
    if model is not None:
        unlabelled = _unlabelled(model, folder, connected_components=connected_components, ignore_label=ignore_label)
        report = replace(report, problems=(*report.problems, *unlabelled))
    if as_json:
        terminal.print_json(_with_options(report.to_dict()))
    else:
        _print(report)
    if not report.usable_for_training:
        raise typer.Exit(1)


def _unlabelled(model: Path, folder: Path, **options: Any) -> "tuple[Problem, ...]":
    loaded = load_model(model, None, None)
    from instseg.evaluation.unlabelled import find_unlabelled

    with terminal.progress_bar("Looking for objects without a label") as advance:
        return find_unlabelled(loaded, folder, progress=advance, **options)


def _with_options(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report that names options where that of the core names parameters."""
    texts = ("what", "advice")
    problems = [problem | {name: terminal_text(problem[name]) for name in texts} for problem in report["problems"]]
    return report | {"problems": problems}


def _print(report: "DataReport") -> None:
    console = terminal.console()
    console.print(_summary(report))
    if report.problems:
        console.print(_problems(report.problems))
    errors = sum(problem.severity == "error" for problem in report.problems)
    warnings = sum(problem.severity == "warning" for problem in report.problems)
    verdict = "training cannot use this folder" if errors else "training can use this folder"
    console.print(
        f"{terminal.count_text(errors, 'error')}, {terminal.count_text(warnings, 'warning')}: {verdict}",
        highlight=False,
    )


def _summary(report: "DataReport") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(report.folder), title_justify="left", show_header=False)
    sizes = list(report.sizes.items())
    listed = ", ".join(f"{size} ({number})" for size, number in sizes[:3]) + (", ..." if len(sizes) > 3 else "")
    instances, diameters = report.instances, report.diameters
    of_volumes = {
        "volumes": str(report.volumes),
        "planes": "{} to {}".format(*report.depth or (0, 0)),
        "size of voxels (z : y : x)": _kinds(report.spacings),
    }
    rows = {
        "pairs": f"{report.pairs}, {report.usable} of them usable",
        **(of_volumes if report.volumes else {}),
        "sizes in pixels": listed or "-",
        "height, width": "{} to {}, {} to {}".format(*report.height, *report.width),
        "values": _kinds(report.dtypes),
        "channels": _kinds(report.channels),
        "instances": f"{instances['total']:,}",
        "instances per image": f"{instances['min']} to {instances['max']}, median {instances['median']:g}",
        "diameters in pixels": f"median {diameters['50']:g}, 90 % within {diameters['5']:g} to {diameters['95']:g}",
        **({"shown in training": f"{report.scale:.2g} times as large"} if report.scale != 1 else {}),
        "foreground": f"{report.foreground:.1%} of all pixels",
        **({"not labelled yet": f"{report.unlabelled} images, left out"} if report.unlabelled else {}),
        **({"labelled in parts": f"{report.partly} images"} if report.partly else {}),
        **({"pixels that take no part": f"{report.ignored:.1%}"} if report.ignored else {}),
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
        names = "\n".join(escape(printable(name)) for name in problem.files)
        more = problem.count - len(problem.files)
        colour = {"error": "red", "warning": "yellow", "note": "cyan"}[problem.severity]
        table.add_row(
            f"[{colour}]{problem.severity}[/]",
            names + (f"\nand {more} more" if more else ""),
            escape(terminal_text(problem.what)),
            escape(terminal_text(problem.advice)),
        )
    return table


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} ({number})" for kind, number in counts.items()) or "-"
