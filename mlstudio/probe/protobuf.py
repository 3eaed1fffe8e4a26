"""Just enough of the protobuf wire format to read other programs' files: fields one after the other.

https://protobuf.dev/programming-guides/encoding/. Nothing here trusts a length; what does not fit raises `Broken`.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Dict, Iterator, List, Tuple, Union

    Value = Union[int, bytes]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")


class Broken(ValueError):
    """The bytes are no message."""


def fields(data: bytes) -> Iterator[Tuple[int, int, Value]]:
    """(number, wire type, value) of each field: an unsigned integer for varints, bytes for all others. Raises Broken."""
    place = 0
    size = len(data)
    while place < size:
        key = data[place]
        place += 1
        if key >= 0x80:
            key, place = varint(data, place - 1)
        kind = key & 7
        if kind == BYTES:
            length, place = varint(data, place)
            end = place + length
            if end > size:
                raise Broken("a field beyond the end")
            yield key >> 3, kind, data[place:end]
            place = end
        elif kind == VARINT:
            value, place = varint(data, place)
            yield key >> 3, kind, value
        elif kind in (FIXED32, FIXED64):
            end = place + (4 if kind == FIXED32 else 8)
            if end > size:
                raise Broken("a field beyond the end")
            yield key >> 3, kind, data[place:end]
            place = end
        else:
            raise Broken("a field of an unknown kind")


def varint(data: bytes, place: int) -> Tuple[int, int]:
    """(value, place behind it). Raises Broken."""
    try:
        value = data[place]
        if value < 0x80:
            return value, place + 1
        value &= 0x7F
        for step in range(1, 10):
            byte = data[place + step]
            value |= (byte & 0x7F) << (7 * step)
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, place + step + 1
    except IndexError:
        pass
    raise Broken("a number that does not end")


def signed(value: int) -> int:
    """A varint as a 64-bit integer with a sign."""
    return value - 2**64 if value >= 2**63 else value


def message(data: bytes) -> Dict[int, List[Value]]:
    """All fields by number, each in order; whatever their wire types. Raises Broken."""
    found: Dict[int, List[Value]] = {}
    for number, _, value in fields(data):
        found.setdefault(number, []).append(value)
    return found


def part(found: Dict[int, List[Value]], number: int) -> bytes:
    """The last value of a field that holds bytes; empty if there is none."""
    for value in reversed(found.get(number, ())):
        if isinstance(value, bytes):
            return value
    return b""


def whole(found: Dict[int, List[Value]], number: int) -> int:
    """The last value of an integer field (with its sign); 0 if there is none."""
    for value in reversed(found.get(number, ())):
        if isinstance(value, int):
            return signed(value)
    return 0


def text(found: Dict[int, List[Value]], number: int) -> str:
    return part(found, number).decode("utf-8", "replace")


def double(data: Value) -> float:
    """Eight bytes as a number. Raises Broken."""
    if not isinstance(data, bytes) or len(data) != 8:
        raise Broken("no double")
    return float(_DOUBLE.unpack(data)[0])


def single(data: Value) -> float:
    """Four bytes as a number. Raises Broken."""
    if not isinstance(data, bytes) or len(data) != 4:
        raise Broken("no float")
    return float(_FLOAT.unpack(data)[0])


def numbers(values: List[Value], code: str) -> List[float]:
    """A repeated number, packed or not: `code` is that of `struct`, or ``v`` for varints. Raises Broken."""
    found: List[float] = []
    for value in values:
        if isinstance(value, int):
            found.append(signed(value))
        elif code == "v":
            place = 0
            while place < len(value):
                number, place = varint(value, place)
                found.append(signed(number))
        else:
            size = struct.calcsize("<" + code)
            if len(value) % size:
                raise Broken("packed numbers that do not fit")
            found.extend(struct.unpack("<%d%s" % (len(value) // size, code), value))
    return found
