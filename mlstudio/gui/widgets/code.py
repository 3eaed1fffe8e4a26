"""Code to read: line numbers, colours from the theme, notes at the right end of lines, a sentence on hover."""

from __future__ import annotations

import re
from collections.abc import Mapping

from PySide6.QtCore import QEvent, QPoint, QRect, QSize, Qt
from PySide6.QtGui import (
    QColor,
    QFontMetrics,
    QHelpEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QSyntaxHighlighter,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextOption,
)
from PySide6.QtWidgets import QFrame, QTextEdit, QToolTip, QWidget

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.text import restyle

_PYTHON_WORDS = (
    "and as assert async await break class continue def del elif else except finally for from global if import in is"
    " lambda nonlocal not or pass raise return try while with yield None True False"
).replace(" ", "|")

_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "dockerfile": (
        (r"\b\d+(\.\d+)+\b", "number"),
        (r"\"[^\"]*\"|'[^']*'", "string"),
        (r"(?<=^FROM )\S+", "string"),
        (
            r"^\s*(FROM|RUN|COPY|ADD|ENV|ARG|WORKDIR|USER|LABEL|ENTRYPOINT|CMD|EXPOSE|SHELL|VOLUME|STOPSIGNAL"
            r"|HEALTHCHECK|ONBUILD)\b|\bAS\b",
            "keyword",
        ),
        (r"--[a-z][a-z-]*(?==)", "function"),
        (r"^\s*#.*$", "comment"),
    ),
    "python": (
        (r"\b\d+(\.\d+)?([eE][-+]?\d+)?\b", "number"),
        (r"\b\w+(?=\()", "function"),
        (rf"\b({_PYTHON_WORDS})\b", "keyword"),
        (r"\"[^\"]*\"|'[^']*'", "string"),
        (r"#.*$", "comment"),
    ),
    "shell": (
        (r"(?<=\s)--?[A-Za-z][\w-]*", "function"),
        (r"\"[^\"]*\"|'[^']*'", "string"),
        (r"^\s*[\w./-]+", "keyword"),
        (r"(^|\s)#.*$", "comment"),
    ),
    "diff": (),
    "text": (),
}


LINE_HEIGHT = 20
MARGIN = 6


class Highlighter(QSyntaxHighlighter):
    """Colours lines by simple rules; `language` is ``dockerfile``, ``python``, ``shell``, ``diff`` or ``text``."""

    def __init__(self, document: QTextDocument, theme: Theme, *, language: str) -> None:
        super().__init__(document)
        self._theme = theme
        self._language = language
        self._rules = [(re.compile(pattern), name) for pattern, name in _RULES[language]]
        theme.changed.connect(self.rehighlight)

    def highlightBlock(self, text: str) -> None:
        if self._language == "diff":
            self._colour_diff(text)
            return
        for pattern, name in self._rules:
            for found in pattern.finditer(text):
                style = QTextCharFormat()
                style.setForeground(self._theme.colour(f"code.{name}"))
                self.setFormat(found.start(), found.end() - found.start(), style)

    def _colour_diff(self, text: str) -> None:
        style = QTextCharFormat()
        if text.startswith(("+++", "---", "diff ", "index ")):
            style.setForeground(self._theme.colour("text.tertiary"))
        elif text.startswith("@@"):
            style.setForeground(self._theme.colour("code.function"))
        elif text.startswith("+"):
            style.setForeground(self._theme.colour("status.ok"))
        elif text.startswith("-"):
            style.setForeground(self._theme.colour("status.error"))
        else:
            return
        self.setFormat(0, len(text), style)


class _Gutter(QWidget):
    """The column of line numbers."""

    def __init__(self, view: CodeView) -> None:
        super().__init__(view)
        self._view = view

    def sizeHint(self) -> QSize:
        return QSize(self._view.gutter_width(), 0)

    def paintEvent(self, event: QPaintEvent) -> None:
        self._view.paint_gutter(self, event.rect())


