"""Networks of SavedModels, by the C library and by Python's TensorFlow, which give the same maps."""

import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import instseg
import instseg.network.c_library as c_library
import instseg.network.stored as stored
from instseg.errors import InstsegError, UsageError
from instseg.inference.embedder import Embedder
from instseg.inference.loading import ModelReader
from instseg.network.c_library import find_library, silent_log
from instseg.network.session import Session
from instseg.network.stored import as_network, open_network
from instseg.settings import ClusterSettings, ModelSettings

MODEL = Path(__file__).parents[1] / "models" / "format-3" / "model"
OLD_MODEL = MODEL.parents[1] / "format-2" / "model"
LOW, HIGH, ONE = np.zeros((1, 1)), np.full((1, 1), 255), np.float32(1)

pytestmark = pytest.mark.skipif(find_library() is None, reason="TensorFlow comes without its C library here")


@pytest.fixture(scope="module")
def network():
    return open_network(MODEL)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (1, 40, 56, 1), np.uint8)


def python_network(folder, monkeypatch):
    monkeypatch.setattr(stored, "find_library", lambda: None)
    return open_network(folder)


@pytest.mark.parametrize("folder", [MODEL, OLD_MODEL], ids=["format 3", "format 2"])
@pytest.mark.parametrize("magnification", [1, 0.7])
def test_both_engines_give_the_same_maps(folder, image, magnification, monkeypatch):
    found = open_network(folder)
    maps = found(image, LOW, HIGH, np.float32(magnification))
    reference = python_network(folder, monkeypatch)
    assert (found.channels, found.embeddings) == (reference.channels, reference.embeddings)
    expected = reference(image, LOW, HIGH, np.float32(magnification))
    assert maps.keys() == expected.keys()
    for name, values in maps.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_images_of_any_numbers_and_strides_are_taken(network, image):
    expected = network(image.astype(np.float32), LOW, HIGH, ONE)
    large = np.zeros((1, 80, 56, 3), np.int16)
    large[:, ::2, ::-1, 1:2] = image
    for same in (image, image.astype(np.float64), large[:, ::2, ::-1, 1:2]):
        for name, values in network(same, LOW, HIGH, ONE).items():
            np.testing.assert_array_equal(values, expected[name])


def test_maps_own_their_memory_and_outlive_the_network(image):
    network = open_network(MODEL)
    kept = network(image, LOW, HIGH, ONE)["foreground"]
    copy = kept.copy()
    reference = weakref.ref(network)
    del network
    gc.collect()
    assert reference() is None
    open_network(MODEL)(255 - image, LOW, HIGH, ONE)
    np.testing.assert_array_equal(kept, copy)
    kept += 1
    np.testing.assert_array_equal(kept, copy + 1)


def test_memory_is_freed_with_the_last_view(image, monkeypatch):
    session = Session(c_library.load_library(find_library()), MODEL, "with_percentiles", precision="float32")
    delete, deleted = session._library.DeleteTensor, []
    monkeypatch.setattr(session._library, "DeleteTensor", lambda pointer: (deleted.append(pointer), delete(pointer)))
    maps = session({"image": image, "low": LOW, "high": HIGH, "magnification": 1})
    gc.collect()
    assert len(deleted) == 4
    view = maps["embeddings"][0, 3:5, ::2]
    del maps
    gc.collect()
    assert len(deleted) == 4 + 3
    del view
    assert len(deleted) == 4 + 4


def test_what_is_missing_or_wrong_is_said(network, image):
    session = Session(c_library.load_library(find_library()), MODEL, "with_percentiles", precision="float32")
    with pytest.raises(ValueError, match="was not given high, low"):
        session({"image": image, "magnification": 1})
    with pytest.raises(ValueError, match="depth"):
        network(np.zeros((1, 8, 8, 3)), LOW, HIGH, ONE)
    with pytest.raises(ValueError, match="no signature other"):
        Session(c_library.load_library(find_library()), MODEL, "other", precision="float32")
    with pytest.raises(ValueError, match="Could not find SavedModel"):
        open_network(MODEL / "nowhere")


