"""One card: eighty characters, read on demand and written again without touching what they say.

A header is a tuple of 80-character strings, decoded from its bytes as Latin-1, so that every byte is one
character and nothing is lost. A `Record` is one card together with the CONTINUE cards that belong to it.
Rules are those of the FITS Standard 4.0, sections 4.1 and 4.2.
"""

import re
from collections.abc import Sequence
from itertools import count, repeat
from typing import Literal, NamedTuple

CARD_LENGTH = 80
VALUE_COLUMN = 10
FIXED_WIDTH = 20
"""Columns 11 to 30, where the fixed format puts a value."""

COMMENTARY = frozenset({"COMMENT", "HISTORY", ""})
Kind = Literal["value", "commentary", "hierarch"]
Value = str | bool | int | float | complex | None

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[ED][+-]?\d+)?"
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8} *")
_VALUE = rf" *(?:'(?:[^']++|'')*+'|[TF](?![^ /])|{_NUMBER}(?![^ /])|\( *{_NUMBER} *, *{_NUMBER} *\)|)"
_FIELD = re.compile(rf"({_VALUE}) *(?:/(.*))?")
_PRINTABLE_VALUE = _VALUE.replace("[^']", "[ -&(-~]")
_LAWFUL = rf"(?=.{{8}}= )([A-Z0-9_-]++) *+= ({_PRINTABLE_VALUE}) *+(?:/([ -~]*+))?"
_CARD = re.compile(_LAWFUL, re.ASCII)
_LINE = re.compile(rf"(?:{_LAWFUL}|[ -~]*+)\n", re.ASCII)
_CONTINUED = re.compile(r"CONTINUE  +'((?:[^']++|'')*+)' *(?:/(.*))?")
_SLOPPY = re.compile(r" *([A-Za-z0-9_-]{1,8}) *=(.*)")
_HIERARCH = re.compile(r"HIERARCH +([^=]*?) *=(.*)")
_LOWER_EXPONENT = re.compile(r"(?i)( *)([+-]?(?:\d+\.?\d*|\.\d+)[ed][+-]?\d+) *(?:/(.*))?")
_NOT_A_NUMBER = re.compile(r"(?i) *[+-]?(?:nan|inf|infinity) *(?:/(.*))?")
_INTEGER = re.compile(r"[+-]?\d+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d*)?)?|\d\d/\d\d/\d\d")
_PRINTABLE = bytes(range(ord(" "), ord("~") + 1))
_NO_VALUE = "no value indicator"


class Record(NamedTuple):
    """One card, or a long string's card with its CONTINUE cards.

    A tuple, not a dataclass: an exposure has thousands, and a tuple is made in a third of the time.

    Attributes
    ----------
    place : int
        Place of the first card in its header, from 0.
    images : tuple of str
        The cards as they were, 80 characters each.
    keyword : str
        The lawful keyword; of a HIERARCH card, the words before its ``=``.
    original : str
        The keyword as it was written.
    kind : str
        ``value``, ``commentary`` or ``hierarch``.
    text : str
        Of a value, its field as written, from column 11 on; of commentary, the free text.
    comment : str
        The comment, without blanks around it.
    fault : str
        What the FITS Standard forbids about it, or the empty string. The other attributes are lawful all the same.
    corrected : bool
        Whether ``text`` is another one than that of ``images``.
    """

    place: int
    images: tuple[str, ...]
    keyword: str
    original: str
    kind: Kind
    text: str
    comment: str
    fault: str = ""
    corrected: bool = False

    @property
    def value(self) -> Value:
        """The value as Python has it."""
        return value_of(self.text) if self.kind != "commentary" else self.text.rstrip()


def keyword_of(image: str) -> str:
    """Return the keyword in the first eight columns.

    >>> keyword_of("NAXIS   =                    0".ljust(80))
    'NAXIS'
    """
    return image[:8].rstrip(" ")  # and of nothing else that Python takes for a blank


def value_of(text: str) -> Value:
    """Return what a lawful value field says: str, bool, int, float, complex, or None when it is undefined.

    >>> value_of("'it''s   '"), value_of("   T"), value_of("0007"), value_of("1.0D+05"), value_of("  ")
    ("it's", True, 7, 100000.0, None)
    """
    text = text.strip()
    if not text:
        return None
    if text[0] == "'":
        return text[1:-1].replace("''", "'").rstrip()
    if text in ("T", "F"):
        return text == "T"
    if text[0] == "(":
        return complex(*map(_float, text[1:-1].split(",")))
    return int(text) if _INTEGER.fullmatch(text) else _float(text)


