"""Plays a recorded night into a directory as the data system would, with the telemetry that was broadcast meanwhile."""

import errno
import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from assembler.core.candidates import read_candidate
from assembler.core.exposure import frame_of
from assembler.core.instants import SECOND, unix_seconds
from assembler.core.instrument import Instrument, Origin
from assembler.core.readiness import triggered_origins
from assembler.core.rehearsal import Recording, Script
from assembler.core.writers import Step
from assembler.errors import ConfigurationError, InputError, OutputError, TelemetryError
from assembler.fits.blocks import scan, scan_primary
from assembler.service.finder import fitting_files
from assembler.service.scales import SCALES

Sample = tuple[str, float, str]
"""``service.KEYWORD``, UNIX seconds, value."""

_CHUNK = 1 << 20
_LOADED_EVERY = 0.25
"""How often telemetry is put into the history while nothing else happens, at most [s of the wall]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What was broadcast in the night that is played, in the order of time, and what puts some of it into a history."""

    samples: tuple[Sample, ...]
    load: Callable[[Sequence[Sample]], object]


def read_recordings(instrument: Instrument, night: Path) -> tuple[Recording, ...]:
    """Return the sub-FITS of a night's directory; they are opened for reading only.

    Raises
    ------
    InputError
        When there is no such directory, or no sub-FITS in it.
    """
    if not night.is_dir():
        raise InputError(f"{night}: there is no such directory")
    base = os.path.abspath(night)
    found: dict[str, Recording] = {}
    for origin in instrument.origins:
        for path, frame in fitting_files(origin, night):
            below = os.path.relpath(path, base)
            if below not in found and os.path.isfile(path):
                found[below] = _read_recording(origin, path, below, frame)
    if not found:
        raise InputError(f"{night}: has no sub-FITS of {instrument.name}; is it a night's directory?")
    return tuple(found.values())


