"""`mlstudio gui`: open the window."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from mlstudio.cli.session import Session, pass_session
from mlstudio.model.errors import WorldError


@click.command("gui")
@click.option(
    "--example",
    metavar="NAME",
    help="Where nothing has been run yet, begin with this example, so that there is something to see.",
)
@click.option("--engine", metavar="NAME", help="On which engine the example runs.")
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, example: str | None, engine: str | None) -> None:
    """Open the window; the same as no command at all.

    \b
    Examples:
      mlstudio gui
      mlstudio --home /data/experiments gui
    """
    begins = example is not None and _has_screen() and start_example(session, example, engine=engine)
    ctx.exit(open_window(session, shows_first_run=begins))


def open_window(session: Session, *, shows_first_run: bool = False) -> int:
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
    session.close()  # The window has a studio of its own.
    return main(["mlstudio"], session.home, shows_first_run=shows_first_run)


def start_example(session: Session, name: str, *, engine: str | None) -> bool:
    """Run an example beside the window, unless the history holds a run already: then False.

    It is a process of its own, so that closing the window in the midst of the build ends nothing.
    """
    studio = session.studio
    folder = studio.examples.get(name).path
    if studio.runs.count(archived=True):
        return False
    words = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-P", "-m", "mlstudio"]
    words += ["--home", str(session.home)] if session.home is not None else []
    words += ["run", str(folder), "--detach", *(["--engine", engine] if engine else [])]
    with (studio.home / "example.log").open("wb") as output:
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    return True


def _has_screen() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))
