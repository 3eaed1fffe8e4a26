"""A little of `python -m tests.fuzz` on every run of the tests."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.running import MOST_BYTES, MOST_SECONDS, fuzz
from tests.fuzz.targets import TARGETS

INPUTS = int(os.environ.get("MLSTUDIO_FUZZ", "1500"))


@pytest.mark.parametrize("name", [target.name for target in TARGETS])
@pytest.mark.timeout(3600 if INPUTS > 5000 else 120)
def test_no_input_makes_a_reader_fail_hang_or_swell(name: str) -> None:
    found = fuzz(name, inputs=INPUTS, seed=1)
    assert not found.failure, found.failure
    assert found.inputs >= INPUTS * 0.9
    assert found.slowest_s < MOST_SECONDS
    assert found.grown_bytes < MOST_BYTES
