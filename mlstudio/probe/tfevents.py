"""TensorBoard's event files, read as they grow: scalars, histograms, images, sounds, texts and hyperparameters.

A file is a row of records, ``length (u64) | masked CRC-32C of it | payload | masked CRC-32C of the payload``
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details), each an ``Event`` protocol buffer
(tensorboard/compat/proto/event.proto, summary.proto, tensor.proto). Lengths are checked by their checksum; that of the
payload is not computed, which would cost more than all the rest: a payload that is broken does not parse.

Both generations of writers are read: ``simple_value``, ``histo``, ``image`` and ``audio`` (torch.utils.tensorboard,
tensorboardX, TensorFlow 1), and tensors that a plugin's metadata explains (tf.summary).
"""

from __future__ import annotations

import struct

from mlstudio.probe.protobuf import (
    BYTES,
    FIXED64,
    VARINT,
    Broken,
    double,
    fields,
    message,
    numbers,
    part,
    signed,
    single,
    text,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, List, Optional, Union

    from mlstudio.probe.protobuf import Value

    Anything = Union["Scalar", "Histogram", "Image", "Audio", "Text", "HParams"]

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A longer record is passed over: a graph, or an image that nobody could look at."""
MAX_BINS = 10_000
_HEAD = struct.Struct("<QI")
_TIME = struct.Struct("<d")
_MAX_SHAPES = 100_000
_MAX_LENGTHS = 10_000


class Event:
    """One record: wall time (UTC seconds), step, and what it says."""

    __slots__ = ("file_version", "step", "values", "wall_time")

    def __init__(self, wall_time: float, step: int, values: List[Anything], file_version: str = "") -> None:
        self.wall_time = wall_time
        self.step = step
        self.values = values
        self.file_version = file_version


class Scalar:
    __slots__ = ("tag", "value")

    def __init__(self, tag: str, value: float) -> None:
        self.tag = tag
        self.value = value


class Histogram:
    """`edges` has one number more than `counts`."""

    __slots__ = ("counts", "edges", "tag")

    def __init__(self, tag: str, edges: List[float], counts: List[float]) -> None:
        self.tag = tag
        self.edges = edges
        self.counts = counts


class Image:
    """`data` is the file as it was encoded: PNG, JPEG or GIF."""

    __slots__ = ("data", "height", "tag", "width")

    def __init__(self, tag: str, data: bytes, width: int, height: int) -> None:
        self.tag = tag
        self.data = data
        self.width = width
        self.height = height


class Audio:
    __slots__ = ("data", "mime", "tag")

    def __init__(self, tag: str, data: bytes, mime: str) -> None:
        self.tag = tag
        self.data = data
        self.mime = mime


class Text:
    __slots__ = ("tag", "text")

    def __init__(self, tag: str, text: str) -> None:
        self.tag = tag
        self.text = text


class HParams:
    """Hyperparameters of the session that the file tells of."""

    __slots__ = ("values",)

    def __init__(self, values: Dict[str, Any]) -> None:
        self.values = values


class EventReader:
    """Takes one file's bytes in pieces of any size. Never raises; `damaged` says that the file cannot be read on."""

    def __init__(self) -> None:
        self.damaged = False
        self.skipped = 0
        """Records that were passed over: too large, or not to be understood."""
        self._rest = b""
        self._to_skip = 0
        self._plugins: Dict[str, str] = {}
        self._shapes: Dict[bytes, str] = {}
        self._sums: Dict[bytes, int] = {}

    def feed(self, data: bytes) -> List[Event]:
        """The events that `data` completes."""
        events: List[Event] = []
        if self.damaged:
            return events
        if self._to_skip:
            gone = min(self._to_skip, len(data))
            self._to_skip -= gone
            data = data[gone:]
        if self._rest:
            data = self._rest + data
        place = 0
        size = len(data)
        while place + 12 <= size:
            length, found = _HEAD.unpack_from(data, place)
            if self._sum(data[place : place + 8]) != found:
                self.damaged = True
                self._rest = b""
                return events
            begin = place + 12
            if length > MAX_RECORD_BYTES:
                self.skipped += 1
                behind = begin + length + 4
                self._to_skip = max(0, behind - size)
                place = min(behind, size)
                continue
            end = begin + length
            if end + 4 > size:
                break
            event = self._event(data[begin:end])
            if event is not None:
                events.append(event)
            place = end + 4
        self._rest = data[place:]
        return events

    @property
    def pending(self) -> int:
        """Bytes of a record that is not whole yet."""
        return len(self._rest)

    def _sum(self, length: bytes) -> int:
        known = self._sums.get(length)
        if known is None:
            known = masked_crc32c(length)
            if len(self._sums) < _MAX_LENGTHS:
                self._sums[length] = known
        return known

    def _event(self, data: bytes) -> Optional[Event]:
        try:
            return self._quick(data) or self._slow(data)
        except (Broken, ValueError, OverflowError, struct.error, RecursionError):
            self.skipped += 1
            return None

    def _quick(self, data: bytes) -> Optional[Event]:
        """An event of one scalar of which all but time, step and value was seen before."""
        # 09 <time> 10 <step> 2a …; the value is the last field of it.
        if len(data) < 22 or data[0] != 0x09 or data[-5] != 0x15:
            return None
        place = 9
        step = 0
        if data[9] == 0x10:
            place = 10
            shift = 0
            while data[place] >= 0x80:
                step |= (data[place] & 0x7F) << shift
                shift += 7
                place += 1
                if shift > 63:
                    return None
            step = signed((step | (data[place] << shift)) & 0xFFFFFFFFFFFFFFFF)
            place += 1
        tag = self._shapes.get(data[place:-4])
        if tag is None:
            return None
        return Event(_TIME.unpack_from(data, 1)[0], step, [Scalar(tag, single(data[-4:]))])

    def _slow(self, data: bytes) -> Optional[Event]:
        wall_time = 0.0
        step = 0
        version = ""
        values: List[Anything] = []
        summary_at = -1
        for number, kind, value in fields(data):
            if number == 1 and kind == FIXED64:
                wall_time = double(value)
            elif number == 2 and kind == VARINT:
                assert isinstance(value, int)
                step = signed(value)
            elif number == 3 and kind == BYTES:
                assert isinstance(value, bytes)
                version = value.decode("utf-8", "replace")
            elif number == 5 and kind == BYTES:
                assert isinstance(value, bytes)
                summary_at = len(value)
                for inner, inner_kind, one in fields(value):
                    if inner == 1 and inner_kind == BYTES:
                        assert isinstance(one, bytes)
                        found = self._value(one)
                        if found is not None:
                            values.append(found)
        if not values and not version:
            return None
        if len(values) == 1 and isinstance(values[0], Scalar) and summary_at > 0:
            self._learn(data, values[0])
        return Event(wall_time, step, values, version)

    def _learn(self, data: bytes, scalar: Scalar) -> None:
        """Remember how an event of this scalar looks, so that the next one is read at a glance."""
        if data[0] != 0x09 or len(data) < 22 or data[-5] != 0x15 or len(self._shapes) >= _MAX_SHAPES:
            return
        place = 9
        if data[9] == 0x10:
            place = 10
            while place < len(data) and data[place] >= 0x80:
                place += 1
            place += 1
        shape = data[place:-4]
        # What follows must be the one summary, and the value its end: then only the value can differ.
        if shape[:1] == b"\x2a" and data[-4:] == struct.pack("<f", scalar.value):
            self._shapes[shape] = scalar.tag

    def _value(self, data: bytes) -> Optional[Anything]:
        found = message(data)
        tag = text(found, 1)
        plugin = ""
        content = b""
        if 9 in found:
            metadata = message(part(found, 9))
            about = message(part(metadata, 1))
            plugin, content = text(about, 1), part(about, 2)
            if plugin and len(self._plugins) < _MAX_SHAPES:
                self._plugins.setdefault(tag, plugin)
        plugin = plugin or self._plugins.get(tag, "")
        if plugin == "hparams":
            return _hparams(content)
        if 2 in found:
            return Scalar(tag, single(found[2][-1]))
        if 5 in found:
            return _histogram(tag, message(part(found, 5)))
        if 4 in found:
            image = message(part(found, 4))
            return Image(tag, part(image, 4), _size(whole(image, 2)), _size(whole(image, 1)))
        if 6 in found:
            audio = message(part(found, 6))
            return Audio(tag, part(audio, 4), text(audio, 5) or "audio/wav")
        if 8 in found:
            return _tensor(tag, plugin, message(part(found, 8)))
        return None


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecords hold it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _make_table() -> List[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _make_table()


# -- values -----------------------------------------------------------------------------------------------------------

_FLOAT, _DOUBLE, _INT32, _UINT8, _INT16, _INT8, _STRING, _INT64, _BOOL = 1, 2, 3, 4, 5, 6, 7, 9, 10
_BFLOAT16, _UINT16, _HALF, _UINT32, _UINT64 = 14, 17, 19, 22, 23
_CONTENT = {
    _FLOAT: "f", _DOUBLE: "d", _INT32: "i", _UINT8: "B", _INT16: "h", _INT8: "b", _INT64: "q", _BOOL: "?",
    _BFLOAT16: "H", _UINT16: "H", _HALF: "e", _UINT32: "I", _UINT64: "Q",
}  # fmt: skip
_LISTS = {
    _FLOAT: (5, "f"), _DOUBLE: (6, "d"), _INT32: (7, "v"), _UINT8: (7, "v"), _INT16: (7, "v"), _INT8: (7, "v"),
    _INT64: (10, "v"), _BOOL: (11, "v"), _BFLOAT16: (13, "v"), _UINT16: (7, "v"), _HALF: (13, "v"),
    _UINT32: (16, "v"), _UINT64: (17, "v"),
}  # fmt: skip


def _tensor(tag: str, plugin: str, tensor: Dict[int, List[Value]]) -> Optional[Anything]:
    kind = whole(tensor, 1)
    if kind == _STRING:
        return _strings(tag, plugin, [value for value in tensor.get(8, ()) if isinstance(value, bytes)])
    if kind not in _CONTENT:
        return None
    if plugin == "histograms":
        values = _numbers(tensor, kind, limit=3 * MAX_BINS)
        rows = [values[place : place + 3] for place in range(0, len(values) - 2, 3)]
        if not rows:
            return None
        return Histogram(tag, [rows[0][0], *(row[1] for row in rows)], [row[2] for row in rows])
    if plugin not in ("", "scalars"):
        return None
    if plugin == "" and _rank(tensor) > 0:
        return None
    values = _numbers(tensor, kind, limit=1)
    return Scalar(tag, values[0]) if values else None


def _numbers(tensor: Dict[int, List[Value]], kind: int, *, limit: int) -> List[float]:
    content = part(tensor, 4)
    code = _CONTENT[kind]
    if content:
        size = struct.calcsize("<" + code)
        count = min(len(content) // size, limit)
        found = [float(value) for value in struct.unpack_from("<%d%s" % (count, code), content)]
        return [_from_bfloat16(int(value)) for value in found] if kind == _BFLOAT16 else found
    number, code = _LISTS[kind]
    values = numbers(tensor.get(number, []), code)[:limit]
    if kind == _HALF:
        return [float(struct.unpack("<e", struct.pack("<H", int(value) & 0xFFFF))[0]) for value in values]
    if kind == _BFLOAT16:
        return [_from_bfloat16(int(value)) for value in values]
    return [float(value) for value in values]


def _from_bfloat16(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", (bits & 0xFFFF) << 16))[0])


def _rank(tensor: Dict[int, List[Value]]) -> int:
    return len(message(part(tensor, 2)).get(2, ()))


def _strings(tag: str, plugin: str, strings: List[bytes]) -> Optional[Anything]:
    if plugin == "images" and len(strings) >= 3:
        # Width, height, then one or more pictures: the first, as its own tag.
        return Image(tag, strings[2], _size(_int(strings[0])), _size(_int(strings[1])))
    if plugin == "audio" and strings:
        return Audio(tag, strings[0], "audio/wav")
    if plugin in ("text", "") and strings:
        tag = tag[: -len("/text_summary")] if tag.endswith("/text_summary") else tag
        return Text(tag, "\n".join(found.decode("utf-8", "replace") for found in strings[:100]))
    return None


def _int(data: bytes) -> int:
    try:
        return int(data[:12])
    except ValueError:
        return 0


def _size(value: int) -> int:
    return value if 0 <= value < 2**31 else 0


def _histogram(tag: str, histo: Dict[int, List[Value]]) -> Optional[Histogram]:
    """Right edges and counts become edges; the outer ones, which may be the largest numbers there are, the true ones."""
    limits = numbers(histo.get(6, []), "d")
    counts = numbers(histo.get(7, []), "d")
    if not limits or len(limits) != len(counts) or len(limits) > MAX_BINS:
        return None
    low = double(histo[1][-1]) if 1 in histo else limits[0]
    high = double(histo[2][-1]) if 2 in histo else limits[-1]
    # Empty bins at the outside say nothing.
    first, last = 0, len(counts)
    while first < last - 1 and not counts[first]:
        first += 1
    while last > first + 1 and not counts[last - 1]:
        last -= 1
    edges = [limits[first - 1] if first else min(low, limits[0]), *limits[first:last]]
    edges[0] = max(edges[0], low) if low <= edges[1] else edges[0]
    edges[-1] = min(edges[-1], high) if high >= edges[-2] else edges[-1]
    return Histogram(tag, edges, counts[first:last])


def _hparams(content: bytes) -> Optional[HParams]:
    start = part(message(content), 3)
    values: Dict[str, Any] = {}
    for number, kind, value in fields(start):
        if number == 1 and kind == BYTES and isinstance(value, bytes):
            entry = message(value)
            name = text(entry, 1)
            for inner, inner_kind, one in fields(part(entry, 2)):
                if inner == 2 and inner_kind == FIXED64:
                    real = double(one)
                    is_whole = real.is_integer() and abs(real) < 2**53
                    values[name] = int(real) if is_whole else real
                elif inner == 3 and isinstance(one, bytes):
                    values[name] = one.decode("utf-8", "replace")
                elif inner == 4:
                    values[name] = bool(one)
    return HParams(values) if values else None


def is_event_file(name: str) -> bool:
    """Whether a file of this name may be one of TensorBoard's."""
    return ".tfevents." in name and not name.endswith((".profile-empty", ".tmp"))
