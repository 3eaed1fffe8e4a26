"""`python -m benchmarks`: run the benchmarks and print their tables."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks.harness import Comparison, table

BENCHMARKS = {
    "launch": ("benchmarks.launch", 9, "a run beside `docker run` of the same image"),
    "rebuild": ("benchmarks.rebuild", 9, "a rebuild after an edit beside `docker build`"),
    "window": ("benchmarks.window", 7, "the window's first picture beside an empty PySide6 window"),
    "series": ("benchmarks.series", 5, "points written, stored and read beside other trackers"),
    "recording": ("benchmarks.recording", 3, "the recorder under sixty-four live runs"),
    "scale": ("benchmarks.scale", 9, "a history that grows; `scale --help` tells how large it can be"),
    "training-step": ("benchmarks.training_step", 7, "a real training step with and without logging"),
    "log-cost": ("benchmarks.log_cost", 7, "mlstudio.log beside other ways to keep numbers"),
}


def main() -> int:
    if sys.argv[1:2] == ["scale"] and len(sys.argv) > 2:
        from benchmarks.scale import main as scale

        return scale(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure ML Studio beside its peers, in turns, on this machine.",
        epilog="\n".join(f"  {name:<10} {sentence}" for name, (_, _, sentence) in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; all of them by default")
    parser.add_argument("--rounds", type=int, help="turns of each contestant (default: 7 or 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement to FILE")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")

    found: list[Comparison] = []
    for name in options.names or BENCHMARKS:
        module, rounds, _ = BENCHMARKS[name]
        compared = importlib.import_module(module).compare(options.rounds or rounds)
        for comparison in [compared] if isinstance(compared, Comparison) else compared:
            found.append(comparison)
            print(f"── {comparison.name} " + "─" * (70 - len(comparison.name)))
            print(table(comparison), end="\n\n", flush=True)
    if options.json:
        report = {"python": sys.version, "benchmarks": [comparison.as_json() for comparison in found]}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
    return 1 if any(comparison.met is False for comparison in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
