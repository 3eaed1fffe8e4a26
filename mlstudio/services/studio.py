"""The composition root: everything the program is made of, put together in one place.

Parts are made when they are first used, so that listing runs does not load a container client, and imports of parts
with heavy clients stand inside their makers for the same reason.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from mlstudio.engines.engine import Engine
from mlstudio.services.engine_table import Engines, GivenEngines
from mlstudio.services.locations import default_home, settings_path

if TYPE_CHECKING:
    from mlstudio.services.code import CodeService
    from mlstudio.services.doctor import Doctor
    from mlstudio.services.examples import Examples
    from mlstudio.services.exporting.exporter import Exporter
    from mlstudio.services.housekeeping import Housekeeping
    from mlstudio.services.images import ImageService
    from mlstudio.services.importing.importer import Importer
    from mlstudio.services.launcher import Launcher
    from mlstudio.services.recorder_control import RecorderControl
    from mlstudio.services.rule_book import RuleBook
    from mlstudio.services.runs import RunService
    from mlstudio.services.settings import Settings
    from mlstudio.store import History


class Studio:
    """One studio for one home. Thread-safe; `close` it when done (or use it as a context manager).

    `engines` replaces the machine's own engines, as tests do.
    """

    def __init__(
        self, home: Path | None = None, *, engines: Engines | Mapping[str, Engine] | None = None
    ) -> None:
        self.home = (home or default_home()).expanduser().absolute()
        self._settings_path = settings_path(self.home if home is not None else None)
        self._given = GivenEngines(engines) if isinstance(engines, Mapping) else engines
        self._lock = threading.RLock()
        self._parts: dict[str, object] = {}

    def _part(self, name: str, make: Callable[[], object]) -> Any:
        with self._lock:
            if name not in self._parts:
                self._parts[name] = make()
            return self._parts[name]

    @property
    def settings(self) -> Settings:
        def make() -> Settings:
            from mlstudio.services.settings import Settings

            return Settings(self._settings_path)

        return cast("Settings", self._part("settings", make))

    @property
    def history(self) -> History:
        """The history of this home; made on first use. Raises WorldError where the home cannot hold one."""

        def make() -> History:
            from mlstudio.store import History

            return History(self.home / "history.db")

        return cast("History", self._part("history", make))

    @property
    def engines(self) -> Engines:
        def make() -> Engines:
            if self._given is not None:
                return self._given
            from mlstudio.engines.registry import EngineRegistry

            return EngineRegistry(self.home)

        return cast("Engines", self._part("engines", make))

    @property
    def code(self) -> CodeService:
        def make() -> CodeService:
            from mlstudio.services.code import CodeService

            return CodeService(self.home)

        return cast("CodeService", self._part("code", make))

    @property
    def images(self) -> ImageService:
        def make() -> ImageService:
            from mlstudio.services.images import ImageService

            return ImageService(
                engines=self.engines, settings=self.settings, history=self.history, code=self.code
            )

        return cast("ImageService", self._part("images", make))

    @property
    def recorder(self) -> RecorderControl:
        def make() -> RecorderControl:
            from mlstudio.services.recorder_control import RecorderControl

            return RecorderControl(self.home)

        return cast("RecorderControl", self._part("recorder", make))

    @property
    def launcher(self) -> Launcher:
        def make() -> Launcher:
            from mlstudio.services.launcher import Launcher

            return Launcher(
                engines=self.engines,
                settings=self.settings,
                history=self.history,
                code=self.code,
                images=self.images,
                recorder=self.recorder,
            )

        return cast("Launcher", self._part("launcher", make))

    @property
    def runs(self) -> RunService:
        def make() -> RunService:
            from mlstudio.services.runs import RunService

            return RunService(
                history=self.history, engines=self.engines, recorder=self.recorder, settings=self.settings
            )

        return cast("RunService", self._part("runs", make))

    @property
    def importer(self) -> Importer:
        def make() -> Importer:
            from mlstudio.services.importing.importer import Importer

            return Importer(self.home, lambda: self.history)

        return cast("Importer", self._part("importer", make))

    @property
    def exporter(self) -> Exporter:
        def make() -> Exporter:
            from mlstudio.services.exporting.exporter import Exporter

            return Exporter(lambda: self.history)

        return cast("Exporter", self._part("exporter", make))

    @property
    def rules(self) -> RuleBook:
        """Rules for numbers in printed lines."""
        from mlstudio.services.rule_book import RuleBook

        return RuleBook(self.settings, self.history)

    @property
    def housekeeping(self) -> Housekeeping:
        """What uses how much, and what may go."""
        from mlstudio.services.housekeeping import Housekeeping

        return Housekeeping(self.home, history=self.history, engines=self.engines, settings=self.settings)

    @property
    def doctor(self) -> Doctor:
        def make() -> Doctor:
            from mlstudio.services.doctor import Doctor

            return Doctor(home=self.home, engines=self.engines, settings=self.settings)

        return cast("Doctor", self._part("doctor", make))

    @property
    def examples(self) -> Examples:
        def make() -> Examples:
            from mlstudio.services.examples import Examples

            return Examples()

        return cast("Examples", self._part("examples", make))

    def close(self) -> None:
        """Drop connections and files. Runs go on, the recorder too."""
        with self._lock:
            engines = cast("Engines | None", self._parts.get("engines", self._given))
            history = cast("History | None", self._parts.get("history"))
            self._parts.clear()
        if engines is not None:
            engines.close()
        if history is not None:
            history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
