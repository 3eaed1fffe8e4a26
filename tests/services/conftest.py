"""A studio on a temporary home with an engine in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlstudio.engines.fake import FakeContainer, FakeEngine
from mlstudio.model.code import CodeSource
from mlstudio.model.image import ImageSpec
from mlstudio.model.run import RunSpec
from mlstudio.services.studio import Studio

BASE = "python:3.11-slim-bookworm"


class NoRecorder:
    """Stands in for the recorder's control: these tests look at what the services themselves write."""

    def __init__(self) -> None:
        self.ensured = 0

    def ensure(self) -> bool:
        self.ensured += 1
        return False


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    """An engine whose short looks (the import after a build) succeed and whose runs wait for the test."""

    def program(container: FakeContainer) -> int:
        if container.spec.run_id.startswith("smoke-"):
            return 0
        container.wait_for_stop(30)
        return 143

    engine = FakeEngine("local", program=program)
    yield engine
    engine.close()


@pytest.fixture
def studio(home: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio that knows one engine, finds no pip settings on this machine, and starts no recorder."""
    for name in (
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_CERT",
        "HTTPS_PROXY",
        "https_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    with Studio(home, engines={"local": fake}) as made:
        made.settings.set("pip.discover", False)
        made._parts["recorder"] = NoRecorder()
        yield made


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A small project."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("import numpy\nprint(1)\n")
    (folder / "requirements.txt").write_text("numpy==2.1.0\n")
    return folder


@pytest.fixture
def spec_for(code: Path) -> Callable[..., RunSpec]:
    """Makes the spec of a run of `code`."""

    def make(*words: str, **more: object) -> RunSpec:
        return RunSpec(
            command=("python", "train.py", *words),
            code=CodeSource(folder=str(code)),
            image=ImageSpec(framework="python", python="3.11"),
            **more,  # type: ignore[arg-type]
        )

    return make
