"""One script for each logger, with the real libraries, in real containers: what is in the history is what the library has
stored, point for point. Nothing of ML Studio is in the scripts."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from mlstudio.engines.engine import CanBuild, Engine
from mlstudio.engines.registry import EngineRegistry
from mlstudio.model.errors import NotFound, WorldError
from mlstudio.model.run import MetricSummary
from mlstudio.services.recording.series_names import plain
from mlstudio.store import History
from tests.e2e.conftest import Program

HERE = Path(__file__).parent
SCRIPTS = sorted((HERE / "scripts").glob("with_*.py"))
_FASTAI = "fastai=="

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def local() -> Iterator[Engine]:
    registry = EngineRegistry(Path("/nonexistent"))
    try:
        yield registry.get("local")
    finally:
        registry.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, local: Engine) -> Iterator[Program]:
    """A home, and beside it a folder of code whose image has every library."""
    home = tmp_path_factory.mktemp("loggers") / "home"
    home.mkdir()
    project = home.parent / "project"
    project.mkdir()
    for script in SCRIPTS:
        shutil.copy(script, project)
    lines = [
        line
        for name in ("requirements.txt", "requirements-no-deps.txt")
        for line in (HERE / name).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    (project / "requirements.txt").write_text("\n".join(line for line in lines if _FASTAI not in line) + "\n")
    # Its requirements hold torchvision, and with that CUDA: it comes without them.
    fastai = next(line for line in lines if _FASTAI in line)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(project / "vendor"),
        fastai,
    ]
    subprocess.run(pip, check=True, capture_output=True)
    program = Program(home)
    yield program
    runs = program.json("ls", "--all")["runs"]
    if runs:
        program("rm", "--yes", "--force", *(str(run["number"]) for run in runs))
    assert isinstance(local, CanBuild)
    for tag in sorted({run["image_tag"] for run in runs if run["image_tag"].startswith("mlstudio/")}):
        with suppress(WorldError, NotFound):
            local.remove_image(tag)
    for recorder in program.recorders():
        recorder.terminate()


def run(lab: Program, script: Path) -> Any:
    project = lab.home.parent / "project"
    lab(
        "run", project / script.name, "--framework", "pytorch", "--variant", "cpu", "--python", "3.11",
        "--env", "PYTHONPATH=/work/vendor", "--name", script.stem,
    )  # fmt: skip
    return lab.run()


def stored(local: Engine, lab: Program, run_id: str) -> dict[str, dict[str, list[list[Any]]]]:
    """What the script says that the library has kept, read from its container."""
    with closing(History(lab.home / "history.db")) as history:
        handle = history.detail(run_id).handle
    found = json.loads(local.read_file(handle, "/work/stored.json"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem.removeprefix("with_"))
def test_what_the_library_stored_is_in_the_history(lab: Program, local: Engine, script: Path) -> None:
    done = run(lab, script)
    assert done["state"] == "succeeded"
    with closing(History(lab.home / "history.db")) as history:
        metrics = {metric.name: metric for metric in history.metrics(done["id"], kind="metric")}
        compared = 0
        for logger, series in stored(local, lab, done["id"]).items():
            for name, points in series.items():
                metric = _of(metrics, logger, name)
                assert metric is not None, f"{logger} has {name}; the history has {sorted(metrics)}"
                # A copy gives way to the series that says the same; its points are found there.
                found = history.series(done["id"], metric.same_as or metric.name)
                assert found.steps.tolist() == [step for step, _ in points], name
                assert all(
                    _same(value, wanted)
                    for value, (_, wanted) in zip(found.values.tolist(), points, strict=True)
                ), name
                compared += len(points)
        assert compared >= 20
        assert not history.gaps(done["id"])
        # Nobody is counted twice: what two loggers say is shown once.
        shown = [metric for metric in metrics.values() if not metric.same_as]
        assert len({plain(metric.name, metric.logger) for metric in shown}) == len(shown)


def _of(metrics: dict[str, MetricSummary], logger: str, name: str) -> MetricSummary | None:
    for metric in metrics.values():
        if metric.logger == logger and plain(metric.name, logger) == name:
            return metric
    return None


def _same(one: float, other: float | str) -> bool:
    wanted = float(other)
    return one == wanted or (math.isnan(one) and math.isnan(wanted))
