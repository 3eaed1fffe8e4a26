"""The left half of the page: what to run, as a form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QButtonGroup, QFileDialog, QHBoxLayout, QWidget

from mlstudio.gui.figures import bytes_text, count_text
from mlstudio.gui.pages.new.draft import EXISTING_IMAGE, OWN_DOCKERFILE, Draft, folder_and_script
from mlstudio.gui.pages.new.flow import Flow, tab_before
from mlstudio.gui.pages.new.parameters import Parameters
from mlstudio.gui.pages.new.rows import MountRows, PairRows
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, CheckBox, Chip, Segmented
from mlstudio.gui.widgets.code import CodeView
from mlstudio.gui.widgets.fields import Field, Select
from mlstudio.gui.widgets.form import Form, FormRow
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.images.catalogue import Catalogue
from mlstudio.model.errors import RequestError
from mlstudio.model.host import Gpu
from mlstudio.model.image import Dependencies, Framework
from mlstudio.services.script_arguments import Argument

_SOURCES = {"imports": "read from the imports", "user": "your own list", "none": "none found"}


class NewForm(Form):
    """Fields for a `Draft`. `edited` after every change that the user makes; `draft` is the form's content."""

    edited = Signal()
    code_chosen = Signal()
    """The code was changed: its framework, script and dependencies must be read again."""
    script_chosen = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme)
        self._theme = theme
        self._draft = Draft()
        self.wanted_script = ""
        """The script that was named together with its folder."""
        self._catalogue: Catalogue | None = None
        self._found = Dependencies()
        self._gpu_boxes: list[CheckBox] = []
        self._gpu_column = Flow(gap=12)
        self.gpu_words = Label("Looking for GPUs …", theme, tone="tertiary")
        self.setAcceptDrops(True)
        self._make_code()
        self._make_framework()
        self._make_command()
        self._make_where()
        self._make_more()
        self.add_stretch()
        self._show_kind()

    @property
    def draft(self) -> Draft:
        """What stands in the form now."""
        return self._draft

    # -- what is shown ------------------------------------------------------------------------------------------

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """The frameworks to choose from."""
        self._catalogue = catalogue
        for framework in catalogue.frameworks:
            self._add_chip(framework.name, framework.title, framework.summary)
        self._add_chip(OWN_DOCKERFILE, "Dockerfile…", "Your own Dockerfile, built as it is.")
        self._add_chip(EXISTING_IMAGE, "Image…", "An image that exists already; nothing is built.")
        tab_before(self.version, list(self._chips.values()))
        self._choose_chip(self._draft.framework)
        self._show_versions()

    def set_engines(self, engines: Sequence[tuple[str, str]]) -> None:
        """(name, words) of the engines that can be chosen."""
        self.engine.set_options(engines, value=self._draft.engine)

    def show_code(self, code: str) -> None:
        """Put a folder, a script in its folder, or a URL into the field, as if the user had typed it."""
        self.code.setText(code)
        self._change(code=code)
        self._on_code_finished()

    def show_suggestion(
        self,
        *,
        framework: str,
        script: str,
        scripts: Sequence[str],
        dependencies: Dependencies,
        phrase: str,
    ) -> None:
        """What was read from the code: framework, script and packages."""
        self._found = dependencies
        self.framework_header.set_phrase(phrase)
        self.script.set_options([(name, name) for name in scripts], value=script)
        self._draft = replace(
            self._draft,
            framework=framework,
            version="",
            python="",
            script=script,
            requirements=None,
            values=(),
        )
        self._choose_chip(framework)
        self._show_versions()
        self._show_dependencies()

    def show_arguments(self, arguments: tuple[Argument, ...]) -> None:
        """The chosen script's parameters."""
        self._draft = self._draft.with_arguments(arguments)
        self._show_parameters()
        self._parameters_row.setVisible(bool(arguments))
        self.command_header.set_phrase(
            f"{count_text(len(arguments), 'parameter')} of the script's argparse, unchanged ones keep their defaults"
            if arguments
            else "what the container starts"
        )
        self.mark_parameters()

    def _show_parameters(self) -> None:
        self.parameters.show_arguments(self._draft.shown_arguments(), dict(self._draft.values))
        tab_before(self.more, self.parameters.value_fields())

    def show_choice(self, *, version: str, python: str) -> None:
        """The framework's version and Python that the plan takes where the user left them open."""
        if not self._draft.version and version:
            self.version.set_value(version)
        if not self._draft.python and python:
            self.python.set_value(python)

    def show_gpus(self, gpus: Sequence[Gpu], words: str) -> None:
        """The engine's GPUs as check boxes; `words` where there are none."""
        if [box.property("uuid") for box in self._gpu_boxes] == [gpu.uuid for gpu in gpus] and gpus:
            return
        for box in self._gpu_boxes:
            box.deleteLater()
        self._gpu_boxes = []
        self.gpu_words.setText(words)
        self.gpu_words.setVisible(not gpus)
        for gpu in gpus:
            used = f"{bytes_text(gpu.memory_used_bytes)} of {bytes_text(gpu.memory_total_bytes)} in use"
            box = CheckBox(f"{gpu.name}, {used}", self._theme, name=f"GPU {gpu.index}: {gpu.name}")
            box.setProperty("uuid", gpu.uuid)
            box.setChecked(gpu.uuid in self._draft.gpus)
            box.toggled.connect(self._on_gpus)
            self._gpu_boxes.append(box)
            self._gpu_column.add(box)
        tab_before(self.limits["cpus"], self._gpu_boxes)

    def show_error(self, error: RequestError) -> bool:
        """Show an error under its field; False if it belongs to none."""
        row = self.row(error.field)
        if row is None:
            return False
        row.set_error(" ".join(part for part in (error.what, error.why, error.try_this) if part))
        return True

    def show_field_words(self, field: str, words: str) -> None:
        """A finding of the checks under the field that it belongs to."""
        row = self.row(field)
        if row is not None:
            row.set_error(words)

    def mark_parameters(self) -> None:
        """Bring "changed" and what is wrong with a value up to date, and the command that results."""
        self.parameters.mark(dict(self._draft.values), self._draft.wrong_values())
        try:
            words = " ".join(self._draft.command())
        except RequestError:
            words = ""
        self.command.setText(words)

    # -- the rows -----------------------------------------------------------------------------------------------

    def _make_code(self) -> None:
        theme = self._theme
        row = QHBoxLayout()
        row.setSpacing(8)
        self.code = Field(
            theme,
            name="Code: a folder or a Git URL",
            placeholder="A folder, or a Git URL",
            mono=True,
            icon="ph.folder",
        )
        self.code.setAcceptDrops(False)
        self.code.textEdited.connect(lambda text: self._change(code=text))
        self.code.editingFinished.connect(self._on_code_finished)
        row.addWidget(self.code, 1)
        browse = Button("Browse…", theme)
        browse.clicked.connect(self._on_browse)
        row.addWidget(browse)
        self.add_row("Code", row, name="code.folder")
        self._rows["code.url"] = self._rows["code.folder"]
        self.ref = Field(theme, name="Branch, tag or commit", placeholder="default branch", mono=True)
        self.ref.textEdited.connect(lambda text: self._change(ref=text))
        self.ref.editingFinished.connect(self._on_code_finished)
        self.subfolder = Field(
            theme, name="Folder in the repository", placeholder="folder in the repository", mono=True
        )
        self.subfolder.textEdited.connect(lambda text: self._change(subfolder=text))
        self.subfolder.editingFinished.connect(self._on_code_finished)
        revision = QHBoxLayout()
        revision.setSpacing(8)
        revision.addWidget(self.ref, 1)
        revision.addWidget(self.subfolder, 1)
        self._ref_row = self.add_row("Revision", revision, name="code.ref")
        self._rows["code.subfolder"] = self._ref_row
        self.travel = Segmented(
            [("baked", "Baked in"), ("mounted", "Mounted"), ("cloned", "Cloned at start")],
            theme,
            name="How the code travels",
        )
        self.travel.value_changed.connect(self._on_travel)
        self._travel_row = self.add_row("How it travels", self.travel, name="code.travel")
        self._on_travel_words("baked")

    def _make_framework(self) -> None:
        theme = self._theme
        self.framework_header = self.add_section("Framework", phrase="read from the code once it is chosen")
        self._chips: dict[str, Chip] = {}
        self._group = QButtonGroup(self)
        self._flow = Flow()
        self.add_row("Framework", self._flow, name="image.framework")
        row = QHBoxLayout()
        row.setSpacing(8)
        self.version = Select(theme, name="Version of the framework")
        self.version.value_changed.connect(lambda value: self._on_version(value))
        self.variant = Select(theme, name="CPU or CUDA")
        self.variant.value_changed.connect(lambda value: self._change(variant=value))
        self.python = Select(theme, name="Python version")
        self.python.value_changed.connect(lambda value: self._change(python=value))
        for select in (self.version, self.variant, self.python):
            row.addWidget(select)
        self.driver = Label("", theme, tone="tertiary", size="small")
        row.addWidget(self.driver)
        row.addStretch(1)
        self._version_row = self.add_row("Version", row, name="image.version")
        self._rows["image.variant"] = self._rows["image.python"] = self._version_row
        self.dockerfile = Field(theme, name="Path of your Dockerfile", text="Dockerfile", mono=True)
        self.dockerfile.textEdited.connect(lambda text: self._change(dockerfile=text))
        self._dockerfile_row = self.add_row(
            "Dockerfile", self.dockerfile, name="image.dockerfile", hint="Its path in the folder of the code."
        )
        self.image = Field(theme, name="Image", placeholder="name:tag or name@sha256:…", mono=True)
        self.image.textEdited.connect(lambda text: self._change(image=text))
        self._image_row = self.add_row("Image", self.image, name="image.image")
        deps = QHBoxLayout()
        deps.setSpacing(8)
        self.dependencies = CutLabel("", theme)
        deps.addWidget(self.dependencies, 1)
        self._edit = Button("Edit…", theme, kind="ghost", size="small", checkable=True)
        self._edit.setAccessibleName("Edit the list of packages")
        self._edit.toggled.connect(self._on_edit)
        deps.addWidget(self._edit)
        self._dependencies_row = self.add_row("Dependencies", deps, name="image.requirements")
        self._rows["dependencies"] = self._dependencies_row
        self.requirements = CodeView(theme, name="Packages, one a line", editable=True)
        self.requirements.setFixedHeight(148)
        self.requirements.textChanged.connect(self._on_requirements)
        self._requirements_row = self.add_row("", self.requirements)
        self._requirements_row.hide()
        self.system = Field(
            theme, name="Debian packages", placeholder="Debian packages, such as ffmpeg libgl1", mono=True
        )
        self.system.textEdited.connect(lambda text: self._change(system_packages=text))
        self._system_row = self.add_row("System", self.system, name="image.system_packages")

    def _make_command(self) -> None:
        theme = self._theme
        self.command_header = self.add_section("Command", phrase="what the container starts")
        self.script = Select(theme, name="Script", mono=True, editable=True)
        self.script.value_changed.connect(self._on_script)
        line = self.script.lineEdit()
        if line is not None:
            line.editingFinished.connect(lambda: self._on_script(self.script.value()))
        self._script_row = self.add_row("Script", self.script, name="script")
        self.parameters = Parameters(theme)
        self.parameters.edited.connect(self._on_parameter)
        self._parameters_row = self.add_row("Parameters", self.parameters)
        self._parameters_row.hide()
        self.more = Field(theme, name="Further arguments", placeholder="as in a shell", mono=True)
        self.more.textEdited.connect(lambda text: self._change(more=text))
        self.add_row("Further words", self.more, name="command")
        self.command = CutLabel("", theme, tone="secondary", mono=True)
        self.command.setAccessibleName("The command")
        self.add_row("Starts", self.command)

    def _make_where(self) -> None:
        theme = self._theme
        self.add_section("Where")
        self.engine = Select(theme, name="Engine")
        self.engine.value_changed.connect(lambda value: self._change(engine=value))
        self.add_row("Engine", self.engine, name="engine")
        row = QHBoxLayout()
        row.addWidget(self.gpu_words)
        row.addWidget(self._gpu_column, 1)
        self.add_row("GPUs", row, name="gpus")
        limits = QHBoxLayout()
        limits.setSpacing(8)
        self.limits: dict[str, Field] = {}
        for key, name, hint, unit in (
            ("cpus", "Processors at most", "all CPUs", ""),
            ("memory", "Memory at most", "all memory", ""),
            ("shm", "Shared memory", "shared memory", ""),
            ("stop_after", "Stop after", "no time limit", ""),
        ):
            field = Field(theme, name=name, placeholder=hint)
            field.textEdited.connect(lambda text, key=key: self._change(**{key: text}))
            field.setToolTip(
                name + {"cpus": ": 2 or 0.5", "stop_after": ": 90s, 15m, 2h"}.get(key, ": 512m or 8g")
            )
            if unit:
                field.set_hint(unit)
            self.limits[key] = field
            limits.addWidget(field, 1)
        self.add_row("Limits", limits, name="limits")

    def _make_more(self) -> None:
        theme = self._theme
        header = self.add_section("More", phrase="data, environment, secrets, tags")
        self._more_button = Button("Show", theme, kind="ghost", size="small", checkable=True)
        self._more_button.setAccessibleName("Show data, environment, secrets and tags")
        self._more_button.toggled.connect(self._on_more)
        header.add_right(self._more_button)
        self.mounts = MountRows(theme)
        self.mounts.edited.connect(lambda: self._change(mounts=self.mounts.mounts()))
        self.env = PairRows(theme)
        self.env.edited.connect(lambda: self._change(env=self.env.pairs()))
        self.secrets = Field(theme, name="Secrets by name", placeholder="HF_TOKEN WANDB_API_KEY", mono=True)
        self.secrets.textEdited.connect(
            lambda text: self._change(secrets=tuple(text.replace(",", " ").split()))
        )
        self.tags = Field(theme, name="Tags", placeholder="baseline, vit")
        self.tags.textEdited.connect(lambda text: self._change(tags=text))
        self.note = Field(theme, name="Note", placeholder="what you want to find out")
        self.note.textEdited.connect(lambda text: self._change(note=text))
        self._more_rows: list[FormRow] = [
            self.add_row(
                "Data", self.mounts, name="mounts", hint="Folders of this computer that the run can read."
            ),
            self.add_row("Environment", self.env, name="env"),
            self.add_row(
                "Secrets",
                self.secrets,
                name="secrets",
                hint="Names. Values come from the system's keyring or your environment and are written nowhere.",
            ),
            self.add_row("Tags", self.tags, name="tags"),
            self.add_row("Note", self.note, name="note"),
        ]
        for row in self._more_rows:
            row.hide()

    # -- what the user does -------------------------------------------------------------------------------------

    def _change(self, **changed: Any) -> None:
        # The names are those of the draft's own fields.
        self._draft = replace(self._draft, **changed)
        self.clear_errors()
        self._on_travel_words(self._draft.travel)
        self.mark_parameters()
        self.edited.emit()

    def _on_code_finished(self) -> None:
        if not self._draft.is_url:
            folder, script = folder_and_script(self._draft.code)
            if folder != self._draft.code:
                self.code.setText(folder)
                self.wanted_script = script
                self._change(code=folder)
        self._show_kind()
        self.code_chosen.emit()

    def _on_browse(self) -> None:
        start = self._draft.code if self._draft.code and not self._draft.is_url else str(Path.home())
        folder = QFileDialog.getExistingDirectory(self, "Choose the folder of your code", start)
        if folder:
            self.show_code(folder)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """A folder dropped is the code; a file dropped is the script in its folder."""
        for url in event.mimeData().urls():
            path = Path(url.toLocalFile())
            if path.exists():
                self.show_code(str(path))
                event.acceptProposedAction()
                return

    def _on_travel(self, value: str) -> None:
        self._change(travel=value)

    def _on_travel_words(self, value: str) -> None:
        self._travel_row.set_hint(
            {
                "baked": "A copy in the image: it runs anywhere as it is.",
                "mounted": "The folder itself, read only: an edit needs no build. Outputs go to /tmp or a data mount.",
                "cloned": "Fetched from Git when the run starts.",
            }[value]
        )

    def _add_chip(self, name: str, title: str, tip: str) -> None:
        chip = Chip(title, self._theme, tall=True)
        chip.setToolTip(tip)
        chip.setAccessibleName(f"Framework: {title}")
        chip.clicked.connect(lambda: self._on_framework(name))
        self._group.addButton(chip)
        self._chips[name] = chip
        self._flow.add(chip)

    def chip(self, name: str) -> Chip:
        """The chip of a framework."""
        return self._chips[name]

    def _choose_chip(self, name: str) -> None:
        if name in self._chips:
            self._chips[name].setChecked(True)
            # One of them is reached with Tab, the others with the arrow keys.
            for each, chip in self._chips.items():
                policy = Qt.FocusPolicy.StrongFocus if each == name else Qt.FocusPolicy.ClickFocus
                chip.setFocusPolicy(policy)

    def _on_framework(self, name: str) -> None:
        self._draft = replace(self._draft, framework=name, version="", variant="cpu", python="")
        self._show_versions()
        self._show_kind()
        self._change()

    def _on_version(self, value: str) -> None:
        self._draft = replace(self._draft, version=value)
        self._show_variants(keep=True)
        self._change()

    def _framework(self) -> Framework | None:
        if self._catalogue is None:
            return None
        return next(
            (entry for entry in self._catalogue.frameworks if entry.name == self._draft.framework), None
        )

    def _show_versions(self) -> None:
        framework = self._framework()
        versions = framework.versions if framework is not None else ()
        self.version.set_options(
            [(entry.version, entry.version) for entry in versions], value=self._draft.version
        )
        self.version.setVisible(bool(versions))
        self._show_variants(keep=False)
        self._show_kind()

    def _show_variants(self, *, keep: bool) -> None:
        framework = self._framework()
        if framework is None or self._catalogue is None:
            return
        release = next((entry for entry in framework.versions if entry.version == self.version.value()), None)
        variants = release.variants if release is not None else ()
        self.variant.set_options([(entry.name, entry.title) for entry in variants], value=self._draft.variant)
        self.variant.setVisible(bool(variants))
        if variants and self._draft.variant not in {entry.name for entry in variants}:
            self._draft = replace(self._draft, variant=variants[0].name)
        pythons = self._catalogue.pythons(framework, release)
        wanted = self._draft.python if keep and self._draft.python in pythons else ""
        self._draft = replace(self._draft, python=wanted)
        self.python.set_options([(entry, f"Python {entry}") for entry in pythons], value=wanted)
        chosen = next((entry for entry in variants if entry.name == self._draft.variant), None)
        self.driver.setText(
            f"needs driver {chosen.min_driver} or newer" if chosen and chosen.min_driver else ""
        )

    def _show_kind(self) -> None:
        """Show the rows that this kind of code and image needs."""
        own = self._draft.framework in (OWN_DOCKERFILE, EXISTING_IMAGE)
        self._version_row.setVisible(not own)
        self._dependencies_row.setVisible(not own)
        self._requirements_row.setVisible(not own and self._edit.isChecked())
        self._system_row.setVisible(not own)
        self._dockerfile_row.setVisible(self._draft.framework == OWN_DOCKERFILE)
        self._image_row.setVisible(self._draft.framework == EXISTING_IMAGE)
        self._ref_row.setVisible(self._draft.is_url)
        if self._draft.is_url and self._draft.travel == "mounted":
            self.travel.set_value("baked")
            self._draft = replace(self._draft, travel="baked")
            self._on_travel_words("baked")
        self.travel.set_option_enabled(
            "mounted", not self._draft.is_url, why="Only a folder on this computer can be mounted."
        )

    def _show_dependencies(self) -> None:
        if self._draft.requirements is not None:
            lines = [line.strip() for line in self._draft.requirements.splitlines()]
            count, where = len([line for line in lines if line and not line.startswith("#")]), "your own list"
        else:
            count = len(self._found.requirements)
            where = self._found.file or _SOURCES.get(self._found.source.value, self._found.source.value)
            if self._found.locked:
                where += ", locked"
        self.dependencies.setText(
            f"{count_text(count, 'package')}, {where}" if count else "none found: the framework alone"
        )

    def _on_edit(self, on: bool) -> None:
        if on and self._draft.requirements is None:
            self.requirements.blockSignals(True)
            self.requirements.set_code("\n".join(self._found.requirements))
            self.requirements.blockSignals(False)
        if not on and self.requirements.toPlainText().strip() == "\n".join(self._found.requirements).strip():
            self._draft = replace(self._draft, requirements=None)
        self._requirements_row.setVisible(on)
        # What is wrong with a line stands under the lines.
        self._rows["image.requirements"] = self._requirements_row if on else self._dependencies_row
        self._show_dependencies()

    def _on_requirements(self) -> None:
        self._change(requirements=self.requirements.toPlainText())
        self._show_dependencies()
        self.requirements.set_notes(
            {
                problem.line - 1: ("not a requirement", "status.error")
                for problem in self._draft.requirement_problems()
            }
        )

    def _on_script(self, name: str) -> None:
        if name != self._draft.script:
            self._change(script=name)
            self.script_chosen.emit(name)

    def _on_parameter(self, argument: Argument, value: str) -> None:
        self._draft = self._draft.with_value(argument, value)
        if argument.kind == "subcommand":
            self._show_parameters()
        self._change()

    def _on_gpus(self) -> None:
        self._change(gpus=tuple(str(box.property("uuid")) for box in self._gpu_boxes if box.isChecked()))

    def _on_more(self, on: bool) -> None:
        self._more_button.setText("Hide" if on else "Show")
        for row in self._more_rows:
            row.setVisible(on)


def first_focus(form: NewForm) -> QWidget:
    """Where the keyboard begins."""
    return form.code
