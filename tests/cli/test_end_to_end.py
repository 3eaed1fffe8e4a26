"""The command line with a real engine: from a folder with a script to every point in the history."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]

SCRIPT = """
import argparse, math, sys, time
import mlstudio

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--sleep", type=float, default=0.0)
parser.add_argument("--fail", type=int, default=0)
options = parser.parse_args()
mlstudio.param("seed", 7)
for step in range(options.steps):
    mlstudio.log(step=step, loss=1 / (1 + step), odd=[math.nan, math.inf, -math.inf, 0.5][step % 4])
    time.sleep(options.sleep)
print("trained", flush=True)
print("to the other stream", file=sys.stderr, flush=True)
sys.exit(options.fail)
"""


@pytest.fixture
def project(tmp_path: Path, home: Path) -> Iterator[Path]:
    """A small project; what was run and built of it is removed again."""
    folder = tmp_path / "small-project"
    folder.mkdir()
    # Its own words every time, so that no test finds another's image.
    (folder / "train.py").write_text(SCRIPT + f"\n# {uuid.uuid4().hex}\n")
    (folder / "requirements.txt").write_text("")
    yield folder
    runs = ask(home, "ls", "--all")["runs"]
    if runs:
        call(home, "rm", "--yes", "--force", *(run["id"] for run in runs))
    known = [image["tag"] for image in ask(home, "images", "list")["images"] if image["recipe_digest"]]
    if known:
        call(home, "images", "rm", "--yes", *known)


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mlstudio", "--home", str(home), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def call(home: Path, *words: str, expected: int = 0) -> subprocess.CompletedProcess[str]:
    process = start(home, *words)
    out, err = process.communicate(timeout=240)
    assert process.returncode == expected, f"{words}\n{out}\n{err}"
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def ask(home: Path, *words: str, expected: int = 0) -> Any:
    place = words.index("--") if "--" in words else len(words)
    return json.loads(call(home, *words[:place], "--json", *words[place:], expected=expected).stdout)


def series(home: Path, run: str, name: str) -> dict[str, Any]:
    (found,) = [entry for entry in ask(home, "metrics", run)["series"] if entry["name"] == name]
    assert isinstance(found, dict)
    return found


def test_every_point_of_a_run_arrives(home: Path, project: Path) -> None:
    words = ("run", str(project), "--param", "steps=40")
    result = call(home, *words, "--", "--sleep", "0.001")
    assert "trained" in result.stdout
    assert "to the other stream" in result.stderr
    assert "small-project-1 succeeded" in result.stderr

    loss = series(home, "1", "loss")
    assert loss["steps"] == list(range(40))
    assert loss["values"] == [1 / (1 + step) for step in range(40)]
    assert series(home, "small-project-1", "odd")["values"] == ["NaN", "Infinity", "-Infinity", 0.5] * 10

    shown = ask(home, "show", "1")
    run = shown["run"]
    assert run["state"] == "succeeded"
    assert run["exit"]["code"] == 0
    assert run["parameters"] == {"steps": "40", "sleep": "0.001", "seed": "7"}
    assert run["image_id"].startswith("sha256:")
    assert run["tree_hash"].startswith("sha256:")
    assert any(package["manager"] == "apt" for package in shown["packages"])
    assert shown["dockerfile"].startswith("FROM") or "\nFROM" in shown["dockerfile"]
    lines = ask(home, "logs", "1")["lines"]
    assert [line["text"] for line in lines if not line["is_error_stream"]] == ["trained"]


def test_the_second_time_nothing_is_built(home: Path, project: Path) -> None:
    call(home, "build", str(project))
    first = call(home, "build", str(project), "--print").stdout
    plan = ask(home, "build", str(project), "--dry-run")
    assert plan["is_built"]
    assert {layer["cached"] for layer in plan["layers"]} == {"cached"}
    assert call(home, "build", str(project), "--print").stdout == first
    (project / "train.py").write_text((project / "train.py").read_text() + "# edited\n")
    plan = ask(home, "build", str(project), "--dry-run")
    assert not plan["is_built"]
    assert plan["layers"][-1]["cached"] != "cached"


def test_mounted_code_needs_no_build_after_an_edit(home: Path, project: Path) -> None:
    call(home, "run", str(project), "--travel", "mounted", "--", "--steps", "3")
    (project / "train.py").write_text(SCRIPT.replace("trained", "trained anew"))
    result = call(home, "run", str(project), "--travel", "mounted", "--", "--steps", "4")
    assert "trained anew" in result.stdout
    runs = {run["number"]: run for run in ask(home, "ls")["runs"]}
    assert runs[1]["image_id"] == runs[2]["image_id"]
    assert runs[1]["tree_hash"] != runs[2]["tree_hash"]
    assert len(series(home, "2", "loss")["steps"]) == 4


def test_the_scripts_exit_code_is_the_commands(home: Path, project: Path) -> None:
    result = call(home, "run", str(project), "--", "--fail", "3", "--steps", "5", expected=3)
    assert "failed" in result.stderr
    run = ask(home, "show", "1")["run"]
    assert (run["state"], run["exit"]["code"], run["exit"]["reason"]) == ("failed", 3, "error")
    assert len(series(home, "1", "loss")["steps"]) == 5


def test_two_launches_at_once(home: Path, project: Path) -> None:
    both = [start(home, "run", str(project), "--json", "--", "--steps", str(steps)) for steps in (11, 13)]
    outputs = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    runs = [json.loads(out)["run"] for out, _ in outputs]
    assert {run["number"] for run in runs} == {1, 2}
    counts = [len(series(home, run["id"], "loss")["steps"]) for run in runs]
    assert counts == [11, 13]


def test_a_run_is_stopped(home: Path, project: Path) -> None:
    run = ask(home, "run", str(project), "--detach", "--", "--steps", "100000", "--sleep", "0.01")["run"]
    assert wait_until(lambda: len(ask(home, "metrics", run["id"])["series"]) > 0, deadline_s=60, every_s=0.3)
    assert "stopped" in call(home, "stop", run["name"], "--grace", "5").stdout
    stopped = ask(home, "show", run["id"])["run"]
    assert (stopped["state"], stopped["exit"]["reason"]) == ("stopped", "stopped")
    call(home, "stop", run["name"])
    call(home, "rm", run["name"], expected=2)
    call(home, "rm", run["name"], "--yes")
    assert ask(home, "ls")["runs"] == []


def test_ctrl_c_stops_an_attached_run(home: Path, project: Path) -> None:
    process = start(home, "run", str(project), "--", "--steps", "100000", "--sleep", "0.01")
    try:
        assert wait_until(
            lambda: any(run["metrics"] for run in ask(home, "ls")["runs"]), deadline_s=120, every_s=0.3
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, (out, err)
    assert ask(home, "show", "1")["run"]["state"] == "stopped"


def test_a_package_that_does_not_exist_is_explained(home: Path, project: Path) -> None:
    (project / "requirements.txt").write_text("no-such-package-zq==1.0\n")
    began = time.monotonic()
    error = ask(home, "run", str(project), expected=3)["error"]
    assert time.monotonic() - began < 200
    assert error["kind"] == "build"
    assert error["diagnosis"]["rule"] != "unknown"
    assert error["what"]
    assert error["try_this"]
    run = ask(home, "show", "1")["run"]
    assert (run["state"], run["exit"]["reason"]) == ("failed", "build-failed")
    assert run["exit"]["message"]


def test_an_image_that_does_not_exist_is_explained(home: Path) -> None:
    error = ask(home, "run", "--image", "mlstudio-no-such-image:1", "--", "true", expected=3)["error"]
    assert "mlstudio-no-such-image" in error["what"] + error["why"]
