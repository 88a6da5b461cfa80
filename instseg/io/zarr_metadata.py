"""What the metadata of Zarr groups and arrays says, of both versions of the format, checked before Zarr reads it.

Zarr believes what metadata claims: sizes that nothing holds, types of any number of bytes, codecs that run code (such
as `pickle`). Only what an image needs is let through.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from instseg.errors import InstsegError
from instseg.io.image_file import ImageFileError
from instseg.io.json_text import parse_json, read_json
from instseg.io.remote import RemotePath

# Codecs that change sizes without bounds; at most one of them is in use, as two could hide each other's sizes.
COMPRESSORS = ("blosc", "zstd", "gzip", "zlib", "lz4", "lzma", "bz2")
# In version 3 many of these have the prefix "numcodecs.".
_OTHER_CODECS = (
    *("bytes", "endian", "transpose", "sharding_indexed", "shuffle", "delta", "fixedscaleoffset", "astype", "bitround"),
    *("quantize", "packbits", "crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"),
)
# Types as version 3 names them, and as version 2 does. Fixed numbers of bytes: "<U1000000" would be a type, too.
_TYPES = re.compile("bool|u?int(8|16|32|64)|float(16|32|64)")
_TYPES_OF_2 = re.compile("[|<>=]?(b1|[iu][1248]|f[248])")
# The name of a chunk that lies in no subfolder.
_FLAT = re.compile(r"\d+(\.\d+)+")

_MAX_DIMENSIONS = 8
_MAX_CHUNKS_OF_SHARD = 2**22
# Most pixels of an array without any chunk, which is black; how many a stored chunk stands for at most, so that an
# image of 100,000 x 100,000 may be empty but for one chunk; and what the smallest chunk costs, in pixels.
_PIXELS_OF_NOTHING, _PIXELS_OF_STORED, _COST_OF_CHUNK = 2**24, 2**34, 2**12


def damaged(path: Path, reason: object) -> ImageFileError:
    """Return the error of a Zarr group or array that cannot be read, on one line."""
    text = " ".join(str(reason).split())
    text = text if len(text) <= 200 else f"{text[:200]}..."
    return ImageFileError(path, f"it is damaged ({text or type(reason).__name__})", "copy or export it again")


@dataclass(frozen=True)
class ZarrNode:
    """A group or an array.

    Attributes
    ----------
    path : Path
    zarr_format : 2 or 3
    is_array : bool
    metadata : dict
        Of zarr.json or .zarray; empty for groups of version 2.
    attributes : dict
        What its writers noted.
    """

    path: Path
    zarr_format: Literal[2, 3]
    is_array: bool
    metadata: dict[str, Any]
    attributes: dict[str, Any]


def read_node(path: Path) -> ZarrNode | None:
    """Return the group or the array in a folder, None where there is none.

    Raises
    ------
    ImageFileError
        If its metadata is damaged.
    """
    metadata = _read_object(path, "zarr.json")
    if metadata is not None:
        kind, version = metadata.get("node_type"), metadata.get("zarr_format")
        if kind not in ("group", "array") or version != 3:
            raise damaged(path, f"zarr.json is of type {kind!r} and format {version!r}, expected group or array and 3")
        attributes = _dict(path, metadata.get("attributes"), "attributes")
        return ZarrNode(path, 3, kind == "array", metadata, attributes)
    array, group, attributes_of_2 = (_read_object(path, name) for name in (".zarray", ".zgroup", ".zattrs"))
    if array is None and group is None and attributes_of_2 is None:
        return None
    for metadata in (array, group):
        if metadata is not None and metadata.get("zarr_format") != 2:
            raise damaged(path, f"its format is {metadata.get('zarr_format')!r}, expected 2")
    return ZarrNode(path, 2, array is not None, array or {}, attributes_of_2 or {})


def _read_object(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / name
    try:
        if isinstance(path, RemotePath):
            value = parse_json(path.read_bytes())
        elif not path.is_file():
            return None
        else:
            value = read_json(path)
    except FileNotFoundError:
        return None
    except ImageFileError:
        raise
    except InstsegError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__ or error
        raise damaged(folder, f"{name}: {reason}") from error
    except ValueError as error:  # A path that no file can have.
        raise damaged(folder, error) from error
    return _dict(folder, value, name)


def _dict(path: Path, value: object, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise damaged(path, f"{name} is a {type(value).__name__}, expected an object")
    return value


class ShardIndex(NamedTuple):
    """The index of a file with many chunks: a pair of uint64, begin and length, for each of them.

    Attributes
    ----------
    chunk_count : int
    at_start : bool
        Whether it is at the start of the file, rather than at its end.
    checksum : int
        Bytes that follow it.
    """

    chunk_count: int
    at_start: bool
    checksum: int


@dataclass(frozen=True)
class ArrayLayout:
    """How an array is stored.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        Of the stored values.
    chunks : tuple of int
        The shape of what is decoded at once: of a chunk, also inside of a shard.
    index : ShardIndex or None
        Of files that hold many chunks, None where each file is one chunk.
    compressor : str or None
        One of `COMPRESSORS`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    index: ShardIndex | None
    compressor: str | None


