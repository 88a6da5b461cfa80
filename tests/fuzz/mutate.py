"""Damage to files: to any bytes, and to what PNG, TIFF, ZIP and JSON are made of, beyond their checksums."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

# Numbers at which readers tend to go wrong: of 8, 16, 32 and 64 bits.
EXTREMES = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65500, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)

Mutation = Callable[[bytes, Random], bytes]


def mutate(name: str, data: bytes, others: list[bytes], random: Random) -> bytes:
    """Return damaged data of a file of a kind, by one to three mutations; now and then a mix of two files."""
    if others and random.random() < 0.05:
        return _splice(data, random.choice(others), random)
    aware = _aware_of(name, data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        chosen = random.choice(aware) if aware and random.random() < 0.6 else random.choice(ANY)
        try:
            data = chosen(data, random)
        except Exception:  # Whatever damaged data has a mutation raise that knows the format.
            data = random.choice(ANY)(data, random)
    return data


def _aware_of(name: str, data: bytes) -> list[Mutation]:
    """Return the mutations that know a file's format."""
    if data.startswith(b"\x89PNG"):
        return [_png_field, _png_pixels, _png_chunk]
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0"):
        return [_tiff_tag, _tiff_tag, _tiff_tag, _tiff_link, _text_number]
    if data.startswith(b"PK"):
        return [_zip_member]
    if name.endswith((".json", ".zattrs", ".zarray", ".zgroup")):
        return [_json_value, _json_value, _json_value, _json_text]
    if name.endswith(".csv"):
        return [_csv_cell, _text_number]
    return []


def _position(data: bytes, random: Random) -> int:
    # Headers come first in most formats.
    return random.randrange(min(len(data), 300) if random.random() < 0.5 else len(data))


def _flip_bits(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 40))):
        changed[_position(data, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _replace_bytes(data: bytes, random: Random) -> bytes:
    start = _position(data, random)
    length = random.choice((1, 2, 4, 16))
    new = random.choice((random.randbytes(length), b"\0" * length, b"\xff" * length))
    return data[:start] + new + data[start + length :]


def _replace_integer(data: bytes, random: Random) -> bytes:
    size, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
    number = random.choice(EXTREMES) % 2 ** (8 * size)
    start = _position(data, random)
    return data[:start] + number.to_bytes(size, order) + data[start + size :]


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.choice((0, 1, 9, 30, random.randrange(len(data)), random.randrange(len(data)), len(data) - 1))]


def _part(data: bytes, random: Random) -> tuple[int, int]:
    start = _position(data, random)
    return start, min(len(data), start + random.choice((1, 4, 12, 100, 1000)))


def _delete(data: bytes, random: Random) -> bytes:
    start, end = _part(data, random)
    return data[:start] + data[end:]


def _duplicate(data: bytes, random: Random) -> bytes:
    start, end = _part(data, random)
    return data[:end] + data[start:end] * random.choice((1, 1, 2, 50)) + data[end:]


def _insert(data: bytes, random: Random) -> bytes:
    start = _position(data, random)
    return data[:start] + random.randbytes(random.choice((1, 2, 4, 100))) + data[start:]


def _splice(data: bytes, other: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))] + other[random.randrange(len(other)) :]


def _guarded(mutation: Mutation) -> Mutation:
    return lambda data, random: mutation(data, random) if data else random.randbytes(random.randrange(40))


ANY = [
    _guarded(mutation)
    for mutation in (_flip_bits, _flip_bits, _replace_bytes, _replace_integer, _truncate, _delete, _duplicate, _insert)
]


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, start = [], 8
    while start + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        chunks.append((data[start + 4 : start + 8], data[start + 8 : start + 8 + length]))
        start += 12 + length
    return chunks


