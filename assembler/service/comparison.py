"""What differs between an L0 and what would be made now, or another L0, and why: one ingredient is exchanged at a time.

An L0 records what it was made of. It is planned again from that, then with the corrections of now, the history of now, and
each sub-FITS of now in turn. What differs between two of these plans has one cause, whatever it leads to.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assembler.core.cards import printable_text
from assembler.core.causes import Stage, explain_changes
from assembler.core.corrections import Correction
from assembler.core.difference import Change, Unit, compare_units
from assembler.core.exposure import SubFits
from assembler.core.findings import Finding
from assembler.core.instrument import Instrument
from assembler.core.plan import OWN_TABLES, Plan, Source, conclude
from assembler.core.units import file_units, plan_units
from assembler.errors import AssemblerError, TelemetryError
from assembler.fits.data import digest_of
from assembler.fits.pace import Pace, at_once
from assembler.service.compared_data import Data, data_now, data_of_two, datum_of, faults_of
from assembler.service.finder import Found
from assembler.service.former_history import Remembered, recorded_history
from assembler.service.journal_l0s import exposure_of
from assembler.service.pipeline import plan_exposure, without_closed
from assembler.service.reader import snapshot_instants
from assembler.service.recorded import Recording, read_recording, recorded_corrections, recorded_found
from assembler.telemetry.history import History

YAML, VERSION, CORRECTIONS, TELEMETRY, DIRECTORY = "YAML", "the assembler's version", "corrections", "telemetry", "the output directory"
UNEXPLAINED = "unexplained"
"""Neither the YAML nor the assembler's version differs, and yet the L0 is not what its own record makes: somebody changed it."""

