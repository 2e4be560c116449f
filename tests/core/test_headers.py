"""The headers of an L0 without its pixels: what programs read of them is what the cards say."""

import json
import math
from dataclasses import replace

import memory
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from assembler.core.cards import read_records, text_of, write_card, write_commentary
from assembler.core.headers import Header, json_text, metadata, planned_headers, without_pixels, yaml_text
from assembler.core.plan import OWN_TABLES

START = write_card("SIMPLE", text_of(True))
SPOILED = [
    "NO",
    "12:30:00",
    "1.0D+05",
    "1e5",
    "0x1F",
    "0777",
    "~",
    "null",
    "",
    "=",
    "<<",
    "- a: b # c",
    "{a: [b",
    "it's",
    "2024-04-22",
    "' &",
    "%",
]
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=150)
KEYWORD = st.text("ABCXYZ019_-", min_size=1, max_size=8)
NUMBER = st.integers(-(10**30), 10**30).map(str) | st.floats(allow_nan=False, allow_infinity=False).map(lambda f: repr(f).upper())
FIELD = st.one_of(
    (st.sampled_from(SPOILED) | PRINTABLE).map(text_of),
    NUMBER,
    st.sampled_from(["T", "F", "", "1.0D+05", "0007", "-0.", "1E16", "1E999", "-1E999", "(1.0, 2.0)", "9223372036854775808"]),
)
CARDS = st.one_of(
    st.builds(write_card, KEYWORD, FIELD, PRINTABLE.map(str.strip)),
    st.builds(write_commentary, st.sampled_from(["COMMENT", "HISTORY", ""]), PRINTABLE),
    PRINTABLE.map(lambda t: (f"HIERARCH ESO DET = {text_of(t[:25])}".ljust(80),)),
)
HEADER = st.lists(CARDS, max_size=12).map(lambda blocks: (*START, *(card for block in blocks for card in block)))


def what_cards_say(cards) -> list[tuple[str, object]]:
    """Return keyword and value of each card; what neither YAML nor JSON has is the text that it is."""
    told = [(r.keyword, r.value, r.text.strip()) for r in read_records(cards)]
    odd = [isinstance(v, complex) or (isinstance(v, float) and not math.isfinite(v)) for _, v, _ in told]
    return [(keyword, text if strange else value) for (keyword, value, text), strange in zip(told, odd, strict=True)]


def same(mine, theirs) -> bool:
    return mine == theirs and [type(value) for _, value in mine] == [type(value) for _, value in theirs]


@given(st.lists(HEADER, min_size=1, max_size=3))
def test_yaml_gives_every_card_back_as_value_and_as_it_stands_whoever_reads_it(headers):
    text = "".join(yaml_text([Header(name=name, cards=cards) for name, cards in zip(("PRIMARY", "NO", "1.0"), headers, strict=False)]))
    for document in (yaml.load(text, Loader=yaml.CSafeLoader), yaml.safe_load(text), YAML(typ="safe", pure=True).load(text)):
        assert [hdu["name"] for hdu in document] == ["PRIMARY", "NO", "1.0"][: len(headers)]
        for hdu, cards in zip(document, headers, strict=True):
            assert tuple(line.ljust(80) for line in hdu["cards"].split("\n")[:-1]) == cards
            assert same([(card["keyword"], card["value"]) for card in hdu["header"]], what_cards_say(cards))
            assert [card.get("comment") for card in hdu["header"]] == [
                None if r.kind == "commentary" else r.comment for r in read_records(cards)
            ]


@given(HEADER)
def test_json_has_every_value_by_its_keyword_and_lists_where_there_are_several(cards):
    document = json.loads(json_text(Header(name="PRIMARY", cards=cards)), parse_constant=pytest.fail)
    assert document.pop("__CONTENT__") == "metadata"
    flat = [(k, v) for k, told in document.items() for v in (told if isinstance(told, list) else [told])]
    in_order = {}
    for keyword, value in what_cards_say(cards):
        in_order.setdefault(keyword, []).append(value)
    assert same(flat, [(keyword, value) for keyword, told in in_order.items() for value in told])
    assert all(isinstance(document[k], list) for k in ("COMMENT", "HISTORY", "") if k in document)


