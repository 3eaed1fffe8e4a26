"""`mlstudio run`: build the image, run the code in a container, follow it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from mlstudio.cli.build_view import BuildView, tell_diagnosis
from mlstudio.cli.follow import Follower, end_lines, ending
from mlstudio.cli.options import (
    WithWords,
    code_options,
    image_options,
    json_option,
    pip_from,
    pip_options,
)
from mlstudio.cli.session import EXIT_CANCELLED, EXIT_RUN_FAILED, Session, session_of
from mlstudio.model.errors import BuildFailed, Cancelled, EngineAway, StudioError
from mlstudio.model.host import EngineKind, EngineStatus
from mlstudio.model.image import Diagnosis, PipSettings
from mlstudio.model.run import Limits, Network, RunSpec, RunState, RunSummary
from mlstudio.services.project import (
    parse_bytes,
    parse_gpus,
    parse_mount,
    parse_number,
    parse_seconds,
)
from mlstudio.services.wishes import Words, secret_values, spec_from

_EXAMPLES = """\b
Examples:
  mlstudio run                                  the folder you stand in
  mlstudio run train.py -- --lr 0.1 --epochs 5
  mlstudio run https://example.org/me/project.git --ref v1.2
  mlstudio run --framework pytorch --variant cu126 --gpus 1 --memory 16g
  mlstudio run --image python:3.12-slim -- python -c 'print(1)'
"""


@click.command("run", cls=WithWords, epilog=_EXAMPLES, options_metavar="[OPTIONS]")
@click.argument("target", required=False, default="", metavar="[FOLDER|SCRIPT|URL] [-- ARGS…]")
@code_options
@image_options
@click.option(
    "--name", metavar="NAME", help="What to call the run; the script's name and a number by default."
)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag, to find it again.")
@click.option("--note", default="", metavar="TEXT", help="A note kept with the run.")
@click.option("--gpus", metavar="WHICH", help="A count, 'all', or UUIDs separated by commas.")
@click.option("--cpus", metavar="N", help="How many processors it may use.")
@click.option("--memory", metavar="SIZE", help="How much memory it may use, such as 4g.")
@click.option("--shm", metavar="SIZE", help="Shared memory, such as 1g, for data loaders.")
@click.option("--pids", type=click.IntRange(min=1), metavar="N", help="How many processes it may start.")
@click.option("--stop-after", metavar="TIME", help="Stop it after a time such as 90s, 15m or 2h.")
@click.option(
    "--stop-when",
    multiple=True,
    metavar="RULE",
    help="End it by itself: 'nan' or 'diverged' for its losses, 'plateau:NAME:POINTS' once NAME stands still.",
)
@click.option("--mount", "mounts", multiple=True, metavar="SOURCE:TARGET[:rw]", help="A data set.")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME[=@FILE]",
    help="A secret, from the keyring, the environment or a file. Never recorded.",
)
@click.option(
    "--network", type=click.Choice([network.value for network in Network]), help="'none' cuts it off."
)
@click.option("--as-root", is_flag=True, help="Run as root inside; only for images that cannot do otherwise.")
@pip_options
@click.option("-d", "--detach", is_flag=True, help="Return as soon as it runs.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the build prints.")
@json_option
def command(
    target: str,
    tags: tuple[str, ...],
    gpus: str | None,
    cpus: str | None,
    memory: str | None,
    shm: str | None,
    pids: int | None,
    stop_after: str | None,
    mounts: tuple[str, ...],
    secrets: tuple[str, ...],
    index_url: str | None,
    extra_index_urls: tuple[str, ...],
    wheelhouse: Path | None,
    cert: Path | None,
    proxy: str | None,
    detach: bool,
    verbose: bool,
    **said: Any,
) -> None:
    """Build the image and run the code in a container.

    Without options, the framework, the packages and the script are found in the code, or read from mlstudio.toml.
    What follows -- goes to the script. Its exit code becomes this command's. Ctrl+C stops the run.
    """
    ctx = click.get_current_context()
    session = session_of(ctx)
    names, values = secret_values(secrets)
    words = Words(
        target=target,
        args=ctx.meta["mlstudio.words"],
        tags=tags,
        secrets=names,
        gpus=parse_gpus(gpus or ""),
        mounts=tuple(parse_mount(text) for text in mounts),
        limits=Limits(
            cpus=parse_number(cpus, field="limits.cpus") if cpus else None,
            memory_bytes=parse_bytes(memory, field="limits.memory_bytes") if memory else None,
            shm_bytes=parse_bytes(shm, field="limits.shm_bytes") if shm else None,
            stop_after_s=parse_seconds(stop_after, field="limits.stop_after_s") if stop_after else None,
            pids=pids,
        ),
        **said,
    )
    spec = spec_from(session.studio, words)
    spec = with_usable_engine(session, spec, was_chosen=words.engine is not None)
    pip = pip_from(
        index_url=index_url, extra_index_urls=extra_index_urls, wheelhouse=wheelhouse, cert=cert, proxy=proxy
    )
    ctx.exit(launch(session, spec, pip=pip, values=values, detach=detach, verbose=verbose))


def launch(
    session: Session,
    spec: RunSpec,
    *,
    pip: PipSettings | None = None,
    values: dict[str, str] | None = None,
    detach: bool = False,
    verbose: bool = False,
) -> int:
    """Submit, build, start and follow; returns the exit code."""
    studio = session.studio
    queued = studio.launcher.submit(spec)
    session.note(f"Run {queued.number}: {queued.name}")
    with interrupts() as pressed:
        try:
            with BuildView(session, verbose=verbose) as view:
                summary = studio.launcher.carry_out(
                    queued.id,
                    spec,
                    on_event=view.on_event,
                    on_phase=view.on_phase,
                    on_plan=view.on_plan,
                    cancelled=lambda: pressed.count > 0,
                    pip=pip,
                    secret_values=values,
                )
        except BuildFailed as error:
            if isinstance(error.diagnosis, Diagnosis) and not session.wants_json:
                tell_diagnosis(error.diagnosis)
            raise
        if detach:
            _tell_started(session, summary)
            return 0
        summary = _attend(session, summary.id, pressed)
    return _tell_ended(session, summary, was_interrupted=pressed.count > 0)


class Interrupts:
    """How often Ctrl+C was pressed."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Count Ctrl+C instead of raising in the midst of things; the old behaviour comes back at the end."""
    pressed = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        pressed.count += 1

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _attend(session: Session, run_id: str, pressed: Interrupts) -> RunSummary:
    """Follow the run; the first Ctrl+C stops it, the second kills it, the third leaves it alone."""
    stops: list[threading.Thread] = []
    follower = Follower(session, run_id)

    def stop(grace_s: float | None) -> None:
        try:
            session.studio.runs.stop(run_id, grace_s)
        except StudioError as error:
            session.note(str(error))

    def was_pressed() -> bool:
        while len(stops) < min(pressed.count, 2):
            is_first = not stops
            session.note(
                "Stopping… press Ctrl+C again to kill it."
                if is_first
                else "Killing… Ctrl+C again leaves it alone."
            )
            thread = threading.Thread(
                target=stop, args=(None if is_first else 0.0,), name="stop", daemon=True
            )
            thread.start()
            stops.append(thread)
        return pressed.count > 2

    summary = follower.follow(until=was_pressed)
    if pressed.count <= 2:
        for thread in stops:
            thread.join(timeout=5)
    return summary


