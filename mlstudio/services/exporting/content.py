"""What an export is made from: a run, its series and media, without what looks like a secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mlstudio.model.run import MediaItem, MetricSummary, RunDetail, RunSummary
from mlstudio.probe.redaction import redact_command, redact_env, redact_text
from mlstudio.store import History

if TYPE_CHECKING:
    from mlstudio.store import Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One run to write."""

    history: History
    detail: RunDetail
    metrics: tuple[MetricSummary, ...]
    tell: Callable[[int], None]
    """Told how many points were written since the last time; raises Cancelled."""

    @property
    def run(self) -> RunSummary:
        return self.detail.summary

    def series(self) -> Iterator[tuple[MetricSummary, Series]]:
        """Every series with all its points, one at a time."""
        for metric in self.metrics:
            found = self.history.series(self.run.id, metric.name, kind=metric.kind)
            self.tell(len(found))
            yield metric, found

    def media(self) -> Iterator[tuple[MediaItem, bytes]]:
        """Every medium, one at a time."""
        for item in self.history.media(self.run.id):
            self.tell(0)
            yield item, self.history.media_data(self.run.id, item.id)

    def environment(self) -> dict[str, object]:
        """What was around the run, as the probe (or another tool) told it."""
        try:
            found = json.loads(self.detail.environment_json) if self.detail.environment_json else {}
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def read_content(history: History, run_id: str, *, with_system: bool, tell: Callable[[int], None]) -> Content:
    """A run to write. Series that say the same as another one of the run are left out."""
    detail = history.detail(run_id)
    metrics = [
        metric
        for metric in history.metrics(run_id)
        if not metric.same_as and (with_system or metric.kind == "metric")
    ]
    return Content(history=history, detail=_without_secrets(detail), metrics=tuple(metrics), tell=tell)


def _without_secrets(detail: RunDetail) -> RunDetail:
    """Secrets are hidden before they are written to the history; this is the second door."""
    run, spec = detail.summary, detail.spec
    return replace(
        detail,
        summary=replace(
            run,
            command=tuple(redact_command(run.command)),
            parameters=tuple(redact_env(run.parameters)),
            note=redact_text(run.note),
        ),
        spec=replace(
            spec,
            command=tuple(redact_command(spec.command)),
            parameters=tuple(redact_env(spec.parameters)),
            env=tuple(redact_env(spec.env)),
            note=redact_text(spec.note),
            code=replace(spec.code, url=redact_text(spec.code.url)),
        ),
    )


def folder_names(runs: Sequence[RunSummary]) -> dict[str, str]:
    """A folder's name for each run id: its name, made safe; with its number where several are called the same."""
    names = {run.id: safe_path(run.name) or f"run-{run.number}" for run in runs}
    counts: dict[str, int] = {}
    for name in names.values():
        key = name.lower()
        counts[key] = counts.get(key, 0) + 1
        for above in PurePosixPath(key).parents:
            # A run's folder must hold no other run's: it is replaced as a whole.
            counts[str(above)] = counts.get(str(above), 0) + 1
    return {
        run.id: names[run.id] if counts[names[run.id].lower()] == 1 else f"{names[run.id]}-{run.number}"
        for run in runs
    }


def safe_path(name: str) -> str:
    """A relative path of at most a few folders that no system stumbles over; slashes stay."""
    parts = []
    for part in name.split("/"):
        clean = "".join("_" if char in '<>:"\\|?*' or not char.isprintable() else char for char in part)
        clean = clean.strip(". ")[:100]
        if clean:
            parts.append(clean)
    return "/".join(parts[:8])
