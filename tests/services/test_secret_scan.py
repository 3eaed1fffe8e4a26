"""Files that look as if they hold a secret are named before they travel; the secret itself never is."""

from __future__ import annotations

from pathlib import Path

from mlstudio.services.secret_scan import find_secrets

# Put together here, so that no scanner takes this file for a leak.
AWS = "AKIA" + "ABCDEFGHIJKLMNOP"
HUGGING_FACE = "hf_" + "a1B2" * 9


def test_tokens_and_credential_files_are_found(tmp_path: Path) -> None:
    files = {
        "train.py": f'login("{HUGGING_FACE}")',
        "conf/aws.yaml": f"key: {AWS}\n",
        "keys/id_rsa": "x",
        ".env": "A=1",
        ".env.example": "A=",
        "clean.py": "password = input()  # sk-no",
        "key.txt": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = find_secrets(tmp_path, sorted(files))
    assert {finding.path for finding in found} == {
        "train.py",
        "conf/aws.yaml",
        "keys/id_rsa",
        ".env",
        "key.txt",
    }
    assert not any(HUGGING_FACE in str(finding) or AWS in str(finding) for finding in found)


def test_binary_huge_and_missing_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 100 + AWS.encode())
    (tmp_path / "huge.txt").write_bytes(b"x" * 200_000 + AWS.encode())
    (tmp_path / "picture.png").write_text(AWS)
    assert find_secrets(tmp_path, ["weights.bin", "huge.txt", "picture.png", "gone.py"]) == ()
