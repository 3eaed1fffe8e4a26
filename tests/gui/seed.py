"""A history as a busy week leaves it: runs in every state, metrics with NaN, system readings, logs."""

from __future__ import annotations

import json
import math
import time
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlstudio.model.code import CodeSource
from mlstudio.model.image import ImageRecord, ImageSpec, Package
from mlstudio.model.record import Batch, Cursor, LogBlock, Points
from mlstudio.model.run import Exit, ExitReason, Progress, RunEvent, RunSpec, RunState
from mlstudio.store import History

STATES = (
    RunState.SUCCEEDED,
    RunState.SUCCEEDED,
    RunState.SUCCEEDED,
    RunState.STOPPED,
    RunState.SUCCEEDED,
    RunState.FAILED,
    RunState.LOST,
    RunState.SUCCEEDED,
    RunState.FAILED,
    RunState.QUEUED,
    RunState.RUNNING,
    RunState.RUNNING,
)
NAMES = (
    "mixup-s0", "mixup-s1", "mixup-s2", "mixup-s3", "cutmix-s0", "cutmix-lr1e3", "cutmix-s2",
    "randaug-s0", "randaug-b1k", "randaug-m12", "randaug-m9", "plain-s0",
)  # fmt: skip
STEPS = 1200
DOCKERFILE = """\
FROM python:3.11-slim-bookworm
RUN --mount=type=cache,target=/root/.cache/pip \\
    pip install torch==2.13.0 numpy==2.4.0
WORKDIR /work
COPY code/ /work/
USER mlstudio
ENTRYPOINT ["python3", "train.py"]
"""


def points(
    name: str,
    steps: Sequence[int] | NDArray[np.int64],
    times: NDArray[np.floating[Any]],
    values: NDArray[np.floating[Any]],
    *,
    kind: str = "metric",
    unit: str = "",
) -> Points:
    return Points(
        name=name,
        kind=kind,
        steps=array("q", [int(step) for step in steps]),
        times=array("d", times.tolist()),
        values=array("d", values.tolist()),
        unit=unit,
    )


def add_run(history: History, run_id: str, name: str, *, created: float, seed: int = 0) -> None:
    history.add_run(
        RunSpec(
            command=(
                "python",
                "train.py",
                "--augment",
                name.partition("-")[0],
                "--lr",
                "5e-4",
                "--seed",
                str(seed),
            ),
            code=CodeSource(folder="/home/ada/src/vit-ablation"),
            image=ImageSpec(framework="pytorch"),
            name=f"vit-s16-{name}",
            tags=("baseline",) if seed % 4 == 0 else (),
            parameters=(
                ("augment", name.partition("-")[0]),
                ("lr", "1e-3" if "lr1e3" in name else "5e-4"),
                ("batch", "512"),
                ("seed", str(seed)),
                ("epochs", "60"),
            ),
        ),
        run_id=run_id,
        name=f"vit-s16-{name}",
        created=created,
        engine_kind="docker",
    )