def is_value_text(text: str) -> bool:
    """Tell whether a value field is lawful as it stands.

    >>> is_value_text("-2.5E+03"), is_value_text("NaN"), is_value_text("'open")
    (True, False, False)
    """
    return (found := _FIELD.fullmatch(text)) is not None and found.group(2) is None


def read_records(images: Sequence[str]) -> list[Record]:
    """Read a header, each CONTINUE card with the string that it continues.

    >>> [r.value for r in read_records(["A       = 'one&'".ljust(80), "CONTINUE  ' two' / both".ljust(80)])]
    ['one two']
    """
    together = "".join(images)
    keywords, texts, comments = zip(*_read_lawful(images, together), strict=True) if images else ((), (), ())
    fields = (count(), zip(images), keywords, keywords, repeat("value"), texts, map(str.strip, comments), repeat(""), repeat(False))
    records = list(map(tuple.__new__, repeat(Record), zip(*fields, strict=False)))  # in half the time that calling `Record` takes
    if not all(keywords):
        records = [record if record.keyword else read_record(record.place, record.images[0]) for record in records]
    return _continued(records, images) if "&'" in together else records


def read_record(place: int, image: str) -> Record:
    """Read one card; where the Standard forbids what it says, read it as a lawful card would have said it."""
    if len(image) != CARD_LENGTH:
        raise ValueError(f"a card has {CARD_LENGTH} characters, not {len(image)}: {image!r}")
    if found := _CARD.fullmatch(image):
        keyword, text, comment = found.groups()
        return Record(place, (image,), keyword, keyword, "value", text, comment.strip() if comment else "")
    return _read_unusual(place, image)


def write_card(keyword: str, text: str, comment: str = "", tail: str = "") -> tuple[str, ...]:
    """Write a value card, with CONTINUE cards where a string needs them.

    Parameters
    ----------
    keyword : str
        At most eight characters.
    text : str
        The value field as it is to stand, for example ``'GMT     '`` with its quotes, or ``1.0D+05``.
    comment : str
        Free text; trimmed where there is no room for it.
    tail : str
        The end of the comment, which is never cut.

    Returns
    -------
    tuple of str
        The cards, 80 characters each.

    >>> write_card("RDTM_ZO", "'GMT     '", "time zone", "Kwd red TM_ZONE")[0].rstrip()
    "RDTM_ZO = 'GMT     '           / time zone Kwd red TM_ZONE"
    """
    start, text, comment = f"{keyword:8}= ", text.rstrip(), comment.rstrip()
    field = text.ljust(FIXED_WIDTH)
    told = f"{comment} {tail}" if comment and tail else comment or tail
    whole = f"{start}{field} / {told}" if told else start + field
    if len(whole) <= CARD_LENGTH:  # as nearly always
        return (whole.ljust(CARD_LENGTH),)
    room = CARD_LENGTH - VALUE_COLUMN - (len(tail) + 3 if tail else 0)
    if len(field) > room:
        field = text.strip()
    if len(field) <= room:
        return (_with_comment(start + field, comment, tail),)
    if not text.lstrip().startswith("'"):
        if VALUE_COLUMN + len(text.strip()) > CARD_LENGTH:
            raise ValueError(f"the value of {keyword} does not fit on a card: {text.strip()}")
        return ((start + text.strip()).ljust(CARD_LENGTH), *write_commentary("COMMENT", f"{keyword}: {tail}"))
    return _write_long(start, text.strip()[1:-1], comment, tail)


def write_commentary(keyword: str, text: str) -> tuple[str, ...]:
    """Write free text as COMMENT, HISTORY or blank-keyword cards, as many as it needs.

    >>> [card.rstrip() for card in write_commentary("COMMENT", "seen twice")]
    ['COMMENT seen twice']
    """
    room = CARD_LENGTH - 8
    return tuple(f"{keyword:8}{text[i : i + room]:{room}}" for i in range(0, max(len(text), 1), room))


