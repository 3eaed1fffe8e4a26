"""What the columns of a table mean: which holds the step, the time, the run, names, values.

Tables come long (a row for each point: ``run, name, step, time, value``) or wide (a row for each step, a column for each
metric, as Lightning, Keras and spreadsheets write them).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mlstudio.services.importing.source import Gatherer
from mlstudio.services.importing.values import clean_name, clean_text, parse_number, parse_step, parse_time

Cell = object
Columns = Sequence[Sequence[Cell]]

_NAME = ("name", "metric", "tag", "key", "metric_name")
_VALUE = ("value", "metric_value", "val")
_STEP = (
    "step",
    "_step",
    "global_step",
    "trainer/global_step",
    "steps",
    "iteration",
    "iter",
    "batch",
    "epoch",
)
_TIME = ("time", "_timestamp", "timestamp", "wall_time", "wall time", "walltime", "datetime", "date")
_RUN = ("run", "run_name", "run name", "run_id", "experiment")
_OURS = ("id", "log_id", "space_id", "run_id", "")
"""Columns of trackio's own, and those without a name (pandas' index)."""
_FIRST_WALL_TIME = 3e8
"""A number that is less is no time of a calendar but seconds since the start (1979 knew no training logs)."""


@dataclass(slots=True)
class Layout:
    """The places of the columns; -1: there is none."""

    titles: tuple[str, ...]
    step: int = -1
    time: int = -1
    run: int = -1
    name: int = -1
    value: int = -1
    kind: int = -1
    metrics: tuple[int, ...] = ()
    texts: dict[int, str | None] = field(default_factory=dict)
    """Of columns without numbers: their one text, or None where there are several."""
    numeric: set[int] = field(default_factory=set)

    @property
    def is_long(self) -> bool:
        return self.name >= 0


def lay_out(titles: Sequence[str], sample: Columns) -> Layout:
    """Find out what the columns are, from their titles and some first rows (as columns)."""
    found = Layout(tuple(titles))
    plain = [title.strip().lower() for title in titles]
    found.run = _place(plain, _RUN)
    found.name, found.value = _place(plain, _NAME), _place(plain, _VALUE)
    if found.name >= 0 and found.value >= 0 and any(isinstance(cell, str) for cell in sample[found.name]):
        found.kind = _place(plain, ("kind",))
    else:
        found.name = found.value = -1
    for place in (plain.index(word) for word in _STEP if word in plain):
        cells = [cell for cell in sample[place] if cell is not None and cell != ""]
        if cells and all(parse_step(cell) is not None for cell in cells):
            found.step = place
            break
    for place in (plain.index(word) for word in _TIME if word in plain):
        times = [parse_time(cell) for cell in sample[place] if cell is not None and cell != ""]
        if times and all(time is not None and time >= _FIRST_WALL_TIME for time in times):
            found.time = place
            break
    taken = {found.step, found.time, found.run}
    found.metrics = tuple(
        place for place in range(len(titles)) if place not in taken and plain[place] not in _OURS
    )
    return found


def _place(titles: Sequence[str], words: Iterable[str]) -> int:
    return next((titles.index(word) for word in words if word in titles), -1)


def add_rows(layout: Layout, columns: Columns, gatherer: Gatherer, *, first: int, time: float) -> None:
    """Put rows (as columns) into the series. `first` counts the run's rows before; `time` is for rows without one."""
    count = len(columns[0]) if columns else 0
    if not count:
        return
    steps = _steps(columns[layout.step] if layout.step >= 0 else (), count, first)
    times = _times(columns[layout.time] if layout.time >= 0 else (), count, time)
    if layout.is_long:
        _add_long(layout, columns, gatherer, steps, times)
        return
    for place in layout.metrics:
        _add_column(layout, place, columns[place], gatherer, steps, times)


def _add_long(
    layout: Layout, columns: Columns, gatherer: Gatherer, steps: array[int], times: array[float]
) -> None:
    names = columns[layout.name]
    values = _numbers(columns[layout.value])
    kinds = columns[layout.kind] if layout.kind >= 0 else None
    point = gatherer.point
    for place, value in enumerate(values):
        if value is None:
            continue
        name = names[place]
        if kinds is not None and kinds[place] == "system":
            gatherer.system_names.add(clean_name(str(name)))
        point(name if isinstance(name, str) else str(name), steps[place], times[place], value)


def _add_column(
    layout: Layout,
    place: int,
    cells: Sequence[Cell],
    gatherer: Gatherer,
    steps: array[int],
    times: array[float],
) -> None:
    title = layout.titles[place]
    values = _numbers(cells)
    if isinstance(values, array):
        layout.numeric.add(place)
        gatherer.columns(title, steps[:], times[:], values)
        return
    for row, value in enumerate(values):
        if value is not None:
            layout.numeric.add(place)
            gatherer.point(title, steps[row], times[row], value)
        else:
            cell = cells[row]
            if isinstance(cell, str) and cell.strip():
                text = clean_text(cell)
                known = layout.texts.setdefault(place, text)
                if known != text:
                    layout.texts[place] = None


def _numbers(cells: Sequence[Cell]) -> array[float] | list[float | None]:
    """Numbers; an array where every cell is one."""
    try:
        return array("d", map(float, cells))  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return [parse_number(cell) for cell in cells]


def _steps(cells: Sequence[Cell], count: int, first: int) -> array[int]:
    if cells:
        try:
            if not any(isinstance(cell, float) for cell in cells):
                return array("q", map(int, cells))  # type: ignore[arg-type]
        except (ValueError, TypeError, OverflowError):
            pass  # some rows have no step, or a fraction
        found = [parse_step(cell) for cell in cells]
        return array("q", [first + row if step is None else step for row, step in enumerate(found)])
    return array("q", range(first, first + count))


def _times(cells: Sequence[Cell], count: int, otherwise: float) -> array[float]:
    if cells:
        try:
            # Seconds with a fraction, as most write them: no need to look at each.
            found = array("d", map(float, cells))  # type: ignore[arg-type]
            if min(found) >= _FIRST_WALL_TIME and max(found) < 1e11:
                return found
        except (ValueError, TypeError, OverflowError):
            pass
        parsed = [parse_time(cell) for cell in cells]
        return array("d", [otherwise if time is None else time for time in parsed])
    return array("d", [otherwise]) * count
