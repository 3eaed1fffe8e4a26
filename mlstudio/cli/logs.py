"""`mlstudio logs`: what a run printed."""

from __future__ import annotations

import click

from mlstudio.cli.follow import Follower
from mlstudio.cli.options import json_option, run_argument
from mlstudio.cli.run import interrupts
from mlstudio.cli.safe_text import safe_line
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.show import moment
from mlstudio.model.run import RunState

_PAGE = 5000
_EXAMPLES = """\b
Examples:
  mlstudio logs -f                       the newest run, live
  mlstudio logs 3
  mlstudio logs 3 --tail 20 -f
  mlstudio logs 3 --search error
"""


@click.command("logs", epilog=_EXAMPLES)
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the run is over.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="LINES", help="Only the last lines.")
@click.option("--search", metavar="TEXT", help="Only lines that hold TEXT.")
@click.option("-t", "--timestamps", is_flag=True, help="The time before each line.")
@json_option
@pass_session
def command(
    session: Session, run: str, follow: bool, tail: int | None, search: str | None, timestamps: bool
) -> None:
    """Print what a run printed, both streams in the order in which they came."""
    runs = session.studio.runs
    run_id = runs.resolve(run)
    start = max(0, runs.log_count(run_id) - tail) if tail is not None else 0
    if follow and not session.wants_json and search is None and not timestamps:
        if not runs.get(run_id).state.is_final:
            session.studio.recorder.ensure()
        with interrupts() as pressed:
            summary = Follower(session, run_id, both_to_stdout=True, with_status=False, start=start).follow(
                until=lambda: pressed.count > 0
            )
        if summary.state is RunState.LOST and not summary.is_imported:
            session.note("The run is lost: its container is gone.")
        return
    wanted = None if search is None else _found(session, run_id, search, start)
    entries = []
    place = start
    while True:
        lines = runs.log(run_id, start=place, count=_PAGE)
        for line in lines:
            if wanted is not None and line.number not in wanted:
                continue
            if session.wants_json:
                entries.append(line)
            else:
                before = f"{moment(line.time)}  " if timestamps else ""
                click.echo(before + safe_line(line.text, colour=True))
        if len(lines) < _PAGE:
            break
        place = lines[-1].number + 1
    rest = runs.open_line(run_id)
    if rest is not None and wanted is None:
        if session.wants_json:
            entries.append(rest)
        else:
            click.echo(safe_line(rest.text, colour=True))
    if session.wants_json:
        session.put_json({"run": run_id, "lines": entries})
    elif not runs.log_count(run_id) and rest is None:
        run_now = runs.get(run_id)
        if run_now.is_imported:
            session.note(f"{run_now.name} was imported from {run_now.engine}, which kept no output.")


def _found(session: Session, run_id: str, text: str, start: int) -> set[int]:
    found: set[int] = set()
    while True:
        numbers = session.studio.runs.search_log(run_id, text, start=start, limit=_PAGE)
        found.update(numbers)
        if len(numbers) < _PAGE:
            return found
        start = numbers[-1] + 1
