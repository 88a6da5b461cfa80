"""`instseg measure`."""

from pathlib import Path
from typing import Annotated

import typer

from instseg.cli import terminal
from instseg.cli.model import PixelSizeText, parse_pixel_size
from instseg.errors import InstsegError

_MAX_MESSAGES = 10


def measure(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="A label image or volume, or a folder of them.", show_default=False)
    ],
    images: Annotated[
        Path | None,
        typer.Argument(
            metavar="[IMAGES]", help="The image, or the folder of images, to measure in.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A row for each object: .csv or .parquet.")] = Path(
        "objects.csv"
    ),
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a row for each image (.csv).")
    ] = None,
    pixel_size: PixelSizeText = None,
    connected_components: Annotated[
        bool, typer.Option("--connected-components", help="Make each connected piece of a mask an object.")
    ] = False,
) -> None:
    """Measure size, shape and intensity of the objects in label images or volumes from anywhere.

    Columns are those of skimage.measure.regionprops_table, in pixels, and in micrometres where the files or
    --pixel-size say how large a pixel is. TensorFlow is not needed.
    """
    size = parse_pixel_size(pixel_size)
    from instseg.inference.measure_files import measure_files

    with terminal.progress_bar("Measuring") as progress:
        result = measure_files(
            labels,
            images,
            out=out,
            summary=summary,
            pixel_size=size,
            connected_components=connected_components,
            progress=progress,
        )
    for note in result.notes:
        terminal.print_note(f"Note: {note}")
    measured = len(result.files) - len(result.failed)
    count = len(result.columns.get("label", ()))
    volumes = sum("depth" in (file.figures or {}) for file in result.files)
    kinds = {"image": measured - volumes, "volume": volumes}
    counted = " and ".join(terminal.count_text(number, kind) for kind, number in kinds.items() if number) or "0 images"
    where = f" in {counted}" if "image" in result.columns else ""
    terminal.print_result(f"{out}: {count} objects{where}")
    for file in result.failed[:_MAX_MESSAGES]:
        terminal.print_error((file.error or InstsegError("it cannot be measured")).located(file.labels))
    if result.failed:
        terminal.print_error(f"{len(result.failed)} of {len(result.files)} files could not be measured")
        raise typer.Exit(1)
