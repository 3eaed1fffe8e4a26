"""`mlstudio ls`: what runs and what ran."""

from __future__ import annotations

import time

import click

from mlstudio.cli.curve import main_metrics
from mlstudio.cli.options import complete_filter, json_option
from mlstudio.cli.safe_text import safe_line
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.tables import Column, table
from mlstudio.model.run import RunState, RunSummary
from mlstudio.services.query import ATTRIBUTES, FIELDS, written
from mlstudio.services.words import ago_text, number_text, seconds_text, state_mark, state_text

_EXAMPLES = """\b
Examples:
  mlstudio ls
  mlstudio ls --state running --state queued
  mlstudio ls cnn                                  runs with this word in their name, tags, note, parameters …
  mlstudio ls 'lr < 1e-3 and val.acc.max > 0.9'
  mlstudio ls '"cnn" in tags and started > "2 days ago"' --sort val.acc.max
  mlstudio ls state = failed --group model
  mlstudio ls --names                              what can be asked for
"""

_COLOURS = {"running": "cyan", "succeeded": "green", "failed": "red", "lost": "red", "stopped": "yellow"}


def state_colour(cell: str) -> str | None:
    """The colour of a state's cell."""
    return _COLOURS.get(cell.rpartition(" ")[2])


@click.command("ls", epilog=_EXAMPLES)
@click.argument("where", nargs=-1, metavar="[FILTER]", shell_complete=complete_filter)
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
@click.option(
    "--sort",
    "order",
    default="created",
    metavar="NAME",
    help="By what: lr, val.acc.max, duration … (newest first).",
)
@click.option("--reverse", is_flag=True, help="The smallest or oldest first.")
@click.option("--group", "by", metavar="NAME", help="Count runs by the values of a parameter or attribute.")
@click.option("--names", "wants_names", is_flag=True, help="List the names that a filter can use.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("-a", "--all", "all_of_them", is_flag=True, help="All of them, archived ones too.")
@json_option
@pass_session
def command(
    session: Session,
    where: tuple[str, ...],
    states: tuple[str, ...],
    search: str,
    order: str,
    reverse: bool,
    by: str | None,
    wants_names: bool,
    limit: int,
    all_of_them: bool,
) -> None:
    """List runs, the newest first, or those that fit a FILTER: lr < 1e-3 and "cnn" in tags.

    Put the filter in single quotation marks, so that the shell leaves it alone. All of it: docs/query.md.
    """
    runs = session.studio.runs
    text = " ".join(where)
    if wants_names:
        _say_names(session)
        return
    if by is not None:
        _say_groups(session, by, text, archived=all_of_them)
        return
    if runs.live():
        session.studio.recorder.ensure()
    wanted = [RunState(state) for state in states] or None
    found = runs.list(
        states=wanted,
        search=search,
        where=text,
        archived=all_of_them,
        order_by=order,
        descending=not reverse,
        limit=None if all_of_them else limit,
    )
    if session.wants_json:
        session.put_json({"runs": list(found)})
        return
    if not found:
        session.say(
            "No run fits."
            if states or search or text
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
    total = runs.count(states=wanted, search=search, where=text, archived=all_of_them)
    if total > len(found):
        session.note(click.style(f"{len(found)} of {total}; --limit or --all shows more.", dim=True))


def _say_names(session: Session) -> None:
    parameters, metrics = session.studio.runs.names()
    if session.wants_json:
        session.put_json(
            {
                "attributes": list(ATTRIBUTES),
                "parameters": parameters,
                "metrics": metrics,
                "fields": list(FIELDS),
            }
        )
        return
    session.say("Attributes of every run:")
    for found in ATTRIBUTES.values():
        session.say(f"  {found.name:<10} {found.sentence}  {found.example}")
    for title, names in (("Parameters", parameters), ("Metrics", metrics)):
        session.say(f"{title}:" if names else f"{title}: none yet")
        for name in names:
            session.say(f"  {safe_line(written(name))}")
    session.say(f"Behind a metric: {', '.join('.' + field for field in FIELDS)}")


def _say_groups(session: Session, by: str, where: str, *, archived: bool) -> None:
    found = session.studio.runs.groups(by, where=where, archived=archived)
    if session.wants_json:
        session.put_json({"by": by, "groups": [{"value": value, "runs": count} for value, count in found]})
        return
    columns = (Column(title=safe_line(by), shrinks=True), Column(title="runs", right=True))
    rows = [(_group_text(value), f"{count:,}") for value, count in found]
    for line in table(columns, rows, width=session.width):
        session.say(line)


def _group_text(value: str | float | None) -> str:
    if value is None:
        return "–"
    return safe_line(value) if isinstance(value, str) else number_text(value)


def _row(run: RunSummary, now: float) -> tuple[str, ...]:
    own = [metric for metric in run.metrics if metric.kind == "metric" and not metric.same_as]
    names = main_metrics([metric.name for metric in own], most=2)
    values = {metric.name: metric.last for metric in own}
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
