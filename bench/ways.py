"""The ways to make one file of many that are compared, each as a function; and the process that runs them warm.

``python ways.py once WAY EXPOSURE DIRECTORY`` makes one file and ends. ``python ways.py serve WAY EXPOSURE`` imports
everything, then takes on standard input a line of JSON for each command, and answers each with a line of JSON on standard
output. EXPOSURE is the path of the JSON that ``exposures.py`` printed.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from exposures import Exposure, read_exposure

OUTPUT = "output.fits"
STRUCTURE = ("SIMPLE", "BITPIX", "NAXIS", "EXTEND")
COMMENTARY = ("COMMENT", "HISTORY", "")

Way = Callable[[Path], object]


def assembler_way(exposure: Exposure) -> Way:
    """Return the assembler's way, as a service has it: the instrument is read and the history open already."""
    from assembler import __version__
    from assembler.config import load_instrument
    from assembler.service.finder import find_given
    from assembler.service.pipeline import assemble
    from assembler.telemetry.urls import open_history

    instrument = load_instrument(Path(exposure.instrument))
    history = open_history(f"sqlite:///{exposure.history}") if exposure.history else None

    def run(directory: Path) -> None:
        found = find_given(instrument, exposure.inputs)
        assemble(found, history, directory, version=__version__, clock=time.time_ns)

    return run


def scan_way(exposure: Exposure) -> Way:
    """Return the part of the assembler's way that reads the headers of the sub-FITS."""
    from assembler.config import load_instrument
    from assembler.service.finder import find_given

    instrument = load_instrument(Path(exposure.instrument))
    return lambda _: find_given(instrument, exposure.inputs)


def plan_way(exposure: Exposure) -> Way:
    """Return the part of the assembler's way that decides what will be in the L0: cards and telemetry, no pixels."""
    from assembler import __version__
    from assembler.config import load_instrument
    from assembler.service.finder import find_given
    from assembler.service.pipeline import plan_exposure
    from assembler.telemetry.urls import open_history

    instrument = load_instrument(Path(exposure.instrument))
    history = open_history(f"sqlite:///{exposure.history}") if exposure.history else None
    found = find_given(instrument, exposure.inputs)
    return lambda directory: plan_exposure(found, history, directory, version=__version__, now=time.time_ns())


def astropy_way(exposure: Exposure) -> Way:
    """Return the plain astropy way: open, merge the primaries, one HDUList, writeto with checksums, fsync."""
    from astropy.io import fits

    def run(directory: Path) -> None:
        path = directory / OUTPUT
        with ExitStack() as stack:
            opened = [stack.enter_context(fits.open(source)) for source in exposure.inputs]
            primary = fits.PrimaryHDU()
            for prefix, hdus in zip(exposure.prefixes, opened, strict=True):
                for card in hdus[0].header.cards:
                    if card.keyword not in STRUCTURE:
                        named = _prefixed(prefix, card.keyword)
                        primary.header.append((named, card.value, card.comment), end=True)  # without end=True it is quadratic
            fits.HDUList([primary, *(hdu for hdus in opened for hdu in hdus[1:])]).writeto(path, checksum=True)
        _sync(path)

    return run


def fitsio_way(exposure: Exposure) -> Way:
    """Return the plain fitsio way: read each HDU, write it into a new file, write its checksums, fsync."""
    import fitsio

    def run(directory: Path) -> None:
        path = directory / OUTPUT
        with ExitStack() as stack:
            opened = [stack.enter_context(fitsio.FITS(source)) for source in exposure.inputs]
            target = stack.enter_context(fitsio.FITS(str(path), "rw", clobber=True))
            merged = fitsio.FITSHDR()
            for prefix, source in zip(exposure.prefixes, opened, strict=True):
                for record in source[0].read_header().records():
                    if record["name"] and record["name"] not in STRUCTURE:
                        named = _prefixed(prefix, record["name"])
                        merged.add_record({"name": named, "value": record["value"], "comment": record.get("comment", "")})
            target.write(None, header=merged)
            target[-1].write_checksum()
            for source in opened:
                for hdu in source[1:]:
                    target.write(hdu.read(), header=hdu.read_header(), extname=hdu.get_extname())
                    target[-1].write_checksum()
        _sync(path)

    return run


WAYS: dict[str, Callable[[Exposure], Way]] = {
    "assembler": assembler_way,
    "scan": scan_way,
    "plan": plan_way,
    "astropy": astropy_way,
    "fitsio": fitsio_way,
}


def _prefixed(prefix: str, keyword: str) -> str:
    return keyword if keyword in COMMENTARY else prefix + keyword[:6]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def serve(way: Way) -> None:
    """Run a way once for each directory of a command; answer with seconds and CPU seconds for one, and peak memory [KiB]."""
    for line in sys.stdin:
        directories = [Path(directory) for directory in json.loads(line)["directories"]]
        cpu, begin = time.process_time(), time.perf_counter()
        for directory in directories:
            way(directory)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = {"seconds": seconds / len(directories), "cpu": cpu / len(directories), "peak": peak}
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Do what the command line says."""
    what, name, exposure, *rest = sys.argv[1:]
    if "--one-core" in rest:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    way = WAYS[name](read_exposure(Path(exposure).read_text(encoding="utf-8")))
    if what == "serve":
        serve(way)
    else:
        way(Path(rest[0]))


if __name__ == "__main__":
    main()
