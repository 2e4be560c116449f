"""What differs between two FITS files, HDU by HDU, card by card and row by row; nothing is hidden, and nothing is blamed on a neighbour."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from assembler.core.alignment import align
from assembler.core.cards import keyword_of
from assembler.core.versions import version_places

Kind = Literal["added", "removed", "changed", "moved"]
Part = Literal["HDU", "card", "row", "data", "checksum"]
_OF_ROWS = re.compile(r"NAXIS[12] *|TFORM\d+ *")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a table: its name, and its cells as ``column=value``. Only rows of one name may be the same one, changed."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One HDU: its name, its cards of 80 characters, and its data, either as rows or told by a digest; equal digests mean equal data.

    ``faults`` tell what of its checksums does not fit: bytes that neither its cards nor its data show may be other ones.
    """

    name: str
    cards: tuple[str, ...]
    digest: str = ""
    rows: tuple[Row, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that differs.

    Attributes
    ----------
    kind : str
        ``added``, ``removed``, ``changed`` or ``moved``.
    part : str
        What differs: an ``HDU`` as a whole, a ``card``, a ``row`` of a table, the ``data`` of an HDU, or that a ``checksum`` does
        not fit.
    hdu : str
        The name of the HDU.
    keyword : str
        Of a card or a checksum; of a row, its name.
    old, new : tuple of str
        A card before and after, with its CONTINUE cards; of a row, the cells; of data, the digests; what does not fit.
    old_place, new_place : int or None
        Of a card, which it is in its header, from 0, a card and its CONTINUE cards as one; of a row or an HDU, its number.
    expected : bool
        Whether it tells nothing of its own: DATE, the version and why it replaced another, the digest of the YAML, checksums, and
        the size of a table whose rows differ.
    causes : tuple of str
        Why, where that is known.
    """

    kind: Kind
    part: Part
    hdu: str
    keyword: str = ""
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    old_place: int | None = None
    new_place: int | None = None
    expected: bool = False
    causes: tuple[str, ...] = ()


def compare_units(old: Sequence[Unit], new: Sequence[Unit]) -> tuple[Change, ...]:
    """Return what differs between two lists of HDUs; HDUs of one name are compared in their order.

    >>> card = "GAIN    =                  5.0".ljust(80)
    >>> [(c.kind, c.keyword) for c in compare_units([Unit(name="A", cards=())], [Unit(name="A", cards=(card,))])]
    [('added', 'GAIN')]
    """
    mine, theirs = _named(old), _named(new)
    changes = [
        Change(kind=c.kind, part="HDU", hdu=u.name, old_place=c.old_place, new_place=c.new_place)
        for c in _changes([(n,) for n in mine], [(n,) for n in theirs], list(mine), list(theirs), "", "HDU")
        for u in [mine[c.old[0]] if c.old else theirs[c.new[0]]]
    ]
    for name, unit in mine.items():
        if name in theirs:
            changes += _compare_unit(unit, theirs[name])
    return tuple(changes)


def compare_cards(old: Sequence[tuple[str, ...]], new: Sequence[tuple[str, ...]], hdu: str = "") -> tuple[Change, ...]:
    """Return what differs between two headers, with as few changes as possible.

    Parameters
    ----------
    old, new : sequence of tuple of str
        Cards, each with its CONTINUE cards, as `grouped` gives them.
    hdu : str
        The name of their HDU.
    """
    return _changes(old, new, [keyword_of(c[0]) for c in old], [keyword_of(c[0]) for c in new], hdu, "card")


def apply_changes(cards: Sequence[tuple[str, ...]], changes: Sequence[Change]) -> list[tuple[str, ...]]:
    """Return the header that changes lead to.

    >>> one, two = ("A       = 1",), ("B       = 2",)
    >>> apply_changes([one], compare_cards([one], [two, one])) == [two, one]
    True
    """
    gone = {c.old_place for c in changes}
    kept = iter([card for place, card in enumerate(cards) if place not in gone])
    came = {c.new_place: c.new for c in changes if c.new_place is not None}
    count = len(cards) - len(gone - {None}) + len(came)
    return [came[place] if place in came else next(kept) for place in range(count)]


def grouped(cards: Sequence[str]) -> list[tuple[str, ...]]:
    """Return cards, each with the CONTINUE cards behind it.

    >>> grouped(["A       = 'one&'", "CONTINUE  'two'", "COMMENT"])
    [("A       = 'one&'", "CONTINUE  'two'"), ('COMMENT',)]
    """
    groups: list[list[str]] = []
    for card in cards:
        if groups and card.startswith("CONTINUE"):
            groups[-1].append(card)
        else:
            groups.append([card])
    return [tuple(group) for group in groups]


def _changes(
    old: Sequence[tuple[str, ...]], new: Sequence[tuple[str, ...]], names: Sequence[str], others: Sequence[str], hdu: str, part: Part
) -> tuple[Change, ...]:
    """Return what differs between two sequences of items that have names; only those of one name may be the same one, changed."""
    pairs = align(list(zip(old, names, strict=True)), list(zip(new, others, strict=True)))
    once = {c for c, n in Counter(old).items() if n == 1} & {c for c, n in Counter(new).items() if n == 1}
    went = {old[a]: a for a, b in pairs if a is not None and b is None and old[a] in once}
    came = {new[b]: b for a, b in pairs if a is None and b is not None and new[b] in once}
    changes = []

    def note(kind: Kind, a: int | None, b: int | None) -> None:
        before, after = () if a is None else old[a], () if b is None else new[b]
        name = names[a] if b is None and a is not None else others[b or 0]
        changes.append(Change(kind=kind, part=part, hdu=hdu, keyword=name, old=before, new=after, old_place=a, new_place=b))

    for a, b in pairs:
        if a is None and b is not None:
            moved = went.get(new[b])
            note("added" if moved is None else "moved", moved, b)
        elif a is not None and b is None and old[a] not in came:
            note("removed", a, None)
        elif a is not None and b is not None and old[a] != new[b]:
            note("changed", a, b)
    return tuple(changes)


def _named(units: Sequence[Unit]) -> dict[str, Unit]:
    """Return HDUs by name; the second of a name, and those after it, by name and number."""
    seen: Counter[str] = Counter()
    named = {}
    for unit in units:
        seen[unit.name] += 1
        named[f"{unit.name}\0{seen[unit.name]}"] = unit
    return named


def _compare_unit(old: Unit, new: Unit) -> list[Change]:
    """Compare two HDUs of one name, and tell apart what tells nothing of its own."""
    mine, theirs = grouped(old.cards), grouped(new.cards)
    found = list(compare_cards(mine, theirs, old.name))
    here, there = old.rows, new.rows
    rows = _changes([r.cells for r in here], [r.cells for r in there], [r.name for r in here], [r.name for r in there], old.name, "row")
    versions = [version_places([c[0] for c in some]) if old.name == "PRIMARY" else frozenset() for some in (mine, theirs)]
    data = bool(rows) or old.digest != new.digest
    others = data or any(c.keyword not in ("CHECKSUM", "DATASUM") for c in found)
    changes = []
    for change in found:
        of_version = all(p is None or p in some for p, some in zip((change.old_place, change.new_place), versions, strict=True))
        of_rows = bool(rows) and _OF_ROWS.fullmatch(change.keyword) is not None
        follows = (change.keyword == "CHECKSUM" and others) or (change.keyword == "DATASUM" and data)
        changes.append(replace(change, expected=of_version or of_rows or follows))
    changes += rows
    if old.digest != new.digest:
        changes.append(Change(kind="changed", part="data", hdu=old.name, old=(old.digest,), new=(new.digest,)))
    return [*changes, *_compare_faults(old, new)]


def _compare_faults(old: Unit, new: Unit) -> Iterator[Change]:
    for fault in dict.fromkeys((*old.faults, *new.faults)):
        keyword = fault.partition(" ")[0]
        sides = [(fault,) if fault in unit.faults else () for unit in (old, new)]
        if sides[0] != sides[1]:
            kind: Kind = "removed" if sides[0] else "added"
            yield Change(kind=kind, part="checksum", hdu=old.name, keyword=keyword, old=sides[0], new=sides[1])
