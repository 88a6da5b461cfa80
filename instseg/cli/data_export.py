"""`instseg data export`: a folder of images and labels to the files of another tool."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal
from instseg.errors import printable

if TYPE_CHECKING:
    from instseg.annotations.exporting import ExportReport

_MAX_MESSAGES = 10


def export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of images/ and labels/, or with --images a folder of labels."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; with coco also FILE.json.")],
    format: Annotated[
        str,
        # Written here, as importing the writers takes longer than showing the help.
        typer.Option(
            metavar="NAME",
            help="What to write: coco, yolo, labelme, geojson, imagej-rois, cvat, via, cellpose, stardist, dsb, png, "
            "tif or npy.",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the images, if it is not DIR/images.", show_default=False),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Tables of scores, if they are not DIR/scores or DIR/scores.csv.", show_default=False
        ),
    ] = None,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="With coco: polygons, which have no holes, instead of runs of pixels.")
    ] = False,
    connected_components: Annotated[
        bool, typer.Option("--connected-components", help="Make each connected piece of a mask an object.")
    ] = False,
    ignore_label: Annotated[
        int | None,
        typer.Option(metavar="N", help="Leave out pixels of this value in label images.", show_default=False),
    ] = None,
    link_images: Annotated[
        bool, typer.Option("--link-images/--no-link-images", help="Put the images beside the annotations, as links.")
    ] = True,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of linking them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier export wrote.")] = False,
) -> None:
    """Write labels as files that other tools read; data import reads them again.

    The exit code is 1 if an image could not be written.
    """
    from instseg.annotations.exporting import export_annotations

    with terminal.progress_bar("Exporting") as progress:
        report = export_annotations(
            folder,
            out,
            format=format,
            images=images,
            scores=scores,
            polygons=polygons,
            connected_components=connected_components,
            ignore_label=ignore_label,
            link_images=link_images,
            copy=copy,
            overwrite=overwrite,
            progress=progress,
        )
    _print(report, out)
    if report.failed:
        raise typer.Exit(1)


def _print(report: "ExportReport", out: Path) -> None:
    for note in report.notes:
        terminal.print_note(note)
    for image in report.failed[:_MAX_MESSAGES]:
        terminal.print_error(f"{printable(image.image)}: {image.reason}")
    if len(report.failed) > _MAX_MESSAGES:
        terminal.print_error(f"{len(report.failed)} images could not be exported")
    images_text = terminal.count_text(report.exported, "image")
    objects_text = terminal.count_text(report.objects, "object")
    count = len(report.class_names)
    classes_text = f" of {count} {'class' if count == 1 else 'classes'}" if count else ""
    terminal.print_result(f"wrote {images_text} with {objects_text}{classes_text} to {out}")
