"""Names of sample sub-FITS: what in them is otherwise in the next exposure, and the pattern that tells whose a file is.

A pattern has to fit the files of the next exposures too, so a number is kept as it stands only where it has to tell two origins apart.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assembler.core.exposure import SubFits
from assembler.core.patterns import path_fits
from assembler.errors import ConfigurationError

_DEEPEST = 4
_MOST_DIGITS = 18
_NOT_BY_CHANCE = 3
_DATE_DIGITS = 6
"""A run of as many digits in a file's name is a date or a counter, and another one the next night."""
_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"(?:[Tt]\d\d[-_:.]?\d\d[-_:.]?\d\d(?:\.\d+)?)?(?!\d)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFile:
    """A sample sub-FITS, and the name that its origin was given; empty where nobody gave one."""

    sub: SubFits
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How a sample tells of which frame it is.

    Attributes
    ----------
    keyword : str
        The card that tells the exposure's frame number, or empty.
    number : int or None
        The exposure's frame number, where this sample's card or its name tells it.
    counter : int or None
        What its card tells, where it counts otherwise than most do.
    """

    keyword: str = ""
    number: int | None = None
    counter: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """Where in a name something is that the next exposure may have otherwise, and what a pattern has there."""

    start: int
    end: int
    told: str


def exposure_frames(samples: Sequence[SampleFile], told: Sequence[Sequence[tuple[str, int]]]) -> tuple[Frame, ...]:
    """Decide which number is the exposure's frame number: the one that most cards tell, or else that all names of several have.

    Of numbers that as many samples tell it is one that is written out in the names of all of these, or else the first.

    Parameters
    ----------
    samples : sequence of SampleFile
    told : sequence of (sequence of (str, int))
        The cards of each sample that may tell it, and what they tell.

    Raises
    ------
    ConfigurationError
        When two samples are of two frames of one origin.
    """
    _refuse_two_frames(samples, told)
    tellers: dict[int, list[str]] = {}
    for sample, cards in zip(samples, told, strict=True):
        for number in dict.fromkeys(number for _, number in cards):
            tellers.setdefault(number, []).append(sample.sub.name)
    if not tellers:
        of_all = _number_of_all(samples) if len(samples) > 1 else None
        return tuple(Frame(number=of_all) for _ in samples)
    frame = max(tellers, key=lambda number: (len(tellers[number]), all(_writes_out(name, number) for name in tellers[number])))
    frames = []
    for sample, cards in zip(samples, told, strict=True):
        keyword = next((keyword for keyword, number in cards if number == frame), "")
        named = frame if keyword or _writes_out(sample.sub.name, frame) else None  # the 1 of guide1 is no frame number
        frames.append(Frame(keyword=keyword, number=named, counter=None if keyword else _own_card(sample, cards)[1]))
    return tuple(frames)


def has_number(name: str, number: int) -> bool:
    """Tell whether one of the numbers in a name is that one.

    >>> has_number("kpf_0042.fits", 42), has_number("kpf_1042.fits", 42)
    (True, False)
    """
    return _run_of(name, number) is not None


def words_of(name: str, frame: Frame) -> list[str]:
    """Return the words of a file's name up to its first dot, without what the next exposure may have otherwise.

    >>> words_of("kpf_hk_215921.fits", Frame(number=215921)), words_of("b1.fits.gz", Frame(number=1))
    (['kpf', 'hk'], ['b'])
    """
    stem = name.split(".", maxsplit=1)[0]
    kept = "".join(text if told is None else " " for text, told in _cut(stem, _changes(stem, frame)))
    return [word for word in re.split(r"[^A-Za-z0-9]+", kept) if word and not word.isdecimal()]


def file_patterns(samples: Sequence[SampleFile], frames: Sequence[Frame]) -> tuple[str, ...]:
    """Return the pattern of each sample's sub-FITS below the directory that all are in, as wide as still tells them apart.

    Raises
    ------
    ConfigurationError
        When no pattern of a YAML tells two of them apart.
    """
    paths = [s.sub.path for s in samples]
    for path, often in Counter(paths).items():
        if often > 1:
            raise ConfigurationError(f"{path}: is given {often} times; give one sub-FITS of each origin")
    patterns = []
    for path, depth, frame in zip(paths, _depths(paths), frames, strict=True):
        ways = list(_widening(path, depth, frame, len(paths) > 1))
        chosen = next((w for w in ways if all(path_fits(w, other) == (other == path) for other in paths)), None)
        if chosen is None:
            other = next(p for p in paths if p != path and path_fits(ways[-1], p))
            raise ConfigurationError(f"{path} and {other}: no pattern of a YAML tells the one from the other; give them other names")
        patterns.append(chosen)
    return tuple(patterns)


def _refuse_two_frames(samples: Sequence[SampleFile], told: Sequence[Sequence[tuple[str, int]]]) -> None:
    alike: dict[tuple[str, str, str], tuple[str, int]] = {}
    for sample, cards in zip(samples, told, strict=True):
        keyword, number = _own_card(sample, cards)
        if number is None:
            continue
        folder, _, name = sample.sub.path.rpartition("/")
        path, first = alike.setdefault((keyword, folder, _pattern(name, _changes(name, Frame(number=number)))), (sample.sub.path, number))
        if number != first:
            both = f"{path} and {sample.sub.path} are frames {first} and {number} of one origin"
            raise ConfigurationError(f"{both}; give one sub-FITS of each origin, all of one exposure")


def _own_card(sample: SampleFile, cards: Sequence[tuple[str, int]]) -> tuple[str, int | None]:
    """Return the card by which a sample counts: one whose number its name writes out, or else the first."""
    return next((c for c in cards if _writes_out(sample.sub.name, c[1])), cards[0] if cards else ("", None))


def _writes_out(name: str, number: int) -> bool:
    """Tell whether a name has a number with so many digits that it is not there by chance."""
    run = _run_of(name, number)
    return run is not None and len(run.group()) >= _NOT_BY_CHANCE


def _number_of_all(samples: Sequence[SampleFile]) -> int | None:
    """Return the number that all names have, with most digits; None where there is none, or two have as many.

    It has to end a word in one of them, unlike those in oc7w11viq, and be part of no date.
    """
    longest: dict[int, int] = {}
    ending: set[int] = set()
    everywhere: set[int] | None = None
    for sample in samples:
        name = sample.sub.name
        own = set()
        for run in _runs(name):
            if not _DATE.fullmatch(run.group()):
                number = int(run.group())
                own.add(number)
                longest[number] = max(len(run.group()), longest.get(number, 0))
                if not name[run.end() : run.end() + 1].isalpha():
                    ending.add(number)
        everywhere = own if everywhere is None else everywhere & own
    ranked = sorted((everywhere or set()) & ending, key=lambda number: longest[number], reverse=True)
    if not ranked or (len(ranked) > 1 and longest[ranked[0]] == longest[ranked[1]]):
        return None
    return ranked[0]


def _depths(paths: Sequence[str]) -> list[int]:
    """Return how many directories of each path are below the one that all are in; 0 where no pattern can say them."""
    folders = [path.split("/")[1:-1] for path in paths]
    level = 0
    while all(len(f) > level for f in folders) and len({f[level] for f in folders}) == 1:
        level += 1
    below = [f[level:] for f in folders]
    if not level or any(len(b) > _DEEPEST or not all(map(_plain, b)) for b in below):
        return [0] * len(paths)
    return [len(b) for b in below]


def _widening(path: str, depth: int, frame: Frame, several: bool) -> Iterator[str]:
    """Yield patterns of a path, the widest first, the sample's own name last."""
    *folders, name = path.split("/")
    plain: list[str] = []
    for folder in reversed(folders):
        if not _plain(folder) or len(plain) == max(depth, _DEEPEST):
            break
        plain.insert(0, folder)
    changes = _changes(name, frame)
    framed = _pattern(name, changes)
    numbers = [_Change(start=r.start(), end=r.end(), told="*") for r in re.finditer("[0-9]+", name)]
    apart = [n for n in numbers if not any(c.start < n.end and n.start < c.end for c in changes)]
    ways = [framed if "{frame}" in framed else f"*{_mended(_ending(name, several))}"]
    ways += [_pattern(name, sorted([*changes, *apart], key=lambda c: c.start)), framed]
    ways += [_pattern(name, _changes(name, Frame())), _mended(name)]
    for level in range(depth, len(plain) + 1):
        before = "".join(f"{f}/" for f in plain[len(plain) - level :])
        yield from (before + way for way in ways)


