"""How a run ended, for every way in which it can."""

from __future__ import annotations

from typing import Any

import pytest

from mlstudio.model.launch import Observation, Phase
from mlstudio.model.run import ExitReason, Limits, RunState
from mlstudio.services.recording.verdict import Wish, judge

NO_WISH = Wish(stopped=False)
STOP = Wish(stopped=True, since=50.0)


def seen(code: int | None = 0, **more: Any) -> Observation:
    return Observation(**{"phase": Phase.EXITED, "started": 10.0, "ended": 60.0, "exit_code": code, **more})


def said(code: int, **more: Any) -> dict[str, Any]:
    return {
        "code": code,
        "signal": None,
        "oom": False,
        "stopped": False,
        "killed": False,
        "started": True,
        **more,
    }


CASES = [
    (seen(0), None, NO_WISH, RunState.SUCCEEDED, ExitReason.COMPLETED, ""),
    (seen(0), said(0), NO_WISH, RunState.SUCCEEDED, ExitReason.COMPLETED, ""),
    (seen(3), None, NO_WISH, RunState.FAILED, ExitReason.ERROR, "exit code 3"),
    (seen(137), None, NO_WISH, RunState.FAILED, ExitReason.SIGNAL, "SIGKILL"),
    (seen(139), said(139, signal=11), NO_WISH, RunState.FAILED, ExitReason.SIGNAL, "SIGSEGV"),
    (seen(137, oom_killed=True), None, NO_WISH, RunState.FAILED, ExitReason.OUT_OF_MEMORY, "memory"),
    (seen(1), said(1, oom=True), NO_WISH, RunState.FAILED, ExitReason.OUT_OF_MEMORY, "memory"),
    # A worker was killed for memory, the run went on and succeeded.
    (seen(0, oom_killed=True), said(0), NO_WISH, RunState.SUCCEEDED, ExitReason.COMPLETED, ""),
    # Memory is the truth even while it was being stopped.
    (seen(137, oom_killed=True), None, STOP, RunState.FAILED, ExitReason.OUT_OF_MEMORY, "memory"),
    (seen(143), said(143, signal=15, stopped=True), STOP, RunState.STOPPED, ExitReason.STOPPED, "request"),
    (seen(137), said(137, signal=9, stopped=True, killed=True), STOP, RunState.STOPPED, ExitReason.STOPPED, "killed"),
    # It saved a checkpoint and ended well, because it was asked to.
    (seen(0), said(0, stopped=True), STOP, RunState.STOPPED, ExitReason.STOPPED, "request"),
    (seen(0), said(0), STOP, RunState.SUCCEEDED, ExitReason.COMPLETED, ""),
    (seen(1), said(1), STOP, RunState.FAILED, ExitReason.ERROR, "exit code 1"),
    (seen(143), None, STOP, RunState.STOPPED, ExitReason.STOPPED, "request"),
    (seen(1, ended=40.0), None, STOP, RunState.FAILED, ExitReason.ERROR, "exit code 1"),
    (seen(143), said(143, signal=15, stopped=True), NO_WISH, RunState.STOPPED, ExitReason.STOPPED, "outside"),
    (seen(None, phase=Phase.GONE), None, NO_WISH, RunState.LOST, ExitReason.LOST, "gone"),
    (seen(None, phase=Phase.GONE), None, STOP, RunState.LOST, ExitReason.LOST, "gone"),
    (seen(None, phase=Phase.GONE), said(0), NO_WISH, RunState.SUCCEEDED, ExitReason.COMPLETED, ""),
    (seen(None), None, NO_WISH, RunState.LOST, ExitReason.LOST, "how"),
    (seen(None, error="Machine restarted."), None, NO_WISH, RunState.LOST, ExitReason.LOST, "restarted"),
    (seen(127, error="no such file"), None, NO_WISH, RunState.FAILED, ExitReason.NOT_STARTED, "no such file"),
    (
        seen(127), said(127, started=False, message="There is no program “x”."), NO_WISH,
        RunState.FAILED, ExitReason.NOT_STARTED, "no program",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("observation", "event", "wish", "state", "reason", "words"), CASES)
def test_how_it_ended(
    observation: Observation,
    event: dict[str, Any] | None,
    wish: Wish,
    state: RunState,
    reason: ExitReason,
    words: str,
) -> None:
    found, how = judge(observation, event, wish, Limits())
    assert (found, how.reason) == (state, reason)
    assert words in how.message


def test_time_that_is_up_is_told() -> None:
    _, how = judge(seen(143), said(143, signal=15, stopped=True), NO_WISH, Limits(stop_after_s=50.0))
    assert "time was up (50 seconds)" in how.message


def test_the_limit_is_named() -> None:
    _, how = judge(seen(137, oom_killed=True), None, NO_WISH, Limits(memory_bytes=3 * 2**30))
    assert "3 GB" in how.message


def test_what_a_hostile_container_says_of_its_end_is_harmless() -> None:
    state, how = judge(
        seen(2), {"code": "x" * 1000, "signal": [1], "message": {}, "started": 1}, NO_WISH, Limits()
    )
    assert (state, how.code) == (RunState.FAILED, 2)
    assert judge(seen(2), {"code": 10**30}, NO_WISH, Limits())[1].code == 2
