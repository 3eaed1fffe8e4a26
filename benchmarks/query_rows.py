"""A history of any number of made-up runs with parameters, tags and series, but no points: rows to ask for.

Everything that a question about many runs reads is there; what only a run's own page reads is not. Rows are written
below `History`, a hundred times as fast as through it; `benchmarks.scale` fills one through its methods, with points.
"""

from __future__ import annotations

import json
import math
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mlstudio.store import History
from mlstudio.store.parameters import as_number

EPOCH = 1_700_000_000.0
PARAMETERS = 20
METRICS = 16
SYSTEM = 4
_ONCE = 2_000
_MODELS = (
    "resnet18",
    "resnet50",
    "vit-b16",
    "convnext-t",
    "bert-base",
    "gpt-small",
    "unet",
    "mlp",
    "xgb",
    "lstm",
)
_DATA_SETS = ("cifar10", "imagenet", "mnist", "wikitext", "coco", "squad", "librispeech", "higgs")
_OPTIMISERS = ("adamw", "adam", "sgd", "lion", "adafactor")
_TAGS = ("baseline", "sweep", "debug", "paper", "ablation", "long", "nightly", "vision", "cnn", "best")
_METRICS = (
    "train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/f1", "val/auc", "lr", "grad_norm", "epoch",
    "throughput", "test/loss", "test/accuracy", "perplexity", "kl", "entropy", "reward",
)  # fmt: skip
_READINGS = ("cpu.percent", "memory.bytes", "gpu.0.utilisation_percent", "gpu.0.memory_bytes")
_STATES = ("succeeded",) * 17 + ("failed",) * 2 + ("stopped",)


def fill(path: Path, runs: int, *, seed: int = 7, live: int = 0) -> None:
    """Make the history at `path` with so many runs, the last `live` of which still run."""
    with closing(History(path)):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = OFF")
        base.execute("PRAGMA cache_size = -400000")
        first = base.execute("SELECT coalesce(max(number), 0) FROM run").fetchone()[0]
        for low in range(first, runs, _ONCE):
            base.execute("BEGIN IMMEDIATE")
            for number in range(low + 1, min(low + _ONCE, runs) + 1):
                _add(base, number, random.Random(seed * 1_000_003 + number), is_live=number > runs - live)
            base.execute("UPDATE counter SET value = max(value, ?) WHERE name = 'revision'", (runs,))
            base.execute("COMMIT")
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _add(
    base: sqlite3.Cursor | sqlite3.Connection, number: int, dice: random.Random, *, is_live: bool
) -> None:
    parameters = dict(_parameters(number, dice))
    state = "running" if is_live else dice.choice(_STATES)
    created = EPOCH + 600.0 * number
    started = created + 5 + 20 * dice.random()
    ended = None if is_live else started + 10 ** dice.uniform(1, 5)
    name = f"{parameters['model']}-{parameters['dataset']}-{number}"
    run = {
        "number": number,
        "id": f"{dice.getrandbits(128):032x}",
        "name": name,
        "state": state,
        "phase": "",
        "desired": "running",
        "created": created,
        "started": started,
        "ended": ended,
        "engine": "local",
        "engine_kind": "docker",
        "host": f"node{dice.randrange(8)}",
        "owner": "",
        "handle": "",
        "command": json.dumps(
            ["python", "train.py", *(f"--{key}={value}" for key, value in parameters.items())]
        ),
        "gpus": '["NVIDIA H100"]' if dice.random() < 0.5 else "[]",
        "colour": number - 1,
        "note": "a note about what was tried" if dice.random() < 0.1 else "",
        "archived": int(dice.random() < 0.03),
        "exit_reason": None
        if is_live
        else {"succeeded": "completed", "failed": "error"}.get(state, "stopped"),
        "exit_code": None if is_live else {"succeeded": 0, "failed": 1}.get(state, 143),
        "image_id": f"sha256:{dice.randrange(40):064x}",
        "image_tag": f"mlstudio/{parameters['model']}:{dice.randrange(40)}",
        "commit_hash": f"{dice.randrange(500):040x}",
        "tree_hash": f"{dice.randrange(5000):040x}",
        "changed_files": 0,
        "lacks": "[]",
        "gaps": 0,
        "revision": number,
    }
    base.execute(
        f"INSERT INTO run ({', '.join(run)}) VALUES ({', '.join('?' * len(run))})", tuple(run.values())
    )
    base.execute("INSERT INTO run_detail VALUES (?, '{}', '', '', '', '')", (number,))
    base.executemany(
        "INSERT INTO parameter (run, name, value, number, position) VALUES (?, ?, ?, ?, ?)",
        [(number, key, text, as_number(text), place) for place, (key, text) in enumerate(parameters.items())],
    )
    tags = dict.fromkeys(dice.choices(_TAGS, k=dice.randrange(4)))
    base.executemany(
        "INSERT INTO tag VALUES (?, ?, ?)", [(number, tag, place) for place, tag in enumerate(tags)]
    )
    base.executemany(
        "INSERT INTO series (run, kind, name, position, unit, count, sealed, last, last_step, last_time, minimum, "
        "minimum_step, maximum, maximum_step, final) VALUES (?, ?, ?, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(number, *row, int(not is_live)) for row in _series(dice, started)],
    )


def _parameters(number: int, dice: random.Random) -> Iterator[tuple[str, str]]:
    yield "lr", repr(float(f"{10 ** dice.uniform(-5, -1):.2g}"))
    yield "batch_size", str(2 ** dice.randrange(4, 11))
    yield "optimizer", dice.choice(_OPTIMISERS)
    yield "model", dice.choice(_MODELS)
    yield "dataset", dice.choice(_DATA_SETS)
    yield "seed", str(number)
    yield "amp", dice.choice(("true", "false"))
    yield "dropout", repr(round(dice.uniform(0, 0.5), 2))
    for place in range(PARAMETERS - 8):
        yield f"model.option_{place}", repr(round(dice.uniform(0, 100), 3))


def _series(dice: random.Random, started: float) -> Iterator[tuple[object, ...]]:
    steps = int(10 ** dice.uniform(1, 5))
    names = [("metric", name) for name in _METRICS[:METRICS]] + [
        ("system", name) for name in _READINGS[:SYSTEM]
    ]
    for place, (kind, name) in enumerate(names):
        low, high = sorted((dice.gauss(1, 0.5), dice.gauss(1, 0.5)))
        last: float | None = dice.uniform(low, high)
        if dice.random() < 0.005:
            last = math.nan
        yield (
            kind, name, place, steps, steps, last, steps - 1, started + steps, low, dice.randrange(steps),
            high, dice.randrange(steps),
        )  # fmt: skip
