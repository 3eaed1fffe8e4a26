"""An engine, a home on a small disk, a recorder, a window, runs: all may be hurt. And what must hold in the end."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mlstudio.model.errors import StudioError
from mlstudio.model.run import RunState, RunSummary
from mlstudio.services.recording.follower import CUT_OFF
from mlstudio.services.studio import Studio
from mlstudio.services.wishes import Words, spec_from
from mlstudio.store import History
from tests.conftest import wait_until
from tests.engines.second_engine import SecondEngine

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BASES = ("mlstudio-base/python:3.11-bookworm", "python:3.11-slim-bookworm")
IMAGE = "chaos/python:1"
AT_ONCE = 3
_HOME_MB = 96
_ENGINE_MB = 1200


@dataclass
class Fate:
    """One run: what it was to do, and what was done to it."""

    key: str
    steps: int
    code: int
    run_id: str = ""
    launch_error: str = ""
    was_killed: bool = False
    engine_disk_was_full: bool = False
    is_over: bool = False


@dataclass
class Verdict:
    """What was found in the end."""

    faults: Counter[str]
    runs: int
    points: int
    gaps: int = 0
    """Runs with gaps that had to be."""
    problems: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)


class World:
    """`live_restore`: containers outlive their engine, which may then be killed; else it is stopped in good order, and
    ends them."""

    def __init__(self, folder: Path, *, seed: int, live_restore: bool) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.live_restore = live_restore
        options = ["--log-opt=max-size=10k", "--log-opt=max-file=2"]
        self.engine = SecondEngine(
            folder / "engine", options=(*options, *(["--live-restore"] if live_restore else []))
        )
        self.home = folder / "home"
        self.faults: Counter[str] = Counter()
        self.fates: list[Fate] = []
        self._recorder: subprocess.Popen[bytes] | None = None
        self._window: subprocess.Popen[bytes] | None = None
        self._launches: list[threading.Thread] = []
        self._engine_may_be_away = threading.Lock()

    # -- making and ending ----------------------------------------------------------------------------------------

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.engine.folder.mkdir(parents=True)
        disk = self.folder / "disk.img"
        with disk.open("wb") as file:
            file.truncate(_ENGINE_MB << 20)
        _run("mkfs.ext4", "-q", "-m", "0", str(disk))
        _run("mount", "-o", "loop", str(disk), str(self.engine.folder))
        self.home.mkdir(mode=0o700)
        _run("mount", "-t", "tmpfs", "-o", f"size={_HOME_MB}m,mode=0700", "tmpfs", str(self.home))
        self.engine.start()
        self._make_image()
        self.code = self.folder / "code"
        self.code.mkdir()
        (self.code / "train.py").write_bytes((HERE / "train.py").read_bytes())
        self.start_recorder()
        self.start_window()

    def close(self) -> None:
        for thread in self._launches:
            thread.join()
        if self._window is not None:
            self._window.kill()
            self._window.wait()
        self._end_recorder()
        self.engine.clean()
        # A daemon that was killed leaves its folder mounted on itself.
        for place in (self.home, self.engine.folder / "data", self.engine.folder):
            while (
                subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False).returncode == 0
            ):
                continue

    def _make_image(self) -> None:
        library = self.folder / "image" / "jump.so"
        library.parent.mkdir()
        _run("cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "clock_jump.c"))
        base = next(name for name in BASES if _finds(name))
        packed = subprocess.run(["docker", "save", base], capture_output=True, check=True).stdout
        loaded = self.engine.docker("load", data=packed)
        assert loaded.returncode == 0, loaded.stderr
        (library.parent / "Dockerfile").write_text(
            f"FROM {base}\nCOPY jump.so /opt/jump.so\nENV LD_PRELOAD=/opt/jump.so\n"
        )
        built = subprocess.run(
            ["docker", "-H", self.engine.url, "build", "-q", "-t", IMAGE, str(library.parent)],
            capture_output=True,
            check=False,
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
        )
        assert built.returncode == 0, built.stderr

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DOCKER_HOST": self.engine.url,
            "QT_QPA_PLATFORM": "offscreen",
        }

    def _end_recorder(self) -> None:
        """Whoever has started it: the window starts one, too, where there is none."""
        found = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "recorder" in (process.info["cmdline"] or []) and str(self.home) in process.info["cmdline"]
        ]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=10)
        if self._recorder is not None:
            self._recorder.wait()

    def start_recorder(self) -> None:
        self._recorder = subprocess.Popen(
            [sys.executable, "-m", "mlstudio", "recorder", "--home", str(self.home)],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start_window(self) -> None:
        self._window = subprocess.Popen(
            [sys.executable, "-m", "mlstudio", "--home", str(self.home), "gui"],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # -- runs -----------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Start a run, in a thread: a launch waits for the engine."""
        dice = self.random
        fate = Fate(
            key=f"chaos-{uuid.UUID(int=dice.getrandbits(128)).hex[:12]}",
            steps=dice.randrange(500, 3000),
            code=dice.choice((0, 0, 0, 3)),
        )
        pause = dice.choice((0.5, 1, 2, 4))
        self.fates.append(fate)
        thread = threading.Thread(target=self._launch, args=(fate, pause), name=fate.key)
        thread.start()
        self._launches.append(thread)

    def _launch(self, fate: Fate, pause: float) -> None:
        from mlstudio.engines.docker import DockerEngine
        from tests.engines.conftest import engine_at

        engine: DockerEngine = engine_at(self.engine.url, self.folder / "client")
        with Studio(self.home, engines={"local": engine}) as studio:
            words = Words(
                target=str(self.code),
                image=IMAGE,
                command_line=f"python3 train.py {fate.key} {fate.steps} {pause} {fate.code}",
                network="none",
                name=fate.key,
                heeds_project=False,
            )
            for _ in range(20):
                try:
                    spec = spec_from(studio, words)
                    fate.run_id = studio.launcher.submit(spec).id
                    break
                except StudioError as error:
                    # The disk is full: nothing was put down, so nothing may be there later.
                    fate.launch_error = str(error)
                    time.sleep(0.5)
            else:
                fate.is_over = True
                return
            try:
                studio.launcher.carry_out(fate.run_id, spec)
                fate.launch_error = ""
            except StudioError as error:
                fate.launch_error = str(error)

    def live(self) -> list[Fate]:
        """Runs that are not over, as far as the history knows."""
        with (
            contextlib.suppress(StudioError),
            contextlib.closing(History(self.home / "history.db")) as history,
        ):
            for fate in self.fates:
                if fate.run_id and not fate.is_over:
                    fate.is_over = history.summary(fate.run_id).state.is_final
        return [fate for fate in self.fates if not fate.is_over]

    # -- faults ---------------------------------------------------------------------------------------------------

    def hurt(self) -> str:
        """One fault of those that are possible now; which."""
        kinds: list[tuple[int, str, Callable[[], bool]]] = [
            (26, "recorder killed", self._kill_recorder),
            (6, "recorder away for long", self._recorder_away),
            (18, "training killed", self._kill_training),
            (8, "window killed", self._kill_window),
            (6, "engine killed" if self.live_restore else "engine restarted", self._restart_engine),
            (10, "disk of the history full", self._fill_home),
            (6, "disk of the engine full", self._fill_containers),
            (20, "clock jumped", self._jump),
        ]
        while True:
            (_, name, act) = self.random.choices(kinds, weights=[weight for weight, _, _ in kinds])[0]
            if act():
                self.faults[name] += 1
                return name

    def _kill_recorder(self) -> bool:
        self._end_recorder()
        self.start_recorder()
        return True

    def _recorder_away(self) -> bool:
        """Long enough for the engine to throw away what it kept of the output, several times."""
        # The window would start one again.
        assert self._window is not None
        self._window.kill()
        self._window.wait()
        self._end_recorder()
        time.sleep(self.random.uniform(3, 6))
        self.start_window()
        self.start_recorder()
        return True

    def _kill_training(self) -> bool:
        found = [(fate, process) for fate in self.live() if (process := _training(fate)) is not None]
        if not found:
            return False
        fate, process = self.random.choice(found)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            fate.was_killed = True
        return True

    def _kill_window(self) -> bool:
        assert self._window is not None
        self._window.kill()
        self._window.wait()
        self.start_window()
        return True

    def _restart_engine(self) -> bool:
        if self.live_restore:
            self.engine.kill()
        else:
            for fate in self.live():
                # It ends its containers in good order.
                fate.was_killed = True
            self.engine.stop()
        time.sleep(self.random.uniform(0, 1))
        self.engine.start()
        return True

    def _fill_home(self) -> bool:
        """No byte more fits on the disk of the history, for a while."""
        self._fill(self.home, self.random.uniform(0.3, 2.0))
        return True

    def _fill_containers(self) -> bool:
        """No byte more fits on the disk of the engine: neither what it keeps of the output, nor what the probe keeps."""
        live = self.live()
        if not live:
            return False
        for fate in live:
            fate.engine_disk_was_full = True
        self._fill(self.engine.folder, self.random.uniform(0.3, 1.5))
        return True

    def _jump(self) -> bool:
        """An hour forward or back, for one run and its probe."""
        found = [process for fate in self.live() if (process := _training(fate)) is not None]
        if not found:
            return False
        process = self.random.choice(found)
        offset = self.random.choice((-3600, 3600, -5, 86400, 0))
        with contextlib.suppress(OSError):
            path = Path("/proc") / str(process.pid) / "root/tmp/clock-offset"
            # In place: it is mapped, and must never be shorter.
            with path.open("r+b", buffering=0) as file:
                file.write(offset.to_bytes(8, "little", signed=True))
        return True

    def _fill(self, folder: Path, seconds: float) -> None:
        ballast = folder / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        time.sleep(seconds)
        ballast.unlink(missing_ok=True)

    # -- the end --------------------------------------------------------------------------------------------------

    def settle(self, *, deadline_s: float = 180, evidence: Path | None = None) -> Verdict:
        """Let everything come to its end, and compare. What belongs to problems is copied to `evidence`."""
        for thread in self._launches:
            thread.join(deadline_s)
        assert self._recorder is not None

        def is_settled() -> bool:
            if self._recorder is not None and self._recorder.poll() is not None and self.live():
                self.start_recorder()
            return not self.live()

        settled = wait_until(is_settled, deadline_s=deadline_s, every_s=0.5)
        verdict = Verdict(faults=self.faults, runs=len(self.fates), points=0)
        if not settled:
            verdict.problems += [f"{fate.key} never ended" for fate in self.live()]
        with contextlib.closing(History(self.home / "history.db")) as history:
            for fate in self.fates:
                if fate.run_id:
                    before = len(verdict.problems)
                    self._judge(history, fate, verdict)
                    if len(verdict.problems) > before and evidence is not None:
                        self._keep(history, fate, evidence)
            known = {fate.run_id for fate in self.fates}
            verdict.problems += [
                f"a run of nobody: {run.name}" for run in history.runs() if run.id not in known
            ]
        return verdict

    def _keep(self, history: History, fate: Fate, evidence: Path) -> None:
        """All that tells how it came: what is recorded, what the engine kept of the output, and the spool."""
        folder = evidence / fate.key
        folder.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(history.path) as source, sqlite3.connect(folder / "history.db") as copy:
            source.backup(copy)
        listed = self.engine.docker(
            "ps", "-aq", "--no-trunc", "--filter", f"label=mlstudio.run={fate.run_id}"
        )
        for handle in listed.stdout.decode().split():
            (folder / "spool.tar").write_bytes(
                self.engine.docker("cp", f"{handle}:/mlstudio/run/spool", "-").stdout
            )
            for log in (self.engine.folder / "data/containers" / handle).glob("*.log*"):
                shutil.copy2(log, folder)
        shutil.copy2(self.home / "recorder.log", folder)

    def _judge(self, history: History, fate: Fate, verdict: Verdict) -> None:
        run = history.summary(fate.run_id)
        verdict.states[run.state.value] += 1
        how = run.exit.message if run.exit is not None else run.phase
        full = ", the engine's disk was full" if fate.engine_disk_was_full else ""
        words = f"{fate.key} ({run.state.value}: {how} {fate.launch_error}{full})"
        logged, has_ended = self._ledger(run, fate)
        # With a full disk on the engine's side there may be nothing to fill a gap from; then the gap is there to be seen.
        has_gap = (bool(run.gaps) or CUT_OFF in run.lacks) and fate.engine_disk_was_full
        verdict.gaps += has_gap
        for name, divisor in (("loss", 2), ("third", 3)):
            steps, values = self._points(history, run, name)
            verdict.points += len(steps)
            if len(set(steps)) != len(steps):
                verdict.problems.append(f"{words}: {name} has steps twice")
            if steps != sorted(steps):
                verdict.problems.append(f"{words}: {name} is not in order")
            if values != [step / divisor for step in steps]:
                verdict.problems.append(f"{words}: {name} has wrong values")
            # Between the logging of a point and the noting of it the process may have been killed.
            least = 0 if has_gap else logged
            if logged is not None and least is not None and not least <= len(steps) <= logged + 1:
                verdict.problems.append(
                    f"{words}: {name} has {len(steps)} points, {logged} were logged; gaps {history.gaps(run.id)}"
                )
        if run.gaps and not has_gap:
            verdict.problems.append(f"{words}: {run.gaps} gaps {history.gaps(run.id)}")
        self._judge_end(run, fate, verdict, words, has_ended)
        self._judge_lines(history, run, fate, verdict, words, has_ended)

    def _judge_end(self, run: RunSummary, fate: Fate, verdict: Verdict, words: str, has_ended: bool) -> None:
        """The state is what really happened."""
        code = run.exit.code if run.exit is not None else None
        if run.state not in (RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED):
            verdict.problems.append(f"{words}: not at an end")
        elif fate.launch_error and not has_ended:
            return
        elif has_ended and run.state is not (RunState.FAILED if fate.code else RunState.SUCCEEDED):
            verdict.problems.append(f"{words}: it ran to its end with code {fate.code}")
        elif has_ended and code != fate.code:
            verdict.problems.append(f"{words}: its code was {fate.code}")
        elif not has_ended and not fate.was_killed:
            verdict.problems.append(f"{words}: nobody killed it, and it did not come to its end")
        elif not has_ended and run.state is RunState.SUCCEEDED:
            verdict.problems.append(f"{words}: it was killed")

    def _judge_lines(
        self, history: History, run: RunSummary, fate: Fate, verdict: Verdict, words: str, has_ended: bool
    ) -> None:
        lines = [line.text for line in history.log(run.id, count=100_000)]
        wanted = [f"line {step} {'x' * (step % 97)}" for step in range(0, fate.steps, 10)] + ["done"]
        ours = [line for line in lines if line.startswith(("line ", "done"))]
        if (run.gaps or CUT_OFF in run.lacks) and fate.engine_disk_was_full:
            # Lines at the edges of a gap may be pieces.
            known = set(wanted)
            whole = [line for line in ours if line in known]
            rest = iter(wanted)
            is_right = all(line in rest for line in whole) and len(ours) - len(whole) <= 2 * run.gaps + 2
        else:
            is_right = ours == (wanted if has_ended else wanted[: len(ours)])
        if not is_right:
            pairs = enumerate(zip(ours, wanted, strict=False))
            place = next((at for at, (one, other) in pairs if one != other), len(ours))
            verdict.problems.append(
                f"{words}: of {len(wanted)} lines {len(ours)} are there; line {place} is {_short(ours, place)} where "
                f"{_short(wanted, place)} should be, in {[line[:30] for line in lines[max(0, place - 2) : place + 4]]}"
            )

    def _points(self, history: History, run: RunSummary, name: str) -> tuple[list[int], list[float]]:
        if all(metric.name != name for metric in history.metrics(run.id)):
            return [], []
        found = history.series(run.id, name)
        return found.steps.tolist(), found.values.tolist()

    def _ledger(self, run: RunSummary, fate: Fate) -> tuple[int | None, bool]:
        """(how many points were logged, whether the script came to its end), as the container itself knows."""
        listed = self.engine.docker("ps", "-aq", "--filter", f"label=mlstudio.run={run.id}").stdout.split()
        if not listed:
            return (0 if fate.launch_error else None), False
        copied = self.engine.docker("cp", f"{listed[0].decode()}:/tmp/ledger", "-")
        if copied.returncode:
            return 0, False
        # A tar with one file of eight bytes, behind a head of 512.
        logged = int.from_bytes(copied.stdout[512:520], "little")
        state = self.engine.docker("inspect", "-f", "{{.State.ExitCode}}", listed[0].decode()).stdout.strip()
        return logged, logged == fate.steps and state == str(fate.code).encode()


def rage(
    folder: Path,
    *,
    faults: int,
    seed: int,
    live_restore: bool,
    say: Callable[[str], None],
    evidence: Path | None = None,
) -> Verdict:
    """`faults` faults, at random, while runs log; then the verdict."""
    world = World(folder, seed=seed, live_restore=live_restore)
    try:
        world.open()
        for number in range(faults):
            while len(world.live()) < AT_ONCE:
                world.launch()
            time.sleep(world.random.uniform(0, 0.6))
            say(f"{number + 1:>5}  {world.hurt()}")
        return world.settle(evidence=evidence)
    finally:
        world.close()


def _short(lines: list[str], place: int) -> str:
    return repr(lines[place][:24]) if place < len(lines) else "nothing"


def _training(fate: Fate) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if len(words) > 2 and words[1:3] == ["train.py", fate.key]:
            return process
    return None


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


def _finds(image: str) -> bool:
    return (
        subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode
        == 0
    )
