"""How a run ended: from what the engine says of the container, what the probe said last, and what was wanted."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlstudio.model.launch import Observation, Phase
from mlstudio.model.run import Exit, ExitReason, Limits, RunEvent, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was wanted of the run. `since`: when that was said."""

    stopped: bool
    since: float | None = None


def exit_event(events: Sequence[RunEvent]) -> Mapping[str, Any] | None:
    """What the probe said of the end, if it came to that."""
    for event in reversed(events):
        if event.type == "exit":
            found = json.loads(event.data_json)
            return found if isinstance(found, dict) else None
    return None


def judge(
    seen: Observation, said: Mapping[str, Any] | None, wish: Wish, limits: Limits, *, last_error: str = ""
) -> tuple[RunState, Exit]:
    """The state and the exit of a run whose container has ended or is gone.

    `last_error` is the last line of a traceback in the log, for the message. A run counts as stopped only if asking it
    to stop is what ended it.
    """
    said = said or {}
    code = _whole(said.get("code"))
    if code is None:
        code = seen.exit_code
    number = _whole(said.get("signal"))
    if number is None and not said and code is not None and 128 < code < 160:
        number = code - 128
    if seen.phase is Phase.GONE and not said:
        return RunState.LOST, Exit(
            reason=ExitReason.LOST,
            message="Its container is gone, and nobody saw how it ended.",
            try_this="It may have been removed outside ML Studio. What was recorded until then is kept.",
        )
    if said.get("started") is False:
        return RunState.FAILED, Exit(
            reason=ExitReason.NOT_STARTED,
            code=code,
            message=_text(said.get("message")) or "The command did not start.",
        )
    if seen.error and not said and code is None and seen.started is not None:
        return RunState.LOST, Exit(reason=ExitReason.LOST, message=seen.error)
    if seen.error and not said and (seen.started is None or code in _NOT_STARTED_CODES):
        return RunState.FAILED, Exit(
            reason=ExitReason.NOT_STARTED, code=code, message=f"The container did not start: {seen.error}"
        )
    if (seen.oom_killed or said.get("oom") is True) and code != 0:
        return RunState.FAILED, _out_of_memory(code, number, limits)
    stopped = _stopped(seen, said, wish, limits, code=code, number=number)
    if stopped is not None:
        return RunState.STOPPED, stopped
    if code == 0:
        return RunState.SUCCEEDED, Exit(reason=ExitReason.COMPLETED, code=0)
    if code is None:
        return RunState.LOST, Exit(
            reason=ExitReason.LOST, message="It has ended, but the engine does not say how."
        )
    if number is not None:
        return RunState.FAILED, Exit(
            reason=ExitReason.SIGNAL,
            code=code,
            signal=number,
            message=f"Ended by {_signal_name(number)}, which ML Studio did not send.",
            try_this=_SIGNAL_HINTS.get(number, ""),
        )
    message = f"It ended with exit code {code}"
    return RunState.FAILED, Exit(
        reason=ExitReason.ERROR,
        code=code,
        message=f"{message}: {last_error}" if last_error else f"{message}.",
        try_this="The end of its log says more." if not last_error else "",
    )


_NOT_STARTED_CODES = (None, 125, 126, 127, 128)
"""What engines report for a command that could not be executed."""

_SIGNAL_HINTS = {
    int(
        signal.SIGKILL
    ): "Often the kernel's way of freeing memory: give the run more of it, or let it use less.",
    int(signal.SIGSEGV): "A library crashed. Set PYTHONFAULTHANDLER=1 and run it again to see where.",
    int(signal.SIGBUS): "Often too little shared memory: give the run more (limits.shm_bytes, --shm).",
    int(signal.SIGILL): "A library was built for a newer processor than this one.",
    int(signal.SIGABRT): "A library gave up; the end of its log usually says why.",
}


def _out_of_memory(code: int | None, number: int | None, limits: Limits) -> Exit:
    limit = limits.memory_bytes
    where = f"the container reached its memory limit of {_size(limit)}" if limit else "the memory was used up"
    return Exit(
        reason=ExitReason.OUT_OF_MEMORY,
        code=code,
        signal=number,
        message=f"Killed: {where}.",
        try_this="Give it more memory, or use a smaller batch size or fewer data loader workers.",
    )


def _stopped(
    seen: Observation,
    said: Mapping[str, Any],
    wish: Wish,
    limits: Limits,
    *,
    code: int | None,
    number: int | None,
) -> Exit | None:
    """The exit if it was asked to end, by whomever; None if it ended of itself."""
    if "stopped" in said:
        was_asked = said["stopped"] is True
    else:
        # Without the probe's word: it ended after the wish, and a wish is acted on at once.
        was_asked = wish.stopped and (seen.ended is None or wish.since is None or seen.ended >= wish.since)
    if not was_asked:
        return None
    if said.get("killed") is True or number == signal.SIGKILL:
        message = "Stopped on request; it did not end in time and was killed."
    else:
        message = "Stopped on request."
    if not wish.stopped:
        limit = limits.stop_after_s
        ran = seen.ended - seen.started if seen.ended is not None and seen.started is not None else None
        if limit is not None and (ran is None or ran >= limit):
            message = f"Stopped when its time was up ({limit:g} seconds)."
        else:
            message = "Stopped from outside ML Studio."
    return Exit(reason=ExitReason.STOPPED, code=code, signal=number, message=message)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31 else None


def _text(value: object) -> str:
    return value[:2000] if isinstance(value, str) else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _size(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "KB", "MB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GB"
