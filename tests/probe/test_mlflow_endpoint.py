"""MLflow's endpoint inside a run, over HTTP as a client speaks it: what is answered, what is recorded, and what strangers
and broken clients can do to it."""

from __future__ import annotations

import gzip
import http.client
import json
import math
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstudio.probe.config import ProbeConfig
from mlstudio.probe.intake import Intake
from mlstudio.probe.mlflow_endpoint import MlflowEndpoint
from tests.probe.runs import Bench

RECORDED = Path(__file__).parents[1] / "recorded" / "loggers" / "mlflow3-calls.json.gz"
API = "/api/2.0/mlflow/"
REFUSED = (400, 404, 405, 411, 413, 414, 431, 501)


@dataclass
class Tracking:
    """An endpoint, what it recorded, and a client's way to call it."""

    intake: Intake
    environment: dict[str, str]
    endpoint: MlflowEndpoint
    points: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.environment["MLFLOW_TRACKING_URI"])
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    @property
    def authorization(self) -> str:
        return "Bearer " + self.environment["MLFLOW_TRACKING_TOKEN"]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=30)

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """(status, answer), over a connection of its own."""
        known = {"Authorization": self.authorization, "User-Agent": "mlflow-python-client/3.17.2"}
        known.update({name.replace("_", "-"): text for name, text in headers.items()})
        with closing(self.connect()) as connection:
            connection.request(method, path, body, {name: text for name, text in known.items() if text})
            return taken(connection.getresponse())

    def call(self, name: str, /, **words: Any) -> tuple[int, dict[str, Any]]:
        """A call by its name in the protocol, such as ``POST runs/create``."""
        method, _, path = name.partition(" ")
        if method == "GET":
            return self.request(method, f"{API}{path}?{urlencode(words, doseq=True)}")
        return self.request(method, API + path, json.dumps(words).encode(), Content_Type="application/json")

    def ask(self, name: str, /, **words: Any) -> dict[str, Any]:
        """The answer to a call that must not be refused."""
        status, answer = self.call(name, **words)
        assert status == 200, answer
        return answer

    def refused(self, name: str, /, **words: Any) -> str:
        """The error code of a call that must be refused."""
        status, answer = self.call(name, **words)
        assert status in REFUSED, answer
        return str(answer["error_code"])

    def run(self, name: str = "first", **words: Any) -> str:
        """A new run's id."""
        words.setdefault("experiment_id", "0")
        info = self.ask("POST runs/create", run_name=name, **words)["run"]["info"]
        return str(info["run_id"])

    def log(self, run: str, key: str, value: Any, step: int = 0, timestamp: int = 1_700_000_000_000) -> None:
        self.ask("POST runs/log-metric", run_id=run, key=key, value=value, step=step, timestamp=timestamp)

    def history(self, run: str, key: str, **words: Any) -> list[tuple[int, int, float]]:
        """(step, milliseconds, value) of each point, as it is read back."""
        found = self.ask("GET metrics/get-history", run_id=run, metric_key=key, **words)["metrics"]
        return [(one["step"], one["timestamp"], float(one["value"])) for one in found]

    def recorded(self) -> dict[str, list[tuple[int, float, float]]]:
        """(step, time, value) of each series, as they will go into frames."""
        points, events = self.intake.take()
        for (logger, name), series in points.items():
            assert logger == "mlflow"
            rows = zip(series.steps, series.times, series.values, strict=True)
            self.points.setdefault(name, []).extend(rows)
        self.events += events
        return self.points

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Events of one type, without their times."""
        self.recorded()
        return [
            {name: value for name, value in event.items() if name not in ("time", "type", "logger")}
            for event in self.events
            if event["type"] == kind
        ]

    def is_well(self) -> None:
        """It still answers, and records."""
        run = self.run("afterwards")
        self.log(run, "well", 1.5)
        assert self.history(run, "well") == [(0, 1_700_000_000_000, 1.5)]


def taken(response: http.client.HTTPResponse) -> tuple[int, dict[str, Any]]:
    data = response.read()
    try:
        found = json.loads(data)
    except ValueError:
        found = {"text": data.decode("latin-1")}
    return response.status, found if isinstance(found, dict) else {"text": found}


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[Tracking]:
    intake = Intake(max_waiting_bytes=256 * 1024 * 1024)
    endpoint = MlflowEndpoint(ProbeConfig(run_id="r", command=["python"]), intake, str(tmp_path))
    environment: dict[str, str] = {}
    endpoint.prepare(environment)
    yield Tracking(intake, environment, endpoint)
    endpoint.finish(time.monotonic() + 10)


# -- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", "Basic bWU6bWU=", "Bearer \xff", "bearer {token}", "{token}"],
)
def test_without_the_token_nothing_is_told_or_taken(tracking: Tracking, authorization: str) -> None:
    words = authorization.format(token=tracking.environment["MLFLOW_TRACKING_TOKEN"])
    for method, path in (("POST", "runs/create"), ("GET", "experiments/search"), ("GET", "no/such")):
        status, answer = tracking.request(method, API + path, b"{}", Authorization=words)
        assert (status, answer["error_code"]) == (401, "UNAUTHENTICATED")
        assert tracking.environment["MLFLOW_TRACKING_TOKEN"] not in json.dumps(answer)
    assert tracking.recorded() == {}
    assert tracking.events == []


def test_the_loopback_alone_listens_and_says_whether_it_is_there(tracking: Tracking) -> None:
    assert tracking.address[0] == "127.0.0.1"
    assert tracking.request("GET", "/health", Authorization="") == (200, {"text": "OK"})
    assert tracking.request("GET", "/version", Authorization="")[0] == 401
    assert tracking.request("GET", "/version")[0] == 200


def test_whoever_has_a_server_keeps_it(tmp_path: Path) -> None:
    environment = {"MLFLOW_TRACKING_URI": "http://tracking.example", "MLFLOW_TRACKING_TOKEN": "mine"}
    endpoint = MlflowEndpoint(ProbeConfig(run_id="r", command=["python"]), Intake(), str(tmp_path))
    endpoint.prepare(environment)
    endpoint.finish(time.monotonic() + 1)
    assert environment == {
        "MLFLOW_TRACKING_URI": "http://tracking.example",
        "MLFLOW_TRACKING_TOKEN": "mine",
    }


def test_a_proxy_is_not_asked_for_the_loopback(tmp_path: Path) -> None:
    environment = {"https_proxy": "x", "HTTP_PROXY": "http://proxy.example:3128", "no_proxy": "inner.example"}
    endpoint = MlflowEndpoint(ProbeConfig(run_id="r", command=["python"]), Intake(), str(tmp_path))
    endpoint.prepare(environment)
    endpoint.finish(time.monotonic() + 1)
    assert environment["no_proxy"] == "inner.example,127.0.0.1"
    assert environment["NO_PROXY"] == "127.0.0.1"


# -- experiments and runs --------------------------------------------------------------------------------------------


def test_experiments(tracking: Tracking) -> None:
    made = tracking.ask("POST experiments/create", name="digits", tags=[{"key": "for", "value": "tests"}])
    key = made["experiment_id"]
    found = tracking.ask("GET experiments/get", experiment_id=key)["experiment"]
    assert (found["name"], found["lifecycle_stage"]) == ("digits", "active")
    assert found["tags"] == [{"key": "for", "value": "tests"}]
    assert (
        tracking.ask("GET experiments/get-by-name", experiment_name="digits")["experiment"]["experiment_id"]
        == key
    )
    assert tracking.refused("POST experiments/create", name="digits") == "RESOURCE_ALREADY_EXISTS"
    assert tracking.refused("POST experiments/create", name="") == "INVALID_PARAMETER_VALUE"
    assert (
        tracking.refused("GET experiments/get-by-name", experiment_name="nobody") == "RESOURCE_DOES_NOT_EXIST"
    )
    assert tracking.refused("GET experiments/get", experiment_id="99") == "RESOURCE_DOES_NOT_EXIST"
    tracking.ask("POST experiments/update", experiment_id=key, new_name="letters")
    tracking.ask("POST experiments/set-experiment-tag", experiment_id=key, key="more", value="tags")

    def names(**words: Any) -> list[str]:
        found = tracking.ask("POST experiments/search", max_results=100, **words)["experiments"]
        return sorted(one["name"] for one in found)

    assert names() == ["Default", "letters"]
    assert names(filter="tags.`more` = 'tags' AND name LIKE 'let%'") == ["letters"]
    tracking.ask("POST experiments/delete", experiment_id=key)
    assert names() == ["Default"]
    assert names(view_type="ALL") == ["Default", "letters"]
    tracking.ask("POST experiments/restore", experiment_id=key)
    assert names(view_type="ACTIVE_ONLY") == ["Default", "letters"]


def test_runs(tracking: Tracking) -> None:
    run = tracking.run("one", start_time=1_700_000_000_000, user_id="me")
    tracking.log(run, "loss", 0.5, step=3)
    tracking.ask(
        "POST runs/update", run_id=run, status="FINISHED", end_time=1_700_000_001_000, run_name="two"
    )
    found = tracking.ask("GET runs/get", run_id=run)["run"]
    assert found["info"]["run_name"] == "two"
    assert found["info"]["status"] == "FINISHED"
    assert (found["info"]["start_time"], found["info"]["end_time"]) == (1_700_000_000_000, 1_700_000_001_000)
    assert found["data"]["metrics"] == [
        {"key": "loss", "value": 0.5, "step": 3, "timestamp": 1_700_000_000_000}
    ]
    assert tracking.refused("GET runs/get", run_id="0" * 32) == "RESOURCE_DOES_NOT_EXIST"
    tracking.ask("POST runs/delete", run_id=run)
    words = {"run_id": run, "key": "loss", "value": 1, "timestamp": 1}
    assert tracking.refused("POST runs/log-metric", **words) == "INVALID_PARAMETER_VALUE"
    tracking.ask("POST runs/restore", run_id=run)
    tracking.ask("POST runs/log-metric", **words)


def test_further_runs_have_names_of_their_own(tracking: Tracking) -> None:
    for name in ("first", "fold", "fold"):
        tracking.log(tracking.run(name), "loss", 1.0)
    names = set(tracking.recorded())
    assert len(names) == 3
    assert {"loss", "fold/loss"} < names
    (third,) = names - {"loss", "fold/loss"}
    assert third.startswith("fold ")


# -- what is logged --------------------------------------------------------------------------------------------------


def test_metrics_are_recorded_and_read_back_as_they_were(tracking: Tracking) -> None:
    run = tracking.run()
    values: list[float | str] = [0.1, 1e-300, -0.0, 1 / 3, "NaN", "Infinity", "-Infinity", 7]
    for step, value in enumerate(values):
        tracking.log(run, "loss", value, step=step, timestamp=1_700_000_000_000 + step)
    found = tracking.history(run, "loss")
    assert [step for step, _, _ in found] == list(range(len(values)))
    recorded = tracking.recorded()["loss"]
    for (step, moment, value), (kept_step, kept_time, kept), wanted in zip(
        found, recorded, map(float, values), strict=True
    ):
        assert (step, moment / 1000) == (kept_step, kept_time)
        for one in (value, kept):
            assert one == wanted or (math.isnan(one) and math.isnan(wanted))
    assert tracking.history(run, "nothing") == []
    assert tracking.told("logger") == [
        {"what": "127.0.0.1", "how": "MLflow's client 3.17.2", "version": "3.17.2"}
    ]


def test_whole_numbers_may_be_texts_as_protocol_buffers_write_them(tracking: Tracking) -> None:
    run = tracking.run()
    tracking.ask("POST runs/log-metric", run_id=run, key="loss", value=2, step="5", timestamp="1700000000000")
    tracking.ask("POST runs/log-metric", run_id=run, key="zero")
    assert tracking.history(run, "loss") == [(5, 1_700_000_000_000, 2.0)]
    assert tracking.history(run, "zero") == [(0, 0, 0.0)]


def test_what_comes_again_is_taken_once(tracking: Tracking) -> None:
    run = tracking.run()
    batch = {
        "run_id": run,
        "metrics": [
            {"key": "loss", "value": step / 7, "timestamp": 1_700_000_000_000 + step, "step": step}
            for step in range(100)
        ],
        "params": [{"key": "lr", "value": "0.1"}],
        "tags": [{"key": "team", "value": "vision"}],
    }
    for _ in range(3):  # as a client does whose connection breaks before the answer
        tracking.ask("POST runs/log-batch", **batch)
        tracking.log(run, "single", 0.5, step=1)
    assert tracking.recorded()["loss"] == [
        (step, 1_700_000_000 + step / 1000, step / 7) for step in range(100)
    ]
    assert len(tracking.recorded()["single"]) == 1
    assert len(tracking.history(run, "loss")) == 100
    assert tracking.told("param") == [{"name": "lr", "value": "0.1"}]
    assert tracking.told("tag") == [{"tag": "team=vision"}]
    # Another value at the same step is another point.
    tracking.log(run, "single", 0.25, step=1)
    assert [value for _, _, value in tracking.recorded()["single"]] == [0.5, 0.25]


def test_a_parameter_keeps_its_value(tracking: Tracking) -> None:
    run = tracking.run()
    tracking.ask("POST runs/log-parameter", run_id=run, key="lr", value="0.1")
    tracking.ask("POST runs/log-parameter", run_id=run, key="lr", value="0.1")
    words = {"run_id": run, "key": "lr", "value": "0.2"}
    assert tracking.refused("POST runs/log-parameter", **words) == "INVALID_PARAMETER_VALUE"
    assert (
        tracking.refused("POST runs/log-parameter", run_id=run, key="", value="x")
        == "INVALID_PARAMETER_VALUE"
    )
    assert tracking.told("param") == [{"name": "lr", "value": "0.1"}]
    assert tracking.ask("GET runs/get", run_id=run)["run"]["data"]["params"] == [
        {"key": "lr", "value": "0.1"}
    ]


def test_tags_and_the_note(tracking: Tracking) -> None:
    run = tracking.run(tags=[{"key": "mlflow.user", "value": "me"}, {"key": "team", "value": "vision"}])
    tracking.ask("POST runs/set-tag", run_id=run, key="mlflow.note.content", value="a *note*\nof two lines")
    tracking.ask("POST runs/set-tag", run_id=run, key="bare", value="")
    tracking.ask("POST runs/set-tag", run_id=run, key="gone", value="x")
    tracking.ask("POST runs/delete-tag", run_id=run, key="gone")
    assert tracking.refused("POST runs/delete-tag", run_id=run, key="gone") == "RESOURCE_DOES_NOT_EXIST"
    tags = {
        tag["key"]: tag["value"] for tag in tracking.ask("GET runs/get", run_id=run)["run"]["data"]["tags"]
    }
    assert tags["team"] == "vision"
    assert tags["mlflow.runName"] == "first"
    assert "gone" not in tags
    assert {"tag": "team=vision"} in tracking.told("tag")
    assert {"tag": "bare"} in tracking.told("tag")
    assert not any("mlflow." in tag["tag"] for tag in tracking.told("tag"))
    assert tracking.told("note") == [{"text": "a *note*\nof two lines"}]


def test_a_long_history_comes_in_pages(tracking: Tracking) -> None:
    run = tracking.run()
    for first in range(0, 5000, 1000):
        metrics = [
            {"key": "loss", "value": step, "timestamp": step, "step": step}
            for step in range(first, first + 1000)
        ]
        tracking.ask("POST runs/log-batch", run_id=run, metrics=metrics)
    found: list[int] = []
    words: dict[str, Any] = {"run_id": run, "metric_key": "loss", "max_results": 1999}
    pages = 0
    while True:
        answer = tracking.ask("GET metrics/get-history", **words)
        found += [one["step"] for one in answer["metrics"]]
        pages += 1
        if not answer.get("next_page_token"):
            break
        words["page_token"] = answer["next_page_token"]
    assert (found, pages) == (list(range(5000)), 3)
    assert len(tracking.history(run, "loss")) == 5000


def test_many_clients_at_once(tracking: Tracking) -> None:
    run = tracking.run()

    def train(rank: int) -> None:
        for step in range(40):
            tracking.log(run, f"loss/{rank}", rank + step / 100, step=step)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(train, range(8)))
    recorded = tracking.recorded()
    for rank in range(8):
        assert [(step, value) for step, _, value in recorded[f"loss/{rank}"]] == [
            (step, rank + step / 100) for step in range(40)
        ]


def test_one_connection_carries_many_calls(tracking: Tracking) -> None:
    run = tracking.run()
    with closing(tracking.connect()) as connection:
        for step in range(200):
            body = json.dumps({"run_id": run, "key": "loss", "value": step, "step": step, "timestamp": 1})
            connection.request(
                "POST", API + "runs/log-metric", body, {"Authorization": tracking.authorization}
            )
            assert taken(connection.getresponse()) == (200, {})
    assert len(tracking.recorded()["loss"]) == 200


# -- files -----------------------------------------------------------------------------------------------------------


def artifact_folder(tracking: Tracking, run: str) -> Path:
    uri = tracking.ask("GET runs/get", run_id=run)["run"]["info"]["artifact_uri"]
    assert uri.startswith("file://")
    return Path(unquote(urlsplit(uri).path))


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\0\0\0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_artifacts_are_told_and_pictures_kept(tracking: Tracking, tmp_path: Path) -> None:
    run = tracking.run()
    folder = artifact_folder(tracking, run)
    assert tmp_path in folder.parents
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "curve.png").write_bytes(png(4, 3))
    (folder / "model.bin").write_bytes(b"x" * 1000)
    assert tracking.ask("GET artifacts/list", run_id=run)["root_uri"].endswith("/artifacts")
    tracking.ask("POST runs/update", run_id=run, status="FINISHED")
    told = {Path(one["path"]).name: one["size_bytes"] for one in tracking.told("artifact")}
    assert told == {"model.bin": 1000, "curve.png": len(png(4, 3))}
    (medium,) = tracking.told("media")
    assert (medium["name"], medium["kind"], medium["mime"]) == ("plots/curve.png", "image", "image/png")
    tracking.ask("POST runs/update", run_id=run, status="FINISHED")
    assert len(tracking.told("artifact")) == 2


def test_links_and_pipes_among_artifacts_lead_nowhere(tracking: Tracking, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(1, 1))
    run = tracking.run()
    folder = artifact_folder(tracking, run)
    folder.mkdir(parents=True)
    (folder / "link.png").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    tracking.ask("POST runs/update", run_id=run, status="FINISHED")
    assert tracking.told("media") == []
    tracking.is_well()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/../../etc/passwd",
        "/api/2.0/mlflow/../../../etc/passwd",
        "/api/2.0/mlflow/artifacts/list/..%2f..%2fetc",
        "/api/2.0/mlflow/logged-models/..%2f..",
        "/api/2.0/mlflow/",
        "/api/2.0/mlflow//runs//create",
        "/api/9.0/mlflow/runs/create",
        "/api/2.0/mlflow-artifacts/artifacts/x",
        "/%00",
        "/api/2.0/mlflow/runs/get%0d%0aX: y?run_id=1",
        "//evil.example/api/2.0/mlflow/runs/create",
        "/get-artifact?path=../../etc/passwd&run_uuid=x",
        "/" + "a" * 20_000,
    ],
)
def test_paths_that_lead_elsewhere_lead_nowhere(tracking: Tracking, path: str) -> None:
    for method in ("GET", "POST"):
        with closing(socket.create_connection(tracking.address, timeout=30)) as connection:
            line = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {tracking.authorization}\r\n"
            connection.sendall((line + "Content-Length: 0\r\nConnection: close\r\n\r\n").encode())
            answer = all_of(connection)
        assert answer.split(b" ", 2)[1:2] in ([b"400"], [b"404"], [b"414"]), answer[:200]
        assert b"root:" not in answer
    tracking.is_well()


# -- searches --------------------------------------------------------------------------------------------------------


@pytest.fixture
def searched(tracking: Tracking) -> Tracking:
    for number, name in enumerate(("anna", "Bert", "carl")):
        run = tracking.run(name, start_time=1_700_000_000_000 + number)
        tracking.log(run, "loss", number / 10)
        tracking.log(run, "odd one", -number)
        tracking.ask("POST runs/log-parameter", run_id=run, key="lr", value=f"0.{number}")
        tracking.ask("POST runs/set-tag", run_id=run, key="team", value=f"it's %{number}")
    tracking.ask("POST runs/update", run_id=run, status="FAILED")
    return tracking


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ["carl", "Bert", "anna"]),
        ("metrics.loss > 0.05", ["carl", "Bert"]),
        ("metrics.loss >= 0.1 AND metric.loss != 0.2", ["Bert"]),
        ("metrics.`odd one` < 0 and params.lr = '0.2'", ["carl"]),
        ('params."lr" != "0.2"', ["Bert", "anna"]),
        ("params.lr IN ('0.0', '0.1')", ["Bert", "anna"]),
        ("params.lr NOT IN ('0.0', '0.1')", ["carl"]),
        ("attributes.status = 'FAILED'", ["carl"]),
        ("run_name ILIKE 'b%'", ["Bert"]),
        ("run_name LIKE 'b%'", []),
        ("run_name LIKE '%a%r%'", ["carl"]),
        ("run_name LIKE '_er_'", ["Bert"]),
        ("run_name LIKE '%'", ["carl", "Bert", "anna"]),
        ("run_name LIKE ''", []),
        ("tags.team = 'it''s %1'", ["Bert"]),
        (r"tags.team = 'it\'s %1'", ["Bert"]),
        ("start_time > 1700000000000", ["carl", "Bert"]),
        ("tags.none IS NULL", ["carl", "Bert", "anna"]),
        ("tags.team IS NOT NULL AND metrics.loss < 0.05", ["anna"]),
        ("tags.none = 'x'", []),
    ],
)
def test_filters(searched: Tracking, words: str, names: list[str]) -> None:
    answer = searched.ask("POST runs/search", experiment_ids=["0"], filter=words, max_results=100)
    assert [run["info"]["run_name"] for run in answer["runs"]] == names


@pytest.mark.parametrize(
    "words",
    [
        "metrics.loss >",
        "metrics.loss > 'a'",
        "params.lr = 1",
        "nothing.at = 'all'",
        "loss",
        "and",
        "params.lr = 'a' or params.lr = 'b'",
        "params.lr = 'a' AND",
        "params.lr = 'unclosed",
        "params.lr IN ('a'",
        "params.lr IN ()",
        "(((((",
        "'; DROP TABLE runs; --",
        "\x00",
        "params.lr = 'x'" + " AND params.lr = 'x'" * 200,
        "x" * 100_000,
        "''''''''''''" * 1000,
    ],
)
def test_filters_that_are_none_are_refused_at_once(searched: Tracking, words: str) -> None:
    began = time.monotonic()
    code = searched.refused("POST runs/search", experiment_ids=["0"], filter=words)
    assert code == "INVALID_PARAMETER_VALUE"
    assert time.monotonic() - began < 5


def test_orders_and_pages(searched: Tracking) -> None:
    def names(**words: Any) -> list[str]:
        found = searched.ask("POST runs/search", experiment_ids=["0"], **words)["runs"]
        return [run["info"]["run_name"] for run in found]

    assert names(order_by=["metrics.loss ASC"]) == ["anna", "Bert", "carl"]
    assert names(order_by=["params.lr DESC"]) == ["carl", "Bert", "anna"]
    assert names(order_by=["metrics.none", "attributes.start_time"]) == ["anna", "Bert", "carl"]
    first = searched.ask("POST runs/search", experiment_ids=["0"], max_results=2)
    assert [run["info"]["run_name"] for run in first["runs"]] == ["carl", "Bert"]
    assert names(max_results=2, page_token=first["next_page_token"]) == ["anna"]
    assert names(run_view_type="DELETED_ONLY") == []
    answer = searched.ask("POST runs/search", experiment_ids=["7"])
    assert answer["runs"] == []


def test_a_pattern_that_fits_almost_everywhere_is_no_delay(searched: Tracking) -> None:
    run = searched.run("long")
    searched.ask("POST runs/set-tag", run_id=run, key="long", value="a" * 8000)
    began = time.monotonic()
    words = f"tags.long LIKE '%{'a' * 400}b%'"
    assert searched.ask("POST runs/search", experiment_ids=["0"], filter=words)["runs"] == []
    assert time.monotonic() - began < 10


# -- broken and hostile ----------------------------------------------------------------------------------------------


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side ends."""
    found = bytearray()
    try:
        while data := connection.recv(65536):
            found += data
    except OSError:
        pass
    return bytes(found)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nothing",
        b"[]",
        b'"text"',
        b"17",
        b"null",
        b"\xff\xfe\x00",
        b"{'run_id': 1}",
        b'{"a": ' * 5000,
        b"[" * 200_000,
        b'{"value": ' + b"9" * 100_000 + b"}",
        b'{"run_id": "x"} trailing',
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_bodies_that_are_no_json_object_are_refused(tracking: Tracking, body: bytes) -> None:
    status, answer = tracking.request("POST", API + "runs/create", body)
    assert status == 400, answer
    assert answer["error_code"]
    tracking.is_well()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("POST runs/log-metric", {"key": "loss", "value": "many"}),
        ("POST runs/log-metric", {"key": "loss", "value": [1]}),
        ("POST runs/log-metric", {"key": "loss", "value": None}),
        ("POST runs/log-metric", {"key": "", "value": 1}),
        ("POST runs/log-batch", {"metrics": {"a": 1}}),
        ("POST runs/log-batch", {"metrics": ["a"]}),
        ("POST runs/log-batch", {"metrics": [{"value": 1}]}),
        ("POST runs/log-batch", {"metrics": 17}),
        ("POST runs/log-inputs", {"datasets": [1]}),
        ("POST runs/log-inputs", {"datasets": {"a": 1}}),
        ("POST runs/set-tag", {"key": ""}),
        ("POST runs/search", {"experiment_ids": ["0"], "max_results": -5}),
        ("POST runs/search", {"experiment_ids": ["0"], "order_by": ["what.is this"]}),
    ],
)
def test_words_of_the_wrong_kind_are_refused(tracking: Tracking, name: str, words: dict[str, Any]) -> None:
    run = tracking.run()
    status, answer = tracking.call(name, run_id=run, **words)
    assert status == 400, answer
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"
    assert not tracking.recorded()
    tracking.is_well()


