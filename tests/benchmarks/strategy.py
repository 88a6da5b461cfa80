"""Time training by two processes of one thread against one: `python tests/benchmarks/strategy.py [--steps 40]`.

Each process is pinned to its core and takes steps of the default network on batches of 8 patches of 128 x 128, which
two share out, on loopback. Printed are images per second, their ratio, and the share of a step that one of two takes
beyond one that learns from half of the batch alone: what travels, and waiting for each other. Starting does not count.
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

_BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="steps of each")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is run")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch is not None:
        print(learn(options.batch, options.steps))
        return
    times: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, batch, count in (("one", _BATCH, 1), ("two", _BATCH, 2), ("one, half of the batch", _BATCH // 2, 1)):
            times.setdefault(name, []).append(run(batch, count, options.steps))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    for name, each in seconds.items():
        images = _BATCH // 2 if "half" in name else _BATCH
        print(f"{name}: {1000 * each:.0f} ms a step, {images / each:.1f} images/s")
    print(f"two processes learn from {seconds['one'] / seconds['two']:.2f} times as many images as one")
    beyond = 1 - seconds["one, half of the batch"] / seconds["two"]
    print(f"of a step of two, {beyond:.0%} are the network and waiting for each other")


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
    from instseg.runtime import load_tensorflow

    made = []

    def make() -> None:
        from instseg.strategy import make_strategy

        made.append(make_strategy("auto"))

    load_tensorflow(1, make)
    from instseg.data.patches import DiscPatches, PartOfPatches
    from instseg.learner import Learner
    from instseg.settings import DiscSettings, MetricLossSettings, ModelSettings, TrainSettings

    train = TrainSettings(batch_size=size)
    learner = Learner(ModelSettings(), train, MetricLossSettings(), made[0])
    patches = DiscPatches(DiscSettings(), batch_size=size, patch_size=train.patch_size, seed=0)
    part = PartOfPatches(patches, learner.share.processes, learner.share.process)
    batches = [part.batch(number) for number in range(4)]
    times = []
    for step in range(steps):
        start = time.perf_counter()
        learner.learn(batches[step % 4], step, 0.5)
        times.append(time.perf_counter() - start)
    return float(np.median(times[5:]))


if __name__ == "__main__":
    main()
