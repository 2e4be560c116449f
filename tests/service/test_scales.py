"""Time scales: as the standard has them, exact, and without a network."""

import socket
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from astropy.time import Time
from astropy.utils import iers
from hypothesis import assume, given
from hypothesis import strategies as st

from assembler.core.instants import SECOND, format_iso, parse_iso
from assembler.service.scales import SCALES

SINCE_1972 = st.integers(parse_iso("1972-01-02T00:00:00"), parse_iso("2027-01-01T00:00:00"))


@pytest.fixture(scope="module", autouse=True)
def no_network():
    """Fail whoever looks for a host; the oracle, too, takes the tables that astropy brought, however old they are by now."""

    def refuse(*_args, **_facts):
        raise AssertionError("the network is none of our business")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket, "create_connection", refuse)
        with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
            yield


@pytest.mark.parametrize(
    ("clock", "scale", "utc"),
    [
        ("2024-04-22T08:01:09.886179", "TAI", "2024-04-22T08:00:32.886179"),
        ("2024-04-22T08:01:09.886179123", "IAT", "2024-04-22T08:00:32.886179123"),
        ("2024-04-22T08:01:42.070179", "TT", "2024-04-22T08:00:32.886179"),
        ("2024-04-22T08:00:50.886179", "GPS", "2024-04-22T08:00:32.886179"),
        ("2014-07-24T00:00:35", "TAI", "2014-07-24T00:00:00"),
        ("2017-01-01T00:00:37", "TAI", "2017-01-01T00:00:00"),
        ("2017-01-01T00:00:35.5", "TAI", "2016-12-31T23:59:59.5"),
    ],
)
def test_a_clock_of_another_scale_is_read_in_utc(clock, scale, utc):
    assert format_iso(SCALES.to_utc(parse_iso(clock), scale)) == format_iso(parse_iso(utc))


@given(SINCE_1972)
def test_tai_is_a_whole_number_of_seconds_ahead(instant):
    ahead = instant - SCALES.to_utc(instant, "TAI")
    assert ahead % SECOND == 0
    assert 10 <= ahead // SECOND <= 37


@given(SINCE_1972, st.sampled_from(["TDB", "TCG", "TCB", "UT1"]))
def test_the_other_scales_are_those_of_astropy(instant, scale):
    assume(scale != "UT1" or instant >= parse_iso("1973-01-02T00:00:00"))  # where astropy's table begins; before, it jumps
    told = Time(format_iso(SCALES.to_utc(instant, scale), digits=9), scale="utc")
    asked = Time(format_iso(instant, digits=9), scale=scale.lower())
    assert abs((getattr(told, scale.lower()) - asked).to_value("s")) < 2e-9


def test_leap_seconds_are_known_for_a_while():
    assert SCALES.expires() > parse_iso("2026-01-01T00:00:00")


def test_threads_side_by_side_leave_astropy_as_it_was():
    """What astropy and warnings are told for a conversion holds for the whole process; threads change as often as can be."""
    before = [iers.conf.auto_download, iers.conf.auto_max_age, warnings.filters[:]]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda second: SCALES.to_utc(second * SECOND, "TAI"), range(4000)))
    finally:
        sys.setswitchinterval(usual)
    assert [iers.conf.auto_download, iers.conf.auto_max_age, warnings.filters[:]] == before
    assert told == [SCALES.to_utc(second * SECOND, "TAI") for second in range(4000)]
