"""Curves made of braille dots: 2 × 4 dots a character (Unicode block U+2800), a colour for each curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import click

from mlstudio.cli.safe_text import cut
from mlstudio.services.words import number_text

# Dot bits by column and row inside a character: Unicode 1.1, "Braille Patterns".
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve to draw: `xs` grow; values that are not finite leave a hole."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


def chart(lines: Sequence[Line], *, width: int, height: int) -> list[str]:
    """`lines` in `height` rows of dots, their range at the left and a legend below; empty without points."""
    points = [
        [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
        for line in lines
    ]
    everything = [point for line in points for point in line]
    if not everything:
        return []
    low_x, high_x = min(x for x, _ in everything), max(x for x, _ in everything)
    low_y, high_y = min(y for _, y in everything), max(y for _, y in everything)
    top, bottom = number_text(high_y), number_text(low_y)
    margin = max(len(top), len(bottom)) + 1
    columns = max(8, width - margin - 1)
    cells = [[0] * columns for _ in range(height)]
    owner = [[0] * columns for _ in range(height)]

    def place(x: float, y: float) -> tuple[int, int]:
        across = (x - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        up = (y - low_y) / (high_y - low_y) if high_y > low_y else 0.5
        return round(across * (columns * 2 - 1)), round((1 - up) * (height * 4 - 1))

    for index, line in enumerate(points):
        before: tuple[int, int] | None = None
        for x, y in line:
            here = place(x, y)
            for column, row in _between(before or here, here):
                cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
                owner[row // 4][column // 2] = index
            before = here
    rows = []
    for number in range(height):
        label = top if number == 0 else bottom if number == height - 1 else ""
        body = "".join(
            click.style(chr(0x2800 + cell), fg=_COLOURS[who % len(_COLOURS)]) if cell else " "
            for cell, who in zip(cells[number], owner[number], strict=True)
        )
        rows.append(f"{label:>{margin - 1}} {body}".rstrip())
    legend = "  ".join(
        click.style("━ ", fg=_COLOURS[index % len(_COLOURS)])
        + f"{cut(line.name, 40)} {number_text(points[index][-1][1]) if points[index] else '–'}"
        for index, line in enumerate(lines)
    )
    return [*rows, " " * margin + legend]


def spark(values: Sequence[float], *, width: int = 12) -> str:
    """A curve in one row of blocks: the last `width` means of `values`."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    size = max(1, math.ceil(len(finite) / width))
    means = [sum(part) / len(part) for part in (finite[i : i + size] for i in range(0, len(finite), size))]
    low, high = min(means), max(means)
    if high == low:
        return _BLOCKS[3] * len(means)
    return "".join(_BLOCKS[min(7, int((mean - low) / (high - low) * 8))] for mean in means)


def main_metrics(names: Sequence[str], *, most: int = 3) -> tuple[str, ...]:
    """The metrics to draw first, all of one kind: losses of training and validation if there are any."""
    wanted = [name for name in names if name not in ("epoch", "step", "lr", "learning_rate")]
    for kind in ("loss", "acc", "auc", "f1", "error", "reward"):
        group = [name for name in wanted if kind in name.lower()]
        if group:
            return tuple(sorted(group, key=lambda name: (len(name), name))[:most])
    return tuple(wanted[:1])


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line, both ends included."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    if steps == 0:
        return [end]
    return [
        (
            round(start[0] + (end[0] - start[0]) * step / steps),
            round(start[1] + (end[1] - start[1]) * step / steps),
        )
        for step in range(steps + 1)
    ]