def curves(
    start: float, share: float, *, seed: int = 0, breaks: bool = False
) -> tuple[tuple[Points, ...], float]:
    """Points of one run that got as far as `share`, and when it ended. `breaks`: it ends in NaN."""
    rng = np.random.default_rng(seed)
    count = max(20, int(STEPS * share))
    steps = np.arange(count)
    times = start + steps * 2.4
    quality = rng.uniform(0.9, 1.15)
    base = (5.4 * np.exp(-steps / 260) + 0.8) * quality
    loss = base + rng.normal(0, 0.10, count)
    norm = np.abs(rng.normal(1.4, 0.25, count)) + 2 * np.exp(-steps / 200)
    every = steps[::20]
    val_loss = base[::20] * 0.92 + 0.08
    top1 = 0.79 - 0.72 * np.exp(-every / 240) / quality + rng.normal(0, 0.003, every.size)
    if breaks:
        norm[-30:] = np.geomspace(2, 300, 30)
        loss[-5:] = np.nan
        val_loss[-1] = np.nan
    samples = np.arange(0, int(count * 2.4), 4)
    at = start + samples.astype(float)
    busy = np.clip(96 + rng.normal(0, 2, samples.size), 0, 100)
    third = samples.size // 3
    busy[third : third + third // 3] = np.clip(58 + rng.normal(0, 14, third // 3), 0, 100)
    rate = 5e-4 * np.minimum(1, steps / 80) * (0.5 + 0.5 * np.cos(steps / STEPS * math.pi))
    system = {
        "cpu.percent": (np.clip(320 + rng.normal(0, 40, samples.size), 0, 1600), "%"),
        "memory.bytes": (4.1e9 + samples * 2.0e5, "B"),
        "io.read_bytes_per_s": (np.abs(rng.normal(1.2e8, 3e7, samples.size)), "B/s"),
        "io.write_bytes_per_s": (np.abs(rng.normal(2e6, 6e5, samples.size)), "B/s"),
        "net.rx_bytes_per_s": (np.abs(rng.normal(2e5, 3e4, samples.size)), "B/s"),
        "net.tx_bytes_per_s": (np.abs(rng.normal(2e4, 3e3, samples.size)), "B/s"),
        "gpu.0.utilisation_percent": (busy, "%"),
        "gpu.0.memory_bytes": (21.4e9 + rng.normal(0, 1e7, samples.size), "B"),
        "gpu.0.power_w": (busy * 4.3, "W"),
        "gpu.0.temperature_c": (58 + busy / 8, "C"),
    }
    once = {"memory.limit_bytes": 64e9, "gpu.0.memory_total_bytes": 24e9, "gpu.0.power_limit_w": 450.0}
    found = [
        points("train/loss", steps, times, loss),
        points("train/grad_norm", steps, times, norm),
        points("train/lr", steps, times, rate),
        points("throughput", steps, times, 1460 + rng.normal(0, 25, count)),
        points("val/loss", every, times[::20], val_loss),
        points("val/top1", every, times[::20], top1),
        points("epoch", every, times[::20], every / 20.0),
    ]
    found += [
        points(name, samples, at, np.asarray(values, dtype=float), kind="system", unit=unit)
        for name, (values, unit) in system.items()
    ]
    found += [
        points(name, samples[:1], at[:1], np.array([value]), kind="system") for name, value in once.items()
    ]
    return tuple(found), float(times[-1])


def log_block(start: float, lines: int, *, first: int = 0) -> LogBlock:
    """Output as a training script prints it, with a coloured warning now and then."""
    parts: list[bytes] = []
    spans: list[tuple[bool, int, float]] = []
    for number in range(first, first + lines):
        if number % 9 == 4:
            text = (
                f"\x1b[33mDataLoader: worker queue empty for {number % 500} ms (prefetch_factor=2)\x1b[0m\n"
            )
        else:
            loss = 4.4 * math.exp(-number / 900) + 0.8
            text = f"epoch {number // 20}/60 step {number:,} loss {loss:.4f} top1 0.7371 {900 + number % 40} img/s\n"
        data = text.encode()
        parts.append(data)
        spans.append((number % 9 == 4, len(data), start + number * 0.8))
    return LogBlock(data=b"".join(parts), spans=tuple(spans))


def finish(
    history: History, run_id: str, state: RunState, *, started: float, ended: float, share: float
) -> None:
    """Write what the recorder would have observed at the end, or so far."""
    progress = Progress(
        done=STEPS * share,
        total=STEPS,
        unit="step",
        rate_per_s=0.42,
        eta_s=STEPS * (1 - share) / 0.42 if state is RunState.RUNNING else None,
    )
    history.observe(
        run_id, state=RunState.RUNNING, started=started, host="lab", gpus=("RTX 4090",), progress=progress
    )
    how = {
        RunState.SUCCEEDED: Exit(reason=ExitReason.COMPLETED, code=0),
        RunState.STOPPED: Exit(reason=ExitReason.STOPPED, code=143, signal=15, message="Stopped on request."),
        RunState.LOST: Exit(
            reason=ExitReason.LOST, message="Its container is gone and nobody saw how it ended."
        ),
    }.get(state)
    if state is RunState.FAILED:
        how = (
            Exit(
                reason=ExitReason.OUT_OF_MEMORY,
                code=137,
                signal=9,
                message="Killed: the container reached its memory limit of 64 GB.",
                try_this="Raise the limit or lower the batch size.",
            )
            if run_id.endswith("8")
            else Exit(reason=ExitReason.ERROR, code=1, message="Loss is NaN at step 1,080 (exit code 1).")
        )
    if state not in (RunState.RUNNING, RunState.QUEUED):
        history.finish(run_id)
        history.observe(run_id, state=state, ended=ended, exit=how)


def seed(history: History, *, now: float | None = None, log_lines: int = 1500) -> list[str]:
    """Twelve runs: succeeded, stopped, failed (NaN, out of memory), lost, queued and running. Returns their ids."""
    moment = time.time() if now is None else now
    ids: list[str] = []
    for index, (state, name) in enumerate(zip(STATES, NAMES, strict=True)):
        run_id = f"seeded-run-{index}"
        ids.append(run_id)
        share = 1.0 if state is RunState.SUCCEEDED else 0.4 + 0.05 * index
        length = STEPS * 2.4 * share
        started = (
            moment - length - 2 if state is RunState.RUNNING else moment - 5400.0 * (len(STATES) - index)
        )
        add_run(history, run_id, name, created=started - 8, seed=index)
        history.set_image(
            run_id, f"sha256:9f3c1ab4e81d0c{index:02d}", "mlstudio/vit-ablation:9f3c1ab4e81d", DOCKERFILE
        )
        if state is RunState.QUEUED:
            history.set_phase(run_id, "building image, step 3 of 7")
            continue
        found, ended = curves(started, share, seed=index, breaks=state is RunState.FAILED and index == 5)
        history.apply(
            run_id,
            Batch(
                cursor=Cursor(seq=0, position="1"),
                points=found,
                log=(log_block(started, log_lines),),
                events=(RunEvent(time=started, type="start", data_json=json.dumps({"pid": 7})),),
            ),
        )
        history.set_environment(run_id, json.dumps(_environment()))
        finish(history, run_id, state, started=started, ended=ended, share=share)
    history.add_image(
        ImageRecord(
            id="sha256:9f3c1ab4e81d0c00",
            tag="mlstudio/vit-ablation:9f3c1ab4e81d",
            dockerfile=DOCKERFILE,
            base="python:3.11-slim-bookworm",
            size_bytes=1_240_000_000,
            packages=(Package(name="libgomp1", version="12.2.0-14", manager="apt"),),
        )
    )
    return ids


def _environment() -> dict[str, object]:
    return {
        "python": "3.11.2",
        "cuda": "12.6",
        "driver": "570.86",
        "kernel": "Linux 6.1.0-28-amd64",
        "cpu_model": "AMD Ryzen 9 7950X",
        "cpus": 32,
        "memory_bytes": 64_000_000_000,
        "gpus": [{"name": "NVIDIA GeForce RTX 4090", "memory_total_bytes": 24_000_000_000}],
        "packages": [["torch", "2.13.0"], ["numpy", "2.4.0"], ["pillow", "12.0.0"], ["sympy", "1.14.0"]],
    }