def text_of(value: Value) -> str:
    """Return the value field for a Python value, in the fixed format.

    >>> text_of("KPF"), text_of(True).strip(), text_of(9.5e-06).strip(), text_of(None)
    ("'KPF     '", 'T', '9.5E-06', '')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return "'" + printable_text(value).replace("'", "''").ljust(8) + "'"
    text = ("T" if value else "F") if isinstance(value, bool) else repr(value).upper()
    if isinstance(value, float) and not (value - value == 0):
        raise ValueError(f"FITS has no card for the number {value}")
    if isinstance(value, complex):
        text = f"({value.real!r}, {value.imag!r})".upper()
    return text.rjust(FIXED_WIDTH)


def shown(text: str) -> str:
    """Return a value field as it is told to people.

    >>> shown("                   0"), shown("'GMT     '"), shown("  ")
    ('0', "'GMT'", 'undefined')
    """
    value = value_of(text)
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else text.strip() or "undefined"


def is_printable(text: str) -> bool:
    r"""Tell whether a header can hold every character of a text: printable ASCII.

    >>> is_printable("21 um"), is_printable("21 µm"), is_printable("two\nlines")
    (True, False, False)
    """
    # What remains without them is looked for: in long text, that takes a sixth of what str.isprintable does.
    return text.isascii() and not text.encode("ascii").translate(None, _PRINTABLE)


def printable_text(text: str) -> str:
    """Return text with each character that a header cannot hold shown as ``?``.

    >>> printable_text("21 µm")
    '21 ?m'
    """
    return text if is_printable(text) else re.sub(r"[^ -~]", "?", text)


def stands_in_an_extension(record: Record) -> bool:
    """Tell whether the Standard allows a card as it is; one without a value is lawful where nobody has to name it anew.

    >>> stands_in_an_extension(read_record(0, "READY   as it is".ljust(80)))
    True
    """
    return not record.fault or (record.fault == _NO_VALUE and bool(_KEYWORD.fullmatch(record.images[0][:8])))


def date_fault(record: Record) -> str:
    """Say what is wrong with a date: a keyword that begins with DATE tells one (FITS Standard 4.4.2 and 9.1.1).

    >>> date_fault(read_record(0, "DATE-OBS= 'Tuesday'".ljust(80)))
    'no date as FITS writes it'
    """
    if not record.keyword.startswith("DATE") or record.kind != "value":
        return ""
    value = record.value
    return "" if isinstance(value, str) and _DATE.fullmatch(value.strip()) else "no date as FITS writes it"


def rename(record: Record, keyword: str) -> tuple[str, ...]:
    """Return a record's cards under another keyword, with everything else as it was.

    >>> record = read_record(0, "DATASEC1= '[1:9,1:9]'         / left".ljust(80))
    >>> rename(record, "DATASEC")[0].rstrip()
    "DATASEC = '[1:9,1:9]'         / left"
    """
    if record.fault or record.corrected or record.kind == "hierarch":
        return write_card(keyword, record.text, record.comment)
    return (f"{keyword:8}{record.images[0][8:]}", *record.images[1:])


def _read_lawful(images: Sequence[str], together: str) -> list[tuple[str, str, str]]:
    """Read all lawful value cards at once: keyword, field, comment; empty strings for other cards, or for all where lines are no cards."""
    if not is_printable(together) or set(map(len, images)) != {CARD_LENGTH}:
        return [("", "", "")] * len(images)
    return _LINE.findall("\n".join((*images, "")))


def _continued(records: Sequence[Record], images: Sequence[str]) -> list[Record]:
    """Return records of single cards with each CONTINUE card in the record of the string that it continues."""
    result: list[Record] = []
    for record in records:
        if not result or record.place >= result[-1].place + len(result[-1].images):
            continues = record.text.endswith("&'") and record.kind != "commentary"
            result.append(_with_continuation(record, images) if continues else record)
    return result


def _with_continuation(record: Record, images: Sequence[str]) -> Record:
    """Return a record of a string with the CONTINUE cards behind it, as far as they continue it."""
    pieces, comments = [record.text[:-1]], [record.comment]
    start = index = record.place + 1
    while pieces[-1].endswith("&") and index < len(images) and (found := _CONTINUED.fullmatch(printable_text(images[index]))):
        pieces[-1] = pieces[-1][:-1]
        pieces.append(found.group(1).rstrip())
        comments.append((found.group(2) or "").strip())
        index += 1
    if index == start:
        return record
    return record._replace(
        images=tuple(images[record.place : index]),
        text="".join(pieces) + "'",
        comment=" ".join(c for c in comments if c),
        fault=record.fault or next((f for i in images[start:index] if (f := _character_fault(i))), ""),
    )


def _read_unusual(place: int, image: str) -> Record:
    """Read a card that is no plain value card: commentary, HIERARCH, or one that the Standard forbids."""

    def record(keyword: str, kind: Kind, text: str, comment: str, fault: str, original: str | None = None) -> Record:
        return Record(place, (image,), keyword, keyword if original is None else original, kind, text, comment, fault)

    fault = _character_fault(image)
    clean = printable_text(image)
    head = clean[:8].rstrip()
    if head in COMMENTARY:
        return record(head, "commentary", clean[8:].rstrip(), "", fault)
    if head == "HIERARCH" and (found := _HIERARCH.match(clean)):
        text, comment, value_fault = _read_field(found.group(2))
        words = " ".join(found.group(1).split())
        return record(f"HIERARCH {words}", "hierarch", text, comment, fault or value_fault)
    if (clean[8] == "=" and head != "CONTINUE") or (head == "CONTINUE" and clean[8:10] == "= "):
        text, comment, value_fault = _read_field(clean[9:] if clean[9] != " " else clean[10:])
        keyword, keyword_fault = _lawful(head)
        spacing = "" if clean[9] == " " else "no blank after the ="
        return record(keyword, "value", text, comment, fault or keyword_fault or spacing or value_fault, clean[:8].strip())
    if head != "CONTINUE" and (found := _SLOPPY.fullmatch(clean)):
        text, comment, _ = _read_field(found.group(2))
        keyword, _ = _lawful(found.group(1))
        return record(keyword, "value", text, comment, fault or "the = is not in column 9", found.group(1))
    if head == "CONTINUE":
        return record("COMMENT", "commentary", clean.rstrip(), "", fault or "CONTINUE without a string to continue", "CONTINUE")
    original = clean.split(maxsplit=1)[0][:8]
    return record("COMMENT", "commentary", clean.rstrip(), "", fault or _NO_VALUE, original)


def _read_field(text: str) -> tuple[str, str, str]:
    """Return (lawful value field, comment, fault) of what stands after a value indicator."""
    if found := _FIELD.fullmatch(text.rstrip()):
        return found.group(1), (found.group(2) or "").strip(), ""
    if found := _LOWER_EXPONENT.fullmatch(text):
        return found.group(1) + found.group(2).upper(), (found.group(3) or "").strip(), "lower-case exponent"
    if found := _NOT_A_NUMBER.fullmatch(text):
        return "", (found.group(1) or "").strip(), f"{text.split('/', maxsplit=1)[0].strip()} is no FITS value"
    text = text.strip()
    if text.startswith("'") and text.count("'") == 1:
        return text_of(text[1:].rstrip()), "", "the string is not closed"
    value, _, comment = text.partition(" /")
    return text_of(value.strip()), comment.strip(), "the value is of no FITS type"


def _lawful(keyword: str) -> tuple[str, str]:
    """Return (keyword that FITS allows, fault)."""
    if _KEYWORD.fullmatch(keyword):
        return keyword, ""
    lawful = re.sub(r"[^A-Z0-9_-]", "_", keyword.strip().upper())
    return lawful, f"the keyword {keyword.strip()!r} is not upper case, digits, - and _ from column 1"


def _character_fault(image: str) -> str:
    return "" if is_printable(image) else "characters that are not printable ASCII"


def _float(text: str) -> float:
    return float(text.replace("D", "E"))


def _with_comment(start: str, comment: str, tail: str) -> str:
    """Finish a card with as much of the comment as fits, and the whole tail."""
    room = CARD_LENGTH - len(start) - 3
    free = room - len(tail) - 1 if tail else room
    told = comment[:free].rstrip() if free > 0 else ""
    if tail:
        told = f"{told} {tail}" if told else tail[: max(room, 0)]
    return (f"{start} / {told}" if told else start).ljust(CARD_LENGTH)


def _write_long(start: str, body: str, comment: str, tail: str) -> tuple[str, ...]:
    """Write a string over several cards; a doubled quote is never split (FITS Standard 4.2.1.2)."""
    room = CARD_LENGTH - VALUE_COLUMN - 3
    pieces = []
    while len(body) > room:
        cut = room
        quotes = len(body[:cut]) - len(body[:cut].rstrip("'"))
        cut -= quotes % 2
        pieces.append(body[:cut])
        body = body[cut:]
    needed = len(tail) + 3 if tail else 0
    pieces.append(body)
    if VALUE_COLUMN + 2 + len(body) + needed > CARD_LENGTH:
        pieces.append("")
    heads = [start, *["CONTINUE  "] * (len(pieces) - 1)]
    cards = [f"{head}'{piece}&'".ljust(CARD_LENGTH) for head, piece in zip(heads[:-1], pieces[:-1], strict=True)]
    return (*cards, _with_comment(f"{heads[-1]}'{pieces[-1]}'", comment, tail))
