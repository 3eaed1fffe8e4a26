"""Icons: Phosphor glyphs drawn as text, in a theme colour that is looked up when they are painted.

The font and its table of names ship with the `qtawesome` package. They are read from its folder without importing it:
importing it loads ten fonts and costs 0.2 s at start.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QPoint, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QIcon, QIconEngine, QPainter, QPixmap


class Glyphs:
    """The icon font: from a name such as ``ph.play-fill`` to a character of `family`."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("qtawesome")
        if found is None or not found.submodule_search_locations:
            raise FileNotFoundError("The icon font is missing: the package “qtawesome” is not installed.")
        folder = Path(found.submodule_search_locations[0]) / "fonts"
        table = json.loads(next(iter(sorted(folder.glob("phosphor-charmap-*.json")))).read_text("utf-8"))
        self._characters: dict[str, str] = {name: chr(int(code, 16)) for name, code in table.items()}
        font_file = next(iter(sorted(folder.glob("phosphor-*.ttf"))))
        loaded = QFontDatabase.addApplicationFont(str(font_file))
        families = QFontDatabase.applicationFontFamilies(loaded)
        self.family = families[0] if families else ""

    def character(self, name: str) -> str:
        """The glyph of ``ph.name``. KeyError if the set lacks it."""
        return self._characters[name.removeprefix("ph.")]

    def draw(self, painter: QPainter, name: str, rect: QRectF, colour: QColor) -> None:
        """Paint the icon into the square `rect` (logical pixels)."""
        font = QFont(self.family)
        font.setPixelSize(max(1, round(rect.height())))
        font.setStyleStrategy(QFont.StyleStrategy.PreferAntialias)
        font.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
        painter.save()
        painter.setFont(font)
        painter.setPen(colour)
        painter.drawText(
            rect.adjusted(-2, -2, 2, 2),
            int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextDontClip),
            self.character(name),
        )
        painter.restore()


class GlyphEngine(QIconEngine):
    """An icon whose colour is asked for at every painting, so that a change of theme needs no new icons."""

    def __init__(
        self, glyphs: Glyphs, name: str, colour: Callable[[QIcon.Mode, QIcon.State], QColor]
    ) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._name = name
        self._colour = colour

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        # A box wider than high has the glyph at its left: the rest is the gap before a button's words.
        square = QRectF(rect.left(), rect.top(), min(rect.width(), rect.height()), rect.height())
        self._glyphs.draw(painter, self._name, square, self._colour(mode, state))

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        pixmap = QPixmap(size)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        self.paint(painter, QRect(QPoint(0, 0), size), mode, state)
        painter.end()
        return pixmap

    def clone(self) -> QIconEngine:
        return GlyphEngine(self._glyphs, self._name, self._colour)
