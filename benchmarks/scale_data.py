"""Made-up runs as people have them: names, parameters, tags, curves; the same for the same seed, and no two alike.

Lengths differ as they do in life: most runs are tiny, a few log for a million steps. A run logs five metrics a step
(float32, as `tensor.item()` gives it, but for the schedule), two of a validation every 50th step, and three system
readings every tenth step's time.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.model.run import Exit, ExitReason, RunSpec, RunState

POINTS_A_STEP = 5 + 2 / 50 + 3 / 10
LONGEST = 1_000_000
_BATCH_STEPS = 200_000
_SPREAD = 1.9
"""Of the logarithm of the lengths."""
_EPOCH = 1_600_000_000.0
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
_TAGS = ("baseline", "sweep", "debug", "paper", "ablation", "long", "nightly", "vision", "language", "best")
_SCHEDULES = ("cosine", "linear", "constant", "one-cycle")

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MadeRun:
    """One run with all that it logs."""

    id: str
    name: str
    spec: RunSpec
    created: float
    started: float
    ended: float
    state: RunState
    exit: Exit
    batches: tuple[Batch, ...]

    @property
    def points(self) -> int:
        return sum(len(part.values) for batch in self.batches for part in batch.points)


def lengths(runs: int, points: float, *, seed: int) -> npt.NDArray[np.int64]:
    """Steps of each run, so that all of them together log about `points`; every thousandth run a long one."""
    random = np.random.default_rng(seed)
    shape = np.exp(_SPREAD * random.standard_normal(runs))
    wanted = points / POINTS_A_STEP
    longest = max(10, min(LONGEST, int(wanted / 5)))
    long = np.arange(runs) % 1000 == min(runs - 1, 500)
    long &= np.cumsum(long) <= wanted * 0.3 / longest + 1
    rest = max(0.0, wanted - float(long.sum()) * longest)
    low, high = 0.0, 1e9
    for _ in range(60):  # The factor for which the sum fits, with the longest ones cut off.
        factor = (low + high) / 2
        total = np.clip(shape[~long] * factor, 2, longest).sum()
        low, high = (factor, high) if total < rest else (low, factor)
    found = np.clip(shape * low, 2, longest).astype(np.int64)
    found[long] = longest
    return found


def make_run(number: int, steps: int, *, seed: int) -> MadeRun:
    """Run `number` with so many steps."""
    random = np.random.default_rng((seed, number))
    model, data_set = _MODELS[random.integers(len(_MODELS))], _DATA_SETS[random.integers(len(_DATA_SETS))]
    rate = float(f"{10 ** random.uniform(-5, -1):.2g}")
    batch_size = int(2 ** random.integers(4, 11))
    parameters = (
        ("lr", repr(rate)),
        ("batch_size", str(batch_size)),
        ("optimizer", _OPTIMISERS[random.integers(len(_OPTIMISERS))]),
        ("model", model),
        ("dataset", data_set),
        ("weight_decay", repr(float(f"{10 ** random.uniform(-6, -1):.1g}"))),
        ("dropout", repr(round(float(random.uniform(0, 0.5)), 2))),
        ("schedule", _SCHEDULES[random.integers(len(_SCHEDULES))]),
        ("epochs", str(int(random.integers(1, 300)))),
        ("seed", str(number)),
    )
    tags = tuple(
        dict.fromkeys(_TAGS[place] for place in random.integers(len(_TAGS), size=random.integers(0, 4)))
    )
    created = _EPOCH + 1800.0 * number
    seconds_a_step = float(10 ** random.uniform(-2.5, -0.5))
    times = created + 20 + np.cumsum(seconds_a_step * (1 + 0.1 * random.standard_normal(steps)).clip(0.1))
    ended = float(times[-1]) + 1
    failed = random.random() < 0.12
    return MadeRun(
        id=f"{seed:08x}{number:024x}",
        name=f"{model}-{data_set}-{number}",
        spec=RunSpec(
            command=("python", "train.py", *(f"--{name}={value}" for name, value in parameters)),
            name=f"{model}-{data_set}-{number}",
            parameters=parameters,
            tags=tags,
        ),
        created=created,
        started=created + 20,
        ended=ended,
        state=RunState.FAILED if failed else RunState.SUCCEEDED,
        exit=Exit(
            reason=ExitReason.ERROR if failed else ExitReason.COMPLETED,
            code=int(failed),
            message="The command ended with exit code 1." if failed else "",
        ),
        batches=_batches(random, times, rate=rate, batch_size=batch_size),
    )


def _batches(random: np.random.Generator, times: Reals, *, rate: float, batch_size: int) -> tuple[Batch, ...]:
    steps = len(times)
    at = np.arange(steps)
    fall = np.exp(-at / (steps * random.uniform(0.1, 0.5)))
    best = random.uniform(0.02, 1)
    loss = best + random.uniform(0.5, 3) * fall + 0.1 * best * random.standard_normal(steps)
    hits = np.clip(1 - 0.4 * loss / loss[0] + 0.05 * random.standard_normal(steps), 0, 1)
    columns = [
        ("train/loss", _single(loss)),
        ("train/accuracy", _single(np.round(hits * batch_size) / batch_size)),
        ("lr", rate * 0.5 * (1 + np.cos(np.pi * at / steps))),
        ("grad_norm", _single(np.exp(0.3 * random.standard_normal(steps)) * (0.2 + fall))),
        ("epoch", np.floor(at / max(1, steps // 20))),
    ]
    every = at[49::50] if steps >= 50 else at[-1:]
    validation = [
        ("val/loss", _single(loss[every] * 1.1 + 0.02 * random.standard_normal(len(every)))),
        ("val/accuracy", _single(np.round(hits[every] * 5000) / 5000)),
    ]
    samples = at[::10]
    readings = [
        (
            "cpu.percent",
            np.round(100 * random.uniform(0.5, 4) + 10 * random.standard_normal(len(samples)), 1),
        ),
        (
            "memory.bytes",
            np.round(4e9 + 1e6 * np.cumsum(random.standard_normal(len(samples)))) // 4096 * 4096,
        ),
        (
            "gpu.0.utilisation_percent",
            np.clip(np.round(85 + 10 * random.standard_normal(len(samples))), 0, 100),
        ),
    ]
    groups = [
        ("metric", at, at, columns),
        ("metric", every, every, validation),
        ("system", samples, np.arange(len(samples)), readings),
    ]
    found = []
    for seq, low in enumerate(range(0, steps, _BATCH_STEPS)):
        points = []
        for kind, where, counted, series in groups:
            part = slice(*np.searchsorted(where, (low, low + _BATCH_STEPS)))
            if part.start == part.stop:
                continue
            step, time = _array("q", counted[part]), _array("d", times[where[part]])
            points += [
                Points(name=name, kind=kind, steps=step, times=time, values=_array("d", values[part]))
                for name, values in series
            ]
        found.append(Batch(cursor=Cursor(seq=seq, position=str(seq)), points=tuple(points)))
    return tuple(found)


def _single(values: Reals) -> Reals:
    return values.astype(np.float32).astype(np.float64)


def _array(code: str, values: npt.NDArray[np.int64] | Reals) -> array:  # type: ignore[type-arg]
    return array(code, np.ascontiguousarray(values).tobytes())
