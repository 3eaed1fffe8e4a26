"""Loads a framework's module as it is, and then has its hook called."""

from __future__ import annotations

import sys

from mlstudio.probe.hooks.report import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any


class Loader:
    """Stands before the module's own loader until the module was loaded."""

    def __init__(self, loader: Any, hook: str) -> None:
        self._loader = loader
        self._hook = hook

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec) if hasattr(self._loader, "create_module") else None

    def exec_module(self, module: Any) -> None:
        # Whoever asks the module for its loader (for its source, its files) shall find the real one.
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        name = "mlstudio.probe.hooks." + self._hook
        try:
            __import__(name)
            sys.modules[name].patch(module)
        except Exception as error:  # noqa: BLE001 — a framework that is not as we know it goes on without us
            Reporter(self._hook).failed(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
