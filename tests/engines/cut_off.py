"""A way to the engine that can be cut off, as the network or a dying engine does."""

from __future__ import annotations

import select
import socket
import threading
from pathlib import Path


class Way:
    """A socket at `path` that passes everything on to the socket at `target` until it is cut off."""

    def __init__(self, path: Path, target: str) -> None:
        self.url = f"unix://{path}"
        self._path = path
        self._target = target
        self._is_cut = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._listener.settimeout(0.05)
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def cut(self) -> None:
        """End all connections; nobody listens any more."""
        self._is_cut.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _listen(self) -> None:
        while not self._is_cut.is_set():
            try:
                here, _ = self._listener.accept()
            except TimeoutError:
                continue
            there = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            there.connect(self._target)
            here.settimeout(5)
            thread = threading.Thread(target=self._pass_on, args=(here, there))
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        other = {here: there, there: here}
        reading = [here, there]
        with here, there:
            while reading and not self._is_cut.is_set():
                for source in select.select(reading, [], [], 0.05)[0]:
                    try:
                        data = source.recv(64 * 1024)
                        if data:
                            other[source].sendall(data)
                        else:
                            reading.remove(source)
                            other[source].shutdown(socket.SHUT_WR)
                    except OSError:
                        return