def test_odd_numbers_do_no_harm(tracking: Tracking) -> None:
    run = tracking.run()
    for step in (2**63, -(2**70), 1.5, "1e3", "x", None, [1], True, "9" * 1000):
        words = {"run_id": run, "key": "odd", "value": 1, "step": step, "timestamp": step}
        status, answer = tracking.call("POST runs/log-metric", **words)
        assert status in (200, 400), answer
    assert tracking.call("POST runs/log-metric", run_id=run, key="huge", value=10**350)[0] in (200, 400)
    for step, _, _ in tracking.recorded()["odd"]:
        assert -(2**63) <= step < 2**63
    tracking.is_well()


def test_half_of_a_pair_in_a_name_can_be_written_down(tracking: Tracking) -> None:
    run = tracking.run("\ud800")
    tracking.log(run, "loss \ud800", 1.0)
    tracking.ask("POST runs/log-parameter", run_id=run, key="\udfff", value="\ud800")
    assert len(tracking.recorded()) == 1
    assert tracking.told("param")
    json.dumps(tracking.events).encode("ascii")


@pytest.mark.parametrize(
    "length", ["1000000000", "99999999999999999999", "-1", "x", "1e3", "²", "0x10", "+5"]
)
def test_bodies_whose_length_is_huge_or_none_are_refused_unread(tracking: Tracking, length: str) -> None:
    with closing(socket.create_connection(tracking.address, timeout=30)) as connection:
        head = f"POST {API}runs/create HTTP/1.1\r\nHost: x\r\nAuthorization: {tracking.authorization}\r\n"
        connection.sendall((head + f"Content-Length: {length}\r\n\r\n").encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = all_of(connection)
    assert answer.split(b" ", 2)[1:2] in ([b"400"], [b"413"], [])
    tracking.is_well()


def test_a_body_of_unknown_length_is_refused(tracking: Tracking) -> None:
    with closing(tracking.connect()) as connection:
        headers = {"Authorization": tracking.authorization, "Transfer-Encoding": "chunked"}
        connection.request("POST", API + "runs/create", iter([b"{}"]), headers, encode_chunked=True)
        assert connection.getresponse().status == 411
    tracking.is_well()


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW /coffee HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 70_000,
        b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n0123456789",
    ],
    ids=lambda data: repr(data[:16]),
)
def test_what_is_no_http_ends_its_own_connection_only(tracking: Tracking, data: bytes) -> None:
    with closing(socket.create_connection(tracking.address, timeout=30)) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was closed before all was said
        answer = all_of(connection)
    assert b" 200 " not in answer.split(b"\r\n", 1)[0]
    tracking.is_well()
    assert list(tracking.recorded()) == ["well"]


