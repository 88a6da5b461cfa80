"""A Dask cluster: connecting to it, checking that its workers fit, and having tasks done."""

import importlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from instseg.errors import InstsegError, UsageError, check_parameter
from instseg.inference.failures import as_instseg_error
from instseg.io.json_text import read_json
from instseg.optional import require_extra
from instseg.version import installed_version

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Seconds until a scheduler that does not answer, or has no workers, is given up: both are often started just before.
_PATIENCE = 15.0
# Tasks that are given to the scheduler at once, by the worker: it never holds more, whatever the size of the image.
_AHEAD = 8
# A worker that dies takes its task along; one that takes so many of them, whichever does it, is to blame itself.
_RETRIES = 3
# Seconds between looks at how many workers there are.
_RECOUNT = 1.0
_MAX_WORKERS = 1024
# Packages that have to be of one version everywhere; a scheduler needs the last alone.
_VERSIONED = ("instseg", "tensorflow", "distributed")


@dataclass(frozen=True, kw_only=True)
class DaskCluster:
    """Who does the work.

    Attributes
    ----------
    scheduler : str or None
        Address of a Dask scheduler.
    scheduler_file : Path or None
        Where a scheduler has written its address.
    workers : int or None
        Without either: how many workers to start on this machine.
    threads : int or None
        Threads of each worker. By default those that it was started with, and on this machine the cores shared out.
    """

    scheduler: str | None = None
    scheduler_file: Path | None = None
    workers: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("workers", "scheduler", "scheduler_file") if getattr(self, name) is not None]
        if len(given) != 1:
            names = " and ".join(f"`{name}`" for name in given) or "none of `workers`, `scheduler`, `scheduler_file`"
            raise UsageError(f"{names} cannot go together; give one of them")
        if self.workers is not None:
            check_parameter(
                1 <= self.workers <= _MAX_WORKERS, "workers", self.workers, f"a number from 1 to {_MAX_WORKERS}"
            )

    @property
    def threads_of_each(self) -> int | None:
        """Threads to tell workers; None where they know themselves."""
        if self.threads is not None or self.workers is None:
            return self.threads
        return max(1, _cores() // self.workers)

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Yield a `distributed.Client` of the cluster, whose workers have the versions of this process.

        Workers of this machine talk by TLS, with a certificate that is made for them and that no other user can read. A
        scheduler is connected to as Dask's configuration says (`distributed.comm.tls`).

        Raises
        ------
        InstsegError
            If a package is missing, nobody answers, there is no worker or one has other versions.
        """
        require_extra("dask")
        # Interrupted between two steps of its own, Dask's client has Tornado log that it has nothing to cancel. To
        # import the client sets the levels, too.
        importlib.import_module("distributed")
        for name in ("distributed", "tornado.application"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with self._local_client() if self.workers is not None else self._remote_client() as client:
            yield client

    @contextmanager
    def _local_client(self) -> Iterator[Any]:
        import dask
        from distributed import Client, LocalCluster, Security

        with (
            dask.config.set(
                {
                    "distributed.scheduler.allowed-failures": _RETRIES,
                    # HTTP cannot be switched off, and would tell every user of this machine about the run.
                    "distributed.scheduler.http.routes": [],
                    "distributed.worker.http.routes": [],
                }
            ),
            # Dask's own place for what workers swap out is a folder that any user may have made.
            TemporaryDirectory(prefix="instseg-workers-") as scratch,
            LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                # Whoever is connected to a scheduler can have it run anything, and ports are open to all users.
                security=Security.temporary(),
                protocol="tls://",
                dashboard_address=None,
                # Its server of numbers would listen at port 8787 of all networks, and warn where that is taken.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                local_directory=scratch,
                silence_logs=logging.CRITICAL,
            ) as local,
            Client(local, timeout=60) as client,
        ):
            yield client

    @contextmanager
    def _remote_client(self) -> Iterator[Any]:
        where = f"the scheduler of {self.scheduler_file}" if self.scheduler is None else self.scheduler or "''"
        try:
            address = self.scheduler if self.scheduler_file is None else _wait_for_address(self.scheduler_file)
            client = _connect(address)
        except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            advice = "start one with: dask scheduler"
            if "ssl_context" in reason:
                reason = "it talks by TLS, and Dask's configuration has no certificate"
                advice = "name the files in distributed.comm.tls of Dask's configuration"
            raise InstsegError(f"cannot reach {where} ({reason}); {advice}") from error
        with client:
            _check_workers(client, where)
            yield client


def make_cluster(
    workers: int | None, scheduler: str | None, scheduler_file: Path | None, threads: int | None
) -> DaskCluster | None:
    """Return the cluster that is to do the work, None where this process is.

    Raises
    ------
    UsageError, InstsegError
        If more than one is named, a number is out of its range, or Dask is missing.
    """
    if workers is None and scheduler is None and scheduler_file is None:
        return None
    cluster = DaskCluster(workers=workers, scheduler=scheduler, scheduler_file=scheduler_file, threads=threads)
    require_extra("dask")
    return cluster


def _connect(address: str | None) -> Any:
    from distributed import Client

    # In two steps: one that cannot connect has to be closed here, as it would wait for itself where it is collected.
    client = Client.__new__(Client)
    try:
        client.__init__(address, timeout=_PATIENCE)
    except BaseException:
        with suppress(Exception):
            client.close()
        raise
    return client


def _wait_for_address(scheduler_file: Path) -> str:
    """Return the address that a scheduler writes into a file when it has started, which may be soon."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with suppress(InstsegError):
            stored = read_json(scheduler_file)
            if isinstance(stored, dict) and isinstance(stored.get("address"), str):
                return str(stored["address"])
        # It is written bit by bit.
        if time.monotonic() > deadline:
            raise ValueError("the file holds no address" if scheduler_file.exists() else "there is no such file")
        time.sleep(0.1)


def _check_workers(client: Any, where: str) -> None:
    with suppress(TimeoutError):
        client.wait_for_workers(1, timeout=_PATIENCE)
    versions = client.get_versions(packages=["instseg", "tensorflow"])
    if not versions["workers"]:
        raise InstsegError(f"{where} has no workers; start some with: dask worker ADDRESS")
    own = {package: installed_version(package) for package in _VERSIONED}
    nodes: list[tuple[str, Any, tuple[str, ...]]] = [("the scheduler", versions["scheduler"], _VERSIONED[-1:])]
    nodes += [(name, node, _VERSIONED) for name, node in sorted(versions["workers"].items())]
    for name, node, needed in nodes:
        packages = dict(node["packages"]) if node else {}
        for package in needed:
            if packages.get(package) != own[package]:
                has = packages.get(package) or "none"
                raise InstsegError(
                    f"{name} has {package} {has}, expected {own[package]} as here; install the same everywhere"
                )


def map_unordered(
    client: Any,
    function: Callable[[_Item], _Result],
    tasks: Sequence[_Item],
    died: Callable[[InstsegError], _Result] | None = None,
) -> Iterator[tuple[int, _Result]]:
    """Have tasks done, and yield each one's number and result as they come.

    No more than some tasks for each worker are given to the scheduler at once, whatever their number; workers that join
    later get their share. Where workers die of a task, `died` makes the result of the error.

    Raises
    ------
    InstsegError
        That of the first task that has one, or if workers die of a task and there is no `died`.
    """
    from distributed import KilledWorker, as_completed

    waiting = deque(enumerate(tasks))
    numbers: dict[Any, int] = {}
    running = as_completed()
    workers = _WorkerCount(client)

    def submit() -> None:
        while waiting and len(numbers) < _AHEAD * workers.current():
            number, task = waiting.popleft()
            # Not pure: the same task in another run is to be done again.
            future = client.submit(_guarded, function, task, pure=False)
            numbers[future] = number
            running.add(future)

    try:
        submit()
        for future in running:
            number = numbers.pop(future)
            try:
                result = future.result()
            except KilledWorker as error:
                if died is None:
                    raise _died_error() from error
                result = died(_died_error())
            if isinstance(result, _Failed):
                raise result.error
            submit()
            yield number, result
    finally:
        client.cancel(list(numbers))


def _died_error() -> InstsegError:
    return InstsegError(
        f"workers died {_RETRIES + 1} times of the same task; they may lack memory: give less by `memory` or `tile`"
    )


class _WorkerCount:
    """How many workers a cluster has, which the scheduler is asked now and then."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._count, self._until = 0, 0.0

    def current(self) -> int:
        now = time.monotonic()
        if now >= self._until:
            self._count = max(1, count_workers(self._client))
            self._until = now + _RECOUNT
        return self._count


def count_workers(client: Any) -> int:
    """Return how many workers a client's cluster has now."""
    return len(client.scheduler_info(n_workers=-1)["workers"])


def _cores() -> int:
    """Return how many cores this process may use."""
    # macOS knows no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Failed(NamedTuple):
    """What went wrong in a task, as its result.

    Dask would send a raised error with its frames, and a client that cannot unpickle them waits for ever.
    """

    error: InstsegError


def _guarded(function: Callable[[_Item], _Result], task: _Item) -> _Result | _Failed:
    try:
        return function(task)
    except Exception as error:  # Whatever a task raises.
        return _Failed(as_instseg_error(error))
