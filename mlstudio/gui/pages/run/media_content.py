"""What a medium's bytes are, made ready to be shown. They come from a container: whatever they hold, this ends well.

Nothing here touches a widget; it may take a moment and belongs on a worker thread.
"""

from __future__ import annotations

import csv
import io
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QSize, Qt
from PySide6.QtGui import QImage, QImageReader

from mlstudio.gui.figures import bytes_text
from mlstudio.gui.plots.smoothing import Floats
from mlstudio.model.run import MediaItem

MOST_PIXELS = 40_000_000
ALLOCATION_MB = 256
"""What decoding an image may take; Qt refuses beyond it."""
LARGEST_SIDE = 2400
"""Larger images are scaled down: no window shows more."""
MOST_BINS = 100_000
MOST_ROWS = 20_000
MOST_COLUMNS = 200
MOST_TEXT = 2_000_000
LONGEST_CELL = 400

# Formats whose decoders are safe to feed with bytes of strangers; no others are tried, whatever plugins Qt has.
_FORMATS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF87a", "gif"), (b"GIF89a", "gif"))
_ENDINGS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/bmp": "bmp",
    "image/svg+xml": "svg",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/html": "html",
    "text/csv": "csv",
    "application/json": "json",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
}
_SOUNDS = ((b"RIFF", "wav"), (b"fLaC", "flac"), (b"OggS", "ogg"), (b"ID3", "mp3"), (b"\xff\xfb", "mp3"))
_qt_limit = threading.Lock()


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image; `full` is its size as it was logged, `frames` more than 1 for an animation."""

    image: QImage
    full: QSize
    frames: int = 1


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges, of which there is one more."""

    edges: Floats
    counts: Floats
    more: Mapping[str, float] = field(default_factory=dict)
    """``min``, ``max``, ``sum``, ``num`` where they were logged."""


@dataclass(frozen=True, slots=True)
class Words:
    text: str
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """A table. `total` rows were logged, `rows` are the first of them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: int


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound, which other programs play. `ending` is its file's, empty if it is none that is known."""

    ending: str


@dataclass(frozen=True, slots=True)
class Unshown:
    """What cannot be shown here, and why, in a sentence."""

    why: str


Content = Picture | Histogram | Words | Rows | Sound | Unshown


def content_of(item: MediaItem, data: bytes) -> Content:
    """What `data` holds, by the item's kind. Never raises for what stands in it."""
    try:
        match item.kind:
            case "image":
                return picture_of(data)
            case "histogram":
                return _histogram_of(data)
            case "text":
                return _words_of(data)
            case "table":
                return _rows_of(data, item.mime)
            case "audio":
                return Sound(_sound_ending(data))
            case _:
                return Unshown(
                    f"ML Studio does not know how to show “{item.kind[:40]}”. It can be saved to a file."
                )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, csv.Error):
        kind = {"table": "table", "histogram": "histogram"}.get(item.kind, "file")
        return Unshown(
            f"It was logged as a {kind}, but it is not written like one. It can be saved to a file."
        )


