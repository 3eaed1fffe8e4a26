"""Asking Git, with every door closed through which a hostile repository or URL could run something."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlstudio.model.errors import WorldError

_SAFE = (
    "-c", "core.fsmonitor=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.pager=cat",
    "-c", "diff.external=",
    "-c", "protocol.ext.allow=never",
    "-c", "protocol.file.allow=always",
    "-c", "submodule.recurse=false",
    "-c", "safe.directory=*",
    "-c", "advice.detachedHead=false",
)  # fmt: skip


def run_git(
    *arguments: str,
    folder: Path | None = None,
    timeout_s: float = 60.0,
    check: bool = False,
    settings: Sequence[tuple[str, str]] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run Git without prompts, pagers, hooks and the system's configuration. Raises WorldError where there is no Git.

    `settings` are (name, value) of Git's configuration that count for this call, whatever the repository says.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT},
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        # Objects that are missing in a partial clone would be fetched, with what its configuration names for that.
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C.UTF-8",
        # Not with -c, which takes names only up to the first "=".
        "GIT_CONFIG_COUNT": str(len(settings)),
        **{f"GIT_CONFIG_KEY_{number}": name for number, (name, _) in enumerate(settings)},
        **{f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in enumerate(settings)},
    }
    command = ["git", *_SAFE, *(("-C", str(folder)) if folder is not None else ()), *arguments]
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=check,
        )
    except FileNotFoundError as error:
        raise WorldError(
            "Git is not installed.",
            try_this="Install it (sudo apt-get install git) and try again.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise WorldError(
            f"Git did not answer within {timeout_s:.0f} seconds.",
            why=f"git {arguments[0]}",
            try_this="Check the network and the URL, and try again.",
            can_retry=True,
        ) from error


def without_filters(folder: Path) -> tuple[tuple[str, str], ...]:
    """Settings that turn off the filters which the repository of `folder` itself brings: comparing files would run them.

    Those that its user has set up for every repository, as Git LFS does, stay. Raises WorldError.
    """
    found = run_git(
        "config",
        "--show-scope",
        "--includes",
        "-z",
        "--get-regexp",
        r"^filter\.",
        folder=folder,
        timeout_s=15,
    )
    entries = found.stdout.decode("utf-8", "surrogateescape").split("\0")
    drivers = {
        entry.partition("\n")[0].rpartition(".")[0]
        for scope, entry in zip(entries[::2], entries[1::2], strict=False)
        if scope in ("local", "worktree")
    }
    return tuple(
        (f"{driver}.{name}", value)
        for driver in sorted(drivers)
        for name, value in (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false"))
    )


_KEPT = ("GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_PROXY_COMMAND", "GIT_CONFIG_GLOBAL")
