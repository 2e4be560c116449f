"""The exposures of a night that is over: which sub-FITS there are, which of them belong together, and which belong to nothing."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from assembler.core.candidates import read_candidate
from assembler.core.exposure import Missing, frame_of
from assembler.core.instrument import Instrument
from assembler.core.readiness import Arrival, Flight, sort_arrivals
from assembler.core.settling import reason_of
from assembler.errors import InputError
from assembler.fits.complete import look
from assembler.service.finder import fitting_files, is_of_exposure
from assembler.service.journal_l0s import read_l0s
from assembler.service.journal_reader import ExposureName
from assembler.service.scales import SCALES

_WHOLE = ("complete", "trailing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An exposure to be assembled: its sub-FITS by origin, and why others are missing, as far as that is known.

    ``frame`` is None where no sub-FITS tells one; then ``first`` is the name of the one that the exposure is known by.
    """

    night: str
    frame: int | None
    first: str
    paths: tuple[tuple[str, str], ...]
    missing: tuple[Missing, ...] = ()

    @property
    def label(self) -> str:
        """What people call it."""
        return str(self.frame) if self.frame is not None else self.first

    def name(self, instrument: Instrument) -> ExposureName:
        """Return what the journal knows it by."""
        first = "" if self.frame is not None else self.first
        return ExposureName(instrument=instrument.name, night=self.night, frame=self.frame, first=first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A sub-FITS that belongs to no exposure, and why."""

    origin: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What there is in a night.

    Attributes
    ----------
    night : str
    tasks : tuple of Task
        In the order of their frames.
    strays : tuple of Stray
    gaps : tuple of (int, int)
        Frame numbers that nobody has between those that somebody has, first and last of each gap.
    """

    night: str
    tasks: tuple[Task, ...]
    strays: tuple[Stray, ...]
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broken:
    origin: str
    path: str
    named: int | None
    reason: str
    message: str


def survey_night(instrument: Instrument, night: Path) -> Survey:
    """Look at every sub-FITS of a night, and put together what belongs together, as the watcher does.

    Raises
    ------
    InputError
        When there is no such directory.
    """
    if not night.is_dir():
        raise InputError(f"{night}: there is no such directory")
    arrivals, broken = [], []
    for origin in instrument.origins:
        for path, named in fitting_files(origin, night):
            seen = look(path)
            if seen.verdict not in _WHOLE or seen.sub is None:
                reason = reason_of(seen.verdict)
                broken.append(_Broken(origin=origin.name, path=path, named=named, reason=reason, message=seen.message))
                continue
            frame = named if named is not None else frame_of(origin, seen.sub)
            times = read_candidate(origin, seen.sub, SCALES)[0]
            arrivals.append(Arrival(origin=origin.name, path=path, frame=frame, times=times, at=0))
    there = sort_arrivals(instrument, arrivals)
    tasks = [_task(instrument, night, flight, broken) for flight in there.flights]
    used = {m.message for task in tasks for m in task.missing}
    strays = [Stray(origin=a.origin, path=a.path, reason="it shares no time with an exposure") for a in there.loose]
    strays += [Stray(origin=a.origin, path=a.path, reason="the exposure has another sub-FITS of that origin") for a in there.doubles]
    strays += [Stray(origin=b.origin, path=b.path, reason=b.message) for b in broken if b.message not in used]
    return Survey(night=os.path.abspath(night), tasks=tuple(tasks), strays=tuple(strays), gaps=_gaps([t.frame for t in tasks]))


def without_l0(tasks: Iterable[Task], out: Path, instrument: Instrument) -> list[Task]:
    """Return the tasks whose exposures have no L0 in a directory; what is no L0 of this instrument counts for nothing."""
    l0s, _ = read_l0s(sorted(out.glob("*.fits")), instrument)
    known = {l0.name.key for l0 in l0s}
    return [task for task in tasks if task.name(instrument).key not in known]


def _task(instrument: Instrument, night: Path, flight: Flight, broken: list[_Broken]) -> Task:
    interval = flight.interval(instrument)
    missing = []
    for origin in instrument.origins:
        if origin.name in flight.origins:
            continue
        mine = (b for b in broken if b.origin == origin.name and is_of_exposure(origin, b.path, b.named, flight.frame, interval))
        found = next(mine, None)
        if found:
            missing.append(Missing(origin=origin.name, reason=found.reason, message=found.message))
    return Task(
        night=os.path.abspath(night),
        frame=flight.frame,
        first=os.path.basename(flight.arrivals[0].path),
        paths=tuple((a.origin, a.path) for a in flight.arrivals),
        missing=tuple(missing),
    )


def _gaps(frames: list[int | None]) -> tuple[tuple[int, int], ...]:
    """Return first and last of the numbers that are missing.

    >>> _gaps([3, 4, 7, None, 9])
    ((5, 6), (8, 8))
    """
    known = sorted({frame for frame in frames if frame is not None})
    return tuple((a + 1, b - 1) for a, b in pairwise(known) if b - a > 1)
