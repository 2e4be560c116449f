"""Which exposures are meant: dates as an observer means them, ranges however they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.choice import Choice, read_frames, read_since, read_until
from assembler.core.instants import DAY, SECOND, parse_iso

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=6)


@given(ranges=RANGES, frame=st.integers(0, 80))
def test_a_frame_is_meant_when_it_is_in_one_of_the_ranges(ranges, frame):
    text = ",".join(f"{first}-{first + more}" if more else f" {first} " for first, more in ranges)
    assert Choice(frames=read_frames(text)).has_frame(frame) == any(first <= frame <= first + more for first, more in ranges)


@given(ranges=RANGES, gaps=RANGES)
def test_what_of_gaps_is_meant_is_the_frames_of_both_each_once(ranges, gaps):
    frames = read_frames(",".join(f"{first}-{first + more}" for first, more in ranges))
    apart = read_frames(",".join(f"{first}-{first + more}" for first, more in gaps))
    clipped = [n for first, last in Choice(frames=frames).clip(apart) for n in range(first, last + 1)]
    among = {n for first, last in frames for n in range(first, last + 1)}
    assert sorted(clipped) == sorted(among & {n for first, last in apart for n in range(first, last + 1)})


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "5-4", "1,,2", "1;2", "1" * 19, "٣"])
def test_what_is_no_list_of_frames_is_refused(text):
    with pytest.raises(ValueError, match="expected numbers and ranges"):
        read_frames(text)


def test_until_a_date_includes_that_day_and_until_a_time_ends_there():
    day = parse_iso("2024-04-22T00:00:00")
    assert (read_since("2024-04-22"), read_until("2024-04-22")) == (day, day + DAY)
    assert (read_since("2024-04-22Z"), read_until("2024-04-22Z")) == (day, day + DAY)
    assert read_since("2024-04-22T10:30") == read_until("2024-04-22 10:30:00Z") == day + 10 * 3600 * SECOND + 1800 * SECOND


@given(st.integers(0, 10 * DAY), st.integers(0, 10 * DAY))
def test_ranges_that_follow_each_other_mean_each_exposure_once(begin, border):
    assert Choice(until=border).has_begin(begin) != Choice(since=border).has_begin(begin)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-02-30", "2024-04-22T25:00", "22.4.2024", "2024-04", "9999-01-01", "2024-04-22T10"])
def test_what_is_no_time_is_refused(text):
    for read in (read_since, read_until):
        with pytest.raises(ValueError, match="expected a date or a time in UTC"):
            read(text)
