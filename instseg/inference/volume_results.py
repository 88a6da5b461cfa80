"""The results of a volume to files: labels, tables, embeddings, and a picture of projections and sections."""

from pathlib import Path

from instseg.clustering.instances import median_diameter
from instseg.inference.outputs import OutputPaths
from instseg.inference.results import UNFAMILIAR_NOTE, SavedResults, summarise_segmentation
from instseg.inference.segmentation import Segmentation
from instseg.io.images import write_picture
from instseg.io.label_volumes import write_label_slabs
from instseg.io.npz import write_embeddings
from instseg.io.tables import write_table
from instseg.io.volumes import VolumeReader
from instseg.tiling.grid import Box
from instseg.visualization.volumes import VolumePicture

# So many planes are written and drawn at once.
_SLAB = 16


def save_volume_results(
    segmentation: Segmentation, outputs: OutputPaths, name: str, volume: VolumeReader
) -> SavedResults:
    """Write all results that are wanted of one volume, slab by slab where they are large.

    Parameters
    ----------
    segmentation : Segmentation
        With instances and embeddings where `outputs` wants what needs them.
    outputs : OutputPaths
    name : str
        Of the volume.
    volume : VolumeReader
        The volume, open.

    Raises
    ------
    InstsegError
        If a file cannot be written.
    """
    shape, notes = segmentation.store.shape, list(segmentation.notes)
    path, geometry = outputs.labels(name), volume.geometry
    sizes = segmentation.areas()
    left_out = write_label_slabs(path, shape, segmentation.strips(_SLAB), geometry, largest=len(sizes))
    if left_out is not None:
        notes.append(left_out)
    if segmentation.embeddings is not None and (other := outputs.extra("embeddings", name)) is not None:
        write_embeddings(other, segmentation.embeddings)
    if (other := outputs.extra("overlay", name)) is not None:
        _draw(other, segmentation, volume)
    if segmentation.instances is not None and (other := outputs.extra("scores", name)) is not None:
        write_table(other, segmentation.instances)
    if segmentation.unfamiliar:
        notes.append(UNFAMILIAR_NOTE)
    summary = summarise_segmentation(segmentation, median_diameter(sizes, volume.spacing), len(sizes))
    return SavedResults(summary, path, tuple(notes))


def _draw(path: Path, segmentation: Segmentation, volume: VolumeReader) -> None:
    depth, height, width = segmentation.store.shape
    picture = VolumePicture((depth, height, width), volume.spacing)
    top = 0
    for slab in segmentation.strips(_SLAB):
        picture.add(volume.read(Box(top, 0, 0, top + len(slab), height, width)), slab)
        top += len(slab)
    write_picture(path, picture.draw())
