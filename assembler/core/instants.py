"""One instant: nanoseconds of UTC since 1970, as a whole number, so that times compare and add exactly.

UNIX seconds leave no room for a leap second; the second 60 of a minute is read as the first of the next.
"""

import datetime as dt
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
UNITS = {"s": SECOND, "ms": SECOND // 1000, "us": SECOND // 1_000_000, "min": 60 * SECOND, "h": 3600 * SECOND, "d": DAY}
"""Nanoseconds in each unit of time that the YAML may name."""

_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?Z?")
_MJD_EPOCH = 40_587
_JD_EPOCH = Decimal("2440587.5")
_EPOCH = dt.date(1970, 1, 1).toordinal()
_YEARS = range(1858, 2500)
_LATEST = (2500 - 1970) * 366 * 86_400.0


def parse_iso(text: str) -> int:
    """Return the instant [ns] that an ISO 8601 date and time in UTC tells (FITS Standard 9.1.1).

    Raises
    ------
    ValueError
        When it is no such time.

    >>> parse_iso("1970-01-01T00:00:01.5")
    1500000000
    """
    found = _ISO.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not YYYY-MM-DDThh:mm:ss[.sss]")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError(f"{text!r} is no time of day")
    if year not in _YEARS:
        raise ValueError(f"{text!r} is no time of this age")
    days = dt.date(year, month, day).toordinal() - _EPOCH
    fraction = int((found.group(7) or "0").ljust(9, "0")[:9])
    return days * DAY + (hour * 3600 + minute * 60 + second) * SECOND + fraction


def parse_number(value: float | str, form: str) -> int:
    """Return the instant [ns] of a number: ``mjd`` or ``jd`` in days, ``unix`` in seconds.

    A number that is written out is read with all its digits.

    >>> parse_number("40587.5", "mjd") == 43_200 * SECOND
    True
    """
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is no number") from None
    if not number.is_finite() or abs(number) > 10**10:
        raise ValueError(f"{value!r} is no time")
    since = {"unix": number * SECOND, "mjd": (number - _MJD_EPOCH) * DAY, "jd": (number - _JD_EPOCH) * DAY}
    instant = int(since[form])
    if (dt.date(1970, 1, 1).year + instant // (365 * DAY)) not in _YEARS:
        raise ValueError(f"{value!r} is no time of this age")
    return instant


def parse_duration(text: str) -> int:
    """Return the duration [ns] of a number with its unit.

    >>> parse_duration("0.1 s"), parse_duration("250 ms")
    (100000000, 250000000)
    """
    number, _, unit = text.strip().partition(" ")
    unit = unit.strip()
    try:
        length = Decimal(number)
    except InvalidOperation:
        length = Decimal("nan")
    if unit not in UNITS or not length.is_finite() or length < 0 or length > 10**6:
        raise ValueError(f"{text!r} is not a number and one of {', '.join(UNITS)}, for example '0.1 s'")
    return int(length * UNITS[unit])


def format_iso(instant: int, digits: int = 6) -> str:
    """Return an instant [ns] as ISO 8601; more digits than asked where they are needed to be exact.

    >>> format_iso(1500000000), format_iso(1)
    ('1970-01-01T00:00:01.500000', '1970-01-01T00:00:00.000000001')
    """
    seconds, nano = divmod(instant, SECOND)
    fraction = f"{nano:09d}"
    fraction = fraction[:digits] + fraction[digits:].rstrip("0")
    return f"{_second(seconds)}.{fraction}" if fraction else _second(seconds)


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """Return date and time of a whole second [UNIX s]; of an exposure, a few are asked for again and again."""
    days, second = divmod(seconds, 86_400)
    return f"{dt.date.fromordinal(days + _EPOCH).isoformat()}T{second // 3600:02d}:{second % 3600 // 60:02d}:{second % 60:02d}"


def round_to(instant: int, step: int) -> int:
    """Round an instant or duration [ns] to the nearest step [ns], half up.

    >>> round_to(1_500, 1_000)
    2000
    """
    return (instant + step // 2) // step * step


def modified_julian_date(instant: int) -> float:
    """Return the MJD [d] of an instant [ns], correctly rounded.

    >>> modified_julian_date(0)
    40587.0
    """
    return (instant + _MJD_EPOCH * DAY) / DAY


def unix_seconds(instant: int) -> float:
    """Return UNIX seconds [s], which is what keyword histories record."""
    return instant / SECOND


def from_unix(seconds: float) -> int:
    """Return the instant [ns] of UNIX seconds [s], to the microsecond that a double can hold.

    >>> from_unix(1713772783.230188)
    1713772783230188000
    """
    if not is_unix_time(seconds):
        raise ValueError(f"{seconds} is no time of this age")
    return round(seconds * 1e6) * 1000


def is_unix_time(seconds: float) -> bool:
    """Tell whether UNIX seconds are of an age that an exposure, or what was broadcast around it, can have.

    >>> is_unix_time(1713772783.23), is_unix_time(1e300), is_unix_time(float("nan"))
    (True, False, False)
    """
    return abs(seconds) < _LATEST  # and so no NaN
