"""Benchmarks: each figure beside its peer, alternating, on the machine at hand. `python -m benchmarks --help`."""
