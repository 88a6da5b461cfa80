"""A training in progress: what it learns, what was best so far, and how all of it is saved."""

import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from instseg.clustering.calibration import ScoreCalibration
from instseg.data.datasets import TrainingData
from instseg.data.patches import ShardedBatches
from instseg.errors import InstsegError
from instseg.evaluation.cases import Case
from instseg.evaluation.significance import significantly_better
from instseg.inference.model import Model
from instseg.labels.regions import IGNORED
from instseg.models.config import TrainingConfig
from instseg.models.directory import commit, current_generation, damaged_model_error, read_settings
from instseg.models.transfer import describe_fresh_layers, transfer_weights
from instseg.network.serving import ServingModule
from instseg.network.stored import as_network
from instseg.settings import ClusterSettings
from instseg.training.checkpoint import restore_checkpoint, write_checkpoint
from instseg.training.events import Best, CheckpointSaved, Validation, WeightsTransferred
from instseg.training.pipeline import batch_dataset
from instseg.training.report import PICTURES, TrainingReport
from instseg.training.report_page import TrainingState
from instseg.training.train_step import TrainStep
from instseg.training.tuning import tune
from instseg.training.validation import ValidationImages, validate
from instseg.version import installed_version

# Validation images that the page shows, those of the lowest scores.
_WORST = 4
# So many images can teach all that a model knows already, and a training on them begins at the full learning rate. At
# this rate, a minute with one image of particles lost half of what was known: AP at IoU 0.5 of 0.42 after 0.82, and of
# 0.76 at a rate of an eighth.
_MANY_IMAGES = 50
_LEAST_RATE = 0.1
# A change of the rate that is smaller is not worth a word.
_NEARLY = 0.9


