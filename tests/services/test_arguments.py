"""Parameters and names are read from a command as its script would read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.services.arguments import parameters_of, run_stem, script_of, stem_of


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lr", "0.1"], {"lr": "0.1"}),
        (["--lr=0.1", "--batch-size", "32"], {"lr": "0.1", "batch_size": "32"}),
        (["--amp", "--epochs", "3"], {"amp": "true", "epochs": "3"}),
        (["--no-amp"], {"amp": "false"}),
        (["--momentum", "-0.9", "--shift", "-1e-3"], {"momentum": "-0.9", "shift": "-1e-3"}),
        (["-b", "16", "-v"], {"b": "16", "v": "true"}),
        (
            ["model.size=3", "+trainer.devices=2", "++a/b=x"],
            {"model.size": "3", "trainer.devices": "2", "a/b": "x"},
        ),
        (["--note=a=b"], {"note": "a=b"}),
        (["--name", "ü ö", "rest"], {"name": "ü ö"}),
        (["--lr", "1", "--lr", "2"], {"lr": "2"}),
        (["--empty="], {"empty": ""}),
        (["data.csv"], {}),
    ],
)
def test_parameters_behind_a_script(words: list[str], expected: dict[str, str]) -> None:
    assert dict(parameters_of(["python", "train.py", *words])) == expected


def test_a_launchers_own_options_are_not_parameters() -> None:
    command = ["torchrun", "--nproc-per-node", "2", "train.py", "--lr", "1"]
    assert parameters_of(command) == (("lr", "1"),)
    assert parameters_of(["python", "-u", "-m", "pkg.train", "--lr", "1"]) == (("lr", "1"),)


@given(st.lists(st.text()))
def test_any_words_are_survived(words: list[str]) -> None:
    for name, value in parameters_of(words):
        assert isinstance(name, str)
        assert isinstance(value, str)


@pytest.mark.parametrize(
    ("command", "script", "stem"),
    [
        (["python", "src/train.py", "--lr", "1"], "src/train.py", "train"),
        (["python", "-m", "pkg.fit"], "pkg.fit", "fit"),
        (["python3.11", "-c", "print(1)"], "", "python"),
        (["./go.sh"], "", "go"),
        ([], "", "run"),
    ],
)
def test_script_and_name(command: list[str], script: str, stem: str) -> None:
    assert script_of(command) == script
    assert stem_of(command) == stem


def test_runs_are_called_after_the_project_where_the_script_says_nothing() -> None:
    assert run_stem(["python", "src/train.py"], "digits") == "digits"
    assert run_stem(["python", "-m", "pkg.main"], "digits") == "digits"
    assert run_stem(["python", "finetune_bert.py"], "digits") == "finetune_bert"
    assert run_stem(["python", "train.py"], "") == "train"