def test_too_little_memory_is_a_memory_error_and_then_one_of_ours(network):
    endless = np.broadcast_to(np.uint8(0), (1, 2**24, 2**24, 1))
    with pytest.raises(MemoryError, match="no memory for 1,125,899,906,842,624 bytes"):
        network(endless, LOW, HIGH, ONE)

    def exhausted(*values):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    with pytest.raises(MemoryError, match="OOM"):
        as_network(exhausted)(LOW, LOW, LOW, ONE)
    embedder = Embedder(as_network(exhausted), ModelSettings(), ClusterSettings())
    levels = np.zeros(1, np.float32), np.ones(1, np.float32)
    with pytest.raises(InstsegError, match="not enough memory for 8 x 9 pixels at once; cut the image into tiles"):
        embedder.embed_tile(np.zeros((8, 9, 1)), levels)


def test_threads_share_a_network(network):
    images = [np.random.default_rng(seed).integers(0, 255, (1, 24 + seed, 32, 1)) for seed in range(8)]
    expected = [network(image, LOW, HIGH, ONE)["embeddings"] for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: network(image, LOW, HIGH, ONE)["embeddings"], images * 3))
    for one, other in zip(found, expected * 3, strict=True):
        np.testing.assert_array_equal(one, other)


def test_paths_need_not_be_ascii(tmp_path, network, image):
    folder = tmp_path / "Zellkerne größer 核"
    shutil.copytree(MODEL, folder)
    expected = network(image, LOW, HIGH, ONE)["seeds"]
    np.testing.assert_array_equal(open_network(folder)(image, LOW, HIGH, ONE)["seeds"], expected)


def test_threads_are_those_of_the_process():
    tf.zeros(1).numpy()
    other = tf.config.threading.get_intra_op_parallelism_threads() + 1
    with pytest.raises(UsageError, match=f"^threads is {other}, but TensorFlow already runs in this process"):
        instseg.load(MODEL, threads=other)
    with pytest.raises(UsageError, match="^threads is 0, expected a number above 0"):
        instseg.load(MODEL, threads=0)


def test_without_the_library_python_is_used_in_silence(image, network, monkeypatch):
    slow = python_network(MODEL, monkeypatch)
    assert slow.note == ""
    np.testing.assert_array_equal(
        slow(image, LOW, HIGH, ONE)["foreground"], network(image, LOW, HIGH, ONE)["foreground"]
    )


@pytest.mark.parametrize("content", [b"", b"no library", None])
def test_a_library_that_cannot_be_used_is_named(tmp_path, content, image, network, monkeypatch):
    file = tmp_path / "libtensorflow_cc.so.2"
    if content is None:
        # A library, and another one.
        shutil.copy(next(Path("/usr/lib").rglob("libgcc_s.so.1"), Path("/usr/lib/libSystem.dylib")), file)
    else:
        file.write_bytes(content)
    monkeypatch.setattr(c_library, "_loaded", None)
    monkeypatch.setattr(stored, "find_library", lambda: file)
    model = instseg.load(MODEL, precision="float32")
    assert len(model.notes) == 1
    assert f"Python's TensorFlow, which starts slowly, as {file} cannot be used (" in model.notes[0]
    assert model.notes[0].count(str(file)) == 1
    np.testing.assert_array_equal(
        model.embed(image[0]).foreground, instseg.load(MODEL, precision="float32").embed(image[0]).foreground
    )


def test_a_reader_raises_what_went_wrong_where_it_is_asked(tmp_path):
    with pytest.raises(InstsegError, match="there is no model"):
        ModelReader(tmp_path / "missing", None, None).result()
    with pytest.raises(UsageError, match="threads is 0"):
        ModelReader(MODEL, None, 0).result()
    assert ModelReader(MODEL, "float32", None).result().settings.channels == 1
    assert all(thread.name != "model" for thread in threading.enumerate())


def test_the_log_of_c_is_kept_back_while_it_loads(capfd, monkeypatch):
    stderr = c_library._c_stderr()
    function = c_library.ctypes.CDLL(None).fputs
    function.argtypes = (c_library.c_char_p, c_library.c_void_p)
    with silent_log():
        function(b"hidden\n", c_library._c_stderr())
    function(b"shown\n", c_library._c_stderr())
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with silent_log():
        function(b"wanted\n", c_library._c_stderr())
    assert capfd.readouterr().err == "shown\nwanted\n"
    assert stderr is not None
