"""Names for the first draft of an instrument: origins, prefixes, flags, extensions."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import count, islice, product
from string import ascii_uppercase

from assembler.core.draft_files import Frame, SampleFile, words_of
from assembler.core.extensions import is_structure
from assembler.core.prefixes import free_keyword
from assembler.core.primary import OWN_KEYWORDS
from assembler.errors import ConfigurationError

_NAME_LENGTH = 20
_CARDS = ("CAMERA", "DETECTOR", "INSTRUME")


def origin_names(samples: Sequence[SampleFile], frames: Sequence[Frame]) -> tuple[str, ...]:
    """Name the origin of each sample: as it was given, or by the first thing that tells all of them apart.

    What the next exposure may have otherwise, such as a number in the files' names, is no part of it.

    Raises
    ------
    ConfigurationError
        When two samples were given one name.
    """
    given = Counter(s.origin for s in samples if s.origin)
    for name, often in given.items():
        if often > 1:
            raise ConfigurationError(f"{name}: {often} samples are of this origin; give one sub-FITS of each")
    words = [words_of(s.sub.name, frame) for s, frame in zip(samples, frames, strict=True)]
    several = len(samples) > 1
    ways = [[s.sub.path.rsplit("/", 2)[-2] if s.sub.path.count("/") > 1 else "" for s in samples]] if several else []
    ways += [[own[-1] if own else "" for own in words]] if several else []
    ways += [[str(s.sub.hdus[0].value(card) or "") for s in samples] for card in (_CARDS if several else _CARDS[::-1])]
    ways += [["_".join(own) for own in words]]
    for way in ways:
        made = [_word(text) for text in way]
        if all(made) and len(set(made)) == len(made) and all(s.origin or m not in given for s, m in zip(samples, made, strict=True)):
            break
    else:
        numbered = (name for number in count(1) if (name := f"origin{number}") not in given)
        made = list(islice(numbered, len(samples)))
    return tuple(s.origin or m for s, m in zip(samples, made, strict=True))


def origin_prefixes(names: Sequence[str]) -> tuple[str, ...]:
    """Give each origin two letters of its own, from its name where that goes.

    >>> origin_prefixes(["green", "guide", "grism"])
    ('GR', 'GU', 'GI')
    """
    chosen: list[str] = []
    for name in names:
        letters = re.sub(r"[^A-Z]", "", name.upper())
        wanted = [letters[0] + letter for letter in letters[1:] + ascii_uppercase] if letters else []
        every = ("".join(pair) for pair in product(ascii_uppercase, repeat=2))
        free = next((p for p in (*wanted, *every) if p not in chosen), None)
        if free is None:
            raise ConfigurationError(f"{len(names)} origins are more than two letters can tell apart")
        chosen.append(free)
    return tuple(chosen)


def origin_cards(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give each origin a flag and a card for its path, none of them a card that the L0 has already."""
    taken = set(OWN_KEYWORDS)
    cards = []
    for name in names:
        pair = []
        for wanted in (name.upper()[:8], f"{name.upper()[:6]}FN"):
            free = free_keyword("ORIGIN" if is_structure(wanted) else wanted, taken)
            taken.add(free)
            pair.append(free)
        cards.append((pair[0], pair[1]))
    return tuple(cards)


def _word(text: str) -> str:
    """Return text as the name of an origin, or the empty string when nothing is left of it."""
    word = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")[:_NAME_LENGTH].strip("_")
    return word if re.fullmatch(r"[a-z_][a-z0-9_]*", word) else ""


def extension_base(text: str) -> str:
    """Return text as the name of an extension."""
    return re.sub(r"[^A-Z0-9_-]", "_", text.upper())[:50]


def free_name(wanted: str, taken: Collection[str]) -> str:
    """Return a name that is not taken: the one that is wanted, or that with a number.

    >>> free_name("SCI", {"SCI", "SCI_2"})
    'SCI_3'
    """
    number, free = 1, wanted
    while free in taken:
        number += 1
        free = f"{wanted}_{number}"
    return free
