"""Writing runs that other tools recorded: the row of a run without a launch, and what its source says of it.

Points, media and artifacts come as batches through `recording_rows`, whose cursor says how far the source was read; a
source that has grown is read on from there.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from mlstudio.model.code import CodeSource
from mlstudio.model.host import EngineKind
from mlstudio.model.imported import ImportedRun
from mlstudio.model.run import RunSpec, RunState
from mlstudio.store.parameters import as_number
from mlstudio.store.run_rows import keep_document
from mlstudio.store.schema import parameter, recording, removed_run, run, run_detail, series, tag
from mlstudio.store.spec_json import to_json

BEING_IMPORTED = "being imported"
"""The phase of a run whose source has not been read to its end yet."""

_EMPTY_RUN: dict[str, Any] = {
    "desired": "running",
    "owner": "",
    "handle": "",
    "gpus": "[]",
    "colour": 0,
    "archived": 0,
    "image_id": "",
    "image_tag": "",
    "tree_hash": "",
    "changed_files": 0,
    "lacks": "[]",
    "gaps": 0,
    "revision": 0,
}
_EMPTY_RECORDING: dict[str, Any] = {
    "seq": -1,
    "position": "",
    "log_bytes": 0,
    "log_lines": 0,
    "open_output": b"",
    "open_output_cut": 0,
    "open_error": b"",
    "open_error_cut": 0,
    "loose_blocks": 0,
    "loose_bytes": 0,
    "tail_rows": 0,
    "tail_points": 0,
    "events": 0,
}


def begin_import(connection: Connection, found: ImportedRun) -> bool:
    """Put the run down unless it is there; whether it is new. Until `complete_import` it counts as LOST."""
    number = connection.execute(select(run.c.number).where(run.c.id == found.id)).scalar()
    if number is not None:
        return False
    # It may have been removed once; being imported again is the owner's wish.
    connection.execute(delete(removed_run).where(removed_run.c.id == found.id))
    number = connection.execute(
        insert(run)
        .values(
            **_EMPTY_RUN,
            id=found.id,
            name=found.name,
            state=RunState.LOST.value,
            phase=BEING_IMPORTED,
            created=found.created,
            engine=found.format,
            engine_kind=EngineKind.IMPORTED.value,
            host=found.host,
            command=_list(found.command),
            note=found.note,
            commit_hash=found.commit,
        )
        .returning(run.c.number)
    ).scalar_one()
    connection.execute(update(run).where(run.c.number == number).values(colour=number - 1))
    connection.execute(
        insert(run_detail).values(
            run=number, spec=to_json(_spec(found)), dockerfile="", environment="", patch="", code_files=""
        )
    )
    connection.execute(insert(recording).values(**_EMPTY_RECORDING, run=number))
    _add_tags(connection, number, found.tags)
    return True


def complete_import(connection: Connection, number: int, found: ImportedRun) -> bool:
    """Write what the source says of the run now that it has been read; whether that changed anything.

    What a person may have changed since the first import (name, note, tags) stays as it is.
    """
    row = connection.execute(select(run).where(run.c.number == number)).one()
    is_first = row.phase == BEING_IMPORTED
    last = found.ended
    if is_first and found.state is RunState.LOST:
        # Points that came before an interruption were not read again: what they say of the time stands by them.
        last = _last(
            last,
            connection.execute(select(func.max(series.c.last_time)).where(series.c.run == number)).scalar(),
        )
    # A source that was read on from where it had been read to may have told its end before.
    has_ended = found.state is not RunState.LOST or not RunState(row.state).is_final
    values: dict[str, Any] = {
        "phase": "",
        "host": found.host or row.host,
        "created": min(found.created, row.created),
        "started": _first(row.started, found.started),
        "ended": _last(row.ended, last),
        "command": _list(found.command) if found.command else row.command,
        "commit_hash": found.commit or row.commit_hash,
        "lacks": _list(dict.fromkeys([*json.loads(row.lacks), *found.lacks])),
    }
    if has_ended:
        end = found.exit
        values.update(
            state=found.state.value,
            exit_reason=end.reason.value if end is not None else None,
            exit_code=end.code if end is not None else None,
            exit_signal=end.signal if end is not None else None,
            exit_message=end.message if end is not None else None,
            exit_try_this=end.try_this if end is not None else None,
        )
    if is_first:
        values.update(name=found.name, note=found.note or row.note)
    changes = {name: value for name, value in values.items() if row._mapping[name] != value}
    if changes:
        connection.execute(update(run).where(run.c.number == number).values(**changes))
    is_changed = bool(changes)
    if is_first:
        _add_tags(connection, number, found.tags)
    is_changed |= _set_parameters(connection, number, found)
    is_changed |= _set_detail(connection, number, found)
    return is_changed


def _set_detail(connection: Connection, number: int, found: ImportedRun) -> bool:
    row = connection.execute(select(run_detail).where(run_detail.c.run == number)).one()
    values: dict[str, Any] = {}
    spec = to_json(_spec(found))
    if found.command or found.parameters or found.code_folder or found.code_url:
        values["spec"] = spec
    if found.environment_json:
        values["environment"] = keep_document(connection, found.environment_json)
    changes = {name: value for name, value in values.items() if row._mapping[name] != value}
    if changes:
        connection.execute(update(run_detail).where(run_detail.c.run == number).values(**changes))
    return bool(changes)


def _set_parameters(connection: Connection, number: int, found: ImportedRun) -> bool:
    known: dict[str, str] = {
        row.name: row.value
        for row in connection.execute(
            select(parameter.c.name, parameter.c.value).where(parameter.c.run == number)
        )
    }
    place = len(known)
    is_changed = False
    for name, value in dict(found.parameters).items():
        if name not in known:
            connection.execute(
                insert(parameter).values(
                    run=number, name=name, value=value, number=as_number(value), position=place
                )
            )
            place += 1
        elif known[name] != value:
            connection.execute(
                update(parameter)
                .where(parameter.c.run == number, parameter.c.name == name)
                .values(value=value, number=as_number(value))
            )
        else:
            continue
        is_changed = True
    return is_changed


def _add_tags(connection: Connection, number: int, tags: tuple[str, ...]) -> None:
    known = set(connection.execute(select(tag.c.tag).where(tag.c.run == number)).scalars())
    last = connection.execute(select(func.max(tag.c.position)).where(tag.c.run == number)).scalar()
    place = 0 if last is None else last + 1
    for name in dict.fromkeys(tags):
        if name not in known:
            connection.execute(insert(tag).values(run=number, tag=name, position=place))
            place += 1


def _spec(found: ImportedRun) -> RunSpec:
    return RunSpec(
        command=found.command,
        code=CodeSource(folder=found.code_folder, url=found.code_url, ref=found.commit),
        name=found.name,
        engine=found.format,
        parameters=found.parameters,
        tags=found.tags,
        note=found.note,
    )


def _list(values: Any) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def _first(known: float | None, new: float | None) -> float | None:
    return new if known is None else known if new is None else min(known, new)


def _last(known: float | None, new: float | None) -> float | None:
    return new if known is None else known if new is None else max(known, new)
