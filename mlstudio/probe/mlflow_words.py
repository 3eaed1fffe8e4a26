"""The words of MLflow's protocol: how metrics, names, pages and errors are written in its JSON."""

from __future__ import annotations

import time

from mlstudio.probe.mlflow_search import BadFilter

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Callable, Dict, List, Tuple

MAX_NAME = 1000
"""Characters; MLflow's own server takes 250."""


class Refused(Exception):
    """A request that MLflow's server would refuse: its error code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def milliseconds() -> int:
    return int(time.time() * 1000)


def pairs(values: Dict[str, str]) -> List[Dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def key_values(found: Any) -> Dict[str, str]:
    """A list of {key, value}, or an object."""
    if isinstance(found, dict):
        return {str(key): str(value) for key, value in found.items()}
    return {
        str(pair.get("key", "")): str(pair.get("value", ""))
        for pair in (found if isinstance(found, list) else ())
        if isinstance(pair, dict)
    }


def check_key(key: str) -> None:
    if not key:
        raise Refused("INVALID_PARAMETER_VALUE", "Missing value for required parameter 'key'.")
    if len(key) > MAX_NAME:
        raise Refused("INVALID_PARAMETER_VALUE", "A name has at most %d characters." % MAX_NAME)


def plain(value: Any) -> Any:
    """A value that filters and orders can compare, or None."""
    return value if isinstance(value, (str, int, float)) else None


def shown(name: str) -> str:
    """A name on one line."""
    return "".join(" " if ord(sign) < 32 or ord(sign) == 127 else sign for sign in name)


def whole(value: Any) -> int:
    """64-bit integers come as numbers or as texts."""
    if isinstance(value, bool) or (isinstance(value, str) and len(value) > 30):
        return 0
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if -(2**63) <= number < 2**63 else 0


def metric_json(key: str, step: int, moment: int, value: float) -> Dict[str, Any]:
    """NaN and infinities are words in MLflow's JSON."""
    shown: Any = value
    if value != value:
        shown = "NaN"
    elif value in (float("inf"), float("-inf")):
        shown = "Infinity" if value > 0 else "-Infinity"
    return {"key": key, "value": shown, "timestamp": moment, "step": step}


def point(metric: Any) -> Tuple[str, float, int, int]:
    if not isinstance(metric, dict):
        raise Refused("INVALID_PARAMETER_VALUE", "A metric is an object.")
    key = str(metric.get("key") or "")
    check_key(key)
    # Protocol buffers leave out what is zero.
    value = metric.get("value", 0.0)
    try:
        number = float(value)
    except OverflowError:
        number = float("inf") if value > 0 else float("-inf")
    except (TypeError, ValueError):
        raise Refused(
            "INVALID_PARAMETER_VALUE", "Got invalid value %r for metric '%s'." % (value, key)
        ) from None
    moment = metric.get("timestamp", 0)
    return key, number, whole(moment), whole(metric.get("step", 0))


def texts(found: Any) -> List[str]:
    return [str(one) for one in found] if isinstance(found, list) else [str(found)] if found else []


def in_view(stage: str, view: str) -> bool:
    return view == "ALL" or (stage == "active") == (view == "ACTIVE_ONLY")


def entity_look(entity: Dict[str, Any]) -> Callable[[str, str], Any]:
    def look(kind: str, key: str) -> Any:
        if kind == "tag":
            return entity.get("tags", {}).get(key)
        return plain(entity.get(key))

    return look


def page(found: List[Any], words: Dict[str, Any], usual: int) -> Tuple[List[Any], str]:
    most = whole(words.get("max_results")) or usual
    token = str(words.get("page_token") or "0")
    if most < 0 or not (token.isascii() and token.isdigit()):
        raise BadFilter("Invalid page token or count of results.")
    begin = whole(token)
    end = begin + most
    return found[begin:end], str(end) if end < len(found) else ""
