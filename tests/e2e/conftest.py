"""The program as a person uses it: its command line, in processes of their own, on an empty home and a real engine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlstudio.engines.engine import CanBuild, Engine
from mlstudio.model.errors import NotFound, WorldError

BASES = ("mlstudio-base/python:3.11-bookworm", "python:3.11-slim-bookworm")
EXAMPLES = Path(__file__).parents[2] / "resources" / "examples"


@dataclass
class Program:
    """`mlstudio` on one home."""

    home: Path

    @property
    def words(self) -> list[str]:
        return [sys.executable, "-P", "-m", "mlstudio"]

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "MLSTUDIO_HOME": str(self.home), **more}

    def __call__(
        self, *words: str | Path, expect: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its exit code must be `expect`."""
        done = subprocess.run(
            [*self.words, *map(str, words)],
            env=self.environment(**environment),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == expect, (
            f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def json(self, *words: str | Path) -> Any:
        """The document that a command prints with ``--json``."""
        return json.loads(self(*words, "--json").stdout)

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command and do not wait for it."""
        return subprocess.Popen(
            [*self.words, *map(str, words)],
            env=self.environment(**environment),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(self) -> Any:
        """The newest run."""
        return self.json("ls", "--all")["runs"][0]

    def points(self, number: int = 1) -> dict[str, tuple[list[int], list[float]]]:
        """Every point of a run: name → (steps, values)."""
        series = self.json("metrics", str(number))["series"]
        return {entry["name"]: (entry["steps"], entry["values"]) for entry in series}

    def recorders(self) -> list[psutil.Process]:
        """The recorder's processes of this home."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "recorder" in words and str(self.home) in words:
                found.append(process)
        return found


@pytest.fixture
def program(home: Path, engine: Engine) -> Iterator[Program]:
    """The program on an empty home. What it started and built is removed again."""
    made = Program(home)
    yield made
    runs = made.json("ls", "--all")["runs"]
    if runs:
        made("rm", "--yes", "--force", *(str(run["number"]) for run in runs))
    assert isinstance(engine, CanBuild)
    for tag in sorted({run["image_tag"] for run in runs if run["image_tag"].startswith("mlstudio/")}):
        # The same recipe is the same image: another home may have a run of it.
        with contextlib.suppress(WorldError, NotFound):
            engine.remove_image(tag)


@pytest.fixture
def base_image(engine: Engine) -> str:
    """An image that holds Python and little else."""
    assert isinstance(engine, CanBuild)
    for reference in BASES:
        if engine.image(reference) is not None:
            return reference
    pytest.fail("There is no base image: docker/engine bases fetches or makes one.", pytrace=False)


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of code: ``project(train="print(1)", requirements="numpy")``."""

    def make(*, train: str, requirements: str = "") -> Path:
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "train.py").write_text(train, encoding="utf-8")
        if requirements:
            (folder / "requirements.txt").write_text(requirements, encoding="utf-8")
        return folder

    return make
