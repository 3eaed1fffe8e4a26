"""The window's start: one QApplication, one theme, one studio, one bridge, one shell.

What is slow to import (pyqtgraph) comes after the window is on the screen.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QWidget

from mlstudio.gui.bridge import Bridge, ChangeSet
from mlstudio.gui.shell import Shell
from mlstudio.gui.theme.theme import Theme
from mlstudio.model.errors import HistoryDamaged, StudioError
from mlstudio.model.run import RunSummary
from mlstudio.services.studio import Studio


def main(
    argv: Sequence[str] | None = None, home: Path | None = None, *, shows_first_run: bool = False
) -> int:
    """Open the window and stay until it is closed. Returns the process's exit code.

    `home` is the folder with the history; None for the one that the command line would use. `argv` goes to Qt.
    `shows_first_run`: a first run was started beside the window, which shows it as soon as it is there.
    """
    app = make_application(sys.argv if argv is None else argv)
    # The studio opens the history when it is first read: where that fails, the page says why and what to try.
    with Studio(home) as studio, open_window(app, studio, shows_first_run=shows_first_run) as shell:
        shell.show()
        # Python runs its signal handlers between two timer ticks of the bridge: Ctrl+C in a terminal closes the window.
        previous = signal.signal(signal.SIGINT, lambda *_: shell.close())
        try:
            return app.exec()
        finally:
            signal.signal(signal.SIGINT, previous)


def make_application(argv: Sequence[str]) -> QApplication:
    """The one QApplication of this process."""
    existing = QApplication.instance()
    if isinstance(existing, QApplication):
        return existing
    QGuiApplication.setHighDpiScaleFactorRoundingPolicy(Qt.HighDpiScaleFactorRoundingPolicy.PassThrough)
    app = QApplication(list(argv) or ["mlstudio"])
    app.setApplicationName("mlstudio")
    app.setApplicationDisplayName("ML Studio")
    app.setDesktopFileName("mlstudio")
    return app


@contextlib.contextmanager
def open_window(
    app: QApplication, studio: Studio, *, keep_recorder: bool = True, shows_first_run: bool = False
) -> Iterator[Shell]:
    """The window over a studio, closed again at the end. `keep_recorder` False starts no recorder, for tests."""
    theme = Theme(app, preference=_wanted_theme(studio))
    bridge = Bridge(studio, keep_recorder=keep_recorder)
    shell = Shell(studio, bridge, theme)
    try:
        open_run = _add_pages(shell, studio, bridge, theme)
        shell.show_page("Runs")
        if shows_first_run:
            _open_first(shell, bridge, open_run)
        yield shell
    finally:
        bridge.close()
        shell.close()
        shell.deleteLater()


def _open_first(shell: Shell, bridge: Bridge, open_run: Callable[[str], None]) -> None:
    """Open the first run that appears or goes on, unless the user goes elsewhere before."""

    def look(runs: Sequence[RunSummary]) -> None:
        if runs:
            bridge.changed.disconnect(on_changed)
            if shell.current == "Runs":
                open_run(runs[0].id)

    def on_changed(changes: ChangeSet) -> None:
        look(changes.runs)

    bridge.changed.connect(on_changed)


def _add_pages(shell: Shell, studio: Studio, bridge: Bridge, theme: Theme) -> Callable[[str], None]:
    """Returns what opens a run by its id."""

    # A page's module is imported when the page is first shown.
    def make_runs() -> QWidget:
        from mlstudio.gui.pages.runs.page import RunsPage

        page = RunsPage(studio, bridge, theme)
        page.run_opened.connect(open_run)
        page.new_asked.connect(lambda: shell.show_page("New"))
        return page

    def make_run() -> QWidget:
        from mlstudio.gui.pages.run.page import RunPage

        page = RunPage(studio, bridge, theme)
        page.left.connect(lambda: shell.show_page("Runs"))
        page.run_opened.connect(open_run)
        return page

    def make_new() -> QWidget:
        from mlstudio.gui.pages.new.page import NewPage

        page = NewPage(studio, bridge, theme)
        page.run_launched.connect(open_run)
        return page

    def make_damaged() -> QWidget:
        from mlstudio.gui.pages.damaged.page import DamagedPage

        page = DamagedPage(studio, bridge, theme)
        page.recovered.connect(lambda: shell.show_page("Runs"))
        return page

    def on_damaged(error: HistoryDamaged) -> None:
        page = shell.page("Damaged")
        page.show_error(error)  # type: ignore[attr-defined]
        if not bridge.has_read:
            shell.show_page("Damaged")
        elif shell.current != "Damaged":
            # Parts of it can be read: whoever works with these decides when to stop for the rest.
            bridge.notice(
                "A part of the history is damaged.",
                level="error",
                acts=[("Recover…", lambda: shell.show_page("Damaged"))],
            )

    def open_run(run_id: str) -> None:
        page = shell.page("Run")
        page.show_run(run_id)  # type: ignore[attr-defined]
        shell.show_page("Run")

    shell.add_page("Runs", make_runs)
    shell.add_page("Run", make_run, on_rail=False)
    shell.add_page("New", make_new)
    shell.add_page("Damaged", make_damaged, on_rail=False)
    bridge.history_damaged.connect(on_damaged)
    shell.strip.launch_chosen.connect(open_run)
    return open_run


def _wanted_theme(studio: Studio) -> str:
    try:
        return studio.settings.text("theme")
    except StudioError:
        return "system"


if __name__ == "__main__":
    sys.exit(main())
