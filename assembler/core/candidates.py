"""Candidates: when the exposure was, as each source tells it, and what is wrong with what a source tells by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from assembler.core.exposure import Hdu, SubFits
from assembler.core.findings import Finding, finding
from assembler.core.instants import SECOND, format_iso, parse_iso, parse_number
from assembler.core.instrument import DurationRule, Origin, TimeForm

SERVICE = "exposure service"

_ISO_SECONDS = 19
_SCALES = frozenset({"TAI", "IAT", "TT", "TDT", "ET", "TDB", "TCG", "TCB", "GPS", "UT1"})
_UTC = frozenset({"", "UTC", "UT", "GMT", "Z"})
_CREATED_AT_BEGIN = 2 * SECOND
_MJD_ERROR = SECOND // 2
_LONGEST = 10**9 * SECOND


class Scales(Protocol):
    """Time scales, without a network."""

    def to_utc(self, instant: int, scale: str) -> int:
        """Return in UTC the instant [ns] that a clock of another scale (FITS Standard table 30) showed."""
        ...

    def expires(self) -> int:
        """Return the instant [ns] up to which all leap seconds are known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """How long the exposure was [ns], as one keyword tells it, and the interval [ns] that it is compared with."""

    source: str
    origin: str
    keyword: str
    length: int
    interval: int | None
    tolerance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Begin and end [ns] as one source tells them; None where it does not. ``origin`` is empty for the service."""

    source: str
    origin: str
    begin: int | None
    end: int | None
    tolerance: int = 0
    durations: tuple[Duration, ...] = ()

    @property
    def is_interval(self) -> bool:
        """Whether both times are there and in order."""
        return self.begin is not None and self.end is not None and self.begin <= self.end

    def overlaps(self, begin: int, end: int) -> bool:
        """Tell whether it has an instant in common with an interval [ns], its tolerance allowed for at both ends.

        >>> Candidate(source="red", origin="red", begin=10, end=20, tolerance=1).overlaps(21, 30)
        True
        """
        if self.begin is None:
            return False
        mine = self.end if self.end is not None else self.begin
        return self.begin - self.tolerance <= end and begin <= mine + self.tolerance

    def shared_with(self, begin: int, end: int) -> int | None:
        """Return how much time [ns] it has in common with an interval; None where neither has the other's middle in it.

        >>> one = Candidate(source="guide", origin="guide", begin=10, end=20)
        >>> one.shared_with(12, 40), one.shared_with(16, 40), one.shared_with(0, 100)
        (8, None, 10)
        """
        return shared_time((begin, end), (self.begin, self.end)) if self.begin is not None and self.end is not None else None

    def __str__(self) -> str:
        begin, end = (format_iso(t) if t is not None else "none" for t in (self.begin, self.end))
        return f"begin {begin}, end {end}"


def read_candidate(origin: Origin, sub: SubFits, scales: Scales) -> tuple[Candidate, tuple[Finding, ...]]:
    """Read begin, end and durations from the primary header of a sub-FITS, in UTC."""
    rule, hdu = origin.times, sub.hdus[0]
    findings: list[Finding] = []
    scale = _scale_of(origin, sub, findings)
    begin = _time(rule.begin, scale, origin, sub, scales, findings)
    told_end = _time(rule.end, scale, origin, sub, scales, findings)
    elapsed = _length(hdu, DurationRule(source=rule.elapsed, unit=rule.elapsed_unit, tolerance=0))
    end = begin + elapsed if told_end is None and begin is not None and elapsed is not None else told_end
    if begin is not None and end is not None:
        findings += _in_order(hdu, begin, end, origin, sub.path)
    interval = told_end - begin if begin is not None and told_end is not None else None
    durations = tuple(
        Duration(
            source=f"{origin.name} {asked.source}",
            origin=origin.name,
            keyword=asked.source,
            length=length,
            interval=interval,
            tolerance=asked.tolerance,
        )
        for asked in rule.durations
        if (length := _length(hdu, asked)) is not None
    )
    candidate = Candidate(source=origin.name, origin=origin.name, begin=begin, end=end, tolerance=rule.tolerance, durations=durations)
    return candidate, tuple(findings)


def read_instant(
    text: str, form: TimeForm, *, origin: str, keyword: str, where: str, tolerance: int = 0
) -> tuple[int | None, list[Finding]]:
    """Read an instant [ns] as a source wrote it; None for what is none, or of a clock that was never set.

    Parameters
    ----------
    text : str
    form : str
        How it is written.
    origin, keyword, where : str
        For the findings.
    tolerance : int
        How far off it may be [ns]; from a second on, nobody misses the fraction of one.
    """
    try:
        instant = parse_iso(text) if form == "iso" else parse_number(text, form)
    except ValueError as error:
        return None, [finding("time-unreadable", f"{where}: {keyword}: {error}", origin=origin, keyword=keyword)]
    if format_iso(instant).startswith("1970-"):
        told = f"{where}: {keyword} is {format_iso(instant)}; a clock that was never set is not believed"
        return None, [finding("time-1970", told, origin=origin, keyword=keyword)]
    if form == "iso" and tolerance < SECOND and len(text.strip().rstrip("Z")) <= _ISO_SECONDS:
        told = f"{where}: {keyword} is {text.strip()}, without a fraction of the second"
        return instant, [finding("fraction-missing", told, origin=origin, keyword=keyword)]
    return instant, []


def length_of(text: str, rule: DurationRule) -> int | None:
    """Return the duration [ns] that a number tells in the unit of its rule; None when it is none.

    >>> length_of("250", DurationRule(source="EXPTIME", unit=10**6, tolerance=0))
    250000000
    """
    try:
        length = Decimal(text.strip()) * rule.unit
    except ArithmeticError:
        return None
    return int(length) if length.is_finite() and 0 <= length < _LONGEST else None


def elapsed_of(origin: Origin, sub: SubFits, candidate: Candidate) -> int | None:
    """Return how long [ns] a sub-FITS tells that its exposure was: its keyword for that, or else from its begin to its end."""
    told = _length(sub.hdus[0], DurationRule(source=origin.times.elapsed, unit=origin.times.elapsed_unit, tolerance=0))
    if told is None and candidate.is_interval:
        assert candidate.begin is not None
        assert candidate.end is not None
        return candidate.end - candidate.begin
    return told


def by_trust(trust: Sequence[str], files: Sequence[Candidate]) -> Candidate | None:
    """Return the file whose times are trusted most: of those that most others overlap with, the first in the order of trust.

    One that has both times comes before one that has only its begin.
    """
    order = sorted(files, key=lambda c: (trust.index(c.origin) if c.origin in trust else len(trust), c.source))
    intervals = [c for c in order if c.is_interval]
    if not intervals:
        return next((c for c in order if c.begin is not None), None)

    def agreeing(candidate: Candidate) -> int:
        assert candidate.begin is not None
        assert candidate.end is not None
        begin, end = candidate.begin - candidate.tolerance, candidate.end + candidate.tolerance
        return sum(other.overlaps(begin, end) for other in intervals)

    return max(intervals, key=agreeing)  # the first of several


def shared_time(exposure: tuple[int, int], file: tuple[int, int]) -> int | None:
    """Return how long [ns] a file was taken during an exposure; None where the middle of neither lies in the other.

    Of several files that belong to one exposure by their time, the one that shares most with it is meant.

    >>> shared_time((0, 30), (-2, 31)), shared_time((0, 30), (28, 58))
    (30, None)
    """
    middle, its_middle = sum(exposure) // 2, sum(file) // 2
    if not (exposure[0] <= its_middle <= exposure[1] or file[0] <= middle <= file[1]):
        return None
    return min(exposure[1], file[1]) - max(exposure[0], file[0])


def _scale_of(origin: Origin, sub: SubFits, findings: list[Finding]) -> str:
    """Return the scale of a sub-FITS's times, empty for UTC: what the YAML says, or else its TIMESYS."""
    told = sub.hdus[0].value("TIMESYS")
    scale = origin.times.scale or (told.strip().upper() if isinstance(told, str) else "")
    if scale in _UTC or origin.times.form == "unix":
        return ""
    if scale not in _SCALES:
        message = f"{sub.path}: TIMESYS is {scale[:20]}, which is no scale with a known relation to UTC; its times are read as UTC"
        findings.append(finding("time-scale", message, origin=origin.name, keyword="TIMESYS"))
        return ""
    return scale


