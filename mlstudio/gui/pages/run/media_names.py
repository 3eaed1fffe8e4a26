"""The names of a run's media, with their kind and how many there are."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from mlstudio.gui.figures import count_text
from mlstudio.gui.theme.theme import Theme

ROW = 28
KINDS = {
    "image": ("ph.image", "image"),
    "histogram": ("ph.chart-bar", "histogram"),
    "text": ("ph.file-text", "text"),
    "table": ("ph.table", "table"),
    "audio": ("ph.speaker-high", "sound"),
}
_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
_AnyIndex = QModelIndex | QPersistentModelIndex
Name = tuple[str, str]
"""(name, kind): one name may hold several kinds."""


class NameModel(QAbstractListModel):
    """Names of media with their kind and how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[Name, int] = {}
        self._names: list[Name] = []
        self._filter = ""

    @property
    def names(self) -> list[Name]:
        return list(self._names)

    def set_counts(self, counts: dict[Name, int]) -> None:
        if list(counts) == list(self._counts):
            self._counts = counts
            self.dataChanged.emit(self.index(0), self.index(max(0, len(self._names) - 1)))
        else:
            self._counts = counts
            self.set_filter(self._filter)

    def set_filter(self, text: str) -> None:
        self.beginResetModel()
        self._filter = text
        words = text.lower().split()
        self._names = [key for key in self._counts if all(word in key[0].lower() for word in words)]
        self.endResetModel()

    def at(self, row: int) -> Name:
        return self._names[row]

    def count(self, key: Name) -> int:
        return self._counts.get(key, 0)

    def rowCount(self, parent: _AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._names)

    def data(self, index: _AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        name, kind = self._names[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return name
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{name}, {count_text(self._counts[name, kind], KINDS.get(kind, ('', kind))[1])}"
        return None


class NameRows(QStyledItemDelegate):
    def __init__(self, theme: Theme, model: NameModel, view: QListView) -> None:
        super().__init__(view)
        self._theme = theme
        self._model = model
        self._view = view

    def sizeHint(self, option: QStyleOptionViewItem, index: _AnyIndex) -> QSize:
        return QSize(120, ROW)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: _AnyIndex) -> None:
        theme = self._theme
        rect: QRect = option.rect
        key = self._model.at(index.row())
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, theme.colour("surface.selected"))
        elif option.state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, theme.colour("surface.hover"))
        icon = KINDS.get(key[1], ("ph.file-text", ""))[0]
        theme.draw_icon(
            painter, icon, QRectF(rect.left() + 14, rect.center().y() - 6.5, 14, 14), "text.tertiary"
        )
        count = f"{self._model.count(key):,}"
        painter.setFont(theme.font("small"))
        painter.setPen(theme.colour("text.tertiary"))
        painter.drawText(rect.adjusted(0, 0, -12, 0), _RIGHT, count)
        used = QFontMetrics(painter.font()).horizontalAdvance(count)
        inner = rect.adjusted(38, 0, -24 - used, 0)
        painter.setFont(theme.font("body"))
        painter.setPen(theme.colour("text.primary"))
        words = QFontMetrics(painter.font()).elidedText(key[0], Qt.TextElideMode.ElideMiddle, inner.width())
        painter.drawText(inner, _LEFT, words)
        if self._view.hasFocus() and self._view.currentIndex() == index:
            painter.setPen(theme.focus_pen())
            painter.drawRect(rect.adjusted(1, 1, -1, -1))
