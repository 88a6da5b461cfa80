"""`instseg cluster`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal
from instseg.cli.options import Overrides, settings_options
from instseg.errors import UsageError
from instseg.settings import ClusterSettings, FilterSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from instseg.clustering.embeddings import Embeddings


@settings_options(clustering=ClusterSettings, filters=FilterSettings)
def cluster(
    embeddings: Annotated[
        Path, typer.Argument(metavar="EMB.npz", help="What predict --embeddings wrote.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the labels go: .png (16 bit), .tif or .npy (32 bit); of volumes .tif, .ome.zarr or .npy.",
            show_default="labels.png, of volumes labels.tif",
        ),
    ] = None,
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
    # Values out of bounds are refused before anything is read.
    ClusterSettings(**clustering)
    FilterSettings(**filters)
    from instseg.clustering.cluster import cluster as cluster_embeddings
    from instseg.clustering.cluster import default_settings
    from instseg.clustering.filters import complete_filters, count_doubtful, filter_instances
    from instseg.clustering.instances import measure_instances
    from instseg.io.atomic import check_writable
    from instseg.io.npz import read_embeddings
    from instseg.io.outlines import SUFFIXES, require_format, write_outlines
    from instseg.io.tables import write_table

    if scores is not None:
        check_writable(scores, ".csv")
    if outlines is not None:
        check_writable(outlines, *SUFFIXES)
        require_format(outlines)
    stored = read_embeddings(embeddings)
    chosen = complete_filters(FilterSettings(**filters), stored.calibration)
    if outlines is not None and stored.ndim != 2:
        raise UsageError(f"`outlines` are those of images, and {embeddings} is of a volume; leave them out")
    out = _checked_out(out, stored.ndim)
    with terminal.spinner("Clustering"):
        labels = cluster_embeddings(stored, dataclasses.replace(default_settings(stored), **clustering))
    instances, doubtful = None, 0
    if scores is not None or outlines is not None or chosen.active:
        instances = measure_instances(labels, stored).calibrated(stored.calibration)
        doubtful = count_doubtful(instances, FilterSettings(**filters), stored.calibration)
    if instances is not None and chosen.active:
        instances, label_of = filter_instances(instances, chosen, labels.shape, int(labels.max(initial=0)))
        labels = label_of[labels]
    _write(out, labels, stored)
    if instances is not None:
        if scores is not None:
            write_table(scores, instances)
        if outlines is not None:
            write_outlines(outlines, labels, instances)
    terminal.print_result(f"{out}: {int(labels.max(initial=0))} instances")
    terminal.print_doubtful(doubtful)


def _checked_out(out: Path | None, axes: int) -> Path:
    """Return where the labels of an image or a volume go, if such a file can hold them."""
    from instseg.io.atomic import check_writable, check_zarr_writable
    from instseg.io.label_images import LABEL_SUFFIXES
    from instseg.io.label_volumes import LABEL_VOLUME_SUFFIXES

    suffixes = LABEL_SUFFIXES if axes == 2 else LABEL_VOLUME_SUFFIXES
    out = out or Path("labels.png" if axes == 2 else "labels.tif")
    if axes > 2 and out.suffix.lower() == ".zarr":
        check_zarr_writable(out)
    else:
        check_writable(out, *suffixes)
    return out


def _write(out: Path, labels: "NDArray[np.int32]", stored: "Embeddings") -> None:
    from instseg.io.label_images import write_labels
    from instseg.io.label_volumes import write_label_volume
    from instseg.io.pixel_size import PixelGeometry

    if labels.ndim == 2:
        write_labels(out, labels)
    else:
        depth, height, width = stored.steps
        write_label_volume(out, labels, PixelGeometry((height, width), depth=depth))
