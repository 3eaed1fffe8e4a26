"""`mlstudio build`: the image alone; its Dockerfile; what building would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlstudio.cli.build_view import BuildView, tell_diagnosis
from mlstudio.cli.findings import finding_lines
from mlstudio.cli.options import (
    WithWords,
    code_options,
    image_options,
    json_option,
    pip_from,
    pip_options,
)
from mlstudio.cli.run import interrupts, with_usable_engine
from mlstudio.cli.session import Session, session_of
from mlstudio.cli.tables import Column, table
from mlstudio.model.errors import BuildFailed
from mlstudio.model.image import Cached, Diagnosis, LayerForecast
from mlstudio.services.images import Plan
from mlstudio.services.wishes import Words, spec_from
from mlstudio.services.words import bytes_text, seconds_text

_EXAMPLES = """\b
Examples:
  mlstudio build                       build the image of the folder you stand in
  mlstudio build --print               only print its Dockerfile
  mlstudio build --dry-run             say what would be built again, why, and how long it takes
"""


@click.command("build", cls=WithWords, epilog=_EXAMPLES)
@click.argument("target", required=False, default="", metavar="[FOLDER|SCRIPT|URL]")
@code_options
@image_options
@pip_options
@click.option("--print", "prints", is_flag=True, help="Print the Dockerfile and build nothing.")
@click.option("--dry-run", is_flag=True, help="Say what building would do and build nothing.")
@click.option("--no-cache", is_flag=True, help="Build every layer again.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the build prints.")
@json_option
def command(
    target: str,
    index_url: str | None,
    extra_index_urls: tuple[str, ...],
    wheelhouse: Path | None,
    cert: Path | None,
    proxy: str | None,
    prints: bool,
    dry_run: bool,
    no_cache: bool,
    verbose: bool,
    **said: Any,
) -> None:
    """Build the image, or show its Dockerfile and what building would do."""
    ctx = click.get_current_context()
    session = session_of(ctx)
    words = Words(target=target, args=ctx.meta["mlstudio.words"], **said)
    spec = spec_from(session.studio, words)
    pip = pip_from(
        index_url=index_url, extra_index_urls=extra_index_urls, wheelhouse=wheelhouse, cert=cert, proxy=proxy
    )
    if not prints and not dry_run:
        spec = with_usable_engine(session, spec, was_chosen=words.engine is not None)
    plan = session.studio.images.plan(spec, pip=pip)
    if prints:
        if session.wants_json:
            session.put_json(
                {"dockerfile": plan.recipe.dockerfile, "tag": plan.recipe.tag, "layers": plan.recipe.layers}
            )
        else:
            click.echo(plan.recipe.dockerfile, nl=not plan.recipe.dockerfile.endswith("\n"))
        return
    if dry_run:
        _tell_plan(session, plan)
        return
    for line in finding_lines(
        [check for check in plan.checks if check.level.value in ("warning", "error")], width=session.width
    ):
        session.note(line)
    with interrupts() as pressed:
        try:
            with BuildView(session, verbose=verbose) as view:
                record = session.studio.images.build(
                    plan,
                    engine=spec.engine,
                    on_event=view.on_event,
                    cancelled=lambda: pressed.count > 0,
                    no_cache=no_cache,
                )
        except BuildFailed as error:
            if isinstance(error.diagnosis, Diagnosis) and not session.wants_json:
                tell_diagnosis(error.diagnosis)
            raise
    if session.wants_json:
        session.put_json({"image": record})
        return
    took = f" in {seconds_text(record.build_seconds)}" if record.build_seconds else ""
    session.say(f"{record.tag}  {bytes_text(record.size_bytes)}{took}")


def _tell_plan(session: Session, plan: Plan) -> None:
    if session.wants_json:
        session.put_json(
            {
                "tag": plan.recipe.tag,
                "digest": plan.recipe.digest,
                "is_built": plan.image is not None,
                "seconds": plan.seconds,
                "layers": [
                    {
                        "kind": entry.layer.kind,
                        "title": entry.layer.title,
                        "text": entry.layer.text,
                        "why": entry.layer.why,
                        "cached": entry.cached,
                        "because": entry.because,
                        "seconds": entry.seconds,
                    }
                    for entry in plan.forecast
                ],
                "checks": plan.checks,
            }
        )
        return
    columns = (
        Column(title="layer", shrinks=True),
        Column(title="forecast", colour=lambda text: "green" if text.startswith("cached") else None),
        Column(title="last took", right=True),
        Column(title="why", shrinks=True),
    )
    rows = [
        (
            entry.layer.title or " ".join(entry.layer.text.split()),
            _forecast_words(entry),
            seconds_text(entry.seconds) if entry.seconds is not None else "",
            entry.layer.why,
        )
        for entry in plan.forecast
    ]
    for line in table(columns, rows, width=session.width):
        session.say(line)
    session.say()
    for line in finding_lines(plan.checks, width=session.width):
        session.say(line)


def _forecast_words(entry: LayerForecast) -> str:
    if entry.cached is Cached.YES:
        return "cached"
    word = "build" if entry.cached is Cached.NO else "not known"
    return f"{word}: {entry.because}" if entry.because else word
