"""What waits for a frame is counted as it will stand there, so that no frame grows larger than readers take."""

from __future__ import annotations

from array import array

from mlstudio.probe.frames import encode_frame, encode_points
from mlstudio.probe.intake import MAX_WAITING_BYTES, Intake
from mlstudio.probe.wire import MAX_FRAME_BYTES, parse_frame


def test_many_long_names_make_a_frame_due() -> None:
    intake = Intake()
    count = 0
    while not intake.is_full:
        name = "\N{GRINNING FACE}" * 990 + f"{count:>10}"
        intake.points("mlflow", name, array("q", [1]), array("d", [1.0]), array("d", [1.0]))
        count += 1
    assert count < MAX_WAITING_BYTES // 10_000
    points, _ = intake.take()
    entries = [
        encode_points(name, "metric", one.steps, one.times, one.values, logger=logger)
        for (logger, name), one in points.items()
    ]
    line = encode_frame(0, {"t": 0, "log": {"n": 0, "spans": []}, "series": entries})
    assert len(line) < MAX_FRAME_BYTES
    assert parse_frame(line.rstrip(b"\n")) is not None


def test_long_words_of_events_make_a_frame_due() -> None:
    intake = Intake()
    count = 0
    while not intake.is_full:
        intake.event({"type": "param", "name": f"p{count}", "value": "\x01" * 60_000})
        count += 1
    _, events = intake.take()
    line = encode_frame(0, {"t": 0, "log": {"n": 0, "spans": []}, "events": events})
    assert parse_frame(line.rstrip(b"\n")) is not None
