"""Records: what the recorder commits to the history in one transaction, and the cursor that makes it exactly once."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from mlstudio.model.run import Progress, RunEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where recording stands: everything up to and including frame `seq` is in the history.

    `position` is the engine's resume mark at or before the end of that frame; `log_bytes` counts the output committed.
    For a run without a probe, `seq` stays -1 and `position` alone is the cursor.
    """

    seq: int = -1
    position: str = ""
    log_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """New points of one series, in the order in which they were logged; the three arrays are equally long.

    `steps` is ``array('q')``, `times` (UTC seconds since the epoch) and `values` are ``array('d')``; values may be NaN
    or infinite.
    """

    name: str
    kind: str
    steps: array[int]
    times: array[float]
    values: array[float]
    unit: str = ""
    logger: str = "mlstudio"
    """The way these numbers came: ``mlstudio``, ``tensorboard``, ``print``, … Means nothing for system readings."""


MEDIA_KINDS = ("histogram", "image", "text", "audio", "table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """Something logged beside numbers: a histogram, an image, a text, a sound, a table."""

    name: str
    kind: str
    """``histogram`` (JSON ``{"edges": […], "counts": […]}``), ``image``, ``text`` (UTF-8), ``audio`` or ``table``."""
    logger: str
    step: int
    time: float
    """UTC seconds since the epoch."""
    mime: str
    data: bytes
    width: int = 0
    """In pixels, where it is known; 0: it is not."""
    height: int = 0
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBlock:
    """Output bytes (UTF-8, newlines kept) with spans `(is_error_stream, byte count, time)` that cover them."""

    data: bytes
    spans: tuple[tuple[bool, int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Frames `first`..`last` (inclusive) are missing; `recovered` once the spool filled them."""

    first: int
    last: int
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One transaction's worth of a run."""

    cursor: Cursor
    points: tuple[Points, ...] = ()
    log: tuple[LogBlock, ...] = ()
    events: tuple[RunEvent, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    artifacts: tuple[tuple[str, int], ...] = ()
    """(path in the container, size in bytes)."""
    media: tuple[Medium, ...] = ()
    tags: tuple[str, ...] = ()
    """Tags to add to those of the run."""
    note: str = ""
    """Words to add to the note of the run, once."""
    gaps: tuple[Gap, ...] = field(default_factory=tuple)
    environment_json: str = ""
    """What the probe found around it, as a JSON object; empty: nothing new."""
    gpus: tuple[str, ...] = ()
    """Names of the GPUs that the run sees; empty: nothing new."""
    lacks: tuple[str, ...] = ()
    """Sentences to add to those of the run."""
    progress: Progress | None = None
    renames: tuple[tuple[str, str], ...] = ()
    """(old, new) names of metrics that are in the history; done before the points are written."""
    same_as: tuple[tuple[str, str], ...] = ()
    """(metric, the metric that says the same), "" where that is taken back; done after the points are written."""
