"""`mlstudio completion`: the shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_EXAMPLES = """\b
Examples:
  mlstudio completion bash > ~/.local/share/bash-completion/completions/mlstudio
  mlstudio completion zsh > ~/.zfunc/_mlstudio
  mlstudio completion fish > ~/.config/fish/completions/mlstudio.fish
"""


@click.command("completion", epilog=_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell. It completes commands, options, runs and settings."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "mlstudio", "_MLSTUDIO_COMPLETE").source())
