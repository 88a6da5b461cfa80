"""Say where the time of a training step goes, and how fast it is: `python tests/benchmarks/step.py`.

8 patches of 128 x 128 pixels through the default network, or that of `--network`. Each part is timed alone, in turn
with the others, so that what else the machine does falls on all alike; forward and backward are those of the network
without the loss. GFLOP are those of the convolutions, multiplications and additions, and the
backward pass counts twice the forward one. The peak is that of products of matrices of 2048 x 2048, in float32 and
in the precision of the training; shares are of float32's, so that precisions can be compared.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from history import record

from instseg.network.runtime import load_tensorflow
from instseg.training.prepare import parse_network


def main() -> None:
    """Print a table of the parts and the share of the peak that is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="times that each part is run")
    parser.add_argument("--threads", type=int, help="threads of TensorFlow, by default all cores")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="by default what a training would take")
    parser.add_argument("--network", default="small", help="as `instseg train` takes it")
    parser.add_argument("--steps", type=int, default=100, help="steps of the training in which waiting is measured")
    options = parser.parse_args()
    load_tensorflow(options.threads)

    widths = parse_network(options.network)
    parts, flop = _parts(options.precision, widths)
    for run in parts.values():
        for _ in range(3):
            run()
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(options.rounds):
        for name, run in parts.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in times.items()}
    peak, own_peak = (2 * 2048**3 / median[name] / 1e9 for name in list(parts)[:2])
    own = list(parts)[1].removeprefix("matrix product, ")
    print(f"peak: {peak:.0f} GFLOP/s in float32, {own_peak:.0f} in the training's {own}")
    print(f"a step: {3 * flop:.1f} GFLOP in the convolutions")
    print(f"{'part':<28}{'ms':>8}{'of the step':>13}{'GFLOP/s':>9}{'of the peak':>13}")
    counted = {"forward": flop, "forward and backward": 3 * flop, "whole step": 3 * flop}
    for name in list(parts)[2:]:
        line = f"{name:<28}{1000 * median[name]:8.1f}{median[name] / median['whole step']:13.0%}"
        if name in counted:
            speed = counted[name] / median[name]
            line += f"{speed:9.0f}{speed / peak:13.0%}"
        print(line)
    share = 3 * flop / median["whole step"] / peak
    record("a training step's share of the peak of float32 products", share, better="higher")
    print(f"a training waits for data {_waiting(options.steps, options.precision, widths):.1%} of its time")


def _parts(precision: Any, widths: tuple[int, ...]) -> tuple[dict[str, Callable[[], Any]], float]:
    """Return what is timed, by name, and the GFLOP of a forward pass."""
    import tensorflow as tf

    from instseg.data.patches import Batch, SamplePatches
    from instseg.data.samples import make_sample
    from instseg.settings import MetricLossSettings, ModelSettings, TrainSettings
    from instseg.training.train_step import TrainStep

    settings = TrainSettings(precision=precision)
    learner = TrainStep(ModelSettings(widths=widths), settings, MetricLossSettings())
    samples = [make_sample(*image) for image in _images(8)]
    patches = SamplePatches(samples, batch_size=settings.batch_size, patch_size=settings.patch_size, seed=0)
    batch = patches.batch(0)
    images, labels = tf.constant(batch.images), tf.constant(batch.labels)
    seed = tf.constant([0, 0])
    numbers = iter(range(10**9))
    square = tf.random.normal((2048, 2048))
    own_square = tf.cast(square, learner.precision)
    raw = learner.network(images, training=True)
    variables = [variable.value for variable in learner.network.trainable_variables]
    kernels, others = list(learner._kernels.values()), list(learner._others.values())
    gradients = [tf.random.normal(kernel.shape) for kernel in kernels], [tf.random.normal(one.shape) for one in others]

    @tf.function
    def forward() -> Any:
        return tf.reduce_sum(learner.network(images, training=True))

    @tf.function
    def both() -> Any:
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(learner.network(images, training=True))
        return tape.gradient(value, variables)

    @tf.function
    def loss() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(raw)
            value = sum(learner._losses(raw, labels, tf.minimum(labels, 1), seed).values())
        return tape.gradient(value, raw)

    @tf.function
    def optimisers() -> None:
        learner.muon.apply(gradients[0], 1e-9)
        learner.optimizer.learning_rate.assign(1e-9)
        learner.optimizer.apply_gradients(zip(gradients[1], others, strict=True))

    @tf.function
    def average() -> None:
        learner._average(0.99)

    parts: dict[str, Callable[[], Any]] = {
        "matrix product": lambda: tf.matmul(square, square).numpy()[0, 0],
        f"matrix product, {learner.precision}": lambda: tf.matmul(own_square, own_square).numpy()[0, 0],
        "data, on one thread": lambda: patches.batch(next(numbers)),
        "forward": lambda: forward().numpy(),
        "forward and backward": lambda: both()[0].numpy(),
        "loss, forward and backward": lambda: loss().numpy(),
        "optimisers": optimisers,
        "average of the weights": average,
        "whole step": lambda: float(learner.learn(Batch(batch.images, batch.labels), 0, 0.5)["loss"]),
    }
    return parts, settings.batch_size * _flop(learner.network, settings.patch_size) / 1e9


def _images(count: int) -> Any:
    from instseg.data.discs import draw_discs
    from instseg.settings import DiscSettings

    rng = np.random.default_rng(0)
    for _ in range(count):
        yield draw_discs(rng, DiscSettings(size=256, min_discs=30, max_discs=60))


def _flop(network: Any, side: int) -> int:
    """Count the multiplications and additions of all convolutions over one patch."""
    import keras

    total = 0
    sides: dict[str, int] = {}
    for layer in network.layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        at = next((sides[one.name] for one in inputs if one.name in sides), side)
        if isinstance(layer, keras.layers.Conv2D):
            at //= layer.strides[0]
            total += 2 * at * at * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, keras.layers.UpSampling2D):
            at *= 2
        sides[layer.output.name] = at
    return total


def _waiting(steps: int, precision: Any, widths: tuple[int, ...]) -> float:
    """Train for a while and return the share of the time that was spent waiting for data."""
    import dataclasses

    from instseg.data.datasets import disc_data
    from instseg.data.patches import SamplePatches
    from instseg.data.samples import make_sample
    from instseg.models.config import TrainingConfig
    from instseg.settings import ModelSettings, TrainSettings
    from instseg.training.events import StepDone
    from instseg.training.loop import iter_training

    settings = TrainSettings(iterations=steps, validation_every=steps, precision=precision)
    samples = [make_sample(*image) for image in _images(8)]
    patches = SamplePatches(samples, batch_size=settings.batch_size, patch_size=settings.patch_size, seed=0)
    data = dataclasses.replace(disc_data(settings), patches=patches, validation=samples[:1])
    waited = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for event in iter_training(
            Path(folder) / "model", TrainingConfig(model=ModelSettings(widths=widths), train=settings), data
        ):
            if isinstance(event, StepDone):
                waited = event.waiting
    return waited


if __name__ == "__main__":
    main()
