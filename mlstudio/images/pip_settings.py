"""How pip reaches packages on this machine, read from its configuration and environment without running it.

Files and their order: https://pip.pypa.io/en/stable/topics/configuration/ ; .netrc is never read.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from mlstudio.model.image import PipSettings

_SECTIONS = ("global", "install")
"""The weaker first."""
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def discover_pip(env: Mapping[str, str] | None = None, files: Iterable[Path] | None = None) -> PipSettings:
    """The machine's own settings: environment over site over user over global, as pip decides.

    What stands under [install] in any file goes before what stands under [global] in every file.
    """
    env = os.environ if env is None else env
    options: dict[str, str] = {}
    read = [_read(path) for path in (configuration_files(env) if files is None else files)]
    for section in _SECTIONS:
        for found in read:
            options.update(found.get(section, {}))
    for name, value in env.items():
        if name.startswith("PIP_") and value:
            options[name[4:].lower().replace("_", "-")] = value
    indexes = [url for url in options.get("extra-index-url", "").split() if _is_remote(url)]
    index = options.get("index-url", "")
    proxy = options.get("proxy", "") or _first(env, "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
    ca_bundle = options.get("cert", "") or next((env[name] for name in _CA_VARIABLES if env.get(name)), "")
    return PipSettings(
        index_url=index if _is_remote(index) else "",
        extra_index_urls=tuple(indexes),
        wheelhouse=_wheelhouse(options.get("find-links", "")),
        ca_bundle=ca_bundle if _on_disk(ca_bundle, Path.is_file) else "",
        proxy=proxy,
        no_proxy=_first(env, "NO_PROXY", "no_proxy"),
        trusted_hosts=tuple(options.get("trusted-host", "").split()),
    )


def configuration_files(env: Mapping[str, str]) -> list[Path]:
    """pip's configuration files on Linux and macOS, the weakest first."""
    if env.get("PIP_CONFIG_FILE") == os.devnull:
        return []
    home = Path(env.get("HOME") or "~").expanduser()
    found = [
        *(
            Path(folder) / "pip" / "pip.conf"
            for folder in (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
        ),
        Path("/etc/pip.conf"),
    ]
    own = env.get("PIP_CONFIG_FILE", "")
    if not _on_disk(own, Path.exists):
        # pip leaves the user's own files out where the environment names another one.
        found.append(home / ".pip" / "pip.conf")
        found.append(Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf")
    found.append(Path(sys.prefix) / "pip.conf")
    if own:
        found.append(Path(own))
    return found


def _on_disk(path: str, there: Callable[[Path], bool]) -> bool:
    """Whether a path out of somebody's settings is there; False for what cannot be a path."""
    try:
        return bool(path) and there(Path(path).expanduser())
    except (OSError, ValueError, RuntimeError):
        return False


def _read(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text("utf-8", "replace"))
    except (OSError, ValueError, configparser.Error):
        return {}
    return {
        section: {name.replace("_", "-"): value for name, value in parser.items(section) if value}
        for section in _SECTIONS
        if parser.has_section(section)
    }


def _first(env: Mapping[str, str], *names: str) -> str:
    return next((env[name] for name in names if env.get(name)), "")


def _is_remote(url: str) -> bool:
    """A folder of this machine is not there in a build."""
    return url.startswith(("http://", "https://"))


def _wheelhouse(links: str) -> str:
    """The first entry of ``find-links`` that is a folder of this machine."""
    for entry in links.split():
        folder = unquote(entry.removeprefix("file://")) if entry.startswith("file://") else entry
        folder = folder.removeprefix("localhost") if entry.startswith("file://localhost/") else folder
        if "://" not in folder and _on_disk(folder, Path.is_dir):
            return str(Path(folder).expanduser().absolute())
    return ""
