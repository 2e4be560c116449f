"""Causes: each change has that of the steps in which it comes about, and of no other."""

from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import write_card
from assembler.core.causes import Stage, explain_changes
from assembler.core.difference import Row, Unit, compare_units


def unit(values, rows=()):
    cards = tuple(card for keyword, value in values.items() for card in write_card(keyword, f"{value:20}"))
    return Unit(name="A", cards=cards, rows=tuple(Row(name=name, cells=(f"v={value}",)) for name, value in rows))


def explained(*stages):
    told = [Stage(units=units, cause=cause) for cause, units in stages]
    return explain_changes(compare_units(told[0].units, told[-1].units), told)


@given(
    st.dictionaries(st.sampled_from("ABCDEFGH"), st.integers(0, 3), max_size=8),
    st.lists(st.tuples(st.sampled_from("ABCDEFGH"), st.one_of(st.none(), st.integers(0, 3))), max_size=6),
)
def test_a_card_that_differs_has_the_steps_that_changed_it_as_causes(begin, edits):
    """The steps since it last was as at the begin, or before, may count; those that never touched its keyword do not.

    Of two cards that changed places either may be the one that moved: of that it is known only that some step did it.
    """
    stages = [("", (unit(begin),))]
    values, touching = dict(begin), {}
    for number, (keyword, value) in enumerate(edits):
        if values.get(keyword) == value:
            continue
        values = {**values, keyword: value} if value is not None else {k: v for k, v in values.items() if k != keyword}
        touching.setdefault(keyword, []).append(str(number))
        stages.append((str(number), (unit(values),)))
    explained_all = explained(*stages)
    assert all(change.causes for change in explained_all)
    changes = [change for change in explained_all if change.kind != "moved"]
    assert all(set(change.causes) <= set(touching[change.keyword]) for change in changes)
    assert all(change.causes[-1] == touching[change.keyword][-1] for change in changes if change.new or len(touching[change.keyword]) == 1)


def test_what_comes_and_goes_on_the_way_is_no_change():
    one, other = (unit({"A": 1}),), (unit({"A": 2}),)
    assert explained(("", one), ("yaml", other), ("telemetry", one)) == ()


def test_a_card_that_two_steps_changed_has_both():
    (change,) = explained(("", (unit({"A": 1}),)), ("yaml", (unit({"A": 2}),)), ("telemetry", (unit({"A": 3}),)))
    assert change.causes == ("yaml", "telemetry")


def test_rows_and_data_and_hdus_have_causes_and_what_follows_from_them_has_none():
    size = write_card("NAXIS2", f"{1:20}")
    old = (Unit(name="T", cards=size, rows=(Row(name="x", cells=("v=1",)),)), Unit(name="D", cards=(), digest="1"))
    longer = Unit(name="T", cards=write_card("NAXIS2", f"{2:20}"), rows=(*old[0].rows, Row(name="y", cells=("v=2",))))
    new = (longer, Unit(name="D", cards=(), digest="2"))
    last = (*new, Unit(name="E", cards=()))
    told = {
        (c.part, c.hdu, c.keyword): (c.expected, c.causes) for c in explained(("", old), ("a", (longer, old[1])), ("b", new), ("c", last))
    }
    assert told == {
        ("row", "T", "y"): (False, ("a",)),
        ("card", "T", "NAXIS2"): (True, ()),
        ("data", "D", ""): (False, ("b",)),
        ("HDU", "E", ""): (False, ("c",)),
    }
