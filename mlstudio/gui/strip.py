"""The status strip: engines, builds and launches under way, notices, and how big the history is."""

from __future__ import annotations

import time

from PySide6.QtCore import QPoint, Signal
from PySide6.QtWidgets import QMenu, QWidget

from mlstudio.gui.bridge import Bridge, Surroundings
from mlstudio.gui.figures import bytes_text, clock_text, count_text, when_text
from mlstudio.gui.launches import LaunchView
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.form import Line
from mlstudio.gui.widgets.panes import Bar
from mlstudio.gui.widgets.progress import ThinBar
from mlstudio.gui.widgets.state import Mark
from mlstudio.gui.widgets.text import CutLabel, Label

_NOTICES_KEPT = 50


class StatusStrip(Bar):
    """24 px at the foot of the window; brought up to date by the bridge's signals only."""

    launch_chosen = Signal(str)
    """A run whose launch was clicked."""

    def __init__(self, bridge: Bridge, theme: Theme) -> None:
        super().__init__(height=24, edge="top", margins=(14, 12), spacing=12)
        self._theme = theme
        self._engines: dict[str, tuple[Mark, Label]] = {}
        self._views: dict[str, LaunchView] = {}
        self._notices: list[tuple[float, str, str]] = []
        self._unread = 0
        self._engines_end = 0
        self._split = Line(vertical=True)
        self._split.setFixedHeight(14)
        self._split.hide()
        self.row.addWidget(self._split)
        self._work = CutLabel("", theme, tone="secondary", size="small")
        self._work.setMaximumWidth(420)
        self._bar = ThinBar(theme, width=88, name="Build")
        self._detail = Label("", theme, tone="secondary", size="small")
        for widget in (self._work, self._bar, self._detail):
            widget.hide()
            self.row.addWidget(widget)
        self.row.addStretch(1)
        self._bell = Button("No notices", theme, kind="ghost", icon="ph.bell", size="small")
        self._bell.setFont(theme.font("small"))
        self._bell.clicked.connect(self._on_bell_clicked)
        self.row.addWidget(self._bell)
        split = Line(vertical=True)
        split.setFixedHeight(14)
        self.row.addWidget(split)
        self._history = Label("History", theme, tone="secondary", size="small")
        self.row.addWidget(self._history)
        bridge.surroundings_changed.connect(self._on_surroundings)
        bridge.launches.progressed.connect(self._on_progressed)
        bridge.launches.finished.connect(self._on_finished)

    def add_notice(self, level: str, text: str) -> None:
        self._notices.insert(0, (time.time(), level, text))
        del self._notices[_NOTICES_KEPT:]
        self._unread += 1
        self._show_bell()

    def engine_words(self) -> dict[str, str]:
        """What is said of each engine, for tests and for a screen reader."""
        return {name: f"{mark.text} {label.text()}".strip() for name, (mark, label) in self._engines.items()}

    def _on_surroundings(self, found: Surroundings) -> None:
        for status in found.engines:
            if status.name not in self._engines:
                mark = Mark(self._theme, size="small", side=12)
                label = Label("", self._theme, tone="secondary", size="small")
                self.row.insertWidget(self._engines_end, mark)
                self.row.insertWidget(self._engines_end + 1, label)
                self._engines_end += 2
                self._engines[status.name] = (mark, label)
            mark, label = self._engines[status.name]
            mark.set_level("ok" if status.usable else "away", status.name)
            label.setText("" if status.usable else f"away: {status.trouble.value}")
            label.setVisible(not status.usable)
            label.set_tone("secondary" if status.usable else "warning")
            words = " ".join(part for part in (status.why, status.try_this) if part)
            tip = words or f"{status.kind.value} {status.version}".strip()
            mark.setToolTip(tip)
            label.setToolTip(tip)
        if found.history_bytes is not None:
            self._history.setText(f"History {bytes_text(found.history_bytes)}")

    def _on_progressed(self, view: LaunchView) -> None:
        self._views[view.key] = view
        self._show_work()

    def _on_finished(self, view: LaunchView) -> None:
        self._views.pop(view.key, None)
        self._show_work()

    def _show_work(self) -> None:
        views = list(self._views.values())
        visible: list[QWidget] = [self._split, self._work, self._detail]
        for widget in visible:
            widget.setVisible(bool(views))
        self._bar.setVisible(bool(views) and bool(views[0].steps))
        if not views:
            return
        first = views[0]
        verb = "Build" if first.kind == "build" or first.steps else "Launch"
        self._work.setText(f"{verb} {first.title}")
        self._bar.set_share(first.share)
        parts = []
        if first.steps:
            parts.append(
                f"{first.steps_done} of {len(first.steps)}, {clock_text(time.time() - first.started)}"
            )
        elif first.phase:
            parts.append(first.phase)
        if len(views) > 1:
            parts.append(f"{count_text(len(views) - 1, 'more').removesuffix('s')}")
        self._detail.setText("   ".join(parts))

    def _show_bell(self) -> None:
        words = count_text(self._unread, "notice") if self._unread else "No new notices"
        self._bell.setText(words if self._notices else "No notices")

    def _on_bell_clicked(self) -> None:
        self._unread = 0
        self._show_bell()
        menu = QMenu(self)
        if not self._notices:
            menu.addAction("Nothing was told yet").setEnabled(False)
        for moment, _, text in self._notices[:15]:
            menu.addAction(f"{when_text(moment)}   {text}")
        menu.aboutToHide.connect(menu.deleteLater)
        size = menu.sizeHint()
        menu.popup(self._bell.mapToGlobal(QPoint(self._bell.width() - size.width(), -size.height())))
