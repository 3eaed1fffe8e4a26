"""Weights & Biases' run files (``run-*.wandb``), read as they grow: history, summary, configuration, name, tags, notes.

A file is ``:W&B``, a magic number and a version (7 bytes), then a log as LevelDB writes it: blocks of 32 KiB with records
in pieces of ``CRC-32 (u32) | length (u16) | kind (u8) | data``
(https://github.com/google/leveldb/blob/main/doc/log_format.md), each record a ``Record`` protocol buffer
(wandb/proto/wandb_internal.proto). Values are JSON texts or, in newer versions, typed.
"""

from __future__ import annotations

import json
import struct
import zlib

from mlstudio.probe.protobuf import Broken, double, fields, message, part, text, whole

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, List, Optional, Tuple, Union

    from mlstudio.probe.protobuf import Value

    Record = Union["History", "Summary", "Config", "Run", "Exit"]
    Items = List[Tuple[str, Any]]

BLOCK_BYTES = 32 * 1024
MAX_RECORD_BYTES = 64 * 1024 * 1024
_IDENT, _MAGIC, _VERSION = b":W&B", 0xBEE1, 0
_FILE_HEAD = struct.Struct("<4sHB")
_PIECE = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_TYPE = "._type"
_DEEPEST = 20


class History:
    """One step of the run: (key, value) pairs; values are what JSON can say. `step` is None where the items hold it."""

    __slots__ = ("items", "step")

    def __init__(self, step: Optional[int], items: Items) -> None:
        self.step = step
        self.items = items


class Summary:
    """Values that stand for the whole run."""

    __slots__ = ("items",)

    def __init__(self, items: Items) -> None:
        self.items = items


class Config:
    __slots__ = ("items",)

    def __init__(self, items: Items) -> None:
        self.items = items


class Run:
    """What the run is called. `start_time`: UTC seconds, 0 if it is not said."""

    __slots__ = ("config", "id", "name", "notes", "project", "start_time", "tags")

    def __init__(
        self,
        id: str,
        name: str,
        project: str,
        notes: str,
        tags: List[str],
        start_time: float,
        config: Items,
    ) -> None:
        self.id = id
        self.name = name
        self.project = project
        self.notes = notes
        self.tags = tags
        self.start_time = start_time
        self.config = config


class Exit:
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code


