"""Points and lines: packed, sorted, thinned, searched; and a batch is written once."""

from __future__ import annotations

from array import array
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstudio.model.errors import NotFound
from mlstudio.model.record import Batch, Cursor, LogBlock, Points
from mlstudio.store import History
from mlstudio.store.columns import CHUNK_POINTS
from mlstudio.store.log_lines import LINE_LIMIT, LineMaker, as_log_lines, pack_lines, unpack_lines
from mlstudio.store.opening import BrokenPacking
from tests.store.conftest import add, batch, points

FLOATS = st.floats(width=64)


@given(st.binary(max_size=80))
def test_rubbish_is_told_apart(data: bytes) -> None:
    try:
        unpack_lines(data)
    except BrokenPacking:
        pass


# -- series -------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.sampled_from([1, 2, 7, 700, 3000, 20_000]), min_size=1, max_size=90), data=st.data())
def test_points_come_back_however_they_came(history: History, sizes: list[int], data: st.DataObject) -> None:
    run_id = add(history)
    truth = np.random.default_rng(len(sizes)).normal(size=sum(sizes))
    at = 0
    for seq, size in enumerate(sizes):
        history.apply(run_id, batch(seq, points("loss", truth[at : at + size].tolist(), first=at)))
        at += size
    total = len(truth)
    for _ in range(2):
        whole = history.series(run_id, "loss")
        assert (whole.values == truth).all()
        assert (whole.steps == np.arange(total)).all()
        assert whole.total == len(whole) == total
        start = data.draw(st.integers(0, total + 2))
        stop = data.draw(st.one_of(st.none(), st.integers(0, total + 2)))
        part = history.series(run_id, "loss", start=start, stop=stop)
        assert (part.values == truth[start : stop if stop is None else max(start, stop)]).all()
        history.finish(run_id)
    with history._database.read() as connection:
        counts = connection.exec_driver_sql(
            "SELECT c.count FROM chunk c JOIN series s ON s.id = c.series JOIN run r ON r.number = s.run "
            "WHERE r.id = ? ORDER BY c.start",
            (run_id,),
        ).scalars()
        found = list(counts)
    assert sum(found) == total
    assert max(found) <= CHUNK_POINTS
    # Well packed in the end: no two neighbours would fit into one.
    assert all(one + other > CHUNK_POINTS for one, other in pairwise(found))


def test_series_of_one_name_and_two_kinds_are_two(history: History) -> None:
    run_id = add(history)
    history.apply(run_id, batch(0, points("power", [1.0]), points("power", [2.0, 3.0], kind="system")))
    assert history.series(run_id, "power").values.tolist() == [1.0]
    assert history.series(run_id, "power", kind="system").values.tolist() == [2.0, 3.0]
    assert [metric.kind for metric in history.metrics(run_id)] == ["metric", "system"]
    assert [metric.count for metric in history.metrics(run_id, kind="system")] == [2]
    with pytest.raises(NotFound):
        history.series(run_id, "nothing")


def test_names_of_every_sort(history: History) -> None:
    run_id = add(history)
    names = ["line\nbreak", "🎉", "n" * 10_000, "'; DROP TABLE run; --", "", "a\x00b"]
    history.apply(run_id, batch(0, *(points(name, [1.0]) for name in names)))
    assert [metric.name for metric in history.metrics(run_id)] == names
    for name in names:
        assert len(history.series(run_id, name)) == 1


def test_a_batch_is_written_once(history: History) -> None:
    run_id = add(history)
    first = batch(0, points("loss", [1.0]), log=b"one\n")
    history.apply(run_id, first)
    history.apply(run_id, first)
    history.apply(run_id, batch(1, points("loss", [2.0]), log=b"two\n", before=4))
    history.apply(run_id, first)
    history.apply(run_id, batch(1, points("loss", [2.0]), log=b"two\n", before=4))
    assert history.series(run_id, "loss").values.tolist() == [1.0, 2.0]
    assert [line.text for line in history.log(run_id)] == ["one", "two"]
    assert history.cursor(run_id) == Cursor(seq=1, position="1", log_bytes=8)


def test_a_transaction_that_fails_leaves_no_trace(history: History) -> None:
    run_id = add(history)
    with pytest.raises(NotFound):
        history.apply_many([(run_id, batch(0, points("new", [1.0]), log=b"x\n")), ("unknown", batch(0))])
    assert history.metrics(run_id) == []
    assert history.log_count(run_id) == 0
    assert history.cursor(run_id).seq == -1
    history.apply(run_id, batch(0, points("new", [1.0]), log=b"x\n"))
    assert history.series(run_id, "new").values.tolist() == [1.0]


def test_thinned_series(history: History) -> None:
    run_id = add(history)
    values = np.sin(np.arange(50_000) / 1000)
    history.apply(run_id, batch(0, points("loss", values.tolist())))
    found = history.thinned(run_id, "loss", max_points=500)
    assert len(found) <= 500
    assert found.total == 50_000
    assert (values[found.steps] == found.values).all()
    assert len(history.thinned(run_id, "loss", max_points=60_000)) == 50_000


# -- log ----------------------------------------------------------------------------------------------------------------


def lines_of(maker: LineMaker) -> list[tuple[str, bool, bool]]:
    packed = unpack_lines(pack_lines(maker.take()))
    return [(line.text, line.is_error_stream, line.continued) for line in as_log_lines(packed, 0)]


