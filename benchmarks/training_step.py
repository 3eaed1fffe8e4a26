"""What logging costs a real training step: PyTorch on the processor, with and without.

Every contestant is a process of its own that trains the same small convolutional network on the same numbers and keeps
10 scalars of every step, the loss as a number among them in each of them. "Nothing kept" runs as a plain process;
"under the probe" does not log, so that what the probe itself costs (readings of the machine every second) is seen;
ours runs as a run does. The floor beside it: what the calls of `mlstudio.log` alone took, as a share of the step.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import Comparison, named, take_turns
from benchmarks.log_cost import under_probe

NOTHING, PROBE, OURS = "nothing kept", "under the probe, nothing kept", "mlstudio.log"
TENSORBOARD, TRACKIO = "TensorBoard SummaryWriter", "trackio"
AIM_PERCENT = 0.1
STEPS, SCALARS, BATCH = 1500, 10, 32
_WARM_UP = 100

SCRIPT = """
import os, time
import torch
from torch import nn
{prepare}
torch.manual_seed(1)
torch.set_num_threads({threads})
network = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
images, labels = torch.randn({batch}, 1, 28, 28), torch.randint(0, 10, ({batch},))
values = {{f"metric_{{number}}": 0.1 * number for number in range({scalars} - 1)}}
calls = 0.0
for step in range({steps} + {warm_up}):
    if step == {warm_up}:
        began, calls = time.perf_counter(), 0.0
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    values["loss"] = loss.item()
    before = time.perf_counter()
    {call}
    calls += time.perf_counter() - before
seconds = time.perf_counter() - began
print("RESULT", 1e6 * seconds / {steps}, 1e6 * calls / {steps}, flush=True)
os._exit(0) if {quick_end} else None
"""

WAYS = {
    NOTHING: ("", "pass"),
    PROBE: ("", "pass"),
    OURS: ("import mlstudio", "mlstudio.log(step=step, **values)"),
    TENSORBOARD: (
        'from torch.utils.tensorboard import SummaryWriter; writer = SummaryWriter("events")',
        "for name, value in values.items(): writer.add_scalar(name, value, step)",
    ),
    TRACKIO: ('import trackio; trackio.init(project="bench")', "trackio.log(values, step=step)"),
}


def compare(rounds: int) -> Comparison:
    """Train the same network in turns."""
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("PyTorch is not installed: pip install torch")
    names = [NOTHING, PROBE, OURS]
    notes = []
    for module, name in (("tensorboard", TENSORBOARD), ("trackio", TRACKIO)):
        if importlib.util.find_spec(module):
            names.append(name)
        else:
            notes.append(f"{module} is not installed: pip install -e .[bench] puts it beside us.")
    calls: dict[str, list[float]] = {name: [] for name in names}
    results = take_turns({name: partial(measure, name, calls) for name in names}, rounds=rounds, unit="µs")
    plain = named(results, NOTHING).median
    for name in names[2:]:
        in_calls = sorted(calls[name])[len(calls[name]) // 2]
        whole = 100 * (named(results, name).median / plain - 1)
        notes.append(
            f"{name}: its calls take {in_calls:.1f} µs a step, {100 * in_calls / plain:.3f} % of it; the whole training "
            f"takes {whole:+.2f} % (spread of the measurement: ±{100 * named(results, name).spread / plain:.2f} %)."
        )
    share = 100 * sorted(calls[OURS])[len(calls[OURS]) // 2] / plain
    return Comparison(
        name="training-step",
        question=f"Time a training step (PyTorch, processor, batches of {BATCH}), {SCALARS} scalars kept every step",
        results=results,
        aim=f"calls take at most {AIM_PERCENT} % of a step (now {share:.3f} %)",
        met=share <= AIM_PERCENT,
        notes=tuple(notes),
    )


def measure(name: str, calls: dict[str, list[float]]) -> float:
    """Train once; µs a step."""
    prepare, call = WAYS[name]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(
            SCRIPT.format(
                prepare=prepare, call=call, steps=STEPS, scalars=SCALARS, batch=BATCH, warm_up=_WARM_UP,
                threads=max(1, (os.cpu_count() or 2) - 1), quick_end=name == TRACKIO,
            ),
            encoding="utf-8",
        )  # fmt: skip
        command = [sys.executable, str(script)]
        if name in (OURS, PROBE):
            command = under_probe(Path(folder), command)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRACKIO_DIR": str(Path(folder) / "trackio")}
        done = subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, env=environment
        ).stdout
    _, step, in_calls = next(line for line in done.splitlines() if line.startswith("RESULT")).split()
    calls[name].append(float(in_calls))
    return float(step)
