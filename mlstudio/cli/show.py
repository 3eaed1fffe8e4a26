"""`mlstudio show`: everything about a run."""

from __future__ import annotations

import json
import shlex
import time
from datetime import datetime

import click

from mlstudio.cli.follow import ending
from mlstudio.cli.list_runs import progress_text
from mlstudio.cli.options import json_option, run_argument
from mlstudio.cli.safe_text import safe_line
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.tables import Column, table
from mlstudio.model.image import ImageRecord
from mlstudio.model.run import RunDetail, RunSummary
from mlstudio.services.recording.series_names import plain
from mlstudio.services.words import bytes_text, count_text, number_text, seconds_text, state_mark

_EXAMPLES = """\b
Examples:
  mlstudio show 3
  mlstudio show                          the newest run
  mlstudio show digits-cnn-3 --packages
  mlstudio show 3 --dockerfile > Dockerfile
"""


@click.command("show", epilog=_EXAMPLES)
@run_argument
@click.option("--packages", is_flag=True, help="Every package with its version.")
@click.option("--dockerfile", is_flag=True, help="Only the Dockerfile.")
@click.option("--patch", is_flag=True, help="Only the uncommitted changes of the code, as a patch.")
@json_option
@pass_session
def command(session: Session, run: str, packages: bool, dockerfile: bool, patch: bool) -> None:
    """Show everything about a run: how it stands, what it ran, in what, and on what."""
    runs = session.studio.runs
    run_id = runs.resolve(run)
    detail = runs.detail(run_id)
    if dockerfile or patch:
        text = detail.dockerfile if dockerfile else detail.patch
        if session.wants_json:
            session.put_json({"dockerfile" if dockerfile else "patch": text})
        else:
            click.echo(text, nl=not text.endswith("\n"))
        return
    image = runs.image_of(run_id)
    environment = _environment(detail)
    if session.wants_json:
        session.put_json(
            {
                "run": detail.summary,
                "spec": detail.spec,
                "dockerfile": detail.dockerfile,
                "environment": environment,
                "patch": detail.patch,
                "code_files": detail.code_files,
                "events": [
                    {"time": event.time, "type": event.type, "data": json.loads(event.data_json)}
                    for event in detail.events
                ],
                "image": image,
                "packages": packages_of(environment, image),
            }
        )
        return
    for line in _lines(detail, environment, image, width=session.width):
        session.say(line)
    if packages:
        session.say()
        columns = (Column(title="package"), Column(title="version"), Column(title="from"))
        rows = [
            (entry["name"], entry["version"], entry["manager"]) for entry in packages_of(environment, image)
        ]
        for line in table(columns, rows, width=session.width):
            session.say(line)


