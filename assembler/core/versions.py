"""Versions: what an L0 says of the one that it replaces, and what two L0s have in common apart from that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from assembler.core.cards import printable_text, text_of, write_card, write_commentary

SUPERSEDED = "superseded"
"""The directory beside an L0 that keeps what it replaced."""

MOST_VERSIONS = 999_999
_OF_THE_MAKING = ("DATE    ", "YAMLSHA ")
"""When an L0 was made, and the text of the YAML: another comment in it makes no other L0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """The L0 that a newer one replaces.

    Attributes
    ----------
    version : int
        Its L0VER.
    written : str
        Its DATE, as it stands there.
    sha256 : str
        Of the whole file, in hexadecimal digits.
    reason : str
        Why it is replaced, in the words of whoever said so.
    """

    version: int
    written: str
    sha256: str
    reason: str


def version_cards(replaced: Replaced | None) -> tuple[str, ...]:
    """Write which version this is, and HISTORY of what it replaced and why.

    >>> [card.rstrip() for card in version_cards(None)]
    ['L0VER   =                    1 / version of this L0']
    """
    number = 1 if replaced is None else replaced.version + 1
    cards = write_card("L0VER", text_of(number), "version of this L0")
    if replaced is None:
        return cards
    written = printable_text(replaced.written)[:30] or "at an unknown time"
    return (
        *cards,
        *write_commentary("HISTORY", f"Version {number} replaces version {replaced.version}, written {written}"),
        *write_commentary("HISTORY", f"SHA-256 {replaced.sha256}"),
        *write_commentary("HISTORY", f"Reason: {printable_text(' '.join(replaced.reason.split()))}"),
    )


def with_version(cards: Sequence[str], replaced: Replaced) -> tuple[str, ...]:
    """Return the cards of a primary as those of the version that replaces another."""
    start, end = _version_block(cards)
    return (*cards[:start], *version_cards(replaced), *cards[end:])


def apart_from_version(cards: Iterable[str]) -> list[str]:
    """Return the cards of a primary without DATE, the YAML's digest, L0VER and the HISTORY of the version.

    >>> apart_from_version(["DATE    = 'today'", *version_cards(None), "CAMERAS =                    5"])
    ['CAMERAS =                    5']
    """
    cards = list(cards)
    start, end = _version_block(cards)
    return [card for card in (*cards[:start], *cards[end:]) if not card.startswith(_OF_THE_MAKING)]


def version_places(cards: Sequence[str]) -> frozenset[int]:
    """Return where in a primary DATE, the YAML's digest, L0VER and the HISTORY of the version are, from 0.

    >>> sorted(version_places(["DATE    = 'today'", *version_cards(None), "CAMERAS =                    5"]))
    [0, 1]
    """
    start, end = _version_block(cards)
    return frozenset((*range(start, end), *(place for place, card in enumerate(cards) if card.startswith(_OF_THE_MAKING))))


def superseded_name(filename: str, version: int) -> str:
    """Return the name that a version gets when it is superseded.

    >>> superseded_name("KP.20240422.28832.89.fits", 1)
    'KP.20240422.28832.89.v1.fits'
    """
    return f"{filename.removesuffix('.fits')}.v{version}.fits"


def superseded_version(name: str, filename: str) -> int | None:
    """Return which version of an L0 has a name when it is superseded; None when that is no such name.

    >>> superseded_version("a.v12.fits", "a.fits"), superseded_version("a.v012.fits", "a.fits"), superseded_version("b.v1.fits", "a.fits")
    (12, None, None)
    """
    text = name.removesuffix(".fits").rpartition(".v")[2]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_VERSIONS)) else 0
    return number if is_version(number) and superseded_name(filename, number) == name else None


def is_version(value: object) -> TypeGuard[int]:
    """Tell whether a value can be that of L0VER.

    >>> is_version(1), is_version(True), is_version("1"), is_version(0)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_VERSIONS


def _version_block(cards: Sequence[str]) -> tuple[int, int]:
    """Return where L0VER stands, and where the HISTORY right behind it ends; nowhere is at the end."""
    start = next((place for place, card in enumerate(cards) if card.startswith("L0VER   ")), len(cards))
    end = min(start + 1, len(cards))
    while end < len(cards) and cards[end].startswith("HISTORY "):
        end += 1
    return start, end
