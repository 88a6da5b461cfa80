"""What may be asked of `predict` for volumes, checked before TensorFlow takes its seconds."""

from collections.abc import Sequence
from pathlib import Path

from instseg.errors import UsageError, check_parameter
from instseg.inference.options import check_planes_from
from instseg.inference.request import PredictRequest
from instseg.io.stored_volume import read_volume_header, require_depth
from instseg.io.volumes import check_spacing
from instseg.settings import ModelSettings

# Results that are of images alone, and why.
_FLAT = {
    "embeddings_picture": "a picture has no place for three coordinates",
    "outlines": "polygons are of planes",
    "coco": "polygons are of planes",
    "yolo": "polygons are of planes",
    "report": "its pages show images",
}


def check_volume_request(request: PredictRequest) -> None:
    """Check that no two choices exclude each other, and that only what is of volumes is asked of them.

    Raises
    ------
    UsageError
        If not.
    """
    if not request.volume:
        _check_no_volume(request)
        return
    if request.planes:
        raise UsageError(
            "`planes` takes the planes of a stack as images, `volume` takes all of them as one volume; give one of them"
        )
    wanted = {**request.extras, "coco": request.coco, "yolo": request.yolo, "report": request.report}
    for kind, why in _FLAT.items():
        if wanted.get(kind) is not None:
            advice = "`overlay` draws projections and sections, and `planes` gives images"
            raise UsageError(f"`{kind}` cannot be made of volumes, as {why}; leave it out ({advice})")
    png = request.file_format == "png" or (request.out is not None and Path(request.out).suffix.lower() == ".png")
    if png:
        raise UsageError(
            "a PNG holds one plane, and the labels of a volume have many; give `out=NAME.tif` (with `out_dir`: "
            "`file_format='tif'`)"
        )
    check_planes_from(request.planes_from)
    if request.spacing is not None:
        check_spacing(request.spacing)
    if request.time is not None:
        check_parameter(request.time >= 0, "time", request.time, "the number of a time point, from 0")
    if request.planes_from == "z" and request.extras.get("embeddings") is not None:
        raise UsageError(
            "planes along z alone give no embeddings of a volume; give `planes_from='zyx'`, or leave `embeddings` out"
        )
    if request.pixel_size is not None and len(request.pixel_size) != 3:
        raise UsageError(
            f"pixel_size has {len(request.pixel_size)} numbers, expected three for volumes: the size of a voxel along "
            "Z, Y and X",
            parameter="pixel_size",
        )


def _check_no_volume(request: PredictRequest) -> None:
    for name in ("spacing", "time", "planes_from"):
        if getattr(request, name) is not None:
            raise UsageError(f"`{name}` is for volumes; add `volume=True`, or leave it out")


def check_volume_model(request: PredictRequest, settings: ModelSettings) -> None:
    """Check that a model can do what is asked.

    Raises
    ------
    UsageError
        If a model of volumes is given images, or the planes that are chosen say nothing together.
    """
    if settings.ndim == 3 and not request.volume:
        raise UsageError("this is a model of volumes; add `volume=True`, or give a model of images")
    if not request.volume:
        return
    if settings.ndim == 3 and request.planes_from is not None:
        raise UsageError("this is a model of volumes, which sees no planes; leave `planes_from` out")
    if settings.ndim == 3 and request.tta:
        raise UsageError("`tta` turns planes, and this is a model of volumes; leave it out")
    combined = request.planes_from == "zyx" or request.extras.get("embeddings") is not None
    if settings.ndim == 2 and settings.loss != "overlap" and combined:
        raise UsageError(
            "the embeddings of this model hold no positions, so that planes along three axes cannot be combined; give "
            "`planes_from='z'` without `embeddings`, or a model that was trained with the overlap loss"
        )


def check_volume_file(request: PredictRequest, files: Sequence[Path]) -> None:
    """Check that the file of a single volume is one; of many files, each is looked at when its turn comes.

    Raises
    ------
    ImageFileError
        If it has one plane, holds no volume, or several and none is chosen.
    """
    if request.volume and len(files) == 1:
        require_depth(files[0], read_volume_header(files[0], time=request.time))
