"""Tables of metrics: CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from mlstudio.model.errors import RequestError, WorldError
from mlstudio.services.importing.folders import read_small
from mlstudio.services.importing.source import Gatherer, Piece, Source
from mlstudio.services.importing.table_layout import Cell, Columns, Layout, add_rows, lay_out
from mlstudio.services.importing.values import MAX_PARAMETERS, clean_name, flat, parameter_text, parse_time

_BLOCK = 1024 * 1024
_LONGEST_ROW = 64 * 1024 * 1024
_SAMPLE_ROWS = 1000
_MAX_COLUMNS = 100_000
_MAX_RUNS = 100_000
_PLAIN_STEMS = (
    "metrics",
    "results",
    "history",
    "log",
    "logs",
    "progress",
    "training",
    "train",
    "metric",
    "run",
    "data",
)
NEEDS_PYARROW = "pip install 'mlstudio[parquet]'"


class Table(Source):
    """One run in a table. A table with a column ``run`` holds several."""

    def __init__(
        self, path: Path, *, name: str, run: Cell, layout: Layout, first_row: Sequence[Cell]
    ) -> None:
        # The first row stays when a table grows, and when columns are added to it (as Lightning does); the path is part
        # of it because two trainings with the same seed begin with the same row.
        row = sorted(str(cell) for cell in first_row if cell is not None and cell != "")
        super().__init__(path, name=name, identity=(self.format, path.resolve(), run, *row))
        self._run = run
        self._layout = replace(layout, texts={}, numeric=set())
        stat = path.stat()
        self._time = stat.st_mtime
        self.size_bytes = stat.st_size
        self.facts.created = parse_time(first_row[layout.time]) if layout.time >= 0 else None
        self.facts.created = self.facts.created or self._time
        self.facts.end_unknown("Imported from a table, which does not say how the run ended.")

    @abstractmethod
    def _blocks(self, place: int) -> Iterator[tuple[int, Columns]]:
        """Rows as columns, with the place to read on after them, from a place on."""

    def read(self, mark: str) -> Iterator[Piece]:
        done: dict[str, int] = json.loads(mark) if mark else {"place": 0, "rows": 0}
        self._read_hparams()
        gatherer = Gatherer(self)
        layout = self._layout
        for place, block in self._blocks(done["place"]):
            columns = _only(block, layout.run, self._run) if layout.run >= 0 else block
            if columns and len(columns[0]):
                add_rows(layout, columns, gatherer, first=done["rows"], time=self._time)
                done["rows"] += len(columns[0])
            done["place"] = place
            if gatherer.is_full:
                yield gatherer.take(json.dumps(done))
        yield gatherer.take(json.dumps(done))
        left_out = []
        for column, text in layout.texts.items():
            title = clean_name(layout.titles[column])
            if column in layout.numeric:
                continue
            if text is None:
                left_out.append(title)
            elif len(self.facts.parameters) < MAX_PARAMETERS:
                self.facts.parameters.setdefault(title, text)
        if left_out:
            self.problem("Columns without numbers were left out: " + ", ".join(left_out[:20]) + ".")
        if layout.time < 0:
            # The times were only the file's own: nothing is known of when the run began and ended.
            self.facts.started = self.facts.ended = None

    def _read_hparams(self) -> None:
        """Lightning puts the parameters beside its table."""
        data = read_small(self.path.with_name("hparams.yaml"), most=256 * 1024)
        if data:
            try:
                found = yaml.load(data, Loader=_Plain)
            except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
                self.problem("hparams.yaml could not be read.")
                return
            for name, value in flat(found) if isinstance(found, dict) else ():
                if len(self.facts.parameters) < MAX_PARAMETERS:
                    self.facts.parameters[clean_name(name)] = parameter_text(value)


class _Plain(yaml.SafeLoader):
    """`yaml.safe_load` that leaves Python's own objects out and refuses aliases, which can multiply without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


_Plain.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: f"<{suffix}>")