def _ending(name: str, several: bool) -> str:
    """Return the last words of a name, up to one that has a number; of one sample alone, what comes after the first dot."""
    words = re.split(r"(?=[^A-Za-z0-9])", name)
    named = 0
    while named < len(words) - 1 and not re.search(r"\d", words[-1 - named]):
        named += 1
    if named and several:
        return "".join(words[-named:])
    return name[name.index(".", 1) :] if "." in name[1:] else ""


def _changes(name: str, frame: Frame) -> list[_Change]:
    """Return what in a name is otherwise in the next exposure: frame number, counter, dates, and other long numbers."""
    changes = []
    number = None if frame.number is None else _run_of(name, frame.number)
    counter = None if frame.counter is None else _run_of(name, frame.counter)
    if number:
        changes.append(_Change(start=number.start(), end=number.end(), told="{frame}"))
    long = (run for run in re.finditer("[0-9]+", name) if len(run.group()) >= _DATE_DIGITS)
    for found in (*([counter] if counter else []), *_DATE.finditer(name), *long):
        if not any(c.start < found.end() and found.start() < c.end for c in changes):
            changes.append(_Change(start=found.start(), end=found.end(), told="*"))
    return sorted(changes, key=lambda c: c.start)


def _run_of(name: str, number: int) -> re.Match[str] | None:
    """Return where a name has a number: where it is written with most digits, and of several such the last; not within a date."""
    runs = [run for run in _runs(name) if int(run.group()) == number]
    return max(runs, key=lambda run: (len(run.group()), run.start()), default=None)


def _runs(name: str) -> list[re.Match[str]]:
    """Return the numbers in a name that might be a frame's: none of too many digits, none that is part of a date."""
    dates = [d for d in _DATE.finditer(name) if not d.group().isdecimal()]
    runs = (run for run in re.finditer("[0-9]+", name) if len(run.group()) <= _MOST_DIGITS)
    return [run for run in runs if not any(d.start() < run.end() and run.start() < d.end() for d in dates)]


def _cut(name: str, changes: Sequence[_Change]) -> Iterator[tuple[str, str | None]]:
    """Yield the parts of a name: what stays, with None, and what changes, with what a pattern has there."""
    after = 0
    for change in changes:
        yield name[after : change.start], None
        yield name[change.start : change.end], change.told
        after = change.end
    yield name[after:], None


def _pattern(name: str, changes: Sequence[_Change]) -> str:
    return "".join(_mended(text) if told is None else told for text, told in _cut(name, changes))


def _mended(text: str) -> str:
    """Return text with * for what a pattern cannot say."""
    return re.sub(r"[^ -~]|[{}*]", "*", text)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and text not in ("", ".", "..") and not set("{}*") & set(text)
