"""The exposures of a night that is over: which sub-FITS there are, which of them belong together, and which belong to nothing."""

import os
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from assembler.core.candidates import read_candidate
from assembler.core.choice import Choice
from assembler.core.exposure import Missing, frame_of
from assembler.core.instrument import Instrument
from assembler.core.readiness import Arrival, Flight, sort_arrivals
from assembler.core.settling import reason_of
from assembler.core.versions import is_version
from assembler.errors import InputError
from assembler.fits.blocks import scan_primary
from assembler.fits.complete import look
from assembler.service.finder import fitting_files, is_of_exposure
from assembler.service.journal_l0s import exposure_of
from assembler.service.journal_reader import ExposureName
from assembler.service.scales import SCALES

_WHOLE = ("complete", "trailing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An exposure to be assembled: its sub-FITS by origin, and why others are missing, as far as that is known.

    ``frame`` is None where no sub-FITS tells one; then ``first`` is the name of the one that the exposure is known by. ``begin`` [ns] is
    that of the sub-FITS whose times are trusted most; None where none tells it. ``l0`` is the path of the L0 that the exposure has; empty
    where it has none, or that was not looked for. ``others`` are more L0s of it, under other names, as a stop leaves them.
    """

    night: str
    frame: int | None
    first: str
    paths: tuple[tuple[str, str], ...]
    missing: tuple[Missing, ...] = ()
    begin: int | None = None
    l0: str = ""
    others: tuple[str, ...] = ()

    @property
    def origins(self) -> frozenset[str]:
        """Who delivered a sub-FITS, be it broken."""
        return frozenset([*(origin for origin, _ in self.paths), *(lost.origin for lost in self.missing)])

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
    """A sub-FITS that belongs to no exposure, and why; its frame and its begin [ns] as far as they are known."""

    origin: str
    path: str
    reason: str
    frame: int | None = None
    begin: int | None = None


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
    undated : tuple of str
        What people call the exposures that were left out because they were to be chosen by a begin, and tell none.
    """

    night: str
    tasks: tuple[Task, ...]
    strays: tuple[Stray, ...]
    gaps: tuple[tuple[int, int], ...]
    undated: tuple[str, ...] = ()


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
        When there is no such directory, or that of an origin cannot be read: it is not known then what is absent.
    """
    if not night.is_dir():
        raise InputError(f"{night}: there is no such directory")
    arrivals, broken = [], []
    for origin in instrument.origins:
        _look_into(night / os.path.dirname(origin.files))
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
    strays = [_stray(a, "it shares no time with an exposure") for a in there.loose]
    strays += [_stray(a, "the exposure has another sub-FITS of that origin") for a in there.doubles]
    strays += [Stray(origin=b.origin, path=b.path, reason=b.message, frame=b.named) for b in broken if b.message not in used]
    return Survey(night=os.path.abspath(night), tasks=tuple(tasks), strays=tuple(strays), gaps=_gaps([t.frame for t in tasks]))


def choose(survey: Survey, choice: Choice) -> Survey:
    """Return what of a night is meant.

    An exposure whose begin is not known is left out where it would have to be. A gap is told of where it is between exposures that
    are meant, a sub-FITS that belongs to none unless what it tells is not meant.
    """
    named = [task for task in survey.tasks if choice.has_frame(task.frame) and choice.has_origin(task.origins)]
    undated = tuple(task.label for task in named if task.begin is None) if choice.by_time else ()
    gaps = survey.gaps
    if choice.by_time:
        frames = [t.frame for t in survey.tasks if t.frame is not None and t.begin is not None and choice.has_begin(t.begin)]
        gaps = tuple(gap for gap in gaps if frames and min(frames) < gap[0] and gap[1] < max(frames))
    return replace(
        survey,
        tasks=tuple(t for t in named if not choice.by_time or (t.begin is not None and choice.has_begin(t.begin))),
        strays=tuple(
            stray
            for stray in survey.strays
            if choice.has_frame(stray.frame)
            and choice.has_origin({stray.origin})
            and (stray.begin is None or choice.has_begin(stray.begin))
        ),
        gaps=choice.clip(gaps),
        undated=undated,
    )


def l0s_in(out: Path, instrument: Instrument) -> dict[str, tuple[str, ...]]:
    """Return the paths of the L0s in a directory, by what the journal would know their exposures by; other files count for nothing.

    Nor does a copy under another name than an L0 tells for itself. Of several L0s of one exposure
    that of the highest version comes first, and of several such the last by name.
    """
    there: dict[str, list[tuple[int, str]]] = {}
    for path in map(str, sorted(out.glob("*.fits"))):
        try:
            found = scan_primary(path)
            key = exposure_of(found, instrument).key
        except InputError:
            continue
        version, name = (found.hdus[0].value(keyword) for keyword in ("L0VER", "OFNAME"))
        if is_version(version) and name == os.path.basename(path):
            there.setdefault(key, []).append((version, path))
    return {key: tuple(path for _, path in sorted(l0s, reverse=True)) for key, l0s in there.items()}


def _look_into(directory: Path) -> None:
    """Raise an InputError for a directory that is there and cannot be read."""
    try:
        os.scandir(directory).close()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise InputError(f"{directory}: cannot be read: {error.strerror}") from error


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
        begin=interval[0] if interval else None,
    )


def _stray(arrival: Arrival, reason: str) -> Stray:
    return Stray(origin=arrival.origin, path=arrival.path, reason=reason, frame=arrival.frame, begin=arrival.times.begin)


def _gaps(frames: list[int | None]) -> tuple[tuple[int, int], ...]:
    """Return first and last of the numbers that are missing.

    >>> _gaps([3, 4, 7, None, 9])
    ((5, 6), (8, 8))
    """
    known = sorted({frame for frame in frames if frame is not None})
    return tuple((a + 1, b - 1) for a, b in pairwise(known) if b - a > 1)
