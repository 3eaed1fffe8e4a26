"""Panes: flat surfaces with a one-pixel line at an edge, bars of a fixed height, splitters, framed boxes."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QRegion, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QScrollArea,
    QSizePolicy,
    QSplitter,
    QSplitterHandle,
    QVBoxLayout,
    QWidget,
)


class Pane(QFrame):
    """A surface: `ground` is ``window``, ``base``, ``sunken``, ``group``, ``error``, ``warning`` or ``ok``; `edge` draws
    a line at its ``top``, ``bottom``, ``left``, ``right`` or all around (``frame``). `column` holds its content."""

    def __init__(self, *, ground: str = "window", edge: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("pane", ground)
        if edge:
            self.setProperty("edge", edge)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(0)


class Bar(QFrame):
    """A row of controls: a toolbar (40), a section bar (32) or the status strip (24). `row` holds its content."""

    def __init__(
        self,
        *,
        height: int = 40,
        ground: str = "window",
        edge: str = "bottom",
        margins: tuple[int, int] = (16, 12),
        spacing: int = 8,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setProperty("pane", ground)
        if edge:
            self.setProperty("edge", edge)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(margins[0], 0, margins[1], 0)
        self.row.setSpacing(spacing)


class Scroll(QScrollArea):
    """A column that scrolls vertically only; its content takes the width there is."""

    def __init__(self, content: QWidget, *, ground: str = "base", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("pane", ground)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        content.setProperty("pane", ground)
        content.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setWidget(content)


class _Handle(QSplitterHandle):
    """A line of one pixel that can be grabbed over seven."""

    def resizeEvent(self, event: QResizeEvent) -> None:
        # As Qt does it for its own five pixels (QSplitterHandle::resizeEvent), which therefore is not called: margins
        # that it and we set in turns would send each other resize events without end.
        sideways = self.orientation() == Qt.Orientation.Horizontal
        self.setAttribute(Qt.WidgetAttribute.WA_MouseNoMask)
        self.setContentsMargins(*((3, 0, 3, 0) if sideways else (0, 3, 0, 3)))
        self.setMask(QRegion(self.contentsRect()))


class Splitter(QSplitter):
    """Panes side by side (or above each other) with a one-pixel line between that can be moved."""

    def __init__(self, *, vertical: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Vertical if vertical else Qt.Orientation.Horizontal, parent)
        self.setHandleWidth(1)
        self.setChildrenCollapsible(False)

    def createHandle(self) -> QSplitterHandle:
        return _Handle(self.orientation(), self)
