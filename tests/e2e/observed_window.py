"""The real window, which also answers where things stand in it. It is started as a program of its own.

A question is a line of JSON on standard input, the answer a line on standard output. Nothing can be pressed or changed
this way: that is done with a pointer and a keyboard, on the screen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QPoint, QSocketNotifier
from PySide6.QtWidgets import QAbstractButton, QAbstractItemView, QApplication, QLabel, QTabBar, QWidget

from mlstudio.gui import application


def _places(name: str) -> Iterator[tuple[int, int]]:
    """Where on the screen something of this name or text can be pressed: shown, enabled and not covered."""
    for widget in QApplication.allWidgets():
        if not widget.isVisible() or not widget.isEnabled():
            continue
        if name in (widget.accessibleName(), _text(widget)):
            yield from _pressable(widget, widget.rect().center())
        if isinstance(widget, QTabBar):
            for place in range(widget.count()):
                if widget.tabText(place) == name:
                    yield from _pressable(widget, widget.tabRect(place).center())
        if isinstance(widget, QAbstractItemView) and widget.model() is not None:
            model = widget.model()
            for row in range(model.rowCount()):
                for column in range(model.columnCount()):
                    index = model.index(row, column)
                    rect = widget.visualRect(index)
                    if (
                        index.data() == name
                        and widget.viewport().rect().contains(rect.center())
                        and rect.isValid()
                    ):
                        yield from _pressable(widget.viewport(), rect.center())


def _pressable(widget: QWidget, centre: QPoint) -> Iterator[tuple[int, int]]:
    place = widget.mapToGlobal(centre)
    found = QApplication.widgetAt(place)
    if found is not None and (found is widget or widget.isAncestorOf(found)):
        yield place.x(), place.y()


def _text(widget: QWidget) -> str:
    return widget.text().replace("&", "") if isinstance(widget, (QAbstractButton, QLabel)) else ""


def _answer(question: dict[str, Any]) -> object:
    if "where" in question:
        return next(_places(question["where"]), None)
    shown = [widget for widget in QApplication.allWidgets() if widget.isVisible()]
    return [words for widget in shown for words in (_text(widget), widget.accessibleName()) if words]


def main() -> int:
    app = application.make_application(["mlstudio"])
    # Unbuffered: the notifier sees only what is not read yet.
    questions = Path("/dev/stdin").open("rb", buffering=0)  # noqa: SIM115 - open as long as the window
    listener = QSocketNotifier(questions.fileno(), QSocketNotifier.Type.Read)

    def on_question() -> None:
        line = questions.readline()
        if not line:
            app.quit()
            return
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()

    listener.activated.connect(on_question)
    return application.main(["mlstudio"])


if __name__ == "__main__":
    sys.exit(main())
