"""Secrets left in code: names of files that look as if they hold one, before they travel into an image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_FILE_NAMES = re.compile(
    r"(^|/)(\.env(\..+)?|\.netrc|\.pypirc|id_(rsa|dsa|ecdsa|ed25519)|credentials(\.json)?|\.git-credentials"
    r"|kaggle\.json|.+\.(pem|p12|pfx|key|keystore))$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"(^|/)\.env\.(example|sample|template|dist)$", re.IGNORECASE)

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
        if _FILE_NAMES.search(name) and not _HARMLESS.search(name):
            findings.append(Finding(path=name, kind="a file of credentials"))
            continue
        if PurePosixPath(name).suffix.lower() in _BINARY:
            continue
        path = root / name
        try:
            if path.is_symlink() or path.stat().st_size > _LARGEST_BYTES:
                continue
            content = path.read_bytes()
        except OSError:
            continue
        if b"\0" in content[:1024]:
            continue
        kind = next((kind for kind, pattern in _TOKENS if pattern.search(content)), None)
        if kind is not None:
            findings.append(Finding(path=name, kind=kind))
    return tuple(findings)


_BINARY = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".npy", ".npz", ".pt", ".pth", ".ckpt", ".safetensors"),
        *(".onnx", ".pkl", ".parquet", ".zip", ".gz", ".xz", ".zst", ".tar", ".so", ".h5", ".hdf5", ".wav"),
        *(".mp3", ".mp4", ".pdf", ".woff", ".woff2", ".ttf", ".pyc", ".db", ".sqlite"),
    }
)
