"""Time the network's forward pass by different engines, and say how far their results are from TensorFlow's.

    python tests/benchmarks/engines.py MODEL [--sizes 512 1024] [--rounds 15]

MODEL is a model directory or the name of a model in the package. Each engine runs in a process of its own, one after
the other, on images of one batch; those whose packages are missing are left out, and said (`openvino` is no extra of
this package). "tensorflow's C library" is what `predict` uses, with the SavedModel; the others are given the network
alone. Printed are medians, their ratio to TensorFlow in Python, GFLOP/s (those of the convolutions,
each multiplication and addition) as a share of this machine's in products of matrices of 2048 x 2048, and the largest
difference of the maps as a share of the largest value.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

ENGINES = (
    "tensorflow",
    "tensorflow without oneDNN",
    "tensorflow XLA",
    "tensorflow bfloat16",
    "tensorflow's C library",
    "tensorflow's C library bfloat16",
    "onnxruntime",
    "openvino",
    "openvino float32",
)
_PACKAGES = {"onnxruntime": ("onnx", "tf2onnx", "onnxruntime"), "openvino": ("onnx", "tf2onnx", "openvino")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--sizes", type=int, nargs="+", default=(512, 1024), help="heights and widths")
    parser.add_argument("--rounds", type=int, default=15, help="times that each is run")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine is not None:
        time_engine(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for engine in ENGINES:
            missing = [name for name in _PACKAGES.get(engine.split()[0], ()) if find_spec(name) is None]
            if missing:
                print(f"{engine}: left out, as {', '.join(missing)} is missing")
                continue
            out = Path(folder) / f"{engine}.npz"
            environment = os.environ | ({"TF_ENABLE_ONEDNN_OPTS": "0"} if "without" in engine else {})
            sizes = [str(size) for size in options.sizes]
            command = [sys.executable, __file__, str(options.model), "--engine", engine, "--out", str(out)]
            command += ["--rounds", str(options.rounds), "--sizes", *sizes]
            subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
            found[engine] = dict(np.load(out))
    print_table(found, options.sizes)


def print_table(found, sizes) -> None:
    plain = found["tensorflow"]
    print(f"peak of matrix products: {float(plain['peak']):.0f} GFLOP/s in float32")
    print(
        "| engine | size | ms | of TensorFlow's | GFLOP/s | of the peak | difference |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    for size in sizes:
        for engine, one in found.items():
            seconds, speed = (
                float(one[f"{size} seconds"]),
                float(plain[f"{size} gflop"]) / float(one[f"{size} seconds"]),
            )
            difference = max(
                np.abs(one[name] - values).max() / np.abs(values).max()
                for name, values in plain.items()
                if name.startswith(f"{size} map")
            )
            ratio = seconds / float(plain[f"{size} seconds"])
            print(
                f"| {engine} | {size} | {1000 * seconds:.0f} | {ratio:.2f} | {speed:.0f} | "
                f"{speed / float(plain['peak']):.0%} | {difference:.1g} |"
            )


def time_engine(options) -> None:
    """Write the times and the maps of one engine."""
    run = make(options.engine, options.model)
    rng = np.random.default_rng(0)
    results = {}
    for size in options.sizes:
        image = np.kron(rng.uniform(0, 255, (size // 8, size // 8)), np.ones((8, 8))).astype(np.float32)
        given = image[None, ..., None], np.zeros((1, 1), np.float32), np.full((1, 1), 255, np.float32)
        for _ in range(3):
            maps = run(*given)
        times = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            maps = run(*given)
            times.append(time.perf_counter() - start)
        results[f"{size} seconds"] = statistics.median(times)
        results |= {f"{size} map {name}": values for name, values in maps.items()}
    if options.engine == "tensorflow":
        results |= reference(options)
    np.savez(options.out, **results)


def make(engine, model):
    from instseg.models.builtin import find_model
    from instseg.network.runtime import load_tensorflow

    model = find_model(model)
    if "C library" in engine:
        return make_stored(model, "bfloat16" if "bfloat16" in engine else "float32")
    if engine.startswith("tensorflow"):
        tf = load_tensorflow()
        from instseg.models.export import load_network
        from instseg.network.runtime import set_precision
        from instseg.network.serving import predict_maps

        network, settings = load_network(model)
        set_precision("bfloat16" if "bfloat16" in engine else "float32")
        function = tf.function(
            lambda image, low, high: predict_maps(network, settings, image, low, high), jit_compile="XLA" in engine
        )
        return lambda *given: {
            name: value.numpy() for name, value in function(*(tf.constant(one) for one in given)).items()
        }
    path = Path(tempfile.mkdtemp()) / "model.onnx"
    subprocess.run([sys.executable, "-m", "instseg", "export", str(model), "--out", str(path)], check=True)
    names = ("image", "low", "high")
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = [output.name for output in session.get_outputs()]
        return lambda *given: dict(zip(outputs, session.run(None, dict(zip(names, given, strict=True))), strict=True))
    import openvino

    precision = {"INFERENCE_PRECISION_HINT": "f32"} if "float32" in engine else {}
    compiled = openvino.Core().compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY", **precision})
    outputs = [output.any_name for output in compiled.outputs]

    def run(*given):
        found = compiled(dict(zip(names, given, strict=True)))
        return {name: np.array(found[name]) for name in outputs}

    return run


def make_stored(model, precision):
    from instseg.models.config import read_training
    from instseg.models.directory import current_generation
    from instseg.network.stored import open_network

    network = open_network(current_generation(model), precision=precision)
    # The others see images as large as the network does.
    magnification = np.float32(1 / read_training(model).config.model.scale)
    return lambda image, low, high: network(image, low, high, magnification)


def reference(options) -> dict[str, float]:
    """Return what a forward pass takes in GFLOP, and how many of them this machine does in a second at best."""
    import tensorflow as tf
    from step import _flop

    from instseg.models.builtin import find_model
    from instseg.models.export import load_network

    network, _ = load_network(find_model(options.model))
    square = tf.random.normal((2048, 2048))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(square, square)))
    times = []
    product()
    for _ in range(options.rounds):
        start = time.perf_counter()
        product().numpy()
        times.append(time.perf_counter() - start)
    found = {f"{size} gflop": _flop(network, size) / 1e9 for size in options.sizes}
    return found | {"peak": 2 * 2048**3 / statistics.median(times) / 1e9}


if __name__ == "__main__":
    main()
