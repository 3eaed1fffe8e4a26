"""Where things lie: the home with the history, the settings file, and the resources that ship with the program."""

from __future__ import annotations

import os
from pathlib import Path

import mlstudio
from mlstudio.model.errors import DefectError

APPLICATION = "mlstudio"


def default_home() -> Path:
    """``$MLSTUDIO_HOME``, else the platform's folder for user data."""
    chosen = os.environ.get("MLSTUDIO_HOME", "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir(APPLICATION, appauthor=False))


def settings_path(home: Path | None) -> Path:
    """The settings file: inside a home that was chosen, else in the platform's folder for configuration."""
    if home is not None:
        return home / "settings.toml"
    if os.environ.get("MLSTUDIO_HOME"):
        return default_home() / "settings.toml"
    import platformdirs

    return Path(platformdirs.user_config_dir(APPLICATION, appauthor=False)) / "settings.toml"


def resource(*parts: str) -> Path:
    """A file or folder under ``resources/``: inside the installed package, or beside it in a source tree."""
    package = Path(mlstudio.__file__).resolve().parent
    for root in (package / "resources", package.parent / "resources"):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise DefectError(
        f"The installation lacks resources/{'/'.join(parts)}.", try_this="Install ML Studio again."
    )
