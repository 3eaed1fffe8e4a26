"""Threads meet the window in one place: answers come on its thread, together, and only to those who still want them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from PySide6.QtCore import QObject
from pytestqt.qtbot import QtBot

from mlstudio.gui.bridge import Bridge, ChangeSet
from mlstudio.model.errors import NotFound, WorldError
from mlstudio.model.run import RunState
from mlstudio.services.studio import Studio


def test_a_read_is_done_elsewhere_and_answered_here(
    bridge: Bridge, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    where: list[str] = []
    answers: list[tuple[int, str]] = []

    def read(history: object) -> int:
        where.append(threading.current_thread().name)
        return bridge.studio.history.count()

    bridge.read(read, lambda count: answers.append((count, threading.current_thread().name)))
    qtbot.waitUntil(lambda: bool(answers))
    assert answers == [(len(run_ids), threading.main_thread().name)]
    assert where == ["history-reader-0"]


def test_many_answers_come_with_few_signals(bridge: Bridge, qtbot: QtBot) -> None:
    drained: list[int] = []
    answers: list[int] = []
    bridge._arrived.connect(lambda: drained.append(1))
    gate = threading.Event()
    bridge.read(lambda _: gate.wait(5), lambda _: None)
    for number in range(500):
        bridge.read(lambda _, number=number: number, answers.append)  # type: ignore[misc]
    last = threading.Event()
    bridge.read(lambda _: last.set(), lambda _: None)
    gate.set()
    # While the interface is busy, answers collect; it is told once.
    assert last.wait(10)
    qtbot.waitUntil(lambda: len(answers) == 500)
    assert answers == list(range(500))
    assert len(drained) < 10


def test_a_newer_question_replaces_a_waiting_one(bridge: Bridge, qtbot: QtBot) -> None:
    gate = threading.Event()
    answers: list[str] = []
    bridge.read(lambda _: gate.wait(5), lambda _: None)
    for text in ("a", "ab", "abc"):
        bridge.read(lambda _, text=text: text, answers.append, key="filter")  # type: ignore[misc]
    gate.set()
    qtbot.waitUntil(lambda: bool(answers))
    assert answers == ["abc"]


def test_nobody_is_answered_after_death(bridge: Bridge, qtbot: QtBot) -> None:
    owner = QObject()
    answers: list[str] = []
    gate = threading.Event()
    bridge.read(lambda _: gate.wait(5), lambda _: answers.append("dead"), owner=owner)
    ticket = bridge.read(lambda _: None, lambda _: answers.append("cancelled"))
    ticket.cancel()
    owner.deleteLater()
    qtbot.wait(1)
    gate.set()
    bridge.read(lambda _: None, lambda _: answers.append("last"))
    qtbot.waitUntil(lambda: "last" in answers)
    assert answers == ["last"]


def test_an_error_goes_to_who_asked_or_to_everyone(bridge: Bridge, qtbot: QtBot) -> None:
    caught: list[Exception] = []

    def fail() -> None:
        raise WorldError("The disk is full.")

    bridge.call(fail, failed=caught.append)
    qtbot.waitUntil(lambda: bool(caught))
    assert str(caught[0]) == "The disk is full."
    with qtbot.waitSignal(bridge.failed) as blocker:
        bridge.read(lambda history: history.summary("nothing"), lambda _: None)
    assert isinstance(blocker.args[0], NotFound)


def test_a_change_in_the_history_is_told_once(
    studio: Studio, run_ids: Sequence[str], bridge: Bridge, qtbot: QtBot
) -> None:
    told: list[ChangeSet] = []
    ready: list[bool] = []
    bridge.read(lambda _: None, lambda _: ready.append(True))
    qtbot.waitUntil(lambda: bool(ready))
    bridge.changed.connect(told.append)
    studio.history.rename(run_ids[0], "another name")
    studio.history.remove_run(run_ids[1])
    qtbot.waitUntil(lambda: any(run_ids[1] in changes.removed for changes in told))
    names = [run.name for changes in told for run in changes.runs if run.id == run_ids[0]]
    assert names == ["another name"]
    assert studio.history.summary(run_ids[11]).state is RunState.RUNNING


def test_the_surroundings_are_told(bridge: Bridge, run_ids: Sequence[str], qtbot: QtBot) -> None:
    with qtbot.waitSignal(bridge.surroundings_changed) as blocker:
        bridge.look_around()
    found = blocker.args[0]
    assert [(status.name, status.usable) for status in found.engines] == [("local", True)]
    assert found.history_bytes > 10_000


def test_closing_ends_its_threads(studio: Studio, qtbot: QtBot) -> None:
    made = Bridge(studio, keep_recorder=False)
    made.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("history-reader", "slow-call"))]
    assert made.launches.in_flight() == ()
