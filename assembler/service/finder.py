"""Find the sub-FITS of one exposure: in a night's directory, or among paths that were given.

Directories are scanned, never probed for names that might be there: over a network a name that was missed once stays
missing for half a minute.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assembler.core.candidates import Candidate, by_trust, read_candidate
from assembler.core.exposure import Exposure, Missing, SubFits, collect, frame_of
from assembler.core.findings import Finding
from assembler.core.instrument import Instrument, Origin
from assembler.core.patterns import path_fits, pattern_of
from assembler.errors import ConfigurationError, InputError
from assembler.fits.blocks import scan, scan_primary
from assembler.service.scales import SCALES


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The sub-FITS of an exposure as they are on disk, and why others are not among them."""

    instrument: Instrument
    subs: Mapping[str, SubFits]
    missing: tuple[Missing, ...]
    frame: int | None

    @property
    def exposure(self) -> Exposure:
        """The exposure that they make up."""
        return collect(self.instrument, self.subs, self.missing, self.frame)

    def again(self, path: str) -> "Found":
        """Return the same with the sub-FITS of a path as it is by now."""
        subs, missing = _scan_all({n: s.path for n, s in self.subs.items() if s.path == path})
        rest = {n: s for n, s in self.subs.items() if s.path != path}
        return Found(instrument=self.instrument, subs=rest | subs, missing=(*self.missing, *missing), frame=self.frame)

    def without(self, path: str, reason: str, message: str) -> "Found":
        """Return the same without the sub-FITS of a path."""
        lost = tuple(Missing(origin=n, reason=reason, message=message) for n, s in self.subs.items() if s.path == path)
        return Found(
            instrument=self.instrument,
            subs={n: s for n, s in self.subs.items() if s.path != path},
            missing=(*self.missing, *lost),
            frame=self.frame,
        )


def find_night(instrument: Instrument, night: Path, frame: int) -> Found:
    """Find the sub-FITS of a frame in a night's directory; origins with a counter of their own are matched by time.

    Raises
    ------
    InputError
        When there is no such directory, or it cannot be read.
    """
    try:
        names_in(night)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{night}: there is no such directory") from None
    except OSError as error:
        raise InputError(f"{night}: cannot be read: {error.strerror}") from error
    paths = {}
    for origin in instrument.origins:
        if origin.match == "frame":
            named = [path for path, told in fitting_files(origin, night) if (_frame_in(origin, path) if told is None else told) == frame]
            if named:
                paths[origin.name] = named[0]
    subs, missing = _scan_all(paths)
    begin_end = _interval(instrument, collect(instrument, subs, missing, frame))
    for origin in instrument.origins:
        if origin.match == "time" and begin_end:
            path = _pick_by_time(origin, [p for p, _ in fitting_files(origin, night)], *begin_end)
            if path:
                more, lost = _scan_all({origin.name: path})
                subs |= more
                missing += lost
    return Found(instrument=instrument, subs=subs, missing=tuple(missing), frame=frame)


def find_given(instrument: Instrument, paths: Sequence[str]) -> Found:
    """Take sub-FITS as they were given: paths that a pattern of the YAML tells the origin of, or ``origin=PATH``.

    Raises
    ------
    ConfigurationError
        When a path belongs to no origin, or two belong to one.
    """
    chosen: dict[str, str] = {}
    names = {o.name for o in instrument.origins}
    for given in paths:
        name, separator, rest = given.partition("=")
        if separator and name in names:
            path = os.path.abspath(rest)
        else:
            path = os.path.abspath(given)
            fitting = [o.name for o in instrument.origins if fits_pattern(o, path)]
            if len(fitting) != 1:
                patterns = ", ".join(f"{o.name}: {o.files}" for o in instrument.origins)
                told = f"fits the patterns of {' and '.join(fitting)}" if fitting else "fits the pattern of no origin"
                raise ConfigurationError(f"{given}: {told} ({patterns}); say whose it is with ORIGIN=PATH")
            name = fitting[0]
        if name in chosen:
            raise ConfigurationError(f"{given}: {name} has {chosen[name]} already; an exposure has one sub-FITS of each origin")
        chosen[name] = path
    subs, missing = _scan_all(chosen)
    return Found(instrument=instrument, subs=subs, missing=tuple(missing), frame=None)


