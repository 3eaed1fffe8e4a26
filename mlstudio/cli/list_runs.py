"""`mlstudio ls`: what runs and what ran."""

from __future__ import annotations

import time

import click

from mlstudio.cli.curve import main_metrics
from mlstudio.cli.options import json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.tables import Column, table
from mlstudio.model.run import RunState, RunSummary
from mlstudio.services.words import ago_text, number_text, seconds_text, state_mark, state_text

_EXAMPLES = """\b
Examples:
  mlstudio ls
  mlstudio ls --state running --state queued
  mlstudio ls --search digits --limit 5 --json
"""

_COLOURS = {"running": "cyan", "succeeded": "green", "failed": "red", "lost": "red", "stopped": "yellow"}


def state_colour(cell: str) -> str | None:
    """The colour of a state's cell."""
    return _COLOURS.get(cell.rpartition(" ")[2])


@click.command("ls", epilog=_EXAMPLES)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in RunState]),
    help="Only these.",
)
@click.option(
    "--search", default="", metavar="TEXT", help="Only runs with TEXT in their name, command, tags or note."
)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("-a", "--all", "all_of_them", is_flag=True, help="All of them, archived ones too.")
@json_option
@pass_session
def command(session: Session, states: tuple[str, ...], search: str, limit: int, all_of_them: bool) -> None:
    """List runs, the newest first."""
    runs = session.studio.runs
    if runs.live():
        session.studio.recorder.ensure()
    wanted = [RunState(state) for state in states] or None
    found = runs.list(
        states=wanted, search=search, archived=all_of_them, limit=None if all_of_them else limit
    )
    if session.wants_json:
        session.put_json({"runs": list(found)})
        return
    if not found:
        session.say(
            "No run fits."
            if states or search
            else "No runs yet. Begin with: mlstudio run train.py, or mlstudio examples"
        )
        return
    columns = (
        Column(title="run", right=True),
        Column(title="name", shrinks=True),
        Column(title="state", colour=state_colour),
        Column(title="progress"),
        Column(title="metrics", shrinks=True),
        Column(title="took", right=True),
        Column(title="created", right=True),
        Column(title="tags", shrinks=True),
    )
    now = time.time()
    for line in table(columns, [_row(run, now) for run in found], width=session.width):
        session.say(line)
    total = runs.count(states=wanted, search=search, archived=all_of_them)
    if total > len(found):
        session.note(click.style(f"{len(found)} of {total}; --limit or --all shows more.", dim=True))


def _row(run: RunSummary, now: float) -> tuple[str, ...]:
    names = main_metrics([metric.name for metric in run.metrics if metric.kind == "metric"], most=2)
    values = {metric.name: metric.last for metric in run.metrics if metric.kind == "metric"}
    return (
        str(run.number),
        run.name,
        f"{state_mark(run.state)} {state_text(run)}",
        progress_text(run),
        "  ".join(f"{name} {number_text(values[name])}" for name in names),
        seconds_text(run.duration_s(now)) if run.started is not None else "",
        ago_text(now - run.created),
        " ".join(run.tags),
    )


def progress_text(run: RunSummary) -> str:
    """``40 %, 2 min 05 s left``, or what a waiting run is doing."""
    if run.is_over:
        return ""
    if run.progress is None or run.phase:
        return run.phase
    left = f", {seconds_text(run.progress.eta_s)} left" if run.progress.eta_s is not None else ""
    return f"{run.progress.fraction:.0%}{left}"
