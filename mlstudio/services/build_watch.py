"""Watching a build: what its events add up to, for a phase in words, for the forecast of the next, for a diagnosis."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import replace

from mlstudio.model.image import BuildEvent, BuildFinished, BuildOutput, BuildStep, Layer, Recipe, StepState

_NUMBERED = re.compile(r"\[(?:\S+ )?\s*(\d+)/(\d+)\]\s*(.*)", re.DOTALL)
_FLAG = re.compile(r"--[a-z]+(=\S+)?\s+")
_SPACE = re.compile(r"[\s\\]+")
_KEPT_LINES = 200


class BuildWatch:
    """Feed it every event of a build; ask it at any time."""

    def __init__(self) -> None:
        self.steps: dict[str, BuildStep] = {}
        self.finished: BuildFinished | None = None
        self._output: dict[str, deque[str]] = {}

    def see(self, event: BuildEvent) -> None:
        """Take an event in."""
        if isinstance(event, BuildStep):
            self.steps[event.id] = event
        elif isinstance(event, BuildOutput):
            kept = self._output.setdefault(event.step_id, deque(maxlen=_KEPT_LINES))
            if kept and not kept[-1].endswith("\n"):
                kept[-1] += event.text
                lines = kept.pop().splitlines(keepends=True)
            else:
                lines = event.text.splitlines(keepends=True)
            kept.extend(lines)
        else:
            self.finished = event

    @property
    def numbered(self) -> tuple[BuildStep, ...]:
        """The Dockerfile's own steps (not BuildKit's internal ones)."""
        return tuple(step for step in self.steps.values() if _NUMBERED.match(step.name))

    @property
    def cached(self) -> int:
        return sum(step.state is StepState.CACHED for step in self.numbered)

    def phase(self) -> str:
        """What the build is doing now: "building image, step 3 of 7: pip install"."""
        running = [step for step in self.steps.values() if step.state is StepState.RUNNING]
        for step in reversed(running):
            match = _NUMBERED.match(step.name)
            if match is not None:
                label = step_label(match.group(3))
                return f"building image, step {match.group(1)} of {match.group(2)}: {label}"
        if running:
            return f"building image: {step_label(running[-1].name)}"
        return "building image"

    def failed(self) -> BuildStep | None:
        """The step that failed, if one did."""
        return next((step for step in self.steps.values() if step.state is StepState.FAILED), None)

    def output(self, step_id: str) -> str:
        """The last lines that a step printed."""
        return "".join(self._output.get(step_id, ()))

    def tail(self) -> str:
        """The last lines of everything, where the failing step is not known."""
        return "".join("".join(lines) for lines in self._output.values())[-20_000:]

    def layer_seconds(self, recipe: Recipe) -> dict[str, float]:
        """How long each layer that was really built took, by the layer's key and by its `text_key`."""
        by_text = {_plain(layer.text): layer for layer in recipe.layers if layer.key}
        took: dict[str, float] = {}
        for step in self.steps.values():
            if step.state is not StepState.DONE or step.started is None or step.ended is None:
                continue
            match = _NUMBERED.match(step.name)
            layer = by_text.get(_plain(match.group(3) if match else step.name))
            if layer is not None:
                took[layer.key] = took[text_key(layer)] = max(0.0, step.ended - step.started)
        return took


def text_key(layer: Layer) -> str:
    """A key for the instruction alone: what it took with other content is the best guess for new content."""
    return "text:" + hashlib.sha256(_plain(layer.text).encode()).hexdigest()


def takes_no_time(layer: Layer) -> bool:
    """Whether an instruction only writes settings down (ENV, USER, …): a builder does not even list it."""
    return layer.text.partition(" ")[0].upper() in _SETTINGS


_SETTINGS = frozenset(
    {
        "ENV",
        "USER",
        "LABEL",
        "CMD",
        "ENTRYPOINT",
        "EXPOSE",
        "ARG",
        "STOPSIGNAL",
        "SHELL",
        "HEALTHCHECK",
        "VOLUME",
    }
)


def titled(step: BuildStep, recipe: Recipe) -> BuildStep:
    """The step with a few words for a person: the layer's own, or what BuildKit's internal step does."""
    match = _NUMBERED.match(step.name)
    instruction = _plain(match.group(3) if match else step.name)
    for layer in recipe.layers:
        text = _plain(layer.text)
        # BuildKit writes a base image's name in full: docker.io/library/python:3.11.
        same_base = text.startswith("FROM ") and match is not None and instruction.endswith("/" + text[5:])
        if layer.title and (text == instruction or same_base):
            return replace(step, title=layer.title)
    for beginning, title in _INTERNAL:
        if step.name.startswith(beginning):
            return replace(step, title=title)
    return step


_INTERNAL = (
    ("[internal] load remote build context", "Send the code to the builder"),
    ("[internal] load metadata", "Look up the base image"),
    ("[internal]", "Prepare the build"),
    ("copy /context", "Read the code"),
    ("FROM docker.io/mlstudio-mount/pip", "See the package settings"),
    ("FROM docker.io/mlstudio-mount/wheels", "See the wheelhouse"),
    ("hand over the package settings", "Hand over the package settings"),
    ("hand over the wheels", "Hand over the wheelhouse"),
    ("exporting to image", "Write the image"),
)
"""How BuildKit's own steps begin, and what they do."""


def step_label(text: str) -> str:
    """A step in two or three words: "pip install", "apt-get install", "copy the code"."""
    line = _plain(text)
    word, _, rest = line.partition(" ")
    match word.upper():
        case "RUN":
            rest = _FLAG.sub("", rest)
            for known in ("pip install", "apt-get install", "uv pip sync", "git clone", "venv", "useradd"):
                if known in rest:
                    return {"venv": "making the environment", "useradd": "adding the user"}.get(known, known)
            return rest[:40]
        case "COPY" | "ADD":
            return "copying files"
        case "FROM":
            return "fetching the base image"
        case _:
            return line[:60]


def _plain(text: str) -> str:
    """An instruction on one line with single spaces, as BuildKit names its steps."""
    return _SPACE.sub(" ", text).strip()
