"""The probe as a process: how a command is started, minded, ended and told of, and what becomes of its output."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import time
from array import array
from pathlib import Path

import psutil
import pytest

from mlstudio.probe import supervisor
from mlstudio.probe.channel import Series
from mlstudio.probe.output import Outlet, Spool
from mlstudio.probe.wire import decode_spool
from tests.conftest import wait_until
from tests.probe.runs import PYTHON, Bench, Running, is_gone, soon, taken_apart

WAIT_FOR_FILE = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
SECRET = "correct-horse-battery-staple"


def probe_of(running: Running, bench: Bench) -> int:
    """The probe's process as this machine counts it: the child of `unshare` where it is process 1."""
    if not bench.as_init:
        return running.process.pid
    (child,) = psutil.Process(running.process.pid).children()
    return child.pid


# ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_is_the_commands(each_bench: Bench, code: int) -> None:
    outcome = each_bench.script(f"raise SystemExit({code})")
    assert outcome.code == code
    assert (outcome.exit["code"], outcome.exit["signal"]) == (code, None)
    assert (outcome.exit["started"], outcome.exit["stopped"], outcome.exit["killed"]) == (True, False, False)
    assert str(code) in outcome.exit["message"] or code == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_signal_is_told(each_bench: Bench, number: signal.Signals) -> None:
    outcome = each_bench.script(f"import os; os.kill(os.getpid(), {int(number)})")
    assert outcome.code == 128 + number
    assert (outcome.exit["code"], outcome.exit["signal"]) == (128 + number, number)
    assert number.name in outcome.exit["message"]
    assert outcome.exit["oom"] is False


def test_a_program_that_is_not_there(each_bench: Bench) -> None:
    outcome = each_bench.run(["no-such-program-anywhere", "--x"])
    assert outcome.code == 127
    assert (outcome.exit["code"], outcome.exit["started"]) == (127, False)
    assert "no-such-program-anywhere" in outcome.exit["message"]
    assert outcome.exit["message"].encode() in outcome.log_of(errors=True)
    assert outcome.events("start") == []


def test_a_program_that_may_not_be_executed(each_bench: Bench, tmp_path: Path) -> None:
    program = tmp_path / "plain.txt"
    program.write_text("no program\n")
    outcome = each_bench.run([str(program)])
    assert outcome.code == 127
    assert "may not be executed" in outcome.exit["message"]


def test_a_folder_that_is_not_there(each_bench: Bench, tmp_path: Path) -> None:
    outcome = each_bench.run(["true"], workdir=str(tmp_path / "nowhere"))
    assert outcome.code == 127
    assert str(tmp_path / "nowhere") in outcome.exit["message"]


def test_folder_and_variables_of_the_command(each_bench: Bench, tmp_path: Path) -> None:
    script = (
        "import os, sys; print(os.getcwd(), os.environ['COLOUR'], os.environ['MLSTUDIO_RUN_ID'], repr(sys.stdin.read()));"
        "print(os.getpid() == os.getpgid(0))"
    )
    outcome = each_bench.script(script, workdir=str(tmp_path), env={"COLOUR": "red"}, run_id="r7")
    assert outcome.log.decode() == f"{tmp_path} red r7 ''\nTrue\n"


# ── ending it ──────────────────────────────────────────────────────────────────────────────────────────────────────

GROUP = """
import os, signal, sys
if os.fork() == 0:
    def end(*_):
        os.write(1, b"child asked\\n")
        os._exit(5)
    signal.signal(signal.SIGTERM, end)
    os.write(1, b"ready\\n")
    while True:
        signal.pause()
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"parent asked\\n"))
_, status = os.wait()  # Python begins again after the signal: only the child's own end ends it.
sys.exit(os.WEXITSTATUS(status))
"""


def test_sigterm_goes_to_the_whole_group(each_bench: Bench) -> None:
    running = each_bench.start([PYTHON, "-c", GROUP])
    running.wait_for(b"ready")
    os.kill(probe_of(running, each_bench), signal.SIGTERM)
    outcome = running.end()
    outcome.check()
    assert outcome.code == 5
    assert sorted(outcome.log.splitlines()) == [b"child asked", b"parent asked", b"ready"]
    assert (outcome.exit["stopped"], outcome.exit["killed"]) == (True, False)
    (stopping,) = outcome.events("stopping")
    assert (stopping["signal"], stopping["why"]) == (signal.SIGTERM, "")


