"""What a build may see without keeping it: pip's settings with the CA bundle, and the wheelhouse.

Both reach the build as images of their own that single steps mount (``RUN --mount=type=bind,from=…``). The settings may
hold a password (in an index's URL): their image is removed after the build. The tags end in a hash of the content, so
that a changed setting is a changed Dockerfile line, and two builds at once do not take each other's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mlstudio.model.errors import RequestError
from mlstudio.model.image import PipSettings

PIP_TARGET = "/run/mlstudio/pip"
WHEELS_TARGET = "/run/mlstudio/wheels"
PIP_REPOSITORY = "mlstudio-mount/pip"
WHEELS_REPOSITORY = "mlstudio-mount/wheels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """See `mlstudio.engines.engine.BuildMount`."""

    image: str
    files: tuple[tuple[str, Path], ...]


def pip_configuration(pip: PipSettings) -> str:
    """The ``pip.conf`` that a build step sees; empty where nothing needs to be said."""
    for text in (pip.index_url, *pip.extra_index_urls, *pip.trusted_hosts):
        # Half of a surrogate pair is what Python makes of bytes that are no text.
        if any(ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in text):
            raise RequestError("A package index's URL holds a control character.", field="pip.index_url")
    options: list[tuple[str, str]] = []
    if pip.index_url:
        options.append(("index-url", pip.index_url))
    if pip.extra_index_urls:
        options.append(("extra-index-url", "\n    ".join(pip.extra_index_urls)))
    if pip.wheelhouse:
        options.append(("find-links", WHEELS_TARGET))
    if pip.ca_bundle:
        options.append(("cert", f"{PIP_TARGET}/ca.pem"))
    hosts = set(pip.trusted_hosts)
    if hosts:
        options.append(("trusted-host", "\n    ".join(sorted(hosts))))
    if not options:
        return ""
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in options)


def pip_mount_image(pip: PipSettings) -> str:
    """The tag of the settings' mount; empty where there are no settings."""
    text = pip_configuration(pip)
    if not text:
        return ""
    digest = hashlib.sha256(text.encode())
    if pip.ca_bundle:
        digest.update(b"\0" + ca_bundle(pip))
    return f"{PIP_REPOSITORY}:{digest.hexdigest()[:16]}"


def wheels_mount_image(pip: PipSettings) -> str:
    """The tag of the wheelhouse's mount, by the names and sizes of its files; empty where there is none."""
    if not pip.wheelhouse:
        return ""
    digest = hashlib.sha256()
    for path in _wheels(pip):
        digest.update(f"{path.name}\0{path.stat().st_size}\n".encode())
    return f"{WHEELS_REPOSITORY}:{digest.hexdigest()[:16]}"


def wheels_mount(pip: PipSettings) -> Mount | None:
    """The wheelhouse as a mount."""
    image = wheels_mount_image(pip)
    return Mount(image=image, files=tuple((path.name, path) for path in _wheels(pip))) if image else None


def wheel_names(pip: PipSettings) -> tuple[str, ...]:
    """File names of the wheels in the wheelhouse."""
    return tuple(path.name for path in _wheels(pip)) if pip.wheelhouse else ()


def ca_bundle(pip: PipSettings) -> bytes:
    """The CA bundle's content. Raises RequestError(field="pip.ca_bundle")."""
    try:
        return Path(pip.ca_bundle).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise RequestError(
            f"The CA bundle {pip.ca_bundle} cannot be read.",
            field="pip.ca_bundle",
            why=f"{getattr(error, 'strerror', None) or error}.",
            try_this="Choose another PEM file (--cert), or none.",
        ) from error


def proxy_arguments(pip: PipSettings) -> tuple[tuple[str, str], ...]:
    """Docker's predefined build arguments for a proxy, which it keeps out of the image's history.

    https://docs.docker.com/build/building/variables/#proxy-arguments
    """
    found: list[tuple[str, str]] = []
    if pip.proxy:
        url = pip.proxy if "://" in pip.proxy else f"http://{pip.proxy}"
        if not _host(url):
            raise RequestError(
                "The proxy's URL names no host.",
                field="pip.proxy",
                try_this="For example http://proxy.example.org:3128",
            )
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            found.append((name, url))
    if pip.no_proxy:
        found.extend((name, pip.no_proxy) for name in ("NO_PROXY", "no_proxy"))
    return tuple(found)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _wheels(pip: PipSettings) -> list[Path]:
    folder = Path(pip.wheelhouse)
    try:
        folder = folder.expanduser()
        return sorted(
            path
            for path in folder.iterdir()
            if path.name.endswith((".whl", ".tar.gz", ".zip")) and path.is_file()
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise RequestError(
            f"The wheelhouse {folder} cannot be read.",
            field="pip.wheelhouse",
            why=f"{getattr(error, 'strerror', None) or error}.",
            try_this="Choose another folder (--find-links), or none.",
        ) from error
