"""What the watcher notes of exposures that are not made: what they wait for, and what came of their sub-FITS."""

from collections.abc import Callable, Sequence

from assembler.core.instrument import Instrument
from assembler.core.readiness import Arrival, Flight
from assembler.core.settling import Signature
from assembler.service.board import name_of
from assembler.service.diary import Diary
from assembler.service.journal_reader import ExposureName, Sighting
from assembler.service.scanner import Spotted


class Notes:
    """Writes into the diary, and nothing twice.

    Parameters
    ----------
    instrument : Instrument
    diary : Diary
    signature : callable
        Returns the signature with which a sub-FITS was settled.
    """

    def __init__(self, instrument: Instrument, diary: Diary, signature: Callable[[str], Signature | None]) -> None:
        self._instrument = instrument
        self._diary = diary
        self._signature = signature
        self._waiting: dict[str, object] = {}

    def waiting(self, night: str, flight: Flight, awaited: Sequence[str], until: int | None) -> None:
        """Note what an exposure waits for, and until when [ns], where it waits for something else than before."""
        name = name_of(self._instrument, night, flight)
        what = (flight.origins, tuple(awaited))
        if self._waiting.get(name.key) == what:
            return
        self._waiting[name.key] = what
        sightings = [Sighting(path=a.path, origin=a.origin, signature=self._signature(a.path), key=name.key) for a in flight.arrivals]
        self._diary.note(name, "waiting", f"for {', '.join(awaited)}", sub_fits=sightings, awaited=tuple(awaited), until=until)

    def late(self, name: ExposureName, origins: Sequence[str]) -> None:
        """Note that sub-FITS came when there was an L0."""
        self._diary.note(name, "waiting", f"{', '.join(origins)} came when there was an L0")

    def unanswered(self, name: ExposureName) -> None:
        """Note that an L0 was made without telemetry, and is to be made again."""
        self._diary.note(name, "waiting", "for the keyword history, which did not answer")

    def withdrawn(self, name: ExposureName, reason: str, *, is_gone: bool) -> None:
        """Note that a sub-FITS is not what it was; an L0 that is there stands until it comes again, and without files nothing does."""
        entry = self._diary.entry(name)
        if entry and entry.l0:
            self._diary.note(name, "published", f"as it was: {reason}")
        else:
            self._diary.note(name, "failed" if is_gone else "waiting", reason, reason=reason if is_gone else "")

    def orphan(self, arrival: Arrival) -> None:
        """Note a sub-FITS that belongs to no exposure."""
        self._diary.note_sub_fits([Sighting(path=arrival.path, origin=arrival.origin, signature=self._signature(arrival.path))])

    def broken(self, spotted: Spotted, frame: int | None, reason: str) -> None:
        """Note a sub-FITS that is not whole, and that nothing else came of its exposure, where its frame is known."""
        if frame is None:
            self._diary.note_sub_fits([Sighting(path=spotted.path, origin=spotted.origin, signature=None)])
            return
        name = ExposureName(instrument=self._instrument.name, night=spotted.night, frame=frame)
        sighting = Sighting(path=spotted.path, origin=spotted.origin, signature=None, key=name.key)
        self._diary.note(name, "failed", reason, reason=reason, sub_fits=[sighting])

    def done(self, name: ExposureName) -> None:
        """Take note that an exposure waits for nothing any more."""
        self._waiting.pop(name.key, None)
