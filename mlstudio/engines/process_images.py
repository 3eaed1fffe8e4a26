"""What the process engine has for images: virtual environments, one for each set of requirements, and copies of code.

``environments/<key>`` is an environment (the key is a hash of what is installed in it), shared by every "image" that
needs the same; ``images/<hash>`` is one image: ``image.json`` and, where code is baked in, its copy.
"""

from __future__ import annotations

import codecs
import configparser
import fcntl
import hashlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from mlstudio.engines.build_failure import StepFailed
from mlstudio.engines.engine import MANAGED_LABEL, BuildContext
from mlstudio.model.errors import Cancelled, NotFound, RequestError, WorldError
from mlstudio.model.image import (
    BuildEvent,
    BuildFinished,
    BuildOutput,
    BuildStep,
    Cached,
    LayerForecast,
    LayerKind,
    Package,
    Recipe,
    StepState,
)
from mlstudio.model.launch import EngineImage

_LOOK_EVERY_S = 0.2
_TAIL_CHARACTERS = 64 * 1024
_TAIL_LINES = 40
_MANAGED = ((MANAGED_LABEL, "1"), ("mlstudio.process", "1"))
_LIST_PACKAGES = """
import json
from importlib.metadata import distributions
print(json.dumps(sorted({(d.metadata["Name"], d.version) for d in distributions() if d.metadata["Name"]})))
"""
# A user's own settings of Python would reach into the environment.
_NOT_FOR_PIP = frozenset(
    {
        "PYTHONPATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_USER",
        "PIP_REQUIRE_VIRTUALENV",
    }
)


