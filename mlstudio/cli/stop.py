"""`mlstudio stop`: stop runs."""

from __future__ import annotations

import click

from mlstudio.cli.options import complete_runs, json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.model.run import RunState

_SEEN_WITHIN_S = 15.0
_EXAMPLES = """\b
Examples:
  mlstudio stop 3
  mlstudio stop 3 4 --grace 60
"""


@click.command("stop", epilog=_EXAMPLES)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", shell_complete=complete_runs)
@click.option(
    "--grace", type=click.FloatRange(min=0), metavar="SECONDS", help="How long it may take to save its work."
)
@click.option("--now", is_flag=True, help="Kill it at once.")
@json_option
@pass_session
def command(session: Session, runs: tuple[str, ...], grace: float | None, now: bool) -> None:
    """Stop runs: ask each to end, and kill it if it does not in time. Quiet for those that are over."""
    service = session.studio.runs
    ended = []
    for run_id in [service.resolve(run) for run in runs]:
        before = service.get(run_id)
        service.stop(run_id, 0.0 if now else grace)
        summary = service.wait(run_id, timeout=_SEEN_WITHIN_S)
        ended.append(summary)
        if session.wants_json:
            continue
        if before.is_imported:
            session.say(f"{summary.name} was imported: nothing of it runs here.")
        elif before.state.is_final:
            session.say(f"{summary.name} was over already: {summary.state.value}.")
        elif summary.state.is_final or summary.state is RunState.LOST:
            session.say(f"{summary.name} {summary.state.value}.")
        else:
            session.say(f"{summary.name} will stop.")
    if session.wants_json:
        session.put_json({"runs": ended})
