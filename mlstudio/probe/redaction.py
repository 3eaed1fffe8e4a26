"""Keeping secrets out of what is written: exact values in a stream, known shapes in commands, settings and messages."""

from __future__ import annotations

import re
from typing import Iterable, List, Sequence, Tuple

from mlstudio.probe.redactor import Redactor

__all__ = ["HIDDEN", "Redactor", "is_secret_name", "redact_command", "redact_env", "redact_text"]

HIDDEN = "[redacted]"

_NAME = re.compile(
    r"(?i)(?:^|[_\-.])(?:api[_\-]?key|access[_\-]?key|secret|token|passw(?:or)?d|passwd|pwd|credentials?|private[_\-]?key"
    r"|auth(?:orization)?|apikey)(?:$|[_\-.])|(?:^|[_\-])key$|(?:token|password|secret|apikey)$"
)
_NOT_SECRET = re.compile(
    r"(?i)(?:num|max|min|n|total|pad|eos|bos|unk|sep|cls|mask|special|vocab|new|per|drop|keep|sort|group|label|"
    r"primary|foreign|image|text|target|metric|monitor|batch|dict|state|data|cache|feature|input|output)s?[_\-.]"
    r"(?:tokens?|keys?)$|tokens?[_\-](?:per|len|limit|count|budget|dim|id|ids)\b|^tokens$"
    # Where a secret lies is none.
    r"|[_\-.](?:file|path|dir)$"
)
_SHAPES = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_\-]{16,}"
    r"|\bsk-[A-Za-z0-9_\-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bASIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9\-]{10,}"
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*|\bAIza[0-9A-Za-z_\-]{30,}|\bpypi-[A-Za-z0-9_\-]{16,}"
    r"|\bnpm_[A-Za-z0-9]{30,}|\bwandb_v1_[A-Za-z0-9_]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)
_URL_USER = re.compile(
    r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.\-]{0,20}://)[^\s/@:]*:[^\s/]*@|(?P<bare>\bhttps?://)[^\s/@:]{16,}@"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/\-]{8,}=*")
_HEADER = re.compile(r"(?i)\b(authorization\\?[\"']?\s*[:=]\s*\\?[\"']?)[^\"'\\\r\n]+")
_NAMED = re.compile(
    r"(?:^|(?<=[\s,;&?\"'{=]))(-{0,2}[A-Za-z_][\w.\-]*)(\\?[\"']?\s*[=:]\s*|\s+(?![\-=:]))(?=[^\s,;&}])"
)
"""A name before its value: before ``=`` or ``:`` (``"name": "value"`` in JSON), or an option before a space."""
_VALUE = re.compile(r"\[redacted\](?=[\"'])|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;&}]+")


def is_secret_name(name: str) -> bool:
    """Whether a variable's or option's name says that its value is a secret (``HF_TOKEN``, not ``max_tokens``)."""
    bare = name.lstrip("-")
    return bool(_NAME.search(bare)) and not _NOT_SECRET.search(bare)


def redact_text(text: str) -> str:
    """`text` without what looks like a secret."""
    text = _SHAPES.sub(HIDDEN, text)
    text = _URL_USER.sub(lambda found: (found.group("scheme") or found.group("bare")) + HIDDEN + "@", text)
    text = _BEARER.sub(lambda found: found.group(1) + " " + HIDDEN, text)
    text = _HEADER.sub(lambda found: found.group(1) + HIDDEN, text)
    out, position = [], 0
    found = _NAMED.search(text)
    while found:
        # What follows a harmless name may begin with the next one: `https://host/?token=x`.
        going_on = found.end()
        name, between = found.groups()
        if is_secret_name(name) and (not between.isspace() or name.startswith("-")):
            value = _VALUE.match(text, going_on)
            if value:
                out.append(text[position:going_on] + HIDDEN)
                position = going_on = value.end()
        found = _NAMED.search(text, going_on)
    return "".join(out) + text[position:]


def redact_command(command: Sequence[str]) -> Tuple[str, ...]:
    """An argument vector without secrets: ``--token X``, ``--token=X``, ``token=X``, and values that look like one."""
    words: List[str] = []
    hide_next = False
    for word in command:
        if hide_next and not word.startswith("--"):
            words.append(HIDDEN)
            hide_next = False
            continue
        hide_next = False
        name, equals, value = word.partition("=")
        if equals and value and is_secret_name(name) and re.match(r"-{0,2}[A-Za-z_+][\w.\-/+]*$", name):
            words.append(name + "=" + HIDDEN)
            continue
        if not equals and word.startswith("-") and is_secret_name(word):
            hide_next = True
        words.append(redact_text(word))
    return tuple(words)


def redact_env(pairs: Iterable[Tuple[str, str]]) -> Tuple[Tuple[str, str], ...]:
    """Names and values without secrets. Paths to secrets (``…_FILE``) stay."""
    return tuple(
        # PWD is a password in connection strings; among variables it is the working folder.
        (name, HIDDEN if value and name != "PWD" and is_secret_name(name) else redact_text(value))
        for name, value in pairs
    )
