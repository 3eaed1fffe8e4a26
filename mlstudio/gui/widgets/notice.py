"""Things told: a line above the status strip, a page-wide bar, and an error beside what caused it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QEvent, Qt, QTimer, Signal
from PySide6.QtGui import QEnterEvent, QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, IconButton
from mlstudio.gui.widgets.panes import Bar
from mlstudio.gui.widgets.state import Mark
from mlstudio.gui.widgets.text import CutLabel, Label, restyle
from mlstudio.model.errors import StudioError

Act = tuple[str, Callable[[], None]]
"""A button's words and what it does."""


class NoticeLine(Bar):
    """A notice 32 px high above the status strip: shown for 6 s, longer while the pointer or the focus is on it.

    It never lies over anything. `told` says each notice once more for the list behind the bell.
    """

    told = Signal(str, str)

    def __init__(self, theme: Theme, *, seconds: float = 6.0) -> None:
        super().__init__(height=32, ground="window", edge="top")
        self._theme = theme
        self._mark = Mark(theme)
        self._words = CutLabel("", theme)
        self._acts: list[Button] = []
        self.row.addWidget(self._mark)
        self.row.addWidget(self._words, 1)
        self._close = IconButton("ph.x", "Dismiss notice", theme, size="small")
        self._close.clicked.connect(self.hide)
        self.row.addWidget(self._close)
        self._timer = QTimer(self, singleShot=True, interval=round(seconds * 1000))
        self._timer.timeout.connect(self._on_time_over)
        self.hide()

    @property
    def text(self) -> str:
        return self._words.text()

    def tell(self, text: str, *, level: str = "info", acts: Sequence[Act] = ()) -> None:
        """Show `text` with at most two buttons."""
        for button in self._acts:
            self.row.removeWidget(button)
            button.deleteLater()
        self._acts = []
        for words, act in list(acts)[:2]:
            button = Button(words, self._theme, kind="secondary", size="small")
            button.clicked.connect(act)
            button.clicked.connect(self.hide)
            self.row.insertWidget(self.row.count() - 1, button)
            self._acts.append(button)
        self._mark.set_level(level)
        self._words.setText(text)
        self.setAccessibleName(text)
        self.show()
        self._timer.start()
        self.told.emit(level, text)

    def enterEvent(self, event: QEnterEvent) -> None:
        self._timer.stop()
        super().enterEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        if self.isVisible():
            self._timer.start()
        super().leaveEvent(event)

    def hideEvent(self, event: object) -> None:
        self._timer.stop()

    def _on_time_over(self) -> None:
        if any(button.hasFocus() for button in (*self._acts, self._close)):
            self._timer.start()
        else:
            self.hide()


class Trouble(QWidget):
    """An error beside its cause: what happened, why, what to try as a button, and "Copy details".

    Hidden until `show_error`. As a `bar` it is a page-wide line with an error ground.
    """

    def __init__(self, theme: Theme, *, bar: bool = False) -> None:
        super().__init__()
        self._theme = theme
        self._details = ""
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        if bar:
            self.setProperty("pane", "error")
            self.setProperty("edge", "bottom")
        outer = QHBoxLayout(self)
        outer.setContentsMargins(16 if bar else 0, 6, 12 if bar else 0, 6)
        outer.setSpacing(8)
        self._mark = Mark(theme)
        self._mark.set_level("error")
        outer.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignTop)
        words = QVBoxLayout()
        words.setSpacing(2)
        self._what = Label("", theme, weight="medium", wrap=True, selectable=True)
        self._why = Label("", theme, tone="secondary", wrap=True, selectable=True)
        self._try = Label("", theme, tone="primary", wrap=True, selectable=True)
        for label in (self._what, self._why, self._try):
            label.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            words.addWidget(label)
        outer.addLayout(words, 1)
        self._act = Button("", theme, size="small")
        self._act.hide()
        self._copy = Button("Copy details", theme, kind="ghost", size="small", icon="ph.copy")
        self._copy.clicked.connect(self._on_copy)
        outer.addWidget(self._act, 0, Qt.AlignmentFlag.AlignTop)
        outer.addWidget(self._copy, 0, Qt.AlignmentFlag.AlignTop)
        self._do: Callable[[], None] | None = None
        self._act.clicked.connect(self._on_act)
        self.hide()

    @property
    def text(self) -> str:
        """What is said, in one line."""
        return " ".join(label.text() for label in (self._what, self._why, self._try) if label.text())

    def show_error(self, error: BaseException, *, act: Act | None = None) -> None:
        """Say what `error` says. A `StudioError` has its own words; anything else is told as our defect."""
        if isinstance(error, StudioError):
            self.show_words(
                error.what, why=error.why, try_this=error.try_this, details=error.details, act=act
            )
        else:
            self.show_words(
                "ML Studio made a mistake.",
                why=f"{type(error).__name__}: {error}",
                try_this="Please report it with the details.",
                act=act,
            )

    def show_words(
        self,
        what: str,
        *,
        why: str = "",
        try_this: str = "",
        details: str = "",
        level: str = "error",
        act: Act | None = None,
    ) -> None:
        self._mark.set_level(level)
        if self.property("pane"):
            self.setProperty("pane", level if level in ("error", "warning", "ok") else "window")
            restyle(self)
        for label, text in ((self._what, what), (self._why, why), (self._try, try_this)):
            label.setText(text)
            label.setVisible(bool(text))
        self._details = "\n".join(part for part in (what, why, try_this, details) if part)
        self._act.setVisible(act is not None)
        self._do = act[1] if act else None
        if act:
            self._act.setText(act[0])
        self.setAccessibleName(self.text)
        self.show()

    def clear(self) -> None:
        self._what.setText("")
        self._why.setText("")
        self._try.setText("")
        self.hide()

    def _on_act(self) -> None:
        if self._do is not None:
            self._do()

    def _on_copy(self) -> None:
        QGuiApplication.clipboard().setText(self._details)
