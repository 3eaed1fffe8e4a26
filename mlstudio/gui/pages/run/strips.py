"""Which plots a run has: its metrics, training and validation in one, and its system readings with limits and units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlstudio.gui.figures import bytes_text, number_text
from mlstudio.model.run import MetricSummary

_GPU = re.compile(r"gpu\.(\d+)\.(\w+)")
_TRAIN = ("train", "training", "tr")
_VALIDATION = ("val", "valid", "validation", "test", "eval")
DASH = (6.0, 3.0)
DOTS = (2.0, 2.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a strip."""

    name: str
    dash: tuple[float, ...] = ()
    is_area: bool = False


@dataclass(frozen=True, slots=True)
class Strip:
    """One plot in the column of aligned plots."""

    key: str
    title: str
    detail: str
    kind: str
    lines: tuple[Line, ...]
    height: int
    floor: float | None = None
    top: float | None = None
    factor: float = 1.0
    """What readings are divided by to be shown in the strip's unit."""


def strips_of(metrics: Sequence[MetricSummary]) -> list[Strip]:
    """The user's metrics first, then GPUs, then the rest of the machine; readings that are absent have no strip.

    What another logger said as well (`same_as`) has none of its own.
    """
    own = [
        metric
        for metric in metrics
        if metric.kind == "metric" and metric.name != "epoch" and metric.count and not metric.same_as
    ]
    system = {metric.name: metric for metric in metrics if metric.kind == "system" and metric.count}
    return _metric_strips(own) + _gpu_strips(system) + _machine_strips(system)


def reading_words(name: str, value: float | None, system: dict[str, MetricSummary]) -> str:
    """A system reading with its unit: ``61 %``, ``21.4 GB``, ``271 W``."""
    if value is None:
        return "–"
    if name == "cpu.percent":
        return f"{value:.0f} %"
    if name.endswith("_percent"):
        return f"{value:.0f} %"
    if name.endswith("bytes_per_s"):
        return f"{bytes_text(value)}/s"
    if name.endswith("bytes"):
        return bytes_text(value)
    if name.endswith("_w"):
        return f"{value:.0f} W"
    if name.endswith("_c"):
        return f"{value:.0f} °C"
    if name.endswith("_mhz"):
        return f"{value:.0f} MHz"
    return number_text(value)


def reading_title(name: str) -> str:
    """What a person calls a system reading."""
    found = _GPU.fullmatch(name)
    if found:
        what = {
            "utilisation_percent": "utilisation",
            "memory_bytes": "memory",
            "power_w": "power",
            "temperature_c": "temperature",
        }.get(found.group(2), found.group(2).replace("_", " "))
        return f"GPU {found.group(1)} {what}"
    return {
        "cpu.percent": "CPU",
        "memory.bytes": "Memory",
        "io.read_bytes_per_s": "Disk read",
        "io.write_bytes_per_s": "Disk write",
        "net.rx_bytes_per_s": "Network in",
        "net.tx_bytes_per_s": "Network out",
    }.get(name, name)


def shown_readings(system: dict[str, MetricSummary]) -> list[str]:
    """System readings worth a line in the side column, in reading order."""
    order = ("utilisation_percent", "memory_bytes", "power_w", "temperature_c")
    gpus = sorted(
        (name for name in system if (found := _GPU.fullmatch(name)) and found.group(2) in order),
        key=lambda name: (int(name.split(".")[1]), order.index(name.split(".")[2])),
    )
    rest = (
        "cpu.percent",
        "memory.bytes",
        "io.read_bytes_per_s",
        "io.write_bytes_per_s",
        "net.rx_bytes_per_s",
        "net.tx_bytes_per_s",
    )
    return gpus + [name for name in rest if name in system]


def _metric_strips(metrics: list[MetricSummary]) -> list[Strip]:
    groups: dict[str, list[tuple[int, MetricSummary]]] = {}
    for metric in metrics:
        role, stem = _role(metric.name)
        groups.setdefault(stem, []).append((role, metric))
    strips: list[Strip] = []
    for stem, members in groups.items():
        roles = [role for role, _ in members]
        if len(members) > 1 and len(set(roles)) == len(roles):
            members.sort(key=lambda member: member[0])
            words = [_role_word(role) for role in sorted(roles)]
            lines = tuple(
                Line(metric.name, dash=DASH if role == 1 else DOTS if role == 2 else ())
                for role, metric in members
            )
            strips.append(Strip(stem, stem, ", ".join(words), "metric", lines, 128))
        else:
            strips += [
                Strip(metric.name, metric.name, metric.unit, "metric", (Line(metric.name),), 108)
                for _, metric in members
            ]
    strips.sort(key=lambda strip: _rank(strip))
    return strips


