"""What surrounded a run: packages, machine, image and Dockerfile; and the code that ran."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QTableView,
    QWidget,
)

from mlstudio.gui.figures import bytes_text, count_text
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.code import CodeView
from mlstudio.gui.widgets.empty import EmptyState
from mlstudio.gui.widgets.fields import SearchField
from mlstudio.gui.widgets.panes import Bar, Pane, Splitter
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.model.image import ImageRecord
from mlstudio.model.run import RunDetail

AnyIndex = QModelIndex | QPersistentModelIndex
Fact = tuple[str, str, bool]
"""(what, words, fixed-width)."""


class PackageTable(QAbstractTableModel):
    """Packages (name, version, where from), filtered by a text."""

    TITLES = ("Package", "Version", "From")

    def __init__(self) -> None:
        super().__init__()
        self._all: tuple[tuple[str, str, str], ...] = ()
        self._shown: tuple[tuple[str, str, str], ...] = ()
        self._filter = ""

    def set_packages(self, packages: Iterable[tuple[str, str, str]]) -> None:
        self._all = tuple(sorted(packages, key=lambda package: package[0].lower()))
        self.set_filter(self._filter)

    def set_filter(self, text: str) -> None:
        self.beginResetModel()
        self._filter = text
        self._shown = tuple(package for package in self._all if text.lower() in package[0].lower())
        self.endResetModel()

    @property
    def total(self) -> int:
        return len(self._all)

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._shown)

    def columnCount(self, parent: AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else 3

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if role == Qt.ItemDataRole.DisplayRole and orientation is Qt.Orientation.Horizontal:
            return self.TITLES[section]
        return None

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role == Qt.ItemDataRole.DisplayRole:
            return self._shown[index.row()][index.column()]
        return None


class FactList(QWidget):
    """Rows of what and words, the words selectable."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(16, 12, 16, 12)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnMinimumWidth(0, 104)
        self._grid.setColumnStretch(1, 1)
        self._facts: tuple[Fact, ...] = ()

    def show_facts(self, facts: Sequence[Fact]) -> None:
        """Facts without words are left out."""
        shown = tuple(fact for fact in facts if fact[1])
        if shown == self._facts:
            return
        self._facts = shown
        while self._grid.count():
            item = self._grid.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        for row, (what, words, is_mono) in enumerate(shown):
            self._grid.addWidget(
                Label(what, self._theme, tone="secondary"), row, 0, Qt.AlignmentFlag.AlignTop
            )
            label = CutLabel(words, self._theme, mono=is_mono, middle=True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._grid.addWidget(label, row, 1)

    def facts(self) -> tuple[Fact, ...]:
        return self._facts


class EnvironmentTab(Splitter):
    """Left: machine, image and packages. Right: the Dockerfile."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        left = Pane(ground="base")
        left.column.addWidget(_title(theme, "Machine and image")[0])
        self.facts = FactList(theme)
        left.column.addWidget(self.facts)
        bar, self._count = _title(theme, "Packages")
        bar.setProperty("edge", "bottom")
        self._filter = SearchField(theme, name="Filter packages", placeholder="Filter")
        self._filter.setFixedWidth(160)
        bar.row.addStretch(1)
        bar.row.addWidget(self._filter)
        bar.setFixedHeight(40)
        left.column.addWidget(bar)
        self.packages = PackageTable()
        self._filter.textChanged.connect(self.packages.set_filter)
        self._table = QTableView()
        self._table.setAccessibleName("Packages")
        self._table.setModel(self.packages)
        self._table.verticalHeader().hide()
        self._table.verticalHeader().setDefaultSectionSize(theme.length("height.row_compact"))
        self._table.setShowGrid(False)
        self._table.setFont(theme.mono())
        self._table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.setTabKeyNavigation(False)
        header = self._table.horizontalHeader()
        header.setFont(theme.font("small"))
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.resizeSection(1, 150)
        header.resizeSection(2, 70)
        left.column.addWidget(self._table, 1)
        self.addWidget(left)
        right = Pane(ground="sunken")
        bar, self._from = _title(theme, "Dockerfile")
        bar.row.addStretch(1)
        self._copy = Button("Copy", theme, kind="ghost", size="small", icon="ph.copy")
        self._copy.clicked.connect(self._on_copy_clicked)
        bar.row.addWidget(self._copy)
        right.column.addWidget(bar)
        self.dockerfile = CodeView(theme, name="Dockerfile", language="dockerfile")
        right.column.addWidget(self.dockerfile, 1)
        self._no_file = EmptyState(
            "No Dockerfile.", "The run used an image that was there already, or no container at all.", theme
        )
        self._no_file.setContentsMargins(24, 24, 24, 24)
        right.column.addWidget(self._no_file)
        right.column.addStretch(0)
        self.addWidget(right)
        self.setSizes([560, 640])

    def _on_copy_clicked(self) -> None:
        QGuiApplication.clipboard().setText(self.dockerfile.toPlainText())

    def show_detail(self, detail: RunDetail, image: ImageRecord | None) -> None:
        run = detail.summary
        seen = _object(detail.environment_json)
        gpus = [_gpu_words(gpu) for gpu in _list(seen.get("gpus"))]
        memory = seen.get("memory_bytes")
        cpu = str(seen.get("cpu_model") or "")
        if seen.get("cpus"):
            cpu = f"{cpu}, {count_text(int(seen['cpus']), 'processor')}".removeprefix(", ")
        python = seen.get("python")
        facts: list[Fact] = [
            ("Host", run.host or str(seen.get("hostname") or ""), False),
            ("Processor", cpu, False),
            ("Memory", bytes_text(float(memory)) if isinstance(memory, int | float) else "", False),
            ("GPU", "; ".join(gpus) or "; ".join(run.gpus), False),
            ("Driver", str(seen.get("driver") or ""), False),
            ("CUDA", str(seen.get("cuda") or ""), False),
            ("cuDNN", str(seen.get("cudnn") or ""), False),
            ("Kernel", str(seen.get("kernel") or ""), False),
            ("Python", str(python or ""), False),
            ("Image", run.image_tag, True),
            ("Image ID", run.image_id, True),
            ("Digest", image.repo_digest if image is not None else "", True),
            ("Base", image.base if image is not None else "", True),
            ("Size", bytes_text(image.size_bytes) if image is not None and image.size_bytes else "", False),
        ]
        if not any(words for _, words, _ in facts):
            facts = [("Machine", "Nothing is known yet.", False)]
        self.facts.show_facts(facts)
        self.packages.set_packages(_packages(seen, image))
        total = self.packages.total
        self._count.setText(f"{total:,}" if total else "none known")
        self.dockerfile.set_code(detail.dockerfile)
        has_file = bool(detail.dockerfile)
        self.dockerfile.setVisible(has_file)
        self._copy.setVisible(has_file)
        self._no_file.setVisible(not has_file)


class CodeTab(Splitter):
    """Left: commit, tree and files. Right: what differed from the commit."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        left = Pane(ground="base")
        left.column.addWidget(_title(theme, "Code")[0])
        self.facts = FactList(theme)
        left.column.addWidget(self.facts)
        bar, self._count = _title(theme, "Files")
        bar.setProperty("edge", "bottom")
        left.column.addWidget(bar)
        self.files = CodeView(theme, name="Files", numbers=False)
        left.column.addWidget(self.files, 1)
        self.addWidget(left)
        right = Pane(ground="sunken")
        bar, self._changed = _title(theme, "Changes")
        bar.row.addStretch(1)
        self._copy = Button("Copy patch", theme, kind="ghost", size="small", icon="ph.copy")
        self._copy.clicked.connect(self._on_copy_clicked)
        bar.row.addWidget(self._copy)
        right.column.addWidget(bar)
        self.patch = CodeView(theme, name="Patch", language="diff")
        right.column.addWidget(self.patch, 1)
        self._clean = EmptyState("", "", theme)
        self._clean.setContentsMargins(24, 24, 24, 24)
        right.column.addWidget(self._clean)
        right.column.addStretch(0)
        self.addWidget(right)
        self.setSizes([560, 640])

    def _on_copy_clicked(self) -> None:
        QGuiApplication.clipboard().setText(self.patch.toPlainText())

    def show_detail(self, detail: RunDetail) -> None:
        run, spec = detail.summary, detail.spec
        self.facts.show_facts(
            [
                ("Folder", spec.code.folder, True),
                ("Repository", spec.code.url, True),
                ("Ref", spec.code.ref, True),
                ("Commit", run.commit, True),
                ("Tree", run.tree_hash, True),
                ("Travels", spec.travel.value, False),
                ("Command", " ".join(run.command), True),
            ]
        )
        self._count.setText(f"{len(detail.code_files):,}" if detail.code_files else "")
        self.files.set_code("\n".join(detail.code_files))
        has_patch = bool(detail.patch)
        self.patch.set_code(detail.patch)
        self.patch.setVisible(has_patch)
        self._copy.setVisible(has_patch)
        self._clean.setVisible(not has_patch)
        self._changed.setText(count_text(run.changed_files, "file") if run.changed_files else "")
        if not run.commit:
            self._clean.statement.setText("The code is in no Git repository.")
            self._clean.sentence.setText("Its tree hash tells it apart from other code.")
        elif run.changed_files:
            self._clean.statement.setText("Only new files differ from the commit.")
            self._clean.sentence.setText("They travelled with the run and stand in the list of files.")
        else:
            self._clean.statement.setText("Nothing differed from the commit.")
            self._clean.sentence.setText("")


def _title(theme: Theme, words: str) -> tuple[Bar, Label]:
    bar = Bar(height=32, edge="bottom", margins=(16, 12))
    bar.row.addWidget(Label(words, theme, size="small", weight="semibold"))
    count = Label("", theme, size="small", tone="tertiary")
    bar.row.addWidget(count)
    row: QHBoxLayout = bar.row
    row.setAlignment(Qt.AlignmentFlag.AlignLeft)
    return bar, count


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _gpu_words(gpu: object) -> str:
    if not isinstance(gpu, dict):
        return str(gpu)
    memory = gpu.get("memory_total_bytes")
    words = str(gpu.get("name") or "GPU")
    return f"{words}, {bytes_text(float(memory))}" if isinstance(memory, int | float) else words


def _packages(seen: dict[str, Any], image: ImageRecord | None) -> list[tuple[str, str, str]]:
    """What ran is what the probe saw; the image's list adds what the probe cannot see (apt)."""
    found: dict[tuple[str, str], str] = {}
    if image is not None:
        for package in image.packages:
            found[package.name, package.manager] = package.version
    for entry in _list(seen.get("packages")):
        if isinstance(entry, dict):
            name, version = str(entry.get("name", "")), str(entry.get("version", ""))
            manager = str(entry.get("manager", "pip"))
        elif isinstance(entry, list) and len(entry) >= 2:
            name, version, manager = str(entry[0]), str(entry[1]), "pip"
        else:
            continue
        found[name, manager] = version
    return [(name, version, manager) for (name, manager), version in found.items()]
