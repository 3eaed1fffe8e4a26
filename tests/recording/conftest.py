"""A history to record into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlstudio.store import History


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "history.db")
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """One for many small runs: hypothesis makes hundreds."""
    made = History(tmp_path_factory.mktemp("shared") / "history.db")
    yield made
    made.close()
