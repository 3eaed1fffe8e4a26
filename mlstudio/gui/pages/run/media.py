"""Images, histograms, texts, tables and sounds of a run: names at the left, steps along the top, the thing itself."""

from __future__ import annotations

import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog, QListView, QSlider

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import count_text
from mlstudio.gui.pages.run.media_content import content_of, file_ending, file_name, size_words
from mlstudio.gui.pages.run.media_names import KINDS, Name, NameModel, NameRows
from mlstudio.gui.pages.run.media_views import MOST_PICTURES, MediaView, Shown
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, IconButton
from mlstudio.gui.widgets.fields import SearchField
from mlstudio.gui.widgets.panes import Bar, Pane, Splitter
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.model.run import MediaItem, MediaSize, RunSummary

if TYPE_CHECKING:
    from mlstudio.store import History

MOST_BYTES = 64 * 1024 * 1024
"""Of what one step shows at once."""
NAMES_WITHOUT_FILTER = 8


def _open_outside(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))


class MediaTab(Splitter):
    """`show_run` says which run; nothing is read before the tab is seen."""

    def __init__(
        self, bridge: Bridge, theme: Theme, *, open_outside: Callable[[Path], None] = _open_outside
    ) -> None:
        super().__init__()
        self._bridge = bridge
        self._theme = theme
        self._open_outside = open_outside
        self._run_id = ""
        self._colour = 0
        self._size = MediaSize()
        self._listed: MediaSize | None = None
        self._items: dict[Name, dict[int, list[MediaItem]]] = {}
        self._steps: list[int] = []
        self._key: Name | None = None
        self._shown: tuple[MediaItem, ...] = ()
        self._sounds: tempfile.TemporaryDirectory[str] | None = None
        self.names = NameModel()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.addWidget(self._left())
        self.addWidget(self._right())
        self.setSizes([260, 900])
        self.setStretchFactor(0, 0)
        self.setStretchFactor(1, 1)

    def show_run(self, run: RunSummary, size: MediaSize) -> None:
        """Show the media of a run, or bring them up to date. `size` tells whether there are new ones."""
        if run.id != self._run_id:
            self._run_id = run.id
            self._items, self._steps, self._key, self._listed = {}, [], None, None
            self._search.clear()
            self.names.set_counts({})
        self._colour = run.colour
        self._size = size
        if self.isVisible():
            self._list()

    @property
    def step(self) -> int | None:
        """The step that is shown."""
        return self._steps[self.slider.value()] if self._steps else None

    @property
    def shown(self) -> tuple[MediaItem, ...]:
        """What is seen now."""
        return self._shown

    def choose(self, name: str, kind: str) -> None:
        """Show another name."""
        if (name, kind) in self.names.names:
            self._view_names.setCurrentIndex(self.names.index(self.names.names.index((name, kind))))

    def showEvent(self, event: object) -> None:
        super().showEvent(event)  # type: ignore[arg-type]
        self._list()

    # Building

    def _left(self) -> Pane:
        theme = self._theme
        pane = Pane(ground="base")
        pane.setMinimumWidth(180)
        bar = Bar(height=40, edge="bottom", margins=(14, 8))
        self._words = Label("", theme, tone="secondary", size="small")
        bar.row.addWidget(self._words)
        bar.row.addStretch(1)
        self._search = SearchField(theme, name="Filter media", placeholder="Filter")
        self._search.setFixedWidth(110)
        self._search.hide()
        bar.row.addWidget(self._search)
        pane.column.addWidget(bar)
        self._search.textChanged.connect(self._on_filtered)
        self._view_names = QListView()
        self._view_names.setAccessibleName("Names of media")
        self._view_names.setModel(self.names)
        self._view_names.setItemDelegate(NameRows(theme, self.names, self._view_names))
        self._view_names.setUniformItemSizes(True)
        self._view_names.setMouseTracking(True)
        self._view_names.selectionModel().currentChanged.connect(lambda *_: self._on_name_chosen())
        pane.column.addWidget(self._view_names, 1)
        return pane

    def _right(self) -> Pane:
        theme = self._theme
        pane = Pane(ground="base")
        bar = Bar(height=40, edge="bottom", margins=(16, 8), spacing=8)
        self._title = CutLabel("", theme, weight="semibold", middle=True)
        bar.row.addWidget(self._title, 1)
        self._before = IconButton("ph.caret-left", "Step before", theme)
        self._before.clicked.connect(lambda: self.slider.setValue(self.slider.value() - 1))
        self.slider.setAccessibleName("Step")
        self.slider.setMinimumWidth(80)
        self.slider.setMaximumWidth(320)
        self.slider.setPageStep(10)
        self.slider.valueChanged.connect(lambda _: self._show_step())
        self._after = IconButton("ph.caret-right", "Next step", theme)
        self._after.clicked.connect(lambda: self.slider.setValue(self.slider.value() + 1))
        self._where = Label("", theme, tone="secondary", size="small")
        self.save_button = Button("Save…", theme, kind="ghost", icon="ph.download-simple")
        self.save_button.clicked.connect(self._on_save_clicked)
        for widget in (self._before, self.slider, self._after, self._where, self.save_button):
            bar.row.addWidget(widget, 1 if widget is self.slider else 0)
        pane.column.addWidget(bar)
        self.view = MediaView(theme, play=self._play)
        pane.column.addWidget(self.view, 1)
        foot = Bar(height=28, edge="top", margins=(16, 12))
        self._facts = CutLabel("", theme, tone="tertiary", size="small")
        foot.row.addWidget(self._facts, 1)
        pane.column.addWidget(foot)
        return pane

    # Reading

    def _list(self) -> None:
        if self._size == self._listed or not self._run_id:
            return
        self._listed = self._size
        run_id = self._run_id
        self._bridge.read(
            lambda history: (run_id, history.media(run_id)), self._on_listed, owner=self, key="media-list"
        )

    def _on_listed(self, found: tuple[str, Sequence[MediaItem]]) -> None:
        run_id, items = found
        if run_id != self._run_id:
            return
        self._items = {}
        for item in items:
            self._items.setdefault((item.name, item.kind), {}).setdefault(item.step, []).append(item)
        counts = {key: sum(len(some) for some in steps.values()) for key, steps in self._items.items()}
        self.names.set_counts(counts)
        self._search.setVisible(len(counts) > NAMES_WITHOUT_FILTER)
        self._words.setText(count_text(len(counts), "name"))
        if self._key not in self._items:
            self._key = None
        self._choose_again()

    def _choose_again(self) -> None:
        names = self.names.names
        if not names:
            return
        row = names.index(self._key) if self._key in names else 0
        if self._view_names.currentIndex().row() != row:
            self._view_names.setCurrentIndex(self.names.index(row))
        else:
            self._on_name_chosen()

    def _on_filtered(self, text: str) -> None:
        self.names.set_filter(text)
        self._choose_again()

    def _on_name_chosen(self) -> None:
        index = self._view_names.currentIndex()
        if not index.isValid():
            return
        key = self.names.at(index.row())
        is_other = key != self._key
        step = self.step
        was_last = not self._steps or self.slider.value() == len(self._steps) - 1
        self._key = key
        steps = sorted(self._items.get(key, {}))
        if steps == self._steps and not is_other:
            return
        self._steps = steps
        place = len(steps) - 1
        if step is not None and not was_last:
            # Another name is looked at where the last one was; who stands at the end goes on with new steps.
            place = max(0, bisect_right(steps, step) - 1)
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, len(steps) - 1))
        self.slider.setValue(place)
        self.slider.blockSignals(False)
        for widget in (self._before, self.slider, self._after):
            widget.setVisible(len(steps) > 1)
        self._title.setText(key[0])
        self._show_step()

    def _show_step(self) -> None:
        step, key = self.step, self._key
        if step is None or key is None:
            return
        place = self.slider.value()
        self._before.setEnabled(place > 0)
        self._after.setEnabled(place < len(self._steps) - 1)
        words = f"Step {step:,}"
        if len(self._steps) > 1:
            words += f"   {place + 1:,} of {len(self._steps):,}"
        self._where.setText(words)
        self.slider.setAccessibleDescription(words)
        wanted = _first(self._items[key][step])
        run_id = self._run_id

        def read(history: History) -> list[tuple[MediaItem, bytes]]:
            return [(item, history.media_data(run_id, item.id)) for item in wanted]

        self._bridge.read(
            read,
            lambda found: self._prepare(key, step, found),
            owner=self,
            failed=lambda error: self._on_failed(key, step, error),
            key="media-data",
        )

    def _prepare(self, key: Name, step: int, found: Sequence[tuple[MediaItem, bytes]]) -> None:
        if (key, step) == (self._key, self.step):
            self._bridge.call(
                lambda: [(item, content_of(item, data)) for item, data in found],
                lambda shown: self._show(key, step, shown),
                owner=self,
                key="media-content",
            )

    def _show(self, key: Name, step: int, shown: Sequence[Shown]) -> None:
        if (key, step) != (self._key, self.step) or not shown:
            return
        self._shown = tuple(item for item, _ in shown)
        self.view.show_all(shown, colour=self._colour)
        last = shown[-1][0]
        parts = [f"from {last.logger}", f"logged {time.strftime('%H:%M:%S', time.localtime(last.time))}"]
        parts.append(size_words(last) if len(shown) == 1 else count_text(len(shown), KINDS[key[1]][1]))
        there = len(self._items.get(key, {}).get(step, ()))
        if there > len(shown):
            parts.append(f"the first {len(shown)} of {there}")
        elif len(shown) > 1 and key[1] in ("histogram", "table"):
            parts.append("the newest is shown")
        if last.caption and key[1] not in ("image", "text", "audio"):
            parts.append(last.caption)
        self._facts.setText("   ".join(parts))
        self.save_button.setText("Save…" if len(shown) == 1 else "Save all…")

    def _on_failed(self, key: Name, step: int, error: Exception) -> None:
        if (key, step) == (self._key, self.step):
            self._shown = ()
            self.view.say(str(error))

    # Files

    def _on_save_clicked(self) -> None:
        items = self._shown
        if len(items) == 1:
            chosen, _ = QFileDialog.getSaveFileName(self, "Save", file_name(items[0]))
            if chosen:
                self.save(items, [Path(chosen)])
        elif items:
            folder = QFileDialog.getExistingDirectory(self, f"Save {len(items)} files into a folder")
            if folder:
                names = [Path(folder) / file_name(item) for item in items]
                paths = [path.with_stem(f"{path.stem}-{place}") for place, path in enumerate(names, start=1)]
                self.save(items, paths)

    def save(self, items: Sequence[MediaItem], paths: Sequence[Path]) -> None:
        """Write media as they were logged, byte by byte."""
        run_id = self._run_id

        def read(history: History) -> list[bytes]:
            return [history.media_data(run_id, item.id) for item in items]

        def write(found: list[bytes]) -> None:
            self._bridge.call(lambda: _write(paths, found), told, owner=self, failed=failed)

        def told(count: int) -> None:
            what = str(paths[0]) if count == 1 else f"{count} files in {paths[0].parent}"
            self._bridge.notice(f"Saved {what}.")

        def failed(error: Exception) -> None:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._bridge.notice(f"Could not save: {why}.".replace("..", "."), level="error")

        self._bridge.read(read, write, owner=self, failed=failed)

    def _play(self, item: MediaItem) -> None:
        """Give a sound to the program that plays such files. Its ending is ours: what it holds was looked at."""
        if self._sounds is None:
            self._sounds = tempfile.TemporaryDirectory(prefix="mlstudio-sound-")
        folder, run_id = Path(self._sounds.name), self._run_id

        def write(history: History) -> Path:
            data = history.media_data(run_id, item.id)
            path = folder / f"{item.id}.{file_ending(item, data)}"
            path.write_bytes(data)
            return path

        self._bridge.read(write, self._open_outside, owner=self)


def _write(paths: Sequence[Path], found: Sequence[bytes]) -> int:
    for path, data in zip(paths, found, strict=True):
        path.write_bytes(data)
    return len(paths)


def _first(items: Sequence[MediaItem]) -> list[MediaItem]:
    """As many as one step shows at once; at least one."""
    found: list[MediaItem] = []
    room = MOST_BYTES
    for item in items[:MOST_PICTURES]:
        room -= item.size_bytes
        if found and room < 0:
            break
        found.append(item)
    return found