def table_runs(path: Path, *, name: str) -> Sequence[Table]:
    """The runs in a table. Raises RequestError where it is none of metrics, WorldError where it cannot be read."""
    kinds: dict[str, type[CsvTable] | type[JsonLines] | type[ParquetTable]] = {
        ".csv": CsvTable, ".tsv": CsvTable, ".jsonl": JsonLines, ".ndjson": JsonLines, ".parquet": ParquetTable,
    }  # fmt: skip
    kind = kinds[path.suffix.lower()]
    titles, layout, runs = _survey(kind, path)
    if not titles or not layout.metrics:
        raise RequestError(
            f"{path} is no table of metrics.",
            field="path",
            why="Its first row should name the columns, such as step,loss,accuracy or run,name,step,time,value.",
        )
    if path.stem.lower() in _PLAIN_STEMS:
        name = name.rpartition("/")[0] or path.resolve().parent.name
    made = []
    for run, row in runs.items():
        title = str(run) if layout.run >= 0 and run not in (None, "") else name
        made.append(kind(path, name=title, run=run, layout=layout, first_row=row))
    return made


def _survey(
    kind: type[CsvTable] | type[JsonLines] | type[ParquetTable], path: Path
) -> tuple[Sequence[str], Layout, dict[Cell, Sequence[Cell]]]:
    """The titles, what they mean, and the first row of every run."""
    titles: Sequence[str] = ()
    layout: Layout | None = None
    runs: dict[Cell, Sequence[Cell]] = {}
    try:
        titles = kind.titles(path)
        if len(titles) > _MAX_COLUMNS:
            raise RequestError(f"{path} has more than {_MAX_COLUMNS:,} columns.", field="path")
        for _, columns in kind.blocks_of(path, titles, 0):
            if layout is None:
                layout = lay_out(titles, [column[:_SAMPLE_ROWS] for column in columns])
            if layout.run < 0:
                runs[None] = [column[0] for column in columns]
                break
            for row, run in enumerate(columns[layout.run]):
                if run not in runs and len(runs) < _MAX_RUNS:
                    runs[run] = [column[row] for column in columns]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorldError(f"{path} cannot be read.", why=f"{error}.") from error
    return titles, layout or Layout(()), runs


def _only(columns: Columns, place: int, run: Cell) -> Columns:
    """The rows of one run."""
    cells = columns[place]
    first = cells[0]
    if first == run and all(cell == run for cell in cells):
        return columns
    rows = [row for row, cell in enumerate(cells) if cell == run]
    return [[column[row] for row in rows] for column in columns] if rows else []


class CsvTable(Table):
    """Comma, semicolon or tab between the columns, which the first row names."""

    format = "csv"

    def _blocks(self, place: int) -> Iterator[tuple[int, Columns]]:
        for end, columns in self.blocks_of(self.path, self._layout.titles, place):
            self.done_bytes = end
            yield end, columns

    @staticmethod
    def titles(path: Path) -> Sequence[str]:
        head, delimiter = _csv_head(path)
        return next(csv.reader([head], delimiter=delimiter), [])

    @staticmethod
    def blocks_of(path: Path, titles: Sequence[str], place: int) -> Iterator[tuple[int, Columns]]:
        _, delimiter = _csv_head(path)
        with path.open("rb") as file:
            if not place:
                file.readline(_LONGEST_ROW)
                place = file.tell()
            file.seek(place)
            for block in _row_blocks(file):
                place += len(block)
                text = block.decode("utf-8", "replace")
                if '"' in text:
                    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
                else:
                    # Quotation marks are what `csv` is for; without them this takes a third of the time.
                    rows = [line.split(delimiter) for line in text.replace("\r\n", "\n").split("\n")]
                columns = _as_columns([row for row in rows if row and row != [""]], len(titles))
                if columns:
                    yield place, columns


