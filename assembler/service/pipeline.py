"""One exposure from its sub-FITS to a published L0."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from assembler.core.corrections import (
    CorrectedExposure,
    Correction,
    applying,
    change_findings,
    correct_answers,
    correct_exposure,
)
from assembler.core.findings import Finding, finding
from assembler.core.instants import parse_iso, unix_seconds
from assembler.core.instrument import MOMENTS, Instrument, Moment
from assembler.core.plan import Plan, Source, plan_l0
from assembler.core.snapshots import Answers, Sample
from assembler.core.times import SERVICE, Candidate, Times, by_trust, reconcile, service_moments
from assembler.errors import InputError, OutputError, VerificationError
from assembler.fits.verifier import opens_with_cfitsio, verify_plan
from assembler.fits.writer import draft, publish, remove_abandoned, sum_l0, write_l0
from assembler.service.finder import Found, file_times
from assembler.telemetry.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an exposure: where its L0 is, what is in it, and whether it was made now or there already."""

    path: Path
    plan: Plan
    made: bool


def plan_exposure(
    found: Found, history: History | None, directory: Path, *, corrections: Sequence[Correction] = (), version: str, now: int
) -> Plan:
    """Decide everything that will be in the L0, and write nothing.

    Parameters
    ----------
    found : Found
    history : History or None
    directory : Path
        Where the L0 is to be.
    corrections : sequence of Correction
        Of any exposure; those that are meant for this one are applied before anything else looks at its cards.
    version : str
        Of the assembler.
    now : int
        The instant [ns] that is DATE.

    Raises
    ------
    ConfigurationError
        When two corrections give one card different values.
    InputError
        When there is nothing to assemble.
    TelemetryError
        When the history cannot be read.
    """
    instrument = found.instrument
    chosen = _of_this_exposure(corrections, found)
    corrected = _correct(found, chosen)
    exposure = corrected.exposure
    files, told = file_times(exposure)
    service, unread = _ask_service(instrument, files, history)
    times, reconciled = reconcile(instrument.exposure, service, files)
    answers, changed, unused = correct_answers(instrument, _ask_snapshots(instrument, times, history), chosen)
    changes = (*corrected.changes, *changed)
    return plan_l0(
        instrument,
        exposure,
        times,
        answers,
        changes=changes,
        told=(*change_findings(changes), *corrected.findings, *unused, *told, *unread, *reconciled),
        directory=os.path.abspath(directory),
        version=version,
        written=now,
    )


def assemble(
    found: Found,
    history: History | None,
    directory: Path,
    *,
    corrections: Sequence[Correction] = (),
    version: str,
    clock: Callable[[], int],
) -> Outcome:
    """Make the L0 of an exposure: plan, write, verify, publish.

    A sub-FITS that changes meanwhile is looked at once more; one that changes again, or cannot be read to its end, is left
    out, with the reason; so is one with an HDU that cfitsio cannot open. An L0 that is there already and is the same (DATE
    apart) is left alone.

    Raises
    ------
    ConfigurationError
        When two corrections give one card different values.
    InputError
        When there is nothing to assemble.
    OutputError
        When the L0 cannot be written, or one that differs has its name.
    TelemetryError
        When the history cannot be read.
    VerificationError
        When what was written is not what was planned; nothing is published.
    """
    read_again: set[str] = set()
    while True:
        plan = plan_exposure(found, history, directory, corrections=corrections, version=version, now=clock())
        try:
            return _make(plan, directory)
        except InputError as error:
            if error.path not in {s.path for s in found.subs.values()}:
                raise
            if error.retry and error.path not in read_again:
                read_again.add(error.path)
                found = found.again(error.path)
            else:
                found = found.without(error.path, error.reason, str(error))
        except VerificationError as error:
            closed = _closed_to_cfitsio(found, plan, error.extension)
            if not closed:
                raise
            for path in closed:
                found = found.without(path, "unreadable", f"{path}: cfitsio cannot open every HDU")


def _of_this_exposure(corrections: Sequence[Correction], found: Found) -> tuple[Correction, ...]:
    """Choose the corrections by frame number and begin as the files tell them, uncorrected."""
    if not corrections:
        return ()
    exposure = found.exposure
    trusted = by_trust(found.instrument.exposure, file_times(exposure)[0])
    return applying(corrections, exposure.frame, trusted.begin if trusted else None)


