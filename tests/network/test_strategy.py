"""Training by several processes: real ones on this machine, which learn what one of them would."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from instseg.data.patches import DiscPatches, ShardedBatches
from instseg.errors import InstsegError, UsageError
from instseg.network.strategy import ClusterSpec, make_strategy, read_cluster_spec, wait_for_peers
from instseg.settings import DiscSettings

# Whatever hangs is ended.
SECONDS = 180

LEARN = """
import sys
import numpy as np
from instseg.network.runtime import load_tensorflow

found = []
def make():
    from instseg.network.strategy import make_strategy
    if sys.argv[3:] == ["two devices"]:
        import tensorflow as tf
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        found.append(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    else:
        found.append(make_strategy("auto"))
load_tensorflow(1, make)

from instseg.data.patches import Batch, DiscPatches, ShardedBatches
from instseg.settings import DiscSettings, MetricLossSettings, ModelSettings, TrainSettings
from instseg.training.train_step import TrainStep

steps, out = int(sys.argv[1]), sys.argv[2]
train = TrainSettings(batch_size=4, patch_size=32, learning_rate=1e-2, warmup=2, precision="float32")
model = ModelSettings(embeddings=4, widths=(8, 8), diameter=12.0)
patches = DiscPatches(DiscSettings(size=64, min_discs=4, max_discs=6), batch_size=4, patch_size=32, seed=0)
learner = TrainStep(model, train, MetricLossSettings(), found[0])
replicas = learner.replicas
parts = [ShardedBatches(patches, 2, number) for number in range(2)]
own = parts if replicas.processes == 1 else [parts[replicas.process]]
losses = []
for step in range(steps):
    drawn = [part.batch(step) for part in own]
    batch = Batch(*(np.concatenate([one[number] for one in drawn]) for number in range(2)))
    losses.append([float(value) for value in learner.learn(batch, step, step / steps).values()])
weights = {}
for name, network in (("network", learner.network), ("ema", learner.ema)):
    for number, value in enumerate(network.get_weights()):
        weights[f"{name} {number}"] = value
sums = learner.all_reduce_sum((replicas.process + 1.0, 0.5))
np.savez(out, losses=losses, replicas=replicas.total, sums=sums, **weights)
"""


OWN_MOMENTS = """
import sys
import numpy as np
import tensorflow as tf
from instseg.data.patches import Batch, DiscPatches
from instseg.network.layers import FusedBatchNormalization
from instseg.settings import DiscSettings, MetricLossSettings, ModelSettings, TrainSettings
from instseg.training.train_step import TrainStep

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
found = {}
random = np.random.default_rng(0)
for patches in (4, 8):
    with strategy.scope():
        layer = FusedBatchNormalization(momentum=0.5)
        layer.build((None, None, None, 3))
    parts = [random.normal(5 * device, 1, (patches, 4, 4, 3)).astype(np.float32) for device in range(2)]
    own = iter(parts)
    given = strategy.experimental_distribute_values_from_function(lambda context: next(own))
    run = tf.function(lambda maps: strategy.run(lambda one: layer(one, training=True), (maps,)))
    found[f"means of {patches}"] = [one.numpy().mean() for one in strategy.experimental_local_results(run(given))]

train = TrainSettings(batch_size=16, patch_size=32, warmup=2, precision="float32")
model = ModelSettings(embeddings=4, widths=(8, 8), diameter=12.0)
patches = DiscPatches(DiscSettings(size=64, min_discs=4, max_discs=6), batch_size=16, patch_size=32, seed=0)
learner = TrainStep(model, train, MetricLossSettings(), strategy)
before = [value.copy() for value in learner.network.get_weights()]
for step in range(2):
    learner.learn(Batch(*patches.batch(step)[:2]), step, step / 2)
for number, variable in enumerate(learner.network.variables):
    copies = [copy.numpy() for copy in strategy.experimental_local_results(variable.value)]
    found[f"first {number}"], found[f"second {number}"] = copies
    found[f"change {number}"] = np.abs(copies[0] - before[number]).max()
np.savez(sys.argv[1], **found)
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def config(ports, index):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}


