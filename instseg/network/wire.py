"""Protocol Buffers as bytes: what is read from a graph and told to a session, without the package of that name.

Importing Python's `protobuf` with TensorFlow's definitions takes longer than reading a network. The wire format and the
numbers of fields do not change: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import NamedTuple

# How a value is written, in the lowest three bits of what precedes it.
_VARINT, _LONG, _BYTES, _SHORT = 0, 1, 2, 5
_FIXED = {_LONG: 8, _SHORT: 4}
# Fields of MetaGraphDef, of an entry of a map, and of SignatureDef, TensorInfo, TensorShapeProto and its Dim.
_SIGNATURES = 5
_KEY, _VALUE = 1, 2
_INPUTS, _OUTPUTS = 1, 2
_NAME, _DTYPE, _SHAPE = 1, 2, 3
_DIM, _SIZE = 2, 1
# TensorFlow calls a length that a graph leaves open -1, which is written as two's complement of 64 bits.
_SIGN, _RANGE = 1 << 63, 1 << 64


class TensorSpec(NamedTuple):
    """A tensor that a signature takes or gives.

    Attributes
    ----------
    operation : str
        Whose output it is in the graph.
    output : int
        Which of its outputs.
    dtype : int
        As TensorFlow numbers types; 1 is float32.
    shape : tuple of int
        -1 for a length that may be any.
    """

    operation: str
    output: int
    dtype: int
    shape: tuple[int, ...]


class Signature(NamedTuple):
    """What a function of a SavedModel takes and gives, by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


def read_signature(meta_graph: bytes, name: str) -> Signature:
    """Return a signature of a MetaGraphDef.

    Raises
    ------
    ValueError
        If it is not there, or the bytes are no MetaGraphDef.
    """
    for number, value in iter_fields(meta_graph):
        if number == _SIGNATURES and isinstance(value, memoryview):
            key, signature = _entry(value)
            if key == name:
                return Signature(_tensors(signature, _INPUTS), _tensors(signature, _OUTPUTS))
    raise ValueError(f"it has no signature {name}")


def iter_fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message; texts and messages in it are views of its bytes.

    Raises
    ------
    ValueError
        If it ends in the middle of a field.

    Examples
    --------
    >>> [(number, value) for number, value in iter_fields(bytes.fromhex("089601"))]
    [(1, 150)]
    """
    view, place = memoryview(message), 0
    while place < len(view):
        key, place = _varint(view, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(view, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _varint(view, place)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError(f"a field of its graph is of kind {kind}, which there is none")
        if place + length > len(view):
            raise ValueError("its graph ends too early")
        yield number, view[place : place + length]
        place += length


def number_field(number: int, value: int) -> bytes:
    """Return a field that holds a number from 0 on, or a truth value.

    Examples
    --------
    >>> number_field(1, 150).hex()
    '089601'
    """
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def message_field(number: int, message: bytes) -> bytes:
    """Return a field that holds a message.

    Examples
    --------
    >>> message_field(3, number_field(1, 150)).hex()
    '1a03089601'
    """
    return _encoded(number << 3 | _BYTES) + _encoded(len(message)) + message


def _encoded(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(view) and shift < 70:
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("its graph ends in the middle of a number")


def _entry(message: memoryview) -> tuple[str, memoryview]:
    found = dict(iter_fields(message))
    return _text(found.get(_KEY)), _message(found.get(_VALUE))


def _tensors(signature: memoryview, which: int) -> dict[str, TensorSpec]:
    entries = (_entry(_message(value)) for number, value in iter_fields(signature) if number == which)
    return {name: _tensor(message) for name, message in entries}


def _tensor(message: memoryview) -> TensorSpec:
    found = dict(iter_fields(message))
    operation, _, index = _text(found.get(_NAME)).rpartition(":")
    dtype = found.get(_DTYPE, 0)
    dims = [_message(value) for number, value in iter_fields(_message(found.get(_SHAPE))) if number == _DIM]
    sizes = [_signed(dict(iter_fields(dim)).get(_SIZE, 0)) for dim in dims]
    if not operation or not index.isdecimal() or not isinstance(dtype, int):
        raise ValueError("a tensor of its signature is none of its graph's")
    return TensorSpec(operation, int(index), dtype, tuple(sizes))


def _signed(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("a length in its signature is no number")
    return value - _RANGE if value & _SIGN else value


def _text(value: int | memoryview | None) -> str:
    return str(_message(value), "utf-8")


def _message(value: int | memoryview | None) -> memoryview:
    if value is None:
        return memoryview(b"")
    if isinstance(value, int):
        raise ValueError("its graph holds a number where a message is expected")
    return value
