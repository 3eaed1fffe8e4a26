"""Settings: declared once, typed, kept in a private file, and telling what is wrong with a value."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mlstudio.model.errors import NotFound, RequestError, WorldError
from mlstudio.model.image import PipSettings
from mlstudio.services.settings import SETTINGS, Settings, merge_pip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "config" / "settings.toml")


def test_every_setting_is_explained_and_starts_with_its_default(settings: Settings) -> None:
    for setting, value, is_set in settings.items():
        assert setting.sentence.endswith(".")
        assert value == setting.default
        assert not is_set
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    assert not settings.path.exists()


def test_what_is_set_is_there_after_a_restart(settings: Settings) -> None:
    settings.set("run.grace_s", "30")
    settings.set("build.smoke_import", "no")
    settings.set("pip.trusted_hosts", "a.example b.example")
    settings.set("base_images", "python:3.11=mirror/python:3.11")
    settings.set("pip.proxy", 'http://u:p"w\\d@proxy:1')
    again = Settings(settings.path)
    assert again.number("run.grace_s") == 30.0
    assert again.flag("build.smoke_import") is False
    assert again.entries("pip.trusted_hosts") == ("a.example", "b.example")
    assert again.mapping("base_images") == {"python:3.11": "mirror/python:3.11"}
    assert again.text("pip.proxy") == 'http://u:p"w\\d@proxy:1'
    assert stat.S_IMODE(settings.path.stat().st_mode) == 0o600
    again.reset("run.grace_s")
    assert Settings(settings.path).number("run.grace_s") == 10.0


def test_another_process_s_change_is_seen(settings: Settings) -> None:
    assert settings.text("theme") == "system"
    Settings(settings.path).set("theme", "dark")
    assert settings.text("theme") == "dark"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("theme", "purple", "one of system, light, dark"),
        ("run.grace_s", "soon", "a number"),
        ("run.grace_s", "-1", "at least 0"),
        ("run.grace_s", "nan", "a number"),
        ("build.smoke_import", "perhaps", "yes or no"),
        ("base_images", "python", "pairs"),
    ],
)
def test_a_value_that_does_not_fit_says_what_would(
    settings: Settings, name: str, value: str, expected: str
) -> None:
    with pytest.raises(RequestError) as caught:
        settings.set(name, value)
    assert caught.value.field == name
    assert expected in caught.value.why


def test_an_unknown_name_is_guessed(settings: Settings) -> None:
    with pytest.raises(NotFound) as caught:
        settings.get("run.grace")
    assert "run.grace_s" in caught.value.try_this


def test_a_broken_file_names_its_line(settings: Settings) -> None:
    settings.path.parent.mkdir()
    settings.path.write_text("theme = dark\n")
    for _ in range(2):
        with pytest.raises(WorldError, match="not valid TOML") as caught:
            settings.get("theme")
        assert "line 1" in caught.value.why
    settings.path.write_text('theme = "dark"\nfuture = 1\n[run]\ngrace_s = 5\n')
    assert settings.text("theme") == "dark"
    assert settings.number("run.grace_s") == 5.0
    settings.set("theme", "light")
    assert "future = 1" in settings.path.read_text()


def test_pip_settings_stand_over_the_machines_own(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "https://machine.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://extra.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    found = settings.pip()
    assert found.index_url == "https://machine.example/simple"
    assert found.wheelhouse == str(tmp_path)
    settings.set("pip.index_url", "https://own.example/simple")
    merged = settings.pip()
    assert merged.index_url == "https://own.example/simple"
    assert merged.extra_index_urls == ()
    assert merged.wheelhouse == str(tmp_path)
    assert settings.pip(PipSettings(proxy="http://p:1")).proxy == "http://p:1"
    settings.set("pip.discover", "no")
    assert settings.pip() == PipSettings(index_url="https://own.example/simple")


def test_merging_keeps_what_the_first_leaves_open() -> None:
    second = PipSettings(
        index_url="i", extra_index_urls=("e",), trusted_hosts=("t",), no_proxy="n", ca_bundle="c"
    )
    assert merge_pip(PipSettings(), second) == second
    assert merge_pip(PipSettings(extra_index_urls=("x",)), second).extra_index_urls == ("x",)
