"""A bench on which probes are run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.probe.runs import Bench, can_have_its_own_pids


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The probe as a plain process, as the process engine starts it."""
    made = Bench(tmp_path / "root")
    yield made
    made.close()


@pytest.fixture(params=["plain", "init"] if can_have_its_own_pids() else ["plain"])
def each_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """The probe as a plain process and, where this machine allows it, as process 1 as in a container."""
    made = Bench(tmp_path / "root", as_init=request.param == "init")
    yield made
    made.close()