def read_layout(node: ZarrNode) -> ArrayLayout:
    """Return how an array is stored.

    Raises
    ------
    ImageFileError
        If its values are no numbers, it uses a codec that is not known, claims far more than it holds, or its
        metadata is damaged.
    """
    path, metadata = node.path, node.metadata
    shape = _sizes(path, metadata.get("shape"), "shape", least=0)
    if 0 in shape:
        raise ImageFileError(path, "it holds no pixels", "export it again")
    if len(shape) > _MAX_DIMENSIONS:
        raise ImageFileError(path, f"it has {len(shape)} axes, expected y, x and perhaps c", "save one plane of it")
    dtype = _dtype(node)
    if node.zarr_format == 2:
        files = chunks = _sizes(path, metadata.get("chunks"), "chunks")
        _check_names(node, len(shape))
        filters, compressor = metadata.get("filters") or [], metadata.get("compressor")
        filters = filters if isinstance(filters, list) else [filters]
        codecs = _codecs(path, filters if compressor is None else [*filters, compressor], "id")
    else:
        grid = _dict(path, metadata.get("chunk_grid"), "chunk_grid")
        configuration = _dict(path, grid.get("configuration"), "configuration")
        files = chunks = _sizes(path, configuration.get("chunk_shape"), "chunk_shape")
        codecs = _codecs(path, metadata.get("codecs"), "name")
    index = None
    if "sharding_indexed" in dict(codecs):
        sharding = _dict(path, dict(codecs)["sharding_indexed"].get("configuration"), "configuration")
        chunks = _sizes(path, sharding.get("chunk_shape"), "chunk_shape")
        index = _shard_index(path, sharding, files, chunks)
        codecs += _codecs(path, sharding.get("codecs"), "name")
    _same_length(path, shape, chunks)
    _same_length(path, shape, files)
    compressors = [name for name, _ in codecs if name in COMPRESSORS]
    if len(compressors) > 1:
        raise ImageFileError(path, f"its chunks are compressed by {' and '.join(compressors)}", "compress them once")
    _check_held(node, shape, files)
    return ArrayLayout(shape, dtype, chunks, index, compressors[0] if compressors else None)


