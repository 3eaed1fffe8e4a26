"""What a probe would have written, made up: the truth, its bytes, its spool, and an engine's chunks of it."""

from __future__ import annotations

import uuid
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from mlstudio.model.launch import Chunk
from mlstudio.model.run import RunSpec
from mlstudio.probe.wire import FRAMES_PER_SEGMENT, encode_frame, encode_points, spool_data
from mlstudio.store import History

START = 1_700_000_000.0


@dataclass(frozen=True)
class Piece:
    """What one frame says: output by stream, and values of the series ``loss`` and ``gpu.0.power_w``."""

    output: tuple[tuple[bool, bytes], ...] = ()
    losses: tuple[float, ...] = ()
    powers: tuple[float, ...] = ()
    param: str = ""

    @property
    def log(self) -> bytes:
        return b"".join(data for _, data in self.output)


@dataclass
class Written:
    """A whole run's output: `stream` as the engine stored it, `spool` by segment."""

    pieces: list[Piece]
    stream: bytes = b""
    ends: list[int] = field(default_factory=list)
    """Where each frame ends in the stream."""
    spool: dict[int, bytes] = field(default_factory=dict)


def write(pieces: list[Piece], *, final: bool = True) -> Written:
    """As the probe would have written it."""
    written = Written(pieces)
    step = 0
    sample = 0
    for seq, piece in enumerate(pieces):
        time = START + seq
        series = []
        if piece.losses:
            steps = array("q", range(step, step + len(piece.losses)))
            times = array("d", [time] * len(piece.losses))
            series.append(encode_points("loss", "metric", steps, times, array("d", piece.losses)))
            step += len(piece.losses)
        if piece.powers:
            steps = array("q", range(sample, sample + len(piece.powers)))
            times = array("d", [time] * len(piece.powers))
            series.append(encode_points("gpu.0.power_w", "system", steps, times, array("d", piece.powers)))
            sample += len(piece.powers)
        spans = [[int(is_error), len(data), time] for is_error, data in piece.output]
        events = [{"type": "param", "time": time, "name": piece.param, "value": seq}] if piece.param else []
        log: dict[str, object] = {"n": len(piece.log), "spans": spans, "crc": zlib.crc32(piece.log)}
        body: dict[str, object] = {"t": time, "log": log, "series": series, "events": events}
        if final and seq == len(pieces) - 1:
            body["final"] = True
        log["data"] = spool_data(piece.log)
        segment = seq // FRAMES_PER_SEGMENT
        written.spool[segment] = written.spool.get(segment, b"") + encode_frame(seq, body)
        del log["data"]
        is_open = bool(piece.log) and not piece.log.endswith(b"\n")
        log["open"] = is_open
        written.stream += piece.log + (b"\n" if is_open else b"") + encode_frame(seq, body)
        written.ends.append(len(written.stream))
    return written


def cut(stream: bytes, places: list[int], *, with_positions: bool = True) -> list[Chunk]:
    """The stream as chunks that end at `places` and at its end."""
    ends = sorted({place for place in places if 0 < place < len(stream)} | {len(stream)})
    chunks = []
    start = 0
    for end in ends:
        if end > start:
            position = str(end) if with_positions else ""
            chunks.append(Chunk(data=stream[start:end], position=position, time=START + end))
        start = end
    return chunks


def add_run(history: History, *, parameters: tuple[tuple[str, str], ...] = (), engine: str = "fake") -> str:
    """A run to record; returns its id."""
    run_id = uuid.uuid4().hex
    history.add_run(
        RunSpec(command=("python", "train.py"), engine=engine),
        run_id=run_id,
        name=run_id[:6],
        created=START,
        engine_kind="fake",
        parameters=parameters,
    )
    return run_id


def values(history: History, run_id: str, name: str, kind: str = "metric") -> list[float]:
    """Every value of a series; none if it does not exist."""
    if all((found.kind, found.name) != (kind, name) for found in history.metrics(run_id)):
        return []
    return [float(value) for value in history.series(run_id, name, kind=kind).values]


def stream_text(history: History, run_id: str, *, is_error: bool) -> bytes:
    """The recorded output of one stream, lines joined."""
    lines = history.log(run_id, count=10**9)
    return "\n".join(line.text for line in lines if line.is_error_stream is is_error).encode()


def truth_text(pieces: list[Piece], *, is_error: bool) -> bytes:
    """What `stream_text` must be in the end."""
    whole = b"".join(data for piece in pieces for stream, data in piece.output if stream is is_error)
    return whole.removesuffix(b"\n").replace(b"\r\n", b"\n").removesuffix(b"\r")


def gapless(chunks: list[Chunk], start: int) -> Iterator[Chunk]:
    """The chunks whose bytes begin at or after `start`."""
    at = 0
    for chunk in chunks:
        if at >= start:
            yield chunk
        at += len(chunk.data)
