"""Packs a recorded store and what its own tool reads in it. Points are [step, time, value]."""

from __future__ import annotations

import gzip
import json
import math
import tarfile
from pathlib import Path
from typing import Any


def plain(value: float) -> float | str:
    """A number as strict JSON takes it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def pack(store: Path, out: Path, name: str, expected: dict[str, Any]) -> None:
    """Write NAME.tar.gz of the folder `store` and NAME.expected.json into `out`; the same bytes for the same files."""
    out.mkdir(parents=True, exist_ok=True)
    with (
        (out / f"{name}.tar.gz").open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, 0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(store.rglob("*")):
            if path.is_file() and not path.is_symlink():
                tar.add(path, str(path.relative_to(store)))
    (out / f"{name}.expected.json").write_text(json.dumps(expected, indent=None, sort_keys=True) + "\n")
