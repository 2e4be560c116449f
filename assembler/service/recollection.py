"""What the journal knows of a night that becomes active, so that nothing is done again that is done."""

import os
from collections.abc import Mapping, Sequence

from assembler.core.candidates import Candidate, read_candidate
from assembler.core.exposure import frame_of
from assembler.core.instrument import Instrument
from assembler.core.readiness import Arrival
from assembler.core.settling import Signature
from assembler.core.states import FINAL
from assembler.errors import InputError
from assembler.fits.blocks import scan_primary
from assembler.service.board import Board, Key
from assembler.service.diary import Diary
from assembler.service.journal_reader import Entry, ExposureName, Sighting
from assembler.service.log import Log
from assembler.service.scales import SCALES
from assembler.service.scanner import Spotted
from assembler.service.tracker import Tracker

_GONE = "none of its sub-FITS is there any more"


class Recollection:
    """Tells board and tracker what the journal knows, once for each night that becomes active.

    Parameters
    ----------
    diary : Diary
    board : Board
    tracker : Tracker
    log : Log

    Attributes
    ----------
    nights : set of str
        Those that were taken over; one that is removed is taken over again when it becomes active.
    begun : dict of str to str
        By key of exposures that were begun before a stop, why an L0 of theirs may be superseded.
    """

    def __init__(self, diary: Diary, board: Board, tracker: Tracker, log: Log) -> None:
        self._diary = diary
        self._board = board
        self._tracker = tracker
        self._log = log
        self.nights: set[str] = set()
        self.begun: dict[str, str] = {}
        self._orphans: dict[str, Signature | None] = {}

    def load(self, night: str, spotted: Sequence[Spotted]) -> None:
        """Take over a night, of which this was spotted, unless that was done."""
        if night in self.nights:
            return
        self.nights.add(night)
        entries, orphans = self._diary.of_night(night)
        there = {one.path: one for one in spotted}
        learnt: list[Sighting] = []
        for entry in entries:
            if entry.state in FINAL and entry.next_attempt is None:
                learnt += self._take_over(night, entry, there)
                continue
            if entry.l0 or entry.attempts:
                self.begun[entry.name.key] = "begun again after a stop"
            if there and not any(sighting.path in there for sighting in entry.sub_fits.values()):
                self._diary.note(entry.name, "published" if entry.l0 else "failed", _GONE, reason="" if entry.l0 else _GONE)
        self._orphans |= {sighting.path: sighting.signature for sighting in orphans if sighting.path in there}
        if learnt:
            self._diary.note_sub_fits(learnt)
        if entries:
            self._log.info("night_taken_over", night=night, exposures=len(entries))

    def was_orphan(self, path: str, signature: Signature | None) -> bool:
        """Tell, once, whether a sub-FITS was told to be an orphan as it is."""
        return path in self._orphans and self._orphans.pop(path) == signature

    def _take_over(self, night: str, entry: Entry, there: Mapping[str, Spotted]) -> list[Sighting]:
        """Take an exposure for done; return the sub-FITS whose signature the journal did not have."""
        key = _key(entry.name, {origin: sighting.path for origin, sighting in entry.sub_fits.items()})
        if key is None:
            return []
        whole = [s for s in entry.sub_fits.values() if s.signature or entry.l0]  # others were never whole, and may be by now
        self._board.know(night, key, {sighting.origin: sighting.path for sighting in whole})
        learnt = []
        for sighting in whole:
            if sighting.path in there:
                known = self._tracker.know(there[sighting.path], sighting.signature)
                if known and sighting.signature is None:
                    learnt.append(Sighting(path=sighting.path, origin=sighting.origin, signature=known, key=entry.name.key))
        return learnt


def read_arrival(instrument: Instrument, origin: str, path: str) -> Arrival:
    """Read a sub-FITS of an exposure that is done; one that cannot be read any more has no frame and no times."""
    try:
        primary = scan_primary(path)
    except InputError:
        nothing = Candidate(source=origin, origin=origin, begin=None, end=None)
        return Arrival(origin=origin, path=path, frame=None, times=nothing, at=0)
    rule = instrument.origin(origin)
    return Arrival(origin=origin, path=path, frame=frame_of(rule, primary), times=read_candidate(rule, primary, SCALES)[0], at=0)


def _key(name: ExposureName, paths: Mapping[str, str]) -> Key | None:
    """Return what the board knows an exposure of the journal by; None when the journal knows none of its files."""
    if name.frame is not None:
        return name.frame
    return next((path for path in paths.values() if os.path.basename(path) == name.first), None)
