"""How the numbers of a run came: its loggers, what was recognised of each, and how many series it brought."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.model.run import MetricSummary, RunEvent

_TITLES = {
    "mlstudio": "mlstudio.log",
    "print": "Printed lines",
    "tensorboard": "TensorBoard",
    "mlflow": "MLflow",
    "wandb": "Weights & Biases",
    "trackio": "Trackio",
    "keras": "Keras",
    "lightning": "Lightning",
    "transformers": "Transformers",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "csv": "CSV",
    "parquet": "Parquet",
}
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Origin:
    """A logger: its `title`, `how` it was recognised (may be empty), and in `words` how many series it brought.

    Copies are series with the same numbers as another logger's; they are shown once, as the other's.
    """

    title: str
    words: str
    how: str = ""


def origins_of(metrics: Sequence[MetricSummary], events: Iterable[RunEvent]) -> list[Origin]:
    """Loggers with the most series of their own first. Those that said nothing but were recognised come last."""
    hows: dict[str, list[str]] = {}
    for event in events:
        if event.type == "logger":
            logger, how = _logger_event(event.data_json)
            if logger:
                found = hows.setdefault(logger, [])
                if how and how not in found:
                    found.append(how)
    own: dict[str, int] = {}
    again: dict[str, int] = {}
    for metric in metrics:
        if metric.kind == "metric":
            counts = again if metric.same_as else own
            counts[metric.logger] = counts.get(metric.logger, 0) + 1
    loggers = {*own, *again, *hows}
    ordered = sorted(loggers, key=lambda logger: (-own.get(logger, 0), -again.get(logger, 0), logger))
    return [
        Origin(
            _TITLES.get(logger, logger),
            _counted(own.get(logger, 0), again.get(logger, 0)),
            "; ".join(hows.get(logger, [])),
        )
        for logger in ordered
    ]


def also_reported(metrics: Sequence[MetricSummary]) -> dict[str, str]:
    """Of each series that other loggers said as well: which ones, such as ``TensorBoard, Printed lines``."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.same_as:
            title = _TITLES.get(metric.logger, metric.logger)
            others = found.setdefault(metric.same_as, [])
            if title not in others:
                others.append(title)
    return {name: ", ".join(others) for name, others in found.items()}


def _counted(own: int, again: int) -> str:
    copies = f"{again} {'copy' if again == 1 else 'copies'}" if again else ""
    return ", ".join(part for part in (str(own) if own else "", copies) if part) or "no numbers"


def _logger_event(data_json: str) -> tuple[str, str]:
    """(logger, how it was recognised) of an event that a run wrote, which may hold anything."""
    try:
        data = json.loads(data_json)
    except ValueError:
        return "", ""
    if not isinstance(data, dict) or not isinstance(data.get("logger"), str):
        return "", ""
    what, how, version = (
        data[key] if isinstance(data.get(key), str) else "" for key in ("what", "how", "version")
    )
    if version and version not in how:
        how = f"{how} {version}".strip()
    return data["logger"][:_LONGEST], ": ".join(part for part in (how, what) if part)[:_LONGEST]


class OriginList(QWidget):
    """Two lines a logger: its name and its number of series; below in grey how it was recognised."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(6)
        self._origins: tuple[Origin, ...] = ()

    def origins(self) -> tuple[Origin, ...]:
        return self._origins

    def show_origins(self, origins: Sequence[Origin]) -> None:
        if tuple(origins) == self._origins:
            return
        self._origins = tuple(origins)
        while self._column.count():
            item = self._column.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        for origin in origins:
            self._column.addWidget(self._row(origin))
        self.setVisible(bool(origins))

    def _row(self, origin: Origin) -> QWidget:
        row = QWidget()
        column = QVBoxLayout(row)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        first = QHBoxLayout()
        first.setSpacing(8)
        first.addWidget(CutLabel(origin.title, self._theme, tone="secondary"), 1)
        first.addWidget(Label(origin.words, self._theme))
        column.addLayout(first)
        if origin.how:
            column.addWidget(CutLabel(origin.how, self._theme, tone="tertiary", size="small", middle=True))
        row.setAccessibleName(f"{origin.title}: {origin.words}. {origin.how}".strip())
        return row
