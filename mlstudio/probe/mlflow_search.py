"""MLflow's search filters and orders (https://mlflow.org/docs/latest/search-runs.html), over entities in memory."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Callable, List, Tuple

    Look = Callable[[str, str], Any]
    """(kind, key) to a value of an entity, None if it has none. Kinds: attribute, metric, param, tag, dataset."""
    Clause = Tuple[str, str, str, Any]

_LONGEST = 20_000
_LONGEST_PATTERN = 1000
_MOST_CLAUSES = 100
_PROMPT = "mlflow.prompt.is_prompt"
_KINDS = {
    "attributes": "attribute", "attribute": "attribute", "attr": "attribute", "run": "attribute", "metrics": "metric",
    "metric": "metric", "params": "param", "param": "param", "parameters": "param", "parameter": "param",
    "tags": "tag", "tag": "tag", "datasets": "dataset", "dataset": "dataset",
}  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.|'')*')|(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[A-Za-z_][\w]*(?:\.(?:`[^`]*`|\"[^\"]*\"|[^\s=<>!(),'`\"]+))?|`[^`]*`|\"[^\"]*\")"
    r"|(?P<sign><=|>=|!=|=|<|>|\(|\)|,))"
)
_WORDS = frozenset(("and", "like", "ilike", "in", "not", "is", "null"))


class BadFilter(ValueError):
    """A filter that MLflow would refuse; the message is for the caller."""


def parse_filter(text: str) -> List[Clause]:
    """(kind, key, comparator, value) of each clause; all must hold. Raises BadFilter."""
    if len(text) > _LONGEST:
        raise BadFilter("The filter is too long.")
    found = _tokens(text)
    clauses: List[Clause] = []
    place = 0

    def take(what: str) -> Tuple[str, str]:
        nonlocal place
        if place >= len(found):
            raise BadFilter("Invalid filter %r: %s is missing at its end." % (text, what))
        place += 1
        return found[place - 1]

    while place < len(found):
        sort, name = take("a name")
        if sort != "name" or name.lower() in _WORDS:
            raise BadFilter("Invalid filter %r: %r is no name." % (text, name))
        kind, key = _identifier(name)
        _, sign = take("a comparator")
        comparator = sign.upper()
        if comparator == "NOT":
            comparator = "NOT " + take("IN")[1].upper()
        if comparator in ("IN", "NOT IN"):
            if take("(")[1] != "(":
                raise BadFilter("Invalid filter %r: ( is missing." % text)
            values = []
            while True:
                sort, word = take("a value")
                if sort != "text":
                    raise BadFilter("Invalid filter %r: a list holds texts in quotes." % text)
                values.append(word)
                sign = take(")")[1]
                if sign == ")":
                    break
                if sign != ",":
                    raise BadFilter("Invalid filter %r: , is missing." % text)
            clauses.append((kind, key, comparator, values))
        elif comparator == "IS":
            words = take("NULL")[1].lower()
            negated = words == "not"
            if negated:
                words = take("NULL")[1].lower()
            if words != "null":
                raise BadFilter("Invalid filter %r: NULL is missing." % text)
            clauses.append((kind, key, "IS NOT NULL" if negated else "IS NULL", None))
        elif comparator in ("=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE"):
            sort, word = take("a value")
            clauses.append((kind, key, comparator, _value(kind, key, comparator, sort, word, text)))
        else:
            raise BadFilter("Invalid filter %r: %r is no comparator." % (text, sign))
        if len(clauses) > _MOST_CLAUSES:
            raise BadFilter("The filter has too many clauses.")
        if place < len(found) and take("AND")[1].lower() != "and":
            raise BadFilter("Invalid filter %r: clauses are joined with AND." % text)
        if found[place - 1][1].lower() == "and" and place >= len(found):
            raise BadFilter("Invalid filter %r: something is missing after AND." % text)
    return clauses


def holds(clauses: List[Clause], look: Look) -> bool:
    """Whether an entity fits all clauses."""
    return all(
        # Clients ask so for what is no prompt, which has no such tag.
        _holds("" if key == _PROMPT and found is None else found, comparator, value)
        for kind, key, comparator, value in clauses
        for found in (look(kind, key),)
    )


def parse_orders(texts: List[str]) -> List[Tuple[str, str, bool]]:
    """(kind, key, whether ascending) of each. Raises BadFilter."""
    found = []
    for text in texts[:20]:
        words = text.strip()
        ascending = True
        match = re.match(r"(.*\S)\s+(asc|desc)$", words, re.IGNORECASE | re.DOTALL)
        if match:
            words, ascending = match.group(1), match.group(2).lower() == "asc"
        kind, key = _identifier(words)
        found.append((kind, key, ascending))
    return found


def ordered(
    entities: List[Any], orders: List[Tuple[str, str, bool]], look: Callable[[Any], Look]
) -> List[Any]:
    """Entities in order; those without a value come last."""
    for kind, key, ascending in reversed(orders):

        def sort_key(entity: Any, kind: str = kind, key: str = key) -> Any:
            value = look(entity)(kind, key)
            return (isinstance(value, str), value) if value is not None and value == value else None

        having = [entity for entity in entities if sort_key(entity) is not None]
        without = [entity for entity in entities if sort_key(entity) is None]
        having.sort(key=sort_key, reverse=not ascending)
        entities = having + without
    return entities


def _tokens(text: str) -> List[Tuple[str, str]]:
    found = []
    place = 0
    while place < len(text) and text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None or match.end() == place:
            raise BadFilter("Invalid filter %r near character %d." % (text, place))
        sort = str(match.lastgroup)
        word = match.group(sort)
        if sort == "text":
            word = re.sub(r"\\(.)|'(')", lambda found: found.group(1) or found.group(2), word[1:-1])
        found.append((sort, word))
        place = match.end()
    return found


def _identifier(name: str) -> Tuple[str, str]:
    head, dot, rest = name.partition(".")
    if not dot:
        return "attribute", name.strip('`"').lower()
    kind = _KINDS.get(head.lower())
    if kind is None:
        raise BadFilter(
            "Invalid entity type %r. Valid ones: metrics, params, tags, attributes, datasets." % head
        )
    key = rest.strip()
    if len(key) > 1 and key[0] == key[-1] and key[0] in '`"':
        key = key[1:-1]
    return kind, key


_NUMBERS = frozenset(("start_time", "end_time", "created", "creation_time", "last_update_time", "creation_timestamp",
                      "last_updated_timestamp", "timestamp_ms", "version_number"))  # fmt: skip


def _value(kind: str, key: str, comparator: str, sort: str, word: str, text: str) -> Any:
    wants_number = kind == "metric" or (kind == "attribute" and key in _NUMBERS)
    if wants_number:
        if sort != "number" or comparator in ("LIKE", "ILIKE"):
            raise BadFilter("Expected a number in %r for %s %r." % (text, kind, key))
        return float(word)
    if comparator in ("LIKE", "ILIKE") and len(word) > _LONGEST_PATTERN:
        raise BadFilter("A pattern has at most %d characters." % _LONGEST_PATTERN)
    if sort == "number" and kind == "attribute":
        return word
    if sort != "text":
        # Old clients put texts in double quotes.
        if sort == "name" and word[:1] == '"':
            return word.strip('"')
        raise BadFilter("Expected a quoted text in %r for %s %r." % (text, kind, key))
    return word


def _holds(value: Any, comparator: str, wanted: Any) -> bool:
    if comparator == "IS NULL":
        return value is None
    if comparator == "IS NOT NULL":
        return value is not None
    if value is None:
        return False
    if comparator == "=":
        return bool(value == wanted)
    if comparator == "!=":
        return bool(value != wanted)
    if comparator == "IN":
        return value in wanted
    if comparator == "NOT IN":
        return value not in wanted
    if comparator in ("LIKE", "ILIKE"):
        return like(str(value), str(wanted), ignores_case=comparator == "ILIKE")
    try:
        return bool(
            value < wanted
            if comparator == "<"
            else value <= wanted
            if comparator == "<="
            else value > wanted
            if comparator == ">"
            else value >= wanted
        )
    except TypeError:
        return False


def like(text: str, pattern: str, *, ignores_case: bool) -> bool:
    """SQL's LIKE: % is anything, _ one character. Each piece between two % is looked for once, from where the one before
    it ended, so no pattern takes longer than the text is long times the piece."""
    if ignores_case:
        text, pattern = text.lower(), pattern.lower()
    first, *others = pattern.split("%")
    if not others:
        return _piece(pattern).fullmatch(text) is not None
    last = others.pop()
    place, end = len(first), len(text) - len(last)
    if place > end or not _piece(first).match(text) or not _piece(last).match(text, end):
        return False
    for piece in others:
        found = _piece(piece).search(text, place, end)
        if found is None:
            return False
        place = found.end()
    return True


def _piece(piece: str) -> re.Pattern[str]:
    return re.compile("".join("." if sign == "_" else re.escape(sign) for sign in piece), re.DOTALL)
