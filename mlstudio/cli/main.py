"""The root of the command line: the commands by name, and how an error is told."""

from __future__ import annotations

import importlib
import os
import traceback
from pathlib import Path
from typing import Any

import click

from mlstudio.cli.safe_text import safe_line
from mlstudio.cli.session import (
    EXIT_CANCELLED,
    EXIT_DEFECT,
    EXIT_USAGE,
    EXIT_WORLD,
    Session,
)
from mlstudio.model.errors import (
    BuildFailed,
    Cancelled,
    DefectError,
    QueryError,
    RequestError,
    StudioError,
)

_COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("init", "mlstudio.cli.init", "Write mlstudio.toml, so that `mlstudio run` needs no options."),
    ("build", "mlstudio.cli.build", "Build the image, or show its Dockerfile and what building would do."),
    ("run", "mlstudio.cli.run", "Build the image and run the code in a container."),
    ("ls", "mlstudio.cli.list_runs", "List runs."),
    ("show", "mlstudio.cli.show", "Show everything about a run."),
    ("logs", "mlstudio.cli.logs", "Print what a run printed."),
    ("metrics", "mlstudio.cli.metrics", "Print what a run measured, every point of it."),
    ("rules", "mlstudio.cli.rules", "Find numbers in printed lines by an example."),
    ("stop", "mlstudio.cli.stop", "Stop runs."),
    ("rm", "mlstudio.cli.remove", "Remove runs for good."),
    ("import", "mlstudio.cli.import_runs", "Bring in runs of TensorBoard, MLflow, W&B, trackio, tables."),
    ("export", "mlstudio.cli.export", "Write runs for TensorBoard, MLflow or as tables."),
    ("images", "mlstudio.cli.images", "List or remove images."),
    ("gc", "mlstudio.cli.gc", "Say what uses how much, and free what is not wanted any more."),
    ("recover", "mlstudio.cli.recover", "Save what can be read of a damaged history."),
    ("doctor", "mlstudio.cli.doctor", "Check this machine and say how to mend what is wrong."),
    ("settings", "mlstudio.cli.settings", "List and change settings."),
    ("examples", "mlstudio.cli.examples", "List and copy example projects."),
    ("gui", "mlstudio.cli.window", "Open the window."),
    ("completion", "mlstudio.cli.completion", "Print the shell's completion script."),
    ("recorder", "mlstudio.cli.recorder", ""),
)


class Root(click.Group):
    """Loads a command's module only when it is called, and turns errors into sentences and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _, sentence in _COMMANDS if sentence]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for name, module, _ in _COMMANDS:
            if name == cmd_name:
                command = importlib.import_module(module).command
                assert isinstance(command, click.Command)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, _, sentence in _COMMANDS if sentence])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=2)
            if not near:
                raise
            hint = f"There is no command “{args[0]}”. Did you mean {' or '.join(near)}?"
            raise click.UsageError(hint, ctx) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["mlstudio.wants_json"] = "--json" in args[: args.index("--") if "--" in args else None]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        wants_json = bool(ctx.meta.get("mlstudio.wants_json"))
        try:
            return super().invoke(ctx)
        except StudioError as error:
            tell(error, wants_json=wants_json)
            ctx.exit(exit_code(error))
        except click.UsageError as error:
            if wants_json:
                _put_error(
                    {"kind": "usage", "what": error.format_message(), "why": "", "try_this": "", "field": ""}
                )
                ctx.exit(EXIT_USAGE)
            raise
        except (click.Abort, KeyboardInterrupt):
            click.echo("Cancelled.", err=True)
            ctx.exit(EXIT_CANCELLED)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click's own ways of ending, and a pipe that was closed
        except Exception as error:  # noqa: BLE001 — the outermost edge: told as a defect, with its traceback
            defect = DefectError(f"ML Studio itself failed: {str(error) or type(error).__name__}")
            defect.__cause__ = error
            tell(defect, wants_json=wants_json)
            ctx.exit(EXIT_DEFECT)


def exit_code(error: StudioError) -> int:
    """2 for a wrong request, 3 for a world that is not as it must be, 130 for a cancelled wish, 70 for our fault."""
    if isinstance(error, Cancelled):
        return EXIT_CANCELLED
    if isinstance(error, RequestError):
        return EXIT_USAGE
    if isinstance(error, DefectError):
        return EXIT_DEFECT
    return EXIT_WORLD


def tell(error: StudioError, *, wants_json: bool = False) -> None:
    """Say what happened, why, and what to try: on standard error, or as a JSON object on standard output."""
    if wants_json:
        _put_error(
            {
                "kind": _kind(error),
                "what": error.what,
                "why": error.why,
                "try_this": error.try_this,
                "field": error.field if isinstance(error, RequestError) else "",
                "place": [error.start, error.end] if isinstance(error, QueryError) else None,
                "diagnosis": error.diagnosis if isinstance(error, BuildFailed) else None,
            }
        )
        return
    click.echo(
        click.style(error.what, fg=None if isinstance(error, Cancelled) else "red", bold=True), err=True
    )
    if isinstance(error, QueryError) and error.text:
        _point_at(error)
    if error.why:
        click.echo(error.why, err=True)
    if error.try_this:
        click.echo(f"{click.style('Try:', bold=True)} {error.try_this}", err=True)
    if isinstance(error, DefectError):
        click.echo("This is a fault of ML Studio. Please report it with these lines:", err=True)
        click.echo("".join(traceback.format_exception(error))[-4000:], err=True)


def _point_at(error: QueryError) -> None:
    """The filter with a mark below what is wrong with it; of a long one the part around it."""
    first = max(0, error.start - 60)
    part = safe_line(error.text[first : error.end + 40])
    before = safe_line(error.text[first : error.start])
    wrong = safe_line(error.text[error.start : error.end])
    click.echo(f"  {'…' if first else ''}{part}", err=True)
    click.echo(f"  {' ' * (len(before) + bool(first))}^{'~' * (len(wrong) - 1)}", err=True)


def _kind(error: StudioError) -> str:
    if isinstance(error, Cancelled):
        return "cancelled"
    if isinstance(error, BuildFailed):
        return "build"
    return {EXIT_USAGE: "request", EXIT_WORLD: "world"}.get(exit_code(error), "defect")


def _put_error(entry: dict[str, object]) -> None:
    import json

    from mlstudio.cli.strict_json import json_ready

    click.echo(json.dumps({"error": json_ready(entry)}, ensure_ascii=False, indent=2))


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("mlstudio")
    except PackageNotFoundError:
        number = "from source"
    click.echo(f"mlstudio {number}")
    ctx.exit()


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Without a command, the window opens. Exit codes: 0 done, 1 the run failed, 2 wrong usage, "
    "3 something is not as it must be, 130 cancelled.",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where runs are recorded (default: $MLSTUDIO_HOME, else your user data folder).",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Say the version."
)
@click.pass_context
def cli(ctx: click.Context, home: Path | None) -> None:
    """Experiments in containers: build the image, run it, watch the curves.

    \b
    mlstudio run train.py -- --epochs 5     build, run, follow
    mlstudio ls                             what runs and what ran
    mlstudio metrics 3 --json               every point of run 3
    mlstudio doctor                         is this machine ready?
    """
    session = ctx.obj if isinstance(ctx.obj, Session) else Session(home.absolute() if home else None)
    ctx.obj = session
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False
    ctx.call_on_close(session.close)
    if ctx.invoked_subcommand is None:
        from mlstudio.cli.window import open_window

        ctx.exit(open_window(session))
