"""Media: histograms, images, texts that a run logged beside its numbers."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from mlstudio.model.errors import NotFound
from mlstudio.model.record import Medium
from mlstudio.model.run import MediaItem, MediaSize
from mlstudio.store.opening import BrokenPacking
from mlstudio.store.schema import media

_PACK_FROM = 256
_PACKED_KINDS = ("histogram", "text", "table")
"""Images and sounds are compressed already."""

_INSERT = """
INSERT INTO media (run, name, kind, logger, step, time, mime, width, height, caption, size_bytes, packed, data)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LISTED = [column for column in media.columns if column.name not in ("run", "packed", "data")]


def add_media(cursor: sqlite3.Cursor, number: int, found: Sequence[Medium]) -> None:
    """Put media down for the run, in their order."""
    rows = []
    for medium in found:
        data = medium.data
        is_packed = False
        if medium.kind in _PACKED_KINDS and len(data) >= _PACK_FROM:
            packed = zlib.compress(data, 6)
            if len(packed) < len(data):
                data, is_packed = packed, True
        rows.append(
            (
                number, medium.name, medium.kind, medium.logger, medium.step, medium.time, medium.mime,
                medium.width, medium.height, medium.caption, len(medium.data), int(is_packed), data,
            )
        )  # fmt: skip
    cursor.executemany(_INSERT, rows)


def read_media(
    connection: Connection,
    number: int,
    *,
    name: str | None = None,
    kind: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[MediaItem]:
    """What media there are, by name and step, without their data."""
    query = select(*_LISTED).where(media.c.run == number)
    if name is not None:
        query = query.where(media.c.name == name)
    if kind is not None:
        query = query.where(media.c.kind == kind)
    query = query.order_by(media.c.name, media.c.step, media.c.id).offset(offset)
    if limit is not None:
        query = query.limit(limit)
    return [MediaItem(**row._mapping) for row in connection.execute(query)]


def count_media(connection: Connection, number: int) -> MediaSize:
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(media.c.size_bytes), 0)).where(media.c.run == number)
    ).one()
    return MediaSize(count=row[0], size_bytes=row[1])


def read_media_data(connection: Connection, number: int, item: int) -> bytes:
    """The bytes of one medium. Raises NotFound."""
    row = connection.execute(
        select(media.c.data, media.c.packed, media.c.size_bytes).where(
            media.c.run == number, media.c.id == item
        )
    ).first()
    if row is None:
        raise NotFound("The run has no such image, histogram or text any more.", field="media")
    if not row.packed:
        return bytes(row.data)
    worker = zlib.decompressobj()
    try:
        data = worker.decompress(row.data, row.size_bytes + 1)
    except zlib.error as error:
        raise BrokenPacking(str(error)) from error
    if len(data) != row.size_bytes:
        raise BrokenPacking("a medium of another size than it should have")
    return data
