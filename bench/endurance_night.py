"""Whether `assembler night` needs as much after 10 000 exposures as after 1000: memory and open files, its own and its processes'.

``python bench/endurance_night.py [--exposures N] [--nights N] [--work DIR]`` makes nights of tiny sub-FITS and has all of them assembled by
one command with two processes, and then compared by one command in a single process, each with a report. It prints after each night what
was needed in it at most. Exit code 1 when memory grows by more than ``--most`` bytes an exposure, or the number of open files at all.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from endurance import YAML, sub_fits

ROOT = Path(__file__).resolve().parent.parent
EVERY = 20
"""After how many exposures is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the command, and the largest of its processes, need: memory [bytes] and open files."""

    parent: int
    worker: int
    parent_files: int
    worker_files: int

    def most(self, other: "Need") -> "Need":
        """Return the most of two."""
        return Need(**{name: max(getattr(self, name), getattr(other, name)) for name in self.__slots__})

    def __str__(self) -> str:
        parent = f"{self.parent / 2**20:.1f} MiB, {self.parent_files} files"
        return parent + (f"; each process {self.worker / 2**20:.1f} MiB, {self.worker_files} files" if self.worker else "")


def main() -> int:
    """Make nights, assemble and compare them, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exposures", type=int, default=10_000)
    parser.add_argument("--nights", type=int, default=20)
    parser.add_argument("--most", type=int, default=200, help="bytes an exposure [default: 200]")
    parser.add_argument("--work", type=Path, help="where everything is put for the time being [default: where temporary files are]")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.work) as directory:
        root = Path(directory)
        nights = make_nights(root, told.nights, told.exposures // told.nights)
        made = run(root, nights, "made", jobs=2)
        compared = run(root, nights, "same", jobs=1)
    return max(verdict("made in 2 processes", made, told), verdict("compared in 1 process", compared, told))


def make_nights(root: Path, nights: int, each: int) -> list[Path]:
    """Write the YAML and all sub-FITS, one for an exposure."""
    (root / "tiny.yaml").write_text(YAML)
    directories = []
    for number in range(nights):
        raw = root / f"night{number:04}" / "raw"
        raw.mkdir(parents=True)
        for frame in range(number * each, (number + 1) * each):
            (raw / f"cam_{frame}.fits").write_bytes(sub_fits(frame))
        directories.append(raw.parent)
    return directories


def run(root: Path, nights: list[Path], state: str, jobs: int) -> list[Need]:
    """Run the command over all nights, see that each exposure comes to a state, and return what each night needed at most."""
    report = root / f"{state}.json"
    command = [sys.executable, "-m", "assembler", "night", *map(str, nights), "--out", str(root / "out"), "-i", str(root / "tiny.yaml")]
    command += ["--jobs", str(jobs), "--report", str(report)]
    needed: list[Need] = []
    each = len(list((nights[0] / "raw").iterdir()))
    begun = time.perf_counter()
    with (root / "err").open("w+") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, cwd=ROOT) as process:
        assert process.stdout is not None
        for number, _ in enumerate(process.stdout):
            night = number // each
            if number % EVERY == EVERY - 1:
                now = need(process.pid)
                needed[night:] = [needed[night].most(now) if len(needed) > night else now]
            if number % each == each - 1:
                print(
                    f"{state} {night + 1}: {(time.perf_counter() - begun) / (number + 1) * 1e3:.1f} ms an exposure; {needed[night]}",
                    flush=True,
                )
        if process.wait() != 0:
            err.seek(0)
            sys.exit(err.read()[-2000:])
    told = json.loads(report.read_text())
    assert told["summary"]["states"][state] == len(nights) * each
    assert [len(one["exposures"]) for one in told["nights"]] == [each] * len(nights)
    print(f"the report has {report.stat().st_size / 1e6:.1f} MB")
    return needed


def verdict(what: str, needed: list[Need], told: argparse.Namespace) -> int:
    """Say how much was needed for each exposure more, after the first few nights; return 1 when that is too much."""
    early = told.nights // 4  # by then caches are full
    first, last = needed[early], needed[-1]
    exposures = told.exposures // told.nights * (told.nights - 1 - early)
    growth = {name: (getattr(last, name) - getattr(first, name)) / exposures for name in ("parent", "worker")}
    files = last.parent_files > first.parent_files or last.worker_files > first.worker_files
    grown = " and ".join(f"{value:.0f} ({name})" for name, value in growth.items() if last.worker or name == "parent")
    print(f"{what}: open files {'grow' if files else 'do not grow'}; memory does after {early + 1} nights by {grown} bytes an exposure")
    return int(files or max(growth.values()) > told.most)


def need(pid: int) -> Need:
    """Measure a command and the processes that it began."""
    children = [child for child in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent_of(child) == pid]
    mine = measured(pid)
    theirs = [measured(child) for child in children]
    return Need(
        parent=mine[0],
        parent_files=mine[1],
        worker=max((memory for memory, _ in theirs), default=0),
        worker_files=max((files for _, files in theirs), default=0),
    )


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 for one that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def measured(pid: int) -> tuple[int, int]:
    """Return the memory [bytes] and the open files of a process; none for one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0, 0


if __name__ == "__main__":
    sys.exit(main())
