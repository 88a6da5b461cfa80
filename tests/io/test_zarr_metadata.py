"""Metadata of Zarr arrays is checked before Zarr believes it."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from instseg.io.image_file import ImageFileError
from instseg.io.omezarr import ZarrReader
from instseg.io.zarr_metadata import read_layout, read_node
from instseg.tiling.grid import Box

PATH = Path("a.zarr")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_array(zarr_format, **options):
    """Write ones of 6 x 8."""
    options = {"shape": (6, 8), "dtype": "uint16", "chunks": (3, 4)} | options
    zarr.create_array(str(PATH), zarr_format=zarr_format, **options)[...] = 1


def change(**values):
    """Change the metadata of the array."""
    path = next(path for path in (PATH / "zarr.json", PATH / ".zarray") if path.exists())
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def layout():
    return read_layout(read_node(PATH))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_layout_of_an_array(zarr_format):
    write_array(zarr_format, compressors=None)
    assert layout().shape == (6, 8)
    assert layout().chunks == (3, 4)
    assert layout().dtype == np.uint16
    assert layout().compressor is layout().index is None


def test_chunks_of_shards_are_what_is_decoded():
    write_array(3, chunks=(3, 2), shards=(6, 4))
    assert layout().chunks == (3, 2)
    assert layout().index == (4, False, 4)
    assert layout().compressor == "zstd"


def regular(*sizes):
    return {"name": "regular", "configuration": {"chunk_shape": list(sizes)}}


@pytest.mark.parametrize(
    ("zarr_format", "changes", "message"),
    [
        *(
            (number, {"shape": value}, "it is damaged")
            for number in (2, 3)
            for value in (None, 3, [-1, 6], [1.5, 2], [10**300, 1])
        ),
        *((number, {"shape": [0, 6]}, "it holds no pixels") for number in (2, 3)),
        *((number, {"shape": [1] * 9}, "it has 9 axes, expected y, x") for number in (2, 3)),
        *((2, {"chunks": value}, "it is damaged") for value in (None, [0, 3], [3], [True, 3], "ab")),
        *((3, {"chunk_grid": value}, "it is damaged") for value in (None, 3, regular(3), regular(0, 3), {"name": "a"})),
        (3, {"node_type": "group "}, "it is damaged"),
        (3, {"zarr_format": 4}, "it is damaged"),
        (2, {"zarr_format": 3}, "it is damaged"),
        # Types of a billion bytes, and compounds of any number of these.
        *((2, {"dtype": value}, "its values are") for value in ("|V1000000000", "<U99", [["a", "<u2"]], "O", None)),
        *(
            (3, {"data_type": value}, "its values are")
            for value in ("r8000", "string", {"name": "struct"}, "complex64")
        ),
        # Some codecs run code.
        (2, {"filters": [{"id": "pickle"}]}, "its chunks are encoded by 'pickle', which cannot be decoded"),
        (2, {"compressor": {"id": "jpeg-ls"}}, "its chunks are encoded by 'jpeg-ls'"),
        (3, {"codecs": [{"name": "numcodecs.msgpack2"}]}, "its chunks are encoded by 'msgpack2'"),
        (3, {"codecs": None}, "it is damaged"),
        (2, {"filters": 3}, "it is damaged"),
        (2, {"filters": [{"id": "zlib"}]}, "its chunks are compressed by zlib and zstd; compress them once"),
    ],
)
def test_arrays_that_are_no_images_are_refused(zarr_format, changes, message):
    write_array(zarr_format)
    change(**changes)
    with pytest.raises(ImageFileError, match=f"cannot read a.zarr: {message}"):
        layout()


@pytest.mark.parametrize("side", [10**5, 10**9, 10**15, 2**62])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_without_chunks_is_as_small_as_what_it_holds(side, zarr_format):
    zarr.create_array(str(PATH), zarr_format=zarr_format, shape=(6, 8), dtype="uint16")
    change(shape=[side, side])
    with pytest.raises(ImageFileError, match="values and holds 0 of .* chunks; copy or export it again"):
        layout()


def test_an_image_may_be_empty_but_for_one_chunk():
    zarr.create_array(str(PATH), shape=(100_000, 100_000), dtype="uint16", chunks=(1000, 1000), fill_value=7)
    zarr.open_array(str(PATH))[5000:6000, :1000] = 1
    part = ZarrReader(PATH).read(Box(4999, 0, 5001, 3))
    np.testing.assert_array_equal(part[..., 0], [[7, 7, 7], [1, 1, 1]])


def test_a_chunk_does_not_stand_for_any_number_of_others():
    write_array(3)
    change(shape=[10**6, 10**6], chunk_grid=regular(1, 1))
    with pytest.raises(ImageFileError, match="holds 4 of 1,000,000,000,000 chunks"):
        layout()


def test_a_black_image_has_no_chunks():
    zarr.create_array(str(PATH), shape=(1000, 1000), dtype="uint8", chunks=(500, 500))
    assert not ZarrReader(PATH).read(Box(0, 0, 600, 600)).any()


@pytest.mark.parametrize(("written", "claimed"), [(".", "/"), ("/", ".")])
def test_chunks_of_other_names_are_not_taken_for_missing(written, claimed):
    write_array(2, chunk_key_encoding={"name": "v2", "separator": written})
    layout()
    change(dimension_separator=claimed)
    with pytest.raises(ImageFileError, match="its chunks are not named with . between their indices"):
        layout()


def test_shards_are_not_of_any_number_of_chunks():
    write_array(3, chunks=(3, 2), shards=(6, 4))
    metadata = json.loads((PATH / "zarr.json").read_text())
    metadata["codecs"][0]["configuration"]["chunk_shape"] = [1, 1]
    change(codecs=metadata["codecs"], chunk_grid=regular(10**6, 10**6))
    with pytest.raises(ImageFileError, match="it is damaged .its shards are of .1000000, 1000000. in chunks of"):
        layout()
