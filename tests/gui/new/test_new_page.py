"""The page New over an engine in memory: what is chosen and typed at the left, and what is said of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QLineEdit, QTextEdit, QWidget
from pytestqt.qtbot import QtBot

from mlstudio.engines.fake import FakeContainer, FakeEngine
from mlstudio.gui.pages.new.draft import EXISTING_IMAGE, OWN_DOCKERFILE, MountDraft
from mlstudio.gui.pages.new.page import NewPage
from mlstudio.gui.pages.new.parameters import ParameterCell
from mlstudio.gui.shell import Shell
from mlstudio.gui.widgets.fields import Field, Select
from mlstudio.images.detect import Suggestion
from mlstudio.model.code import CodeSource
from mlstudio.model.errors import RequestError, WorldError
from mlstudio.model.run import RunSpec
from mlstudio.services.images import Plan
from mlstudio.services.studio import Studio
from tests.gui.conftest import DEADLINE_MS

SCRIPT = """
import argparse
import sklearn

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10, help="rounds (default: %(default)s)")
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--model", choices=["tree", "forest"], default="tree")
parser.add_argument("--amp", action=argparse.BooleanOptionalAction, default=True)
parser.parse_args()
"""
OTHER = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--split", default="test")
parser.add_argument("--lr", type=float, default=0.3)
"""
DEADLINE_S = DEADLINE_MS / 1000


class NoRecorder:
    """Stands in for the recorder: these tests look at the page alone."""

    def ensure(self) -> bool:
        return False


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    def program(container: FakeContainer) -> int:
        if not container.spec.run_id.startswith("smoke-"):
            container.wait_for_stop(30)
        return 0

    engine = FakeEngine("local", program=program)
    yield engine
    engine.close()


@pytest.fixture
def studio(home: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Studio(home, engines={"local": fake}) as made:
        made.settings.set("pip.discover", False)
        made._parts["recorder"] = NoRecorder()
        yield made


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "evaluate.py").write_text(OTHER)
    (folder / "requirements.txt").write_text("scikit-learn\nrich==14.0.0\n")
    return folder


@pytest.fixture
def page(shell: Shell, qtbot: QtBot) -> NewPage:
    """The page, empty, with the frameworks and examples that it offers."""
    shell.show_page("New")
    found = shell.page("New")
    assert isinstance(found, NewPage)
    qtbot.waitUntil(lambda: bool(found.form._chips) and bool(found._starts.buttons), timeout=DEADLINE_MS)
    qtbot.waitUntil(lambda: found.form.engine.count() > 0, timeout=DEADLINE_MS)
    activate(found, qtbot)
    return found


@pytest.fixture
def chosen(page: NewPage, code: Path, qtbot: QtBot) -> NewPage:
    """The page with the code chosen and its plan made."""
    page.show_code(str(code))
    wait_for_plan(page, qtbot)
    activate(page, qtbot)
    return page


def activate(page: NewPage, qtbot: QtBot) -> None:
    """Give the window the keyboard, as a window manager would."""
    page.window().activateWindow()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is not None, timeout=DEADLINE_MS)


def wait_for_plan(page: NewPage, qtbot: QtBot) -> Plan:
    qtbot.waitUntil(lambda: page.plan is not None, timeout=DEADLINE_MS)
    assert page.plan is not None
    return page.plan


def type_into(field: QWidget, text: str) -> None:
    """Replace a field's text as from the keyboard."""
    assert isinstance(field, QLineEdit)
    field.selectAll()
    if text:
        QTest.keyClicks(field, text)
    else:
        QTest.keyClick(field, Qt.Key.Key_Delete)


def choose(select: QWidget, value: str) -> None:
    """Choose an entry of a drop-down list as from the keyboard."""
    assert isinstance(select, Select)
    place = select.findData(value)
    assert place >= 0, f"There is no {value}."
    select.setCurrentIndex(place)
    select.activated.emit(place)


def cell(page: NewPage, name: str) -> ParameterCell:
    found = page.form.parameters.cell(name)
    assert found is not None, name
    return found


