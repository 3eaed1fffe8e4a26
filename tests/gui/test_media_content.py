"""Media from containers, which may hold anything: what is shown, and what is told kindly instead."""

from __future__ import annotations

import json
import random
import struct
import zlib

import pytest
from PySide6.QtCore import QBuffer, QByteArray, QIODevice
from PySide6.QtGui import QColor, QImage, QImageReader
from PySide6.QtWidgets import QApplication

from mlstudio.gui.pages.run import media_content
from mlstudio.gui.pages.run.media_content import (
    Content,
    Histogram,
    Picture,
    Rows,
    Sound,
    Unshown,
    Words,
    content_of,
    file_name,
)
from mlstudio.model.run import MediaItem

pytestmark = pytest.mark.usefixtures("qapp")


def item(kind: str, mime: str = "", *, name: str = "samples") -> MediaItem:
    return MediaItem(
        id=1, name=name, kind=kind, logger="tensorboard", step=7, time=1.0, mime=mime, size_bytes=1
    )


def encoded(image: QImage, kind: str) -> bytes:
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    assert image.save(buffer, kind)  # type: ignore[call-overload]
    return bytes(data.data())


def plain_image(width: int, height: int) -> QImage:
    image = QImage(width, height, QImage.Format.Format_RGB32)
    image.fill(QColor("#2F63E1"))
    return image


def png_of(width: int, height: int) -> bytes:
    """A PNG that says to be of this size and holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def why(found: Content) -> str:
    assert isinstance(found, Unshown)
    return found.why


def test_png_and_jpeg_are_decoded_and_scaled_down() -> None:
    for kind in ("PNG", "JPEG"):
        found = content_of(item("image"), encoded(plain_image(40, 30), kind))
        assert isinstance(found, Picture)
        assert (found.full.width(), found.full.height()) == (40, 30)
        assert found.image.pixelColor(3, 3).blue() > 200
    found = content_of(item("image"), encoded(plain_image(5000, 100), "PNG"))
    assert isinstance(found, Picture)
    assert found.image.width() == media_content.LARGEST_SIDE
    assert found.full.width() == 5000


def test_other_formats_are_not_tried() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
    bmp = encoded(plain_image(9, 9), "BMP")
    for data, mime in ((svg, "image/svg+xml"), (bmp, "image/png"), (b"", "image/png"), (b"\x89PNG", "")):
        assert "Only PNG, JPEG and GIF" in why(content_of(item("image", mime), data))


def test_an_image_that_would_take_all_memory_is_not_decoded() -> None:
    assert "60,000 × 60,000" in why(content_of(item("image"), png_of(60_000, 60_000)))
    assert QImageReader.allocationLimit() == media_content.ALLOCATION_MB
    assert "damaged" in why(content_of(item("image"), png_of(3000, 3000)[:60]))


def test_cut_and_changed_images_end_well() -> None:
    whole = encoded(plain_image(64, 64), "PNG")
    choose = random.Random(5)
    for _ in range(60):
        data = bytearray(whole[: choose.randrange(8, len(whole))])
        for _ in range(choose.randrange(4)):
            data[choose.randrange(8, len(data)) if len(data) > 8 else 0] = choose.randrange(256)
        assert isinstance(content_of(item("image"), bytes(data)), Picture | Unshown)


def test_a_histogram_needs_rising_edges_around_its_counts() -> None:
    good = {"edges": [0, 1, 2.5], "counts": [3, 4], "min": 0.1, "num": 7, "max": "x"}
    found = content_of(item("histogram"), json.dumps(good).encode())
    assert isinstance(found, Histogram)
    assert found.edges.tolist() == [0, 1, 2.5]
    assert found.more == {"min": 0.1, "num": 7}
    for bad in (
        "[]",
        "{",
        "{}",
        '{"edges": [0, 1], "counts": [1, 2]}',
        '{"edges": [1, 0], "counts": [1]}',
        '{"edges": [0, NaN], "counts": [1]}',
        '{"edges": "ab", "counts": [1]}',
        '{"edges": [0, {}], "counts": [1]}',
        "[" * 100_000,
    ):
        assert "not written like one" in why(content_of(item("histogram"), bad.encode()))


def test_tables_of_every_shape_are_read() -> None:
    shapes = (
        ({"columns": ["a", "b"], "data": [[1, "x"], [2, None]]}, "application/json"),
        ([{"a": 1, "b": "x"}, {"a": 2}], "application/json"),
        ({"a": [1, 2], "b": ["x"]}, "application/json"),
    )
    for shape, mime in shapes:
        found = content_of(item("table", mime), json.dumps(shape).encode())
        assert isinstance(found, Rows)
        assert found.columns == ("a", "b")
        assert found.rows == (("1", "x"), ("2", ""))
    found = content_of(item("table", "text/csv"), b"a,b\n1,x\n2,\n")
    assert isinstance(found, Rows)
    assert found.rows == (("1", "x"), ("2", ""))
    assert "not written like one" in why(content_of(item("table"), b"17"))
    assert "not written like one" in why(content_of(item("table"), b"[]"))


def test_a_table_is_cut_to_what_can_be_looked_at() -> None:
    rows = [[place, "x" * 2000] for place in range(media_content.MOST_ROWS + 5)]
    found = content_of(item("table"), json.dumps({"columns": ["n", "t"], "data": rows}).encode())
    assert isinstance(found, Rows)
    assert len(found.rows) == media_content.MOST_ROWS
    assert found.total == media_content.MOST_ROWS + 5
    assert len(found.rows[0][1]) == media_content.LONGEST_CELL + 1
    wide = content_of(item("table"), json.dumps({"data": [list(range(1000))]}).encode())
    assert isinstance(wide, Rows)
    assert len(wide.columns) == media_content.MOST_COLUMNS


def test_words_and_sounds() -> None:
    found = content_of(item("text"), "häß \0 \x1b[1m".encode() + b"\xff")
    assert isinstance(found, Words)
    assert found.text == "häß \ufffd \x1b[1m\ufffd"
    assert content_of(item("audio", "audio/wav"), b"RIFF....WAVE") == Sound("wav")
    assert content_of(item("audio", "audio/wav"), b"#!/bin/sh\n") == Sound("")
    assert "does not know" in why(content_of(item("hologram"), b"x"))


def test_file_names_hold_nothing_that_leads_elsewhere(qapp: QApplication) -> None:
    assert file_name(item("image", "image/png", name="samples/digits")) == "samples-digits-step-7.png"
    assert file_name(item("text", "text/plain", name="../../etc/passwd")) == "etc-passwd-step-7.txt"
    assert file_name(item("audio", "audio/x", name="\n/")) == "audio-step-7.bin"
    assert file_name(item("image", "text/x-sh"), b"\xff\xd8\xff") == "samples-step-7.jpg"
