"""Following a run from a terminal: its log as it comes, and how it stands at the foot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import click

from mlstudio.cli.area import Area
from mlstudio.cli.curve import Line, chart, main_metrics, spark
from mlstudio.cli.safe_text import cut, safe_line
from mlstudio.cli.session import Session
from mlstudio.model.errors import NotFound
from mlstudio.model.run import LogLine, RunState, RunSummary
from mlstudio.services.words import number_text, seconds_text, state_mark, state_text

_LOOK_EVERY_S = 0.1
_DRAW_EVERY_S = 0.4
_RECORDER_EVERY_S = 2.0
_MOST_LINES_AT_ONCE = 2000
_CHART_POINTS = 600
_CHART_ROWS = 8


class Follower:
    """Prints a run's output as it is recorded, until the run is over."""

    def __init__(
        self,
        session: Session,
        run_id: str,
        *,
        both_to_stdout: bool = False,
        with_status: bool = True,
        start: int = 0,
    ) -> None:
        self._session = session
        self._run_id = run_id
        self._both_to_stdout = both_to_stdout
        self._area = Area(session)
        if not with_status:
            self._area.is_live = False
        self._next_line = start
        self._drawn_at = 0.0
        self._recorder_at = 0.0

    def follow(self, *, until: Callable[[], bool] = lambda: False) -> RunSummary:
        """Block until the run is over or lost, or `until()` is true; return how it stands."""
        runs = self._session.studio.runs
        pause = threading.Event()
        try:
            while True:
                # First how it stands, then its log: so nothing printed before the end is missed.
                summary = runs.get(self._run_id)
                is_over = summary.state.is_final or summary.state is RunState.LOST
                self._print_new(whole=is_over)
                if is_over or until():
                    return summary
                self._keep_recording()
                self._draw(summary)
                pause.wait(_LOOK_EVERY_S)
        finally:
            self._area.clear()

    def _keep_recording(self) -> None:
        """A recorder that died is started again."""
        if time.monotonic() - self._recorder_at > _RECORDER_EVERY_S:
            self._recorder_at = time.monotonic()
            self._session.studio.recorder.ensure()

    def _print_new(self, *, whole: bool) -> None:
        runs = self._session.studio.runs
        while True:
            lines = runs.log(self._run_id, start=self._next_line, count=_MOST_LINES_AT_ONCE)
            if not lines:
                return
            self._area.write_lines([self._as_written(line) for line in lines])
            self._next_line = lines[-1].number + 1
            if len(lines) < _MOST_LINES_AT_ONCE:
                return

    def _as_written(self, line: LogLine) -> tuple[str, bool]:
        err = self._session.wants_json or (line.is_error_stream and not self._both_to_stdout)
        return safe_line(line.text, colour=True), err

    def _draw(self, summary: RunSummary) -> None:
        now = time.monotonic()
        if not self._area.is_live or now - self._drawn_at < _DRAW_EVERY_S:
            return
        self._drawn_at = now
        self._area.draw(status_lines(self._session, summary))


def status_lines(session: Session, summary: RunSummary) -> list[str]:
    """How a run stands, in one line with a little curve."""
    words = [f"{state_mark(summary.state)} {summary.name}"]
    if summary.phase:
        words.append(summary.phase)
    duration = summary.duration_s(time.time())
    if duration is not None:
        words.append(seconds_text(duration))
    if summary.progress is not None:
        progress = summary.progress
        words.append(f"{progress.unit} {progress.done:g}/{progress.total:g}")
        if progress.eta_s is not None:
            words.append(f"{seconds_text(progress.eta_s)} left")
    for name in main_metrics([metric.name for metric in summary.metrics if metric.kind == "metric"], most=2):
        last = next(
            metric.last for metric in summary.metrics if metric.name == name and metric.kind == "metric"
        )
        words.append(f"{name} {number_text(last)} {_spark(session, summary.id, name)}".rstrip())
    return [cut("   ".join(words), session.width - 1)]


def end_lines(session: Session, summary: RunSummary) -> list[str]:
    """How a run ended: the curve of its main metrics, and a sentence."""
    names = main_metrics([metric.name for metric in summary.metrics if metric.kind == "metric"])
    curves = []
    for name in names:
        try:
            series = session.studio.runs.thinned(summary.id, name, max_points=_CHART_POINTS)
        except NotFound:
            continue
        curves.append(Line(name=name, xs=series.steps.tolist(), ys=series.values.tolist()))
    width = min(session.width - 1, 100)
    lines = (
        chart(curves, width=width, height=_CHART_ROWS) if any(len(curve.xs) > 1 for curve in curves) else []
    )
    return [*lines, ending(summary)]


def ending(summary: RunSummary) -> str:
    """One sentence about how a run ended."""
    colour = {RunState.SUCCEEDED: "green", RunState.FAILED: "red", RunState.LOST: "red"}.get(summary.state)
    if summary.is_imported and summary.state is RunState.LOST:
        colour = None
    duration = summary.duration_s(time.time())
    took = f" after {seconds_text(duration)}" if duration is not None else ""
    state = state_text(summary)
    head = click.style(f"{state_mark(summary.state)} {summary.name} {state}{took}", fg=colour)
    if summary.exit is None or summary.state is RunState.SUCCEEDED:
        return head
    said = safe_line(summary.exit.message).rstrip(".") or (
        f"exit code {summary.exit.code}" if summary.exit.code is not None else summary.exit.reason.value
    )
    hint = (
        f"\n{click.style('Try:', bold=True)} {safe_line(summary.exit.try_this)}"
        if summary.exit.try_this
        else ""
    )
    return f"{head}: {said}.{hint}"


def _spark(session: Session, run_id: str, name: str) -> str:
    try:
        series = session.studio.runs.thinned(run_id, name, max_points=200)
    except NotFound:
        return ""
    return spark(series.values.tolist())
