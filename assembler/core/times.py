"""Reconcile: decide begin and end of an exposure from everybody who tells them, and say what does not fit.

The rule is that of the KPF assembler: the exposure service's times stand, unless they are significantly older than
those of the files, because the service still held the previous exposure. Older means: its end is before the files'
begin. Then the files' times stand, by the origins that the YAML trusts, in that order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from assembler.core.cards import text_of, write_card, write_commentary
from assembler.core.exposure import Hdu, SubFits
from assembler.core.findings import Finding, finding
from assembler.core.instants import SECOND, format_iso, modified_julian_date, parse_iso, parse_number, round_to
from assembler.core.instrument import ExposureRule, Moment, Origin

SERVICE = "exposure service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Begin and end [ns] as one source tells them; None where it does not. ``origin`` is empty for the service."""

    source: str
    origin: str
    begin: int | None
    end: int | None
    tolerance: int = 0

    @property
    def is_interval(self) -> bool:
        """Whether both times are there and in order."""
        return self.begin is not None and self.end is not None and self.begin <= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The exposure's begin and end [ns], who told them, and what the exposure service had told."""

    begin: int | None
    end: int | None
    begin_from: str
    end_from: str
    service: Candidate | None = None

    @property
    def middle(self) -> int | None:
        """The middle [ns], to the microsecond."""
        if self.begin is None or self.end is None:
            return None
        return round_to((self.begin + self.end) // 2, 1000)

    def at(self, moment: Moment) -> int | None:
        """Return the instant [ns] of a moment."""
        return {"begin": self.begin, "middle": self.middle, "end": self.end}[moment]


def read_candidate(origin: Origin, sub: SubFits) -> tuple[Candidate, tuple[Finding, ...]]:
    """Read begin and end from the primary header of a sub-FITS."""
    rule, hdu = origin.times, sub.hdus[0]
    findings: list[Finding] = []
    begin = _read_time(rule.begin, hdu, origin, sub.path, findings)
    end = _read_time(rule.end, hdu, origin, sub.path, findings)
    if end is None and begin is not None and rule.elapsed:
        elapsed = hdu.value(rule.elapsed)
        if isinstance(elapsed, int | float) and not isinstance(elapsed, bool) and 0 <= elapsed * rule.elapsed_unit < 10**9 * SECOND:
            end = begin + int(Decimal(str(elapsed)) * rule.elapsed_unit)
    scale = hdu.value("TIMESYS")
    if isinstance(scale, str) and scale.strip().upper() not in ("UTC", ""):
        findings.append(finding("time-scale", f"{sub.path}: TIMESYS is {scale.strip()}", origin=origin.name, keyword="TIMESYS"))
    return Candidate(source=origin.name, origin=origin.name, begin=begin, end=end, tolerance=rule.tolerance), tuple(findings)


def by_trust(rule: ExposureRule, files: Sequence[Candidate]) -> Candidate | None:
    """Return the file whose times are trusted most; one that has both before one that has only its begin."""
    order = sorted(files, key=lambda c: rule.trust.index(c.origin) if c.origin in rule.trust else len(rule.trust))
    return next((c for c in order if c.is_interval), next((c for c in order if c.begin is not None), None))


def service_moments(rule: ExposureRule, files: Sequence[Candidate]) -> tuple[int, int] | None:
    """Return the instants [ns] as of which to ask the exposure service: the settled one, and the one to fall back to.

    A time that the service tells and that is after the second of them belongs to the next exposure; then what it told
    as of that second instant counts.
    """
    trusted = by_trust(rule, files)
    last = trusted.end if trusted and trusted.end is not None else trusted.begin if trusted else None
    return None if trusted is None or last is None else (last + rule.settling, last + trusted.tolerance)


def reconcile(rule: ExposureRule, service: Candidate | None, files: Sequence[Candidate]) -> tuple[Times, tuple[Finding, ...]]:
    """Decide begin and end.

    Parameters
    ----------
    rule : ExposureRule
    service : Candidate or None
        What the exposure service told; None when it was not asked.
    files : sequence of Candidate
        One for each attached sub-FITS, in any order.
    """
    files = sorted(files, key=lambda c: c.source)
    trusted = by_trust(rule, files)
    findings: list[Finding] = []
    begin, begin_from = (service.begin, service.source) if service else (None, "")
    end, end_from = (service.end, service.source) if service else (None, "")
    if service and trusted and trusted.begin is not None:
        limit = trusted.begin - trusted.tolerance
        old_end = end is not None and end < limit
        old_begin = begin is not None and begin < limit and (end is None or (old_end and begin <= end))
        late_begin = begin is not None and trusted.end is not None and begin > trusted.end + trusted.tolerance
        if old_end or old_begin:
            told = f"the exposure service told {_interval(service)}, the file of {trusted.source} {_interval(trusted)}"
            findings.append(finding("service-stale", told, origin=trusted.origin))
        elif late_begin:
            told = f"the exposure service told {_interval(service)}, the file of {trusted.source} {_interval(trusted)}"
            findings.append(finding("service-ahead", told, origin=trusted.origin))
        begin = None if old_begin or late_begin else begin
        end = None if old_end else end
    if begin is None and trusted:
        begin, begin_from = trusted.begin, trusted.source
    if end is None and trusted:
        end, end_from = trusted.end, trusted.source
    times = Times(
        begin=begin,
        end=end,
        begin_from=begin_from if begin is not None else "",
        end_from=end_from if end is not None else "",
        service=service,
    )
    return times, (*findings, *_account(times, service, files))


def time_cards(times: Times) -> tuple[str, ...]:
    """Write the cards that tell when the exposure was."""
    if times.begin is None:
        return write_commentary("COMMENT", "Nobody told when this exposure was.")
    facts = [("BEG", times.begin, f"begin, from {times.begin_from}")]
    if times.end is not None and times.middle is not None:
        facts += [
            ("MID", times.middle, "middle of the exposure"),
            ("AVG", times.middle, "middle of the exposure"),
            ("END", times.end, f"end, from {times.end_from}"),
        ]
    cards = [c for name, instant, told in facts for c in write_card(f"DATE-{name}", text_of(format_iso(instant)), told)]
    for name, instant, _ in facts:
        if name != "MID":
            cards += write_card(f"MJD-{name}", text_of(modified_julian_date(instant)), f"[d] DATE-{name} as modified Julian date")
    return tuple(cards)


def service_cards(rule: ExposureRule, times: Times) -> tuple[str, ...]:
    """Write what the exposure service had told, to the millisecond, chosen or not."""
    cards: list[str] = []
    begin, end = (times.service.begin, times.service.end) if times.service else (None, None)
    for asked, told in ((rule.begin, begin), (rule.end, end)):
        if asked:
            text = text_of(format_iso(round_to(told, SECOND // 1000), digits=3)) if told is not None else ""
            cards += write_card(asked.card, text, asked.comment)
    return tuple(cards)


def _read_time(keyword: str, hdu: Hdu, origin: Origin, path: str, findings: list[Finding]) -> int | None:
    record = hdu.record(keyword) if keyword else None
    if record is None or record.kind != "value" or record.value is None:
        return None
    value = record.value
    try:
        if origin.times.form == "iso":
            return parse_iso(str(value))
        return parse_number(value if isinstance(value, str) else record.text.strip().replace("D", "E"), origin.times.form)
    except ValueError as error:
        findings.append(finding("time-unreadable", f"{path}: {keyword}: {error}", origin=origin.name, keyword=keyword))
        return None


def _account(times: Times, service: Candidate | None, files: Sequence[Candidate]) -> list[Finding]:
    """Say what everybody told, what was chosen, and what does not fit."""
    findings = []
    for candidate in (*((service,) if service else ()), *files):
        told = f"{candidate.source}: {_interval(candidate)}"
        findings.append(finding("time-candidate", told, origin=candidate.origin))
        for name, mine, chosen in (("begin", candidate.begin, times.begin), ("end", candidate.end, times.end)):
            if mine is None or chosen is None or candidate is service or abs(mine - chosen) <= candidate.tolerance:
                continue
            off = f"{(mine - chosen) / SECOND:+.6f} s from the exposure's, its tolerance is {candidate.tolerance / SECOND:g} s"
            findings.append(finding("time-residual", f"{candidate.source}: {name} is {off}", origin=candidate.origin))
    for keyword, instant, source in (("DATE-BEG", times.begin, times.begin_from), ("DATE-END", times.end, times.end_from)):
        if instant is not None:
            findings.append(finding("time-chosen", f"{keyword} is {format_iso(instant)}, from {source}", keyword=keyword))
    if times.begin is None:
        findings.append(finding("no-times", "neither the exposure service nor any file tells when the exposure was"))
    elif times.end is not None and times.end < times.begin:
        told = f"DATE-END {format_iso(times.end)} is before DATE-BEG {format_iso(times.begin)}"
        findings.append(finding("time-reversed", told, keyword="DATE-END"))
    return findings


def _interval(candidate: Candidate) -> str:
    begin, end = (format_iso(t) if t is not None else "none" for t in (candidate.begin, candidate.end))
    return f"begin {begin}, end {end}"
