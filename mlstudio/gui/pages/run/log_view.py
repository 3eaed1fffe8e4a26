"""The lines of a log: only those in view are read, however many there are."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QRect, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QFontMetricsF,
    QGuiApplication,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QMenu

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import count_text
from mlstudio.gui.pages.run.ansi import plain, spans
from mlstudio.gui.theme.theme import Theme
from mlstudio.model.run import LogLine

if TYPE_CHECKING:
    from mlstudio.store import History

PAGE = 200
PAGES_KEPT = 60
COPY_MOST = 100_000
_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


class LogView(QAbstractScrollArea):
    """Lines 20 px high: number, time, text. Follows the end until the user scrolls away from it.

    `follow_changed` tells when it begins or ceases to follow, `rule_asked` the line that a rule is to be made of.
    """

    follow_changed = Signal(bool)
    rule_asked = Signal(str)

    def __init__(self, bridge: Bridge, theme: Theme) -> None:
        super().__init__()
        self._bridge = bridge
        self._theme = theme
        self._run_id = ""
        self._count = 0
        self._pages: OrderedDict[int, tuple[LogLine, ...]] = OrderedDict()
        self._asked: set[int] = set()
        self._open: LogLine | None = None
        self._longest = 0
        self._following = True
        self._needle = ""
        self._marked: tuple[int, int] | None = None
        self._anchor = 0
        self._line = theme.length("height.log_line")
        self._cell = QFontMetricsF(theme.mono()).horizontalAdvance("0")
        self.setProperty("pane", "sunken")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setAccessibleName("Log")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setCursor(Qt.CursorShape.IBeamCursor)
        self.verticalScrollBar().valueChanged.connect(self._on_scrolled)
        self.horizontalScrollBar().valueChanged.connect(self.viewport().update)
        theme.changed.connect(self.viewport().update)

    # What is shown

    def set_run(self, run_id: str) -> None:
        self._run_id = run_id
        self._count = 0
        self._pages.clear()
        self._asked.clear()
        self._open = None
        self._longest = 0
        self._following = True
        self._marked = None
        self._fit()

    @property
    def count(self) -> int:
        return self._count

    @property
    def is_following(self) -> bool:
        return self._following

    def set_count(self, count: int, open_line: LogLine | None = None) -> None:
        """How many lines there are now, and the one that has begun but not ended (a progress bar). Finished lines
        never change; only the last page can grow."""
        self._open = open_line
        if open_line is not None:
            count += 1
        if count == self._count:
            self.viewport().update()
            return
        if count < self._count:
            self._pages.clear()
        # The page that held the end may hold more now, and the open line may have become one of it.
        last = max(0, self._count - 1) // PAGE
        self._pages.pop(last, None)
        self._asked.discard(last)
        self._count = count
        self._fit()

    def set_needle(self, text: str) -> None:
        """Mark this text wherever it stands."""
        self._needle = text
        self.viewport().update()

    def follow(self) -> None:
        self._set_following(True)
        self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())

    def show_line(self, number: int) -> None:
        """Bring a line into the middle and mark it."""
        self._set_following(False)
        self._marked = (number, number)
        self.verticalScrollBar().setValue(number - self._rows() // 2)
        self.viewport().update()

    def marked_lines(self) -> tuple[int, int] | None:
        return self._marked

    def visible_text(self) -> list[str]:
        """The lines in view, as far as they were read."""
        first = self.verticalScrollBar().value()
        lines = (self._line_at(number) for number in range(first, min(self._count, first + self._rows())))
        return [plain(line.text) for line in lines if line is not None]

    # Qt

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        if event.angleDelta().y() > 0:
            self._set_following(False)
        super().wheelEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        bar = self.verticalScrollBar()
        step = {
            Qt.Key.Key_Up: -1,
            Qt.Key.Key_Down: 1,
            Qt.Key.Key_PageUp: -self._rows(),
            Qt.Key.Key_PageDown: self._rows(),
            Qt.Key.Key_Home: -self._count,
        }.get(Qt.Key(event.key()))
        if step is not None:
            bar.setValue(bar.value() + step)
        elif event.key() == Qt.Key.Key_End:
            self.follow()
        elif event.key() == Qt.Key.Key_C and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.copy()
        elif event.key() == Qt.Key.Key_A and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self._marked = (0, self._count - 1)
            self.viewport().update()
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        number = self._number_at(event.position().toPoint())
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier and self._marked is not None:
            self._marked = (min(self._anchor, number), max(self._anchor, number))
        else:
            self._anchor = number
            self._marked = (number, number)
        self.viewport().update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton:
            number = self._number_at(event.position().toPoint())
            self._marked = (min(self._anchor, number), max(self._anchor, number))
            self.viewport().update()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if not self._count:
            return
        by_key = event.reason() == QContextMenuEvent.Reason.Keyboard
        number = self._marked[0] if by_key and self._marked is not None else self._number_at(event.pos())
        if self._marked is None or not self._marked[0] <= number <= self._marked[1]:
            self._anchor = number
            self._marked = (number, number)
            self.viewport().update()
        menu = self.menu_for(number)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(event.globalPos())

    def menu_for(self, number: int) -> QMenu:
        """What can be done with a line, and with the marked ones."""
        menu = QMenu(self)
        count = self._marked[1] - self._marked[0] + 1 if self._marked is not None else 0
        menu.addAction(
            "Copy" if count < 2 else f"Copy {count_text(min(count, COPY_MOST), 'line')}", self.copy
        )
        menu.addSeparator()
        line = self._line_at(number)
        text = plain(line.text) if line is not None else ""
        action = menu.addAction("Take numbers from lines like this…", lambda: self.rule_asked.emit(text))
        action.setEnabled(any(letter.isdigit() for letter in text))
        return menu

    def copy(self) -> None:
        """Copy the marked lines; they are read for it, as most of them may not be in memory."""
        if self._marked is None:
            return
        first, last = self._marked
        count = min(COPY_MOST, last - first + 1)
        run_id = self._run_id
        self._bridge.read(
            lambda history: "\n".join(
                plain(line.text) for line in history.log(run_id, start=first, count=count)
            ),
            QGuiApplication.clipboard().setText,
            owner=self,
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        painter = QPainter(self.viewport())
        painter.fillRect(self.viewport().rect(), theme.colour("surface.sunken"))
        painter.setFont(theme.mono())
        digits = max(4, len(f"{self._count:,}"))
        number_width = round(self._cell * digits) + 16
        time_width = round(self._cell * 12) + 16
        text_left = number_width + time_width
        first = self.verticalScrollBar().value()
        shift = self.horizontalScrollBar().value()
        for row in range(self._rows() + 1):
            number = first + row
            if number >= self._count:
                break
            rect = QRect(0, row * self._line, self.viewport().width(), self._line)
            if self._marked is not None and self._marked[0] <= number <= self._marked[1]:
                painter.fillRect(rect, theme.colour("surface.selected"))
            line = self._line_at(number)
            painter.setPen(theme.colour("text.tertiary"))
            painter.drawText(QRect(0, rect.top(), number_width, self._line), _RIGHT, f"{number + 1:,}")
            if line is None:
                continue
            where = QRect(number_width + 12, rect.top(), time_width, self._line)
            painter.drawText(where, _LEFT, _clock(line.time))
            self._paint_text(
                painter, line, QRect(text_left + 12, rect.top(), rect.width() - text_left, self._line), shift
            )
        if self.hasFocus():
            painter.setPen(theme.focus_pen())
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self.viewport().rect().adjusted(1, 1, -1, -1))

    # Inside

    def _paint_text(self, painter: QPainter, line: LogLine, rect: QRect, shift: int) -> None:
        theme = self._theme
        painter.save()
        painter.setClipRect(rect)
        x = float(rect.left() - shift)
        # Only what can be seen: a line may hold 64 KiB.
        skip = max(0, int(shift / self._cell) - 2)
        most = int(rect.width() / self._cell) + 4
        metrics = QFontMetricsF(theme.mono())
        place = 0
        for span in spans(line.text):
            begin, end = max(0, skip - place), max(0, skip + most - place)
            part = span.text[begin:end]
            if part:
                left = x + (place + begin) * self._cell
                width = metrics.horizontalAdvance(part)
                if self._needle:
                    self._paint_found(painter, part, left, rect)
                painter.setPen(theme.colour(span.colour or "text.primary"))
                painter.setFont(theme.mono(weight="semibold") if span.bold else theme.mono())
                painter.drawText(
                    QRect(round(left), rect.top(), round(width) + 4, rect.height()),
                    _LEFT | int(Qt.TextFlag.TextSingleLine),
                    part,
                )
            place += len(span.text)
        painter.restore()

    def _paint_found(self, painter: QPainter, text: str, left: float, rect: QRect) -> None:
        lower, needle = text.lower(), self._needle.lower()
        place = lower.find(needle)
        while place >= 0:
            box = QRect(
                round(left + place * self._cell),
                rect.top() + 2,
                round(len(needle) * self._cell),
                rect.height() - 4,
            )
            painter.fillRect(box, self._theme.colour("status.warning_tint"))
            place = lower.find(needle, place + len(needle))

    def _rows(self) -> int:
        return max(1, self.viewport().height() // self._line)

    def _number_at(self, place: QPoint) -> int:
        number = self.verticalScrollBar().value() + place.y() // self._line
        return max(0, min(self._count - 1, number))

    def _line_at(self, number: int) -> LogLine | None:
        if self._open is not None and number == self._count - 1:
            return self._open
        page = number // PAGE
        lines = self._pages.get(page)
        if lines is None:
            self._ask(page)
            return None
        self._pages.move_to_end(page)
        index = number - page * PAGE
        return lines[index] if index < len(lines) else None

    def _ask(self, page: int) -> None:
        if page in self._asked or not self._run_id:
            return
        self._asked.add(page)
        run_id = self._run_id

        def read(history: History) -> tuple[str, int, tuple[LogLine, ...]]:
            return run_id, page, tuple(history.log(run_id, start=page * PAGE, count=PAGE))

        self._bridge.read(read, self._on_page, owner=self)

    def _on_page(self, found: tuple[str, int, tuple[LogLine, ...]]) -> None:
        run_id, page, lines = found
        if run_id != self._run_id:
            return
        self._asked.discard(page)
        self._pages[page] = lines
        while len(self._pages) > PAGES_KEPT:
            self._pages.popitem(last=False)
        # A bar that was drawn over and over is as long as its last picture.
        longest = max(
            (len(plain(line.text) if "\r" in line.text else line.text) for line in lines), default=0
        )
        if longest > self._longest:
            self._longest = longest
            self._fit()
        self.viewport().update()

    def _fit(self) -> None:
        bar = self.verticalScrollBar()
        bar.setPageStep(self._rows())
        following = self._following
        bar.setRange(0, max(0, self._count - self._rows()))
        if following:
            bar.setValue(bar.maximum())
        self._following = following
        across = self.horizontalScrollBar()
        across.setPageStep(self.viewport().width())
        across.setRange(0, max(0, round((self._longest + 36) * self._cell) - self.viewport().width()))
        across.setSingleStep(round(self._cell * 4))
        self.viewport().update()

    def _on_scrolled(self, value: int) -> None:
        self._set_following(value >= self.verticalScrollBar().maximum())
        self.viewport().update()

    def _set_following(self, following: bool) -> None:
        if following != self._following:
            self._following = following
            self.follow_changed.emit(following)


def _clock(moment: float) -> str:
    whole = int(moment)
    return time.strftime("%H:%M:%S", time.localtime(whole)) + f".{int((moment - whole) * 1000):03d}"
