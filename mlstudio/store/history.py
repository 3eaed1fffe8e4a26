"""The history: everything that was asked for and everything that was observed, in one SQLite file.

The only door of this floor, which makes it long: a short method for each question, with the work in the modules beside
it. What leaves it are the model's frozen dataclasses and NumPy arrays; what it raises are the model's errors.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Connection, delete, insert, select, update

from mlstudio.model.code import CodeSnapshot
from mlstudio.model.errors import DefectError, RequestError
from mlstudio.model.host import EngineKind
from mlstudio.model.image import ImageRecord
from mlstudio.model.imported import ImportedRun
from mlstudio.model.record import Batch, Cursor, Gap
from mlstudio.model.run import (
    Exit,
    LogLine,
    MediaItem,
    MediaSize,
    MetricSummary,
    Progress,
    RunDetail,
    RunEvent,
    RunSpec,
    RunState,
    RunSummary,
)
from mlstudio.model.sizes import HistorySizes
from mlstudio.store import image_rows, log_rows, media_rows, run_rows
from mlstudio.store.database import BUSY_TIMEOUT_S, Database, closing_at_end
from mlstudio.store.parameters import as_number
from mlstudio.store.query import Completion, Names, complete
from mlstudio.store.run_rows import Choice, document_digest, keep_document, no_such_run, number_of
from mlstudio.store.schema import (
    LIVE_STATES,
    artifact,
    event,
    gap,
    image,
    parameter,
    recording,
    removed_run,
    run,
    run_detail,
    series,
    tag,
)
from mlstudio.store.spec_json import to_json

if TYPE_CHECKING:
    # NumPy, which they need, is loaded when points are first read or written: listing runs goes without.
    from mlstudio.store.points_rows import Series, WindowAxis
    from mlstudio.store.recording_rows import SeriesIds

_FINAL = tuple(state.value for state in RunState if state.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Runs that changed after a revision, as they are now, ids of removed ones, and the revision that this is up to."""

    revision: int
    runs: tuple[RunSummary, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """What the recorder needs to know of a run that is not over."""

    id: str
    state: RunState
    engine: str
    engine_kind: str
    owner: str
    """Who launches it: ``pid:start time``."""
    handle: str
    desired: str
    desired_at: float | None
    """When `desired` was last set."""
    stop_grace_s: float | None
    created: float
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLines:
    """The unfinished line of either stream, as bytes."""

    output: bytes
    error: bytes


class History:
    """The history in the database at `path`, which is made if it is not there.

    Thread-safe, and open in several processes at once. Readers never wait for writers. Every change of a run takes the
    next revision. Raises WorldError where the database cannot be used (network file system, damage, a newer program's
    schema; such a file is not written to), NotFound for a run that is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path)
        self._series_ids: dict[str, SeriesIds] = {}
        self._series_ids_lock = threading.Lock()

    def close(self) -> None:
        self._database.close()

    # -- runs -----------------------------------------------------------------------------------------------------

    def add_run(
        self,
        spec: RunSpec,
        *,
        run_id: str,
        name: str,
        created: float,
        engine_kind: str,
        owner: str = "",
        parameters: Sequence[tuple[str, str]] = (),
        is_numbered: bool = False,
        phase: str = "",
    ) -> RunSummary:
        """Put a new run down as QUEUED. `spec` holds no secrets any more; `parameters` default to the spec's.
        `is_numbered`: its number is added to its name."""
        with self._database.write() as connection:
            number = connection.execute(
                insert(run)
                .values(
                    id=run_id,
                    name=name,
                    state=RunState.QUEUED.value,
                    phase=phase,
                    desired="running",
                    created=created,
                    engine=spec.engine,
                    engine_kind=engine_kind,
                    host="",
                    owner=owner,
                    handle="",
                    command=json.dumps(spec.command, ensure_ascii=False),
                    gpus="[]",
                    colour=0,
                    note=spec.note,
                    archived=0,
                    image_id="",
                    image_tag="",
                    commit_hash="",
                    tree_hash="",
                    changed_files=0,
                    lacks="[]",
                    gaps=0,
                    revision=0,
                )
                .returning(run.c.number)
            ).scalar_one()
            shown = f"{name}-{number}" if is_numbered else name
            connection.execute(
                update(run).where(run.c.number == number).values(colour=number - 1, name=shown)
            )
            connection.execute(
                insert(run_detail).values(
                    run=number, spec=to_json(spec), dockerfile="", environment="", patch="", code_files=""
                )
            )
            connection.execute(
                insert(recording).values(
                    run=number,
                    seq=-1,
                    position="",
                    log_bytes=0,
                    log_lines=0,
                    open_output=b"",
                    open_output_cut=0,
                    open_error=b"",
                    open_error_cut=0,
                    loose_blocks=0,
                    loose_bytes=0,
                    tail_rows=0,
                    tail_points=0,
                    events=0,
                )
            )
            _write_tags(connection, number, spec.tags)
            _write_parameters(connection, number, tuple(parameters) or spec.parameters)
            _touch(connection, number)
            return run_rows.read_summaries(connection, Choice(ids=[run_id]))[0]

    def summary(self, run_id: str) -> RunSummary:
        """Raises NotFound."""
        with self._database.read() as connection:
            found = run_rows.read_summaries(connection, Choice(ids=[run_id]))
        if not found:
            raise no_such_run(run_id)
        return found[0]

    def detail(self, run_id: str) -> RunDetail:
        """Raises NotFound."""
        with self._database.read() as connection:
            return run_rows.read_detail(
                connection, run_id, _read_events(connection, number_of(connection, run_id))
            )

    def resolve(self, text: str) -> str:
        """The id of the run that a person means by a number, an id, its beginning (4 characters or more), or a name
        (the newest run of it). Raises NotFound; RequestError if it may mean several."""
        with self._database.read() as connection:
            return run_rows.resolve_run(connection, text)

    def runs(
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
    ) -> list[RunSummary]:
        """Runs for which everything that is given holds, in order.

        `archived` adds archived ones; runs named in `ids` come in any case. `search`: each word must be in the name,
        note, command, tags, parameters, image or commit. `where` is a filter (`mlstudio.store.query`); one that asks
        for ``archived`` reaches archived runs too. `order_by`: a name as in filters (``lr``, ``val/acc.max``),
        ``metric:NAME`` (its last value) or ``param:NAME``; runs without it come last. Raises QueryError.
        Summaries hold the latest values of up to 400 series. The number of questions to the database is fixed.
        """
        choice = Choice(ids=ids, states=states, search=search, where=where, archived=archived)
        with self._database.read() as connection:
            return run_rows.read_summaries(
                connection,
                choice,
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
        """How many runs `runs` would give."""
        choice = Choice(states=states, search=search, where=where, archived=archived)
        with self._database.read() as connection:
            return run_rows.count_runs(connection, choice)

    def groups(
        self, by: str, *, where: str = "", archived: bool = False, limit: int = 1000
    ) -> list[tuple[str | float | None, int]]:
        """(value, how many runs) of an attribute or parameter, the most frequent first; None: runs without it.

        Raises QueryError.
        """
        with self._database.read() as connection:
            return run_rows.count_groups(connection, by, Choice(where=where, archived=archived), limit=limit)

    def complete(self, text: str, position: int | None = None) -> Completion:
        """What may stand at a place of a filter (at its end): names that exist, operators, known values."""
        with self._database.read() as connection:
            return complete(connection, text, len(text) if position is None else position)

    def names(self) -> tuple[list[str], list[str]]:
        """(parameters, metrics) that any run has, by name."""
        with self._database.read() as connection:
            names = Names(connection)
            return names.parameters(), names.metrics()

    def live_runs(self) -> list[str]:
        """Ids of runs that are not over (queued, running or lost), oldest first."""
        return [found.id for found in self.live()]

    def live(self) -> list[LiveRun]:
        """Launched runs that are queued, running or lost, oldest first; cheap enough for a few times a second."""
        query = select(
            run.c.id,
            run.c.state,
            run.c.engine,
            run.c.engine_kind,
            run.c.owner,
            run.c.handle,
            run.c.desired,
            run.c.desired_at,
            run.c.stop_grace_s,
            run.c.created,
            run.c.phase,
        )
        # Nobody needs to watch what another tool recorded, and there may be thousands of which no end is known.
        is_live = (run.c.state.in_(LIVE_STATES), run.c.engine_kind != EngineKind.IMPORTED.value)
        with self._database.read() as connection:
            rows = connection.execute(query.where(*is_live).order_by(run.c.number)).all()
        return [LiveRun(**{**row._mapping, "state": RunState(row.state)}) for row in rows]

    def revision(self) -> int:
        """The newest revision. Takes microseconds."""
        return self._database.revision()

    def data_version(self) -> int:
        """A number that changes when anybody has committed anything. Takes microseconds."""
        return self._database.data_version()

    def changed_since(self, revision: int) -> Changes:
        """Runs that changed after `revision` (archived ones too), and ids of runs that were removed after it."""
        with self._database.read() as connection:
            newest = connection.exec_driver_sql(
                "SELECT value FROM counter WHERE name = 'revision'"
            ).scalar_one()
            if newest == revision:
                return Changes(revision=newest, runs=(), removed=())
            found = run_rows.read_summaries(
                connection, Choice(changed_after=revision), order_by="number", descending=False
            )
            gone = connection.execute(
                select(removed_run.c.id)
                .where(removed_run.c.revision > revision)
                .order_by(removed_run.c.revision)
            ).scalars()
            return Changes(revision=newest, runs=tuple(found), removed=tuple(gone))

    # -- series ---------------------------------------------------------------------------------------------------

    def metrics(self, run_id: str, *, kind: str | None = None) -> list[MetricSummary]:
        """Latest values of all series of a run, in the order in which they first appeared. Raises NotFound."""
        with self._database.read() as connection:
            return run_rows.read_metrics(connection, number_of(connection, run_id), kind)

    def series(
        self, run_id: str, name: str, *, kind: str = "metric", start: int = 0, stop: int | None = None
    ) -> Series:
        """Points `start`..`stop` (indices) of a series, every one of them. Raises NotFound."""
        from mlstudio.store.points_rows import read_series

        with self._database.read() as connection:
            return read_series(connection, run_id, name, kind=kind, start=start, stop=stop)

    def thinned(self, run_id: str, name: str, *, kind: str = "metric", max_points: int = 2400) -> Series:
        """At most `max_points` points of a series that look like all of them when drawn. Raises NotFound."""
        return self.window(run_id, name, kind=kind, max_points=max_points)

    def window(
        self,
        run_id: str,
        name: str,
        *,
        kind: str = "metric",
        axis: WindowAxis = "step",
        low: float | None = None,
        high: float | None = None,
        max_points: int = 2400,
    ) -> Series:
        """At most `max_points` points of those from `low` to `high` (both included, None: no bound) along `axis`:
        ``step``, ``time`` or ``index``.

        Of equally long stretches the lowest and the highest finite value are kept, exactly, and the first NaN and ±∞;
        so are the first and the last point. Stretches go by the order in which points were logged, also where steps
        go back. Reads only what it draws: a series of a million points costs milliseconds. Raises NotFound.
        """
        from mlstudio.store.points_rows import read_window

        with self._database.read() as connection:
            return read_window(
                connection, run_id, name, kind=kind, axis=axis, low=low, high=high, max_points=max_points
            )

    def series_many(
        self,
        run_ids: Sequence[str],
        name: str,
        *,
        kind: str = "metric",
        axis: WindowAxis = "step",
        low: float | None = None,
        high: float | None = None,
        max_points: int = 2400,
    ) -> dict[str, Series]:
        """`window` of one series of many runs, all as they are at one moment; runs without that series are left out."""
        from mlstudio.store.points_rows import read_windows

        with self._database.read() as connection:
            return read_windows(
                connection, run_ids, name, kind=kind, axis=axis, low=low, high=high, max_points=max_points
            )

    # -- log and events -------------------------------------------------------------------------------------------

    def log(self, run_id: str, *, start: int = 0, count: int = 1000) -> list[LogLine]:
        """Finished lines from number `start` on. Raises NotFound."""
        with self._database.read() as connection:
            return log_rows.read_log(connection, number_of(connection, run_id), start, count)

    def log_count(self, run_id: str) -> int:
        """How many finished lines there are. Raises NotFound."""
        with self._database.read() as connection:
            return log_rows.count_lines(connection, number_of(connection, run_id))

    def open_line(self, run_id: str) -> LogLine | None:
        """The line that has begun but not ended, such as a progress bar; it takes part in no count or search yet."""
        with self._database.read() as connection:
            return log_rows.read_open_line(connection, number_of(connection, run_id))

    def search_log(self, run_id: str, text: str, *, start: int = 0, limit: int = 1000) -> list[int]:
        """Numbers of lines from `start` on that hold `text`, whatever its case. Raises NotFound."""
        with self._database.read() as connection:
            return log_rows.search_lines(
                connection, number_of(connection, run_id), text, start=start, limit=limit
            )

    def log_line_at(self, run_id: str, time: float) -> int:
        """Number of the last line printed at or before `time`; 0 if there is none. Raises NotFound."""
        with self._database.read() as connection:
            return log_rows.line_at(connection, number_of(connection, run_id), time)

    def events(self, run_id: str) -> list[RunEvent]:
        """What happened to a run, in the order in which it was recorded. Raises NotFound."""
        with self._database.read() as connection:
            return _read_events(connection, number_of(connection, run_id))

    def artifacts(self, run_id: str) -> list[tuple[str, int]]:
        """(path in the container, size in bytes) of the run's artifacts. Raises NotFound."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(artifact.c.path, artifact.c.size_bytes)
                .where(artifact.c.run == number_of(connection, run_id))
                .order_by(artifact.c.path)
            )
            return [(row.path, row.size_bytes) for row in rows]

    def gaps(self, run_id: str) -> list[Gap]:
        """Frames that were missing from the run's output, recovered or not. Raises NotFound."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(gap).where(gap.c.run == number_of(connection, run_id)).order_by(gap.c.first)
            )
            return [Gap(first=row.first, last=row.last, recovered=bool(row.recovered)) for row in rows]

    def media(
        self,
        run_id: str,
        *,
        name: str | None = None,
        kind: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[MediaItem]:
        """Histograms, images, texts that the run logged, by name and step; without their data. Raises NotFound."""
        with self._database.read() as connection:
            return media_rows.read_media(
                connection,
                number_of(connection, run_id),
                name=name,
                kind=kind,
                limit=limit,
                offset=offset,
            )

    def media_size(self, run_id: str) -> MediaSize:
        """How many media the run has, and how large they are. Raises NotFound."""
        with self._database.read() as connection:
            return media_rows.count_media(connection, number_of(connection, run_id))

    def media_data(self, run_id: str, item: int) -> bytes:
        """The bytes of the medium with the id `item`. Raises NotFound."""
        with self._database.read() as connection:
            return media_rows.read_media_data(connection, number_of(connection, run_id), item)

    # -- what was observed (the recorder's) -----------------------------------------------------------------------

    def cursor(self, run_id: str) -> Cursor:
        """Where recording stands. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(
                select(recording.c.seq, recording.c.position, recording.c.log_bytes).where(
                    recording.c.run == number_of(connection, run_id)
                )
            ).one()
        return Cursor(seq=row.seq, position=row.position, log_bytes=row.log_bytes)

    def import_run(self, facts: Callable[[], ImportedRun], batches: Iterable[Batch]) -> bool:
        """Bring in a run that another tool recorded, or what is new of it; whether anything changed.

        `facts` tells what is known of the run: before the first batch and, complete, after the last. The caller reads
        the source on from `cursor` (its `position` is the caller's own mark) and lets no other import of the same
        source happen meanwhile. What `batches` raises goes through; what came before it stays, and can be gone on from.
        """
        from mlstudio.store.import_rows import begin_import, complete_import

        run_id = facts().id
        with self._database.write() as connection:
            is_changed = begin_import(connection, facts())
        has_points = False
        for batch in batches:
            self.apply(run_id, batch)
            is_changed = has_points = True
        if has_points:
            self.finish(run_id)
        with self._database.write() as connection:
            number = number_of(connection, run_id)
            is_changed |= complete_import(connection, number, facts())
            if is_changed:
                _touch(connection, number)
        return is_changed

    def open_lines(self, run_id: str) -> OpenLines:
        """Both streams' unfinished lines. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(
                select(recording.c.open_output, recording.c.open_error).where(
                    recording.c.run == number_of(connection, run_id)
                )
            ).one()
        return OpenLines(output=row.open_output, error=row.open_error)

    def apply(self, run_id: str, batch: Batch) -> None:
        """Write a batch and its cursor in one transaction; one that is there already changes nothing.

        A batch is there already if its cursor's frame is not after the stored one's; for output without frames (and
        the output after the last frame) `log_bytes` decides, then `position`. Raises NotFound, WorldError.
        """
        self.apply_many([(run_id, batch)])

    def apply_many(self, batches: Sequence[tuple[str, Batch]]) -> None:
        """`apply` of several batches, of one run or many, in one transaction."""
        from mlstudio.store.recording_rows import apply_batch

        changed: dict[str, SeriesIds] = {}
        with self._database.write_fast() as cursor:
            for run_id, batch in batches:
                known = changed.get(run_id)
                if known is None:
                    with self._series_ids_lock:
                        known = self._series_ids.get(run_id)
                is_new, ids = apply_batch(cursor, run_id, batch, known)
                if is_new:
                    changed[run_id] = ids
        with self._series_ids_lock:
            self._series_ids.update(changed)

    def finish(self, run_id: str) -> None:
        """No more output of the run will come: its last open line becomes a line, and its series are packed for good.

        Call it before the final state is written, so that whoever sees the state sees the whole log. Idempotent.
        """
        from mlstudio.store.recording_rows import finish_log
        from mlstudio.store.sealing import finish_series, give_back

        with self._database.write_fast() as cursor:
            number = finish_log(cursor, run_id)
            cursor.execute("UPDATE series SET final = 1 WHERE run = ? AND final = 0", (number,))
        after: int | None = 0
        while after is not None:
            with self._database.write_fast() as cursor:
                after = finish_series(cursor, number, after=after)
        has_more = True
        while has_more:
            with self._database.write_fast() as cursor:
                has_more = give_back(cursor)
        with self._series_ids_lock:
            self._series_ids.pop(run_id, None)

    def mark_same(self, run_id: str, pairs: Mapping[str, str]) -> None:
        """Say of metrics (keys) which other one of the run holds the same numbers; "" takes it back. Raises NotFound."""
        with self._changing(run_id) as (connection, number):
            for name, better in pairs.items():
                connection.execute(
                    update(series)
                    .where(series.c.run == number, series.c.kind == "metric", series.c.name == name)
                    .values(same_as=better)
                )

    def drop_copies(self, run_id: str, names: Sequence[str]) -> None:
        """Forget the points of metrics that another one of the run holds as well (`mark_same`); what is known of them
        stays. For runs that are over and finished: the caller has compared every point. Raises NotFound."""
        from mlstudio.store.recording_rows import drop_copies

        with self._database.write_fast() as cursor:
            drop_copies(cursor, run_id, names)

    def observe(
        self,
        run_id: str,
        *,
        state: RunState | None = None,
        started: float | None = None,
        ended: float | None = None,
        exit: Exit | None = None,
        phase: str | None = None,
        host: str | None = None,
        gpus: Sequence[str] | None = None,
        lacks: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write what was seen; None leaves a value as it is. Raises NotFound.

        A run that is over stays as it ended: then `state`, `started`, `ended` and `exit` are not taken any more.
        """
        values: dict[str, Any] = {}
        ending: dict[str, Any] = {}
        if phase is not None:
            values["phase"] = phase
        if host is not None:
            values["host"] = host
        if gpus is not None:
            values["gpus"] = json.dumps(list(gpus), ensure_ascii=False)
        if lacks is not None:
            values["lacks"] = json.dumps(list(lacks), ensure_ascii=False)
        if progress is not None:
            values.update(
                progress_done=progress.done,
                progress_total=progress.total or None,
                progress_unit=progress.unit,
                progress_rate=progress.rate_per_s,
                progress_eta=progress.eta_s,
            )
        if state is not None:
            ending["state"] = state.value
        if started is not None:
            ending["started"] = started
        if ended is not None:
            ending["ended"] = ended
        if exit is not None:
            ending.update(
                exit_reason=exit.reason.value,
                exit_code=exit.code,
                exit_signal=exit.signal,
                exit_message=exit.message,
                exit_try_this=exit.try_this,
            )
        with self._changing(run_id) as (connection, number):
            if values:
                connection.execute(update(run).where(run.c.number == number).values(**values))
            if ending:
                connection.execute(
                    update(run).where(run.c.number == number, run.c.state.not_in(_FINAL)).values(**ending)
                )

    def add_lacks(self, run_id: str, sentences: Sequence[str]) -> None:
        """Add to what could not be recorded; what is said already is not said twice."""
        with self._changing(run_id) as (connection, number):
            known = json.loads(
                connection.execute(select(run.c.lacks).where(run.c.number == number)).scalar_one()
            )
            lacks = list(dict.fromkeys([*known, *sentences]))
            connection.execute(
                update(run).where(run.c.number == number).values(lacks=json.dumps(lacks, ensure_ascii=False))
            )

    def add_events(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """Note events that did not come through the run's own output, such as a stop that was asked for."""
        with self._changing(run_id) as (connection, number):
            for found in events:
                connection.execute(
                    insert(event).values(run=number, time=found.time, type=found.type, data=found.data_json)
                )

    def set_environment(self, run_id: str, json_text: str) -> None:
        """What the probe and the image reported, as a JSON object."""
        with self._changing(run_id) as (connection, number):
            digest = keep_document(connection, json_text)
            connection.execute(
                update(run_detail).where(run_detail.c.run == number).values(environment=digest)
            )

    # -- what was wanted (the services') --------------------------------------------------------------------------

    def set_phase(self, run_id: str, phase: str) -> None:
        """What is being done for a run that does not run yet, in words."""
        self._set(run_id, phase=phase)

    def set_desired(self, run_id: str, desired: str, *, grace_s: float | None = None) -> None:
        """``stopped`` or ``running``. Asking again for what is wanted already keeps the first time of asking.

        `grace_s`: how long the command may take to end; None for the usual time.
        """
        if desired not in ("running", "stopped"):
            raise DefectError(f"A run cannot be wanted “{desired}”.")
        with self._changing(run_id) as (connection, number):
            now = time.time()
            connection.execute(
                update(run)
                .where(run.c.number == number, run.c.desired != desired)
                .values(desired=desired, desired_at=now, stop_grace_s=grace_s)
            )

    def set_handle(self, run_id: str, handle: str) -> None:
        """The engine's handle of the run's container."""
        self._set(run_id, handle=handle)

    def set_image(self, run_id: str, image_id: str, tag: str, dockerfile: str) -> None:
        with self._changing(run_id) as (connection, number):
            digest = keep_document(connection, dockerfile)
            connection.execute(
                update(run).where(run.c.number == number).values(image_id=image_id, image_tag=tag)
            )
            connection.execute(update(run_detail).where(run_detail.c.run == number).values(dockerfile=digest))

    def set_code(self, run_id: str, snapshot: CodeSnapshot) -> None:
        """What code travelled."""
        with self._changing(run_id) as (connection, number):
            files = keep_document(connection, json.dumps(snapshot.files, ensure_ascii=False))
            patch = keep_document(connection, snapshot.patch)
            connection.execute(
                update(run)
                .where(run.c.number == number)
                .values(
                    commit_hash=snapshot.commit,
                    tree_hash=snapshot.tree_hash,
                    changed_files=len(snapshot.changed_files),
                )
            )
            connection.execute(
                update(run_detail).where(run_detail.c.run == number).values(patch=patch, code_files=files)
            )

    def rename(self, run_id: str, name: str) -> None:
        self._set(run_id, name=name)

    def set_tags(self, run_id: str, tags: Sequence[str]) -> None:
        with self._changing(run_id) as (connection, number):
            connection.execute(delete(tag).where(tag.c.run == number))
            _write_tags(connection, number, tags)

    def set_note(self, run_id: str, note: str) -> None:
        self._set(run_id, note=note)

    def archive(self, run_id: str, archived: bool = True) -> None:
        self._set(run_id, archived=int(archived))

    def remove_run(self, run_id: str) -> None:
        """Remove every record of a run, for good. Raises NotFound."""
        with self._database.write() as connection:
            number = number_of(connection, run_id)
            revision = _next_revision(connection)
            connection.execute(delete(run).where(run.c.number == number))
            connection.execute(insert(removed_run).values(id=run_id, revision=revision))
        with self._series_ids_lock:
            self._series_ids.pop(run_id, None)

    # -- sizes ----------------------------------------------------------------------------------------------------

    def sizes(self, *, largest: int = 10) -> HistorySizes:
        """What uses how much of the file, and which runs the most. Takes seconds for a large history."""
        from mlstudio.store.sizes import read_sizes

        with self._database.read() as connection:
            cursor: sqlite3.Cursor = connection.connection.cursor()  # type: ignore[assignment]
            try:
                return read_sizes(cursor, largest=largest)
            finally:
                cursor.close()

    def forget(self, run_id: str, kinds: Sequence[str], sentence: str) -> int:
        """Take records of these `kinds` (``system``, ``log``, ``media``) out of a run that is over, for good; the run
        lacks `sentence` from then on. How many bytes they took; 0 if there was nothing. Raises NotFound, RequestError.
        """
        from mlstudio.store.recording_rows import touch
        from mlstudio.store.sizes import forget, kept_bytes

        summary = self.summary(run_id)
        if not summary.is_over:
            raise RequestError(f"The run {summary.name} is not over.", field="run")
        with self._database.write_fast() as cursor:
            found = [kind for kind in kinds if kept_bytes(cursor, summary.number, kind)]
            if not found:
                return 0
            size = sum(forget(cursor, summary.number, kind) for kind in found)
            lacks = json.dumps(list(dict.fromkeys([*summary.lacks, sentence])), ensure_ascii=False)
            cursor.execute("UPDATE run SET lacks = ? WHERE number = ?", (lacks, summary.number))
            touch(cursor, summary.number)
            return size

    def kept_bytes(self, run_id: str, kind: str) -> int:
        """About how many bytes `forget` would take out; 0 if there is nothing. Raises NotFound."""
        from mlstudio.store.sizes import kept_bytes

        with self._database.read() as connection:
            cursor: sqlite3.Cursor = connection.connection.cursor()  # type: ignore[assignment]
            try:
                return kept_bytes(cursor, number_of(connection, run_id), kind)
            finally:
                cursor.close()

    def give_back(self) -> int:
        """Cut what nothing uses off the file, in small steps between which others write. By how many bytes it shrank."""
        from mlstudio.store.sizes import drop_unused_documents, give_back_pages, shorten_log

        before = self.path.stat().st_size
        with self._database.write_fast() as cursor:
            drop_unused_documents(cursor)
        left = -1
        while left:
            with self._database.write_fast() as cursor:
                now = give_back_pages(cursor)
            if now == left:
                break
            left = now
        with self._database.plain_errors():
            shorten_log(self.path)
        return max(0, before - self.path.stat().st_size)

    # -- images ---------------------------------------------------------------------------------------------------

    def add_image(self, record: ImageRecord) -> None:
        """Keep the record of an image; an older record of the same image is replaced."""
        with self._database.write() as connection:
            image_rows.write_image(connection, record)

    def images(self) -> list[ImageRecord]:
        """All records, newest first."""
        with self._database.read() as connection:
            return image_rows.read_images(connection)

    def image(self, ref: str) -> ImageRecord | None:
        """By id, beginning of the id, or tag."""
        with self._database.read() as connection:
            return image_rows.read_image(connection, ref)

    def image_for_recipe(self, digest: str) -> ImageRecord | None:
        """The newest image that was made by this very recipe."""
        with self._database.read() as connection:
            found = image_rows.read_images(connection, image.c.recipe_digest == digest, limit=1)
        return found[0] if found else None

    def image_with_dockerfile(self, dockerfile: str) -> ImageRecord | None:
        """The newest image that was built from exactly this Dockerfile, whatever the files were that it copies."""
        with self._database.read() as connection:
            found = image_rows.read_images(
                connection, image.c.dockerfile == document_digest(dockerfile), limit=1
            )
            return found[0] if found else None

    def layer_seconds(self, layer_key: str) -> float | None:
        """How long the layer took to build the last time; None if it never was."""
        with self._database.read() as connection:
            return image_rows.read_layer(connection, layer_key)

    def record_layer(self, layer_key: str, seconds: float) -> None:
        with self._database.write() as connection:
            image_rows.write_layer(connection, layer_key, seconds)

    # -------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self, run_id: str) -> Iterator[tuple[Connection, int]]:
        """A write transaction on a run, which takes the next revision. Raises NotFound."""
        with self._database.write() as connection:
            number = number_of(connection, run_id)
            yield connection, number
            _touch(connection, number)

    def _set(self, run_id: str, **values: object) -> None:
        with self._changing(run_id) as (connection, number):
            connection.execute(update(run).where(run.c.number == number).values(**values))


def has_live_runs(path: Path) -> bool:
    """Whether the history at `path`, if there is one, has runs that are queued or running.

    For those who only decide whether a recorder is needed; no history is made.
    """
    if not path.exists():
        return False
    # Not through `Database`, which looks at the file's first bytes by itself: when a process closes a file, all its locks
    # on that file go, those of the history that it has open too, and another process may then end the write-ahead log
    # under it (https://www.sqlite.org/howtocorrupt.html, section 2.2). SQLite's own second connection minds that.
    try:
        with closing_at_end(
            sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)
        ) as connection:
            query = "SELECT EXISTS (SELECT 1 FROM run WHERE state IN ('queued', 'running'))"
            return bool(connection.execute(query).fetchone()[0])
    except sqlite3.Error:
        # Whoever opens the history says what is wrong with it; a recorder could do nothing.
        return False


def _read_events(connection: Connection, number: int) -> list[RunEvent]:
    rows = connection.execute(select(event).where(event.c.run == number).order_by(event.c.id))
    return [RunEvent(time=row.time, type=row.type, data_json=row.data) for row in rows]


def _next_revision(connection: Connection) -> int:
    return int(
        connection.exec_driver_sql(
            "UPDATE counter SET value = value + 1 WHERE name = 'revision' RETURNING value"
        ).scalar_one()
    )


def _touch(connection: Connection, number: int) -> None:
    connection.execute(update(run).where(run.c.number == number).values(revision=_next_revision(connection)))


def _write_tags(connection: Connection, number: int, tags: Sequence[str]) -> None:
    names = list(dict.fromkeys(tags))
    if names:
        connection.execute(
            insert(tag),
            [{"run": number, "tag": name, "position": position} for position, name in enumerate(names)],
        )


def _write_parameters(connection: Connection, number: int, parameters: Sequence[tuple[str, str]]) -> None:
    values = dict(parameters)
    if values:
        connection.execute(
            insert(parameter),
            [
                {
                    "run": number,
                    "name": name,
                    "value": value,
                    "number": as_number(value),
                    "position": position,
                }
                for position, (name, value) in enumerate(values.items())
            ],
        )
