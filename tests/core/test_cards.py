"""Cards: astropy is the oracle for every legal one, and nothing that eighty bytes can be is lost or raises."""

import math
import warnings

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import (
    CARD_LENGTH,
    is_value_text,
    read_record,
    read_records,
    rename,
    text_of,
    value_of,
    write_card,
    write_commentary,
)

KEYWORD = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=8).filter(
    lambda k: k not in ("COMMENT", "HISTORY", "CONTINUE", "HIERARCH", "END", "SIMPLE", "XTENSION")
)
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)
TEXT = st.text(PRINTABLE, max_size=60)
COMMENT = st.text(PRINTABLE, max_size=40).map(str.strip)
NUMBER = st.one_of(
    st.integers(-(10**18), 10**18).map(str),
    st.integers(0, 9999).map("{:06d}".format),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda f: repr(f).upper()),
    st.floats(-1e30, 1e30).map(lambda f: f"{f:.6E}".replace("E", "D")),
)
QUOTED = TEXT.map(lambda t: "'" + t.replace("'", "''") + "'")
FIELD = st.one_of(NUMBER, QUOTED, st.sampled_from(["T", "F", ""]), st.tuples(NUMBER, NUMBER).map(lambda p: f"({p[0]}, {p[1]})"))
TAIL = st.from_regex(r"\AKwd [a-z_]{1,12} [A-Z0-9_-]{1,8}\Z")
BYTES = st.text(st.characters(max_codepoint=255), min_size=CARD_LENGTH, max_size=CARD_LENGTH)


def image_of(keyword: str, field: str, indent: int, comment: str) -> str | None:
    """Return a card in the free format, or None when it would not fit."""
    text = f"{keyword:8}= {' ' * indent}{field}"
    text += f" / {comment}" if comment else ""
    return text.ljust(CARD_LENGTH) if len(text) <= CARD_LENGTH else None


def oracle_is_sure(text: str) -> bool:
    """Tell whether astropy reads a card as the Standard has it: it loses its way where quotes and slashes meet."""
    return not ("/" in text and text.count("'") > 2)


def astropy_card(text: str) -> fits.Card:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fits.Card.fromstring(text)


def same(mine, theirs) -> bool:
    if isinstance(theirs, fits.card.Undefined):
        return mine is None
    if isinstance(theirs, float | complex):
        return type(mine) is type(theirs) and (mine == theirs or math.isclose(abs(mine), abs(theirs), rel_tol=1e-15))
    return type(mine) is type(theirs) and mine == theirs


@given(KEYWORD, FIELD, st.integers(0, 20), COMMENT)
def test_astropy_reads_every_legal_card_alike(keyword, field, indent, comment):
    image = image_of(keyword, field, indent, comment)
    if image is None or not oracle_is_sure(image):
        return
    record, oracle = read_record(0, image), astropy_card(image)
    assert (record.keyword, record.kind, record.fault) == (keyword, "value", "")
    assert same(record.value, oracle.value), (record.value, oracle.value)
    assert record.comment == oracle.comment.strip()
    assert is_value_text(record.text)
    assert rename(record, keyword) == (image,)


@given(KEYWORD, FIELD.filter(lambda f: len(f) <= 70), COMMENT, TAIL)
def test_a_written_card_says_what_it_was_given_and_keeps_its_tail(keyword, field, comment, tail):
    cards = write_card(keyword, field, comment, tail)
    assert {len(c) for c in cards} == {CARD_LENGTH}
    assert all(c.isascii() and c.isprintable() for c in cards)
    records = list(read_records(cards))
    if oracle_is_sure("".join(cards)):
        assert same(records[0].value, astropy_card("".join(c for c in cards if not c.startswith("COMMENT"))).value)
    assert records[0].value == value_of(field)
    whole = records[-1].comment if len(records) == 1 else records[-1].text
    assert whole.endswith(tail)
    assert comment.startswith(whole.removesuffix(tail).rstrip()) or len(records) > 1


@given(KEYWORD, st.text(PRINTABLE, max_size=400), COMMENT)
def test_a_string_of_any_length_comes_back(keyword, text, comment):
    cards = write_card(keyword, text_of(text), comment, "Kwd red KEYWORD")
    if "'" not in text + comment:
        assert fits.Header.fromstring("".join(cards))[keyword] == text.rstrip()
    (record,) = read_records(cards)
    assert record.value == text.rstrip()
    assert record.images == cards
    assert record.comment.endswith("Kwd red KEYWORD")


@given(BYTES)
def test_whatever_eighty_bytes_are_is_read_as_something_lawful(image):
    record = read_record(3, image)
    assert record.images == (image,)
    assert record.place == 3
    written = write_card(record.keyword, record.text, record.comment) if record.kind == "value" else None
    for again in read_records(written or write_commentary("COMMENT", record.text)):
        assert not again.fault
        assert fits.Card.fromstring("".join(again.images)).value is not NotImplemented


@pytest.mark.parametrize(
    ("image", "keyword", "value", "fault"),
    [
        ("BARE    = NaN / not a number", "BARE", None, "NaN is no FITS value"),
        ("ActualX =               55.583", "ACTUALX", 55.583, "the keyword 'ActualX'"),
        ("FILTER   ='0,0  '           / sections", "FILTER", "0,0", "the = is not in column 9"),
        ("CLOSE   =5 / no blank", "CLOSE", 5, "no blank after the ="),
        ("EXPO    = 1.0e-05 / lower case", "EXPO", 1e-5, "lower-case exponent"),
        ("OPEN    = 'never closed", "OPEN", "never closed", "the string is not closed"),
        ("WORD    = ready / no quotes", "WORD", "ready", "the value is of no FITS type"),
        ("TEMP    = '21 \xb0C'", "TEMP", "21 ?C", "characters that are not printable ASCII"),
        ("NOVALUE  at all", "COMMENT", "NOVALUE  at all", "no value indicator"),
        ("CONTINUE  'of nothing'", "COMMENT", "CONTINUE  'of nothing'", "CONTINUE without a string"),
    ],
)
def test_a_card_that_fits_forbids_is_mended_and_said(image, keyword, value, fault):
    record = read_record(0, image.ljust(CARD_LENGTH))
    assert (record.keyword, record.value) == (keyword, value)
    assert record.fault.startswith(fault)


def test_hierarch_keeps_its_words_and_its_continuation():
    images = ["HIERARCH ESO  DET  ID = 'one&'".ljust(CARD_LENGTH), "CONTINUE  ' two'".ljust(CARD_LENGTH), "A       = 1".ljust(CARD_LENGTH)]
    first, second = read_records(images)
    assert (first.keyword, first.value, len(first.images)) == ("HIERARCH ESO DET ID", "one two", 2)
    assert second.keyword == "A"


def test_a_long_value_that_is_no_string_tells_its_tail_on_a_line_of_its_own():
    cards = write_card("GRWIDE", "(1.000000000000000000000000E+00, 2.00000000000000000000000E+00)", "wide", "Kwd green WIDE")
    assert [c.rstrip() for c in cards] == [
        "GRWIDE  = (1.000000000000000000000000E+00, 2.00000000000000000000000E+00)",
        "COMMENT GRWIDE: Kwd green WIDE",
    ]
