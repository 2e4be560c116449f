"""A watcher whose rounds and clocks a test steps: a small night, a real journal, a history that may be away."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import kpf_night
from recording import Recording

from assembler.core.corrections import Correction
from assembler.core.instants import SECOND
from assembler.core.instrument import Instrument
from assembler.core.samples import Aggregate, Sample
from assembler.errors import TelemetryError
from assembler.fits.blocks import scan
from assembler.service.diary import Diary
from assembler.service.health import Health
from assembler.service.journal import Journal
from assembler.service.journal_reader import Entry, ExposureName
from assembler.service.lender import Lender
from assembler.service.maker import Setup
from assembler.service.meters import Meters
from assembler.service.reader import own_table, verify_l0
from assembler.service.signs import Signs
from assembler.service.watcher import Watcher
from assembler.telemetry import sqlite
from assembler.telemetry.history import History
from assembler.telemetry.load import read_samples
from assembler.telemetry.urls import open_history

T0 = 1_790_000_000 * SECOND
ORIGINS = ("green", "red", "ca_hk", "expmeter", "guide")
SETTLING = 3 * SECOND


class Switched:
    """A history that a test switches off and on; nobody waits for it while it is off."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.is_away = False

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> Sequence[Mapping[str, Sample]]:
        self._answer()
        return self.history.as_of(names, instants)

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        self._answer()
        return self.history.during(names, begin, end)

    def interrupt(self) -> None:
        self.history.interrupt()

    def close(self) -> None: ...

    def _answer(self) -> None:
        if self.is_away:
            raise TelemetryError("the history is away")