def test_sigint_is_forwarded_as_itself(each_bench: Bench) -> None:
    script = (
        "import signal\n"
        "try:\n    print('ready', flush=True)\n    signal.pause()\nexcept KeyboardInterrupt:\n    exit(9)"
    )
    running = each_bench.start([PYTHON, "-c", script])
    running.wait_for(b"ready")
    os.kill(probe_of(running, each_bench), signal.SIGINT)
    outcome = running.end()
    assert outcome.code == 9
    assert outcome.events("stopping")[0]["signal"] == signal.SIGINT


DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_who_ignores_sigterm_is_killed_after_the_grace(each_bench: Bench) -> None:
    running = each_bench.start([PYTHON, "-c", DEAF], grace_s=0.4)
    running.wait_for(b"ready")
    asked = time.monotonic()
    os.kill(probe_of(running, each_bench), signal.SIGTERM)
    outcome = running.end()
    took = time.monotonic() - asked
    outcome.check()
    assert outcome.code == 128 + signal.SIGKILL
    assert (outcome.exit["signal"], outcome.exit["stopped"], outcome.exit["killed"]) == (9, True, True)
    assert [event["after_s"] for event in outcome.events("killing")] == [0.4]
    assert took >= 0.4


def test_it_is_stopped_at_its_time_limit(each_bench: Bench) -> None:
    outcome = each_bench.script("import signal; signal.pause()", stop_after_s=0.3)
    assert outcome.code == 128 + signal.SIGTERM
    (stopping,) = outcome.events("stopping")
    (start,) = outcome.events("start")
    assert stopping["why"] == "time limit"
    assert stopping["time"] - start["time"] >= 0.25
    assert (outcome.exit["stopped"], outcome.exit["killed"]) == (True, False)


def test_who_ends_before_the_limit_is_left_alone(bench: Bench) -> None:
    outcome = bench.run(["true"], stop_after_s=30)
    assert outcome.code == 0
    assert outcome.events("stopping") == []


LEAVES_ONE = """
import os, signal, sys
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    if sys.argv[1] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(told, b"%d" % os.getpid())
    while True:
        signal.pause()
os.wait()
print(os.read(ready, 20).decode(), flush=True)
sys.exit(4)
"""


@pytest.mark.parametrize("manner", ["polite", "deaf"])
def test_what_the_command_leaves_behind_ends_with_it(each_bench: Bench, manner: str) -> None:
    began = time.monotonic()
    outcome = each_bench.run([PYTHON, "-c", LEAVES_ONE, manner])
    pid = int(outcome.log)
    assert outcome.code == 4
    assert outcome.exit["leftover_pids"] == [pid]
    assert ["1 process" in event["message"] for event in outcome.events("warning")] == [True]
    if not each_bench.as_init:
        assert is_gone(pid)
    if manner == "polite":
        assert soon(began, 2.0), "one that goes when asked is not waited for"


def test_orphans_are_reaped(each_bench: Bench) -> None:
    script = """
import os, signal
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
print("ready", flush=True)
signal.pause()
"""
    running = each_bench.start([PYTHON, "-c", script])
    running.wait_for(b"ready")
    probe = psutil.Process(probe_of(running, each_bench))
    assert wait_until(lambda: len(probe.children(recursive=True)) == 1)
    os.kill(probe.pid, signal.SIGTERM)
    assert running.end().code == 128 + signal.SIGTERM


# ── output ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_streams_arrive_apart(each_bench: Bench) -> None:
    script = "import os\nfor i in range(50): os.write(1, b'out %d\\n' % i); os.write(2, b'err %d\\n' % i)"
    before = time.time()
    outcome = each_bench.script(script)
    assert outcome.log_of(errors=False) == b"".join(b"out %d\n" % i for i in range(50))
    assert outcome.log_of(errors=True) == b"".join(b"err %d\n" % i for i in range(50))
    times = [when for frame in outcome.frames for _, _, when in frame.spans]
    assert times == sorted(times)
    assert before - 0.01 <= times[0] <= times[-1] <= time.time()


