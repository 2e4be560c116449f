"""Alignment: as few changes as possible, in bounded effort."""

import random

from hypothesis import given
from hypothesis import strategies as st

from assembler.core.alignment import align

ITEM = st.tuples(st.integers(0, 3), st.sampled_from("ABC")).map(lambda i: (f"{i[1]}{i[0]}", i[1]))
ITEMS = st.lists(ITEM, max_size=8)


def cost(pairs, old, new):
    return sum(a is None or b is None or old[a][0] != new[b][0] for a, b in pairs)


def fewest(old, new):
    """Return the number of changes by the table that everybody knows."""
    row = list(range(len(new) + 1))
    for a, (text, name) in enumerate(old, 1):
        before, row = row, [a]
        for b, (other, called) in enumerate(new, 1):
            step = 0 if text == other else 1 if name == called else 2
            row.append(min(before[b] + 1, row[-1] + 1, before[b - 1] + step))
    return row[-1]


def check(pairs, old, new):
    assert [a for a, _ in pairs if a is not None] == list(range(len(old)))
    assert [b for _, b in pairs if b is not None] == list(range(len(new)))
    assert all(old[a][1] == new[b][1] for a, b in pairs if a is not None and b is not None)


@given(ITEMS, ITEMS)
def test_there_are_as_few_changes_as_possible(old, new):
    pairs = align(old, new)
    check(pairs, old, new)
    assert cost(pairs, old, new) == fewest(old, new)


@given(ITEMS, ITEMS, st.integers(0, 3))
def test_beyond_the_limit_everything_still_has_one_place_and_one_name(old, new, limit):
    check(align(old, new, limit), old, new)


def test_two_long_headers_that_have_nothing_in_common_end_soon():
    chance = random.Random(1)
    old, new = ([(f"{chance.randrange(50)}", "COMMENT") for _ in range(3000)] for _ in range(2))
    check(align(old, new), old, new)


def test_where_every_value_differs_every_name_still_finds_its_own():
    old, new = ([(f"K{n}={value}", f"K{n}") for n in range(3000)] for value in (1, 2))
    assert align(old, new[5:]) == [*((n, None) for n in range(5)), *((n, n - 5) for n in range(5, 3000))]