class Site:
    """A place with a night, an output directory, a journal, and a watcher that is begun and stopped as a test says.

    Parameters
    ----------
    directory : Path
    instrument : Instrument
    exposures : int
    history : bool
        Whether there is one.
    root : bool
        Whether the watcher is given the directory above the night.
    """

    def __init__(self, directory: Path, instrument: Instrument, exposures: int = 1, *, history: bool = False, root: bool = False) -> None:
        self.night = kpf_night.make_night(directory / "data", exposures, shape=(4, 4))
        self.directory = self.night.directory
        self.place = self.directory.parent if root else self.directory
        self.out = directory / "out"
        self.journal_path = directory / "journal.db"
        self.instrument = instrument
        self.corrections: tuple[Correction, ...] = ()
        self.contents = {path: path.read_bytes() for frame in self.night.frames for path in self.night.sub_fits(frame).values()}
        for path in self.contents:
            path.unlink()
        self.history: Switched | None = None
        if history:
            sqlite.load(str(directory / "history.db"), read_samples(self.night.telemetry))
            self.history = Switched(open_history(f"sqlite:///{directory / 'history.db'}"))
        self.log = Recording()
        self.now = T0
        self.wall = 0
        self.may_go_on: Callable[[], bool] = lambda: True
        self.alive: Callable[[], None] = lambda: None
        self.watcher: Watcher | None = None
        self.journal: Journal | None = None

    @property
    def frames(self) -> tuple[int, ...]:
        return self.night.frames

    def path(self, origin: str = "green", number: int = 0) -> Path:
        return self.night.sub_fits(self.frames[number])[origin]

    def put(self, origin: str, number: int = 0, content: bytes | None = None, path: Path | None = None) -> Path:
        """Write a sub-FITS as it is found now."""
        path = path or self.path(origin, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.contents[self.path(origin, number)] if content is None else content)
        os.utime(path, ns=(self.now, self.now))
        return path

    def put_all(self, number: int = 0, but: Iterable[str] = ()) -> None:
        for origin in ORIGINS:
            if origin not in but:
                self.put(origin, number)

    def changed(self, origin: str, number: int = 0) -> bytes:
        """Return a sub-FITS with another last pixel."""
        content = bytearray(self.contents[self.path(origin, number)])
        content[-2880] ^= 1
        return bytes(content)

    def start(self) -> Watcher:
        """Begin a watcher on the journal as it is."""
        self.log = Recording()
        self.journal = Journal(self.journal_path, self._clock)
        diary = Diary(self.journal, self.instrument, lambda: sorted(self.out.glob("*.fits")), self._clock, self.log)
        diary.begin()
        lender = None
        if self.history:
            lender = Lender(self.instrument, lambda: self.history, 5.0, self.log, lambda: self.now / 1e9)
        self.meters, self.health = Meters(lambda: self.now / 1e9), Health(60.0, lambda: self.now / 1e9, lambda: self.now)
        self.watcher = Watcher(
            Setup(instrument=self.instrument, corrections=self.corrections),
            self.place,
            self.out,
            diary,
            lender,
            settling=SETTLING,
            version="test",
            clock=lambda: self.now + self.wall,
            steady=lambda: self.now,
            log=self.log,
            signs=Signs(self.meters, self.health),
            may_go_on=lambda: self.may_go_on(),  # noqa: PLW0108 - a test puts another one in its place
            chance=lambda: 0.0,
        )
        return self.watcher

    def kill(self) -> None:
        """Leave everything as it is now, but for what a process loses when it ends."""
        if self.journal:
            self.journal.close()
        self.watcher = None

    def _clock(self) -> int:
        self.alive()
        return self.now

    def stop(self) -> None:
        if self.watcher:
            self.watcher.close()
        self.watcher = None

    def round(self, closed: Iterable[Path] = ()) -> int:
        """Go round once, and return when to do so again [ns]."""
        if self.watcher is None:
            self.start()
        until = self.watcher.round([str(path) for path in closed])
        self.now += 10**6
        return until

    def go(self, seconds: float) -> None:
        """Go round as often as the watcher asks for, for so long."""
        end = self.now + round(seconds * SECOND)
        while self.now < end:
            until = self.round()
            self.now = min(end, max(until, self.now))

    def name(self, number: int = 0, night: Path | None = None) -> ExposureName:
        return ExposureName(instrument=self.instrument.name, night=str(night or self.directory), frame=self.frames[number])

    def entry(self, number: int = 0) -> Entry | None:
        return self.journal.read.exposure(self.name(number).key)

    def states(self) -> dict[int, str]:
        """Return the state of each exposure that the journal knows, by number."""
        known = {number: self.entry(number) for number in range(len(self.frames))}
        return {number: entry.state for number, entry in known.items() if entry}

    def story(self, number: int = 0) -> list[str]:
        """Return the states that an exposure went through; of those that follow themselves, one."""
        states = [step.state for step in self.journal.read.history(self.name(number).key)]
        return [state for state, before in zip(states, [None, *states], strict=False) if state != before]

    def l0s(self) -> dict[str, dict[str, object]]:
        """Return by name what the L0s tell of themselves; each is verified, and nothing else is there."""
        told = {}
        if not self.out.exists():
            return told
        for path in sorted(self.out.iterdir()):
            if path.name == "superseded":
                continue
            verify_l0(path)
            found = scan(str(path))
            primary = found.hdus[0]
            told[path.name] = {
                "frame": primary.value("FRAMENO"),
                "version": primary.value("L0VER"),
                "attached": tuple(o.name for o in self.instrument.origins if primary.value(o.flag) == "YES"),
                "reasons": {str(row[2]): str(row[0]) for row in own_table(found, "FINDINGS").rows if row[2] and row[0] in MISSING},
                "codes": {str(row[0]) for row in own_table(found, "FINDINGS").rows},
                "history": [image for image in primary.images if image.startswith("HISTORY")],
            }
        return told

    def superseded(self) -> list[str]:
        return sorted(os.listdir(self.out / "superseded")) if (self.out / "superseded").exists() else []

    def warnings(self) -> list[str]:
        """Return the events that somebody should look at."""
        return [event for level, event, _ in self.log.told if level in ("warning", "error")]


MISSING = ("absent", "truncated", "still-growing", "unreadable", "not-triggered", "absent-though-triggered", "frame-differs")


def patient(instrument: Instrument, **changes: object) -> Instrument:
    """Return an instrument with other settings."""
    return replace(instrument, **changes)
