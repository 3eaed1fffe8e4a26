"""`mlstudio import`: bring in what other tools recorded."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mlstudio.cli.options import json_option
from mlstudio.cli.run import interrupts
from mlstudio.cli.safe_text import cut, safe_line
from mlstudio.cli.session import EXIT_WORLD, Session, pass_session
from mlstudio.cli.show import moment
from mlstudio.cli.tables import Column, table
from mlstudio.model.run import RunState
from mlstudio.services.importing.importer import Imported, ImportProgress, ImportReport
from mlstudio.services.words import count_text, seconds_text

_REDRAW_EVERY_S = 0.1
_MOST_TOLD = 10
_EXAMPLES = """\b
Examples:
  mlstudio import runs/                       TensorBoard, as `tensorboard --logdir runs` shows it
  mlstudio import mlruns/ mlflow.db           MLflow's file store and database
  mlstudio import wandb/                      W&B's offline runs
  mlstudio import ~/.cache/huggingface/trackio/digits.db
  mlstudio import lightning_logs/ --tag lightning
  mlstudio import metrics.csv                 step,loss,accuracy or run,name,step,time,value
  mlstudio import runs/ --dry-run             only say what would come
"""


@click.command("import", epilog=_EXAMPLES)
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(path_type=Path), shell_complete=None
)
@click.option("--dry-run", is_flag=True, help="Read everything, say what would come, and write nothing.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="TEXT", help="A tag for the runs.")
@click.option("--project", metavar="TEXT", help="The same, for those who think in projects.")
@json_option
@pass_session
def command(
    session: Session, paths: tuple[Path, ...], dry_run: bool, tags: tuple[str, ...], project: str | None
) -> None:
    """Bring runs that other tools recorded into the history.

    PATH is a folder or a file of TensorBoard, MLflow (file store or SQLite), W&B (offline), trackio, a table of metrics
    (CSV, JSON lines, Parquet), or of `mlstudio export --to json`. What it is, is found by looking; a folder may hold
    several. Importing the same again adds only what is new. Nothing is changed in PATH.
    """
    importer = session.studio.importer
    view = _View(session)
    with interrupts() as pressed:
        try:
            if dry_run:
                report = importer.preview(paths, cancelled=lambda: pressed.count > 0, on_progress=view.show)
            else:
                report = importer.carry_out(
                    paths,
                    tags=(*tags, project) if project else tags,
                    cancelled=lambda: pressed.count > 0,
                    on_progress=view.show,
                )
        finally:
            view.clear()
    if session.wants_json:
        session.put_json({"dry_run": dry_run, "report": report})
    else:
        _say(session, report, dry_run=dry_run)
    if report.runs and all(run.error for run in report.runs):
        click.get_current_context().exit(EXIT_WORLD)


class _View:
    """One line that says how far it is."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._drawn = 0.0
        self._is_shown = False

    def show(self, progress: ImportProgress) -> None:
        now = time.monotonic()
        if not self._session.can_redraw or now - self._drawn < _REDRAW_EVERY_S:
            return
        self._drawn = now
        self._is_shown = True
        share = f" {progress.fraction:.0%}" if progress.fraction else ""
        words = f"{progress.place} of {progress.of}{share}, {progress.points:,} points: {safe_line(progress.name)}"
        click.echo("\r\x1b[2K" + cut(words, self._session.width - 1), err=True, nl=False)

    def clear(self) -> None:
        if self._is_shown:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._is_shown = False


def _say(session: Session, report: ImportReport, *, dry_run: bool) -> None:
    shown = [run for run in report.runs if not run.is_same]
    if shown:
        columns = (
            Column(title="run", right=True),
            Column(title="name", shrinks=True),
            Column(title="from"),
            Column(title="state"),
            Column(title="series", right=True),
            Column(title="points", right=True),
            Column(title="media", right=True),
            Column(title="parameters", right=True),
            Column(title="began"),
            Column(title="ended"),
        )
        for line in table(columns, [_row(run) for run in shown], width=session.width):
            session.say(line)
    same = len(report.runs) - len(shown)
    if not report.runs:
        session.say("There is nothing here that can be imported.")
    else:
        _say_total(session, report, shown=len(shown), same=same, dry_run=dry_run)
    _say_problems(session, report)


def _say_total(session: Session, report: ImportReport, *, shown: int, same: int, dry_run: bool) -> None:
    would = "would come" if dry_run else "came"
    words = []
    if shown:
        words.append(f"{count_text(shown, 'run')} with {report.points:,} points {would}")
    if same:
        have = "has" if same == 1 else "have"
        words.append(f"{count_text(same, 'run')} {have} nothing new")
    session.say(("; ".join(words)) + f" ({seconds_text(report.seconds)}).")


def _say_problems(session: Session, report: ImportReport) -> None:
    notes = [*report.problems]
    notes += [f"{run.name}: {run.error}" for run in report.runs if run.error]
    notes += [f"{run.name}: {problem}" for run in report.runs for problem in run.problems]
    if report.deleted:
        notes.append(f"{count_text(report.deleted, 'run')} that MLflow marks as deleted left out.")
    if report.tables:
        one = report.tables[0]
        notes.append(
            f"{count_text(len(report.tables), 'table')} left alone, such as {one}: name a table to import it."
        )
    for note in notes[:_MOST_TOLD]:
        session.note(safe_line(note))
    if len(notes) > _MOST_TOLD:
        session.note(f"… and {len(notes) - _MOST_TOLD} more (--json has all).")


def _state(run: Imported) -> str:
    state = "end unknown" if run.state is RunState.LOST else run.state.value
    return state if run.is_new else f"{state}, grown"


def _row(run: Imported) -> tuple[str, ...]:
    return (
        str(run.run.number) if run.run is not None else "",
        run.name,
        run.format,
        "not read" if run.error else _state(run),
        str(run.series),
        f"{run.points:,}",
        str(run.media) if run.media else "",
        str(run.parameters) if run.parameters else "",
        moment(run.first),
        moment(run.last),
    )
