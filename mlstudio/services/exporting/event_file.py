"""Writing TensorBoard's event files: TFRecords of ``tensorflow.Event``.

Messages as ``tensorboard/compat/proto/{event,summary,tensor,histogram}.proto`` and ``plugins/hparams/plugin_data.proto``
define them. Scalars are written many at once: records of one series with steps of one length differ in a few bytes only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from itertools import pairwise
from typing import IO

import numpy as np
import numpy.typing as npt

from mlstudio.services.importing.crc32c import masked_crc, masked_crcs

_DT_FLOAT, _DT_DOUBLE, _DT_STRING = 1, 2, 7
_ROWS_AT_ONCE = 16_384
_STATUS = {"success": 1, "failure": 2, "running": 3}


class EventWriter:
    """Writes one event file to an open binary file."""

    def __init__(self, file: IO[bytes], *, wall_time: float) -> None:
        self._file = file
        self._record(_double(1, wall_time) + _text(3, "brain.Event:2"))

    def scalars(
        self,
        tag: str,
        steps: npt.NDArray[np.int64],
        times: npt.NDArray[np.float64],
        values: npt.NDArray[np.float64],
    ) -> None:
        """A whole series. Values that single precision cannot hold make it one of double precision, so that none
        changes."""
        with np.errstate(over="ignore", invalid="ignore"):
            single = values.astype("<f4")
        is_exact = np.array_equal(single.astype(np.float64), values, equal_nan=True)
        if is_exact:
            before = _text(1, tag) + b"\x15"
            after = b""
            packed = single.view(np.uint8).reshape(-1, 4)
        else:
            # A tensor of rank 0: DT_DOUBLE, an empty shape, one double_val.
            tensor = _number(1, _DT_DOUBLE) + _bytes(2, b"")
            before = _text(1, tag) + b"\x42" + _varint(len(tensor) + 10) + tensor + b"\x32\x08"
            after = _bytes(9, _metadata("scalars", data_class=1))
            packed = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
        for low in range(0, len(values), _ROWS_AT_ONCE):
            part = slice(low, low + _ROWS_AT_ONCE)
            self._rows(steps[part], times[part], packed[part], before, after)

    def _rows(
        self,
        steps: npt.NDArray[np.int64],
        times: npt.NDArray[np.float64],
        packed: npt.NDArray[np.uint8],
        before: bytes,
        after: bytes,
    ) -> None:
        value = len(before) + packed.shape[1] + len(after)
        head = b"\x0a" + _varint(value) + before
        head = b"\x2a" + _varint(len(head) + packed.shape[1] + len(after)) + head
        seconds = np.ascontiguousarray(times, "<f8").view(np.uint8).reshape(-1, 8)
        varints = [_varint(step) for step in steps.tolist()]
        lengths = np.array([len(varint) for varint in varints])
        # Stretches of steps of one length: nearly always one or two.
        edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
        for low, high in pairwise(edges):
            width = int(lengths[low])
            length = 9 + 1 + width + len(head) + packed.shape[1] + len(after)
            prefix = struct.pack("<Q", length)
            prefix += struct.pack("<I", masked_crc(prefix))
            blocks = (
                _same(prefix + b"\x09"),
                seconds[low:high],
                _same(b"\x10"),
                np.frombuffer(b"".join(varints[low:high]), np.uint8).reshape(-1, width),
                _same(head),
                packed[low:high],
                _same(after),
            )
            rows = np.empty((high - low, 12 + length + 4), np.uint8)
            place = 0
            for block in blocks:
                rows[:, place : place + block.shape[1]] = block
                place += block.shape[1]
            rows[:, -4:] = masked_crcs(rows[:, 12:-4]).astype("<u4").view(np.uint8).reshape(-1, 4)
            self._file.write(rows.tobytes())

    def text(self, tag: str, step: int, time: float, text: str) -> None:
        tensor = _number(1, _DT_STRING) + _bytes(2, b"") + _bytes(8, text.encode())
        self._value(tag, step, time, _bytes(8, tensor) + _bytes(9, _metadata("text", data_class=2)))

    def image(self, tag: str, step: int, time: float, data: bytes, *, width: int, height: int) -> None:
        image = _number(1, height) + _number(2, width) + _number(3, 3) + _bytes(4, data)
        self._value(tag, step, time, _bytes(4, image))

    def histogram(self, tag: str, step: int, time: float, data: bytes) -> bool:
        """A histogram as the history keeps it; False if it is none."""
        try:
            found = json.loads(data)
            edges, counts = np.array(found["edges"], "<f8"), np.array(found["counts"], "<f8")
            if edges.ndim != 1 or len(edges) != len(counts) + 1:
                return False
        except (ValueError, TypeError, KeyError):
            return False
        # Rows of left edge, right edge, count.
        rows = np.stack([edges[:-1], edges[1:], counts], axis=1).astype("<f8")
        shape = b"".join(_bytes(2, _number(1, size)) for size in rows.shape)
        tensor = _number(1, _DT_DOUBLE) + _bytes(2, shape) + _bytes(4, rows.tobytes())
        self._value(tag, step, time, _bytes(8, tensor) + _bytes(9, _metadata("histograms", data_class=2)))
        return True

    def hparams(
        self, parameters: Mapping[str, str], *, name: str, status: str, started: float, ended: float | None
    ) -> None:
        """The run's parameters, and how it ended, for the page HParams."""
        entries = b"".join(
            _bytes(1, _text(1, key) + _bytes(2, _parameter(value))) for key, value in parameters.items()
        )
        start = entries + _text(4, name) + _double(5, started)
        self._hparams("_hparams_/session_start_info", _bytes(3, start), started)
        if ended is not None and status in _STATUS:
            end = _number(1, _STATUS[status]) + _double(2, ended)
            self._hparams("_hparams_/session_end_info", _bytes(4, end), ended)

    def _hparams(self, tag: str, content: bytes, time: float) -> None:
        null_tensor = _number(1, _DT_FLOAT) + _bytes(2, b"")
        self._value(tag, 0, time, _bytes(8, null_tensor) + _bytes(9, _metadata("hparams", content=content)))

    def _value(self, tag: str, step: int, time: float, rest: bytes) -> None:
        self._record(_double(1, time) + _number(2, step) + _bytes(5, _bytes(1, _text(1, tag) + rest)))

    def _record(self, payload: bytes) -> None:
        length = struct.pack("<Q", len(payload))
        self._file.write(
            length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", masked_crc(payload))
        )


def _same(data: bytes) -> npt.NDArray[np.uint8]:
    """Bytes that stand in every row."""
    return np.frombuffer(data, np.uint8)[None, :]


def _metadata(plugin: str, *, content: bytes = b"", data_class: int = 0) -> bytes:
    data = _text(1, plugin) + (_bytes(2, content) if content else b"")
    return _bytes(1, data) + (_number(4, data_class) if data_class else b"")


def _parameter(value: str) -> bytes:
    """A google.protobuf.Value: a number or truth value where the text is exactly that, else the text."""
    if value in ("true", "false"):
        return _number(4, int(value == "true"))
    try:
        number = float(value)
    except ValueError:
        return _text(3, value)
    is_same = repr(number) == value or (
        number.is_integer() and abs(number) < 2**53 and str(int(number)) == value
    )
    return _double(2, number) if is_same else _text(3, value)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode("utf-8", "replace"))
