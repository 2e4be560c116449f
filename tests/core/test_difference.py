"""Differences: at most as many changes as were made, and they lead from the old header to the new one."""

from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import write_card, write_commentary
from assembler.core.difference import Unit, apply_changes, compare_cards, compare_units, grouped
from assembler.core.versions import Replaced, version_cards

KEYWORDS = st.sampled_from(["GAIN", "AIRMASS", "OBJECT", "COMMENT", "HISTORY", ""])


def written(keyword, value):
    if keyword in ("COMMENT", "HISTORY", ""):
        return write_commentary(keyword, str(value))
    return write_card(keyword, f"'{'x' * (80 * (value % 2))}{value}'")


CARD = st.builds(written, KEYWORDS, st.integers(0, 5))


@given(st.lists(CARD, max_size=30), st.data())
def test_so_many_edits_are_at_most_as_many_changes_and_the_changes_make_the_new_header_of_the_old(old, data):
    new = list(old)
    edits = data.draw(st.integers(0, 5))
    for _ in range(edits):
        place = data.draw(st.integers(0, len(new)))
        what = data.draw(st.sampled_from(["insert", "delete", "change"])) if place < len(new) else "insert"
        if what == "insert":
            new.insert(place, data.draw(CARD))
        elif what == "delete":
            del new[place]
        else:
            new[place] = written(new[place][0][:8].strip(), data.draw(st.integers(0, 5)))
    changes = compare_cards(old, new)
    assert len(changes) <= edits
    assert apply_changes(old, changes) == new
    assert grouped([image for card in old for image in card]) == old


@given(st.lists(CARD, max_size=12), st.lists(CARD, max_size=12))
def test_of_any_two_headers_the_changes_make_the_one_of_the_other(old, new):
    assert apply_changes(old, compare_cards(old, new)) == new


def test_of_a_card_that_was_renamed_the_old_one_is_told_first():
    a, b, c, d = (write_card(k, "1") for k in "ABCD")
    assert [(x.kind, x.keyword) for x in compare_cards([a, b, c], [a, d, c])] == [("removed", "B"), ("added", "D")]


def test_a_card_elsewhere_has_moved():
    a, b, c = (write_card(k, "1") for k in "ABC")
    (change,) = compare_cards([a, b, c], [b, c, a])
    assert (change.kind, change.keyword, change.old_place, change.new_place) == ("moved", "A", 0, 2)


def test_hdus_are_added_removed_and_moved_and_one_is_compared_with_that_of_its_name():
    names = [Unit(name=n, cards=write_card("N", "1"), digest="1") for n in ("PRIMARY", "GREEN_AMP1", "GREEN_AMP2", "RED_AMP1")]
    first, one, two, red = names
    assert compare_units(names, names) == ()
    told = [(c.kind, c.part, c.hdu) for c in compare_units([first, one, two], [first, two, red])]
    assert told == [("removed", "HDU", "GREEN_AMP1"), ("added", "HDU", "RED_AMP1")]
    assert [(c.kind, c.hdu) for c in compare_units([first, one, two, red], [first, two, red, one])] == [("moved", "GREEN_AMP1")]
    assert {(c.kind, c.hdu) for c in compare_units([one], [two])} == {("removed", "GREEN_AMP1"), ("added", "GREEN_AMP2")}
    other = Unit(name="RED_AMP1", cards=red.cards, digest="2")
    assert [(c.kind, c.part, c.hdu, c.expected) for c in compare_units([red], [other])] == [("changed", "data", "RED_AMP1", False)]


def test_what_every_two_l0s_differ_in_is_expected_and_a_checksum_alone_is_not():
    replaced = Replaced(version=1, written="then", sha256="0", reason="late")

    def primary(date, version, checksum):
        return [Unit(name="PRIMARY", cards=(*write_card("DATE", date), *version, *write_card("CHECKSUM", checksum)))]

    old, new = primary("'a'", version_cards(None), "'a'"), primary("'b'", version_cards(replaced), "'b'")
    changes = compare_units(old, new)
    assert {c.keyword for c in changes} == {"DATE", "L0VER", "HISTORY", "CHECKSUM"}
    assert all(c.expected for c in changes)
    (change,) = compare_units(old, primary("'a'", version_cards(None), "'b'"))
    assert not change.expected
