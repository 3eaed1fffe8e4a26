"""A history as large as asked for, and what it costs: sizes, and the time of each question while it grows.

`python -m benchmarks scale --runs 100000 --points 1e9 --home DIR` fills `DIR/history.db` with made-up runs (`scale_data`)
through the history's own methods, and measures at a hundredth, a tenth and the whole. What is there already is kept: a
second call only measures. Without options it is small.
"""

from __future__ import annotations

import argparse
import inspect
import json
import queue
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.harness import Comparison, Result
from benchmarks.scale_data import LONGEST, MadeRun, lengths, make_run
from mlstudio.store import History

RUNS, POINTS, SEED = 1_000, 1e6, 7
PAGE_AIM_MS = 50.0
_RUNS_AT_ONCE, _POINTS_AT_ONCE = 400, 4_000_000
_AHEAD = 100

Question = Callable[[], object]

OPEN = """
import sys, time
from pathlib import Path
from mlstudio.store import History
import mlstudio.store.run_rows
began = time.perf_counter()
history = History(Path(sys.argv[1]))
history.runs(limit=50)
print(1000 * (time.perf_counter() - began))
history.close()
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scale", description="Fill a history and measure it as it grows."
    )
    parser.add_argument("--runs", type=int, default=RUNS, help="how many runs (default: %(default)s)")
    parser.add_argument("--points", type=float, default=POINTS, help="points in all (default: %(default)g)")
    parser.add_argument("--home", type=Path, help="folder for history.db; kept (default: a temporary one)")
    parser.add_argument("--rounds", type=int, default=9, help="of each question (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement to FILE")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() if options.home is None else nullcontext(options.home) as folder:
        report = grow(Path(folder), runs=options.runs, points=options.points, rounds=options.rounds)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2), encoding="utf-8")
    return 0


def compare(rounds: int) -> Comparison:
    """A small history: the page that people look at most, while it grows."""
    with tempfile.TemporaryDirectory() as folder:
        report = grow(Path(folder), runs=RUNS, points=POINTS, rounds=rounds)
    page = "filtered and sorted"
    stages: list[dict[str, Any]] = report["stages"]
    results = tuple(
        Result(f"{stage['runs']:,} runs", "ms", tuple(stage["times_ms"][page])) for stage in stages
    )
    return Comparison(
        name="scale",
        question="50 of N runs, filtered by a parameter, sorted by a metric",
        results=results,
        aim=f"at most {PAGE_AIM_MS:.0f} ms (now {results[-1].median:.1f})",
        met=results[-1].median <= PAGE_AIM_MS,
    )


def grow(home: Path, *, runs: int, points: float, rounds: int) -> dict[str, Any]:
    """Fill the history in `home` step by step, measure at each, print; all measurements."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "history.db"
    stages = []
    with closing(History(path)) as history:
        for share in (100, 10, 1):
            wanted = max(1, runs // share)
            if history.count(archived=True) > wanted:
                continue
            seconds = fill(history, wanted, runs=runs, points=points)
            stage = {"runs": wanted, "seconds_to_fill": seconds, **sizes(path)}
            stage["times_ms"] = times(history, rounds=rounds)
            stages.append(stage)
    if not stages:
        raise SystemExit(f"There are more than {runs:,} runs in {path}.")
    print(table(stages), flush=True)
    return {"points": points, "stages": stages}


# -- filling ----------------------------------------------------------------------------------------------------------


def fill(history: History, wanted: int, *, runs: int, points: float) -> float:
    """Add made-up runs until there are `wanted` of the `runs` which make so many points in all; seconds."""
    first = history.count(archived=True)
    began = said = time.perf_counter()
    total = 0
    steps = lengths(runs, points, seed=SEED).tolist()
    made = ahead((number, steps[number]) for number in range(first, wanted))
    number = first
    while number < wanted:
        with one_transaction(history):
            waiting = 0
            for _ in range(_RUNS_AT_ONCE):
                run = next(made, None)
                if run is None:
                    break
                record(history, run)
                number += 1
                waiting += run.points
                if waiting > _POINTS_AT_ONCE:
                    break
        total += waiting
        if time.perf_counter() - said > 15:
            said = time.perf_counter()
            print(f"{number:,} runs; {total / (said - began):,.0f} points/s", file=sys.stderr, flush=True)
    return time.perf_counter() - began


def record(history: History, run: MadeRun) -> None:
    """Put a run down as a launcher and a recorder would."""
    history.add_run(run.spec, run_id=run.id, name=run.name, created=run.created, engine_kind="docker")
    history.observe(run.id, started=run.started, host="benchmark")
    history.apply_many([(run.id, batch) for batch in run.batches])
    history.finish(run.id)
    history.observe(run.id, state=run.state, ended=run.ended, exit=run.exit)


@contextmanager
def one_transaction(history: History) -> Iterator[None]:
    """Let all changes that follow be one transaction: what a commit costs is not what is measured here."""
    database = history._database
    with database.write() as connection, patch.object(database, "write", lambda: nullcontext(connection)):
        yield


def ahead(wanted: Iterator[tuple[int, int]]) -> Iterator[MadeRun]:
    """Made-up runs, made on another thread while the ones before are written."""
    waiting: queue.Queue[MadeRun | None] = queue.Queue(_AHEAD)
    room = threading.Semaphore(3)  # so many long runs at a time

    def make() -> None:
        for number, steps in wanted:
            if steps > LONGEST // 10:
                room.acquire()
            waiting.put(make_run(number, steps, seed=SEED))
        waiting.put(None)

    threading.Thread(target=make, name="maker", daemon=True).start()
    while (run := waiting.get()) is not None:
        yield run
        if run.points > LONGEST // 2:
            room.release()


# -- measuring --------------------------------------------------------------------------------------------------------


def sizes(path: Path) -> dict[str, Any]:
    """Bytes of the file and of what is in it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        points = connection.execute("SELECT coalesce(sum(count), 0) FROM series").fetchone()[0]
        try:
            tables = connection.execute(
                "SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FROM dbstat s "
                "LEFT JOIN sqlite_master m ON m.name = s.name GROUP BY 1 ORDER BY 2 DESC"  # its own sums end at 2 GB
            ).fetchall()
        except sqlite3.Error:  # a SQLite that was built without it
            tables = []
    return {"points": points, "file_bytes": path.stat().st_size, "table_bytes": dict(tables[:8])}


def times(history: History, *, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each question, measured in turns."""
    asked = questions(history)
    found: dict[str, list[float]] = {
        "open, first page": [opened(history.path) for _ in range(min(5, rounds))]
    }
    for _ in range(rounds + 1):
        for name, ask in asked.items():
            began = time.perf_counter()
            ask()
            found.setdefault(name, []).append(1000 * (time.perf_counter() - began))
    # The first time of each fills caches.
    return {name: values if name.startswith("open") else values[1:] for name, values in found.items()}


def opened(path: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    return float(done.stdout)


def questions(history: History) -> dict[str, Question]:
    """What people ask of a history, by what they would call it."""
    by_loss: dict[str, Any] = {"order_by": "metric:val/loss", "descending": False, "limit": 50}
    narrow: dict[str, Any] = {"where": "lr < 1e-3 and batch_size >= 64"}
    if "where" not in inspect.signature(history.runs).parameters:
        narrow = {"search": "adamw"}
    asked: dict[str, Question] = {
        "first page": lambda: history.runs(limit=50),
        "next page": lambda: history.runs(limit=50, offset=50),
        "sorted by a metric": lambda: history.runs(**by_loss),
        "sorted, next page": lambda: history.runs(**by_loss, offset=50),
        "sorted by a parameter": lambda: history.runs(order_by="param:lr", limit=50),
        "filtered": lambda: history.runs(**narrow, limit=50),
        "filtered and sorted": lambda: history.runs(**narrow, **by_loss),
        "filtered and sorted, next page": lambda: history.runs(**narrow, **by_loss, offset=50),
        "count of the filtered": lambda: history.count(**narrow),
    }
    groups = getattr(history, "groups", None)
    if groups is not None:
        asked["grouped by a parameter"] = lambda: groups("param:optimizer")
    newest = history.runs(limit=200, with_metrics=False)
    asked["one curve of 200 runs"] = lambda: history.series_many([run.id for run in newest], "train/loss")
    asked["metrics of a run"] = lambda: history.metrics(newest[0].id)
    for size in (10_000, LONGEST):
        run_id = run_with(history, size)
        if run_id is None:
            continue
        words = f"{size:,} points"
        asked[f"series of about {words}"] = lambda run_id=run_id: history.series(run_id, "train/loss")  # type: ignore[misc]
        asked[f"picture of about {words}"] = lambda run_id=run_id: history.window(run_id, "train/loss")  # type: ignore[misc]
        asked[f"window in about {words}"] = lambda run_id=run_id, size=size: history.window(  # type: ignore[misc]
            run_id, "train/loss", low=0.4 * size, high=0.5 * size
        )
    return asked


def run_with(history: History, points: int) -> str | None:
    """A run whose loss has about so many points."""
    with history._database.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT r.id FROM series s JOIN run r ON r.number = s.run WHERE s.kind = 'metric' AND s.name = 'train/loss' "
            "AND s.count BETWEEN ? AND ? ORDER BY abs(s.count - ?) LIMIT 1",
            (int(0.8 * points), int(1.2 * points), points),
        ).scalar()
    return None if found is None else str(found)


def table(stages: list[dict[str, Any]]) -> str:
    """The stages side by side."""
    rows = [["", *(f"{stage['runs']:,} runs" for stage in stages)]]
    rows.append(["points", *(f"{stage['points']:,}" for stage in stages)])
    rows.append(["time to fill it", *(f"+ {stage['seconds_to_fill']:.0f} s" for stage in stages)])
    rows.append(["file, MB", *(f"{stage['file_bytes'] / 1e6:,.1f}" for stage in stages)])
    rows.append(
        ["bytes a point", *(f"{stage['file_bytes'] / max(1, stage['points']):.2f}" for stage in stages)]
    )
    for name in stages[-1]["table_bytes"]:
        rows.append(
            [f"  {name}, MB", *(f"{stage['table_bytes'].get(name, 0) / 1e6:,.1f}" for stage in stages)]
        )
    for name in dict.fromkeys(name for stage in stages for name in stage["times_ms"]):
        cells = [
            f"{statistics.median(stage['times_ms'][name]):.2f} ms" if name in stage["times_ms"] else "–"
            for stage in stages
        ]
        known = [statistics.median(stage["times_ms"][name]) for stage in stages if name in stage["times_ms"]]
        rows.append([name, *cells, f"× {known[-1] / known[0]:.1f}" if len(known) > 1 else ""])
    widths = [
        max(len(row[place]) if place < len(row) else 0 for row in rows) for place in range(len(stages) + 2)
    ]
    return "\n".join(
        f"{row[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{widths[place]}}" for place, cell in enumerate(row) if place)
        for row in rows
    )
