"""Imports: what other tools recorded, found, previewed and brought into the history, each run once."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlstudio.model.errors import Cancelled, NotFound, StudioError, WorldError
from mlstudio.model.imported import ImportedRun
from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.model.run import RunEvent, RunState, RunSummary
from mlstudio.probe.redaction import redact_command, redact_env, redact_text
from mlstudio.services.importing.find import find
from mlstudio.services.importing.source import Source
from mlstudio.services.importing.studio_document import StudioRun
from mlstudio.services.importing.values import clean_name, digest_of
from mlstudio.store import History

Cancel = Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportProgress:
    """How far an import is."""

    name: str
    """Of the run that is being read."""
    place: int
    """Counted from 1."""
    of: int
    points: int
    """New ones, of all runs so far."""
    fraction: float
    """Of the run that is being read; 0 where its size is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of one run of the source, or (in a preview) would become of it."""

    name: str
    format: str
    source: str
    run_id: str
    state: RunState
    is_new: bool
    """It was not in the history before."""
    series: int
    """Series with new points."""
    points: int
    media: int
    artifacts: int
    parameters: int
    first: float | None
    """Time of its beginning and end, as far as they are known."""
    last: float | None
    problems: tuple[str, ...] = ()
    run: RunSummary | None = None
    """None in a preview, and where it could not be imported."""
    error: str = ""
    """Why it could not be imported."""
    is_same: bool = False
    """The history had all of it already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import found and did."""

    runs: tuple[Imported, ...]
    problems: tuple[str, ...]
    deleted: int
    """MLflow's deleted runs, which were left out."""
    tables: tuple[str, ...]
    """Tables in the folders that may be data and were left alone."""
    seconds: float

    @property
    def points(self) -> int:
        return sum(run.points for run in self.runs)


class Importer:
    """Reads other tools' runs into the history of a home. One import at a time; it may be cancelled or killed at any
    moment, and the next one goes on where it stopped."""

    def __init__(self, home: Path, history: Callable[[], History]) -> None:
        self._home = home
        self._history = history

    def preview(
        self,
        paths: Sequence[Path],
        *,
        cancelled: Cancel = lambda: False,
        on_progress: Callable[[ImportProgress], None] | None = None,
    ) -> ImportReport:
        """What `carry_out` would bring. Reads everything and writes nothing."""
        return self._import(paths, tags=(), cancelled=cancelled, on_progress=on_progress, is_preview=True)

    def carry_out(
        self,
        paths: Sequence[Path],
        *,
        tags: Sequence[str] = (),
        cancelled: Cancel = lambda: False,
        on_progress: Callable[[ImportProgress], None] | None = None,
    ) -> ImportReport:
        """Bring every run at the paths into the history, with `tags` added; what is there already is not doubled.

        Raises RequestError or NotFound for paths that hold nothing of ours to read; Cancelled (what came before it
        stays). A run that cannot be read is told in the report, and the others come all the same.
        """
        with self._alone():
            return self._import(
                paths, tags=tags, cancelled=cancelled, on_progress=on_progress, is_preview=False
            )

    def _import(
        self,
        paths: Sequence[Path],
        *,
        tags: Sequence[str],
        cancelled: Cancel,
        on_progress: Callable[[ImportProgress], None] | None,
        is_preview: bool,
    ) -> ImportReport:
        began = time.monotonic()
        found = find([path.expanduser().absolute() for path in paths], cancelled=cancelled)
        if cancelled():
            raise Cancelled("The import was cancelled.", why="Nothing was read.")
        done: list[Imported] = []
        points = 0
        for place, source in enumerate(found.sources, start=1):
            told = _Telling(source, place, len(found.sources), points, cancelled, on_progress)
            told.at(0)
            outcome = _Reading(self._history(), source, tags, told).run(is_preview=is_preview)
            points += outcome.points
            done.append(outcome)
        return ImportReport(
            runs=tuple(done),
            problems=tuple(found.problems),
            deleted=found.deleted,
            tables=tuple(map(str, found.tables)),
            seconds=time.monotonic() - began,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two imports of one source at once could each take the other's place in it."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._home / "import.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorldError(
                    "Another import into this history is under way.",
                    try_this="Wait for its end.",
                    can_retry=True,
                ) from None
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Telling:
    """Says how far one run is, and whether to go on."""

    source: Source
    place: int
    of: int
    points_before: int
    cancelled: Cancel
    on_progress: Callable[[ImportProgress], None] | None

    def at(self, points: int) -> None:
        """So many new points were read. Raises Cancelled where that is wanted."""
        if self.cancelled():
            raise Cancelled(
                "The import was cancelled.",
                why=f"{self.place - 1} of {self.of} runs were read.",
                try_this="Import the same again to go on.",
            )
        if self.on_progress is not None:
            source = self.source
            self.on_progress(
                ImportProgress(
                    name=source.facts.name,
                    place=self.place,
                    of=self.of,
                    points=self.points_before + points,
                    fraction=min(1.0, source.done_bytes / source.size_bytes) if source.size_bytes else 0.0,
                )
            )


