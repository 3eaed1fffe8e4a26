"""What `mlstudio.log` costs the training script, a point, beside other ways to keep numbers.

Each contestant is a process of its own that logs 10 scalars a step for 10,000 steps and times nothing but its calls.
Ours runs under the real probe, which reads, numbers and writes the points meanwhile.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import Comparison, named, take_turns
from mlstudio.probe.config import ProbeConfig
from mlstudio.probe.zipapp import build_probe

OURS, JSON_LINES, SQLITE, TENSORBOARD = "mlstudio.log", "JSON lines", "sqlite3, a row a point", "TensorBoard"
AIM_US = 0.3
STEPS, SCALARS = 10_000, 10

SCRIPT = """
import json, time
{prepare}
values = {{f"metric_{{number}}": 0.1 * number for number in range({scalars})}}
seconds = 0.0
for step in range({steps}):
    values["metric_0"] = 1 / (step + 1)
    began = time.perf_counter()
    {call}
    seconds += time.perf_counter() - began
print("RESULT", 1e6 * seconds / ({steps} * {scalars}), flush=True)
"""

WAYS = {
    JSON_LINES: (
        'file = open("points.jsonl", "w")',
        'file.write(json.dumps({"step": step, **values}) + "\\n")',
    ),
    SQLITE: (
        'import sqlite3; base = sqlite3.connect("points.db");'
        ' base.execute("create table points (step, name, time, value)")',
        'base.executemany("insert into points values (?, ?, ?, ?)",'
        " [(step, name, began, value) for name, value in values.items()]); base.commit()"
        " if step % 100 == 99 else None",
    ),
    OURS: ("import mlstudio", "mlstudio.log(step=step, **values)"),
    TENSORBOARD: (
        'from tensorboard.summary import Writer; writer = Writer("events")',
        "for name, value in values.items(): writer.add_scalar(name, value, step)",
    ),
}


def compare(rounds: int) -> Comparison:
    """Log the same numbers in turns."""
    names = [JSON_LINES, SQLITE, OURS]
    notes = []
    if importlib.util.find_spec("tensorboard"):
        names.append(TENSORBOARD)
    else:
        notes.append("TensorBoard is not installed: pip install -e .[bench] puts it beside us.")
    results = take_turns({name: partial(measure, name) for name in names}, rounds=rounds, unit="µs")
    cost = named(results, OURS).median
    return Comparison(
        name="log-cost",
        question=f"Time a point inside the training script, {SCALARS} scalars a step, {STEPS} steps",
        results=results,
        aim=f"at most {AIM_US} µs a point (now {cost:.2f})",
        met=cost <= AIM_US,
        notes=tuple(notes),
    )


def measure(name: str) -> float:
    """Run one contestant; µs a point."""
    prepare, call = WAYS[name]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(
            SCRIPT.format(prepare=prepare, call=call, steps=STEPS, scalars=SCALARS), encoding="utf-8"
        )
        command = [sys.executable, str(script)]
        if name == OURS:
            command = under_probe(Path(folder), command)
        output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return float(next(line for line in output.splitlines() if line.startswith("RESULT")).split()[1])


def under_probe(folder: Path, command: list[str]) -> list[str]:
    """The command that runs `command` as a run does: as the child of the probe."""
    root = folder / "root"
    (root / "run").mkdir(parents=True)
    (root / "probe.pyz").write_bytes(build_probe())
    config = ProbeConfig(run_id="benchmark", command=command, workdir=str(folder))
    (root / "config.json").write_text(json.dumps(json.loads(config.to_json())), encoding="utf-8")
    return [sys.executable, str(root / "probe.pyz"), str(root / "config.json")]
