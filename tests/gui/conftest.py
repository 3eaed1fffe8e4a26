"""A window over a real history in a temporary home, without a screen and without a recorder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from mlstudio.engines.engine import Engine
from mlstudio.gui.application import open_window
from mlstudio.gui.bridge import Bridge
from mlstudio.gui.shell import Shell
from mlstudio.gui.theme.theme import Theme
from mlstudio.model.host import EngineKind, EngineStatus
from mlstudio.model.launch import Chunk, LaunchSpec, Observation, Phase
from mlstudio.services.studio import Studio
from tests.gui.seed import seed

DEADLINE_MS = 8000


def pytest_itemcollected(item: pytest.Item) -> None:
    # Qt's offscreen platform warns of every top-level widget that states a size; there is nothing to mend.
    item.add_marker(pytest.mark.qt_log_ignore("does not support propagateSizeHints", extend=True))


class IdleEngine:
    """An engine that is well and has no containers."""

    name = "local"
    kind = EngineKind.FAKE

    def __init__(self) -> None:
        self.stopped: list[str] = []

    def check(self) -> EngineStatus:
        return EngineStatus(name=self.name, kind=self.kind, version="1.0")

    def launch(self, spec: LaunchSpec) -> str:
        raise AssertionError("No test of the window launches through this engine.")

    def inspect(self, handle: str) -> Observation:
        return Observation(phase=Phase.GONE)

    def find(self, run_id: str) -> str | None:
        return None

    def follow(
        self, handle: str, position: str = "", *, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Chunk]:
        return iter(())

    def stop(self, handle: str, *, grace_s: float = 10.0) -> None:
        self.stopped.append(handle)

    def remove(self, handle: str) -> None:
        pass

    def read_file(self, handle: str, path: str) -> bytes:
        return b""

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def theme(qapp: QApplication) -> Theme:
    return Theme(qapp, preference="light")


@pytest.fixture
def idle_engine() -> IdleEngine:
    return IdleEngine()


@pytest.fixture
def studio(home: Path, idle_engine: IdleEngine) -> Iterator[Studio]:
    engine: Engine = idle_engine
    with Studio(home, engines={"local": engine}) as made:
        yield made


@pytest.fixture
def run_ids(studio: Studio) -> Sequence[str]:
    """Twelve runs in the history (see `tests.gui.seed`)."""
    return seed(studio.history, now=time.time())


@pytest.fixture
def bridge(qapp: QApplication, studio: Studio) -> Iterator[Bridge]:
    made = Bridge(studio, keep_recorder=False)
    yield made
    made.close()


@pytest.fixture
def shell(qapp: QApplication, qtbot: QtBot, studio: Studio) -> Iterator[Shell]:
    """The whole window, 1440 by 900. Ask for `run_ids` before it for a history that is not empty."""
    with open_window(qapp, studio, keep_recorder=False) as window:
        window.resize(1440, 900)
        window.show()
        qtbot.waitExposed(window)
        yield window
