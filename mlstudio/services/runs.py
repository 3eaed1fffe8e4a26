"""Runs: reading them, naming them, stopping and removing them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlstudio.model.errors import EngineAway, NotFound, RequestError
from mlstudio.model.image import ImageRecord
from mlstudio.model.run import (
    LogLine,
    MetricSummary,
    RunDetail,
    RunEvent,
    RunState,
    RunSummary,
)
from mlstudio.services.engine_table import Engines
from mlstudio.services.query import Completion
from mlstudio.services.recorder_control import RecorderControl
from mlstudio.services.settings import Settings
from mlstudio.store import Changes, History

if TYPE_CHECKING:
    from mlstudio.store import Series  # With NumPy behind it, which listing runs does without.

_LOOK_EVERY_S = 0.1


class RunService:
    """What people do with runs that exist. Thread-safe. Reading goes to the history, acting to the engines.

    Every `run_id` is a full id; `resolve` makes one from what a person types.
    """

    def __init__(
        self, *, history: History, engines: Engines, recorder: RecorderControl, settings: Settings
    ) -> None:
        self._history = history
        self._engines = engines
        self._recorder = recorder
        self._settings = settings

    # -- reading ------------------------------------------------------------------------------------------------

    def resolve(self, text: str) -> str:
        """The id of the run that `text` means: a number, an id or its beginning, or a name (the newest of it).

        The empty text means the newest run. Raises NotFound; RequestError if it may mean several.
        """
        if text:
            return self._history.resolve(text)
        newest = self._history.runs(order_by="number", limit=1, with_metrics=False)
        if not newest:
            raise NotFound(
                "There are no runs yet.",
                field="run",
                try_this="`mlstudio run FOLDER` starts one; `mlstudio examples` lists some that train for real.",
            )
        return newest[0].id

    def get(self, run_id: str) -> RunSummary:
        """A run as it stands. Raises NotFound."""
        return self._history.summary(run_id)

    def detail(self, run_id: str) -> RunDetail:
        """Everything about a run that is not a series or a log. Raises NotFound."""
        return self._history.detail(run_id)

    def list(
        self,
        *,
        ids: Collection[str] | None = None,
        states: Collection[RunState] | None = None,
        search: str = "",
        where: str = "",
        archived: bool = False,
        order_by: str = "created",
        descending: bool = True,
        limit: int | None = None,
        offset: int = 0,
        with_metrics: bool = True,
    ) -> Sequence[RunSummary]:
        """Runs, filtered and sorted by the database. `where` is a filter as in docs/query.md. Raises QueryError."""
        return self._history.runs(
            ids=ids,
            states=states,
            search=search,
            where=where,
            archived=archived,
            order_by=order_by,
            descending=descending,
            limit=limit,
            offset=offset,
            with_metrics=with_metrics,
        )

    def count(
        self,
        *,
        states: Collection[RunState] | None = None,
        search: str = "",
        where: str = "",
        archived: bool = False,
    ) -> int:
        return self._history.count(states=states, search=search, where=where, archived=archived)

    def groups(
        self, by: str, *, where: str = "", archived: bool = False
    ) -> Sequence[tuple[str | float | None, int]]:
        """(value, how many runs) of an attribute or parameter, the most frequent first."""
        return self._history.groups(by, where=where, archived=archived)

    def complete(self, text: str, position: int | None = None) -> Completion:
        """What may stand at a place of a filter."""
        return self._history.complete(text, position)

    def names(self) -> tuple[Sequence[str], Sequence[str]]:
        """(parameters, metrics) that any run has."""
        return self._history.names()

    def live(self) -> Sequence[str]:
        """Ids of runs that are not over."""
        return self._history.live_runs()

    def revision(self) -> int:
        return self._history.revision()

    def changed_since(self, revision: int) -> Changes:
        """Runs that changed after `revision`, and ids of removed ones."""
        return self._history.changed_since(revision)

    def data_version(self) -> int:
        """A number that changes when another process has committed; cheap enough to ask many times a second."""
        return self._history.data_version()

    def metrics(self, run_id: str, *, kind: str | None = None) -> Sequence[MetricSummary]:
        return self._history.metrics(run_id, kind=kind)

    def series(
        self, run_id: str, name: str, *, kind: str = "metric", start: int = 0, stop: int | None = None
    ) -> Series:
        """Every point of a series from `start` (a point's index) on. Raises NotFound.

        A series that only says the same as another one of its run may have given up its points: then those of the other.
        """
        found = self._history.series(run_id, name, kind=kind, start=start, stop=stop)
        if len(found) or kind != "metric":
            return found
        for metric in self._history.metrics(run_id, kind=kind):
            if metric.name == name and metric.same_as:
                better = self._history.series(run_id, metric.same_as, kind=kind, start=start, stop=stop)
                return replace(better, name=name)
        return found

    def thinned(self, run_id: str, name: str, *, kind: str = "metric", max_points: int = 2400) -> Series:
        """A series with few enough points to draw; minima and maxima are kept."""
        return self._history.thinned(run_id, name, kind=kind, max_points=max_points)

    def log(self, run_id: str, *, start: int = 0, count: int = 1000) -> Sequence[LogLine]:
        return self._history.log(run_id, start=start, count=count)

    def log_count(self, run_id: str) -> int:
        return self._history.log_count(run_id)

    def open_line(self, run_id: str) -> LogLine | None:
        """The line that is being written and not counted yet, such as a progress bar."""
        return self._history.open_line(run_id)

    def search_log(self, run_id: str, text: str, *, start: int = 0, limit: int = 1000) -> Sequence[int]:
        return self._history.search_log(run_id, text, start=start, limit=limit)

    def events(self, run_id: str) -> Sequence[RunEvent]:
        return self._history.events(run_id)

    def image_of(self, run_id: str) -> ImageRecord | None:
        """The record of the image that the run used, with its packages."""
        image_id = self._history.summary(run_id).image_id
        return self._history.image(image_id) if image_id else None

    def wait(self, run_id: str, *, timeout: float | None = None) -> RunSummary:
        """Block until the run is over or lost, or `timeout` seconds have passed; return how it stands then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            summary = self._history.summary(run_id)
            if summary.state.is_final or summary.state is RunState.LOST:
                return summary
            left = _LOOK_EVERY_S if deadline is None else min(_LOOK_EVERY_S, deadline - time.monotonic())
            if left <= 0:
                return summary
            time.sleep(left)

    # -- acting -------------------------------------------------------------------------------------------------

    def stop(self, run_id: str, grace_s: float | None = None) -> RunSummary:
        """Ask the run to end: SIGTERM, and SIGKILL after `grace_s` seconds (default: the setting run.grace_s).

        Writes the wish first, so that it holds even if the engine is away just now or this process dies. Returns when
        the container has ended; the recorder writes how. Quiet for a run that is over.
        """
        summary = self._history.summary(run_id)
        if summary.is_over:
            return summary
        self._history.set_desired(run_id, "stopped", grace_s=grace_s)
        self._recorder.ensure()
        handle = self._history.detail(run_id).handle
        if handle:
            grace = self._settings.number("run.grace_s") if grace_s is None else grace_s
            try:
                self._engines.get(summary.engine).stop(handle, grace_s=grace)
            except EngineAway as error:
                raise EngineAway(
                    f"The run {summary.name} will be stopped as soon as the engine answers.",
                    why=error.why or error.what,
                    try_this=error.try_this,
                    can_retry=True,
                ) from error
        return self._history.summary(run_id)

    def remove(self, run_id: str, *, force: bool = False) -> None:
        """Remove a run with its container and every record of it; for good.

        Raises RequestError for one that is not over, unless `force` (then it is stopped first); WorldError if its
        container cannot be removed now (with `force` the records go all the same).
        """
        summary = self._history.summary(run_id)
        if not summary.state.is_final and summary.state is not RunState.LOST:
            if not force:
                raise RequestError(
                    f"The run {summary.name} is still {summary.state.value}.",
                    field="run",
                    try_this="Stop it first, or remove it with --force.",
                )
            try:
                self.stop(run_id, 0.0)
            except EngineAway:
                pass  # with force the records go all the same
        handle = self._history.detail(run_id).handle
        if handle:
            try:
                self._engines.get(summary.engine).remove(handle)
            except (EngineAway, NotFound):
                if not force:
                    raise
        self._history.remove_run(run_id)

    def rename(self, run_id: str, name: str) -> None:
        if not name.strip():
            raise RequestError("A run needs a name.", field="name")
        self._history.rename(run_id, name.strip())

    def tag(self, run_id: str, tags: Sequence[str]) -> None:
        """Set the run's tags; blanks and repetitions are dropped."""
        self._history.set_tags(run_id, tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip())))

    def note(self, run_id: str, note: str) -> None:
        self._history.set_note(run_id, note)

    def archive(self, run_id: str, archived: bool = True) -> None:
        """Put the run out of sight, or back."""
        self._history.archive(run_id, archived)
