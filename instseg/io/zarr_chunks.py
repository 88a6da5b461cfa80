"""Chunks of Zarr arrays, whose sizes are checked before they are decoded.

A decoder believes what a chunk says of itself, and some kilobytes can say some gigabytes.
"""

import bz2
import lzma
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from instseg.io.remote import RemotePath, fetch_errors
from instseg.io.zarr_metadata import ArrayLayout, ShardIndex

# Codecs before the compression may keep values in types of up to 8 bytes, or add checksums.
_BYTES_OF_VALUE, _BYTES_OF_CHUNK = 8, 4096
# Decoded chunks up to this size do no harm; larger ones hold at least a part of it in their files.
_HARMLESS, _MOST_DENSE = 2**28, 200
# The largest ratio that Deflate, the method of gzip and zlib, can reach.
_DEFLATE = 1032
# Bytes that are decoded at a time only to count them.
_PART = 2**20
_ZSTD_FRAME, _ZSTD_SKIPPED = 0xFD2FB528, range(0x184D2A50, 0x184D2A60)
_METADATA = ("zarr.json", ".zarray", ".zattrs")


class BoundedStore(WrapperStore[Store]):
    """A Zarr store of one array, read only, that refuses chunks which are larger than their array says.

    Parameters
    ----------
    folder : Path
        Of the array.
    layout : ArrayLayout
        How it is stored.
    """

    def __init__(self, folder: Path, layout: ArrayLayout) -> None:
        self._remote = isinstance(folder, RemotePath)
        super().__init__(_remote_store(folder) if self._remote else LocalStore(folder, read_only=True))
        self._folder, self._layout = folder, layout
        values = math.prod(layout.chunks)
        self._decoded = values * layout.dtype.itemsize
        self._most = values * _BYTES_OF_VALUE + _BYTES_OF_CHUNK

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the value of a key, None where there is none.

        Raises
        ------
        ValueError
            If it is a chunk, and larger than the array's chunks.
        """
        if self._remote:
            return await self._get_remote(key, prototype, byte_range)
        try:
            status = os.stat(f"{self._folder}/{key}")  # noqa: PTH116 (Path takes longer than the call, for each chunk)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode):
                return None
            raise ValueError(f"{key} is no regular file")
        if key in _METADATA:
            return await self._store.get(key, prototype, byte_range)
        index = self._layout.index
        self._check_stored(key, status.st_size, 1 if index is None else index.chunk_count)
        if isinstance(byte_range, RangeByteRequest):
            self._check_stored(key, byte_range.end - byte_range.start)
        value = await self._store.get(key, prototype, byte_range)
        self._check_value(key, value, byte_range)
        return value

    async def _get_remote(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None) -> Buffer | None:
        """Return the value of a key on a server, whose size is known when it is here."""
        with fetch_errors(self._folder):
            value = await self._store.get(key, prototype, byte_range)
        expected = _length(byte_range)
        if value is not None and expected is not None and len(value) > expected:
            raise ValueError(
                "its server gives whole files where parts are asked for; copy it, or save it without shards"
            )
        if value is not None and key not in _METADATA:
            index = self._layout.index
            self._check_stored(key, len(value), 1 if index is None else index.chunk_count)
            self._check_value(key, value, byte_range)
        return value

    def _check_value(self, key: str, value: Buffer | None, byte_range: ByteRequest | None) -> None:
        """Check the chunks in what was read."""
        index = self._layout.index
        if value is None or isinstance(byte_range, SuffixByteRequest):
            return
        if index is None:
            self._check(key, value.to_bytes())
        elif byte_range is None:
            for chunk in _chunks_of_shard(value.to_bytes(), index):
                self._check(key, chunk)
        elif not index.at_start or (isinstance(byte_range, RangeByteRequest) and byte_range.start > 0):
            self._check(key, value.to_bytes())

    def _check_stored(self, key: str, size: int, chunks: int = 1) -> None:
        if size > 2 * self._most * chunks:
            raise ValueError(f"the chunk {key} has {size:,} bytes, expected at most {self._decoded * chunks:,}")

    def _check(self, key: str, data: bytes) -> None:
        """Check a compressed chunk."""
        stored = len(data)
        if self._decoded > max(_HARMLESS, _MOST_DENSE * stored):
            raise ValueError(f"the chunk {key} of {stored:,} bytes claims {self._decoded:,}; save smaller chunks")
        compressor = self._layout.compressor
        # Blosc reads as many bytes as the chunk says that it has, and crashes where there are fewer.
        if compressor == "blosc" and not 16 <= int.from_bytes(data[12:16], "little") <= stored:
            raise ValueError(f"the chunk {key} of {stored:,} bytes is cut off or damaged")
        if compressor in ("gzip", "zlib") and stored * _DEFLATE <= _HARMLESS:
            return
        if compressor is not None and decoded_size(compressor, data, self._most) > self._most:
            raise ValueError(f"the chunk {key} holds more than the {self._decoded:,} bytes of its shape")


def _length(byte_range: ByteRequest | None) -> int | None:
    """Return how many bytes are asked for at most; None where that is not known."""
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.end - byte_range.start
    return byte_range.suffix if isinstance(byte_range, SuffixByteRequest) else None


def _remote_store(folder: Path) -> Store:
    from zarr.storage import FsspecStore

    with fetch_errors(folder):
        return FsspecStore.from_url(str(folder), read_only=True)


def _chunks_of_shard(data: bytes, index: ShardIndex) -> Iterator[bytes]:
    """Yield the chunks in a file; those that are missing, or beyond its end, are empty."""
    size = 16 * index.chunk_count
    start = 0 if index.at_start else max(0, len(data) - size - index.checksum)
    entries = data[start : start + size]
    for begin, length in struct.iter_unpack("<QQ", entries[: len(entries) // 16 * 16]):
        if chunk := data[begin : begin + length]:
            yield chunk


def decoded_size(compressor: str, data: bytes, most: int) -> int:
    """Return how many bytes the decoder of a chunk would make.

    Parameters
    ----------
    compressor : str
        One of `zarr_metadata.COMPRESSORS`.
    data : bytes
        The compressed chunk.
    most : int
        Any number above it stands for any other, as more is not decoded for it.
    """
    if compressor == "blosc":
        return int.from_bytes(data[4:8], "little")
    if compressor == "lz4":
        return int.from_bytes(data[:4], "little")
    return _zstd_size(data, most) if compressor == "zstd" else _streamed_size(compressor, data, most)


def _zstd_size(data: bytes, most: int) -> int:
    """Return the size of all frames by their headers, or of all by decoding them where one has no size."""
    size = position = 0
    while position + 8 < len(data):
        magic, length = (int.from_bytes(data[start : start + 4], "little") for start in (position, position + 4))
        if magic in _ZSTD_SKIPPED:
            position += 8 + length
            continue
        if magic != _ZSTD_FRAME:
            break
        descriptor = data[position + 4]
        single, width = bool(descriptor & 0x20), descriptor >> 6
        length = (int(single), 2, 4, 8)[width]
        position += 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
        if length == 0:
            return len(imagecodecs.zstd_decode(data, out=most + 1))
        size += int.from_bytes(data[position : position + length], "little") + (256 if length == 2 else 0)
        position = _zstd_end(data, position + length) + (4 if descriptor & 4 else 0)
    return size


def _zstd_end(data: bytes, position: int) -> int:
    """Return where the blocks of a frame end that begin at a position."""
    last = False
    while not last and position < len(data):
        header = int.from_bytes(data[position : position + 3], "little")
        last = bool(header & 1)
        # A block of one repeated byte holds it once.
        position += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
    return position


def _streamed_size(compressor: str, data: bytes, most: int) -> int:
    """Return the size of all members one after another, by decoding them in parts."""
    size, first = 0, True
    while data and size <= most:
        decoder = _decoder(compressor)
        try:
            while not decoder.eof and size <= most:
                part = decoder.decompress(data, _PART)
                size += len(part)
                data = getattr(decoder, "unconsumed_tail", b"")
                if not part and not data:
                    break
        except (zlib.error, OSError, lzma.LZMAError) as error:
            if first:
                raise ValueError(f"a chunk cannot be decoded: {error}") from error
            break  # What follows the members, such as a checksum.
        data, first = decoder.unused_data, False
    return size


def _decoder(compressor: str) -> Any:
    if compressor == "bz2":
        return bz2.BZ2Decompressor()
    if compressor == "lzma":
        return lzma.LZMADecompressor()
    return zlib.decompressobj(31 if compressor == "gzip" else zlib.MAX_WBITS)