def picture_of(data: bytes) -> Picture | Unshown:
    """The image in `data`, at most `LARGEST_SIDE` high and wide. Only PNG, JPEG and GIF are decoded."""
    known = next((name for magic, name in _FORMATS if data.startswith(magic)), "")
    if not known:
        return Unshown("Only PNG, JPEG and GIF are shown here. It can be saved to a file.")
    with _qt_limit:
        if QImageReader.allocationLimit() != ALLOCATION_MB:
            QImageReader.setAllocationLimit(ALLOCATION_MB)
    buffer = QBuffer()
    buffer.setData(QByteArray(data))
    buffer.open(QIODevice.OpenModeFlag.ReadOnly)
    reader = QImageReader(buffer, QByteArray(known.encode()))
    reader.setAutoDetectImageFormat(False)
    reader.setDecideFormatFromContent(False)
    size = reader.size()
    if not size.isValid() or size.width() <= 0 or size.height() <= 0:
        return Unshown(f"The {known.upper()} file is damaged. It can be saved to a file.")
    if size.width() * size.height() > MOST_PIXELS:
        return Unshown(
            f"The image is too large to be shown: {size.width():,} × {size.height():,} pixels. "
            "It can be saved to a file."
        )
    # An animation's frames are counted by decoding all of them; whether there is a second one is enough.
    reader.setAutoTransform(True)
    image = reader.read()
    if image.isNull():
        return Unshown(f"The {known.upper()} file is damaged or not complete. It can be saved to a file.")
    frames = 2 if known == "gif" and reader.supportsAnimation() and reader.canRead() else 1
    full = image.size()
    if max(full.width(), full.height()) > LARGEST_SIDE:
        image = image.scaled(
            LARGEST_SIDE,
            LARGEST_SIDE,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
    return Picture(image, full, frames)


def file_ending(item: MediaItem, data: bytes = b"") -> str:
    """The ending of a file that holds the medium: by what it says to be, or by its first bytes."""
    known = next((name for magic, name in _FORMATS if data.startswith(magic)), "")
    if item.kind == "image" and known:
        return "jpg" if known == "jpeg" else known
    if item.kind == "audio" and _sound_ending(data):
        return _sound_ending(data)
    return _ENDINGS.get(item.mime.partition(";")[0].strip().lower(), "bin")


def file_name(item: MediaItem, data: bytes = b"") -> str:
    """A file name that no system minds: ``samples-digits-step-400.png``."""
    plain = "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in item.name)
    plain = "-".join(part for part in plain.split("-") if part.strip(".")) or item.kind or "file"
    return f"{plain[:80]}-step-{item.step}.{file_ending(item, data)}"


def _histogram_of(data: bytes) -> Content:
    found = _json(data)
    if not isinstance(found, dict):
        raise ValueError("no object")
    edges = np.asarray(_numbers(found["edges"]), dtype=np.float64)
    counts = np.asarray(_numbers(found["counts"]), dtype=np.float64)
    if counts.size < 1 or counts.size > MOST_BINS or edges.size != counts.size + 1:
        raise ValueError("edges and counts do not fit")
    if not (np.all(np.isfinite(edges)) and np.all(np.isfinite(counts)) and np.all(np.diff(edges) >= 0)):
        raise ValueError("no rising numbers")
    more = {
        key: float(found[key])
        for key in ("min", "max", "sum", "num")
        if isinstance(found.get(key), int | float) and math.isfinite(found[key])
    }
    return Histogram(edges, counts, more)


def _words_of(data: bytes) -> Words:
    text = data[: 4 * MOST_TEXT].decode("utf-8", "replace").replace("\0", "\ufffd")
    return Words(text[:MOST_TEXT], len(text) > MOST_TEXT or len(data) > 4 * MOST_TEXT)


def _rows_of(data: bytes, mime: str) -> Content:
    if mime.startswith("text/csv"):
        lines = list(csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline="")))
        return _table(lines[0] if lines else (), lines[1:])
    found = _json(data)
    if isinstance(found, dict) and isinstance(found.get("data"), list):
        # Weights & Biases: names and rows; pandas writes the same shape with "split".
        columns = found.get("columns")
        return _table(columns if isinstance(columns, list) else (), found["data"])
    if isinstance(found, dict) and found and all(isinstance(column, list) for column in found.values()):
        longest = max(len(column) for column in found.values())
        wanted = list(found.values())[:MOST_COLUMNS]
        rows = [
            [column[row] if row < len(column) else None for column in wanted]
            for row in range(min(longest, MOST_ROWS))
        ]
        return _table(list(found), rows, total=longest)
    if isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
        names = list(dict.fromkeys(str(name) for row in found[:1000] for name in row))
        return _table(
            names, [[row.get(name) for name in names] for row in found[:MOST_ROWS]], total=len(found)
        )
    if isinstance(found, list):
        return _table((), found)
    raise ValueError("no table")


def _table(columns: Sequence[object], rows: Sequence[object], *, total: int | None = None) -> Rows:
    shown = [row if isinstance(row, list | tuple) else [row] for row in rows[:MOST_ROWS]]
    width = min(MOST_COLUMNS, max([len(columns), *(len(row) for row in shown)], default=0))
    if not width:
        raise ValueError("an empty table")
    titles = [_cell(name) for name in columns[:width]]
    titles += [f"column {place + 1}" for place in range(len(titles), width)]
    cells = tuple(
        tuple(_cell(row[place]) if place < len(row) else "" for place in range(width)) for row in shown
    )
    return Rows(tuple(titles), cells, len(rows) if total is None else total)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            text = value
        case float():
            text = f"{value:.6g}"
        case int():
            text = str(value) if abs(value) < 10**30 else f"{float(value):.6g}"
        case dict() if isinstance(value.get("_type"), str):
            # Weights & Biases keeps the files of cells beside the table.
            text = f"({value['_type']})"
        case _:
            text = json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_CELL else text[:LONGEST_CELL] + "…"


def _sound_ending(data: bytes) -> str:
    return next((ending for magic, ending in _SOUNDS if data.startswith(magic)), "")


def _json(data: bytes) -> Any:
    return json.loads(data.decode("utf-8", "replace"))


def _numbers(value: object) -> list[float]:
    if not isinstance(value, list) or len(value) > MOST_BINS + 1:
        raise ValueError("no list of numbers")
    return [float(item) for item in value]


def size_words(item: MediaItem) -> str:
    return bytes_text(item.size_bytes)
