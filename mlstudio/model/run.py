"""Runs: what was asked for (`RunSpec`), how it stands (`RunSummary`), and how it ended (`Exit`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from mlstudio.model.code import CodeSource, Travel
from mlstudio.model.host import EngineKind
from mlstudio.model.image import ImageSpec


class RunState(StrEnum):
    """How a run stands. Only the recorder writes a state, and only one that it observed (QUEUED is the start)."""

    QUEUED = "queued"
    """Asked for; its image is being built or its container created. `RunSummary.phase` says which."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """Ended because a person wanted it to."""
    LOST = "lost"
    """Its container or its engine is gone and nobody saw how it ended."""

    @property
    def is_final(self) -> bool:
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED)


class ExitReason(StrEnum):
    """Why a run ended, from the engine's and the probe's own words."""

    COMPLETED = "completed"
    """Exit code 0."""
    ERROR = "error"
    """Exit code other than 0."""
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out-of-memory"
    """The kernel killed it for memory (container limit or host)."""
    STOPPED = "stopped"
    """Stopped on request."""
    NOT_STARTED = "not-started"
    """The container could not be created or the command not be executed."""
    BUILD_FAILED = "build-failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a run ended."""

    reason: ExitReason
    code: int | None = None
    """The user's command's exit code (128 + signal as shells count where killed)."""
    signal: int | None = None
    message: str = ""
    """One plain sentence, such as "Killed: the container reached its memory limit of 512 MB."""
    try_this: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A data set: a folder of the engine's host bound into the container."""

    source: str
    target: str
    """Absolute POSIX path in the container."""
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may use. None means no limit of ours."""

    cpus: float | None = None
    memory_bytes: int | None = None
    shm_bytes: int | None = None
    stop_after_s: float | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRequest:
    """GPUs for a run: by `uuids`, or any `count` (-1 for all). The default asks for none."""

    uuids: tuple[str, ...] = ()
    count: int = 0

    @property
    def wants_any(self) -> bool:
        return bool(self.uuids) or self.count != 0


class Network(StrEnum):
    BRIDGE = "bridge"
    """Outgoing connections through the engine's own network; nothing listens outside."""
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything a user decides about a run. Together with the code's snapshot it is enough to run it again.

    `command` is an argument vector, never a shell line; `parameters` are recorded beside it (and are already part of
    the command where they came from a form). `secrets` are names only: values come from the keyring, the environment
    or a file at launch and are written nowhere.
    """

    command: tuple[str, ...]
    code: CodeSource = field(default_factory=CodeSource)
    image: ImageSpec = field(default_factory=ImageSpec)
    name: str = ""
    """Empty: a name is made from the script's and a number."""
    engine: str = "local"
    parameters: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    limits: Limits = field(default_factory=Limits)
    gpus: GpuRequest = field(default_factory=GpuRequest)
    network: Network = Network.BRIDGE
    tags: tuple[str, ...] = ()
    note: str = ""
    stop_when: tuple[str, ...] = ()
    """For what the recorder ends it: ``nan``, ``diverged``, ``plateau:NAME:POINTS[:min|max]``."""
    print_rules: tuple[str, ...] = ()
    """For numbers in printed lines beside those that are found by themselves: ``it {step} L={loss} {*}``."""
    run_as_root: bool = False
    """Only for images whose command cannot run otherwise."""

    @property
    def travel(self) -> Travel:
        return self.code.travel


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, in its own unit, and when it will be there. `eta_s` is None until a rate is known."""

    done: float
    total: float
    unit: str = "step"
    rate_per_s: float | None = None
    eta_s: float | None = None

    @property
    def fraction(self) -> float:
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSummary:
    """The latest-value table's row for one series: enough for a run table without reading any points.

    Minimum and maximum leave NaN and infinities out; `last` may be NaN. `count` is the number of points.
    """

    name: str
    kind: str = "metric"
    """``metric`` (the user's) or ``system`` (sampled by the probe)."""
    logger: str = "mlstudio"
    """The way the numbers came: ``mlstudio``, ``tensorboard``, ``print``, … Means nothing for system readings."""
    same_as: str = ""
    """The series of the same run that holds the same numbers from another logger; empty: there is none. Tables and plots
    show that one alone."""
    unit: str = ""
    count: int = 0
    last: float | None = None
    last_step: int | None = None
    last_time: float | None = None
    minimum: float | None = None
    minimum_step: int | None = None
    maximum: float | None = None
    maximum_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaItem:
    """What is known of a `model.record.Medium` without its data."""

    id: int
    name: str
    kind: str
    logger: str
    step: int
    time: float
    mime: str
    size_bytes: int
    width: int = 0
    height: int = 0
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSize:
    """How many media there are, and their bytes before packing."""

    count: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run as tables and headers show it. Times are UTC seconds since the epoch."""

    id: str
    number: int
    name: str
    state: RunState
    created: float
    phase: str = ""
    """What a queued or stopping run is doing, in words: "building image, step 3 of 7"."""
    desired: str = "running"
    """``running`` or ``stopped``: what the user wants."""
    started: float | None = None
    ended: float | None = None
    engine: str = "local"
    engine_kind: str = "docker"
    host: str = ""
    gpus: tuple[str, ...] = ()
    """Names of the GPUs it was given."""
    command: tuple[str, ...] = ()
    colour: int = 0
    """Index into the run palette; assigned once and kept."""
    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False
    exit: Exit | None = None
    progress: Progress | None = None
    image_tag: str = ""
    image_id: str = ""
    commit: str = ""
    tree_hash: str = ""
    changed_files: int = 0
    parameters: tuple[tuple[str, str], ...] = ()
    metrics: tuple[MetricSummary, ...] = ()
    lacks: tuple[str, ...] = ()
    """What could not be recorded and why, such as "No Python in the image: metrics and system readings are missing."""
    gaps: int = 0
    """Batches that are missing and could not be recovered from the spool."""
    revision: int = 0
    """Grows with every change to the run; viewers ask for what is newer than the last one they saw."""

    @property
    def is_imported(self) -> bool:
        """Whether another tool recorded it: there is no container, and nothing to run again."""
        return self.engine_kind == EngineKind.IMPORTED

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it by itself."""
        return self.state.is_final or self.is_imported

    def duration_s(self, now: float) -> float | None:
        if self.started is None:
            return None
        return (self.ended if self.ended is not None else now) - self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a run's output. `number` starts at 0 and counts both streams in the order in which they came."""

    number: int
    time: float
    text: str
    """Without the newline; invalid UTF-8 shows as U+FFFD. Lines over 64 KiB are cut into several, `continued` set."""
    is_error_stream: bool = False
    continued: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened to a run: ``start``, ``exit``, ``artifact``, ``param``, ``gap``, ``stop-requested``, …"""

    time: float
    type: str
    data_json: str
    """A JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """Everything about one run that is not a series or a log."""

    summary: RunSummary
    spec: RunSpec
    dockerfile: str = ""
    environment_json: str = ""
    """JSON object of what the probe and the image reported: python, packages, cuda, driver, kernel, cpu, memory, gpus."""
    patch: str = ""
    code_files: tuple[str, ...] = ()
    events: tuple[RunEvent, ...] = ()
    handle: str = ""
