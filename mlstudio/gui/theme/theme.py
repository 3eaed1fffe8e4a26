"""The theme: which of light and dark is on, and every colour, font and icon by its name."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontDatabase,
    QGuiApplication,
    QIcon,
    QPainter,
    QPalette,
    QPen,
)
from PySide6.QtWidgets import QApplication

from mlstudio.gui.theme.icons import GlyphEngine, Glyphs
from mlstudio.gui.theme.stylesheet import write_style_sheet
from mlstudio.gui.theme.tokens import Lap, Mode, Tokens
from mlstudio.services.locations import resource


class Theme(QObject):
    """Colours, fonts and icons of the whole window. One per application; widgets get it by their constructor.

    `changed` is emitted after light and dark were exchanged; everything painted by hand repaints then.
    """

    changed = Signal()

    def __init__(self, app: QApplication, *, preference: str = "system") -> None:
        super().__init__()
        self.tokens = Tokens.load()
        self._app = app
        self._load_fonts()
        self.glyphs = Glyphs()
        self._preference = ""
        self.mode = Mode.LIGHT
        self._colours: dict[str, QColor] = {}
        hints = QGuiApplication.styleHints()
        hints.colorSchemeChanged.connect(self._on_system_scheme_changed)
        app.setStyle("Fusion")
        app.setFont(self.font())
        self.set_preference(preference)

    @property
    def preference(self) -> str:
        """``system``, ``light`` or ``dark``."""
        return self._preference

    @property
    def is_dark(self) -> bool:
        return self.mode is Mode.DARK

    def set_preference(self, preference: str) -> None:
        """Follow the system, or stay light or dark whatever it says."""
        self._preference = preference if preference in ("light", "dark") else "system"
        hints = QGuiApplication.styleHints()
        if self._preference == "system":
            hints.unsetColorScheme()
        else:
            hints.setColorScheme(Qt.ColorScheme.Dark if self._preference == "dark" else Qt.ColorScheme.Light)
        self._apply()

    # Colours

    def hex(self, name: str) -> str:
        """``#RRGGBB`` of a token such as ``text.secondary``."""
        return self.tokens.colour(self.mode, name)

    def colour(self, name: str) -> QColor:
        """A token's colour such as ``text.secondary``. Not to be changed by the caller: it is shared."""
        found = self._colours.get(name)
        if found is None:
            text = self.hex(name)
            found = QColor(text[:7])
            if len(text) == 9:
                found.setAlpha(int(text[7:], 16))
            self._colours[name] = found
        return found

    def run_colour(self, index: int, *, alpha: float = 1.0) -> QColor:
        """The colour of a run by its palette index (`RunSummary.colour`)."""
        colour = QColor(self.tokens.run_colour(self.mode, index))
        colour.setAlphaF(alpha)
        return colour

    def run_lap(self, index: int) -> Lap:
        return self.tokens.run_lap(index)

    # Type

    def font(self, size: str = "body", *, weight: str = "regular") -> QFont:
        """The interface font with tabular figures; `size` is ``micro``, ``small``, ``body``, ``lead``, …"""
        return self._font("ui", size, weight)

    def mono(self, size: str = "mono", *, weight: str = "regular") -> QFont:
        """The fixed-width font, ligatures off, for code, commands, paths and digests."""
        return self._font("mono", size, weight)

    # Icons

    def icon(self, name: str, colour: str = "text.primary", *, checked: str = "") -> QIcon:
        """``ph.…`` in a token's colour, `checked` when toggled on. It follows the theme by itself."""
        choose = partial(self._icon_colour, colour, checked or colour)
        return QIcon(GlyphEngine(self.glyphs, name, choose))

    def draw_icon(self, painter: QPainter, name: str, rect: QRectF, colour: str) -> None:
        self.glyphs.draw(painter, name, rect, self.colour(colour))

    def state(self, name: str) -> tuple[str, str, str]:
        """(icon, word, colour name) of a run state such as ``running``."""
        return self.tokens.state(name)

    def length(self, name: str) -> int:
        return self.tokens.length(name)

    def focus_pen(self) -> QPen:
        pen = QPen(self.colour("focus.ring"), self.length("width.focus_ring"))
        pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
        return pen

    def _font(self, kind: str, size: str, weight: str) -> QFont:
        font = QFont()
        font.setFamilies(self.tokens.families(kind))
        font.setPixelSize(round(self.tokens.font_size(size)))
        font.setWeight(QFont.Weight(self.tokens.weight(weight)))
        font.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
        if kind == "mono":
            font.setStyleHint(QFont.StyleHint.Monospace)
            font.setFixedPitch(True)
        for tag, value in self.tokens.features(kind).items():
            # Qt 6.7 and newer can switch a font's features; older ones show it as it is.
            named = QFont.Tag.fromString(tag)
            if named is not None:
                font.setFeature(named, value)
        return font

    def _load_fonts(self) -> None:
        folder = resource("fonts")
        for path in sorted((*folder.glob("*.otf"), *folder.glob("*.ttf"))):
            QFontDatabase.addApplicationFont(str(path))

    def _icon_colour(self, plain: str, checked: str, mode: QIcon.Mode, state: QIcon.State) -> QColor:
        if mode == QIcon.Mode.Disabled:
            return self.colour("text.disabled")
        return self.colour(checked if state == QIcon.State.On else plain)

    def _on_system_scheme_changed(self) -> None:
        if self._preference == "system":
            self._apply()

    def _apply(self) -> None:
        wanted = self._preference
        if wanted == "system":
            scheme = QGuiApplication.styleHints().colorScheme()
            wanted = "dark" if scheme == Qt.ColorScheme.Dark else "light"
        if self._colours and Mode(wanted) is self.mode:
            return
        self.mode = Mode(wanted)
        self._colours = {}
        self._app.setPalette(self._palette())
        self._app.setStyleSheet(write_style_sheet(self.tokens, self.mode))
        self.changed.emit()

    def _palette(self) -> QPalette:
        role = QPalette.ColorRole
        palette = QPalette()
        for where, name in (
            (role.Window, "surface.window"),
            (role.WindowText, "text.primary"),
            (role.Base, "surface.base"),
            (role.AlternateBase, "surface.group"),
            (role.Text, "text.primary"),
            (role.PlaceholderText, "text.tertiary"),
            (role.Button, "button.fill"),
            (role.ButtonText, "text.primary"),
            (role.BrightText, "text.primary"),
            (role.ToolTipBase, "surface.raised"),
            (role.ToolTipText, "text.primary"),
            (role.Highlight, "surface.selected"),
            (role.HighlightedText, "text.primary"),
            (role.Link, "accent.text"),
            (role.LinkVisited, "accent.text"),
            (role.Accent, "accent.fill"),
            (role.Light, "surface.raised"),
            (role.Midlight, "border.subtle"),
            (role.Mid, "border.default"),
            (role.Dark, "border.button"),
            (role.Shadow, "border.field"),
        ):
            palette.setColor(where, self.colour(name))
        for where in (role.WindowText, role.Text, role.ButtonText):
            palette.setColor(QPalette.ColorGroup.Disabled, where, self.colour("text.disabled"))
        return palette
