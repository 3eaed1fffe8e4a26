"""Ticks: round places on an axis and the words beside them. Pure functions."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum

_MINUS = "\u2212"
_CLOCK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


class Scale(StrEnum):
    """What an axis counts."""

    NUMBER = "number"
    LOG = "log"
    """Values are log10 of what is shown."""
    CLOCK = "clock"
    """Seconds since the epoch, shown as local time."""
    SPAN = "span"
    """Seconds since a beginning."""


@dataclass(frozen=True, slots=True)
class Tick:
    place: float
    """In the axis' own numbers (log10 on a log axis)."""
    text: str


def ticks_between(low: float, high: float, scale: Scale, *, most: int = 6) -> list[Tick]:
    """At most about `most` labelled ticks in [low, high]; empty for an empty or endless range."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    if scale is Scale.LOG:
        return _log_ticks(low, high, most)
    if scale is Scale.CLOCK:
        return _clock_ticks(low, high, most)
    if scale is Scale.SPAN:
        return _span_ticks(low, high, most)
    return _number_ticks(low, high, most)


def tick_text(value: float, step: float) -> str:
    """A number as an axis writes it: as many decimals as the step needs, thousands as ``2k``."""
    if value == 0:
        return "0"
    size = max(abs(value), step)
    if size >= 1e15 or size < 1e-4:
        text = f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    elif size >= 1e9:
        text = f"{value / 1e9:g}G"
    elif size >= 1e6:
        text = f"{value / 1e6:g}M"
    elif size >= 10_000 or (size >= 1000 and step >= 100):
        text = f"{value / 1000:g}k"
    else:
        decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
        if step not in (0.0,) and abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
            decimals += 1
        text = f"{value:.{decimals}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
    return text.replace("-", _MINUS)


def place_text(value: float, scale: Scale) -> str:
    """A place on an axis in full, for the crosshair's chip and the readout."""
    if scale is Scale.CLOCK:
        return time.strftime("%H:%M:%S", time.localtime(value))
    if scale is Scale.SPAN:
        return _span_text(value, 1)
    if scale is Scale.LOG:
        value = 10**value
    if abs(value) >= 1 and abs(value - round(value)) < 1e-9:
        return f"{round(value):,}".replace("-", _MINUS)
    return f"{value:,.4g}".replace("-", _MINUS)


def _nice_step(span: float, most: int) -> float:
    rough = span / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if rough <= factor * power * (1 + 1e-9):
            return factor * power
    return 10.0 * power


def _number_ticks(low: float, high: float, most: int) -> list[Tick]:
    step = _nice_step(high - low, most)
    if step <= 0 or low + step == low:
        return []
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [Tick(index * step, tick_text(index * step, step)) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[Tick]:
    decades = high - low
    if decades > 1.6:
        jump = max(1, math.ceil(decades / most))
        begin = math.ceil(low / jump - 1e-9) * jump
        exponents = range(begin, math.floor(high + 1e-9) + 1, jump)
        if len(exponents) >= 2:
            return [Tick(float(power), _power_text(power)) for power in exponents]
    bottom, top = 10.0**low, 10.0**high
    for factors in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)):
        found = [
            (math.log10(factor) + power, factor * 10.0**power)
            for power in range(math.floor(low), math.ceil(high) + 1)
            for factor in factors
            if low - 1e-9 <= math.log10(factor) + power <= high + 1e-9
        ]
        if 3 <= len(found) <= most + 2:
            return [Tick(place, tick_text(value, min(value, 1.0) / 10)) for place, value in found]
    step = _nice_step(top - bottom, most)
    first = math.ceil(bottom / step - 1e-9)
    values = [index * step for index in range(first, math.floor(top / step + 1e-9) + 1) if index > 0]
    return [Tick(math.log10(value), tick_text(value, step)) for value in values]


def _power_text(power: int) -> str:
    if -4 <= power <= 6:
        return tick_text(10.0**power, 10.0**power)
    return f"1e{power}".replace("-", _MINUS)


def _clock_ticks(low: float, high: float, most: int) -> list[Tick]:
    step = next((s for s in _CLOCK_STEPS if (high - low) / s <= most), 0)
    if not step:
        step = 86400 * math.ceil((high - low) / most / 86400)
    # Round local times, not round UTC ones.
    shift = time.localtime(low).tm_gmtoff
    first = math.ceil((low + shift) / step - 1e-9)
    last = math.floor((high + shift) / step + 1e-9)
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%d %b"
    return [
        Tick(index * step - shift, time.strftime(form, time.localtime(index * step - shift)))
        for index in range(first, last + 1)
    ]


def _span_ticks(low: float, high: float, most: int) -> list[Tick]:
    if high - low < 2:
        return [Tick(t.place, f"{t.text} s") for t in _number_ticks(low, high, most)]
    step = next((s for s in _CLOCK_STEPS if (high - low) / s <= most), 0)
    if not step:
        step = 86400 * math.ceil((high - low) / most / 86400)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [Tick(float(index * step), _span_text(index * step, step)) for index in range(first, last + 1)]


def _span_text(seconds: float, step: float) -> str:
    whole = round(abs(seconds))
    sign = _MINUS if seconds < -0.5 else ""
    if whole == 0:
        return "0"
    if whole < 60:
        return f"{sign}{whole} s"
    if whole < 3600:
        rest = whole % 60
        return f"{sign}{whole // 60} m" if step >= 60 and not rest else f"{sign}{whole // 60}:{rest:02d}"
    if whole < 86400 or step < 3600:
        rest = whole % 3600 // 60
        return (
            f"{sign}{whole // 3600} h" if step >= 3600 and not rest else f"{sign}{whole // 3600} h {rest:02d}"
        )
    rest = whole % 86400 // 3600
    return f"{sign}{whole // 86400} d" + (f" {rest} h" if rest else "")
