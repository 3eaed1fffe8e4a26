"""Examples are found by their description and copied without writing over anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlstudio.model.errors import NotFound, RequestError, WorldError
from mlstudio.services.examples import Examples


def test_the_shipped_examples_are_complete() -> None:
    found = Examples().list()
    assert len(found) >= 3
    for example in found:
        assert example.title
        assert example.sentence
        assert 0 < example.seconds <= 60
        assert example.mb > 0
        assert (example.path / example.command[-1]).is_file()
    assert [example.mb for example in found] == sorted(example.mb for example in found)


def test_a_copy_is_complete_and_overwrites_nothing(tmp_path: Path) -> None:
    example = Examples().list()[0]
    target = Examples().copy(example.name, tmp_path)
    assert (target / "train.py").read_bytes() == (example.path / "train.py").read_bytes()
    assert not list(target.rglob("__pycache__"))
    with pytest.raises(RequestError, match="already"):
        Examples().copy(example.name, tmp_path)


def test_an_unknown_example_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Examples().copy("nonesuch", tmp_path)
    assert Examples().list()[0].name in caught.value.try_this


def test_a_copy_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match="could not be copied"):
        Examples().copy(Examples().list()[0].name, tmp_path / "file")