class _Reading:
    """One run on its way into the history."""

    def __init__(self, history: History, source: Source, tags: Sequence[str], told: _Telling) -> None:
        self._history = history
        self._source = source
        self._told = told
        self._tags = tuple(clean_name(tag) for tag in tags if tag.strip())
        self._id = digest_of("import", *source.identity)
        self._series: set[tuple[str, str]] = set()
        self._points = self._media = self._artifacts = 0

    def run(self, *, is_preview: bool) -> Imported:
        history = self._history
        error = ""
        run: RunSummary | None = None
        is_changed = False
        known = self._known(history)
        if known is not None and known.id != self._id:
            return self._outcome(run=known, is_new=False, is_same=True)
        try:
            cursor = history.cursor(self._id) if known is not None else Cursor()
            batches = self._batches(cursor)
            if is_preview:
                for _ in batches:
                    pass
                is_changed = bool(self._points or self._media or self._artifacts)
            else:
                is_changed = history.import_run(self._facts, batches)
                is_changed |= self._tag(known)
                run = history.summary(self._id)
        except Cancelled:
            raise
        except StudioError as failure:
            error = str(failure)
        except OSError as failure:
            error = f"{self._source.path}: {failure.strerror or failure}."
        return self._outcome(
            run=run,
            is_new=known is None,
            is_same=known is not None and not is_changed and not error,
            error=error,
        )

    def _tag(self, known: RunSummary | None) -> bool:
        """Tags that were asked for also go to a run that was there before."""
        if known is None or set(self._tags) <= set(known.tags):
            return False
        self._history.set_tags(self._id, tuple(dict.fromkeys((*known.tags, *self._tags))))
        return True

    def _known(self, history: History) -> RunSummary | None:
        """The run as it is in the history: imported before, or the very one that was exported from here."""
        ids = [self._id, self._source.original] if isinstance(self._source, StudioRun) else [self._id]
        for run_id in ids:
            try:
                return history.summary(run_id)
            except NotFound:
                continue
        return None

    def _batches(self, cursor: Cursor) -> Iterator[Batch]:
        mark = cursor.position
        seq = cursor.seq
        log_bytes = cursor.log_bytes
        is_first = not mark
        for piece in self._source.read(mark):
            self._count(piece.points, len(piece.media), len(piece.artifacts))
            self._told.at(self._points)
            mark = piece.mark
            if piece.is_empty:
                # The place alone is worth nothing: what led to it is read again the next time.
                continue
            seq += 1
            log_bytes += sum(len(block.data) for block in piece.log)
            yield Batch(
                cursor=Cursor(seq=seq, position=piece.mark, log_bytes=log_bytes),
                points=piece.points,
                media=piece.media,
                artifacts=piece.artifacts,
                parameters=tuple(redact_env(piece.parameters)),
                log=piece.log,
                lacks=tuple(self._source.problems),
                events=(self._event(),) if is_first else (),
            )
            is_first = False
        if is_first:
            yield Batch(
                cursor=Cursor(seq=seq + 1, position=mark, log_bytes=log_bytes), events=(self._event(),)
            )

    def _count(self, points: Sequence[Points], media: int, artifacts: int) -> None:
        for part in points:
            self._series.add((part.kind, part.name))
            self._points += len(part.values)
        self._media += media
        self._artifacts += artifacts

    def _event(self) -> RunEvent:
        data = {"format": self._source.format, "source": str(self._source.path)}
        return RunEvent(time=time.time(), type="imported", data_json=json.dumps(data, ensure_ascii=False))

    def _facts(self) -> ImportedRun:
        """What the source says, without what looks like a secret."""
        facts = self._source.facts
        now = time.time()
        created = facts.created or facts.started or now
        return ImportedRun(
            id=self._id,
            format=self._source.format,
            source=str(self._source.path),
            name=facts.name,
            state=facts.state,
            created=created,
            started=facts.started,
            ended=facts.ended,
            exit=facts.exit,
            host=facts.host,
            command=tuple(redact_command(facts.command)),
            code_folder=facts.code_folder,
            code_url=redact_text(facts.code_url),
            commit=facts.commit,
            parameters=tuple(redact_env(facts.parameters.items())),
            tags=tuple(dict.fromkeys((*self._tags, *facts.tags))),
            note=redact_text(facts.note),
            environment_json=json.dumps(facts.environment, ensure_ascii=False) if facts.environment else "",
            lacks=tuple(self._source.problems),
        )

    def _outcome(self, *, run: RunSummary | None, is_new: bool, is_same: bool, error: str = "") -> Imported:
        facts = self._source.facts
        return Imported(
            name=run.name if run is not None else facts.name,
            format=self._source.format,
            source=str(self._source.path),
            run_id=self._id,
            state=run.state if run is not None else facts.state,
            is_new=is_new,
            series=len(self._series),
            points=self._points,
            media=self._media,
            artifacts=self._artifacts,
            parameters=len(facts.parameters),
            first=facts.started,
            last=facts.ended,
            problems=tuple(self._source.problems),
            run=run,
            error=error,
            is_same=is_same,
        )
