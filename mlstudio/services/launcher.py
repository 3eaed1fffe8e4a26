"""Launching: from what a person wants (`RunSpec`) to a container that runs, every way of failing included."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil

from mlstudio.model.code import CodeSource, Travel
from mlstudio.model.errors import (
    BuildFailed,
    Cancelled,
    DefectError,
    NotFound,
    RequestError,
    StudioError,
    WorldError,
)
from mlstudio.model.image import BuildEvent, Diagnosis, ImageRecord, PipSettings
from mlstudio.model.launch import CodeMount, LaunchSpec, SecretValue
from mlstudio.model.run import Exit, ExitReason, Limits, RunSpec, RunState, RunSummary
from mlstudio.probe.config import ProbeConfig
from mlstudio.probe.redaction import redact_command, redact_env, redact_text
from mlstudio.probe.zipapp import build_probe
from mlstudio.services.arguments import parameters_of, run_stem
from mlstudio.services.build_watch import BuildWatch
from mlstudio.services.checks import Level
from mlstudio.services.code import CodeService, project_name, refuse_password
from mlstudio.services.engine_table import Engines
from mlstudio.services.images import ImageService, Plan, away
from mlstudio.services.recorder_control import RecorderControl
from mlstudio.services.secrets import find_secret_values
from mlstudio.services.settings import Settings
from mlstudio.store import History

_REDACTED = "[redacted]"
_ASK_HISTORY_EVERY_S = 0.5
_HANDLE_WITHIN_S = 20.0
_WRITE_AGAIN_S = 0.5


def owner_of_this_process() -> str:
    """``pid:start time``: names this process and no later one with the same number."""
    return f"{os.getpid()}:{psutil.Process().create_time()}"


class Launcher:
    """Starts runs. Every launch leaves a row in the history, however it goes.

    Thread-safe; several launches may be carried out at once, from several processes too. The launcher writes what
    was wanted and what it saw itself (a launch that came to nothing); once a container runs, the recorder observes it.
    """

    def __init__(
        self,
        *,
        engines: Engines,
        settings: Settings,
        history: History,
        code: CodeService,
        images: ImageService,
        recorder: RecorderControl,
    ) -> None:
        self._engines = engines
        self._settings = settings
        self._history = history
        self._code = code
        self._images = images
        self._recorder = recorder

    def submit(self, spec: RunSpec) -> RunSummary:
        """Put the run down as QUEUED and return at once; `carry_out` does the work. Raises RequestError.

        What is written is redacted: a secret in the command or the environment never reaches the history.
        """
        if not spec.command:
            raise RequestError(
                "There is no command to run.", field="command", try_this="For example: python train.py"
            )
        if any(_REDACTED in word for word in spec.command) or any(
            _REDACTED in value for _, value in spec.env
        ):
            raise RequestError(
                "A value that was hidden when the run was recorded is missing.",
                field="command" if any(_REDACTED in word for word in spec.command) else "env",
                why=f"“{_REDACTED}” stands in its place.",
                try_this="Pass it as a secret (--secret NAME) and read it from the environment in the script.",
            )
        if tuple(redact_env(spec.image.env)) != spec.image.env:
            raise RequestError(
                "A variable of the image looks like a secret.",
                field="image.env",
                why="It would stay in the image, where everybody who has the image can read it.",
                try_this="Pass it as a secret of the run.",
            )
        if spec.code.url:
            refuse_password(spec.code.url)
        engine = self._engines.get(spec.engine)
        written = redacted(spec)
        if not written.print_rules:
            written = replace(written, print_rules=self._settings.entries("printed.rules"))
        chosen = spec.name.strip()
        return self._history.add_run(
            written,
            run_id=uuid.uuid4().hex,
            name=chosen or run_stem(written.command, project_name(spec.code)),
            is_numbered=not chosen,
            phase="waiting",
            created=time.time(),
            engine_kind=str(engine.kind),
            owner=owner_of_this_process(),
            parameters=written.parameters,
        )

    def launch(
        self,
        spec: RunSpec,
        *,
        on_event: Callable[[BuildEvent], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        on_phase: Callable[[str], None] | None = None,
        on_plan: Callable[[Plan], None] | None = None,
        pip: PipSettings | None = None,
        secret_values: Mapping[str, str] | None = None,
    ) -> RunSummary:
        """`submit` and `carry_out` in one."""
        return self.carry_out(
            self.submit(spec).id,
            spec,
            on_event=on_event,
            cancelled=cancelled,
            on_phase=on_phase,
            on_plan=on_plan,
            pip=pip,
            secret_values=secret_values,
        )

    def carry_out(
        self,
        run_id: str,
        spec: RunSpec,
        *,
        on_event: Callable[[BuildEvent], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        on_phase: Callable[[str], None] | None = None,
        on_plan: Callable[[Plan], None] | None = None,
        pip: PipSettings | None = None,
        secret_values: Mapping[str, str] | None = None,
    ) -> RunSummary:
        """Snapshot, plan, build, start. Blocks until the container runs (or has ended already).

        `on_plan` hears what was planned, with its checks, before anything is built.

        A launch that fails is kept as a FAILED run whose `Exit` says why, and the error is raised too; one that is
        cancelled, here or by a stop that was asked for elsewhere, is kept as STOPPED and raises Cancelled.
        """
        wanted_no_more = _Wish(self._history, run_id, cancelled)
        attempt = _Attempt(
            self._history, run_id, on_event=on_event, on_phase=on_phase, wanted_no_more=wanted_no_more
        )
        try:
            return self._carry_out(attempt, spec, pip=pip, secret_values=secret_values or {}, on_plan=on_plan)
        except StudioError as error:
            if not isinstance(error, Cancelled) and wanted_no_more.now():
                cancel = Cancelled("The launch was cancelled.")
                self._put_down(attempt, cancel)
                raise cancel from error
            self._put_down(attempt, error)
            raise
        except (KeyboardInterrupt, SystemExit):
            self._put_down(attempt, Cancelled("The launch was cancelled."))
            raise
        except Exception as error:
            words = redact_text(str(error)) or type(error).__name__
            defect = DefectError(
                f"ML Studio itself failed while launching: {words}.",
                try_this="Please report this with the details.",
            )
            self._put_down(attempt, defect)
            raise

    def again(self, run_id: str) -> RunSpec:
        """The spec of an earlier run, ready to be launched or changed. Hidden values stay hidden: see `submit`.

        Raises RequestError for a run that another tool recorded.
        """
        detail = self._history.detail(run_id)
        if detail.summary.is_imported:
            raise RequestError(
                f"{detail.summary.name} was imported and cannot be run again from here.",
                field="run",
                why="What it ran, and in what, was not recorded by ML Studio.",
                try_this="`mlstudio run FOLDER` starts a run of its code.",
            )
        return detail.spec

    # -- the way of a launch ------------------------------------------------------------------------------------

    def _carry_out(
        self,
        attempt: _Attempt,
        spec: RunSpec,
        *,
        pip: PipSettings | None,
        secret_values: Mapping[str, str],
        on_plan: Callable[[Plan], None] | None,
    ) -> RunSummary:
        run_id = attempt.run_id
        secrets = find_secret_values(spec.secrets, given=secret_values)
        engine = self._engines.get(spec.engine)
        status = self._images.status(spec.engine)
        if not status.usable:
            raise away(status)
        spec = self._settled(spec)

        attempt.phase("taking the snapshot")
        plan = self._images.plan(spec, pip=pip)
        if plan.snapshot is not None:
            self._history.set_code(run_id, plan.snapshot)
        if on_plan is not None:
            on_plan(plan)
        _refuse_what_cannot_run(plan)
        record = self._image(attempt, plan, spec)
        self._history.set_image(run_id, record.id, record.tag, plan.recipe.dockerfile)

        attempt.phase("starting")
        attempt.stop_if_unwanted()
        handle = engine.launch(self._launch_spec(run_id, spec, plan, record, secrets=secrets))
        attempt.has_container = True
        self._write_surely(lambda history: history.set_handle(run_id, handle), within_s=_HANDLE_WITHIN_S)
        self._recorder.ensure()
        return self._history.summary(run_id)

    def _settled(self, spec: RunSpec) -> RunSpec:
        """Decide what the spec leaves open: a branch becomes a commit; code cannot be baked into an existing image."""
        code = spec.code
        if code.url:
            code = replace(code, ref=self._code.commit_of(code))
        elif code.folder and code.travel is Travel.CLONED:
            code = self._as_clone(code)
        if spec.image.image and code.travel is Travel.BAKED:
            code = replace(code, travel=Travel.CLONED if code.url else Travel.MOUNTED)
        return replace(spec, code=code)

    def _as_clone(self, code: CodeSource) -> CodeSource:
        """A folder that is a Git work tree, as the commit of its remote."""
        snapshot = self._code.snapshot(code)
        if not snapshot.remote or not snapshot.commit:
            raise RequestError(
                "The code cannot be cloned at the start of the run.",
                field="code.travel",
                why="The folder is not a Git work tree with a remote."
                if not snapshot.remote
                else "The repository has no commit yet.",
                try_this="Let the code travel baked in or mounted, or push it to a remote first.",
            )
        return CodeSource(
            url=snapshot.remote,
            ref=snapshot.commit,
            subfolder=_prefix_in_repository(Path(code.folder) / code.subfolder),
            travel=Travel.CLONED,
        )

    def _image(self, attempt: _Attempt, plan: Plan, spec: RunSpec) -> ImageRecord:
        attempt.stop_if_unwanted()
        watch = BuildWatch()

        def see(event: BuildEvent) -> None:
            watch.see(event)
            attempt.phase(watch.phase())
            attempt.on_event(event)

        if plan.image is None:
            attempt.phase("building image" if plan.builds else f"fetching the image {plan.recipe.tag}")
        return self._images.build(
            plan, engine=spec.engine, on_event=see, cancelled=attempt.wanted_no_more.now
        )

    def _launch_spec(
        self,
        run_id: str,
        spec: RunSpec,
        plan: Plan,
        record: ImageRecord,
        *,
        secrets: tuple[SecretValue, ...],
    ) -> LaunchSpec:
        travel = spec.code.travel
        has_code = plan.source_root is not None
        workdir = plan.recipe.workdir if has_code or not spec.image.image else ""
        clone = spec.code.url if has_code and travel is Travel.CLONED else ""
        commit = plan.snapshot.commit if clone and plan.snapshot is not None else ""
        inner = f"{workdir}/{spec.code.subfolder}" if clone and spec.code.subfolder else workdir
        config = ProbeConfig(
            run_id=run_id,
            command=list(spec.command),
            workdir=inner,
            secrets=[secret.name for secret in secrets],
            sample_s=self._settings.number("run.sample_s"),
            grace_s=self._settings.number("run.grace_s"),
            stop_after_s=spec.limits.stop_after_s,
            clone={"url": clone, "commit": commit, "target": workdir} if clone else None,
            spool_limit_bytes=int(self._settings.number("run.spool_limit_mb") * 1024 * 1024),
        )
        return LaunchSpec(
            run_id=run_id,
            image=record.id,
            command=spec.command,
            workdir=workdir,
            env=spec.env,
            secrets=secrets,
            mounts=spec.mounts,
            code_mount=CodeMount(source=str(plan.source_root), target=workdir)
            if has_code and travel is Travel.MOUNTED
            else None,
            clone_url=clone,
            clone_commit=commit,
            limits=_limits(spec.limits, plan),
            gpus=spec.gpus,
            network=spec.network,
            run_as_root=spec.run_as_root,
            probe=build_probe(),
            probe_config=config.to_json(),
        )

    def _put_down(self, attempt: _Attempt, error: StudioError) -> None:
        """Write how a launch ended that came to nothing. Once a container runs, that is the recorder's to say."""
        run_id = attempt.run_id
        if attempt.has_container:
            return
        if isinstance(error, Cancelled):
            how = Exit(reason=ExitReason.STOPPED, message="Cancelled before it started.")
            self._end(run_id, RunState.STOPPED, how)
            return
        is_build = isinstance(error, BuildFailed)
        message, try_this = " ".join(part for part in (error.what, error.why) if part), error.try_this
        if isinstance(error, BuildFailed) and isinstance(error.diagnosis, Diagnosis):
            message = " ".join(part for part in (error.diagnosis.title, error.diagnosis.why) if part)
            try_this = error.diagnosis.try_this
        how = Exit(
            reason=ExitReason.BUILD_FAILED if is_build else ExitReason.NOT_STARTED,
            message=redact_text(message),
            try_this=redact_text(try_this),
        )
        self._end(run_id, RunState.FAILED, how)

    def _end(self, run_id: str, state: RunState, how: Exit) -> None:
        ended = time.time()
        self._write_surely(
            lambda history: history.observe(run_id, state=state, ended=ended, exit=how, phase=""),
            within_s=0.0,
        )

    def _write_surely(self, write: Callable[[History], object], *, within_s: float) -> None:
        """Write what nobody else knows. With a full disk, wait for room: `within_s` here, then beside the caller, as
        long as this process lives; after that the recorder looks for what it left."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                write(self._history)
                return
            except WorldError as error:
                if not error.can_retry:
                    raise
            if time.monotonic() >= deadline:
                break
            time.sleep(_WRITE_AGAIN_S)
        threading.Thread(
            target=_write_later, args=(self._history.path, write), name="write-later", daemon=True
        ).start()


def _write_later(path: Path, write: Callable[[History], object]) -> None:
    """By a connection of its own: the caller may close its own at any time."""
    while True:
        time.sleep(_WRITE_AGAIN_S)
        try:
            with closing(History(path)) as history:
                write(history)
            return
        except WorldError as error:
            if not error.can_retry:
                return
        except NotFound:
            return


class _Wish:
    """Whether the launch is still wanted: by its caller, and by whoever may stop the run from elsewhere."""

    def __init__(self, history: History, run_id: str, cancelled: Callable[[], bool] | None) -> None:
        self._history = history
        self._run_id = run_id
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._asked = 0.0
        self._unwanted = False

    def now(self) -> bool:
        """True once the launch shall end. The history is asked twice a second at most."""
        if self._cancelled is not None and self._cancelled():
            return True
        with self._lock:
            if self._unwanted or time.monotonic() - self._asked < _ASK_HISTORY_EVERY_S:
                return self._unwanted
            self._asked = time.monotonic()
        try:
            unwanted = self._history.summary(self._run_id).desired == "stopped"
        except WorldError:
            # With a full disk even reading may fail. Asked again later.
            return False
        with self._lock:
            self._unwanted = unwanted
        return unwanted


class _Attempt:
    """One launch under way: where its news go."""

    def __init__(
        self,
        history: History,
        run_id: str,
        *,
        on_event: Callable[[BuildEvent], None] | None,
        on_phase: Callable[[str], None] | None,
        wanted_no_more: _Wish,
    ) -> None:
        self.run_id = run_id
        self.wanted_no_more = wanted_no_more
        self.has_container = False
        self._history = history
        self._on_event = on_event
        self._on_phase = on_phase
        self._phase = ""

    def on_event(self, event: BuildEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def phase(self, words: str) -> None:
        """Say what is being done, in the history too; the same words are written once."""
        if words == self._phase:
            return
        self._phase = words
        self._history.set_phase(self.run_id, words)
        if self._on_phase is not None:
            self._on_phase(words)

    def stop_if_unwanted(self) -> None:
        if self.wanted_no_more.now():
            raise Cancelled("The launch was cancelled.")


def redacted(spec: RunSpec) -> RunSpec:
    """The spec as it may be written: secrets hidden, and the command's own arguments added to its parameters."""
    command = tuple(redact_command(spec.command))
    parameters = {**dict(parameters_of(command)), **dict(redact_env(spec.parameters))}
    return replace(
        spec,
        command=command,
        parameters=tuple(parameters.items()),
        env=tuple(redact_env(spec.env)),
        note=redact_text(spec.note),
    )


def _refuse_what_cannot_run(plan: Plan) -> None:
    """Errors that are certain before anything is built. Others (a driver, a full disk) may yet turn out well."""
    for check in plan.checks:
        if check.level is Level.ERROR and check.name in ("command", "travel", "gpu", "dependencies"):
            raise RequestError(check.message, field=check.field, try_this=check.try_this)


def _limits(limits: Limits, plan: Plan) -> Limits:
    """The user's limits, with the shared memory that the framework's data loaders usually need."""
    if limits.shm_bytes is None and plan.variant is not None and plan.variant.shm_bytes:
        return replace(limits, shm_bytes=plan.variant.shm_bytes)
    return limits


def _prefix_in_repository(folder: Path) -> str:
    """Where `folder` lies inside its Git work tree."""
    resolved = folder.expanduser().resolve()
    for root in (resolved, *resolved.parents):
        if (root / ".git").exists():
            inner = resolved.relative_to(root).as_posix()
            return "" if inner == "." else inner
    return ""
