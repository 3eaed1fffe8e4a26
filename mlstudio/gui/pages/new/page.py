"""New: what to run at the left, what will happen at the right, launched by one button.

Everything slow (reading the code, planning, building) happens elsewhere; an answer that is no longer asked for is
dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from mlstudio.engines.engine import CanListGpus
from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import count_text, duration_text
from mlstudio.gui.launches import LaunchView
from mlstudio.gui.pages.new.draft import Draft
from mlstudio.gui.pages.new.form import NewForm, first_focus
from mlstudio.gui.pages.new.outcome import Outcome
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.fields import Field
from mlstudio.gui.widgets.header import PageHeader
from mlstudio.gui.widgets.panes import Bar, Pane, Scroll, Splitter
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.images.detect import Suggestion
from mlstudio.model.errors import Cancelled, RequestError
from mlstudio.model.host import Gpu
from mlstudio.services.checks import Level
from mlstudio.services.examples import Example
from mlstudio.services.images import Plan
from mlstudio.services.script_arguments import Argument, read_arguments
from mlstudio.services.studio import Studio

PLAN_AFTER_MS = 250
"""A plan is made this long after the last change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What was read from the code."""

    suggestion: Suggestion
    root: Path
    arguments: tuple[Argument, ...]


class NewPage(QWidget):
    """The page. `run_launched` with the run's id as soon as it stands in the history and its container runs."""

    run_launched = Signal(str)

    def __init__(self, studio: Studio, bridge: Bridge, theme: Theme) -> None:
        super().__init__()
        self._studio = studio
        self._bridge = bridge
        self._theme = theme
        self._plan: Plan | None = None
        self._work = ""
        self._work_failed = False
        """Whether what the last build or launch said is to stay until something is changed."""
        self._root: Path | None = None
        self._read_code = ""
        self._asked_surroundings = False
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._make_header())
        self.form = NewForm(theme)
        self.form.edited.connect(self._on_edited)
        self.form.code_chosen.connect(self._on_code_chosen)
        self.form.script_chosen.connect(self._on_script_chosen)
        self.outcome = Outcome(theme)
        self.outcome.cancel_asked.connect(self._on_cancel)
        left = Pane(ground="base")
        left.column.addWidget(Scroll(self.form))
        right = Pane(ground="base")
        self._right = QStackedWidget()
        self._starts = _Starts(theme)
        self._starts.chosen.connect(self._on_example)
        self._right.addWidget(self._starts)
        self._right.addWidget(self.outcome)
        right.column.addWidget(self._right, 1)
        right.column.addWidget(self._make_foot())
        split = Splitter()
        split.addWidget(left)
        split.addWidget(right)
        split.setStretchFactor(0, 1)
        split.setStretchFactor(1, 1)
        split.setSizes([640, 700])
        column.addWidget(split, 1)
        self._timer = QTimer(self, singleShot=True, interval=PLAN_AFTER_MS)
        self._timer.timeout.connect(self._make_plan)
        bridge.launches.progressed.connect(self._on_progressed)
        bridge.launches.finished.connect(self._on_finished)
        self._show_buttons()

    # -- called by the shell and by other pages -----------------------------------------------------------------

    def page_shown(self) -> None:
        """Ask once for what can be chosen."""
        if not self._asked_surroundings:
            self._asked_surroundings = True
            self._bridge.call(lambda: self._studio.images.catalogue, self.form.set_catalogue, owner=self)
            self._bridge.call(self._studio.examples.list, self._starts.show_examples, owner=self)
            self._bridge.call(self._find_engines, self.form.set_engines, owner=self)
            self._bridge.call(self._find_gpus, self._on_gpus, owner=self, failed=self._on_no_gpus)
        if not self.form.draft.code:
            first_focus(self.form).setFocus()

    def show_code(self, code: str) -> None:
        """Begin with this folder or Git URL."""
        self.form.show_code(code)

    @property
    def launch_button(self) -> Button:
        return self._launch

    @property
    def build_button(self) -> Button:
        return self._build

    @property
    def plan(self) -> Plan | None:
        """The plan that is shown; None while there is none for what stands in the form."""
        return self._plan

    # -- its parts ----------------------------------------------------------------------------------------------

    def _make_header(self) -> PageHeader:
        header = PageHeader("New run", self._theme)
        self.name = Field(self._theme, name="Name of the run", placeholder="name")
        self.name.setFixedWidth(220)
        self.name.textEdited.connect(self._on_edited)
        header.add_left(self.name)
        header.add_left(
            Label("left empty, it is called after the script", self._theme, tone="tertiary", size="small")
        )
        return header

    def _make_foot(self) -> Bar:
        bar = Bar(height=48, edge="top", margins=(16, 16))
        self._sentence = CutLabel("", self._theme, tone="secondary", size="small")
        bar.row.addWidget(self._sentence, 1)
        self._build = Button("Build only", self._theme)
        self._build.clicked.connect(self._on_build)
        bar.row.addWidget(self._build)
        self._launch = Button(
            "Launch", self._theme, kind="primary", icon="ph.play-fill", shortcut="Ctrl+Return"
        )
        self._launch.clicked.connect(self._on_launch)
        bar.row.addWidget(self._launch)
        return bar

    # -- reading the code ---------------------------------------------------------------------------------------

    def _on_code_chosen(self) -> None:
        draft = self.form.draft
        wanted = self.form.wanted_script
        key = f"{draft.code.strip()}@{draft.ref.strip()}:{draft.subfolder.strip()}:{wanted}"
        if not draft.code.strip() or key == self._read_code:
            return
        self._read_code = key
        self._right.setCurrentWidget(self.outcome)
        self.outcome.busy.start()
        source = draft.source()

        def read() -> _Reading:
            root = self._studio.code.fetch(source)
            suggestion = self._studio.code.suggest(source)
            if wanted and (root / wanted).is_file():
                scripts = tuple(dict.fromkeys((wanted, *suggestion.scripts)))
                suggestion = replace(suggestion, script=wanted, scripts=scripts)
            return _Reading(
                suggestion=suggestion, root=root, arguments=read_arguments(root / suggestion.script)
            )

        self._bridge.call(
            read,
            lambda reading: self._on_read(key, reading),
            owner=self,
            failed=lambda error: self._on_not_read(key, error),
            key="new.code",
        )

    def _on_read(self, key: str, reading: _Reading) -> None:
        if key != self._read_code:
            return  # other code was chosen since
        self.outcome.busy.stop()
        found = reading.suggestion
        self._root = reading.root
        phrase = f"found in {found.dependencies.file}" if found.dependencies.file else "read from the imports"
        self.form.show_suggestion(
            framework=found.framework,
            script=found.script,
            scripts=found.scripts,
            dependencies=found.dependencies,
            phrase=phrase,
        )
        self.form.show_arguments(reading.arguments)
        self._make_plan()

    def _on_not_read(self, key: str, error: Exception) -> None:
        if key != self._read_code:
            return
        self.outcome.busy.stop()
        self._read_code = ""
        self._plan = None
        self._show_buttons()
        if isinstance(error, RequestError) and self.form.show_error(error):
            self.outcome.show_nothing("The Dockerfile appears once the code can be read.")
            self._sentence.setText(error.what)
        else:
            self.outcome.show_nothing("")
            self.outcome.trouble.show_error(error)

    def _on_script_chosen(self, name: str) -> None:
        root = self._root
        if root is None:
            return

        def show(arguments: tuple[Argument, ...]) -> None:
            if (root, name) == (self._root, self.form.draft.script):
                self.form.show_arguments(arguments)

        self._bridge.call(lambda: read_arguments(root / name), show, owner=self, key="new.arguments")

    def _on_example(self, example: Example) -> None:
        self.form.show_code(str(example.path))

    # -- the plan -----------------------------------------------------------------------------------------------

    def _on_edited(self) -> None:
        if not self._work:
            self._clear_work()
        self._plan = None
        self._show_buttons()
        self._timer.start()

    def _make_plan(self) -> None:
        self._timer.stop()
        draft = self._draft()
        if not draft.is_complete:
            return
        self._right.setCurrentWidget(self.outcome)
        if self._show_problems(draft):
            return
        spec = draft.spec()
        self.outcome.busy.start()
        self._bridge.call(
            lambda: self._studio.images.plan(spec),
            lambda plan: self._on_planned(draft, plan),
            owner=self,
            failed=lambda error: self._on_not_planned(draft, error),
            key="new.plan",
        )

    def _show_problems(self, draft: Draft) -> bool:
        """Show what is wrong with the form, each beside its field; False where nothing is."""
        # A parameter's value says nothing about the image: it only keeps the run from being launched.
        problems = {
            field: words for field, words in draft.problems().items() if not field.startswith("parameters.")
        }
        for field, words in problems.items():
            self.form.show_field_words(field, words)
        if problems:
            self.outcome.busy.stop()
            self._show_buttons()
            self._sentence.setText(next(iter(problems.values())))
        return bool(problems)

    def _on_planned(self, draft: Draft, plan: Plan) -> None:
        if draft != self._draft():
            return  # something was changed since; another plan is on its way
        self.outcome.busy.stop()
        self._plan = plan
        self.form.clear_errors()
        self.form.show_choice(version=plan.recipe.spec.version, python=plan.recipe.python)
        self.outcome.show_plan(plan)
        if not self._work and not self._work_failed:
            self.outcome.trouble.clear()
        for check in plan.checks:
            if check.level is Level.ERROR and check.field and check.field != "engine":
                self.form.show_field_words(check.field, f"{check.message} {check.try_this}".strip())
        self._show_buttons()

    def _on_not_planned(self, draft: Draft, error: Exception) -> None:
        if draft != self._draft():
            return
        self.outcome.busy.stop()
        self._plan = None
        self._show_buttons()
        if isinstance(error, RequestError) and self.form.show_error(error):
            self._sentence.setText(error.what)
            return
        self.outcome.trouble.show_error(error)

    def _draft(self) -> Draft:
        return replace(self.form.draft, name=self.name.text())

    # -- launching ----------------------------------------------------------------------------------------------

    def _on_launch(self) -> None:
        if not self._launch.isEnabled() or self._work:
            return
        draft = self._draft()
        if self._show_problems(draft):
            return
        self._clear_work()
        self._work = self._bridge.launches.launch(draft.spec())
        self._show_buttons()

    def _on_build(self) -> None:
        if self._plan is None or self._work:
            return
        self._clear_work()
        self._work = self._bridge.launches.build(self._plan, engine=self.form.draft.engine)
        self._show_buttons()

    def _clear_work(self) -> None:
        self._work_failed = False
        self.outcome.clear_work()

    def _on_cancel(self) -> None:
        if self._work:
            self._bridge.launches.cancel(self._work)

    def _on_progressed(self, view: LaunchView) -> None:
        if view.key == self._work:
            self.outcome.show_work(view)

    def _on_finished(self, view: LaunchView) -> None:
        if view.key != self._work:
            return
        self._work = ""
        self.outcome.show_work(view)
        error = view.error
        self._work_failed = error is not None
        if error is None and view.kind == "launch" and view.run_id:
            self._clear_work()
            self.run_launched.emit(view.run_id)
        elif isinstance(error, RequestError) and self.form.show_error(error):
            self._sentence.setText(error.what)
        elif error is not None and not isinstance(error, Cancelled) and not self.isVisible():
            # Who looks at this page reads it there.
            self._bridge.notice(str(getattr(error, "what", error)), level="error")
        self._make_plan()
        self._show_buttons()

    def _show_buttons(self) -> None:
        plan = self._plan
        busy = bool(self._work)
        blocked = plan is not None and any(check.level is Level.ERROR for check in plan.checks)
        wrong = bool(self.form.draft.wrong_values())
        self._launch.setEnabled(plan is not None and not busy and not blocked and not wrong)
        self._build.setEnabled(plan is not None and plan.builds and not busy and not blocked)
        if busy:
            self._sentence.setText("The run starts as soon as its image is there.")
        elif wrong:
            self._sentence.setText("A parameter needs another value.")
        elif plan is None:
            self._sentence.setText("" if not self.form.draft.code else "Looking at it …")
        elif blocked:
            first = next(check for check in plan.checks if check.level is Level.ERROR)
            self._sentence.setText(first.message)
        elif plan.image is not None or not plan.builds:
            self._sentence.setText("The image is there: launching starts the run at once.")
        else:
            seconds = plan.seconds
            todo = len(plan.forecast) - plan.cached_layers
            about = f", about {duration_text(seconds)}" if seconds else ""
            self._sentence.setText(
                f"Launching builds {count_text(todo, 'line')} first{about}, then starts the run."
            )

    # -- surroundings -------------------------------------------------------------------------------------------

    def _find_engines(self) -> Sequence[tuple[str, str]]:
        words = {"local": "Docker on this computer", "process": "This computer, without a container"}
        return [(name, words.get(name, name)) for name in self._studio.engines.names()]

    def _find_gpus(self) -> Sequence[Gpu]:
        engine = self._studio.engines.get("local")
        return tuple(engine.gpus()) if isinstance(engine, CanListGpus) else ()

    def _on_gpus(self, gpus: Sequence[Gpu]) -> None:
        self.form.show_gpus(gpus, "No NVIDIA GPU here: it runs on the CPU.")

    def _on_no_gpus(self, error: Exception) -> None:
        self.form.show_gpus((), str(getattr(error, "what", "GPUs cannot be listed.")))


