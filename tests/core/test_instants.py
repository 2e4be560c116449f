"""Instants: astropy.time is the oracle, and what was written comes back."""

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.instants import (
    DAY,
    SECOND,
    format_iso,
    from_unix,
    modified_julian_date,
    parse_duration,
    parse_iso,
    parse_number,
    unix_seconds,
)

INSTANTS = st.integers(3 * 365 * DAY, 55 * 365 * DAY)


@given(INSTANTS)
def test_iso_comes_back(instant):
    assert parse_iso(format_iso(instant)) == instant
    assert parse_iso(format_iso(instant, digits=3)) == instant


@given(INSTANTS)
def test_astropy_agrees_on_iso_and_mjd(instant):
    oracle = Time(instant // SECOND, instant % SECOND / SECOND, format="unix", scale="utc")
    assert format_iso(instant // 1000 * 1000)[:19] == Time(instant // SECOND, format="unix", scale="utc").isot[:19]
    assert modified_julian_date(instant) == pytest.approx(oracle.mjd, abs=1e-9)


@given(INSTANTS)
def test_a_number_with_all_its_digits_is_exact_to_the_nanosecond(instant):
    assert abs(parse_number(f"{instant // DAY + 40587}.{instant % DAY * 10**15 // DAY:015d}", "mjd") - instant) <= 1
    assert from_unix(unix_seconds(instant // 1000 * 1000)) == instant // 1000 * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-04-22",
        "22/04/24",
        "2024-13-01T00:00:00",
        "2024-04-22T25:00:00",
        "2024-04-22T08:00:00+10:00",
        "None",
        "9999-12-31T23:59:59.99",
        "0001-01-01T00:00:00",
    ],
)
def test_what_is_no_instant_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_iso(text)


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "abc", "-1e11", "99999999999"])
def test_a_number_that_is_no_time_is_refused(value):
    for form in ("mjd", "jd", "unix"):
        with pytest.raises(ValueError, match=r".+"):
            parse_number(value, form)


@pytest.mark.parametrize("text", ["", "0.1", "1 fortnight", "nan s", "-1 s", "s"])
def test_a_duration_needs_a_number_and_a_unit(text):
    with pytest.raises(ValueError, match="for example"):
        parse_duration(text)


def test_a_leap_second_is_the_first_second_of_the_next_minute():
    assert parse_iso("2016-12-31T23:59:60.5") == parse_iso("2017-01-01T00:00:00.5")
