"""Points packed and unpacked: to the last bit, whatever the numbers, small where they are as people log them."""

from __future__ import annotations

import struct
import zlib
from array import array

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlstudio.store.columns import (
    CHUNK_POINTS,
    Codec,
    pack_axis,
    pack_values,
    unpack_axis,
    unpack_chunk,
    unpack_values,
)
from mlstudio.store.opening import BrokenPacking
from mlstudio.store.pyramid import COARSE, pack_levels, unpack_coarse, unpack_fine
from mlstudio.store.tails import pack_tail, unpack_tail
from mlstudio.store.thinning import remarkable

Reals = npt.NDArray[np.float64]

PATTERNS = st.integers(0, 2**64 - 1)
"""Any 64 bits: among them every NaN there is, −0.0 and numbers too small to be normal."""
INTEGERS = st.integers(-(2**63), 2**63 - 1)
DECIMALS = st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 9)).map(
    lambda parts: parts[0] / 10 ** parts[1]
)
SINGLES = st.floats(width=32)
KINDS = [
    PATTERNS.map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]),
    SINGLES,
    DECIMALS,
    st.integers(-(2**60), 2**60).map(float),
    st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), float("-inf"), 5e-324, 1e308]),
]


@st.composite
def columns_of_reals(draw: st.DrawFn) -> Reals:
    """Numbers of one sort or of several, few or many (the many made of the few, so that drawing stays quick)."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=2))
    few = draw(st.lists(st.one_of(kinds), min_size=1, max_size=40))
    numbers = np.array(few, np.float64)
    if draw(st.booleans()):
        numbers = np.resize(numbers, draw(st.sampled_from([63, 2047, 2048, 5000])))
        if draw(st.booleans()):
            numbers = numbers + np.float64(draw(st.sampled_from([0.25, 1e-3]))) * np.arange(len(numbers))
    return numbers


@settings(max_examples=400)
@given(columns_of_reals())
def test_values_unpack_to_the_same_bits(values: Reals) -> None:
    found = unpack_values(pack_values(values, Codec()), Codec())
    assert found.dtype == np.float64
    assert found.tobytes() == values.tobytes()


@settings(max_examples=300)
@given(st.lists(INTEGERS, min_size=1, max_size=60), columns_of_reals(), st.booleans())
def test_axes_unpack_to_the_same_bits(few: list[int], times: Reals, is_sorted: bool) -> None:
    steps = np.resize(np.array(sorted(few) if is_sorted else few, np.int64), len(times))
    found = unpack_axis(pack_axis(steps, times, Codec()), Codec())
    assert found[0].tobytes() == steps.tobytes()
    assert found[1].tobytes() == times.tobytes()


def test_a_nan_keeps_its_payload() -> None:
    bits = np.array(
        [0x7FF8000000000000, 0x7FF0000000000001, 0xFFF8DEADBEEF0001, 0x8000000000000000] * 20, np.uint64
    )
    values = bits.view(np.float64)
    assert unpack_values(pack_values(values, Codec()), Codec()).view(np.uint64).tolist() == bits.tolist()


@given(INTEGERS, st.integers(-(2**61), 2**61), st.integers(3, 300))
def test_even_steps_take_no_room(first: int, difference: int, count: int) -> None:
    try:
        steps = np.array([first + difference * place for place in range(count)], np.int64)
    except OverflowError:
        return
    packed = pack_axis(steps, np.zeros(count), Codec())
    assert (unpack_axis(packed, Codec())[0] == steps).all()
    assert len(packed) < 80


def test_what_people_log_is_packed_small() -> None:
    random = np.random.default_rng(1)
    count = 50_000
    codec = Codec()
    curve = 2 * np.exp(-np.arange(count) / 9000) + 0.05 * random.standard_normal(count) + 0.3
    for values, most in (
        (curve.astype(np.float32).astype(np.float64), 3.05),
        (curve, 6.75),
        (np.round(curve, 4), 1.6),
        (np.round(np.abs(curve) * 100), 1.2),
        (np.full(count, 1e-3), 0.01),
        (curve.astype(np.float16).astype(np.float64), 1.6),
    ):
        assert len(pack_values(values, codec)) < most * count
    times = 1.7e9 + np.cumsum(0.01 * (1 + 0.1 * random.standard_normal(count)))
    assert len(pack_axis(np.arange(count), times, codec)) < 1.9 * count


@given(
    st.lists(
        st.tuples(st.integers(0, 2**63), st.lists(st.tuples(INTEGERS, st.floats(), st.floats()), max_size=5)),
        max_size=6,
    ),
    st.booleans(),
)
def test_tails_unpack_to_what_was_packed(
    rows: list[tuple[int, list[tuple[int, float, float]]]], share: bool
) -> None:
    packed = [
        (
            key,
            array("q", [r[0] for r in found]),
            array("d", [r[1] for r in found]),
            array("d", [r[2] for r in found]),
        )
        for key, found in rows
    ]
    if share and packed:
        packed += [(key + 1, packed[0][1], packed[0][2], packed[0][3]) for key, *_ in packed[:2]]
    data = pack_tail(packed)
    expected = [(key, a.tobytes(), b.tobytes(), c.tobytes()) for key, a, b, c in packed]
    assert [
        (key, *(column.tobytes() for column in columns)) for key, columns in unpack_tail(data)
    ] == expected
    for wanted in {key for key, *_ in expected} | {2**64 - 1}:
        found = [
            (key, *(column.tobytes() for column in columns))
            for key, columns in unpack_tail(data, only=wanted)
        ]
        assert found == [row for row in expected if row[0] == wanted]


def test_series_logged_together_share_their_steps_in_the_tail() -> None:
    steps, times = array("q", range(100)), array("d", range(100))
    one = pack_tail([(1, steps, times, times)])
    ten = pack_tail([(key, steps[:], times[:], times) for key in range(10)])
    assert len(ten) < len(one) + 9 * (100 * 8 + 40)


# -- what older versions wrote -------------------------------------------------------------------------------------------


def first_chunk(steps: list[int], times: list[float], values: list[float]) -> bytes:
    """A chunk as schema 1 had it: steps even, times shuffled differences, values shuffled."""

    def column(coding: int, data: bytes) -> bytes:
        return struct.pack("<BI", coding, len(data)) + data

    def shuffled(patterns: npt.NDArray[np.int64]) -> bytes:
        return zlib.compress(patterns.view(np.uint8).reshape(-1, 8).T.tobytes(), 1)

    time_bits = np.array(times).view(np.int64)
    return (
        struct.pack("<BI", 1, len(steps))
        + column(1, struct.pack("<qq", steps[0], steps[1] - steps[0]))
        + column(3, shuffled(np.diff(time_bits, prepend=np.int64(0))))
        + column(2, shuffled(np.array(values).view(np.int64)))
    )


def first_tail(key: int, steps: list[int], times: list[float], values: list[float], *, again: int) -> bytes:
    """A tail row as schema 1 had it: a series, and another one at the same steps and times."""
    columns = np.array(steps, "<i8").tobytes() + np.array(times, "<f8").tobytes()
    numbers = np.array(values, "<f8").tobytes()
    return (
        struct.pack("<QIB", key, len(steps), 0)
        + columns
        + numbers
        + struct.pack("<QIB", again, len(steps), 3)
        + numbers
    )


def test_chunks_and_tails_of_the_first_schema_are_read() -> None:
    steps, times, values = (
        list(range(5, 105, 2)),
        [1e9 + k / 7 for k in range(50)],
        [k / 3 for k in range(50)],
    )
    found = unpack_chunk(first_chunk(steps, times, values))
    assert [column.tolist() for column in found] == [steps, times, values]
    row = first_tail(7, steps, times, values, again=9)
    assert [key for key, _ in unpack_tail(row)] == [7, 9]
    for key in (7, 9):
        ((_, columns),) = unpack_tail(row, only=key)
        assert [column.tolist() for column in columns] == [steps, times, values]


# -- damage --------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=80))
def test_rubbish_is_told_apart(data: bytes) -> None:
    for unpack in (
        lambda raw: unpack_values(raw, Codec()),
        lambda raw: unpack_axis(raw, Codec()),
        unpack_chunk,
        unpack_fine,
        unpack_coarse,
        lambda raw: list(unpack_tail(raw)),
    ):
        try:
            unpack(data)
        except BrokenPacking:
            continue


@settings(max_examples=300)
@given(st.data())
def test_a_changed_bit_is_noticed(data: st.DataObject) -> None:
    random = np.random.default_rng(3)
    values = random.standard_normal(3000)
    steps, times = np.arange(3000), np.cumsum(random.random(3000))
    packed, unpack = data.draw(
        st.sampled_from(
            [
                (pack_values(values, Codec()), lambda raw: unpack_values(raw, Codec())),
                (pack_axis(steps, times, Codec()), lambda raw: unpack_axis(raw, Codec())),
                (pack_levels(steps, times, values)[1], unpack_fine),
            ]
        )
    )
    place = data.draw(st.integers(0, len(packed) - 1))
    broken = bytearray(packed)
    broken[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BrokenPacking):
        unpack(bytes(broken))


# -- the pyramid --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.float64, st.sampled_from([1, 63, 512, 700]), elements=st.floats(width=64)),
    st.sampled_from([1, 7, 40]),
)
def test_levels_hold_what_is_remarkable(few: Reals, times_over: int) -> None:
    values = np.tile(few, times_over)[:CHUNK_POINTS]
    steps, times = np.arange(len(values)) * 3, np.arange(len(values)) / 7
    coarse, fine = pack_levels(steps, times, values)
    if fine:
        at, found = unpack_fine(fine)
        assert found.tobytes() == values[at].tobytes()
        assert at.tolist() == remarkable(values, 64).tolist()
    if coarse:
        at, coarse_steps, coarse_times, found = unpack_coarse(coarse)
        assert found.tobytes() == values[at].tobytes()
        assert (coarse_steps == steps[at]).all()
        assert (coarse_times == times[at]).all()
        assert at.tolist() == remarkable(values, COARSE).tolist()


def test_the_pyramid_is_small() -> None:
    random = np.random.default_rng(1)
    values = random.standard_normal(CHUNK_POINTS)
    steps, times = np.arange(CHUNK_POINTS), np.arange(CHUNK_POINTS) / 3
    assert sum(map(len, pack_levels(steps, times, values))) < 0.4 * CHUNK_POINTS
    singles = values.astype(np.float32).astype(np.float64)
    assert sum(map(len, pack_levels(steps, times, singles))) < 0.25 * CHUNK_POINTS
