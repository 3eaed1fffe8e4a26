"""Points: written, stored, read and drawn, beside other trackers, plain SQLite, `np.load` and zstd.

The points are those of ten scalars that are logged together, with the wall times of a loop that is not quite even; values
are float32 as `tensor.item()` gives them, and true doubles where it says so. Ours starts from the frames that the probe
wrote into the container's output: they are decoded, judged and committed as the recorder does it.
"""

from __future__ import annotations

import tempfile
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard

from benchmarks import peers
from benchmarks.harness import Comparison, Result, named, take_turns
from mlstudio.model.launch import Chunk
from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.model.run import RunSpec
from mlstudio.probe.frames import encode_frame, encode_points
from mlstudio.services.recording.follower import read_known
from mlstudio.services.recording.transcript import Transcript
from mlstudio.store import History
from mlstudio.store.thinning import thin

STEPS, SCALARS, FRAME_STEPS = 10_000, 10, 1_000
LONG, RUNS, RUN_STEPS = 1_000_000, 200, 100_000
OURS, SUSTAINED, DOUBLES = "ML Studio", "ML Studio, sustained", "ML Studio, doubles"
ZSTD, ZSTD_DOUBLES, NUMPY = "zstd of the raw arrays", "zstd, doubles", "np.load"
WRITE_AIM_US, READ_AIM_MS, LONG_AIM_MS, SIZE_AIM, PICTURE_AIM_MS = 1.0, 1.0, 20.0, 6.0, 500.0
RUN = "a" * 32

Reals = npt.NDArray[np.float64]


