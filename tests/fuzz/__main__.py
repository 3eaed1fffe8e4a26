"""`python -m tests.fuzz`: many inputs for each reader, each reader in a process of its own; a line for each.

Exit code 1 where an input made a reader fail, hang or take too much memory. With the same seed the inputs are the same.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.running import MOST_BYTES, MOST_SECONDS, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(names)} (all of them)")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    unknown = set(wanted.targets) - set(names)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    print(f"{'reader':<20} {'inputs':>9} {'seconds':>8} {'slowest':>9} {'memory':>9}  result")
    failed = False
    for name in wanted.targets or names:
        found = fuzz(name, inputs=wanted.inputs, seed=wanted.seed)
        is_bad = bool(found.failure) or found.slowest_s > MOST_SECONDS or found.grown_bytes > MOST_BYTES
        failed |= is_bad
        print(
            f"{name:<20} {found.inputs:>9,} {found.seconds:>8.1f} {found.slowest_s * 1000:>6.1f} ms "
            f"{found.grown_bytes / 1e6:>6.1f} MB  {'FAILED' if is_bad else 'ok'}",
            flush=True,
        )
        if found.failure:
            print(found.failure, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
