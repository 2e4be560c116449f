"""Receipts and SHA256SUMS: written, read back, and read as what a stranger may have written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.checksum_lines import digests_in, with_digests
from assembler.core.receipts import (
    LONGEST,
    Content,
    Receipt,
    ReceivedFinding,
    ReceivedL0,
    ReceivedSource,
    ToldRule,
    from_json,
    to_json,
)

DIGEST = "0123456789abcdef" * 4
TEXT = st.text(max_size=20)
NAME = st.from_regex(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,20}", fullmatch=True)
CONTENT = st.builds(Content, size=st.integers(0, 2**50), sha256=st.text("0123456789abcdef", min_size=64, max_size=64))
RECEIPT = st.builds(
    Receipt,
    name=NAME,
    content=CONTENT,
    compressed=st.sampled_from([None, "rice"]),
    archived=TEXT,
    archiver=TEXT,
    rules=st.one_of(st.none(), TEXT),
    l0=st.builds(ReceivedL0, name=NAME, ofname=TEXT, content=CONTENT, version=st.one_of(st.none(), st.integers(1, 99)),
                 assembler=st.one_of(st.none(), TEXT), yaml=st.one_of(st.none(), TEXT)),
    sources=st.lists(st.builds(ReceivedSource, origin=TEXT, file=TEXT, content=st.one_of(st.none(), CONTENT)), max_size=3).map(tuple),
    findings=st.lists(st.builds(ReceivedFinding, code=TEXT, severity=TEXT, origin=TEXT, keyword=TEXT, message=TEXT), max_size=3).map(tuple),
    warnings=st.lists(st.builds(ToldRule, rule=TEXT, message=TEXT), max_size=3).map(tuple),
)  # fmt: skip
PLAIN = Receipt(
    name="a.fits",
    content=Content(size=1, sha256=DIGEST),
    compressed=None,
    archived="2024-04-22T10:00:00",
    archiver="1",
    rules=None,
    l0=ReceivedL0(name="a.fits", ofname="a.fits", content=Content(size=1, sha256=DIGEST), version=1, assembler="1", yaml=None),
    sources=(ReceivedSource(origin="red", file="r.fits", content=None),),
    findings=(ReceivedFinding(code="c", severity="info", origin="", keyword="", message="m"),),
    warnings=(),
)


@given(RECEIPT)
def test_a_receipt_that_is_read_back_is_the_same(receipt):
    text = to_json(receipt)
    assert text.isascii()
    assert from_json(text) == receipt


@given(st.binary(max_size=200))
def test_whatever_is_no_receipt_is_an_error_of_one_kind(text):
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("receipt",), 2),
        (("receipt",), True),
        (("name",), "../a.fits"),
        (("name",), None),
        (("size",), -1),
        (("size",), 1.5),
        (("size",), True),
        (("size",), 2**70),
        (("sha256",), "abc"),
        (("sha256",), DIGEST.upper()),
        (("l0",), None),
        (("l0", "name"), "a/b"),
        (("l0", "version"), "1"),
        (("l0", "sha256"), None),
        (("sources",), {}),
        (("sources",), [1]),
        (("sources", 0, "size"), 7),
        (("findings", 0, "message"), 1),
        (("warnings",), None),
        (("compressed",), 1),
    ],
)
def test_a_receipt_with_a_field_that_is_none_is_no_receipt(place, value):
    document = json.loads(to_json(PLAIN))
    inner = document
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=r"."):
        from_json(json.dumps(document).encode())


@pytest.mark.parametrize(
    "text", [b"[" * 200_000, b'{"receipt": NaN}', b'{"receipt": ' + b"1" * 10_000 + b"}", b" " * (LONGEST + 1), b"\xff"]
)
def test_a_receipt_that_means_harm_is_no_receipt(text):
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


@given(st.binary(max_size=300), st.dictionaries(NAME, st.just(DIGEST), max_size=4))
def test_every_line_that_is_there_stays_and_every_file_gets_one(text, digests):
    told = with_digests(text, digests)
    assert told.startswith(text)
    assert digests_in(told) == digests | digests_in(text)
    assert with_digests(told, digests) == told


@pytest.mark.parametrize(
    "line",
    [f"{DIGEST}  a.fits", f"{DIGEST} *a.fits", f"{DIGEST.upper()}  a.fits", f"SHA256 (a.fits) = {DIGEST}"],
)
def test_every_form_of_a_line_is_known(line):
    assert digests_in(f"# comment\n{line}\n".encode()) == {"a.fits": DIGEST}
    assert with_digests(line.encode(), {"a.fits": "f" * 64}) == line.encode()
