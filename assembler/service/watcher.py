"""The watcher: round after round it scans, looks, decides and makes, and tells when it wants to go round again."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from assembler.core.instants import SECOND
from assembler.core.readiness import Arrival, Flight
from assembler.errors import AssemblerError, InputError, TelemetryError, VerificationError
from assembler.service.announced import Announcements, Refused, accept
from assembler.service.announcer import Announcer
from assembler.service.board import Board, name_of
from assembler.service.diary import Diary
from assembler.service.lender import Lender
from assembler.service.log import Log
from assembler.service.maker import UNANSWERED, Maker, Order, Setup, missing_of
from assembler.service.notes import Notes
from assembler.service.pipeline import Outcome
from assembler.service.recollection import Recollection, read_arrival
from assembler.service.roll import RollCall
from assembler.service.scanner import Scanner
from assembler.service.signs import Signs
from assembler.service.tracker import Tracker
from assembler.service.waiting import WaitingClock

SCAN = SECOND
"""How often the active nights are scanned [ns], whatever wakes the watcher before."""

_MOST_AT_ONCE = 2 * SECOND
_ATTEMPTS_TO_READ = 5
_HOUR = 3600 * SECOND


class Watcher:
    """Makes the L0 of every exposure in a place. One thread uses it.

    Parameters
    ----------
    setup : Setup
    place, out : Path
        The directory of a night, or one with a directory for each night; where the L0s go.
    is_night : bool, optional
        Which of the two the place is; unless told, it is what the first files show.
    diary : Diary
    lender : Lender or None
        The keyword history.
    settling : int
        How long a whole sub-FITS has to stay as it is [ns], where nothing tells that it was closed.
    version : str
        Of the assembler.
    clock : callable
        Returns the instant [ns], as journals and headers tell it.
    steady : callable
        Returns an instant [ns] by a clock that is never set.
    log : Log
    signs : Signs
    may_go_on : callable
        Tells whether to make another L0: not when a stop was asked for, or the lease was lost.
    chance : callable
        Returns a number at least 0 and less than 1.
    announcer : Announcer or None
    """

    def __init__(
        self,
        setup: Setup,
        place: Path,
        out: Path,
        diary: Diary,
        lender: Lender | None,
        *,
        settling: int,
        version: str,
        clock: Callable[[], int],
        steady: Callable[[], int],
        log: Log,
        signs: Signs,
        is_night: bool | None = None,
        may_go_on: Callable[[], bool] = lambda: True,
        chance: Callable[[], float] = random.random,
        announcer: Announcer | None = None,
    ) -> None:
        self._place = place
        self._out = out
        self._is_night = is_night
        self._diary = diary
        self._lender = lender
        self._settling = settling
        self._version = version
        self._clock = clock
        self._log = log
        self._signs = signs
        self._may_go_on = may_go_on
        self._chance, self._announcer = chance, announcer
        self._waiting = WaitingClock(clock, steady, log)
        self._forgotten = self._waiting.now()
        self._next_check = self._queue = 0
        self.take(setup)

    def take(self, setup: Setup) -> None:
        """Begin with what the YAML says now; what was seen before is told by the journal."""
        self.setup = setup
        self._instrument = self._diary.instrument = setup.instrument
        if self._lender:
            self._lender.instrument = setup.instrument
        self.scanner = Scanner(setup.instrument, self._place, self._out, self._is_night)
        self.tracker = Tracker(setup.instrument, self._settling)
        self.board = Board(setup.instrument, lambda origin, path: read_arrival(setup.instrument, origin, path))
        self._recollection = Recollection(self._diary, self.board, self.tracker, self._log)
        self._maker = Maker(
            setup,
            self._out,
            self._lender,
            self._diary,
            version=self._version,
            clock=self._clock,
            signature=self.tracker.signature,
            announcer=self._announcer,
        )
        self._begun = self._recollection.begun
        self._notes = Notes(setup.instrument, self._diary, self.tracker.signature)
        self._roll = RollCall(setup.instrument, self._lender, self._clock)
        self._hold: dict[str, int] = {}
        self._unreadable: dict[str, int] = {}
        self._withdrawn: dict[str, str] = {}
        self._unanswered: dict[str, Order] = {}
        self._announcements = Announcements(setup.instrument)
        self._next_news = 0

    def resume(self) -> None:
        """Begin again after another watcher may have been at work: the L0s tell what that one did."""
        if self._announcer:
            self._announcer.catch_up(self._out)
        self._diary.begin()
        self.take(self.setup)

    def round(self, closed: Sequence[str] = ()) -> int:
        """Go round once, and return when to do so again at the latest [ns], by the steady clock.

        Parameters
        ----------
        closed : sequence of str
            Paths whose writers are known to have closed them, or to have renamed them into place.
        """
        self._waiting.compare()
        if self._diary.mend():
            self._tell_anew()
        if not self._is_there():
            return self._waiting.steady(self._waiting.now() + SCAN)
        now = self._waiting.now()
        for night, spotted in self.scanner.scan():
            self._recollection.load(night, spotted)
            self.tracker.spot(spotted, now)
            self._drop()  # of many old nights, one after the other is taken over and let go
        if overlooked := self.scanner.overlooked():
            self._log.warning("overlooked", directories=list(overlooked), place=str(self._place))
        self._hear(now)
        self.tracker.was_closed(closed, now)
        for night, arrival in self.tracker.look_around(now):
            self._arrive(night, arrival)
        if now >= self._next_check:
            self._next_check = now + SCAN
            self.tracker.check(now)
            self._measure(now)
        until, self._queue = [now + SCAN], 0
        active = self.scanner.nights()
        for night in sorted(self.board.nights(), key=lambda n: active.index(n) if n in active else len(active)):
            until += self._decide(night, now)
        until += self._make_unanswered()
        self._give_up(now)
        self._drop()
        look = self.tracker.next_look()
        return self._waiting.steady(min([*until, *([look] if look is not None else [])]))

    def close(self) -> None:
        """Let go of the journal and the history."""
        self._diary.close()
        if self._lender:
            self._lender.close()

    def _tell_anew(self) -> None:
        """Have a journal that knows only the L0s told of what has none: it is found again, as at a start."""
        unanswered = self._unanswered
        self.take(self.setup)
        self._unanswered = unanswered
        for order in unanswered.values():
            self._notes.unanswered(order.name)

    def _is_there(self) -> bool:
        there = self.scanner.is_there()
        self._signs.input("" if there else f"{self._place} cannot be scanned, or is empty where a file system was mounted before")
        self._waiting.looked(str(self._place), there=there)
        return there

    def _hear(self, now: int) -> None:
        """Look for the sub-FITS that telemetry announces, wherever in the place they are."""
        if self._lender is None or self._lender.failure or now < self._next_news:
            return
        self._next_news = now + SCAN
        try:
            news = self._announcements.ask(self._lender.lend(), self._clock())
        except TelemetryError as error:
            self._lender.failed(error)
            return
        for told in news:
            path = accept(told.text, self.scanner.directories(), told.origin)
            if isinstance(path, Refused):
                self._log.warning("announcement_refused", origin=told.origin.name, reason=path.reason)
                continue
            spotted = self.scanner.find(told.origin, path)
            if spotted:
                self.scanner.touch(spotted.night)
                if spotted.night not in self._recollection.nights:
                    self._recollection.load(spotted.night, self.scanner.files(spotted.night))
                self.tracker.spot([spotted], now)

    def _arrive(self, night: str, arrival: Arrival) -> None:
        self.board.arrive(night, arrival)
        self._hold.pop(self._withdrawn.pop(arrival.path, ""), None)
        if self._recollection.was_orphan(arrival.path, self.tracker.signature(arrival.path)):
            self.board.tell(night, [arrival])
        self.scanner.touch(night)
        self._log.info("sub_fits_settled", origin=arrival.origin, path=arrival.path, frame=arrival.frame)

    def _decide(self, night: str, now: int) -> Iterator[int]:
        """Make what is ready in a night; return until when to wait for what is not."""
        round_ = self.board.decide(night, self._roll.ask(night, self.board.flights(night), now), now)
        for arrival in round_.orphans:
            is_second = self._instrument.origin(arrival.origin).match == "frame"
            reason = f"frame {arrival.frame} has another sub-FITS of that origin" if is_second else "it shares no time with an exposure"
            self._log.warning("orphan", origin=arrival.origin, path=arrival.path, reason=reason)
            self._notes.orphan(arrival)
        self.board.tell(night, round_.orphans)
        for flight, verdict in round_.waiting:
            self._notes.waiting(night, flight, verdict.awaited, None if verdict.until is None else self._waiting.wall(verdict.until))
        begun = self._waiting.now()
        due = [
            *((f, (), ()) for f in round_.ready),
            *((f, v.awaited, ()) for f, v in round_.partial),
            *((f, (), o) for f, o in round_.late),
        ]
        for done, (flight, awaited, late) in enumerate(due):
            hold = self._hold.get(name_of(self._instrument, night, flight).key, 0)
            if hold > now:
                yield hold
            elif not self._may_go_on():
                break
            elif self._waiting.now() - begun > _MOST_AT_ONCE:
                self._queue += len(due) - done
                yield now
                break
            else:
                self._make(self._order(night, flight, awaited, late))
        if round_.until is not None:
            yield round_.until

    def _order(self, night: str, flight: Flight, awaited: Sequence[str], late: Sequence[str]) -> Order:
        """Return what is to be made: without origins that were awaited, or because some came late."""
        name = name_of(self._instrument, night, flight)
        why = ""
        if awaited:
            self._log.warning("gave_up_waiting", frame=flight.frame, night=night, origins=list(awaited))
        if late:
            why = f"{', '.join(late)} came, or came again, when there was an L0"
            self._notes.late(name, late)
        why = why or self._begun.get(name.key, "")
        is_anew = not why and self.board.came_again(night, flight)
        interval = flight.interval(self._instrument)
        lost = [
            self.tracker.unfinished(night, origin, flight.frame, interval)
            for origin in self._instrument.origins
            if origin.name not in flight.origins
        ]
        return Order(
            name=name,
            flight=flight,
            missing=tuple(m for m in lost if m),
            why="all its sub-FITS came again when there was an L0" if is_anew else why,
            is_anew=is_anew,
            unreadable=frozenset(a.path for a in flight.arrivals if self._unreadable.get(a.path, 0) >= _ATTEMPTS_TO_READ),
        )

    def _make(self, order: Order) -> None:
        """Make an exposure; whatever is wrong with it stops no other one."""
        log = self._log.bind(frame=order.name.frame, night=order.name.night)
        try:
            outcome = self._maker.make(order, log)
        except AssemblerError as error:
            self._failed(order, error, log)
            return
        except Exception as error:
            log.exception("bug", exc_info=error)
            self._failed(order, VerificationError(f"a bug in the assembler: {error!r}"), log)
            return
        self._done(order)
        self._tell(order, outcome, log)
        if self._lender and any(f.code == UNANSWERED for f in outcome.plan.findings):
            self._unanswered[order.name.key] = order
            self._notes.unanswered(order.name)

    def _done(self, order: Order) -> None:
        key = order.name.key
        for known in (self._begun, self._hold, self._unanswered):
            known.pop(key, None)
        self._notes.done(order.name)
        for arrival in order.flight.arrivals:
            self._unreadable.pop(arrival.path, None)
        self.board.close(order.name.night, order.flight)

    def _tell(self, order: Order, outcome: Outcome, log: Log) -> None:
        seconds = self._since_the_last(order.flight, self._clock())
        self._signs.published(outcome, seconds)
        event = "published" if outcome.made else "was_there_already"
        log.info(
            event,
            obsid=outcome.path.stem,
            path=str(outcome.path),
            version=outcome.version,
            missing=dict(missing_of(outcome)),
            seconds=round(seconds, 3),
            **({"why": order.why} if outcome.replaced else {}),
        )

    def _since_the_last(self, flight: Flight, now: int) -> float:
        """Return how long ago the last sub-FITS was written, or, where that is long ago, was seen [s]."""
        modified = [s[1] for a in flight.arrivals if (s := self.tracker.signature(a.path))]
        written = now - max(modified, default=0)
        return (written if 0 <= written < _HOUR else self._waiting.now() - max(a.at for a in flight.arrivals)) / 1e9

    def _failed(self, order: Order, error: AssemblerError, log: Log) -> None:
        """Note what went wrong, and decide whether and when to try again."""
        self._signs.failed(error)
        paths = {a.path for a in order.flight.arrivals}
        if isinstance(error, InputError) and error.path in paths and error.path not in order.unreadable:
            self._unreadable[error.path] = self._unreadable.get(error.path, 0) + 1
            if self._unreadable[error.path] < _ATTEMPTS_TO_READ:
                log.warning("sub_fits_changed", path=error.path, reason=str(error))
                self._withdraw(order, error.path)
                self._notes.withdrawn(order.name, str(error), is_gone=paths == {error.path} and error.reason == "absent")
            return
        again = self._diary.note_failure(order.name, error, self._chance())
        log.error("failed", reason=str(error), again_in=None if again is None else (again - self._clock()) / 1e9)
        if again is None:
            self._done(order)
        else:
            self._hold[order.name.key] = self._waiting.now() + max(0, again - self._clock())

    def _withdraw(self, order: Order, path: str) -> None:
        """Wait for a sub-FITS again, for as long as its origin may take, lest an L0 be made without it."""
        origin = next(self._instrument.origin(a.origin) for a in order.flight.arrivals if a.path == path)
        self.tracker.forget(path, self._waiting.now())
        self.board.withdraw(order.name.night, path)
        self._withdrawn[path] = order.name.key
        self._hold[order.name.key] = self._waiting.now() + origin.readout + self._instrument.margin

    def _make_unanswered(self) -> Iterator[int]:
        """Make again what was made without telemetry, one at a time, once the history answers again."""
        if not self._unanswered or self._lender is None or not self._lender.is_back(self._clock()):
            return
        key, order = next(iter(self._unanswered.items()))
        del self._unanswered[key]
        self._begun[key] = "the keyword history answers again"
        for arrival in order.flight.arrivals:
            self.board.arrive(order.name.night, arrival)
        yield self._waiting.now()

    def _give_up(self, now: int) -> None:
        """Note the exposures of which nothing came but sub-FITS that are not whole."""
        for spotted, reason in self.tracker.given_up(now):
            self._log.warning("sub_fits_given_up", origin=spotted.origin, path=spotted.path, reason=reason)
            frame = spotted.frame if spotted.frame is not None else read_arrival(self._instrument, spotted.origin, spotted.path).frame
            if frame is None or not self.board.has(spotted.night, frame):
                self._notes.broken(spotted, frame, reason)

    def _drop(self) -> None:
        """Forget nights in which nothing happens any more."""
        active = self.scanner.nights()
        for night in self._recollection.nights.difference(active):
            if (
                self.board.is_idle(night)
                and self.tracker.is_idle(night)
                and not any(o.name.night == night for o in self._unanswered.values())
            ):
                self.board.drop(night)
                self.tracker.drop(night)
                self._roll.drop(night)
                self._recollection.nights.discard(night)

    def _measure(self, now: int) -> None:
        """Tell how the watcher is; shorten the journal once in an hour."""
        self._signs.followed(self.tracker.following)
        self._signs.queue(self._queue)
        self._signs.journal(self._diary)
        if self._lender:
            self._signs.history(self._lender, self._clock())
        if now - self._forgotten > _HOUR:
            self._forgotten = now
            if nights := self.scanner.nights_there():
                self._diary.forget(nights)
