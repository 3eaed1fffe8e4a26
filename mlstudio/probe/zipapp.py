"""The probe as one file: a zipapp that is started in the container and that user code imports `mlstudio` from."""

from __future__ import annotations

import functools
import io
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
from mlstudio.probe.supervisor import main
sys.exit(main(sys.argv[1]))
"""

_BUILD_ONLY = ("zipapp.py",)


@functools.lru_cache(maxsize=1)
def build_probe() -> bytes:
    """The zipapp's bytes: the same for the same sources."""
    package = Path(__file__).resolve().parent
    files = {
        "__main__.py": _MAIN.encode(),
        "mlstudio/__init__.py": (package.parent / "__init__.py").read_bytes(),
    }
    for source in sorted(package.glob("*.py")):
        if source.name not in _BUILD_ONLY:
            files["mlstudio/probe/" + source.name] = source.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()
