"""Launches in Docker's words, and Docker's words in ours."""

from __future__ import annotations

from typing import Any

import pytest

from mlstudio.engines.docker_check import gpu_runtime, status_of, uses_cdi
from mlstudio.engines.docker_translate import (
    HostFacts,
    container_config,
    image_of,
    missing_program,
    observation_of,
    refusal,
    seconds_of,
    user_for,
)
from mlstudio.model.errors import RequestError, WorldError
from mlstudio.model.host import EngineTrouble
from mlstudio.model.launch import CodeMount, EngineImage, LaunchSpec, Phase, SecretValue
from mlstudio.model.run import GpuRequest, Mount

LOCAL = HostFacts(is_local=True, caller_uid=1234, caller_gid=99)
CODE = CodeMount(source="/home/me/code", target="/work")


def image(**words: Any) -> EngineImage:
    return EngineImage(id="sha256:1", tags=(), size_bytes=0, created=0.0, **words)


def spec(**words: Any) -> LaunchSpec:
    return LaunchSpec(**{"run_id": "r1", "image": "i", "command": ("train",), **words})


@pytest.mark.parametrize(
    ("launch", "user", "facts", "expected"),
    [
        (spec(), "", LOCAL, "1000:1000"),
        (spec(), "root", LOCAL, "1000:1000"),
        (spec(), "0:0", LOCAL, "1000:1000"),
        (spec(), "mlstudio", LOCAL, ""),
        (spec(run_as_root=True), "mlstudio", LOCAL, "0:0"),
        (spec(code_mount=CODE), "mlstudio", LOCAL, "1234:99"),
        (spec(mounts=(Mount(source="/d", target="/d"),)), "", LOCAL, "1234:99"),
        (spec(code_mount=CODE), "mlstudio", HostFacts(is_local=True), ""),
        (spec(code_mount=CODE), "", HostFacts(is_local=True), "1000:1000"),
        (spec(code_mount=CODE), "mlstudio", HostFacts(is_local=False, caller_uid=1234), ""),
        (
            spec(code_mount=CODE),
            "mlstudio",
            HostFacts(is_local=True, is_rootless=True, caller_uid=1234),
            "0:0",
        ),
        (spec(), "", HostFacts(is_local=True, is_rootless=True, caller_uid=1234), "1000:1000"),
    ],
)
def test_whose_processes_they_are(launch: LaunchSpec, user: str, facts: HostFacts, expected: str) -> None:
    assert user_for(launch, image(user=user), facts) == expected


def host_config(facts: HostFacts = LOCAL, python: str = "python3", **words: Any) -> dict[str, Any]:
    found: dict[str, Any] = container_config(spec(**words), image(), facts, python=python)["HostConfig"]
    return found


def test_gpus() -> None:
    assert "DeviceRequests" not in host_config()
    assert host_config(gpus=GpuRequest(count=2))["DeviceRequests"] == [
        {"Driver": "", "Capabilities": [["gpu"]], "Count": 2}
    ]
    assert host_config(gpus=GpuRequest(uuids=("GPU-a",)))["DeviceRequests"] == [
        {"Driver": "", "Capabilities": [["gpu"]], "DeviceIDs": ["GPU-a"]}
    ]
    cdi = HostFacts(is_local=True, uses_cdi=True)
    for gpus, names in (
        (GpuRequest(count=-1), ["nvidia.com/gpu=all"]),
        (GpuRequest(count=2), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
        (GpuRequest(uuids=("GPU-a",)), ["nvidia.com/gpu=GPU-a"]),
    ):
        assert host_config(cdi, gpus=gpus)["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": names}]


def test_an_image_that_asks_for_gpus_gets_none_by_itself() -> None:
    """Where NVIDIA's runtime is the default, images made for GPUs are given all of them."""
    nvidia = image(env=(("NVIDIA_VISIBLE_DEVICES", "all"),))
    void = "NVIDIA_VISIBLE_DEVICES=void"
    assert void in container_config(spec(), nvidia, LOCAL, python="")["Env"]
    assert (
        void
        in container_config(spec(), image(), HostFacts(is_local=True, nvidia_is_default=True), python="")[
            "Env"
        ]
    )
    assert void not in container_config(spec(gpus=GpuRequest(count=1)), nvidia, LOCAL, python="")["Env"]


def test_secrets_are_in_no_configuration() -> None:
    given = spec(secrets=(SecretValue(name="TOKEN", value="hush-91"),))
    config = container_config(given, image(), LOCAL, python="python3")
    assert "hush-91" not in repr(config)
    assert "hush-91" not in repr(given)
    assert config["OpenStdin"]
    assert config["StdinOnce"]
    assert "/run/secrets" in config["HostConfig"]["Tmpfs"]
    assert not container_config(spec(), image(), LOCAL, python="python3")["OpenStdin"]


