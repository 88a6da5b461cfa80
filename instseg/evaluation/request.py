"""What is to be evaluated, and how: checked as a whole before a file is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instseg.errors import UsageError, check_parameter
from instseg.inference.job import check_predict_options
from instseg.inference.memory import check_memory
from instseg.inference.model import Model
from instseg.inference.options import Diameter, PlanesFrom
from instseg.io.volumes import check_spacing
from instseg.settings import FilterSettings, Precision, TileSettings

_MAX_WORST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What is to be compared, and how; the attributes are the parameters of `evaluate`.

    It checks itself when it is built; no file is read for that.

    Attributes
    ----------
    clustering, filters, tiles : mapping of str to value
        Fields of `ClusterSettings`, of `FilterSettings` and of `TileSettings`.

    Raises
    ------
    UsageError
        If what is given excludes each other or is out of range.
    """

    model: Model | Path | None = None
    data: Path | None = None
    pred: Path | None = None
    labels: Path | None = None
    images: Path | None = None
    csv: Path | None = None
    picture: Path | None = None
    report: Path | None = None
    worst: int = 3
    connected_components: bool = False
    ignore_label: int | None = None
    min_truth_size: int = 0
    tta: bool = False
    diameter: Diameter = None
    channels: str | None = None
    precision: Precision | None = None
    threads: int | None = None
    spacing: tuple[float, float, float] | None = None
    planes_from: PlanesFrom | None = None
    clustering: Mapping[str, Any] = field(default_factory=dict)
    filters: Mapping[str, Any] = field(default_factory=dict)
    tiles: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_predict_options(self.diameter, self.channels, self.clustering)
        FilterSettings(**self.filters)
        tiles = TileSettings(**self.tiles)
        if self.model is not None:
            check_memory(tiles)
        if self.spacing is not None:
            check_spacing(self.spacing)
        check_parameter(self.planes_from in (None, "z", "zyx"), "planes_from", repr(self.planes_from), "'z' or 'zyx'")
        check_parameter(1 <= self.worst <= _MAX_WORST, "worst", self.worst, f"1 to {_MAX_WORST} images")
        check_parameter(self.min_truth_size >= 0, "min_truth_size", self.min_truth_size, "0 or a number above 0")
        ignored = self.ignore_label
        check_parameter(ignored is None or ignored >= 0, "ignore_label", ignored, "the number of a label, 0 or above")
        self._check_sources()
        if self.images is not None and self.picture is None and self.report is None:
            raise UsageError("`images` is what `picture` and `report` draw on; give one of them, or leave `images` out")
        if self.model is not None and self.images is not None:
            raise UsageError("`images` goes with `pred`; with `model` the images of `data` are drawn on")
        if self.model is None:
            self._check_no_model_options()
        elif isinstance(self.model, Model) and (self.precision is not None or self.threads is not None):
            raise UsageError("`precision` and `threads` are for a model that is not opened yet; give them to `load`")

    def _check_sources(self) -> None:
        given = {"model": self.model, "data": self.data, "pred": self.pred, "labels": self.labels}
        has = {name: value is not None for name, value in given.items()}
        if has["model"] != has["data"] or has["pred"] != has["labels"] or has["model"] == has["pred"]:
            names = ", ".join(f"`{name}`" for name in given if has[name]) or "nothing"
            raise UsageError(
                f"got {names}, expected either `model=MODEL, data=DIR`, or `pred=DIR, labels=DIR`; give one of the two"
            )

    def _check_no_model_options(self) -> None:
        options = {
            "tta": self.tta,
            "diameter": self.diameter is not None,
            "channels": self.channels is not None,
            "precision": self.precision is not None,
            "spacing": self.spacing is not None,
            "planes_from": self.planes_from is not None,
        }
        if any(options.values()):
            names = " and ".join(f"`{name}`" for name, given in options.items() if given)
            raise UsageError(f"{names} say how a model predicts; give `model=MODEL, data=DIR`")
        if settings := (*self.clustering, *self.filters, *self.tiles):
            names = ", ".join(f"`{name}`" for name in settings)
            raise UsageError(f"{names} change how a model segments; give `model=MODEL, data=DIR`")
