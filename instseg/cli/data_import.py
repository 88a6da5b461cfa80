"""`instseg data import`: annotations of other tools to a folder of images and labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal
from instseg.errors import UsageError

if TYPE_CHECKING:
    from instseg.annotations.importing import ImportReport


def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder, or file, of annotations.")],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder to write: images/, labels/, classes.csv, import.csv."),
    ],
    format: Annotated[
        str | None, typer.Option(metavar="NAME", help="Format of SOURCE, by default found out.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the images, if not beside the annotations.", show_default=False),
    ] = None,
    overlap: Annotated[
        str,
        typer.Option(
            metavar="RULE", help="Who gets pixels of several objects: smaller-on-top, first, last, or drop (nobody)."
        ),
    ] = "smaller-on-top",
    connected_components: Annotated[
        bool, typer.Option("--connected-components", help="Make each connected piece of an object an instance.")
    ] = False,
    boxes: Annotated[bool, typer.Option("--boxes", help="Take boxes for outlines; else they are left out.")] = False,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="Keep images without annotations, as images without objects.")
    ] = False,
    ignore_label: Annotated[
        int | None,
        typer.Option(metavar="N", help="Label of areas of unknown content, such as COCO's crowds.", show_default=False),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of linking them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier import wrote.")] = False,
) -> None:
    """Make a folder that check and train take of annotations that other tools have made.

    The exit code is 1 if an image could not be read, or does not fit its annotations.
    """
    from instseg.annotations.importing import import_annotations
    from instseg.annotations.painting import OVERLAPS

    rule = next((name for name in OVERLAPS if name == overlap), None)
    if rule is None:
        raise UsageError(f"overlap is {overlap}, expected one of {', '.join(OVERLAPS)}", parameter="overlap")
    with terminal.progress_bar("Importing") as progress:
        report = import_annotations(
            source,
            out,
            format=format,
            images=images,
            overlap=rule,
            connected_components=connected_components,
            boxes=boxes,
            keep_empty=keep_empty,
            ignore_label=ignore_label,
            copy=copy,
            overwrite=overwrite,
            progress=progress,
        )
    _print(report, out)
    if report.failed:
        raise typer.Exit(1)


def _print(report: "ImportReport", out: Path) -> None:
    from instseg.annotations.output import REPORT

    for note in report.notes:
        terminal.print_note(note)
    images_text = terminal.count_text(report.imported, "image")
    instances_text = terminal.count_text(report.instances, "instance")
    classes_text = f" of {len(report.classes)} classes" if report.classes else ""
    terminal.print_result(f"wrote {images_text} with {instances_text}{classes_text} to {out}; see {out / REPORT}")
