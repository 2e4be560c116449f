"""The keyword history as the watcher uses it: it may be away when the watcher starts, go, and come back; exposures wait a little."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from assembler.core.instants import unix_seconds
from assembler.core.instrument import Instrument
from assembler.core.readiness import triggered_origins
from assembler.core.samples import Aggregate, Sample
from assembler.errors import TelemetryError
from assembler.service.log import Log
from assembler.telemetry.history import History
from assembler.telemetry.patience import Patience

_SHORT = 0.5
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Lender:
    """Lends the history to one exposure after the other. One thread uses it.

    As long as it does not answer, exposures wait for a moment only, so that an outage delays the first of them and not all.

    Parameters
    ----------
    instrument : Instrument
        May be set anew.
    opening : callable
        Opens the history.
    seconds : float
        How long an exposure may wait for it [s].
    log : Log
    clock : callable
        Returns seconds of a clock that never goes back.
    """

    def __init__(
        self, instrument: Instrument, opening: Callable[[], History], seconds: float, log: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.instrument = instrument
        self._opening = opening
        self._seconds = seconds
        self._log = log
        self._clock = clock
        self._patience: Patience | None = None
        self._pause = _FIRST_PAUSE
        self._ask_again = 0.0
        self.failure = ""

    def lend(self) -> History:
        """Return the history for one exposure; one that is away says so when it is asked."""
        seconds = min(self._seconds, _SHORT) if self.failure else self._seconds
        if self._patience is None:
            if self.failure and self._clock() < self._ask_again:
                return _Away(self.failure)
            try:
                self._patience = Patience.opening(self._opening, seconds, self._clock)
            except TelemetryError as error:
                self.failed(error)
                return _Away(self.failure)
        return self._patience.exposure(seconds)

    def failed(self, error: TelemetryError | str) -> None:
        """Take note that the history did not answer."""
        if not self.failure:
            self._log.error("history_away", reason=str(error))
            self._pause = _FIRST_PAUSE
        else:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._ask_again = self._clock() + self._pause
        self.failure = str(error)

    def answered(self) -> None:
        """Take note that the history answered."""
        if self.failure:
            self._log.info("history_answers_again")
        self.failure = ""

    def is_back(self, now: int) -> bool:
        """Tell whether a history that was away answers again; it is asked now and then only, as of an instant [ns]."""
        if self.failure and self._clock() >= self._ask_again:
            self.newest(now)
        return not self.failure

    def newest(self, now: int) -> float | None:
        """Return when the newest of the instrument's samples was broadcast as of an instant [ns]; [s since 1970], None for never."""
        try:
            (told,) = self.lend().as_of(self.instrument.sources(), [unix_seconds(now)])
        except TelemetryError as error:
            self.failed(error)
            return None
        self.answered()
        return max((sample.time for sample in told.values()), default=None)

    def triggered(self, middles: Mapping[int | None, int], now: int) -> dict[int | None, frozenset[str]]:
        """Return who took part in exposures, by frame, where the history tells.

        Of an exposure after whose middle nothing was broadcast yet, nobody tells: the history lags, and what it has last may be
        of the exposure before.

        Parameters
        ----------
        middles : mapping of int to int
            The middle of each exposure [ns].
        now : int
            [ns]
        """
        source = self.instrument.exposure.triggered
        if not source or not middles or (self.failure and self._clock() < self._ask_again):
            return {}
        newest = self.newest(now)
        if newest is None:
            return {}
        try:
            told = self.lend().as_of([source], [unix_seconds(middle) for middle in middles.values()])
        except TelemetryError as error:
            self.failed(error)
            return {}
        self.answered()
        return {
            frame: triggered_origins(self.instrument, answer[source].value)
            for (frame, middle), answer in zip(middles.items(), told, strict=True)
            if source in answer
            and answer[source].value.strip()  # nobody takes an exposure with no camera
            and newest >= unix_seconds(middle)
        }

    def close(self) -> None:
        """Let go of the history."""
        if self._patience:
            self._patience.close()


class _Away:
    """A history that could not be opened."""

    def __init__(self, failure: str) -> None:
        self._failure = failure

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:  # noqa: ARG002 - nobody is there
        """Raise that it is away."""
        self._raise()

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:  # noqa: ARG002 - nobody is there
        """Raise that it is away."""
        self._raise()

    def interrupt(self) -> None:
        """Do nothing: nothing was asked."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _raise(self) -> NoReturn:
        raise TelemetryError(self._failure, retry=True)
