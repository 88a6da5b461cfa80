"""What a caller wants of `predict`, in plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from instseg.inference.options import Diameter, PlanesFrom
from instseg.io.atomic import StrPath
from instseg.measurements.objects import PixelSize
from instseg.preprocessing.level_choice import Range
from instseg.settings import Precision

LabelFormat = Literal["png", "tif", "npy", "zarr"]
TableFormat = Literal["csv", "parquet"]


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """What a caller wants of `predict`.

    Attributes
    ----------
    model : Path
        A model directory, or the name of a model in the package.
    images : sequence of path-like
        Files, folders or patterns.
    out, out_dir : path-like or None
        A file for the labels of one image, or a folder for those of many: one of the two.
    file_format : {'png', 'tif', 'npy', 'zarr'} or None
        Of the labels in `out_dir`; by default 'png', and 'tif' for volumes.
    overwrite, skip_existing : bool
        Whether to replace results, or to leave images out that have theirs; with both, results that are out of date
        are replaced.
    shard : str or None
        'I/N' takes every N-th image from the I-th on.
    planes : bool
        Whether to take stacks plane by plane.
    volume : bool
        Whether to take files as volumes.
    spacing : (float, float, float) or None
        The size of a voxel along Z, Y and X, where it is not what the files say.
    time : int or None
        Which of a file's volumes to take, where there is one for each time point.
    planes_from : {'z', 'zyx'} or None
        As `PredictOptions` has it.
    extras : mapping of str to path-like or None
        Further results by `instseg.inference.outputs.EXTRAS`: files beside `out`, folders beside `out_dir`.
    report : path-like or None
        A page that shows all images with their objects.
    coco, yolo : path-like or None
        A file of COCO, and a folder for a data set of YOLO, of all images.
    distributed : bool
        Whether workers do the job, which write the labels of a single image as OME-Zarr only.
    tta, diameter, channels
        As `PredictOptions` has them.
    levels, percentiles, ignore_zeros
        As `instseg.preprocessing.level_choice.LevelChoice` has them.
    precision : {'float32', 'bfloat16'} or None
        What the network computes in; None for what suits this machine.
    measure_format : {'csv', 'parquet'}
        Of the tables of measurements in a folder.
    pixel_size : tuple of float or None
        Height and width of a pixel in micrometres for these, or the sides of a voxel along Z, Y and X, where they are
        not what the files say.
    clustering, filters, tiles : mapping of str to value
        Those settings of `ClusterSettings`, `FilterSettings` and `TileSettings` that are not the defaults.
    """

    model: Path
    images: Sequence[StrPath]
    out: StrPath | None = None
    out_dir: StrPath | None = None
    file_format: LabelFormat | None = None
    overwrite: bool = False
    skip_existing: bool = False
    shard: str | None = None
    planes: bool = False
    volume: bool = False
    spacing: tuple[float, float, float] | None = None
    time: int | None = None
    planes_from: PlanesFrom | None = None
    extras: Mapping[str, StrPath | None] = field(default_factory=dict)
    report: StrPath | None = None
    coco: StrPath | None = None
    yolo: StrPath | None = None
    distributed: bool = False
    tta: bool = False
    diameter: Diameter = None
    channels: str | None = None
    levels: Range | None = None
    percentiles: Range | None = None
    ignore_zeros: bool = False
    precision: Precision | None = None
    measure_format: TableFormat = "csv"
    pixel_size: PixelSize | None = None
    clustering: Mapping[str, Any] = field(default_factory=dict)
    filters: Mapping[str, Any] = field(default_factory=dict)
    tiles: Mapping[str, Any] = field(default_factory=dict)
