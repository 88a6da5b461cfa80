"""Time training by two processes of one thread against one.

    python tests/benchmarks/strategy.py [--patches 4 8 16 32] [--steps 40] [--rounds 3]

Each process is pinned to its core and takes steps of the default network on patches of 128 x 128, on loopback. Two
learn from as many patches each as one does, and where 4 are among these, share out the default batch of 8. Printed
are images per second, the ratios, and the share of a step of two that a step of one on as many patches does not take:
what travels, and waiting for each other. Starting does not count.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import numpy as np
from history import record

_DEFAULT_BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, nargs="+", default=[4, 8, 16, 32], help="patches of each process")
    parser.add_argument("--steps", type=int, default=40, help="steps of each")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is run")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch is not None:
        print(learn(options.batch, options.steps))
        return
    times: dict[tuple[int, int], list[float]] = {}
    for _ in range(options.rounds):
        for each, count in [(each, count) for each in options.patches for count in (1, 2)]:
            times.setdefault((each, count), []).append(run(each * count, count, options.steps))
    seconds = {key: statistics.median(values) for key, values in times.items()}
    print("| patches of each | one, ms a step | two, ms a step | images/s of two to one | network and waiting |")
    print("|--:|--:|--:|--:|--:|")
    for each in sorted(set(options.patches)):
        one, two = seconds[each, 1], seconds[each, 2]
        print(f"| {each} | {1000 * one:.0f} | {1000 * two:.0f} | {2 * one / two:.2f} | {1 - one / two:.0%} |")
    one, shared = seconds.get((_DEFAULT_BATCH, 1)), seconds.get((_DEFAULT_BATCH // 2, 2))
    if one and shared:
        print(f"sharing out a batch of {_DEFAULT_BATCH}, two learn {one / shared:.2f} times as fast as one")
    if one:
        ratio = 2 * one / seconds[_DEFAULT_BATCH, 2]
        record(f"training, images/s of two processes over one, batch {_DEFAULT_BATCH}", ratio, better="higher")


def run(batch: int, count: int, steps: int) -> float:
    """Return the seconds of a step of so many processes."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    processes = []
    for index, core in zip(range(count), sorted(os.sched_getaffinity(0)), strict=False):
        environment = dict(os.environ)
        environment.pop("TF_CONFIG", None)
        if count > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        command = ["taskset", "-c", str(core), sys.executable, __file__, "--batch", str(batch), "--steps", str(steps)]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.DEVNULL, text=True))
    told = [process.communicate(timeout=600)[0] for process in processes]
    return max(float(one.split()[-1]) for one in told)


def learn(size: int, steps: int) -> float:
    """Return the seconds of a step, the median without the first ones, which build the graph."""
    from instseg.network.runtime import load_tensorflow

    made = []

    def make() -> None:
        from instseg.network.strategy import make_strategy

        made.append(make_strategy("auto"))

    load_tensorflow(1, make)
    from instseg.data.patches import DiscPatches, ShardedBatches
    from instseg.settings import DiscSettings, MetricLossSettings, ModelSettings, TrainSettings
    from instseg.training.train_step import TrainStep

    train = TrainSettings(batch_size=size)
    learner = TrainStep(ModelSettings(), train, MetricLossSettings(), made[0])
    patches = DiscPatches(DiscSettings(), batch_size=size, patch_size=train.patch_size, seed=0)
    part = ShardedBatches(patches, learner.replicas.processes, learner.replicas.process)
    batches = [part.batch(number) for number in range(4)]
    times = []
    for step in range(steps):
        start = time.perf_counter()
        float(learner.learn(batches[step % 4], step, 0.5)["loss"])
        times.append(time.perf_counter() - start)
    return float(np.median(times[5:]))


if __name__ == "__main__":
    main()
