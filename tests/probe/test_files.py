"""Files of TensorBoard and W&B that a run writes: found, read as they grow, every point once; nothing of others'."""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from mlstudio.probe.wire import Frame, decode_points
from tests.conftest import wait_until
from tests.probe.runs import Bench, Outcome, Running, taken_apart
from tests.recorded.stores import expected, number, same, unpack

WRITER = """
import os, sys, time
source, target, cut = sys.argv[1], sys.argv[2], float(sys.argv[3])
data = open(source, "rb").read()
target = target.replace("PID", str(os.getpid())).replace("HOST", os.uname().nodename)
os.makedirs(os.path.dirname(target), exist_ok=True)
with open(target, "ab") as file:
    half = int(len(data) * cut)
    for place in range(0, half, 1000):
        file.write(data[place : min(half, place + 1000)])
        file.flush()
    print("half", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.02)
    file.write(data[half:])
print("done", flush=True)
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def start(bench: Bench, work: Path, source: Path, target: str, *, cut: float = 0.5) -> Running:
    (work / "writer.py").write_text(WRITER)
    return bench.start(
        [bench.python, "writer.py", str(source), target, str(cut)],
        workdir=str(work),
        env={"HOME": str(work), "TMPDIR": str(work)},
    )


def series(frames: tuple[Frame, ...], logger: str) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for frame in frames:
        for columns in decode_points(frame.body):
            if columns.kind == "metric":
                assert columns.logger == logger
                found.setdefault(columns.name, []).extend(zip(columns.steps, columns.values, strict=True))
    return found


def check(found: list[tuple[int, float]], rows: list[list[Any]]) -> None:
    assert [step for step, _ in found] == [row[0] for row in rows]
    assert all(same(value, number(row[-1])) for (_, value), row in zip(found, rows, strict=True))


def media(outcome: Outcome) -> list[dict[str, Any]]:
    return outcome.events("media")


def content(event: dict[str, Any]) -> bytes:
    data = base64.b64decode(event["data"][1:])
    return zlib.decompress(data) if event["data"][0] == "z" else data


@pytest.mark.parametrize("target", ["runs/exp/events.out.tfevents.1700000000.HOST.PID.0", "x/y.tfevents.z"])
# As a plain process: only in a container is everything below /tmp the run's own (tests/loggers).
def test_an_event_file_arrives_while_it_grows(bench: Bench, work: Path, tmp_path: Path, target: str) -> None:
    (source,) = (unpack("tensorboard", tmp_path) / "exp" / "tf2").iterdir()
    running = start(bench, work, source, target)
    running.wait_for(b"half")
    assert wait_until(lambda: bool(series(taken_apart(running.output)[0], "tensorboard")), deadline_s=20)
    early = series(taken_apart(running.output)[0], "tensorboard")
    wanted = expected("tensorboard")["runs"]["exp/tf2"]
    assert 0 < len(early["epoch_loss"]) < len(wanted["epoch_loss"])
    (work / "go").touch()
    outcome = running.end()
    outcome.check()
    found = series(outcome.frames, "tensorboard")
    assert set(found) == set(wanted)
    for name, rows in wanted.items():
        check(found[name], rows)
    (told,) = outcome.events("logger")
    assert told["logger"] == "tensorboard"


def test_histograms_images_texts_and_hyperparameters_arrive(bench: Bench, work: Path, tmp_path: Path) -> None:
    (source,) = [path for path in (unpack("tensorboard", tmp_path) / "exp" / "x").iterdir() if path.is_file()]
    running = start(bench, work, source, "runs/events.out.tfevents.1700000000.HOST.PID.0", cut=0.9)
    (work / "go").touch()
    outcome = running.end()
    outcome.check()
    found = series(outcome.frames, "tensorboard")
    for name, rows in expected("tensorboard")["runs"]["exp/x"].items():
        check(found[name], rows)
    kinds = {event["kind"] for event in media(outcome)}
    assert {"histogram", "image", "text"} <= kinds
    for event in media(outcome):
        data = content(event)
        if event["kind"] == "histogram":
            histogram = json.loads(data)
            assert len(histogram["edges"]) == len(histogram["counts"]) + 1
        elif event["kind"] == "image":
            assert data.startswith((b"\x89PNG", b"GIF8", b"\xff\xd8"))


def test_a_run_of_wandb_arrives_while_it_is_written(bench: Bench, work: Path, tmp_path: Path) -> None:
    folder = unpack("wandb", tmp_path) / "wandb"
    source = next(path for path in folder.rglob("*.wandb") if "abcd0000" in path.name)
    target = f"wandb/{source.parent.name}/{source.name}"
    (work / "wandb" / source.parent.name).mkdir(parents=True)
    (source.parent / "files").rename(work / "wandb" / source.parent.name / "files")
    running = start(bench, work, source, target, cut=0.6)
    running.wait_for(b"half")
    assert wait_until(lambda: bool(series(taken_apart(running.output)[0], "wandb")), deadline_s=20)
    (work / "go").touch()
    outcome = running.end()
    outcome.check()
    found = series(outcome.frames, "wandb")
    for name, rows in expected("wandb")["runs"]["abcd0000"]["series"].items():
        check(found[name], rows)
    parameters = {event["name"]: event["value"] for event in outcome.events("param")}
    assert parameters["lr"] == 0.001
    assert "s3cr3t" not in str(outcome.output)
    assert {event["tag"] for event in outcome.events("tag")} == {"small", "cnn"}
    assert {"image", "table"} <= {event["kind"] for event in media(outcome)}


@pytest.mark.parametrize(("folders", "files"), [(11, 2000), (5500, 0)])
def test_the_own_folder_comes_before_a_full_one_around_it(
    bench: Bench, tmp_path: Path, folders: int, files: int
) -> None:
    """What lies around the run's folder may be too much to look through."""
    work = tmp_path / "home" / "z" / "work"
    for folder in range(folders):
        (tmp_path / "home" / f"a{folder}").mkdir(parents=True)
        for file in range(files):
            (tmp_path / "home" / f"a{folder}" / str(file)).touch()
    work.mkdir(parents=True)
    (source,) = (unpack("tensorboard", tmp_path) / "exp" / "tf2").iterdir()
    (work / "copy.py").write_text(
        "import os, shutil, sys, time\n"
        "while not os.path.exists('go'): time.sleep(0.02)\n"
        "name = f'events.out.tfevents.1700000000.{os.uname().nodename}.{os.getpid()}.0'\n"
        "os.mkdir('runs'); shutil.copyfile(sys.argv[1], 'runs/' + name)\n"
    )
    running = bench.start(
        [bench.python, "copy.py", str(source)], workdir=str(work), env={"HOME": str(tmp_path / "home")}
    )
    # What it finds at first fills what it remembers.
    assert wait_until(lambda: len(taken_apart(running.output)[0]) > 12, deadline_s=20)
    (work / "go").touch()
    outcome = running.end()
    outcome.check()
    assert set(series(outcome.frames, "tensorboard")) == set(expected("tensorboard")["runs"]["exp/tf2"])


