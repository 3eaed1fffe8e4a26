"""Making a docker-py client as we want it: no proxies from the environment, connections used again, none left open."""

from __future__ import annotations

from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool

import docker
from mlstudio.engines.docker_host import Endpoint

_CONNECTIONS = 8


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        # WORKAROUND https://github.com/docker/docker-py/blob/7.2.0/docker/transport/unixconn.py: the socket is left open
        # where connecting fails; remove when it is closed there.
        self.sock = Endpoint(f"unix://{self.unix_socket}").connect(self.timeout)


class _Pool(UnixHTTPConnectionPool):
    # urllib3's own way of saying which class its connections have is not used by docker-py.
    def _new_conn(self) -> _Connection:  # type: ignore[override]
        return _Connection(self.base_url, self.socket_path, self._seconds)

    def __init__(self, base_url: str, socket_path: str, *, seconds: int) -> None:
        super().__init__(base_url, socket_path, timeout=seconds, maxsize=_CONNECTIONS)
        self._seconds = seconds


class _Adapter(UnixHTTPAdapter):
    """One pool for everything: docker-py's own keeps one, and a connection, for each address that was ever asked."""

    def get_connection(self, url: bytes | str, proxies: object = None) -> UnixHTTPConnectionPool:
        with self.pools.lock:
            pool = self.pools.get("")
            if pool is None:
                pool = self.pools[""] = _Pool("engine", self.socket_path, seconds=self.timeout)
        assert isinstance(pool, UnixHTTPConnectionPool)
        return pool


def make_client(endpoint: Endpoint, *, version: str, timeout_s: int) -> docker.APIClient:
    """A client for the engine at `endpoint` that speaks `version` of its API. Connects to nothing."""
    client = docker.APIClient(base_url=endpoint.url, version=version, timeout=timeout_s)
    # A proxy or a CA bundle in the environment is not meant for the engine.
    client.trust_env = False
    if endpoint.socket_path:
        adapter = _Adapter(f"http+unix://{endpoint.socket_path}", timeout_s, max_pool_size=_CONNECTIONS)
        client.mount("http+docker://", adapter)
    return client
