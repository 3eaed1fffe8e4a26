"""Values as W&B and trackio log them: numbers, texts, and objects with a ``_type`` that are media."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from mlstudio.services.importing.source import Gatherer
from mlstudio.services.importing.values import parse_number

OpenFile = Callable[[str], bytes]
"""The bytes of a file that the store names by its own path; none where there is none that may be read."""

_MAX_DEPTH = 8
_MAX_BINS = 100_000
_MIMES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
    ".bmp": "image/bmp", ".svg": "image/svg+xml", ".wav": "audio/wav", ".mp3": "audio/mpeg", ".flac": "audio/flac",
    ".ogg": "audio/ogg", ".json": "application/json", ".html": "text/html", ".csv": "text/csv",
}  # fmt: skip
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def add_value(
    gatherer: Gatherer,
    name: str,
    step: int,
    time: float,
    value: object,
    *,
    open_file: OpenFile,
    depth: int = 0,
) -> None:
    """Put one logged value where it belongs; what is neither a number nor a medium is left out."""
    if isinstance(value, float):
        gatherer.point(name, step, time, value)
    elif isinstance(value, bool | int):
        number = parse_number(value)
        if number is not None:
            gatherer.point(name, step, time, number)
    elif isinstance(value, str):
        if value in _NUMBERS:
            gatherer.point(name, step, time, _NUMBERS[value])
        elif value:
            gatherer.medium(name, "text", step, time, "text/plain", value.encode("utf-8", "replace"))
    elif isinstance(value, Mapping):
        kind = value.get("_type")
        if isinstance(kind, str):
            _add_medium(gatherer, name, step, time, kind, value, open_file)
        elif depth < _MAX_DEPTH:
            for key, item in value.items():
                add_value(gatherer, f"{name}.{key}", step, time, item, open_file=open_file, depth=depth + 1)


def _add_medium(
    gatherer: Gatherer,
    name: str,
    step: int,
    time: float,
    kind: str,
    value: Mapping[str, object],
    open_file: OpenFile,
) -> None:
    kind = kind.removeprefix("trackio.")
    caption = value.get("caption")
    caption = caption if isinstance(caption, str) else ""
    if kind == "histogram":
        data = _histogram(value)
        if data:
            gatherer.medium(name, "histogram", step, time, "application/json", data)
    elif kind == "markdown":
        text = value.get("_value")
        if isinstance(text, str):
            gatherer.medium(name, "text", step, time, "text/markdown", text.encode("utf-8", "replace"))
    elif kind == "table":
        rows = json.dumps(value.get("_value"), ensure_ascii=False).encode("utf-8", "replace")
        gatherer.medium(name, "table", step, time, "application/json", rows)
    elif kind == "images/separated":
        captions = value.get("captions")
        names = value.get("filenames")
        for place, file_name in enumerate(names[:1000] if isinstance(names, list) else ()):
            text = captions[place] if isinstance(captions, list) and place < len(captions) else ""
            _add_file(gatherer, name, step, time, "image", file_name, str(text or ""), open_file)
    else:
        what = {
            "image-file": "image",
            "image": "image",
            "audio-file": "audio",
            "audio": "audio",
            "table-file": "table",
        }
        known = what.get(kind) or ("text" if kind == "html-file" else "")
        if known:
            path = value.get("path") or value.get("file_path")
            _add_file(gatherer, name, step, time, known, path, caption, open_file)


def _add_file(
    gatherer: Gatherer,
    name: str,
    step: int,
    time: float,
    kind: str,
    path: object,
    caption: str,
    open_file: OpenFile,
) -> None:
    if not isinstance(path, str):
        return
    data = open_file(path)
    mime = _MIMES.get(PurePosixPath(path).suffix.lower())
    if data and mime:
        width, height = image_size(data)
        gatherer.medium(name, kind, step, time, mime, data, width=width, height=height, caption=caption)


def _histogram(value: Mapping[str, object]) -> bytes:
    counts = value.get("values")
    edges = value.get("bins")
    packed = value.get("packedBins")
    if edges is None and isinstance(packed, Mapping) and isinstance(counts, list):
        # W&B writes evenly spaced bins as their beginning, size and number.
        low, size = parse_number(packed.get("min")), parse_number(packed.get("size"))
        if low is not None and size is not None:
            edges = [low + size * place for place in range(len(counts[:_MAX_BINS]) + 1)]
    return histogram(edges, counts)


def histogram(edges: object, counts: object) -> bytes:
    """A histogram as the history keeps it; nothing if it is none."""
    if not isinstance(edges, list) or not isinstance(counts, list) or len(edges) != len(counts) + 1:
        return b""
    if not counts or len(counts) > _MAX_BINS:
        return b""
    numbers = [[parse_number(item) for item in column] for column in (edges, counts)]
    if any(number is None or not math.isfinite(number) for column in numbers for number in column):
        return b""
    return json.dumps({"edges": numbers[0], "counts": numbers[1]}, separators=(",", ":")).encode()


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a PNG or GIF as its header says; (0, 0) for others."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return int(width), int(height)
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return int(width), int(height)
    return 0, 0


def mime_of_image(data: bytes) -> str:
    """The MIME type of an image by its first bytes; empty for what is none."""
    for magic, mime in (
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"GIF8", "gif"),
        (b"BM", "bmp"),
    ):
        if data.startswith(magic):
            return f"image/{mime}"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""
