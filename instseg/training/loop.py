"""The loop of a training: batches in, generations of a model directory out, events on the way."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from instseg.data.datasets import TrainingData
from instseg.data.patches import Batch
from instseg.errors import InstsegError, PeerLostError, UsageError
from instseg.models.config import TrainingConfig, training_progress
from instseg.models.directory import check_trainable, training_lock
from instseg.network.strategy import replicas_of
from instseg.training.clock import TrainingClock
from instseg.training.events import Event, PhaseStarted, StepDone
from instseg.training.report import MetricsRow, TrainingReport
from instseg.training.session import TrainingSession

# How operations fail that wait for other processes.
_PEER_ERRORS = (tf.errors.UnavailableError, tf.errors.InternalError, tf.errors.AbortedError, tf.errors.CancelledError)
# Steps whose losses are read from a GPU at once, so that it does not wait for the host after each.
_STEPS_PER_READ = 10


def iter_training(
    folder: Path,
    config: TrainingConfig,
    data: TrainingData,
    *,
    resume: bool = False,
    adapt_rate: bool = False,
    report: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    strategy: tf.distribute.Strategy | None = None,
    steps_per_read: int | None = None,
) -> Iterator[Event]:
    """Train a model and keep it in `folder`.

    A complete model, the one of `Best`, is committed with the state to go on from every `validation_every` iterations,
    at the end, and when `stop` says so; being killed costs only what came after the last.

    Parameters
    ----------
    folder : Path
        The model directory.
    config : TrainingConfig
        All settings.
    data : TrainingData
        Batches and validation images.
    resume : bool
        Go on from the state in `folder`, weights and optimiser included.
    adapt_rate : bool
        Lower the learning rate where the model to begin with knows the objects already, as
        `TrainingSession.adapt_rate` does.
    report : Path, optional
        Where curves and pictures go.
    stop : callable
        Asked after every iteration whether to save and end.
    strategy : tf.distribute.Strategy, optional
        What `instseg.network.strategy.make_strategy` returned. Of several processes, all of which see the same files,
        the first validates and writes.
    steps_per_read : int, optional
        Steps after which their losses are read from the device, and reported. By default 10 where there is a GPU,
        which would wait for the host meanwhile, else 1.

    Yields
    ------
    WeightsTransferred, StepDone, CheckpointSaved or PhaseStarted

    Raises
    ------
    InstsegError
        If the folder cannot be used, the state or the model to begin with cannot be read, the loss is no longer
        finite, or another process of the training is gone.
    UsageError
        If the batch cannot be shared out equally.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = replicas_of(strategy)
    if config.train.batch_size % replicas.total:
        raise UsageError(
            f"batch_size is {config.train.batch_size}, expected a multiple of {replicas.total}, the number of devices; "
            "give another, or `strategy='one'`",
            parameter="batch_size",
        )
    if steps_per_read is None:
        steps_per_read = _STEPS_PER_READ if tf.config.list_physical_devices("GPU") else 1
    if replicas.chief:
        check_trainable(folder)
    with training_lock(folder) if replicas.chief else nullcontext():
        session = TrainingSession(folder, config, data, strategy)
        yield from _begin(session, resume, adapt_rate, report if replicas.chief else None)
        yield from _Loop(session, stop, steps_per_read).run()


def _begin(session: TrainingSession, resume: bool, adapt_rate: bool, report: Path | None) -> Iterator[Event]:
    """Set the weights to begin with, or restore those to go on from."""
    transferred = session.resume() if resume else session.transfer()
    if transferred is not None and adapt_rate:
        yield PhaseStarted(phase="validating the model to begin with")
        transferred = dataclasses.replace(transferred, changes=(*transferred.changes, *session.adapt_rate()))
    if transferred is not None:
        yield transferred
    if report is not None:
        session.report = TrainingReport(report, resume_at=session.iteration)
    if session.step.replicas.processes > 1:
        session.check_alike()


class _PendingStep(NamedTuple):
    """A step whose losses are not read yet."""

    iteration: int
    learning_rate: float
    progress: float
    images_per_second: float
    waiting: float
    losses: dict[str, Any]