def _time(keyword: str, scale: str, origin: Origin, sub: SubFits, scales: Scales, findings: list[Finding]) -> int | None:
    """Read a begin or end, in UTC."""
    hdu = sub.hdus[0]
    instant, told = _read_card(hdu, keyword, origin.times.form, origin, sub.path)
    findings += told
    findings += _against_mjd(hdu, keyword, instant, origin, sub.path)
    if instant is None or not scale:
        return instant
    where = f"{sub.path}: {keyword}"
    if instant > scales.expires():
        told_by = f"{where}: leap seconds are known up to {format_iso(scales.expires())[:10]}; update astropy-iers-data"
        findings.append(finding("leap-seconds-expired", told_by, origin=origin.name, keyword=keyword))
    try:
        return scales.to_utc(instant, scale)
    except ValueError as error:
        findings.append(finding("time-unreadable", f"{where}: {error}", origin=origin.name, keyword=keyword))
        return None


def _read_card(hdu: Hdu, keyword: str, form: TimeForm, origin: Origin, path: str) -> tuple[int | None, list[Finding]]:
    record = hdu.record(keyword) if keyword else None
    if record is None or record.kind != "value" or record.value is None:
        return None, []
    value = record.value
    text = value if isinstance(value, str) else record.text.strip().replace("D", "E")
    return read_instant(text, form, origin=origin.name, keyword=keyword, where=path, tolerance=origin.times.tolerance)


