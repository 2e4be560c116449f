"""One exposure from its sub-FITS to a published L0."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from assembler.core.candidates import Candidate, by_trust
from assembler.core.cards import read_record, read_records
from assembler.core.corrections import (
    CorrectedExposure,
    Correction,
    applying,
    change_findings,
    correct_answers,
    correct_exposure,
    correct_service,
)
from assembler.core.exposure import frame_of
from assembler.core.plan import Plan, Source, plan_l0, superseding
from assembler.core.residuals import is_stranger
from assembler.core.times import Times, reconcile, with_durations
from assembler.core.versions import Replaced
from assembler.errors import ConfigurationError, GoneError, InputError, OutputError, TakenError, VerificationError
from assembler.fits.blocks import scan_primary
from assembler.fits.pace import Pace, at_once
from assembler.fits.verifier import opens_with_cfitsio, verify_plan
from assembler.fits.versions import Standing, newest_superseded, replaced_by, restore_l0, retire_l0, standing_l0, supersede_l0, tells_of
from assembler.fits.writer import draft, publish, remove_abandoned, sum_l0, write_l0
from assembler.service.finder import Found, file_times
from assembler.service.inquiry import Inquiry
from assembler.service.scales import SCALES
from assembler.telemetry.history import History

_MOST_OVERTAKEN = 10
_OF_ANOTHER = "the name was that of another exposure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an exposure: where its L0 is, what is in it, and whether it was made now or there already.

    Attributes
    ----------
    path : Path
    plan : Plan
    made : bool
    version : int
        Its L0VER.
    replaced : Path or None
        Where the L0 is kept that this one replaced.
    written : str
        Its DATE.
    """

    path: Path
    plan: Plan
    made: bool
    version: int = 1
    replaced: Path | None = None
    written: str = ""


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
    """
    instrument = found.instrument
    chosen = _of_this_exposure(corrections, found)
    inquiry = Inquiry(instrument, history)
    while True:
        corrected = _correct(found, chosen)
        files, told = file_times(corrected.exposure)
        asked, unread = inquiry.service_times(files)
        service, retimed = correct_service(instrument.exposure, asked, chosen)
        times, reconciled = reconcile(instrument.exposure, service, files, SCALES)
        framed = {origin.name for origin, sub in corrected.exposure.attached if frame_of(origin, sub) is not None}
        strangers = [c for c in files if is_stranger(c, times.begin, times.end, SCALES, same_frame=c.origin in framed)]
        if not strangers:
            break
        for stranger in strangers:
            found = _without_stranger(found, stranger, times)
    answers, missed = inquiry.snapshots(times)
    answers, changed, unused = correct_answers(instrument, answers, chosen)
    changes = (*corrected.changes, *retimed, *changed)
    lengths = {source: sample.value for source, sample in answers.values.get("end", {}).items()}
    times, measured = with_durations(instrument.exposure, times, lengths, SCALES)
    return plan_l0(
        instrument,
        corrected.exposure,
        times,
        answers,
        changes=changes,
        told=(*change_findings(changes), *corrected.findings, *unused, *told, *unread, *reconciled, *measured, *missed),
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
    supersede: str | None = None,
    former: Path | None = None,
    patient: bool = False,
    verified: Callable[[Path], None] = lambda _path: None,
    pace: Pace = at_once,
) -> Outcome:
    """Make the L0 of an exposure: plan, write, verify, publish.

    A sub-FITS that changes meanwhile is looked at once more; one that changes again, or cannot be read to its end, is left
    out, with the reason; so is one with an HDU that cfitsio cannot open. An L0 that is there already and is the same (DATE
    and what tells of its version apart) is left alone. One that differs is refused, or superseded.

    Parameters
    ----------
    found : Found
    history : History or None
    directory : Path
        Where the L0 is to be.
    corrections : sequence of Correction
        Of any exposure.
    version : str
        Of the assembler.
    clock : callable
        Tells the instant [ns] that is DATE.
    supersede : str or None
        Why an L0 that is there and differs is to be replaced by a newer version; None: it is not to be.
    former : Path or None
        Where this exposure's L0 was before. Where it gets another name now, because its times are known better, that one is
        superseded, if that is allowed.
    patient : bool
        Whether whoever calls will come again: then a sub-FITS that is gone, changes or cannot be read is raised, and not left out.
    verified : callable
        Is told the final path of an L0 that is whole and verified, just before it is published.
    pace : callable
        What copying, and comparing with an L0 that is there, keeps to.

    Raises
    ------
    ConfigurationError
        When two corrections give one card different values, or the reason to supersede is empty.
    InputError
        When there is nothing to assemble, or, to the patient, when a sub-FITS cannot be read now.
    TakenError
        When an L0 that differs has the name, and is not to be superseded.
    OutputError
        When the L0 cannot be written, others replace it all the time, or the one that has the name is of another exposure.
    VerificationError
        When what was written is not what was planned; nothing is published.
    """
    if supersede is not None and not supersede.strip():
        raise ConfigurationError("tell why the L0 is to be superseded")
    read_again: set[str] = set()
    overtaken = 0
    while True:
        plan = plan_exposure(found, history, directory, corrections=corrections, version=version, now=clock())
        try:
            with suppress(GoneError):
                if outcome := _make(plan, directory, supersede, former, verified, pace):
                    return outcome
            overtaken += 1
            if overtaken == _MOST_OVERTAKEN:
                raise OutputError(f"{directory / plan.filename}: others were faster {overtaken} times; try again when they are done")
        except InputError as error:
            if patient or error.path not in {s.path for s in found.subs.values()}:
                raise
            if error.retry and error.path not in read_again:
                read_again.add(error.path)
                found = found.again(error.path)
            else:
                found = found.without(error.path, error.reason, str(error))
        except VerificationError as error:
            opened = _without(found, _sources(plan, error.extension)) or without_closed(found)
            if opened is None:
                raise
            found = opened
        except TakenError:  # the L0 that is there may have been made without a sub-FITS that cfitsio cannot open
            opened = without_closed(found)
            if opened is None:
                raise
            found = opened


def _without_stranger(found: Found, stranger: Candidate, times: Times) -> Found:
    """Leave out the sub-FITS of an origin that speaks of another exposure."""
    path = found.subs[stranger.origin].path
    chosen = Candidate(source="", origin="", begin=times.begin, end=times.end)
    return found.without(path, "other-exposure", f"{path}: {stranger}, the exposure: {chosen}")


def _of_this_exposure(corrections: Sequence[Correction], found: Found) -> tuple[Correction, ...]:
    """Choose the corrections by frame number and begin as the files tell them, uncorrected."""
    if not corrections:
        return ()
    exposure = found.exposure
    trusted = by_trust(found.instrument.exposure.trust, file_times(exposure)[0])
    return applying(corrections, exposure.frame, trusted.begin if trusted else None)


def _correct(found: Found, corrections: Sequence[Correction]) -> CorrectedExposure:
    if not corrections:
        return CorrectedExposure(exposure=found.exposure)
    return correct_exposure(found.instrument, found.subs, found.missing, found.frame, corrections)


def is_there(directory: Path, filename: str) -> bool:
    """Tell whether a name is in a directory, by reading all its names: a network file system remembers names that are not there.

    Raises
    ------
    OutputError
        When the directory cannot be read.
    """
    try:
        return filename in os.listdir(directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(f"{directory}: cannot be read: {error.strerror}") from error


def without_closed(found: Found) -> Found | None:
    """Return an exposure without the sub-FITS that cfitsio cannot open, since it could not open the L0 either; None where there is none."""
    return _without(found, [sub.path for sub in found.subs.values() if not opens_with_cfitsio(sub)])


def _without(found: Found, closed: Sequence[str]) -> Found | None:
    for path in closed:
        found = found.without(path, "unreadable", f"{path}: cfitsio cannot open every HDU")
    return found if closed else None


def _sources(plan: Plan, extension: str) -> list[str]:
    """Return the sub-FITS that an extension of the L0 is of."""
    return [hdu.data.path for hdu in plan.hdus if extension and hdu.name == extension and isinstance(hdu.data, Source)]


def _make(
    plan: Plan, directory: Path, reason: str | None, former: Path | None, verified: Callable[[Path], None], pace: Pace
) -> Outcome | None:
    """Write a plan and give it the final name, or leave alone what has it; None when another assembler was faster."""
    path = directory / plan.filename
    remove_abandoned(directory, plan.filename)
    if former is not None and former.name != path.name and is_there(former.parent, former.name):
        if reason is None:
            raise TakenError(f"{former} is the L0 of this exposure, which would be {plan.filename} now", path=str(former))
        return _rename(plan, path, replaced_by(standing := standing_l0(former), reason), standing, verified, pace)
    if not is_there(directory, plan.filename):
        kept = newest_superseded(directory, plan.filename)
        if kept is None:
            return _write(plan, directory, None, verified, pace)
        if _is_of_another(kept.path, plan):
            made = _write(superseding(plan, replaced_by(kept, _OF_ANOTHER)), directory, None, verified, pace)
            return made and replace(made, version=kept.version + 1)
        restore_l0(kept.path, path)
    standing = standing_l0(path)
    concluded, sums = sum_l0(plan, pace)
    difference = None
    try:
        verify_plan(path, concluded, sums, ignore_date=True, pace=pace)
    except VerificationError as error:
        difference = error
    if standing_l0(path) != standing:
        return None  # it was replaced while it was compared
    if difference is None:
        return Outcome(path=path, plan=concluded, made=False, version=standing.version, written=standing.written)
    if reason is None:
        told = f"{path} exists and is not what would be made now; --supersede REASON makes the next version, an L0 is never overwritten"
        raise TakenError(told, path=str(path), difference=str(difference)) from difference
    if _is_of_another(path, plan):
        told = f"{path} is the L0 of another exposure, and is not superseded by this one; one of them tells wrong times"
        raise OutputError(told, retry=False) from difference
    return _write(superseding(plan, replaced_by(standing, reason)), directory, standing, verified, pace)


def _is_of_another(path: Path, plan: Plan) -> bool:
    """Tell whether an L0 is of another frame than a plan, and of none of its sub-FITS."""
    there = scan_primary(str(path)).hdus[0].values()
    planned = next((r.value for r in read_records(plan.hdus[0].cards) if r.keyword == "FRAMENO"), None)
    told = there.get("FRAMENO")
    if not isinstance(told, int) or not isinstance(planned, int) or told == planned:
        return False
    files = {os.path.basename(value) for value in there.values() if isinstance(value, str)}
    return files.isdisjoint(row.file for row in plan.ledger)


def _rename(plan: Plan, path: Path, replaced: Replaced, former: Standing, verified: Callable[[Path], None], pace: Pace) -> Outcome | None:
    """Make an L0 under another name than this exposure had, and then take that one away."""
    if is_there(path.parent, path.name):  # a stop came between the two, or another exposure has the name
        is_ours = tells_of(path, replaced.sha256)
        made = _make(plan, path.parent, replaced.reason if is_ours else None, None, verified, pace)
    else:
        made = _write(superseding(plan, replaced), path.parent, None, verified, pace)
    return made and replace(made, version=max(made.version, former.version + 1), replaced=retire_l0(former))


def _write(plan: Plan, directory: Path, standing: Standing | None, verified: Callable[[Path], None], pace: Pace) -> Outcome | None:
    """Write, verify, and publish or supersede; None when another assembler has the name now, or took the draft away."""
    with draft(directory, plan.filename) as target:
        try:
            plan, sums = write_l0(plan, target, pace)
            verify_plan(target.path, plan, sums)
            verified(directory / plan.filename)
            if standing is None:
                return Outcome(path=publish(target, plan.filename), plan=plan, made=True, written=_written(plan))
        except (InputError, OutputError, VerificationError):
            if target.is_gone() or (standing is None and is_there(directory, plan.filename)):
                return None
            raise
        kept = supersede_l0(target, plan.filename, standing)
    if kept is None:
        return None
    path, version = directory / plan.filename, standing.version + 1
    return Outcome(path=path, plan=plan, made=True, version=version, replaced=kept, written=_written(plan))


def _written(plan: Plan) -> str:
    """Return DATE."""
    card = next(card for card in plan.hdus[0].cards if card.startswith("DATE    ="))
    return str(read_record(0, card).value)
