"""What the machine is found to be, before and after TensorFlow is loaded."""

import numpy as np
import pytest
import tensorflow as tf

import instseg
import instseg.network.runtime as runtime
from instseg.data.discs import draw_discs
from instseg.errors import UsageError
from instseg.settings import DiscSettings

BEFORE, AFTER = "processor : 0\nmodel name : X\nflags\t\t: fpu sse2 ", "\n\nprocessor : 1\n"


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without GPUs, whatever this one is, and oneDNN as it is by default."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("avx2 avx512f", "float32"),
        ("avx2 avx512_bf16 avx512f", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        ("amx_tile not_amx_bf16", "float32"),
    ],
)
def test_the_cpu_says_what_it_multiplies_fast(tmp_path, monkeypatch, flags, precision):
    file = tmp_path / "cpuinfo"
    file.write_text(BEFORE + flags + AFTER)
    monkeypatch.setattr(runtime, "_CPU_FILE", file)
    assert runtime.default_precision() == precision


@pytest.mark.parametrize("content", [None, "", "processor : 0\nFeatures : fp asimd bf16\n"])
def test_of_other_machines_nothing_is_assumed(tmp_path, monkeypatch, content):
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(runtime, "_CPU_FILE", file)
    assert runtime.default_precision() == "float32"


def test_bfloat16_is_for_the_cpu_and_its_library_only(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text(BEFORE + "amx_bf16" + AFTER)
    monkeypatch.setattr(runtime, "_CPU_FILE", file)
    for off in ("0", "false"):
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", off)
        assert runtime.default_precision() == "float32"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    assert runtime.default_precision() == "bfloat16"
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"] if kind == "GPU" else [])
    assert runtime.default_precision() == "float32"


def test_a_model_in_bfloat16_needs_a_machine_made_for_it(tmp_path, monkeypatch, tiny_model):
    file = tmp_path / "cpuinfo"
    file.write_text(BEFORE + "avx2 avx512f" + AFTER)
    monkeypatch.setattr(runtime, "_CPU_FILE", file)
    with pytest.raises(UsageError, match="bfloat16, expected float32.*avx512_bf16.*leave it out"):
        instseg.load(tiny_model, precision="bfloat16")
    assert instseg.load(tiny_model, precision="float32").settings.channels == 1


def test_numbers_of_threads_have_bounds():
    for threads in (None, 1, 1024):
        runtime.check_threads(threads)
    for threads in (0, -1, 1025):
        with pytest.raises(UsageError, match=f"^threads is {threads}, expected a number above 0 and up to 1024"):
            runtime.load_tensorflow(threads)


def test_threads_of_a_tensorflow_that_runs_cannot_be_changed():
    tf.zeros(1).numpy()
    other = tf.config.threading.get_intra_op_parallelism_threads() + 1
    with pytest.raises(UsageError, match=f"^threads is {other}, but TensorFlow already runs in this process"):
        runtime.load_tensorflow(other)


def test_bfloat16_is_almost_the_same_and_leaves_other_models_alone(tiny_model):
    if runtime.default_precision() != "bfloat16":
        pytest.skip("this machine has no instructions for bfloat16")
    image, _ = draw_discs(np.random.default_rng(0), DiscSettings(size=96, min_discs=9, max_discs=9))
    fine, coarse = (instseg.load(tiny_model, precision=precision) for precision in ("float32", "bfloat16"))
    before, rough, after = (model.embed(image).foreground for model in (fine, coarse, fine))
    np.testing.assert_array_equal(before, after)
    assert 0 < np.abs(rough - before).max() < 0.05
