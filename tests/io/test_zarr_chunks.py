"""Chunks that hold more than their array says are refused before they are decoded."""

import gzip
import os
import struct
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

from instseg.io.image_file import ImageFileError
from instseg.io.omezarr import ZarrReader
from instseg.io.zarr_chunks import decoded_size
from instseg.tiling.grid import Box

PATH, BOX = Path("a.zarr"), Box(0, 0, 60, 50)
IMAGE = np.random.default_rng(0).integers(0, 60_000, (60, 50)).astype(np.uint16)
CODECS = {
    "blosc": numcodecs.Blosc,
    "zstd": numcodecs.Zstd,
    "gzip": numcodecs.GZip,
    "zlib": numcodecs.Zlib,
    "lz4": numcodecs.LZ4,
    "lzma": numcodecs.LZMA,
    "bz2": numcodecs.BZ2,
}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000, 1_100_000])
def test_sizes_are_those_that_the_decoder_makes(name, size):
    codec = CODECS[name]()
    for data in (bytes(size), np.random.default_rng(0).bytes(size)):
        encoded = bytes(codec.encode(data))
        assert decoded_size(name, encoded, 10**7) == size
        # Several members or frames are decoded one after another.
        if name not in ("blosc", "lz4"):
            assert decoded_size(name, encoded + encoded, 10**7) == 2 * size
        assert size <= 1000 or decoded_size(name, encoded, 1000) > 1000


def zstd_without_size(blocks):
    """Return a frame of Zstandard that does not say its size, of blocks that repeat a byte 128 x 1024 times."""
    headers = [(2**17 << 3 | 1 << 1 | (number == blocks - 1)).to_bytes(3, "little") for number in range(blocks)]
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(header + b"\x07" for header in headers)


def test_frames_that_do_not_say_their_size_are_decoded():
    data = zstd_without_size(4)
    assert len(numcodecs.Zstd().decode(data)) == 2**19
    assert decoded_size("zstd", data, 2**20) == 2**19
    with pytest.raises(Exception, match="too small"):
        decoded_size("zstd", data, 2**18)


@pytest.mark.parametrize("name", CODECS)
def test_chunks_that_hold_more_than_their_shape_are_refused(name, monkeypatch):
    # Chunks of Deflate are not counted where they cannot hold more than that.
    monkeypatch.setattr("instseg.io.zarr_chunks._HARMLESS", 10_000)
    array = zarr.create_array(
        str(PATH), shape=(60, 50), dtype="uint16", chunks=(60, 50), zarr_format=2, compressors=CODECS[name]()
    )
    array[...] = IMAGE
    np.testing.assert_array_equal(ZarrReader(PATH).read(BOX)[..., 0], IMAGE)
    (PATH / "0.0").write_bytes(CODECS[name]().encode(bytes(10**6)))
    with pytest.raises(
        ImageFileError, match=r"a\.zarr: it is damaged \(the chunk 0\.0 holds more than the 6,000 bytes"
    ):
        ZarrReader(PATH).read(BOX)


def test_chunk_files_that_are_far_too_large_are_not_read():
    zarr.create_array(str(PATH), shape=(60, 50), dtype="uint16", chunks=(60, 50), compressors=None)[...] = IMAGE
    os.truncate(PATH / "c/0/0", 10**12)
    with pytest.raises(ImageFileError, match=r"the chunk c/0/0 has 1,000,000,000,000 bytes, expected at most 6,000"):
        ZarrReader(PATH).read(BOX)


def test_chunks_that_are_no_files_are_not_waited_for():
    zarr.create_array(str(PATH), shape=(60, 50), dtype="uint16", chunks=(60, 50))
    (PATH / "c/0").mkdir(parents=True)
    os.mkfifo(PATH / "c/0/0")
    with pytest.raises(ImageFileError, match="c/0/0 is no regular file"):
        ZarrReader(PATH).read(BOX)


def test_large_chunks_are_refused_if_their_files_hold_next_to_nothing():
    side = 20_000
    zarr.create_array(
        str(PATH), shape=(60, 50), dtype="uint16", chunks=(side, side), compressors=numcodecs.Zstd(), zarr_format=2
    )
    (PATH / "0.0").write_bytes(numcodecs.Zstd().encode(bytes(1000)))
    with pytest.raises(ImageFileError, match="the chunk 0.0 of .* bytes claims 800,000,000; save smaller chunks"):
        ZarrReader(PATH).read(BOX)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("box", [BOX, Box(0, 0, 10, 10)])
def test_chunks_in_shards_are_checked_too(location, box, monkeypatch):
    monkeypatch.setattr("instseg.io.zarr_chunks._HARMLESS", 10_000)
    array = zarr.create_array(
        str(PATH),
        shape=(60, 50),
        dtype="uint16",
        chunks=(30, 25),
        shards={"shape": (60, 50), "index_location": location},
        compressors=zarr.codecs.GzipCodec(),
    )
    array[...] = IMAGE
    part = ZarrReader(PATH).read(box)
    np.testing.assert_array_equal(part[..., 0], IMAGE[box.top : box.bottom, box.left : box.right])
    # The first chunk is replaced by one that is as long, and holds far more.
    shard, index_size = PATH / "c/0/0", 4 * 16 + 4
    data = bytearray(shard.read_bytes())
    index = data[:index_size] if location == "start" else data[-index_size:]
    begin, length = struct.unpack("<QQ", index[:16])
    bomb = gzip.compress(bytes(10**6))
    assert len(bomb) < length
    data[begin : begin + len(bomb)] = bomb
    shard.write_bytes(data)
    with pytest.raises(
        ImageFileError, match=r"a\.zarr: it is damaged \(the chunk c/0/0 holds more than the 1,500 bytes"
    ):
        ZarrReader(PATH).read(box)


@pytest.mark.parametrize("claimed", [b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\x0f\0\0\0"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_of_blosc_that_claim_another_size_than_they_have_are_refused(claimed, zarr_format):
    codec = numcodecs.Blosc() if zarr_format == 2 else zarr.codecs.BloscCodec()
    zarr.create_array(PATH, data=IMAGE, chunks=(60, 50), compressors=codec, zarr_format=zarr_format)
    (chunk,) = (path for path in PATH.rglob("*") if path.is_file() and path.suffix != ".json" and path.name[0] != ".")
    data = chunk.read_bytes()
    for damaged in (data[:12] + claimed + data[16:], data[:-1], data[:10]):
        chunk.write_bytes(damaged)
        with pytest.raises(ImageFileError, match="is cut off or damaged"):
            ZarrReader(PATH).read(BOX)
