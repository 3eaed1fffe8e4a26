"""A Docker engine of the tests' own, that may be stopped and killed: the machine's is shared."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import zlib
from pathlib import Path

from tests.conftest import wait_until

_FLAGS = (
    "--iptables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--storage-driver=overlay2",
)
_LOG = ("--log-opt=max-size=1m", "--log-opt=max-file=2")


class SecondEngine:
    """A dockerd with its own socket, containers and images. Needs root. Steps of a build need a `bridge`."""

    def __init__(self, folder: Path, *, bridge: str = "none", options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self._options = options
        self._network = "--bridge=none" if bridge == "none" else f"--bip={bridge}"
        self._namespace = f"mlstudio-tests-{zlib.crc32(bytes(folder)):08x}"
        self.url = f"unix://{folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        for pid_file in (self.folder / "docker.pid", self.folder / "exec" / "containerd" / "containerd.pid"):
            pid_file.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # In a network namespace of its own: dockerd without a bridge removes docker0, the shared engine's.
                    "unshare", "--net", "--",
                    shutil.which("dockerd") or "/usr/sbin/dockerd", "-H", self.url, *(self._options or _LOG), *_FLAGS,
                    self._network,
                    f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec",
                    f"--pidfile={self.folder}/docker.pid",
                    # Where the system runs a containerd of its own, dockerd uses that one.
                    f"--containerd-namespace={self._namespace}", f"--containerd-plugins-namespace={self._namespace}-p",
                ],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        assert wait_until(lambda: self.docker("version").returncode == 0, deadline_s=60), (
            self.folder / "log"
        ).read_text()[-4000:]

    def docker(self, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["docker", "-H", self.url, *words], input=data, capture_output=True, check=False
        )

    def kill(self) -> None:
        """End it as a power cut would: nothing is said, nothing is tidied up."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it in good order; it ends its containers first."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def clean(self) -> None:
        """Start it if it was killed, so that its containers can be ended; then stop it."""
        if self._process is None:
            self.start()
        found = self.docker("ps", "-aq").stdout.split()
        if found:
            self.docker("rm", "-f", *(handle.decode() for handle in found))
        self.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        shutil.rmtree(self.folder / "exec", ignore_errors=True)
