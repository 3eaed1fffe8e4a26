"""Two hundred faults on every run of the tests; thousands by `python -m tests.chaos`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.world import rage

FAULTS = int(os.environ.get("MLSTUDIO_CHAOS", "200")) // 2
SEED = 20_261_123


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> None:
    """In place of the check after every test: a world ends its own processes."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: containerd's sockets lie in it, and their paths may have 104 characters."""
    made = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.own_engine
@pytest.mark.timeout(1200 + 6 * FAULTS)
@pytest.mark.parametrize("live_restore", [True, False], ids=["engine killed", "engine restarted"])
def test_nothing_is_lost_and_nothing_is_there_twice(folder: Path, live_restore: bool) -> None:
    told: list[str] = []
    found = rage(
        folder / "world",
        faults=FAULTS,
        seed=SEED + live_restore,
        live_restore=live_restore,
        say=told.append,
    )
    assert not found.problems, "\n".join([*told, *found.problems])
    assert sum(found.faults.values()) == FAULTS
    assert len(found.faults) >= 6
    assert found.runs >= FAULTS // 10
    assert found.points > 10_000
