"""What stands in the form becomes a run, or a sentence beside the field that is at fault."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.gui.pages.new.draft import (
    EXISTING_IMAGE,
    OWN_DOCKERFILE,
    Change,
    Draft,
    MountDraft,
    folder_and_script,
)
from mlstudio.model.code import Travel
from mlstudio.model.errors import RequestError
from mlstudio.model.run import Mount
from mlstudio.services.script_arguments import Argument

LR = Argument(name="lr", flag="--lr", kind="float", default="0.1")
BATCH = Argument(name="batch-size", flag="--batch-size", kind="int", default="32")
AMP = Argument(name="amp", flag="--amp", kind="flag", default="off", off_flag="--no-amp")
SIZE = Argument(name="size", flag="--size", kind="choice", default="s", choices=("s", "m"))
DATA = Argument(name="data", required=True)
WHAT = Argument(name="what", kind="subcommand", default="fit", choices=("fit", "test"), required=True)
BEAM = Argument(name="beam", flag="--beam", kind="int", default="1", subcommand="test")

PLAIN = Draft(code="/code", script="train.py", arguments=(LR, BATCH, AMP, SIZE))


def value(draft: Draft, argument: Argument, text: str) -> Draft:
    return draft.with_value(argument, text)


# ── the run that is asked for ──────────────────────────────────────────────────────────────────────────────────────


def test_every_field_arrives_in_the_run(tmp_path: Path) -> None:
    draft = Draft(
        name="  first try ",
        code=f" {tmp_path} ",
        travel="mounted",
        framework="pytorch",
        version="2.7.0",
        variant="cu126",
        python="3.12",
        requirements="numpy>=2  # arrays\n\n# only a comment\nrich",
        system_packages="ffmpeg, libgl1",
        script=" train.py ",
        arguments=(LR, AMP),
        values=(("--lr", "0.5"),),
        more="--note 'two words'",
        engine="process",
        gpus=("GPU-1",),
        mounts=(
            MountDraft(source="/data", target="/mnist"),
            MountDraft(),
            MountDraft(source="/out", target="/out", read_only=False),
        ),
        cpus="2.5",
        memory="4g",
        shm="512m",
        stop_after="2h",
        env=(("A", "1"), ("", ""), (" B ", " x=y ")),
        secrets=("HF_TOKEN",),
        tags="baseline, vit  small",
        note=" why \n",
    )
    spec = draft.spec()
    assert spec.name == "first try"
    assert (spec.code.folder, spec.code.travel) == (str(tmp_path), Travel.MOUNTED)
    assert (spec.image.framework, spec.image.version, spec.image.variant) == ("pytorch", "2.7.0", "cu126")
    assert spec.image.python == "3.12"
    assert spec.image.requirements == ("numpy>=2", "rich")
    assert spec.image.system_packages == ("ffmpeg", "libgl1")
    assert spec.command == ("python", "train.py", "--lr", "0.5", "--note", "two words")
    assert spec.parameters == (("lr", "0.5"), ("amp", "false"))
    assert (spec.engine, spec.gpus.uuids) == ("process", ("GPU-1",))
    assert spec.mounts == (
        Mount(source="/data", target="/mnist", read_only=True),
        Mount(source="/out", target="/out", read_only=False),
    )
    assert (spec.limits.cpus, spec.limits.memory_bytes, spec.limits.shm_bytes) == (2.5, 4 << 30, 512 << 20)
    assert spec.limits.stop_after_s == 7200
    assert spec.env == (("A", "1"), ("B", " x=y "))
    assert spec.secrets == ("HF_TOKEN",)
    assert spec.tags == ("baseline", "vit", "small")
    assert spec.note == "why"
    assert draft.problems() == {}


def test_a_form_that_is_left_alone_asks_for_nothing_special() -> None:
    spec = Draft(code="/code", script="a.py").spec()
    assert (spec.limits.cpus, spec.limits.memory_bytes, spec.limits.stop_after_s) == (None, None, None)
    assert (spec.env, spec.mounts, spec.secrets, spec.gpus.uuids, spec.tags) == ((), (), (), (), ())
    assert spec.image.requirements is None


def test_an_emptied_list_of_packages_is_a_list() -> None:
    assert Draft(code="/code", requirements="\n# none\n").spec().image.requirements == ()


@pytest.mark.parametrize(
    ("code", "is_url"),
    [
        ("https://example.org/a/b.git", True),
        ("ssh://git@example.org/a/b", True),
        ("git@example.org:a/b.git", True),
        ("  https://example.org/a ", True),
        ("/home/me/code", False),
        ("~/code", False),
        ("C:\\code", False),
        ("git@home", False),
        ("", False),
    ],
)
def test_urls_are_told_from_folders(code: str, is_url: bool) -> None:
    draft = Draft(code=code, ref=" main ", subfolder=" /a/b/ ", travel="mounted")
    assert draft.is_url is is_url
    source = draft.source()
    if is_url:
        assert (source.url, source.folder, source.ref, source.subfolder) == (code.strip(), "", "main", "a/b")
        assert source.travel is Travel.BAKED
        assert replace(draft, travel="cloned").source().travel is Travel.CLONED
    else:
        assert (source.url, source.folder, source.ref) == ("", code.strip(), "")
        assert source.travel is Travel.MOUNTED


def test_own_dockerfile_and_existing_image() -> None:
    own = Draft(code="/code", framework=OWN_DOCKERFILE, dockerfile=" docker/Dockerfile ")
    assert own.spec().image.dockerfile == "docker/Dockerfile"
    assert replace(own, dockerfile=" ").spec().image.dockerfile == "Dockerfile"
    image = Draft(framework=EXISTING_IMAGE, image=" repo/name:1 ", more="python -V")
    assert (image.spec().image.image, image.spec().image.dockerfile) == ("repo/name:1", "")
    assert image.is_complete
    assert image.spec().command == ("python", "-V")
    # What was typed for another kind of image says nothing about this one.
    assert replace(image, requirements="no, requirement!").problems() == {}


@pytest.mark.parametrize(
    ("changed", "is_complete"),
    [
        ({"code": "/x"}, True),
        ({"code": "  "}, False),
        ({"framework": EXISTING_IMAGE}, False),
        ({"framework": EXISTING_IMAGE, "image": " "}, False),
        ({"framework": EXISTING_IMAGE, "image": "x"}, True),
        ({"framework": OWN_DOCKERFILE}, False),
    ],
)
def test_what_is_enough_for_a_plan(changed: dict[str, Any], is_complete: bool) -> None:
    assert Draft(**changed).is_complete is is_complete


# ── what is wrong with it ──────────────────────────────────────────────────────────────────────────────────────────

WRONG = [
    ({"code": " "}, "code.folder", "Choose the code"),
    ({"more": "--name 'open"}, "command", "not closed"),
    ({"framework": EXISTING_IMAGE}, "image.image", "Name the image"),
    ({"requirements": "numpy\nnot ok"}, "image.requirements", "Line 2"),
    ({"cpus": "many"}, "limits.cpus", "many"),
    ({"cpus": "0"}, "limits.cpus", "0"),
    ({"cpus": "nan"}, "limits.cpus", "nan"),
    ({"memory": "lots"}, "limits.memory_bytes", "lots"),
    ({"memory": "0g"}, "limits.memory_bytes", "0g"),
    ({"memory": "9" * 400}, "limits.memory_bytes", "999"),
    ({"shm": "-1g"}, "limits.shm_bytes", "-1g"),
    ({"stop_after": "soon"}, "limits.stop_after_s", "soon"),
    ({"stop_after": "9" * 400 + "d"}, "limits.stop_after_s", "999"),
    ({"env": (("", "value"),)}, "env", "value"),
    ({"env": (("A=B", "1"),)}, "env", "A=B"),
    ({"env": (("A", "\0"),)}, "env", "A"),
    ({"secrets": ("1TOKEN",)}, "secrets", "1TOKEN"),
    ({"secrets": ("GOOD", "a-b")}, "secrets", "a-b"),
    ({"mounts": (MountDraft(target="/data"),)}, "mounts", "The folder here is missing"),
    ({"mounts": (MountDraft(source="/data"),)}, "mounts", "/data"),
    ({"mounts": (MountDraft(source="/a", target="b"),)}, "mounts", "b"),
    ({"mounts": (MountDraft(source="/a:b", target="/b"),)}, "mounts", "colon"),
    ({"mounts": (MountDraft(source="/a", target="/b:rw"),)}, "mounts", "colon"),
    ({"mounts": (MountDraft(source="~nobody-of-that-name/x", target="/x"),)}, "mounts", "is not known"),
]


@pytest.mark.parametrize(("changed", "field", "words"), WRONG)
def test_every_error_names_its_field(changed: dict[str, Any], field: str, words: str) -> None:
    draft = replace(PLAIN, **changed)
    with pytest.raises(RequestError) as caught:
        draft.spec()
    assert caught.value.field == field
    assert words in str(caught.value)
    assert draft.problems() == {field: str(caught.value)}


def test_all_that_is_wrong_is_told_at_once() -> None:
    draft = replace(PLAIN, more="'", cpus="x", memory="x", shm="x", stop_after="x", secrets=("-",))
    draft = value(
        replace(draft, env=(("", "v"),), mounts=(MountDraft(source="a"),), requirements="?"), LR, "x"
    )
    assert set(draft.problems()) == {
        "command",
        "limits.cpus",
        "limits.memory_bytes",
        "limits.shm_bytes",
        "limits.stop_after_s",
        "secrets",
        "env",
        "mounts",
        "image.requirements",
        "parameters.--lr",
    }


def test_a_wrong_parameter_is_told_but_asks_for_a_run_nonetheless() -> None:
    # A plan is made while a value is half typed; the button that launches waits for the value.
    draft = value(value(PLAIN, LR, "fast"), BATCH, "2.5")
    assert draft.wrong_values() == {
        "--lr": "A number is needed.",
        "--batch-size": "A whole number is needed.",
    }
    assert set(draft.problems()) == {"parameters.--lr", "parameters.--batch-size"}
    assert draft.spec().command[2:] == ("--lr", "fast", "--batch-size", "2.5")


def test_a_missing_value_is_wrong_only_where_it_is_needed() -> None:
    draft = Draft(code="/code", script="a.py", arguments=(DATA, WHAT, BEAM)).with_value(BEAM, "x")
    assert draft.wrong_values() == {"data": "The script needs a value."}
    assert draft.with_value(WHAT, "test").wrong_values() == {
        "data": "The script needs a value.",
        "test --beam": "A whole number is needed.",
    }


def test_lines_that_are_no_requirements() -> None:
    text = "numpy==2.1\n\n  # why\nnot ok\ntorch>=2,<3 # fast\n-r more.txt\na @ https://x.org/a#egg=a\n??"
    draft = Draft(code="/code", requirements=text)
    found = draft.requirement_problems()
    assert [problem.line for problem in found] == [4, 6, 8]
    assert "not ok" in found[0].message
    assert "pip" in found[1].try_this
    assert "name==1.2.3" in found[2].try_this
    assert Draft(code="/code").requirement_problems() == ()


@given(
    texts=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            [
                "name", "code", "ref", "subfolder", "requirements", "system_packages", "script", "more", "cpus",
                "memory", "shm", "stop_after", "tags", "note", "dockerfile", "image",
            ],
            st.text(max_size=12),
        ),
    ),
    framework=st.sampled_from(["python", OWN_DOCKERFILE, EXISTING_IMAGE]),
    mounts=st.lists(st.builds(MountDraft, source=st.text(max_size=8), target=st.text(max_size=8)), max_size=2),
    env=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=2),
    secrets=st.lists(st.text(max_size=5), max_size=2),
)  # fmt: skip
def test_whatever_is_typed_is_a_run_or_an_error_beside_a_field(
    texts: dict[str, str],
    framework: str,
    mounts: list[MountDraft],
    env: list[tuple[str, str]],
    secrets: list[str],
) -> None:
    draft = Draft(
        **{"code": "/code", **texts},  # type: ignore[arg-type]
        framework=framework,
        mounts=tuple(mounts),
        env=tuple(env),
        secrets=tuple(secrets),
    )
    problems = draft.problems()
    assert "" not in problems
    assert all(problems.values())
    told: dict[str, str] = {}
    try:
        draft.spec()
    except RequestError as error:
        told[error.field] = str(error)
    assert bool(told) == bool(problems)
    assert told.items() <= problems.items()


# ── the script's arguments ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_value_is_kept_until_it_is_its_default_again() -> None:
    draft = value(value(PLAIN, LR, "0.5"), BATCH, "64")
    assert draft.values == (("--lr", "0.5"), ("--batch-size", "64"))
    assert (draft.value_of(LR), draft.value_of(BATCH), draft.value_of(AMP)) == ("0.5", "64", "off")
    draft = value(draft, LR, "0.1")
    assert draft.values == (("--batch-size", "64"),)
    assert draft.value_of(LR) == "0.1"
    assert PLAIN.values == ()


def test_changes_are_told_in_the_order_of_the_form() -> None:
    draft = value(value(value(PLAIN, AMP, "on"), BATCH, "64"), LR, "0.5")
    assert draft.changes() == (
        Change(name="--lr", default="0.1", value="0.5"),
        Change(name="--batch-size", default="32", value="64"),
        Change(name="--amp", default="off", value="on"),
    )
    assert PLAIN.changes() == ()


def test_changes_of_another_subcommand_are_kept_but_do_not_count() -> None:
    draft = Draft(code="/c", script="a.py", arguments=(WHAT, BEAM)).with_value(BEAM, "4")
    assert draft.changes() == ()
    assert draft.shown_arguments() == (WHAT,)
    draft = draft.with_value(WHAT, "test")
    assert [change.value for change in draft.changes()] == ["test", "4"]
    assert draft.command() == ("python", "a.py", "test", "--beam", "4")
    assert draft.parameters() == (("what", "test"), ("beam", "4"))


def test_another_script_keeps_the_values_that_both_know() -> None:
    draft = value(value(value(PLAIN, LR, "0.5"), BATCH, "64"), AMP, "on")
    other_lr = replace(LR, default="0.3")
    draft = draft.with_arguments((other_lr, AMP))
    assert draft.values == (("--lr", "0.5"), ("--amp", "on"))
    assert draft.value_of(other_lr) == "0.5"
    assert draft.arguments == (other_lr, AMP)


@pytest.mark.parametrize(
    "other",
    [
        Argument(name="lr", flag="--lr", kind="flag", default="off"),
        Argument(name="lr", flag="--lr", kind="choice", default="low", choices=("low", "high")),
        Argument(name="lr", flag="--lr", kind="float", default="0.5"),
    ],
    ids=["flag", "choice", "default"],
)
def test_a_value_that_the_other_script_cannot_take_is_dropped(other: Argument) -> None:
    draft = value(PLAIN, LR, "0.5").with_arguments((other,))
    assert draft.values == ()
    assert draft.command() == ("python", "train.py")
    assert draft.changes() == ()
    assert draft.wrong_values() == {}
    assert len(draft.parameters()) == 1


def test_parameters_hold_defaults_and_plain_words_for_flags() -> None:
    draft = value(value(PLAIN, AMP, "on"), SIZE, "m")
    assert draft.parameters() == (("lr", "0.1"), ("batch_size", "32"), ("amp", "true"), ("size", "m"))


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("", ()),
        ("--a 1", ("--a", "1")),
        ("'two words' \"and 'more'\"", ("two words", "and 'more'")),
        ("a\\ b", ("a b",)),
        ("$HOME `ls` *.py ; rm", ("$HOME", "`ls`", "*.py", ";", "rm")),
        ("''", ("",)),
        ("x#y # z", ("x#y", "#", "z")),
    ],
)
def test_further_words_are_split_as_in_a_shell(more: str, words: tuple[str, ...]) -> None:
    assert replace(PLAIN, more=more).command() == ("python", "train.py", *words)


@given(st.lists(st.text(max_size=8), max_size=4))
def test_any_quoted_word_arrives(words: list[str]) -> None:
    assert Draft(code="/c", script="a.py", more=shlex.join(words)).command() == ("python", "a.py", *words)


def test_without_a_script_the_further_words_are_the_command() -> None:
    draft = Draft(
        code="/code", script=" ", more="bash -c 'echo hi'", arguments=(LR,), values=(("--lr", "1"),)
    )
    assert draft.command() == ("bash", "-c", "echo hi")


# ── what was typed or dropped as code ──────────────────────────────────────────────────────────────────────────────


def test_a_file_is_the_script_in_its_folder(tmp_path: Path) -> None:
    script = tmp_path / "my train.py"
    script.touch()
    (tmp_path / "data.csv").touch()
    assert folder_and_script(str(script)) == (str(tmp_path), "my train.py")
    assert folder_and_script(str(tmp_path / "data.csv")) == (str(tmp_path), "")
    assert folder_and_script(str(tmp_path)) == (str(tmp_path), "")


def test_a_file_at_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "train.py").touch()
    assert folder_and_script("~/train.py") == (str(tmp_path), "train.py")


@pytest.mark.parametrize(
    "text",
    ["", "/no/such/place", "~/no such", "~nobody-of-that-name/x", "a" * 5000, "a\0b", "\ud800"],
    ids=range(7),
)
def test_what_is_no_file_stays_as_it_was_typed(text: str) -> None:
    assert folder_and_script(text) == (text, "")