def said_under(page: NewPage, field: str) -> str:
    """The words that are seen under a field."""
    row = page.form.row(field)
    assert row is not None
    return row.hint.text() if row.hint.isVisibleTo(row) else ""


def words_in(widget: QWidget) -> str:
    return "\n".join(label.text() for label in widget.findChildren(QLabel) if label.isVisibleTo(widget))


# ── an empty page ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_page_offers_examples_and_waits_for_code(page: NewPage, studio: Studio) -> None:
    assert page._right.currentWidget() is page._starts
    assert set(page._starts.buttons) == {example.name for example in studio.examples.list()}
    words = words_in(page._starts)
    assert all(example.title in words for example in studio.examples.list())
    assert "on a CPU" in words
    assert not page.launch_button.isEnabled()
    assert not page.build_button.isEnabled()
    assert QApplication.focusWidget() is page.form.code


def test_an_example_is_chosen_by_one_click(page: NewPage, qtbot: QtBot) -> None:
    QTest.mouseClick(page._starts.example_button("gbm-tabular"), Qt.MouseButton.LeftButton)
    plan = wait_for_plan(page, qtbot)
    assert page.form.draft.code.endswith("gbm-tabular")
    assert page._right.currentWidget() is page.outcome
    assert plan.recipe.spec.framework == "lightgbm"
    assert page.form.chip("lightgbm").isChecked()
    assert page.launch_button.isEnabled()


# ── code ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_shows_what_will_run(page: NewPage, code: Path, qtbot: QtBot) -> None:
    type_into(page.form.code, str(code))
    assert page.plan is None
    QTest.keyClick(page.form.code, Qt.Key.Key_Return)
    plan = wait_for_plan(page, qtbot)
    form = page.form
    assert form.chip("scikit-learn").isChecked()
    assert form.version.value() == plan.recipe.spec.version != ""
    assert form.python.value() == plan.recipe.python != ""
    assert form.script.value() == "train.py"
    assert {form.script.itemText(place) for place in range(form.script.count())} >= {
        "train.py",
        "evaluate.py",
    }
    shown = [each.argument.key for each in form.parameters.cells() if isinstance(each, ParameterCell)]
    assert shown == ["--epochs", "--lr", "--model", "--amp"]
    field = cell(page, "epochs").value_field()
    assert isinstance(field, Field)
    assert (field.text(), cell(page, "epochs").toolTip()) == ("10", "rounds (default: 10)")
    assert "requirements.txt" in form.dependencies.text()
    assert "2 packages" in form.dependencies.text()
    dockerfile = page.outcome.dockerfile()
    assert dockerfile.strip() == plan.recipe.dockerfile.strip()
    assert "FROM" in dockerfile
    assert page.outcome.check_words() == [check.message for check in plan.checks]
    assert form.command.text() == "python train.py"
    assert page.launch_button.isEnabled()
    assert page.build_button.isEnabled()