def test_slow_clients_hold_up_nobody(tracking: Tracking) -> None:
    head = f"POST {API}runs/create HTTP/1.1\r\nAuthorization: {tracking.authorization}\r\n".encode()
    starts = [b"", b"PO", head, head + b"Content-Length: 100\r\n\r\n{"]
    slow = [socket.create_connection(tracking.address, timeout=30) for _ in range(20)]
    try:
        for place, connection in enumerate(slow):
            connection.sendall(starts[place % len(starts)])
        began = time.monotonic()
        tracking.is_well()
        assert time.monotonic() - began < 5
        # Nor do they hold up the end of the run.
        began = time.monotonic()
        tracking.endpoint.finish(time.monotonic() + 10)
        assert time.monotonic() - began < 5
        for connection in slow:
            all_of(connection)
    finally:
        for connection in slow:
            connection.close()


def test_a_client_that_does_not_wait_for_its_answer_is_recorded(tracking: Tracking) -> None:
    run = tracking.run()
    body = json.dumps({"run_id": run, "key": "loss", "value": 1, "timestamp": 1}).encode()
    head = f"POST {API}runs/log-metric HTTP/1.1\r\nAuthorization: {tracking.authorization}\r\n"
    with closing(socket.create_connection(tracking.address, timeout=30)) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    tracking.endpoint.finish(time.monotonic() + 10)
    tracking.recorded()
    assert set(tracking.points) <= {"loss"}