def compare(rounds: int) -> list[Comparison]:
    """All of it; the long ones with a history of their own."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            *beside_peers(Path(folder), rounds),
            *long_ones(Path(folder), rounds),
            first_picture(Path(folder), rounds),
        ]


# -- the points -------------------------------------------------------------------------------------------------------


def columns(steps: int, scalars: int, *, singles: bool = True, seed: int = 1) -> tuple[Reals, list[Reals]]:
    """Times, and the values of each scalar."""
    random = np.random.default_rng(seed)
    times = 1.7e9 + np.cumsum(0.01 * (1 + 0.1 * random.standard_normal(steps)))
    found = []
    for _ in range(scalars):
        values = 0.3 + 2 * np.exp(-np.arange(steps) / steps * 5) + 0.05 * random.standard_normal(steps)
        found.append(values.astype(np.float32).astype(np.float64) if singles else values)
    return times, found


def parts(times: Reals, values: list[Reals], size: int) -> Iterator[list[Points]]:
    """The points in portions of `size` steps."""
    for low in range(0, len(times), size):
        high = min(low + size, len(times))
        steps = array("q", range(low, high))
        time_column = array("d", times[low:high].tobytes())
        yield [
            Points(
                name=f"metric_{number}",
                kind="metric",
                steps=steps,
                times=time_column,
                values=array("d", column[low:high].tobytes()),
            )
            for number, column in enumerate(values)
        ]


def frames(times: Reals, values: list[Reals], size: int) -> list[bytes]:
    """The points as the probe says them."""
    return [
        encode_frame(
            seq,
            {
                "t": float(times[0]),
                "log": {"n": 0, "open": False, "spans": []},
                "series": [
                    encode_points(part.name, part.kind, part.steps, part.times, part.values) for part in found
                ],
            },
        )
        for seq, found in enumerate(parts(times, values, size))
    ]


@contextmanager
def made(path: Path, run_ids: Sequence[str] = (RUN,)) -> Iterator[History]:
    with closing(History(path)) as history:
        for run_id in run_ids:
            spec = RunSpec(command=("python", "train.py"))
            history.add_run(spec, run_id=run_id, name="benchmark", created=1.7e9, engine_kind="docker")
        yield history


def recorded(history: History, lines: list[bytes]) -> float:
    """Take the frames into the history as the recorder does; seconds."""
    transcript = Transcript(read_known(history, RUN, has_probe=True), read_spool=lambda _: None)
    began = time.perf_counter()
    for number, line in enumerate(lines, start=1):
        chunk = Chunk(data=line, position=str(number), time=1.7e9, is_error_stream=False)
        transcript.feed(chunk, now=1.7e9 + number)
        batch = transcript.take(now=1.7e9 + number)
        if batch is not None:
            history.apply(RUN, batch)
    took = time.perf_counter() - began
    history.finish(RUN)
    return took


def milliseconds(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - began)


# -- beside peers -----------------------------------------------------------------------------------------------------


def beside_peers(folder: Path, rounds: int) -> list[Comparison]:
    """Ten scalars, 10,000 steps: written, read back, and how large it is."""
    names = [peers.SQLITE, peers.TRACKIO, peers.TENSORBOARD, peers.MLFLOW]
    notes = [why for name in names if (why := peers.missing(name))]
    there = [name for name in names if not peers.missing(name)]
    lines = {
        OURS: frames(*columns(STEPS, SCALARS), FRAME_STEPS),
        DOUBLES: frames(*columns(STEPS, SCALARS, singles=False), FRAME_STEPS),
    }
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        for name in there:
            for what, value in peers.measure(name, steps=STEPS, scalars=SCALARS).items():
                found[what][name].append(value)
        for name in (OURS, DOUBLES):
            for what, value in ours(folder / f"{number} {name}.db", lines[name], STEPS).items():
                found[what][name].append(value)
        found["read_ms"][NUMPY].append(loaded(folder / "one.npy", STEPS))
    sizes = {ZSTD: zstd_bytes(singles=True), ZSTD_DOUBLES: zstd_bytes(singles=False)}
    found["bytes"] = {**{name: [size] * rounds for name, size in sizes.items()}, **found["bytes"]}
    kept = {OURS, *there}
    written = results(found["write_us"], "µs", kept)
    read = results(found["read_ms"], "ms", {NUMPY, *kept}, first=NUMPY)
    size = results(found["bytes"], "B", {ZSTD, ZSTD_DOUBLES, DOUBLES, *kept}, first=ZSTD)
    cost, ms, stored = (named(group, OURS).median for group in (written, read, size))
    return [
        Comparison(
            name="series: written",
            question=f"A point, until it can be read: {SCALARS} scalars a step, {STEPS:,} steps",
            results=written,
            aim=f"at most {WRITE_AIM_US} µs, which is a million points a second (now {cost:.2f} µs, {1e6 / cost:,.0f}/s)",
            met=cost <= WRITE_AIM_US,
            notes=tuple(notes),
        ),
        Comparison(
            name="series: read",
            question=f"One series of {STEPS:,} points, read back",
            results=read,
            aim=f"at most {READ_AIM_MS} ms (now {ms:.2f})",
            met=ms <= READ_AIM_MS,
        ),
        Comparison(
            name="series: size",
            question=f"Bytes a point (step, time, value) on disk, the whole file of {STEPS * SCALARS:,} points",
            results=size,
            aim=f"at most {SIZE_AIM} bytes (now {stored:.2f})",
            met=stored <= SIZE_AIM,
        ),
    ]


def ours(path: Path, lines: list[bytes], steps: int) -> dict[str, float]:
    with made(path) as history:
        write_s = recorded(history, lines)
        read_ms = milliseconds(lambda: history.series(RUN, "metric_3"))
        assert len(history.series(RUN, "metric_3")) == steps
    points = steps * SCALARS
    return {"write_us": 1e6 * write_s / points, "read_ms": read_ms, "bytes": path.stat().st_size / points}


def loaded(path: Path, steps: int) -> float:
    times, (values,) = columns(steps, 1)
    if not path.exists():
        np.save(path, np.stack([np.arange(steps), times, values]))
    return milliseconds(lambda: np.load(path))


def zstd_bytes(*, singles: bool) -> float:
    """A point, of the arrays of each series packed one by one."""
    times, values = columns(STEPS, SCALARS, singles=singles)
    packer = zstandard.ZstdCompressor(level=3)
    arrays = [array for column in values for array in (np.arange(STEPS), times, column)]
    return sum(len(packer.compress(array.tobytes())) for array in arrays) / STEPS / SCALARS


def results(
    found: dict[str, list[float]], unit: str, names: set[str], *, first: str = ""
) -> tuple[Result, ...]:
    ordered = sorted((name for name in found if name in names), key=lambda name: name != first)
    return tuple(Result(name, unit, tuple(found[name])) for name in ordered)


# -- long series ------------------------------------------------------------------------------------------------------


def long_ones(folder: Path, rounds: int) -> list[Comparison]:
    """Ten series of a million points: recorded in one go, read, drawn, continued."""
    times, values = columns(LONG, SCALARS)
    lines = frames(times, values, 10_000)
    path = folder / "long.db"
    with made(path) as history:
        seconds = recorded(history, lines)
        del lines
        stored = path.stat().st_size / LONG / SCALARS
        file = folder / "long.npy"
        np.save(file, np.stack([np.arange(LONG), times, values[3]]))

        def by_hand() -> object:
            everything = np.load(file)
            return everything[:, thin(everything[2], 2400)]

        def window() -> object:
            return history.window(RUN, "metric_3", low=0.40 * LONG, high=0.45 * LONG)

        read = turns({NUMPY: lambda: np.load(file), OURS: lambda: history.series(RUN, "metric_3")}, rounds)
        drawn = turns(
            {
                "np.load and thinned": by_hand,
                OURS: lambda: history.window(RUN, "metric_3"),
                "ML Studio, a twentieth of it": window,
                "ML Studio, its last 10 points": lambda: history.series(RUN, "metric_3", start=LONG - 10),
                "ML Studio, nothing new": lambda: history.series(RUN, "metric_3", start=LONG),
            },
            rounds,
        )
    sustained = Result(SUSTAINED, "µs", (1e6 * seconds / LONG / SCALARS,))
    read_ms = named(read, OURS).median
    return [
        Comparison(
            name="series: sustained",
            question=f"A point, from frames to the history, {LONG * SCALARS:,} points of one run in one go",
            results=(sustained,),
            aim=f"at most {WRITE_AIM_US} µs (now {sustained.median:.2f}: {1e6 / sustained.median:,.0f} points/s)",
            met=sustained.median <= WRITE_AIM_US,
            notes=(f"{stored:.2f} bytes a point in the file",),
        ),
        Comparison(
            name="series: a million points",
            question=f"One series of {LONG:,} points, every one of them",
            results=read,
            aim=f"at most {LONG_AIM_MS:.0f} ms (now {read_ms:.1f})",
            met=read_ms <= LONG_AIM_MS,
        ),
        Comparison(
            name="series: drawn",
            question=f"2,400 points of {LONG:,} that look like all of them",
            results=drawn,
        ),
    ]


def first_picture(folder: Path, rounds: int) -> Comparison:
    """A curve of each of 200 runs."""
    run_ids = [f"{number:032x}" for number in range(RUNS)]
    files = [folder / f"{run_id}.npy" for run_id in run_ids]
    with made(folder / "many.db", run_ids) as history:
        for number, run_id in enumerate(run_ids):
            times, (values,) = columns(RUN_STEPS, 1, seed=number)
            np.save(files[number], np.stack([np.arange(RUN_STEPS), times, values]))
            for seq, points in enumerate(parts(times, [values], 50_000)):
                history.apply(run_id, Batch(cursor=Cursor(seq=seq, position=str(seq)), points=tuple(points)))
            history.finish(run_id)

        def by_hand() -> object:
            return [everything[:, thin(everything[2], 2400)] for everything in map(np.load, files)]

        drawn = turns(
            {
                "np.load and thinned": by_hand,
                "ML Studio, one by one": lambda: [history.window(run_id, "metric_0") for run_id in run_ids],
                OURS: lambda: history.series_many(run_ids, "metric_0"),
            },
            rounds,
        )
    took = named(drawn, OURS).median
    return Comparison(
        name="series: first picture",
        question=f"2,400 points of each of {RUNS} runs, {RUN_STEPS:,} points each",
        results=drawn,
        aim=f"at most {PICTURE_AIM_MS:.0f} ms (now {took:.0f})",
        met=took <= PICTURE_AIM_MS,
    )


def turns(asked: dict[str, Callable[[], object]], rounds: int) -> tuple[Result, ...]:
    contestants = {name: (lambda ask=ask: milliseconds(ask)) for name, ask in asked.items()}
    return take_turns(contestants, rounds=rounds, unit="ms")