def awaited_origins(instrument: Instrument, recordings: Iterable[Recording], samples: Sequence[Sample]) -> dict[int, frozenset[str]]:
    """Return by frame the origins that were triggered, as telemetry tells it for the middle of the exposure.

    Parameters
    ----------
    instrument : Instrument
    recordings : iterable of Recording
    samples : sequence of Sample
        In the order of time.
    """
    told = [(time, value) for name, time, value in samples if name == instrument.exposure.triggered]
    times = [time for time, _ in told]
    awaited = {}
    for recording in recordings:
        if recording.frame is None or recording.begin is None or recording.end is None:
            continue
        place = bisect_right(times, unix_seconds((recording.begin + recording.end) // 2))
        if place:
            awaited[recording.frame] = triggered_origins(instrument, told[place - 1][1])
    return awaited


def prepare_target(source: Path, directory: Path, script: Script) -> Path:
    """Return the night's directory below the one to play into, which is made where it is not there.

    Raises
    ------
    ConfigurationError
        When it is in the recorded night, or has sub-FITS of the same names already.
    OutputError
        When it cannot be made.
    """
    recorded = source.resolve()
    target = directory.resolve() / recorded.name
    if target.is_relative_to(recorded):
        raise ConfigurationError(f"{directory}: playing there would write into the recorded night {source}; name another directory")
    folders = sorted({step.path.rpartition("/")[0] for step in script.steps})
    names = {step.to or step.path for step in script.steps}
    try:
        for folder in folders:
            place = target / folder
            if place.resolve().is_relative_to(recorded):
                raise ConfigurationError(f"{place}: is a way into the recorded night {source}; name another directory")
            place.mkdir(parents=True, exist_ok=True)
            with os.scandir(place) as entries:
                there = [e.name for e in entries if (f"{folder}/{e.name}" if folder else e.name) in names]
            if there:
                raise ConfigurationError(f"{place}: has {min(there)} already; nothing is overwritten, name another directory")
    except OSError as error:
        raise OutputError(f"{target}: cannot be made: {error.strerror}") from error
    return target


def play(
    script: Script,
    source: Path,
    target: Path,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    speed: float = 1.0,
    telemetry: Telemetry | None = None,
    told: Callable[[Step], None] = lambda _: None,
) -> float:
    """Do every step of a script when its time has come; no telemetry comes later than a sub-FITS that was written after it.

    What was broadcast before the script starts is put into the history at once, what was broadcast after its last step after that.
    Where the history does not take it, it is kept for the next time, as those who broadcast do not stop for a history either.
    Whatever ends it early, Ctrl-C too, the sub-FITS that are being written are removed, and all others stay.

    Parameters
    ----------
    script : Script
    source : Path
        The recorded night; only read.
    target : Path
        The night's directory to write to, as `prepare_target` made it.
    clock : callable
        Tells the time [s], from anywhere.
    sleep : callable
        Waits that long [s].
    speed : float
        By what waiting is divided; infinite for none.
    telemetry : Telemetry, optional
    told : callable
        Is called after each step.

    Returns
    -------
    float
        How late the latest step was [s of ``clock``]; none, where nothing is waited for. Where that comes near a deadline, what was
        expected does not hold.

    Raises
    ------
    InputError
        When a sub-FITS of the recorded night cannot be read any more, or is another one.
    OutputError
        When the target cannot be written to.
    TelemetryError
        When the history does not take what is left in the end.
    """
    broadcast = _Broadcast(telemetry, script.start) if telemetry else None
    begun = clock()
    latest = 0.0
    slot = SECOND * max(1.0, _LOADED_EVERY * speed)

    def wait_until(at: float) -> None:
        while math.isfinite(speed) and (left := begun + at / SECOND / speed - clock()) > 0:
            sleep(left)

    with _Stage(source, target) as stage:
        now = 0.0
        if broadcast:
            broadcast.until(now)
        for step in script.steps:
            while broadcast and now + slot < step.at:
                now += slot
                if broadcast.waiting(now):
                    wait_until(now)
                    broadcast.until(now)
            wait_until(step.at)
            now = max(now, step.at)
            if broadcast and step.action in ("finish", "rename", "leave"):
                broadcast.until(now)
            stage.do(step)
            if math.isfinite(speed):
                latest = max(latest, clock() - begun - step.at / SECOND / speed)
            told(step)
        if broadcast:
            broadcast.finish()
    return latest


class _Broadcast:
    """Telemetry, and how much of it has been broadcast."""

    def __init__(self, telemetry: Telemetry, start: int) -> None:
        self._telemetry = telemetry
        self._start = start
        self._times = [time for _, time, _ in telemetry.samples]
        self._done = 0

    def waiting(self, at: float) -> bool:
        """Tell whether there is anything to broadcast up to a time after the start [ns]."""
        return self._place(at) > self._done

    def until(self, at: float) -> None:
        """Broadcast what there is up to a time after the start [ns], or keep it for the next time."""
        with suppress(TelemetryError):
            self._load(self._place(at))

    def finish(self) -> None:
        """Broadcast the rest."""
        self._load(len(self._times))

    def _load(self, place: int) -> None:
        if place > self._done:
            self._telemetry.load(self._telemetry.samples[self._done : place])
            self._done = place

    def _place(self, at: float) -> int:
        return bisect_right(self._times, (self._start + at) / SECOND)


class _Stage:
    """The files that are being written. A writer keeps its file open, as real ones do: closing it is what inotify tells."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = source
        self._target = target
        self._open: dict[str, int] = {}
        self._unfinished: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        for path in self._unfinished:
            with suppress(OSError):
                (self._target / path).unlink()

    def do(self, step: Step) -> None:
        """Do one step."""
        path = self._target / step.path
        try:
            if step.action == "create":
                self._open_to_write(step.path, os.O_CREAT | os.O_EXCL)
            elif step.action == "reopen":
                self._open_to_write(step.path, os.O_TRUNC)
            elif step.action == "write":
                self._write(step)
            elif step.action == "truncate":
                os.ftruncate(self._open[step.path], step.length)
            elif step.action == "rename":
                path.rename(self._target / step.to)
                self._unfinished.discard(step.path)
            else:
                os.close(self._open.pop(step.path))
                if step.action == "leave" or not path.name.startswith("."):
                    self._unfinished.discard(step.path)
        except OSError as error:
            hint = "; somebody else writes there" if error.errno == errno.EEXIST else ""
            raise OutputError(f"{path}: cannot {step.action}: {error.strerror}{hint}") from error

    def _open_to_write(self, name: str, flags: int) -> None:
        """Open a file; it counts as unfinished before, since a signal may come between any two lines."""
        self._unfinished.add(name)
        try:
            self._open[name] = os.open(self._target / name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o644)
        except FileExistsError:  # somebody else's
            self._unfinished.discard(name)
            raise

    def _write(self, step: Step) -> None:
        recorded = str(self._source / step.source)
        place, end = step.offset, step.offset + step.length
        while place < end:
            part = _read(recorded, place, min(_CHUNK, end - place))
            if step.changed is not None and place <= step.changed < place + len(part):
                part[step.changed - place] ^= 1
            place += os.pwrite(self._open[step.path], part, place)


def _read(path: str, place: int, length: int) -> bytearray:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            part = bytearray(os.pread(descriptor, length, place))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"{path}: cannot be read any more: {error.strerror}", path=path) from error
    if not part:
        raise InputError(f"{path}: ends at byte {place}; it was longer when the script was written", path=path)
    return part


def _read_recording(origin: Origin, path: str, below: str, named: int | None) -> Recording:
    """Return what the script has to know of a sub-FITS; of one that is broken, as much as there is."""
    begin = end = frame = changeable = None
    reason, telling = "", 0
    try:
        primary = scan_primary(path)
        frame = frame_of(origin, primary)
        times, _ = read_candidate(origin, primary, SCALES)
        begin, end = times.begin, times.end
        if origin.match == "time" or named is None:
            telling = os.stat(path).st_size if primary.compressed else primary.hdus[0].offset
        whole = scan(path)
        if not whole.compressed:  # the last byte of the first number, where a bit more or less is still a number
            changeable = next((hdu.offset + 3 for hdu in whole.hdus if hdu.length), None)
        if named is not None and frame is not None and frame != named:
            reason = "frame-differs"
    except InputError as error:
        reason = error.reason
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", path=path) from error
    by_time = origin.match == "time"
    told = None if by_time else named if named is not None else frame
    return Recording(
        origin=origin.name,
        path=below,
        frame=told,
        begin=begin,
        end=end,
        size=size,
        by_time=by_time,
        reason=reason,
        telling=telling,
        changeable=changeable,
    )
