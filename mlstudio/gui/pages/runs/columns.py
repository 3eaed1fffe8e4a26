"""Columns of the run table: what each one shows of a run, and how it is sorted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mlstudio.gui.figures import NONE, duration_text, moment_text, number_text, when_text
from mlstudio.model.run import Exit, ExitReason, MetricSummary, RunState, RunSummary


class Kind(StrEnum):
    DOT = "dot"
    NAME = "name"
    STATE = "state"
    PROGRESS = "progress"
    METRIC = "metric"
    PARAMETER = "parameter"
    HOST = "host"
    DURATION = "duration"
    STARTED = "started"
    TAGS = "tags"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `of` is the metric's or parameter's name; `best` shows the best value instead of the last."""

    kind: Kind
    title: str
    width: int
    order: str = ""
    """What the history sorts by; empty if it cannot."""
    of: str = ""
    best: bool = False
    is_number: bool = False

    @property
    def descends_first(self) -> bool:
        """Whether a first click sorts the largest, or the newest, to the top."""
        return self.is_number or self.order in ("started", "ended")

    @property
    def key(self) -> str:
        return ":".join(part for part in (self.kind.value, self.of, "best" if self.best else "") if part)


FIRST = (
    Column(Kind.DOT, "", 30),
    Column(Kind.NAME, "Name", 156, order="name"),
    Column(Kind.STATE, "State", 112, order="state"),
    Column(Kind.PROGRESS, "Progress, ended", 134, order="ended"),
)
LAST = (
    Column(Kind.HOST, "Host · GPU", 120, order="host"),
    Column(Kind.DURATION, "Duration", 80, order="duration", is_number=True),
    Column(Kind.STARTED, "Started", 92, order="started"),
)
TAGS = Column(Kind.TAGS, "Tags", 110)

_LESS_IS_BETTER = re.compile(
    r"loss|error|err\b|perplexity|ppl|\bmae\b|\bmse\b|rmse|nll|bce|divergence|distance|logloss|time|latency",
    re.IGNORECASE,
)


def less_is_better(metric: str) -> bool:
    """Whether a smaller value of that metric is the better one, judged by its name."""
    return _LESS_IS_BETTER.search(metric) is not None


def metric_column(name: str, *, best: bool = False) -> Column:
    title = f"{name} best" if best else name
    width = min(150, max(80, 20 + 7 * len(title)))
    order = f"metric:{name}"
    if best:
        order = f"metric.{name}.{'min' if less_is_better(name) else 'max'}"
    return Column(Kind.METRIC, title, width, order=order, of=name, best=best, is_number=True)


def parameter_column(name: str) -> Column:
    width = min(130, max(64, 20 + 7 * len(name)))
    return Column(Kind.PARAMETER, name, width, order=f"param:{name}", of=name, is_number=True)


def metric_names(runs: Iterable[RunSummary]) -> list[str]:
    """Names of the user's metrics in `runs`, the most telling first: validation before training, then by name."""
    names = {
        metric.name
        for run in runs
        for metric in run.metrics
        if metric.kind == "metric" and metric.name != "epoch" and not metric.same_as
    }
    return sorted(names, key=_weight)


def parameter_names(runs: Sequence[RunSummary]) -> list[str]:
    """Names of parameters in `runs`; those that differ between runs first."""
    values: dict[str, set[str]] = {}
    order: list[str] = []
    for run in runs:
        for name, value in run.parameters:
            if name not in values:
                values[name] = set()
                order.append(name)
            values[name].add(value)
    return sorted(order, key=lambda name: (len(values[name]) < 2, order.index(name)))


def metric_of(run: RunSummary, name: str) -> MetricSummary | None:
    return next((metric for metric in run.metrics if metric.name == name and metric.kind == "metric"), None)


def value_of(run: RunSummary, column: Column) -> float | None:
    """The number that a metric column shows of a run."""
    metric = metric_of(run, column.of)
    if metric is None:
        return None
    if column.best:
        return metric.minimum if less_is_better(column.of) else metric.maximum
    return metric.last


def best_value(runs: Iterable[RunSummary], column: Column) -> float | None:
    """The best of a metric column over `runs`, or None."""
    values = [value for run in runs if (value := value_of(run, column)) is not None and math.isfinite(value)]
    if len(values) < 2:
        return None
    return min(values) if less_is_better(column.of) else max(values)


