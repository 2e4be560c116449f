"""Contestants of the benchmark: each runs one way as a fresh process, or warm in a worker, and says what it cost."""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from exposures import Exposure

if TYPE_CHECKING:
    from exposures import Night

HERE = Path(__file__).parent
PROJECT = HERE.parent
WORKER_ENDS = 20.0
RAM_DISKS = ("tmpfs", "ramfs")


class BenchError(Exception):
    """A contestant failed, or there is no place to run in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one file cost: elapsed and CPU time [s], peak memory [MiB]."""

    seconds: float
    cpu: float
    peak: float


class Contestant(Protocol):
    """Somebody who makes one file of the sub-FITS."""

    @property
    def name(self) -> str:
        """What the tables call it."""
        ...

    @property
    def outputs(self) -> int:
        """Files that it makes in a row; the cost is that of one."""
        ...

    def run(self, directories: Sequence[Path]) -> Cost:
        """Make one file in each of some empty directories."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A contestant that starts a process for each file, or for each night of them.

    Attributes
    ----------
    name : str
    command : tuple of str
        ``{}`` in it stands for the output directory.
    one_core : bool
        Whether it may use one core only.
    """

    name: str
    command: tuple[str, ...]
    outputs: int = 1
    one_core: bool = False

    def run(self, directories: Sequence[Path]) -> Cost:
        """Make a file; the time is that from before the process starts until it is waited for."""
        (directory,) = directories
        command = [part.replace("{}", str(directory)) for part in self.command]
        with tempfile.TemporaryFile() as told:
            begin = time.perf_counter()
            process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=told, stderr=told)
            if self.one_core:
                os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            seconds = time.perf_counter() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                told.seek(0)
                raise BenchError(f"{self.name} ended with {process.returncode}: {told.read().decode(errors='replace')[-2000:]}")
        return Cost(seconds=seconds, cpu=usage.ru_utime + usage.ru_stime, peak=usage.ru_maxrss / 1024)


