"""Settling: no file is taken before it is whole and stayed as it is, and none is waited for without end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.exposure import REASONS
from assembler.core.settling import Course, Look, Rules, decide, follow, judge

RULES = Rules(settling=30, stall=200, pace=10)
FILE = (2880, 7, 1)

SIGNATURES = st.sampled_from([FILE, (5760, 7, 1), (2880, 8, 1), (2880, 7, 2)])
VERDICTS = st.sampled_from(["complete", "complete", "complete", "trailing", "growing", "preallocated", "unreadable"])
LOOKS = st.builds(Look, instant=st.integers(0, 100), signature=SIGNATURES, verdict=VERDICTS)
IN_ORDER = st.lists(LOOKS, max_size=12, unique_by=lambda look: look.instant).map(lambda looks: sorted(looks, key=lambda k: k.instant))
ANY_ORDER = st.lists(LOOKS, max_size=12)


def seen(*instants: int, signature=FILE, verdict="complete") -> list[Look]:
    return [Look(instant=instant, signature=signature, verdict=verdict) for instant in instants]


def growing(*instants: int) -> list[Look]:
    return [Look(instant=instant, signature=(instant, instant, 1), verdict="growing") for instant in instants]


def settled(looks, rules=RULES) -> bool:
    return judge(looks, rules).state == "settled"


@given(ANY_ORDER)
def test_what_is_settled_was_whole_and_the_same_at_three_looks_over_the_settling_time(looks):
    if settled(looks):
        last = looks[-1]
        run = [last]
        for look in reversed(looks[:-1]):
            if (look.signature, look.verdict) != (last.signature, last.verdict) or look.instant > run[-1].instant:
                break
            run.append(look)
        assert last.verdict in ("complete", "trailing")
        assert len({look.instant for look in run}) >= 3
        assert run[0].instant - run[-1].instant >= RULES.settling


@given(IN_ORDER, st.data())
def test_a_file_that_changes_at_any_look_is_not_settled_before_it_stayed_put_anew(looks, data):
    place = data.draw(st.integers(0, len(looks)))
    change = Look(instant=looks[place - 1].instant + 1 if place else 0, signature=(1, 1, 1), verdict="complete")
    for end in range(place, len(looks)):
        later = [look for look in looks[place : end + 1] if look.instant > change.instant]
        if not later or later[-1].instant - later[0].instant < RULES.settling or len(later) < 3:
            assert not settled([*looks[:place], change, *later])


@given(ANY_ORDER, st.data())
def test_a_look_that_is_told_twice_counts_once(looks, data):
    twice = [look for look in looks for _ in range(data.draw(st.integers(1, 3)))]
    assert judge(twice, RULES) == judge(looks, RULES)


@given(IN_ORDER, st.data())
def test_looks_in_the_wrong_order_never_settle_a_file_that_is_not(looks, data):
    if len(looks) > 1:
        place = data.draw(st.integers(0, len(looks) - 2))
        swapped = [*looks[:place], looks[place + 1], looks[place], *looks[place + 2 :]]
        assert settled(looks) or not settled(swapped)


@given(ANY_ORDER, st.integers(-1000, 1000))
def test_only_differences_of_instants_count(looks, offset):
    moved = [Look(instant=look.instant + offset, signature=look.signature, verdict=look.verdict) for look in looks]
    assert judge(moved, RULES).state == judge(looks, RULES).state


@given(ANY_ORDER, st.integers(1, 99))
def test_a_clock_that_goes_back_delays_and_does_not_shorten(looks, back):
    """Everything after a step back of the clock has to be seen anew, from the second look on."""
    later = seen(200 - back, 210 - back, 229 - back)
    assert not settled([*looks, *seen(200), *later])
    assert settled([*looks, *seen(200), *later, *seen(240 - back)])


@given(ANY_ORDER, st.integers(0, 60), st.none() | st.integers(0, 150), st.integers(1, 60))
def test_who_waits_looks_again_later_and_whatever_holds_still_comes_to_an_end(looks, settling, deadline, stall):
    """Follows the advice: a file that does not change is decided on after the settling time, the stall, or the deadline."""
    rules = Rules(settling=settling, stall=stall, deadline=deadline, pace=10)
    course = Course()
    for look in looks:
        course = follow(course, look)
    first = course.last or Look(instant=0, signature=FILE, verdict="growing")
    for _ in range(30):
        decision = decide(course, rules)
        if decision.state != "waiting":
            break
        assert course.last is None or decision.next_look > course.last.instant
        course = follow(course, Look(instant=decision.next_look, signature=first.signature, verdict=first.verdict))
    assert decision.state != "waiting"
    assert decision.next_look is None
    assert (decision.reason in REASONS) == (decision.state != "settled")
    assert course.last.instant - first.instant <= max(settling, stall) + 10 + 2


def test_with_no_settling_time_one_look_suffices():
    rules = Rules(settling=0, stall=200)
    assert settled(seen(5), rules)
    assert settled(seen(5, verdict="trailing"), rules)
    assert settled(seen(9, 5), rules)
    assert not settled(seen(5, verdict="preallocated"), rules)


def test_looks_at_a_whole_file_are_at_its_middle_and_at_the_end_of_its_settling_time():
    assert [judge(seen(*t), RULES).next_look for t in [(100,), (100, 115), (100, 140), (100, 115, 129)]] == [115, 130, 141, 130]


def test_two_looks_however_far_apart_do_not_settle_a_file():
    assert not settled(seen(0, 1000))
    assert settled(seen(0, 1000, 1001))


@pytest.mark.parametrize(
    ("verdict", "reason"), [("growing", "truncated"), ("preallocated", "truncated"), ("unreadable", "unreadable"), ("absent", "absent")]
)
def test_a_writer_that_died_is_told_by_its_file_that_holds_still(verdict, reason):
    looks = seen(0, 100, 199, verdict=verdict)
    assert judge(looks, RULES).state == "waiting"
    decision = judge([*looks, *seen(200, verdict=verdict)], RULES)
    assert (decision.state, decision.reason) == ("stalled", reason)


def test_a_slow_writer_has_time_up_to_the_deadline():
    rules = Rules(settling=30, stall=200, deadline=1000)
    looks = growing(*range(0, 1000, 150))
    assert judge(looks, rules).state == "waiting"
    decision = judge([*looks, *growing(1000)], rules)
    assert (decision.state, decision.reason) == ("late", "still-growing")
    assert judge(growing(*range(0, 5000, 150)), RULES).state == "waiting"


def test_a_whole_file_that_is_touched_again_and_again_is_late():
    rules = Rules(settling=30, stall=200, deadline=1000)
    looks = [Look(instant=t, signature=(2880, t, 1), verdict="complete") for t in range(0, 1001, 20)]
    assert [judge(looks[:-1], rules).state, judge(looks, rules).state] == ["waiting", "late"]


def test_a_file_that_is_completed_after_it_stalled_is_settled_then():
    looks = [*seen(0, 500, verdict="growing"), *seen(510, 520, 540, signature=(5760, 9, 1))]
    assert [judge(looks[:2], RULES).state, judge(looks, RULES).state] == ["stalled", "settled"]


def test_a_clock_that_goes_back_does_not_stop_the_wait_for_a_dead_writer():
    assert judge(seen(1000, 1100, 0, 99, verdict="growing"), RULES).state == "waiting"
    assert judge(seen(1000, 1100, 0, 100, verdict="growing"), RULES).state == "stalled"
