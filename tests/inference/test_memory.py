"""What does not fit into the memory of a machine is refused before any work, with what would do."""

import numpy as np
import pytest

import instseg
from instseg.errors import InstsegError, UsageError
from instseg.inference import memory
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.memory import check_memory, free_memory, machine_memory
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader
from instseg.settings import TileSettings


def refused(tiles, error=UsageError, **options):
    with pytest.raises(error) as found:
        check_memory(tiles, **options)
    return str(found.value)


def test_too_little_for_a_tile_is_refused():
    message = refused(TileSettings(memory=0.3), here=False)
    assert (
        message == "0.3 GiB of memory are not enough for the smallest tile, which takes 0.6; give `memory=0.6` or more"
    )


def test_more_than_the_machine_has_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 7.77)
    monkeypatch.setattr(memory, "free_memory", lambda: 5.0)
    message = refused(TileSettings(memory=64))
    assert message == "64 GiB of memory are to be taken, and this machine has 7.8; give `memory=7.7` or less"
    check_memory(TileSettings(memory=64), here=False)
    check_memory(TileSettings(memory=7))
    # A tile that somebody chooses is taken as it is.
    check_memory(TileSettings(memory=64, tile=512))


def test_a_machine_without_memory_is_told(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 0.5)
    assert "this machine has 0.50 GiB of memory" in refused(TileSettings(), InstsegError)
    monkeypatch.setattr(memory, "machine_memory", lambda: 8.0)
    monkeypatch.setattr(memory, "free_memory", lambda: 0.25)
    assert "0.25 GiB of this machine's memory are free" in refused(TileSettings(), InstsegError)


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    limit, missing = tmp_path / "memory.max", tmp_path / "missing"
    limit.write_text("1073741824\n")
    monkeypatch.setattr(memory, "_CGROUPS", (missing, limit))
    assert machine_memory() == 1.0
    limit.write_text("max\n")
    assert machine_memory() > 1.0
    monkeypatch.setattr(memory, "_MEMINFO", missing)
    assert free_memory() == machine_memory()
    missing.write_text("MemTotal: 9 kB\nMemAvailable:    524288 kB\nSwapFree:    262144 kB\n")
    assert free_memory() == 0.75


def test_a_tile_that_does_not_fit_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 1.0)
    model = instseg.load(tiny_model)
    options = PredictOptions(tiles=TileSettings(tile=100_000))
    assert len(ImageTiles(model, ArrayReader(np.zeros((64, 64), np.uint8)), options).plan().grid) == 1
    with pytest.raises(
        InstsegError, match=r"a tile of 100000 pixels takes about .* GiB .* has 1.0; give `tile=\d+` or less"
    ):
        ImageTiles(model, ArrayReader(np.zeros((9000, 9000), np.uint8)), options).plan()


def test_python_code_is_told_too(tiny_model):
    model = instseg.load(tiny_model)
    with pytest.raises(UsageError, match="give `memory=0.6` or more"):
        model.segment(np.zeros((64, 64), np.uint8), tiles=TileSettings(memory=0.1))
    with pytest.raises(UsageError, match="9999 GiB of memory are to be taken"):
        model.segment(np.zeros((64, 64), np.uint8), tiles=TileSettings(memory=9999))
