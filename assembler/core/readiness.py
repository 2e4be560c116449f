"""Readiness: which complete sub-FITS belong together, what an exposure still waits for, and when it stops waiting.

Everything here is decided from what has arrived and from the instant that is now, so a night that is replayed years later,
with all its files there at once, goes the same way as a live one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assembler.core.candidates import Candidate, by_trust
from assembler.core.exposure import triggered_names
from assembler.core.instants import SECOND
from assembler.core.instrument import Instrument

State = Literal["waiting", "ready", "give up"]

_LONGEST = 86_400 * SECOND
"""What is longer than that is no exposure: one end of it is by a clock that is wrong [ns]."""

_Place = tuple[int | None, str]
"""Which exposure: its frame number, or the path of the sub-FITS that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A complete sub-FITS: whose it is, which frame it names (None for none), when it says the exposure was, when it was seen [ns]."""

    origin: str
    path: str
    frame: int | None
    times: Candidate
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """An exposure in flight: the sub-FITS that have arrived, one for each origin, in the order of the YAML.

    ``frame`` is None for an instrument without frame numbers, each of whose files is an exposure.
    """

    frame: int | None
    arrivals: tuple[Arrival, ...]

    @property
    def origins(self) -> tuple[str, ...]:
        """Who has delivered."""
        return tuple(a.origin for a in self.arrivals)

    @property
    def first(self) -> int:
        """When the first sub-FITS was there [ns]."""
        return min(a.at for a in self.arrivals)

    def interval(self, instrument: Instrument) -> tuple[int, int] | None:
        """Return begin and end [ns] as the file tells them that is trusted most; None where nobody does."""
        trusted = by_trust(instrument.exposure.trust, [a.times for a in self.arrivals])
        if trusted is None or trusted.begin is None:
            return None
        return trusted.begin, trusted.end if trusted.end is not None else trusted.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """Arrivals by exposure; and those that belong to none so far, and those that came second for their place."""

    flights: tuple[Flight, ...]
    loose: tuple[Arrival, ...]
    doubles: tuple[Arrival, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with an exposure in flight.

    Attributes
    ----------
    state : str
        ``waiting``; ``ready``, when all that is awaited is there; ``give up``, when what is missing had its time.
    awaited : tuple of str
        The origins that are awaited and not there, in the order of the YAML.
    until : int or None
        When to judge again at the latest [ns]; None when there is nothing to wait for.
    """

    state: State
    awaited: tuple[str, ...]
    until: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What to do now, and when to look again.

    Attributes
    ----------
    ready : tuple of Flight
        To be assembled for the first time, with all that they wait for.
    partial : tuple of (Flight, Verdict)
        To be assembled without what had its time; the verdict names it.
    late : tuple of (Flight, tuple of str)
        Assembled already; origins have come since, so that a new version is due.
    waiting : tuple of (Flight, Verdict)
        Not to be assembled yet; the verdict names what is awaited, and until when.
    orphans : tuple of Arrival
        Belong to no exposure, and have waited for one as long as the slowest origin may take; or came second for their place.
    until : int or None
        When the next deadline is [ns]; None when nothing is waited for.
    """

    ready: tuple[Flight, ...]
    partial: tuple[tuple[Flight, Verdict], ...]
    late: tuple[tuple[Flight, tuple[str, ...]], ...]
    waiting: tuple[tuple[Flight, Verdict], ...]
    orphans: tuple[Arrival, ...]
    until: int | None


def sort_arrivals(instrument: Instrument, arrivals: Iterable[Arrival]) -> Sorted:
    """Put sub-FITS together into exposures, in whatever order they came.

    Those that name a frame belong to that frame. One of an origin with a counter of its own belongs to the exposure with which
    it shares most time, where its middle is within the exposure or the exposure's within it. Of two for one place the one that
    was there first has it; of two at once, the one whose path comes first.
    """
    matches = {origin.name: origin.match for origin in instrument.origins}
    placed: dict[_Place, dict[str, Arrival]] = {}
    doubles: list[Arrival] = []
    loose: list[Arrival] = []
    in_order = sorted(arrivals, key=lambda a: (a.at, a.path))
    for arrival in in_order:
        if matches[arrival.origin] == "frame":
            key = (arrival.frame, "" if arrival.frame is not None else arrival.path)
            _place(placed.setdefault(key, {}), arrival, doubles)
    timed = _in_time(instrument, placed)
    longest = max((end - begin for begin, end, _ in timed), default=0)
    for arrival in in_order:
        if matches[arrival.origin] == "time":
            chosen = _sharing_most(timed, longest, arrival)
            if chosen is None:
                loose.append(arrival)
            else:
                _place(placed[chosen], arrival, doubles)
    return Sorted(
        flights=tuple(
            Flight(frame=key[0], arrivals=_ordered(instrument, mine.values())) for key, mine in sorted(placed.items(), key=_by_frame)
        ),
        loose=tuple(loose),
        doubles=tuple(doubles),
    )


def decide(
    instrument: Instrument,
    arrivals: Iterable[Arrival],
    assembled: Collection[str],
    told: Collection[str],
    triggered: Mapping[int | None, Collection[str] | None],
    now: int,
) -> Round:
    """Decide what to do with everything that has arrived.

    Parameters
    ----------
    instrument : Instrument
    arrivals : iterable of Arrival
        All of them, those that are in an L0 already too.
    assembled : collection of str
        Paths of the sub-FITS that are in an L0.
    told : collection of str
        Paths of those that were reported as orphans; one whose exposure turns up after all is none any more.
    triggered : mapping of int to (collection of str or None)
        By frame, who took part, where the history tells.
    now : int
        [ns]
    """
    there = sort_arrivals(instrument, arrivals)
    ready, partial, late, waiting = [], [], [], []
    for flight in there.flights:
        fresh = tuple(a.origin for a in flight.arrivals if a.path not in assembled)
        if len(fresh) < len(flight.arrivals):
            late += [(flight, fresh)] if fresh else []
            continue
        verdict = judge(instrument, flight, triggered.get(flight.frame), now)
        if verdict.state == "ready":
            ready.append(flight)
        elif verdict.state == "give up":
            partial.append((flight, verdict))
        else:
            waiting.append((flight, verdict))
    slowest = max(o.readout for o in instrument.origins) + instrument.margin
    strays = [(a, a.at + slowest) for a in there.loose if a.path not in told]
    orphans = [a for a, until in strays if now >= until] + [a for a in there.doubles if a.path not in told]
    waits = [v.until for _, v in waiting] + [until for _, until in strays if now < until]
    return Round(
        ready=tuple(ready),
        partial=tuple(partial),
        late=tuple(late),
        waiting=tuple(waiting),
        orphans=tuple(orphans),
        until=min((w for w in waits if w is not None), default=None),
    )


def judge(instrument: Instrument, flight: Flight, triggered: Collection[str] | None, now: int) -> Verdict:
    """Decide whether an exposure is ready, waits on, or has waited long enough.

    Parameters
    ----------
    instrument : Instrument
    flight : Flight
    triggered : collection of str or None
        The origins that took part, where the history tells; None where it does not, and the YAML's ``required`` counts.
    now : int
        [ns]
    """
    expected = awaited_origins(instrument, triggered)
    missing = tuple(name for name in expected if name not in flight.origins)
    if not missing:
        return Verdict(state="ready", awaited=(), until=None)
    last = max(deadline(instrument, flight, name) for name in missing)
    if now >= last:
        return Verdict(state="give up", awaited=missing, until=None)
    return Verdict(state="waiting", awaited=missing, until=last)


def awaited_origins(instrument: Instrument, triggered: Collection[str] | None) -> tuple[str, ...]:
    """Return the origins that an exposure waits for: those that were triggered, or else those that the YAML requires."""
    if triggered is not None:
        return tuple(o.name for o in instrument.origins if o.name in triggered)
    return tuple(o.name for o in instrument.origins if o.required)


def deadline(instrument: Instrument, flight: Flight, origin: str) -> int:
    """Return until when an origin may deliver [ns].

    Its readout and a margin, from the exposure's end or from the first sub-FITS's arrival, whichever is later. An exposure cannot
    end later than its own length after one of its sub-FITS was there, and none is longer than a day, so a clock that is wrong
    delays nothing for ever.
    """
    interval = flight.interval(instrument)
    since = flight.first
    if interval and interval[1] - interval[0] <= _LONGEST:
        begin, end = interval
        since = max(since, min(end, since + end - begin))
    return since + instrument.origin(origin).readout + instrument.margin


def triggered_origins(instrument: Instrument, told: str) -> frozenset[str]:
    """Return the origins that took part, by the list of triggered ones that the history tells.

    An origin without such a name takes part in every exposure that the YAML requires it for.
    """
    names = triggered_names(told)
    return frozenset(o.name for o in instrument.origins if (o.triggered.lower() in names if o.triggered else o.required))


def _place(mine: dict[str, Arrival], arrival: Arrival, doubles: list[Arrival]) -> None:
    if arrival.origin in mine:
        doubles.append(arrival)
    else:
        mine[arrival.origin] = arrival


def _ordered(instrument: Instrument, arrivals: Iterable[Arrival]) -> tuple[Arrival, ...]:
    order = {origin.name: place for place, origin in enumerate(instrument.origins)}
    return tuple(sorted(arrivals, key=lambda a: order[a.origin]))


def _by_frame(item: tuple[_Place, object]) -> tuple[bool, int, str]:
    (frame, path), _ = item
    return frame is None, frame or 0, path


def _in_time(instrument: Instrument, placed: Mapping[_Place, Mapping[str, Arrival]]) -> list[tuple[int, int, _Place]]:
    """Return begin, end and place of the exposures whose times are known, in the order of their begins."""
    timed = []
    for place, mine in sorted(placed.items(), key=_by_frame):
        interval = Flight(frame=place[0], arrivals=_ordered(instrument, mine.values())).interval(instrument)
        if interval:
            timed.append((*interval, place))
    return sorted(timed, key=lambda one: one[0])


def _sharing_most(timed: Sequence[tuple[int, int, _Place]], longest: int, arrival: Arrival) -> _Place | None:
    """Return the exposure with which a sub-FITS shares most time, the earlier of two.

    Only those are looked at that can share any: with a whole night at once, each with each would take minutes.
    """
    begin, end = arrival.times.begin, arrival.times.end
    if begin is None or end is None or begin > end:
        return None
    best: tuple[int, _Place] | None = None
    first = bisect_left(timed, begin - longest, key=lambda one: one[0])
    for its_begin, its_end, place in timed[first : bisect_right(timed, end, key=lambda one: one[0])]:
        shared = arrival.times.shared_with(its_begin, its_end)
        if shared is not None and (best is None or shared > best[0]):
            best = shared, place
    return best[1] if best else None