class CodeView(QTextEdit):
    """Read-only code with line numbers, lines 20 px apart.

    `set_notes` puts words at the right end of lines (``{line: (text, colour)}``, lines from 0, colours by their
    token), `set_explanations` shows a sentence while the pointer is on a line, `mark_lines` gives lines the
    selection's ground. `editable` makes it a field.
    """

    def __init__(
        self,
        theme: Theme,
        *,
        name: str,
        language: str = "text",
        numbers: bool = True,
        editable: bool = False,
        framed: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._theme = theme
        self._numbers = numbers
        self._notes: dict[int, tuple[str, str]] = {}
        self._explanations: dict[int, str] = {}
        self._marked: range = range(0)
        self.setProperty("code", "false" if framed or editable else "true")
        self.setAccessibleName(name)
        self.setReadOnly(not editable)
        if not editable:
            self.setTextInteractionFlags(
                Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
            )
        self.setFont(theme.mono())
        self.setLineWrapMode(QTextEdit.LineWrapMode.NoWrap)
        self.setWordWrapMode(QTextOption.WrapMode.NoWrap)
        if not editable and not framed:
            self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.document().setDocumentMargin(MARGIN)
        self.highlighter = Highlighter(self.document(), theme, language=language)
        self._gutter = _Gutter(self)
        self._gutter.setVisible(numbers)
        self.setAcceptRichText(False)
        self.verticalScrollBar().valueChanged.connect(self._gutter.update)
        self.document().contentsChanged.connect(self._on_contents_changed)
        self._blocks = -1
        self._on_contents_changed()

    def set_wrong(self, wrong: bool) -> None:
        """Border in the error colour, for an editable one."""
        self.setProperty("wrong", "true" if wrong else "false")
        restyle(self)

    def set_code(self, text: str) -> None:
        """Show `text`; does nothing if it is shown already, and keeps the place when it changed."""
        if self.isReadOnly():
            text = text.rstrip("\n")
        if text == self.toPlainText():
            return
        place = self.verticalScrollBar().value()
        self.setPlainText(text)
        shape = QTextBlockFormat()
        shape.setLineHeight(LINE_HEIGHT, QTextBlockFormat.LineHeightTypes.FixedHeight.value)
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.mergeBlockFormat(shape)
        self.verticalScrollBar().setValue(place)

    def set_notes(self, notes: Mapping[int, tuple[str, str]]) -> None:
        self._notes = dict(notes)
        self.viewport().update()

    def set_explanations(self, explanations: Mapping[int, str]) -> None:
        self._explanations = dict(explanations)

    def mark_lines(self, lines: range) -> None:
        self._marked = lines
        self.viewport().update()

    def content_height(self) -> int:
        """Height in pixels that shows every line without scrolling."""
        return LINE_HEIGHT * max(1, self.document().blockCount()) + 2 * MARGIN + 2

    def gutter_width(self) -> int:
        if not self._numbers:
            return 0
        digits = max(2, len(str(self.document().blockCount())))
        return QFontMetrics(self.font()).horizontalAdvance("0") * digits + 22

    def paint_gutter(self, gutter: QWidget, rect: QRect) -> None:
        painter = QPainter(gutter)
        painter.fillRect(rect, self._ground())
        painter.setFont(self.font())
        for number, top, height in self._visible_lines():
            if number in self._marked:
                painter.fillRect(
                    QRect(0, top, gutter.width(), height), self._theme.colour("surface.selected")
                )
            painter.setPen(self._theme.colour("text.tertiary"))
            painter.drawText(
                QRect(0, top, gutter.width() - 14, height),
                int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter),
                str(number + 1),
            )

    def paintEvent(self, event: QPaintEvent) -> None:
        viewport = self.viewport()
        if self._marked:
            painter = QPainter(viewport)
            for number, top, height in self._visible_lines():
                if number in self._marked:
                    painter.fillRect(
                        QRect(0, top, viewport.width(), height), self._theme.colour("surface.selected")
                    )
            painter.end()
        super().paintEvent(event)
        painter = QPainter(viewport)
        painter.setFont(self._theme.font("micro"))
        metrics = QFontMetrics(painter.font())
        for number, top, height in self._visible_lines():
            note = self._notes.get(number)
            if note is not None:
                where = QRect(0, top, viewport.width() - 12, height)
                width = metrics.horizontalAdvance(note[0]) + 12
                ground = self._theme.colour("surface.selected") if number in self._marked else self._ground()
                painter.fillRect(QRect(where.right() - width, top, width + 13, height), ground)
                painter.setPen(self._theme.colour(note[1]))
                painter.drawText(
                    where, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), note[0]
                )
        if self.hasFocus() and self.property("code") == "true":
            painter.setPen(self._theme.focus_pen())
            painter.drawRect(viewport.rect().adjusted(1, 1, -1, -1))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        inner = self.contentsRect()
        self._gutter.setGeometry(QRect(inner.left(), inner.top(), self.gutter_width(), inner.height()))

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            line = self.cursorForPosition(QPoint(0, event.pos().y())).blockNumber()
            text = self._explanations.get(line, "")
            if text:
                QToolTip.showText(event.globalPos(), text, self)
            else:
                QToolTip.hideText()
            return True
        return super().viewportEvent(event)

    def _ground(self) -> QColor:
        return self._theme.colour("surface.sunken" if self.property("code") == "true" else "surface.base")

    def _visible_lines(self) -> list[tuple[int, int, int]]:
        """(line number, top, height) of every line in view."""
        lines: list[tuple[int, int, int]] = []
        layout = self.document().documentLayout()
        offset = self.verticalScrollBar().value()
        bottom = self.viewport().height()
        block = self.cursorForPosition(QPoint(0, 0)).block()
        while block.isValid():
            box = layout.blockBoundingRect(block).translated(0, -offset)
            if box.top() > bottom:
                break
            # Qt puts what a fixed line height adds above the text; half of it belongs below.
            lines.append((block.blockNumber(), round(box.top()) + 2, LINE_HEIGHT))
            block = block.next()
        return lines

    def _on_contents_changed(self) -> None:
        if self.document().blockCount() != self._blocks:
            self._blocks = self.document().blockCount()
            self.setViewportMargins(self.gutter_width(), 0, 0, 0)
            inner = self.contentsRect()
            self._gutter.setGeometry(QRect(inner.left(), inner.top(), self.gutter_width(), inner.height()))
        self._gutter.update()
