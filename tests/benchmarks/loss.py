"""Time the metric loss against a plain loop over labels: `python tests/benchmarks/loss.py`.

Forward and backward, both in a graph, alternately in the same run, on 4 images
of 512 x 512 pixels with 75 discs each and 8 embedding dimensions.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import cast

import numpy as np
import tensorflow as tf
from history import record

from instseg.data.discs import draw_discs
from instseg.loss import MetricLoss
from instseg.settings import DiscSettings


def loop_loss(embeddings: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The default metric loss, one image and one label after the other."""
    losses = []
    # Unstacked once: a slice of the whole batch per label would cost a gradient as large as the batch each.
    for image, image_labels in zip(tf.unstack(embeddings), tf.unstack(labels), strict=True):
        present = tf.unique(tf.reshape(image_labels, [-1])).y
        centroids = tf.TensorArray(embeddings.dtype, tf.size(present))
        pull = tf.constant(0.0, embeddings.dtype)
        for index in tf.range(tf.size(present)):
            members = tf.boolean_mask(image, image_labels == present[index])
            centroid = tf.reduce_mean(members, axis=0)
            centroids = centroids.write(index, centroid)
            pull += tf.reduce_sum(tf.square(tf.reduce_sum(tf.abs(members - centroid), axis=-1)))
        planes_as_channels = centroids.stack()
        distances = tf.reduce_sum(tf.abs(planes_as_channels[:, tf.newaxis] - planes_as_channels), axis=-1)
        order = tf.range(tf.size(present))
        pairs = order[:, tf.newaxis] < order
        push = tf.reduce_mean(tf.boolean_mask(tf.square(tf.nn.relu(0.25 - distances)), pairs))
        pull /= tf.cast(tf.size(image_labels), embeddings.dtype)
        losses.append(push + pull + 1e-4 * tf.reduce_mean(tf.square(planes_as_channels)))
    return tf.reduce_mean(tf.stack(losses))


def with_gradient(loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Return a graph that gives the loss and its gradient."""

    @tf.function  # type: ignore[untyped-decorator]
    def run(embeddings: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = loss(embeddings, labels)
        return value, tape.gradient(value, embeddings)

    return cast(Callable[..., tuple[tf.Tensor, tf.Tensor]], run)


def main() -> None:
    """Run both, print medians, their ratio and the growth of the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--discs", type=int, default=75)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    discs = DiscSettings(size=arguments.size, min_discs=arguments.discs, max_discs=arguments.discs)
    labels = tf.constant(np.stack([draw_discs(rng, discs)[1] for _ in range(4)]))
    embeddings = tf.constant(rng.standard_normal((*labels.shape, 8), np.float32))
    print(f"{labels.shape} pixels, {int(tf.reduce_max(labels))} labels, D = 8, float32")

    graphs = {"vectorised": with_gradient(MetricLoss()), "loop": with_gradient(loop_loss)}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    results = {}
    for name, graph in graphs.items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        results[name] = graph(embeddings, labels)
        # ru_maxrss is in KiB on Linux. It never falls, so the smaller one has to run first.
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{name:>10}: loss {float(results[name][0]):.6f}, peak memory grew by {grown:.0f} MiB, graph included")
    difference = tf.reduce_max(tf.abs(results["vectorised"][1] - results["loop"][1]))
    print(f"largest difference of the gradients: {float(difference / tf.reduce_max(tf.abs(results['loop'][1]))):.1e}")

    for _ in range(arguments.rounds):
        for name, graph in graphs.items():
            start = time.perf_counter()
            graph(embeddings, labels)[0].numpy()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:>10}: {median * 1e3:.0f} ms, median of {arguments.rounds}")
    print(f"the loop takes {medians['loop'] / medians['vectorised']:.1f} times as long")
    record("a loop over labels over the metric loss", medians["loop"] / medians["vectorised"], better="higher")


if __name__ == "__main__":
    main()
