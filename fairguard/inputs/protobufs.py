"""Whether bytes are an ONNX model: the outermost fields of a protobuf, walked without parsing what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

GRAPH, LARGEST_FIELD = 7, 25
MOST_FIELDS = 1_000
"""How many fields may stand before the graph; writers put it behind half a dozen."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def looks_like_onnx(path: Path) -> bool:
    """Return whether the file is a ``ModelProto``: valid fields, a graph among them (possibly cut off by the end)."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        for _ in range(MOST_FIELDS):
            if stream.tell() >= size:
                return False
            tag = _varint(stream)
            field, wire = tag >> 3, tag & 7
            if not 1 <= field <= LARGEST_FIELD:
                return False
            if field == GRAPH and wire == BYTES:
                return True
            if not _skip(stream, wire, size):
                return False
    return False


def _skip(stream: BinaryIO, wire: int, size: int) -> bool:
    """Go to the next field; return whether this one is valid and ends within the file."""
    if wire == VARINT:
        _varint(stream)
    elif wire == BYTES:
        length = _varint(stream)
        if length > size:
            return False
        stream.seek(length, 1)
    elif wire in (FIXED64, FIXED32):
        stream.seek(8 if wire == FIXED64 else 4, 1)
    else:
        return False
    return True


def _varint(stream: BinaryIO) -> int:
    value = shift = 0
    while shift < 70:
        byte = stream.read(1)
        if not byte:
            return value
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    return value
