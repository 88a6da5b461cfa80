"""What the pages, tiles and strips of a TIFF claim to hold, against what a file of its size can hold.

Decoders take the memory that a tile claims in its own header before they find that it is damaged.
"""

import math
import struct
from typing import Any

from instseg.io.image_file import ImageHeader
from instseg.io.png_chunks import plain_png

# Bytes that one byte of the file can stand for: uncompressed, LZW, deflate (twice), PackBits.
_EXPANSION = {1: 1, 5: 4096, 8: 1032, 32946: 1032, 32773: 128}
# Other compressions have no bound; from so many bytes on, they are taken to be no better than deflate.
_UNBOUNDED_BYTES = 2**30
# Bytes of a tile that may be larger than its image.
_SMALL_TILE = 2**26
# Compressions whose decoders take missing data for gray or white: CCITT, JPEG, JPEG 2000.
_LENIENT = {2, 3, 4, 6, 7, 33003, 33004, 33005, 33007, 34712, 34892}


def require_content(page: Any, header: ImageHeader) -> None:
    """Check that a file is large enough for the planes that it claims.

    Parameters
    ----------
    page : tifffile.TiffPage
        The first of the planes.
    header : ImageHeader
        Of the planes.

    Raises
    ------
    ValueError
        If the planes or the tiles claim more.
    """
    size = page.parent.filehandle.size
    claimed = header.height * header.width * header.planes * header.channels * header.bits // 8
    most = size * _EXPANSION.get(int(page.compression), 1032)
    # A tile or strip without bytes stands for zeros.
    sparse = 0 in page.databytecounts
    if sparse and 279 not in page.tags and 325 not in page.tags:
        raise ValueError("it does not say how many bytes its tiles or strips have")
    if int(page.compression) not in _EXPANSION or sparse:
        most = max(most, _UNBOUNDED_BYTES)
    if claimed > most:
        raise ValueError(f"its {size} bytes cannot hold the {claimed} bytes of pixels that it claims")
    if page.jpegheader is not None:
        _require_ndpi_strip(page)
    if page.is_tiled:
        # Damaged sides are texts or tuples, which a product would repeat.
        tile = math.prod(int(side) for side in page.tile) * header.bits // 8
        if tile > max(_SMALL_TILE, 4 * claimed):
            raise ValueError("its tiles are much larger than its image")


def guard_decoder(page: Any) -> None:
    """Have a page of tifffile decode only tiles and strips that do not claim more pixels than the page has for them.

    It holds for all further reading of the page, and of pages that have it as their keyframe.
    """
    if getattr(page.decode, "is_guarded", False):
        return
    decode = page.decode
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.imagelength, page.imagewidth)

    def guarded(data: Any, index: int, **options: Any) -> Any:
        size = None if data is None else coded_size(data)
        # Some encoders fill up tiles to whole blocks.
        if size is not None and (size[0] > 2 * rows + 64 or size[1] > 2 * columns + 64):
            raise ValueError(f"a tile or strip claims {size[0]} x {size[1]} pixels, expected {rows} x {columns}")
        if data is not None and bytes(data[:8]) == b"\x89PNG\r\n\x1a\n":
            data = plain_png(data)
        return decode(data, index, **options)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    page.decode = guarded


def require_whole_page(page: Any) -> None:
    """Check that a page has all its tiles and strips, where its decoder would not tell.

    Parameters
    ----------
    page : tifffile.TiffPage or tifffile.TiffFrame

    Raises
    ------
    ValueError
        If some are missing. A tile or strip without bytes is none of these: it stands for zeros.
    """
    keyframe = page.keyframe
    known = min(len(page.dataoffsets), len(page.databytecounts))
    if not keyframe.is_contiguous and known < math.prod(keyframe.chunked):
        raise ValueError(f"it has {known} of {math.prod(keyframe.chunked)} tiles or strips")
    size = page.parent.filehandle.size
    # tifffile takes the memory for a tile or strip before it reads it.
    if not keyframe.is_contiguous and (longest := max(page.databytecounts, default=0)) > size:
        raise ValueError(f"a tile or strip claims {longest} bytes of a file of {size}")
    if int(keyframe.compression) in _LENIENT:
        require_complete(page)


def require_complete(page: Any) -> None:
    """Check that a page's tiles or strips are all in the file: decoders take what is missing for zeros, or crash."""
    pieces = (
        [(page.dataoffsets[0], page.nbytes)]
        if page.is_final
        else zip(page.dataoffsets, page.databytecounts, strict=True)
    )
    if max((offset + count for offset, count in pieces if count), default=0) > page.parent.filehandle.size:
        raise ValueError("it ends before its last tile or strip")


def _require_ndpi_strip(page: Any) -> None:
    """Check the one JPEG that all of a page of NDPI is, which tifffile may decode at once."""
    handle = page.parent.filehandle
    handle.seek(page.tags[273].value[0])
    size = coded_size(handle.read(2**16))
    if size is not None and (size[0] > page.imagelength + 64 or size[1] > page.imagewidth + 64):
        expected = f"{page.imagelength} x {page.imagewidth}"
        raise ValueError(f"its strip claims {size[0]} x {size[1]} pixels, expected {expected}")


def coded_size(data: bytes) -> tuple[int, int] | None:
    """Return the height and the width that an encoded tile claims in its own header; None where it has none.

    JPEG, JPEG 2000, JPEG XL, JPEG XR, PNG and WebP are known.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg_size(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack(">II", data[16:24])
            return height, width
        if data[:4] == b"II\xbc\x01":
            return _jpeg_xr_size(data)
        if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL ":
            return _jpeg_xl_size(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
        start = 0 if data[:4] == b"\xff\x4f\xff\x51" else data.find(b"\xff\x4f\xff\x51") if data[4:8] == b"jP  " else -1
        if start >= 0:
            right, bottom, left, top = struct.unpack(">IIII", data[start + 8 : start + 24])
            return bottom - top, right - left
    except struct.error:
        pass
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1  # Decoders skip what lies between the segments.
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return height, width
        elif marker in (0xD9, 0xDA):
            return None
        else:
            at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 0)
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return height & 0x3FFF, width & 0x3FFF


def _jpeg_xr_size(data: bytes) -> tuple[int, int] | None:
    at = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[at : at + 2])[0]
    sizes = {}
    for code, kind, _, value in struct.iter_unpack("<HHII", data[at + 2 : at + 2 + 12 * count]):
        sizes[code] = value & 0xFFFF if kind == 3 else value
    return (sizes[0xBC81], sizes[0xBC80]) if {0xBC80, 0xBC81} <= set(sizes) else None


def _jpeg_xl_size(data: bytes) -> tuple[int, int] | None:
    start = 0 if data[:2] == b"\xff\x0a" else data.find(b"\xff\x0a")
    if start < 0:
        return None
    # Numbers are of any count of bits, the lowest of the first byte first.
    bits, at = int.from_bytes(data[start + 2 : start + 14], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits >> (at - count) & (2**count - 1))

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return height, side()
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height, height * across // down
