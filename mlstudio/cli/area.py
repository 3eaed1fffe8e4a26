"""A few lines at the foot of a terminal that are drawn over, with ordinary lines going by above them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from mlstudio.cli.session import Session


class Area:
    """Draws on standard error where that is a terminal; elsewhere `draw` does nothing and `write` just writes.

    Not thread-safe: its user holds a lock.
    """

    def __init__(self, session: Session) -> None:
        self.is_live = session.can_redraw
        self._lines: list[str] = []

    def draw(self, lines: Sequence[str]) -> None:
        """Show `lines` in place of the ones before. Each must fit the terminal's width."""
        if not self.is_live or list(lines) == self._lines:
            return
        sys.stderr.write(self._erasing() + "".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
        self._lines = list(lines)

    def clear(self) -> None:
        if self._lines:
            self.draw([])

    def write(self, line: str, *, err: bool = True) -> None:
        """An ordinary line above the area; `err` False sends it to standard output."""
        kept = self._lines
        if kept:
            self.clear()
        click.echo(line, err=err)
        if kept:
            self.draw(kept)

    def write_lines(self, lines: Sequence[tuple[str, bool]]) -> None:
        """Several ordinary lines, each with whether it goes to standard error."""
        kept = self._lines
        if kept:
            self.clear()
        for text, err in lines:
            click.echo(text, err=err)
        if kept:
            self.draw(kept)

    def _erasing(self) -> str:
        return f"\x1b[{len(self._lines)}A\r\x1b[J" if self._lines else ""
