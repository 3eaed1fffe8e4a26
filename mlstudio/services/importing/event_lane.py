"""Event files at speed: the framing of TFRecords, their checksums, and the scalars that look like one seen before.

A record is ``length (u64) | masked CRC32C of it | payload | masked CRC32C of that``, all little endian. A file of a
million scalars holds a few kinds of records that differ only in the time, the step and the four (or eight) bytes of the
value. So the first record of a kind is parsed by `mlstudio.probe.tfevents`; where its value lies is found by changing it
and parsing again; and the next ones are read by cutting at that place. Checksums are computed by NumPy for all records of
one length at once. Everything else goes the slow way.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mlstudio.probe.tfevents import MAX_RECORD_BYTES
from mlstudio.services.importing.crc32c import masked_crc, masked_crcs

_LENGTH = struct.Struct("<Q")
_TIME = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")
_HEAD = 12
_FOOT = 4
_MAX_KINDS = 200_000
_MAX_CUTS = 8
_AT_ONCE = 4096
"""Rows whose checksums are computed at once, so that they stay in the processor's cache."""

ParseScalar = Callable[[bytes], "tuple[str, float] | None"]
"""(tag, value) of an event that holds exactly one scalar; None for any other."""


@dataclass(frozen=True, slots=True)
class Records:
    """Whole records at the beginning of some bytes."""

    starts: list[int]
    """Where the payloads begin."""
    lengths: list[int]
    consumed: int
    """How many bytes they and what is damaged before them take."""
    damaged: int
    """Records, or stretches, whose checksums are wrong."""


def split(data: bytes) -> Records:
    """The whole, sound records in `data`. After damage it goes on at the next place that can be a record's beginning."""
    starts: list[int] = []
    lengths: list[int] = []
    damaged = 0
    place = 0
    size = len(data)
    unpack = _LENGTH.unpack_from
    while place + _HEAD <= size:
        first = len(starts)
        # As long as lengths are likely, nothing is checked: that is done for many at once.
        while place + _HEAD <= size:
            (length,) = unpack(data, place)
            end = place + _HEAD + length + _FOOT
            if length > MAX_RECORD_BYTES or end > size:
                break
            starts.append(place + _HEAD)
            lengths.append(length)
            place = end
        good = _sound_heads(data, starts, first)
        if good < len(starts):
            place = starts[good] - _HEAD
            del starts[good:], lengths[good:]
        elif place + _HEAD > size or _is_head(data, place):
            break  # the end, or a record that has not all come yet
        damaged += 1
        place = _next_head(data, place + 1)
    starts, lengths, wrong = _sound_payloads(data, starts, lengths)
    return Records(starts, lengths, min(place, size), damaged + wrong)


def _is_head(data: bytes, place: int) -> bool:
    (length,) = _LENGTH.unpack_from(data, place)
    found = int.from_bytes(data[place + 8 : place + 12], "little")
    return length <= MAX_RECORD_BYTES and masked_crc(data[place : place + 8]) == found


def _sound_heads(data: bytes, starts: list[int], first: int) -> int:
    """The index, from `first` on, of the first record whose length is not what its checksum says."""
    if first == len(starts):
        return first
    flat = np.frombuffer(data, np.uint8)
    places = np.array(starts[first:], np.int64) - _HEAD
    wrong = []
    for low in range(0, len(places), _AT_ONCE):
        rows = flat[places[low : low + _AT_ONCE, None] + np.arange(_HEAD)]
        found = np.ascontiguousarray(rows[:, 8:]).view("<u4")[:, 0]
        wrong = np.flatnonzero(masked_crcs(rows[:, :8]) != found).tolist()
        if wrong:
            return first + low + int(wrong[0])
    return len(starts)


