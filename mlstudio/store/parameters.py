"""Parameters as they lie in the database."""

from __future__ import annotations

import math


def as_number(text: str) -> float | None:
    """The value of a parameter as a number, for sorting and filtering, if it reads as a finite one."""
    try:
        value = float(text)
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(text.strip().lower())
    return value if math.isfinite(value) else None
