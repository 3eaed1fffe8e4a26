"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from mlstudio.cli.session import Session
from mlstudio.model.code import Travel
from mlstudio.model.errors import StudioError
from mlstudio.model.image import PipSettings

Function = TypeVar("Function", bound=Callable[..., Any])


def _wants_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    session = ctx.find_object(Session)
    if value and session is not None:
        session.wants_json = True


json_option = click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_wants_json,
    help="Print JSON and nothing else on standard output.",
)


def complete_runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names and numbers of the newest runs, for the shell."""
    session = ctx.find_object(Session) or Session()
    try:
        runs = session.studio.runs.list(limit=50, with_metrics=False)
    except StudioError:
        return []
    finally:
        session.close()
    return [
        CompletionItem(run.name, help=f"{run.number}, {run.state.value}")
        for run in runs
        if run.name.startswith(incomplete)
    ]


def complete_filter(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What may stand at the end of a filter, for the shell. The filter is one word of the shell's or several."""
    session = ctx.find_object(Session) or Session()
    before = " ".join(ctx.params.get("where") or ())
    text = f"{before} {incomplete}" if before else incomplete
    try:
        found = session.studio.runs.complete(text)
    except StudioError:
        return []
    finally:
        session.close()
    kept = (
        text[: found.start][len(text) - len(incomplete) :]
        if found.start >= len(text) - len(incomplete)
        else ""
    )
    return [CompletionItem(kept + item.text, help=item.what) for item in found.items]


def run_argument(function: Function) -> Function:
    """One RUN: its number, name, id or the beginning of the id; left out, it is empty and means the newest run."""
    return click.argument("run", default="", required=False, shell_complete=complete_runs)(function)


class WithWords(click.Command):
    """A command whose words after ``--`` are the run's own and are never read as options of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        if "--" in args:
            place = args.index("--")
            args, words = args[:place], args[place + 1 :]
        ctx.meta["mlstudio.words"] = tuple(words)
        return super().parse_args(ctx, args)


def _stacked(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def apply(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


image_options = _stacked(
    click.option("--framework", metavar="NAME", help="pytorch, tensorflow, jax, scikit-learn, … or python."),
    click.option("--framework-version", metavar="VERSION", help="Its version; the newest by default."),
    click.option("--variant", metavar="NAME", help="cpu, or a CUDA release such as cu126."),
    click.option("--python", metavar="VERSION", help="Python in the image, such as 3.11."),
    click.option(
        "-r",
        "--requirement",
        "requirements",
        multiple=True,
        metavar="LINE",
        help="A package such as 'numpy>=2'; with any, nothing is looked for in the code.",
    ),
    click.option(
        "--system-package", "system_packages", multiple=True, metavar="NAME", help="A Debian package."
    ),
    click.option("--dockerfile", metavar="PATH", help="Your own Dockerfile, relative to the code."),
    click.option("--image", metavar="REF", help="An existing image; nothing is built."),
)

code_options = _stacked(
    click.option("--ref", metavar="REF", help="Branch, tag or commit of a Git URL."),
    click.option("--subfolder", metavar="PATH", help="Folder inside the repository."),
    click.option(
        "--travel",
        type=click.Choice([travel.value for travel in Travel]),
        help="How code gets in: baked into the image, mounted, or cloned from Git at the start.",
    ),
    click.option(
        "--command",
        "command_line",
        metavar="'WORDS'",
        help="The whole command, such as 'python -m pkg.train'.",
    ),
    click.option(
        "-p",
        "--param",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter: becomes --NAME VALUE.",
    ),
    click.option(
        "--env", "env", multiple=True, metavar="NAME=VALUE", help="An environment variable. Not for secrets."
    ),
    click.option(
        "--engine", metavar="NAME", help="local (this machine's containers) or process (no container)."
    ),
)

pip_options = _stacked(
    click.option("--index-url", metavar="URL", help="Package index for the build."),
    click.option(
        "--extra-index-url", "extra_index_urls", multiple=True, metavar="URL", help="A further index."
    ),
    click.option(
        "--find-links",
        "--wheelhouse",
        "wheelhouse",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="A folder of wheels to install from.",
    ),
    click.option(
        "--cert",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Certificate authorities (PEM) to trust while building.",
    ),
    click.option("--proxy", metavar="URL", help="Proxy for downloads while building."),
)


def pip_from(
    *,
    index_url: str | None,
    extra_index_urls: tuple[str, ...],
    wheelhouse: Path | None,
    cert: Path | None,
    proxy: str | None,
) -> PipSettings | None:
    """The pip settings given on the command line; None if there are none."""
    given = PipSettings(
        index_url=index_url or "",
        extra_index_urls=extra_index_urls,
        wheelhouse=str(wheelhouse.absolute()) if wheelhouse else "",
        ca_bundle=str(cert.absolute()) if cert else "",
        proxy=proxy or "",
    )
    return None if given == PipSettings() else given
