"""`python -m tests.chaos --faults 2000`: random faults on a real engine of its own; what was hurt, and what was found.

Needs root and Docker's daemon. Exit code 1 if anything was lost, doubled or untrue. With the same seed the same faults
are chosen; when they strike is up to the machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.world import rage

_FAULTS_A_WORLD = 250


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="only the end of each world")
    parser.add_argument("--evidence", type=Path, metavar="DIR", help="keep there what belongs to problems")
    wanted = parser.parse_args()
    faults: Counter[str] = Counter()
    states: Counter[str] = Counter()
    problems: list[str] = []
    runs = points = done = gaps = 0
    began = time.monotonic()
    for number in range((wanted.faults + _FAULTS_A_WORLD - 1) // _FAULTS_A_WORLD):
        count = min(_FAULTS_A_WORLD, wanted.faults - done)
        done += count
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
            found = rage(
                Path(folder),
                faults=count,
                seed=wanted.seed + number,
                live_restore=number % 2 == 0,
                say=(lambda line: None) if wanted.quiet else print,
                evidence=wanted.evidence,
            )
        faults += found.faults
        states += found.states
        problems += found.problems
        runs += found.runs
        points += found.points
        gaps += found.gaps
        print(
            f"world {number + 1}: {count} faults, {found.runs} runs, {len(found.problems)} problems",
            *found.problems,
            sep="\n",
            flush=True,
        )
    for name, times in faults.most_common():
        print(f"{times:>6}  {name}")
    ends = ", ".join(f"{count} {state}" for state, count in states.most_common())
    print(
        f"{sum(faults.values())} faults, {runs} runs ({ends}), {points:,} points, {time.monotonic() - began:.0f} s"
    )
    print(f"{gaps} runs with gaps that are shown: both disks from which they could be filled were full")
    print("nothing lost, nothing twice" if not problems else f"{len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
