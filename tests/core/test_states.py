"""States of an exposure: every path is lawful and leads to an end; back-off grows and is bounded."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.states import (
    FINAL,
    FIRST,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MOST_ATTEMPTS_AT_INPUT,
    OPEN,
    STATES,
    STEPS,
    attempts_after,
    check_step,
    is_lawful,
    next_attempt,
    resumed,
)
from assembler.errors import AssemblerError, ConfigurationError, InputError, OutputError, TelemetryError, VerificationError

CHANCE = st.floats(min_value=0, max_value=1, exclude_max=True)
LASTING = st.sampled_from([OutputError("no room"), TelemetryError("server away", retry=True)])


@st.composite
def paths(draw) -> list:
    """Return a path through the states, from the first on."""
    path = [draw(st.sampled_from(sorted(FIRST)))]
    for _ in range(draw(st.integers(0, 30))):
        path.append(draw(st.sampled_from(sorted(STEPS[path[-1]]))))
    return path


def reachable(state) -> set:
    found, new = set(), {state}
    while new:
        found |= new
        new = {after for before in new for after in STEPS[before]} - found
    return found


def test_every_state_is_open_or_final_and_never_both():
    assert set(STATES) == OPEN | FINAL == set(STEPS)
    assert not OPEN & FINAL


@pytest.mark.parametrize("state", STATES)
def test_from_every_state_an_l0_can_be_published_and_a_failure_told(state):
    assert {"published", "failed"} <= reachable(state)
    assert state in set().union(*(reachable(first) for first in FIRST))


@given(path=paths())
def test_every_path_is_lawful_and_what_is_verified_was_assembled_just_before(path):
    for before, after in zip([None, *path], path, strict=False):
        assert check_step(before, after) == after
    for before, after in pairwise(path):
        assert after != "verified" or before == "assembling"
        assert after != "published" or before in ("assembling", "verified")
        assert after != "assembling" or before == "ready"


@given(path=paths())
def test_wherever_a_start_finds_an_exposure_it_can_go_on(path):
    again = resumed(path[-1])
    assert again == path[-1] or is_lawful(path[-1], again)
    assert again in FINAL or again in ("seen", "waiting", "ready")
    assert resumed(again) == again


@given(path=paths())
def test_attempts_count_what_was_begun_since_the_last_success(path):
    attempts = 0
    for before, after in zip([None, *path], path, strict=False):
        last, attempts = attempts, attempts_after(before, after, attempts)
        assert attempts in (0, last, last + 1)
        assert (attempts == last + 1) == (after == "assembling")
    assert path[-1] != "published" or attempts == 0


@pytest.mark.parametrize(("before", "after"), [(None, "assembling"), ("seen", "published"), ("published", "published"), ("seen", "gone")])
def test_an_unlawful_step_is_refused(before, after):
    with pytest.raises(ValueError, match=r"cannot become|is no state"):
        check_step(before, after)


@given(error=LASTING, attempts=st.integers(0, 10**9), now=st.integers(0, 2**62), chance=CHANCE)
def test_the_pause_is_bounded(error, attempts, now, chance):
    at = next_attempt(error, attempts, now, chance)
    assert 0 < FIRST_PAUSE * 2 // 3 <= at - now <= LONGEST_PAUSE


@given(error=LASTING, attempts=st.integers(1, 100), one=CHANCE, two=CHANCE)
def test_the_pause_grows_whatever_chance_says(error, attempts, one, two):
    shorter, longer = next_attempt(error, attempts, 0, one), next_attempt(error, attempts + 1, 0, two)
    assert longer > shorter or longer >= LONGEST_PAUSE * 2 // 3


@given(attempts=st.integers(0, 100), chance=CHANCE)
@pytest.mark.parametrize(
    "error",
    [InputError("no FITS"), ConfigurationError("no origin"), VerificationError("differs"), TelemetryError("no table"), AssemblerError()],
)
def test_what_no_retry_helps_is_not_tried_again(error, attempts, chance):
    assert next_attempt(error, attempts, 0, chance) is None


def test_a_sub_fits_that_keeps_growing_is_not_tried_for_ever():
    growing = InputError("still growing", retry=True)
    tried = [next_attempt(growing, attempts, 0, 0.0) for attempts in range(1, MOST_ATTEMPTS_AT_INPUT + 3)]
    assert None not in tried[: MOST_ATTEMPTS_AT_INPUT - 1]
    assert set(tried[MOST_ATTEMPTS_AT_INPUT - 1 :]) == {None}
