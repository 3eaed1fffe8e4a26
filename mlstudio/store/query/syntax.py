"""The tree of a filter.

filter      = or
or          = and { "or" and }
and         = not { ["and"] not }             two terms side by side: both must hold
not         = "not" not | "(" or ")" | term
term        = value op name [op value]        0.1 < loss < 1
            | name op value
            | name ["not"] "in" "(" value { "," value } ")"
            | value ["not"] "in" name          "cnn" in tags
            | name ["not"] "contains" value
            | name "is" ["not"] ("missing" | "nan")
            | word | text                      searched for in names, tags, notes, parameters …
"""

from __future__ import annotations

from dataclasses import dataclass

from mlstudio.model.errors import QueryError
from mlstudio.store.query.tokens import Kind, Token, tokens

__all__ = ["And", "Compare", "Contains", "In", "Is", "Node", "Not", "Or", "Words", "asks_for", "parse"]

OPERATORS = ("=", "==", "!=", "<>", "<", "<=", ">", ">=", "~", "!~")
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_KEYWORDS = frozenset(["and", "or", "not", "in", "is", "contains"])
_VALUES = (Kind.TEXT, Kind.NUMBER, Kind.DURATION, Kind.DATE, Kind.WORD)
_DEEPEST = 60
_MOST_TERMS = 300


@dataclass(frozen=True, slots=True)
class Compare:
    """`name` stands on the left, `op` is one of = != < <= > >= ~ !~."""

    name: Token
    op: str
    value: Token


@dataclass(frozen=True, slots=True)
class In:
    """The name has one of the values."""

    name: Token
    values: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """Of a set: the value is in it; of a text: it is a part of it."""

    name: Token
    value: Token


@dataclass(frozen=True, slots=True)
class Is:
    """``missing`` or ``nan``."""

    name: Token
    what: str


@dataclass(frozen=True, slots=True)
class Words:
    value: Token


@dataclass(frozen=True, slots=True)
class Not:
    inner: Node


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


Node = Compare | In | Contains | Is | Words | Not | And | Or


def parse(text: str) -> Node | None:
    """The tree of a filter; None for an empty one, which every run fits. Raises QueryError."""
    found = tokens(text)
    if len(found) == 1:
        return None
    return _Parser(found).whole()