def start(arguments, environment=None, **options):
    kept = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=kept | (environment or {}), **pipes, **options)


def end(processes):
    """Wait for processes, and return what they wrote to stderr; whatever happens none is left."""
    try:
        return [process.communicate(timeout=SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def together(*commands):
    """Run a command in each of several processes of one training."""
    ports = free_ports(len(commands))
    processes = [start(command, config(ports, number)) for number, command in enumerate(commands)]
    told = end(processes)
    assert [process.returncode for process in processes] == [0] * len(commands), told
    return told


def run_alone(*command):
    alone = start(command)
    told = end([alone])
    assert alone.returncode == 0, told


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """What one process on one device learns."""
    file = tmp_path_factory.mktemp("single") / "single.npz"
    run_alone("-c", LEARN, 4, file)
    return np.load(file)


def require_alike(found, single):
    assert (int(found["replicas"]), int(single["replicas"])) == (2, 1)
    np.testing.assert_allclose(found["losses"], single["losses"], rtol=2e-4)
    assert np.ptp(single["losses"][:, 0]) > 0.01
    for name in single.files:
        if name.startswith(("network", "ema")):
            np.testing.assert_allclose(found[name], single[name], atol=2e-3, err_msg=name)


def test_two_processes_learn_what_one_does(tmp_path, single):
    files = [tmp_path / f"{name}.npz" for name in ("first", "second")]
    together(*(["-c", LEARN, 4, file] for file in files))
    first, second = (np.load(file) for file in files)
    assert first["sums"].tolist() == second["sums"].tolist() == [3.0, 1.0]
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    require_alike(first, single)


def test_two_devices_learn_what_one_does(tmp_path, single):
    run_alone("-c", LEARN, 4, tmp_path / "mirrored.npz", "two devices")
    mirrored = np.load(tmp_path / "mirrored.npz")
    assert mirrored["sums"].tolist() == [1.0, 0.5]
    require_alike(mirrored, single)


def test_devices_of_eight_patches_take_their_own_moments_and_stay_alike(tmp_path):
    run_alone("-c", OWN_MOMENTS, tmp_path / "found.npz")
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["means of 8"], 0, atol=1e-3)
    # Of fewer, all are normalised alike: 0 and 5 become -1 and 1, nearly.
    np.testing.assert_allclose(found["means of 4"], [-0.93, 0.93], atol=0.02)
    firsts = [name for name in found.files if name.startswith("first")]
    assert len(firsts) > 10
    for name in firsts:
        np.testing.assert_array_equal(found[name], found[name.replace("first", "second")], err_msg=name)
        assert found[name.replace("first", "change")] > 0


def train_command(model, iterations, *more):
    options = ["--batch-size", 2, "--patch-size", 64, "--validation-every", 1000, "--threads", 1]
    return ["-m", "instseg", "train", model, "--iterations", iterations, *options, *more]


def test_the_first_process_writes_and_one_alone_goes_on(tmp_path):
    model = tmp_path / "model"
    told = together(train_command(model, 3), train_command(model, 3))
    assert "saved at iteration 3" in told[0]
    assert "saved at" not in told[1]
    stored = json.loads((model / "instseg.json").read_text())
    assert stored["iteration"] == 3
    alone = start(train_command(model, 4, "--resume"))
    told = end([alone])
    assert alone.returncode == 0, told
    told = together(train_command(model, 6, "--resume"), train_command(model, 6, "--resume"))
    assert "saved at iteration 6" in told[0]
    assert json.loads((model / "instseg.json").read_text())["iteration"] == 6


def test_other_settings_in_one_process_are_told(tmp_path):
    ports = free_ports(2)
    commands = [train_command(tmp_path / "model", 3), train_command(tmp_path / "model", 3, "--seed", 7)]
    processes = [start(command, config(ports, number)) for number, command in enumerate(commands)]
    told = end(processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert all("have other settings, data or models than each other" in one for one in told)
    assert "Traceback" not in "".join(told)


def test_a_process_that_dies_is_told_and_the_model_stays(tmp_path):
    model = tmp_path / "model"
    ports = free_ports(2)
    command = train_command(model, 100_000, "--validation-every", 20)
    processes = [start(command, config(ports, number)) for number in range(2)]
    deadline = time.monotonic() + SECONDS
    while not (model / "instseg.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    processes[1].kill()
    told, _ = end(processes)
    assert processes[0].returncode == 1, told
    assert "another process of the training is gone" in told
    assert "with --resume" in told
    assert "Traceback" not in told
    assert json.loads((model / "instseg.json").read_text())["iteration"] >= 20


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no json", "Expecting value"),
        ("[]", "TypeError"),
        ("{}", "KeyError"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError: 'task'"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "a is no host:port"),
        ('{"cluster": {"worker": ["a:x"]}, "task": {"type": "worker", "index": 0}}', "a:x is no host:port"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "occurs twice"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "is not in list"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}', "has ps"),
    ],
)
def test_what_is_no_configuration_is_told(text, reason):
    with pytest.raises(InstsegError, match="TF_CONFIG cannot be used") as caught:
        read_cluster_spec(text)
    assert reason in str(caught.value)
    assert "expected something like" in str(caught.value)


def test_configurations_are_read():
    assert read_cluster_spec("") is None
    task = {"type": "worker", "index": 1}
    text = json.dumps({"cluster": {"chief": ["c:1"], "worker": ["a:2", "b:3"]}, "task": task})
    assert read_cluster_spec(text) == ClusterSpec(("c:1", "a:2", "b:3"), 2)


def test_processes_that_are_not_there_are_told():
    here, nobody = free_ports(2)
    with pytest.raises(InstsegError, match=rf"127\.0\.0\.1:{nobody} of TF_CONFIG did not answer within 1 seconds"):
        wait_for_peers(ClusterSpec((f"127.0.0.1:{here}", f"127.0.0.1:{nobody}"), 0), 1.0)


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("0.0.0.0", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InstsegError, match=f"cannot listen at {address}"):
            wait_for_peers(ClusterSpec((address, "127.0.0.1:9"), 0), 1.0)


def test_processes_meet_whoever_comes_first():
    ports = free_ports(3)
    peers = [ClusterSpec(tuple(f"127.0.0.1:{port}" for port in ports), number) for number in range(3)]
    failures = []
    all_have_met = threading.Barrier(3, timeout=SECONDS)

    def come(number):
        try:
            wait_for_peers(peers[number], SECONDS)
            # Those who have met all listen there as TensorFlow's servers then.
            with socket.create_server(("", ports[number])):
                all_have_met.wait()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(3)]
    for thread, port in zip(threads, ports, strict=True):
        thread.start()
        # The next one comes when this one is there.
        wait_for_peers(ClusterSpec((f"127.0.0.1:{free_ports(1)[0]}", f"127.0.0.1:{port}"), 0), SECONDS)
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("name", ["mirrored", "multi-worker"])
def test_strategies_that_nothing_is_there_for_are_refused(name, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UsageError, match=f"`strategy='{name}'`"):
        make_strategy(name)


def test_parts_of_batches_are_those_of_no_other_process():
    discs = DiscSettings(size=64, min_discs=4, max_discs=6)
    patches = DiscPatches(discs, batch_size=4, patch_size=16, seed=0)
    parts = [ShardedBatches(patches, 2, number) for number in range(2)]
    assert patches.batch_size == 4
    drawn = [part.batch(number).images for number in range(3) for part in parts]
    assert {images.shape for images in drawn} == {(2, 16, 16, 1)}
    assert len({images.tobytes() for images in drawn}) == 6
    small = DiscPatches(discs, batch_size=2, patch_size=16, seed=0)
    np.testing.assert_array_equal(parts[1].batch(2).images, small.batch(5).images)
