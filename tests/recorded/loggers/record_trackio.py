"""Records a project with the trackio that is installed: `python record_trackio.py FOLDER`."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path

from pack import pack, plain  # type: ignore[import-not-found]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRACKIO_DIR"] = folder
        trackio = importlib.import_module("trackio")
        numpy = importlib.import_module("numpy")
        for place in range(2):
            run = trackio.init(
                project="digits",
                name=f"trial-{place}",
                config={"lr": 0.1, "model": {"depth": place}, "tags": ["a", 1]},
            )
            for step in range(12):
                trackio.log({"loss": 1 / (step + 1 + place), "val": {"acc": step / 12}, "epoch": step // 4})
            trackio.log({"odd": float("nan"), "word": "text"}, step=50)
            trackio.log({"odd": float("inf")}, step=60)
            trackio.log({"weights": trackio.Histogram([0.0, 1.0, 1.0, 3.0])}, step=61)
            pixels = numpy.zeros((4, 6, 3), dtype="uint8")
            trackio.log({"picture": trackio.Image(pixels, caption="black")}, step=62)
            trackio.log({"table": trackio.Markdown("# hello")}, step=63)
            run.finish()
        runs = {}
        storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
        for name in storage.get_runs("digits"):
            logs = storage.get_logs("digits", name)
            series: dict[str, list[list[object]]] = {}
            for row in logs:
                for key, value in row.items():
                    if key not in ("step", "timestamp") and isinstance(value, int | float):
                        series.setdefault(key, []).append([row["step"], row["timestamp"], plain(value)])
            runs[name] = {"series": series, "config": storage.get_run_config("digits", name)}
        store = Path(folder)
        for path in store.rglob("*.lock"):
            path.unlink()
        pack(store, Path(sys.argv[1]), "trackio", {"version": trackio.__version__, "runs": runs})


main()
