"""`mlstudio export`: write runs for other tools."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mlstudio.cli.options import complete_runs, json_option
from mlstudio.cli.run import interrupts
from mlstudio.cli.safe_text import cut, safe_line
from mlstudio.cli.session import Session, pass_session
from mlstudio.model.errors import RequestError
from mlstudio.services.exporting.exporter import ExportFormat, ExportProgress
from mlstudio.services.words import bytes_text, count_text, seconds_text

_REDRAW_EVERY_S = 0.1
_EXAMPLES = """\b
Examples:
  mlstudio export 3 4 --to tensorboard runs/   then: tensorboard --logdir runs
  mlstudio export --all --to mlflow mlflow.db  then: mlflow ui --backend-store-uri sqlite:///mlflow.db
  mlstudio export 3 --to mlflow mlruns/        MLflow's file store
  mlstudio export 3 4 --to csv points.csv      run,name,step,time,value
  mlstudio export 3 4 --to csv --wide steps.csv
  mlstudio export 3 --to json - | jq .
"""


@click.command("export", epilog=_EXAMPLES)
@click.argument("runs", nargs=-1, metavar="RUN…", shell_complete=complete_runs)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--to",
    "to",
    required=True,
    type=click.Choice([kind.value for kind in ExportFormat]),
    help="What to write.",
)
@click.option("-a", "--all", "all_of_them", is_flag=True, help="Every run, archived ones too.")
@click.option(
    "--search", default="", metavar="TEXT", help="Every run with TEXT in its name, command, tags or note."
)
@click.option("--wide", is_flag=True, help="Tables: a row for each step, a column for each metric.")
@click.option("--system", is_flag=True, help="Processor, memory and GPU readings too (JSON always has them).")
@click.option("--force", is_flag=True, help="Replace what was exported there before.")
@json_option
@pass_session
def command(
    session: Session,
    runs: tuple[str, ...],
    path: Path,
    to: str,
    all_of_them: bool,
    search: str,
    wide: bool,
    system: bool,
    force: bool,
) -> None:
    """Write runs to PATH as other tools read them: every point, with its step and time.

    PATH is a folder for TensorBoard and MLflow (or a file ending in .db: MLflow's SQLite store), else a file; - is
    standard output, for CSV and JSON.
    """
    to_stdout = str(path) == "-"
    if to_stdout and session.wants_json:
        raise RequestError(
            "--json and PATH - both want standard output.", field="path", try_this="Name a file."
        )
    service = session.studio.runs
    ids = [service.resolve(run) for run in runs]
    if all_of_them or search:
        found = service.list(
            search=search, archived=all_of_them, order_by="number", descending=False, with_metrics=False
        )
        ids += [run.id for run in found]
    if not ids:
        raise RequestError("No run was named.", field="run", try_this="Name runs, or say --all.")
    view = _View(session)
    with interrupts() as pressed:
        try:
            done = session.studio.exporter.export(
                ids,
                to=ExportFormat(to),
                path=None if to_stdout else path,
                force=force,
                wide=wide,
                with_system=system,
                cancelled=lambda: pressed.count > 0,
                on_progress=view.show,
            )
        finally:
            view.clear()
    if session.wants_json:
        session.put_json(done)
        return
    if not to_stdout:
        session.say(
            f"{count_text(len(done.runs), 'run')} with {done.points:,} points written to {safe_line(done.path)} "
            f"({bytes_text(done.size_bytes)}, {seconds_text(done.seconds)})."
        )
    for note in done.notes:
        session.note(safe_line(note))


class _View:
    """One line that says how far it is."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._drawn = 0.0
        self._is_shown = False

    def show(self, progress: ExportProgress) -> None:
        now = time.monotonic()
        if not self._session.can_redraw or now - self._drawn < _REDRAW_EVERY_S:
            return
        self._drawn = now
        self._is_shown = True
        words = f"{progress.place} of {progress.of}, {progress.points:,} points: {safe_line(progress.name)}"
        click.echo("\r\x1b[2K" + cut(words, self._session.width - 1), err=True, nl=False)

    def clear(self) -> None:
        if self._is_shown:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._is_shown = False
