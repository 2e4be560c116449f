"""Residuals: what a distance between two times looks like, and who speaks of another exposure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import SCALES

from assembler.core.candidates import Candidate, by_trust
from assembler.core.instants import SECOND, parse_iso
from assembler.core.residuals import is_stranger, likeness

T0 = parse_iso("2024-04-22T08:00:32.886179")


def file(name: str, begin: float, end: float, tolerance: float = 0.1) -> Candidate:
    return Candidate(
        source=name, origin=name, begin=T0 + int(begin * SECOND), end=T0 + int(end * SECOND), tolerance=int(tolerance * SECOND)
    )


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (37, "offset-tai"), (-36.9, "offset-tai"), (38, "offset-tai"), (40, None), (25, None), (69.184, None),
        (1800, "offset-hours"), (-36000, "offset-hours"), (20700, None), (34200.5, "offset-hours"), (52200, None),
        (86400, "offset-days"), (-172800.3, "offset-days"), (600, None), (1795, None), (0, None),
    ],
)  # fmt: skip
def test_a_distance_looks_like_a_clock_or_like_nothing(seconds, code):
    like = likeness(int(seconds * SECOND), SECOND // 10, T0, SCALES)
    assert (like.code if like else None) == code


@given(st.integers(-100 * 86_400, 100 * 86_400), st.integers(0, 5 * SECOND))
def test_what_a_distance_looks_like_does_not_depend_on_its_sign(seconds, tolerance):
    assert likeness(seconds * SECOND, tolerance, T0, SCALES) == likeness(-seconds * SECOND, tolerance, T0, SCALES)


@pytest.mark.parametrize(
    ("begin", "end", "stranger"),
    [(0, 30, False), (-300, -270, True), (29, 60, False), (30.05, 60, False), (30.3, 60, True), (37, 67, False), (-36000, -35970, False)],
)
def test_a_stranger_does_not_overlap_and_no_clock_explains_it(begin, end, stranger):
    assert is_stranger(file("red", begin, end), T0, T0 + 30 * SECOND, SCALES, same_frame=True) is stranger
    assert is_stranger(file("red", begin, end), T0, T0 + 30 * SECOND, SCALES, same_frame=False) is (stranger or begin in (37, -36000))


def test_a_file_that_agrees_with_nobody_is_not_trusted_however_high_it_stands():
    local = file("green", -36000, -35970)
    files = [local, file("red", 0, 30), file("guide", -0.5, 30.2, 1)]
    assert by_trust(("green", "red", "guide"), files).source == "red"
    assert by_trust(("green", "red"), [local, file("red", 0, 30)]).source == "green"


@given(st.permutations([file("green", -36000, -35970), file("red", 0, 30), file("blue", 0, 31), file("guide", 5, 9)]))
def test_who_is_trusted_does_not_depend_on_the_order(files):
    assert by_trust(("green", "red"), files).source == "red"
