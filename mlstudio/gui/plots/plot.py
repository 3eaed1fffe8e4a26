"""A plot: curves over one x axis, with grid, title, crosshair, box zoom and a dot where a live run is now.

pyqtgraph draws what is inside the axes; title, labels and frame are painted here, to the pixel. Curves are of width 1:
with antialiasing Qt's raster engine takes 5 to 19 times as long for 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QEnterEvent,
    QFontMetrics,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from mlstudio.gui.plots.marks import LEAST_BAND, Band, Bands, Box, Crosshair, Grid
from mlstudio.gui.plots.smoothing import Floats, value_range
from mlstudio.gui.plots.source import CurveData
from mlstudio.gui.plots.ticks import Scale, Tick, place_text, ticks_between
from mlstudio.gui.theme.theme import Theme

RAW_CURVES_LIMIT = 50
"""With more curves than this the raw layer behind the smoothed one is left out."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve and how it looks. `colour` is a palette index, or None for the grey of system readings."""

    data: CurveData
    colour: int | None
    dash: tuple[float, ...] = ()
    is_live: bool = False
    is_area: bool = False
    """Filled to the bottom: a utilisation."""


class _Items:
    """The graphics items of one curve."""

    def __init__(self, box: pg.ViewBox) -> None:
        self._box = box
        self.raw = pg.PlotCurveItem(antialias=True)
        self.line = pg.PlotCurveItem(antialias=True)
        for item in (self.raw, self.line):
            item.setSegmentedLineMode("off")
            box.addItem(item, ignoreBounds=True)

    def remove(self) -> None:
        for item in (self.raw, self.line):
            self._box.removeItem(item)


