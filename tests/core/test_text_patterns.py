"""Patterns for text of unknown origin: what regular expressions they are, and that none has more ways to match than are bounded."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.text_patterns import LONGEST, MOST_WAYS, fits_pattern, pattern_fault


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{4}-\d\d-\d\d",
        r"(On|Off)?",
        "[A-Za-z0-9_,]+",
        "[]^]+",
        r"a\.b\(c\)",
        ".*KPF.*",
        "a*+b*+c*+d*+e*+",
        "(?:ab)?",
        "a{2,}",
        "x{0,3}?",
    ],
)
def test_an_ordinary_pattern_has_no_fault(pattern):
    assert pattern_fault(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(a+)+", "a group may be repeated by ? only"),
        ("(a|aa)*", "a group may be repeated by ? only"),
        ("(ab){2}", "a group may be repeated by ? only"),
        (".*.*.*", "more than 2000000 ways"),
        ("a{0,300}a{0,300}a{0,300}", "more than 2000000 ways"),
        ("(a|a)" * 30, "more than 2000000 ways"),
        ("a?" * 30, "more than 2000000 ways"),
        (r"(a)\1", "is not known here"),
        ("(?=a)", "is not known here"),
        ("(?i)a", "is not known here"),
        ("(?P<x>a)", "is not known here"),
        ("a{,3}", "is not known here"),
        ("a{99999}", "is not known here"),
        ("a}", "is not known here"),
        ("*a", "is no regular expression"),
        ("(a", "is no regular expression"),
        ("[z-a]", "is no regular expression"),
        ("[[a]", "is no regular expression"),
        ("a{3,2}", "is no regular expression"),
    ],
)
def test_a_pattern_that_text_could_make_slow_or_that_is_none_has_a_fault(pattern, told):
    assert told in pattern_fault(pattern)


@given(st.text(r"ab?*+{}(),|[]^-\d0123456789.", max_size=12), st.text("ab01-", max_size=12))
def test_a_pattern_without_a_fault_is_what_python_takes_it_for(pattern, text):
    if not pattern_fault(pattern):
        assert fits_pattern(pattern, text) == bool(re.fullmatch(pattern, text, re.ASCII))


@given(st.lists(st.sampled_from(["a*", "a+", "a?", "[ab]*", "a{0,9}", "(a|b)", "(?:a?b*)?", "ab"]), max_size=30))
def test_the_ways_of_a_pattern_without_a_fault_are_few(parts):
    choices = {
        "a*": LONGEST + 1,
        "a+": LONGEST + 1,
        "[ab]*": LONGEST + 1,
        "a?": 2,
        "a{0,9}": 10,
        "(a|b)": 2,
        "(?:a?b*)?": 4 * (LONGEST + 1),
    }
    ways = 1
    for part in parts:
        ways *= choices.get(part, 1)
    assert bool(pattern_fault("".join(parts))) == (ways > MOST_WAYS)


def test_a_text_that_is_too_long_to_be_compared_fits_no_pattern():
    assert fits_pattern("a*", "a" * LONGEST)
    assert not fits_pattern("a*", "a" * (LONGEST + 1))


def test_letters_and_digits_are_those_of_ascii():
    assert not fits_pattern(r"\d", "٣")
    assert not fits_pattern(r"\w", "é")
