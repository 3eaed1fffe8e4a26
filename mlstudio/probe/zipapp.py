"""The probe as one file: a zipapp that is started in the container and that user code imports `mlstudio` from.

Beside each source lies its bytecode for the Python that packed it. A Python of the same version in the image starts the
probe in a third of the time; any other finds that the bytecode is not its own and compiles the source (`zipimport`
compares the magic number), so the file stays portable.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import marshal
import zipfile
from pathlib import Path

_MAIN = """\
import sys
if sys.version_info < (3, 8):
    # Too old for the probe: run the command as it is, so that the run at least happens.
    import json, os
    with open(sys.argv[1]) as file:
        config = json.load(file)
    found = "%d.%d" % sys.version_info[:2]
    sys.stderr.write("ML Studio: Python " + found + " is too old for metrics (3.8 is needed); output only.\\n")
    if config.get("secrets"):
        sys.stderr.write("ML Studio: secrets cannot be handed over without the probe.\\n")
        sys.exit(125)
    if config.get("workdir"):
        os.chdir(config["workdir"])
    os.environ.update(config.get("env") or {})
    os.execvp(config["command"][0], config["command"])
import os
from mlstudio.probe.supervisor import main
code = main(sys.argv[1])
# All was written by now; taking the interpreter down piece by piece would only keep the container, as would a thread
# that hangs in a driver.
os._exit(code)
"""

_BUILD_ONLY = ("zipapp.py",)
_AT_THE_TOP = "sitecustomize.py"
"""Python itself imports it when it starts, by this name."""
_UNCHECKED_HASH = (1).to_bytes(4, "little")
"""Flags of bytecode that is taken as it is, without a look at its source: PEP 552."""


@functools.lru_cache(maxsize=1)
def build_probe() -> bytes:
    """The zipapp's bytes: the same for the same sources and the same Python."""
    package = Path(__file__).resolve().parent
    files = {
        "__main__.py": _MAIN.encode(),
        "mlstudio/__init__.py": (package.parent / "__init__.py").read_bytes(),
    }
    for source in sorted([*package.glob("*.py"), *package.glob("hooks/*.py")]):
        if source.name == _AT_THE_TOP:
            files[source.name] = source.read_bytes()
        elif source.name not in _BUILD_ONLY:
            files["mlstudio/probe/" + source.relative_to(package).as_posix()] = source.read_bytes()
    for name, source_text in list(files.items()):
        if name != "__main__.py":
            files[name + "c"] = _bytecode(source_text, name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            # Every interpreter of a run reads this one, and unpacking takes a library of its own.
            entry.compress_type = zipfile.ZIP_STORED if name.startswith(_AT_THE_TOP) else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _bytecode(source: bytes, name: str) -> bytes:
    """The content of the module's .pyc file. Tracebacks name it as it lies in the zipapp."""
    code = compile(source, "probe.pyz/" + name, "exec", dont_inherit=True, optimize=0)
    return (
        importlib.util.MAGIC_NUMBER
        + _UNCHECKED_HASH
        + importlib.util.source_hash(source)
        # Newer versions of the format write what is shared by how often it happens to be referred to: other bytes each
        # time. https://github.com/python/cpython/issues/78274
        + marshal.dumps(code, 2)
    )
