"""Training on many devices and machines: TensorFlow's strategies, with errors for what goes wrong.

`MultiWorkerMirroredStrategy` waits for ever for machines that `TF_CONFIG` names and that do not answer, and it takes
signals away from the process. So `wait_for_peers` has every process listen at its own port and look for all others,
with a deadline, before the strategy is made; handlers of signals are set after it.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from instseg.errors import InstsegError, UsageError

StrategyName = Literal["auto", "one", "mirrored", "multi-worker"]

_VARIABLE = "TF_CONFIG"


class ClusterSpec(NamedTuple):
    """The processes of a training.

    Attributes
    ----------
    addresses : tuple of str
        host:port of each.
    own : int
        Which of them this is; the first is the chief, which writes.
    """

    addresses: tuple[str, ...]
    own: int


def read_cluster_spec(text: str | None = None) -> ClusterSpec | None:
    """Read `TF_CONFIG`.

    Parameters
    ----------
    text : str, optional
        By default that of the environment.

    Returns
    -------
    ClusterSpec or None
        None where nothing is set.

    Raises
    ------
    InstsegError
        If it is not what TensorFlow expects.
    """
    text = os.environ.get(_VARIABLE) if text is None else text
    if not text:
        return None
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        configuration = json.loads(text)
        cluster, task = configuration["cluster"], configuration["task"]
        others = sorted(set(cluster) - {"chief", "worker"})
        if others:
            raise ValueError(f"its cluster has {', '.join(others)}, expected workers and perhaps a chief")
        roles = [(kind, number) for kind in ("chief", "worker") for number in range(len(cluster.get(kind, ())))]
        addresses = tuple(str(cluster[kind][number]) for kind, number in roles)
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
                raise ValueError(f"{address} is no host:port")
        if len(set(addresses)) < len(addresses):
            raise ValueError("an address occurs twice")
        return ClusterSpec(addresses, roles.index((task["type"], int(task["index"]))))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise InstsegError(f"{_VARIABLE} cannot be used ({reason}); expected something like {example}") from error


def make_strategy(name: StrategyName, patience: float = 60.0) -> tf.distribute.Strategy:
    """Return the devices that a training runs on.

    Parameters
    ----------
    name : {'auto', 'one', 'mirrored', 'multi-worker'}
        auto: many processes where `TF_CONFIG` names several, else all GPUs of this machine where it has several, else
        one device.
    patience : float
        Seconds until processes that do not answer are given up.

    Raises
    ------
    UsageError
        If this machine has no such devices.
    InstsegError
        If `TF_CONFIG` is wrong, or a process does not answer.
    """
    if name == "one":
        return tf.distribute.get_strategy()
    peers = read_cluster_spec()
    devices = tf.config.list_physical_devices("GPU")
    if name == "auto":
        several = peers is not None and len(peers.addresses) > 1
        name = "multi-worker" if several else "mirrored" if len(devices) > 1 else "one"
        if name == "one":
            return tf.distribute.get_strategy()
    if name == "mirrored":
        if not devices:
            raise UsageError("`strategy='mirrored'` is for several GPUs, but there is none here; leave it out")
        return tf.distribute.MirroredStrategy()
    if peers is None:
        raise UsageError(f"`strategy='multi-worker'` needs {_VARIABLE} to name the processes; set it, or leave it out")
    wait_for_peers(peers, patience)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InstsegError(
            f"the processes of {_VARIABLE} do not come together ({reason}); start all of them again"
        ) from error


def wait_for_peers(peers: ClusterSpec, patience: float) -> None:
    """Wait until all processes of a training are there.

    Raises
    ------
    InstsegError
        If one does not answer in time, or the port of this one is taken.
    """
    deadline = time.monotonic() + patience
    missing = [address for number, address in enumerate(peers.addresses) if number != peers.own]
    with _listening(peers.addresses[peers.own]):
        while missing:
            missing = [address for address in missing if not _answers(address)]
            if missing and time.monotonic() > deadline:
                raise InstsegError(
                    f"{', '.join(missing)} of {_VARIABLE} did not answer within {patience:.0f} seconds; "
                    "check that it runs the same command, and that the name and the port can be reached"
                )
            if missing:
                time.sleep(0.2)


def _answers(address: str) -> bool:
    """Return whether a process listens at an address: in `wait_for_peers`, or already in TensorFlow's server."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except OSError:
        return False


@contextmanager
def _listening(address: str) -> Iterator[None]:
    host, _, port = address.rpartition(":")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server(("", int(port)), family=family)
    except OSError as error:
        raise InstsegError(
            f"cannot listen at {address}, which {_VARIABLE} says is this process ({error.strerror or error}); "
            "end what is there, or name another port"
        ) from error
    stopped = threading.Event()

    def accept() -> None:
        listener.settimeout(0.2)
        while not stopped.is_set():
            try:
                connection, _ = listener.accept()
                connection.close()
            except OSError:
                continue

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        listener.close()


class Replicas(NamedTuple):
    """The devices of a training, and which of its processes this is.

    Attributes
    ----------
    processes, process : int
        How many processes there are, and which this is.
    total : int
        Devices in all, as many in each process: every one learns from an equal part of a batch.
    """

    processes: int
    process: int
    total: int

    @property
    def chief(self) -> bool:
        """Whether this process writes."""
        return self.process == 0


def replicas_of(strategy: tf.distribute.Strategy) -> Replicas:
    """Return what this process does in a strategy."""
    total = int(strategy.num_replicas_in_sync)
    peers = read_cluster_spec() if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) else None
    return Replicas(1, 0, total) if peers is None else Replicas(len(peers.addresses), peers.own, total)


@contextmanager
def replicated(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Make the variables of the block lie on each device of a strategy, where each changes its own copy.

    All copies start alike and are changed by the same sums, so that they stay alike: only gradients and moments have to
    travel.
    """

    def local(make: Any, **options: Any) -> Any:
        options["synchronization"] = tf.VariableSynchronization.ON_READ
        options["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return make(**options)

    with strategy.scope():
        if strategy.num_replicas_in_sync == 1:
            yield
            return
        with tf.variable_creator_scope(local):
            yield


def replica_count() -> int:
    """Return how many devices take the step that this is called in; 1 outside of a step."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def mean_over_replicas(values: Any) -> Any:
    """Return the means of values over all devices, inside of a strategy's step; of one device the values themselves."""
    if replica_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, values)
