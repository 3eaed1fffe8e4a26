"""`mlstudio gui`: open the window."""

from __future__ import annotations

import os
import sys

import click

from mlstudio.cli.session import Session, pass_session
from mlstudio.model.errors import WorldError


@click.command("gui")
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session) -> None:
    """Open the window; the same as no command at all.

    \b
    Examples:
      mlstudio gui
      mlstudio --home /data/experiments gui
    """
    ctx.exit(open_window(session))


def open_window(session: Session) -> int:
    """Open the window and return its exit code. Raises WorldError where there is no screen or no Qt."""
    if not _has_screen():
        raise WorldError(
            "There is no screen for the window.",
            why="Neither DISPLAY nor WAYLAND_DISPLAY is set.",
            try_this="Everything works from here too: mlstudio run, mlstudio ls, mlstudio --help.",
        )
    try:
        from mlstudio.gui.application import main
    except ImportError as error:
        raise WorldError(
            "The window's libraries cannot be loaded.",
            why=str(error),
            try_this="sudo apt install libgl1 libegl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libxcb-cursor0",
        ) from error
    return main(["--home", str(session.home)] if session.home is not None else [])


def _has_screen() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))
