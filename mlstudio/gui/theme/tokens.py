"""Design tokens: the one file that says every colour and length, and how it is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlstudio.services.locations import resource


class Mode(StrEnum):
    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True, slots=True)
class Lap:
    """How runs are told apart once the twelve colours are used up: lap 0 is solid with a round dot."""

    dash: tuple[float, ...]
    """Pen pattern in line widths; empty is solid."""
    symbol: str
    """pyqtgraph's name of the dot's shape: ``o``, ``s``, ``t1``, ``d``."""


class Tokens:
    """`tokens.json`, looked up by dotted names: ``colour(Mode.LIGHT, "text.secondary")``, ``length("height.row")``."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self._colours = {mode: dict(_flatten(data["color"][mode.value])) for mode in Mode}
        self._lengths = {
            f"{group}.{name}": int(value)
            for group in ("height", "width", "icon", "motion", "plot", "radius", "space")
            for name, value in data[group].items()
            if isinstance(value, int | float)
        }

    @classmethod
    def load(cls) -> Tokens:
        path = resource("theme", "tokens.json")
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def colour(self, mode: Mode, name: str) -> str:
        """``#RRGGBB`` (or ``#RRGGBBAA``) of a colour such as ``surface.base``. KeyError if there is none."""
        return self._colours[mode][name]

    def colour_names(self) -> tuple[str, ...]:
        return tuple(self._colours[Mode.LIGHT])

    def length(self, name: str) -> int:
        """A length in logical pixels or a duration in milliseconds, such as ``height.row`` or ``motion.panel``."""
        return self._lengths[name]

    def font_size(self, name: str) -> float:
        """Text size in logical pixels, by role: ``micro``, ``small``, ``body``, …"""
        return float(self._data["font"]["size"][name])

    def families(self, kind: str) -> list[str]:
        """Font families to try in order; `kind` is ``ui`` or ``mono``."""
        return [str(family) for family in self._data["font"][kind]]

    def features(self, kind: str) -> dict[str, int]:
        return {str(tag): int(value) for tag, value in self._data["font"][f"features_{kind}"].items()}

    def weight(self, name: str) -> int:
        return int(self._data["font"]["weight"][name])

    def run_colour(self, mode: Mode, index: int) -> str:
        palette = self._data["run_palette"][mode.value]
        return str(palette[index % len(palette)])

    def run_lap(self, index: int) -> Lap:
        palette = self._data["run_palette"]
        laps = palette["laps"]
        lap = laps[(index // len(palette["light"])) % len(laps)]
        return Lap(tuple(float(part) for part in lap["dash"]), str(lap["qt_symbol"]))

    def alpha(self, name: str) -> float:
        """``raw_alpha``, ``band_alpha`` or ``dimmed_alpha``."""
        return float(self._data["run_palette"][name])

    def state(self, name: str) -> tuple[str, str, str]:
        """(icon, word, colour name) of a run state."""
        entry = self._data["state"][name]
        return str(entry["icon"]), str(entry["word"]), str(entry["colour"])

    def rail_icon(self, page: str) -> str:
        return str(self._data["icon"]["rail_names"][page])


def _flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _flatten(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", str(value)))
    return found