def test_of_a_file_that_was_there_before_only_what_is_new_is_read(
    bench: Bench, work: Path, tmp_path: Path
) -> None:
    (source,) = (unpack("tensorboard", tmp_path) / "exp" / "tf2").iterdir()
    data = source.read_bytes()
    wanted = expected("tensorboard")["runs"]["exp/tf2"]["epoch_loss"]
    # Cut between two records: those before it belong to an earlier run.
    place, records = 0, []
    while place < len(data):
        records.append(place)
        place += 16 + int.from_bytes(data[place : place + 8], "little")
    cut = records[len(records) // 2]
    old = work / "runs" / "events.out.tfevents.1600000000.elsewhere.5.0"
    old.parent.mkdir()
    old.write_bytes(data[:cut])
    other = work / "runs" / "events.out.tfevents.1600000000.elsewhere.6.0"
    other.write_bytes(data)
    for path in (old, other):
        os.utime(path, (1.6e9, 1.6e9))
    rest = tmp_path / "rest"
    rest.write_bytes(data[cut:])
    # The script takes its time, so that the old file is seen before it grows.
    (work / "slow.py").write_text(f"import time; time.sleep(2)\n{WRITER}")
    running = bench.start(
        [bench.python, "slow.py", str(rest), str(old), "0.5"],
        workdir=str(work),
        env={"HOME": str(work), "TMPDIR": str(work)},
    )
    assert wait_until(lambda: bool(series(taken_apart(running.output)[0], "tensorboard")), deadline_s=20)
    (work / "go").touch()
    outcome = running.end()
    outcome.check()
    found = series(outcome.frames, "tensorboard")["epoch_loss"]
    assert 0 < len(found) < len(wanted)
    check(found, wanted[-len(found) :])


def test_links_and_devices_are_not_followed(bench: Bench, work: Path, tmp_path: Path) -> None:
    (source,) = (unpack("tensorboard", tmp_path) / "exp" / "tf2").iterdir()
    outcome = bench.script(
        "import os, time\n"
        f"os.symlink({str(source)!r}, 'events.out.tfevents.1.link')\n"
        "os.mkfifo('events.out.tfevents.2.pipe')\n"
        "os.mkdir('events.out.tfevents.3.folder')\n"
        "os.symlink('.', 'again')\n"
        "time.sleep(1.5)",
        workdir=str(work),
        env={"HOME": str(work), "TMPDIR": str(work)},
    )
    assert not series(outcome.frames, "tensorboard")
    assert outcome.exit["code"] == 0


def test_a_damaged_file_is_said_and_the_others_go_on(bench: Bench, work: Path, tmp_path: Path) -> None:
    (source,) = (unpack("tensorboard", tmp_path) / "exp" / "tf2").iterdir()
    broken = bytearray(source.read_bytes())
    broken[len(broken) // 2 : len(broken) // 2 + 200] = bytes(200)
    (tmp_path / "broken").write_bytes(broken)
    outcome = bench.script(
        "import os, shutil, time\n"
        "name = 'events.out.tfevents.1.%s.%d.0' % (os.uname().nodename, os.getpid())\n"
        "os.mkdir('a'); os.mkdir('b')\n"
        f"shutil.copyfile({str(tmp_path / 'broken')!r}, 'a/' + name)\n"
        f"shutil.copyfile({str(source)!r}, 'b/' + name)\n"
        "time.sleep(1)",
        workdir=str(work),
        env={"HOME": str(work), "TMPDIR": str(work)},
    )
    assert any("damaged" in event["message"] for event in outcome.events("warning"))
    wanted = expected("tensorboard")["runs"]["exp/tf2"]["epoch_loss"]
    assert any(len(points) == len(wanted) for points in series(outcome.frames, "tensorboard").values())


def test_a_run_that_logs_to_no_files_pays_nothing(bench: Bench, work: Path) -> None:
    outcome = bench.script("print('hello')", workdir=str(work))
    assert outcome.log == b"hello\n"
    assert outcome.events("logger") == []
    assert outcome.events("lacks") == []
