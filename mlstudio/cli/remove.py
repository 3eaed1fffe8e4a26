"""`mlstudio rm`: remove runs for good."""

from __future__ import annotations

import click

from mlstudio.cli.options import complete_runs, json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.model.errors import Cancelled, RequestError
from mlstudio.services.words import count_text

_EXAMPLES = """\b
Examples:
  mlstudio rm 3
  mlstudio rm 3 4 5 --yes
"""


@click.command("rm", epilog=_EXAMPLES)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", shell_complete=complete_runs)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Running ones too: they are killed first.")
@json_option
@pass_session
def command(session: Session, runs: tuple[str, ...], yes: bool, force: bool) -> None:
    """Remove runs with their containers and everything recorded of them. Their images stay."""
    service = session.studio.runs
    found = [service.get(run_id) for run_id in dict.fromkeys(service.resolve(run) for run in runs)]
    for run in found:
        if not force and run.state.value in ("queued", "running"):
            raise RequestError(
                f"The run {run.name} is still {run.state.value}.",
                field="run",
                try_this=f"Stop it first (mlstudio stop {run.number}), or remove it with --force.",
            )
    if not yes:
        if not session.is_interactive:
            raise RequestError(
                "Nobody can be asked here.", field="yes", try_this="Say --yes to remove without asking."
            )
        names = ", ".join(run.name for run in found[:5]) + (" …" if len(found) > 5 else "")
        if not click.confirm(
            f"Remove {count_text(len(found), 'run')} ({names}) with all metrics and logs? This cannot be undone.",
            err=True,
        ):
            raise Cancelled("Nothing was removed.")
    for run in found:
        service.remove(run.id, force=force)
        if not session.wants_json:
            session.say(f"{run.name} removed.")
    if session.wants_json:
        session.put_json({"removed": [run.id for run in found]})
