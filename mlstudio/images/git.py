"""Asking Git, with every door closed through which a hostile repository or URL could run something."""

from __future__ import annotations

import os
import subprocess
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
    *arguments: str, folder: Path | None = None, timeout_s: float = 60.0, check: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Run Git without prompts, pagers, hooks and the system's configuration. Raises WorldError where there is no Git."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT},
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        "LC_ALL": "C.UTF-8",
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


_KEPT = ("GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_PROXY_COMMAND", "GIT_CONFIG_GLOBAL")
