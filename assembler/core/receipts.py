"""The receipt of an L0 in an archive, as a value and as JSON. One that is read back is data from outside, and is checked as such."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from assembler.core.places import check_part

SUFFIX = ".receipt.json"
LONGEST = 16 << 20
"""Of a receipt [bytes]."""

_FORM = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file holds: how much [bytes], and the SHA-256 of it."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedL0:
    """The L0 that was archived, as it was before.

    Attributes
    ----------
    name : str
        Of the file that was archived; that of a superseded version is another one than OFNAME.
    ofname : str
    content : Content
    version : int or None
        L0VER.
    assembler : str or None
        FAVER: the version of the assembler that made it.
    yaml : str or None
        YAMLSHA.
    """

    name: str
    ofname: str
    content: Content
    version: int | None
    assembler: str | None
    yaml: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSource:
    """A sub-FITS that the L0 was made of; what it held is not known of L0s that do not tell."""

    origin: str
    file: str
    content: Content | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFinding:
    """A row of FINDINGS."""

    code: str
    severity: str
    origin: str
    keyword: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldRule:
    """A rule of the archive, and what it says of the L0."""

    rule: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an archive has of an L0, and what that L0 was.

    Attributes
    ----------
    name : str
        Of the file in the archive.
    content : Content
        Of that file.
    compressed : str or None
        How, where the file is not the L0 itself: ``rice``.
    archived : str
        When, UTC.
    archiver : str
        Version of the assembler that archived it.
    rules : str or None
        SHA-256 of the archive's rules; None where there were none.
    l0 : ReceivedL0
    sources : tuple of ReceivedSource
    findings : tuple of ReceivedFinding
    warnings : tuple of ToldRule
    """

    name: str
    content: Content
    compressed: str | None
    archived: str
    archiver: str
    rules: str | None
    l0: ReceivedL0
    sources: tuple[ReceivedSource, ...]
    findings: tuple[ReceivedFinding, ...]
    warnings: tuple[ToldRule, ...]


def receipt_name(name: str) -> str:
    """Return the name of a file's receipt.

    >>> receipt_name("a.fits")
    'a.fits.receipt.json'
    """
    return name + SUFFIX


def to_json(receipt: Receipt) -> bytes:
    """Write a receipt as JSON, in ASCII."""
    l0 = receipt.l0
    document = {
        "receipt": _FORM,
        "name": receipt.name,
        **asdict(receipt.content),
        "compressed": receipt.compressed,
        "archived": receipt.archived,
        "archiver": receipt.archiver,
        "rules": receipt.rules,
        "l0": {
            "name": l0.name,
            "ofname": l0.ofname,
            **asdict(l0.content),
            "version": l0.version,
            "assembler": l0.assembler,
            "yaml": l0.yaml,
        },
        "sources": [
            {"origin": s.origin, "file": s.file, **(asdict(s.content) if s.content else {"size": None, "sha256": None})}
            for s in receipt.sources
        ],
        "findings": [asdict(found) for found in receipt.findings],
        "warnings": [asdict(told) for told in receipt.warnings],
    }
    return (json.dumps(document, indent=1) + "\n").encode("ascii")


def from_json(text: bytes) -> Receipt:
    """Read a receipt back.

    Raises
    ------
    ValueError
        When it is none, in a few words.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has more than {LONGEST >> 20} MiB")
    try:
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {str(error)[:100]}") from None
    top = _Fields("the receipt", document)
    if top.get("receipt", int) != _FORM:
        raise ValueError(f"it is of another form than {_FORM}")
    l0 = top.inner("l0")
    return Receipt(
        name=_name(top),
        content=_content(top),
        compressed=top.get("compressed", str, optional=True),
        archived=top.get("archived", str),
        archiver=top.get("archiver", str),
        rules=top.get("rules", str, optional=True),
        l0=ReceivedL0(
            name=_name(l0),
            ofname=l0.get("ofname", str),
            content=_content(l0),
            version=l0.get("version", int, optional=True),
            assembler=l0.get("assembler", str, optional=True),
            yaml=l0.get("yaml", str, optional=True),
        ),
        sources=tuple(
            ReceivedSource(
                origin=s.get("origin", str),
                file=s.get("file", str),
                content=None if s.get("size", int, optional=True) is None else _content(s),
            )
            for s in top.rows("sources")
        ),
        findings=tuple(ReceivedFinding(**_texts(f, ReceivedFinding.__slots__)) for f in top.rows("findings")),
        warnings=tuple(ToldRule(**_texts(w, ToldRule.__slots__)) for w in top.rows("warnings")),
    )


class _Fields:
    """An object of JSON whose fields are checked as they are taken."""

    def __init__(self, what: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise ValueError(f"{what} is no object")  # noqa: TRY004 - whatever is wrong with a receipt is one kind of error
        self._what, self._value = what, value

    def get(self, name: str, kind: type, *, optional: bool = False) -> Any:
        value = self._value.get(name)
        if (value is None and optional) or (isinstance(value, kind) and not isinstance(value, bool)):
            return value
        raise ValueError(f"{name} of {self._what} is not {'a text' if kind is str else 'a whole number'}")

    def inner(self, name: str) -> "_Fields":
        return _Fields(name, self._value.get(name))

    def rows(self, name: str) -> Iterator["_Fields"]:
        value = self._value.get(name)
        if not isinstance(value, list):
            raise ValueError(f"{name} of {self._what} is no list")  # noqa: TRY004
        return (_Fields(f"an item of {name}", item) for item in value)


def _texts(fields: _Fields, names: Sequence[str]) -> dict[str, str]:
    return {name: fields.get(name, str) for name in names}


def _name(fields: _Fields) -> str:
    name: str = fields.get("name", str)
    check_part(name)
    return name


def _content(fields: _Fields) -> Content:
    size, sha256 = fields.get("size", int), fields.get("sha256", str)
    if not 0 <= size < _MOST_BYTES or not _DIGEST.fullmatch(sha256):
        raise ValueError("it has a size or a SHA-256 that is none")
    return Content(size=size, sha256=sha256)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