class _Loop:
    """Takes the steps of a training, and validates and saves in between."""

    def __init__(self, session: TrainingSession, stop: Callable[[], bool], steps_per_read: int) -> None:
        train = session.config.train
        self._session, self._stop, self._steps_per_read = session, stop, steps_per_read
        self._train = train
        self._batches = iter(session.batches())
        self._clock = TrainingClock(train.batch_size, session.seconds)
        self._progress = training_progress(train, session.iteration, session.seconds)
        self._pending: list[_PendingStep] = []

    def run(self) -> Iterator[Event]:
        """Yield the events until the training is over or stopped."""
        session, chief = self._session, self._session.step.replicas.chief
        while self._progress < 1:
            stopped = self._step()
            saving = stopped or self._progress >= 1 or session.iteration % self._train.validation_every == 0
            if saving or len(self._pending) >= self._steps_per_read:
                yield from self._read_losses()
            if saving and chief:
                with self._clock.paused():
                    yield from self._save()
            if stopped:
                return

    def _step(self) -> bool:
        """Take a step, and return whether a process was asked to stop."""
        session, iteration = self._session, self._session.iteration
        rate = session.step.learning_rate(iteration, self._progress)
        with self._errors_explained():
            with self._clock.waiting():
                batch = Batch(*next(self._batches))
            losses = session.step.learn(batch, iteration, self._progress)
        session.iteration += 1
        speed = self._clock.images_per_second()
        stopping = self._stop()
        progress = training_progress(self._train, session.iteration, self._clock.seconds())
        # The first process has the clock; any can be asked to stop.
        own = progress if session.step.replicas.chief else 0.0, float(stopping)
        with self._errors_explained():
            self._progress, stops = session.step.all_reduce_sum(own)
        waiting = self._clock.share_waited()
        self._pending.append(_PendingStep(session.iteration, rate, min(self._progress, 1.0), speed, waiting, losses))
        return stops > 0

    def _read_losses(self) -> Iterator[StepDone]:
        """Read the losses of the pending steps from the device, and report them."""
        session = self._session
        pending, self._pending = self._pending, []
        with self._errors_explained():
            losses = [{name: float(value) for name, value in step.losses.items()} for step in pending]
        for step, values in zip(pending, losses, strict=True):
            if not np.isfinite(values["loss"]):
                raise InstsegError(
                    f"the loss became {values['loss']} at iteration {step.iteration}; "
                    f"{session.folder} {session.describe_saved()}; lower `learning_rate` and train again"
                )
            if session.report is not None:
                session.report.add(MetricsRow(step.iteration, step.learning_rate, step.images_per_second, values))
            yield StepDone(
                iteration=step.iteration,
                losses=values,
                progress=step.progress,
                images_per_second=step.images_per_second,
                waiting=step.waiting,
            )

    def _save(self) -> Iterator[Event]:
        session = self._session
        yield PhaseStarted(phase="validating")
        scores = session.validate()
        if self._progress >= 1:
            yield PhaseStarted(phase="tuning the clustering on the validation images")
            session.tune(self._stop)
        yield session.save(scores, self._clock.seconds())

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """Raise TensorFlow's errors as those of the user's data, machine or other processes."""
        session, train = self._session, self._train
        try:
            yield
        except tf.errors.OpError as error:
            if session.failures:
                raise session.failures[0] from error
            if session.step.replicas.processes > 1 and isinstance(error, _PEER_ERRORS):
                reason = str(error).strip().splitlines()[0]
                raise PeerLostError(
                    f"another process of the training is gone ({reason}) after iteration {session.iteration}; "
                    f"{session.folder} {session.describe_saved()}; "
                    "start all processes again, with `resume=True` if there is a model"
                ) from error
            if not isinstance(error, tf.errors.ResourceExhaustedError):
                raise
            raise InstsegError(
                f"there is not enough memory for {train.batch_size} patches of {train.patch_size} pixels; "
                "lower `batch_size` or `patch_size`"
            ) from error
