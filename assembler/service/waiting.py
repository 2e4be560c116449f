"""The clock by which the watcher waits: it is never set, and stands still while nobody can look whether something came."""

from collections.abc import Callable

from assembler.core.instants import SECOND
from assembler.service.log import Log

_BLOCKED = 20 * SECOND
"""After how long without a look something must have blocked, such as a file server that was away [ns]; an exposure that waits for the
history takes less."""


class WaitingClock:
    """Counts the time in which sub-FITS could have been found. One thread uses it.

    Parameters
    ----------
    clock : callable
        Returns the instant [ns], as journals and headers tell it.
    steady : callable
        Returns an instant [ns] by a clock that is never set, which began with the other one.
    log : Log
    """

    def __init__(self, clock: Callable[[], int], steady: Callable[[], int], log: Log) -> None:
        self._clock = clock
        self._steady = steady
        self._log = log
        self._apart = clock() - steady()
        self._looked = steady()
        self._paused = 0
        self._away = False

    def now(self) -> int:
        """Return the instant [ns] by which is waited."""
        return self._steady() - self._paused

    def steady(self, instant: int) -> int:
        """Return by the steady clock an instant by which is waited [ns]."""
        return instant + self._paused

    def wall(self, instant: int) -> int:
        """Return as the time of day an instant by which is waited [ns]."""
        return instant + self._paused + self._apart

    def looked(self, place: str, *, there: bool) -> None:
        """Take note that the input was looked at, and whether it was there; time without it does not pass."""
        steady = self._steady()
        if self._away or steady - self._looked > _BLOCKED:
            self._paused += steady - self._looked
        if there and self._away:
            self._log.info("input_is_back", place=place)
        elif not there and not self._away:
            self._log.error("input_gone", place=place)
        self._away = not there
        self._looked = steady

    def compare(self) -> None:
        """Tell when the computer's clock was set; nothing depends on it but the times that are noted."""
        apart = self._clock() - self._steady()
        if abs(apart - self._apart) > SECOND:
            self._log.warning("clock_was_set", seconds=(apart - self._apart) / 1e9)
            self._apart = apart
