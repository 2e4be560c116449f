"""Sends what is in the queue of announcements: one process at a time, a thread for each receiver, so that none waits for another."""

import random
import threading
import time
from collections.abc import Callable, Sequence

from assembler.core.announcements import Receiver, message, pause_after
from assembler.core.instants import SECOND
from assembler.core.states import LONGEST_PAUSE
from assembler.errors import DeliveryError, InputError, OutputError
from assembler.service.announced_l0 import account_of
from assembler.service.announcement_queue import AnnouncementQueue, Entry, SendingLock
from assembler.service.log import Log
from assembler.service.meters import Meters
from assembler.service.receivers import Way, way_to

POLL = 1.0
"""How often to look for what another process put in [s]."""

_STOPPING = 2.0
"""How long a stop waits for what is being sent [s]; it is sent again by the next sender, if it was not known to be received."""

_HOUR = 3600 * SECOND


class Sender:
    """Sends what waits, until it is stopped.

    Parameters
    ----------
    path : str
        Of the queue.
    receivers : sequence of Receiver
    clock : callable
        Returns the instant [ns].
    log : Log
    chance : callable
        Returns a number at least 0 and less than 1.
    ways : callable
        Returns the way to a receiver.
    is_urged : bool
        Whether to try each receiver at once, however lately it failed.
    on_round : callable
        Called about once a second.
    meters : Meters or None
    """

    def __init__(
        self,
        path: str,
        receivers: Sequence[Receiver],
        *,
        clock: Callable[[], int],
        log: Log,
        chance: Callable[[], float] = random.random,
        ways: Callable[[Receiver], Way] = way_to,
        is_urged: bool = False,
        on_round: Callable[[], None] = lambda: None,
        meters: Meters | None = None,
    ) -> None:
        self._path = path
        self._receivers = tuple(receivers)
        self._clock = clock
        self._log = log
        self._chance = chance
        self._ways = {receiver.name: ways(receiver) for receiver in receivers}
        self._untried = {receiver.name for receiver in receivers} if is_urged else set()
        self._on_round = on_round
        self._meters = meters
        self._queue: AnnouncementQueue | None = None
        self._owed: dict[str, int] = {}
        self._not_made: dict[int, tuple[int, int]] = {}
        self._forgotten = 0
        self._news = threading.Condition()
        self._changes = 0
        self._is_stopped = False
        self._threads = [threading.Thread(target=self._run, name="announcements", daemon=True)]
        self.failure = ""

    def start(self) -> None:
        """Begin, in threads of its own; may be called again."""
        if not self._threads[0].ident and not self._is_stopped:
            self._threads[0].start()

    def nudge(self) -> None:
        """Have it look at once: something was put in."""
        with self._news:
            self._changes += 1
            self._news.notify_all()

    def stop(self) -> bool:
        """Stop soon, whatever receivers do; return whether nothing of it is left."""
        self._is_stopped = True
        self.nudge()
        for way in self._ways.values():
            way.stop()
        deadline = time.monotonic() + _STOPPING
        for thread in self._threads:
            if thread.ident:
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def open(self) -> None:
        """Open the queue, unless it is open.

        Raises
        ------
        OutputError
            When it cannot be opened now.
        """
        if self._queue is not None and self._queue.is_in_place():
            return
        queue, self._queue = self._queue, AnnouncementQueue(self._path, self._receivers, self._clock())
        if queue:
            queue.close()
        if self._queue.moved_aside:
            self._log.warning("announcements_moved_aside", path=self._path, to=self._queue.moved_aside)

    def make_messages(self) -> None:
        """Make the messages of what has none yet, whether or not a receiver is there to have them.

        Raises
        ------
        OutputError
            When the queue cannot be read or written.
        """
        assert self._queue
        for entry in self._queue.unmade():
            if self._is_stopped:
                return
            if self._not_made.get(entry.number, (0, 0))[1] <= self._clock():
                self._make(self._queue, entry)

    def send_one(self, receiver: Receiver) -> float:
        """Send a receiver its next message, if there is one and it is time; return how long to wait before the next [s].

        Raises
        ------
        OutputError
            When the queue cannot be read or written.
        """
        queue = self._queue
        if queue is None:
            return POLL
        if receiver.name in self._owed:  # it has that one, which could not be noted
            queue.received(receiver, self._owed[receiver.name])
            del self._owed[receiver.name]
        entry = queue.first(receiver)
        if entry is None or entry.message is None:
            return POLL
        standing = queue.standing(receiver)
        ahead = standing.again - self._clock()
        if 0 < ahead <= LONGEST_PAUSE and receiver.name not in self._untried:  # farther ahead than any pause: the clock was set back
            return min(ahead / SECOND, POLL)
        self._untried.discard(receiver.name)
        try:
            self._ways[receiver.name].send(entry.message, entry.id)
        except DeliveryError as error:
            if not self._is_stopped:
                self._failed(queue, receiver, entry, error)
            return 0.0
        self._owed[receiver.name] = entry.number
        queue.received(receiver, entry.number)
        del self._owed[receiver.name]
        self._count(receiver, received=True)
        if standing.attempts:
            self._log.info("receiver_answers_again", receiver=receiver.name)
        self._log.info("announced", receiver=receiver.name, about=entry.notice.event, id=entry.id, path=entry.notice.path)
        return 0.0

    def _failed(self, queue: AnnouncementQueue, receiver: Receiver, entry: Entry, error: DeliveryError) -> None:
        before = queue.standing(receiver)
        attempts, reason = before.attempts + 1, str(error)
        again = self._clock() + pause_after(attempts, self._chance(), refused=not error.retry)
        queue.failed(receiver, attempts, again, reason, refused=not error.retry)
        self._count(receiver, received=False)
        if error.retry and (not before.attempts or before.refused):
            self._log.warning("receiver_failed", receiver=receiver.name, reason=reason, waiting=before.waiting)
        elif not error.retry and not before.refused:
            self._log.error("receiver_refused", receiver=receiver.name, reason=reason, id=entry.id, path=entry.notice.path)

    def _make(self, queue: AnnouncementQueue, entry: Entry) -> None:
        try:
            queue.made(entry.number, message(entry.notice, account_of(entry.notice), entry.at))
        except InputError as error:
            attempts = self._not_made.get(entry.number, (0, 0))[0] + 1
            self._not_made[entry.number] = (attempts, self._clock() + pause_after(attempts, self._chance()))
            if attempts == 1 + error.retry:  # what is superseded while it is read is found at the next attempt
                self._log.error("announcement_not_made", path=entry.notice.path, version=entry.notice.version, reason=str(error))
            queue.not_made(entry.number, str(error))
        else:
            self._not_made.pop(entry.number, None)
            self.nudge()

    def _count(self, receiver: Receiver, *, received: bool) -> None:
        if self._meters:
            self._meters.announced(receiver.name, received=received)

    def _run(self) -> None:
        """Look after the queue and make messages; once this process is the one that sends, begin a thread for each receiver."""
        lock = SendingLock(self._path)
        try:
            while not self._is_stopped:
                seen = self._changes
                self._guarded(lambda: self._round(lock))
                self._wait(seen, POLL)
        finally:
            for thread in self._threads[1:]:
                thread.join(_STOPPING)
            lock.release()
            if self._queue:
                self._queue.close()

    def _round(self, lock: SendingLock) -> float:
        self._on_round()
        self.open()
        assert self._queue
        if self._meters:
            self._meters.announcements_waiting({r.name: self._queue.standing(r).waiting for r in self._receivers})
        if not lock.take():
            return POLL
        if len(self._threads) == 1:
            for receiver in self._receivers:
                self._threads.append(threading.Thread(target=self._serve, args=(receiver,), name=receiver.name, daemon=True))
                self._threads[-1].start()
        self.make_messages()
        if self._clock() - self._forgotten > _HOUR:
            self._forgotten = self._clock()
            self._queue.forget(self._forgotten)
        if self.failure:
            self.failure = ""
            self._log.info("announcements_recovered", path=self._path)
        return POLL

    def _serve(self, receiver: Receiver) -> None:
        while not self._is_stopped:
            seen = self._changes
            pause = self._guarded(lambda: self.send_one(receiver))
            if pause:
                self._wait(seen, pause)
        self._ways[receiver.name].close()

    def _guarded(self, step: Callable[[], float]) -> float:
        """Do something of which nothing ends the thread."""
        log = self._log
        try:
            return step()
        except OutputError as error:
            if not self._is_stopped and not self.failure:
                log.error("announcements_failed", reason=str(error))  # noqa: TRY400 - it is no bug
            self.failure = str(error)
        except Exception as error:
            log.exception("bug", exc_info=error)
            self.failure = f"a bug in the assembler: {type(error).__name__}"
        return POLL

    def _wait(self, seen: int, seconds: float) -> None:
        """Wait, unless something was put in since it was looked at."""
        with self._news:
            if self._changes == seen and not self._is_stopped:
                self._news.wait(seconds)
