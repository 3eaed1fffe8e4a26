"""Tables for a terminal: aligned, cut to its width, without lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from mlstudio.cli.safe_text import columns_of, cut, safe_line

_GAP = "  "
_NARROWEST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: how it is headed, and whether it may be made narrower when the terminal is too small."""

    title: str
    right: bool = False
    shrinks: bool = False
    colour: Callable[[str], str | None] | None = None
    """The colour of a cell by its text."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int) -> list[str]:
    """The lines of a table, the head first. Empty columns are left out; text is made safe for a terminal."""
    cells = [[safe_line(cell) for cell in row] for row in rows]
    used = [
        index
        for index, column in enumerate(columns)
        if not rows or not column.title or any(row[index].strip() for row in cells)
    ]
    widths = {
        index: max([columns_of(columns[index].title), *(columns_of(row[index]) for row in cells)])
        for index in used
    }
    too_wide = sum(widths.values()) + len(_GAP) * (len(used) - 1) - width
    narrow = [index for index in used if columns[index].shrinks]
    while too_wide > 0 and any(widths[index] > _NARROWEST for index in narrow):
        widest = max(narrow, key=lambda index: widths[index])
        widths[widest] -= 1
        too_wide -= 1
    lines = [
        click.style(
            _GAP.join(_set(columns[i].title, widths[i], right=columns[i].right) for i in used).rstrip(),
            dim=True,
        )
    ]
    for row in cells:
        parts = []
        for index in used:
            text = cut(row[index], widths[index])
            colour = columns[index].colour
            shown = _set(text, widths[index], right=columns[index].right)
            parts.append(click.style(shown, fg=colour(row[index])) if colour else shown)
        lines.append(_GAP.join(parts).rstrip())
    return lines


def _set(text: str, width: int, *, right: bool) -> str:
    space = " " * max(0, width - columns_of(text))
    return space + text if right else text + space