def _tell_started(session: Session, summary: RunSummary) -> None:
    if session.wants_json:
        session.put_json({"run": summary})
        return
    session.say(f"{summary.name} runs. Follow it: mlstudio logs -f {summary.number}")


def _tell_ended(session: Session, summary: RunSummary, *, was_interrupted: bool) -> int:
    code = exit_code_of(summary, was_interrupted=was_interrupted)
    if session.wants_json:
        session.put_json({"run": summary, "exit_code": code})
        return code
    if session.can_redraw:
        for line in end_lines(session, summary):
            session.note(line)
    else:
        session.note(ending(summary))
    for sentence in summary.lacks:
        session.note(sentence)
    if not (summary.state.is_final or summary.state is RunState.LOST):
        session.note(f"It goes on without you: mlstudio logs -f {summary.number}")
    return code


def exit_code_of(summary: RunSummary, *, was_interrupted: bool = False) -> int:
    """The command's own exit code; 130 for a run that Ctrl+C stopped; 1 for one that failed without a code."""
    if summary.state is RunState.SUCCEEDED:
        return 0
    if was_interrupted:
        return EXIT_CANCELLED
    if summary.exit is not None and summary.exit.code:
        return min(255, abs(summary.exit.code))
    return EXIT_RUN_FAILED


def with_usable_engine(session: Session, spec: RunSpec, *, was_chosen: bool) -> RunSpec:
    """The spec with an engine that answers: where containers cannot be had, a plain process is offered.

    Raises EngineAway, with how to mend it, if the offer is declined or nobody can be asked.
    """
    from dataclasses import replace

    engines = session.studio.engines
    status = engines.get(spec.engine).check()
    if status.usable or status.kind is EngineKind.PROCESS:
        return spec
    error = _away(status)
    if "process" not in engines.names() or spec.image.image or spec.image.dockerfile:
        raise error
    if was_chosen or not session.is_interactive:
        raise EngineAway(
            error.what,
            why=error.why,
            try_this=f"{error.try_this} Or run without a container: --engine process.".strip(),
            can_retry=True,
        )
    session.note(click.style(error.what, bold=True))
    session.note(" ".join(part for part in (error.why, error.try_this) if part))
    if not click.confirm(
        "Run it as a plain process in a private virtual environment instead (not a container)?", err=True
    ):
        raise Cancelled("Nothing was started.")
    return replace(spec, engine="process")


def _away(status: EngineStatus) -> EngineAway:
    from mlstudio.services.images import away

    return away(status)
