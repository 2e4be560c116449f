"""Patience: a history may be away, slow or stuck, and yet delays an exposure by a bounded time only."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from assembler.core.samples import Aggregate, Sample
from assembler.errors import TelemetryError
from assembler.telemetry.history import History

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0

T = TypeVar("T")


class Patience:
    """Lends a history to one exposure after the other, each of which waits for it no longer than it may.

    A question is asked in a thread of its own. While a server is away it is asked again, with pauses that double. When the
    time is up the thread is told to end and left to itself: nobody waits for a call that cannot be interrupted, such as one
    into a network file system whose server is gone, and no second thread joins one that is stuck.

    Parameters
    ----------
    history : History
    seconds : float
        How long an exposure may wait in all [s].
    clock : callable
        Returns seconds of a clock that never goes back.
    """

    def __init__(self, history: History, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._history = history
        self._seconds = seconds
        self._clock = clock
        self._running: _Question[object] | None = None

    def exposure(self) -> History:
        """Return the history as one exposure may ask it; only what it waits for answers counts."""
        return _Lent(self, self._seconds, self._clock)

    def close(self) -> None:
        """Let go of the history, unless a thread is still stuck in it."""
        if self._running and self._running.is_alive():
            self._history.interrupt()
            self._running.join(_LONGEST_PAUSE)
        if not self._running or not self._running.is_alive():
            self._history.close()

    def ask(self, question: Callable[[History], T], seconds: float) -> T:
        """Return the answer to a question, or raise a TelemetryError after so many seconds at the latest."""
        deadline = self._clock() + seconds
        late = f"no answer within {self._seconds:g} s"
        if self._running:
            if self._running.is_alive():  # it may have begun to ask just when it was told to end
                self._history.interrupt()
            self._running.join(seconds)
            if self._running.is_alive():
                raise TelemetryError(f"{late}: an earlier question is still stuck", retry=True)
        asked = _Question(self._history, question, deadline, self._clock)
        self._running = asked  # type: ignore[assignment]
        asked.start()
        asked.join(max(0.0, deadline - self._clock()))
        if asked.is_alive():
            asked.give_up.set()
            self._history.interrupt()
            raise TelemetryError(f"{late}{f': {asked.failure}' if asked.failure else ''}", retry=True)
        if asked.bug:
            raise asked.bug
        if asked.failure:
            raise asked.failure
        return asked.answer[0]


class _Lent:
    """A history with what is left of one exposure's time [s]."""

    def __init__(self, patience: Patience, seconds: float, clock: Callable[[], float]) -> None:
        self._patience = patience
        self._left = seconds
        self._clock = clock

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        return self._ask(lambda history: history.as_of(names, instants))

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        return self._ask(lambda history: history.during(names, begin, end))

    def interrupt(self) -> None:
        """Do nothing: questions end by themselves."""

    def close(self) -> None:
        """Do nothing: the history is lent."""

    def _ask(self, question: Callable[[History], T]) -> T:
        begun = self._clock()
        try:
            return self._patience.ask(question, max(0.0, self._left))
        finally:
            self._left -= self._clock() - begun


class _Question(threading.Thread, Generic[T]):
    """Asks until there is an answer, nobody waits any more, or asking again is of no use."""

    def __init__(self, history: History, question: Callable[[History], T], deadline: float, clock: Callable[[], float]) -> None:
        super().__init__(name="history", daemon=True)
        self._history = history
        self._question = question
        self._deadline = deadline
        self._clock = clock
        self.give_up = threading.Event()
        self.answer: list[T] = []
        self.failure: TelemetryError | None = None
        self.bug: BaseException | None = None

    def run(self) -> None:
        pause = _FIRST_PAUSE
        while not self.give_up.is_set():
            try:
                self.answer.append(self._question(self._history))
            except TelemetryError as error:
                self.failure = error
                left = self._deadline - self._clock()
                if not error.retry or left <= 2 * _FIRST_PAUSE:
                    return
                pause = min(pause, left / 2)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that asked
                self.bug = error
                return
            else:
                self.failure = None
                return
            self.give_up.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
