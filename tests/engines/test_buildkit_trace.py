"""BuildKit's progress, on what a real Engine 20.10 sent, and on bytes that nobody should send."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.engines.buildkit_trace import MalformedTrace, TraceReader, fields
from mlstudio.model.image import BuildEvent, BuildOutput, BuildStep, StepState

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> Iterator[bytes]:
    for line in (RECORDED / f"build_{name}_engine_20_10.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry.get("id") == "moby.buildkit.trace":
            yield base64.b64decode(entry["aux"])


def replay(name: str) -> tuple[TraceReader, list[BuildEvent]]:
    reader = TraceReader()
    return reader, [event for message in recorded(name) for event in reader.feed(message)]


def last_states(events: list[BuildEvent]) -> dict[str, BuildStep]:
    return {event.name: event for event in events if isinstance(event, BuildStep)}


def test_a_build_that_succeeds() -> None:
    reader, events = replay("ok")
    steps = last_states(events)
    run = next(step for name, step in steps.items() if "2/4] RUN" in name)
    assert run.state is StepState.DONE
    assert run.started is not None
    assert run.ended is not None
    assert 0.1 < run.ended - run.started < 5
    said = "".join(
        event.text for event in events if isinstance(event, BuildOutput) and event.step_id == run.id
    )
    assert said == "hi\n[global]\nl1\nl2\nl3\n"
    assert reader.text(run.id) == said
    assert all(step.state in (StepState.DONE, StepState.CACHED) for step in steps.values())
    states = [event.state for event in events if isinstance(event, BuildStep) and event.id == run.id]
    assert states == [StepState.WAITING, StepState.RUNNING, StepState.DONE]
    assert reader.failed is None
    assert reader.unfinished() == []


def test_a_build_that_is_all_cached() -> None:
    _, events = replay("cached")
    numbered = {
        name: step for name, step in last_states(events).items() if "/4] " in name and "FROM" not in name
    }
    assert len(numbered) == 3
    assert {step.state for step in numbered.values()} == {StepState.CACHED}
    assert not any(isinstance(event, BuildOutput) for event in events)


def test_a_build_that_fails() -> None:
    reader, events = replay("failed")
    failed = reader.failed
    assert failed is not None
    assert "ls /nono" in failed.name
    assert "exit code: 2" in failed.error
    assert "cannot access '/nono'" in reader.text(failed.id)
    assert last_states(events)[failed.name].state is StepState.FAILED


def _message(*parts: tuple[int, bytes | int]) -> bytes:
    """A protobuf message of these fields."""
    out = b""
    for number, value in parts:
        if isinstance(value, int):
            out += _number(number << 3) + _number(value)
        else:
            out += _number(number << 3 | 2) + _number(len(value)) + value
    return out


def _number(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_progress_of_a_layer_is_counted_in_bytes() -> None:
    reader = TraceReader()
    reader.feed(_message((1, _message((1, b"v"), (3, b"fetch"), (5, _message((1, 1000)))))))
    (event,) = reader.feed(_message((2, _message((1, b"layer 1"), (2, b"v"), (4, 5), (5, 10)))))
    assert isinstance(event, BuildStep)
    assert (event.done_bytes, event.total_bytes) == (5, 10)
    (event,) = reader.feed(_message((2, _message((1, b"layer 2"), (2, b"v"), (4, 7), (5, 20)))))
    assert isinstance(event, BuildStep)
    assert (event.done_bytes, event.total_bytes) == (12, 30)


def test_a_step_that_was_cancelled_because_another_failed() -> None:
    reader = TraceReader()
    vertex = _message((1, b"v"), (3, b"step"), (5, _message((1, 1000))), (7, b"process: context canceled"))
    (event,) = reader.feed(_message((1, vertex)))
    assert isinstance(event, BuildStep)
    assert event.state is StepState.CANCELLED
    assert reader.failed is None


def test_a_character_that_is_split_between_messages() -> None:
    reader = TraceReader()
    text = "Grüße – 你好\n".encode()
    events: list[BuildEvent] = []
    for at in range(len(text)):
        events += reader.feed(_message((3, _message((1, b"v"), (4, text[at : at + 1])))))
    assert "".join(event.text for event in events if isinstance(event, BuildOutput)) == text.decode()


@given(st.lists(st.tuples(st.integers(1, 500), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=40)))))
def test_fields_reads_what_was_written(parts: list[tuple[int, int | bytes]]) -> None:
    assert list(fields(_message(*parts))) == parts


@given(st.binary(max_size=200))
def test_rubbish_is_called_so(data: bytes) -> None:
    reader = TraceReader()
    try:
        reader.feed(data)
    except MalformedTrace:
        return
    # What was taken is well-formed on its first level at least.
    assert all(number >= 0 for number, _ in fields(data))


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x80", b"\x0b", b"\xff" * 12])
def test_what_is_cut_short(data: bytes) -> None:
    with pytest.raises(MalformedTrace):
        list(fields(data))
