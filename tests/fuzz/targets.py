"""What is fuzzed: for each reader, inputs that it has never seen, and what must hold whatever it is given."""

from __future__ import annotations

import atexit
import gzip
import io
import json
import math
import shutil
import struct
import tarfile
import tempfile
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mlstudio.model.errors import QueryError
from mlstudio.model.launch import Chunk
from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.model.run import RunSpec
from mlstudio.probe.event_files import EventFile, TagNames
from mlstudio.probe.intake import Intake
from mlstudio.probe.tfevents import EventReader, masked_crc32c
from mlstudio.probe.wandb_file import WandbReader
from mlstudio.probe.wandb_runs import RunNames, WandbFile
from mlstudio.probe.wire import (
    Decoder,
    WireError,
    decode_points,
    decode_spool,
    encode_frame,
    unpack_spool_data,
)
from mlstudio.services.printed import parse_line
from mlstudio.services.recording.printed_series import PrintedSeries
from mlstudio.services.recording.progress import ProgressTracker
from mlstudio.services.recording.transcript import Known, Transcript
from mlstudio.store import History
from tests.fuzz.mutations import cuts, mutated

RECORDED = Path(__file__).parents[1] / "recorded" / "loggers"
PLACES = st.lists(st.integers(0, 5000), max_size=4)


@dataclass(frozen=True)
class Target:
    """A reader: how inputs are made, and what is done with one. `take` raises for what must not happen."""

    name: str
    inputs: Callable[[], st.SearchStrategy[Any]]
    take: Callable[[Any], None]


# -- wire -------------------------------------------------------------------------------------------------------------


def _anything() -> st.SearchStrategy[Any]:
    """What JSON can say, with the words of frames among it."""
    words = st.sampled_from(
        ["series", "name", "kind", "step", "time", "value", "n", "log", "spans", "data", "open", "events", "type",
         "t", "final", "logger", "metric", "system", "unit", "media", "z", "r", "AAAA", "zeJwDAAAAAAE="]
    )  # fmt: skip
    leaves = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20) | words
    )  # fmt: skip
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=8), inner, max_size=5)
        ),
        max_leaves=12,
    )


@cache
def _frames() -> list[bytes]:
    column = "AAAAAAAAAAABAAAAAAAAAA=="
    bodies: list[dict[str, Any]] = [
        {"t": 1.0, "log": {"n": 5, "open": True, "spans": [[0, 5, 1.0]]}},
        {
            "t": 2.0,
            "series": [
                {"name": "loss", "kind": "metric", "n": 2, "step": column, "time": column, "value": column},
                {
                    "name": "x",
                    "kind": "system",
                    "unit": "B",
                    "n": 2,
                    "step": column,
                    "time": column,
                    "value": column,
                },
            ],
            "events": [{"type": "param", "name": "lr", "value": 0.1, "time": 2.0}],
        },
        {"t": 3.0, "log": {"n": 3, "spans": [[1, 3, 1.0]], "data": "rYWJj"}, "final": True},
    ]
    lines = [encode_frame(seq, body) for seq, body in enumerate(bodies)]
    return [b"hello" + lines[0], lines[1], b"abc" + lines[2], b"".join(lines), *lines]


def _wire_inputs() -> st.SearchStrategy[Any]:
    bodies = st.dictionaries(
        st.sampled_from(["t", "log", "series", "events", "final", "x"]), _anything(), max_size=4
    )
    return st.tuples(mutated(_frames()), bodies, st.integers(-1, 5), PLACES)


def _take_wire(drawn: tuple[bytes, dict[str, Any], int, list[int]]) -> None:
    data, body, seq, places = drawn
    # A frame whose checksum is right, whatever it says.
    data += _frame_line(max(0, seq), body)
    decoder = Decoder()
    frames = []
    try:
        for piece in cuts(data, places):
            frames += decoder.feed(piece)
    except WireError:
        return
    kept = sum(len(frame.log) for frame in frames) + len(decoder.pending)
    assert kept <= len(data) + 1000
    for frame in [*frames, *decode_spool(data)]:
        assert all(length >= 0 for _, length, _ in frame.spans)
        for columns in decode_points(frame.body):
            assert len(columns.steps) == len(columns.times) == len(columns.values)
        for event in _listed(frame.body.get("events")):
            if isinstance(event, dict) and isinstance(event.get("data"), str):
                unpack_spool_data(event["data"])
    transcript = _transcript()
    for number, piece in enumerate(cuts(data, places)):
        transcript.feed(Chunk(data=piece, position=str(number), time=1.0), now=1.0)
    transcript.end(now=2.0)
    transcript.take(now=2.0)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _transcript() -> Transcript:
    progress = ProgressTracker()
    known = Known(
        cursor=Cursor(),
        series={},
        events=0,
        printed=PrintedSeries(progress),
        progress=progress,
        has_frames=None,
    )
    return Transcript(known, read_spool=lambda segment: None)


