"""`mlstudio doctor`: is this machine ready?"""

from __future__ import annotations

import click

from mlstudio.cli.findings import finding_lines
from mlstudio.cli.options import json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.services.checks import Level, worst

_EXAMPLES = """\b
Examples:
  mlstudio doctor
  mlstudio doctor --json
"""


@click.command("doctor", epilog=_EXAMPLES)
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session) -> None:
    """Check the engine, GPUs, driver, disk and network, and say how to mend what is wrong.

    Exit code 1 if something must be mended before runs can start.
    """
    checks = session.studio.doctor.check()
    is_ready = worst(checks) is not Level.ERROR
    if session.wants_json:
        session.put_json({"ready": is_ready, "checks": list(checks)})
    else:
        for line in finding_lines(checks, width=session.width, with_names=True):
            session.say(line)
        session.say()
        session.say("Ready." if is_ready else "Not ready: mend what is marked ✗.")
    ctx.exit(0 if is_ready else 1)
