"""Reading runs: summaries a page at a time with a fixed number of questions, and a run's whole detail."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    func,
    nulls_last,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from mlstudio.model.errors import NotFound, QueryError, RequestError
from mlstudio.model.run import (
    Exit,
    ExitReason,
    MetricSummary,
    Progress,
    RunDetail,
    RunEvent,
    RunSpec,
    RunState,
    RunSummary,
)
from mlstudio.store.query.conditions import Conditions, best_rows, order_key
from mlstudio.store.query.names import Meaning, Metric, Names, Parameter
from mlstudio.store.query.syntax import asks_for, parse
from mlstudio.store.query.tokens import Kind, Token
from mlstudio.store.schema import document, run, run_detail, series
from mlstudio.store.spec_json import from_json

METRICS_IN_SUMMARY = 400
"""A summary holds the latest values of at most this many series; `History.metrics` has them all."""

_NOT_A_NUMBER = float("nan")
_WALKED = 3000
"""So many runs are looked at one by one before all that fit are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which runs: everything that is given must hold. `ids` alone reaches archived runs too."""

    ids: Collection[str] | None = None
    states: Collection[RunState] | None = None
    search: str = ""
    where: str = ""
    archived: bool = False
    changed_after: int | None = None

    def conditions(self, connection: Connection, *, walks: bool = False) -> list[ColumnElement[bool]]:
        """`walks`: as in `mlstudio.store.query.condition`."""
        try:
            return self._conditions(connection, walks=walks)
        except QueryError as error:
            error.text = self.where
            raise

    def _conditions(self, connection: Connection, *, walks: bool) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        tree = parse(self.where) if self.where else None
        if self.ids is not None:
            wanted = func.json_each(json.dumps(list(self.ids))).table_valued("value")
            found.append(run.c.id.in_(select(wanted.c.value)))
        elif self.changed_after is not None:
            found.append(run.c.revision > self.changed_after)
        elif not self.archived and not asks_for(tree, "archived"):
            found.append(run.c.archived == 0)
        if self.states is not None:
            found.append(run.c.state.in_([state.value for state in self.states]))
        maker = Conditions(Names(connection), walks=walks)
        found.extend(maker.holds_word(word) for word in self.search.split())
        if tree is not None:
            found.append(maker.of(tree))
        return found


def read_summaries(
    connection: Connection,
    choice: Choice,
    *,
    order_by: str = "created",
    descending: bool = True,
    limit: int | None = None,
    offset: int = 0,
    with_metrics: bool = True,
) -> list[RunSummary]:
    """Runs in order; runs without the value that is sorted by come last either way. Raises RequestError."""
    if limit is not None and offset + limit <= _WALKED // 4 and choice.ids is None:
        walked = _walk(connection, choice, order_by, descending=descending, wanted=offset + limit)
        if walked is not None:
            return _summaries(connection, _rows(connection, walked[offset:]), with_metrics=with_metrics)
    query = select(run).where(*choice.conditions(connection))
    key, joined = _order(connection, order_by)
    if joined is not None:
        query = query.outerjoin(joined, joined.c.run == run.c.number)
    direction = key.desc() if descending else key.asc()
    query = query.order_by(nulls_last(direction), run.c.number.desc() if descending else run.c.number.asc())
    if limit is not None or offset:
        query = query.limit(-1 if limit is None else limit).offset(offset)
    rows = connection.execute(query).all()
    return _summaries(connection, rows, with_metrics=with_metrics)


def _walk(
    connection: Connection, choice: Choice, order_by: str, *, descending: bool, wanted: int
) -> list[int] | None:
    """Numbers of the first `wanted` runs, found among the first few thousand in order; None where these do not hold as
    many. Where many runs fit, that is all that must be looked at."""
    best = best_rows(_meaning(connection, order_by), descending=descending, most=_WALKED)
    if best is None:
        return None
    rows, edge = best
    found = connection.execute(
        select(rows.c.run, rows.c.key)
        .join(run, run.c.number == rows.c.run)
        .where(*choice.conditions(connection, walks=True))
        .order_by(
            rows.c.key.desc() if descending else rows.c.key.asc(),
            rows.c.run.desc() if descending else rows.c.run.asc(),
        )
        .limit(wanted)
    ).all()
    if len(found) < wanted:
        return None
    last = connection.execute(edge).scalar()
    # Beyond the last one that was looked at, and among its equals, there may be others.
    if last is not None and (found[-1].key <= last if descending else found[-1].key >= last):
        return None
    return [int(row.run) for row in found]


def _rows(connection: Connection, numbers: Sequence[int]) -> list[Row[Any]]:
    wanted = func.json_each(json.dumps(list(numbers))).table_valued("value")
    found = {
        row.number: row
        for row in connection.execute(select(run).where(run.c.number.in_(select(wanted.c.value))))
    }
    return [found[number] for number in numbers if number in found]


def count_runs(connection: Connection, choice: Choice) -> int:
    return int(
        connection.execute(
            select(func.count()).select_from(run).where(*choice.conditions(connection))
        ).scalar_one()
    )


def count_groups(
    connection: Connection, by: str, choice: Choice, *, limit: int
) -> list[tuple[str | float | None, int]]:
    """(value, how many runs) of what `by` names, the most frequent first."""
    key, joined = _order(connection, by)
    count = func.count().label("runs")
    query = select(key.label("value"), count).select_from(run).where(*choice.conditions(connection))
    if joined is not None:
        query = query.outerjoin(joined, joined.c.run == run.c.number)
    rows = connection.execute(query.group_by(key).order_by(count.desc(), key).limit(limit))
    return [(value, int(runs)) for value, runs in rows]


def number_of(connection: Connection, run_id: str) -> int:
    """The run's key in all tables. Raises NotFound."""
    number = connection.exec_driver_sql("SELECT number FROM run WHERE id = ?", (run_id,)).scalar()
    if number is None:
        raise no_such_run(run_id)
    return int(number)


