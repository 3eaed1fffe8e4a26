"""The tree of errors.

StudioError
├── RequestError   what was asked for is wrong: shown beside the field that caused it (a QueryError: in the filter)
├── WorldError     the world is not as it must be (engine away, disk full, image missing): shown with what to try
└── DefectError    we are wrong: a crash report

Errors are raised low, translated once at a floor's edge with ``from``, and shown once. A run that fails is not an
exception: its `mlstudio.model.run.Exit` says how it ended.
"""

from __future__ import annotations


class StudioError(Exception):
    """Something could not be done; `what` happened, `why`, and what to `try_this`.

    The three are plain sentences for a person. `details` is whatever a bug report would want (a log tail, a reply).
    """

    def __init__(self, what: str, *, why: str = "", try_this: str = "", details: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.try_this = try_this
        self.details = details

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.try_this) if part)


class RequestError(StudioError):
    """What was asked for cannot be done as asked.

    `field` names the part of the request at fault with a dotted path of `mlstudio.model` names, such as
    ``code.folder``, ``dependencies`` or ``limits.memory_bytes``, so that a form can show the error beside it.
    """

    def __init__(
        self, what: str, *, field: str = "", why: str = "", try_this: str = "", details: str = ""
    ) -> None:
        super().__init__(what, why=why, try_this=try_this, details=details)
        self.field = field


class QueryError(RequestError):
    """A filter that cannot be understood; `start` and `end` are places of characters in `text`."""

    def __init__(
        self, what: str, *, start: int, end: int, text: str = "", why: str = "", try_this: str = ""
    ) -> None:
        super().__init__(what, field="where", why=why, try_this=try_this)
        self.text = text
        self.start = start
        self.end = max(end, start + 1)


class WorldError(StudioError):
    """The world is not as it must be. `can_retry` says whether the same call may succeed later."""

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        try_this: str = "",
        details: str = "",
        can_retry: bool = False,
    ) -> None:
        super().__init__(what, why=why, try_this=try_this, details=details)
        self.can_retry = can_retry


class HistoryDamaged(WorldError):
    """The history, or a part of it, cannot be read any more; it can be recovered (`mlstudio.services.recovery`)."""


class EngineAway(WorldError):
    """The container engine did not answer: absent, stopped, not permitted or unreachable."""


class NotFound(RequestError):
    """No run, image, file or revision of that name."""


class BuildFailed(WorldError):
    """An image build failed; `diagnosis` explains it (`mlstudio.model.image.Diagnosis`)."""

    def __init__(
        self,
        what: str,
        *,
        diagnosis: object = None,
        why: str = "",
        try_this: str = "",
        details: str = "",
    ) -> None:
        super().__init__(what, why=why, try_this=try_this, details=details)
        self.diagnosis = diagnosis


class Cancelled(StudioError):
    """The user cancelled it. Nothing is wrong."""


class DefectError(StudioError):
    """A promise of our own was broken. Always a bug in ML Studio."""
