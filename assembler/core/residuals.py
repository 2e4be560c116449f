"""Residuals: how far each source is from the exposure's begin and end, and what such a distance looks like."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from assembler.core.candidates import Candidate, Duration, Scales, length_of
from assembler.core.findings import Finding, finding
from assembler.core.instants import DAY, SECOND
from assembler.core.instrument import ExposureRule

HALF_HOUR = 1800 * SECOND
_TAI_RANGE = (20 * SECOND, 45 * SECOND)  # since 1983 TAI was 22 s ahead of UTC or more
_NEAR = SECOND
_OVERHEAD = 5 * SECOND // 2  # of shutters and readouts, where durations are compared
_WIDEST_ZONE = 14 * 3600 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What a distance looks like: the code of its finding, and in words."""

    code: str
    words: str


def likeness(distance: int, tolerance: int, instant: int, scales: Scales, overhead: int = 0) -> Likeness | None:
    """Tell what a distance [ns] between two times looks like; None when it is like nothing in particular.

    Parameters
    ----------
    distance : int
        [ns]
    tolerance : int
        How far off the times may be by themselves [ns].
    instant : int
        When it was [ns]; how far TAI is ahead depends on it.
    scales : Scales
        Asked only for a distance that may be that between TAI and UTC.
    overhead : int
        What a shutter or a readout may have added to the distance [ns].
    """
    size, near = abs(distance), tolerance + _NEAR
    if _TAI_RANGE[0] - near <= size <= _TAI_RANGE[1] + near + overhead:
        ahead = instant - scales.to_utc(instant, "TAI")
        if -near <= size - ahead <= near + overhead:
            return Likeness(code="offset-tai", words=f"TAI is {ahead / SECOND:g} s ahead of UTC")
    days = round(size / DAY)
    if days and abs(size - days * DAY) <= near:
        return Likeness(code="offset-days", words=f"that is {days} d: a date that slipped")
    halves = round(size / HALF_HOUR)
    if halves and size <= _WIDEST_ZONE + near and abs(size - halves * HALF_HOUR) <= near:
        return Likeness(code="offset-hours", words=f"that is {halves / 2:g} h: local time")
    return None


def residual_findings(candidate: Candidate, begin: int | None, end: int | None, scales: Scales) -> Iterator[Finding]:
    """Yield how far begin and end of a source are from those that were chosen, where that is more than its tolerance."""
    for name, mine, chosen in (("begin", candidate.begin, begin), ("end", candidate.end, end)):
        if mine is None or chosen is None or abs(mine - chosen) <= candidate.tolerance:
            continue
        like = likeness(mine - chosen, candidate.tolerance, chosen, scales)
        off = f"{(mine - chosen) / SECOND:+.6f} s from the exposure's, its tolerance is {candidate.tolerance / SECOND:g} s"
        told = f"{candidate.source}: {name} is {off}{f'; {like.words}' if like else ''}"
        yield finding(like.code if like else "time-residual", told, origin=candidate.origin)


def is_stranger(candidate: Candidate, begin: int | None, end: int | None, scales: Scales, *, same_frame: bool) -> bool:
    """Tell whether a source speaks of another exposure: its interval does not overlap, and no clock explains that.

    A clock that is off does so only for a sub-FITS that names the exposure's own frame number; of any other, the previous
    exposure is the likelier explanation.
    """
    if begin is None or end is None or end < begin or not candidate.is_interval or candidate.overlaps(begin, end):
        return False
    assert candidate.begin is not None
    assert candidate.end is not None
    ends = ((candidate.begin, begin), (candidate.end, end))
    return not same_frame or not any(likeness(mine - chosen, candidate.tolerance, chosen, scales) for mine, chosen in ends)


def durations(
    rule: ExposureRule, files: Sequence[Candidate], begin: int | None, end: int | None, told: Mapping[str, str]
) -> tuple[Duration, ...]:
    """Return every duration that is told, with the interval to compare it with: the source's own, or that of the exposure.

    Parameters
    ----------
    told : mapping of str to str
        Values of the history keywords that tell a duration.
    """
    interval = end - begin if begin is not None and end is not None else None
    of_history = [
        Duration(source=d.source, origin="", keyword="", length=length, interval=interval, tolerance=d.tolerance)
        for d in rule.durations
        if d.source in told and (length := length_of(told[d.source], d)) is not None
    ]
    of_files = [d if d.interval is not None else _with_interval(d, interval) for c in files for d in c.durations]
    return (*of_history, *of_files)


def duration_findings(told: Sequence[Duration], begin: int | None, scales: Scales) -> Iterator[Finding]:
    """Yield what every duration is, and where begin and end are farther apart than it says."""
    for duration in told:
        length = f"{duration.source}: {duration.length / SECOND:g} s"
        if duration.interval is None:
            yield finding("duration-candidate", length, origin=duration.origin, keyword=duration.keyword)
            continue
        apart = f"{length}, begin and end are {duration.interval / SECOND:.6f} s apart"
        off = duration.interval - duration.length
        if abs(off) <= duration.tolerance:
            yield finding("duration-candidate", apart, origin=duration.origin, keyword=duration.keyword)
            continue
        known = duration.length > 0  # nothing is what a camera says that does not know
        like = likeness(off, duration.tolerance, begin, scales, _OVERHEAD) if begin is not None and known else None
        message = f"{apart}, its tolerance is {duration.tolerance / SECOND:g} s{f'; {like.words}' if like else ''}"
        yield finding(like.code if like else "duration-differs", message, origin=duration.origin, keyword=duration.keyword)


def _with_interval(duration: Duration, interval: int | None) -> Duration:
    return Duration(
        source=duration.source,
        origin=duration.origin,
        keyword=duration.keyword,
        length=duration.length,
        interval=interval,
        tolerance=duration.tolerance,
    )