def _png_joined(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG whose checksums are right."""
    joined = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(joined)


def _png_field(data: bytes, random: Random) -> bytes:
    """Change a number of the header."""
    chunks = _png_chunks(data)
    header = bytearray(chunks[0][1])
    where = random.choice((0, 4, 8, 9, 12))
    if where < 8:
        header[where : where + 4] = (random.choice(EXTREMES) % 2**32).to_bytes(4, "big")
    else:
        header[where] = random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return _png_joined([(b"IHDR", bytes(header)), *chunks[1:]])


def _png_pixels(data: bytes, random: Random) -> bytes:
    """Change the rows of pixels, and the compressed data or its length."""
    chunks = _png_chunks(data)
    rows = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    rows = random.choice(ANY)(rows, random)
    if random.random() < 0.1:
        rows = bytes(20_000_000)
    packed = zlib.compress(rows)
    if random.random() < 0.3:
        packed = random.choice(ANY)(packed, random)
    pixels = (b"IDAT", packed)
    return _png_joined([pixels if name == b"IDAT" else (name, body) for name, body in chunks])


def _png_chunk(data: bytes, random: Random) -> bytes:
    """Change, remove, repeat, move or add a chunk."""
    chunks = _png_chunks(data)
    number = random.randrange(len(chunks))
    name, body = chunks[number]
    added = random.choice(
        (b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"gAMA", b"sBIT", b"acTL", b"fcTL", b"\xff\0\xff\0")
    )
    changed = random.choice(ANY)(body, random)
    chunks[number : number + 1] = random.choice(
        ([], [(name, changed)], [(name, body)] * 2, [(added, changed), (name, body)], [(name, body), (added, body)])
    )
    return _png_joined(chunks)


def _tiff_entries(data: bytes) -> tuple[str, list[tuple[int, bool]], list[int]]:
    """Return the byte order, the positions of entries of directories, and those of links to directories."""
    order = "<" if data[:2] == b"II" else ">"
    large = data[2:4] in (b"+\0", b"\0+")
    number, size, link = ("Q", 20, "Q") if large else ("H", 12, "I")
    entries, links, place = [], [], 8 if large else 4
    for _ in range(20):
        (start,) = struct.unpack_from(order + link, data, place)
        links.append(place)
        if not start:
            break
        (count,) = struct.unpack_from(order + number, data, start)
        start += struct.calcsize(number)
        entries += [(start + size * index, large) for index in range(min(count, 100))]
        place = start + size * count
    return order, entries, links


def _tiff_tag(data: bytes, random: Random) -> bytes:
    """Change the code, the type, the count or the value of an entry."""
    order, entries, _ = _tiff_entries(data)
    start, large = random.choice(entries)
    wide = "Q" if large else "I"
    field, offset = random.choice(
        (("H", 0), ("H", 2), (wide, 4), (wide, 12 if large else 8), (wide, 12 if large else 8))
    )
    if field == "H" and offset == 0:
        number = random.choice((254, 256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 282, 284, 286, 296, 317, 320))
        number = random.choice((number, 322, 323, 324, 325, 330, 338, 339, 347, 50839, random.randrange(65536)))
    elif field == "H":
        number = random.choice((*range(20), 65535))
    else:
        size = struct.calcsize(field)
        near = struct.unpack_from(order + field, data, start + offset)[0] + random.choice((-1, 1))
        number = random.choice((*EXTREMES, near, len(data), len(data) - 1)) % 2 ** (8 * size)
        if random.random() < 0.3:  # A short number lies in the first half.
            field, number = "H", number % 65536
    changed = bytearray(data)
    struct.pack_into(order + field, changed, start + offset, number)
    return bytes(changed)


def _tiff_link(data: bytes, random: Random) -> bytes:
    """Have a link between directories lead elsewhere, in a circle for example."""
    order, entries, links = _tiff_entries(data)
    width = "Q" if entries[0][1] else "I"
    targets = [struct.unpack_from(order + width, data, link)[0] for link in links]
    changed = bytearray(data)
    target = random.choice((*targets, *targets, 8, len(data) - 2, random.randrange(len(data)), 2**32 - 1))
    struct.pack_into(order + width, changed, random.choice(links), target)
    return bytes(changed)


def _text_number(data: bytes, random: Random) -> bytes:
    """Change a number or a mark in text, such as OME-XML or ImageJ's description, and keep the length."""
    places = [number for number, byte in enumerate(data) if byte in b'0123456789<>"=&,']
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 5))):
        changed[random.choice(places)] = random.choice(b'0199999-e<>"&;,\0\xff\n')
    return bytes(changed)


