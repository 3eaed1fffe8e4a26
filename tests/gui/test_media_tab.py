"""The media of a run: the tab that is there only if there are any, names, steps, and what is shown of each kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QBuffer, QByteArray, QIODevice, Qt
from PySide6.QtGui import QColor, QImage, QPainter
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from mlstudio.gui.pages.run.media import MediaTab
from mlstudio.gui.pages.run.page import RunPage
from mlstudio.gui.shell import Shell
from mlstudio.gui.widgets.buttons import Button
from mlstudio.model.record import Batch, Cursor, Medium
from mlstudio.services.studio import Studio
from mlstudio.store import History
from tests.gui.conftest import DEADLINE_MS

STEPS = (0, 100, 200, 300)


def png(step: int, *, number: int = 0, side: int = 28) -> bytes:
    """A blurred digit-like stroke that moves with the step."""
    image = QImage(side, side, QImage.Format.Format_RGB32)
    image.fill(QColor(20, 20, 30))
    painter = QPainter(image)
    painter.fillRect(6 + number, 4 + step // 60, 5, 16, QColor(230, 230, 240))
    painter.fillRect(6 + number, 4 + step // 60, 14, 4, QColor(90, 140 + number * 10, 240))
    painter.end()
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]
    return bytes(data.data())


def histogram(step: int) -> bytes:
    random_of = np.random.default_rng(step)
    counts, edges = np.histogram(random_of.normal(0.1, 0.4 + step / 400, 20_000), bins=48)
    found = {
        "edges": edges.tolist(),
        "counts": counts.astype(float).tolist(),
        "num": 20_000.0,
        "sum": 2_000.0,
    }
    return json.dumps(found).encode()


def medium(name: str, kind: str, step: int, mime: str, data: bytes, *, caption: str = "") -> Medium:
    return Medium(
        name=name,
        kind=kind,
        logger="tensorboard",
        step=step,
        time=1_790_000_000.0 + step,
        mime=mime,
        data=data,
        width=0,
        height=0,
        caption=caption,
    )


def media_of(step: int) -> list[Medium]:
    table = {
        "columns": ["input", "prediction", "truth", "score"],
        "data": [
            [f"digit-{place}.png", (place * 7 + step) % 10, place % 10, 0.91 - place / 99]
            for place in range(40)
        ],
    }
    return [
        medium("samples/digits", "image", step, "image/png", png(step), caption="a seven"),
        *(medium("samples/grid", "image", step, "image/png", png(step, number=n)) for n in range(5)),
        medium("layer1/weights", "histogram", step, "application/json", histogram(step)),
        medium(
            "notes", "text", step, "text/plain", f"## Step {step}\nThe learning rate fell to 1e-4.\n".encode()
        ),
        medium("predictions", "table", step, "application/json", json.dumps(table).encode()),
    ]


def add_media(history: History, run_id: str, seq: int, found: Sequence[Medium]) -> None:
    history.apply(run_id, Batch(cursor=Cursor(seq=seq, position=str(seq + 1)), media=tuple(found)))


def seed_media(history: History, run_id: str) -> None:
    for seq, step in enumerate(STEPS, start=1):
        add_media(history, run_id, seq, media_of(step))
    sound = medium("voice", "audio", 300, "audio/wav", b"RIFF\x24\0\0\0WAVEfmt ", caption="hello")
    fake = medium("voice", "audio", 300, "audio/wav", b"#!/bin/sh\necho hi\n", caption="not a sound")
    broken = medium("broken", "image", 0, "image/png", b"\x89PNG\r\n\x1a\nnothing")
    add_media(history, run_id, 9, [sound, fake, broken])


def shown_tabs(page: RunPage) -> list[str]:
    return page.tabs.keys()


@pytest.fixture
def page(studio: Studio, run_ids: Sequence[str], shell: Shell, qtbot: QtBot) -> RunPage:
    """The page of the running run, which logged media."""
    seed_media(studio.history, run_ids[11])
    found = shell.page("Run")
    assert isinstance(found, RunPage)
    found.show_run(run_ids[11])
    shell.show_page("Run")
    qtbot.waitUntil(lambda: "media" in shown_tabs(found), timeout=DEADLINE_MS)
    return found


@pytest.fixture
def tab(page: RunPage, qtbot: QtBot) -> MediaTab:
    page.tabs.choose("media")
    qtbot.waitUntil(lambda: bool(page.media.names.names), timeout=DEADLINE_MS)
    return page.media


def show(tab: MediaTab, qtbot: QtBot, name: str, kind: str) -> None:
    tab.choose(name, kind)
    qtbot.waitUntil(lambda: [item.name for item in tab.shown[:1]] == [name], timeout=DEADLINE_MS)


def test_a_run_without_media_has_no_such_tab(page: RunPage, run_ids: Sequence[str], qtbot: QtBot) -> None:
    page.tabs.choose("media")
    page.show_run(run_ids[0])
    qtbot.waitUntil(lambda: "media" not in shown_tabs(page), timeout=DEADLINE_MS)
    assert page.tabs.current == "curves"


def test_names_are_listed_with_their_kinds(tab: MediaTab) -> None:
    assert tab.names.names == [
        ("broken", "image"),
        ("layer1/weights", "histogram"),
        ("notes", "text"),
        ("predictions", "table"),
        ("samples/digits", "image"),
        ("samples/grid", "image"),
        ("voice", "audio"),
    ]
    assert tab.names.count(("samples/grid", "image")) == 20


def test_steps_are_walked_through_and_kept_from_name_to_name(tab: MediaTab, qtbot: QtBot) -> None:
    show(tab, qtbot, "samples/digits", "image")
    assert tab.step == 300
    tab.slider.setFocus()
    QTest.keyClick(tab.slider, Qt.Key.Key_Left)
    assert tab.step == 200
    qtbot.waitUntil(lambda: tab.shown[0].step == 200, timeout=DEADLINE_MS)
    view = tab.view.pictures.views()[0]
    assert view.caption == "a seven   28 × 28"
    assert view.picture_rect().width() == 28 * 12
    show(tab, qtbot, "layer1/weights", "histogram")
    assert tab.step == 200
    show(tab, qtbot, "samples/grid", "image")
    assert len(tab.view.pictures.views()) == 5


def test_a_histogram_tells_the_bin_under_the_pointer(tab: MediaTab, qtbot: QtBot) -> None:
    show(tab, qtbot, "layer1/weights", "histogram")
    assert tab.view.current is tab.view.histogram
    assert tab.view.histogram.words.text().startswith("20,000 values, from ")
    assert "mean 0.1" in tab.view.histogram.words.text()
    tab.view.histogram.plot.hovered.emit(0.1)
    words = tab.view.histogram.words.text()
    found = json.loads(histogram(300))
    place = int(np.searchsorted(found["edges"], 0.1)) - 1
    assert words.startswith(f"{found['counts'][place]:,.0f} values from ")


def test_text_can_be_selected_and_tables_are_told_row_by_row(tab: MediaTab, qtbot: QtBot) -> None:
    show(tab, qtbot, "notes", "text")
    text = tab.view.text
    assert text.toPlainText().startswith("## Step 300")
    text.selectAll()
    assert "1e-4" in text.textCursor().selectedText()
    show(tab, qtbot, "predictions", "table")
    model = tab.view.rows.model
    assert tab.view.rows.words.text() == "40 rows, 4 columns"
    assert model.headerData(1, Qt.Orientation.Horizontal) == "prediction"
    assert model.data(model.index(2, 0)) == "digit-2.png"


def test_what_cannot_be_shown_is_said_kindly(tab: MediaTab, qtbot: QtBot) -> None:
    show(tab, qtbot, "broken", "image")
    assert "PNG file is damaged" in tab.view.pictures.views()[0].why


def test_a_sound_is_given_to_another_program_and_what_is_none_is_not(
    page: RunPage, tab: MediaTab, qtbot: QtBot
) -> None:
    opened: list[Path] = []
    tab._open_outside = opened.append
    show(tab, qtbot, "voice", "audio")
    buttons = {each.accessibleName(): each for each in tab.view.sounds.findChildren(Button)}
    assert not buttons["Play not a sound"].isEnabled()
    QTest.mouseClick(buttons["Play hello"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(opened), timeout=DEADLINE_MS)
    assert opened[0].suffix == ".wav"
    assert opened[0].read_bytes().startswith(b"RIFF")


def test_a_medium_is_saved_as_it_was_logged(
    tab: MediaTab, qtbot: QtBot, tmp_path: Path, shell: Shell
) -> None:
    show(tab, qtbot, "samples/digits", "image")
    target = tmp_path / "seven.png"
    tab.save(tab.shown, [target])
    qtbot.waitUntil(shell.notices.isVisible, timeout=DEADLINE_MS)
    assert target.read_bytes() == png(300)
    assert str(target) in shell.notices.text
    tab.save(tab.shown, [tmp_path / "no" / "such" / "folder.png"])
    qtbot.waitUntil(lambda: "Could not save" in shell.notices.text, timeout=DEADLINE_MS)


def test_new_media_of_a_live_run_are_followed_where_the_end_is_looked_at(
    tab: MediaTab, studio: Studio, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    show(tab, qtbot, "samples/digits", "image")
    add_media(studio.history, run_ids[11], 20, media_of(400))
    qtbot.waitUntil(lambda: tab.step == 400, timeout=DEADLINE_MS)
    qtbot.waitUntil(lambda: tab.shown[0].step == 400, timeout=DEADLINE_MS)
    tab.slider.setValue(0)
    add_media(studio.history, run_ids[11], 21, media_of(500))
    qtbot.waitUntil(lambda: tab.slider.maximum() == 5, timeout=DEADLINE_MS)
    assert tab.step == 0


def test_the_filter_finds_names(tab: MediaTab, qtbot: QtBot) -> None:
    tab._search.setText("sam dig")
    assert tab.names.names == [("samples/digits", "image")]
    qtbot.waitUntil(lambda: [item.name for item in tab.shown[:1]] == ["samples/digits"], timeout=DEADLINE_MS)
    tab._search.clear()
    assert len(tab.names.names) == 7
