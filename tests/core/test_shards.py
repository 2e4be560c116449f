"""Shards: every exposure in exactly one, whatever else is there, and evenly spread."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.shards import Shard, parse_shard

NAMES = st.one_of(st.integers(0, 10**9).map(str), st.text(min_size=1, max_size=30))
COUNTS = st.integers(1, 40)


def shards(count: int) -> list[Shard]:
    return [Shard(number=number, count=count) for number in range(1, count + 1)]


def spread(count: int, names: list[str], night: str = "2024apr21") -> list[int]:
    return [sum(shard.has(night, name) for name in names) for shard in shards(count)]


@given(NAMES, NAMES, COUNTS)
def test_every_exposure_is_in_exactly_one(night, name, count):
    assert sum(shard.has(night, name) for shard in shards(count)) == 1


@given(st.lists(NAMES, unique=True, max_size=20), st.lists(NAMES, unique=True, max_size=5), COUNTS, st.randoms())
def test_others_that_come_later_and_any_order_move_none(names, later, count, chance):
    def places(told):
        return {name: [shard.number for shard in shards(count) if shard.has("2024apr21", name)] for name in told}

    before = places(names)
    shuffled = [*names, *later]
    chance.shuffle(shuffled)
    after = places(shuffled)
    assert {name: after[name] for name in before} == before


@given(st.integers(0, 10**8), st.integers(1, 64), st.integers(2, 16))
def test_they_are_spread_evenly_whatever_the_step_of_the_frames(first, step, count):
    """No more than seven standard deviations off, which chance alone would not do in a lifetime."""
    names = [str(first + step * number) for number in range(1000)]
    mean = len(names) / count
    assert all(abs(had - mean) <= 7 * math.sqrt(mean) for had in spread(count, names))


def test_a_night_is_spread_evenly_over_the_jobs_of_an_array():
    had = spread(16, [str(frame) for frame in range(215000, 225000)])
    assert (sum(had), min(had) > 500, max(had) < 750) == (10_000, True, True)


def test_a_name_that_is_no_text_has_its_place_too():
    """The name of a file may hold any bytes."""
    assert sum(shard.has("2024apr21", "kpf\udcff.fits") for shard in shards(7)) == 1


@given(COUNTS.flatmap(lambda count: st.tuples(st.integers(1, count), st.just(count))))
def test_what_is_written_is_read_again(told):
    number, count = told
    assert parse_shard(f"{number}/{count}") == Shard(number=number, count=count)


@pytest.mark.parametrize(
    "text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", " 1/4", "1/ 4", "a/b", "1/1000001", "1/" + "9" * 5000, "\uff11/4"]
)
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="expected I/N"):
        parse_shard(text)
