"""Sub-FITS as they come: each is followed from the first sight of its name until it is settled, and noticed when it changes again."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from assembler.core.candidates import read_candidate
from assembler.core.exposure import Missing, frame_of
from assembler.core.instants import SECOND
from assembler.core.instrument import Instrument, Origin
from assembler.core.readiness import Arrival
from assembler.core.settling import Course, Decision, Look, Rules, Signature, decide, follow
from assembler.fits.complete import Completeness, look
from assembler.service.finder import is_of_exposure
from assembler.service.scales import SCALES
from assembler.service.scanner import Spotted

MOST_LOOKS = 100
"""How many files are looked at in one go, so that whoever asks for a stop need not wait for all of them."""

_OLD = 60 * SECOND
_SLOW = 10 * SECOND
_PACE = SECOND // 5
_PACE_COMPRESSED = 2 * SECOND


@dataclass(slots=True, kw_only=True)
class Followed:
    """A sub-FITS that is not settled: whose it is, since when it is followed, and when to look again [ns]; what was seen of it.

    ``turn`` is its place among the files of its origin that came into sight together.
    """

    spotted: Spotted
    since: int
    next_look: int
    turn: int = 0
    closed: bool = False
    given_up: bool = False
    course: Course = field(default_factory=Course)
    decision: Decision = field(default_factory=lambda: Decision(state="waiting", next_look=0))
    told: str = ""
    """What was wrong with it at the last look."""


@dataclass(slots=True)
class _Night:
    """What is known of a night's files; ``newest`` is the latest modification time of any of them [ns], by the server's clock.

    The night that has the newest file comes first, so that those of old nights, however many, do not delay those of tonight.
    """

    settled: dict[str, tuple[Signature, Spotted]] = field(default_factory=dict)
    followed: dict[str, Followed] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    newest: int = 0
    is_looked_at: bool = False


class Tracker:
    """Follows the sub-FITS of the active nights. One thread uses it.

    Parameters
    ----------
    instrument : Instrument
    settling : int
        How long a whole file has to stay as it is [ns], unless its writer is known to have closed it.
    looking : callable, optional
        Looks at a file.
    """

    def __init__(self, instrument: Instrument, settling: int, looking: Callable[[str], Completeness] = look) -> None:
        self._instrument = instrument
        self._settling = settling
        self._look = looking
        self._nights: dict[str, _Night] = {}

    def know(self, spotted: Spotted, signature: Signature | None) -> Signature | None:
        """Take a file for settled, as the journal has it; without a signature, as it is now. Return what it is taken for."""
        known = signature or _signature(spotted.path)
        if known is not None:
            self._night(spotted.night).settled[spotted.path] = known, spotted
        return known

    def spot(self, spotted: Iterable[Spotted], now: int) -> None:
        """Follow files that were not known.

        They are looked at by turns, one of each origin: a night that is there all at once is complete exposure by exposure, and not
        origin by origin, which would take longer than exposures wait.
        """
        turns: Counter[tuple[str, str]] = Counter()
        for one in spotted:
            night = self._night(one.night)
            if one.path not in night.settled and one.path not in night.followed:
                night.followed[one.path] = Followed(spotted=one, since=now, next_look=now, turn=turns[one.night, one.origin])
                turns[one.night, one.origin] += 1

    def was_closed(self, paths: Iterable[str], now: int) -> None:
        """Take note that writers closed their files, or renamed them into place; each is looked at now."""
        for path in paths:
            for night in self._nights.values():
                if path in night.followed:
                    night.followed[path].closed = True
                    night.followed[path].next_look = now
                elif path in night.settled:
                    night.unchecked.append(path)

    def forget(self, path: str, now: int) -> None:
        """Follow a file again, because it was found to be another one than the one that was settled."""
        for night in self._nights.values():
            if path in night.settled:
                _, spotted = night.settled.pop(path)
                night.followed[path] = Followed(spotted=spotted, since=now, next_look=now)

    def drop(self, night: str) -> None:
        """Forget a night that is not active any more."""
        self._nights.pop(night, None)

    def is_settled(self, night: str, path: str) -> bool:
        """Tell whether a file is known, and was as it is when it was last looked at."""
        return night in self._nights and path in self._nights[night].settled

    def signature(self, path: str) -> Signature | None:
        """Return the signature with which a file was settled, or None."""
        return next((n.settled[path][0] for n in self._nights.values() if path in n.settled), None)

    @property
    def following(self) -> int:
        """How many files are not settled."""
        return sum(len(night.followed) for night in self._nights.values())

    def look_around(self, now: int) -> list[tuple[str, Arrival]]:
        """Look at the files whose turn it is, and return those that are settled now, each with its night.

        Parameters
        ----------
        now : int
            [ns], by a clock that is never set.
        """
        arrivals = []
        due = [(f, n) for n in self._nights.values() for f in n.followed.values() if f.next_look <= now]
        due.sort(key=lambda d: (not d[0].closed, d[1].is_looked_at, -d[1].newest, d[0].next_look, d[0].turn, d[0].spotted.path))
        for followed, night in due[:MOST_LOOKS]:
            arrival = self._step(night, followed, now)
            if arrival:
                arrivals.append((followed.spotted.night, arrival))
        return arrivals

    def check(self, now: int) -> None:
        """See whether settled files are still the same, some of them at a time; those that are not are followed again."""
        for night in self._nights.values():
            for _ in range(min(MOST_LOOKS, len(night.unchecked) or len(night.settled))):
                if not night.unchecked:
                    night.unchecked = list(night.settled)
                _check(night, night.unchecked.pop(), now)

    def given_up(self, now: int) -> list[tuple[Spotted, str]]:
        """Return, once each, files of which nobody expects anything any more, with what is wrong with them."""
        told = []
        for followed in (f for night in self._nights.values() for f in night.followed.values()):
            origin = self._instrument.origin(followed.spotted.origin)
            is_over = now - followed.since >= origin.readout + self._instrument.margin
            if is_over and followed.decision.state == "stalled" and not followed.given_up:
                followed.given_up = True
                told.append((followed.spotted, followed.told or followed.decision.reason))
        return told

    def is_idle(self, night: str) -> bool:
        """Tell whether a night has no file that is still to be settled."""
        return night not in self._nights or all(f.given_up for f in self._nights[night].followed.values())

    def next_look(self) -> int | None:
        """Return when to look again at the earliest [ns]; None when every file is settled."""
        return min((f.next_look for n in self._nights.values() for f in n.followed.values()), default=None)

    def unfinished(self, night: str, origin: Origin, frame: int | None, interval: tuple[int, int] | None) -> Missing | None:
        """Say why the sub-FITS of an origin is not there although its file is: the one of a frame, or of an interval [ns]."""
        for path, followed in sorted(self._nights[night].followed.items()) if night in self._nights else ():
            one = followed.spotted
            if one.origin != origin.name or not is_of_exposure(origin, path, one.frame, frame, interval):
                continue
            reason = followed.decision.reason or "still-growing"
            return Missing(origin=origin.name, reason=reason, message=followed.told or f"{path} is not settled yet")
        return None

    def _night(self, night: str) -> _Night:
        return self._nights.setdefault(night, _Night())

    def _step(self, night: _Night, followed: Followed, now: int) -> Arrival | None:
        """Look at one file; return it when it is settled."""
        one = followed.spotted
        origin = self._instrument.origin(one.origin)
        course = followed.course
        if followed.decision.state != "waiting" and course.last and _signature(one.path) == course.last.signature:
            followed.next_look = now + _SLOW
            return None
        seen = self._look(one.path)
        if seen.verdict == "absent":
            del night.followed[one.path]  # a scan finds it when it is there again
            return None
        night.is_looked_at = True
        if seen.signature and seen.signature[1] <= now + _OLD:  # one from the future would make all others old
            night.newest = max(night.newest, seen.signature[1])
        followed.course = follow(course, Look(instant=now, signature=seen.signature, verdict=seen.verdict))
        followed.decision = decide(followed.course, self._rules(origin, followed, seen, night.newest))
        followed.told = seen.message
        if followed.decision.state == "settled" and seen.sub and seen.signature:
            del night.followed[one.path]
            night.settled[one.path] = seen.signature, one
            times = read_candidate(origin, seen.sub, SCALES)[0]
            frame = one.frame if one.frame is not None else frame_of(origin, seen.sub)
            return Arrival(origin=origin.name, path=one.path, frame=frame, times=times, at=now)
        pause = followed.decision.next_look
        followed.next_look = now + _SLOW if pause is None else pause
        return None

    def _rules(self, origin: Origin, followed: Followed, seen: Completeness, newest: int) -> Rules:
        is_old = seen.signature is not None and seen.signature[1] + _OLD <= newest
        at_once = followed.closed or origin.renamed or is_old
        followed.closed = False
        return Rules(
            settling=0 if at_once else self._settling,
            stall=max(self._settling, (origin.readout + self._instrument.margin) // 2),
            pace=_PACE_COMPRESSED if seen.compressed else _PACE,
        )


def _check(night: _Night, path: str, now: int) -> None:
    """Follow a settled file again if it is another one by now; one that is gone is a matter of whoever reads it."""
    before, spotted = night.settled.get(path, (None, None))
    signature = _signature(path) if before else None
    if spotted is not None and signature is not None and signature != before:
        del night.settled[path]
        night.followed[path] = Followed(spotted=spotted, since=now, next_look=now)


def _signature(path: str) -> Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