_OF_CORRECTIONS = ("corrected", "correction-unused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What an L0 is made of.

    Attributes
    ----------
    found : Found
        The instrument and the sub-FITS.
    history : History or None
    corrections : sequence of Correction
    directory : Path
        Where the L0 is to be.
    version : str
        Of the assembler.
    now : int
        When it would be made, as DATE tells [ns].
    """

    found: Found
    history: History | None
    corrections: Sequence[Correction]
    directory: Path
    version: str
    now: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs between an L0 and another one, or what would be made now.

    Attributes
    ----------
    path, against : str
    changes : tuple of Change
    left_out : mapping of str to int
        By causes, how many changes there are besides.
    """

    path: str
    against: str
    changes: tuple[Change, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether there is more than what tells nothing of its own."""
        return bool(self.causes)

    @property
    def causes(self) -> dict[str, int]:
        """How many changes each cause, or each set of causes that had a part in them, has."""
        return dict(Counter(", ".join(change.causes) for change in self.changes if not change.expected) + Counter(self.left_out))

    @property
    def summary(self) -> str:
        """How much differs, and why, in one line."""
        causes = self.causes
        if not causes:
            return "nothing differs but what tells when and as which version it was made"
        count = sum(causes.values())
        told = ", ".join(f"{n} {cause}" if cause.startswith(UNEXPLAINED) else f"{n} by {cause}" for cause, n in causes.items())
        return f"{count} {'difference' if count == 1 else 'differences'}: {told}"

    def bounded(self, most: int) -> "Comparison":
        """Return the same with the first changes only, and how many there are besides."""
        if len(self.changes) <= most:
            return self
        some = replace(self, changes=self.changes[:most])
        return replace(some, left_out=Counter(self.causes) - Counter(some.causes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """What an L0 is made of, with the data."""

    making: Making
    data: Data


def compare_with_now(path: Path, now: Making, *, replay: bool = False, pace: Pace = at_once) -> Comparison:
    """Compare an L0 with what would be made now.

    Parameters
    ----------
    path : Path
    now : Making
    replay : bool
        Take the telemetry that the L0 holds in place of the history of now.
    pace : callable
        What reading the data keeps to.

    Raises
    ------
    InputError
        When it is no L0, or a sub-FITS cannot be read.
    TelemetryError
        When the history does not answer, or the telemetry that the L0 holds is that of other times than the exposure's by now.
    """
    recording = read_recording(path)
    if any(f.code == "unreadable" and f.origin in now.found.subs for f in recording.findings):
        now = replace(now, found=without_closed(now.found) or now.found)
    instrument = now.found.instrument
    live = Remembered(now.history) if now.history else None
    same_yaml = recording.text("YAMLSHA") == instrument.digest != ""
    former = recorded_history(path, recording, None if same_yaml else live)
    subs = {name: replace(sub, digest=digest_of(sub, pace)) for name, sub in now.found.subs.items()}
    making = replace(now, found=replace(now.found, subs=subs), history=former if replay else live)
    final = _planned(making)
    lost = [f for f in final.findings if f.code == "history-unavailable"]
    if lost and not any(f.code == "history-unavailable" for f in recording.findings):
        raise TelemetryError(f"{lost[0].message}; {'name the keyword history with --history' if replay else 'nothing was compared'}")
    places = {(h.data.origin, h.data.hdu): h.name for h in final.hdus if isinstance(h.data, Source)}
    compared = data_now(recording, subs, places, pace)
    then, data = compared.sides
    new = _Side(making=making, data=data)
    old = _as_far_as_told(_recorded_side(recording, instrument, former, then), new)
    same = _says_the_same(recording, old, now.corrections)
    corrections = now.corrections if same else recorded_corrections(instrument, recording)
    old = replace(old, making=replace(old.making, corrections=corrections, now=now.now))
    first = _of_making((recording.text("FAVER"), now.version), (recording.text("YAMLSHA"), instrument.digest))
    units = file_units(recording.found.hdus, recording.tables, compared.digests[0], faults_of(recording, compared.totals[0], pace))
    wanted = _units(new, _concluded(final, data))
    stages = [Stage(units=units), *_stages(old, new, first)]
    stages.append(Stage(units=wanted, cause=stages[-1].cause or first))
    changes = explain_changes(compare_units(units, wanted), stages)
    return Comparison(path=str(path), against="what would be made now", changes=_blamed(changes, units))


def compare_l0s(path: Path, other: Path, instrument: Instrument) -> Comparison:
    """Compare two L0s of an instrument.

    Raises
    ------
    InputError
        When one is no L0 of this instrument.
    """
    mine, theirs = read_recording(path), read_recording(other)
    for recording in (mine, theirs):
        exposure_of(recording.found, instrument)
    compared = data_of_two(mine, theirs)
    sides = []
    for one, recording, data in zip((path, other), (mine, theirs), compared.sides, strict=True):
        side = _recorded_side(recording, instrument, recorded_history(one, recording, None), data)
        sides.append(replace(side, making=replace(side.making, corrections=recorded_corrections(instrument, recording))))
    old, new = _as_far_as_told(sides[0], sides[1]), _as_far_as_told(sides[1], sides[0])
    first = _of_making(*((mine.text(keyword), theirs.text(keyword)) for keyword in ("FAVER", "YAMLSHA")))
    told = [(r, d, faults_of(r, totals)) for r, d, totals in zip((mine, theirs), compared.digests, compared.totals, strict=True)]
    ends = [file_units(r.found.hdus, r.tables, digests, faults) for r, digests, faults in told]
    stages = [Stage(units=ends[0]), *_stages(old, new, first, recorded=_asked_alike(mine, theirs)), Stage(units=ends[1], cause=first)]
    whole = [file_units(r.found.hdus, r.tables, digests, faults, sums=True) for r, digests, faults in told]
    changes = explain_changes(compare_units(*whole), stages)
    return Comparison(path=str(path), against=str(other), changes=_blamed(changes, (*ends[0], *ends[1])))


def _blamed(changes: Sequence[Change], units: Collection[Unit]) -> tuple[Change, ...]:
    """Return changes without a cause that a table would tell which does not sum up to what the L0 says: that is no record any more.

    No ingredient makes a checksum that does not fit. It follows where something of its HDU is told as unexplained.
    """
    damaged = {u.name for u in units if u.name in OWN_TABLES and any(fault.startswith("DATASUM") for fault in u.faults)}
    blamed = [replace(c, causes=(UNEXPLAINED,)) if c.part == "checksum" or (c.part == "row" and c.hdu in damaged) else c for c in changes]
    told = {c.hdu for c in blamed if UNEXPLAINED in c.causes and c.part != "checksum"}
    follows = [c.part == "checksum" and c.hdu in told and c.keyword in ("CHECKSUM", "DATASUM") for c in blamed]
    return tuple(replace(c, expected=True, causes=()) if so else c for c, so in zip(blamed, follows, strict=True))


def _of_making(versions: tuple[str, str], digests: tuple[str, str]) -> str:
    """Return the cause of what differs though all that is recorded is the same: versions, and digests of the YAML, old and new."""
    if versions[0] == versions[1]:
        return UNEXPLAINED if digests[0] == digests[1] != "" else YAML
    return VERSION if digests[0] == digests[1] != "" else f"{YAML} or {VERSION}"


def _stages(old: _Side, new: _Side, first: str, *, recorded: bool = True) -> Iterator[Stage]:
    """Exchange one ingredient after the other; what cannot be planned, as a mixture of two exposures, goes on with the next.

    Parameters
    ----------
    first : str
        Why the record of the old L0 makes another one now.
    recorded : bool
        Whether the new history can be asked of the old exposure.
    """
    waiting: list[str] = []
    for cause, side in _exchanges(old, new, first, recorded=recorded):
        waiting.append(cause)
        try:
            units = _units(side, _plan(side))
        except AssemblerError:
            continue
        yield Stage(units=units, cause=", ".join(waiting))
        waiting = []


def _exchanges(old: _Side, new: _Side, first: str, *, recorded: bool) -> Iterator[tuple[str, _Side]]:
    side = old
    yield first, side
    wanted = new.making
    for cause, name in ((VERSION, "version"), (CORRECTIONS, "corrections"), (TELEMETRY, "history")):
        value = getattr(wanted, name)
        if value != getattr(side.making, name) and (recorded or name != "history"):
            side = replace(side, making=replace(side.making, **{name: value}))
            yield cause, side
    changed = [o.name for o in wanted.found.instrument.origins if _differs(o.name, side, new)]
    if not recorded:
        causes = [*map(_of_sub_fits, changed)] or [TELEMETRY]
        side = replace(new, making=replace(wanted, directory=side.making.directory))
        yield ", ".join(causes), side
    else:
        for name in changed:
            side = _with_sub_fits(name, side, new)
            yield _of_sub_fits(name), side
    if wanted.directory != side.making.directory:
        yield DIRECTORY, replace(side, making=replace(side.making, directory=wanted.directory))


def _of_sub_fits(origin: str) -> str:
    return f"the sub-FITS of {origin}"


def _differs(origin: str, old: _Side, new: _Side) -> bool:
    """Tell whether the sub-FITS of an origin is another one."""
    one, other = (side.making.found.subs.get(origin) for side in (old, new))
    if one is None or other is None:
        return one is not other or _missing(origin, old) != _missing(origin, new)
    if _told_of(one) != _told_of(other):
        return True
    return any(old.data.get((origin, h.index)) != new.data.get((origin, h.index)) for h in one.hdus)


def _as_far_as_told(one: _Side, other: _Side) -> _Side:
    """Return what an L0 was made of; a sub-FITS whose SHA-256 it does not tell, as older versions did not, has that of its like."""
    found = one.making.found
    subs = dict(found.subs)
    for name, sub in found.subs.items():
        like = other.making.found.subs.get(name)
        if not sub.digest and like:
            there = replace(sub, digest=like.digest, path=like.path)  # wherever it was
            if not _differs(name, replace(one, making=replace(one.making, found=replace(found, subs={name: there}))), other):
                subs[name] = replace(sub, digest=like.digest)
    return replace(one, making=replace(one.making, found=replace(found, subs=subs)))


def _told_of(sub: SubFits) -> tuple[object, ...]:
    """Return what an L0 tells of a sub-FITS, its data apart."""
    return printable_text(sub.path), sub.compressed, sub.trailing, sub.digest, [(h.images, h.blank_padding, h.clean_fill) for h in sub.hdus]


def _missing(origin: str, side: _Side) -> list[tuple[str, str]]:
    return [(m.reason, m.message) for m in side.making.found.missing if m.origin == origin]


def _with_sub_fits(origin: str, side: _Side, new: _Side) -> _Side:
    """Return a side with the sub-FITS of an origin as the new one has it."""
    here, there = side.making.found, new.making.found
    subs = {n: s for n, s in here.subs.items() if n != origin} | {n: s for n, s in there.subs.items() if n == origin}
    missing = (*(m for m in here.missing if m.origin != origin), *(m for m in there.missing if m.origin == origin))
    data = {k: d for k, d in side.data.items() if k[0] != origin} | {k: d for k, d in new.data.items() if k[0] == origin}
    return _Side(making=replace(side.making, found=replace(here, subs=subs, missing=missing)), data=data)


def _recorded_side(recording: Recording, instrument: Instrument, history: History | None, data: Data) -> _Side:
    """Return what an L0 was made of, but for its corrections."""
    making = Making(
        found=recorded_found(instrument, recording),
        history=history,
        corrections=(),
        directory=Path(recording.text("OUTDIR")),
        version=recording.text("FAVER"),
    )
    return _Side(making=making, data=data)


def _says_the_same(recording: Recording, old: _Side, corrections: Sequence[Correction]) -> bool:
    """Tell whether corrections do to the recorded sub-FITS and history what was done to them."""

    def told(findings: Iterable[Finding]) -> list[tuple[str, str, str, str]]:
        return [(f.code, f.origin, f.keyword, printable_text(f.message[:1000]).rstrip()) for f in findings if f.code in _OF_CORRECTIONS]

    recorded = told(recording.findings)
    if not corrections or not old.making.found.subs:
        return not recorded
    try:
        return told(_plan(replace(old, making=replace(old.making, corrections=corrections))).findings) == recorded
    except AssemblerError:
        return False


def _asked_alike(one: Recording, other: Recording) -> bool:
    """Tell whether the telemetry of two L0s is that of the same instants."""
    begins = [[r.text(keyword) for keyword in ("DATE-BEG", "DATE-END")] for r in (one, other)]
    return begins[0] == begins[1] and snapshot_instants(one.found) == snapshot_instants(other.found)


def _plan(side: _Side) -> Plan:
    """Plan an L0, with what its data tell."""
    return _concluded(_planned(side.making), side.data)


def _planned(making: Making) -> Plan:
    return plan_exposure(
        making.found, making.history, making.directory, corrections=making.corrections, version=making.version, now=making.now
    )


def _concluded(plan: Plan, data: Data) -> Plan:
    sources = {h.name: h.data for h in plan.hdus if isinstance(h.data, Source)}
    sums = {name: datum_of(data, source).total for name, source in sources.items()}
    return conclude(plan, {name: sums.get(name, 0) for name in plan.expected}, {})


def _units(side: _Side, plan: Plan) -> tuple[Unit, ...]:
    return plan_units(plan, lambda source: datum_of(side.data, source).digest)
