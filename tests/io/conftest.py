"""What several tests of files share: image files written byte by byte, or in one call."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile


@pytest.fixture
def png(tmp_path):
    def write(pixels, name="a.png"):
        path = tmp_path / name
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
        return path

    return write


@pytest.fixture
def tif(tmp_path):
    def write(pixels, **options):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, pixels, **options)
        return path

    return write


@pytest.fixture
def raw_png():
    """A function that makes a PNG's bytes of its header, its rows and further chunks."""

    def make(width, height, bits, colour_type, rows, *chunks):
        def chunk(name, data):
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
        parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

    return make
