"""What the probe is told at start: one JSON file beside it. Never secrets: those come over standard input."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, List, Optional

DEFAULT_SPOOL_LIMIT_BYTES = 1024 * 1024 * 1024


class ProbeConfig:
    """The probe's configuration. Times are seconds, sizes bytes.

    `command` is the user's argument vector; `env` is added to the child's environment. With `secrets` (names), one
    JSON line ``{"NAME": "value"}`` is read from standard input before the command starts; each becomes a file
    ``<secrets_dir>/NAME``, and the child's variables ``NAME`` and ``NAME_FILE``. `clone` is ``{"url", "commit",
    "target"}`` or None.
    """

    def __init__(
        self,
        *,
        run_id: str,
        command: List[str],
        workdir: str = "",
        env: Optional[Dict[str, str]] = None,
        secrets: Optional[List[str]] = None,
        secrets_dir: str = "/run/secrets",
        batch_s: float = 0.2,
        sample_s: float = 1.0,
        grace_s: float = 10.0,
        stop_after_s: Optional[float] = None,
        clone: Optional[Dict[str, str]] = None,
        spool_limit_bytes: int = DEFAULT_SPOOL_LIMIT_BYTES,
    ) -> None:
        self.run_id = run_id
        self.command = list(command)
        self.workdir = workdir
        self.env = dict(env or {})
        self.secrets = list(secrets or [])
        self.secrets_dir = secrets_dir
        self.batch_s = batch_s
        self.sample_s = sample_s
        self.grace_s = grace_s
        self.stop_after_s = stop_after_s
        self.clone = dict(clone) if clone else None
        self.spool_limit_bytes = spool_limit_bytes

    def to_json(self) -> str:
        """The file's content."""
        return json.dumps(vars(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ProbeConfig:
        """Read the file's content; fields of a newer ML Studio are ignored. Raises ValueError."""
        data: Any = json.loads(text)
        if not isinstance(data, dict) or not isinstance(data.get("command"), list):
            raise ValueError("the configuration of the probe names no command")
        known = vars(cls(run_id="", command=[])).keys()
        return cls(**{name: value for name, value in data.items() if name in known})
