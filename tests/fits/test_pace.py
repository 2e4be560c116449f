"""Copying at a pace: never faster over any time that is long enough, never stuck, whatever the parts, whoever copies."""

import threading
from itertools import pairwise

import kpf_night
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.fits.pace import AHEAD, Pacer

PARTS = st.lists(st.tuples(st.integers(1, 2 << 20), st.integers(0, 200_000_000)), min_size=1, max_size=60)
RATES = st.sampled_from([1e5, 1e6, 5e7, 2e9])


class Time:
    """A clock that goes on only when somebody sleeps, a little longer than asked, or works."""

    def __init__(self, late: float = 0.0) -> None:
        self.now = 1_000_000_000_000
        self.late = late

    def clock(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += round((seconds + self.late) * 1e9)


@given(parts=PARTS, rate=RATES, late=st.sampled_from([0.0, 0.0001, 0.02]))
def test_over_any_window_no_more_is_copied_than_the_pace_allows_and_two_parts(parts, rate, late):
    time = Time(late)
    pace = Pacer(rate, time.clock, time.sleep)
    begun = []
    for count, work in parts:
        pace(count)
        begun.append((time.now, count))
        time.now += work
    for first in range(len(begun)):
        total = 0
        for last in range(first + 1, len(begun)):
            length = begun[last][0] - begun[first][0]
            assert total <= rate * (length + AHEAD) / 1e9 + 1
            total += begun[last][1]


@given(parts=PARTS, rate=RATES)
def test_nobody_waits_longer_than_what_was_copied_before_takes(parts, rate):
    time = Time()
    pace = Pacer(rate, time.clock, time.sleep)
    for (before, work), (count, _) in pairwise([(0, 0), *parts]):
        time.now += work
        asked = time.now
        pace(count)
        assert (time.now - asked) / 1e9 <= before / rate + AHEAD / 1e9 + 1e-6


def test_threads_share_the_pace_and_each_gets_its_turn():
    waits = []
    pace = Pacer(1e6, lambda: 0, waits.append)  # time stands still: each place is known
    threads = [threading.Thread(target=lambda: [pace(1000) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(round(wait * 1000) for wait in waits) == list(range(6, 2000))


@pytest.mark.parametrize("shape", [(32, 24), (1500, 1400)])  # in one thread, and in several
def test_what_is_copied_and_what_is_compared_is_told_to_the_pace(kpf, tmp_path, make, shape):
    from assembler.service.finder import find_night
    from assembler.service.pipeline import assemble

    night = kpf_night.make_night(tmp_path / "night", shape=shape)
    found = find_night(kpf, night.directory, night.frames[0])
    pixels = sum(hdu.length for sub in found.subs.values() for hdu in sub.hdus)
    content = sum(sub.content_length for sub in found.subs.values())
    lock, parts = threading.Lock(), []

    def pace(count: int) -> None:
        with lock:
            parts.append(count)

    def run() -> int:
        parts.clear()
        assemble(found, None, tmp_path / "out", version="test", clock=lambda: 0, pace=pace)
        return sum(parts)

    assert run() == content
    assert max(parts) <= 1 << 20
    l0 = next((tmp_path / "out").iterdir())
    assert pixels < run() - content < l0.stat().st_size  # the sub-FITS once, and the data of the L0