class ProcessImages:
    """Environments and code in a folder. Thread-safe; several processes may share the folder."""

    def __init__(self, root: Path) -> None:
        self._environments = root / "environments"
        self._images = root / "images"

    # -- what is there ------------------------------------------------------------------------------------------

    def list(self) -> Sequence[EngineImage]:
        """All images, newest first."""
        if not self._images.is_dir():
            return ()
        found = [self._load(folder) for folder in self._images.iterdir()]
        return sorted((image for image in found if image is not None), key=lambda image: -image.created)

    def get(self, reference: str) -> EngineImage | None:
        """The image of that ID or tag."""
        for image in self.list():
            if reference and (reference == image.id or reference in image.tags):
                return image
        return None

    def environment(self, image_id: str) -> Path:
        """The folder of the image's virtual environment."""
        return self._environments / str(self._facts(image_id).get("environment", ""))

    def python(self, image_id: str) -> Path:
        return self.environment(image_id) / "bin" / "python"

    def code(self, image_id: str) -> Path | None:
        """The copy of the code, if one is baked in."""
        folder = self._folder(image_id) / "code"
        return folder if folder.is_dir() else None

    def remove(self, reference: str) -> None:
        """Remove an image, and its environment if no other one uses it. Raises NotFound."""
        image = self.get(reference)
        if image is None:
            raise NotFound(f"There is no environment “{reference}” on this machine.", field="image")
        key = str(self._facts(image.id).get("environment", ""))
        shutil.rmtree(self._folder(image.id), ignore_errors=True)
        if key and all(self._facts(other.id).get("environment") != key for other in self.list()):
            with self._alone(key):
                shutil.rmtree(self._environments / key, ignore_errors=True)

    def packages(self, image_id: str) -> tuple[Package, ...]:
        """The environment's packages, as its own Python lists them."""
        try:
            done = subprocess.run(
                [str(self.python(image_id)), "-I", "-c", _LIST_PACKAGES],
                capture_output=True,
                check=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
            )
            found = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            return ()
        return tuple(Package(name=str(name), version=str(version)) for name, version in found)

    def _folder(self, image_id: str) -> Path:
        return self._images / image_id.removeprefix("sha256:")

    def _facts(self, image_id: str) -> Mapping[str, Any]:
        return _read(self._folder(image_id) / "image.json")

    def _load(self, folder: Path) -> EngineImage | None:
        facts = _read(folder / "image.json")
        if not facts or not (self._environments / str(facts.get("environment")) / "complete.json").exists():
            return None
        return EngineImage(
            id=f"sha256:{folder.name}",
            tags=tuple(facts.get("tags", ())),
            size_bytes=int(facts.get("size_bytes", 0)),
            created=float(facts.get("created", 0.0)),
            labels=(*_MANAGED, *((str(name), str(value)) for name, value in facts.get("labels", ()))),
            workdir=str(facts.get("workdir", "/work")),
            env=tuple((str(name), str(value)) for name, value in facts.get("env", ())),
        )

    # -- building -----------------------------------------------------------------------------------------------

    def build(
        self, recipe: Recipe, context: BuildContext, *, cancelled: Callable[[], bool], no_cache: bool
    ) -> Iterator[BuildEvent]:
        """See `CanBuild.build`: make the environment, install the packages, copy the code."""
        if recipe.spec.dockerfile or recipe.spec.image:
            raise RequestError(
                "The process engine cannot build from a Dockerfile or use an image.",
                field="image.dockerfile" if recipe.spec.dockerfile else "image.image",
                try_this="Use a container engine, or choose a framework.",
            )
        key = environment_key(recipe)
        with self._alone(key, stop=lambda: _stop_if(cancelled)):
            folder = self._environments / key
            is_there = (folder / "complete.json").exists() and not no_cache
            if is_there:
                for number, name in ((1, "make the environment"), (2, _install_name(recipe))):
                    yield _step(number, name, StepState.CACHED)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                try:
                    yield from self._make(folder, recipe, context, cancelled)
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
            yield from self._copy(key, recipe, context, cancelled)

    def _make(
        self, folder: Path, recipe: Recipe, context: BuildContext, cancelled: Callable[[], bool]
    ) -> Iterator[BuildEvent]:
        base, note = _find_python(recipe.python)
        make = _step(1, "make the environment", StepState.RUNNING)
        if note:
            yield BuildOutput(step_id=make.id, text=note + "\n")
        yield from _run(make, [base, "-m", "venv", str(folder)], dict(os.environ), cancelled)
        requirements = folder / "requirements.txt"
        requirements.write_text("".join(f"{line}\n" for line in recipe.requirements), encoding="utf-8")
        install = _step(2, _install_name(recipe), StepState.RUNNING)
        if not recipe.requirements:
            yield replace(install, state=StepState.DONE, ended=time.time())
        else:
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--progress-bar=off"]
            command += ["--no-input", "-r", str(requirements)]
            with _pip_environment(recipe, context) as env:
                yield from _run(install, command, env, cancelled)
        (folder / "complete.json").write_text(json.dumps({"size_bytes": _size(folder)}), encoding="utf-8")

    def _copy(
        self, key: str, recipe: Recipe, context: BuildContext, cancelled: Callable[[], bool]
    ) -> Iterator[BuildEvent]:
        image_id = _image_id(recipe)
        folder = self._folder(image_id)
        step = _step(3, "copy the code", StepState.RUNNING)
        if (folder / "image.json").exists() and self._facts(image_id).get("environment") == key:
            yield replace(step, state=StepState.CACHED, ended=time.time())
        else:
            yield step
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "code").mkdir(parents=True)
            if recipe.code_in_context and context.root is not None:
                for path in context.files:
                    _stop_if(cancelled)
                    _copy_file(context.root / path, folder / "code" / path)
            else:
                (folder / "code").rmdir()
            yield replace(step, state=StepState.DONE, ended=time.time())
        size = int(_read(self._environments / key / "complete.json").get("size_bytes", 0)) + _size(folder)
        facts = {
            "tags": [recipe.tag],
            "environment": key,
            "size_bytes": size,
            "created": time.time(),
            "workdir": recipe.workdir,
            "env": list(recipe.spec.env),
            "labels": [*recipe.labels, ("mlstudio.recipe", recipe.digest)],
        }
        (folder / "image.json.new").write_text(json.dumps(facts), encoding="utf-8")
        (folder / "image.json.new").replace(folder / "image.json")
        yield BuildFinished(image_id=image_id, size_bytes=size)

    def forecast(self, recipe: Recipe) -> tuple[LayerForecast, ...]:
        """See `CanBuild.forecast`."""
        has_environment = (self._environments / environment_key(recipe) / "complete.json").exists()
        has_code = (self._folder(_image_id(recipe)) / "image.json").exists()

        def cached(kind: LayerKind) -> bool:
            if kind is LayerKind.CODE:
                return has_code
            # What a Dockerfile needs besides has nothing to do here.
            return has_environment or kind not in (LayerKind.FRAMEWORK, LayerKind.DEPENDENCIES)

        return tuple(
            LayerForecast(layer=layer, cached=Cached.YES)
            if cached(layer.kind)
            else LayerForecast(layer=layer, cached=Cached.NO, because="first build")
            for layer in recipe.layers
        )

    @contextmanager
    def _alone(self, key: str, *, stop: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the environment's lock: one builder at a time, in all processes."""
        self._environments.mkdir(parents=True, exist_ok=True)
        with (self._environments / f"{key}.lock").open("wb") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    stop()
                    time.sleep(_LOOK_EVERY_S / 4)
            yield


def environment_key(recipe: Recipe) -> str:
    """Names an environment after everything that is installed in it."""
    text = json.dumps([recipe.python, sys.version_info[:2], recipe.index_url, *recipe.requirements])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _image_id(recipe: Recipe) -> str:
    return "sha256:" + hashlib.sha256(f"process {recipe.digest}".encode()).hexdigest()


def _step(number: int, name: str, state: StepState) -> BuildStep:
    now = time.time()
    return BuildStep(
        id=f"process-{number}",
        name=f"[{number}/3] {name}",
        state=state,
        started=now,
        ended=None if state is StepState.RUNNING else now,
    )


def _install_name(recipe: Recipe) -> str:
    return f"pip install {' '.join(recipe.requirements[:4])}{' …' if len(recipe.requirements) > 4 else ''}".strip()


def _find_python(wanted: str) -> tuple[str, str]:
    """(program, note): the Python that the recipe wants, else this program's own or the system's, and a note of it."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    is_packed = bool(getattr(sys, "frozen", False))
    if not is_packed and wanted in ("", own):
        return sys.executable, ""
    exact = shutil.which(f"python{wanted}") if wanted else None
    if exact:
        return exact, ""
    found = shutil.which("python3") if is_packed else sys.executable
    if not found:
        raise WorldError(
            "There is no Python on this machine to make an environment with.",
            try_this="sudo apt install python3-venv",
        )
    return found, f"Python {wanted} is not installed on this machine; {found} is used instead."


@contextmanager
def _pip_environment(recipe: Recipe, context: BuildContext) -> Iterator[dict[str, str]]:
    """The environment for pip: this machine's own settings, and over them those that the build's mounts hold.

    The mounts are made for a container; a certificate and wheels are used where they lie on this machine.
    """
    env = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_PIP}
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1", **dict(context.build_args)}
    options = _pip_options(context)
    if recipe.index_url:
        known = options.get("extra-index-url") or env.get("PIP_EXTRA_INDEX_URL", "")
        options["extra-index-url"] = "\n    ".join([*known.split(), recipe.index_url])
    for name in options:
        env.pop("PIP_" + name.upper().replace("-", "_"), None)
    # A file that only we can read: an index's address may hold a password, and arguments can be seen by everyone.
    with tempfile.TemporaryDirectory(prefix="mlstudio-pip-") as folder:
        path = Path(folder) / "pip.conf"
        path.write_text(
            "[global]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()), "utf-8"
        )
        yield {**env, "PIP_CONFIG_FILE": str(path)}


def _pip_options(context: BuildContext) -> dict[str, str]:
    """What the build's mount of pip's settings says, with paths of this machine."""
    files = {name: path for mount in context.mounts for name, path in mount.files}
    settings = files.get("pip.conf")
    parser = configparser.RawConfigParser()
    if settings is None:
        return {}
    try:
        parser.read(settings, encoding="utf-8")
    except configparser.Error:
        return {}
    options = dict(parser.items("global")) if parser.has_section("global") else {}
    if "cert" in options:
        options["cert"] = str(files.get(PurePosixPath(options["cert"]).name, options["cert"]))
    wheels = {str(path.parent) for name, path in files.items() if name.endswith((".whl", ".tar.gz", ".zip"))}
    if "find-links" in options:
        options["find-links"] = "\n    ".join(sorted(wheels))
    return options


def _run(
    step: BuildStep, command: Sequence[str], env: Mapping[str, str], cancelled: Callable[[], bool]
) -> Iterator[BuildEvent]:
    """Run a program as a build step with live output. Raises StepFailed, Cancelled."""
    yield step
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    tail = ""
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if cancelled():
                    yield replace(step, state=StepState.CANCELLED, ended=time.time())
                    _stop_if(cancelled)
                if not selector.select(_LOOK_EVERY_S):
                    continue
                data = os.read(process.stdout.fileno(), 64 * 1024)
                if not data:
                    break
                text = decode(data)
                tail = (tail + text)[-_TAIL_CHARACTERS:]
                yield BuildOutput(step_id=step.id, text=text)
        code = process.wait()
    finally:
        process.stdout.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code == 0:
        yield replace(step, state=StepState.DONE, ended=time.time())
        return
    exit_text = f"exit code: {code}"
    yield replace(step, state=StepState.FAILED, ended=time.time(), error=exit_text)
    is_venv = "ensurepip" in tail
    raise StepFailed(
        f"The step “{step.name}” failed.",
        step=step.name,
        log="\n".join(tail.splitlines()[-_TAIL_LINES:]),
        exit_text=exit_text,
        try_this="sudo apt install python3-venv" if is_venv else "",
    )


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("The build was cancelled.")


def _copy_file(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    except OSError as error:
        raise WorldError(
            f"The file {source} could not be copied.",
            why=f"{error.strerror or error}.",
            try_this="Make it readable, or leave it out with a line in .dockerignore.",
            can_retry=True,
        ) from error


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_blocks * 512
            except OSError:
                continue
    return total


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
