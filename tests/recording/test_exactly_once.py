"""Nothing lost and nothing doubled, wherever the recorder dies and however the engine cuts, repeats and forgets."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstudio.model.errors import EngineAway
from mlstudio.model.launch import Chunk
from mlstudio.services.recording.follower import read_known
from mlstudio.services.recording.transcript import Transcript
from mlstudio.store import History
from tests.recording.streams import (
    Piece,
    Written,
    add_run,
    cut,
    stream_text,
    truth_text,
    values,
    write,
)

OUTPUT = st.one_of(
    st.sampled_from(
        [b"epoch\n", b"\n", b"no newline", b"MLS1 3 ab\n", "grün 🎉\n".encode(), b"a\nb\n", b"bar\r\n"]
    ),
    st.binary(min_size=1, max_size=3).map(lambda raw: raw.hex().encode() + b"\n"),
)
PIECES = st.lists(
    st.builds(
        Piece,
        output=st.lists(st.tuples(st.booleans(), OUTPUT), max_size=3).map(tuple),
        losses=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
        powers=st.lists(st.floats(0, 500), max_size=2).map(tuple),
        param=st.sampled_from(["", "", "lr", "batch size"]),
    ),
    min_size=1,
    max_size=12,
)


class Machine:
    """The recorder's steps one by one, with an engine that can be told to misbehave between any two of them."""

    def __init__(self, history: History, run_id: str, chunks: list[Chunk], spool: dict[int, bytes]) -> None:
        self.history = history
        self.run_id = run_id
        self.chunks = chunks
        self.spool = spool
        self.kept_from = 0
        self.is_spool_away = False
        self.unspooled = 0
        """So many of the last frames wait in the probe's memory."""
        self.begin(replay=0)

    def begin(self, *, replay: int) -> None:
        """A recorder starts; the engine delivers up to `replay` chunks before its position again."""
        known = read_known(self.history, self.run_id, has_probe=True)
        position = known.cursor.position
        marks = [chunk.position for chunk in self.chunks]
        start = marks.index(position) + 1 if position else 0
        self.next = max(self.kept_from, start - replay)
        self.transcript = Transcript(known, read_spool=self.read_spool)

    def read_spool(self, segment: int) -> bytes | None:
        if self.is_spool_away:
            raise EngineAway("away")
        data = self.spool.get(segment)
        if data is None or not self.unspooled:
            return data
        return b"".join(data.splitlines(keepends=True)[: -self.unspooled])

    def feed(self) -> bool:
        """One chunk; False if there is none left."""
        self.next = max(self.next, self.kept_from)
        if self.next >= len(self.chunks):
            return False
        self.transcript.feed(self.chunks[self.next], now=0.0)
        self.next += 1
        return True

    def commit(self) -> None:
        batch = self.transcript.take(now=0.0)
        if batch is not None:
            self.history.apply(self.run_id, batch)
            # Committers may repeat themselves.
            self.history.apply(self.run_id, batch)

    def to_the_end(self) -> None:
        while self.feed():
            pass
        self.transcript.end(now=0.0)
        self.commit()
        self.history.finish(self.run_id)


