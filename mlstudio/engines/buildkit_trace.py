"""BuildKit's progress messages: the protobuf that a build's answer carries in base64, and the events it means.

The message is `moby.buildkit.v1.StatusResponse` (https://github.com/moby/buildkit/blob/v0.8.3/api/services/control/control.proto):
vertexes = 1, statuses = 2, logs = 3. Only the fields used here are read; unknown ones are skipped, as protobuf wants.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from mlstudio.model.image import BuildEvent, BuildOutput, BuildStep, StepState

_MAX_SHIFT = 63
_KEPT_TEXT = 64 * 1024


class MalformedTrace(ValueError):
    """Bytes that are no protobuf message."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message in order: (number, integer or bytes).

    See https://protobuf.dev/programming-guides/encoding/. Raises MalformedTrace.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise MalformedTrace(f"wire type {kind}")
        if at + size > len(data):
            raise MalformedTrace("cut short")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > _MAX_SHIFT:
            raise MalformedTrace("cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _signed(value: int | bytes) -> int:
    """An int64: negative numbers are written as their two's complement."""
    number = value if isinstance(value, int) else 0
    return number - (1 << 64) if number >= 1 << 63 else number


def _text(value: int | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _time(value: int | bytes) -> float | None:
    """A google.protobuf.Timestamp in seconds since the epoch; None for year 1, Go's "never"."""
    seconds = nanos = 0
    for number, part in fields(value if isinstance(value, bytes) else b""):
        if number == 1:
            seconds = _signed(part)
        elif number == 2:
            nanos = _signed(part)
    return seconds + nanos / 1e9 if seconds > 0 else None


@dataclass(slots=True)
class _Vertex:
    """A step as it is known so far."""

    name: str = ""
    started: float | None = None
    ended: float | None = None
    is_cached: bool = False
    error: str = ""
    done_bytes: int | None = None
    total_bytes: int | None = None


class TraceReader:
    """Turns progress messages into build events; remembers what each step is and what it printed."""

    def __init__(self) -> None:
        self._vertices: dict[str, _Vertex] = {}
        self._progress: dict[str, dict[str, tuple[int, int]]] = {}
        self._text: dict[str, str] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def feed(self, message: bytes) -> list[BuildEvent]:
        """The events of one message. Raises MalformedTrace."""
        events: list[BuildEvent] = []
        for number, value in fields(message):
            if not isinstance(value, bytes):
                continue
            if number == 1:
                events.append(self._vertex(value))
            elif number == 2:
                event = self._status(value)
                if event is not None:
                    events.append(event)
            elif number == 3:
                events.append(self._log(value))
        return events

    @property
    def failed(self) -> BuildStep | None:
        """The step that failed first; others are cancelled because of it."""
        steps = [self._step(key) for key in self._vertices]
        failed = [step for step in steps if step.state is StepState.FAILED]
        return min(failed, key=lambda step: step.ended or 0.0, default=None)

    def text(self, step_id: str) -> str:
        """The end of what a step printed."""
        return self._text.get(step_id, "")

    def unfinished(self) -> list[BuildStep]:
        """Steps that were still running."""
        steps = (self._step(key) for key in self._vertices)
        return [step for step in steps if step.state is StepState.RUNNING]

    def _vertex(self, data: bytes) -> BuildStep:
        found = _Vertex()
        key = ""
        for number, value in fields(data):
            match number:
                case 1:
                    key = _text(value)
                case 3:
                    found.name = _text(value)
                case 4:
                    found.is_cached = value == 1
                case 5:
                    found.started = _time(value)
                case 6:
                    found.ended = _time(value)
                case 7:
                    found.error = _text(value)
        known = self._vertices.setdefault(key, _Vertex())
        known.name = found.name or known.name
        # A step may be visited again (a mount that several steps use): its first start and last end count.
        known.started = known.started if known.started is not None else found.started
        known.ended = found.ended
        known.is_cached = known.is_cached or found.is_cached
        known.error = found.error or known.error
        return self._step(key)

    def _status(self, data: bytes) -> BuildStep | None:
        """Progress of a part of a step (a layer that is fetched, the context that is sent)."""
        part = key = ""
        current = total = 0
        for number, value in fields(data):
            match number:
                case 1:
                    part = _text(value)
                case 2:
                    key = _text(value)
                case 4:
                    current = _signed(value)
                case 5:
                    total = _signed(value)
        known = self._vertices.get(key)
        if known is None or not (current or total):
            return None
        parts = self._progress.setdefault(key, {})
        parts[part] = (current, total)
        known.done_bytes = sum(done for done, _ in parts.values())
        known.total_bytes = sum(whole for _, whole in parts.values()) or None
        return self._step(key)

    def _log(self, data: bytes) -> BuildOutput:
        key, message = "", b""
        for number, value in fields(data):
            if number == 1:
                key = _text(value)
            elif number == 4 and isinstance(value, bytes):
                message = value
        # A message may end in the middle of a character.
        decoder = self._decoders.setdefault(key, codecs.getincrementaldecoder("utf-8")("replace"))
        text = decoder.decode(message)
        self._text[key] = (self._text.get(key, "") + text)[-_KEPT_TEXT:]
        return BuildOutput(step_id=key, text=text)

    def _step(self, key: str) -> BuildStep:
        found = self._vertices[key]
        if found.error:
            state = StepState.CANCELLED if _is_cancel(found.error) else StepState.FAILED
        elif found.is_cached:
            state = StepState.CACHED
        elif found.ended is not None:
            state = StepState.DONE
        else:
            state = StepState.RUNNING if found.started is not None else StepState.WAITING
        return BuildStep(
            id=key,
            name=found.name,
            state=state,
            started=found.started,
            ended=found.ended,
            done_bytes=found.done_bytes,
            total_bytes=found.total_bytes,
            error=found.error,
        )


def _is_cancel(error: str) -> bool:
    return error.rstrip().endswith(("context canceled", "context cancelled"))
