"""What is known of an L0 before its sub-FITS are there: the plan from telemetry alone."""

import os
from collections.abc import Sequence
from pathlib import Path

from assembler.core.candidates import Candidate
from assembler.core.corrections import Correction, applying, change_findings, correct_answers, correct_service
from assembler.core.exposure import Exposure
from assembler.core.findings import finding
from assembler.core.instants import SECOND, format_iso
from assembler.core.instrument import Instrument
from assembler.core.plan import Plan, plan_l0
from assembler.core.times import Times, reconcile, with_durations
from assembler.errors import InputError, TelemetryError
from assembler.service.inquiry import Inquiry
from assembler.service.scales import SCALES
from assembler.telemetry.history import History


def plan_from_telemetry(
    instrument: Instrument,
    history: History,
    directory: Path,
    *,
    as_of: int,
    frame: int | None,
    corrections: Sequence[Correction] = (),
    version: str,
    now: int,
) -> Plan:
    """Decide what can be known of an L0 without its sub-FITS, of the exposure that the exposure service told of last.

    What telemetry alone tells is the same as in the L0 that is made later, card for card, as long as the exposure service's times
    stand there. Cards of the sub-FITS, and the extensions that they give, are not there; every flag is ``NO``.

    Parameters
    ----------
    instrument : Instrument
    history : History
    directory : Path
        Where the L0 is to be.
    as_of : int
        The instant [ns] as of which the exposure service is asked; what is broadcast later counts for nothing.
    frame : int or None
        The exposure's frame number, which telemetry does not tell.
    corrections : sequence of Correction
        Of any exposure.
    version : str
        Of the assembler.
    now : int
        The instant [ns] that is DATE.

    Raises
    ------
    ConfigurationError
        When the YAML does not say which keywords tell begin and end, or two corrections give one card different values.
    InputError
        When telemetry tells of no exposure, or of one that has not ended, or not long enough ago.
    TelemetryError
        When the history does not answer.
    """
    rule = instrument.exposure
    inquiry = Inquiry(instrument, history)
    asked = inquiry.last_exposure(as_of)
    if asked.end is None or asked.begin is None or asked.end < asked.begin:
        told = f"the exposure that began at {format_iso(asked.begin or 0)} has not ended as of {format_iso(as_of)}"
        raise InputError(f"{told}; ask again when it has, or as of a time before its begin", retry=True)
    chosen = applying(corrections, frame, asked.begin)
    settled, unread = inquiry.service_times([asked])  # as of the end plus the settling time, as for the L0
    if settled is None or not settled.is_interval:
        settled, unread = asked, ()
    service, retimed = correct_service(rule, settled, chosen)
    times, reconciled = reconcile(rule, service, (), SCALES)
    _check_settled(instrument, asked, times, as_of)
    answers, missed = inquiry.snapshots(times)
    if answers.failure:
        raise TelemetryError(answers.failure)
    answers, changed, unused = correct_answers(instrument, answers, chosen)
    changes = (*retimed, *changed)
    lengths = {source: sample.value for source, sample in answers.values.get("end", {}).items()}
    times, measured = with_durations(rule, times, lengths, SCALES)
    ago = f"{(as_of - asked.end) / SECOND:.3f} s after the exposure's end"
    alone = finding("from-telemetry", f"made from telemetry alone as of {format_iso(as_of)}, {ago}; no sub-FITS was looked at")
    return plan_l0(
        instrument,
        Exposure(frame=frame, attached=(), missing=()),
        times,
        answers,
        changes=changes,
        told=(alone, *change_findings(changes), *unused, *unread, *reconciled, *measured, *missed),
        directory=os.path.abspath(directory),
        version=version,
        written=now,
        awaited=True,
    )


def _check_settled(instrument: Instrument, asked: Candidate, times: Times, as_of: int) -> None:
    """Raise `InputError` as long as what was broadcast later could change what the headers say."""
    assert asked.end is not None
    snapshots = [at + s.offset for s in instrument.snapshots if (at := times.at(s.moment)) is not None]
    settled = max(asked.end + instrument.exposure.settling, *snapshots, asked.end)
    if as_of < settled:
        told = f"the exposure ended at {format_iso(asked.end)}, and its telemetry is settled at {format_iso(settled)}"
        raise InputError(f"{told}; ask again as of then, or later", retry=True)
