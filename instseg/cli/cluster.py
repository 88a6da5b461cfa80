"""`instseg cluster`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from instseg.cli import terminal
from instseg.cli.options import Given, settings_options
from instseg.settings import ClusterSettings


@settings_options(clustering=ClusterSettings)
def cluster(
    embeddings: Annotated[
        Path, typer.Argument(metavar="EMB.npz", help="What predict --embeddings wrote.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the labels go: .png (16 bit) or .tif (32 bit).")
    ] = Path("labels.png"),
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also list the instances and their scores (.csv).")
    ] = None,
    outlines: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write polygons (.geojson, or .zip for ImageJ).")
    ] = None,
    *,
    clustering: Given,
) -> None:
    """Turn stored embeddings into labels, without TensorFlow.

    The settings stored in the file apply; options replace them.
    """
    settings_given = ClusterSettings(**clustering)
    from instseg.cluster import cluster as group
    from instseg.embeddings import read_embeddings
    from instseg.files import require_target
    from instseg.images import LABEL_SUFFIXES, write_labels
    from instseg.instances import describe, write_table
    from instseg.outlines import SUFFIXES, require_format, write_outlines

    require_target(out, *LABEL_SUFFIXES)
    if scores is not None:
        require_target(scores, ".csv")
    if outlines is not None:
        require_target(outlines, *SUFFIXES)
        require_format(outlines)
    maps = read_embeddings(embeddings)
    base = maps.settings or settings_given
    with terminal.waiting("Clustering"):
        labels = group(maps, dataclasses.replace(base, **clustering))
    write_labels(out, labels)
    if scores is not None or outlines is not None:
        found = describe(labels, maps)
        if scores is not None:
            write_table(scores, found)
        if outlines is not None:
            write_outlines(outlines, labels, found)
    typer.echo(f"{out}: {int(labels.max(initial=0))} instances")
