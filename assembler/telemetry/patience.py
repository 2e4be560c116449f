"""Patience: a history may be away, slow or stuck, and yet delays an exposure by a bounded time only."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from assembler.core.samples import Aggregate, Sample
from assembler.errors import TelemetryError
from assembler.telemetry.history import History

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0

T = TypeVar("T")


class Patience:
    """Lends a history to one exposure after the other, each of which waits for it no longer than it may.

    Questions are asked in a thread of their own, always the same one: where all processors are busy, a new one for each question would
    wait for a processor while the one that waits for it leaves its own idle. While a server is away it is asked again, with pauses that
    double. When the time is up the thread is told to give up and left to itself: nobody waits for a call that cannot be interrupted,
    such as one into a network file system whose server is gone, and no second thread joins one that is stuck.

    Parameters
    ----------
    history : History
    seconds : float
        How long an exposure may wait in all [s].
    clock : callable
        Returns seconds of a clock that never goes back.
    """

    def __init__(
        self, history: History, seconds: float, clock: Callable[[], float] = time.monotonic, asker: "_Asker | None" = None
    ) -> None:
        self._history = history
        self._seconds = seconds
        self._clock = clock
        self._asker = asker or _Asker()
        self._last: _Question[object] | None = None

    @classmethod
    def opening(cls, factory: Callable[[], History], seconds: float, clock: Callable[[], float] = time.monotonic) -> "Patience":
        """Open a history, which may be a file on a dead network file system, or a log that takes long to read.

        Raises
        ------
        TelemetryError
            When that takes longer than an exposure may wait, or whatever the factory raises.
        """
        asked, asker = _Question(factory, clock() + seconds, clock), _Asker()
        asker.ask(asked)
        try:
            return cls(asked.get(f"cannot be opened within {seconds:g} s"), seconds, clock, asker)
        except BaseException:
            asker.end()
            raise

    def exposure(self, seconds: float | None = None) -> History:
        """Return the history as one exposure may ask it; only what it waits for answers counts.

        ``seconds`` is how long this one may wait, where that is not the usual time [s].
        """
        return _Lent(self, self._seconds if seconds is None else seconds, self._clock)

    def close(self) -> None:
        """Let go of the history, unless a thread is still stuck in it."""
        if self._last and not self._last.is_done(0):
            self._history.interrupt()
        if not self._last or self._last.is_done(_LONGEST_PAUSE):
            self._history.close()
        self._asker.end()

    def ask(self, question: Callable[[History], T], seconds: float) -> T:
        """Return the answer to a question, or raise a TelemetryError after so many seconds at the latest."""
        deadline = self._clock() + seconds
        late = f"no answer within {self._seconds:g} s"
        if self._last and not self._last.is_done(0):
            self._history.interrupt()  # it may have begun to ask just when it was told to end
            if not self._last.is_done(seconds):
                raise TelemetryError(f"the keyword history: {late}: an earlier question is still stuck", retry=True)
        asked = _Question(lambda: question(self._history), deadline, self._clock)
        self._last = asked  # type: ignore[assignment]
        self._asker.ask(asked)
        return asked.get(late, self._history.interrupt)


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


class _Asker:
    """A thread that asks one question after the other; it begins with the first."""

    def __init__(self) -> None:
        self._questions: SimpleQueue[_Question[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, question: "_Question[Any]") -> None:
        """Have a question asked, after those before it."""
        self._questions.put(question)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="history", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Let the thread end when it has nothing to ask any more."""
        self._questions.put(None)

    def _run(self) -> None:
        while question := self._questions.get():
            question.ask()


class _Question(Generic[T]):
    """Asks until there is an answer, nobody waits any more, or asking again is of no use."""

    def __init__(self, question: Callable[[], T], deadline: float, clock: Callable[[], float]) -> None:
        self._question = question
        self._deadline = deadline
        self._clock = clock
        self._done = threading.Event()
        self.give_up = threading.Event()
        self._answer: list[T] = []
        self._failure: TelemetryError | None = None
        self._bug: BaseException | None = None

    def is_done(self, seconds: float) -> bool:
        """Wait for the end of it for so many seconds; tell whether it came."""
        return self._done.wait(seconds)

    def get(self, late: str, interrupt: Callable[[], None] = lambda: None) -> T:
        """Return the answer, or raise what came instead; after the deadline, interrupt and raise that it is late."""
        if not self.is_done(max(0.0, self._deadline - self._clock())):
            self.give_up.set()
            interrupt()
            raise TelemetryError(f"the keyword history: {late}{f': {self._failure}' if self._failure else ''}", retry=True)
        if self._bug:
            raise self._bug
        if self._failure:
            raise self._failure
        return self._answer[0]

    def ask(self) -> None:
        """Ask, and ask again; called by the thread."""
        try:
            self._ask()
        finally:
            self._done.set()

    def _ask(self) -> None:
        pause = _FIRST_PAUSE
        while not self.give_up.is_set():
            try:
                self._answer.append(self._question())
            except TelemetryError as error:
                self._failure = error
                left = self._deadline - self._clock()
                if not error.retry or left <= 2 * _FIRST_PAUSE:
                    return
                pause = min(pause, left / 2)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that asked
                self._bug = error
                return
            else:
                self._failure = None
                return
            self.give_up.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
