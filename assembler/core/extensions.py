"""An HDU of a sub-FITS as an extension of the L0: its name, and its header with every card where it was."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

from assembler.core.cards import (
    Record,
    date_fault,
    keyword_of,
    rename,
    stands_in_an_extension,
    write_card,
    write_commentary,
)
from assembler.core.exposure import Hdu, SubFits
from assembler.core.findings import Finding, finding
from assembler.core.instrument import Origin

_ORDERED = frozenset({"XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS"})
_STRUCTURE = frozenset(
    {"SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS", "BLOCKED", "CHECKSUM", "DATASUM", "END"}
)
_ARRAY = frozenset({"BSCALE", "BZERO", "BLANK"})
_STORAGE = re.compile(
    r"BSCALE|BZERO|BLANK|TFIELDS|(?:TFORM|TBCOL|TDIM|TSCAL|TZERO|TNULL)\d+|THEAP|Z(?:SIMPLE|TENSION|EXTEND|BLOCKED|BITPIX|NAXIS\d*"
    r"|PCOUNT|GCOUNT|HECKSUM|DATASUM|IMAGE|TABLE|CMPTYPE|MASKCMP|QUANTIZ|DITHER0|SCALE|ZERO|BLANK|TILELEN|THEAP"
    r"|(?:TILE|NAME|VAL|FORM|CTYP)\d+)"
)
_NAME_LENGTH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """An HDU that becomes the extension ``name``."""

    name: str
    hdu: Hdu


class Placement(NamedTuple):
    """Where an input card went: its fate, the extension, and the keyword it has there."""

    fate: str
    extension: str = ""
    keyword: str = ""


placement = partial(tuple.__new__, Placement)
"""Makes a placement of all that it has: in half the time that calling `Placement` takes, and an exposure has thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionHeader:
    """The cards of an extension without CHECKSUM, DATASUM and END, and by index where each input card went."""

    cards: tuple[str, ...]
    placements: tuple[Placement, ...]


@lru_cache(maxsize=4096)
def is_structure(keyword: str) -> bool:
    """Tell whether a card only describes the file that it is in."""
    return keyword in _STRUCTURE or _is_length(keyword)


@lru_cache(maxsize=4096)
def is_primary_structure(keyword: str) -> bool:
    """Tell whether a card of a primary without data only describes the file that it is in."""
    return keyword in _ARRAY or is_structure(keyword)


@lru_cache(maxsize=4096)
def _passes(keyword: str) -> bool:
    """Tell whether a lawful value card of an extension stays as it is: it describes no file, and tells no date."""
    return not (is_structure(keyword) or keyword in _ORDERED or keyword == "EXTNAME" or keyword.startswith("DATE"))


def tells_how_data_are_stored(keyword: str) -> bool:
    """Tell whether a card says what the bytes of a data unit mean, so that it is right for them or nobody can read them.

    >>> tells_how_data_are_stored("TFORM2"), tells_how_data_are_stored("EXPTIME")
    (True, False)
    """
    return bool(_STORAGE.fullmatch(keyword)) or is_structure(keyword)


def _is_length(keyword: str) -> bool:
    """Tell whether a keyword is NAXIS1, NAXIS2 and so on."""
    return keyword.startswith("NAXIS") and keyword[5:].isdecimal()


def select_extensions(origin: Origin, sub: SubFits, taken: set[str]) -> tuple[tuple[Selected, ...], tuple[Finding, ...]]:
    """Choose the HDUs that become extensions, in the order of the YAML, and name those that it does not list.

    Parameters
    ----------
    taken : set of str
        Extension names in use, in upper case; those chosen here are added.
    """
    carrying = [h for h in sub.hdus if h.index or h.length]
    chosen, findings = [], []
    for extension in origin.extensions:
        hdu = next((h for h in carrying if _answers(h, extension.hdu)), None)
        if hdu:
            carrying.remove(hdu)
            taken.add(extension.name.upper())
            chosen.append(Selected(name=extension.name, hdu=hdu))
    names = {s.name for s in chosen}
    mode = sum(name in names for name in origin.amplifiers)
    modes = {m for card in origin.amplifier_cards for m in card.modes}
    for extension in origin.extensions:
        if extension.name not in names and not (extension.name in origin.amplifiers and mode in modes):
            message = f"{sub.path} has no HDU {extension.hdu!r}, which would be {extension.name}"
            findings.append(finding("hdu-missing", message, origin=origin.name))
    if modes and mode not in modes:
        told = f"{sub.path} has {mode} amplifier HDUs; the YAML knows {', '.join(map(str, sorted(modes)))}"
        findings.append(finding("read-mode-unknown", told, origin=origin.name))
    numbers: dict[str, int] = {}
    for hdu in carrying:
        name = _free_extension(f"{origin.name}_{hdu.extname or hdu.index}".upper(), taken, numbers)
        taken.add(name)
        chosen.append(Selected(name=name, hdu=hdu))
        told = f"{sub.path}, HDU {hdu.index} ({hdu.extname or 'no EXTNAME'}) is {name} in the L0"
        findings.append(finding("hdu-unlisted", told, origin=origin.name))
    return tuple(chosen), tuple(findings)