def check(history: History, run_id: str, pieces: list[Piece]) -> None:
    assert values(history, run_id, "loss") == [value for piece in pieces for value in piece.losses]
    assert values(history, run_id, "gpu.0.power_w", "system") == [
        value for piece in pieces for value in piece.powers
    ]
    for is_error in (False, True):
        assert stream_text(history, run_id, is_error=is_error) == truth_text(pieces, is_error=is_error)
    found = [event for event in history.events(run_id) if event.type == "param"]
    assert len(found) == sum(1 for piece in pieces if piece.param)
    losses = sum(len(piece.losses) for piece in pieces)
    counts = {metric.name: metric.count for metric in history.metrics(run_id)}
    assert counts.get("loss", 0) == losses


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), pieces=PIECES)
def test_every_point_and_line_arrives_once(
    shared_history: History, data: st.DataObject, pieces: list[Piece]
) -> None:
    written = write(pieces, final=data.draw(st.booleans(), label="final"))
    places = data.draw(st.lists(st.integers(1, max(1, len(written.stream) - 1)), max_size=30), label="cuts")
    machine = Machine(shared_history, add_run(shared_history), cut(written.stream, places), written.spool)
    machine.unspooled = data.draw(st.integers(0, len(pieces)), label="unspooled")
    acts = st.sampled_from(
        ["feed", "feed", "feed", "commit", "commit", "die", "rotate", "spool", "end and die"]
    )
    for act in data.draw(st.lists(acts, max_size=40), label="acts"):
        if act == "feed":
            machine.feed()
        elif act == "commit":
            machine.commit()
        elif act == "die":
            machine.begin(replay=data.draw(st.integers(0, 3)))
        elif act == "rotate":
            # The engine forgets its oldest output, read or not.
            forget = data.draw(st.integers(0, 3))
            machine.kept_from = min(len(machine.chunks), machine.kept_from + forget)
        elif act == "spool":
            machine.unspooled = data.draw(st.integers(0, machine.unspooled))
        else:
            machine.unspooled = 0
            while machine.feed():
                pass
            machine.transcript.end(now=0.0)
            if data.draw(st.booleans()):
                machine.commit()
            machine.begin(replay=data.draw(st.integers(0, 3)))
    machine.unspooled = 0
    machine.to_the_end()
    check(shared_history, machine.run_id, pieces)
    assert all(gap.recovered for gap in shared_history.gaps(machine.run_id))
    assert shared_history.summary(machine.run_id).gaps == 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), pieces=PIECES)
def test_what_is_nowhere_is_a_gap_and_nothing_else_is_missing(
    shared_history: History, data: st.DataObject, pieces: list[Piece]
) -> None:
    """Rotated away and not in the spool either."""
    written = write(pieces)
    chunks = cut(written.stream, written.ends)
    first_kept = data.draw(st.integers(0, len(pieces) - 1))
    machine = Machine(shared_history, add_run(shared_history), chunks, {})
    before = data.draw(st.integers(0, first_kept))
    for _ in range(before):
        machine.feed()
    machine.commit()
    machine.kept_from = first_kept
    machine.begin(replay=0)
    machine.to_the_end()
    check(shared_history, machine.run_id, pieces[:before] + pieces[first_kept:])
    gaps = shared_history.gaps(machine.run_id)
    assert [(gap.first, gap.last, gap.recovered) for gap in gaps] == (
        [(before, first_kept - 1, False)] if before < first_kept else []
    )
    assert shared_history.summary(machine.run_id).gaps == first_kept - before


def test_an_engine_that_goes_away_while_a_hole_is_filled_leaves_no_gap(history: History) -> None:
    written = write([Piece(losses=(float(number),)) for number in range(6)])
    machine = Machine(history, add_run(history), cut(written.stream, written.ends), written.spool)
    machine.feed()
    machine.commit()
    machine.kept_from = 3
    machine.is_spool_away = True
    machine.begin(replay=0)
    with pytest.raises(EngineAway):
        machine.feed()
    machine.commit()
    machine.is_spool_away = False
    machine.begin(replay=0)
    machine.to_the_end()
    check(history, machine.run_id, written.pieces)
    assert [(gap.first, gap.last, gap.recovered) for gap in history.gaps(machine.run_id)] == [(1, 2, True)]


def test_a_spool_of_many_segments_fills_a_long_hole(history: History) -> None:
    written = write([Piece(losses=(number + 0.5,), output=((False, b"x\n"),)) for number in range(2500)])
    machine = Machine(history, add_run(history), cut(written.stream, written.ends), written.spool)
    for _ in range(10):
        machine.feed()
    machine.commit()
    machine.kept_from = 2400
    machine.begin(replay=0)
    machine.to_the_end()
    check(history, machine.run_id, written.pieces)


