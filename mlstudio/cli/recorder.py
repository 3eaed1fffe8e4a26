"""`mlstudio recorder`: the process that records live runs. Started by ML Studio itself."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("recorder", hidden=True)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.pass_context
def command(ctx: click.Context, home: Path) -> None:
    """Record the live runs of a home until nothing is live."""
    from mlstudio.services.recorder import main

    ctx.exit(main(home) or 0)
