"""`mlstudio init`: write mlstudio.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlstudio.cli.options import WithWords, code_options, image_options, json_option
from mlstudio.cli.session import session_of
from mlstudio.model.errors import RequestError
from mlstudio.services.project import FILE_NAME, Project, project_text, write_project
from mlstudio.services.wishes import Words, find_target, spec_from

_EXAMPLES = """\b
Examples:
  mlstudio init
  mlstudio init --framework pytorch --travel mounted -p lr=0.1 -p epochs=10
"""


@click.command("init", cls=WithWords, epilog=_EXAMPLES)
@click.argument("target", required=False, default="", metavar="[FOLDER|SCRIPT]")
@code_options
@image_options
@click.option("--force", is_flag=True, help="Write over the file that is there.")
@json_option
def command(target: str, force: bool, parameters: tuple[str, ...], **said: Any) -> None:
    """Write mlstudio.toml into the folder, from what is found in the code and from these options.

    `mlstudio run` reads it, and so does the window.
    """
    ctx = click.get_current_context()
    session = session_of(ctx)
    words = Words(target=target, args=ctx.meta["mlstudio.words"], heeds_project=False, **said)
    source = find_target(words).code
    if source.url:
        raise RequestError(
            "A project file is written into a folder.",
            field="code.url",
            try_this="Clone the repository first.",
        )
    folder = Path(source.folder) / source.subfolder
    if (folder / FILE_NAME).exists() and not force:
        raise RequestError(
            f"There is a {FILE_NAME} already.",
            field="project",
            try_this="Edit it, or write it anew with --force.",
        )
    spec = spec_from(session.studio, words)
    from mlstudio.services.project import parse_pairs

    project = Project(
        command=spec.command,
        framework=spec.image.framework,
        version=spec.image.version,
        variant=spec.image.variant,
        python=spec.image.python,
        travel=spec.code.travel,
        requirements=spec.image.requirements,
        system_packages=spec.image.system_packages,
        image=spec.image.image,
        dockerfile=spec.image.dockerfile,
        parameters=dict(parse_pairs(parameters, field="parameters")),
        env=dict(spec.env),
    )
    path = write_project(folder, project, overwrite=force)
    if session.wants_json:
        session.put_json({"path": path, "text": project_text(project)})
        return
    session.say(f"{path} is written. Run it with: mlstudio run")
