"""The second copy of output and metrics: on a disk that is full it waits in memory, and catches up."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlstudio.probe import output
from mlstudio.probe.output import Outlet, Spool
from mlstudio.probe.wire import Decoder, Frame, decode_spool, encode_frame, spool_data
from tests.probe.runs import Bench, taken_apart

LIMIT = 1024 * 1024 * 1024


class Disk:
    """What of a spool's writes the disk takes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.free: int | None = None
        """Bytes that still fit; None: as many as you like."""
        self.error = errno.ENOSPC
        self.tried = 0
        self.room_after: int | None = None
        """From this try on there is room."""
        self._real_write = os.write
        self._real_open = os.open
        monkeypatch.setattr(os, "write", self._write)
        monkeypatch.setattr(os, "open", self._open)

    def _is_ours(self, path: str) -> bool:
        return path.startswith(str(self.folder)) and path.endswith(".mls")

    def _try(self) -> None:
        self.tried += 1
        if self.room_after is not None and self.tried >= self.room_after:
            self.free = None

    def _open(self, path: str, flags: int, mode: int = 0o777) -> int:
        if self._is_ours(path) and not os.path.exists(path):
            self._try()
            if self.free is not None and self.free <= 0:
                raise OSError(self.error, os.strerror(self.error))
        return self._real_open(path, flags, mode)

    def _write(self, descriptor: int, data: bytes | memoryview) -> int:
        if not self._is_ours(os.readlink(f"/proc/self/fd/{descriptor}")):
            return self._real_write(descriptor, data)
        self._try()
        if self.free is None:
            return self._real_write(descriptor, data)
        if self.free <= 0:
            raise OSError(self.error, os.strerror(self.error))
        written = self._real_write(descriptor, bytes(data)[: self.free])
        self.free -= written
        return written

    def frames(self) -> list[Frame]:
        files = sorted(self.folder.glob("*.mls"), key=lambda path: int(path.stem))
        found = []
        for path in files:
            some = list(decode_spool(path.read_bytes()))
            assert {frame.seq // 1024 for frame in some} <= {int(path.stem)}
            found += some
        return found


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path / "spool", monkeypatch)


@pytest.fixture
def spool(disk: Disk) -> Spool:
    return Spool(str(disk.folder), limit_bytes=LIMIT)


def line(seq: int, text: bytes = b"x") -> bytes:
    data = text * 50
    return encode_frame(seq, {"log": {"n": len(data), "crc": zlib.crc32(data), "data": spool_data(data)}})


def test_frames_wait_while_the_disk_is_full_and_come_in_order(disk: Disk, spool: Spool) -> None:
    said = [spool.write(seq, line(seq)) for seq in range(10)]
    disk.free = 0
    said += [spool.write(seq, line(seq)) for seq in range(10, 20)]
    assert [frame.seq for frame in disk.frames()] == list(range(10))
    disk.free = None
    said += [spool.write(seq, line(seq)) for seq in range(20, 30)]
    assert [frame.seq for frame in disk.frames()] == list(range(30))
    assert all(frame.intact for frame in disk.frames())
    # Said once; and once more when it is full once more.
    disk.free = 0
    said += [spool.write(seq, line(seq)) for seq in range(30, 33)]
    assert [seq for seq, words in enumerate(said) if words] == [10, 30]
    assert "full" in said[10]
    assert "waits in memory" in said[10]


