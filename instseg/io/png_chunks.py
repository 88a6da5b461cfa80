"""PNGs taken apart into their chunks, and given to libpng in a form that it has no remarks on.

libpng writes its remarks to the terminal: on interlaced images, on colour profiles that it does not like, on checksums.
"""

import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
from numpy.typing import NDArray

PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Values per pixel of PNG's colour types."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Left, top, and the steps across and down of the seven images that an interlaced PNG consists of.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def plain_png(content: bytes) -> bytes:
    """Return a PNG without the chunks that its pixels do not depend on.

    Raises
    ------
    ValueError
        If it is damaged, or interlaced.
    """
    chunks = list(_png_chunks(content))
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if interlaced:
        raise ValueError("it is interlaced")
    stride = 1 + -(-width * PNG_CHANNELS[colour_type] * bits // 8)
    rows = _inflate(b"".join(data for name, data in chunks if name == b"IDAT"), height * stride)
    _require_filters(rows, stride)
    kept = [_chunk(name, data) for name, data in chunks if name in (b"IHDR", b"PLTE", b"tRNS")]
    return b"".join([_SIGNATURE, *kept, _chunk(b"IDAT", zlib.compress(rows, 0)), _chunk(b"IEND", b"")])


def _require_filters(rows: memoryview, stride: int) -> None:
    if max(rows[::stride]) > 4:
        raise ValueError("unknown filter")


def decode_png16(content: bytes) -> NDArray[np.uint16]:
    """Return the pixels (H, W, C) of a PNG of 16-bit colours; a transparent colour becomes an alpha channel."""
    chunks = list(_png_chunks(content))
    head = chunks[0][1]
    width, height, _, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(height - top) // down), -(-(width - left) // across)) for left, top, across, down in passes]
    pixel_bytes = 2 * PNG_CHANNELS[colour_type]
    lengths = [rows * (1 + columns * pixel_bytes) if rows > 0 < columns else 0 for rows, columns in sizes]
    rows_of_bytes = _inflate(b"".join(data for name, data in chunks if name == b"IDAT"), sum(lengths))
    transparent = [_chunk(b"tRNS", data) for name, data in chunks if name == b"tRNS" and len(data) == 6]
    pixels: NDArray[np.uint16] | None = None
    begin = 0
    for (left, top, across, down), (rows, columns), length in zip(passes, sizes, lengths, strict=True):
        if length:
            part = _decode_rows(rows_of_bytes[begin : begin + length], (rows, columns), head, transparent[:1])
            pixels = np.empty((height, width, part.shape[2]), np.uint16) if pixels is None else pixels
            pixels[top::down, left::across] = part
        begin += length
    if pixels is None:
        raise ValueError("no pixels")
    return pixels


def _decode_rows(rows: memoryview, shape: tuple[int, int], head: bytes, chunks: list[bytes]) -> NDArray[np.uint16]:
    """Decode the filtered rows of a PNG, or of one pass of an interlaced one, as an image of their own."""
    stride = len(rows) // shape[0]
    _require_filters(rows, stride)
    header = struct.pack(">II", shape[1], shape[0]) + head[8:12] + b"\0"
    # Stored rather than compressed, so that nothing is compressed only to be decompressed at once.
    parts = [_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", zlib.compress(rows, 0)), _chunk(b"IEND", b"")]
    pixels = np.asarray(imagecodecs.png_decode(_SIGNATURE + b"".join(parts)), np.uint16)
    return pixels.reshape(*shape, -1)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of a PNG's chunks; those that pixels depend on are checked."""
    at = 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        name, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        checksum = content[at + 8 + size : at + 12 + size]
        if name in (b"IHDR", b"PLTE", b"IDAT", b"tRNS") and checksum != struct.pack(">I", zlib.crc32(name + data)):
            raise ValueError(f"wrong checksum of {name.decode()}")
        yield name, data
        at += 12 + size


def _inflate(data: bytes, size: int) -> memoryview:
    """Decompress, and take no more memory than the pixels need."""
    try:
        # libdeflate takes a third of zlib's time, but none of what holds more than it needs.
        content: bytes | bytearray = imagecodecs.deflate_decode(data, out=size)
    except imagecodecs.DeflateError:
        content = zlib.decompressobj().decompress(data, size + 1)
    if len(content) < size:
        raise ValueError("its pixels end too early")
    return memoryview(content)[:size]
