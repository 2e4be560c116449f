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
    "still-growing": ("error", "A sub-FITS was still being written and was left out."),
    "truncated": ("error", "A sub-FITS ends before its last HDU does and was left out."),
    "unreadable": ("error", "A sub-FITS cannot be read as FITS and was left out."),
    # times
    "time-candidate": ("info", "Begin and end as one source tells them."),
    "time-chosen": ("info", "Which source the exposure's begin or end was taken from."),
    "time-residual": ("warning", "A source's begin or end is farther from the exposure's than its tolerance."),
    "time-unreadable": ("warning", "A begin or end is no time."),
    "time-scale": ("warning", "A sub-FITS names a time scale other than UTC; its times were read as UTC."),
    "time-reversed": ("error", "The exposure ends before it begins."),
    "service-stale": ("warning", "The exposure service still held the previous exposure; the files' times are used."),
    "service-ahead": ("warning", "The exposure service told of the next exposure already; the files' begin is used."),
    "no-times": ("error", "Nobody tells when the exposure was."),
    # telemetry
    "no-history": ("info", "No keyword history was asked; the snapshots are empty."),
    "not-available": ("warning", "A telemetry keyword has no value at the moment of its snapshot."),
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
