"""The column beside the curves: values then and now, and the run's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QRect, QSize, Qt
from PySide6.QtGui import QFontMetrics, QHelpEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QToolTip, QVBoxLayout, QWidget

from mlstudio.gui.pages.run.origins import Origin, OriginList
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.form import Line
from mlstudio.gui.widgets.panes import Scroll
from mlstudio.gui.widgets.text import Label

_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


@dataclass(frozen=True, slots=True)
class Reading:
    """A row: what it is, what it was at the crosshair, what it is now."""

    name: str
    then: str = ""
    now: str = ""
    note: str = ""
    """Told where the pointer rests on the row."""


class Readings(QWidget):
    """Rows 22 px high. With a crosshair its value is dark and the newest grey at the right; else the newest is dark."""

    def __init__(self, theme: Theme, *, mono: bool = False) -> None:
        super().__init__()
        self._theme = theme
        self._mono = mono
        self._rows: tuple[Reading, ...] = ()
        self._has_then = False
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_rows(self, rows: Sequence[Reading], *, has_then: bool = False) -> None:
        if tuple(rows) == self._rows and has_then == self._has_then:
            return
        resized = len(rows) != len(self._rows)
        self._rows, self._has_then = tuple(rows), has_then
        self.setAccessibleName("; ".join(f"{row.name} {row.then or row.now}" for row in rows))
        if resized:
            self.updateGeometry()
        self.update()

    def rows(self) -> tuple[Reading, ...]:
        return self._rows

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            row = event.pos().y() // self._theme.length("height.readout_row")
            note = self._rows[row].note if 0 <= row < len(self._rows) else ""
            QToolTip.showText(event.globalPos(), note, self)
            return True
        return super().event(event)

    def sizeHint(self) -> QSize:
        return QSize(240, len(self._rows) * self._theme.length("height.readout_row"))

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        painter = QPainter(self)
        height = theme.length("height.readout_row")
        body, small = theme.font("body"), theme.font("small")
        value_font = theme.mono() if self._mono else body
        metrics, small_metrics = QFontMetrics(body), QFontMetrics(small)
        now_width = 66 if self._has_then else 0
        for number, row in enumerate(self._rows):
            rect = QRect(0, number * height, self.width(), height)
            value = row.then if self._has_then else row.now
            value_width = QFontMetrics(value_font).horizontalAdvance(value)
            value_width = min(value_width, rect.width() * 2 // 3)
            value_rect = rect.adjusted(0, 0, -now_width, 0)
            name_room = value_rect.width() - value_width - 10
            painter.setFont(body)
            painter.setPen(theme.colour("text.secondary"))
            painter.drawText(
                rect, _LEFT, metrics.elidedText(row.name, Qt.TextElideMode.ElideMiddle, max(30, name_room))
            )
            painter.setFont(value_font)
            painter.setPen(theme.colour("text.primary"))
            words = QFontMetrics(value_font).elidedText(value, Qt.TextElideMode.ElideMiddle, value_width + 2)
            painter.drawText(value_rect, _RIGHT, words)
            if self._has_then:
                painter.setFont(small)
                painter.setPen(theme.colour("text.tertiary"))
                now = small_metrics.elidedText(row.now, Qt.TextElideMode.ElideRight, now_width - 6)
                painter.drawText(rect, _RIGHT, now)


class SideColumn(Scroll):
    """ "At 09:33:12 … now", then the parameters, then how the numbers came."""

    def __init__(self, theme: Theme) -> None:
        content = QWidget()
        super().__init__(content, ground="window")
        self._theme = theme
        self.setFixedWidth(288)
        column = QVBoxLayout(content)
        column.setContentsMargins(12, 8, 12, 16)
        column.setSpacing(4)
        self._when = Label("Now", theme, size="small", weight="semibold")
        self._now = Label("", theme, size="small", tone="tertiary")
        column.addLayout(_head(self._when, self._now))
        column.addWidget(Line())
        self.values = Readings(theme)
        column.addWidget(self.values)
        self.system = Readings(theme)
        column.addWidget(self.system)
        column.addSpacing(12)
        self._parameters_title = Label("Parameters", theme, size="small", weight="semibold")
        self._parameters_count = Label("", theme, size="small", tone="tertiary")
        column.addLayout(_head(self._parameters_title, self._parameters_count))
        column.addWidget(Line())
        self.parameters = Readings(theme)
        column.addWidget(self.parameters)
        self._none = Label("None were given or logged.", theme, tone="tertiary", size="small")
        column.addWidget(self._none)
        column.addSpacing(12)
        self._origins_title = Label("How numbers came", theme, size="small", weight="semibold")
        self._origins_unit = Label("series", theme, size="small", tone="tertiary")
        column.addLayout(_head(self._origins_title, self._origins_unit))
        self._origins_line = Line()
        column.addWidget(self._origins_line)
        self.origins = OriginList(theme)
        column.addWidget(self.origins)
        column.addStretch(1)
        self.show_origins([])

    def show_origins(self, origins: Sequence[Origin]) -> None:
        """Loggers of the run; nothing is shown where there are none."""
        self.origins.show_origins(origins)
        for widget in (self._origins_title, self._origins_unit, self._origins_line, self.origins):
            widget.setVisible(bool(origins))

    def show_values(self, when: str, metrics: Sequence[Reading], system: Sequence[Reading]) -> None:
        """`when` is empty while no crosshair is shown."""
        self._when.setText(f"At {when}" if when else "Now")
        self._now.setText("now" if when else "")
        self.values.show_rows(metrics, has_then=bool(when))
        self.system.show_rows(system, has_then=bool(when))

    def show_parameters(self, parameters: Sequence[tuple[str, str]]) -> None:
        self.parameters.show_rows([Reading(name, now=value) for name, value in parameters])
        self._parameters_count.setText(str(len(parameters)) if parameters else "")
        self._none.setVisible(not parameters)


def _head(left: Label, right: Label) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setContentsMargins(0, 2, 0, 4)
    row.addWidget(left)
    row.addStretch(1)
    row.addWidget(right)
    return row
