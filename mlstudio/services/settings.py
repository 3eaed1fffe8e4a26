"""Settings: each declared once with its type, default and a sentence; kept in one small TOML file.

The window's dialog, the command line's `settings` and the documentation are all made from `SETTINGS`.
"""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mlstudio.images.pip_settings import discover_pip
from mlstudio.model.errors import NotFound, RequestError, WorldError
from mlstudio.model.image import PipSettings
from mlstudio.services.toml_text import TomlValue, key_text, to_toml


class SettingKind(StrEnum):
    TEXT = "text"
    PATH = "path"
    NUMBER = "number"
    FLAG = "yes/no"
    LIST = "list"
    MAP = "map"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as it is declared."""

    name: str
    kind: SettingKind
    default: TomlValue
    sentence: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    formerly: tuple[str, ...] = ()
    """Names it had in earlier releases."""
    hides_credentials: bool = False
    """True where the value is a URL that may hold a password: shown without it."""


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="engine",
        kind=SettingKind.TEXT,
        default="local",
        sentence="Where runs go unless you say otherwise: “local” is the container engine of this machine, “process” "
        "a private virtual environment and a subprocess.",
    ),
    Setting(
        name="theme",
        kind=SettingKind.TEXT,
        default="system",
        choices=("system", "light", "dark"),
        sentence="Colours of the window.",
    ),
    Setting(
        name="run.travel",
        kind=SettingKind.TEXT,
        default="baked",
        choices=("baked", "mounted", "cloned"),
        sentence="How code gets into the container: baked into the image, mounted read-only, or cloned from Git "
        "when the run starts.",
    ),
    Setting(
        name="run.grace_s",
        kind=SettingKind.NUMBER,
        default=10.0,
        minimum=0.0,
        sentence="Seconds that a stopped run may take to save its work before it is killed.",
    ),
    Setting(
        name="run.sample_s",
        kind=SettingKind.NUMBER,
        default=1.0,
        minimum=0.1,
        sentence="Seconds between two readings of processor, memory and GPUs.",
    ),
    Setting(
        name="run.spool_limit_mb",
        kind=SettingKind.NUMBER,
        default=1024.0,
        minimum=16.0,
        sentence="Megabytes of a run's records that are kept beside it, from which a gap can be filled.",
    ),
    Setting(
        name="keep.system_days",
        kind=SettingKind.NUMBER,
        default=0.0,
        minimum=0.0,
        sentence="Days for which `mlstudio gc` leaves the readings of processor, memory and GPUs of a run that is over; "
        "0: for ever.",
    ),
    Setting(
        name="keep.log_days",
        kind=SettingKind.NUMBER,
        default=0.0,
        minimum=0.0,
        sentence="Days for which `mlstudio gc` leaves the output of a run that is over; 0: for ever.",
    ),
    Setting(
        name="keep.media_days",
        kind=SettingKind.NUMBER,
        default=0.0,
        minimum=0.0,
        sentence="Days for which `mlstudio gc` leaves images, histograms, texts and sounds of a run that is over; 0: for "
        "ever.",
    ),
    Setting(
        name="keep.container_days",
        kind=SettingKind.NUMBER,
        default=0.0,
        minimum=0.0,
        sentence="Days for which `mlstudio gc` leaves the container of a run that is over, with the files that were "
        "written in it; 0: for ever.",
    ),
    Setting(
        name="build.smoke_import",
        kind=SettingKind.FLAG,
        default=True,
        sentence="Import the framework once in every newly built image, so that a broken one is found at once.",
    ),
    Setting(
        name="base_images",
        kind=SettingKind.MAP,
        default={},
        sentence="Base images to use in place of others, such as a mirror: "
        "python:3.11-slim-bookworm=registry.example.org/python:3.11-slim-bookworm.",
    ),
    Setting(
        name="printed.rules",
        kind=SettingKind.LIST,
        default=[],
        sentence="Rules for numbers in printed lines that are not found by themselves; `mlstudio rules` makes them.",
    ),
    Setting(
        name="pip.discover",
        kind=SettingKind.FLAG,
        default=True,
        sentence="Take what is not set here from this machine's own pip configuration and environment.",
    ),
    Setting(
        name="pip.index_url",
        kind=SettingKind.TEXT,
        default="",
        sentence="Package index that builds use; empty for the machine's own or PyPI.",
        hides_credentials=True,
    ),
    Setting(
        name="pip.extra_index_urls",
        kind=SettingKind.LIST,
        default=[],
        sentence="Further package indexes.",
        hides_credentials=True,
    ),
    Setting(
        name="pip.wheelhouse",
        kind=SettingKind.PATH,
        default="",
        sentence="Folder of wheels that builds may install from, as with pip's --find-links.",
    ),
    Setting(
        name="pip.ca_bundle",
        kind=SettingKind.PATH,
        default="",
        sentence="PEM file of the certificate authorities to trust while building.",
    ),
    Setting(
        name="pip.proxy",
        kind=SettingKind.TEXT,
        default="",
        sentence="Proxy for downloads while building.",
        hides_credentials=True,
    ),
    Setting(
        name="pip.no_proxy",
        kind=SettingKind.TEXT,
        default="",
        sentence="Hosts that are reached without the proxy, separated by commas.",
    ),
    Setting(
        name="pip.trusted_hosts",
        kind=SettingKind.LIST,
        default=[],
        sentence="Hosts that pip may use without a valid certificate. Better: pip.ca_bundle.",
    ),
)


class Settings:
    """The settings in force: declared defaults with the file's values over them.

    Thread-safe. The file is read again when it has changed, so the window follows `mlstudio settings set`.
    Unknown names in the file are kept as they are and never used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._values: dict[str, TomlValue] = {}
        self._unknown: dict[str, object] = {}
        self._read_at: tuple[int, int] | None = None
        self._loaded = False

    # -- reading ------------------------------------------------------------------------------------------------

    def get(self, name: str) -> TomlValue:
        """The value in force, of the declared type. Raises NotFound for a name that is not declared."""
        setting = declared(name)
        with self._lock:
            self._load()
            return self._values.get(name, setting.default)

    def text(self, name: str) -> str:
        """A TEXT or PATH setting."""
        value = self.get(name)
        return value if isinstance(value, str) else str(value)

    def number(self, name: str) -> float:
        """A NUMBER setting."""
        value = self.get(name)
        return float(value) if isinstance(value, (int, float)) else 0.0

    def flag(self, name: str) -> bool:
        """A FLAG setting."""
        return self.get(name) is True

    def entries(self, name: str) -> tuple[str, ...]:
        """A LIST setting."""
        value = self.get(name)
        return tuple(value) if isinstance(value, list) else ()

    def mapping(self, name: str) -> dict[str, str]:
        """A MAP setting."""
        value = self.get(name)
        return dict(value) if isinstance(value, dict) else {}

    def items(self) -> tuple[tuple[Setting, TomlValue, bool], ...]:
        """Every setting with its value and whether it was set (not the default)."""
        with self._lock:
            self._load()
            return tuple(
                (setting, self._values.get(setting.name, setting.default), setting.name in self._values)
                for setting in SETTINGS
            )

    # -- writing ------------------------------------------------------------------------------------------------

    def set(self, name: str, value: object) -> None:
        """Set a value, given as its type or as text. Raises NotFound, RequestError; WorldError if it cannot be kept."""
        setting = declared(name)
        parsed = parse_value(setting, value)
        with self._lock:
            self._load()
            self._values[name] = parsed
            self._save()

    def reset(self, name: str) -> None:
        """Go back to the default."""
        declared(name)
        with self._lock:
            self._load()
            if self._values.pop(name, None) is not None:
                self._save()

    # -- what is made of them -----------------------------------------------------------------------------------

    def pip(self, overrides: PipSettings | None = None) -> PipSettings:
        """How builds reach packages: `overrides` first, then the settings, then the machine's own pip."""
        own = PipSettings(
            index_url=self.text("pip.index_url"),
            extra_index_urls=self.entries("pip.extra_index_urls"),
            wheelhouse=_expanded(self.text("pip.wheelhouse")),
            ca_bundle=_expanded(self.text("pip.ca_bundle")),
            proxy=self.text("pip.proxy"),
            no_proxy=self.text("pip.no_proxy"),
            trusted_hosts=self.entries("pip.trusted_hosts"),
        )
        found = discover_pip() if self.flag("pip.discover") else PipSettings()
        merged = merge_pip(own, found)
        return merge_pip(overrides, merged) if overrides is not None else merged

    # -- the file -----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        stamp = _stamp(self.path)
        if self._loaded and stamp == self._read_at:
            return
        self._loaded, self._read_at = True, stamp
        self._values, self._unknown = {}, {}
        if stamp is None:
            return
        try:
            document = tomllib.loads(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise WorldError(
                "The settings could not be read.", why=f"{self.path}: {error.strerror or error}"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self._loaded = False
            raise WorldError(
                "The settings file is not valid TOML.",
                why=f"{self.path}: {error}",
                try_this="Correct that line, or move the file away to begin with the defaults.",
            ) from error
        known = {name: setting for setting in SETTINGS for name in (setting.name, *setting.formerly)}
        for name, value in _flattened(document):
            setting = known.get(name)
            if setting is None:
                self._unknown[name] = value
                continue
            self._values[setting.name] = parse_value(setting, value)

    def _save(self) -> None:
        lines = ["# Settings of ML Studio. `mlstudio settings list` explains each.", ""]
        entries: dict[str, object] = {**self._unknown, **self._values}
        for name in sorted(entries):
            dotted = ".".join(key_text(part) for part in name.split("."))
            try:
                lines.append(f"{dotted} = {to_toml(entries[name])}")
            except TypeError:
                continue
        write_private(self.path, "\n".join(lines) + "\n", what="The settings could not be saved.")
        self._read_at = _stamp(self.path)


def declared(name: str) -> Setting:
    """The setting of that name. Raises NotFound with the nearest names."""
    for setting in SETTINGS:
        if name == setting.name:
            return setting
    import difflib

    near = difflib.get_close_matches(name, [setting.name for setting in SETTINGS], n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`mlstudio settings list` names them all."
    raise NotFound(f"There is no setting “{name}”.", field="settings", try_this=hint)


def parse_value(setting: Setting, value: object) -> TomlValue:
    """`value` as the setting's type, from text too. Raises RequestError that says what is expected."""
    name = setting.name
    match setting.kind:
        case SettingKind.FLAG:
            if isinstance(value, bool):
                return value
            word = str(value).strip().lower()
            if word in ("yes", "true", "on", "1"):
                return True
            if word in ("no", "false", "off", "0"):
                return False
            raise _bad(setting, value, "yes or no")
        case SettingKind.NUMBER:
            if isinstance(value, bool):
                raise _bad(setting, value, "a number")
            try:
                number = float(value) if isinstance(value, (int, float)) else float(str(value).strip())
            except ValueError as error:
                raise _bad(setting, value, "a number") from error
            if number != number or number in (float("inf"), float("-inf")):
                raise _bad(setting, value, "a number")
            if setting.minimum is not None and number < setting.minimum:
                raise _bad(setting, value, f"at least {setting.minimum:g}")
            return number
        case SettingKind.LIST:
            if isinstance(value, (list, tuple)):
                return [str(item) for item in value]
            return [part for part in str(value).replace(",", " ").split() if part]
        case SettingKind.MAP:
            if isinstance(value, Mapping):
                return {str(key): str(item) for key, item in value.items()}
            pairs: dict[str, str] = {}
            for part in str(value).replace(",", " ").split():
                key, equals, item = part.partition("=")
                if not equals or not key or not item:
                    raise _bad(setting, part, "pairs such as old=new, separated by commas")
                pairs[key] = item
            return pairs
        case SettingKind.TEXT | SettingKind.PATH:
            if not isinstance(value, str):
                raise _bad(setting, value, "text")
            text = value.strip()
            if setting.choices and text not in setting.choices:
                raise _bad(setting, value, "one of " + ", ".join(setting.choices))
            if any(ord(char) < 32 for char in text):
                raise RequestError(f"{name} must be one line.", field=name)
            return text


def merge_pip(first: PipSettings, second: PipSettings) -> PipSettings:
    """`first` where it says something, else `second`. An index set in `first` also drops `second`'s extra ones."""
    merged = second
    if first.index_url:
        merged = replace(merged, index_url=first.index_url, extra_index_urls=())
    if first.extra_index_urls:
        merged = replace(merged, extra_index_urls=first.extra_index_urls)
    if first.trusted_hosts:
        merged = replace(merged, trusted_hosts=first.trusted_hosts)
    if first.no_proxy:
        merged = replace(merged, no_proxy=first.no_proxy)
    if first.proxy:
        merged = replace(merged, proxy=first.proxy)
    if first.ca_bundle:
        merged = replace(merged, ca_bundle=first.ca_bundle)
    if first.wheelhouse:
        merged = replace(merged, wheelhouse=first.wheelhouse)
    return merged


def write_private(path: Path, text: str, *, what: str) -> None:
    """Write a file that only its owner may read (a URL in it may hold a password), all or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WorldError(what, why=f"{path}: {error.strerror or error}") from error


def _bad(setting: Setting, value: object, expected: str) -> RequestError:
    return RequestError(
        f"“{value}” does not fit the setting {setting.name}.",
        field=setting.name,
        why=f"It expects {expected}.",
        try_this=setting.sentence,
    )


def _flattened(table: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    maps = {setting.name for setting in SETTINGS if setting.kind is SettingKind.MAP}
    pairs: list[tuple[str, object]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in maps:
            pairs.extend(_flattened(value, f"{name}."))
        else:
            pairs.append((name, value))
    return pairs


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _expanded(path: str) -> str:
    return str(Path(path).expanduser()) if path else ""