class CurvePlot(QWidget):
    """A plot 1 px framed on the window's ground (`framed`), or a strip in a column of plots that share one x axis.

    `hovered` tells the x under the pointer (None when it left), `zoomed` the x range after the user changed it (None
    after a double click), `clicked` the x of a click.
    """

    hovered = Signal(object)
    zoomed = Signal(object)
    clicked = Signal(float)

    def __init__(
        self, theme: Theme, *, title: str, framed: bool = True, show_x: bool = True, left: int | None = None
    ) -> None:
        super().__init__()
        self.theme = theme
        self._title, self._detail, self._right = title, "", ""
        self._framed = framed
        self._show_x = show_x
        self._left = theme.length("plot.margin_left") if left is None else left
        self.x_scale = Scale.NUMBER
        self.y_scale = Scale.NUMBER
        self._curves: dict[str, Curve] = {}
        self._items: dict[str, _Items] = {}
        self._emphasis: str | None = None
        self._cut_outliers = False
        self._y_floor: float | None = None
        self._y_top: float | None = None
        self._x_range: tuple[float, float] | None = None
        self._is_zoomed = False
        self._crosshair: float | None = None
        self._chip = False
        self._is_hovered = False
        self._is_dimmed = False
        self.setMinimumSize(theme.length("plot.min_width"), theme.length("plot.min_height") if framed else 56)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName(f"Plot of {title}")
        self.setMouseTracking(True)
        self._view = pg.GraphicsView(self, useOpenGL=False, background=theme.colour("plot.background"))
        self._view.setAntialiasing(True)
        self._view.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._view.setFrameShape(self._view.Shape.NoFrame)
        self._box = Box()
        self._view.setCentralItem(self._box)
        self._grid = Grid(self)
        self._box.addItem(self._grid, ignoreBounds=True)
        self._bands: tuple[Band, ...] = ()
        self._band_items = Bands(self)
        self._box.addItem(self._band_items, ignoreBounds=True)
        self._dots = pg.ScatterPlotItem(pxMode=True)
        self._ends = pg.ScatterPlotItem(pxMode=True)
        self._line = Crosshair(angle=90, movable=False)
        self._line.setVisible(False)
        for item, height in ((self._ends, 20), (self._line, 30), (self._dots, 40)):
            item.setZValue(height)
            self._box.addItem(item, ignoreBounds=True)
        self._view.scene().sigMouseMoved.connect(self._on_mouse_moved)
        self._view.installEventFilter(self)
        self._view.viewport().installEventFilter(self)
        self._box.sigRangeChanged.connect(self._on_range_changed)
        self._box.zoomed.connect(self._on_zoomed)
        self._box.reset.connect(self._on_reset)
        self._box.clicked.connect(self.clicked)
        theme.changed.connect(self._on_theme_changed)
        self._on_theme_changed()

    # What is shown

    def set_title(self, title: str, *, detail: str = "", right: str = "") -> None:
        """`detail` (a unit, "log") is grey behind the title; `right` ("12 runs") stands at the right."""
        if (title, detail, right) != (self._title, self._detail, self._right):
            self._title, self._detail, self._right = title, detail, right
            self.update(0, 0, self.width(), self._top())

    def set_scales(self, x: Scale, y: Scale) -> None:
        if (x, y) != (self.x_scale, self.y_scale):
            self.x_scale, self.y_scale = x, y
            self._is_zoomed = False
            self.update()

    def set_cut_outliers(self, cut: bool) -> None:
        self._cut_outliers = cut
        self._fit()

    def set_y_limits(self, floor: float | None, top: float | None) -> None:
        """Where y begins and the least where it ends, such as 0 and 100 for a percentage."""
        self._y_floor, self._y_top = floor, top

    def set_curves(self, curves: Sequence[Curve]) -> None:
        """Show exactly these, in this order (the last on top). Those shown before are brought up to date in place."""
        wanted = {curve.data.key: curve for curve in curves}
        for key in [key for key in self._items if key not in wanted]:
            self._items.pop(key).remove()
        with_raw = len(wanted) <= RAW_CURVES_LIMIT
        for place, (key, curve) in enumerate(wanted.items()):
            items = self._items.get(key)
            if items is None:
                items = self._items[key] = _Items(self._box)
            data = curve.data
            old = self._curves.get(key)
            if old is None or old.data is not data:
                items.line.setData(x=data.x, y=data.y, connect="finite")
                if data.raw_y is not None and with_raw:
                    items.raw.setData(x=data.raw_x, y=data.raw_y, connect="finite")
                else:
                    items.raw.setData(x=np.empty(0), y=np.empty(0))
            items.line.setZValue(5 + place / 1000)
            items.raw.setZValue(place / 1000)
        self._curves = wanted
        self._is_dimmed = False
        self._colour_curves()
        self._fit()
        self._show_ends()
        self._show_dots()

    def set_bands(self, bands: Sequence[Band]) -> None:
        """Mark stretches of x; what they mean is told where the pointer rests on them."""
        if tuple(bands) != self._bands:
            self._bands = tuple(bands)
            self.setAccessibleDescription(" ".join(dict.fromkeys(band.words for band in bands)))
            self._band_items.update()

    def bands(self) -> tuple[Band, ...]:
        return self._bands

    def band_at(self, x: float) -> Band | None:
        """The band at a place, or beside it by as much as it is widened to be seen."""
        near = self.pixel_width() * LEAST_BAND
        return next((band for band in self._bands if band.low - near <= x <= band.high + near), None)

    def pixel_width(self) -> float:
        """How much of x one pixel is."""
        low, high = self.view_range()[0]
        return (high - low) / max(1, int(self._view.width()))

    def curves(self) -> Mapping[str, Curve]:
        return self._curves

    def dim(self) -> None:
        """Show that what stands here is old: everything at alpha .30 until new curves come."""
        if not self._is_dimmed and self._curves:
            self._is_dimmed = True
            self._colour_curves()

    def set_emphasis(self, key: str | None) -> None:
        """Draw one curve last and all others at alpha .30."""
        if key != self._emphasis:
            self._emphasis = key
            self._colour_curves()

    def x_extent(self) -> tuple[float, float] | None:
        """Lowest and highest x of all curves."""
        lows = [curve.data.x[0] for curve in self._curves.values() if curve.data.x.size]
        highs = [curve.data.x[-1] for curve in self._curves.values() if curve.data.x.size]
        return (float(min(lows)), float(max(highs))) if lows else None

    def set_x_range(self, extent: tuple[float, float] | None) -> None:
        """Show this stretch of x (shared with other plots); None shows all there is."""
        self._x_range = extent
        self._is_zoomed = False
        self._fit()

    def show_crosshair(self, x: float | None, *, chip: bool = False) -> None:
        """A line through `x` with dots on the curves; `chip` writes the x at the axis."""
        if x == self._crosshair and chip == self._chip:
            return
        self._crosshair, self._chip = x, chip
        self._line.setVisible(x is not None)
        if x is not None:
            self._line.setValue(x)
        self._show_dots()
        self.update(0, self._view.geometry().bottom(), self.width(), 30)

    def values_at(self, x: float) -> dict[str, float]:
        """The drawn value of each curve at `x` (its nearest point); curves that do not reach it are left out."""
        found: dict[str, float] = {}
        for key, curve in self._curves.items():
            value = _value_at(curve.data, x)
            if value is not None:
                found[key] = 10**value if self.y_scale is Scale.LOG else value
        return found

    def view_range(self) -> tuple[tuple[float, float], tuple[float, float]]:
        (x0, x1), (y0, y1) = self._box.viewRange()
        return (float(x0), float(x1)), (float(y0), float(y1))

    @property
    def is_zoomed(self) -> bool:
        return self._is_zoomed

    def x_ticks(self) -> list[Tick]:
        low, high = self.view_range()[0]
        width = self._view.width()
        metrics = QFontMetrics(self.theme.font("micro"))
        for most in range(7, 1, -1):
            ticks = ticks_between(low, high, self.x_scale, most=most)
            used = sum(metrics.horizontalAdvance(tick.text) + 18 for tick in ticks)
            if used <= width + 18:
                return ticks
        return ticks_between(low, high, self.x_scale, most=1)

    def y_ticks(self) -> list[Tick]:
        low, high = self.view_range()[1]
        factor = 10.0 ** self._y_power()
        most = max(2, min(6, self._view.height() // 26))
        ticks = ticks_between(low / factor, high / factor, self.y_scale, most=most)
        while len(ticks) < 3 and most < 6:
            most += 1
            ticks = ticks_between(low / factor, high / factor, self.y_scale, most=most)
        return [Tick(tick.place * factor, tick.text) for tick in ticks] if factor != 1 else ticks

    def _y_power(self) -> int:
        """The power of ten that is taken out of the labels ("× 1e-4"), so that they stay short; 0 for none."""
        if self.y_scale is not Scale.NUMBER:
            return 0
        size = max(abs(value) for value in self.view_range()[1])
        power = math.floor(math.log10(size)) if size > 0 and math.isfinite(size) else 0
        return power if power <= -3 or power >= 13 else 0

    # Qt

    def sizeHint(self) -> QSize:
        return QSize(320, 190)

    def resizeEvent(self, event: QResizeEvent) -> None:
        inset = 1 if self._framed else 0
        bottom = self.theme.length("plot.axis_height") if self._show_x else 4
        self._view.setGeometry(
            QRect(
                self._left,
                self._top(),
                max(10, self.width() - self._left - self.theme.length("plot.margin_right") - inset),
                max(10, self.height() - self._top() - bottom - inset),
            )
        )
        super().resizeEvent(event)

    def enterEvent(self, event: QEnterEvent) -> None:
        self._is_hovered = True
        self.update()
        super().enterEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        self._is_hovered = False
        self.update()
        self.hovered.emit(None)
        super().leaveEvent(event)

    def eventFilter(self, watched: object, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Leave:
            self.hovered.emit(None)
        return False

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if not self._view.geometry().contains(event.position().toPoint()):
            self.hovered.emit(None)

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self.theme
        painter = QPainter(self)
        if self._framed:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setBrush(theme.colour("plot.background"))
            painter.setPen(QPen(theme.colour("border.field" if self._is_hovered else "border.default"), 1))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        else:
            painter.fillRect(self.rect(), theme.colour("plot.background"))
        self._paint_title(painter)
        area = self._view.geometry()
        painter.setPen(theme.colour("plot.axis"))
        painter.drawLine(area.left(), area.bottom() + 1, area.right(), area.bottom() + 1)
        painter.setFont(theme.font("micro"))
        painter.setPen(theme.colour("text.tertiary"))
        (x0, x1), (y0, y1) = self.view_range()
        for tick in self.y_ticks():
            y = area.bottom() - (tick.place - y0) / (y1 - y0) * area.height()
            where = QRectF(0, y - 8, self._left - 7, 16)
            painter.drawText(
                where, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), tick.text
            )
        if self._show_x:
            self._paint_x_labels(painter, area, x0, x1)

    def _paint_title(self, painter: QPainter) -> None:
        theme = self.theme
        line = QRectF(self._left, 0, self.width() - self._left - 10, self._top())
        middle = int(Qt.AlignmentFlag.AlignVCenter)
        bold = theme.font("small", weight="semibold")
        metrics = QFontMetrics(bold)
        right_width = (
            QFontMetrics(theme.font("small")).horizontalAdvance(self._right) + 10 if self._right else 0
        )
        room = int(line.width())
        # The title is what must be read: what stands at the right gives way to it.
        if self._right and metrics.horizontalAdvance(self._title) + right_width <= room:
            painter.setFont(theme.font("small"))
            painter.setPen(theme.colour("text.tertiary"))
            painter.drawText(line, middle | int(Qt.AlignmentFlag.AlignRight), self._right)
            room -= right_width
        title = metrics.elidedText(self._title, Qt.TextElideMode.ElideMiddle, room)
        painter.setFont(bold)
        painter.setPen(theme.colour("text.primary"))
        painter.drawText(line, middle, title)
        power = self._y_power()
        detail = f"{self._detail} × 1e{power}".strip().replace("-", "\u2212") if power else self._detail
        if detail:
            used = metrics.horizontalAdvance(title) + 5
            painter.setFont(theme.font("small"))
            painter.setPen(theme.colour("text.tertiary"))
            words = QFontMetrics(theme.font("small")).elidedText(
                detail, Qt.TextElideMode.ElideRight, max(0, room - used)
            )
            painter.drawText(line.adjusted(used, 0, 0, 0), middle, words)

    def _paint_x_labels(self, painter: QPainter, area: QRect, x0: float, x1: float) -> None:
        theme = self.theme
        metrics = QFontMetrics(theme.font("micro"))
        top = area.bottom() + 3
        for tick in self.x_ticks():
            x = area.left() + (tick.place - x0) / (x1 - x0) * area.width()
            width = metrics.horizontalAdvance(tick.text)
            # The last label is pushed left rather than cut.
            left = min(x - width / 2, self.width() - width - 6)
            painter.drawText(QPointF(left, top + metrics.ascent()), tick.text)
        if self._chip and self._crosshair is not None and x0 <= self._crosshair <= x1:
            text = place_text(self._crosshair, self.x_scale)
            x = area.left() + (self._crosshair - x0) / (x1 - x0) * area.width()
            width = metrics.horizontalAdvance(text) + 10
            left = min(max(x - width / 2, 2), self.width() - width - 2)
            box = QRectF(left, top - 1, width, 16)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("text.primary"))
            painter.drawRoundedRect(box, 2, 2)
            painter.setPen(theme.colour("surface.base"))
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)

    # Inside

    def _top(self) -> int:
        return self.theme.length("plot.title_height") if self._title else 8

    def _colour_of(self, curve: Curve, alpha: float) -> QColor:
        if curve.colour is None:
            colour = QColor(self.theme.colour("text.secondary"))
            colour.setAlphaF(alpha)
            return colour
        return self.theme.run_colour(curve.colour, alpha=alpha)

    def _colour_curves(self) -> None:
        tokens = self.theme.tokens
        for key, curve in self._curves.items():
            others = self._emphasis is not None and self._emphasis in self._curves and key != self._emphasis
            alpha = tokens.alpha("dimmed_alpha") if others or self._is_dimmed else 1.0
            dash = curve.dash
            if not dash and curve.colour is not None:
                dash = self.theme.run_lap(curve.colour).dash
            pen = QPen(self._colour_of(curve, alpha), 1)
            pen.setCosmetic(True)
            if dash:
                pen.setDashPattern(list(dash))
            items = self._items[key]
            items.line.setPen(pen)
            items.line.setZValue(15 if key == self._emphasis else items.line.zValue() % 10)
            raw = QPen(self._colour_of(curve, alpha * tokens.alpha("raw_alpha")), 1)
            raw.setCosmetic(True)
            items.raw.setPen(raw)
            if curve.is_area:
                items.line.setFillLevel(0.0)
                items.line.setBrush(self._colour_of(curve, 0.12 * alpha))

    def _fit(self) -> None:
        """Set the ranges from the curves, unless the user zoomed."""
        if self._is_zoomed:
            return
        extent = self._x_range or self.x_extent()
        if extent is None:
            extent = (0.0, 1.0)
        x0, x1 = extent
        if x1 <= x0:
            x0, x1 = x0 - 0.5, x1 + 0.5
        parts: list[Floats] = []
        for curve in self._curves.values():
            data = curve.data
            parts.append(_between(data.x, data.y, self._x_range))
            if data.raw_x is not None and data.raw_y is not None and len(self._curves) <= RAW_CURVES_LIMIT:
                parts.append(_between(data.raw_x, data.raw_y, self._x_range))
        found = value_range(parts, cut_outliers=self._cut_outliers)
        low, high, outside = found if found is not None else (0.0, 1.0, 0)
        if self._y_floor is not None:
            low = min(self._y_floor, low)
        if self._y_top is not None:
            high = max(self._y_top, high)
        if high <= low:
            room = abs(low) * 0.1 or 0.5
            low, high = low - room, high + room
        pad = (high - low) * 0.05
        bottom = low if self._y_floor is not None and low == self._y_floor else low - pad
        self._box.setRange(xRange=(x0, x1), yRange=(bottom, high + pad), padding=0, disableAutoRange=True)
        if self._cut_outliers:
            words = f"{outside:,} outside" if outside else ""
            self.set_title(self._title, detail=self._detail, right=words or self._right)

    def _show_ends(self) -> None:
        spots = []
        for curve in self._curves.values():
            if curve.is_live and curve.data.y.size and math.isfinite(curve.data.y[-1]):
                spots.append(
                    {
                        "pos": (curve.data.x[-1], curve.data.y[-1]),
                        "size": self.theme.length("plot.live_end_dot"),
                        "brush": self._colour_of(curve, 1.0),
                        "pen": None,
                        "symbol": self._symbol(curve),
                    }
                )
        self._ends.setData(spots=spots)

    def _show_dots(self) -> None:
        spots = []
        edge = QPen(self.theme.colour("plot.background"), 1)
        edge.setCosmetic(True)
        if self._crosshair is not None:
            for curve in self._curves.values():
                value = _value_at(curve.data, self._crosshair)
                if value is not None:
                    spots.append(
                        {
                            "pos": (self._crosshair, value),
                            "size": self.theme.length("plot.crosshair_dot"),
                            "brush": self._colour_of(curve, 1.0),
                            "pen": edge,
                            "symbol": self._symbol(curve),
                        }
                    )
        self._dots.setData(spots=spots)

    def _symbol(self, curve: Curve) -> str:
        return "o" if curve.colour is None else self.theme.run_lap(curve.colour).symbol

    def _on_mouse_moved(self, place: QPointF) -> None:
        if self._box.sceneBoundingRect().contains(place):
            x = float(self._box.mapSceneToView(place).x())
            band = self.band_at(x) if self._bands else None
            self._view.setToolTip(band.words if band is not None else "")
            self.hovered.emit(x)

    def _on_range_changed(self) -> None:
        self._grid.update()
        self.update()

    def _on_zoomed(self) -> None:
        self._is_zoomed = True
        self.zoomed.emit(self.view_range()[0])

    def _on_reset(self) -> None:
        self._is_zoomed = False
        self._x_range = None
        self._fit()
        self.zoomed.emit(None)

    def _on_theme_changed(self) -> None:
        self._view.setBackground(self.theme.colour("plot.background"))
        pen = QPen(self.theme.colour("plot.crosshair"), 1)
        pen.setCosmetic(True)
        self._line.setPen(pen)
        self._box.rbScaleBox.setPen(QPen(self.theme.colour("focus.ring"), 1))
        fill = QColor(self.theme.colour("focus.ring"))
        fill.setAlphaF(0.12)
        self._box.rbScaleBox.setBrush(fill)
        self._colour_curves()
        self._show_ends()
        self._show_dots()
        self.update()


def _between(x: Floats, y: Floats, extent: tuple[float, float] | None) -> Floats:
    return y if extent is None else y[(x >= extent[0]) & (x <= extent[1])]


def _value_at(data: CurveData, x: float) -> float | None:
    if data.x.size == 0 or x < data.x[0] or x > data.x[-1]:
        return None
    index = int(np.searchsorted(data.x, x, side="right")) - 1
    if index + 1 < data.x.size and data.x[index + 1] - x < x - data.x[index]:
        index += 1
    value = float(data.y[index])
    return value if math.isfinite(value) else None