class Warm:
    """A contestant that has one process for all files, which has imported everything before the first."""

    def __init__(self, name: str, way: str, exposure: Path, *, outputs: int = 1, one_core: bool = False) -> None:
        self.name = name
        self.outputs = outputs
        command = [sys.executable, str(HERE / "ways.py"), "serve", way, str(exposure), *(["--one-core"] if one_core else [])]
        self._process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, directories: Sequence[Path]) -> Cost:
        """Make the files; the time is the worker's own."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"directories": list(map(str, directories))}) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise BenchError(f"{self.name}: its worker ended with {self._process.wait()}")
        told = json.loads(answer)
        return Cost(seconds=told["seconds"], cpu=told["cpu"], peak=told["peak"] / 1024)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._process)  # closes the pipes and waits
            stack.callback(self._end)

    def _end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(WORKER_ENDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


def environment() -> Mapping[str, str]:
    """Return the environment of every contestant, the same for all: this project first, and no threads of BLAS."""
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}


def contestants(exposure: Exposure, told: Path, stack: ExitStack) -> list[Contestant]:
    """Return everybody who takes part, in the order of a round.

    Parameters
    ----------
    exposure : Exposure
    told : Path
        Its JSON.
    stack : ExitStack
        Ends the workers.
    """
    history = ["--history", f"sqlite:///{exposure.history}"] if exposure.history else []
    assembler = [sys.executable, "-m", "assembler", "assemble", "-i", exposure.instrument, "--out", "{}", *history, *exposure.inputs]
    cat = ["sh", "-c", 'out=$1; shift; cat "$@" > "$out"; sync "$out"', "sh", "{}/output.fits", *exposure.inputs]
    result: list[Contestant] = [Fresh(name="cat", command=tuple(cat)), Fresh(name="assembler, fresh", command=tuple(assembler))]
    result.append(stack.enter_context(Warm("assembler, warm", "assembler", told)))
    for library in ("astropy", "fitsio"):
        command = (sys.executable, str(HERE / "ways.py"), "once", library, str(told), "{}")
        result.append(Fresh(name=f"{library}, fresh", command=command))
        result.append(stack.enter_context(Warm(f"{library}, warm", library, told)))
    if exposure.name == "small":
        result.append(stack.enter_context(Warm("assembler, one core", "assembler", told, outputs=10, one_core=True)))
        result.append(stack.enter_context(Warm("scan", "scan", told, outputs=20)))
        result.append(stack.enter_context(Warm("plan", "plan", told, outputs=20)))
    return result


def measure(everybody: Sequence[Contestant], exposure: Exposure, scratch: Path, rounds: int) -> dict[str, list[Cost]]:
    """Let everybody run in turn, round after round, and return the costs of each by round.

    A round before the first warms everything up and is not counted; in it the outputs are looked at. Before each run the
    inputs are in the page cache, the output of the one before is gone, and nothing waits to be written to the disk. The
    order is another one in each round, the same in each run of the benchmark: what a run leaves behind in the free memory
    and on the disk makes the next one slower or quicker, and it must not always be the same one's turn.
    """
    costs: dict[str, list[Cost]] = {contestant.name: [] for contestant in everybody}
    for number in range(rounds + 1):
        print(f"{exposure.name}: {f'round {number} of {rounds}' if number else 'warming up'}", file=sys.stderr)
        read(exposure.inputs)
        for contestant in random.Random(number).sample(everybody, len(everybody)):
            places = [scratch / str(n) for n in range(contestant.outputs)]
            for place in places:
                place.mkdir(parents=True)
            os.sync()
            cost = contestant.run(places)
            if number:
                costs[contestant.name].append(cost)
            elif contestant.name not in ("scan", "plan"):
                _look_at(contestant, places, exposure)
            shutil.rmtree(scratch)
    return costs


def make(name: str, directory: Path) -> tuple[Exposure, Path]:
    """Make an exposure in a process of its own; return it, and the path of its JSON."""
    from exposures import read_exposure

    made = _made(name, str(directory))
    told = directory / "exposure.json"
    told.write_text(made, encoding="utf-8")
    return read_exposure(made), told


def make_night(name: str, directory: Path, count: int) -> "Night":
    """Make a night of exposures in a process of its own."""
    from exposures import read_night

    return read_night(_made(name, str(directory), str(count)))


def place(given: str | None, space: int) -> str:
    """Return the directory to make a temporary one in: on a disk, unless one was given, and with enough space [bytes]."""
    if given:
        os.makedirs(given, exist_ok=True)
    candidates = [given] if given else [tempfile.gettempdir(), "/var/tmp", os.getcwd()]
    for candidate in candidates:
        path = Path(candidate)
        if not (path.is_dir() and os.access(path, os.W_OK)):
            continue
        if (given or filesystem(path) not in RAM_DISKS) and shutil.disk_usage(path).free >= space:
            return candidate
    raise BenchError(f"no directory on a disk with {space / 1e9:.1f} GB free; name one with --dir")


def filesystem(directory: Path) -> str:
    """Return the type of the file system that a directory is on, as the kernel calls it."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    for line in mounts:
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return "unknown"


def _made(*words: str) -> str:
    """Return what the program that makes exposures prints."""
    command = [sys.executable, str(HERE / "exposures.py"), *words]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the exposures {words[0]} could not be made")
    return done.stdout


def least_peak() -> float:
    """Return the peak memory [MiB] of this process, below which that of a child cannot be told: a child begins with it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(paths: Iterable[str]) -> None:
    """Bring files into the page cache."""
    buffer = bytearray(1 << 20)
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _look_at(contestant: Contestant, places: Sequence[Path], exposure: Exposure) -> None:
    """Raise where somebody made no file, or one that cannot hold all pixels."""
    for place in places:
        made = list(place.iterdir())
        size = sum(path.stat().st_size for path in made)
        headers = exposure.cards * 80 + 2880 * 100
        if len(made) != 1 or size < exposure.size - headers:
            raise BenchError(f"{contestant.name} made {len(made)} files of {size} bytes from {exposure.size} bytes")
