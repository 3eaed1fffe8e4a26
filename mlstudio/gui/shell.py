"""The shell: the rail, the page that is shown, the notice line and the status strip."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QHBoxLayout, QMainWindow, QMessageBox, QStackedWidget, QVBoxLayout, QWidget

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import count_text
from mlstudio.gui.launches import LaunchView, was_cancelled
from mlstudio.gui.rail import Rail
from mlstudio.gui.strip import StatusStrip
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.notice import NoticeLine
from mlstudio.model.errors import StudioError

if TYPE_CHECKING:
    from mlstudio.services.studio import Studio

PageMaker = Callable[[], QWidget]


class Shell(QMainWindow):
    """The window. `add_page` puts a page on the rail; it is built when it is first shown.

    Ctrl+1…9 go to the pages in the rail's order, Ctrl+N to New, Escape goes back.
    """

    def __init__(self, studio: Studio, bridge: Bridge, theme: Theme) -> None:
        super().__init__()
        self._studio = studio
        self._bridge = bridge
        self._theme = theme
        self._makers: dict[str, PageMaker] = {}
        self._pages: dict[str, QWidget] = {}
        self._current = ""
        self.setWindowTitle("ML Studio")
        self.setMinimumSize(960, 600)
        ground = QWidget()
        self.setCentralWidget(ground)
        column = QVBoxLayout(ground)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        middle = QHBoxLayout()
        middle.setSpacing(0)
        column.addLayout(middle, 1)
        self.rail = Rail(theme)
        self.rail.chosen.connect(self.show_page)
        middle.addWidget(self.rail)
        right = QVBoxLayout()
        right.setSpacing(0)
        middle.addLayout(right, 1)
        self._stack = QStackedWidget()
        right.addWidget(self._stack, 1)
        self.notices = NoticeLine(theme)
        right.addWidget(self.notices)
        self.strip = StatusStrip(bridge, theme)
        column.addWidget(self.strip)
        self.notices.told.connect(self.strip.add_notice)
        bridge.noticed.connect(self._on_noticed)
        bridge.failed.connect(self._on_failed)
        bridge.launches.finished.connect(self._on_launch_finished)
        self._shortcut("Escape", self._on_escape)
        self._restore_place()

    @property
    def current(self) -> str:
        return self._current

    def add_page(self, name: str, maker: PageMaker, *, on_rail: bool = True, at_foot: bool = False) -> None:
        """`maker` builds the page when it is first shown. A page that is not on the rail belongs to the one before."""
        self._makers[name] = maker
        if on_rail:
            self.rail.add(name, at_foot=at_foot)
            self._shortcut(f"Ctrl+{len(self.rail.pages())}", partial(self.show_page, name))
        if name == "New":
            self._shortcut("Ctrl+N", partial(self.show_page, name))

    def page(self, name: str) -> QWidget:
        """The page of that name, built if need be."""
        if name not in self._pages:
            page = self._makers[name]()
            self._pages[name] = page
            self._stack.addWidget(page)
        return self._pages[name]

    def show_page(self, name: str) -> None:
        if name == self._current:
            return
        page = self.page(name)
        if self._current:
            _tell(self._pages[self._current], "page_hidden")
        self._current = name
        self._stack.setCurrentWidget(page)
        self.rail.show_current(name if name in self.rail.pages() else "Runs")
        _tell(page, "page_shown")

    def closeEvent(self, event: QCloseEvent) -> None:
        at_work = self._bridge.launches.in_flight()
        if at_work and not self._may_close(len(at_work)):
            event.ignore()
            return
        if self._current:
            _tell(self._pages[self._current], "page_hidden")
        self._place().setValue("window/geometry", self.saveGeometry())
        event.accept()

    def _may_close(self, count: int) -> bool:
        box = QMessageBox(self)
        box.setWindowTitle("Close ML Studio?")
        box.setText(
            f"{count_text(count, 'build or launch').replace('launchs', 'launches')} would be cancelled."
        )
        box.setInformativeText("Runs that have started go on without this window.")
        leave = box.addButton("Cancel them and close", QMessageBox.ButtonRole.DestructiveRole)
        box.addButton("Stay", QMessageBox.ButtonRole.RejectRole)
        box.exec()
        return box.clickedButton() is leave

    def _place(self) -> QSettings:
        path = Path(self._studio.home) / "window.ini"
        return QSettings(str(path), QSettings.Format.IniFormat)

    def _restore_place(self) -> None:
        kept = self._place().value("window/geometry")
        if kept is None or not self.restoreGeometry(kept):
            self.resize(1440, 900)

    def _shortcut(self, keys: str, act: Callable[[], None]) -> None:
        shortcut = QShortcut(QKeySequence(keys), self)
        shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
        shortcut.activated.connect(act)

    def _on_escape(self) -> None:
        page = self._pages.get(self._current)
        go_back = getattr(page, "go_back", None)
        if go_back is not None and go_back():
            return
        if self._current != "Runs":
            self.show_page("Runs")

    def _on_noticed(self, text: str, level: str, acts: object) -> None:
        self.notices.tell(text, level=level, acts=acts)  # type: ignore[arg-type]

    def _on_failed(self, error: object) -> None:
        words = str(error) if isinstance(error, StudioError) else f"ML Studio made a mistake: {error!r}"
        self.notices.tell(words, level="error")

    def _on_launch_finished(self, view: LaunchView) -> None:
        if view.error is not None and not was_cancelled(view) and self._current != "New":
            self.notices.tell(f"{view.title}: {view.error}", level="error")


def _tell(page: QWidget, what: str) -> None:
    act = getattr(page, what, None)
    if act is not None:
        act()
