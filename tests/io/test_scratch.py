"""Maps of a volume on the disc: what was written in one order is read in another, and takes no memory of its own."""

import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.scratch import CHUNK, Scratch
from instseg.tiling.grid import Box

SHAPE = (CHUNK + 5, 2 * CHUNK, 3 * CHUNK - 1)


@pytest.fixture(params=["memory", "disc"])
def scratch(request, tmp_path):
    made = Scratch(SHAPE, 3, folder=None if request.param == "memory" else tmp_path)
    yield made
    made.close()
    assert not list(tmp_path.iterdir())


def values_of(shape, seed=0):
    return np.random.default_rng(seed).random((*shape, 3)).astype(np.float16)


def random_box(rng):
    begin = [int(rng.integers(0, side)) for side in SHAPE]
    return Box(*begin, *(int(rng.integers(one + 1, side + 1)) for one, side in zip(begin, SHAPE, strict=True)))


def test_what_was_never_written_is_zero(scratch):
    part = scratch.read(Box(1, 2, 3, 18, 30, 40))
    assert (part.shape, part.dtype) == ((17, 28, 37, 3), np.float16)
    assert not part.any()


def test_any_box_is_read_and_written(scratch):
    rng, whole = np.random.default_rng(1), Box.whole(SHAPE)
    expected = np.zeros((*SHAPE, 3), np.float16)
    for seed in range(30):
        box = random_box(rng)
        scratch.write(box, values_of(box.shape, seed))
        expected[box.slices_in(whole)] = values_of(box.shape, seed)
        other = random_box(rng)
        np.testing.assert_array_equal(scratch.read(other), expected[other.slices_in(whole)])
    np.testing.assert_array_equal(scratch.read(whole), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 7, 100])
@pytest.mark.parametrize("waiting", [2**29, 6 * 5000, 1])
def test_planes_along_any_axis_make_the_volume(scratch, axis, step, waiting, monkeypatch):
    # All planes of a cube wait for each other, a few of large ones, or none.
    monkeypatch.setattr("instseg.io.scratch._WAITING_BYTES", waiting)
    values = values_of(SHAPE)
    planes = np.moveaxis(values, axis, 0)
    with scratch.planes(axis) as put:
        for first in range(0, len(planes), step):
            put(planes[first : first + step])
    np.testing.assert_array_equal(scratch.read(Box.whole(SHAPE)), values)


def test_a_disc_without_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(
        InstsegError, match=r"cannot keep the maps of .* on the disc \(.*\): .* GiB are free; make room"
    ):
        Scratch((10**5, 10**5, 10**5), 4, folder=tmp_path)
    with pytest.raises(InstsegError, match="cannot keep the maps of 2 x 2 x 2 voxels on the disc: No such file"):
        Scratch((2, 2, 2), 1, folder=tmp_path / "missing")


@pytest.mark.skipif(shutil.which("bash") is None, reason="the size of files is limited by bash")
def test_a_disc_that_fills_up_is_an_error_of_one_line(tmp_path):
    code = (
        "import signal, sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from instseg.errors import InstsegError\n"
        "from instseg.io.scratch import Scratch\n"
        "from instseg.tiling.grid import Box\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n"
        "    scratch = Scratch((64, 64, 64), 4, folder=Path(sys.argv[1]))\n"
        "    scratch.write(Box.whole(scratch.shape), np.ones((64, 64, 64, 4)))\n"
        "except InstsegError as error:\n"
        "    print(error)\n"
    )
    command = f'ulimit -f 100; exec "{sys.executable}" -c "$0" "{tmp_path}"'
    done = subprocess.run(["bash", "-c", command, code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot keep the maps of 64 x 64 x 64 voxels on the disc: File too large; make room")


def test_maps_on_the_disc_take_no_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10
    scratch = Scratch((32, 1024, 1024), 4, folder=tmp_path)
    assert scratch.size == 2**28
    plane = np.ones((1, 1024, 1024, 4), np.float16)
    with scratch.planes(0) as put:
        for _ in range(32):
            put(plane)
    assert scratch.read(Box(30, 1000, 1000, 32, 1024, 1024)).all()
    scratch.close()
    # 16 planes that are kept are 128 MiB.
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit < 200
