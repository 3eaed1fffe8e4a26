"""`mlstudio.Studio`: the history and the engines of one home, for scripts and notebooks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mlstudio.api.run import Run, pandas_module
from mlstudio.engines.engine import Engine
from mlstudio.model.run import RunSpec, RunSummary
from mlstudio.services.studio import Studio as Services

if TYPE_CHECKING:
    import pandas

    from mlstudio.store import History


class Studio:
    """What is in `home` (by default the one that the window and the command line use).

    `close` it when done, or use it as a context manager. Raises WorldError where the history cannot be opened.
    `engines` replaces the machine's own engines, as tests do.
    """

    def __init__(
        self, home: str | os.PathLike[str] | None = None, *, engines: Mapping[str, Engine] | None = None
    ) -> None:
        self._services = Services(Path(home) if home is not None else None, engines=engines)

    def __repr__(self) -> str:
        return f"<Studio {str(self.home)!r}>"

    @property
    def home(self) -> Path:
        return self._services.home

    @property
    def _history(self) -> History:
        return self._services.history

    def close(self) -> None:
        self._services.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- finding --------------------------------------------------------------------------------------------------

    def runs(
        self,
        where: str = "",
        *,
        sort: str = "created",
        ascending: bool = False,
        limit: int | None = None,
        archived: bool = False,
    ) -> list[Run]:
        """Runs for which the expression `where` holds (docs/query.md); all of them without one.

        `sort`: an attribute (``created``, ``name``, ``duration``, …), ``metric:NAME``, ``param:NAME``. Raises QueryError,
        which names the place in the expression.
        """
        return [Run(self, found) for found in self._summaries(where, sort, ascending, limit, archived)]

    def run(self, which: int | str) -> Run:
        """The run that a number, an id, the beginning of an id or a name means. Raises NotFound."""
        run_id = self._services.runs.resolve(str(which))
        return Run(self, self._services.runs.get(run_id))

    def records(
        self,
        where: str = "",
        *,
        sort: str = "created",
        ascending: bool = False,
        limit: int | None = None,
        archived: bool = False,
    ) -> list[dict[str, Any]]:
        """One dictionary a run: its attributes, ``param.NAME`` and the last value of each metric as ``metric.NAME``."""
        rows = []
        for summary in self._summaries(where, sort, ascending, limit, archived):
            run = Run(self, summary)
            row: dict[str, Any] = {
                "number": run.number,
                "name": run.name,
                "state": run.state,
                "created": run.created,
                "started": run.started,
                "ended": run.ended,
                "duration_s": run.duration_s,
                "host": summary.host,
                "engine": summary.engine,
                "tags": ", ".join(run.tags),
                "note": run.note,
                "exit_code": run.exit_code,
                "commit": summary.commit,
                "id": run.id,
            }
            row.update((f"param.{name}", value) for name, value in run.params.items())
            row.update(
                (f"metric.{metric.name}", metric.last)
                for metric in summary.metrics
                if metric.kind == "metric" and not metric.same_as
            )
            rows.append(row)
        return rows

    def table(
        self,
        where: str = "",
        *,
        sort: str = "created",
        ascending: bool = False,
        limit: int | None = None,
        archived: bool = False,
    ) -> pandas.DataFrame:
        """`records` as a pandas frame. Raises RequestError where pandas is not installed."""
        frames = pandas_module()
        records = self.records(where, sort=sort, ascending=ascending, limit=limit, archived=archived)
        return frames.DataFrame.from_records(records)

    def _summaries(
        self, where: str, sort: str, ascending: bool, limit: int | None, archived: bool
    ) -> Sequence[RunSummary]:
        return self._history.runs(
            where=where, order_by=sort, descending=not ascending, limit=limit, archived=archived
        )

    # -- launching ------------------------------------------------------------------------------------------------

    def launch(self, target: str | os.PathLike[str] = ".", *args: object, **options: Any) -> Run:
        """Build the image for a folder, script or Git URL, and start it; returns once it runs.

        `args` go to the script. `options` are those of ``mlstudio run`` with underscores: ``engine``, ``name``, ``tags``,
        ``framework``, ``image``, ``dockerfile``, ``env`` (``"NAME=value"``), ``secrets`` (names), ``note``, ``python``, …
        Raises RequestError for what cannot be, BuildFailed, EngineAway.
        """
        from mlstudio.services.wishes import Words, spec_from

        return self._launched(
            spec_from(self._services, Words(target=os.fspath(target), args=tuple(map(str, args)), **options))
        )

    def _launched(self, spec: RunSpec) -> Run:
        summary = self._services.launcher.launch(spec)
        self._services.recorder.ensure()
        return Run(self, summary)
