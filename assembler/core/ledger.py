"""The ledger: of every input card, what became of it and where it is; with it an L0 can be taken apart again."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from assembler.core.cards import is_printable, printable_text, shown
from assembler.core.exposure import Exposure
from assembler.core.extensions import Placement
from assembler.core.tables import Cell, Column, Table

FATES = ("kept", "prefixed", "amplifier", "shared", "structure", "dropped")


class LedgerRow(NamedTuple):
    """Where one input card went; ``number`` counts the cards of a header from 1.

    ``correction`` is the value that the L0 has instead of the card's own, or empty; of a long string, its first card has it.
    """

    origin: str
    file: str
    hdu: int
    number: int
    card: str
    fate: str
    extension: str
    keyword: str
    correction: str = ""


_COLUMNS = (
    Column(name="origin", form="A", meaning="who delivered the card"),
    Column(name="file", form="A", meaning="its sub-FITS"),
    Column(name="hdu", form="J", meaning="its HDU there, from 0"),
    Column(name="index", form="J", meaning="its place in the header, from 1"),
    Column(name="card", form="A", meaning="its 80 characters"),
    Column(name="encoded", form="L", meaning="true where they are percent-encoded"),
    Column(name="fate", form="A", meaning="what became of it"),
    Column(name="extension", form="A", meaning="HDU of this file where it is now"),
    Column(name="keyword", form="A", meaning="keyword that it has there"),
    Column(name="correction", form="A", meaning="value that it has there, where corrected"),
)


def make_ledger(
    exposure: Exposure,
    primaries: Mapping[str, Sequence[Placement]],
    extensions: Mapping[tuple[str, int], Sequence[Placement]],
) -> Table:
    """Make the CARDS table: one row for each card of every sub-FITS HDU.

    Parameters
    ----------
    exposure : Exposure
    primaries : mapping of str to sequence of Placement
        By origin, where the cards of its primary went.
    extensions : mapping of (str, int) to sequence of Placement
        By origin and HDU, where the cards went of those that are extensions of the L0.
    """
    origins: list[str] = []
    files: list[str] = []
    hdus: list[int] = []
    numbers: list[int] = []
    cards: list[str] = []
    placements: list[Placement] = []
    corrections: list[str] = []
    for origin, sub in exposure.attached:
        file = printable_text(sub.name)
        for hdu in sub.hdus:
            there = extensions.get((origin.name, hdu.index))
            count = len(hdu.images)
            origins += [origin.name] * count
            files += [file] * count
            hdus += [hdu.index] * count
            numbers += range(1, count + 1)
            cards += hdu.images
            placements += primaries[origin.name] if there is None else there
            corrections += [""] * count
            for place, text in hdu.corrected.items():
                corrections[place - count] = shown(text)
    placed = zip(*placements, strict=True) if placements else ((), (), ())
    return _table(origins, files, hdus, numbers, cards, placed, corrections)


def ledger_table(ledger: Sequence[LedgerRow]) -> Table:
    """Make the CARDS table of its rows."""
    origins, files, hdus, numbers, cards, *placed, corrections = zip(*ledger, strict=True) if ledger else [()] * len(LedgerRow._fields)
    return _table(origins, files, hdus, numbers, cards, placed, corrections)


def _table(
    origins: Iterable[Cell],
    files: Iterable[Cell],
    hdus: Iterable[Cell],
    numbers: Iterable[Cell],
    cards: Sequence[str],
    placed: Iterable[Iterable[Cell]],
    corrections: Iterable[Cell],
) -> Table:
    """Make the CARDS table of its columns. A card with bytes that are not printable ASCII is percent-encoded, and flagged."""
    encoded: Sequence[bool] = [False] * len(cards)
    if not is_printable("".join(cards)):  # as hardly ever, and quickly told of all together
        cards, encoded = zip(*map(_encoded, cards), strict=True)
    cells = (origins, files, hdus, numbers, cards, encoded, *placed, corrections)
    return Table(name="CARDS", columns=_COLUMNS, cells=tuple(map(tuple, cells)))


def _encoded(card: str) -> tuple[str, bool]:
    """Return a card as it is in the table, and whether it is percent-encoded there."""
    if is_printable(card):
        return card, False
    return "".join(c if " " <= c <= "~" and c != "%" else f"%{ord(c):02X}" for c in card), True


def read_ledger(table: Table) -> tuple[LedgerRow, ...]:
    """Read the ledger back from the CARDS table."""
    rows = []
    for origin, file, hdu, index, card, encoded, fate, extension, keyword, correction, *_ in table.rows:
        text = str(card)
        if encoded:
            text = re.sub("%([0-9A-F]{2})", lambda found: chr(int(found.group(1), 16)), text)
        told = (str(fate), str(extension), str(keyword), str(correction))
        rows.append(LedgerRow(str(origin), str(file), int(hdu or 0), int(index or 0), text.ljust(80), *told))
    return tuple(rows)