@given(sizes=st.lists(st.integers(0, 300), max_size=12))
@example(sizes=[len(line(0, b"ab\n")) - 1])
@example(sizes=[len(line(0, b"ab\n")) - 1] * 3)
@example(sizes=[5, 1, 1, 1])
def test_wherever_a_line_was_cut_off_it_comes_whole(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(tmp_path_factory.mktemp("spool"), patch)
        spool = Spool(str(disk.folder), limit_bytes=LIMIT)
        for seq, size in enumerate(sizes):
            disk.free = size
            spool.write(seq, line(seq, b"ab\n"))
        disk.free = None
        spool.write(len(sizes), line(len(sizes)))
        found = disk.frames()
    assert [frame.seq for frame in found] == list(range(len(sizes) + 1))
    assert [frame.log for frame in found[:-1]] == [b"ab\n" * 50] * len(sizes)


def test_files_begin_where_they_should_also_after_a_full_disk(disk: Disk, spool: Spool) -> None:
    for seq in range(1020):
        spool.write(seq, line(seq))
    disk.free = 0
    for seq in range(1020, 2060):
        spool.write(seq, line(seq))
    assert sorted(path.name for path in disk.folder.iterdir()) == ["0.mls"]
    disk.free = None
    spool.write(2060, line(2060))
    assert sorted(path.name for path in disk.folder.iterdir()) == ["0.mls", "1.mls", "2.mls"]
    assert [frame.seq for frame in disk.frames()] == list(range(2061))


def test_what_waits_has_a_limit_and_the_oldest_go(
    disk: Disk, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_WAITING_BYTES", 5 * len(line(10)))
    disk.free = 0
    for seq in range(10, 30):
        spool.write(seq, line(seq))
    disk.free = None
    spool.write(30, line(30))
    assert [frame.seq for frame in disk.frames()] == [25, 26, 27, 28, 29, 30]


def test_the_last_frame_is_waited_for(disk: Disk, spool: Spool) -> None:
    disk.free = 0
    spool.write(0, line(0))
    disk.room_after = disk.tried + 3
    assert spool.write(1, line(1), is_last=True) == ""
    assert [frame.seq for frame in disk.frames()] == [0, 1]


def test_the_last_frame_is_not_waited_for_without_end(
    disk: Disk, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_LAST_WAITS_S", 0.2)
    disk.free = 0
    spool.write(0, line(0), is_last=True)
    assert disk.tried > 2
    assert disk.frames() == []


def test_other_troubles_are_called_by_their_names(disk: Disk, spool: Spool) -> None:
    disk.free, disk.error = 0, errno.EIO
    assert "Input/output error" in spool.write(0, line(0))
    disk.free = None
    spool.write(1, line(1))
    assert [frame.seq for frame in disk.frames()] == [0, 1]


def test_on_a_full_disk_output_goes_on_and_both_copies_say_the_same(disk: Disk, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        outlet = Outlet(file.fileno(), spool=Spool(str(disk.folder), limit_bytes=LIMIT), clock=lambda: 1.0)
        for number in range(30):
            disk.free = 0 if 10 <= number < 20 else None
            outlet.write(b"at %d\n" % number, number % 2 == 1)
            outlet.flush()
        outlet.flush(final=True)
    frames, pending = taken_apart(out.read_bytes())
    assert pending == b""
    assert b"".join(frame.log for frame in frames) == b"".join(b"at %d\n" % number for number in range(30))
    warnings = [(frame.seq, event["type"]) for frame in frames for event in frame.body.get("events", ())]
    # In the frame after the one that met it: that one is in both copies as it is.
    assert warnings == [(11, "warning")]

    def said(frame: Frame) -> dict[str, object]:
        return {name: value for name, value in frame.body.items() if name != "log"}

    assert [(f.seq, f.log, f.intact, said(f)) for f in disk.frames()] == [
        (f.seq, f.log, f.intact, said(f)) for f in frames
    ]


# ── what output sums up to ─────────────────────────────────────────────────────────────────────────────────────────


def sent(log: bytes, *, says: Callable[[bytes], int] = zlib.crc32) -> bytes:
    return encode_frame(0, {"log": {"n": len(log), "crc": says(log)}})


def test_frames_say_what_their_output_sums_up_to(bench: Bench) -> None:
    outcome = bench.script("import os\nfor i in range(300): os.write(1 + i % 2, b'line %d, no end' % i)")
    with_output = [frame for frame in outcome.frames if frame.log]
    assert with_output
    assert all(frame.body["log"]["crc"] == zlib.crc32(frame.log) for frame in with_output)
    assert all("crc" not in frame.body["log"] for frame in outcome.frames if not frame.log)
    assert all(frame.intact for frame in outcome.spooled())


@given(log=st.binary(min_size=1, max_size=200), data=st.data())
def test_output_that_is_as_long_and_says_something_else_is_noticed(log: bytes, data: st.DataObject) -> None:
    # As an engine that rotates its logs does it: a piece comes twice, another is gone.
    log = log.replace(b"\x1e", b".").rstrip(b"\n") + b"\n"
    other = bytearray(log)
    place = data.draw(st.integers(0, len(log) - 2)) if len(log) > 1 else 0
    other[place] = data.draw(st.sampled_from(sorted(set(b"abc") - {log[place]})))
    (frame,) = Decoder().feed(log + sent(log))
    assert frame.intact
    assert frame.log == log
    if not bytes(other).endswith(b"\n"):
        return
    (frame,) = Decoder().feed(bytes(other) + sent(log))
    assert not frame.intact
    # It is shown all the same; whose it is and when it came is not known.
    assert frame.log == bytes(other)
    assert len(frame.spans) == 1


def test_older_probes_say_no_sum() -> None:
    (frame,) = Decoder().feed(b"one\n" + encode_frame(0, {"log": {"n": 4}}))
    assert frame.intact
    (frame,) = Decoder().feed(b"one\n" + encode_frame(0, {"log": {"n": 5}}))
    assert not frame.intact


@pytest.mark.parametrize("odd", ["x", None, -1, 1.5, [], {}, 2**40, True])
def test_a_sum_that_is_none(odd: object) -> None:
    (frame,) = Decoder().feed(b"one\n" + encode_frame(0, {"log": {"n": 4, "crc": odd}}))
    assert not frame.intact
    assert frame.log == b"one\n"


def test_a_newline_that_was_put_in_does_not_count() -> None:
    log = b"no end"
    frame_line = encode_frame(0, {"log": {"n": len(log), "crc": zlib.crc32(log), "open": True}})
    (frame,) = Decoder().feed(log + b"\n" + frame_line)
    assert frame.intact
    assert frame.log == log


def test_a_spool_whose_output_does_not_sum_up_is_noticed() -> None:
    body = {"log": {"n": 4, "crc": zlib.crc32(b"one\n"), "data": spool_data(b"two\n")}}
    (frame,) = decode_spool(encode_frame(0, body))
    assert not frame.intact
