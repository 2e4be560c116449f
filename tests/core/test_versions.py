"""Versions: what a newer L0 says of the one that it replaces, and that nothing else differs."""

import memory
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import read_record
from assembler.core.exposure import collect
from assembler.core.plan import plan_l0, superseding
from assembler.core.samples import Answers
from assembler.core.times import reconcile
from assembler.core.versions import Replaced, apart_from_version, superseded_name, version_cards

OLD = Replaced(version=1, written="2024-04-22T08:11:30.500", sha256="0123456789abcdef" * 4, reason="the sub-FITS of red came late")

GOLDEN = """\
L0VER   =                    2 / version of this L0
HISTORY Version 2 replaces version 1, written 2024-04-22T08:11:30.500
HISTORY SHA-256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
HISTORY Reason: the sub-FITS of red came late
"""


def test_what_a_version_says_reads_as_it_did():
    assert "".join(f"{card.rstrip()}\n" for card in version_cards(OLD)) == GOLDEN


def test_a_plan_that_replaces_is_the_plan_but_for_its_version(plan):
    first = plan(memory.kpf_subs())
    second = superseding(first, OLD)
    before, after = first.hdus[0].cards, second.hdus[0].cards
    at = next(i for i, card in enumerate(before) if card.startswith("L0VER"))
    assert after[at : at + 4] == version_cards(OLD)
    assert (*after[:at], *before[at : at + 1], *after[at + 4 :]) == before
    assert (second.hdus[1:], second.ledger, second.findings) == (first.hdus[1:], first.ledger, first.findings)


def test_planning_with_what_is_replaced_gives_the_same(kpf):
    exposure = collect(kpf, memory.kpf_subs())
    read = [memory.read_candidate(o, s, memory.SCALES)[0] for o, s in exposure.attached]
    times, _ = reconcile(kpf.exposure, None, read, memory.SCALES)
    said = {"directory": "/l0", "version": "1.0", "written": memory.WRITTEN}
    assert plan_l0(kpf, exposure, times, Answers(), replaces=OLD, **said) == superseding(
        plan_l0(kpf, exposure, times, Answers(), **said), OLD
    )


@given(version=st.integers(1, 999_998), written=st.text(max_size=100), reason=st.text(max_size=300))
def test_whatever_is_told_the_cards_are_lawful_and_can_be_taken_away_again(version, written, reason):
    cards = version_cards(Replaced(version=version, written=written, sha256="0" * 64, reason=reason))
    assert all(len(card) == 80 and card.isascii() and card.isprintable() for card in cards)
    assert not any(read_record(0, card).fault for card in cards)
    others = ["SIMPLE  =                    T".ljust(80), "CAMERAS =                    5".ljust(80), "HISTORY Corrected".ljust(80)]
    assert apart_from_version([others[0], *cards, *others[1:]]) == others


@pytest.mark.parametrize(("name", "kept"), [("a.fits", "a.v3.fits"), ("a.v2.fits", "a.v2.v3.fits"), ("a", "a.v3.fits")])
def test_the_name_of_a_superseded_version(name, kept):
    assert superseded_name(name, 3) == kept
