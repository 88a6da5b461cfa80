"""The network as an ONNX file, for other runtimes than TensorFlow."""

from collections.abc import Callable
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.atomic import atomic_write
from instseg.models.export import load_network
from instseg.network.runtime import captured_stderr
from instseg.network.serving import predict_maps
from instseg.optional import require_extra
from instseg.settings import ModelSettings

_OPSET = 18
# Images and volumes that both runtimes are compared on: multiples of the network's stride, and others.
_COMPARED = {2: ((1, 64, 96), (2, 50, 33)), 3: ((1, 16, 32, 48), (2, 5, 33, 20))}
# Of a map's largest value. Sums in another order differ by far less.
_TOLERANCE = 1e-3


def export_onnx(model: str | PathLike[str], out: str | PathLike[str], *, quiet: bool = False) -> dict[str, float]:
    """Write a model as ONNX and compare what ONNX Runtime makes of it with TensorFlow.

    The graph takes `image` (B, H, W, C), or (B, Z, H, W, C), float32 as it was read, of any size, made `scale` times as
    large where the model's metadata give another `scale` than 1, and `low` and `high` (B, C), the values that become 0
    and 1: those of `instseg.preprocessing.levels.image_levels` by the rule `levels` of the metadata. It gives the maps
    of `ServingModule`; positions are in its pixels.

    Parameters
    ----------
    model : path-like
        A model directory.
    out : path-like
        Ends in .onnx; appears when the comparison ends well.
    quiet : bool
        For a program that owns its process: keep what TensorFlow writes to stderr meanwhile off the terminal.

    Returns
    -------
    dict of str to float
        The largest difference in each map, as a share of its largest value.

    Raises
    ------
    InstsegError
        If a package is missing, the model cannot be read, the file cannot be written, or the results differ.
    """
    require_extra("onnx")
    model, out = Path(model), Path(out)
    network, settings = load_network(model)

    def embed(image: Any, low: Any, high: Any) -> dict[str, Any]:
        return predict_maps(network, settings, image, low, high)

    image = tf.TensorSpec((None,) * (settings.ndim + 1) + (settings.channels,), tf.float32, name="image")
    levels = [tf.TensorSpec((None, settings.channels), tf.float32, name=name) for name in ("low", "high")]
    function = tf.function(embed, input_signature=[image, *levels], autograph=False)
    with atomic_write(out) as temporary:
        _convert(function, settings, temporary, quiet)
        return _compare(function, settings, temporary)


def _convert(function: Any, settings: ModelSettings, path: Path, quiet: bool) -> None:
    import onnx
    import tf2onnx

    # TensorFlow's optimiser writes about its devices.
    with captured_stderr() if quiet else nullcontext():
        converted, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=_OPSET)
    properties = {
        "scale": repr(settings.scale),
        "diameter": repr(settings.diameter),
        "loss": settings.loss,
        "levels": settings.levels,
    }
    if settings.spacing is not None:
        properties["spacing"] = ",".join(f"{size:g}" for size in settings.spacing)
    onnx.helper.set_model_props(converted, properties)
    onnx.save(converted, str(path))


def _compare(function: Callable[..., Any], settings: ModelSettings, path: Path) -> dict[str, float]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    differences: dict[str, float] = {}
    rng = np.random.default_rng(0)
    for size in _COMPARED[settings.ndim]:
        image = rng.uniform(0, 255, (*size, settings.channels)).astype(np.float32)
        low, high = (np.full((size[0], settings.channels), value, np.float32) for value in (2.0, 254.0))
        expected = {name: np.asarray(value) for name, value in function(image, low, high).items()}
        maps = dict(zip(names, session.run(None, {"image": image, "low": low, "high": high}), strict=True))
        for name, value in expected.items():
            differences[name] = max(differences.get(name, 0.0), _difference(maps[name], value))
    worst = max(differences, key=lambda name: differences[name])
    if differences[worst] > _TOLERANCE:
        raise InstsegError(
            f"ONNX Runtime and TensorFlow differ by {differences[worst]:.2g} in '{worst}', "
            f"expected at most {_TOLERANCE:g}; use the SavedModel"
        )
    return differences


def _difference(values: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(values - expected).max() / max(np.abs(expected).max(), 1e-9))