class TrainingSession:
    """A training in progress.

    Parameters
    ----------
    folder : Path
        The model directory.
    config : TrainingConfig
        All settings.
    data : TrainingData
        Batches and validation images.
    strategy : tf.distribute.Strategy
        The devices.

    Attributes
    ----------
    step : TrainStep
        The network, its average, the best state and the optimiser.
    iteration : int
        Steps that were taken.
    seconds : float
        How long they took, as of the last save.
    best : Best or None
        None until the first validation.
    report : TrainingReport or None
    failures : list of InstsegError
        What went wrong where batches are made.
    """

    def __init__(
        self, folder: Path, config: TrainingConfig, data: TrainingData, strategy: tf.distribute.Strategy
    ) -> None:
        self.folder = folder
        self.config = config
        self.step = TrainStep(config.model, config.train, config.metric, strategy)
        self.iteration, self.seconds = 0, 0.0
        self.best: Best | None = None
        self.report: TrainingReport | None = None
        self.failures: list[InstsegError] = []
        self._patches = data.patches
        self._images = ValidationImages(data.validation)
        self._serving = ServingModule(self.step.best, config.model)
        self._clustering = config.clustering
        # Scores on images that were learnt from promise too much.
        self._calibrates = data.validated_apart
        self._calibration: ScoreCalibration | None = None
        # The state and the settings that the pictures show.
        self._drawn: tuple[int, ClusterSettings] | None = None

    def transfer(self) -> WeightsTransferred | None:
        """Begin with the weights of the model that the settings name, if they name one.

        Raises
        ------
        InstsegError
            If it cannot be read or its levels have other channels.
        """
        pretrained = self.config.pretrained
        if pretrained is None:
            return None
        transferred = transfer_weights(Path(pretrained), self.step.network, self.config.model)
        self.step.set_weights(transferred.weights)
        return WeightsTransferred(model=pretrained, changes=transferred.changes)

    def adapt_rate(self) -> tuple[str, ...]:
        """Lower the learning rate for few images the more, the better the weights to begin with are on the validation.

        It is multiplied by what is missing to an AP at IoU 0.5 of 1, but by no less than 0.1, and by no less than the
        number of images to learn from is to 50: what a model knows already, few images make it forget.

        Returns
        -------
        tuple of str
            What was changed, in words; empty if nothing was.
        """
        train, replicas = self.config.train, self.step.replicas
        least = max(_LEAST_RATE, self.config.data.get("training_images", _MANY_IMAGES) / _MANY_IMAGES)
        if least >= 1:
            return ()
        known = 0.0
        if replicas.chief:
            known = validate(self._model(), self._images, calibrate=False).scores.get("AP50", 0.0)
            self._images.forget()
        (known,) = self.step.all_reduce_sum((known,))
        factor = max(least, 1 - known)
        if factor > _NEARLY:
            return ()
        train = dataclasses.replace(train, learning_rate=float(f"{train.learning_rate * factor:.2g}"))
        self.config = dataclasses.replace(self.config, train=train)
        self.step.train = train
        return (f"the learning rate is {train.learning_rate:g}, as the images are few and AP50 is {known:.2f} already",)

    def resume(self) -> WeightsTransferred | None:
        """Go on from the state in the folder, and return which layers start fresh, if any do.

        The best is known again where the validation images are still the same.

        Raises
        ------
        InstsegError
            If the state cannot be read.
        """
        generation, stored = read_settings(self.folder)
        config = self.config
        try:
            missing = restore_checkpoint(generation, self.step.state(), config.model, stored["format"])
            scores = {name: float(value) for name, value in stored["validation"].items()}
            highest = [float(value) for value in stored.get("highest_of_images", ())]
            best = Best(int(stored["kept_iteration"]), scores, highest)
            validated_with = stored.get("validated_with", stored["clustering"])
            same = stored["data"] == config.data and validated_with == config.clustering.to_dict()
            self.iteration, self.seconds = int(stored["iteration"]), float(stored["seconds"])
        except MemoryError:
            raise
        except Exception as error:
            # TensorFlow raises what it happens to run into in damaged files: nearly everything there is.
            raise damaged_model_error(self.folder, error) from error
        # Images that are ignored as a whole have no score.
        self.best = best if same and 0 < len(highest) <= len(self._images.scored) else None
        self._calibration = None if self.best is None else config.calibration
        if missing:
            return WeightsTransferred(model=str(self.folder), changes=tuple(describe_fresh_layers(missing)))
        return None

    def batches(self) -> tf.data.Dataset:
        """Return the batches from the present iteration on: of several processes, the part of this one."""
        replicas = self.step.replicas
        patches = self._patches
        if replicas.processes > 1:
            patches = ShardedBatches(patches, replicas.processes, replicas.process)
        size = self.config.train.batch_size // replicas.processes
        return batch_dataset(patches, size, self.config, self.iteration, self.failures)

    def check_alike(self) -> None:
        """Check that all processes were given the same command.

        Raises
        ------
        InstsegError
            If they were not.
        """
        # Sums are of float32, which holds whole numbers up to 2^24.
        text = json.dumps([self.config.to_dict(), self.iteration], sort_keys=True)
        own = float(zlib.crc32(text.encode()) % 2**20)
        total, squares = self.step.all_reduce_sum((own / 2**10, (own / 2**10) ** 2))
        if not np.isclose(squares * self.step.replicas.processes, total**2, rtol=1e-6):
            raise InstsegError(
                "the processes of the training have other settings, data or models than each other; "
                "give all of them the same command, and check that they see the same files"
            )

    def validate(self) -> dict[str, float]:
        """Score the average as it is now, make it the best unless one before was clearly better, return its scores."""
        before = self.step.snapshot()
        self._images.forget()
        self._clustering = self.config.clustering
        validation = validate(self._model(), self._images, calibrate=self._calibrates)
        self.best = self._better(validation, before)
        return validation.scores

    def _better(self, validation: Validation, before: list[Any]) -> Best:
        """Return the better of the state that was validated and the best before, which is restored in that case."""
        highest = validation.image_scores
        best = self.best
        # Compared with the highest rather than with the last best: many steps down, each too small to count, do.
        # Without an instance to find no state is better than another, and the latest is kept.
        if best is not None and highest and best.highest and np.mean(best.highest) > np.mean(highest):
            highest = best.highest
            if significantly_better(highest, validation.image_scores):
                self.step.restore(before)
                self._images.forget()
                return best
        self._calibration = validation.calibration
        return Best(self.iteration, validation.scores, highest)

    def tune(self, stop: Callable[[], bool]) -> None:
        """Find the clustering settings that suit the validation images, and score the best state with them."""
        best, model = self._validated(), self._model()
        indices = list(self._images.for_tuning())
        embeddings = [self._images.embed(model, index) for index in indices]
        truths = [self._images[index].labels for index in indices]
        self._clustering = tune(embeddings, truths, self.config.clustering, stop=stop)
        if self._clustering != self.config.clustering:
            validation = validate(self._model(), self._images, calibrate=self._calibrates)
            self.best = best._replace(scores=validation.scores)
            self._calibration = validation.calibration

    def save(self, scores: dict[str, float], seconds: float) -> CheckpointSaved:
        """Commit the best state with the state to go on from, and write the report.

        Parameters
        ----------
        scores : dict of str to float
            Those of the network as it is now.
        seconds : float
            How long the training took.

        Raises
        ------
        InstsegError
            If something cannot be written; the generation before stays current.
        """
        best = self._validated()
        commit(self.folder, self._settings(best, seconds), self._write)
        self.seconds = seconds
        if self.report is not None:
            self.report.write(self.iteration, scores)
            self._draw(self.report, best)
            self.report.write_page(self._state(best, seconds))
        self._images.forget()
        return CheckpointSaved(iteration=self.iteration, scores=scores, best=best, seconds=seconds)

    def describe_saved(self) -> str:
        """Return what the folder holds, for errors: 'keeps the last model saved before' or 'holds no model yet'."""
        return "keeps the last model saved before" if current_generation(self.folder) else "holds no model yet"

    def _validated(self) -> Best:
        if self.best is None:
            raise ValueError("there is no best state yet, expected a validation before")
        return self.best

    def _settings(self, best: Best, seconds: float) -> dict[str, Any]:
        return {
            **dataclasses.replace(self.config, clustering=self._clustering, calibration=self._calibration).to_dict(),
            # What the scores below were found with, so that those after a resume can be compared.
            "validated_with": self.config.clustering.to_dict(),
            "iteration": self.iteration,
            "seconds": round(seconds, 3),
            "kept_iteration": best.iteration,
            "validation": best.scores,
            "highest_of_images": best.highest,
            "precision": self.step.precision,
            "versions": {"instseg": installed_version(), "tensorflow": tf.__version__, "numpy": np.__version__},
        }

    def _write(self, generation: Path) -> None:
        try:
            self._serving.save(generation)
            write_checkpoint(generation, self.step.state())
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise InstsegError(f"cannot save the model in {self.folder}: {reason}; check the space") from error

    def _draw(self, report: TrainingReport, best: Best) -> None:
        """Draw the pictures, unless they show the best state already."""
        shown = best.iteration, self._clustering
        if shown == self._drawn:
            return
        model = self._model(self._calibration)
        for index in range(min(PICTURES, len(self._images))):
            labels, embeddings = self._images.segment(model, index)
            report.write_pictures(index, self._images[index], labels, embeddings)
        report.show_cases([self._case(model, index) for index in self._worth_showing(best)])
        self._drawn = shown

    def _worth_showing(self, best: Best) -> list[int]:
        """Return the indices of the worst validation images and of the first ones."""
        scored = [index for index in self._images.scored if (self._images[index].labels != IGNORED).any()]
        by_score = sorted(zip(best.highest, scored, strict=False))
        first = range(min(PICTURES, len(self._images)))
        return list(dict.fromkeys([*(index for _, index in by_score[:_WORST]), *first]))

    def _case(self, model: Model, index: int) -> Case:
        sample = self._images[index]
        labels, instances = self._images.measure(model, index)
        names = self.config.data.get("validation_images", ())
        # Samples are in the order of their names where they are all of one folder.
        name = names[index] if len(names) == len(self._images) else f"validation image {index}"
        return Case(str(name), sample.labels, labels, sample.image, instances)

    def _state(self, best: Best, seconds: float) -> TrainingState:
        config = dataclasses.replace(self.config, clustering=self._clustering)
        images = len(best.highest)
        return TrainingState(self.folder, config, self.iteration, seconds, best.iteration, best.scores, images)

    def _model(self, calibration: ScoreCalibration | None = None) -> Model:
        """Return the best state as a model, for samples, whose channels are chosen and whose size is right already."""
        settings = self.config.model.for_samples()
        return Model(as_network(self._serving.embed), settings, self._clustering, calibration)
