"""The line that filters runs: what may come next is offered while typing, and what is wrong is marked at its place."""

from __future__ import annotations

import re
from collections.abc import Callable

from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, Qt, QTimer, Signal
from PySide6.QtGui import (
    QFocusEvent,
    QHideEvent,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
    QResizeEvent,
    QTextLayout,
)

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.fields import Field
from mlstudio.gui.widgets.suggestions import Suggestion, Suggestions
from mlstudio.gui.widgets.text import Label
from mlstudio.model.errors import QueryError
from mlstudio.services.query import Completion

DEBOUNCE_MS = 150
UNFINISHED_MS = 900
"""How long an error at the end of what is being typed waits before it is told: most go with the next key. As long waits a
filter that ends in the name of a comparison to come, which until then is a word that no run has."""

Ask = Callable[[str, int, Callable[[Completion], None]], None]
"""``ask(text, position, then)``: find out elsewhere what may stand at `position`, and tell `then` here."""

_TAKES_NO_BLANK = ("in (", "(")
_BEGINS_TERM = re.compile(r"(?:\b(?:and|or|not)\s+|\(\s*)$", re.IGNORECASE)
_NAMES = ("attribute", "parameter", "metric", "field")
_REST_OF_WORD = re.compile(r"[^\s()<>=!~,\"'`]*")