def _zip_member(data: bytes, random: Random) -> bytes:
    """Change, remove or repeat an array of an archive, whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    number = random.randrange(len(members))
    name, body = members[number]
    what = random.random()
    if what < 0.5:
        # The header of an array is text of 128 bytes.
        mutation = random.choice((_text_number, *ANY))
        body = mutation(body[:128], random) + body[128:] if random.random() < 0.7 else mutation(body, random)
    elif what < 0.75 and name == "settings.npy":
        text = "".join(chr(code[0]) for code in struct.iter_unpack("<I", body[128:]))
        text = _json_value(text.encode(), random).decode("utf-8", "replace")
        shape = f"{{'descr': '<U{len(text)}', 'fortran_order': False, 'shape': (), }}"
        body = (
            b"\x93NUMPY\x01\0" + struct.pack("<H", 118) + (shape.ljust(117) + "\n").encode() + text.encode("utf-32-le")
        )
    elif what < 0.9:
        body = members[random.randrange(len(members))][1]
    members[number : number + 1] = [] if what > 0.95 else [(name, body)]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, body in members:
            archive.writestr(name, body)
    return file.getvalue()


_RAW = "@raw@"
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, 1e308, -1e308, float("nan"), float("inf"), 2**31 - 1, 2**31, 2**63, 2**64, 10**15,
    10**300, "", "x", "0", "\0", "\ud800", "../..", "a" * 5000, [], {}, [None], [[]], {"a": 1}, [0] * 3, [-1, -1],
    [10**15, 10**15], "<u2", ">f8", "|O", "<M8[ns]", "object", "float16", "complex64", "yx", ["y", "x"],
)  # fmt: skip
_RAW_VALUES = (
    "1" * 5000,
    "[" * 100_000,
    "[" * 500 + "]" * 500,
    '{"a":' * 3000 + "1" + "}" * 3000,
    "1e999999",
    "-0",
    "}",
)


def _json_places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in JSON: the dict or list that holds it, and the key."""
    places, level = [], [value]
    while level:
        holder = level.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        places += [(holder, key) for key in keys]
        level += [holder[key] for key in keys]
    return places


def _json_value(data: bytes, random: Random) -> bytes:
    """Put another value in a place of JSON, remove it, or add a further one."""
    value = json.loads(data)
    raw = ""
    for _ in range(random.choice((1, 1, 2))):
        holder, key = random.choice(_json_places(value))
        what = random.random()
        if what < 0.1:
            del holder[key]
        elif what < 0.2 and isinstance(holder, dict):
            holder[random.choice(("", "x", "path", "type", "scale", "\ud800"))] = random.choice(_VALUES)
        elif what < 0.25 and isinstance(holder, list):
            holder.append(holder[key])
        elif what < 0.35:
            holder[key], raw = _RAW, random.choice(_RAW_VALUES)
        elif what < 0.45 and not isinstance(holder[key], (dict, list)):
            holder[key] = random.choice(([holder[key]], {"a": holder[key]}, str(holder[key]), [[holder[key]]]))
        else:
            holder[key] = random.choice(_VALUES)
    return json.dumps(value).replace(json.dumps(_RAW), raw).encode()


def _json_text(data: bytes, random: Random) -> bytes:
    """Write JSON as others would, or not as JSON."""
    text = data.decode()
    return random.choice((
        b"\xef\xbb\xbf" + data, text.encode("utf-16"), b"null", b"[]", b'"x"', b"0", b"{}", data + data,
        b"[" + data + b"]", data.replace(b"{", b'{"format": 3, "format": [],', 1), b"NaN",
        data.replace(b":", b":\x1b[31m", 1),
    ))  # fmt: skip


def _csv_cell(data: bytes, random: Random) -> bytes:
    """Put another text in a cell."""
    lines = [line.split(",") for line in data.decode("utf-8", "replace").split("\n")]
    line = random.choice(lines)
    line[random.randrange(len(line))] = random.choice(
        (
            "",
            '"',
            '""',
            "\0",
            "x" * 200_000,
            "-1",
            "1e5",
            "9" * 5000,
            "٣",
            "²",
            "a\rb",
            ",,,",
            " 1 ",
            "1.0",
            "\x1b[31m",
            "=1+1",
        )
    )
    text = random.choice(("\n", "\n", "\r\n", "\r")).join(",".join(line) for line in lines)
    return text.encode(random.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")), "surrogatepass")
