"""The look: every colour has its two values, text can be read on its grounds, figures are of one width."""

from __future__ import annotations

import re

import pytest
from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QFontInfo, QFontMetricsF, QImage, QPainter

from mlstudio.gui.theme.stylesheet import write_style_sheet
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.theme.tokens import Mode, Tokens


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", list(Mode))
def test_text_can_be_read_on_every_ground(mode: Mode) -> None:
    tokens = Tokens.load()
    for text in ("text.primary", "text.secondary", "text.tertiary", "accent.text", "status.error"):
        for ground in (
            "surface.base",
            "surface.window",
            "surface.selected",
            "surface.hover",
            "surface.group",
        ):
            assert contrast(tokens.colour(mode, text), tokens.colour(mode, ground)) >= 4.5, (text, ground)
    for index in range(12):
        ratio = contrast(tokens.run_colour(mode, index), tokens.colour(mode, "plot.background"))
        assert ratio >= 3.0, index


@pytest.mark.parametrize("mode", list(Mode))
def test_the_style_sheet_is_whole_and_the_same_every_time(mode: Mode) -> None:
    sheet = write_style_sheet(Tokens.load(), mode)
    assert "$" not in sheet
    assert sheet == write_style_sheet(Tokens.load(), mode)
    assert sheet.count("{") == sheet.count("}")
    assert not re.search(r"#(?![0-9A-Fa-f]{6}\b)", sheet)


def test_figures_are_of_one_width_in_the_bundled_fonts(theme: Theme) -> None:
    for font, family in ((theme.font("body"), "Inter"), (theme.mono(), "JetBrains Mono")):
        assert QFontInfo(font).family() == family
        metrics = QFontMetricsF(font)
        assert len({metrics.horizontalAdvance(digit * 8) for digit in "0123456789"}) == 1


def test_every_icon_of_the_design_is_in_the_set(theme: Theme) -> None:
    for state in ("running", "succeeded", "failed", "queued", "lost", "stopped"):
        icon, word, colour = theme.state(state)
        image = QImage(QSize(28, 28), QImage.Format.Format_ARGB32)
        image.fill(0)
        painter = QPainter(image)
        theme.draw_icon(painter, icon, QRectF(0, 0, 28, 28), colour)
        painter.end()
        assert word.lower() == state
        assert any(image.pixelColor(x, 14).alpha() for x in range(28)), icon


def test_dark_and_light_change_and_say_so(theme: Theme) -> None:
    told: list[bool] = []
    theme.changed.connect(lambda: told.append(theme.is_dark))
    light = theme.colour("surface.base").name()
    theme.set_preference("dark")
    assert theme.colour("surface.base").name() != light
    theme.set_preference("light")
    assert theme.colour("surface.base").name() == light
    assert told == [True, False]
