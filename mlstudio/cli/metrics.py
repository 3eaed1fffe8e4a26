"""`mlstudio metrics`: what a run measured, every point of it."""

from __future__ import annotations

import csv
import difflib
import json
import sys
from collections.abc import Sequence

import click

from mlstudio.cli.options import json_option, run_argument
from mlstudio.cli.session import Session, pass_session
from mlstudio.cli.strict_json import number_ready
from mlstudio.cli.tables import Column, table
from mlstudio.model.errors import NotFound
from mlstudio.model.run import MetricSummary, RunSummary
from mlstudio.services.words import number_text

_EXAMPLES = """\b
Examples:
  mlstudio metrics                       of the newest run
  mlstudio metrics 3                     the last, lowest and highest value of each
  mlstudio metrics 3 loss --csv          every point of loss
  mlstudio metrics 3 --system --json     every point, the machine's readings too
"""


@click.command("metrics", epilog=_EXAMPLES)
@run_argument
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--csv", "as_csv", is_flag=True, help="Every point as CSV: name, kind, step, time, value.")
@click.option("--system", is_flag=True, help="Processor, memory and GPU readings too.")
@json_option
@pass_session
def command(session: Session, run: str, names: tuple[str, ...], as_csv: bool, system: bool) -> None:
    """Print what a run measured. With --json or --csv every point; NaN and infinities as words."""
    runs = session.studio.runs
    run_id, names = _run_and_names(session, run, names)
    summary = runs.get(run_id)
    chosen = _chosen(runs.metrics(run_id), names, system=system)
    if session.wants_json:
        _put_json(session, summary, chosen)
    elif as_csv:
        _put_csv(session, summary, chosen)
    else:
        _put_table(session, chosen)


def _run_and_names(session: Session, run: str, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """`mlstudio metrics loss` asks the newest run for its loss, unless a run is called so."""
    runs = session.studio.runs
    try:
        return runs.resolve(run), names
    except NotFound:
        newest = runs.resolve("")
        if any(metric.name == run for metric in runs.metrics(newest)):
            return newest, (run, *names)
        raise


def _chosen(metrics: Sequence[MetricSummary], names: tuple[str, ...], *, system: bool) -> list[MetricSummary]:
    if not names:
        # What another logger said, too, is not shown twice; it can be asked for.
        return [metric for metric in metrics if (system or metric.kind == "metric") and not metric.same_as]
    chosen = []
    for name in names:
        found = [metric for metric in metrics if metric.name == name]
        if not found:
            near = difflib.get_close_matches(name, [metric.name for metric in metrics], n=3)
            raise NotFound(
                f"The run has no metric “{name}”.",
                field="name",
                try_this=f"Did you mean {' or '.join(near)}?"
                if near
                else "`mlstudio metrics RUN` names them.",
            )
        chosen += found
    return chosen


def _put_json(session: Session, summary: RunSummary, chosen: list[MetricSummary]) -> None:
    """Written series by series, so that a long run does not lie in memory twice."""
    head = {"id": summary.id, "number": summary.number, "name": summary.name, "state": summary.state.value}
    click.echo('{"run": ' + json.dumps(head, ensure_ascii=False) + ', "series": [', nl=False)
    for place, metric in enumerate(chosen):
        series = session.studio.runs.series(summary.id, metric.name, kind=metric.kind)
        entry = {
            "name": metric.name,
            "kind": metric.kind,
            "unit": metric.unit,
            "steps": series.steps.tolist(),
            "times": series.times.tolist(),
            "values": [number_ready(value) for value in series.values.tolist()],
        }
        click.echo(
            ("," if place else "") + "\n" + json.dumps(entry, ensure_ascii=False, allow_nan=False), nl=False
        )
    click.echo("\n]}")


def _put_csv(session: Session, summary: RunSummary, chosen: list[MetricSummary]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("run", "name", "kind", "step", "time", "value"))
    for metric in chosen:
        series = session.studio.runs.series(summary.id, metric.name, kind=metric.kind)
        for step, time, value in zip(
            series.steps.tolist(), series.times.tolist(), series.values.tolist(), strict=True
        ):
            writer.writerow((summary.name, metric.name, metric.kind, step, repr(time), number_ready(value)))


def _put_table(session: Session, chosen: list[MetricSummary]) -> None:
    if not chosen:
        session.say("The run has measured nothing (yet). In the script: mlstudio.log(step=…, loss=…)")
        return
    columns = (
        Column(title="metric", shrinks=True),
        Column(title="points", right=True),
        Column(title="last", right=True),
        Column(title="at step", right=True),
        Column(title="lowest", right=True),
        Column(title="at step", right=True),
        Column(title="highest", right=True),
        Column(title="at step", right=True),
        Column(title="unit"),
    )
    rows = [
        (
            metric.name,
            str(metric.count),
            number_text(metric.last),
            _step(metric.last_step),
            number_text(metric.minimum),
            _step(metric.minimum_step),
            number_text(metric.maximum),
            _step(metric.maximum_step),
            metric.unit,
        )
        for metric in chosen
    ]
    for line in table(columns, rows, width=session.width):
        session.say(line)


def _step(step: int | None) -> str:
    return "" if step is None else str(step)
