"""How pip reaches packages on this machine, read from its configuration and environment without running it.

Files and their order: https://pip.pypa.io/en/stable/topics/configuration/ ; .netrc is never read.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlstudio.model.image import PipSettings

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def discover_pip(env: Mapping[str, str] | None = None, files: Iterable[Path] | None = None) -> PipSettings:
    """The machine's own settings: environment over user over site over global, as pip decides."""
    env = os.environ if env is None else env
    options: dict[str, str] = {}
    for path in configuration_files(env) if files is None else files:
        options.update(_read(path))
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
        ca_bundle=ca_bundle if ca_bundle and Path(ca_bundle).expanduser().is_file() else "",
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
        home / ".pip" / "pip.conf",
        Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    if env.get("PIP_CONFIG_FILE"):
        found.append(Path(env["PIP_CONFIG_FILE"]))
    return found


def _read(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text("utf-8", "replace"))
    except (OSError, configparser.Error):
        return {}
    options: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            options.update({name.replace("_", "-"): value for name, value in parser.items(section) if value})
    return options


def _first(env: Mapping[str, str], *names: str) -> str:
    return next((env[name] for name in names if env.get(name)), "")


def _is_remote(url: str) -> bool:
    """A folder of this machine is not there in a build."""
    return url.startswith(("http://", "https://"))


def _wheelhouse(links: str) -> str:
    """The first entry of ``find-links`` that is a folder of this machine."""
    for entry in links.split():
        folder = unquote(urlsplit(entry).path) if entry.startswith("file://") else entry
        if "://" not in folder and Path(folder).expanduser().is_dir():
            return str(Path(folder).expanduser().absolute())
    return ""
