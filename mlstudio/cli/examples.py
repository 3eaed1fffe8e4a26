"""`mlstudio examples`: list and copy example projects."""

from __future__ import annotations

from pathlib import Path

import click

from mlstudio.cli.options import json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.tables import Column, table
from mlstudio.services.words import bytes_text, seconds_text

_EXAMPLES = """\b
Examples:
  mlstudio examples
  mlstudio examples copy digits-cnn ~/projects && mlstudio run ~/projects/digits-cnn
"""


@click.group("examples", invoke_without_command=True, epilog=_EXAMPLES)
@json_option
@click.pass_context
def command(ctx: click.Context) -> None:
    """List and copy example projects that train for real."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_examples)


@command.command("list")
@json_option
@pass_session
def list_examples(session: Session) -> None:
    """The examples that ship with ML Studio."""
    found = session.studio.examples.list()
    if session.wants_json:
        session.put_json({"examples": list(found)})
        return
    columns = (
        Column(title="example"),
        Column(title="trains", right=True),
        Column(title="packages", right=True),
        Column(title="what it does", shrinks=True),
    )
    rows = [
        (
            example.name,
            seconds_text(example.seconds),
            bytes_text(example.mb * 1e6),
            f"{example.title}: {example.sentence}",
        )
        for example in found
    ]
    for line in table(columns, rows, width=session.width):
        session.say(line)


@command.command("copy")
@click.argument("name")
@click.argument("into", type=click.Path(file_okay=False, path_type=Path), default=Path(), required=False)
@json_option
@pass_session
def copy_example(session: Session, name: str, into: Path) -> None:
    """Copy an example into a folder of its own, to work on."""
    target = session.studio.examples.copy(name, into)
    if session.wants_json:
        session.put_json({"path": target})
    else:
        session.say(f"{target} is yours. Run it: mlstudio run {target}")