def _frame_line(seq: int, body: dict[str, Any]) -> bytes:
    payload = json.dumps(body).encode("ascii")
    return b"\n\x1eMLS1 %d %08x %s\n" % (seq, zlib.crc32(payload), payload)


# -- event files ------------------------------------------------------------------------------------------------------


def _files(store: str, ending: str) -> list[bytes]:
    with tarfile.open(
        fileobj=io.BytesIO(gzip.decompress((RECORDED / f"{store}.tar.gz").read_bytes()))
    ) as tar:
        found = []
        for member in tar.getmembers():
            file = tar.extractfile(member)
            if file is not None and ending in member.name:
                found.append(file.read())
        return found


@cache
def _event_payloads() -> list[bytes]:
    found: dict[bytes, None] = {}
    for data in _files("tensorboard", ".tfevents."):
        place = 0
        while place + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            payload = data[place + 12 : place + 12 + length]
            if len(payload) < 3000:
                found[payload] = None
            place += length + 16
    by_size = sorted(found, key=len)
    return by_size[:: max(1, len(by_size) // 200)] + by_size[-40:]


def _event_inputs() -> st.SearchStrategy[Any]:
    files = _files("tensorboard", ".tfevents.")
    payloads = st.lists(mutated(_event_payloads()), min_size=1, max_size=4)
    return st.tuples(mutated(files), payloads, PLACES)


def _record(payload: bytes) -> bytes:
    head = struct.pack("<Q", len(payload))
    return head + struct.pack("<I", masked_crc32c(head)) + payload + b"\0\0\0\0"


def _take_events(drawn: tuple[bytes, list[bytes], list[int]]) -> None:
    raw, payloads, places = drawn
    records = b"".join(map(_record, payloads))
    for data in (raw, records):
        reader = EventReader()
        for piece in cuts(data, places):
            reader.feed(piece)
        assert reader.pending <= len(data)
        if data is records:
            assert not reader.damaged
            assert reader.pending == 0
    intake = Intake()
    file = EventFile("/tmp/x/events.out.tfevents.1.host", intake, TagNames())
    for piece in cuts(records, places):
        file.feed(piece)
    _check(intake)


def _check(intake: Intake) -> None:
    points, events = intake.take()
    for (logger, name), columns in points.items():
        assert logger
        assert len(name) <= 2000
        assert len(columns.steps) == len(columns.times) == len(columns.values)
    # What goes on the wire must be JSON, and strict.
    json.dumps(events, allow_nan=True)


# -- W&B's files ------------------------------------------------------------------------------------------------------


@cache
def _wandb_payloads() -> list[bytes]:
    found: list[bytes] = []
    for data in _files("wandb", ".wandb"):
        place = 7
        while place + 7 <= len(data):
            _, length, kind = struct.unpack_from("<IHB", data, place)
            if kind == 1 and length < 3000:
                found.append(data[place + 7 : place + 7 + length])
            place += 7 + length
            if not length and not kind:
                break
    return found


def _wandb_inputs() -> st.SearchStrategy[Any]:
    files = _files("wandb", ".wandb")
    payloads = st.lists(mutated(_wandb_payloads()), min_size=1, max_size=4)
    return st.tuples(mutated(files, most=8000), payloads, PLACES)


def _take_wandb(drawn: tuple[bytes, list[bytes], list[int]]) -> None:
    raw, payloads, places = drawn
    records = b":W&B\xe1\xbe\x00"
    for whole in payloads:
        payload = whole[:30_000]
        left = 32768 - len(records) % 32768
        if left < 7 + len(payload):
            records += bytes(left)
        check = zlib.crc32(payload, zlib.crc32(b"\x01"))
        records += struct.pack("<IHB", check, len(payload), 1) + payload
    for data in (raw, records):
        reader = WandbReader()
        for piece in cuts(data, places):
            reader.feed(piece)
        if data is records:
            assert not reader.damaged, reader.damaged
    intake = Intake()
    file = WandbFile(_wandb_path(), intake, RunNames())
    for piece in cuts(records, places):
        file.feed(piece)
    file.end()
    _check(intake)


@cache
def _wandb_path() -> str:
    return str(Path(tempfile.gettempdir()) / "no-such-folder" / "run-x.wandb")


# -- printed lines ----------------------------------------------------------------------------------------------------

_LINES = (
    b"Epoch 3/10 - loss: 0.12 - val_loss: 0.3",
    b"epoch 3 loss 0.12 acc 91%",
    b"{'loss': 0.5, 'grad_norm': 1.25, 'learning_rate': 5e-05, 'epoch': 0.1}",
    b'{"step": 10, "train/loss": 0.25, "nested": {"a": 1}}',
    b" 45%|####5     | 45/100 [00:03<00:04, 12.3it/s, loss=0.12]",
    b"Loss: 0.0008 after 1021 batches",
    b"[12]\tvalidation_0-logloss:0.1234\tvalidation_1-auc:0.98",
    b"tensor(0.1234, device='cuda:0', grad_fn=<NllLossBackward0>)",
    b"1563/1563 [==============================] - 5s 3ms/step - loss: 0.2 - accuracy: 0.9",
    "Epoche 3: Verlust = 1,5 · Größe 12 µm \u202e\u0000".encode(),
)


def _line_inputs() -> st.SearchStrategy[Any]:
    return st.one_of(
        mutated(_LINES),
        st.binary(max_size=300),
        st.text(max_size=300).map(_encoded),
    )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _take_line(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = parse_line(text)
    for name, value in found.values.items():
        assert name
        assert len(name) <= 500
        assert isinstance(value, float)
    if found.epoch is not None:
        assert not math.isnan(found.epoch)
    series = PrintedSeries(ProgressTracker())
    lines = data + b"\nloss 1\n"
    points = series.feed(lines, [(False, len(lines), 1.0)])
    assert all(-(2**63) <= point.step < 2**63 for point in points)


# -- filters ----------------------------------------------------------------------------------------------------------

_FILTERS = (
    b'lr < 1e-3 and val.acc.max > 0.9 and "cnn" in tags and started > "2 days ago"',
    b"not (0.1 <= loss < 1 or state in (failed, lost)) cnn",
    b"name ~ 'res*' and duration > 1h30m or `odd name!` is not missing",
    b'param.lr != 10k metric.loss.min is nan note contains "a \\" b" progress > 50%',
)


@cache
def _history() -> History:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    history = History(folder / "history.db")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for number in range(3):
        history.add_run(
            RunSpec(command=("python", "train.py"), tags=("cnn",)),
            run_id=f"{number:032x}",
            name=f"cnn-{number}",
            created=1000.0 + number,
            engine_kind="docker",
            parameters=(("lr", "0.1"), ("odd name!", "x")),
        )
        column = array("d", [1.0])
        points = tuple(
            Points(name=name, kind="metric", steps=array("q", [1]), times=column, values=column)
            for name in ("loss", "val/acc")
        )
        history.apply(f"{number:032x}", Batch(cursor=Cursor(seq=0, position="0"), points=points))
    return history


def _filter_inputs() -> st.SearchStrategy[Any]:
    texts = st.one_of(
        mutated(_FILTERS).map(lambda data: data.decode("utf-8", "replace")), st.text(max_size=200)
    )
    return st.tuples(texts, st.integers(0, 300))


def _take_filter(drawn: tuple[str, int]) -> None:
    text, place = drawn
    history = _history()
    refused: QueryError | None = None
    try:
        history.runs(where=text, limit=5)
    except QueryError as error:
        refused = error
    assert refused is None or (refused.what and 0 <= refused.start < refused.end)
    found = history.complete(text, place)
    assert 0 <= found.start <= found.end <= len(text)


TARGETS: Sequence[Target] = (
    Target("wire", _wire_inputs, _take_wire),
    Target("event files", _event_inputs, _take_events),
    Target("wandb files", _wandb_inputs, _take_wandb),
    Target("printed lines", _line_inputs, _take_line),
    Target("filters", _filter_inputs, _take_filter),
)