def test_after_the_end_nobody_answers(tracking: Tracking) -> None:
    tracking.run()
    tracking.endpoint.finish(time.monotonic() + 5)
    with pytest.raises(ConnectionError):
        tracking.request("GET", "/health")


def test_a_full_intake_makes_clients_wait_and_loses_nothing(tmp_path: Path) -> None:
    intake = Intake(max_waiting_bytes=2400)
    endpoint = MlflowEndpoint(ProbeConfig(run_id="r", command=["python"]), intake, str(tmp_path))
    environment: dict[str, str] = {}
    endpoint.prepare(environment)
    tracking = Tracking(intake, environment, endpoint)
    done = threading.Event()

    def train() -> None:
        run = tracking.run()
        for step in range(500):
            tracking.log(run, "loss", step, step=step)
        done.set()

    worker = threading.Thread(target=train)
    worker.start()
    try:
        deadline = time.monotonic() + 30
        while not done.wait(0.005) and time.monotonic() < deadline:
            tracking.recorded()
        assert done.is_set()
    finally:
        intake.close()
        worker.join(30)
        endpoint.finish(time.monotonic() + 5)
    assert [step for step, _, _ in tracking.recorded()["loss"]] == list(range(500))


CALLS = [
    *("POST experiments/create", "GET experiments/get", "POST experiments/search", "POST experiments/update"),
    *("POST runs/create", "GET runs/get", "POST runs/update", "POST runs/search", "POST runs/log-metric"),
    *("POST runs/log-batch", "POST runs/log-parameter", "POST runs/set-tag", "POST runs/delete-tag"),
    *("POST runs/log-inputs", "POST runs/outputs", "GET metrics/get-history", "GET metrics/get-history-bulk"),
    *("GET artifacts/list", "POST registered-models/create", "GET registered-models/search"),
    *("POST registered-models/alias", "POST model-versions/create", "GET model-versions/search"),
    *("POST logged-models", "POST logged-models/search", "PATCH logged-models/m-1/tags", "POST traces"),
    "POST traces/search",
]
SMALL = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["RUN", "0", "NaN", "name", "metrics.loss > 0", "ALL", "FINISHED", "%"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "value", "step", "timestamp", "dataset", "tags", "name"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
WORDS = st.dictionaries(
    st.sampled_from(
        [
            *("run_id", "run_ids", "experiment_id", "experiment_ids", "name", "new_name", "key", "value"),
            *("step", "timestamp", "metrics", "params", "tags", "metric_key", "max_results", "page_token"),
            *("filter", "order_by", "view_type", "run_view_type", "datasets", "models", "status", "end_time"),
            *("version", "alias", "model_id", "trace", "start_time", "run_name", "description", "source"),
        ]
    ),
    SMALL,
    max_size=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(st.sampled_from(CALLS), WORDS), min_size=1, max_size=6))