def _gpu_strips(system: dict[str, MetricSummary]) -> list[Strip]:
    indices = sorted({int(found.group(1)) for name in system if (found := _GPU.fullmatch(name))})
    strips: list[Strip] = []
    for index in indices:
        prefix = f"gpu.{index}."
        if prefix + "utilisation_percent" in system:
            strips.append(
                Strip(
                    prefix + "utilisation",
                    f"GPU {index}",
                    "% utilisation",
                    "system",
                    (Line(prefix + "utilisation_percent", is_area=True),),
                    88,
                    0.0,
                    100.0,
                )
            )
        memory, total = system.get(prefix + "memory_bytes"), system.get(prefix + "memory_total_bytes")
        if memory is not None:
            limit = total.last / 1e9 if total is not None and total.last else None
            words = f"GB, of {limit:.3g}" if limit else "GB"
            strips.append(
                Strip(
                    prefix + "memory",
                    f"GPU {index} memory",
                    words,
                    "system",
                    (Line(prefix + "memory_bytes"),),
                    76,
                    0.0,
                    limit,
                    1e9,
                )
            )
        power, most = system.get(prefix + "power_w"), system.get(prefix + "power_limit_w")
        if power is not None:
            limit = most.last if most is not None else None
            words = f"W, limit {limit:.0f}" if limit else "W"
            strips.append(
                Strip(
                    prefix + "power",
                    f"GPU {index} power",
                    words,
                    "system",
                    (Line(prefix + "power_w"),),
                    76,
                    0.0,
                    limit,
                )
            )
        if prefix + "temperature_c" in system:
            strips.append(
                Strip(
                    prefix + "temperature",
                    f"GPU {index} temperature",
                    "°C",
                    "system",
                    (Line(prefix + "temperature_c"),),
                    76,
                )
            )
    return strips


def _machine_strips(system: dict[str, MetricSummary]) -> list[Strip]:
    strips: list[Strip] = []
    if "cpu.percent" in system:
        strips.append(
            Strip(
                "cpu",
                "CPU",
                "%, 100 is one core",
                "system",
                (Line("cpu.percent", is_area=True),),
                88,
                0.0,
                100.0,
            )
        )
    memory, limit = system.get("memory.bytes"), system.get("memory.limit_bytes")
    if memory is not None:
        unit, factor = ("GB", 1e9) if (memory.maximum or 0) >= 5e8 else ("MB", 1e6)
        words = unit
        if limit is not None and limit.last:
            words = f"{unit}, limit {bytes_text(limit.last)}"
        strips.append(
            Strip("memory", "Memory", words, "system", (Line("memory.bytes"),), 76, 0.0, None, factor)
        )
    for key, title, solid, dashed in (
        ("io", "Disk", "io.read_bytes_per_s", "io.write_bytes_per_s"),
        ("net", "Network", "net.rx_bytes_per_s", "net.tx_bytes_per_s"),
    ):
        present = [system[name] for name in (solid, dashed) if name in system]
        largest = max((metric.maximum or 0.0 for metric in present), default=0.0)
        if largest <= 0:
            continue
        unit, factor = ("GB/s", 1e9) if largest >= 1e9 else ("MB/s", 1e6) if largest >= 1e5 else ("kB/s", 1e3)
        words = f"{unit}, read solid, write dashed" if key == "io" else f"{unit}, in solid, out dashed"
        lines = tuple(Line(name, dash=dash) for name, dash in ((solid, ()), (dashed, DASH)) if name in system)
        strips.append(Strip(key, title, words, "system", lines, 76, 0.0, None, factor))
    return strips


def _role(name: str) -> tuple[int, str]:
    """(0 training, 1 validation, 2 test or none; the rest of the name)."""
    lower = name.lower()
    for separator in ("/", "_", ".", "-", " "):
        head, found, rest = lower.partition(separator)
        if found and rest:
            if head in _TRAIN:
                return 0, rest
            if head in ("test",):
                return 2, rest
            if head in _VALIDATION:
                return 1, rest
    return 0, lower


def _role_word(role: int) -> str:
    return ("train solid", "val dashed", "test dotted")[role]


def _rank(strip: Strip) -> tuple[int, int, str]:
    title = strip.title.lower()
    if "loss" in title:
        rank = 0
    elif any(word in title for word in ("acc", "top1", "f1", "auc", "score", "bleu", "iou")):
        rank = 1
    elif any(word in title for word in ("lr", "learning_rate", "grad", "time", "throughput")):
        rank = 3
    else:
        rank = 2
    return rank, -len(strip.lines), title
