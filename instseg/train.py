"""The training: batches in, generations of a model directory out, events on the way."""

import dataclasses
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import instseg
from instseg.chance import clearly_better
from instseg.data.patches import Batch, PartOfPatches, Patches, Sample
from instseg.data.training import TrainingData
from instseg.errors import InstsegError, UsageError
from instseg.export import Serving
from instseg.learner import Learner
from instseg.metrics import average, score
from instseg.plan import Plan, progress
from instseg.predict import Model
from instseg.report import Report, Row
from instseg.settings import ClusterSettings
from instseg.store import (
    CHECKPOINT,
    commit,
    current_generation,
    damaged,
    only_training,
    read_settings,
    require_writable,
)
from instseg.strategy import share_of
from instseg.transfer import take_over
from instseg.tuning import tune

_CHECKPOINT = f"{CHECKPOINT}/state"
_VALIDATION_IMAGES = 40
_TUNING_PIXELS = 4_000_000
_WORKERS = 2
_AHEAD = 4
_AP_AT = (0.5, 0.75)
_BEST_BY = "AP50-90"
# How operations fail that wait for other processes.
_GONE = (tf.errors.UnavailableError, tf.errors.InternalError, tf.errors.AbortedError, tf.errors.CancelledError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An optimiser step was taken.

    Attributes
    ----------
    iteration : int
        Steps so far, those before a resume included.
    losses : dict of str to float
        The total first.
    progress : float
        Share of the training that is over, by iterations or by the clock, 0..1.
    images_per_second, waiting : float
        Patches per second since the start or resume, and the share of that time spent waiting for data, 0..1.
    """

    iteration: int
    losses: dict[str, float]
    progress: float
    images_per_second: float
    waiting: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Something that takes some seconds begins.

    Attributes
    ----------
    what : str
        Such as 'validating'.
    """

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The weights of a trained model were taken over.

    Attributes
    ----------
    model : str
        The directory that they are from.
    changes : tuple of str
        What was adapted or starts fresh, in words.
    """

    model: str
    changes: tuple[str, ...]


class Validation(NamedTuple):
    """How good a state is on the validation images, from real clustering.

    Attributes
    ----------
    scores : dict of str to float
        Mean AP over the images by IoU threshold ('AP50', 'AP75'), and its mean over 0.50 to 0.90 ('AP50-90').
    of_images : list of float
        The last for each image.
    """

    scores: dict[str, float]
    of_images: list[float]


class Kept(NamedTuple):
    """The last state that none before was clearly better than: the later of two equals has learnt more.

    Attributes
    ----------
    iteration : int
        Steps that it had.
    scores : dict of str to float
        As `Validation` has them.
    highest : list of float
        The images' mean APs of the state with the highest so far.
    """

    iteration: int
    scores: dict[str, float]
    highest: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A complete model was committed: the last whose mean AP over IoU 0.50 to 0.90 is not clearly below the highest.

    Attributes
    ----------
    iteration : int
        Steps so far.
    scores : dict of str to float
        Those of the network as it is now, as `Validation` has them.
    kept : Kept
        The step that the committed model is of, and its scores.
    """

    iteration: int
    scores: dict[str, float]
    kept: Kept


def train(
    folder: Path,
    plan: Plan,
    data: TrainingData,
    *,
    resume: bool = False,
    report: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    strategy: tf.distribute.Strategy | None = None,
) -> Iterator[Begun | Step | Saved | Busy]:
    """Train a model and keep it in `folder`.

    A complete model, the one of `Kept`, is committed with the state to go on from every `validation_every` iterations,
    at the end, and when `stop` says so; being killed costs only what came after the last.

    Parameters
    ----------
    folder : Path
        The model directory.
    plan : Plan
        All settings.
    data : TrainingData
        Batches and validation images.
    resume : bool
        Go on from the state in `folder`, weights and optimiser included.
    report : Path, optional
        Where curves and pictures go.
    stop : callable
        Asked after every iteration whether to save and end.
    strategy : tf.distribute.Strategy, optional
        What `instseg.strategy.make_strategy` gave. Of several processes, all of which see the same files, the first
        validates and writes.

    Yields
    ------
    Begun, Step, Saved or Busy

    Raises
    ------
    InstsegError
        If the folder cannot be used, the state or the model to begin with cannot be read, the loss is no longer
        finite, or another process of the training is gone.
    UsageError
        If the batch cannot be shared out equally.
    """
    strategy = strategy or tf.distribute.get_strategy()
    share = share_of(strategy)
    if plan.train.batch_size % share.replicas:
        raise UsageError(
            f"--batch-size is {plan.train.batch_size}, expected a multiple of {share.replicas}, the number of devices; "
            "give another, or --strategy one"
        )
    if not share.chief:
        yield from _train(folder, plan, data, resume, None, stop, strategy)
        return
    require_writable(folder)
    with only_training(folder):
        yield from _train(folder, plan, data, resume, report, stop, strategy)


def _train(
    folder: Path,
    plan: Plan,
    data: TrainingData,
    resume: bool,
    report: Path | None,
    stop: Callable[[], bool],
    strategy: tf.distribute.Strategy,
) -> Iterator[Begun | Step | Saved | Busy]:
    learner = Learner(plan.model, plan.train, plan.metric, strategy)
    share = learner.share
    if plan.begin_with is not None and not resume:
        taken = take_over(Path(plan.begin_with), learner.network, plan.model)
        learner.begin_with(taken.weights)
        yield Begun(model=plan.begin_with, changes=taken.changes)
    serving = Serving(learner.kept, plan.model)
    first, before, kept = _restore(folder, learner, plan, data) if resume else (0, 0.0, None)
    book = Report(report, resume_at=first) if report is not None else None
    failures: list[InstsegError] = []
    patches = data.patches
    if share.processes > 1:
        _require_alike(learner, plan, first)
        patches = PartOfPatches(patches, share.processes, share.process)
    batches = iter(_pipeline(patches, plan.train.batch_size // share.processes, plan, first, failures))
    clock = _Clock(plan.train.batch_size, before)
    over = progress(plan.train, first, before)
    for iteration in itertools.count(first):
        if over >= 1:
            return
        try:
            with clock.waiting():
                batch = Batch(*next(batches))
            losses = learner.learn(batch, iteration, over)
        except tf.errors.OpError as error:
            if failures:
                raise failures[0] from error
            if share.processes > 1 and isinstance(error, _GONE):
                raise _gone(folder, iteration, error) from error
            if not isinstance(error, tf.errors.ResourceExhaustedError):
                raise
            raise InstsegError(
                f"there is not enough memory for {plan.train.batch_size} patches of {plan.train.patch_size} pixels; "
                "lower --batch-size or --patch-size"
            ) from error
        done = iteration + 1
        if not np.isfinite(losses["loss"]):
            keeps = "keeps the last model saved before" if current_generation(folder) else "holds no model yet"
            raise InstsegError(
                f"the loss became {losses['loss']} at iteration {done}; "
                f"{folder} {keeps}; lower --learning-rate and train again"
            )
        if book is not None:
            rate = learner.learning_rate(iteration, over)
            book.add(Row(done, rate, clock.images_per_second(), losses))
        stopping = stop()
        over = progress(plan.train, done, clock.seconds())
        # The first process has the clock; any can be asked to stop.
        over, asked = learner.agree((over if share.chief else 0.0, float(stopping)))
        stopped = asked > 0
        yield Step(
            iteration=done,
            losses=losses,
            progress=min(over, 1.0),
            images_per_second=clock.images_per_second(),
            waiting=clock.share_waited(),
        )
        if share.chief and (stopped or over >= 1 or done % plan.train.validation_every == 0):
            with clock.paused():
                yield Busy(what="validating")
                kept, scores = _best(kept, done, plan, data, learner, serving)
                tuned = plan.clustering
                if over >= 1:
                    yield Busy(what="tuning the clustering on the validation images")
                    tuned, kept = _tuned(kept, plan, data, serving, stop)
                _save(folder, plan, tuned, data, learner, serving, book, done, scores, kept, clock.seconds())
                yield Saved(iteration=done, scores=scores, kept=kept)
        if stopped:
            return


def _require_alike(learner: Learner, plan: Plan, first: int) -> None:
    """See that all processes were given the same command."""
    # Sums are of float32, which holds whole numbers up to 2^24.
    own = float(zlib.crc32(json.dumps([plan.to_dict(), first], sort_keys=True).encode()) % 2**20)
    total, squares = learner.agree((own / 2**10, (own / 2**10) ** 2))
    count = learner.share.processes
    if not np.isclose(squares * count, total**2, rtol=1e-6):
        raise InstsegError(
            "the processes of the training have other settings, data or models than each other; "
            "give all of them the same command, and see that they see the same files"
        )


def _gone(folder: Path, iteration: int, error: Exception) -> InstsegError:
    keeps = "keeps the last model saved before" if current_generation(folder) else "holds no model yet"
    reason = str(error).strip().splitlines()[0]
    return InstsegError(
        f"another process of the training is gone ({reason}) after iteration {iteration}; {folder} {keeps}; "
        "start all processes again, with --resume if there is a model"
    )


def _pipeline(patches: Patches, size: int, plan: Plan, first: int, failures: list[InstsegError]) -> tf.data.Dataset:
    """Batches of a size from number `first` on, made beside the training by a few threads, in order.

    TensorFlow makes errors of its own of those that Python functions raise: `failures` takes what they were.
    """
    train, model = plan.train, plan.model
    side = train.patch_size

    def make(number: Any) -> tuple[Any, ...]:
        def draw(number: Any) -> tuple[Any, ...]:
            try:
                return tuple(value for value in patches.batch(int(number)) if value is not None)
            except InstsegError as error:
                failures.append(error)
                raise

        kinds = (tf.float32, tf.int32, tf.int32)[: 3 if model.class_names else 2]
        images, *of_pixels = tf.numpy_function(draw, [number], kinds)
        images.set_shape((size, side, side, model.channels))
        for values in of_pixels:
            values.set_shape((size, side, side))
        return images, *of_pixels

    numbers = tf.data.Dataset.range(first, train.iterations if train.minutes is None else 2**31)
    # In order, whichever thread is first: the same seed has to give the same training.
    return numbers.map(make, num_parallel_calls=_WORKERS, deterministic=True).prefetch(_AHEAD)


def _best(
    kept: Kept | None, iteration: int, plan: Plan, data: TrainingData, learner: Learner, serving: Serving
) -> tuple[Kept, dict[str, float]]:
    """Validate the average as it is now, keep it unless one before was clearly better, and return its scores, too."""
    before = learner.keep()
    found = validate(_model(plan, serving), data.validation)
    highest = found.of_images
    # Compared with the highest rather than with what was kept last: many steps down, each too small to count, do.
    if kept is not None and np.mean(kept.highest) > np.mean(highest):
        highest = kept.highest
        if clearly_better(highest, found.of_images):
            learner.keep_again(before)
            return kept, found.scores
    return Kept(iteration, found.scores, highest), found.scores


def _save(
    folder: Path,
    plan: Plan,
    clustering: ClusterSettings,
    data: TrainingData,
    learner: Learner,
    serving: Serving,
    book: Report | None,
    iteration: int,
    scores: dict[str, float],
    kept: Kept,
    seconds: float,
) -> None:
    def write(generation: Path) -> None:
        try:
            serving.save(generation)
            (generation / _CHECKPOINT).parent.mkdir()
            tf.train.Checkpoint(**learner.state()).write(str(generation / _CHECKPOINT))
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise InstsegError(f"cannot save the model in {folder}: {reason}; check the space") from error

    settings = {
        **dataclasses.replace(plan, clustering=clustering).to_dict(),
        # What the scores below were found with, so that those after a resume can be compared.
        "validated_with": plan.clustering.to_dict(),
        "iteration": iteration,
        "seconds": round(seconds, 3),
        "kept_iteration": kept.iteration,
        "validation": kept.scores,
        "highest_of_images": kept.highest,
        "precision": learner.precision,
        "versions": {"instseg": instseg.__version__, "tensorflow": tf.__version__, "numpy": np.__version__},
    }
    commit(folder, settings, write)
    if book is not None:
        book.write(iteration, scores, _model(plan, serving, clustering), data.validation)


def _model(plan: Plan, serving: Serving, clustering: ClusterSettings | None = None) -> Model:
    """Return the model as it is now, for samples, whose channels are chosen already."""
    settings = dataclasses.replace(plan.model, channel_choice=None)
    return Model(serving.embed, settings, clustering or plan.clustering)


def _tuned(
    kept: Kept, plan: Plan, data: TrainingData, serving: Serving, stop: Callable[[], bool]
) -> tuple[ClusterSettings, Kept]:
    """Return the clustering settings that suit the validation images, and what is kept, with the scores of these."""
    model = _model(plan, serving)
    chosen: list[Sample] = []
    for sample in _chosen(data.validation):
        # As many as memory and patience allow.
        if chosen and sum(one.labels.size for one in chosen) + sample.labels.size > _TUNING_PIXELS:
            break
        chosen.append(sample)
    maps = [model.embed(sample.image) for sample in chosen]
    settings = tune(maps, [sample.labels for sample in chosen], plan.clustering, stop=stop)
    if settings == plan.clustering:
        return settings, kept
    found = validate(_model(plan, serving, settings), data.validation)
    return settings, kept._replace(scores=found.scores)


def _chosen(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[:: max(1, -(-len(samples) // _VALIDATION_IMAGES))]


def validate(model: Model, samples: Sequence[Sample]) -> Validation:
    """Cluster (up to 40 of the) samples as `predict` would, and score the labels."""
    of_images = [score(sample.labels, model.predict(sample.image)) for sample in _chosen(samples)]
    scores = average(of_images)
    at = {f"AP{100 * t:.0f}": float(scores.ap[scores.thresholds.index(t)]) for t in _AP_AT}
    return Validation({**at, _BEST_BY: scores.mean_ap}, [one.mean_ap for one in of_images])


def _restore(folder: Path, learner: Learner, plan: Plan, data: TrainingData) -> tuple[int, float, Kept | None]:
    """Return the steps so far, their seconds, and what was best, where the validation images are still the same."""
    generation, stored = read_settings(folder)
    try:
        checkpoint = tf.train.Checkpoint(**learner.state())
        checkpoint.read(str(generation / _CHECKPOINT)).assert_consumed()
        scores = {name: float(value) for name, value in stored["validation"].items()}
        highest = [float(value) for value in stored.get("highest_of_images", ())]
        kept = Kept(int(stored["kept_iteration"]), scores, highest)
        found_with = stored.get("validated_with", stored["clustering"])
        same = stored["data"] == plan.data and found_with == plan.clustering.to_dict()
        comparable = same and len(highest) == len(_chosen(data.validation))
        return int(stored["iteration"]), float(stored["seconds"]), kept if comparable else None
    except (OSError, ValueError, LookupError, AttributeError, AssertionError, tf.errors.OpError) as error:
        raise damaged(folder, error) from error


class _Clock:
    """How long the training takes, and how fast it goes, for which pauses (saving, validation) do not count."""

    def __init__(self, batch_size: int, before: float) -> None:
        self._batch_size = batch_size
        self._start = time.perf_counter()
        self._begin = self._start - before
        self._waited = 0.0
        self._steps = 0

    def waiting(self) -> "_Span":
        self._steps += 1
        return _Span(self._add_waited)

    def paused(self) -> "_Span":
        return _Span(self._add_pause)

    def seconds(self) -> float:
        return time.perf_counter() - self._begin

    def images_per_second(self) -> float:
        return self._steps * self._batch_size / self._elapsed()

    def share_waited(self) -> float:
        return self._waited / self._elapsed()

    def _elapsed(self) -> float:
        return max(time.perf_counter() - self._start, 1e-9)

    def _add_waited(self, seconds: float) -> None:
        self._waited += seconds

    def _add_pause(self, seconds: float) -> None:
        self._start += seconds


class _Span:
    """Tells how long a block took."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._tell(time.perf_counter() - self._begin)
