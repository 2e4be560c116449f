"""Names: no two alike, none taken, the rule kept wherever it can be."""

from hypothesis import given
from hypothesis import strategies as st

from assembler.core.prefixes import Claim, assign_names, rule_name

KEYWORD = st.text("ABC12_-", min_size=1, max_size=8)
CLAIMS = st.lists(
    st.builds(Claim, origin=st.sampled_from(["green", "red"]), prefix=st.sampled_from(["GR", "RD"]), keyword=KEYWORD, renamed=st.just("")),
    max_size=60,
)
RESERVED = st.frozensets(KEYWORD.map(lambda k: ("GR" + k)[:8]), max_size=20)


@given(CLAIMS, RESERVED)
def test_no_two_cards_land_on_one_name_and_none_on_a_reserved_one(claims, reserved):
    names, findings = assign_names(claims, reserved)
    assert len(names) == len(claims)
    assert len(set(names)) == len(names)
    assert not reserved.intersection(names)
    assert all(1 <= len(name) <= 8 for name in names)
    settled = sum(name == rule_name(c.prefix, c.keyword) for name, c in zip(names, claims, strict=True))
    assert len(findings) == len(claims) - settled


@given(CLAIMS, RESERVED)
def test_names_are_the_same_every_time(claims, reserved):
    assert assign_names(claims, reserved) == assign_names(list(claims), frozenset(reserved))


@given(st.text("ABC12_-", min_size=1, max_size=8))
def test_the_rule_keeps_six_characters_and_cuts_two_off_longer_ones(keyword):
    name = rule_name("GR", keyword)
    assert name == "GR" + (keyword if len(keyword) <= 6 else keyword[: len(keyword) - 2])


@given(CLAIMS)
def test_without_collisions_every_name_is_the_rules(claims):
    names, findings = assign_names(claims, ())
    if not findings:
        assert list(names) == [rule_name(c.prefix, c.keyword) for c in claims]


def test_a_rename_wins_over_the_rule_and_a_whole_keyword_over_a_cut_one():
    claims = [
        Claim(origin="guide", prefix="GC", keyword="TTCTRLXX"),
        Claim(origin="guide", prefix="GC", keyword="TTCTRL"),
        Claim(origin="guide", prefix="GC", keyword="OTHER", renamed="GCRADESY"),
        Claim(origin="guide", prefix="GC", keyword="RADESYSY"),
    ]
    names, findings = assign_names(claims, ())
    assert names == ("GCTTCTR2", "GCTTCTRL", "GCRADESY", "GCRADES2")
    assert {f.code for f in findings} == {"name-collision"}


def test_ten_thousand_cards_of_one_name_take_no_time_to_speak_of():
    names, _ = assign_names([Claim(origin="red", prefix="RD", keyword="SAME")] * 10_000, ())
    assert len(set(names)) == 10_000
    assert (names[1], names[-1]) == ("RDSAME2", "RDS10000")


def test_a_keyword_that_a_header_repeats_keeps_both_cards():
    claims = [Claim(origin="red", prefix="RD", keyword="OBSTYPE")] * 2
    names, findings = assign_names(claims, ())
    assert names == ("RDOBSTY", "RDOBSTY2")
    assert [f.code for f in findings] == ["duplicate-keyword"]
