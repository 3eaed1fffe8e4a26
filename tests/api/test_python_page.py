"""docs/python.md: its examples are run from top to bottom, with real runs, and print what stands there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

import mlstudio

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.mark.usefixtures("home")
def test_the_page_says_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    text = PAGE.read_text(encoding="utf-8")
    script = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert script is not None
    (project / "train.py").write_text(script.group(1), encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    assert len(blocks) > 8
    names: dict[str, Any] = {}
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), names, "python.md", str(PAGE), 0)
    failures: list[str] = []
    try:
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
            test, out=failures.append, clear_globs=False
        )
    finally:
        studio = test.globs.get("studio")
        if isinstance(studio, mlstudio.Studio):
            studio.close()
    assert results.attempted > 30
    assert results.failed == 0, "".join(failures)
