"""A session: one call of the command line, with its home, its studio and the way it speaks."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlstudio.cli.strict_json import json_ready
from mlstudio.engines.engine import Engine
from mlstudio.services.studio import Studio

if TYPE_CHECKING:
    from mlstudio.services.engine_table import Engines

EXIT_RUN_FAILED = 1
EXIT_USAGE = 2
EXIT_WORLD = 3
EXIT_DEFECT = 70
EXIT_CANCELLED = 130


class Session:
    """What every command is given. Data goes to standard output, everything about the doing to standard error."""

    def __init__(
        self, home: Path | None = None, *, engines: Engines | Mapping[str, Engine] | None = None
    ) -> None:
        self.home = home
        self.wants_json = False
        self._engines = engines
        self._studio: Studio | None = None

    @property
    def studio(self) -> Studio:
        """The studio of the chosen home; made on first use."""
        if self._studio is None:
            self._studio = Studio(self.home, engines=self._engines)
        return self._studio

    def close(self) -> None:
        if self._studio is not None:
            self._studio.close()
            self._studio = None

    def say(self, text: str = "") -> None:
        """A line for the person (standard error with ``--json``, so that only JSON is on standard output)."""
        click.echo(text, err=self.wants_json)

    def note(self, text: str) -> None:
        """A line about what is being done, on standard error."""
        click.echo(text, err=True)

    def put_json(self, value: object) -> None:
        """One strict JSON document on standard output."""
        click.echo(json.dumps(json_ready(value), ensure_ascii=False, allow_nan=False, indent=2))

    @property
    def is_interactive(self) -> bool:
        """Whether a person can be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty() and not self.wants_json

    @property
    def can_redraw(self) -> bool:
        """Whether standard error is a terminal on which lines can be drawn over."""
        return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not self.wants_json

    @property
    def width(self) -> int:
        """Columns of the terminal; wide where the output goes to a file."""
        return shutil.get_terminal_size((160, 40)).columns if sys.stdout.isatty() else 160


pass_session = click.make_pass_decorator(Session)


def session_of(ctx: click.Context) -> Session:
    """The session of a command that takes too many options for `pass_session`'s type."""
    session = ctx.find_object(Session)
    assert session is not None
    return session
