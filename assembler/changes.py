"""What differs between two L0s, as it is told: in colour to people, by HDU and cause, and as JSON to programs."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from assembler.console import visible

if TYPE_CHECKING:
    from assembler.core.difference import Change
    from assembler.service.comparison import Comparison

_BLANK = "(a blank card)"
_UNEXPLAINED = "unexplained"
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "moved": (">", "cyan")}


def change_lines(comparison: "Comparison", most: int | None = None) -> Iterator[str]:
    """Yield what differs, in lines for a terminal: by HDU in the order of the L0, then by cause.

    Parameters
    ----------
    comparison : Comparison
    most : int or None
        How many lines at most; then one says how many more there are.
    """
    lines = list(_lines(comparison))
    yield from lines if most is None else lines[:most]
    if most is not None and len(lines) > most:
        yield f"... and {len(lines) - most} more lines; assembler diff tells all of them"


def plain(comparison: "Comparison") -> dict[str, Any]:
    """Return a comparison for JSON."""
    return {
        "l0": comparison.path,
        "against": comparison.against,
        "same": not comparison.differs,
        "summary": comparison.summary,
        "causes": comparison.causes,
        "left_out": sum(comparison.left_out.values()),
        "changes": [asdict(change) for change in comparison.changes],
    }


def _lines(comparison: "Comparison") -> Iterator[str]:
    order = {name: place for place, name in enumerate(dict.fromkeys(c.hdu for c in comparison.changes if c.part != "HDU"))}
    changes = sorted((c for c in comparison.changes), key=lambda c: (c.part != "HDU", order.get(c.hdu, 0), c.expected, c.causes))
    for (whole, hdu, expected, causes), some in groupby(changes, key=lambda c: (c.part == "HDU", _heading(c), c.expected, c.causes)):
        mine = list(some)
        if expected:
            told = ", ".join(dict.fromkeys(visible(c.keyword) or _BLANK for c in mine))
            yield click.style(f"{visible(hdu)}, as always or as follows from it: {told}", dim=True)
            continue
        named = [cause for cause in causes if cause != _UNEXPLAINED]
        because = f", by {', '.join(named)}" if named else ""
        because += "; unexplained: was the L0 changed?" if _UNEXPLAINED in causes else ""
        yield click.style(f"{'HDUs' if whole else visible(hdu)}{because}", bold=True)
        for change in mine:
            yield from (click.style(f"  {line}", fg=_SIGNS[change.kind][1]) for line in _change(change))


def _heading(change: "Change") -> str:
    return "" if change.part == "HDU" else change.hdu


def _change(change: "Change") -> Iterator[str]:
    sign, _ = _SIGNS[change.kind]
    if change.part == "HDU":
        moved = f": HDU {change.old_place}, now {change.new_place}" if change.kind == "moved" else ""
        yield f"{sign} {visible(change.hdu)}{moved}"
    elif change.part == "data":
        yield f"{sign} data: {change.old[0] or 'none'}"
        yield f"    now: {change.new[0] or 'none'}"
    elif change.part == "checksum":
        yield f"{sign} {visible((change.old or change.new)[0])}"
    elif change.kind == "moved":
        name = _card(change.new[0]) if change.part == "card" else visible(change.keyword)
        yield f"{sign} {change.part} {(change.old_place or 0) + 1}, now {(change.new_place or 0) + 1}: {name}"
    elif change.part == "row" and change.kind == "changed":
        gone, came = ([cell for cell in one if cell not in other] for one, other in ((change.old, change.new), (change.new, change.old)))
        yield f"{sign} {visible(change.keyword)}: {visible(', '.join(gone) or 'nothing')}"
        yield f"    now: {visible(', '.join(came) or 'nothing')}"
    elif change.part == "row":
        yield f"{sign} {visible(change.keyword)}: {visible(', '.join(change.new or change.old))}"
    elif change.kind == "changed":
        yield from (f"- {_card(card)}" for card in change.old)
        yield from (f"+ {_card(card)}" for card in change.new)
    else:
        yield from (f"{sign} {_card(card)}" for card in change.new or change.old)


def _card(card: str) -> str:
    return visible(card.rstrip()) or _BLANK
