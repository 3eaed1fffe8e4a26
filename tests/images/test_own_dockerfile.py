"""Your own Dockerfile: taken as it stands, shown instruction by instruction, and never from outside the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.images.catalogue import load_catalogue
from mlstudio.images.own_dockerfile import base_reference, split_instructions
from mlstudio.images.recipe import write_recipe
from mlstudio.model.code import CodeSnapshot, CodeSource, Travel
from mlstudio.model.errors import RequestError
from mlstudio.model.image import Dependencies, ImageSpec, LayerKind, PipSettings, Recipe

MULTI_STAGE = """\
# syntax=docker/dockerfile:1
ARG PYTHON=3.11
FROM --platform=linux/amd64 python:${PYTHON}-slim AS build
# a comment
RUN apt-get update && \\
    # a comment inside

    apt-get install --yes gcc && \\
    true

COPY requirements.txt /
run pip install -r /requirements.txt
FROM python:${PYTHON}-slim
COPY --from=build /opt /opt
ADD . /app
RUN <<EOF
FROM nowhere
USER root
EOF
USER 1000
WORKDIR /app
CMD ["python", "train.py"]
"""


def own(
    root: Path,
    *,
    dockerfile: str = "Dockerfile",
    tree: str = "1",
    travel: Travel = Travel.BAKED,
    snapshot: bool = True,
    text: str | None = None,
) -> Recipe:
    return write_recipe(
        ImageSpec(dockerfile=dockerfile),
        CodeSource(folder=str(root), travel=travel),
        CodeSnapshot(tree_hash=f"sha256:{tree}", files=("Dockerfile",), size_bytes=1) if snapshot else None,
        catalogue=load_catalogue(),
        dependencies=Dependencies(requirements=("never-used",)),
        pip=PipSettings(index_url="https://me:hunter2@pypi.example.org"),
        base_map={"python:3.11": "never-used"},
        name="mine",
        dockerfile_text=text,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "Dockerfile").write_text(MULTI_STAGE)
    return folder


def test_it_is_taken_byte_for_byte(root: Path) -> None:
    recipe = own(root)
    assert recipe.dockerfile == MULTI_STAGE
    assert recipe.context_files == ()
    assert (recipe.requirements, recipe.python, recipe.smoke_import) == ((), "", "")
    assert recipe.code_in_context


def test_its_instructions_are_the_layers(root: Path) -> None:
    recipe = own(root)
    assert [layer.text.split()[0].upper() for layer in recipe.layers] == [
        "ARG", "FROM", "RUN", "COPY", "RUN", "FROM", "COPY", "ADD", "RUN", "USER", "WORKDIR", "CMD",
    ]  # fmt: skip
    kinds = [layer.kind for layer in recipe.layers]
    assert [index for index, kind in enumerate(kinds) if kind is LayerKind.BASE] == [1, 5]
    assert [index for index, kind in enumerate(kinds) if kind is LayerKind.CODE] == [3, 6, 7]
    assert all(layer.text in recipe.dockerfile for layer in recipe.layers)


def test_the_base_is_named_without_options_and_stage(root: Path) -> None:
    assert own(root).base == "python:${PYTHON}-slim"
    assert own(root, text="from  a/b:1  as  x\n").base == "a/b:1"
    assert own(root, text="FROM --platform=$BUILDPLATFORM \\\n  a@sha256:00 AS x\n").base == "a@sha256:00"


def test_an_edit_of_the_code_rebuilds_from_the_first_copy_on(root: Path) -> None:
    first, second = own(root), own(root, tree="2")
    same = [one.key == other.key for one, other in zip(first.layers, second.layers, strict=True)]
    assert same == [True, True, True] + [False] * 9
    assert first.digest != second.digest


def test_the_folder_of_the_image_is_its_own_unless_the_code_is_bound_into_it(root: Path) -> None:
    assert own(root).workdir == ""
    assert own(root, travel=Travel.MOUNTED).workdir == "/work"


# -- which file it may be


def test_a_file_in_a_folder_of_the_code_is_found(root: Path) -> None:
    (root / "docker").mkdir()
    (root / "docker" / "gpu.Dockerfile").write_text("FROM cuda\n")
    assert own(root, dockerfile="docker/gpu.Dockerfile").base == "cuda"
    assert own(root, dockerfile="./docker/../docker/gpu.Dockerfile").base == "cuda"


@pytest.mark.parametrize("name", ["../secret", "docker/../../secret", "{full}", "link"])
def test_a_file_outside_the_code_is_refused_and_not_shown(root: Path, name: str) -> None:
    secret = root.parent / "secret"
    secret.write_text("FROM hunter2\n")
    (root / "link").symlink_to(secret)
    with pytest.raises(RequestError, match="outside the code") as refused:
        own(root, dockerfile=name.format(full=secret))
    assert refused.value.field == "image.dockerfile"
    assert "hunter2" not in f"{refused.value} {refused.value.why}"


def test_a_missing_file_is_named(root: Path) -> None:
    with pytest.raises(RequestError, match=r"Dockerfile\.gpu cannot be read") as refused:
        own(root, dockerfile="Dockerfile.gpu")
    assert (refused.value.field, refused.value.why) == ("image.dockerfile", "No such file or directory")


@pytest.mark.parametrize("damage", ["folder", "binary"])
def test_what_is_no_text_file_is_refused(root: Path, damage: str) -> None:
    (root / "folder").mkdir()
    (root / "binary").write_bytes(b"FROM x\n\xff\xfe")
    with pytest.raises(RequestError, match="cannot be read") as refused:
        own(root, dockerfile=damage)
    assert refused.value.why


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# FROM python\n", "RUN true\n", "RUN <<E\nFROM a\nE\n", "RUN a \\\nFROM b\n"]
)
def test_a_file_without_from_is_refused(root: Path, text: str) -> None:
    with pytest.raises(RequestError, match="no FROM line") as refused:
        own(root, text=text)
    assert refused.value.field == "image.dockerfile"


def test_it_needs_its_folder(root: Path) -> None:
    with pytest.raises(RequestError, match="needs the folder") as refused:
        own(root, snapshot=False)
    assert refused.value.field == "code.folder"


# -- how it is read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from a\nrun b", ["FROM", "RUN"]),
        ("\ufeffFROM a\r\nRUN b\r\n", ["FROM", "RUN"]),
        ("# escape=`\nFROM a\nRUN b `\n  c\\\nUSER d\n", ["FROM", "RUN", "USER"]),
        ("# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nCOPY b `\n  c\n", ["FROM", "COPY"]),
        ("# any words\n# escape=`\nFROM a\nCOPY b \\\n  c\n", ["FROM", "COPY"]),
        ("# syntax = a b\n# Escape = `\nFROM a\nCOPY b `\n  c\n", ["FROM", "COPY"]),
        ("# escape=x\nFROM a\nCOPY b \\\n  c\n", ["FROM", "COPY"]),
        ("FROM a\nRUN b \\  \n  c\n", ["FROM", "RUN"]),
        ("FROM a\nRUN b \\\n\n# x\n\n  && c\nUSER d\n", ["FROM", "RUN", "USER"]),
        ("FROM a\nRUN <<EOF\nUSER b\nEOF\nUSER c\n", ["FROM", "RUN", "USER"]),
        ("FROM a\nRUN python3 <<-'END' > /x\n  import x\n\tEND\nUSER c\n", ["FROM", "RUN", "USER"]),
        ("FROM a\nCOPY <<one <<two /x/\n1\none\n2\ntwo\nUSER c\n", ["FROM", "COPY", "USER"]),
        ("FROM a\nRUN cat <<<\"b\"\nUSER c\n", ["FROM", "RUN", "USER"]),
        ("FROM a\nRUN cat <<<b\nUSER c\n", ["FROM", "RUN", "USER"]),
        ("FROM a\nRUN echo $((1<<BITS))\nUSER c\n", ["FROM", "RUN", "USER"]),
        ("FROM a\nENV A=\"x <<EOF\"\nUSER c\nEOF\n", ["FROM", "ENV", "USER", "EOF"]),
        ("FROM a\nRUN echo 'x <<NEVER'\nUSER c\n", ["FROM", "RUN", "USER"]),
        ("FROM a\nLABEL b=c\x0cd\u2028e\x85f\nUSER g\n", ["FROM", "LABEL", "USER"]),
        ("   FROM a\n\tUSER c\n", ["FROM", "USER"]),
        ("FROM a\nRUN b \\", ["FROM", "RUN"]),
    ],
)  # fmt: skip
def test_instructions_are_told_apart_as_docker_does(text: str, expected: list[str]) -> None:
    assert [keyword for keyword, _ in split_instructions(text)] == expected


def test_an_instruction_is_shown_as_it_stands() -> None:
    text = "FROM a\nRUN b && \\\n    # why\n    c\nUSER d\n"
    assert split_instructions(text) == (
        ("FROM", "FROM a"),
        ("RUN", "RUN b && \\\n    # why\n    c"),
        ("USER", "USER d"),
    )


LINES = st.sampled_from(
    [
        "FROM a",
        "RUN b \\",
        "  c",
        "# x",
        "",
        "RUN <<EOF",
        "EOF",
        "# escape=`",
        "COPY a `",
        "USER 1",
        "\\",
        "<<",
        "\x0c",
    ]
)


@given(text=st.one_of(st.lists(LINES, max_size=12).map("\n".join), st.text(max_size=80)))
def test_every_text_is_taken_apart_without_loss_or_order(text: str) -> None:
    position = 0
    plain = text.replace("\r\n", "\n")
    for keyword, instruction in split_instructions(text):
        assert keyword == instruction.split()[0].upper()
        assert not instruction.lstrip().startswith("#")
        position = plain.index(instruction.removesuffix("\r"), position) + len(instruction.removesuffix("\r"))
        assert isinstance(base_reference(instruction), str)
    for line in plain[position:].split("\n"):
        assert (
            not line.strip().removeprefix("\ufeff") or line.lstrip().startswith("#") or line.strip() == "\r"
        )
