"""`mlstudio images`: list and remove images."""

from __future__ import annotations

import time

import click

from mlstudio.cli.options import json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.tables import Column, table
from mlstudio.model.errors import Cancelled, RequestError
from mlstudio.services.words import ago_text, bytes_text, count_text, seconds_text

_EXAMPLES = """\b
Examples:
  mlstudio images
  mlstudio images list --all --json
  mlstudio images rm mlstudio/digits:1f3a9c0de211
"""


@click.group("images", invoke_without_command=True, epilog=_EXAMPLES)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List or remove images. Without a word behind it, it lists those that ML Studio built."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_images, all_of_them=False, engine=None)


@command.command("list")
@click.option("-a", "--all", "all_of_them", is_flag=True, help="Every image of the engine.")
@click.option("--engine", metavar="NAME", help="On which engine.")
@json_option
@pass_session
def list_images(session: Session, all_of_them: bool, engine: str | None) -> None:
    """List images, the newest first."""
    records = session.studio.images.list(
        engine=engine or session.studio.settings.text("engine"), all_of_them=all_of_them
    )
    if session.wants_json:
        session.put_json({"images": list(records)})
        return
    if not records:
        session.say("No images yet. `mlstudio build` makes one.")
        return
    columns = (
        Column(title="image", shrinks=True),
        Column(title="size", right=True),
        Column(title="created", right=True),
        Column(title="built in", right=True),
        Column(title="packages", right=True),
        Column(title="runs", right=True),
        Column(title="base", shrinks=True),
    )
    now = time.time()
    rows = [
        (
            record.tag or record.id[:19],
            bytes_text(record.size_bytes),
            ago_text(now - record.created) if record.created else "",
            seconds_text(record.build_seconds) if record.build_seconds else "",
            str(len(record.packages)) if record.packages else "",
            str(record.runs) if record.runs else "",
            record.base,
        )
        for record in records
    ]
    for line in table(columns, rows, width=session.width):
        session.say(line)


@command.command("rm")
@click.argument("references", nargs=-1, required=True, metavar="IMAGE…")
@click.option("--engine", metavar="NAME", help="On which engine.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def remove_images(session: Session, references: tuple[str, ...], engine: str | None, yes: bool) -> None:
    """Remove images from the engine. Runs that used them keep their records."""
    if not yes:
        if not session.is_interactive:
            raise RequestError(
                "Nobody can be asked here.", field="yes", try_this="Say --yes to remove without asking."
            )
        if not click.confirm(f"Remove {count_text(len(references), 'image')}?", err=True):
            raise Cancelled("Nothing was removed.")
    name = engine or session.studio.settings.text("engine")
    for reference in references:
        session.studio.images.remove(reference, engine=name)
        if not session.wants_json:
            session.say(f"{reference} removed.")
    if session.wants_json:
        session.put_json({"removed": list(references)})
