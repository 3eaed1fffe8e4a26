"""`mlstudio settings`: list and change settings."""

from __future__ import annotations

import re

import click
from click.shell_completion import CompletionItem

from mlstudio.cli.options import json_option
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.tables import Column, table
from mlstudio.services.settings import SETTINGS, Setting, declared

_EXAMPLES = """\b
Examples:
  mlstudio settings list
  mlstudio settings set pip.index_url https://mirror.example.org/simple
  mlstudio settings set base_images python:3.11-slim-bookworm=mirror.example.org/python:3.11
  mlstudio settings reset pip.index_url
"""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def _complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(setting.name, help=setting.sentence)
        for setting in SETTINGS
        if setting.name.startswith(incomplete)
    ]


@click.group("settings", invoke_without_command=True, epilog=_EXAMPLES)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List and change settings."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_settings)


@command.command("list")
@json_option
@pass_session
def list_settings(session: Session) -> None:
    """Every setting with its value."""
    entries = session.studio.settings.items()
    if session.wants_json:
        session.put_json(
            {
                "path": session.studio.settings.path,
                "settings": [
                    {
                        "name": setting.name,
                        "kind": setting.kind,
                        "value": _hidden(setting, value),
                        "default": setting.default,
                        "is_set": is_set,
                        "sentence": setting.sentence,
                        "choices": setting.choices,
                    }
                    for setting, value, is_set in entries
                ],
            }
        )
        return
    columns = (
        Column(title="setting"),
        Column(title="value", shrinks=True),
        Column(title="meaning", shrinks=True),
    )
    rows = [
        (setting.name, _text(_hidden(setting, value)) + ("" if is_set else " (default)"), setting.sentence)
        for setting, value, is_set in entries
    ]
    for line in table(columns, rows, width=session.width):
        session.say(line)
    session.note(click.style(f"Kept in {session.studio.settings.path}", dim=True))


@command.command("get")
@click.argument("name", shell_complete=_complete)
@json_option
@pass_session
def get_setting(session: Session, name: str) -> None:
    """Print one setting's value."""
    value = _hidden(declared(name), session.studio.settings.get(name))
    if session.wants_json:
        session.put_json({"name": name, "value": value})
    else:
        session.say(_text(value))


@command.command("set")
@click.argument("name", shell_complete=_complete)
@click.argument("values", nargs=-1, required=True, metavar="VALUE…")
@json_option
@pass_session
def set_setting(session: Session, name: str, values: tuple[str, ...]) -> None:
    """Set a setting. Several values make a list; NAME=VALUE pairs a map."""
    settings = session.studio.settings
    settings.set(name, " ".join(values))
    if session.wants_json:
        session.put_json({"name": name, "value": _hidden(declared(name), settings.get(name))})


@command.command("reset")
@click.argument("name", shell_complete=_complete)
@json_option
@pass_session
def reset_setting(session: Session, name: str) -> None:
    """Go back to the default."""
    settings = session.studio.settings
    settings.reset(name)
    if session.wants_json:
        session.put_json({"name": name, "value": settings.get(name)})


def _hidden(setting: Setting, value: object) -> object:
    """The value without a user and password in its URLs."""
    if not setting.hides_credentials:
        return value
    if isinstance(value, str):
        return _CREDENTIALS.sub("…@", value)
    if isinstance(value, list):
        return [_CREDENTIALS.sub("…@", item) for item in value]
    return value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)