class FilterLine(Field):
    """A field for a filter (docs/query.md).

    Typing offers completions under the line: arrow keys choose, Tab takes (the first one while none is chosen), Enter
    takes the chosen one, Escape closes. `filter_changed` tells the text once typing pauses. Whoever filters by it says
    `show_error` or `clear_error` with the text that was asked for; what is said of an older text is not shown.
    `sentence` is a label for the page to put under the line.
    """

    filter_changed = Signal(str)
    """The text, shortly after it changed."""
    left = Signal()
    """Enter, with nothing to take from the list: the text is applied and the focus may go on."""

    def __init__(self, theme: Theme, *, name: str, placeholder: str, ask: Ask) -> None:
        super().__init__(theme, name=name, placeholder=placeholder, icon="ph.funnel")
        self._ask = ask
        self._error: QueryError | None = None
        self._error_prefix = ""
        self._waiting: QueryError | None = None
        self._list: Suggestions | None = None
        self._completion: Completion | None = None
        self._offered_for = ""
        self._wished = False
        self._glued = -1
        self.sentence = Label("", theme, tone="error", size="small", wrap=True)
        self.sentence.hide()
        self._pause = QTimer(self, singleShot=True, interval=DEBOUNCE_MS)
        self._pause.timeout.connect(self._on_pause)
        self._patience = QTimer(self, singleShot=True, interval=UNFINISHED_MS)
        self._patience.timeout.connect(self._on_patience_over)
        self.textChanged.connect(self._on_text_changed)
        self.textEdited.connect(self._on_text_edited)
        self.cursorPositionChanged.connect(self._on_cursor_moved)

    # What is wrong

    @property
    def error(self) -> QueryError | None:
        """What is marked as wrong."""
        return self._error

    @property
    def is_wrong(self) -> bool:
        """Whether the text was refused, be it shown yet or not."""
        return self._error is not None or self._waiting is not None

    def show_error(self, text: str, error: QueryError) -> None:
        """Mark what is wrong in `text`. At the end of what is being typed it waits for the next keys."""
        if text != self.text():
            return
        is_unfinished = (
            error.end >= len(text.rstrip()) and self.cursorPosition() == len(text) and self.hasFocus()
        )
        if is_unfinished and not self.sentence.text():
            self._waiting = error
            self._patience.start()
        else:
            self._tell(error)

    def clear_error(self, text: str) -> None:
        """`text` is right."""
        if text == self.text():
            self._forget_error()

    # What may come next

    def suggestions(self) -> tuple[Suggestion, ...]:
        """What the list offers; empty while it is closed."""
        return self._list.items() if self._list is not None and self._list.isVisible() else ()

    def take(self, row: int) -> None:
        """Put the item of that row into the text."""
        found = self._completion
        if found is None or not 0 <= row < len(found.items):
            return
        item = found.items[row]
        text = self.text()
        end = found.end
        rest = _REST_OF_WORD.match(text, end)
        if rest is not None and text[found.start : found.start + 1] not in ('"', "'", "`"):
            # The caret stands inside of a word: all of it is replaced.
            end = rest.end()
        has_blank = text[end : end + 1] == " "
        blank = "" if has_blank or item.text in _TAKES_NO_BLANK else " "
        self._close_list()
        self.setSelection(found.start, end - found.start)
        if end == found.start:
            self.setCursorPosition(end)
        self.insert(item.text + blank)
        if has_blank:
            self.setCursorPosition(self.cursorPosition() + 1)
        self._glued = self.cursorPosition() if blank else -1
        self._look()

    # Qt

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QKeyEvent) and self._list is not None and self._list.isVisible():
            if event.type() == QEvent.Type.ShortcutOverride and event.key() == Qt.Key.Key_Escape:
                # The window's own Escape goes back; here it closes the list first.
                event.accept()
                return True
            if event.type() == QEvent.Type.KeyPress and event.key() == Qt.Key.Key_Tab:
                self.take(max(0, self._list.current_row))
                return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = event.key()
        shown = self._list if self._list is not None and self._list.isVisible() else None
        if shown is not None and key in (Qt.Key.Key_Down, Qt.Key.Key_Up):
            shown.move_choice(1 if key == Qt.Key.Key_Down else -1)
        elif shown is not None and key == Qt.Key.Key_Escape:
            self._close_list()
        elif shown is not None and key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and shown.current_row >= 0:
            self.take(shown.current_row)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._on_entered()
        elif key == Qt.Key.Key_Down or (
            key == Qt.Key.Key_Space and event.modifiers() & Qt.KeyboardModifier.ControlModifier
        ):
            self._look(wished=True)
        else:
            if event.text() in (".", ",", ")") and self.cursorPosition() == self._glued:
                # The blank behind what was taken was a guess: `val/acc` goes on with `.max` here.
                self.backspace()
            super().keyPressEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self._close_list()
        self._on_patience_over()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._close_list()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._close_list()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self._error is None:
            return
        start = self._x_of(self._error.start)
        end = max(self._x_of(self._error.end), start + 7)
        margins = self.textMargins()
        room = QRect(self.rect()).adjusted(margins.left() + 7, 2, -margins.right() - 4, -2)
        painter = QPainter(self)
        painter.setClipRect(room)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(self._theme.colour("status.error"), 1.3))
        base = self.height() / 2 + self.fontMetrics().height() / 2 + 1.5
        wave, x, up = QPolygonF(), start, False
        while x <= end:
            wave.append(QPointF(x, base - (1.5 if up else -0.5)))
            x, up = x + 2.5, not up
        painter.drawPolyline(wave)

    # Inside

    def _on_text_changed(self, text: str) -> None:
        self._waiting = None
        self._patience.stop()
        if self._error is not None and not text.startswith(self._error_prefix):
            # What is marked is no longer there. The sentence stays until the new text was judged, so nothing jumps.
            self._error = None
            self.update()
        self._pause.start(DEBOUNCE_MS)
        if not text:
            self._close_list()
            self._forget_error()

    def _on_text_edited(self, text: str) -> None:
        self._look()

    def _on_cursor_moved(self, old: int, new: int) -> None:
        if new != self._glued:
            self._glued = -1
        if self.text() == self._offered_for:
            # Nothing was typed, the caret went elsewhere.
            self._close_list()

    def _on_pause(self) -> None:
        self.filter_changed.emit(self.text())

    def _on_entered(self) -> None:
        self._close_list()
        if self._pause.isActive() or self.is_wrong:
            # What was wrong may be right by now: a run may have logged the name that was missing.
            self._pause.stop()
            self._on_pause()
        self._on_patience_over()
        if not self.is_wrong:
            self.left.emit()

    def _on_patience_over(self) -> None:
        self._patience.stop()
        if self._waiting is not None:
            self._tell(self._waiting)

    def _tell(self, error: QueryError) -> None:
        self._patience.stop()
        self._waiting = None
        self._error = error
        self._error_prefix = self.text()[: error.end]
        self.sentence.setText(" ".join(part for part in (error.what, error.why, error.try_this) if part))
        self.sentence.show()
        self.setAccessibleDescription(self.sentence.text())
        self.set_wrong(True)
        self._place_list()

    def _forget_error(self) -> None:
        self._patience.stop()
        self._waiting = self._error = None
        if self.sentence.text():
            self.sentence.setText("")
            self.sentence.hide()
            self.setAccessibleDescription("")
            self.set_wrong(False)
            self._place_list()
        self.update()

    def _look(self, *, wished: bool = False) -> None:
        """Ask for completions; `wished` when the user asked for them and not only typed."""
        text, position = self.text(), self.cursorPosition()
        self._wished = wished
        if not text and not wished:
            self._close_list()
            return

        def answer(found: Completion) -> None:
            if text == self.text() and position == self.cursorPosition() and self.hasFocus():
                self._offer(found)

        self._ask(text, position, answer)

    def _offer(self, found: Completion) -> None:
        typed = self.text()[found.start : found.end]
        is_whole = len(found.items) == 1 and found.items[0].text == typed
        # Who searches by words is not bothered with “and” and “or” after each of them.
        is_plain = not typed and all(item.kind == "word" for item in found.items)
        if not found.items or is_whole or (is_plain and not self._wished):
            self._close_list()
            return
        self._completion = found
        self._offered_for = self.text()
        if self._pause.isActive() and self._begins_comparison(found):
            self._pause.start(UNFINISHED_MS)
        if self._list is None:
            self._list = Suggestions(
                self._theme, name=f"{self.accessibleName()}: completions", parent=self.window()
            )
            self._list.taken.connect(self.take)
        self._show_list()

    def _begins_comparison(self, found: Completion) -> bool:
        kind = found.items[0].kind
        begins_term = _BEGINS_TERM.search(self.text()[: found.start]) is not None
        return kind == "operator" or (begins_term and kind in _NAMES)

    def _show_list(self) -> None:
        if self._list is None or self._completion is None:
            return
        window = self.window()
        below = self.sentence if self.sentence.isVisible() else self
        top = below.mapTo(window, QPoint(0, below.height() + 3)).y()
        left = self.mapTo(window, QPoint(round(self._x_of(self._completion.start)) - 11, 0)).x()
        own = self.mapTo(window, QPoint(0, 0)).x()
        right = max(own + self.width(), min(window.width() - 8, own + 640))
        self._list.show_items(
            [Suggestion(item.text, item.what, item.kind) for item in self._completion.items],
            at=QPoint(left, top),
            within=QRect(QPoint(own, top), QPoint(right, window.height() - 8)),
        )

    def _place_list(self) -> None:
        """The sentence came or went: the list follows it once the layout has made room."""
        if self.suggestions():
            QTimer.singleShot(0, self, self._follow)

    def _follow(self) -> None:
        if self.suggestions():
            self._show_list()

    def _close_list(self) -> None:
        if self._list is not None and self._list.isVisible():
            self._list.hide()

    def _x_of(self, place: int) -> float:
        """Where the character of that place begins, as the text is scrolled now."""
        text = self.text()
        layout = QTextLayout(text, self.font())
        layout.beginLayout()
        line = layout.createLine()
        layout.endLayout()
        # The caret's rectangle is the one place that Qt tells; it begins 5 px left of the caret.
        caret = self.cursorRect().x() + 5
        if not line.isValid():
            return float(caret)
        beyond = max(0, place - len(text)) * self.fontMetrics().horizontalAdvance("n")
        return (
            caret
            - _x(line.cursorToX(self.cursorPosition()))
            + _x(line.cursorToX(min(place, len(text))))
            + beyond
        )


def _x(found: object) -> float:
    """Qt's binding answers with the position, or with it and the place."""
    return float(found[0] if isinstance(found, tuple) else found)  # type: ignore[arg-type]
