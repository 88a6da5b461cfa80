"""`instseg track`."""

from pathlib import Path
from typing import Annotated

import typer

from instseg.cli import terminal


def track(
    labels: Annotated[
        list[Path],
        typer.Argument(
            metavar="LABELS...",
            help="Label images in the order of time, folders or patterns; or one file of planes along T.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for labels that stay the same through time, and tracks.csv."),
    ] = None,
    ctc: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for results of the Cell Tracking Challenge: maskNNN.tif, res_track.txt."
        ),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the ways of all objects on the last frame (.png).")
    ] = None,
    geff: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the graph of all objects for other tools (.geff, a Zarr group)."),
    ] = None,
    max_distance: Annotated[
        float | None,
        typer.Option(
            metavar="PIXELS",
            help="Largest distance from one frame to the next.",
            show_default="measured in the first frames",
        ),
    ] = None,
    gap: Annotated[int, typer.Option(help="Most frames that an object may be missed in.")] = 2,
    divisions: Annotated[bool, typer.Option("--divisions/--no-divisions", help="Whether objects may divide.")] = True,
    drift: Annotated[
        bool,
        typer.Option("--drift/--no-drift", help="Whether all objects may move together, as when the stage drifts."),
    ] = True,
    connected_components: Annotated[
        bool, typer.Option("--connected-components", help="Make each connected piece of a mask an object.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
) -> None:
    """Link the objects in label images from anywhere through time, divisions and gaps included.

    Links are the best ones of all frames together, by distance, overlap and size. TensorFlow is not needed.
    """
    from instseg.inference.track_files import track_files

    with terminal.progress_bar("Tracking") as progress:
        result = track_files(
            labels,
            out=out,
            ctc=ctc,
            overlay=overlay,
            geff=geff,
            max_distance=max_distance,
            gap=gap,
            divisions=divisions,
            drift=drift,
            connected_components=connected_components,
            overwrite=overwrite,
            progress=progress,
        )
    for note in result.notes:
        terminal.print_note(f"Note: {note}")
    tracks = result.tracks
    figures = [
        terminal.count_text(len(tracks), "track"),
        terminal.count_text(tracks.divisions, "division"),
        terminal.count_text(tracks.gaps, "gap"),
    ]
    where = next(str(path) for path in (out, ctc, overlay, geff) if path is not None)
    frames = terminal.count_text(len(result.frames), "frame")
    terminal.print_result(f"{where}: {', '.join(figures)} in {frames}; objects moved up to {tracks.reach:.3g} pixels")
