"""One studio: parts made when they are needed, and a history that stays locked while it is open."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstudio.engines.fake import FakeEngine
from mlstudio.model.errors import NotFound
from mlstudio.model.run import RunSpec
from mlstudio.services.recorder_control import RecorderControl
from mlstudio.services.studio import Studio


def test_parts_are_made_once_and_only_when_needed(home: Path) -> None:
    with Studio(home) as studio:
        assert not (home / "history.db").exists()
        assert studio.settings is studio.settings
        assert not (home / "history.db").exists()
        assert studio.runs is studio.runs
        assert (home / "history.db").exists()


def test_an_unknown_engine_names_the_known(home: Path) -> None:
    with Studio(home, engines={"local": FakeEngine("local")}) as studio, pytest.raises(NotFound) as caught:
        studio.engines.get("nonesuch")
    assert "local" in caught.value.try_this


def test_the_home_of_the_environment_is_taken(home: Path) -> None:
    with Studio() as studio:
        assert studio.home == home
        assert studio.settings.path == home / "settings.toml"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/locks")
def test_asking_for_a_recorder_leaves_the_history_locked(
    studio: Studio, spec_for: Callable[..., RunSpec]
) -> None:
    """A lock that is lost lets another process end the write-ahead log under us, which damages the history."""
    database = studio.home / "history.db"

    def locks() -> int:
        inode = database.stat().st_ino
        return sum(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())

    studio.runs.list()
    before = locks()
    assert before
    RecorderControl(studio.home).ensure()
    assert locks() == before
