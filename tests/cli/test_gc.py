"""`mlstudio gc`: what uses how much, and what goes."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

from mlstudio.services.studio import Studio
from tests.cli.conftest import Terminal


def change(terminal: Terminal, statement: str) -> None:
    """As if time had passed."""
    with contextlib.closing(sqlite3.connect(terminal.home / "history.db")) as connection, connection:
        connection.execute(statement)


def test_sizes_are_told_and_nothing_goes_by_itself(terminal: Terminal, finished: Callable[[], str]) -> None:
    finished()
    said = terminal("gc", "--dry-run").output
    assert "history of 1 run, 9 points" in said
    assert "Nothing would go but unused room" in said
    uses = terminal.json("gc", "--dry-run")["uses"]["history"]
    assert uses["metrics"] > 0
    assert uses["system"] > 0
    assert uses["log"] > 0
    assert uses["file"] >= sum(uses[name] for name in ("metrics", "system", "log", "media", "free"))
    assert [run["number"] for run in uses["largest"]] == [1]
    assert terminal.json("gc")["runs"] == {"system": 0, "log": 0, "media": 0, "container": 0}
    assert "danger" in terminal("logs", "1").output


def test_what_is_asked_for_goes_and_the_run_says_so(terminal: Terminal, finished: Callable[[], str]) -> None:
    run_id = finished()
    assert "Nothing would go" in terminal("gc", "--dry-run", "--log-after", "1d").output
    assert "Would go: system readings of 1 run, output of 1 run." in terminal(
        "gc", "--dry-run", "--log-after", "0", "--system-after", "0"
    ).output  # fmt: skip
    assert "Say --yes" in terminal("gc", "--log-after", "0", expect=2).output
    said = terminal("gc", "--log-after", "0", "--system-after", "0", "--yes").output
    assert "Taken away: output of 1 run." in said
    assert "Taken away: system readings of 1 run." in said
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        run = studio.runs.get(run_id)
        assert studio.runs.log(run_id) == []
        assert studio.runs.log_count(run_id) == 0
        assert studio.runs.series(run_id, "loss").values.tolist() == [3.0, 2.0, 1.0]
        assert studio.runs.series(run_id, "cpu.percent", kind="system").values.tolist() == []
        # The latest value is what tables show.
        assert {metric.name: metric.last for metric in run.metrics}["cpu.percent"] == 9.0
        assert any("output: taken out on" in sentence for sentence in run.lacks)
        assert any("processor, memory and GPUs: taken out on" in sentence for sentence in run.lacks)
    # Once is enough.
    assert "Nothing would go" in terminal("gc", "--dry-run", "--log-after", "0", "--system-after", "0").output


def test_settings_say_it_for_every_time(terminal: Terminal, finished: Callable[[], str]) -> None:
    first = finished()
    change(terminal, "UPDATE run SET ended = ended - 100 * 86400")
    second = finished()
    terminal("settings", "set", "keep.log_days", "90")
    assert terminal.json("gc", "--yes")["runs"]["log"] == 1
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        assert studio.runs.log_count(first) == 0
        assert studio.runs.log_count(second) > 0


def test_a_filter_chooses_the_runs(terminal: Terminal, finished: Callable[[], str]) -> None:
    first, second = finished(), finished()
    terminal("gc", "number = 2", "--log-after", "0", "--yes")
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        assert studio.runs.log_count(first) > 0
        assert studio.runs.log_count(second) == 0
    assert "^" in terminal("gc", "number = = 2", "--log-after", "0", expect=2).output


def test_live_runs_and_their_containers_are_left_alone(
    terminal: Terminal, finished: Callable[[], str]
) -> None:
    finished()
    change(terminal, "UPDATE run SET state = 'running', handle = 'x'")
    assert terminal.json(
        "gc", "--log-after", "0", "--system-after", "0", "--media-after", "0", "--container-after", "0", "--yes"
    )["runs"] == {"system": 0, "log": 0, "media": 0, "container": 0}  # fmt: skip
    assert "danger" in terminal("logs", "1").output


def test_containers_go_only_when_asked_for(terminal: Terminal, finished: Callable[[], str]) -> None:
    run_id = finished()
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        studio.history.set_handle(run_id, "no-such-container")
    terminal("gc", "--log-after", "0", "--yes")
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        assert studio.runs.detail(run_id).handle
    assert "Taken away: containers of 1 run." in terminal("gc", "--container-after", "0d", "--yes").output
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        assert not studio.runs.detail(run_id).handle


def test_histories_that_were_put_aside_go_when_asked_for(
    terminal: Terminal, finished: Callable[[], str]
) -> None:
    finished()
    aside = terminal.home / "history-schema1-20260101-000000.db"
    aside.write_bytes(bytes(5_000_000))
    assert aside.name in terminal("gc", "--dry-run").output
    terminal("gc")
    assert aside.exists()
    said = terminal("gc", "--copies", "--yes").output
    assert "freed" in said
    assert not aside.exists()
    assert "danger" in terminal("logs", "1").output


def test_ages_that_are_none_are_explained(terminal: Terminal) -> None:
    assert "“soon” is no age" in terminal("gc", "--log-after", "soon", expect=2).output