def no_such_run(text: str) -> NotFound:
    return NotFound(f"There is no run “{text}”.", field="run", try_this="`mlstudio ls --all` lists all runs.")


def resolve_run(connection: Connection, text: str) -> str:
    """The id of the run that a person means. Raises NotFound; RequestError if several ids begin like that."""
    wanted = text.strip().removeprefix("#")
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 19:
        found = connection.execute(select(run.c.id).where(run.c.number == int(wanted))).scalar()
        if found is not None:
            return str(found)
    if wanted:
        found = connection.execute(select(run.c.id).where(run.c.id == wanted)).scalar()
        if found is not None:
            return str(found)
        named = connection.execute(
            select(run.c.id).where(run.c.name == text.strip()).order_by(run.c.number.desc()).limit(1)
        ).scalar()
        if named is not None:
            return str(named)
    if len(wanted) >= 4:
        # A range instead of LIKE: it uses the index, and nothing in `wanted` is a wildcard.
        ids = connection.execute(
            select(run.c.id).where(run.c.id >= wanted, run.c.id < wanted + "\U0010ffff").limit(3)
        ).scalars()
        candidates = [str(found) for found in ids]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise RequestError(
                f"“{text}” may mean several runs.",
                field="run",
                why="Several ids begin like this: "
                + ", ".join(found[: len(wanted) + 4] for found in candidates)
                + ".",
                try_this="Type more of the id, or the run's number.",
            )
    raise no_such_run(text)


def read_detail(connection: Connection, run_id: str, events: Sequence[RunEvent]) -> RunDetail:
    found = read_summaries(connection, Choice(ids=[run_id]))
    if not found:
        raise no_such_run(run_id)
    row = connection.execute(
        select(run_detail, run.c.handle)
        .join(run, run.c.number == run_detail.c.run)
        .where(run_detail.c.run == found[0].number)
    ).one()
    texts = read_documents(connection, (row.dockerfile, row.environment, row.patch, row.code_files))
    return RunDetail(
        summary=found[0],
        spec=from_json(RunSpec, row.spec),
        dockerfile=texts.get(row.dockerfile, ""),
        environment_json=texts.get(row.environment, ""),
        patch=texts.get(row.patch, ""),
        code_files=tuple(json.loads(texts.get(row.code_files, "[]"))),
        events=tuple(events),
        handle=row.handle,
    )


def read_metrics(connection: Connection, number: int, kind: str | None) -> list[MetricSummary]:
    query = select(series).where(series.c.run == number).order_by(series.c.position)
    if kind is not None:
        query = query.where(series.c.kind == kind)
    return [_metric(row) for row in connection.execute(query)]


# -- documents --------------------------------------------------------------------------------------------------------


def keep_document(connection: Connection, text: str) -> str:
    """Put a text into `document` unless it is there; return its digest. The empty text needs no row."""
    if not text:
        return ""
    data = text.encode("utf-8", "surrogateescape")
    digest = document_digest(text)
    connection.execute(
        insert(document).values(digest=digest, data=zlib.compress(data, 6)).on_conflict_do_nothing()
    )
    return digest