def _sound_payloads(data: bytes, starts: list[int], lengths: list[int]) -> tuple[list[int], list[int], int]:
    flat = np.frombuffer(data, np.uint8)
    all_starts = np.array(starts, np.int64)
    all_lengths = np.array(lengths, np.int64)
    bad: list[int] = []
    order = np.argsort(all_lengths, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(all_lengths[order])) + 1) if len(order) else ():
        length = int(all_lengths[group[0]])
        if length > 4096 and len(group) < 64:
            for place in group.tolist():
                start = starts[place]
                found = int.from_bytes(data[start + length : start + length + _FOOT], "little")
                if masked_crc(data[start : start + length]) != found:
                    bad.append(place)
            continue
        step = max(1, min(_AT_ONCE, 8 * 1024 * 1024 // (length + _FOOT)))
        for low in range(0, len(group), step):
            part = group[low : low + step]
            rows = flat[all_starts[part, None] + np.arange(length + _FOOT)]
            right = np.ascontiguousarray(rows[:, length:]).view("<u4")[:, 0]
            bad.extend(part[masked_crcs(rows[:, :length]) != right].tolist())
    for place in sorted(bad, reverse=True):
        del starts[place], lengths[place]
    return starts, lengths, len(bad)


def _next_head(data: bytes, place: int) -> int:
    """The next place whose twelve bytes are a length and its checksum; the end, less what may become one."""
    flat = np.frombuffer(data, np.uint8)
    block = 1024 * 1024
    while place + _HEAD <= len(data):
        stop = min(place + block, len(data) - _HEAD + 1)
        windows = np.lib.stride_tricks.sliding_window_view(flat[place : stop + _HEAD - 1], _HEAD)
        found = np.ascontiguousarray(windows[:, 8:]).view("<u4")[:, 0]
        # A length below 2^32: the upper half is zero. That leaves few to compute.
        likely = np.flatnonzero(~windows[:, 4:8].any(axis=1))
        if len(likely):
            right = likely[masked_crcs(windows[likely, :8]) == found[likely]]
            if len(right):
                return place + int(right[0])
        place = stop
    return max(place, len(data) - _HEAD + 1)


Series = dict[str, tuple["array[int]", "array[float]", "array[float]"]]


class ScalarLane:
    """Recognises scalar events by the kinds of records that it has learned."""

    def __init__(self, parse: ParseScalar) -> None:
        self._parse = parse
        self._kinds: dict[bytes, tuple[str, struct.Struct]] = {}
        self._cuts: dict[int, tuple[tuple[int, int], ...]] = {}
        """By the length of what follows the step: where values may lie, and how long they are."""
        self._steps: dict[bytes, int] = {}

    def read(self, data: bytes, records: Records, series: Series) -> Iterator[bytes]:
        """Put the scalars among the records into `series`, and give out the payloads of all other records."""
        kinds, cuts = self._kinds, self._cuts
        unpack_time = _TIME.unpack_from
        for start, length in zip(records.starts, records.lengths, strict=True):
            # An event of a scalar: 09 <time> [10 <step>] <summary>.
            if length > 20 and data[start] == 0x09:
                place = start + 9
                step = 0
                if data[place] == 0x10:
                    place += 1
                    byte = data[place]
                    if byte < 0x80:
                        step = byte
                        place += 1
                    else:
                        first = place
                        while data[place] >= 0x80 and place - first < 9:
                            place += 1
                        place += 1
                        step = self._step(data[first:place])
                rest = data[place : start + length]
                for cut, width in cuts.get(len(rest), ()):
                    kind = kinds.get(rest[:cut] + rest[cut + width :])
                    if kind is not None:
                        tag, packing = kind
                        found = series.get(tag)
                        if found is None:
                            found = series[tag] = (array("q"), array("d"), array("d"))
                        found[0].append(step)
                        found[1].append(unpack_time(data, start + 1)[0])
                        found[2].append(packing.unpack_from(rest, cut)[0])
                        break
                else:
                    payload = data[start : start + length]
                    self._learn(payload, place - start)
                    yield payload
                continue
            yield data[start : start + length]

    def _step(self, varint: bytes) -> int:
        step = self._steps.get(varint)
        if step is None:
            step = 0
            for place, byte in enumerate(varint):
                step |= (byte & 0x7F) << (7 * place)
            step &= 2**64 - 1
            step = step - 2**64 if step >= 2**63 else step
            if len(self._steps) < 100_000:
                self._steps[varint] = step
        return step

    def _learn(self, payload: bytes, place: int) -> None:
        """Find out where the value lies in a record of this kind: where a change changes it and nothing else."""
        rest = payload[place:]
        if len(rest) > 2048 or len(self._kinds) >= _MAX_KINDS:
            return
        found = self._parse(payload)
        if found is None:
            return
        tag, value = found
        for packing, probe in ((_FLOAT, 1.5), (_DOUBLE, 1.5)):
            try:
                wanted = packing.pack(value)
            except OverflowError:
                continue
            cut = rest.find(wanted)
            while cut >= 0:
                other = 2.5 if value == probe else probe
                changed = payload[: place + cut] + packing.pack(other) + payload[place + cut + packing.size :]
                if self._parse(changed) == (tag, other):
                    self._kinds[rest[:cut] + rest[cut + packing.size :]] = (tag, packing)
                    known = self._cuts.get(len(rest), ())
                    if (cut, packing.size) not in known and len(known) < _MAX_CUTS:
                        self._cuts[len(rest)] = (*known, (cut, packing.size))
                    return
                cut = rest.find(wanted, cut + 1)


def framed(payload: bytes) -> bytes:
    """A payload as a record again, for a reader that takes a file's bytes; it does not look at the payload's checksum."""
    length = _LENGTH.pack(len(payload))
    return length + masked_crc(length).to_bytes(4, "little") + payload + b"\0\0\0\0"


def scan(read: Callable[[int], bytes], *, block: int = 4 * 1024 * 1024) -> Iterator[tuple[bytes, Records]]:
    """Blocks of whole records from `read(size)`, which gives fewer bytes at the end. What is left at the end has not
    been written whole; it is not consumed."""
    rest = b""
    wanted = block
    while True:
        fresh = read(wanted)
        data = rest + fresh
        records = split(data)
        if records.starts or records.consumed:
            yield data, records
            rest = data[records.consumed :]
            wanted = block
        else:
            rest = data
            # A record longer than a block: twice as much each time, so that its bytes are not looked at again and again.
            wanted = max(block, len(data))
        if not fresh:
            return
