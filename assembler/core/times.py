"""Reconcile: decide begin and end of an exposure from everybody who tells them, and say what does not fit.

The rule is that of the KPF assembler: the exposure service's times stand, unless they are significantly older than
those of the files, because the service still held the previous exposure. Older means: its end is before the files'
begin. Then the files' times stand, by the origins that the YAML trusts, in that order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assembler.core.candidates import Candidate, Duration, Scales, by_trust
from assembler.core.cards import text_of, write_card, write_commentary
from assembler.core.findings import Finding, finding
from assembler.core.instants import SECOND, format_iso, modified_julian_date, round_to
from assembler.core.instrument import ExposureRule
from assembler.core.residuals import duration_findings, durations, likeness, residual_findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The exposure's begin and end [ns], who told them, and everything that anybody told.

    Attributes
    ----------
    service : Candidate or None
        What the exposure service told, chosen or not; None when it was not asked.
    files : tuple of Candidate
        One for each attached sub-FITS, by name.
    durations : tuple of Duration
        What keywords tell of the exposure's length.
    """

    begin: int | None
    end: int | None
    begin_from: str
    end_from: str
    service: Candidate | None = None
    files: tuple[Candidate, ...] = ()
    durations: tuple[Duration, ...] = ()

    @property
    def middle(self) -> int | None:
        """The middle [ns], to the microsecond."""
        if self.begin is None or self.end is None:
            return None
        return round_to((self.begin + self.end) // 2, 1000)

    def at(self, moment: str) -> int | None:
        """Return the instant [ns] of begin, middle or end; None for any other moment."""
        return {"begin": self.begin, "middle": self.middle, "end": self.end}.get(moment)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Everybody who was asked, the exposure service first."""
        return (*((self.service,) if self.service else ()), *self.files)


def service_moments(rule: ExposureRule, files: Sequence[Candidate]) -> tuple[int, int] | None:
    """Return the instants [ns] as of which to ask the exposure service: the settled one, and the one to fall back to.

    A time that the service tells and that is after the second of them belongs to the next exposure; then what it told
    as of that second instant counts.
    """
    trusted = by_trust(rule.trust, files)
    last = trusted.end if trusted and trusted.end is not None else trusted.begin if trusted else None
    return None if trusted is None or last is None else (last + rule.settling, last + trusted.tolerance)


def reconcile(
    rule: ExposureRule, service: Candidate | None, files: Sequence[Candidate], scales: Scales
) -> tuple[Times, tuple[Finding, ...]]:
    """Decide begin and end.

    Parameters
    ----------
    rule : ExposureRule
    service : Candidate or None
        What the exposure service told; None when it was not asked.
    files : sequence of Candidate
        One for each attached sub-FITS, in any order.
    scales : Scales
        Tells how far TAI is ahead, where a residual looks like that.
    """
    files = sorted(files, key=lambda c: c.source)
    trusted = by_trust(rule.trust, files)
    findings: list[Finding] = []
    begin, begin_from = (service.begin, service.source) if service else (None, "")
    end, end_from = (service.end, service.source) if service else (None, "")
    if service and trusted and trusted.begin is not None:
        limit = trusted.begin - trusted.tolerance
        old_end = end is not None and end < limit
        old_begin = begin is not None and begin < limit and (end is None or (old_end and begin <= end))
        late_begin = begin is not None and trusted.end is not None and begin > trusted.end + trusted.tolerance
        if old_end or old_begin or late_begin:
            findings.append(_disbelieved(service, trusted, "service-stale" if old_end or old_begin else "service-ahead", scales))
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
        files=tuple(files),
    )
    return times, (*findings, *_account(times, scales))


def with_durations(rule: ExposureRule, times: Times, told: Mapping[str, str], scales: Scales) -> tuple[Times, tuple[Finding, ...]]:
    """Return the times with every duration that is told, and say which do not fit.

    Parameters
    ----------
    told : mapping of str to str
        Values of the history keywords that tell a duration.
    """
    every = durations(rule, times.files, times.begin, times.end, told)
    return replace(times, durations=every), tuple(duration_findings(every, times.begin, scales))


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


def time_table(times: Times) -> list[tuple[str, ...]]:
    """Return who told what, as rows of text: source, begin, end, how far these are from the exposure's [s], tolerance [s].

    The first row is the choice; durations come last, with how far begin and end are apart [s].
    """

    def iso(instant: int | None) -> str:
        return format_iso(instant) if instant is not None else ""

    rows: list[tuple[str, ...]] = [("chosen", iso(times.begin), iso(times.end), times.begin_from, times.end_from, "")]
    rows += [
        (c.source, iso(c.begin), iso(c.end), _off(c.begin, times.begin), _off(c.end, times.end), f"{c.tolerance / SECOND:g}")
        for c in times.candidates
    ]
    rows += [
        (d.source, f"{d.length / SECOND:g}", f"{d.interval / SECOND:.6f}", _off(d.interval, d.length), "", f"{d.tolerance / SECOND:g}")
        if d.interval is not None
        else (d.source, f"{d.length / SECOND:g}", "", "", "", f"{d.tolerance / SECOND:g}")
        for d in times.durations
    ]
    return rows


def _off(mine: int | None, chosen: int | None) -> str:
    return f"{(mine - chosen) / SECOND:+.6f}" if mine is not None and chosen is not None else ""


def times_from(plain: Mapping[str, Any]) -> Times:
    """Return the times that `dataclasses.asdict` and JSON made plain."""

    def candidate(told: Mapping[str, Any]) -> Candidate:
        return Candidate(**{**told, "durations": tuple(Duration(**d) for d in told["durations"])})

    return Times(
        **{
            **plain,
            "service": candidate(plain["service"]) if plain["service"] else None,
            "files": tuple(map(candidate, plain["files"])),
            "durations": tuple(Duration(**d) for d in plain["durations"]),
        }
    )


def _disbelieved(service: Candidate, trusted: Candidate, code: str, scales: Scales) -> Finding:
    """Say why the files' times are used: the service told of another exposure, unless its clock is off as clocks are."""
    told = f"the exposure service told {service}, the file of {trusted.source} {trusted}"
    assert trusted.begin is not None
    distance = service.begin - trusted.begin if service.begin is not None else None
    like = likeness(distance, trusted.tolerance, trusted.begin, scales) if distance is not None else None
    return finding(code, f"{told}{f'; or {like.words}' if like else ''}", origin=trusted.origin)


def _account(times: Times, scales: Scales) -> list[Finding]:
    """Say what everybody told, what was chosen, and what does not fit."""
    findings = []
    for candidate in times.candidates:
        offs = [_off(candidate.begin, times.begin), _off(candidate.end, times.end)]
        distances = f" ({' and '.join(f'{off} s' for off in offs if off)} from the exposure's)" if any(offs) else ""
        findings.append(finding("time-candidate", f"{candidate.source}: {candidate}{distances}", origin=candidate.origin))
        if candidate is not times.service:
            findings += residual_findings(candidate, times.begin, times.end, scales)
    for keyword, instant, source in (("DATE-BEG", times.begin, times.begin_from), ("DATE-END", times.end, times.end_from)):
        if instant is not None:
            findings.append(finding("time-chosen", f"{keyword} is {format_iso(instant)}, from {source}", keyword=keyword))
    if times.begin is None:
        findings.append(finding("no-times", "neither the exposure service nor any file tells when the exposure was"))
    elif times.end is not None and times.end < times.begin:
        told = f"DATE-END {format_iso(times.end)} is before DATE-BEG {format_iso(times.begin)}"
        findings.append(finding("time-reversed", told, keyword="DATE-END"))
    return findings