def test_output_comes_while_it_runs(bench: Bench, tmp_path: Path) -> None:
    end = tmp_path / "end"
    running = bench.start([PYTHON, "-c", "print('10 %', end='\\r', flush=True)\n" + WAIT_FOR_FILE, str(end)])

    def framed() -> bytes:
        return b"".join(frame.log for frame in taken_apart(running.output)[0])

    assert wait_until(lambda: framed() == b"10 %\r")
    end.touch()
    outcome = running.end()
    outcome.check()
    assert outcome.log == b"10 %\r"


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"caf\xc3\xa9 \xf0\x9f\x98\x80\n", "café 😀\n"),
        (b"\xff\xfe broken \xc3(\n", "\ufffd\ufffd broken \ufffd(\n"),
        (b"cut \xf0\x9f\x98", "cut \ufffd"),
        (b"\x00\x01\x1b[31mred\x1b[0m\r\n", "\x00\x01\x1b[31mred\x1b[0m\r\n"),
        (b"\x1eMLS1 0 00000000 {}\n", "\u241eMLS1 0 00000000 {}\n"),
        (b"a\x1e\x1eb", "a\u241e\u241eb"),
    ],
)
def test_odd_bytes(bench: Bench, printed: bytes, shown: str) -> None:
    outcome = bench.script(f"import os; os.write(1, {printed!r})")
    assert outcome.log == shown.encode()


def test_a_character_that_comes_in_two_writes(bench: Bench, tmp_path: Path) -> None:
    end = tmp_path / "end"
    script = "import os; os.write(1, b'a\\xf0\\x9f')\n" + WAIT_FOR_FILE + "os.write(1, b'\\x98\\x80b')"
    running = bench.start([PYTHON, "-c", script, str(end)])
    assert wait_until(lambda: any(frame.log for frame in taken_apart(running.output)[0]))
    end.touch()
    outcome = running.end()
    outcome.check()
    assert outcome.log == "a😀b".encode()
    assert len([frame for frame in outcome.frames if frame.log]) == 2


def test_a_line_of_10_megabytes(bench: Bench) -> None:
    outcome = bench.script(
        "import os\ndata = b'0123456789' * 1_000_000\nwhile data: data = data[os.write(1, data):]"
    )
    assert outcome.log == b"0123456789" * 1_000_000
    assert len(outcome.frames) > 5, "no frame may have to hold all of it"


def test_200_000_lines_at_once(bench: Bench) -> None:
    outcome = bench.script("print(*(f'line {i}' for i in range(200_000)), sep='\\n')")
    assert outcome.log == b"".join(b"line %d\n" % i for i in range(200_000))


def test_a_forged_frame_is_output(bench: Bench) -> None:
    """A command that prints what a frame looks like cannot speak for the probe."""
    script = (
        'import zlib; body = b\'{"t":1,"events":[{"type":"exit","code":99}],"final":true}\';'
        "import os; os.write(1, b'\\n\\x1eMLS1 0 %08x %s\\n' % (zlib.crc32(body), body))"
    )
    outcome = bench.script(script)
    assert outcome.exit["code"] == 0
    assert "\u241eMLS1 0".encode() in outcome.log


# ── the spool ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_spool_says_the_same(each_bench: Bench) -> None:
    script = (
        "import mlstudio, os\nfor i in range(2000): mlstudio.log(loss=i); os.write(1 + i % 2, b'at %d' % i)"
    )
    outcome = each_bench.script(script)
    spooled = outcome.spooled()
    assert [frame.seq for frame in spooled] == [frame.seq for frame in outcome.frames]
    assert [frame.log for frame in spooled] == [frame.log for frame in outcome.frames]
    assert [frame.spans for frame in spooled] == [frame.spans for frame in outcome.frames]
    for one, other in zip(spooled, outcome.frames, strict=True):
        assert one.intact
        assert {k: v for k, v in one.body.items() if k != "log"} == {
            k: v for k, v in other.body.items() if k != "log"
        }
    assert len(outcome.points("loss")) == 2000


def test_the_spool_forgets_its_oldest(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)  # Nobody reads the output: the spool goes on alone.
    outlet = Outlet(write_end, spool=Spool(str(tmp_path), limit_bytes=400_000), clock=lambda: 1.0)
    for number in range(3000):
        outlet.write(b"%d " % number + b"x" * 100 + b"\n", False)
        outlet.flush()
    outlet.flush(final=True)
    os.close(write_end)
    files = sorted(tmp_path.glob("*.mls"), key=lambda path: int(path.stem))
    assert [path.stem for path in files] == ["1", "2"]
    frames = [frame for path in files for frame in decode_spool(path.read_bytes())]
    assert [frame.seq for frame in frames] == list(range(1024, 3001))
    assert frames[-1].body["final"] is True
    assert sum(path.stat().st_size for path in files) <= 400_000


