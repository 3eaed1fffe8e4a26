"""The recorded stores of other tools, unpacked, and what these tools themselves read in them."""

from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).with_name("loggers")


def unpack(name: str, into: Path) -> Path:
    """Unpack the store `name`; returns its folder."""
    folder = into / name
    folder.mkdir()
    with tarfile.open(HERE / f"{name}.tar.gz") as packed:
        packed.extractall(folder, filter="data")
    return folder


def expected(name: str) -> dict[str, Any]:
    """What the tool's own reader found."""
    found = json.loads((HERE / f"{name}.expected.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def number(value: float | str) -> float:
    """A value as the files have it: words for what JSON cannot say."""
    return float(value)


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