def test_output_after_the_last_frame_is_kept(history: History) -> None:
    """The probe itself was killed: a piece of output and half a frame stand at the end."""
    written = write([Piece(losses=(1.0,), output=((False, b"one\n"),))], final=False)
    stream = written.stream + b"last words\n" + b"\x1eMLS1 1 0000"
    machine = Machine(history, add_run(history), cut(stream, [5, len(written.stream) + 4]), written.spool)
    machine.to_the_end()
    assert [line.text for line in history.log(machine.run_id)] == ["one", "last words"]
    machine.begin(replay=1)
    machine.to_the_end()
    assert [line.text for line in history.log(machine.run_id)] == ["one", "last words"]


def test_frames_that_only_the_spool_has_are_taken_at_the_end(history: History) -> None:
    """The engine lost the end of the output, as after a power cut."""
    written = write([Piece(losses=(float(number),), output=((False, b"line\n"),)) for number in range(5)])
    stream = written.stream[: written.ends[2]] + b"li"
    machine = Machine(history, add_run(history), cut(stream, []), written.spool)
    machine.to_the_end()
    check(history, machine.run_id, written.pieces)


def test_a_frame_that_was_damaged_comes_from_the_spool(history: History) -> None:
    written = write([Piece(losses=(float(number),), output=((False, b"line\n"),)) for number in range(4)])
    place = written.ends[1] - 10
    stream = written.stream[:place] + b"?" + written.stream[place + 1 :]
    machine = Machine(history, add_run(history), cut(stream, written.ends), written.spool)
    machine.to_the_end()
    check(history, machine.run_id, written.pieces)


def _lines(number: int) -> tuple[tuple[bool, bytes], ...]:
    return tuple((False, b"line %d\n" % (3 * number + at)) for at in range(3))


@pytest.mark.parametrize("is_final", [True, False])
def test_what_the_engine_repeats_after_the_end_is_not_there_twice(history: History, is_final: bool) -> None:
    """As rotating engines do: some of the last file comes once more, cut anywhere."""
    written = write(
        [Piece(losses=(float(number),), output=_lines(number)) for number in range(6)], final=is_final
    )
    again = written.stream[written.ends[2] + 5 : written.ends[4] + 12]
    machine = Machine(history, add_run(history), cut(written.stream + again, written.ends), written.spool)
    machine.to_the_end()
    check(history, machine.run_id, written.pieces)
    assert history.gaps(machine.run_id) == []


@pytest.mark.parametrize("is_in_spool", [True, False])
def test_lines_that_the_engine_lost_within_a_frame(history: History, is_in_spool: bool) -> None:
    """They are taken from the spool; where that has nothing, they are a gap."""
    written = write([Piece(losses=(float(number),), output=_lines(number)) for number in range(4)])
    place = written.ends[1] + 3
    stream = written.stream[:place] + written.stream[place + 7 :]
    spool = written.spool if is_in_spool else {}
    machine = Machine(history, add_run(history), cut(stream, written.ends), spool)
    machine.to_the_end()
    if is_in_spool:
        check(history, machine.run_id, written.pieces)
    else:
        assert values(history, machine.run_id, "loss") == [0.0, 1.0, 2.0, 3.0]
    lost = [] if is_in_spool else [(2, 2, False)]
    assert [(gap.first, gap.last, gap.recovered) for gap in history.gaps(machine.run_id)] == lost


