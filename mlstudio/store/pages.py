"""Rows of a SQLite file that SQLite itself refuses to read: page by page, each as far as it makes sense.

Reads only. Follows https://www.sqlite.org/fileformat2.html: a table's rows lie in the leaves of a tree of pages (kind
13; kind 10 where the table has no row numbers), large ones go on in a chain of overflow pages, and the latest pages may
still stand in the write-ahead log. Nothing here trusts a number that the file says: a page that contradicts itself gives
what it can and no more.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

Value = int | float | str | bytes | None

_LEAF_TABLE, _INNER_TABLE = 13, 5
_LEAF_INDEX, _INNER_INDEX = 10, 2
_USUAL_PAGE = 4096
_MOST_COLUMNS = 2000
_LOG_MAGIC = (0x377F0682, 0x377F0683)
_LOG_HEAD, _FRAME_HEAD = 32, 24
_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in its page. `number` is the row's own number; None in a table without them."""

    number: int | None
    values: tuple[Value, ...]


class Pages:
    """The pages of the database at `path`, those of its write-ahead log first. A context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        size = os.fstat(self._file.fileno()).st_size
        self._data: mmap.mmap | bytes = (
            mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        )
        head = bytes(self._data[:100])
        page = struct.unpack(">H", head[16:18])[0] if len(head) == 100 else 0
        page = 65536 if page == 1 else page
        is_sound = head.startswith(b"SQLite format 3\x00") and page >= 512 and not page & (page - 1)
        self.page_bytes = page if is_sound else _USUAL_PAGE
        reserved = head[20] if is_sound else 0
        self._usable = self.page_bytes - reserved if self.page_bytes - reserved >= 480 else self.page_bytes
        self.schema = struct.unpack(">I", head[60:64])[0] if is_sound else 0
        """``PRAGMA user_version``; 0 where the header is gone."""
        self._logged = _read_log(path.with_name(path.name + "-wal"), self.page_bytes)
        if 1 in self._logged and self._logged[1].startswith(b"SQLite format 3\x00"):
            self.schema = struct.unpack(">I", self._logged[1][60:64])[0]
        self.count = max([len(self._data) // self.page_bytes, *self._logged], default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if isinstance(self._data, mmap.mmap):
            self._data.close()
        self._file.close()

    def page(self, number: int) -> bytes:
        """A page's bytes; empty if there is no such page."""
        logged = self._logged.get(number)
        if logged is not None:
            return logged
        begin = (number - 1) * self.page_bytes
        if number < 1 or begin + self.page_bytes > len(self._data):
            return b""
        return bytes(self._data[begin : begin + self.page_bytes])

    def tables(self) -> dict[str, int]:
        """The root page of each table by name, from the table of contents; empty where that is gone."""
        found: dict[str, int] = {}
        for row in self.rows(1, set()):
            if len(row.values) < 5:
                continue
            kind, name, _, root, _ = row.values[:5]
            if kind == "table" and isinstance(name, str) and isinstance(root, int) and 1 < root <= self.count:
                found[name] = root
        return found

    def rows(self, root: int, seen: set[int]) -> Iterator[Row]:
        """The rows of the tree below the page `root`, in the tree's order. Pages that were read are added to `seen`."""
        waiting = [(root, 0)]
        while waiting:
            number, depth = waiting.pop()
            if number in seen or depth > _DEEPEST:
                continue
            page = self.page(number)
            head = 100 if number == 1 else 0
            kind = page[head] if len(page) > head + 12 else 0
            if kind not in (_LEAF_TABLE, _INNER_TABLE, _LEAF_INDEX, _INNER_INDEX):
                continue
            seen.add(number)
            if kind in (_INNER_TABLE, _INNER_INDEX):
                below = [struct.unpack_from(">I", page, head + 8)[0]]
                below.extend(
                    struct.unpack_from(">I", page, cell)[0] for cell in reversed(_cells(page, head, 12))
                )
                waiting.extend((child, depth + 1) for child in below)
            if kind != _INNER_TABLE:
                yield from self._rows_of(page, head, kind)

    def loose_leaves(self, seen: set[int]) -> Iterator[tuple[int, bool]]:
        """(number, has row numbers) of pages that look like leaves and hang from no tree that was read, and that are not
        free."""
        free = self._free_pages()
        for number in range(2, self.count + 1):
            if number in seen or number in free:
                continue
            page = self.page(number)
            if page and page[0] in (_LEAF_TABLE, _LEAF_INDEX) and _looks_sound(page):
                yield number, page[0] == _LEAF_TABLE

    def rows_of_leaf(self, number: int) -> list[Row]:
        page = self.page(number)
        return list(self._rows_of(page, 0, page[0])) if page else []

    def _rows_of(self, page: bytes, head: int, kind: int) -> Iterator[Row]:
        for cell in _cells(page, head, 12 if kind == _INNER_INDEX else 8):
            try:
                place = cell + 4 if kind == _INNER_INDEX else cell
                size, place = _varint(page, place)
                number: int | None = None
                if kind == _LEAF_TABLE:
                    number, place = _varint(page, place)
                    number = number - 2**64 if number >= 2**63 else number
                payload = self._payload(page, place, size, is_table=kind == _LEAF_TABLE)
                values = _record(payload)
            except (ValueError, IndexError, struct.error):
                continue
            yield Row(number, values)

    def _payload(self, page: bytes, place: int, size: int, *, is_table: bool) -> bytes:
        usable = self._usable
        most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        if size <= most:
            if place + size > len(page):
                raise ValueError("a row beyond its page")
            return page[place : place + size]
        least = (usable - 12) * 32 // 255 - 23
        here = least + (size - least) % (usable - 4)
        here = here if here <= most else least
        if size > self.count * self.page_bytes:
            raise ValueError("a row larger than the file")
        parts = [page[place : place + here]]
        left = size - here
        following = struct.unpack_from(">I", page, place + here)[0]
        passed = set()
        while left > 0:
            if following in passed:
                raise ValueError("a chain that bites its tail")
            passed.add(following)
            further = self.page(following)
            if not further:
                raise ValueError("a chain that breaks off")
            part = further[4 : min(usable, 4 + left)]
            parts.append(part)
            left -= len(part)
            following = struct.unpack_from(">I", further)[0]
        return b"".join(parts)

    def _free_pages(self) -> set[int]:
        first = self.page(1)
        free: set[int] = set()
        if not first.startswith(b"SQLite format 3\x00"):
            return free
        trunk = struct.unpack_from(">I", first, 32)[0]
        while trunk and trunk not in free:
            page = self.page(trunk)
            if not page:
                break
            free.add(trunk)
            trunk, count = struct.unpack_from(">II", page)
            if count > len(page) // 4 - 2:
                break
            free.update(struct.unpack_from(f">{count}I", page, 8))
        return free


