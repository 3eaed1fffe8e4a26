"""`mlstudio gc`: what uses how much, and freeing what is not wanted any more."""

from __future__ import annotations

import click

from mlstudio.cli.options import complete_filter, json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.tables import Column, table
from mlstudio.model.errors import Cancelled, RequestError
from mlstudio.services.words import bytes_text, count_text

_EXAMPLES = """\b
Examples:
  mlstudio gc --dry-run                            what uses how much, and what would go
  mlstudio gc                                      what the settings keep.… do not keep
  mlstudio gc --system-after 30d --log-after 1y
  mlstudio gc 'state = failed' --container-after 7d --yes
  mlstudio settings set keep.system_days 90        for every later `mlstudio gc`
"""
_WORDS = {"system": "system readings", "log": "output", "media": "media", "container": "containers"}


@click.command("gc", epilog=_EXAMPLES)
@click.argument("where", nargs=-1, metavar="[FILTER]", shell_complete=complete_filter)
@click.option("--dry-run", is_flag=True, help="Only say what uses how much, and what would go.")
@click.option("--system-after", metavar="AGE", help="Readings of processor, memory and GPUs.")
@click.option("--log-after", metavar="AGE", help="What runs printed.")
@click.option("--media-after", metavar="AGE", help="Images, histograms, texts and sounds.")
@click.option(
    "--container-after", metavar="AGE", help="Containers, with the files that were written in them."
)
@click.option(
    "--copies", is_flag=True, help="Histories that were put aside when they were changed or mended."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def command(
    session: Session,
    where: tuple[str, ...],
    dry_run: bool,
    system_after: str | None,
    log_after: str | None,
    media_after: str | None,
    container_after: str | None,
    copies: bool,
    yes: bool,
) -> None:
    """Free what is not wanted any more of runs that are over, and say what uses how much.

    AGE counts from the end of a run: 36h, 90d, 12w, 6m, 2y; 0 takes all. Without any, the settings keep.… say it, and
    by themselves they keep everything. Metrics, parameters and what a run ran in always stay; `mlstudio rm` removes
    whole runs, `mlstudio images rm` images.
    """
    from mlstudio.services.housekeeping import parse_age

    keeper = session.studio.housekeeping
    given = {
        "system": system_after, "log": log_after, "media": media_after, "container": container_after,
    }  # fmt: skip
    ages = keeper.ages(**{kind: None if age is None else parse_age(age) for kind, age in given.items()})
    query = " ".join(where)
    would = keeper.sweep(ages, where=query, copies=copies, is_trial=True)
    losses = [f"{_WORDS[kind]} of {count_text(runs, 'run')}" for kind, runs in would.runs.items() if runs]
    if would.copies:
        losses.append(f"{would.copies} cop{'y' if would.copies == 1 else 'ies'} of the history")
    if dry_run:
        uses = keeper.uses()
        if session.wants_json:
            session.put_json({"uses": uses, "would_go": would})
            return
        _say_uses(session, uses)
        session.say("")
        session.say(
            f"Would go: {', '.join(losses)}." if losses else "Nothing would go but unused room in the file."
        )
        return
    if losses and not yes:
        if not session.is_interactive:
            raise RequestError(
                "Nobody can be asked here.", field="yes", try_this="Say --yes to free without asking."
            )
        if not click.confirm(f"Take away {', '.join(losses)}? This cannot be undone.", err=True):
            raise Cancelled("Nothing was taken away.")
    done = keeper.sweep(ages, where=query, copies=copies)
    if session.wants_json:
        session.put_json(done)
        return
    for kind, runs in done.runs.items():
        if runs:
            session.say(f"Taken away: {_WORDS[kind]} of {count_text(runs, 'run')}.")
    for problem in done.problems:
        session.say(f"Still there: {problem}")
    session.say(f"{bytes_text(done.freed_bytes)} freed.")


def _say_uses(session: Session, uses: object) -> None:
    from mlstudio.services.housekeeping import Uses

    assert isinstance(uses, Uses)
    history = uses.history
    parts = [
        ("metrics", history.metrics), ("system readings", history.system), ("output", history.log),
        ("media", history.media), ("names, settings, indexes", history.rest), ("unused", history.free),
    ]  # fmt: skip
    rows = [
        (
            f"history of {count_text(history.runs, 'run')}, {count_text(history.points, 'point')}",
            bytes_text(history.file),
        )
    ]
    rows += [(f"  {name}", bytes_text(size)) for name, size in parts if size]
    rows += [(f"put aside: {path.name}", bytes_text(size)) for path, size in uses.copies]
    rows += [(name, bytes_text(size)) for name, size in uses.others]
    for line in table(
        (Column(title="what", shrinks=True), Column(title="size", right=True)), rows, width=session.width
    ):
        session.say(line)
    if not history.largest:
        return
    session.say("")
    columns = (
        Column(title="largest runs", shrinks=True),
        *(Column(title=title, right=True) for title in ("metrics", "system", "output", "media", "in all")),
    )
    largest = [
        (
            f"{run.number}  {run.name}",
            *(
                bytes_text(size) if size else ""
                for size in (run.metrics, run.system, run.log, run.media, run.total)
            ),
        )
        for run in history.largest
    ]
    for line in table(columns, largest, width=session.width):
        session.say(line)