def test_a_spool_that_comes_late_is_waited_for(history: History) -> None:
    """The disk of the container was full: the probe kept in memory what belongs into the spool."""
    written = write([Piece(losses=(float(number),), output=_lines(number)) for number in range(8)])
    machine = Machine(history, add_run(history), cut(written.stream, written.ends), written.spool)
    machine.feed()
    machine.kept_from = 3
    machine.unspooled = 6
    machine.feed()
    machine.commit()
    assert values(history, machine.run_id, "loss") == [0.0]
    position = history.cursor(machine.run_id).position
    machine.feed()
    machine.commit()
    assert history.cursor(machine.run_id).position == position
    machine.unspooled = 0
    machine.transcript.feed(machine.chunks[5], now=1.0)
    machine.commit()
    assert values(history, machine.run_id, "loss") == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert history.cursor(machine.run_id).position != position
    machine.next = 6
    machine.to_the_end()
    check(history, machine.run_id, written.pieces)
    assert [(gap.first, gap.last, gap.recovered) for gap in history.gaps(machine.run_id)] == [(1, 2, True)]


# -- without a probe ----------------------------------------------------------------------------------------------------


class Plain(Machine):
    """A container without a probe."""

    def begin(self, *, replay: int) -> None:
        super().begin(replay=replay)
        known = read_known(self.history, self.run_id, has_probe=False)
        self.transcript = Transcript(known, read_spool=self.read_spool)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_plain_output_arrives_once(shared_history: History, data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.sampled_from([b"a\n", b"bb\n", b"no end", b"\x1eMLS1 0 x\n"]), max_size=12))
    stream = b"".join(lines)
    places = data.draw(st.lists(st.integers(1, max(1, len(stream))), max_size=8))
    machine = Plain(shared_history, add_run(shared_history), cut(stream, places), {})
    for act in data.draw(st.lists(st.sampled_from(["feed", "feed", "commit", "die"]), max_size=20)):
        if act == "feed":
            machine.feed()
        elif act == "commit":
            machine.commit()
        else:
            machine.begin(replay=data.draw(st.integers(0, 2)))
    machine.to_the_end()
    assert stream_text(shared_history, machine.run_id, is_error=False) == stream.removesuffix(b"\n")


def test_output_is_shown_although_frames_are_late(history: History) -> None:
    """A probe that clones for minutes before its first frame."""
    written = write([Piece(output=((False, b"cloning\ndone\n"),), losses=(1.0,))])
    run_id = add_run(history)
    chunks = cut(written.stream, [8, 12])
    transcript = Transcript(read_known(history, run_id, has_probe=True), read_spool=lambda segment: None)
    transcript.feed(chunks[0], now=0.0)
    assert transcript.take(now=1.0) is None
    assert transcript.waits
    batch = transcript.take(now=3.0)
    assert batch is not None
    history.apply(run_id, batch)
    assert [line.text for line in history.log(run_id)] == ["cloning"]
    # The recorder dies here, and the frames come to the next one.
    transcript = Transcript(read_known(history, run_id, has_probe=True), read_spool=lambda segment: None)
    for chunk in chunks[1:]:
        transcript.feed(chunk, now=3.0)
    transcript.end(now=3.0)
    batch = transcript.take(now=3.0)
    assert batch is not None
    history.apply(run_id, batch)
    history.finish(run_id)
    check(history, run_id, written.pieces)


def test_not_a_number_and_infinities_arrive(history: History) -> None:
    pieces = [Piece(losses=(math.nan, math.inf, -math.inf, 1.0, math.nan))]
    written = write(pieces)
    machine = Machine(history, add_run(history), cut(written.stream, []), written.spool)
    machine.to_the_end()
    assert repr(values(history, machine.run_id, "loss")) == "[nan, inf, -inf, 1.0, nan]"
    (summary,) = history.metrics(machine.run_id)
    assert summary.last is not None
    assert math.isnan(summary.last)
    assert (summary.minimum, summary.maximum, summary.minimum_step) == (1.0, 1.0, 3)


def test_the_same_bytes_are_written_the_same(history: History) -> None:
    """The generator of these tests agrees with itself."""
    assert isinstance(write([Piece()]), Written)
    assert write([Piece(losses=(1.0,))]).stream == write([Piece(losses=(1.0,))]).stream
