"""Whether a watcher needs as much after 10 000 exposures as after 1000: memory, open files, threads, and time for an exposure.

``python bench/endurance.py [--exposures N] [--nights N]`` lets a watcher in this process make the L0s of one tiny sub-FITS each, night
after night, and prints after each night what it needs. Exit code 1 when memory grows by more than ``--most`` bytes an exposure.
"""

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from assembler.core.instrument import Instrument
from assembler.instruments import read_instrument
from assembler.service.diary import Diary
from assembler.service.health import Health
from assembler.service.journal import Journal
from assembler.service.log import Silent
from assembler.service.meters import Meters
from assembler.service.signs import Signs
from assembler.service.watcher import Setup, Watcher

YAML = """
instrument: tiny
filename: "{stem}.l0.fits"
margin: 5 s
origins:
  cam: {prefix: CM, flag: CAM, file: CAMFN, files: "raw/cam_{frame}.fits", frame: FRAMENO, times: {begin: DATE-BEG, end: DATE-END}}
"""


def main() -> int:
    """Make night after night, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exposures", type=int, default=10_000)
    parser.add_argument("--nights", type=int, default=20)
    parser.add_argument("--most", type=int, default=200, help="bytes an exposure [default: 200]")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "nights").mkdir()
        watcher = watcher_of(read_instrument(YAML, "tiny.yaml"), root)
        needed = []
        each = told.exposures // told.nights
        for number in range(told.nights):
            seconds = play(watcher, root, number, each)
            gc.collect()
            needed.append(resident())
            files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
            rest = f"{needed[-1] / 2**20:.1f} MiB, {files} files, {threads} threads"
            print(f"night {number + 1}: {seconds / each * 1e3:.1f} ms an exposure, {rest}", flush=True)
        watcher.close()
    early = told.nights // 4  # by then caches are full
    growth = (needed[-1] - needed[early]) / (each * (told.nights - 1 - early))
    print(f"{told.exposures} exposures; memory grows by {growth:.0f} bytes an exposure after the first {early + 1} nights")
    return 1 if growth > told.most else 0


def watcher_of(instrument: Instrument, root: Path) -> Watcher:
    """Return a watcher of a directory with a directory for each night."""
    out = root / "out"
    diary = Diary(Journal(root / "journal.sqlite", time.time_ns), instrument, list, time.time_ns, Silent())
    diary.begin()
    return Watcher(
        Setup(instrument=instrument),
        root / "nights",
        out,
        diary,
        None,
        settling=0,
        version="bench",
        clock=time.time_ns,
        steady=time.time_ns,
        log=Silent(),
        signs=Signs(Meters(), Health(60.0)),
    )


def play(watcher: Watcher, root: Path, night: int, exposures: int) -> float:
    """Have a night appear, a few exposures at a time, and watched; return how long that took [s]."""
    raw = root / "nights" / f"night{night:04}" / "raw"
    raw.mkdir(parents=True)
    begun = time.perf_counter()
    for number in range(exposures):
        frame = night * exposures + number
        (raw / f"cam_{frame}.fits").write_bytes(sub_fits(frame))
        if number % 5 == 4 or number == exposures - 1:
            watcher.round()
    while len(list((root / "out").glob("cam_*.l0.fits"))) < exposures:
        watcher.round()
    seconds = time.perf_counter() - begun
    for path in (root / "out").glob("cam_*.l0.fits"):
        path.unlink()
    return seconds


def sub_fits(frame: int) -> bytes:
    """Return a sub-FITS of a few cards and no data."""
    seconds = frame % 86_400
    at = f"2024-04-22T{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
    cards = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0", f"FRAMENO = {frame:20}"]
    cards += [f"DATE-BEG= '{at}'", f"DATE-END= '{at}'", "END"]
    return "".join(f"{card:80}" for card in cards).ljust(2880).encode()


def resident() -> int:
    """Return the memory of this process [bytes]."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
