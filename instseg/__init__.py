"""Instance segmentation with learned embeddings.

A network gives every pixel a vector; pixels of one object lie together and
objects lie apart; clustering turns the vectors into labels.

>>> import instseg
>>> import numpy as np
>>> model = instseg.load("shapes")
>>> labels = model.predict(np.zeros((64, 64)))
>>> labels.shape
(64, 64)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instseg.annotations.importing import ImportReport, import_annotations
    from instseg.api import predict_files
    from instseg.clustering.embeddings import Embeddings
    from instseg.clustering.instances import Instances
    from instseg.data.check import DataReport, check_data
    from instseg.errors import InstsegError, UsageError
    from instseg.evaluation.results import Evaluation
    from instseg.evaluation.run import evaluate
    from instseg.inference.measure_files import MeasureResult, measure_files
    from instseg.inference.model import Model, load
    from instseg.inference.run import PredictResult
    from instseg.inference.segmentation import Segmentation
    from instseg.inference.track_files import TrackResult, track_files
    from instseg.io.images import read_image
    from instseg.io.label_images import read_labels, write_labels
    from instseg.io.label_volumes import read_label_volume, write_label_volume
    from instseg.io.volumes import read_volume
    from instseg.measurements.objects import measure
    from instseg.settings import ClusterSettings, FilterSettings, TileSettings
    from instseg.tracking.linking import track
    from instseg.tracking.tracks import Tracks
    from instseg.training.api import TrainingResult, train

    __version__: str

# TensorFlow takes seconds to load, so that names come when they are first used.
_HOMES = {
    "ClusterSettings": "settings",
    "DataReport": "data.check",
    "Embeddings": "clustering.embeddings",
    "Evaluation": "evaluation.results",
    "FilterSettings": "settings",
    "ImportReport": "annotations.importing",
    "Instances": "clustering.instances",
    "InstsegError": "errors",
    "MeasureResult": "inference.measure_files",
    "Model": "inference.model",
    "PredictResult": "inference.run",
    "Segmentation": "inference.segmentation",
    "TileSettings": "settings",
    "TrackResult": "inference.track_files",
    "Tracks": "tracking.tracks",
    "TrainingResult": "training.api",
    "UsageError": "errors",
    "check_data": "data.check",
    "evaluate": "evaluation.run",
    "import_annotations": "annotations.importing",
    "load": "inference.model",
    "measure": "measurements.objects",
    "measure_files": "inference.measure_files",
    "predict_files": "api",
    "read_image": "io.images",
    "read_label_volume": "io.label_volumes",
    "read_labels": "io.label_images",
    "read_volume": "io.volumes",
    "track": "tracking.linking",
    "track_files": "inference.track_files",
    "train": "training.api",
    "write_label_volume": "io.label_volumes",
    "write_labels": "io.label_images",
}

__all__ = [
    "ClusterSettings",
    "DataReport",
    "Embeddings",
    "Evaluation",
    "FilterSettings",
    "ImportReport",
    "Instances",
    "InstsegError",
    "MeasureResult",
    "Model",
    "PredictResult",
    "Segmentation",
    "TileSettings",
    "TrackResult",
    "Tracks",
    "TrainingResult",
    "UsageError",
    "__version__",
    "check_data",
    "evaluate",
    "import_annotations",
    "load",
    "measure",
    "measure_files",
    "predict_files",
    "read_image",
    "read_label_volume",
    "read_labels",
    "read_volume",
    "track",
    "track_files",
    "train",
    "write_label_volume",
    "write_labels",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from instseg.version import installed_version

        return installed_version()
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"instseg.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'instseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
