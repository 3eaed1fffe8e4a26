"""Secrets left in code: names of files that look as if they hold one, before they travel into an image."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FILE_NAMES = re.compile(
    r"(\.env(\..+)?|\.netrc|\.pypirc|id_(rsa|dsa|ecdsa|ed25519)|credentials(\.json)?|\.git-credentials"
    r"|kaggle\.json|.+\.(pem|p12|pfx|key|keystore))$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"\.env\.(example|sample|template|dist)$", re.IGNORECASE)

# Published shapes of tokens: provider documentation, and GitHub's "supported secret scanning patterns".
_TOKENS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("a private key", re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("an AWS access key", re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a Hugging Face token", re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")),
    ("a GitHub token", re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b")),
    ("a GitLab token", re.compile(rb"\bglpat-[A-Za-z0-9_-]{20,}\b")),
    ("an API key", re.compile(rb"\bsk-[A-Za-z0-9_-]{32,}\b")),
    ("a Slack token", re.compile(rb"\bxox[abeoprs]-[A-Za-z0-9-]{16,}\b")),
    ("a Google API key", re.compile(rb"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("a W&B key", re.compile(rb"WANDB_API_KEY\W{1,4}[0-9a-f]{40}\b")),
)

_SIGNS = (
    *(b"PRIVATE KEY", b"AKIA", b"ASIA", b"hf_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
    *(b"glpat-", b"sk-", b"xox", b"AIza", b"WANDB_API_KEY"),
)
"""A content without any of these matches none of the patterns; looking for them is much quicker."""

_LARGEST_BYTES = 128 * 1024
_MOST_FILES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A file that seems to hold a secret; never the secret itself."""

    path: str
    kind: str


def find_secrets(root: Path, files: Sequence[str]) -> tuple[Finding, ...]:
    """Look through the small text files of `files`; unreadable ones are passed over."""
    findings: list[Finding] = []
    for name in files[:_MOST_FILES]:
        # Backtracking over the folders of a path takes longer than the pattern's few names are worth.
        base = name.rpartition("/")[2]
        if _FILE_NAMES.match(base) and not _HARMLESS.match(base):
            findings.append(Finding(path=name, kind="a file of credentials"))
            continue
        if base[base.rfind(".") :].lower() in _BINARY:
            continue
        try:
            content = _small_content(os.path.join(root, name))
        except OSError:
            continue
        if b"\0" in content[:1024] or not any(sign in content for sign in _SIGNS):
            continue
        kind = next((kind for kind, pattern in _TOKENS if pattern.search(content)), None)
        if kind is not None:
            findings.append(Finding(path=name, kind=kind))
    return tuple(findings)


def _small_content(path: str) -> bytes:
    """What a file holds; nothing for a large one, a link, or what is no file. Raises OSError."""
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_BYTES:
        return b""
    with open(path, "rb", buffering=0) as file:
        return file.read(_LARGEST_BYTES)


_BINARY = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".npy", ".npz", ".pt", ".pth", ".ckpt", ".safetensors"),
        *(".onnx", ".pkl", ".parquet", ".zip", ".gz", ".xz", ".zst", ".tar", ".so", ".h5", ".hdf5", ".wav"),
        *(".mp3", ".mp4", ".pdf", ".woff", ".woff2", ".ttf", ".pyc", ".db", ".sqlite"),
    }
)
