"""Engines by name, as the services see them: the real registry, or a mapping that tests hand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from mlstudio.engines.engine import CanBuild, Engine
from mlstudio.model.errors import NotFound


@runtime_checkable
class Builder(Engine, CanBuild, Protocol):
    """An engine that also builds images."""


class Engines(Protocol):
    """Engines by name; what `mlstudio.engines.registry.EngineRegistry` offers."""

    def get(self, name: str) -> Engine:
        """The engine called `name`. Raises NotFound; never connects by itself."""
        ...

    def names(self) -> Sequence[str]: ...

    def close(self) -> None: ...


class GivenEngines:
    """Engines that were put together by the caller. Closing closes them."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = dict(engines)

    def get(self, name: str) -> Engine:
        found = self._engines.get(name)
        if found is None:
            raise NotFound(
                f"There is no engine called “{name}”.",
                field="engine",
                try_this="Known: " + (", ".join(self._engines) or "none") + ".",
            )
        return found

    def names(self) -> Sequence[str]:
        return tuple(self._engines)

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
