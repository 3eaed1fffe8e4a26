"""Text: labels in the three greys and two weights of the design, whole or cut with an ellipsis."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from mlstudio.gui.theme.theme import Theme


class Label(QLabel):
    """Plain text (never HTML). `tone` is a grey or a status (``primary``, ``secondary``, ``tertiary``, ``accent``,
    ``ok``, ``error``, ``warning``), `size` and `weight` are those of `Theme.font`."""

    def __init__(
        self,
        text: str,
        theme: Theme,
        *,
        tone: str = "primary",
        size: str = "body",
        weight: str = "regular",
        mono: bool = False,
        wrap: bool = False,
        selectable: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setFont(
            theme.mono(size if size != "body" else "mono", weight=weight)
            if mono
            else theme.font(size, weight=weight)
        )
        self.setProperty("tone", tone)
        self.setWordWrap(wrap)
        if wrap:
            policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
            policy.setHeightForWidth(True)
            self.setSizePolicy(policy)
        if selectable:
            self.setTextInteractionFlags(
                Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
            )
        self.setText(text)

    def set_tone(self, tone: str) -> None:
        if self.property("tone") != tone:
            self.setProperty("tone", tone)
            restyle(self)


class CutLabel(Label):
    """A label that gives way: text too long for its place ends in an ellipsis and is whole in the tooltip.

    `middle` cuts in the middle, for paths and digests.
    """

    def __init__(
        self,
        text: str,
        theme: Theme,
        *,
        tone: str = "primary",
        size: str = "body",
        weight: str = "regular",
        mono: bool = False,
        middle: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        self._mode = Qt.TextElideMode.ElideMiddle if middle else Qt.TextElideMode.ElideRight
        super().__init__(text, theme, tone=tone, size=size, weight=weight, mono=mono, parent=parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        return QSize(min(24, super().sizeHint().width()), super().minimumSizeHint().height())

    def setText(self, text: str) -> None:
        super().setText(text)
        self._tell_whole()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._tell_whole()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        rect = self.contentsRect()
        text = QFontMetrics(self.font()).elidedText(self.text(), self._mode, rect.width())
        self.style().drawItemText(
            painter,
            rect,
            int(self.alignment()),
            self.palette(),
            self.isEnabled(),
            text,
            self.foregroundRole(),
        )

    def _tell_whole(self) -> None:
        is_cut = QFontMetrics(self.font()).horizontalAdvance(self.text()) > self.contentsRect().width() > 0
        self.setToolTip(self.text() if is_cut else "")


def restyle(widget: QWidget) -> None:
    """Let the style sheet look at a widget's properties again after one of them changed."""
    style = widget.style()
    style.unpolish(widget)
    style.polish(widget)
    widget.update()