class WandbReader:
    """Takes one file's bytes in pieces of any size. Never raises; `damaged` says that the file cannot be read on."""

    def __init__(self) -> None:
        self.damaged = ""
        """Why nothing more is read; empty: all is well."""
        self.skipped = 0
        """Records that could not be understood."""
        self._rest = b""
        self._at = 0
        """Where `_rest` begins in the file."""
        self._parts: List[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> List[Record]:
        """The records that `data` completes."""
        records: List[Record] = []
        if self.damaged:
            return records
        data = self._rest + data
        place = 0
        if self._at == 0:
            if len(data) < _FILE_HEAD.size:
                self._rest = data
                return records
            ident, magic, version = _FILE_HEAD.unpack_from(data)
            if ident != _IDENT or magic != _MAGIC:
                return self._give_up("It is no file of Weights & Biases.", records)
            if version != _VERSION:
                return self._give_up("It has version %d, which is not known." % version, records)
            place = _FILE_HEAD.size
        while True:
            left = BLOCK_BYTES - (self._at + place) % BLOCK_BYTES
            if left < _PIECE.size:
                if place + left > len(data):
                    break
                place += left
                continue
            if place + _PIECE.size > len(data):
                break
            check, length, kind = _PIECE.unpack_from(data, place)
            if not kind and not length and not check:
                # Room that was set aside and is not written yet, or the rest of a block that was left empty.
                if place + left > len(data):
                    break
                place += left
                continue
            end = place + _PIECE.size + length
            if _PIECE.size + length > left:
                return self._give_up("A record reaches beyond its block.", records)
            if end > len(data):
                break
            content = data[place + _PIECE.size : end]
            if zlib.crc32(content, zlib.crc32(data[place + 6 : place + 7])) != check:
                return self._give_up("A checksum is wrong.", records)
            place = end
            self._piece(kind, content, records)
        self._rest = data[place:]
        self._at += place
        return records

    def _give_up(self, why: str, records: List[Record]) -> List[Record]:
        self.damaged = why
        self._rest = b""
        self._parts = []
        return records

    def _piece(self, kind: int, content: bytes, records: List[Record]) -> None:
        if kind in (_FULL, _FIRST):
            self._parts, self._size = [], 0
        elif kind not in (_MIDDLE, _LAST) or not self._parts:
            self.skipped += 1
            return
        self._size += len(content)
        if self._size > MAX_RECORD_BYTES:
            # Its parts go, and so will those that are still to come.
            self._parts = []
            return
        self._parts.append(content)
        if kind in (_FULL, _LAST):
            whole_record = b"".join(self._parts)
            self._parts = []
            try:
                records.extend(_records(whole_record))
            except (Broken, ValueError, RecursionError, OverflowError):
                self.skipped += 1


def _records(data: bytes) -> List[Record]:
    found: List[Record] = []
    for number, _, value in fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 2:
            content = message(value)
            step = whole(message(part(content, 2)), 1) if 2 in content else None
            found.append(History(step, _items(content.get(1, []))))
        elif number == 3:
            found.append(Summary(_items(message(value).get(1, []))))
        elif number == 5:
            found.append(Config(_items(message(value).get(1, []))))
        elif number == 17:
            content = message(value)
            start = message(part(content, 17))
            found.append(
                Run(
                    text(content, 1),
                    text(content, 8),
                    text(content, 3),
                    text(content, 9),
                    [tag.decode("utf-8", "replace") for tag in content.get(10, ()) if isinstance(tag, bytes)],
                    whole(start, 1) + whole(start, 2) / 1e9,
                    _items(message(part(content, 4)).get(1, [])),
                )
            )
        elif number == 18:
            found.append(Exit(whole(message(value), 1)))
    return found


def _items(values: List[Value]) -> Items:
    items: Items = []
    for value in values:
        if not isinstance(value, bytes):
            continue
        content = message(value)
        key = text(content, 1)
        if not key:
            key = ".".join(
                piece.decode("utf-8", "replace") for piece in content.get(2, ()) if isinstance(piece, bytes)
            )
        if not key:
            continue
        try:
            items.append((key, _value(content)))
        except (ValueError, RecursionError):
            continue
    return items


def _value(content: Dict[int, List[Value]]) -> Any:
    if 16 in content:
        return json.loads(text(content, 16))
    if 6 in content:
        return double(content[6][-1])
    if 5 in content:
        # Zigzag: small negative numbers are small.
        coded = whole(content, 5) & 0xFFFFFFFFFFFFFFFF
        return (coded >> 1) ^ -(coded & 1)
    if 4 in content:
        return bool(whole(content, 4))
    if 7 in content:
        return text(content, 7)
    if 8 in content:
        return json.loads(text(content, 8))
    if 3 in content:
        return None
    # A typed value of zero may be left out on the wire; without any there is nothing to say.
    raise ValueError("no value")


def with_media(items: Dict[str, Any]) -> Dict[str, Any]:
    """Media as one object each: newer versions write their parts as ``picture._type``, ``picture.path``, …"""
    heads = {name[: -len(_TYPE)] for name in items if name.endswith(_TYPE)}
    if not heads:
        return items
    found: Dict[str, Any] = {}
    for name, value in items.items():
        pieces = name.split(".")
        for count in range(1, min(len(pieces), _DEEPEST)):
            head = ".".join(pieces[:count])
            if head in heads:
                _put(found.setdefault(head, {}), pieces[count:], value)
                break
        else:
            found[name] = value
    return found


def _put(place: Any, names: List[str], value: Any) -> None:
    for name in names[:-1]:
        if not isinstance(place, dict):
            return
        place = place.setdefault(name, {})
    if isinstance(place, dict):
        place[names[-1]] = value
