"""`mlstudio recover`: a new history of what can be read of a damaged one."""

from __future__ import annotations

import dataclasses

import click

from mlstudio.cli.options import json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.model.errors import Cancelled, RequestError
from mlstudio.services.locations import default_home
from mlstudio.services.words import count_text

_EXAMPLES = """\b
Examples:
  mlstudio recover --check
  mlstudio recover
  mlstudio --home /data/experiments recover --yes
"""


@click.command("recover", epilog=_EXAMPLES)
@click.option("--check", is_flag=True, help="Only say what is wrong. Exit code 1 if something is.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, check: bool, yes: bool) -> None:
    """Make a new history of all that can still be read of a damaged one.

    The damaged file is only read, and stays beside the new one under another name. What was lost is counted, and runs
    that lost something say so.
    """
    from mlstudio.services.recovery import recover_history, what_is_wrong

    home = (session.home or default_home()).expanduser().absolute()
    wrong = what_is_wrong(home)
    if check:
        if session.wants_json:
            session.put_json({"sound": not wrong, "wrong": wrong.splitlines()})
        else:
            session.say(f"The history in {home} is damaged:\n{wrong}" if wrong else "The history is sound.")
        ctx.exit(1 if wrong else 0)
    if not yes:
        if not session.is_interactive:
            raise RequestError(
                "Nobody can be asked here.", field="yes", try_this="Say --yes to recover without asking."
            )
        words = "is damaged" if wrong else "seems to be sound"
        if not click.confirm(f"The history in {home} {words}. Make a new one of what can be read?", err=True):
            raise Cancelled("Nothing was changed.")
    found = recover_history(home)
    if session.wants_json:
        session.put_json(dataclasses.asdict(found) | {"aside": str(found.aside), "rows": dict(found.rows)})
        return
    rows = dict(found.rows)
    session.say(f"Recovered {count_text(found.runs, 'run')} with {rows.get('series', 0):,} series.")
    if found.named_again:
        lost = count_text(found.named_again, "run")
        session.say(f"Name and settings of {lost} were lost; what was recorded of them was not.")
    if found.lost_points:
        session.say(f"{found.lost_points:,} points are known to be lost; the runs they belonged to say so.")
    if not found.had_contents:
        session.say("The file's table of contents was lost: runs that you had removed may be back.")
    session.say(f"The damaged history is now {found.aside}.")
