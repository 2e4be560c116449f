"""What the watcher tells of itself: figures for Prometheus, and the health of each part."""

from pathlib import Path

from assembler.core.instants import SECOND
from assembler.errors import AssemblerError, OutputError
from assembler.service.diary import Diary
from assembler.service.health import Health, Part
from assembler.service.lender import Lender
from assembler.service.meters import Meters, Published
from assembler.service.pipeline import Outcome

_LAG = 30 * SECOND


class Signs:
    """Keeps meters and health up to date.

    Parameters
    ----------
    meters : Meters
    health : Health
    """

    def __init__(self, meters: Meters, health: Health) -> None:
        self._meters = meters
        self._health = health
        self._lag_asked = 0
        self._lag: float | None = None

    def input(self, trouble: str) -> None:
        """Tell whether the input is there; the trouble is empty when it is."""
        self._meters.up("input", not trouble)
        self._part("input", trouble)

    def journal(self, diary: Diary) -> None:
        """Tell what the journal has, and whether it can be written."""
        self._meters.exposures({str(state): count for state, count in diary.counts().items()})
        self._meters.up("journal", not diary.failure)
        self._part("journal", diary.failure)

    def history(self, lender: Lender, now: int) -> None:
        """Tell whether the keyword history answers, and now and then how old its newest sample is; the instant is that of the day [ns]."""
        if not lender.failure and abs(now - self._lag_asked) >= _LAG:
            self._lag_asked = now
            newest = lender.newest(now)
            self._lag = None if newest is None else now / 1e9 - newest
        self._meters.history_lag(None if lender.failure else self._lag)
        self._meters.up("history", not lender.failure)
        self._part("history", lender.failure)

    def followed(self, sub_fits: int) -> None:
        """Tell how many sub-FITS are not settled."""
        self._meters.followed(sub_fits)

    def queue(self, exposures: int) -> None:
        """Tell how many exposures are ready and not made."""
        self._meters.queue(exposures)

    def published(self, outcome: Outcome, seconds: float) -> None:
        """Count an L0, which was there so long after its last sub-FITS [s]."""
        self._health.ok("output")
        kind: Published = "same" if not outcome.made else "superseding" if outcome.replaced else "first"
        self._meters.published(kind, _size(outcome.path) if outcome.made else 0)
        self._meters.found(outcome.plan.findings)
        if outcome.made:
            self._meters.took(seconds)

    def failed(self, error: AssemblerError) -> None:
        """Count an attempt that failed; a disk that may be well again is a matter of health."""
        self._meters.failed(error)
        if isinstance(error, OutputError) and error.retry:
            self._health.degraded("output", str(error))

    def _part(self, part: Part, trouble: str) -> None:
        if trouble:
            self._health.degraded(part, trouble)
        else:
            self._health.ok(part)


def _size(path: Path) -> int:
    """Return how long a file is [bytes]; 0 where that cannot be told any more."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