def _shard_index(path: Path, sharding: dict[str, Any], shard: tuple[int, ...], chunks: tuple[int, ...]) -> ShardIndex:
    _same_length(path, shard, chunks)
    count = math.prod(-(-whole // part) for whole, part in zip(shard, chunks, strict=True))
    location = sharding.get("index_location", "end")
    codecs = [name for name, _ in _codecs(path, sharding.get("index_codecs"), "name")]
    nested = "sharding_indexed" in dict(_codecs(path, sharding.get("codecs"), "name"))
    if count > _MAX_CHUNKS_OF_SHARD or location not in ("start", "end") or nested:
        raise damaged(path, f"its shards are of {shard} in chunks of {chunks}, or in each other")
    if codecs not in (["bytes"], ["bytes", "crc32c"]):
        raise damaged(path, f"the index of its shards is encoded by {', '.join(codecs)[:40]}")
    return ShardIndex(count, location == "start", 4 * (len(codecs) - 1))


def _sizes(path: Path, value: object, name: str, least: int = 1) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(size) is int and least <= size < 2**63 for size in value):
        raise damaged(path, f"{name} is {value!r}, expected sizes")
    return tuple(value)


def _same_length(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    if len(shape) != len(chunks):
        raise damaged(path, f"chunks of {chunks} in {shape}")


def _dtype(node: ZarrNode) -> np.dtype[Any]:
    value = node.metadata.get("dtype" if node.zarr_format == 2 else "data_type")
    known = _TYPES_OF_2 if node.zarr_format == 2 else _TYPES
    if not isinstance(value, str) or not known.fullmatch(value):
        # Structures are lists, and may be long.
        name = value if isinstance(value, str) and len(value) <= 40 else "of a compound type"
        raise ImageFileError(node.path, f"its values are {name}, expected integers or floats", "save it as 16 bit")
    return np.dtype(value)


def _codecs(path: Path, value: object, key: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and the descriptions of codecs, in the order of encoding."""
    codecs = []
    for item in value if isinstance(value, list) else [value]:
        codec = {key: item} if isinstance(item, str) else item
        if not isinstance(codec, dict) or not isinstance(codec.get(key), str):
            raise damaged(path, f"a codec is {item!r}, expected an object with {key}")
        name = codec[key].removeprefix("numcodecs.")
        if name not in (*COMPRESSORS, *_OTHER_CODECS):
            what = f"its chunks are encoded by {name[:40]!r}, which cannot be decoded"
            raise ImageFileError(path, what, "export it with Blosc or Zstandard")
        codecs.append((name, codec))
    return codecs


def _check_held(node: ZarrNode, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    """Check that an array is not far larger than what is stored: what is missing would be read as its fill value."""
    chunk_count = math.prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    pixels = max(math.prod(shape), chunk_count * _COST_OF_CHUNK)
    # Servers need not list what they have.
    if pixels <= _PIXELS_OF_NOTHING or isinstance(node.path, RemotePath):
        return
    needed = -(-pixels // _PIXELS_OF_STORED)
    found = 0
    for _ in chunk_files(node.path, depth=len(shape)):
        found += 1
        if found >= needed:
            return
    size = " x ".join(f"{size:,}" for size in shape)
    what = f"it claims {size} values and holds {found} of {chunk_count:,} chunks"
    raise ImageFileError(node.path, what, "copy or export it again")


def _check_names(node: ZarrNode, dimensions: int) -> None:
    """Check that chunks are named as metadata of version 2 says; all would seem to be missing otherwise, and empty."""
    nested = node.metadata.get("dimension_separator", ".") == "/"
    if isinstance(node.path, RemotePath):
        return
    for path in node.path.iterdir():
        if path.name.startswith(".") or dimensions < 2:
            continue
        if (not nested and path.name.isdecimal() and path.is_dir()) or (nested and _FLAT.fullmatch(path.name)):
            what = f"its chunks are not named with {'/' if nested else '.'} between their indices, as its metadata says"
            raise ImageFileError(node.path, what, "correct dimension_separator in .zarray")
        return


def chunk_files(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the files of an array's chunks, those in subfolders to a depth, in no order."""
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "zarr.json":
            continue
        if path.is_file():
            yield path
        elif depth and path.is_dir():
            yield from chunk_files(path, depth - 1)
