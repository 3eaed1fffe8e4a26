"""Amounts in words, the same wherever a person reads them: bytes, spans of time, counts, numbers."""

from __future__ import annotations

import math

from mlstudio.model.run import RunState, RunSummary


def bytes_text(size: float) -> str:
    """``1.2 GB``; decimal units, as disks and registries count."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def seconds_text(seconds: float | None) -> str:
    """``3.2 s``, ``4 min 05 s``, ``2 h 10 min``, ``3 d 4 h``; an en dash if not known."""
    if seconds is None or math.isnan(seconds):
        return "–"
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def ago_text(seconds: float) -> str:
    """``just now``, ``5 min ago``, ``3 d ago``."""
    if seconds < 10:
        return "just now"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (math.inf, 86400, "d")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
    return ""


def count_text(count: int, noun: str) -> str:
    """``1 file``, ``3 files``."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def number_text(value: float | None) -> str:
    """A metric's value with about five significant digits."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.5g}"


def state_text(run: RunSummary) -> str:
    """How a run stands, in a word or two."""
    if run.is_imported and run.state is RunState.LOST:
        # Nothing went wrong: most tools just do not say how a run ends.
        return run.phase or "end unknown"
    return run.state.value


def state_mark(state: RunState) -> str:
    """A sign that says a state beside its word."""
    return {
        RunState.QUEUED: "◌",
        RunState.RUNNING: "▶",
        RunState.SUCCEEDED: "✓",
        RunState.FAILED: "✗",
        RunState.STOPPED: "■",
        RunState.LOST: "?",
    }[state]