def _correct(found: Found, corrections: Sequence[Correction]) -> CorrectedExposure:
    if not corrections:
        return CorrectedExposure(exposure=found.exposure)
    return correct_exposure(found.instrument, found.subs, found.missing, found.frame, corrections)


def _closed_to_cfitsio(found: Found, plan: Plan, extension: str) -> list[str]:
    """Return the sub-FITS that keep cfitsio from opening an L0: that of the HDU where it stopped, or those it cannot open."""
    source = next((hdu.data for hdu in plan.hdus if extension and hdu.name == extension), None)
    if isinstance(source, Source):
        return [source.path]
    return [sub.path for sub in found.subs.values() if not opens_with_cfitsio(sub)]


def _make(plan: Plan, directory: Path) -> Outcome:
    remove_abandoned(directory, plan.filename)
    if _is_there(directory, plan.filename):
        return _left_alone(plan, directory)
    with draft(directory, plan.filename) as target:
        plan, sums = write_l0(plan, target)
        verify_plan(target.path, plan, sums)
        try:
            return Outcome(path=publish(target, plan.filename), plan=plan, made=True)
        except OutputError:
            if not _is_there(directory, plan.filename):
                raise
    return _left_alone(plan, directory)  # another assembler was faster


def _left_alone(plan: Plan, directory: Path) -> Outcome:
    """Return the L0 that is there, if it is the one that would be made."""
    path = directory / plan.filename
    plan, sums = sum_l0(plan)
    try:
        verify_plan(path, plan, sums, ignore_date=True)
    except VerificationError as error:
        raise OutputError(f"{path} exists and is not what would be made now; an L0 is never overwritten ({error})") from error
    return Outcome(path=path, plan=plan, made=False)


def _is_there(directory: Path, filename: str) -> bool:
    """Tell whether a name is in a directory, by scanning it."""
    try:
        with os.scandir(directory) as entries:
            return any(entry.name == filename for entry in entries)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(f"{directory}: cannot be read: {error.strerror}") from error


def _ask_service(
    instrument: Instrument, files: tuple[Candidate, ...], history: History | None
) -> tuple[Candidate | None, tuple[Finding, ...]]:
    """Ask the exposure service for its times, as of the files' end plus the settling time."""
    rule = instrument.exposure
    moments = service_moments(rule, files)
    sources = [asked.source if asked else "" for asked in (rule.begin, rule.end)]
    if history is None or moments is None or not any(sources):
        return None, ()
    settled, earlier = history.as_of([s for s in sources if s], [unix_seconds(m) for m in moments])
    findings: list[Finding] = []
    told: list[int | None] = []
    for source in sources:
        instant = _instant(settled.get(source))
        if instant is not None and instant > moments[1]:
            instant = _instant(earlier.get(source))
        if instant is None and source in settled:
            message = f"{source} is {settled[source].value[:60]!a}, which is no time of this exposure"
            findings.append(finding("time-unreadable", message, keyword=source.partition(".")[2][:8]))
        told.append(instant)
    return Candidate(source=SERVICE, origin="", begin=told[0], end=told[1]), tuple(findings)


def _ask_snapshots(instrument: Instrument, times: Times, history: History | None) -> Answers:
    """Ask for the last value of every telemetry keyword at each moment, and for the numbers over the exposure."""
    offsets = {snapshot.moment: snapshot.offset for snapshot in instrument.snapshots}
    instants: dict[Moment, int] = {m: at + offsets.get(m, 0) for m in MOMENTS if (at := times.at(m)) is not None}
    if history is None:
        return Answers(instants=instants)
    if times.begin is None or times.end is None:
        return Answers(instants=instants, asked=True)
    sources = instrument.sources()
    values = history.as_of(sources, [unix_seconds(i) for i in instants.values()])
    return Answers(
        instants=instants,
        values=dict(zip(instants, values, strict=True)),
        aggregates=history.during(sources, unix_seconds(times.begin), unix_seconds(times.end)),
        asked=True,
    )


def _instant(sample: Sample | None) -> int | None:
    try:
        return parse_iso(sample.value) if sample else None
    except ValueError:
        return None
