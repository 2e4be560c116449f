"""A watcher as a process of its own, with a small night to watch and, where a test mounts, a mount table that nobody else sees."""

import copy
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import kpf_night
import pytest

from assembler.service.reader import verify_l0

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 40.0
"""How long a test waits for what has to happen [s]; it is far longer than it takes, and no test depends on it."""

STRACE = shutil.which("strace")
_BLOCKING = """
import ctypes, os, sys
options = f"fd={os.open('/dev/fuse', os.O_RDWR)},rootmode=40000,user_id=0,group_id=0"
if ctypes.CDLL(None, use_errno=True).mount(b"blocked", os.fsencode(sys.argv[1]), b"fuse", 0, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
print("ready", flush=True)
sys.stdin.read()
"""
"""Mounts a file system of which nobody serves the requests, so that whoever asks it anything is blocked."""

T = TypeVar("T")


def wait_for(what: str, ask: Callable[[], T | None]) -> T:
    """Return what a question is answered with at last, other than None and False."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)


def let_pass(seconds: float) -> None:
    """Let time pass, so that what must not happen meanwhile would have happened."""
    time.sleep(seconds)


class Mounts:
    """A mount table of its own: what is mounted in it is gone with it. A test that cannot have one is skipped."""

    def __init__(self) -> None:
        for way in (["unshare", "-m"], ["unshare", "-Urm"]):
            script = "mount -t tmpfs none /mnt && umount /mnt && echo ready && exec cat"
            self._holder = subprocess.Popen(
                [*way, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            if self._holder.stdout.readline() == b"ready\n":
                self._user = ["-U", "--preserve-credentials"] if "-Urm" in way else []
                return
            self.close()
        pytest.skip("no mount table of its own is to be had here: that takes root, or name spaces for users")

    def command(self, *words: object) -> list[str]:
        """Return the command line that runs a command where these mounts are."""
        return ["nsenter", "-t", str(self._holder.pid), *self._user, "-m", f"-w{ROOT}", "--", *map(str, words)]

    def run(self, *words: object) -> None:
        """Run a command where these mounts are; what is in use for a moment is tried again."""
        told = subprocess.CompletedProcess([], 0)

        def is_done() -> bool:
            nonlocal told
            told = subprocess.run(self.command(*words), capture_output=True, text=True, check=False)
            return told.returncode == 0 or "busy" not in told.stderr

        wait_for(f"{words}", is_done)
        assert told.returncode == 0, told.stderr

    def disk(self, path: Path, size: str = "16m") -> Path:
        """Mount a small disk, and return where it is."""
        path.mkdir(exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
        return path

    def bind(self, source: Path, target: Path) -> None:
        """Mount what is at a place at another one, too."""
        self.run("mount", "--bind", source, target)

    def unmount(self, path: Path) -> None:
        self.run("umount", path)

    def block(self, path: Path) -> subprocess.Popen[bytes]:
        """Mount what blocks everybody, until the process that is returned ends; then it still has to be unmounted."""
        holder = subprocess.Popen(self.command(sys.executable, "-c", _BLOCKING, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if holder.stdout.readline() != b"ready\n":
            _end(holder)
            pytest.skip("FUSE cannot be used here, so that nothing blocks")
        return holder

    def path(self, path: Path) -> Path:
        """Return the path by which the test itself gets at what is mounted."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def close(self) -> None:
        _end(self._holder)


class Tracer:
    """Injects faults into the system calls of a process from now on, until it is closed."""

    def __init__(self, process: int, *words: object, work: Path) -> None:
        assert STRACE
        told = work / f"strace.{time.monotonic_ns()}"
        with told.open("wb") as stream:
            command = [STRACE, "-f", "-p", str(process), "-o", os.devnull, *map(str, words)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stream)

        def is_attached() -> bool:
            if self._process.poll() is not None:
                pytest.skip(f"a process may not be traced here: {told.read_text()}")
            return "attached" in told.read_text()

        wait_for("the tracer", is_attached)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


