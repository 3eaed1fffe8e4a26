"""Imported runs: what is known of a run that another tool recorded."""

from __future__ import annotations

from dataclasses import dataclass

from mlstudio.model.run import Exit, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRun:
    """A run as its source tells of it. Its points, media and artifacts come beside it, as batches.

    `id` is made from what identifies the source, so that the same source is the same run whenever it is read.
    Nothing here holds a secret any more.
    """

    id: str
    format: str
    """``tensorboard``, ``mlflow``, ``wandb``, ``trackio``, ``csv``, ``parquet``, ``jsonl``, ``mlstudio``."""
    source: str
    """The folder or file that it was read from, as an absolute path."""
    name: str
    state: RunState
    """LOST where the source does not (yet) say how the run ended: `exit` then tells so."""
    created: float
    """UTC seconds since the epoch, as are the other times."""
    started: float | None = None
    ended: float | None = None
    exit: Exit | None = None
    host: str = ""
    command: tuple[str, ...] = ()
    code_folder: str = ""
    """Where the code lay; never together with `code_url`."""
    code_url: str = ""
    commit: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    note: str = ""
    environment_json: str = ""
    """As `RunDetail.environment_json`; empty: the source does not tell."""
    lacks: tuple[str, ...] = ()
    """What could not be read, in sentences."""
