"""Time scales by astropy, with the leap seconds that came with it: nothing is ever fetched from a network."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from assembler.core.instants import format_iso, parse_iso

_NAMES = {"IAT": "tai", "TDT": "tt", "ET": "tt"}
_GPS_BEHIND_TAI = 19 * 10**9
_ALONE = threading.Lock()
"""What is set for a conversion, in astropy and for warnings, holds for all threads of the process."""


class AstropyScales:
    """The scales of the FITS Standard (table 30). Astropy is imported when the first of them is asked for."""

    def to_utc(self, instant: int, scale: str) -> int:
        """Return in UTC the instant [ns] that a clock of another scale showed."""
        if scale == "GPS":
            return self.to_utc(instant + _GPS_BEHIND_TAI, "TAI")
        return _to_utc(instant, _NAMES.get(scale, scale.lower()))

    def expires(self) -> int:
        """Return the instant [ns] up to which all leap seconds are known."""
        return _leap_seconds_expire()


SCALES = AstropyScales()


def _to_utc(instant: int, scale: str) -> int:
    with _ALONE, _offline() as time, warnings.catch_warnings():
        # With precision 9 astropy's two doubles give whole nanoseconds back.
        warnings.simplefilter("ignore")  # years that nobody knows the leap seconds of: that is a finding
        clock = time.Time(format_iso(instant, digits=9), format="isot", scale=scale, precision=9)
        return parse_iso(str(clock.utc.isot))


@cache
def _leap_seconds_expire() -> int:
    import erfa

    _to_utc(0, "tai")  # the first conversion is when astropy takes the newest table that it has
    return parse_iso(erfa.leap_seconds.expires.isoformat())


@contextmanager
def _offline() -> Iterator[Any]:
    """Lend astropy's times, kept from looking for newer tables than it brought, and from complaining that they are old."""
    from astropy import time
    from astropy.utils import iers

    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("system_leap_second_file", ""),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
    ):
        yield time
