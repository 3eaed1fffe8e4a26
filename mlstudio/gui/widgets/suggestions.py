"""The list of what may stand at a place of a line: each with its sentence, under the line, never with the focus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QListWidget,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.text import Label

MOST_ROWS = 10
_WIDTH = 520
_PAD = 10
_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`text` is what is put in, `what` says it in a few words; `kind` tells names from operators and values."""

    text: str
    what: str = ""
    kind: str = ""


class _Rows(QStyledItemDelegate):
    """The text in mono, its sentence grey behind it, all sentences at one place."""

    def __init__(self, theme: Theme, suggestions: Suggestions) -> None:
        super().__init__(suggestions)
        self._theme = theme
        self._suggestions = suggestions

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(80, self._theme.length("height.row_compact"))

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        theme = self._theme
        items = self._suggestions.items()
        if not index.row() < len(items):
            return
        item = items[index.row()]
        rect: QRect = option.rect
        if index.row() == self._suggestions.current_row:
            painter.fillRect(rect, theme.colour("surface.selected"))
        elif index.row() == self._suggestions.hovered_row:
            painter.fillRect(rect, theme.colour("surface.hover"))
        inner = rect.adjusted(_PAD, 0, -_PAD, 0)
        room = self._suggestions.text_room(inner.width())
        painter.setFont(theme.mono())
        painter.setPen(theme.colour("text.primary"))
        words = QFontMetrics(theme.mono()).elidedText(
            item.text, Qt.TextElideMode.ElideMiddle, room if item.what else inner.width()
        )
        painter.drawText(inner, _LEFT, words)
        if item.what:
            rest = inner.adjusted(room + 16, 0, 0, 0)
            small = theme.font("small")
            painter.setFont(small)
            painter.setPen(theme.colour("text.secondary"))
            what = QFontMetrics(small).elidedText(item.what, Qt.TextElideMode.ElideRight, rest.width())
            painter.drawText(rest, _LEFT, what)


class Suggestions(QFrame):
    """Lies over the window that it belongs to. Who has the focus moves its choice and takes from it."""

    taken = Signal(int)
    """The place of an item that was clicked."""

    def __init__(self, theme: Theme, *, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._items: tuple[Suggestion, ...] = ()
        self.hovered_row = -1
        self.setProperty("pane", "popup")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(1, 4, 1, 0)
        column.setSpacing(0)
        self._list = QListWidget()
        self._list.setProperty("pane", "popup")
        self._list.setAccessibleName(name)
        self._list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._list.setFrameShape(QFrame.Shape.NoFrame)
        self._list.setUniformItemSizes(True)
        self._list.setMouseTracking(True)
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self._list.setItemDelegate(_Rows(theme, self))
        self._list.clicked.connect(lambda index: self.taken.emit(index.row()))
        self._list.entered.connect(self._on_entered)
        column.addWidget(self._list)
        self._foot = Label("", theme, tone="tertiary", size="micro")
        self._foot.setContentsMargins(_PAD, 4, _PAD, 5)
        column.addWidget(self._foot)
        self.hide()

    def items(self) -> tuple[Suggestion, ...]:
        return self._items

    @property
    def current_row(self) -> int:
        """The chosen row, or -1 while none was chosen."""
        return self._list.currentRow()

    def text_room(self, width: int) -> int:
        """How wide the texts are, so that sentences stand under each other; at most half of `width`."""
        metrics = QFontMetrics(self._theme.mono())
        widest = max((metrics.horizontalAdvance(item.text) for item in self._items), default=0)
        return min(max(64, widest), width // 2)

    def show_items(self, items: Sequence[Suggestion], *, at: QPoint, within: QRect) -> None:
        """Show `items` with the upper left corner `at` (in the parent's coordinates), but not outside of `within`."""
        if tuple(items) != self._items:
            self._items = tuple(items)
            self.hovered_row = -1
            self._list.clear()
            for item in items:
                self._list.addItem(f"{item.text}: {item.what}" if item.what else item.text)
            self._list.setCurrentRow(-1)
            self._list.scrollToTop()
        self._say_keys()
        row = self._theme.length("height.row_compact")
        self._list.setFixedHeight(row * min(MOST_ROWS, len(items)))
        width = min(_WIDTH, within.width())
        height = self._column.sizeHint().height()
        left = max(within.left(), min(at.x(), within.right() - width + 1))
        self.setGeometry(left, at.y(), width, min(height, max(row, within.bottom() - at.y())))
        self.raise_()
        self.show()

    def move_choice(self, by: int) -> None:
        """Choose the next or the previous row; behind the last comes none, then the first."""
        count = len(self._items)
        row = (self._list.currentRow() + 1 + by) % (count + 1) - 1
        self._list.setCurrentRow(row)
        if row >= 0:
            self._list.scrollToItem(self._list.item(row))
        self._list.viewport().update()
        self._say_keys()

    def _say_keys(self) -> None:
        takes = "Tab takes the first" if self.current_row < 0 else "Tab or Enter takes it"
        more = len(self._items) - MOST_ROWS
        rest = f" · {len(self._items)} in all" if more > 0 else ""
        self._foot.setText(f"{takes} · ↑ ↓ choose · Esc closes{rest}")

    def _on_entered(self, index: QModelIndex) -> None:
        self.hovered_row = index.row()
        self._list.viewport().update()