def asks_for(node: Node | None, name: str) -> bool:
    """Whether the filter compares something of that name."""
    match node:
        case None | Words():
            return False
        case And(parts) | Or(parts):
            return any(asks_for(part, name) for part in parts)
        case Not(inner):
            return asks_for(inner, name)
    return node.name.value.lower() in (name, f"run.{name}")


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0
        self._terms = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _peek(self, ahead: int) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._next
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def whole(self) -> Node:
        node = self._or()
        token = self._next
        if token.kind is not Kind.END:
            if token.value == ")":
                raise _error("This bracket was never opened.", token)
            raise _error(f"“{token.value}” is not expected here.", token, try_this="Join terms with and, or.")
        return node

    def _or(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _error("The brackets are nested too deeply.", self._next)
        parts = [self._and()]
        while self._next.small == "or":
            self._take()
            parts.append(self._and())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self) -> Node:
        parts = [self._not()]
        while True:
            token = self._next
            if token.small == "and":
                self._take()
                parts.append(self._not())
            elif (
                token.kind is Kind.END
                or (token.value == ")" and token.kind is Kind.SIGN)
                or token.small == "or"
            ):
                break
            else:
                parts.append(self._not())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _not(self) -> Node:
        turned = False
        while self._next.small == "not":
            self._take()
            turned = not turned
        token = self._next
        if token.kind is Kind.SIGN and token.value == "(":
            self._take()
            node = self._or()
            if self._next.value != ")":
                raise _error("This bracket is not closed.", token, try_this="Put ) behind what it holds.")
            self._take()
        else:
            node = self._term()
        return Not(node) if turned else node

    def _term(self) -> Node:
        self._terms += 1
        if self._terms > _MOST_TERMS:
            raise _error(f"A filter has at most {_MOST_TERMS} terms.", self._next)
        first = self._take()
        if first.kind is Kind.END:
            raise _error(
                "Something is missing at the end." if self._at else "There is nothing to filter by.",
                first,
                try_this="For example: lr < 0.01",
            )
        if first.kind is Kind.SIGN or first.small in _KEYWORDS:
            raise _error(
                f"“{first.value}” needs something before it.", first, try_this="For example: lr < 0.01"
            )
        after = self._next
        if after.kind is Kind.SIGN and after.value in OPERATORS:
            return self._comparison(first)
        small = after.small
        if small == "not" and self._peek(1).small in ("in", "contains"):
            self._take()
            return Not(self._membership(first))
        if small in ("in", "contains"):
            return self._membership(first)
        if small == "is":
            return self._state_of(first)
        return Words(first)

    def _comparison(self, first: Token) -> Node:
        op = self._operator()
        second = self._operand(op)
        if self._is_name(first, second):
            node: Node = Compare(first, op.value, second)
            if self._has_operator():
                raise _error(
                    "Only a name in the middle can be compared on both sides.",
                    self._next,
                    try_this="Write 0.1 < loss < 1, or join two comparisons with and.",
                )
            return node
        if op.value not in _TURNED:
            raise _error(f"“{op.value}” needs the name on its left.", op)
        node = Compare(second, _TURNED[op.value], first)
        if not self._has_operator():
            return node
        further = self._operator()
        return And((node, Compare(second, further.value, self._operand(further))))

    def _has_operator(self) -> bool:
        return self._next.kind is Kind.SIGN and self._next.value in OPERATORS

    def _operator(self) -> Token:
        token = self._take()
        value = {"==": "=", "<>": "!="}.get(token.value, token.value)
        return Token(Kind.SIGN, value, token.start, token.end)

    def _operand(self, op: Token) -> Token:
        token = self._next
        if token.kind not in (*_VALUES, Kind.NAME) or token.small in _KEYWORDS:
            raise QueryError(
                f"“{op.value}” needs something to compare with.",
                start=op.start,
                end=max(op.end, token.start),
                try_this=f"For example: lr {op.value} 0.01",
            )
        return self._take()

    @staticmethod
    def _is_name(first: Token, second: Token) -> bool:
        """Whether the first of two compared things is the name, and the other the value."""
        if first.kind in (Kind.WORD, Kind.NAME):
            return True
        if second.kind in (Kind.WORD, Kind.NAME):
            return False
        raise QueryError(
            "Two values are compared with each other.",
            start=first.start,
            end=second.end,
            why="One of them must be a name: of a parameter, a metric or an attribute of runs.",
            try_this="Names stand without quotation marks, odd ones in backticks: `my metric` > 1",
        )

    def _membership(self, first: Token) -> Node:
        word = self._take()
        if word.small == "contains":
            return Contains(_name(first), self._operand(word))
        if self._next.kind is Kind.SIGN and self._next.value == "(":
            opened = self._take()
            values = [self._operand(opened)]
            while self._next.value == "," and self._next.kind is Kind.SIGN:
                values.append(self._operand(self._take()))
            if self._next.value != ")":
                raise _error(
                    "This list is not closed.", opened, try_this='For example: state in ("failed", "lost")'
                )
            self._take()
            if len(values) > _MOST_TERMS:
                raise _error(f"A list has at most {_MOST_TERMS} values.", opened)
            return In(_name(first), tuple(values))
        second = self._operand(word)
        return Contains(_name(second), first)

    def _state_of(self, first: Token) -> Node:
        self._take()
        turned = self._next.small == "not"
        if turned:
            self._take()
        token = self._take()
        what = {"missing": "missing", "none": "missing", "null": "missing", "nan": "nan"}.get(token.small, "")
        if not what:
            raise _error(
                "After “is” comes missing or nan.",
                token,
                try_this="For example: lr is missing, loss is not nan",
            )
        node: Node = Is(_name(first), what)
        return Not(node) if turned else node


def _name(token: Token) -> Token:
    if token.kind not in (Kind.WORD, Kind.NAME):
        raise _error(
            "Here a name is needed.",
            token,
            try_this="Names stand without quotation marks: tags, lr, val.loss",
        )
    return token


def _error(what: str, token: Token, *, try_this: str = "") -> QueryError:
    return QueryError(what, start=token.start, end=token.end, try_this=try_this)
