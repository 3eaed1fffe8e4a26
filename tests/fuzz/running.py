"""Running one target in a process of its own, so that its memory is its own and a hang can be ended."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS

MOST_SECONDS = 2.0
"""For one input: all of them are small."""
MOST_BYTES = 200_000_000
_HANGS_AFTER_S = 20
_INPUTS_A_PROCESS = 3_000


@dataclass(frozen=True)
class Fuzzed:
    inputs: int
    seconds: float
    slowest_s: float
    grown_bytes: int
    """How much larger the process was at its largest than before the first input."""
    failure: str
    """A traceback with the input that caused it, made as small as it could be; empty: nothing failed."""


def fuzz(name: str, *, inputs: int, seed: int) -> Fuzzed:
    """Give `inputs` inputs to the target `name`; the first failure ends it."""
    done = Fuzzed(0, 0.0, 0.0, 0, "")
    slices = 0
    # Hypothesis remembers every input: a new process now and then, so that the memory is the reader's.
    while done.inputs < inputs and not done.failure and slices < 2 * (inputs // _INPUTS_A_PROCESS + 1):
        found = _slice(name, inputs=min(_INPUTS_A_PROCESS, inputs - done.inputs), seed=seed + slices)
        slices += 1
        done = Fuzzed(
            done.inputs + found.inputs,
            done.seconds + found.seconds,
            max(done.slowest_s, found.slowest_s),
            max(done.grown_bytes, found.grown_bytes),
            found.failure,
        )
    return done


def _slice(name: str, *, inputs: int, seed: int) -> Fuzzed:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, inputs, seed, theirs))
    process.start()
    theirs.close()
    try:
        found = mine.recv()
    except EOFError:
        process.join()
        return Fuzzed(0, 0.0, 0.0, 0, f"The process ended with exit code {process.exitcode}.")
    process.join()
    assert isinstance(found, Fuzzed)
    return found


def _work(name: str, inputs: int, number: int, results: Connection) -> None:
    target = next(target for target in TARGETS if target.name == name)
    slowest = 0.0
    count = 0

    def stuck(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"one input took more than {_HANGS_AFTER_S} s")

    signal.signal(signal.SIGALRM, stuck)

    @seed(number)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(target.inputs())
    def each(drawn: Any) -> None:
        nonlocal slowest, count
        count += 1
        signal.alarm(_HANGS_AFTER_S)
        began = time.perf_counter()
        try:
            target.take(drawn)
        finally:
            slowest = max(slowest, time.perf_counter() - began)
            signal.alarm(0)

    before = _largest()
    # An input that asks for more is a failure, and not the end of the machine.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 * 1024**3, hard))
    began = time.perf_counter()
    failure = ""
    try:
        each()
    except BaseException:  # noqa: BLE001 — whatever it is, it is told
        failure = _cut(traceback.format_exc())
    results.send(Fuzzed(count, time.perf_counter() - began, slowest, _largest() - before, failure))


def _cut(text: str) -> str:
    return text if len(text) < 6000 else f"{text[:3000]}\n[…]\n{text[-3000:]}"


def _largest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