class Watched:
    """A night, and the watcher of it.

    Parameters
    ----------
    work : Path
        Where everything is put.
    exposures : int
        How many the night has; their sub-FITS come when the test says so.
    mounts : Mounts, optional
        Where the watcher is to run.
    margin : float
        How long a sub-FITS is awaited [s].
    """

    def __init__(self, work: Path, exposures: int = 2, *, mounts: Mounts | None = None, margin: float = 600) -> None:
        self.work = work
        self.mounts = mounts
        self.night = kpf_night.make_night(work / "recorded", exposures=exposures, shape=(8, 6))
        self.frames = self.night.frames
        self.place, self.out, self.journal = work / "night", work / "out", work / "journal.sqlite"
        self.yaml, self._log = work / "kpf.yaml", work / "watch.log"
        for directory in (self.place, self.out):
            directory.mkdir(exist_ok=True)
        self.write_yaml(margin)
        self.process: subprocess.Popen[bytes] | None = None
        self._taken: set[int] = set()
        self._closing: list[Callable[[], object]] = [mounts.close] if mounts else []

    def write_yaml(self, margin: float, more: Mapping[str, str] | None = None) -> None:
        """Write the instrument as it is shipped, but with readouts of no time; ``more`` replaces texts in it."""
        text = (ROOT / "prefixes.yaml").read_text(encoding="utf-8").replace("margin: 60 s", f"margin: {margin} s")
        for old, new in (more or {}).items():
            assert old in text
            text = text.replace(old, new)
        self.yaml.write_text(re.sub(r"readout: \d+ s", "readout: 0 s", text), encoding="utf-8")

    def begin(self, *options: object, around: Iterable[object] = (), environment: Mapping[str, str] | None = None) -> None:
        """Begin to watch, and wait until it does."""
        self.start(*options, around=around, environment=environment)
        self.wait("watching")

    def start(self, *options: object, around: Iterable[object] = (), environment: Mapping[str, str] | None = None) -> None:
        """Begin to watch; ``around`` is a program that runs the watcher."""
        command = [*map(str, around), sys.executable, "-m", "assembler", "watch", str(self.place), "--out", str(self.out)]
        command += ["--journal", str(self.journal), "-i", str(self.yaml), "--settling", "0.2 s", "--json", "--log", str(self._log)]
        command += ["--listen", "127.0.0.1:0", *map(str, options)]
        with (self.work / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                self.mounts.command(*command) if self.mounts else command,
                stdout=stderr,
                stderr=stderr,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            )

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def inside(self, path: Path) -> Path:
        """Return the path by which the test gets at what the watcher has at a path."""
        return self.mounts.path(path) if self.mounts else path

    def block(self, path: Path) -> subprocess.Popen[bytes]:
        """Block everybody who asks anything at a path of the mounts, until what is returned is let go, or the test is over."""
        assert self.mounts
        holder = self.mounts.block(path)
        self._closing.insert(0, lambda: _end(holder))
        return holder

    def let_go(self, holder: subprocess.Popen[bytes], path: Path) -> None:
        """Have what blocked answer with an error, and unmount it."""
        _end(holder)
        self.mounts.unmount(path)

    def another(self, name: str) -> "Watched":
        """Return another watcher of the same night, with a log of its own."""
        other = copy.copy(self)
        other.work = self.work / name
        other.work.mkdir()
        other._log, other.process, other._taken, other._closing = other.work / "watch.log", None, set(), []
        self._closing.insert(0, other.close)
        return other

    def sub_fits(self, frame: int, origin: str) -> Path:
        """Return where a sub-FITS is, or will be."""
        return self.place / self.night.sub_fits(frame)[origin].relative_to(self.night.directory)

    def inject(self, *words: object) -> Tracer:
        """Have strace inject faults into what the watcher asks of the system."""
        tracer = Tracer(self.pid, *words, work=self.work)
        self._closing.insert(0, tracer.close)
        return tracer

    def deliver(self, frame: int, *origins: str, but: Iterable[str] = (), place: Path | None = None) -> None:
        """Let sub-FITS of a frame arrive, of all origins unless told: renamed into place, as the cameras do it."""
        for origin, path in self.night.sub_fits(frame).items():
            if origin not in but and (not origins or origin in origins):
                target = self.inside(place or self.place) / path.relative_to(self.night.directory)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target.parent / f".{target.name}")
                (target.parent / f".{target.name}").rename(target)

    def events(self) -> list[dict[str, Any]]:
        """Return what was told so far."""
        lines = self._log.read_bytes().splitlines(keepends=True) if self._log.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def wait(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event with certain fields, and return it; each is returned once."""

        def ask() -> dict[str, Any] | None:
            for number, told in enumerate(self.events()):
                if number not in self._taken and told["event"] == event and all(told.get(name) == fields[name] for name in fields):
                    self._taken.add(number)
                    return told
            assert self.process is None or self.process.poll() is None, f"it has ended\n{self.account()}"
            return None

        try:
            return wait_for(f"{event} {fields}", ask)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.account()}") from None

    def count(self, event: str, **fields: Any) -> int:
        """Return how often an event with certain fields was told so far."""
        return sum(fields | {"event": event} == {name: told.get(name) for name in (*fields, "event")} for told in self.events())

    def account(self) -> str:
        """Return everything that it told."""
        errors = (self.work / "stderr").read_text() if (self.work / "stderr").exists() else ""
        return "\n".join([*map(json.dumps, self.events()), errors])

    def health(self) -> tuple[int, dict[str, Any]]:
        """Ask how it is: HTTP status and what it says."""
        port = next(told["port"] for told in reversed(self.events()) if told["event"] == "answering")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def wait_health(self, part: str, state: str) -> None:
        """Wait until a part says that it is ok, or degraded."""
        wait_for(f"{part} to be {state}: {self.account()}", lambda: self.health()[1]["parts"][part]["state"] == state)

    def inotify(self) -> str:
        """Return what the kernel tells of the directories of which a change is told at once."""
        described = Path(f"/proc/{self.pid}/fdinfo")
        return "".join((described / number).read_text() for number in os.listdir(described))

    def told(self) -> dict[int, tuple[str, int, int]]:
        """Return by frame what the journal says: the state, the version, and how often it was published."""
        readable = self.work / "copy.sqlite"  # SQLite would follow the link to the mounts, and not arrive there
        for companion in ("", "-wal"):
            if (path := self.inside(Path(f"{self.journal}{companion}"))).exists():
                shutil.copyfile(path, f"{readable}{companion}")
        with closing(sqlite3.connect(readable)) as journal:
            rows = journal.execute(
                "SELECT frame, state, version, (SELECT count(*) FROM history AS h WHERE h.key = e.key AND h.state = 'published')"
                " FROM exposures AS e"
            ).fetchall()
        return {int(frame): (state, version, count) for frame, state, version, count in rows}

    def l0s(self) -> dict[int, Path]:
        """Return the L0s under their final names by frame, as the test gets at them."""
        found = {}
        for path in self.inside(self.out).glob("*.fits"):
            header = path.read_bytes()[: 1 << 20].decode("ascii", "replace")
            found[int(re.search(r"\nFRAMENO = +(\d+)", re.sub("(.{80})", r"\n\1", header))[1])] = path
        return found

    def end(self) -> None:
        """Stop it, and see that all is as it has to be at the end of whatever there was."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.account()
        self.check()

    def check(self) -> None:
        """See that there was no bug, nothing is left behind, and every L0 is whole."""
        assert not self.count("bug"), self.account()
        out = self.inside(self.out)
        left = [name for name in os.listdir(out) if name.startswith(".") and not re.fullmatch(r"\.watcher\.lease\.\d+", name)]
        assert not left, self.account()
        for path in out.rglob("*.fits"):
            verify_l0(path)

    def close(self) -> None:
        """Let go of everything, however the test ended."""
        for close in self._closing:
            close()
        if self.process:
            self.process.kill()
            self.process.wait(PATIENCE)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that lives as long as its standard input."""
    for stream in (process.stdin, process.stdout):
        stream.close()  # closing again does nothing
    process.wait(PATIENCE)
