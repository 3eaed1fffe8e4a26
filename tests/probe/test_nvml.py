"""Reading GPUs through each of the three ways, against a stand-in for NVIDIA's library or program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest

from mlstudio.probe import nvml
from mlstudio.probe.environment import describe_environment
from tests.conftest import wait_until
from tests.probe.runs import PYTHON, Bench, taken_apart

GIB = 1024**3

FIRST: dict[str, Any] = {
    "index": 0,
    "uuid": "GPU-11111111-aaaa",
    "name": "NVIDIA Stand-in A",
    "memory_total_bytes": 80 * GIB,
    "memory_used_bytes": 1 * GIB,
    "utilisation_percent": 10,
    "power_w": pytest.approx(123.456),
    "power_limit_w": pytest.approx(700.0),
    "temperature_c": 40,
    "sm_clock_mhz": 2000,
    "mem_clock_mhz": 3000,
    "throttle_reasons": 4,
    "pcie_rx_bytes_per_s": 2000 * 1024,
    "pcie_tx_bytes_per_s": 1000 * 1024,
    "compute_capability": "9.0",
}
SECOND: dict[str, Any] = {
    "index": 1,
    "uuid": "GPU-22222222-bbbb",
    "name": "NVIDIA Stand-in B",
    "memory_total_bytes": 24 * GIB,
    "memory_used_bytes": 2 * GIB,
    "utilisation_percent": 20,
    "power_w": None,
    "power_limit_w": pytest.approx(350.0),
    "temperature_c": 41,
    "sm_clock_mhz": 2001,
    "mem_clock_mhz": 3001,
    "throttle_reasons": 0x104,
    "pcie_rx_bytes_per_s": 2001 * 1024,
    "pcie_tx_bytes_per_s": 1001 * 1024,
    "compute_capability": "8.6",
}
MISSING_IN_OLD = ("throttle_reasons", "pcie_rx_bytes_per_s", "pcie_tx_bytes_per_s")

SMI = """\
#!/bin/sh
[ "$2" = "--format=csv,noheader,nounits" ] || exit 2
case "$1" in --query-gpu=*) ;; *) exit 2 ;; esac
IFS=,
for gpu in 0 1; do
    line=
    for field in ${1#--query-gpu=}; do
        case "$field/$gpu" in
            index/*) value=$gpu ;;
            uuid/0) value=GPU-11111111-aaaa ;;
            uuid/1) value=GPU-22222222-bbbb ;;
            name/0) value="NVIDIA Stand-in A" ;;
            name/1) value="NVIDIA Stand-in B" ;;
            memory.total/0) value=81920 ;;
            memory.total/1) value=24576 ;;
            memory.used/0) value=1024 ;;
            memory.used/1) value=2048 ;;
            utilization.gpu/0) value=10 ;;
            utilization.gpu/1) value=20 ;;
            power.draw/0) value=123.456 ;;
            power.draw/1) value="[N/A]" ;;
            enforced.power.limit/0) value=700.00 ;;
            enforced.power.limit/1) value=350.00 ;;
            temperature.gpu/*) value=4$gpu ;;
            clocks.sm/*) value=200$gpu ;;
            clocks.mem/*) value=300$gpu ;;
            driver_version/*) value=570.86.15 ;;
            *) exit 2 ;;
        esac
        line="$line${line:+, }$value"
    done
    echo "$line"
done
"""


def _compiled(folder: Path, *options: str) -> Path:
    library = folder / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wall", "-Werror", *options, "-o", str(library), str(source)], check=True
    )
    return library


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the driver's library."""
    return _compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of an older driver, which lacks functions."""
    return _compiled(tmp_path_factory.mktemp("old-nvml"), "-DOLD_DRIVER")


@pytest.fixture(autouse=True)
def _only_what_the_test_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No library and no program of this machine; nvidia-ml-py as freshly imported."""
    monkeypatch.setenv(nvml.LIBRARY_VARIABLE, str(tmp_path / "no-library.so"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


@pytest.fixture
def no_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-ml-py is not installed."""
    monkeypatch.setitem(sys.modules, "pynvml", None)


def opened(monkeypatch: pytest.MonkeyPatch, library: Path) -> nvml.Reader:
    monkeypatch.setenv(nvml.LIBRARY_VARIABLE, str(library))
    reader = nvml.open_reader()
    assert reader is not None
    return reader


def check(reader: nvml.Reader) -> None:
    assert (reader.driver, reader.cuda) == ("570.86.15", "12.8")
    assert reader.read() == [FIRST, SECOND]
    # The next reading is a new one.
    assert [gpu["utilisation_percent"] for gpu in reader.read()] == [11, 21]
    first, second = reader.read(processes=True)
    assert first["processes"] == [(4242, 1024 * 1024), (4343, None)]
    assert second["processes"] == []
    reader.close()


def test_through_nvidia_ml_py(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    reader = opened(monkeypatch, library)
    assert reader.source == "nvidia-ml-py"
    check(reader)


@pytest.mark.usefixtures("no_binding")
def test_through_the_library_itself(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    reader = opened(monkeypatch, library)
    assert reader.source == "NVML"
    check(reader)


@pytest.mark.parametrize("binding", [True, False])
def test_what_an_older_driver_lacks_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, old_library: Path, binding: bool
) -> None:
    if not binding:
        request.getfixturevalue("no_binding")
    reader = opened(monkeypatch, old_library)
    assert reader.source == ("nvidia-ml-py" if binding else "NVML")
    lacking = dict.fromkeys(MISSING_IN_OLD)
    assert reader.read(processes=True) == [
        FIRST | lacking | {"processes": []},
        SECOND | lacking | {"processes": []},
    ]
    reader.close()


def _install_smi(folder: Path, text: str) -> None:
    program = folder / "bin" / "nvidia-smi"
    program.write_text(text)
    program.chmod(0o755)


def test_through_the_program(tmp_path: Path) -> None:
    _install_smi(tmp_path, SMI)
    reader = nvml.open_reader()
    assert reader is not None
    assert (reader.source, reader.driver, reader.cuda) == ("nvidia-smi", "570.86.15", "")
    lacking = set(MISSING_IN_OLD)
    expected = [
        {key: value for key, value in gpu.items() if key not in lacking} | {"compute_capability": ""}
        for gpu in (FIRST, SECOND)
    ]
    assert reader.read() == expected
    reader.close()


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\nexit 9\n",
        "#!/bin/sh\necho NVIDIA-SMI has failed because it could not communicate with the driver.\n",
        "#!/bin/sh\necho 'No devices were found'\n",
        "not a program",
    ],
)
def test_a_program_that_reads_nothing(tmp_path: Path, text: str) -> None:
    _install_smi(tmp_path, text)
    assert nvml.open_reader() is None


def test_a_program_that_stops_answering(tmp_path: Path) -> None:
    _install_smi(tmp_path, SMI)
    reader = nvml.open_reader()
    assert reader is not None
    _install_smi(tmp_path, "#!/bin/sh\nexit 9\n")
    assert reader.read() == []


@pytest.mark.parametrize("binding", [True, False])
def test_without_a_library_there_is_no_reader(request: pytest.FixtureRequest, binding: bool) -> None:
    if not binding:
        request.getfixturevalue("no_binding")
    assert nvml.open_reader() is None


def test_a_library_without_its_driver(monkeypatch: pytest.MonkeyPatch, library: Path, tmp_path: Path) -> None:
    monkeypatch.setenv(nvml.LIBRARY_VARIABLE, str(library))
    monkeypatch.setenv("FAKE_NVML_INIT", "9")  # NVML_ERROR_DRIVER_NOT_LOADED
    assert nvml.open_reader() is None
    _install_smi(tmp_path, SMI)
    reader = nvml.open_reader()
    assert reader is not None
    assert reader.source == "nvidia-smi"


def test_a_file_that_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rubbish = tmp_path / "libnvidia-ml.so.1"
    rubbish.write_bytes(b"\x7fELF rubbish")
    monkeypatch.setenv(nvml.LIBRARY_VARIABLE, str(rubbish))
    assert nvml.open_reader() is None


def test_the_description_names_the_gpus(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    event = describe_environment(opened(monkeypatch, library))
    assert (event["driver"], event["driver_cuda"], event["gpu_source"]) == (
        "570.86.15",
        "12.8",
        "nvidia-ml-py",
    )
    assert event["gpus"] == [
        {
            "index": gpu["index"],
            "uuid": gpu["uuid"],
            "name": gpu["name"],
            "memory_bytes": gpu["memory_total_bytes"],
            "compute_capability": gpu["compute_capability"],
        }
        for gpu in (FIRST, SECOND)
    ]


# ── the whole way ──────────────────────────────────────────────────────────────────────────────────────────────────

UNTIL = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
SERIES = {
    "utilisation_percent": "utilisation_percent",
    "memory_bytes": "memory_used_bytes",
    "memory_total_bytes": "memory_total_bytes",
    "power_w": "power_w",
    "power_limit_w": "power_limit_w",
    "temperature_c": "temperature_c",
    "sm_clock_mhz": "sm_clock_mhz",
    "mem_clock_mhz": "mem_clock_mhz",
    "throttle_reasons": "throttle_reasons",
    "pcie_rx_bytes_per_s": "pcie_rx_bytes_per_s",
    "pcie_tx_bytes_per_s": "pcie_tx_bytes_per_s",
}


@pytest.mark.parametrize("binding", [True, False])
def test_a_run_has_series_for_each_gpu(bench: Bench, library: Path, tmp_path: Path, binding: bool) -> None:
    env = {nvml.LIBRARY_VARIABLE: str(library)}
    if not binding:
        (tmp_path / "without").mkdir()
        (tmp_path / "without" / "pynvml.py").write_text("raise ImportError\n")
        env["PYTHONPATH"] = str(tmp_path / "without")
    end = tmp_path / "end"
    running = bench.start([PYTHON, "-c", UNTIL, str(end)], env=env, sample_s=0.1)

    def samples() -> int:
        frames, _ = taken_apart(running.output)
        entries = [entry for frame in frames for entry in frame.body.get("series", [])]
        return sum(entry["n"] for entry in entries if entry["name"] == "gpu.1.temperature_c")

    def is_described() -> bool:
        frames, _ = taken_apart(running.output)
        return any(e["type"] == "environment" for f in frames for e in f.body.get("events", []))

    assert wait_until(lambda: samples() >= 3 and is_described(), deadline_s=30)
    end.touch()
    outcome = running.end()
    outcome.check()
    for index, gpu in enumerate((FIRST, SECOND)):
        for series, key in SERIES.items():
            points = outcome.points(f"gpu.{index}.{series}", "system")
            if gpu[key] is None:
                assert points == []
            elif key == "utilisation_percent":
                # The stand-in counts how often it was asked; the description asks, too.
                values = [value for _, value in points]
                assert values[0] == gpu[key]
                assert values == sorted(set(values))
            else:
                assert len(points) >= 3
                assert all(value == gpu[key] for _, value in points)
            assert [step for step, _ in points] == list(range(len(points)))
    assert {name for name in outcome.series("system") if name.startswith("gpu.")} == {
        f"gpu.{index}.{name}" for index in (0, 1) for name in SERIES
    } - {"gpu.1.power_w"}
    (event,) = outcome.events("environment")
    assert event["gpu_source"] == ("nvidia-ml-py" if binding else "NVML")
    assert [gpu["uuid"] for gpu in event["gpus"]] == [FIRST["uuid"], SECOND["uuid"]]


def test_a_run_without_gpus_has_none(bench: Bench, tmp_path: Path) -> None:
    end = tmp_path / "end"
    running = bench.start([PYTHON, "-c", UNTIL, str(end)], sample_s=0.1)
    running.wait_for(b"MLS1 2 ")
    end.touch()
    outcome = running.end()
    outcome.check()
    assert not [name for name in outcome.series("system") if name.startswith("gpu.")]
