"""The list of codes: everything worth telling an observer, how grave it is, and what it means."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "error"]

CODES: dict[str, tuple[Severity, str]] = {
    # cards
    "card-mended": ("warning", "A card that the FITS Standard forbids was mended in the L0; the ledger has it as it was."),
    "duplicate-keyword": ("warning", "A primary has a keyword more than once; each card is in the L0, under a name of its own."),
    "hierarch-dropped": ("warning", "A HIERARCH card has no short name in the YAML's renames and is in the ledger only."),
    "name-collision": ("warning", "A card would have had a name that is taken, and got a free one."),
    "shared-differs": ("warning", "Cards that the YAML declares shared are not all the same, or no lawful dates, so each is prefixed."),
    "shared-name-taken": ("warning", "A shared card's keyword belongs to the L0 itself, so each is prefixed."),
    "corrected": ("info", "A card's value was corrected; the ledger has the card as it was, HISTORY and this tell why."),
    "correction-unused": ("warning", "A correction that names this frame finds no such card, or another value than it expects."),
    # amplifiers and HDUs
    "amplifier-unknown": ("warning", "An amplifier card's number belongs to no amplifier of this read mode; it is prefixed."),
    "read-mode-unknown": ("warning", "The number of amplifier HDUs is none of the read modes in the YAML."),
    "hdu-missing": ("warning", "An HDU that the YAML lists is not in the sub-FITS."),
    "hdu-unlisted": ("warning", "An HDU that the YAML does not list is in the L0 under a name made for it."),
    # what a file is
    "checksum-wrong": ("warning", "A sub-FITS's own CHECKSUM does not fit its bytes."),
    "datasum-wrong": ("warning", "A sub-FITS's own DATASUM does not fit its data."),
    "compressed": ("info", "A sub-FITS was compressed as a whole; its FITS content is in the L0, the compression is not."),
    "trailing-bytes": ("warning", "A sub-FITS has bytes after its last HDU, which are not in the L0."),
    "header-padding": ("warning", "A header is padded with something else than blanks, which is not in the L0."),
    "data-fill": ("warning", "A data unit is filled up with something else than zeros (blanks in an ASCII table); it is copied as it is."),
    "frame-differs": ("error", "A sub-FITS names another frame number than the exposure's; it was left out."),
    # origins
    "absent": ("warning", "An origin delivered no sub-FITS for this exposure."),
    "absent-though-triggered": ("error", "An origin was triggered, yet delivered no sub-FITS."),
    "not-triggered": ("info", "An origin was not triggered for this exposure."),
    "other-exposure": ("error", "A sub-FITS's times do not overlap with the exposure's, and no clock explains that; it was left out."),
    "still-growing": ("error", "A sub-FITS was still being written and was left out."),
    "truncated": ("error", "A sub-FITS ends before its last HDU does and was left out."),
    "unreadable": ("error", "A sub-FITS cannot be read as FITS and was left out."),
    "from-telemetry": ("info", "The headers were made from telemetry alone; no sub-FITS was looked at."),
    # times
    "time-candidate": ("info", "Begin and end as one source tells them."),
    "time-chosen": ("info", "Which source the exposure's begin or end was taken from."),
    "time-residual": ("warning", "A source's begin or end is farther from the exposure's than its tolerance."),
    "time-unreadable": ("warning", "A begin or end is no time."),
    "time-1970": ("warning", "A begin or end is of 1970, as clocks tell that were never set; it was not believed."),
    "time-scale": ("warning", "A sub-FITS names a time scale that has no known relation to UTC; its times were read as UTC."),
    "time-reversed": ("error", "The exposure ends before it begins."),
    "leap-seconds-expired": ("warning", "A time of another scale is later than all leap seconds that the installed astropy knows."),
    "candidate-reversed": ("warning", "A sub-FITS ends before it begins, so its times are trusted least."),
    "fraction-missing": ("warning", "A begin or end has no fraction of the second."),
    "mjd-differs": ("warning", "A sub-FITS's MJD-BEG or MJD-END is not the same instant as its DATE-BEG or DATE-END."),
    "written-before-end": ("warning", "A sub-FITS's DATE, which is UTC, is before its end; one of them is of another time scale or zone."),
    "offset-tai": ("warning", "Two times differ by about as much as TAI is ahead of UTC (37 s since 2017)."),
    "offset-hours": ("warning", "Two times differ by a whole number of half hours, as local time does from UTC."),
    "offset-days": ("warning", "Two times differ by a whole number of days, as when a date slipped."),
    "duration-candidate": ("info", "How long the exposure was, as one keyword tells it."),
    "duration-differs": ("warning", "Begin and end are farther from being as far apart as a keyword tells than its tolerance."),
    "service-stale": ("warning", "The exposure service still held the previous exposure; the files' times are used."),
    "service-ahead": ("warning", "The exposure service told of the next exposure already; the files' begin is used."),
    "no-times": ("error", "Nobody tells when the exposure was."),
    # telemetry
    "no-history": ("info", "No keyword history was asked; the snapshots are empty."),
    "history-unavailable": ("error", "The keyword history did not answer in time, or not sensibly; the snapshots are empty."),
    "moment-unknown": ("warning", "The event that is a snapshot's moment did not happen in this exposure; the snapshot is empty."),
    "not-available": ("warning", "A telemetry keyword has no value at the moment of its snapshot."),
    "optional-not-available": ("info", "A telemetry keyword that is not required has no value at the moment of its snapshot."),
    "default-used": ("info", "A telemetry keyword has no value at the moment of its snapshot; the default of the YAML is written."),
    "stale": ("warning", "A telemetry value is older than the YAML allows; it is written."),
    "not-refreshed": ("warning", "A telemetry value that has to change between exposures is left over from before the previous one."),
    "suspect-value": ("warning", "A telemetry value is one that is broadcast when the true one is not known."),
    "out-of-range": ("warning", "A telemetry number is outside of its range in the YAML; it is written."),
    "type-differs": ("warning", "A telemetry value is not of the type that the YAML declares; its card is undefined."),
    "text-mended": ("warning", "A telemetry value is too long, or has characters that FITS cannot hold, shown as question marks."),
}  # fmt: skip

SETTLED_IN_YAML = frozenset({
    "name-collision", "duplicate-keyword", "hierarch-dropped", "shared-differs", "shared-name-taken", "amplifier-unknown",
    "read-mode-unknown", "hdu-missing", "hdu-unlisted", "time-unreadable", "no-times", "truncated", "unreadable", "frame-differs",
    "correction-unused",
})  # fmt: skip
"""Codes that tell, of sample sub-FITS, that the YAML or the samples are not right yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing worth telling the observer."""

    code: str
    severity: Severity
    origin: str
    keyword: str
    message: str


def finding(code: str, message: str, *, origin: str = "", keyword: str = "") -> Finding:
    """Make a finding; its severity is that of its code.

    >>> finding("compressed", "kpf_1.fits is compressed").severity
    'info'
    """
    return Finding(code=code, severity=CODES[code][0], origin=origin, keyword=keyword, message=message)


def has_errors(findings: tuple[Finding, ...]) -> bool:
    """Tell whether any finding is of severity error."""
    return any(f.severity == "error" for f in findings)