@given(
    st.lists(
        st.tuples(st.booleans(), st.text(st.sampled_from("ab\n\r🎉"), max_size=12)), min_size=1, max_size=20
    ),
    st.integers(1, 7),
)
def test_lines_do_not_depend_on_how_output_is_cut(parts: list[tuple[bool, str]], width: int) -> None:
    whole, cut = LineMaker(), LineMaker()
    for is_error, text in parts:
        data = text.encode()
        whole.feed(LogBlock(data=data, spans=((is_error, len(data), 1.0),)))
        for at in range(0, len(data), width):
            piece = data[at : at + width]
            cut.feed(LogBlock(data=piece, spans=((is_error, len(piece), 1.0),)))
    for maker in (whole, cut):
        maker.end()
    if not any(text for _, text in parts):
        return
    found = lines_of(whole)
    assert found == lines_of(cut)
    for is_error in (False, True):
        text = "".join(part for stream, part in parts if stream is is_error)
        expected = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
        assert [line for line, stream, _ in found if stream is is_error] == expected


def test_a_line_without_an_end_is_cut_between_characters(history: History) -> None:
    run_id = add(history)
    data = "ä".encode() * 5_000_000
    before = 0
    for seq, at in enumerate(range(0, len(data), 999_999)):
        piece = data[at : at + 999_999]
        history.apply(run_id, batch(seq, log=piece, before=before))
        before += len(piece)
    history.finish(run_id)
    lines = history.log(run_id, count=1000)
    assert "".join(line.text for line in lines) == "ä" * 5_000_000
    assert [line.continued for line in lines] == [False] + [True] * (len(lines) - 1)
    assert max(len(line.text.encode()) for line in lines) <= LINE_LIMIT


def test_a_million_lines(history: History) -> None:
    run_id = add(history)
    data = b"".join(b"line %d\n" % number for number in range(1_000_000))
    before = 0
    for seq, at in enumerate(range(0, len(data), 1_000_000)):
        piece = data[at : at + 1_000_000]
        history.apply(run_id, batch(seq, log=piece, before=before))
        before += len(piece)
    assert history.log_count(run_id) == 1_000_000
    assert [line.text for line in history.log(run_id, start=765_432, count=2)] == [
        "line 765432",
        "line 765433",
    ]
    assert [line.number for line in history.log(run_id, start=999_999)] == [999_999]
    assert history.log(run_id, start=1_000_000) == []
    assert history.search_log(run_id, "LINE 99999", start=500_000) == list(range(999_990, 1_000_000))
    assert history.search_log(run_id, "line 1", limit=3) == [1, 10, 11]
    assert history.search_log(run_id, "") == []


def test_small_pieces_become_few_blocks(history: History) -> None:
    run_id = add(history)
    for seq in range(500):
        history.apply(run_id, batch(seq, log=b"line %03d\n" % seq, before=9 * seq, time=float(seq)))
    with history._database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM log_block").scalar_one() < 80
    lines = history.log(run_id, count=1000)
    assert [line.text for line in lines] == [f"line {number:03}" for number in range(500)]
    assert [line.time for line in lines] == [float(number) for number in range(500)]
    assert history.log_line_at(run_id, 123.4) == 123
    assert history.log_line_at(run_id, -5.0) == 0
    assert history.log_line_at(run_id, 1e9) == 499


def test_a_line_that_has_not_ended_is_shown_apart(history: History) -> None:
    run_id = add(history)
    assert history.open_line(run_id) is None
    history.apply(run_id, batch(0, log=b"done\n 10%|#  "))
    history.apply(run_id, batch(1, log=b"\r 20%|## ", before=13, time=1001.0))
    assert [line.text for line in history.log(run_id)] == ["done"]
    line = history.open_line(run_id)
    assert line is not None
    assert (line.number, line.text, line.time) == (1, " 10%|#  \r 20%|## ", 1000.0)
    history.finish(run_id)
    history.finish(run_id)
    assert history.open_line(run_id) is None
    assert [line.number for line in history.log(run_id)] == [0, 1]


def test_streams_do_not_mix(history: History) -> None:
    run_id = add(history)
    log = LogBlock(data=b"loss: warning\n0.5\nrest", spans=((False, 6, 1.0), (True, 8, 2.0), (False, 8, 3.0)))
    history.apply(run_id, Batch(cursor=Cursor(seq=0), log=(log,)))
    history.finish(run_id)
    found = [(line.text, line.is_error_stream, line.time) for line in history.log(run_id)]
    assert found == [("warning", True, 2.0), ("loss: 0.5", False, 1.0), ("rest", False, 3.0)]


def test_invalid_utf_8_is_shown_as_such(history: History) -> None:
    run_id = add(history)
    history.apply(run_id, batch(0, log=b"a\xffb\r\n\xc3\n"))
    assert [line.text for line in history.log(run_id)] == ["a\ufffdb", "\ufffd"]


def test_points_are_given_back_as_arrays_of_the_right_types(history: History) -> None:
    run_id = add(history)
    part = Points(
        name="x", kind="metric", steps=array("q", [2**62]), times=array("d", [1.5]), values=array("d", [-0.0])
    )
    history.apply(run_id, Batch(cursor=Cursor(seq=0), points=(part,)))
    found = history.series(run_id, "x")
    assert [column.dtype.str for column in (found.steps, found.times, found.values)] == ["<i8", "<f8", "<f8"]
    assert found.steps.tolist() == [2**62]