def document_digest(text: str) -> str:
    """The key of a text in `document`."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if text else ""


def read_documents(connection: Connection, digests: Sequence[str]) -> dict[str, str]:
    wanted = [digest for digest in digests if digest]
    if not wanted:
        return {}
    rows = connection.execute(select(document).where(document.c.digest.in_(wanted)))
    return {row.digest: zlib.decompress(row.data).decode("utf-8", "surrogateescape") for row in rows}


# -- rows to dataclasses ----------------------------------------------------------------------------------------------


def _summaries(connection: Connection, rows: Sequence[Row[Any]], *, with_metrics: bool) -> list[RunSummary]:
    if not rows:
        return []
    numbers = json.dumps([row.number for row in rows])
    tags: dict[int, list[str]] = defaultdict(list)
    for number, name in connection.exec_driver_sql(
        "SELECT run, tag FROM tag WHERE run IN (SELECT value FROM json_each(?)) ORDER BY run, position",
        (numbers,),
    ):
        tags[number].append(name)
    parameters: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for number, name, value in connection.exec_driver_sql(
        "SELECT run, name, value FROM parameter WHERE run IN (SELECT value FROM json_each(?)) ORDER BY run, position",
        (numbers,),
    ):
        parameters[number].append((name, value))
    metrics: dict[int, list[MetricSummary]] = defaultdict(list)
    if with_metrics:
        wanted = func.json_each(numbers).table_valued("value")
        query = (
            select(series)
            .where(series.c.run.in_(select(wanted.c.value)), series.c.position < METRICS_IN_SUMMARY)
            .order_by(series.c.run, series.c.position)
        )
        for row in connection.execute(query):
            metrics[row.run].append(_metric(row))
    return [_summary(row, tags[row.number], parameters[row.number], metrics[row.number]) for row in rows]


def _summary(
    row: Row[Any], tags: list[str], parameters: list[tuple[str, str]], metrics: list[MetricSummary]
) -> RunSummary:
    ended = None
    if row.exit_reason is not None:
        ended = Exit(
            reason=ExitReason(row.exit_reason),
            code=row.exit_code,
            signal=row.exit_signal,
            message=row.exit_message or "",
            try_this=row.exit_try_this or "",
        )
    progress = None
    if row.progress_total is not None:
        progress = Progress(
            done=row.progress_done,
            total=row.progress_total,
            unit=row.progress_unit,
            rate_per_s=row.progress_rate,
            eta_s=row.progress_eta,
        )
    return RunSummary(
        id=row.id,
        number=row.number,
        name=row.name,
        state=RunState(row.state),
        created=row.created,
        phase=row.phase,
        desired=row.desired,
        started=row.started,
        ended=row.ended,
        engine=row.engine,
        engine_kind=row.engine_kind,
        host=row.host,
        gpus=tuple(json.loads(row.gpus)),
        command=tuple(json.loads(row.command)),
        colour=row.colour,
        tags=tuple(tags),
        note=row.note,
        archived=bool(row.archived),
        exit=ended,
        progress=progress,
        image_tag=row.image_tag,
        image_id=row.image_id,
        commit=row.commit_hash,
        tree_hash=row.tree_hash,
        changed_files=row.changed_files,
        parameters=tuple(parameters),
        metrics=tuple(metrics),
        lacks=tuple(json.loads(row.lacks)),
        gaps=row.gaps,
        revision=row.revision,
    )


def _metric(row: Row[Any]) -> MetricSummary:
    return MetricSummary(
        name=row.name,
        kind=row.kind,
        logger=row.logger,
        same_as=row.same_as,
        unit=row.unit,
        count=row._mapping["count"],  # a row's own `count` is a method
        last=_NOT_A_NUMBER if row.last is None else row.last,
        last_step=row.last_step,
        last_time=row.last_time,
        minimum=row.minimum,
        minimum_step=row.minimum_step,
        maximum=row.maximum,
        maximum_step=row.maximum_step,
    )


# -- orders -----------------------------------------------------------------------------------------------------------


def _order(connection: Connection, text: str) -> tuple[ColumnElement[Any], Any]:
    """What to sort or group by, and the subquery that must be joined for it. Raises QueryError."""
    found = order_key(_meaning(connection, text))
    if found is None:
        raise QueryError(f"Runs cannot be sorted by “{text}”.", start=0, end=len(text))
    return found


def _meaning(connection: Connection, text: str) -> Meaning:
    """What is meant to sort by. Raises QueryError."""
    what, _, name = text.partition(":")
    if what in ("metric", "param") and name:
        # For columns of tables: the name as it is, whether or not a run has it.
        return Parameter((name,)) if what == "param" else Metric((name,), "last")
    return Names(connection).meaning(Token(Kind.WORD, text.strip().strip("`"), 0, len(text)))