def decimals_of(values: Iterable[float]) -> int:
    """Decimals that show four significant figures of the largest of `values`, the same for a whole column."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not sizes or all(value == int(value) for value in sizes):
        return 0
    return max(0, min(4, 3 - math.floor(math.log10(max(sizes)))))


def aligned_text(value: float | None, decimals: int) -> str:
    """A metric's value with a column's decimals; in scientific form where these would hide it."""
    if value is None or not math.isfinite(value):
        return number_text(value)
    if value != 0 and (abs(value) >= 1e7 or abs(value) < 10.0 ** -(decimals + 1)):
        return number_text(value)
    return f"{value:,.{decimals}f}".replace("-", "\u2212")


def parameter_of(run: RunSummary, name: str) -> str:
    return next((value for key, value in run.parameters if key == name), NONE)


AGAIN = "Launch the same once more"
NOT_AGAIN = (
    "An imported run cannot be run again from here: what it ran, and in what, was not recorded by ML Studio."
)


def state_key(run: RunSummary) -> str:
    """The name of the run's state among the theme's: one that was imported without its end is not lost."""
    return "imported" if run.is_imported and run.state is RunState.LOST else run.state.value


def progress_words(run: RunSummary, now: float) -> tuple[str, str]:
    """(words, colour) of the progress cell of a run that shows no bar."""
    match run.state:
        case RunState.QUEUED:
            return run.phase or "waiting to start", "text.secondary"
        case RunState.RUNNING:
            if run.desired == "stopped":
                return "stopping", "text.secondary"
            return run.phase or "running", "text.secondary"
        case RunState.SUCCEEDED:
            return when_text(run.ended, now=now), "text.tertiary"
        case RunState.STOPPED:
            share = f"at {run.progress.fraction:.0%}, by you" if run.progress else "by you"
            return share.replace("%", " %"), "text.tertiary"
        case RunState.LOST if run.is_imported:
            return run.phase or when_text(run.ended, now=now), "text.tertiary"
        case RunState.LOST:
            return (run.exit.message if run.exit else run.phase) or "No contact", "status.warning"
        case RunState.FAILED:
            return _failure_words(run.exit), "status.error"


def host_words(run: RunSummary) -> tuple[str, str]:
    """(host, GPUs) of a run."""
    host = run.engine if run.engine_kind != "process" else "process, no container"
    if run.is_imported:
        return f"from {run.engine}", ""
    names = list(dict.fromkeys(run.gpus))
    count = f"{len(run.gpus)} × " if len(run.gpus) > 1 else ""
    return host, f"{count}{names[0]}" if names else "CPU" if run.started is not None else ""


def tooltip_of(run: RunSummary, column: Column, now: float) -> str:
    """What a cell says in full."""
    match column.kind:
        case Kind.NAME:
            return f"{run.name}\n{' '.join(run.command)}" + (f"\n{run.note}" if run.note else "")
        case Kind.PROGRESS:
            if run.exit is not None:
                return " ".join(part for part in (run.exit.message, run.exit.try_this) if part)
            return progress_words(run, now)[0]
        case Kind.STARTED:
            return moment_text(run.started)
        case Kind.DURATION:
            return duration_text(run.duration_s(now))
        case Kind.METRIC:
            metric = metric_of(run, column.of)
            if metric is None:
                return ""
            return (
                f"{column.of}\nlast {number_text(metric.last)} at step {metric.last_step}\n"
                f"min {number_text(metric.minimum)} at step {metric.minimum_step}\n"
                f"max {number_text(metric.maximum)} at step {metric.maximum_step}"
            )
        case _:
            return ""


def _failure_words(how: Exit | None) -> str:
    """Why a run failed, in the few words that a cell holds; the tooltip has the sentence."""
    if how is None:
        return "Failed"
    match how.reason:
        case ExitReason.OUT_OF_MEMORY:
            return "Out of memory"
        case ExitReason.BUILD_FAILED:
            return "Build failed"
        case ExitReason.NOT_STARTED:
            return "Could not start"
        case ExitReason.SIGNAL:
            return f"Killed by signal {how.signal}" if how.signal else "Killed by a signal"
        case _:
            return how.message or f"Exit code {how.code}"


def _weight(name: str) -> tuple[int, str]:
    lower = name.lower()
    if lower.startswith(("val", "test", "eval")):
        rank = 0
    elif "acc" in lower or lower.startswith(("train", "loss")) or lower.endswith("loss"):
        rank = 1
    elif lower in ("lr", "learning_rate") or "time" in lower or "grad" in lower:
        rank = 3
    else:
        rank = 2
    return rank, lower