def test_no_call_with_any_words_is_an_error_of_ours(
    tracking: Tracking, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    status, answer = tracking.endpoint.answer("POST", "runs/create", {"experiment_id": "0"}, "mlflow/3")
    assert status == 200
    run = answer["run"]["info"]["run_id"]
    for name, words in calls:
        method, _, path = name.partition(" ")
        said = {key: run if value == "RUN" else value for key, value in words.items()}
        status, answer = tracking.endpoint.answer(method, path, said, "mlflow/3")
        assert status != 500, (name, said, answer)
    tracking.recorded()


# -- real clients ----------------------------------------------------------------------------------------------------


def test_calls_of_a_real_client_are_answered_as_by_mlflows_own_server(tracking: Tracking) -> None:
    """What MLflow 3.17.2 says for a script that uses most of it, recorded beside MLflow's own server."""
    recorded = json.loads(gzip.decompress(RECORDED.read_bytes()))
    known: dict[str, str] = {}
    compared = 0
    for call in recorded["calls"]:
        path = call["path"]
        for old, new in known.items():
            path = path.replace(quote(old, safe=""), quote(new, safe="")) if len(old) > 8 else path
        if "experiment_id=" in path:
            head, _, query = path.partition("?")
            words = [
                (key, known.get("experiment " + value, value) if key == "experiment_id" else value)
                for key, value in parse_qsl(query)
            ]
            path = f"{head}?{urlencode(words)}"
        body = call["body"]
        data = None
        if isinstance(body, dict):
            data = json.dumps(with_ours(body, known)).encode()
        elif body is not None:
            data = str(body).encode("latin-1", "replace")
        status, answer = tracking.request(call["method"], path, data, Content_Type="application/json")
        assert status == call["status"], (call["method"], path, answer)
        wanted = call["answer"]
        if not isinstance(wanted, dict):
            continue
        if status != 200:
            assert answer["error_code"] == wanted["error_code"], path
            continue
        learn(wanted, answer, known)
        if "/runs/get" in path:
            assert of_run(answer["run"], known) == of_run(with_ours(wanted["run"], known), known)
            compared += 1
        elif "/runs/search" in path:
            names = [one["info"]["run_name"] for one in answer.get("runs", [])]
            # Runs that began in the same millisecond have no order.
            expected = [one["info"]["run_name"] for one in with_ours(wanted, known).get("runs", [])]
            assert sorted(names) == sorted(expected), path
            compared += 1
        elif "/metrics/get-history" in path:
            assert sorted(map(of_point, answer["metrics"])) == sorted(
                map(of_point, wanted.get("metrics", []))
            )
            compared += 1
    assert compared > 50
    series = set(tracking.recorded())
    assert {"loss", "train/acc", "train/f1", "odd one", "batch", "again", "fold/loss"} <= series


def with_ours(found: Any, known: dict[str, str]) -> Any:
    """The same with our ids and names in the place of those of the recording."""
    if isinstance(found, dict):
        return {
            key: known.get("experiment " + value, value)
            if key == "experiment_id" and isinstance(value, str)
            else [known.get("experiment " + one, one) for one in value]
            if key == "experiment_ids"
            else with_ours(value, known)
            for key, value in found.items()
        }
    if isinstance(found, list):
        return [with_ours(one, known) for one in found]
    if isinstance(found, str):
        for old, new in known.items():
            if len(old) > 8 and not old.startswith("experiment "):
                found = found.replace(old, new)
    return found


def learn(wanted: Any, answer: Any, known: dict[str, str]) -> None:
    """Note which of our ids and names stand for those of the recording."""
    if isinstance(wanted.get("run"), dict) and isinstance(answer.get("run"), dict):
        for name in ("run_id", "run_name"):
            old, new = wanted["run"]["info"][name], answer["run"]["info"][name]
            if old != new:
                known[old] = new
    if isinstance(wanted.get("model"), dict) and isinstance(answer.get("model"), dict):
        known[wanted["model"]["info"]["model_id"]] = answer["model"]["info"]["model_id"]
    if set(wanted) == {"experiment_id"}:
        known["experiment " + wanted["experiment_id"]] = answer["experiment_id"]
    if wanted.get("next_page_token"):
        known[wanted["next_page_token"]] = answer["next_page_token"]


def of_point(point: dict[str, Any]) -> tuple[str, int, float]:
    """A point as both servers say it: MLflow's database has no infinities."""
    value = float(point["value"])
    if math.isinf(value):
        value = math.copysign(1.7976931348623157e308, value)
    return str(point["key"]), int(point.get("step", 0)), 0.125 if math.isnan(value) else value


def of_run(run: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """What must be the same in a run."""
    data = run.get("data", {})
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
    inputs = run.get("inputs", {}).get("dataset_inputs", [])
    return {
        "name": run["info"]["run_name"],
        "status": run["info"]["status"],
        "stage": run["info"]["lifecycle_stage"],
        "metrics": sorted(map(of_point, data.get("metrics", []))),
        "params": sorted((one["key"], one["value"]) for one in data.get("params", [])),
        "tags": {key: value for key, value in tags.items() if not key.startswith("mlflow.")},
        "inputs": [one["dataset"]["name"] for one in inputs],
    }


SCRIPT = """
import json, os, urllib.request
def call(path, **words):
    request = urllib.request.Request(
        os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path,
        json.dumps(words).encode(),
        {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "User-Agent": "mlflow-python-client/3.0"},
    )
    return json.load(urllib.request.urlopen(request, timeout=30))
run = call("runs/create", experiment_id="0", run_name="demo")["run"]["info"]["run_id"]
call("runs/log-parameter", run_id=run, key="lr", value="0.1")
for step in range(100):
    call("runs/log-metric", run_id=run, key="loss", value=1 / (step + 1), step=step, timestamp=1700000000000 + step)
"""


def test_a_run_records_what_its_last_call_said_before_it_ended(tmp_path: Path) -> None:
    outcome = Bench(tmp_path / "root").script(SCRIPT)
    assert outcome.code == 0, outcome.log
    assert outcome.points("loss") == [(step, 1 / (step + 1)) for step in range(100)]
    (logger,) = outcome.events("logger")
    assert (logger["logger"], logger["version"]) == ("mlflow", "3.0")
    (param,) = outcome.events("param")
    assert (param["name"], param["value"], param["logger"]) == ("lr", "0.1", "mlflow")