def _length(hdu: Hdu, rule: DurationRule) -> int | None:
    record = hdu.record(rule.source) if rule.source else None
    if record is None or record.kind != "value" or isinstance(record.value, str | bool) or record.value is None:
        return None
    return length_of(record.text.strip().replace("D", "E"), rule)


def _against_mjd(hdu: Hdu, keyword: str, instant: int | None, origin: Origin, path: str) -> list[Finding]:
    """Compare a DATE-xxx card with the MJD-xxx card beside it; both are in the same scale."""
    if instant is None or origin.times.form != "iso" or not keyword.startswith("DATE-"):
        return []
    beside = f"MJD-{keyword[5:]}"
    other, _ = _read_card(hdu, beside, "mjd", origin, path)
    if other is None or abs(other - instant) <= _MJD_ERROR + origin.times.tolerance:
        return []
    told = f"{path}: {beside} is {format_iso(other)}, {(other - instant) / SECOND:+.6f} s from {keyword}"
    return [finding("mjd-differs", told, origin=origin.name, keyword=beside)]


def _in_order(hdu: Hdu, begin: int, end: int, origin: Origin, path: str) -> list[Finding]:
    """Compare begin with end, and both with DATE, which is in UTC whatever the scale (FITS Standard 4.4.2.1)."""
    findings = []
    if end < begin:
        told = f"{path}: its end {format_iso(end)} is before its begin {format_iso(begin)}"
        findings.append(finding("candidate-reversed", told, origin=origin.name, keyword=origin.times.end))
    told_date = hdu.value("DATE")
    try:
        written = parse_iso(told_date) if isinstance(told_date, str) else None
    except ValueError:  # a date without a time, or none at all
        written = None
    slack = origin.times.tolerance + SECOND
    if written is not None and written < end - slack and abs(written - begin) > _CREATED_AT_BEGIN + slack:
        ahead = f"{(end - written) / SECOND:.3f} s before its end"
        told = f"{path}: DATE {format_iso(written)} (UTC) is {ahead}; is one of them TAI, or local time?"
        findings.append(finding("written-before-end", told, origin=origin.name, keyword="DATE"))
    return findings
