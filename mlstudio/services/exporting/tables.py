"""Tables for spreadsheets, pandas and R: long (a row a point) or wide (a row a step), as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from mlstudio.model.errors import WorldError
from mlstudio.services.exporting.content import Content
from mlstudio.services.importing.tables import NEEDS_PYARROW
from mlstudio.store import Series

_AT_ONCE = 50_000
_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class CsvWriter:
    """``run,name,step,time,value``; with readings of the machine also ``kind``. Numbers as Python writes them: exact."""

    def __init__(self, file: IO[bytes], *, with_kind: bool) -> None:
        self._file = file
        self._with_kind = with_kind
        self._put("run,name,kind,step,time,value\n" if with_kind else "run,name,step,time,value\n")

    def add(self, content: Content) -> None:
        for metric, series in content.series():
            cells = (content.run.name, metric.name, metric.kind)
            head = _cells(cells if self._with_kind else cells[:2]) + ","
            for steps, times, values in _parts(series):
                self._put(
                    "".join(
                        [
                            f"{head}{step},{time!r},{value}\n"
                            for step, time, value in zip(steps, times, map(_number, values), strict=True)
                        ]
                    )
                )

    def _put(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "replace"))


def _parts(series: Series) -> Iterator[tuple[list[int], list[float], list[float]]]:
    for low in range(0, len(series), _AT_ONCE):
        part = slice(low, low + _AT_ONCE)
        yield series.steps[part].tolist(), series.times[part].tolist(), series.values[part].tolist()


def _number(value: float) -> str:
    text = repr(value)
    return text if value - value == 0.0 else _WORDS[text]


def _cells(cells: Sequence[str]) -> str:
    """Cells as CSV, quoted where they must be."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def write_wide_csv(file: IO[bytes], contents: Iterator[Content], names: Sequence[str]) -> None:
    """``run,step,time`` and a column for each of `names`; empty where a run has no value at a step."""
    file.write((_cells(("run", "step", "time", *names)) + "\n").encode("utf-8", "replace"))
    for content in contents:
        head = _cells((content.run.name,))
        for step, time, row in wide_rows(content, names):
            cells = ",".join("" if value is None else _number(value) for value in row)
            file.write(f"{head},{step},{time!r},{cells}\n".encode("utf-8", "replace"))


def wide_rows(content: Content, names: Sequence[str]) -> Iterator[tuple[int, float, list[float | None]]]:
    """(step, earliest time of its values, values in the order of `names`), by step.

    A step at which a series has several values takes several rows.
    """
    rows: dict[tuple[int, int], tuple[list[float], list[float | None]]] = {}
    places = {name: place for place, name in enumerate(names)}
    for metric, series in content.series():
        place = places.get(metric.name)
        if place is None:
            continue
        seen: dict[int, int] = {}
        for steps, times, values in _parts(series):
            for step, time, value in zip(steps, times, values, strict=True):
                again = seen.get(step, -1) + 1
                seen[step] = again
                row = rows.get((step, again))
                if row is None:
                    row = rows[step, again] = ([time], [None] * len(names))
                elif time < row[0][0]:
                    row[0][0] = time
                row[1][place] = value
    for key in sorted(rows):
        moment, found = rows[key]
        yield key[0], moment[0], found


def pyarrow() -> tuple[Any, Any]:
    """(pyarrow, pyarrow.parquet). Raises WorldError where they are not installed."""
    try:
        # Heavy, and needed by few.
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise WorldError("Parquet files need pyarrow.", try_this=f"Install it: {NEEDS_PYARROW}") from error
    return pyarrow, pyarrow.parquet


@contextmanager
def parquet_writer(path: Path) -> Iterator[ParquetWriter]:
    """A Parquet file to write long tables to."""
    arrow, parquet = pyarrow()
    texts = arrow.dictionary(arrow.int32(), arrow.string())
    schema = arrow.schema(
        [
            ("run", texts), ("name", texts), ("kind", texts), ("logger", texts),
            ("step", arrow.int64()), ("time", arrow.float64()), ("value", arrow.float64()),
        ]
    )  # fmt: skip
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        yield ParquetWriter(writer, arrow, schema)


class ParquetWriter:
    """``run, name, kind, logger, step, time, value``."""

    def __init__(self, writer: Any, arrow: Any, schema: Any) -> None:
        self._writer = writer
        self._arrow = arrow
        self._schema = schema

    def add(self, content: Content) -> None:
        arrow = self._arrow
        for metric, series in content.series():
            if not len(series):
                continue
            texts = [
                _repeated(arrow, text, len(series))
                for text in (content.run.name, metric.name, metric.kind, metric.logger)
            ]
            numbers = [arrow.array(column) for column in (series.steps, series.times, series.values)]
            self._writer.write_table(arrow.Table.from_arrays([*texts, *numbers], schema=self._schema))


def _repeated(arrow: Any, text: str, count: int) -> Any:
    return arrow.DictionaryArray.from_arrays(
        arrow.array(np.zeros(count, np.int32)), arrow.array([text], type=arrow.string())
    )


def write_wide_parquet(path: Path, contents: Iterator[Content], names: Sequence[str]) -> None:
    """The wide table as Parquet: ``run, step, time`` and a column for each of `names`, null where there is no value."""
    arrow, parquet = pyarrow()
    schema = arrow.schema(
        [("run", arrow.string()), ("step", arrow.int64()), ("time", arrow.float64())]
        + [(name, arrow.float64()) for name in names]
    )
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for content in contents:
            rows = list(wide_rows(content, names))
            columns: list[Any] = [
                arrow.array([content.run.name] * len(rows), type=arrow.string()),
                arrow.array([row[0] for row in rows], type=arrow.int64()),
                arrow.array([row[1] for row in rows], type=arrow.float64()),
            ]
            columns += [
                arrow.array([row[2][place] for row in rows], type=arrow.float64(), from_pandas=False)
                for place in range(len(names))
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
