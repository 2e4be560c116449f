"""Who took part in the exposures in flight, as the keyword history tells it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from assembler.core.instants import SECOND
from assembler.core.instrument import Instrument
from assembler.core.readiness import Flight
from assembler.service.lender import Lender

_ASK_AGAIN = 2 * SECOND

Told = Mapping[int | None, frozenset[str] | None]
"""By frame, the origins that took part; None while nobody tells."""


@dataclass(slots=True)
class _Night:
    """What was told of a night's exposures, and when to ask again of those of which nothing was [ns]."""

    told: dict[int | None, frozenset[str] | None] = field(default_factory=dict)
    again: int = 0


class RollCall:
    """Asks once for each exposure, and again for those of which nothing is told yet. One thread uses it.

    Parameters
    ----------
    instrument : Instrument
    lender : Lender or None
        The keyword history; without one, nobody tells.
    clock : callable
        Returns the instant [ns], as the history tells it.
    """

    def __init__(self, instrument: Instrument, lender: Lender | None, clock: Callable[[], int]) -> None:
        self._instrument = instrument
        self._lender = lender
        self._clock = clock
        self._nights: dict[str, _Night] = {}

    def ask(self, night: str, flights: Iterable[Flight], now: int) -> Told:
        """Return who took part in these exposures of a night, as told for their middles; those that are not named are forgotten."""
        if self._lender is None:
            return {}
        asked = self._nights.setdefault(night, _Night())
        counted = [f for f in flights if f.frame is not None]
        asked.told = {f.frame: asked.told[f.frame] for f in counted if f.frame in asked.told}
        unasked = [f for f in counted if f.frame not in asked.told or (asked.told[f.frame] is None and now >= asked.again)]
        middles = {f.frame: (i[0] + i[1]) // 2 for f in unasked if (i := f.interval(self._instrument))}
        if middles:
            told = self._lender.triggered(middles, self._clock())
            asked.told |= {frame: told.get(frame) for frame in middles}
            asked.again = now + _ASK_AGAIN
        return asked.told

    def drop(self, night: str) -> None:
        """Forget a night."""
        self._nights.pop(night, None)
