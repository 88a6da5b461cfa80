"""One optimiser step: what is learnt from a batch, and the weights that it changes."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from instseg.data.patches import Batch
from instseg.loss.overlap import class_loss, foreground_loss
from instseg.network.architecture import Weights, build_network, is_output_layer, named_variables, set_named_weights
from instseg.network.decoding import split_heads
from instseg.network.muon import Muon
from instseg.network.objective import objective_of
from instseg.network.runtime import default_precision
from instseg.network.strategy import mean_over_replicas, replicas_of, replicated
from instseg.settings import MetricLossSettings, ModelSettings, TrainSettings

# A step whose gradient is longer than this is shortened to it: one odd batch cannot throw the weights away.
_CLIP_NORM = 10.0
# Share of a training that the warm-up may take.
_LONGEST_WARMUP = 0.1
_CLASSES_WEIGHT = 1.0


class TrainStep:
    """A network in training, its weight average and its optimiser.

    Attributes
    ----------
    precision : {'float32', 'bfloat16'}
        What the hidden layers of the network that is trained compute in.
    strategy : tf.distribute.Strategy
        The devices.
    replicas : Replicas
        What this process does of the training.
    network, ema : keras.Model
        The network that is trained, and the exponential moving average of its weights.
    best : keras.Model
        The average as it was when `snapshot` was last called: the result.
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
        self.metric = metric
        self.precision = train.precision or default_precision()
        self.strategy = strategy or tf.distribute.get_strategy()
        self.replicas = replicas_of(self.strategy)
        # Not on every device: it is what one process validates and writes.
        self.best = build_network(model, train.seed)
        with replicated(self.strategy):
            self._build()
        self._objective = objective_of(model)
        # AutoGraph has nothing to convert, and keeps its sources as temporary files, which a killed process leaves.
        self._step = tf.function(self._learn_on_replicas, autograph=False)
        self._sum = tf.function(self._sum_over_replicas, autograph=False)

    def _build(self) -> None:
        model, train = self.model, self.train
        self.network = build_network(model, train.seed, self.precision)
        self.ema = build_network(model, train.seed)
        names = {id(variable): name for name, variable in named_variables(self.network).items()}
        self._kernels: dict[str, keras.Variable] = {}
        self._others: dict[str, keras.Variable] = {}
        for variable in self.network.trainable_variables:
            name = names[id(variable)]
            hidden = len(variable.shape) > 1 and not is_output_layer(name)
            (self._kernels if hidden else self._others)[name] = variable
        self.muon = Muon([variable.value for variable in self._kernels.values()], train.kernel_decay)
        self.optimizer = keras.optimizers.AdamW(train.learning_rate, weight_decay=train.weight_decay)
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.optimizer.build(list(self._others.values()))

    def state(self) -> dict[str, dict[str, tf.Variable]]:
        """Return every variable that going on with the training needs, by group and name."""
        networks = {"network": self.network, "ema": self.ema, "best": self.best}
        groups = {
            group: {name: variable.value for name, variable in named_variables(network).items()}
            for group, network in networks.items()
        }
        return groups | {
            "optimizer": self._optimizer_state(),
            "muon": dict(zip(self._kernels, self.muon.momenta, strict=True)),
        }

    def _optimizer_state(self) -> dict[str, tf.Variable]:
        """Return the optimiser's variables but the learning rate, which each step sets."""
        # Keras names a moment after the variable that it is of.
        variables = {variable.name: variable.value for variable in self.optimizer.variables}
        moments = {
            f"{name}/{moment}": variables[f"{variable.path.replace('/', '_')}_{moment}"]
            for name, variable in self._others.items()
            for moment in ("momentum", "velocity")
        }
        return {"iteration": variables["iteration"], **moments}

    def set_weights(self, weights: Mapping[str, Weights]) -> None:
        """Set weights by name instead of the random ones, before the first step."""
        for network in (self.network, self.ema, self.best):
            set_named_weights(network, weights)

    def snapshot(self) -> list[Any]:
        """Make the average as it is now the best, and return the best before, for `restore`."""
        before: list[Any] = self.best.get_weights()
        self.best.set_weights(self.ema.get_weights())
        return before

    def restore(self, best: list[Any]) -> None:
        """Return to the best before a snapshot."""
        self.best.set_weights(best)

    def learn(self, batch: Batch, iteration: int, progress: float) -> dict[str, Any]:
        """Take an optimiser step and return the losses.

        Parameters
        ----------
        batch : Batch
            What this process has of it.
        iteration : int
            Number of the step, from 0.
        progress : float
            Share of the training that is over, 0..1.

        Returns
        -------
        dict of str to () float32 tensor
            The total, `loss`, first. The device may still be computing them: reading them waits for it.
        """
        # The average forgets the first, arbitrary weights faster than its final pace would.
        averaging = min(self.train.averaging, (1 + iteration) / (10 + iteration))
        classes = np.minimum(batch.labels, 1) if batch.classes is None else batch.classes
        parts = [self._split(values) for values in (batch.images, batch.labels, classes)]
        numbers = np.array([self.train.seed, iteration], np.int32), self.learning_rate(iteration, progress), averaging
        losses: dict[str, Any] = self._step(*parts, *(tf.constant(value) for value in numbers))
        return losses

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of values over all processes, the same for all of them; each has to ask as often."""
        if self.replicas.processes == 1:
            return list(values)
        return [float(value) for value in self._sum(tf.constant(values, tf.float32))]

    def _split(self, values: NDArray[Any]) -> Any:
        """Give each device of this process an equal part of what it has of a batch."""
        parts = iter(np.split(values, self.replicas.total // self.replicas.processes))
        return self.strategy.experimental_distribute_values_from_function(lambda context: next(parts))

    def _learn_on_replicas(self, *arguments: Any) -> dict[str, Any]:
        losses = self.strategy.run(self._learn, arguments)
        # Each device has the means over all of them.
        return {name: self.strategy.experimental_local_results(value)[0] for name, value in losses.items()}

    def _sum_over_replicas(self, values: Any) -> Any:
        # Each device of a process says the same.
        local = self.replicas.total // self.replicas.processes
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
        variables = [[one.value for one in group.values()] for group in (self._kernels, self._others)]
        losses = {"loss": total, **losses}
        (kernel_gradients, other_gradients), losses = self._exchange(tape.gradient(total, variables), losses)
        self.muon.apply(kernel_gradients, rate)
        self._apply(other_gradients)
        self._average(averaging)
        # A ReLU can turn what is no number into 0, and hide from the loss what the gradients show.
        sums = tf.add_n([tf.reduce_sum(gradient) for gradient in other_gradients])
        return losses | {"loss": losses["loss"] + 0.0 * sums}

    def _exchange(self, gradients: Any, losses: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the means over all devices, and set the moving moments to their means.

        All parts of a batch are equally large. All of it travels at once, as each exchange waits for the slowest.
        """
        if self.replicas.total == 1:
            return gradients, losses
        moving = [variable.value for variable in self.network.non_trainable_variables]
        values = [variable.read_value() for variable in moving]
        gradients, losses, means = mean_over_replicas((gradients, losses, values))
        for variable, mean in zip(moving, means, strict=True):
            variable.assign(mean)
        return gradients, losses

    def _apply(self, gradients: list[Any]) -> None:
        # Keras would clip each device's gradients, and then add them up.
        clipped, _ = tf.clip_by_global_norm(gradients, _CLIP_NORM)
        self.optimizer.apply_gradients(
            (gradient / self.replicas.total, other)
            for gradient, other in zip(clipped, self._others.values(), strict=True)
        )

    def _average(self, averaging: Any) -> None:
        for average, value in zip(self.ema.variables, self.network.variables, strict=True):
            if average.dtype.startswith("float"):
                average.assign(averaging * average + (1.0 - averaging) * value)

    def _losses(self, raw: Any, labels: Any, classes: Any, seed: Any) -> dict[str, Any]:
        maps, class_logits = split_heads(raw, self.model)
        losses = self._objective.loss_terms(maps, labels, seed, self.metric)
        losses["semantic"] = tf.reduce_mean(foreground_loss(class_logits, classes))
        if self.model.classes > 2:
            losses["classes"] = _CLASSES_WEIGHT * tf.reduce_mean(class_loss(class_logits, classes))
        return losses
