"""`instseg cluster`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from instseg.cli import terminal
from instseg.cli.options import Overrides, settings_options
from instseg.settings import ClusterSettings, FilterSettings


@settings_options(clustering=ClusterSettings, filters=FilterSettings)
def cluster(
    embeddings: Annotated[
        Path, typer.Argument(metavar="EMB.npz", help="What predict --embeddings wrote.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the labels go: .png (16 bit), .tif or .npy (32 bit).")
    ] = Path("labels.png"),
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also list the instances and their scores (.csv).")
    ] = None,
    outlines: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write polygons (.geojson, or .zip for ImageJ).")
    ] = None,
    *,
    clustering: Overrides,
    filters: Overrides,
) -> None:
    """Turn stored embeddings into labels, without TensorFlow.

    The settings stored in the file apply; options replace them.
    """
    settings, chosen = ClusterSettings(**clustering), FilterSettings(**filters)
    from instseg.clustering.cluster import cluster as cluster_embeddings
    from instseg.clustering.filters import filter_instances
    from instseg.clustering.instances import measure_instances
    from instseg.io.atomic import check_writable
    from instseg.io.label_images import LABEL_SUFFIXES, write_labels
    from instseg.io.npz import read_embeddings
    from instseg.io.outlines import SUFFIXES, require_format, write_outlines
    from instseg.io.tables import write_table

    check_writable(out, *LABEL_SUFFIXES)
    if scores is not None:
        check_writable(scores, ".csv")
    if outlines is not None:
        check_writable(outlines, *SUFFIXES)
        require_format(outlines)
    stored = read_embeddings(embeddings)
    if stored.settings is not None:
        settings = dataclasses.replace(stored.settings, **clustering)
    with terminal.spinner("Clustering"):
        labels = cluster_embeddings(stored, settings)
    instances = None
    if scores is not None or outlines is not None or chosen.active:
        instances = measure_instances(labels, stored).calibrated(stored.calibration)
    if instances is not None and chosen.active:
        shape, count = (labels.shape[0], labels.shape[1]), int(labels.max(initial=0))
        instances, label_of = filter_instances(instances, chosen, shape, count)
        labels = label_of[labels]
    write_labels(out, labels)
    if instances is not None:
        if scores is not None:
            write_table(scores, instances)
        if outlines is not None:
            write_outlines(outlines, labels, instances)
    terminal.print_result(f"{out}: {int(labels.max(initial=0))} instances")