def _cells(page: bytes, head: int, pointers: int) -> list[int]:
    """Where the page's cells begin, those that lie in it."""
    count = struct.unpack_from(">H", page, head + 3)[0]
    count = min(count, (len(page) - head - pointers) // 2)
    found = struct.unpack_from(f">{count}H", page, head + pointers)
    return [cell for cell in found if head + pointers + 2 * count <= cell < len(page) - 3]


def _looks_sound(page: bytes) -> bool:
    count = struct.unpack_from(">H", page, 3)[0]
    return bool(0 < count <= len(page) // 4 and len(_cells(page, 0, 8)) == count)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for step in range(9):
        byte = data[place + step]
        if step == 8:
            return (value << 8) | byte, place + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, place + step + 1
    raise AssertionError


def _record(data: bytes) -> tuple[Value, ...]:
    """The values of a record. Raises ValueError, IndexError, struct.error."""
    head, place = _varint(data, 0)
    if head > len(data):
        raise ValueError("a record's head beyond its end")
    kinds = []
    while place < head:
        kind, place = _varint(data, place)
        kinds.append(kind)
        if len(kinds) > _MOST_COLUMNS:
            raise ValueError("too many columns")
    at = head
    values: list[Value] = []
    for kind in kinds:
        value, size = _value(data, at, kind)
        at += size
        if at > len(data):
            raise ValueError("a value beyond its record")
        values.append(value)
    if at != len(data):
        raise ValueError("a record that is longer than its values")
    return tuple(values)


_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def _value(data: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, 0
    if kind in _INTEGER_BYTES:
        size = _INTEGER_BYTES[kind]
        return int.from_bytes(data[at : at + size], "big", signed=True), size
    if kind == 7:
        return struct.unpack_from(">d", data, at)[0], 8
    if kind in (8, 9):
        return kind - 8, 0
    if kind >= 12:
        size = (kind - 12) // 2
        part = data[at : at + size]
        return (part if kind % 2 == 0 else part.decode("utf-8")), size
    raise ValueError("a reserved kind of value")


def _read_log(path: Path, page_bytes: int) -> dict[int, bytes]:
    """The pages that stand in the write-ahead log, up to its last whole transaction."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    if len(data) < _LOG_HEAD:
        return {}
    magic, _, page, _, salt, salt2, sum1, sum2 = struct.unpack_from(">8I", data)
    if magic not in _LOG_MAGIC or page != page_bytes:
        return {}
    order = ">" if magic & 1 else "<"
    sums = _checksum(data[:24], order, (0, 0))
    if sums != (sum1, sum2):
        return {}
    found: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    place = _LOG_HEAD
    while place + _FRAME_HEAD + page_bytes <= len(data):
        number, size, frame_salt, frame_salt2, sum1, sum2 = struct.unpack_from(">6I", data, place)
        if (frame_salt, frame_salt2) != (salt, salt2):
            break
        body = data[place + _FRAME_HEAD : place + _FRAME_HEAD + page_bytes]
        sums = _checksum(data[place : place + 8], order, sums)
        sums = _checksum(body, order, sums)
        if sums != (sum1, sum2):
            break
        pending[number] = body
        if size:
            found.update(pending)
            pending = {}
        place += _FRAME_HEAD + page_bytes
    return found


def _checksum(data: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for place in range(0, len(words), 2):
        first = (first + words[place] + second) & 0xFFFFFFFF
        second = (second + words[place + 1] + first) & 0xFFFFFFFF
    return first, second