def test_an_undefined_value_is_null_and_a_single_comment_a_list():
    cards = (*START, *write_card("GREENFN", ""), *write_commentary("COMMENT", "seen"))
    assert metadata(Header(name="PRIMARY", cards=cards))["GREENFN"] is None
    assert metadata(Header(name="PRIMARY", cards=cards))["COMMENT"] == ["seen"]


def test_the_headers_of_a_plan_are_its_cards_and_only_its_own_tables_have_rows(plan):
    planned = plan(memory.kpf_subs(amplifiers=4))
    headers = planned_headers(planned)
    assert [(h.name, h.cards) for h in headers] == [(h.name, h.cards) for h in planned.hdus]
    assert [h.name for h in headers if h.rows] == list(OWN_TABLES)
    assert [h.has_pixels for h in headers] == [False, *[True] * (len(headers) - 4), *[False] * 3]


def test_without_pixels_only_lengths_differ_and_the_header_says_what_they_were(plan):
    planned = plan(memory.kpf_subs(amplifiers=4))
    headers = planned_headers(planned)
    for whole, bare in zip(headers, without_pixels(headers, planned.filename), strict=True):
        lost = [card for card in whole.cards if card not in bare.cards]
        new = [card.rstrip() for card in bare.cards if card not in whole.cards]
        if whole.name == "PRIMARY":
            assert [c[:8] for c in lost] == ["OFNAME  "]
            assert new[0].startswith(f"HDRONLY = '{planned.filename}'")
            assert new[1].startswith(f"OFNAME  = '{planned.filename.removesuffix('.fits')}.headers.fits'")
        elif whole.has_pixels:
            assert {c[:8].rstrip() for c in lost} <= {"NAXIS2", "PCOUNT"}
            assert [f"HISTORY In the L0, {r.keyword} is {r.text.strip()}" for r in read_records(lost)] == [
                c for c in new if "In the L0" in c
            ]
        else:
            assert bare.cards == whole.cards
        assert bare.rows == whole.rows


def test_what_needs_data_goes_with_them_and_so_do_checksums():
    cards = [("XTENSION", "BINTABLE"), ("NAXIS", 2), ("NAXIS1", 8), ("NAXIS2", 5), ("PCOUNT", 90), ("THEAP", 40), ("ZIMAGE", True)]
    cards += [("ZNAXIS1", 5), ("CHECKSUM", "abc"), ("DATASUM", "77")]
    header = Header(name="COMP", cards=tuple(c for keyword, value in cards for c in write_card(keyword, text_of(value))), has_pixels=True)
    _, bare = without_pixels([Header(name="PRIMARY", cards=START), header], "x.fits")
    values = {r.keyword: r.value for r in read_records(bare.cards)}
    assert values == {
        "XTENSION": "BINTABLE",
        "NAXIS": 2,
        "NAXIS1": 8,
        "NAXIS2": 0,
        "PCOUNT": 0,
        "ZNAXIS1": 5,
        "HISTORY": "In the L0, DATASUM is '77'",
    }
    told = [r.text.strip() for r in read_records(bare.cards) if r.keyword == "HISTORY"]
    assert told == ["The data of this HDU are not in this file."] + [
        f"In the L0, {what}" for what in ("NAXIS2 is 5", "PCOUNT is 90", "THEAP is 40", "ZIMAGE is T", "DATASUM is '77'")
    ]


def test_headers_alone_stay_what_they_are(plan):
    planned = plan(memory.kpf_subs(amplifiers=4))
    bare = without_pixels(planned_headers(planned), planned.filename)
    assert without_pixels(bare, planned.filename) == bare
    summed = [replace(h, cards=(*h.cards, *write_card("CHECKSUM", "'x'"), *write_card("DATASUM", "'0'"))) for h in bare]
    assert without_pixels(summed, planned.filename) == bare
