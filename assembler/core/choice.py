"""Which exposures of a night are meant: by frame number, by begin, by who delivered a sub-FITS."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from assembler.core.instants import DAY, parse_iso

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MINUTE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")

Frames = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which exposures are meant; what is not told leaves out nothing.

    Attributes
    ----------
    frames : tuple of (int, int)
        First and last of each range, in order, none of which touches another.
    since, until : int or None
        They begin at this instant or later, and before that one [ns].
    origins : frozenset of str
        There is a sub-FITS of one of these at least, be it broken.
    """

    frames: Frames = ()
    since: int | None = None
    until: int | None = None
    origins: frozenset[str] = frozenset()

    @property
    def by_time(self) -> bool:
        """Whether it asks when an exposure began."""
        return self.since is not None or self.until is not None

    def has_frame(self, frame: int | None) -> bool:
        """Tell whether a frame number is among those that are meant.

        >>> chosen = Choice(frames=((3, 5), (9, 9)))
        >>> chosen.has_frame(5), chosen.has_frame(6), chosen.has_frame(None), Choice().has_frame(None)
        (True, False, False, True)
        """
        return not self.frames or (frame is not None and any(first <= frame <= last for first, last in self.frames))

    def has_begin(self, begin: int) -> bool:
        """Tell whether it is meant what begins at an instant [ns].

        >>> chosen = Choice(since=10, until=20)
        >>> [chosen.has_begin(begin) for begin in (9, 10, 19, 20)]
        [False, True, True, False]
        """
        return (self.since is None or self.since <= begin) and (self.until is None or begin < self.until)

    def has_origin(self, origins: Collection[str]) -> bool:
        """Tell whether one of the origins that delivered is among those that are meant."""
        return not self.origins or not self.origins.isdisjoint(origins)

    def clip(self, ranges: Iterable[tuple[int, int]]) -> Frames:
        """Return what of some ranges of frame numbers is meant.

        >>> Choice(frames=((3, 5), (9, 12))).clip([(1, 3), (5, 10)])
        ((3, 3), (5, 5), (9, 10))
        """
        if not self.frames:
            return tuple(ranges)
        both = [(max(a, first), min(b, last)) for a, b in ranges for first, last in self.frames]
        return tuple((first, last) for first, last in both if first <= last)


def read_frames(text: str) -> Frames:
    """Read numbers and ranges.

    Raises
    ------
    ValueError
        When it is something else.

    >>> read_frames("9, 3-5,4-7,8")
    ((3, 9),)
    """
    ranges = []
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise ValueError(f"{text[:80]!a}: expected numbers and ranges, such as 215921,215930-215940")
        ranges.append((first, last))
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return tuple(merged)


def read_since(text: str) -> int:
    """Return the instant [ns] of a date, which is its first, or of a date and time, in UTC.

    Raises
    ------
    ValueError
        When it is none.

    >>> read_since("1970-01-02") == DAY, read_since("1970-01-01T00:01") == 60 * 10**9
    (True, True)
    """
    told = text.strip().removesuffix("Z")
    rest = "T00:00:00" if _DATE.fullmatch(told) else ":00" if _MINUTE.fullmatch(told) else ""
    try:
        return parse_iso(told + rest)
    except ValueError:
        raise ValueError(f"{text[:80]!a}: expected a date or a time in UTC, such as 2024-04-22 or 2024-04-22T10:30") from None


def read_until(text: str) -> int:
    """Return the instant [ns] that a date, or a date and time, in UTC, ends with: that after the date, or the time itself.

    Raises
    ------
    ValueError
        When it is none.

    >>> read_until("1970-01-01") == DAY, read_until("1970-01-01T00:01:00") == 60 * 10**9
    (True, True)
    """
    return read_since(text) + (DAY if _DATE.fullmatch(text.strip().removesuffix("Z")) else 0)