def find_paths(instrument: Instrument, paths: Mapping[str, str], missing: Sequence[Missing] = (), frame: int | None = None) -> Found:
    """Take sub-FITS of which is known whose they are, by origin, and why others are missing; those that cannot be read are, too."""
    subs, lost = _scan_all(paths)
    return Found(instrument=instrument, subs=subs, missing=(*missing, *lost), frame=frame)


def is_of_exposure(origin: Origin, path: str, named: int | None, frame: int | None, interval: tuple[int, int] | None) -> bool:
    """Tell whether a sub-FITS that need not be whole is that of an exposure, by its name or by its primary header.

    Parameters
    ----------
    origin : Origin
    path : str
    named : int or None
        The frame in its name.
    frame : int or None
        The exposure's.
    interval : (int, int) or None
        The exposure's begin and end [ns].
    """
    if origin.match == "frame" and named is not None:
        return named == frame
    try:
        primary = scan_primary(path)
    except InputError:
        return False
    if origin.match == "frame":
        return frame_of(origin, primary) == frame
    times = read_candidate(origin, primary, SCALES)[0]
    return interval is not None and times.is_interval and times.shared_with(*interval) is not None


def file_times(exposure: Exposure) -> tuple[tuple[Candidate, ...], tuple[Finding, ...]]:
    """Return begin and end as each attached sub-FITS tells them."""
    read = [read_candidate(origin, sub, SCALES) for origin, sub in exposure.attached]
    return tuple(c for c, _ in read), tuple(f for _, told in read for f in told)


def fitting_files(origin: Origin, night: Path) -> list[tuple[str, int | None]]:
    """Return the files that fit an origin's pattern, each with the frame number in its name, or None where it tells none.

    Hidden names are none; a directory that is not there, or cannot be read, has no files.
    """
    folder, _, base = origin.files.rpartition("/")
    directory = night / folder
    pattern = pattern_of(base)
    try:
        names = names_in(directory)
    except OSError:
        return []
    start = os.path.join(os.path.abspath(directory), "")  # once, and not for each of thousands of names, each second
    fitting = [(start + name, found) for name in names if (found := pattern.fullmatch(name)) and not name.startswith(".")]
    tells_frame = "frame" in pattern.groupindex
    return sorted((path, int(found["frame"]) if tells_frame else None) for path, found in fitting)


def fits_pattern(origin: Origin, path: str) -> bool:
    """Tell whether a path ends as an origin's pattern says, with as many directories as the pattern has."""
    return path_fits(origin.files, path)


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory, though it may have been missed before it was there: then scanning above shows it.

    Raises
    ------
    OSError
        When it is not there, or cannot be read.
    """
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        if not directory.name or directory.name not in names_in(directory.parent):
            raise
        return os.listdir(directory)


def _scan_all(paths: Mapping[str, str]) -> tuple[dict[str, SubFits], list[Missing]]:
    subs: dict[str, SubFits] = {}
    missing = []
    for name, path in paths.items():
        try:
            subs[name] = scan(path)
        except InputError as error:
            missing.append(Missing(origin=name, reason=error.reason, message=str(error)))
    return subs, missing


def _frame_in(origin: Origin, path: str) -> int | None:
    """Return the frame number in a file's header, where its name does not tell it."""
    try:
        return frame_of(origin, scan_primary(path))
    except InputError:
        return None


def _interval(instrument: Instrument, exposure: Exposure) -> tuple[int, int] | None:
    """Return begin and end [ns] as the file tells them that is trusted most."""
    trusted = by_trust(instrument.exposure.trust, file_times(exposure)[0])
    if trusted is None or trusted.begin is None:
        return None
    return trusted.begin, trusted.end if trusted.end is not None else trusted.begin


def _pick_by_time(origin: Origin, paths: Sequence[str], begin: int, end: int) -> str | None:
    """Return the file that shares most of its time with the exposure; its middle, or the exposure's, lies in the other."""
    best: tuple[int, str] | None = None
    for path in paths:
        try:
            candidate, _ = read_candidate(origin, scan_primary(path), SCALES)
        except InputError:
            continue
        shared = candidate.shared_with(begin, end)
        if shared is not None and (best is None or shared > best[0]):
            best = (shared, path)
    return best[1] if best else None