def packages_of(environment: dict[str, object], image: ImageRecord | None) -> list[dict[str, str]]:
    """Packages as the run itself reported them, and the image's for all that it did not."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for package in image.packages if image is not None else ():
        found[(package.manager, package.name.lower())] = {
            "name": package.name,
            "version": package.version,
            "manager": package.manager,
        }
    reported = environment.get("packages")
    for entry in reported if isinstance(reported, list) else ():
        if isinstance(entry, list) and len(entry) >= 2:
            name, version = str(entry[0]), str(entry[1])
            found[("pip", name.lower())] = {"name": name, "version": version, "manager": "pip"}
    return [found[key] for key in sorted(found, key=lambda key: (key[0] != "pip", key[1]))]


def _lines(
    detail: RunDetail, environment: dict[str, object], image: ImageRecord | None, *, width: int
) -> list[str]:
    run = detail.summary
    lines = [click.style(safe_line(run.name), bold=True) + f"  (run {run.number}, {run.id})", _state(run)]
    facts: list[tuple[str, str]] = [
        ("command", shlex.join(run.command)),
        ("imported", imported_from(detail) if run.is_imported else ""),
        (
            "engine",
            ""
            if run.is_imported
            else " ".join(part for part in (run.engine, f"({run.engine_kind})", run.host) if part),
        ),
        ("host", run.host if run.is_imported else ""),
        ("gpus", ", ".join(run.gpus)),
        ("created", moment(run.created)),
        ("started", moment(run.started)),
        ("ended", moment(run.ended)),
        ("took", seconds_text(run.duration_s(time.time())) if run.started else ""),
        ("image", _image_words(run, image)),
        ("code", _code_words(detail)),
        ("hardware", _hardware(environment)),
        ("packages", _packages_words(len(packages_of(environment, image)), is_imported=run.is_imported)),
        ("tags", " ".join(run.tags)),
        ("note", run.note),
        ("missing", " ".join(run.lacks)),
        ("gaps", count_text(run.gaps, "batch") if run.gaps else ""),
    ]
    lines += [f"{name:<10}{safe_line(value)}" for name, value in facts if value]
    if run.parameters:
        lines += [
            "",
            *table(
                (Column(title="parameter"), Column(title="value", shrinks=True)), run.parameters, width=width
            ),
        ]
    rows = [
        (
            metric.name,
            str(metric.count),
            number_text(metric.last),
            number_text(metric.minimum),
            number_text(metric.maximum),
        )
        for metric in run.metrics
        if metric.kind == "metric" and not metric.same_as
    ]
    if rows:
        columns = (
            Column(title="metric", shrinks=True),
            Column(title="points", right=True),
            Column(title="last", right=True),
            Column(title="lowest", right=True),
            Column(title="highest", right=True),
        )
        lines += ["", *table(columns, rows, width=width)]
    copies = [metric for metric in run.metrics if metric.same_as]
    if copies:
        lines.append("")
    lines += [
        safe_line(f"{plain(metric.name, metric.logger)} ({metric.logger}) says the same as {metric.same_as}.")
        for metric in copies
    ]
    return lines


def _state(run: RunSummary) -> str:
    if run.state.is_final or run.exit is not None:
        return ending(run)
    doing = progress_text(run)
    return f"{state_mark(run.state)} {run.state.value}" + (f", {safe_line(doing)}" if doing else "")


def imported_from(detail: RunDetail) -> str:
    """Where an imported run came from: ``tensorboard, /home/me/runs/a, on 2026-11-23 17:16:08``."""
    for event in detail.events:
        if event.type == "imported":
            source = json.loads(event.data_json).get("source", "")
            return f"{detail.summary.engine}, {source}, on {moment(event.time)}"
    return detail.summary.engine


def _packages_words(count: int, *, is_imported: bool) -> str:
    if is_imported and not count:
        return ""
    return count_text(count, "package") + " (--packages lists them)"


def _image_words(run: RunSummary, image: ImageRecord | None) -> str:
    size = f"{bytes_text(image.size_bytes)}, " if image is not None and image.size_bytes else ""
    return f"{run.image_tag} ({size}{run.image_id[:19]})" if run.image_id else run.image_tag


def _code_words(detail: RunDetail) -> str:
    run, code = detail.summary, detail.spec.code
    words = [code.url or code.folder, code.travel.value]
    if run.commit:
        changed = f" with {count_text(run.changed_files, 'changed file')}" if run.changed_files else ""
        words.append(f"commit {run.commit[:12]}{changed}")
    if run.tree_hash:
        words.append(run.tree_hash[:19])
    return ", ".join(word for word in words if word) if run.tree_hash or code.url or code.folder else ""


def _hardware(environment: dict[str, object]) -> str:
    words = []
    if environment.get("cpu_model"):
        words.append(f"{environment['cpu_model']}")
    if environment.get("cpus"):
        words.append(f"{environment['cpus']} processors")
    memory = environment.get("memory_bytes")
    if isinstance(memory, (int, float)) and memory > 0:
        words.append(bytes_text(memory))
    return ", ".join(words)


def _environment(detail: RunDetail) -> dict[str, object]:
    if not detail.environment_json:
        return {}
    loaded = json.loads(detail.environment_json)
    return loaded if isinstance(loaded, dict) else {}


def moment(time_s: float | None) -> str:
    """A time in the local zone, to the second."""
    if time_s is None:
        return ""
    return datetime.fromtimestamp(time_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
