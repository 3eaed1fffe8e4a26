"""Findings of checks as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

import click

from mlstudio.cli.safe_text import safe_line
from mlstudio.services.checks import Check, Level

_MARKS = {
    Level.OK: ("✓", "green"),
    Level.INFO: ("·", None),
    Level.WARNING: ("!", "yellow"),
    Level.ERROR: ("✗", "red"),
}


def finding_lines(checks: Iterable[Check], *, width: int, with_names: bool = False) -> list[str]:
    """A line for each finding, and one below it for what to try."""
    found = list(checks)
    margin = max((len(check.name) for check in found), default=0) + 2 if with_names else 0
    lines = []
    for check in found:
        mark, colour = _MARKS[check.level]
        word = f"{check.level.value}: " if check.level in (Level.WARNING, Level.ERROR) else ""
        name = f"{check.name:<{margin}}" if with_names else ""
        lines.append(
            f"{click.style(mark, fg=colour)} {name}{click.style(word, fg=colour)}{safe_line(check.message)}"
        )
        if check.try_this and check.level is not Level.OK:
            lines.append(f"  {'':<{margin}}{click.style('Try:', bold=True)} {safe_line(check.try_this)}")
    return lines
