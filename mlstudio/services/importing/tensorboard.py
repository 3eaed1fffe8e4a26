"""TensorBoard's runs: folders with event files."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

from mlstudio.model.errors import WorldError
from mlstudio.probe import tfevents
from mlstudio.probe.protobuf import Broken, double, message, part, whole
from mlstudio.services.importing import event_lane
from mlstudio.services.importing.folders import entries, is_file, read_small
from mlstudio.services.importing.media import histogram, image_size, mime_of_image
from mlstudio.services.importing.source import Gatherer, Piece, Source
from mlstudio.services.importing.values import MAX_PARAMETERS, clean_name, parameter_text

is_event_file = tfevents.is_event_file

_LONGEST_FIRST = 4096
_END_TAG = b"_hparams_/session_end_info"
# tensorboard/plugins/hparams/api.proto
_SUCCESS, _FAILURE = 1, 2
_STATUS = "/status"
"""Among the marks of files, whose names have no slash."""


def tensorboard_run(folder: Path, *, name: str, only: Path | None = None) -> TensorboardFolder | None:
    """The run in a folder (or in `only` one of its files); None if nothing has been written yet."""
    found = [Path(entry.path) for entry in entries(folder) if is_event_file(entry.name) and is_file(entry)]
    files = [path for path in found if only is None or path.name == only.name]
    for path in files:
        first = _first_record(path)
        if first:
            # The file's name holds the time, the machine and the process; with the first record and the folder's name
            # that tells the run from others wherever the folder is moved to.
            identity = ("tensorboard", folder.resolve().name, path.name, first)
            return TensorboardFolder(folder, files, name=name, identity=identity)
    return None


def _first_record(path: Path) -> bytes:
    data = read_small(path, most=_LONGEST_FIRST)
    if len(data) < 16:
        return b""
    length = 12 + struct.unpack_from("<Q", data)[0] + 4
    return data[:length] if length <= len(data) else data if len(data) == _LONGEST_FIRST else b""


class TensorboardFolder(Source):
    """One run: every event file in one folder, by name, which is by time."""

    format = "tensorboard"

    def __init__(self, path: Path, files: list[Path], *, name: str, identity: tuple[object, ...]) -> None:
        super().__init__(path, name=name, identity=identity)
        self._files = files
        self.size_bytes = sum(file.stat().st_size for file in files)
        self.facts.end_unknown("Imported from TensorBoard, which does not note how a run ends.")

    def read(self, mark: str) -> Iterator[Piece]:
        done: dict[str, int] = json.loads(mark) if mark else {}
        self._set_status(done.get(_STATUS, 0))
        gatherer = Gatherer(self)
        for file in self._files:
            place = done.get(file.name, 0)
            self.done_bytes += place
            try:
                yield from self._file(file, gatherer, done)
            except OSError as error:
                raise WorldError(f"{file} cannot be read.", why=f"{error.strerror or error}.") from error
        yield gatherer.take(json.dumps(done))
        self.facts.created = self.facts.created or self.facts.started

    def _file(self, path: Path, gatherer: Gatherer, done: dict[str, int]) -> Iterator[Piece]:
        reader = tfevents.EventReader()
        lane = event_lane.ScalarLane(_Probe(reader))
        with path.open("rb") as file:
            file.seek(done.get(path.name, 0))
            for data, records in event_lane.scan(file.read):
                series: event_lane.Series = {}
                for payload in lane.read(data, records, series):
                    self._slow(reader, payload, series, gatherer, done)
                for tag, (steps, times, values) in series.items():
                    gatherer.columns(tag, steps, times, values)
                if records.damaged:
                    self.problem(f"Parts of {path.name} are damaged and were left out.")
                done[path.name] = done.get(path.name, 0) + records.consumed
                self.done_bytes += records.consumed
                # Also where nothing new came, so that the import can be cancelled.
                yield gatherer.take(json.dumps(done)) if gatherer.is_full else Piece(mark=json.dumps(done))

    def _slow(
        self,
        reader: tfevents.EventReader,
        payload: bytes,
        series: event_lane.Series,
        gatherer: Gatherer,
        done: dict[str, int],
    ) -> None:
        """A record that is no scalar seen before."""
        if _END_TAG in payload:
            self._session_end(payload, done)
        for event in reader.feed(event_lane.framed(payload)):
            for value in event.values:
                if isinstance(value, tfevents.Scalar):
                    found = series.setdefault(value.tag, (array("q"), array("d"), array("d")))
                    found[0].append(event.step)
                    found[1].append(event.wall_time)
                    found[2].append(value.value)
                else:
                    self._add(value, event.step, event.wall_time, gatherer)

    def _add(self, value: object, step: int, time: float, gatherer: Gatherer) -> None:
        if isinstance(value, tfevents.Histogram):
            data = histogram(value.edges, value.counts)
            if data:
                gatherer.medium(value.tag, "histogram", step, time, "application/json", data)
        elif isinstance(value, tfevents.Image):
            mime = mime_of_image(value.data)
            if mime:
                width, height = image_size(value.data)
                gatherer.medium(
                    value.tag, "image", step, time, mime, value.data,
                    width=width or value.width, height=height or value.height,
                )  # fmt: skip
        elif isinstance(value, tfevents.Audio):
            gatherer.medium(value.tag, "audio", step, time, clean_name(value.mime), value.data)
        elif isinstance(value, tfevents.Text):
            gatherer.medium(
                value.tag, "text", step, time, "text/plain", value.text.encode("utf-8", "replace")
            )
        elif isinstance(value, tfevents.HParams):
            for name, found in value.values.items():
                if len(self.facts.parameters) < MAX_PARAMETERS:
                    self.facts.parameters[clean_name(name)] = parameter_text(found)
                    # The next import reads on from the mark, and does not see them again.
                    gatherer.parameters[clean_name(name)] = parameter_text(found)

    def _session_end(self, payload: bytes, done: dict[str, int]) -> None:
        """HParams' own word on how the session ended: SessionEndInfo {1: status, 2: end_time_secs}."""
        try:
            value = message(part(message(part(message(payload), 5)), 1))
            content = part(message(part(message(part(value, 9)), 1)), 2)
            end = message(part(message(content), 4))
            status = whole(end, 1)
            if 2 in end:
                self.facts.saw(double(end[2][-1]))
        except (Broken, RecursionError):
            return
        done[_STATUS] = status
        self._set_status(status)

    def _set_status(self, status: int) -> None:
        if status == _SUCCESS:
            self.facts.succeeded()
        elif status == _FAILURE:
            self.facts.failed("TensorBoard's HParams say that it failed.")


class _Probe:
    """Parses single payloads for the fast lane."""

    def __init__(self, reader: tfevents.EventReader) -> None:
        self._reader = reader

    def __call__(self, payload: bytes) -> tuple[str, float] | None:
        events = self._reader.feed(event_lane.framed(payload))
        if len(events) != 1 or len(events[0].values) != 1:
            return None
        value = events[0].values[0]
        return (value.tag, value.value) if isinstance(value, tfevents.Scalar) else None
