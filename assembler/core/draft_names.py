"""Names for the first draft of an instrument: origins, prefixes, flags, and the patterns that tell whose a sub-FITS is."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, product
from string import ascii_uppercase

from assembler.core.exposure import SubFits
from assembler.core.extensions import is_structure
from assembler.core.patterns import path_fits
from assembler.core.prefixes import free_keyword
from assembler.core.primary import OWN_KEYWORDS
from assembler.errors import ConfigurationError

_NAME_LENGTH = 20
_DEEPEST = 4
_CARDS = ("CAMERA", "DETECTOR", "INSTRUME")
_DATE_DIGITS = 6
"""A run of as many digits in a file's name is a date or a counter, and another one the next night."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFile:
    """A sample sub-FITS, and the name that its origin was given; empty where nobody gave one."""

    sub: SubFits
    origin: str = ""

    @property
    def tokens(self) -> list[str]:
        """The words of its own name, without what comes after the first dot."""
        return [t for t in re.split(r"[^A-Za-z0-9]+", self.sub.name.split(".")[0]) if t]


def origin_names(samples: Sequence[SampleFile]) -> tuple[str, ...]:
    """Name the origin of each sample: as it was given, or by the first thing that tells all of them apart.

    Raises
    ------
    ConfigurationError
        When two samples were given one name.
    """
    given = Counter(s.origin for s in samples if s.origin)
    for name, often in given.items():
        if often > 1:
            raise ConfigurationError(f"{name}: {often} samples are of this origin; give one sub-FITS of each")
    unnamed = [s for s in samples if not s.origin]
    ways = [[s.tokens[-1] if s.tokens else "" for s in unnamed]] if len(samples) > 1 else []
    ways += [[str(s.sub.hdus[0].value(card) or "") for s in unnamed] for card in (_CARDS if ways else _CARDS[::-1])]
    ways += [[s.sub.path.rsplit("/", 2)[-2] if s.sub.path.count("/") > 1 else "" for s in unnamed]] if len(samples) > 1 else []
    ways += [["_".join(s.tokens) for s in unnamed]]
    for way in ways:
        made = [_word(text) for text in way]
        if all(made) and len(set(made)) == len(made) and not given.keys() & set(made):
            break
    else:
        numbered = (name for number in count(1) if (name := f"origin{number}") not in given)
        made = list(islice(numbered, len(unnamed)))
    rest = iter(made)
    return tuple(s.origin or next(rest) for s in samples)


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


def file_patterns(samples: Sequence[SampleFile], frames: Sequence[int | None]) -> tuple[str, ...]:
    """Return the pattern of each sample's sub-FITS, as wide as still tells them apart.

    Parameters
    ----------
    samples : sequence of SampleFile
    frames : sequence of (int or None)
        The frame number of each, where its card tells one.

    Raises
    ------
    ConfigurationError
        When nothing in two paths tells them apart.
    """
    paths = [s.sub.path for s in samples]
    for path, often in Counter(paths).items():
        if often > 1:
            raise ConfigurationError(f"{path}: is given {often} times; give one sub-FITS of each origin")
    ways = [list(_widening(path, frame, len(samples) > 1)) for path, frame in zip(paths, frames, strict=True)]
    for way in zip(*ways, strict=True):
        if all(path_fits(pattern, path) == (here == there) for here, pattern in enumerate(way) for there, path in enumerate(paths)):
            return way
    raise ConfigurationError("nothing in the last directories and names of the samples tells whose each is")


def _widening(path: str, frame: int | None, several: bool) -> Iterator[str]:
    """Yield patterns of a path, the widest first; each way has as many, so that all samples may be described alike."""
    *folders, base = path.split("/")
    folders = [f for f in folders if f and _plain(f) and f not in (".", "..")][-_DEEPEST:]
    framed = _framed(base, frame)
    words = re.split(r"(?=[^A-Za-z0-9])", base)
    named = 0
    while named < len(words) - 1 and not re.search(r"\d", words[-1 - named]):
        named += 1
    last = "".join(words[-named:]) if named and several else base[base.index(".") :] if "." in base[1:] else ""
    wide = framed if "{frame}" in framed else f"*{_mended(last)}"
    for depth in range(_DEEPEST + 1):
        before = "".join(f"{f}/" for f in folders[max(0, len(folders) - depth) :]) if depth else ""
        yield before + wide
        yield before + framed


def _framed(base: str, frame: int | None) -> str:
    """Return a file's name with {frame} for its frame number, and * for other long numbers."""
    runs = [run for run in re.finditer(r"[0-9]+", base) if frame is not None and len(run.group()) <= 18 and int(run.group()) == frame]
    parts, after = [], 0
    for run in re.finditer(r"[0-9]+", base):
        parts.append(_mended(base[after : run.start()]))
        alone = len(runs) == 1 and run.span() == runs[0].span()
        parts.append("{frame}" if alone else "*" if len(run.group()) >= _DATE_DIGITS else run.group())
        after = run.end()
    return "".join(parts) + _mended(base[after:])


def _mended(text: str) -> str:
    """Return text with * for what a pattern cannot say."""
    return re.sub(r"[^ -~]|[{}*]", "*", text)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not set("{}*") & set(text)


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
