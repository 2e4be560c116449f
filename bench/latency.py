"""How long after the last sub-FITS was closed its exposure's L0 is there under its final name, with a watcher on a local disk.

``python bench/latency.py [--rounds N] [--dir DIR]`` writes exposures of 6 and 135 MB as cameras do, one after the other, beside a
watcher that was begun before, and prints medians and whether the promised limits are reached. L0s are verified and synced as ever.
"""

import argparse
import datetime as dt
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import exposures
import runner

LIMITS = {"small": 0.1, "kpf": 1.0}
"""By exposure, what the median may be [s]."""

_LONGEST = 60.0


def main() -> int:
    """Measure and print; return 1 when a limit is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="exposures of each size [default: 15]")
    parser.add_argument("--dir", metavar="DIR", help="where to make the files [default: a temporary directory]")
    told = parser.parse_args()
    missed = False
    for name, limit in LIMITS.items():
        with tempfile.TemporaryDirectory(prefix="assembler-latency-", dir=told.dir) as directory:
            exposure, _ = runner.make(name, Path(directory) / "recorded")
            seconds = watch(exposure, Path(directory), told.rounds)
        median = statistics.median(seconds)
        missed |= median > limit
        mark = "reached" if median <= limit else "MISSED"
        print(f"{name}, {exposure.size / 1e6:.0f} MB, {told.rounds} exposures: from the last close to the L0")
        print(f"  median {median:.3f} s, least {min(seconds):.3f}, most {max(seconds):.3f}; limit {limit:g} s: {mark}", flush=True)
    return 1 if missed else 0


def watch(exposure: exposures.Exposure, directory: Path, rounds: int) -> list[float]:
    """Return for each exposure how long its L0 took [s]."""
    night, out = directory / "night", directory / "out"
    night.mkdir()
    command = [sys.executable, "-m", "assembler", "watch", str(night), "--out", str(out), "-i", exposure.instrument, "--json"]
    command += ["--history", f"sqlite:///{exposure.history}", "--journal", str(directory / "journal.sqlite")]
    log = directory / "watch.log"
    with log.open("wb") as stream, subprocess.Popen(command, stderr=stream) as watcher:
        try:
            wait_for(lambda: b'"watching"' in log.read_bytes())
            time.sleep(1)
            seconds = [play(exposure, night, out, number) for number in range(rounds + 1)]
        finally:
            watcher.send_signal(signal.SIGTERM)
    return seconds[1:]  # the first one has numpy and astropy imported


def play(exposure: exposures.Exposure, night: Path, out: Path, number: int) -> float:
    """Write the sub-FITS of one exposure, and return how long after the last close its L0 was there [s]."""
    begin = dt.datetime.fromisoformat(exposures.BEGIN) + dt.timedelta(minutes=2 * number)
    changes = {
        exposures.BEGIN: begin.isoformat(timespec="milliseconds"),
        exposures.END: (begin + dt.timedelta(seconds=exposures.ELAPSED)).isoformat(timespec="milliseconds"),
        str(exposures.FRAME): str(exposures.FRAME + number),
    }
    there = len(list(out.glob("*.fits")))
    for path in exposure.inputs:
        data = Path(path).read_bytes()
        header, rest = data[: 3 * exposures.BLOCK], memoryview(data)[3 * exposures.BLOCK :]
        for old, new in changes.items():
            header = header.replace(old.encode(), new.encode())
        with (night / Path(path).name.replace(str(exposures.FRAME), changes[str(exposures.FRAME)])).open("wb") as file:
            file.write(header)
            file.write(rest)
            file.flush()
            last = time.perf_counter()
    wait_for(lambda: len(list(out.glob("*.fits"))) > there)
    return time.perf_counter() - last


def wait_for(condition) -> None:  # noqa: ANN001 - anything that can be called
    """Wait until a condition holds."""
    until = time.monotonic() + _LONGEST
    while not condition():
        if time.monotonic() > until:
            raise runner.BenchError("the watcher made no L0; look at its log")
        time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main())