@pytest.mark.parametrize(
    ("driver", "kept"),
    [("json-file", True), ("local", True), ("journald", True), ("syslog", False), ("none", False)],
)
def test_output_must_be_readable(driver: str, kept: bool) -> None:
    config = host_config(HostFacts(is_local=True, log_driver=driver))
    assert ("LogConfig" not in config) is kept


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "gpus"),
        ("nvidia-container-cli: device error: GPU-1: unknown device", "gpus"),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=9", "gpus"),
        ("nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1", "gpus"),
        ("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "limits.cpus"),
        ("Minimum memory limit allowed is 6MB", "limits.memory_bytes"),
        ('invalid mount config for type "bind": bind source path does not exist: /x', "mounts"),
        ("standard_init_linux.go:228: exec user process caused: exec format error", "image.image"),
        ("unable to find user ml: no matching entries in passwd file", "image.image"),
    ],
)
def test_refusals_name_the_field(words: str, field: str) -> None:
    error = refusal("It did not work.", words)
    assert isinstance(error, RequestError)
    assert error.field == field
    assert error.try_this
    assert words in error.why


def test_refusals_that_are_nobodys_fault() -> None:
    full = refusal("It did not work.", "write /var/lib/docker/x: no space left on device")
    assert isinstance(full, WorldError)
    assert "full" in full.what
    other = refusal("It did not work.", "something nobody has seen before")
    assert isinstance(other, WorldError)
    assert other.what == "It did not work."
    assert "nobody has seen" in other.why


@pytest.mark.parametrize(
    ("words", "program"),
    [
        # As runc 1.1.5 under Engine 20.10, runc 1.1.12 under Engine 26, and crun say it.
        (
            'starting container process caused: exec: "python3": executable file not found in $PATH: unknown',
            "python3",
        ),
        (
            'unable to start container process: exec: "python": executable file not found in $PATH: unknown',
            "python",
        ),
        ('exec: "/work/x": stat /work/x: no such file or directory: unknown', "/work/x"),
        ("no space left on device", None),
    ],
)
def test_missing_programs(words: str, program: str | None) -> None:
    assert missing_program(words) == program


def test_observations() -> None:
    running = {
        "Image": "sha256:1",
        "Config": {"Labels": {"mlstudio.probe": "1"}},
        "State": {
            "Status": "running",
            "StartedAt": "2026-11-23T10:05:00.123456789Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "ExitCode": 0,
        },
    }
    seen = observation_of(running)
    assert (seen.phase, seen.exit_code, seen.ended, seen.has_probe) == (Phase.RUNNING, None, None, True)
    assert seen.started == pytest.approx(1795428300.123456)
    for status, phase in (
        ("created", Phase.CREATED), ("paused", Phase.RUNNING), ("restarting", Phase.RUNNING),
        ("removing", Phase.RUNNING), ("exited", Phase.EXITED), ("dead", Phase.EXITED),
    ):  # fmt: skip
        assert observation_of({"State": {"Status": status}}).phase is phase
    killed = observation_of({"State": {"Status": "exited", "ExitCode": 137, "OOMKilled": True, "Error": "x"}})
    assert (killed.exit_code, killed.oom_killed, killed.error, killed.has_probe) == (137, True, "x", None)


def test_images() -> None:
    found = image_of(
        {
            "Id": "sha256:1",
            "RepoTags": ["a:1", "<none>:<none>"],
            "Config": {"Env": ["A=b=c", "EMPTY="], "Labels": None},
        }
    )
    assert found.tags == ("a:1",)
    assert found.env == (("A", "b=c"), ("EMPTY", ""))


@pytest.mark.parametrize("text", [None, "", "0001-01-01T00:00:00Z", "yesterday", 5])
def test_no_time(text: object) -> None:
    assert seconds_of(text) is None


def test_times() -> None:
    assert seconds_of("1970-01-01T00:00:01.5Z") == 1.5
    assert seconds_of("1970-01-01T02:00:00.000000001+02:00") == pytest.approx(0.0, abs=1e-6)


def status(version: dict[str, Any], info: dict[str, Any]) -> Any:
    return status_of("local", version=version, info=info, latency_s=0.001, is_local=False)


def test_what_engines_say_of_themselves() -> None:
    good = status(
        {"Version": "27.1", "ApiVersion": "1.46"}, {"NCPU": 8, "MemTotal": 2**34, "OSType": "linux"}
    )
    assert good.usable
    assert (good.cpus, good.memory_bytes, good.buildkit) == (8, 2**34, True)
    assert status({"ApiVersion": "1.40"}, {}).trouble is EngineTrouble.TOO_OLD
    assert status({}, {}).trouble is EngineTrouble.TOO_OLD
    assert status({"ApiVersion": "1.41"}, {"OSType": "windows"}).trouble is EngineTrouble.TOO_OLD
    podman = {"ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]}
    assert status(podman, {}).buildkit is False


def test_whether_gpus_can_be_given() -> None:
    assert gpu_runtime({"Runtimes": {"nvidia": {}}}, is_local=False) is True
    assert gpu_runtime({"Runtimes": {"runc": {}}}, is_local=False) is None
    snap = {"Runtimes": {"nvidia": {}}, "DockerRootDir": "/var/snap/docker/common"}
    assert gpu_runtime(snap, is_local=True) is False
    discovered = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}
    assert uses_cdi(discovered, is_local=False)
    assert not uses_cdi({**discovered, "Runtimes": {"nvidia": {}}}, is_local=False)
