"""One exposure of the watcher: from the sub-FITS that belong to it to its L0, and what is noted and told of that."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assembler.core.corrections import Correction
from assembler.core.exposure import MISSING_CODES, Missing
from assembler.core.instrument import Instrument
from assembler.core.readiness import Flight
from assembler.core.settling import Signature
from assembler.errors import InputError, TakenError
from assembler.service.announcer import Announcer
from assembler.service.diary import Diary
from assembler.service.finder import Found, find_paths
from assembler.service.journal_l0s import read_l0
from assembler.service.journal_reader import ExposureName, Sighting
from assembler.service.lender import Lender
from assembler.service.log import Log
from assembler.service.pipeline import Outcome, assemble
from assembler.service.recorder import Recorder

UNANSWERED = "history-unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What may be read anew while the watcher runs: the instrument, and what is known to be wrong; and who records its L0s."""

    instrument: Instrument
    corrections: Sequence[Correction] = ()
    recorder: Recorder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An exposure to be made.

    Attributes
    ----------
    name : ExposureName
    flight : Flight
    missing : tuple of Missing
        Why origins are not there, as far as that is known.
    why : str
        Why an L0 of this exposure that is there already is to be superseded; empty: it is not to be.
    is_anew : bool
        Whether nothing of it is as it is in its L0; with other times it is another exposure then, and that L0 stays.
    unreadable : collection of str
        Paths of sub-FITS that have been tried often enough; they are left out if they fail again.
    """

    name: ExposureName
    flight: Flight
    missing: tuple[Missing, ...] = ()
    why: str = ""
    is_anew: bool = False
    unreadable: Collection[str] = ()


class Maker:
    """Makes L0s. One thread uses it.

    Parameters
    ----------
    setup : Setup
    out : Path
        Where the L0s go.
    lender : Lender or None
        The keyword history.
    diary : Diary
    version : str
        Of the assembler.
    clock : callable
        Returns the instant [ns] that is DATE.
    signature : callable
        Returns the signature with which a sub-FITS was settled.
    announcer : Announcer or None
    """

    def __init__(
        self,
        setup: Setup,
        out: Path,
        lender: Lender | None,
        diary: Diary,
        *,
        version: str,
        clock: Callable[[], int],
        signature: Callable[[str], Signature | None],
        announcer: Announcer | None = None,
    ) -> None:
        self._instrument = setup.instrument
        self._corrections = setup.corrections
        self._recorder = setup.recorder
        self._out = out
        self._lender = lender
        self._diary = diary
        self._version = version
        self._clock = clock
        self._signature = signature
        self._announcer = announcer

    def make(self, order: Order, log: Log) -> Outcome:
        """Make an L0 and note it.

        Raises
        ------
        AssemblerError
            When it cannot be made now, or at all; nothing of that is noted.
        """
        name = order.name
        sightings = [Sighting(path=a.path, origin=a.origin, signature=self._signature(a.path), key=name.key) for a in order.flight.arrivals]
        self._diary.note(name, "ready", order.why, sub_fits=sightings)
        self._diary.note(name, "assembling")
        log.debug("assembling", origins=list(order.flight.origins))
        outcome = self._assemble(order, self._find(order))
        if self._announcer:  # before it is noted as done, so that what is noted was put in
            self._announcer.published(outcome.path, version=outcome.version, written=outcome.written, replaced=outcome.replaced)
        counts = Counter(f.severity for f in outcome.plan.findings)
        detail = f"version {outcome.version}" if outcome.made else "it was there already, and is the same"
        self._diary.note(
            name, "published", detail, l0=str(outcome.path), version=outcome.version, findings=counts, missing=missing_of(outcome)
        )
        if self._recorder:
            self._recorder.add(outcome.path, self._instrument)
        return outcome

    def _find(self, order: Order) -> Found:
        """Read the headers once more, and see that the sub-FITS are as they were when they were settled."""
        paths = {a.origin: a.path for a in order.flight.arrivals}
        found = find_paths(self._instrument, paths, order.missing, order.flight.frame)
        for origin, path in paths.items():
            if path in order.unreadable:
                continue
            sub = found.subs.get(origin)
            if sub is None:
                told = next(m for m in found.missing if m.origin == origin)
                raise InputError(told.message, path=path, reason=told.reason, retry=True)
            if sub.signature != self._signature(path):
                raise InputError(f"{path} changed after it had been whole", path=path, reason="still-growing", retry=True)
        return found

    def _assemble(self, order: Order, found: Found) -> Outcome:
        """Assemble; an L0 that differs is superseded only where it is known to be of the same exposure."""
        try:
            return self._call(order, found, None)
        except TakenError as error:
            if not order.why or order.unreadable:  # the L0 that is there may have what cannot be read any more
                raise
            standing = read_l0(error.path, self._instrument).name
            if standing.key != order.name.key:
                told = f"{error.path} is the L0 of another exposure ({standing.key}); two exposures have one name"
                raise TakenError(told, path=error.path) from error
            return self._call(order, found, order.why)

    def _former(self, order: Order) -> Path | None:
        """Return where this exposure's L0 is so far, as the journal has it."""
        entry = self._diary.entry(order.name)
        former = Path(entry.l0) if entry and entry.l0 else None
        return former if former and former.parent == self._out else None

    def _call(self, order: Order, found: Found, why: str | None) -> Outcome:
        outcome = assemble(
            found,
            self._lender.lend() if self._lender else None,
            self._out,
            corrections=self._corrections,
            version=self._version,
            clock=self._clock,
            supersede=why,
            former=None if order.is_anew else self._former(order),
            patient=not order.unreadable,
            verified=lambda path: self._diary.note(order.name, "verified", str(path)),
        )
        if self._lender:
            unanswered = next((f.message for f in outcome.plan.findings if f.code == UNANSWERED), "")
            if unanswered:
                self._lender.failed(unanswered)
            else:
                self._lender.answered()
        return outcome


def missing_of(outcome: Outcome) -> Mapping[str, str]:
    """Return by origin why it is not in an L0."""
    return {f.origin: f.code for f in outcome.plan.findings if f.origin and f.code in MISSING_CODES}