def test_a_folder_without_a_script_is_said_beside_the_code(
    page: NewPage, tmp_path: Path, code: Path, qtbot: QtBot
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    page.show_code(str(empty))
    qtbot.waitUntil(lambda: "no Python file" in said_under(page, "code.folder"), timeout=DEADLINE_MS)
    assert not page.launch_button.isEnabled()
    assert page.outcome.dockerfile() == ""
    page.show_code(str(code))
    wait_for_plan(page, qtbot)
    assert said_under(page, "code.folder") == ""


@pytest.mark.parametrize(
    "typed", ["/no/such/folder", "~nobody-of-that-name/x", "x" * 5000], ids=["missing", "nobody", "long"]
)
def test_a_folder_that_is_not_there_is_said_beside_the_code(page: NewPage, typed: str, qtbot: QtBot) -> None:
    page.show_code(typed)
    qtbot.waitUntil(lambda: said_under(page, "code.folder") != "", timeout=DEADLINE_MS)
    assert not page.launch_button.isEnabled()


def drop(page: NewPage, path: Path) -> bool:
    """Drop a file onto the form; whether it was taken."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    action, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPointF(50, 50).toPoint(), action, data, left, none)
    QApplication.sendEvent(page.form, enter)
    event = QDropEvent(QPointF(50, 50), action, data, left, none)
    event.ignore()
    QApplication.sendEvent(page.form, event)
    return event.isAccepted()


def test_a_script_that_is_dropped_chooses_its_folder_and_itself(
    page: NewPage, code: Path, qtbot: QtBot
) -> None:
    assert drop(page, code / "evaluate.py")
    plan = wait_for_plan(page, qtbot)
    assert page.form.code.text() == page.form.draft.code == str(code)
    assert page.form.script.value() == "evaluate.py"
    assert page.form.draft.spec().command == ("python", "evaluate.py")
    assert page.form.parameters.cell("split") is not None
    assert plan.spec.command == ("python", "evaluate.py")


def test_a_folder_that_is_dropped_is_the_code(page: NewPage, code: Path, qtbot: QtBot) -> None:
    assert not drop(page, code / "missing.py")
    assert drop(page, code)
    wait_for_plan(page, qtbot)
    assert page.form.script.value() == "train.py"


def test_a_git_url_cannot_be_mounted(
    page: NewPage, studio: Studio, code: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[CodeSource] = []

    def fetch(source: CodeSource) -> Path:
        asked.append(source)
        if source.url:
            raise RequestError("There is no such repository.", field="code.url")
        return code

    monkeypatch.setattr(studio.code, "fetch", fetch)
    form = page.form
    form.travel.set_value("mounted")
    form._on_travel("mounted")
    type_into(form.code, "https://example.org/a/b.git")
    QTest.keyClick(form.code, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "no such repository" in said_under(page, "code.folder"), timeout=DEADLINE_MS)
    mounted = form.travel._buttons["mounted"]
    assert not mounted.isEnabled()
    assert "folder on this computer" in mounted.toolTip()
    assert form.travel.value() == form.draft.travel == "baked"
    assert form.ref.isVisibleTo(form)
    type_into(form.ref, "v1.0")
    QTest.keyClick(form.ref, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: bool(asked) and asked[-1].ref == "v1.0", timeout=DEADLINE_MS)
    assert asked[-1].url == "https://example.org/a/b.git"
    page.show_code(str(code))
    wait_for_plan(page, qtbot)
    assert mounted.isEnabled()
    assert not form.ref.isVisibleTo(form)


def test_trouble_that_belongs_to_no_field_is_told_at_the_right(
    page: NewPage, studio: Studio, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(source: CodeSource) -> Path:
        raise WorldError("The network is away.", try_this="Try again later.")

    monkeypatch.setattr(studio.code, "fetch", fetch)
    page.show_code("https://example.org/a/b.git")
    qtbot.waitUntil(lambda: "The network is away." in words_in(page.outcome), timeout=DEADLINE_MS)


# ── answers that come too late ─────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_of_what_was_changed_since_is_dropped(
    page: NewPage, studio: Studio, code: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, show = studio.images.plan, page.outcome.show_plan
    go_on = threading.Event()
    asked: list[RunSpec] = []
    shown: list[Plan] = []

    def plan(spec: RunSpec) -> Plan:
        asked.append(spec)
        if len(asked) == 1:
            go_on.wait(DEADLINE_S)
        return real(spec)

    def show_plan(made: Plan) -> None:
        shown.append(made)
        show(made)

    monkeypatch.setattr(studio.images, "plan", plan)
    monkeypatch.setattr(page.outcome, "show_plan", show_plan)
    page.show_code(str(code))
    qtbot.waitUntil(lambda: len(asked) == 1, timeout=DEADLINE_MS)
    type_into(page.form.system, "ffmpeg")
    assert page.plan is None
    assert not page.launch_button.isEnabled()
    go_on.set()
    made = wait_for_plan(page, qtbot)
    assert "ffmpeg" in made.recipe.dockerfile
    assert "ffmpeg" in page.outcome.dockerfile()
    assert shown == [made]


def test_code_that_was_left_is_not_shown_when_it_is_read_at_last(
    page: NewPage, studio: Studio, code: Path, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "main.py").write_text("import argparse\nargparse.ArgumentParser().add_argument('--slow')\n")
    real = studio.code.suggest
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def suggest(source: CodeSource) -> Suggestion:
        if source.folder != str(slow):
            return real(source)
        began.set()
        go_on.wait(DEADLINE_S)
        try:
            return real(source)
        finally:
            ended.set()

    monkeypatch.setattr(studio.code, "suggest", suggest)
    page.show_code(str(slow))
    qtbot.waitUntil(began.is_set, timeout=DEADLINE_MS)
    page.show_code(str(code))
    wait_for_plan(page, qtbot)
    go_on.set()
    qtbot.waitUntil(ended.is_set, timeout=DEADLINE_MS)
    told: list[object] = []
    page._bridge.call(lambda: None, told.append)
    qtbot.waitUntil(lambda: bool(told), timeout=DEADLINE_MS)
    assert page.form.script.value() == "train.py"
    assert page.form.parameters.cell("slow") is None
    assert wait_for_plan(page, qtbot).spec.command == ("python", "train.py")


# ── what is wrong ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_value_is_said_beside_it_and_keeps_the_run_from_starting(
    chosen: NewPage, qtbot: QtBot
) -> None:
    epochs = cell(chosen, "epochs")
    type_into(epochs.value_field(), "ten")
    assert epochs._wrong.text() == "A whole number is needed."
    assert epochs._wrong.isVisibleTo(chosen)
    assert chosen._sentence.text() == "A parameter needs another value."
    wait_for_plan(chosen, qtbot)  # the image does not depend on it
    assert not chosen.launch_button.isEnabled()
    type_into(epochs.value_field(), "12")
    assert not epochs._wrong.isVisibleTo(chosen)
    assert chosen.form.command.text() == "python train.py --epochs 12"
    qtbot.waitUntil(chosen.launch_button.isEnabled, timeout=DEADLINE_MS)


def test_choices_and_flags_become_words(chosen: NewPage) -> None:
    choose(cell(chosen, "model").value_field(), "forest")
    choose(cell(chosen, "amp").value_field(), "off")
    assert chosen.form.command.text() == "python train.py --model forest --no-amp"
    choose(cell(chosen, "amp").value_field(), "on")
    assert chosen.form.draft.command() == ("python", "train.py", "--model", "forest")


def test_another_script_has_its_own_parameters(chosen: NewPage, qtbot: QtBot) -> None:
    type_into(cell(chosen, "lr").value_field(), "0.5")
    choose(chosen.form.script, "evaluate.py")
    qtbot.waitUntil(lambda: chosen.form.parameters.cell("split") is not None, timeout=DEADLINE_MS)
    assert chosen.form.parameters.cell("epochs") is None
    field = cell(chosen, "lr").value_field()
    assert isinstance(field, Field)
    assert field.text() == "0.5"
    assert chosen.form.command.text() == "python evaluate.py --lr 0.5"


def test_a_malformed_requirement_is_marked_beside_its_line(chosen: NewPage, qtbot: QtBot) -> None:
    form = chosen.form
    QTest.mouseClick(form._edit, Qt.MouseButton.LeftButton)
    assert form.requirements.isVisibleTo(form)
    assert form.requirements.toPlainText().splitlines() == ["scikit-learn", "rich==14.0.0"]
    assert form.draft.requirements is None
    form.requirements.set_code("scikit-learn\nnot ok\nrich==14.0.0")
    assert set(form.requirements._notes) == {1}
    assert form.requirements._notes[1][0] == "not a requirement"
    qtbot.waitUntil(lambda: "Line 2" in said_under(chosen, "image.requirements"), timeout=DEADLINE_MS)
    assert form.row("image.requirements") is form._requirements_row
    assert not chosen.launch_button.isEnabled()
    assert "Line 2" in chosen._sentence.text()
    form.requirements.set_code("scikit-learn\nrich==13.0.0")
    assert form.requirements._notes == {}
    assert wait_for_plan(chosen, qtbot).recipe.spec.requirements == ("scikit-learn", "rich==13.0.0")
    assert said_under(chosen, "image.requirements") == ""
    assert "your own list" in form.dependencies.text()


@pytest.mark.parametrize(
    ("key", "text", "right"), [("cpus", "many", "2"), ("memory", "lots", "2g"), ("stop_after", "soon", "1h")]
)
def test_a_wrong_limit_is_said_under_the_limits(
    chosen: NewPage, key: str, text: str, right: str, qtbot: QtBot
) -> None:
    type_into(chosen.form.limits[key], text)
    qtbot.waitUntil(lambda: text in said_under(chosen, "limits"), timeout=DEADLINE_MS)
    assert not chosen.launch_button.isEnabled()
    type_into(chosen.form.limits[key], right)
    wait_for_plan(chosen, qtbot)
    assert said_under(chosen, "limits") == ""
    assert chosen.launch_button.isEnabled()


def test_a_quote_that_is_not_closed_is_said_under_the_words(chosen: NewPage, qtbot: QtBot) -> None:
    type_into(chosen.form.more, "--note 'open")
    qtbot.waitUntil(lambda: "not closed" in said_under(chosen, "command"), timeout=DEADLINE_MS)
    type_into(chosen.form.more, "--note 'closed now'")
    assert wait_for_plan(chosen, qtbot).spec.command == ("python", "train.py", "--note", "closed now")


# ── other kinds of images ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_own_dockerfile_has_a_path_and_nothing_else(chosen: NewPage, code: Path, qtbot: QtBot) -> None:
    (code / "Dockerfile").write_text("FROM python:3.11-slim-bookworm\nRUN echo mine\n")
    form = chosen.form
    assert not form.dockerfile.isVisibleTo(form)
    QTest.mouseClick(form.chip(OWN_DOCKERFILE), Qt.MouseButton.LeftButton)
    assert form.dockerfile.isVisibleTo(form)
    for hidden in (form.image, form.version, form.dependencies, form.system):
        assert not hidden.isVisibleTo(form)
    assert wait_for_plan(chosen, qtbot).recipe.spec.dockerfile == "Dockerfile"
    assert "RUN echo mine" in chosen.outcome.dockerfile()
    type_into(form.dockerfile, "none/Dockerfile")
    qtbot.waitUntil(lambda: said_under(chosen, "image.dockerfile") != "Its path in the folder of the code.")
    assert "none/Dockerfile" in said_under(chosen, "image.dockerfile")
    assert not chosen.launch_button.isEnabled()


def test_an_existing_image_has_a_name_and_is_not_built(chosen: NewPage, qtbot: QtBot) -> None:
    form = chosen.form
    QTest.mouseClick(form.chip(EXISTING_IMAGE), Qt.MouseButton.LeftButton)
    assert form.image.isVisibleTo(form)
    for hidden in (form.dockerfile, form.version, form.dependencies, form.system):
        assert not hidden.isVisibleTo(form)
    qtbot.waitUntil(lambda: "Name the image" in said_under(chosen, "image.image"), timeout=DEADLINE_MS)
    assert not chosen.launch_button.isEnabled()
    type_into(form.image, "example.org/tools/python:1")
    plan = wait_for_plan(chosen, qtbot)
    assert not plan.builds
    assert plan.spec.image.image == "example.org/tools/python:1"
    assert "Name the image" not in said_under(chosen, "image.image")
    assert not chosen.build_button.isEnabled()
    assert chosen.outcome.dockerfile() == ""
    QTest.mouseClick(form.chip("python"), Qt.MouseButton.LeftButton)
    assert not form.image.isVisibleTo(form)
    assert wait_for_plan(chosen, qtbot).builds


# ── more ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_folders_to_mount_are_added_and_removed(chosen: NewPage, tmp_path: Path, qtbot: QtBot) -> None:
    form = chosen.form
    assert not form.mounts.isVisibleTo(form)
    QTest.mouseClick(form._more_button, Qt.MouseButton.LeftButton)
    assert form.mounts.isVisibleTo(form)
    QTest.mouseClick(form.mounts.add_button, Qt.MouseButton.LeftButton)
    QTest.mouseClick(form.mounts.add_button, Qt.MouseButton.LeftButton)
    first, second = form.mounts.rows()
    assert QApplication.focusWidget() is second.source
    type_into(first.source, str(tmp_path))
    qtbot.waitUntil(lambda: "shall appear is missing" in said_under(chosen, "mounts"), timeout=DEADLINE_MS)
    type_into(first.target, "/data")
    type_into(second.source, "/out")
    type_into(second.target, "/out")
    choose(second.access, "rw")
    assert form.mounts.mounts() == form.draft.mounts
    assert form.draft.mounts[1] == MountDraft(source="/out", target="/out", read_only=False)
    QTest.mouseClick(second._remove, Qt.MouseButton.LeftButton)
    plan = wait_for_plan(chosen, qtbot)
    assert [(mount.source, mount.target) for mount in plan.spec.mounts] == [(str(tmp_path), "/data")]
    QTest.mouseClick(first._remove, Qt.MouseButton.LeftButton)
    assert form.draft.mounts == ()


def test_variables_are_added_and_removed(chosen: NewPage, qtbot: QtBot) -> None:
    form = chosen.form
    QTest.mouseClick(form._more_button, Qt.MouseButton.LeftButton)
    QTest.mouseClick(form.env.add_button, Qt.MouseButton.LeftButton)
    QTest.mouseClick(form.env.add_button, Qt.MouseButton.LeftButton)
    first, second = form.env.rows()
    type_into(first.given, "1")
    qtbot.waitUntil(lambda: "has no name" in said_under(chosen, "env"), timeout=DEADLINE_MS)
    type_into(first.key, "SEED")
    type_into(second.key, "MODE")
    assert wait_for_plan(chosen, qtbot).spec.env == (("SEED", "1"), ("MODE", ""))
    QTest.mouseClick(first._remove, Qt.MouseButton.LeftButton)
    assert form.draft.env == (("MODE", ""),)


def test_names_tags_and_secrets_arrive_in_the_run(chosen: NewPage, qtbot: QtBot) -> None:
    form = chosen.form
    type_into(chosen.name, "first")
    type_into(form.tags, "a, b")
    type_into(form.note, "why not")
    type_into(form.secrets, "HF_TOKEN, other-name")
    qtbot.waitUntil(lambda: "other-name" in said_under(chosen, "secrets"), timeout=DEADLINE_MS)
    type_into(form.secrets, "HF_TOKEN")
    spec = wait_for_plan(chosen, qtbot).spec
    assert (spec.name, spec.tags, spec.note, spec.secrets) == ("first", ("a", "b"), "why not", ("HF_TOKEN",))


# ── launching ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ctrl_return_launches_and_opens_the_run(
    chosen: NewPage, shell: Shell, studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    opened: list[str] = []
    chosen.run_launched.connect(opened.append)
    type_into(cell(chosen, "epochs").value_field(), "3")
    qtbot.waitUntil(chosen.launch_button.isEnabled, timeout=DEADLINE_MS)
    QTest.keyClick(
        cell(chosen, "epochs").value_field(), Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier
    )
    assert chosen.launch_button.isDown()
    qtbot.waitUntil(lambda: bool(opened), timeout=2 * DEADLINE_MS)
    runs = [spec for spec in fake.launched if not spec.run_id.startswith("smoke-")]
    assert [spec.run_id for spec in runs] == opened
    run = studio.history.detail(opened[0])
    assert run.spec.command == ("python", "train.py", "--epochs", "3")
    assert dict(run.spec.parameters)["lr"] == "0.1"
    qtbot.waitUntil(lambda: shell.current == "Run", timeout=DEADLINE_MS)


def test_ctrl_return_does_nothing_while_something_is_wrong(
    chosen: NewPage, fake: FakeEngine, qtbot: QtBot
) -> None:
    type_into(cell(chosen, "epochs").value_field(), "x")
    wait_for_plan(chosen, qtbot)
    QTest.keyClick(chosen.form.more, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert not chosen.launch_button.isDown()
    chosen._on_launch()
    assert chosen._bridge.launches.in_flight() == ()
    assert fake.launched == []


# ── keyboard and names ─────────────────────────────────────────────────────────────────────────────────────────────


def test_tab_goes_through_the_form_from_top_to_bottom(chosen: NewPage) -> None:
    form = chosen.form
    form.code.setFocus()
    expected = [
        form.code,
        form.travel._buttons["baked"],
        form.chip("scikit-learn"),
        form.version,
        form.variant,
        form.python,
        form._edit,
        form.system,
        form.script,
        *(each.value_field() for each in form.parameters.cells() if isinstance(each, ParameterCell)),
        form.more,
        form.engine,
        *form.limits.values(),
        form._more_button,
        chosen.build_button,
        chosen.launch_button,
    ]
    assert [widget for widget in tabbed_through() if widget in expected] == expected


def tabbed_through() -> list[QWidget]:
    """Where the Tab key leads, from where the keyboard is until it is there again."""
    visited: list[QWidget] = []
    for _ in range(80):
        focus = QApplication.focusWidget()
        assert focus is not None
        if focus in visited:
            break
        visited.append(focus)
        QTest.keyClick(focus, Qt.Key.Key_Tab)
    return visited


def test_tab_goes_through_rows_that_were_added(chosen: NewPage, qtbot: QtBot) -> None:
    form = chosen.form
    QTest.mouseClick(form._more_button, Qt.MouseButton.LeftButton)
    for add in (form.mounts.add_button, form.mounts.add_button, form.env.add_button):
        QTest.mouseClick(add, Qt.MouseButton.LeftButton)
    expected = [
        form._more_button,
        *(widget for row in form.mounts.rows() for widget in row.controls()),
        form.mounts.add_button,
        *(widget for row in form.env.rows() for widget in row.controls()),
        form.env.add_button,
        form.secrets,
        form.tags,
        form.note,
    ]
    added = [*form.mounts.rows(), *form.env.rows()]
    qtbot.waitUntil(lambda: all(row.isVisible() for row in added), timeout=DEADLINE_MS)
    form._more_button.setFocus()
    assert tabbed_through()[: len(expected)] == expected


def test_arrow_keys_choose_among_the_frameworks(chosen: NewPage, qtbot: QtBot) -> None:
    form = chosen.form
    first = form.chip("scikit-learn")
    first.setFocus()
    QTest.keyClick(first, Qt.Key.Key_Left)
    assert form.draft.framework == "transformers"
    assert QApplication.focusWidget() is form.chip("transformers")
    assert wait_for_plan(chosen, qtbot).recipe.spec.framework == "transformers"


def is_named(widget: QWidget) -> bool:
    named = widget.accessibleName() or (widget.text() if isinstance(widget, QAbstractButton) else "")
    return bool(named.strip())


def test_every_control_has_a_name_for_those_who_do_not_see_it(chosen: NewPage) -> None:
    form = chosen.form
    QTest.mouseClick(form._more_button, Qt.MouseButton.LeftButton)
    QTest.mouseClick(form.mounts.add_button, Qt.MouseButton.LeftButton)
    QTest.mouseClick(form.env.add_button, Qt.MouseButton.LeftButton)
    kinds = (QLineEdit, QComboBox, QAbstractButton, QTextEdit)
    # A drop-down list speaks for the line in it.
    controls = [
        widget
        for widget in chosen.findChildren(QWidget)
        if isinstance(widget, kinds)
        and widget.isVisibleTo(chosen)
        and not isinstance(widget.parent(), (QComboBox, QLineEdit))
    ]
    assert len(controls) > 40
    assert [widget.toolTip() or repr(widget) for widget in controls if not is_named(widget)] == []
    fields = [widget for widget in controls if not isinstance(widget, QAbstractButton)]
    names = [widget.accessibleName() for widget in fields]
    assert sorted(names) == sorted(set(names)), "Two fields have the same name."
