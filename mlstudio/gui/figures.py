"""Figures and times as words: four significant figures, a true minus, units, durations, relative times."""

from __future__ import annotations

import math
import time

NONE = "–"
_MINUS = "\u2212"


def number_text(value: float | None, *, digits: int = 4) -> str:
    """A metric's value: ``0.7868``, ``1,467``, ``5e-4``, ``NaN``, ``∞``; ``–`` for none."""
    if value is None:
        return NONE
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == 0:
        return "0"
    size = abs(value)
    if value == int(value) and size < 1e6:
        text = f"{int(value):,}"
    elif size >= 1e6 or size < 1e-3:
        mantissa, exponent = f"{value:.{digits - 2}e}".split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        text = f"{mantissa}e{int(exponent)}"
    else:
        decimals = max(0, digits - 1 - math.floor(math.log10(size)))
        text = f"{value:,.{min(decimals, digits)}f}"
    return text.replace("-", _MINUS)


def duration_text(seconds: float | None) -> str:
    """``48 s``, ``3 m 20 s``, ``6 h 12 m``, ``3 d 4 h``; ``–`` for none."""
    if seconds is None:
        return NONE
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s" if whole < 600 else f"{whole // 60} m"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def clock_text(seconds: float) -> str:
    """A running time as a stopwatch shows it: ``0.4 s``, ``0:48``, ``1:02:03``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def bytes_text(count: float | None) -> str:
    """``310 MB``, ``1.2 GB`` (powers of 1000, as disks and Docker count); ``–`` for none."""
    if count is None:
        return NONE
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") or size >= 99.5 else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def when_text(moment: float | None, *, now: float | None = None) -> str:
    """When something was: ``12 s ago``, ``09:12`` today, ``Sun 21:40`` this week, ``3 Nov``, ``3 Nov 2024``."""
    if moment is None:
        return NONE
    at = time.time() if now is None else now
    ago = at - moment
    then, today = time.localtime(moment), time.localtime(at)
    if -1 <= ago < 60:
        return f"{max(0, round(ago))} s ago"
    if 0 <= ago < 3600:
        return f"{round(ago / 60)} min ago"
    if (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday):
        return time.strftime("%H:%M", then)
    if 0 <= ago < 6 * 86400:
        return time.strftime("%a %H:%M", then)
    if then.tm_year == today.tm_year:
        return f"{then.tm_mday} {time.strftime('%b', then)}"
    return f"{then.tm_mday} {time.strftime('%b %Y', then)}"


def moment_text(moment: float | None) -> str:
    """The absolute local time, for tooltips: ``2026-11-03 09:12:30``."""
    return NONE if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def count_text(count: int, word: str) -> str:
    """``1 run``, ``12 runs``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
