"""The headers of an L0 without its pixels: as HDUs of a FITS file, as YAML, and as JSON for `astro_metadata_translator`.

All three are made of the same cards. YAML has each card twice: as keyword, value and comment, and as it stands in the L0. JSON has
the primary alone, as the sidecar of the L0.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assembler.core.cards import COMMENTARY, Record, keyword_of, read_records, shown, text_of, write_card, write_commentary
from assembler.core.plan import Plan, Source
from assembler.core.primary import HEADERS_ALONE
from assembler.core.tables import Table

YAML_BEGINS = "# The headers of an L0, without its pixels.\n"
JSON_BEGINS = '{\n "__CONTENT__": "metadata",\n'
"""What every such file begins with, by which it is known."""

_STRUCTURE = frozenset({"SIMPLE", "BITPIX", "NAXIS", "EXTEND"})
_SUMS = frozenset({"CHECKSUM", "DATASUM"})
_OF_DATA = frozenset({"ZIMAGE", "ZTABLE", "THEAP"})
"""Cards that an HDU may have only with its data: that they are compressed tiles, and where the heap is."""

_SUFFIX = ".fits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of one HDU of an L0.

    Attributes
    ----------
    name : str
        Its EXTNAME, or ``PRIMARY``.
    cards : tuple of str
        Without END; CHECKSUM and DATASUM are among them where the L0 is there.
    rows : bytes
        The data of a table of the L0's own.
    has_pixels : bool
        Whether the HDU has data of a sub-FITS.
    """

    name: str
    cards: tuple[str, ...]
    rows: bytes = b""
    has_pixels: bool = False


def planned_headers(plan: Plan) -> tuple[Header, ...]:
    """Return the headers that a plan has; the checksums are not known before there is an L0."""
    return tuple(
        Header(
            name=hdu.name,
            cards=hdu.cards,
            rows=hdu.data.data() if isinstance(hdu.data, Table) else b"",
            has_pixels=isinstance(hdu.data, Source),
        )
        for hdu in plan.hdus
    )


def without_pixels(headers: Sequence[Header], filename: str) -> tuple[Header, ...]:
    """Return the HDUs of a FITS file that has the headers of an L0 and the rows of its own tables, and no pixels.

    An HDU that loses its data keeps all of its structure but the length of its last axis, which is 0, as FITS allows for an HDU
    without data (Standard 4.4.1.1); so what tells of its axes, or of its columns, stays lawful. HISTORY tells what the L0 has instead.

    Parameters
    ----------
    headers : sequence of Header
    filename : str
        The L0's name.
    """
    primary, *extensions = headers
    is_whole = not any(keyword_of(card) == HEADERS_ALONE for card in primary.cards)
    if is_whole:
        primary = replace(primary, cards=_of_no_l0(primary.cards, filename))
    return tuple(replace(h, cards=_emptied(h), has_pixels=False) for h in (primary, *extensions))


def yaml_text(headers: Sequence[Header]) -> Iterator[str]:
    """Yield YAML (1.1 and 1.2 alike): a list of HDUs, each with its name, its cards as values, and its cards as they stand.

    Every string is quoted, so that none of them is taken for anything else.

    >>> print("".join(yaml_text([Header(name="PRIMARY", cards=write_card("FLAG", text_of("NO"), "yes?"))])), end="")
    # The headers of an L0, without its pixels.
    - name: 'PRIMARY'
      header:
      - {keyword: 'FLAG', value: 'NO', comment: 'yes?'}
      cards: |2+
        FLAG    = 'NO      '           / yes?
    """
    yield YAML_BEGINS
    for header in headers:
        yield f"- name: {_quoted(header.name)}\n  header:\n"
        for record in read_records(header.cards):
            told = f"keyword: {_quoted(record.keyword)}, value: {_yaml_value(_plain(record))}"
            comment = "" if record.kind == "commentary" else f", comment: {_quoted(record.comment)}"
            yield f"  - {{{told}{comment}}}\n"
        yield "  cards: |2+\n"
        for card in header.cards:
            yield f"    {card}".rstrip() + "\n"


def json_text(primary: Header) -> str:
    """Return the primary as a sidecar of the L0: JSON with a keyword each, as `astro_metadata_translator` reads it.

    COMMENT and HISTORY are lists, and so is another keyword that stands there more than once.
    """
    text = json.dumps(metadata(primary), indent=1, allow_nan=False) + "\n"
    assert text.startswith(JSON_BEGINS)
    return text


def metadata(primary: Header) -> dict[str, Any]:
    """Return by keyword what the cards of a primary say.

    >>> metadata(Header(name="PRIMARY", cards=(*write_card("A", "1.0D+05"), *write_card("B", ""), *write_commentary("HISTORY", "x"))))
    {'__CONTENT__': 'metadata', 'A': 100000.0, 'B': None, 'HISTORY': ['x']}
    """
    values: dict[str, list[Any]] = {}
    lists = set()
    for record in read_records(primary.cards):
        values.setdefault(record.keyword, []).append(_plain(record))
        if record.keyword in COMMENTARY or len(values[record.keyword]) > 1:
            lists.add(record.keyword)
    return {"__CONTENT__": "metadata", **{keyword: told if keyword in lists else told[0] for keyword, told in values.items()}}


def _of_no_l0(cards: Sequence[str], filename: str) -> tuple[str, ...]:
    """Return the cards of a primary that nobody takes for that of an L0: it has another name, and says so first of all."""
    start = next((place for place, card in enumerate(cards) if keyword_of(card) not in _STRUCTURE), len(cards))
    rest: list[str] = []
    for record in read_records(cards[start:]):
        if record.keyword == "OFNAME":
            name = f"{filename.removesuffix(_SUFFIX)}.headers{_SUFFIX}"
            rest += write_card("OFNAME", text_of(name), "name of this file")
        else:
            rest += record.images
    mark = write_card(HEADERS_ALONE, text_of(filename), "the L0; this file has its headers alone")
    return (*cards[:start], *mark, *rest)


def _emptied(header: Header) -> tuple[str, ...]:
    """Return the cards of an HDU as they are without its pixels, and without checksums."""
    if not header.has_pixels:
        return tuple(card for card in header.cards if keyword_of(card) not in _SUMS)
    last = next(f"NAXIS{r.value}" for r in read_records(header.cards) if r.keyword == "NAXIS")
    cards: list[str] = []
    lost: list[str] = []
    for record in read_records(header.cards):
        keyword = record.keyword
        is_length = keyword in (last, "PCOUNT") and record.value != 0
        if is_length:
            cards += write_card(keyword, text_of(0), record.comment)
        elif keyword not in _SUMS and not (keyword in _OF_DATA and record.kind == "value"):
            cards += record.images
            continue
        if keyword != "CHECKSUM":  # which is that of the L0's header
            lost += write_commentary("HISTORY", f"In the L0, {keyword} is {shown(record.text)}")
    return (*cards, *write_commentary("HISTORY", "The data of this HDU are not in this file."), *lost)


def _plain(record: Record) -> str | bool | float | None:
    """Return a value that YAML and JSON have; what they have not, a complex number or one that is too large, is text."""
    value = record.value
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        return record.text.strip()
    return value


def _yaml_value(value: str | bool | float | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    text = repr(value)
    mantissa, separator, exponent = text.partition("e")
    return f"{mantissa}.0e{exponent}" if separator and "." not in mantissa else text  # YAML 1.1 takes 1e+16 for text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
