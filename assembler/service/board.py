"""The exposures of the active nights: those in flight, and those that are done and may still get a latecomer."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from assembler.core.instrument import Instrument
from assembler.core.readiness import Arrival, Flight, Round, decide, sort_arrivals
from assembler.service.journal_reader import ExposureName

Key = int | str
"""What tells an exposure from the others of its night: the frame number, or the path of its one sub-FITS that would have one."""

Interval = tuple[int, int]


@dataclass(slots=True, kw_only=True)
class _Done:
    """An exposure that is done: the paths of its sub-FITS by origin, and its begin and end [ns] once they were needed."""

    paths: tuple[tuple[str, str], ...]
    interval: Interval | None = None


@dataclass(slots=True)
class _Night:
    """Arrivals of what is in flight; paths of those that are in an L0, of those told to be orphans, and of those that came again."""

    arrivals: dict[str, Arrival] = field(default_factory=dict)
    assembled: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    done: dict[Key, _Done] = field(default_factory=dict)


class Board:
    """Knows which sub-FITS of the active nights belong together, and which of them are in an L0. One thread uses it.

    Exposures that are done are kept as a few words, and are taken up again when something arrives that may belong to them.

    Parameters
    ----------
    instrument : Instrument
    read : callable
        Reads a sub-FITS of an origin again; returns an arrival without times when it cannot be read any more.
    """

    def __init__(self, instrument: Instrument, read: Callable[[str, str], Arrival]) -> None:
        self._instrument = instrument
        self._read = read
        self._nights: dict[str, _Night] = {}

    def arrive(self, night: str, arrival: Arrival) -> None:
        """Take a sub-FITS that is settled now; if it is in an L0 as it was before, it is to be in a new version as it is."""
        there = self._nights.setdefault(night, _Night())
        self._take_up(there, arrival)
        there.arrivals[arrival.path] = arrival
        if arrival.path in there.assembled:
            there.assembled.discard(arrival.path)
            there.again.add(arrival.path)
        there.told.discard(arrival.path)

    def withdraw(self, night: str, path: str) -> None:
        """Forget a sub-FITS that turned out not to be settled; it arrives again."""
        if night in self._nights:
            self._nights[night].arrivals.pop(path, None)

    def know(self, night: str, key: Key, paths: Mapping[str, str]) -> None:
        """Take an exposure for done, as the journal has it, with its sub-FITS by origin."""
        self._nights.setdefault(night, _Night()).done[key] = _Done(paths=tuple(sorted(paths.items())))

    def close(self, night: str, flight: Flight) -> None:
        """Take an exposure for done: all that it has is in its L0, or there will be none of it as it is."""
        there = self._nights[night]
        there.done[key_of(self._instrument, flight)] = _Done(
            paths=tuple((a.origin, a.path) for a in flight.arrivals), interval=flight.interval(self._instrument)
        )
        for arrival in flight.arrivals:
            there.arrivals.pop(arrival.path, None)
            there.assembled.discard(arrival.path)
            there.told.discard(arrival.path)
            there.again.discard(arrival.path)

    def came_again(self, night: str, flight: Flight) -> bool:
        """Tell whether all that an exposure has was in its L0 otherwise."""
        return self._nights[night].again.issuperset(a.path for a in flight.arrivals)

    def tell(self, night: str, orphans: Iterable[Arrival]) -> None:
        """Take note that sub-FITS were told to be orphans; one that came second for its place must not have it when that is free again."""
        there = self._nights[night]
        for orphan in orphans:
            there.told.add(orphan.path)
            if self._instrument.origin(orphan.origin).match == "frame":
                there.arrivals.pop(orphan.path, None)

    def drop(self, night: str) -> None:
        """Forget a night that is not active any more."""
        self._nights.pop(night, None)

    def has(self, night: str, frame: int) -> bool:
        """Tell whether an exposure is known."""
        there = self._nights.get(night)
        return there is not None and (frame in there.done or any(a.frame == frame for a in there.arrivals.values()))

    def is_idle(self, night: str) -> bool:
        """Tell whether a night has nothing in flight."""
        there = self._nights.get(night)
        return there is None or all(path in there.told for path in there.arrivals)

    def nights(self) -> tuple[str, ...]:
        """Return the nights of which anything is known."""
        return tuple(self._nights)

    def flights(self, night: str) -> tuple[Flight, ...]:
        """Return the exposures in flight."""
        there = self._nights.get(night)
        return sort_arrivals(self._instrument, there.arrivals.values()).flights if there else ()

    def decide(self, night: str, triggered: Mapping[int | None, Collection[str] | None], now: int) -> Round:
        """Decide what to do now; exposures that were taken up for nothing are done again."""
        there = self._nights[night]
        made = decide(self._instrument, there.arrivals.values(), there.assembled, there.told, triggered, now)
        if there.assembled:
            for flight in sort_arrivals(self._instrument, there.arrivals.values()).flights:
                if there.assembled.issuperset(a.path for a in flight.arrivals):
                    self.close(night, flight)
        return made

    def _take_up(self, there: _Night, arrival: Arrival) -> None:
        """Take up the exposures that are done and that a sub-FITS may belong to."""
        if self._instrument.origin(arrival.origin).match == "frame":
            key = arrival.path if arrival.frame is None else arrival.frame
            keys = [key] if key in there.done else []
        else:
            keys = [key for key, done in there.done.items() if self._may_have(done, arrival)]
        for key in keys:
            done = there.done.pop(key)
            for origin, path in done.paths:
                if path not in there.arrivals:
                    there.arrivals[path] = self._again(origin, path, key)
                there.assembled.add(path)

    def _again(self, origin: str, path: str, key: Key) -> Arrival:
        """Read a sub-FITS of an exposure again, whose frame number is known."""
        frame = key if isinstance(key, int) and self._instrument.origin(origin).match == "frame" else None
        return replace(self._read(origin, path), frame=frame)

    def _may_have(self, done: _Done, arrival: Arrival) -> bool:
        if any(path == arrival.path for _, path in done.paths):
            return True
        if done.interval is None:
            alone = tuple(self._read(origin, path) for origin, path in done.paths)
            done.interval = Flight(frame=None, arrivals=alone).interval(self._instrument) or (0, -1)
        return arrival.times.is_interval and arrival.times.shared_with(*done.interval) is not None


def key_of(instrument: Instrument, flight: Flight) -> Key:
    """Return what tells an exposure from the others of its night."""
    return flight.frame if flight.frame is not None else _counted(instrument, flight).path


def name_of(instrument: Instrument, night: str, flight: Flight) -> ExposureName:
    """Return what the journal knows an exposure by."""
    first = "" if flight.frame is not None else _counted(instrument, flight).path.rsplit("/", 1)[-1]
    return ExposureName(instrument=instrument.name, night=night, frame=flight.frame, first=first)


def _counted(instrument: Instrument, flight: Flight) -> Arrival:
    """Return the sub-FITS that an exposure without a frame number is known by; the others were matched to it by their time."""
    return next((a for a in flight.arrivals if instrument.origin(a.origin).match == "frame"), flight.arrivals[0])
