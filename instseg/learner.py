"""One optimiser step: what is learnt from a batch, and the weights that it changes."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from instseg.data.patches import Batch
from instseg.loss import MetricLoss
from instseg.loss.overlap import class_loss, foreground_loss, one_of_four, overlap_loss
from instseg.muon import Muon
from instseg.network import build_network, is_last, part, pixel_places, read_positions
from instseg.runtime import fastest_precision
from instseg.settings import MetricLossSettings, ModelSettings, TrainSettings
from instseg.strategy import mean_over_replicas, replicated, share_of

# A step whose gradient is longer than this is shortened to it: one odd batch cannot throw the weights away.
_CLIP_NORM = 10.0
# Share of a training that the warm-up may take.
_LONGEST_WARMUP = 0.1
_BANDWIDTH_WEIGHT = 0.5
_SEED_WEIGHT = 1.0
_CLASSES_WEIGHT = 1.0


class Learner:
    """A network in training, its weight average and its optimiser.

    Attributes
    ----------
    precision : {'float32', 'bfloat16'}
        What the hidden layers of the network that is trained compute in.
    network, averaged : keras.Model
        The network that is trained, and the exponential moving average of its weights.
    kept : keras.Model
        The average as it was when `keep` was last called: the result.
    muon : Muon
        Changes the kernels of the hidden layers.
    optimizer : keras.optimizers.Optimizer
        AdamW (Loshchilov and Hutter 2019, 1711.05101), for all else: the heads' last layers and the normalisation.
    """

    def __init__(
        self,
        model: ModelSettings,
        train: TrainSettings,
        metric: MetricLossSettings,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.model = model
        self.train = train
        self.precision = train.precision or fastest_precision()
        self.strategy = strategy or tf.distribute.get_strategy()
        self.share = share_of(self.strategy)
        # Not on every device: it is what one process validates and writes.
        self.kept = build_network(model, train.seed)
        with replicated(self.strategy):
            self._make()
        # Patches are as the network sees them.
        self._diameter = model.diameter * model.scale
        self._metric_loss = MetricLoss.from_settings(metric)
        self._step = tf.function(self._learn_everywhere)
        self._sum = tf.function(self._sum_everywhere)

    def _make(self) -> None:
        model, train = self.model, self.train
        self.network = build_network(model, train.seed, self.precision)
        self.averaged = build_network(model, train.seed)
        self._kernels: list[keras.Variable] = []
        self._others: list[keras.Variable] = []
        for variable in self.network.trainable_variables:
            hidden = len(variable.shape) > 1 and not is_last(variable)
            (self._kernels if hidden else self._others).append(variable)
        self.muon = Muon([variable.value for variable in self._kernels], train.kernel_decay)
        self.optimizer = keras.optimizers.AdamW(train.learning_rate, weight_decay=train.weight_decay)
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.optimizer.build(self._others)

    def state(self) -> dict[str, list[tf.Variable]]:
        """Return every variable that going on needs, by group, in a fixed order."""
        groups = {
            "network": self.network.variables,
            "averaged": self.averaged.variables,
            "kept": self.kept.variables,
            "optimizer": self.optimizer.variables,
        }
        values = {name: [variable.value for variable in variables] for name, variables in groups.items()}
        return values | {"muon": self.muon.momenta}

    def begin_with(self, weights: list[Any]) -> None:
        """Take weights instead of the random ones, before the first step."""
        for network in (self.network, self.averaged, self.kept):
            network.set_weights(weights)

    def keep(self) -> list[Any]:
        """Keep the average as it is now, and return what was kept before, for `keep_again`."""
        before: list[Any] = self.kept.get_weights()
        self.kept.set_weights(self.averaged.get_weights())
        return before

    def keep_again(self, before: list[Any]) -> None:
        """Return to what was kept before."""
        self.kept.set_weights(before)

    def learn(self, batch: Batch, iteration: int, progress: float) -> dict[str, float]:
        """Take optimiser step `iteration` (from 0) and return the losses by name, the total first.

        `progress` is the share of the training that is over, 0..1.
        """
        # The average forgets the first, arbitrary weights faster than its final pace would.
        averaging = min(self.train.averaging, (1 + iteration) / (10 + iteration))
        classes = np.minimum(batch.labels, 1) if batch.classes is None else batch.classes
        parts = [self._parted(values) for values in (batch.images, batch.labels, classes)]
        numbers = np.array([self.train.seed, iteration], np.int32), self.learning_rate(iteration, progress), averaging
        losses = self._step(*parts, *(tf.constant(value) for value in numbers))
        return {name: float(value) for name, value in losses.items()}

    def agree(self, values: Sequence[float]) -> list[float]:
        """Return the sums of what all processes say, the same for all of them; each has to ask as often."""
        if self.share.processes == 1:
            return list(values)
        return [float(value) for value in self._sum(tf.constant(values, tf.float32))]

    def _parted(self, values: NDArray[Any]) -> Any:
        """Give each device of this process an equal part of what it has of a batch."""
        parts = iter(np.split(values, self.share.replicas // self.share.processes))
        return self.strategy.experimental_distribute_values_from_function(lambda context: next(parts))

    def _learn_everywhere(self, *arguments: Any) -> dict[str, Any]:
        losses = self.strategy.run(self._learn, arguments)
        return {
            name: self.strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in losses.items()
        }

    def _sum_everywhere(self, values: Any) -> Any:
        # Each device of a process says the same.
        local = self.share.replicas // self.share.processes
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, self.strategy.run(lambda: values / local), axis=None)

    def learning_rate(self, iteration: int, progress: float) -> float:
        """Return the rate of a step: linear warm-up, times half a cosine down to a hundredth of the peak."""
        train = self.train
        # Over a tenth of a training that is too short for all of it.
        rise = min(1.0, max((iteration + 1) / (train.warmup + 1), progress / _LONGEST_WARMUP))
        decay = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(progress, 1.0)))
        return float(train.learning_rate * rise * decay)

    def _learn(self, images: Any, labels: Any, classes: Any, seed: Any, rate: Any, averaging: Any) -> dict[str, Any]:
        self.optimizer.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            losses = self._losses(self.network(images, training=True), labels, classes, seed)
            total = sum(losses.values())
        variables = [kernel.value for kernel in self._kernels], [other.value for other in self._others]
        # All parts of a batch are equally large.
        of_kernels, of_others = mean_over_replicas(tape.gradient(total, variables))
        self.muon.apply(of_kernels, rate)
        self._apply(of_others)
        self._average(averaging)
        # A ReLU can turn what is no number into 0, and hide from the loss what the gradients show.
        sums = tf.add_n([tf.reduce_sum(gradient) for gradient in of_others])
        return {"loss": total + 0.0 * sums, **losses}

    def _apply(self, gradients: list[Any]) -> None:
        # Keras would clip each device's gradients, and then add them up.
        clipped, _ = tf.clip_by_global_norm(gradients, _CLIP_NORM)
        self.optimizer.apply_gradients(
            (gradient / self.share.replicas, other) for gradient, other in zip(clipped, self._others, strict=True)
        )

    def _average(self, averaging: Any) -> None:
        for average, value in zip(self.averaged.variables, self.network.variables, strict=True):
            if average.dtype.startswith("float"):
                average.assign(averaging * average + (1.0 - averaging) * value)

    def _losses(self, raw: Any, labels: Any, classes: Any, seed: Any) -> dict[str, Any]:
        maps, class_logits = part(raw, self.model)
        semantic = {"semantic": tf.reduce_mean(foreground_loss(class_logits, classes))}
        if self.model.classes > 2:
            semantic["classes"] = _CLASSES_WEIGHT * tf.reduce_mean(class_loss(class_logits, classes))
        if self.model.loss == "metric":
            return {"embedding": self._metric_loss(maps, labels), **semantic}
        shape = tf.shape(labels)
        cells = (self.share.replicas * shape[0], shape[1] // 2, shape[2] // 2)
        choice = tf.random.stateless_uniform(cells, seed, 0, 4, tf.int32)
        if self.share.replicas > 1:
            # What one device would draw for this part of the batch.
            part_of = tf.distribute.get_replica_context().replica_id_in_sync_group
            choice = choice[part_of * shape[0] : (part_of + 1) * shape[0]]
        places = tf.repeat(pixel_places(shape[1], shape[2]), shape[0], axis=0)
        # In diameters, whatever the size of the objects.
        maps, places, thinned = one_of_four(choice, maps, places / self._diameter, labels)
        found = read_positions(maps, places, self.model, 1.0)
        terms = overlap_loss(found["embeddings"], found["bandwidth"], found["seed_logits"], thinned)
        return {
            "embedding": tf.reduce_mean(terms.overlap),
            "bandwidth": _BANDWIDTH_WEIGHT * tf.reduce_mean(terms.bandwidth),
            "seed": _SEED_WEIGHT * tf.reduce_mean(terms.seed),
            **semantic,
        }