class _Starts(QWidget):
    """Shown until code is chosen: the examples, each with its true cost."""

    chosen = Signal(object)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        content = QWidget()
        self._column = QVBoxLayout(content)
        self._column.setContentsMargins(64, 64, 64, 32)
        self._column.setSpacing(8)
        self._column.addWidget(Label("What shall run?", theme, size="empty_title", weight="semibold"))
        self._column.addWidget(
            Label(
                "Choose the folder of your code at the left, or drop it there. What it needs is read from it, and the "
                "Dockerfile that results appears here.",
                theme,
                size="lead",
                tone="secondary",
                wrap=True,
            )
        )
        self._column.addSpacing(16)
        self._column.addWidget(Label("Or begin with an example", theme, size="small", weight="semibold"))
        self._rows = QVBoxLayout()
        self._rows.setSpacing(0)
        self._column.addLayout(self._rows)
        self._column.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(content))
        self.buttons: dict[str, Button] = {}

    def show_examples(self, examples: Sequence[Example]) -> None:
        """A row for each example."""
        for example in examples:
            row = Bar(height=80, ground="base", edge="bottom", margins=(0, 0), spacing=24)
            words = QVBoxLayout()
            words.setSpacing(2)
            words.addStretch(1)
            title = QHBoxLayout()
            title.setSpacing(8)
            title.addWidget(Label(example.title, self._theme, weight="medium"))
            cost = f"{duration_text(example.seconds)} on a CPU, {example.mb:,.0f} MB"
            title.addWidget(Label(cost, self._theme, tone="tertiary", size="small"))
            title.addStretch(1)
            words.addLayout(title)
            words.addWidget(Label(example.sentence, self._theme, tone="secondary", size="small", wrap=True))
            words.addStretch(1)
            row.row.addLayout(words, 1)
            button = Button("Use it", self._theme)
            button.setAccessibleName(f"Use the example {example.title}")
            button.clicked.connect(lambda _=False, entry=example: self.chosen.emit(entry))
            row.row.addWidget(button)
            self.buttons[example.name] = button
            self._rows.addWidget(row)

    def example_button(self, name: str) -> Button:
        """The button that takes an example."""
        return self.buttons[name]