def test_many_points_are_spread_over_frames(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        outlet = Outlet(file.fileno(), spool=None, clock=lambda: 1.0)
        series = Series()
        count = 120_001
        series.steps.extend(range(count))
        series.times.extend(array("d", [0.5]) * count)
        series.values.extend(array("d", range(count)))
        outlet.points({("mlstudio", "loss"): series})
        outlet.flush(final=True)
    frames, pending = taken_apart(out.read_bytes())
    assert [entry["n"] for frame in frames for entry in frame.body["series"]] == [50_000, 50_000, 20_001]
    assert [bool(frame.body.get("final")) for frame in frames] == [False, False, True]
    assert pending == b""


def test_without_a_folder_to_write_to_output_still_comes(bench: Bench) -> None:
    bench.root.mkdir()
    (bench.root / "run").mkdir()
    (bench.root / "run" / "channel").write_text("in the way")
    outcome = bench.script("import mlstudio; mlstudio.log(loss=1); print('here')")
    assert (outcome.code, outcome.log) == (0, b"here\n")
    assert [event["what"] for event in outcome.events("lacks")] == ["metrics"]


# ── secrets ────────────────────────────────────────────────────────────────────────────────────────────────────────


def given(**secrets: str) -> bytes:
    return json.dumps(secrets).encode() + b"\n"


def everything(outcome_root: Path) -> bytes:
    """All that the probe wrote, less the secrets' own files."""
    return b"".join(
        path.read_bytes()
        for path in sorted(outcome_root.rglob("*"))
        if path.is_file() and path.parent.name != "secrets" and path.suffix != ".pyz"
    )


def test_a_secret_is_for_the_command_alone(each_bench: Bench) -> None:
    script = """
import os
path = os.environ["API_KEY_FILE"]
for text in (os.environ["API_KEY"], open(path).read(), oct(os.stat(path).st_mode), path):
    print(text.encode().hex())
print("mine" if b"API_KEY" in open("/proc/self/environ", "rb").read() else "")
print("probe's" if b"API_KEY" in open("/proc/%d/environ" % os.getppid(), "rb").read() else "not the probe's")
"""
    outcome = each_bench.script(script, secrets=["API_KEY"], stdin=given(API_KEY=SECRET))
    *shown, mine, probes = outcome.log.decode().split("\n")[:-1]
    value, content, mode, path = (bytes.fromhex(text).decode() for text in shown)
    assert (value, content, mode) == (SECRET, SECRET, oct(stat.S_IFREG | 0o400))
    assert Path(path) == each_bench.root / "secrets" / "API_KEY"
    assert (mine, probes) == ("mine", "not the probe's")
    assert SECRET.encode() not in everything(each_bench.root)


def test_a_secret_is_hidden_in_both_streams(bench: Bench) -> None:
    script = (
        "import os, sys; s = os.environ['API_KEY']; print('a', s, 'b'); print(s + s, end='', file=sys.stderr)"
    )
    outcome = bench.script(script, secrets=["API_KEY"], stdin=given(API_KEY=SECRET))
    assert outcome.log_of(errors=False) == b"a [secret API_KEY] b\n"
    assert outcome.log_of(errors=True) == b"[secret API_KEY][secret API_KEY]"
    assert SECRET.encode() not in everything(bench.root)
    assert all(SECRET.encode() not in frame.log for frame in outcome.spooled())


IN_PIECES = """
import fcntl, os, struct, termios, time
for letter in os.environ["API_KEY"].encode() + b"|":
    os.write(1, bytes([letter]))
    # Until the probe has read it: it sees each letter alone.
    while struct.unpack("i", fcntl.ioctl(1, termios.FIONREAD, b"1234"))[0]:
        time.sleep(0.001)
"""


def test_a_secret_that_comes_letter_by_letter(bench: Bench) -> None:
    outcome = bench.script(IN_PIECES, secrets=["API_KEY"], stdin=given(API_KEY=SECRET))
    assert outcome.log == b"[secret API_KEY]|"


@pytest.mark.parametrize("ending", ["", "\\n"])
def test_a_secret_at_the_very_end(bench: Bench, ending: str) -> None:
    """The value ends with a newline, as one that was read from a file does; the output may lack it."""
    script = f"import os; print(os.environ['API_KEY'].strip(), end='{ending}')"
    outcome = bench.script(script, secrets=["API_KEY"], stdin=given(API_KEY=SECRET + "\n"))
    assert outcome.log.rstrip() == b"[secret API_KEY]"


def test_a_secret_in_what_is_logged(bench: Bench) -> None:
    """Parameters and texts are kept with the run, like its output."""
    script = """
import mlstudio, os
secret = os.environ["API_KEY"]
mlstudio.param(dict(vars=dict(key=secret)))
mlstudio.param("url", "https://me:" + secret + "@example.org")
mlstudio.log(note="with " + secret)
mlstudio.param(secret, 1)
mlstudio.log({"m/" + secret: 1.0})
"""
    outcome = bench.script(script, secrets=["API_KEY"], stdin=given(API_KEY=SECRET))
    assert [(event["name"], event["value"]) for event in outcome.events("param")] == [
        ("vars/key", "[secret API_KEY]"),
        ("url", "https://me:[secret API_KEY]@example.org"),
        ("[secret API_KEY]", 1),
    ]
    assert [event["value"] for event in outcome.events("text")] == ["with [secret API_KEY]"]
    assert outcome.series() == {"m/[secret API_KEY]"}
    assert SECRET not in str([frame.body for frame in outcome.frames])


def test_several_secrets(bench: Bench) -> None:
    script = "import os; print(os.environ['A'], os.environ['B'], open(os.environ['B_FILE']).read())"
    outcome = bench.script(script, secrets=["A", "B"], stdin=given(A="first-value", B="first-value-and-more"))
    assert outcome.log == b"[secret A] [secret B] [secret B]\n"


@pytest.mark.parametrize("line", [b"", b"rubbish\n", b"[1]\n", b'{"OTHER": "x"}\n'])
def test_secrets_that_do_not_arrive(bench: Bench, line: bytes) -> None:
    outcome = bench.script("print('started')", secrets=["API_KEY"], stdin=line)
    assert outcome.code == 127
    assert "secrets did not arrive" in outcome.exit["message"]
    assert b"started" not in outcome.log


# ── what it ran on ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_environment_is_described(bench: Bench, tmp_path: Path) -> None:
    end = tmp_path / "end"
    running = bench.start([PYTHON, "-c", WAIT_FOR_FILE, str(end)])

    def described() -> bool:
        return any(
            event["type"] == "environment"
            for frame in taken_apart(running.output)[0]
            for event in frame.body.get("events", [])
        )

    assert wait_until(described, deadline_s=30)
    end.touch()
    outcome = running.end()
    outcome.check()
    (event,) = outcome.events("environment")
    assert event["python"].split(".")[0] == "3"
    assert event["kernel"] == os.uname().release
    assert event["memory_bytes"] == psutil.virtual_memory().total
    assert event["cpus"] == len(os.sched_getaffinity(0))
    packages = dict(event["packages"])
    assert packages["pytest"] == pytest.__version__
    assert [name for name, _ in event["packages"]] == sorted(packages)


def test_a_short_run_is_described_too(bench: Bench) -> None:
    outcome = bench.run(["true"])
    (event,) = outcome.events("environment")
    assert event["kernel"] == os.uname().release
    assert event["memory_bytes"] > 0
    (start,) = outcome.events("start")
    assert start["pid"] > 1
    assert start["hostname"] == os.uname().nodename


def test_a_start_on_a_full_disk_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run that began in such a moment would have no spool and no numbers until its end."""
    real, tries = os.makedirs, 0

    def full_at_first(path: str, exist_ok: bool = False) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, exist_ok=exist_ok)

    monkeypatch.setattr(os, "makedirs", full_at_first)
    supervisor._make_folder(str(tmp_path / "run" / "spool"))
    assert (tmp_path / "run" / "spool").is_dir()
    monkeypatch.setattr(supervisor, "_ROOM_WITHIN_S", 0.3)
    tries = -1000
    with pytest.raises(OSError, match="No space left"):
        supervisor._make_folder(str(tmp_path / "other"))

    def refused(path: str, exist_ok: bool = False) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "makedirs", refused)
    tries = 0
    with pytest.raises(OSError, match="Read-only"):
        supervisor._make_folder(str(tmp_path / "other"))
    assert tries == 1
