"""Paths that lead into files and Zarr groups, and the names of results for what they lead to."""

from pathlib import Path

import pytest
import zarr

from instseg.io.container import located, result_stem, split_inner
from instseg.io.image_names import stem_of


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_path_is_taken_apart_at_what_exists():
    Path("a.h5").touch()
    Path("b").mkdir()
    Path("b/c.d.npz").touch()
    assert split_inner(Path("a.h5:/x/y")) == (Path("a.h5"), "x/y")
    assert split_inner(Path("b/c.d.npz:/x")) == (Path("b/c.d.npz"), "x")
    assert split_inner(Path("b/c.d.npz:")) == (Path("b/c.d.npz"), "")
    for name in ("a.h5", "a.h5/x", "missing.h5:/x", "C:/x", ":/x", "b/c.d.npz:x"):
        assert split_inner(Path(name)) == (Path(name), "")


def test_what_exists_under_the_whole_name_is_meant():
    Path("a.h5").touch()
    Path("a.h5:").mkdir()
    Path("a.h5:/x").touch()
    assert split_inner(Path("a.h5:/x")) == (Path("a.h5:/x"), "")


def test_a_path_into_a_zarr_group_is_that_of_a_folder():
    zarr.create_group("a.zarr")
    Path("a.h5").touch()
    assert located(Path("a.zarr:/A/1/0")) == Path("a.zarr/A/1/0")
    for name in ("a.zarr", "a.h5:/x", "b.png"):
        assert located(Path(name)) == Path(name)


def test_results_for_parts_are_named_after_the_file_and_the_part():
    zarr.create_group("plate.zarr")
    Path("a.h5").touch()
    Path("folder.zarr").mkdir()
    names = {
        "a.h5": "a",
        "a.h5:/volume": "a-volume",
        "a.h5:/group/raw": "a-group-raw",
        "plate.zarr": "plate",
        "plate.zarr/A/1/0": "plate-A-1-0",
        # A folder of this name without metadata is a folder.
        "folder.zarr/b.png": "b",
        "images/a.ome.tif": "a.ome",
    }
    for path, name in names.items():
        assert result_stem(Path(path)) == stem_of(Path(path)) == name