def _csv_head(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        head = file.readline(_LONGEST_ROW).decode("utf-8-sig", "replace").rstrip("\r\n")
    return head, max(",;\t", key=head.count)


def _as_columns(rows: Sequence[Sequence[str]], width: int) -> Columns:
    """Rows as columns; short rows are filled up, and what is too long is cut."""
    if not rows:
        return []
    if all(len(row) == width for row in rows):
        return list(zip(*rows, strict=True))
    columns = list(zip_longest(*rows, fillvalue=""))[:width]
    return columns + [("",) * len(rows)] * (width - len(columns))


def _row_blocks(file: Any) -> Iterator[bytes]:
    """Blocks that end where a row ends: at a newline outside quotation marks."""
    rest = b""
    while True:
        block = file.read(_BLOCK)
        if not block:
            if rest:
                yield rest
            return
        rest += block
        cut = rest.rfind(b"\n") + 1
        while cut and rest.count(b'"', 0, cut) % 2:
            cut = rest.rfind(b"\n", 0, cut - 1) + 1
        if not cut and len(rest) > _LONGEST_ROW:
            cut = len(rest)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]


class JsonLines(Table):
    """A JSON object on every line."""

    format = "jsonl"

    def _blocks(self, place: int) -> Iterator[tuple[int, Columns]]:
        for end, columns in self.blocks_of(self.path, self._layout.titles, place):
            self.done_bytes = end
            yield end, columns

    @staticmethod
    def titles(path: Path) -> Sequence[str]:
        found: dict[str, None] = {}
        with path.open("rb") as file:
            for block in _line_blocks(file):
                for row in _objects(block):
                    found.update(dict.fromkeys(row))
                    if len(found) > _MAX_COLUMNS:
                        return tuple(found)
        return tuple(found)

    @staticmethod
    def blocks_of(path: Path, titles: Sequence[str], place: int) -> Iterator[tuple[int, Columns]]:
        with path.open("rb") as file:
            file.seek(place)
            for block in _line_blocks(file):
                place += len(block)
                rows = list(_objects(block))
                if rows:
                    yield place, [[row.get(title) for row in rows] for title in titles]


def _line_blocks(file: Any) -> Iterator[bytes]:
    rest = b""
    while True:
        block = file.read(_BLOCK)
        rest += block
        cut = rest.rfind(b"\n") + 1 if block else len(rest)
        if not cut and len(rest) > _LONGEST_ROW:
            cut = len(rest)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
        if not block:
            return


def _objects(block: bytes) -> Iterator[dict[str, Cell]]:
    for line in block.splitlines():
        if line.strip():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                yield dict(flat(found))


class ParquetTable(Table):
    """A Parquet file; needs pyarrow."""

    format = "parquet"

    def _blocks(self, place: int) -> Iterator[tuple[int, Columns]]:
        for end, columns in self.blocks_of(self.path, self._layout.titles, place):
            self.done_bytes = self.size_bytes
            yield end, columns

    @staticmethod
    def titles(path: Path) -> Sequence[str]:
        parquet = _pyarrow(path)
        try:
            with parquet.ParquetFile(path) as file:
                return tuple(file.schema_arrow.names)
        except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
            raise WorldError(f"{path} cannot be read.", why=f"pyarrow says: {error}.") from error

    @staticmethod
    def blocks_of(path: Path, titles: Sequence[str], place: int) -> Iterator[tuple[int, Columns]]:
        parquet = _pyarrow(path)
        done = 0
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=32_768):
                    done += batch.num_rows
                    if done <= place:
                        continue
                    fresh = batch.slice(max(0, batch.num_rows - (done - place)))
                    yield done, [column.to_pylist() for column in fresh.columns]
        except (ValueError, OSError) as error:
            raise WorldError(f"{path} cannot be read.", why=f"pyarrow says: {error}.") from error


def _pyarrow(path: Path) -> Any:
    try:
        # Heavy, and needed by few.
        import pyarrow.parquet
    except ImportError as error:
        raise WorldError(
            f"{path} cannot be read without pyarrow.", try_this=f"Install it: {NEEDS_PYARROW}"
        ) from error
    return pyarrow.parquet
