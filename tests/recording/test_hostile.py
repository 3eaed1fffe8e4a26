"""Containers are not trusted: what they say too much of is cut, and recording goes on."""

from __future__ import annotations

import json
import random
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from mlstudio.model.launch import Chunk
from mlstudio.model.record import Batch, Cursor
from mlstudio.probe.wire import encode_frame, encode_points
from mlstudio.services.recording.printed_series import PrintedSeries
from mlstudio.services.recording.progress import ProgressTracker
from mlstudio.services.recording.transcript import Caps, Known, Transcript

SMALL = Caps(series=5, name_chars=20, events=10, event_bytes=200, parameters=3, artifacts=2)


def transcript(caps: Caps | None = None, *, segments: list[int] | None = None) -> Transcript:
    progress = ProgressTracker()
    known = Known(
        cursor=Cursor(),
        series={},
        events=0,
        printed=PrintedSeries(progress),
        progress=progress,
        has_frames=None,
    )

    def read_spool(segment: int) -> None:
        if segments is not None:
            segments.append(segment)

    return Transcript(known, read_spool=read_spool, caps=caps)


def feed(made: Transcript, *bodies: dict[str, object], first: int = 0, now: float = 1.0) -> Batch:
    data = b"".join(encode_frame(first + seq, {"t": 1.0, **body}) for seq, body in enumerate(bodies))
    made.feed(Chunk(data=data, position="1", time=1.0), now=now)
    batch = made.take(now=now)
    assert batch is not None
    return batch


def one(name: str) -> dict[str, object]:
    return encode_points(name, "metric", array("q", [1]), array("d", [1.0]), array("d", [1.0]))


def test_series_beyond_the_cap_are_left_out_and_that_is_said_once() -> None:
    made = transcript(SMALL)
    batch = feed(
        made, {"series": [one(f"m{number}") for number in range(50)]}, {"series": [one("m3"), one("new")]}
    )
    assert [part.name for part in batch.points] == [f"m{number}" for number in range(5)]
    assert len(batch.points[3].values) == 2
    assert [event.type for event in batch.events] == ["warning"]


def test_long_names_and_events_are_cut() -> None:
    batch = feed(
        transcript(SMALL),
        {"series": [one("n" * 5000)], "events": [{"type": "t" * 500, "time": 1.0, "x": "y" * 10_000}]},
    )
    assert batch.points[0].name == "n" * 20
    assert len(batch.events[0].type) == 64
    assert len(batch.events[0].data_json) <= 200
    assert json.loads(batch.events[0].data_json)["cut"] is True


def test_too_many_events_are_left_out_but_the_end_is_told() -> None:
    noise: list[object] = [{"type": "noise", "time": 1.0, "n": number} for number in range(100)]
    batch = feed(transcript(SMALL), {"events": [*noise, {"type": "exit", "time": 1.0, "code": 0}]})
    assert len(batch.events) == 11
    assert batch.events[-2].type == "warning"
    assert batch.events[-1].type == "exit"


def test_a_frame_number_from_nowhere_does_not_keep_us_busy() -> None:
    asked: list[int] = []
    made = transcript(segments=asked)
    data = encode_frame(10**14, {"t": 1.0, "series": [one("a")]})
    made.feed(Chunk(data=data, position="1", time=1.0), now=1.0)
    # The spool may yet come.
    assert made.take(now=1.0) is None
    batch = feed(made, {}, first=10**14 + 1, now=12.0)
    assert batch.cursor.seq == 10**14 + 1
    assert [part.name for part in batch.points] == ["a"]
    assert len(asked) < 3000
    # It did not: the next hole is not waited for.
    batch = feed(made, {"series": [one("b")]}, first=2 * 10**14, now=12.0)
    assert batch.cursor.seq == 2 * 10**14
    assert len(asked) < 6000


def test_strange_values_are_passed_over() -> None:
    batch = feed(
        transcript(),
        {
            "t": "yesterday",
            "log": [1],
            "series": [{"name": 5}, "x", {**one("bad"), "n": 7}, one("half \ud800 pair")],
            "events": [
                {"type": "param", "name": 3}, {"type": "param", "name": "p", "value": {"a": [1, None]}},
                {"type": "artifact", "path": 1}, {"type": "artifact", "path": "a", "size_bytes": -5},
                {"type": "artifact", "path": "b", "size_bytes": 10**30}, {"type": "environment", "gpus": [1, {}]},
                {"type": "exit", "time": 1e300}, {"type": "lacks", "why": 7}, [], None,
            ],
            "final": "yes",
        },
    )  # fmt: skip
    assert [part.name for part in batch.points] == ["half ? pair"]
    assert batch.parameters == (("p", '{"a":[1,null]}'),)
    assert batch.artifacts == (("a", 0), ("b", 0))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=60), max_size=20), st.integers())
def test_rubbish_never_breaks_it(chunks: list[bytes], seed: int) -> None:
    made = transcript()
    frame = encode_frame(0, {"t": 1.0, "log": {"n": 3}, "series": [one("a")]})
    chance = random.Random(seed)
    for number, data in enumerate(chunks):
        if chance.random() < 0.3:
            data = frame[: chance.randrange(len(frame) + 1)] + data
        made.feed(Chunk(data=data, position=str(number), time=1.0), now=float(number))
        made.take(now=float(number))
    made.end(now=100.0)
    made.take(now=100.0)


def test_a_flood_without_a_frame_is_passed_on_as_output() -> None:
    made = transcript()
    feed(made, {"series": [one("a")]})
    total = 0
    for number in range(70):
        made.feed(Chunk(data=b"x" * 1024 * 1024, position=f"p{number}", time=1.0), now=1.0)
        batch = made.take(now=1.0)
        total += sum(len(block.data) for block in batch.log) if batch is not None else 0
    made.end(now=1.0)
    batch = made.take(now=1.0)
    total += sum(len(block.data) for block in batch.log) if batch is not None else 0
    assert total == 70 * 1024 * 1024