def extension_header(selected: Selected, additions: Sequence[str], origin: str, path: str) -> tuple[ExtensionHeader, tuple[Finding, ...]]:
    """Write the header of an extension: structure in its lawful order, then every card as it was.

    Parameters
    ----------
    selected : Selected
    additions : sequence of str
        Amplifier cards that end up here.
    origin, path : str
        For the findings.
    """
    hdu, name = selected.hdu, selected.name
    structure: dict[str, tuple[str, ...]] = {}
    body: list[str] = []
    placements: list[Placement] = []
    findings: list[Finding] = []
    named = False
    for record in hdu.records():
        if _passes(record.keyword) and not (record.fault or record.corrected) and record.kind == "value":  # as nearly all do
            body += record.images
            placements += [placement(("kept", name, record.keyword))] * len(record.images)
            continue
        keyword, cards = record.keyword, rename(record, record.keyword) if record.corrected else record.images
        fault = date_fault(record) if not record.fault or stands_in_an_extension(record) else record.fault
        if fault:
            cards = _mended(record)
            if record.fault or not record.corrected:  # what a correction did is not the sub-FITS's fault
                told = f"{path}, HDU {hdu.index}, card {record.place + 1}: {fault}: {record.images[0].rstrip()!a}"
                findings.append(finding("card-mended", told, origin=origin, keyword=record.original))
        fate, place, now = "kept", name, keyword_of(cards[0])
        if record.kind != "value":
            body += cards
        elif keyword == "EXTNAME":
            fate = "structure"
            if not named:
                named = True
                body += cards if record.value == name else write_card("EXTNAME", f"'{name:8}'", record.comment)
        elif keyword not in structure and (keyword in _ORDERED or _is_length(keyword)):
            structure[keyword] = cards
            fate = "structure"
        elif keyword in structure or is_structure(keyword):
            fate, place, now = "structure", "", ""
        else:
            body += cards
        placements += [Placement(fate, place, now)] * len(record.images)
    if not named:
        body = [*write_card("EXTNAME", f"'{name:8}'", "extension name"), *body]
    ordered = _ordered(structure)
    return ExtensionHeader(cards=(*ordered, *body, *additions), placements=tuple(placements)), tuple(findings)


def empty_header(name: str, origin: str) -> tuple[str, ...]:
    """Write the header of an extension that stands in for one that is missing."""
    return (*_ordered({}), *write_card("EXTNAME", f"'{name:8}'", f"stands in: {origin} is missing"))


def _answers(hdu: Hdu, selector: int | str) -> bool:
    if isinstance(selector, int):
        return hdu.index == selector
    name, _, version = selector.partition(",")
    return hdu.extname == name.strip() and (not version or (hdu.value("EXTVER") or 1) == int(version))


def _free_extension(name: str, taken: set[str], numbers: dict[str, int]) -> str:
    """Return a name that is not taken; numbers has, by name, the last number that was tried, so that none is tried twice."""
    base = re.sub(r"[^A-Z0-9_-]", "_", name)[:_NAME_LENGTH]
    free = base
    while free in taken:
        numbers[base] = numbers.get(base, 1) + 1
        free = f"{base}_{numbers[base]}"
    return free


def _ordered(structure: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the structural cards in the order that the Standard asks for; those of an image where none are given."""
    cards = list(structure.get("XTENSION", write_card("XTENSION", "'IMAGE   '", "image extension")))
    cards += structure.get("BITPIX", write_card("BITPIX", f"{8:20}", "array data type"))
    cards += structure.get("NAXIS", write_card("NAXIS", f"{0:20}", "number of array dimensions"))
    for keyword in sorted(filter(_is_length, structure), key=lambda k: int(k[5:])):
        cards += structure[keyword]
    cards += structure.get("PCOUNT", write_card("PCOUNT", f"{0:20}", "number of parameters"))
    cards += structure.get("GCOUNT", write_card("GCOUNT", f"{1:20}", "number of groups"))
    cards += structure.get("TFIELDS", ())
    return cards


def _mended(record: Record) -> tuple[str, ...]:
    if date_fault(record):
        return write_commentary("COMMENT", f"{record.keyword} = {record.text.strip()} / {record.comment}".rstrip(" /"))
    if record.kind == "commentary":
        keyword = record.keyword if keyword_of(record.images[0]) == record.keyword else "COMMENT"
        return write_commentary(keyword, record.text)
    if record.kind == "hierarch":
        return tuple(re.sub(r"[^ -~]", "?", image) for image in record.images)
    return rename(record, record.keyword)
