"""Where sub-FITS are looked for: the directory of a night, or one with a directory for each night.

Directories are scanned again and again, since that is the only thing that cannot miss a file: no event tells what another host
does, and events are lost. Of many nights, those in which something happened last are scanned each time, and one of the others,
which tells something only when its names have changed.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from assembler.core.instrument import Instrument, Origin
from assembler.core.versions import SUPERSEDED
from assembler.service.finder import fitting_files, names_in

_ACTIVE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Spotted:
    """A name that a sub-FITS may have: in which night's directory, of which origin, and the frame that it tells, if any."""

    night: str
    origin: str
    path: str
    frame: int | None


class Scanner:
    """Scans a night, or many.

    Parameters
    ----------
    instrument : Instrument
    place : Path
        The directory of a night, or one with a directory for each night.
    out : Path
        Where the L0s go, which is no night.
    is_night : bool, optional
        Whether the place is a night's directory; unless told, it is what the first files show it to be.
    """

    def __init__(self, instrument: Instrument, place: Path, out: Path, is_night: bool | None = None) -> None:
        self._instrument = instrument
        self.place = os.path.abspath(place)
        self._out = os.path.realpath(out)
        self._never = {SUPERSEDED, os.path.basename(os.path.normpath(instrument.output))}
        self._device: int | None = None
        self._is_night = is_night is True
        self._has_nights = is_night is False
        self._has_folders = all("/" in origin.files for origin in instrument.origins)
        self._overlooked: set[str] | None = set() if is_night is None else None
        self._active: list[str] = []
        self._others: list[str] = []
        self._names: dict[str, int] = {}
        self._found: dict[str, tuple[list[tuple[str, str, int | None]], list[Spotted]]] = {}

    def is_there(self) -> bool:
        """Tell whether the place can be scanned, and is not the empty directory that stays where a file system was unmounted."""
        try:
            is_empty = not names_in(Path(self.place))
            device = os.stat(self.place).st_dev
        except OSError:
            return False
        if self._device not in (None, device) and is_empty:
            return False
        if not is_empty:
            self._device = device
        return True

    def nights(self) -> tuple[str, ...]:
        """Return the nights that are active, the one in which something happened last first."""
        return (self.place,) if self._is_night else tuple(self._active[:_ACTIVE])

    def nights_there(self) -> tuple[str, ...]:
        """Return all nights that were there at the last scan, the active ones first."""
        return (self.place,) if self._is_night else (*self._active, *(night for night in self._others if night not in self._active))

    def touch(self, night: str) -> None:
        """Take note that something happened in a night."""
        if night in self._active:
            self._active.remove(night)
        self._active.insert(0, night)

    def scan(self) -> Iterator[tuple[str, list[Spotted]]]:
        """Return by night what there is, in those that are active and in those where it is not what it was; the newest night first."""
        here = [] if self._has_nights else self.files(self.place)
        self._is_night = self._is_night or bool(here)
        if self._is_night:
            yield self.place, here
            return
        for night in self._turn():
            files = self.files(night)
            self._has_nights = self._has_nights or bool(files)  # one without files may be the directory of a camera, in a night
            names = hash(tuple(one.path for one in files))
            if night in self._active or self._names.get(night) != names:
                yield night, files
            self._names[night] = names

    def overlooked(self) -> tuple[str, ...]:
        """Return, once each, directories with files that fit, which are not looked at because of what the place was taken for.

        Only a pattern without directories leaves that open: then a file astray decides it.
        """
        if self._has_folders or self._overlooked is None or not (self._is_night or self._has_nights):
            return ()
        others = {self.place} if self._has_nights else {*self._children()}
        told = tuple(sorted(other for other in others - self._overlooked if self.files(other)))
        self._overlooked.update(told)
        return told

    def find(self, origin: Origin, path: str) -> Spotted | None:
        """Return what a path below the place names, by scanning its directory; None when it is not there, or is no sub-FITS."""
        night = path.rsplit("/", origin.files.count("/") + 1)[0]
        if night != self.place and (self._is_night or night not in self._children()):
            return None
        return next(
            (Spotted(night=night, origin=origin.name, path=p, frame=f) for p, f in fitting_files(origin, Path(night)) if p == path), None
        )

    def directories(self) -> tuple[str, ...]:
        """Return the directories of which a change should be told at once."""
        folders = {os.path.dirname(o.files) for o in self._instrument.origins}
        nights = self.nights()
        inside = {os.path.normpath(os.path.join(night, folder)) for night in nights for folder in folders}
        return tuple(sorted({self.place, *nights, *inside}))

    def _turn(self) -> list[str]:
        """Return the nights to scan this time."""
        there = set(self._children())
        self._active = [night for night in self._active if night in there]
        self._names = {night: names for night, names in self._names.items() if night in there}
        self._found = {night: found for night, found in self._found.items() if night in self._active[:_ACTIVE]}
        fresh = there.difference(self._active, self._others)
        if not self._active and not self._others:  # the first time: all of them
            turn = sorted(there, key=self._modified, reverse=True)
            self._active, self._others = turn[:_ACTIVE], turn[_ACTIVE:]
            return turn
        for night in sorted(fresh, key=self._modified):
            self.touch(night)
        self._others = [night for night in self._others if night in there and night not in self._active[:_ACTIVE]]
        self._others += [night for night in self._active[_ACTIVE:] if night not in self._others]
        del self._active[_ACTIVE:]
        turn = list(self._active)
        if self._others:
            self._others.append(self._others.pop(0))
            turn.append(self._others[-1])
        return turn

    def _modified(self, night: str) -> tuple[int, str]:
        """Return when a file was made in a night last [ns], by the server's clock."""
        times = [0]
        for folder in {os.path.dirname(o.files) for o in self._instrument.origins}:
            with suppress(OSError):
                times.append(os.stat(os.path.join(night, folder)).st_mtime_ns)
        return max(times), night

    def _children(self) -> list[str]:
        """Return the directories that may be nights; one with two names, such as tonight's, counts once, and under its own."""
        try:
            with os.scandir(self.place) as entries:
                there = [
                    (e.is_symlink(), e.name) for e in entries if not e.name.startswith(".") and e.name not in self._never and e.is_dir()
                ]
        except OSError:
            return []
        real = os.path.realpath(self.place)
        children: dict[str, str] = {}
        for is_link, name in sorted(there):
            path = os.path.join(self.place, name)
            children.setdefault(os.path.realpath(path) if is_link else os.path.join(real, name), path)
        children.pop(self._out, None)
        return list(children.values())

    def files(self, night: str) -> list[Spotted]:
        """Return what there is in a night."""
        found = [(origin.name, path, frame) for origin in self._instrument.origins for path, frame in fitting_files(origin, Path(night))]
        before, spotted = self._found.get(night, ([], []))
        if found != before:
            spotted = [Spotted(night=night, origin=origin, path=path, frame=frame) for origin, path, frame in found]
        if night in self.nights():  # which are scanned each time, and seldom have changed
            self._found[night] = found, spotted
        return spotted
