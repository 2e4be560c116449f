"""A pace that copying keeps to, so that a disk has time for others, too."""

import threading
from collections.abc import Callable

Pace = Callable[[int], None]
"""Is called before each part is read, with its length [bytes], and may wait."""

AHEAD = 5_000_000
"""How far parts may run ahead of the pace [ns]: sleeping for less takes longer than it is told."""


def at_once(_count: int) -> None:
    """Let a part be read at once."""


class Pacer:
    """Makes whoever copies wait, so that in all no more than so many bytes a second are copied, by however many threads.

    Each part has its place in time, one after the other; who comes early waits for it. What was not used is not made up for. So in
    any window of time a thread gets no more bytes than its length allows, those of `AHEAD`, and those of its first and last part.

    Parameters
    ----------
    rate : float
        [bytes/s]
    clock : callable
        Tells a time that never goes back [ns].
    sleep : callable
        Waits [s].
    """

    def __init__(self, rate: float, clock: Callable[[], int], sleep: Callable[[float], None]) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next: float | None = None

    def __call__(self, count: int) -> None:
        """Wait until a part of so many bytes may be read."""
        with self._lock:
            now = self._clock()
            place = now if self._next is None else max(now, self._next)
            self._next = place + count / self._rate * 1e9
        if place - now > AHEAD:
            self._sleep((place - now) / 1e9)
