"""What event files say, as points and media of one run: what their series are called, whatever folders they lie in.

TensorBoard calls every folder a run of its own. Here a folder's name becomes part of a series' name only where it says
something: below another event folder (``add_scalars`` makes those), where it names a part of the data (Keras writes to
``train`` and ``validation``), or where two folders bring the same tag. A name never changes after its first point.
"""

from __future__ import annotations

import json
import os
import re
from array import array

from mlstudio.probe.tfevents import Audio, EventReader, Histogram, HParams, Image, Scalar, Text

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Dict, List, Tuple

    from mlstudio.probe.intake import Intake

LOGGER = "tensorboard"
_PARTS_OF_DATA = ("train", "training", "val", "valid", "validation", "eval", "evaluation", "test")
_NUMBERS_ONLY = re.compile(r"[0-9._-]+")
_LARGEST = 1.7e308
_IMAGES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


class TagNames:
    """Names of series by the folder of the file and the tag."""

    def __init__(self) -> None:
        self._folders: List[str] = []
        self._given: Dict[Tuple[str, str], str] = {}
        self._owners: Dict[str, str] = {}

    def folder(self, folder: str) -> None:
        """An event file lies in `folder`."""
        if folder not in self._folders:
            self._folders.append(folder)

    def name(self, folder: str, tag: str) -> str:
        """What the tag's series is called."""
        known = self._given.get((folder, tag))
        if known is not None:
            return known
        parts = self._prefix(folder)
        name = "/".join([*parts, tag])
        if self._owners.get(name, folder) != folder:
            rest = [part for part in folder.split("/") if part]
            for count in range(1, len(rest) + 1):
                name = "/".join([*rest[-count:], tag])
                if self._owners.get(name, folder) == folder:
                    break
        self._owners[name] = folder
        self._given[(folder, tag)] = name
        return name

    def _prefix(self, folder: str) -> List[str]:
        above = [
            other for other in self._folders if other != folder and folder.startswith(other.rstrip("/") + "/")
        ]
        if above:
            # Below a part of the data, the part stays.
            top = min(above, key=len)
            parts = [part for part in folder[len(top) :].split("/") if part]
            parts = [part for part in parts if not _NUMBERS_ONLY.fullmatch(part)]
            return [*self._prefix(top), *parts]
        last = os.path.basename(folder)
        return [last] if last.lower() in _PARTS_OF_DATA else []


class EventFile:
    """One event file on its way into the intake."""

    logger = LOGGER

    def __init__(self, path: str, intake: Intake, names: TagNames) -> None:
        self._path = path
        self._folder = os.path.dirname(path)
        self._intake = intake
        self._names = names
        self._reader = EventReader()
        self._told = False
        names.folder(self._folder)

    def feed(self, data: bytes) -> None:
        """The file's next bytes."""
        events = self._reader.feed(data)
        points: Dict[str, Tuple[array, array, array]] = {}  # type: ignore[type-arg]
        for event in events:
            step, time = event.step, event.wall_time
            for value in event.values:
                if isinstance(value, Scalar):
                    columns = points.get(value.tag)
                    if columns is None:
                        columns = points[value.tag] = (array("q"), array("d"), array("d"))
                    columns[0].append(step)
                    columns[1].append(time)
                    columns[2].append(value.value)
                elif isinstance(value, HParams):
                    for name, one in value.values.items():
                        self._intake.event({"type": "param", "name": name, "value": one, "logger": LOGGER})
                elif isinstance(value, Histogram):
                    content = json.dumps(
                        {"edges": _finite(value.edges), "counts": _finite(value.counts)},
                        separators=(",", ":"),
                    )
                    self._medium(value.tag, "histogram", step, time, "application/json", content.encode())
                elif isinstance(value, Image):
                    self._medium(
                        value.tag, "image", step, time, image_mime(value.data), value.data,
                        width=value.width, height=value.height,
                    )  # fmt: skip
                elif isinstance(value, Audio):
                    self._medium(value.tag, "audio", step, time, value.mime, value.data)
                elif isinstance(value, Text):
                    self._medium(value.tag, "text", step, time, "text/markdown", value.text.encode("utf-8"))
        for tag, (steps, times, values) in points.items():
            self._intake.points(LOGGER, self._names.name(self._folder, tag), steps, times, values)
        if self._reader.damaged and not self._told:
            self._told = True
            words = "The event file %s is damaged: what comes after the damage is not read." % self._path
            self._intake.event({"type": "warning", "message": words})

    def end(self) -> None:
        """No more bytes will come."""

    def _medium(
        self, tag: str, kind: str, step: int, time: float, mime: str, data: bytes, **more: int
    ) -> None:
        name = self._names.name(self._folder, tag)
        self._intake.medium(LOGGER, name, kind, step, time, mime, data, **more)


def image_mime(data: bytes) -> str:
    """The kind of picture, by its first bytes."""
    for begin, mime in _IMAGES:
        if data.startswith(begin):
            return mime
    return "application/octet-stream"


def _finite(values: List[float]) -> List[float]:
    """Numbers that JSON can hold."""
    return [value if value - value == 0.0 else (_LARGEST if value > 0 else -_LARGEST) for value in values]
