"""How a data system brings one sub-FITS onto a disk, stroke by stroke: the ways that are common, and how they go wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

Action = Literal["create", "reopen", "write", "truncate", "finish", "leave", "rename"]

_BLOCK = 2880
_SHORTEST_CUT = 10
"""Bytes that it takes to tell a FITS file, or gzip, from anything else."""


class Chance(Protocol):
    """What of a `random.Random` is used; the core makes none of its own, so that a seed tells the whole script."""

    def random(self) -> float:
        """Return a number from 0 to 1, the latter excluded."""
        ...

    def randrange(self, start: int, stop: int) -> int:
        """Return a whole number from start to stop, the latter excluded."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """Return a whole number of that many bits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a writer does to one file.

    Attributes
    ----------
    at : int
        When, after the start of the script [ns].
    path : str
        The file, below the night's directory.
    action : str
        ``create`` a file that is not there; ``reopen`` one that is, and empty it; ``write`` bytes of the source; ``truncate``
        to a length, which may be longer than the file; ``finish``, the writer closes it and is done; ``leave``, the writer dies,
        and the system closes it; ``rename`` into place.
    source : str
        Of ``write``: the sub-FITS of the recorded night that the bytes are of.
    offset, length : int
        Of ``write``: which bytes; of ``truncate``: the length.
    changed : int or None
        Of ``write``: the place of a byte that is written with its lowest bit turned over.
    to : str
        Of ``rename``: the new name, below the night's directory.
    """

    at: int
    path: str
    action: Action
    source: str = ""
    offset: int = 0
    length: int = 0
    changed: int | None = None
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What one writer does, and what comes of it.

    Attributes
    ----------
    steps : tuple of Step
    appears : int or None
        When something is first under the final name [ns after the start]; None: never.
    whole : int or None
        When everything is [ns after the start]; None: never.
    """

    steps: tuple[Step, ...]
    appears: int | None
    whole: int | None


NOTHING = Writing(steps=(), appears=None, whole=None)
"""What a writer does that never comes."""


def write_growing(
    path: str, size: int, chance: Chance, span: tuple[int, int], *, chunks: int = 6, whole: bool = True, least: int = 0
) -> Writing:
    """Write a file under its own name, so that everybody sees it grow.

    Parameters
    ----------
    path : str
        Of the sub-FITS, in the recorded night and in the one that is played.
    size : int
        [bytes]
    chance : Chance
    span : (int, int)
        When it is begun and finished [ns after the start].
    chunks : int
        In how many it is written, at most.
    whole : bool
        False: the writer stops before the last byte, and closes the file as if it were complete.
    least : int
        How long the first chunk is, at least [bytes].

    >>> import random
    >>> writing = write_growing("Red/a.fits", 5000, random.Random(1), (0, 90), chunks=2)
    >>> [(step.at, step.action, step.offset, step.length) for step in writing.steps]
    [(0, 'create', 0, 0), (30, 'write', 0, 1110), (60, 'write', 1110, 3890), (90, 'finish', 0, 0)]
    """
    begin, end = span
    cuts = _cuts(size, chance, chunks, least)
    if not whole:
        cuts = cuts[: chance.randrange(2, len(cuts))] if len(cuts) > 2 else (0,)
    steps = (Step(at=begin, path=path, action="create"), *_writes(path, path, cuts, span), Step(at=end, path=path, action="finish"))
    return Writing(steps=steps, appears=begin, whole=end if whole else None)


def write_hidden(
    path: str, size: int, chance: Chance, span: tuple[int, int], *, chunks: int = 6, whole: bool = True, least: int = 0
) -> Writing:
    """Write a file under a hidden name and rename it into place; the parameters are those of `write_growing`.

    >>> import random
    >>> writing = write_hidden("Red/a.fits", 5000, random.Random(1), (0, 90))
    >>> writing.steps[0].path, writing.steps[-1].to, writing.appears
    ('Red/.a.fits.2265b1f5', 'Red/a.fits', 90)
    """
    folder, slash, name = path.rpartition("/")
    hidden = f"{folder}{slash}.{name}.{chance.getrandbits(32):08x}"
    grown = write_growing(path, size, chance, span, chunks=chunks, whole=whole, least=least)
    steps = (*(_under(hidden, step) for step in grown.steps), Step(at=span[1], path=hidden, action="rename", to=path))
    return Writing(steps=steps, appears=span[1], whole=grown.whole)


def write_filling(path: str, size: int, chance: Chance, span: tuple[int, int], *, chunks: int = 12) -> Writing:
    """Take the whole length first, as zeros, and fill it: in order, or the first chunk with the header last.

    >>> import random
    >>> writing = write_filling("Red/a.fits", 5000, random.Random(1), (0, 90))
    >>> [(step.action, step.length) for step in writing.steps[:2]], writing.appears, writing.whole
    ([('create', 0), ('truncate', 5000)], 0, 90)
    """
    begin, end = span
    writes = _writes(path, path, _cuts(size, chance, chunks, 0), span)
    if chance.random() < 0.5:
        places = [*writes[1:], *writes[:1]]
        writes = [
            Step(at=when.at, path=path, action="write", source=path, offset=what.offset, length=what.length)
            for when, what in zip(writes, places, strict=True)
        ]
    first = (Step(at=begin, path=path, action="create"), Step(at=begin, path=path, action="truncate", length=size))
    return Writing(steps=(*first, *writes, Step(at=end, path=path, action="finish")), appears=begin, whole=end)


def die(written: Writing, chance: Chance, *, begun: bool = False) -> Writing:
    """Let a writer die half-way; what it wrote under a hidden name stays there, and is never renamed.

    ``begun`` says that its first chunk is written in any case, where there is a second one.

    >>> import random
    >>> died = die(write_hidden("Red/a.fits", 5000, random.Random(1), (0, 90)), random.Random(1))
    >>> died.steps[-1].action, died.appears, died.whole
    ('leave', None, None)
    """
    writes = [place for place, step in enumerate(written.steps) if step.action == "write"]
    last = chance.randrange(begun and len(writes) > 1, len(writes)) if writes else 0  # the last chunk is never written
    steps = written.steps[: writes[last] if writes else 1]
    died = Step(at=written.steps[writes[last]].at if writes else steps[-1].at, path=steps[0].path, action="leave")
    hidden = written.steps[-1].action == "rename"
    return Writing(steps=(*steps, died), appears=None if hidden else written.appears, whole=None)


def write_again(written: Writing, begin: int, changed: int | None = None) -> Writing:
    """Write a file once more from an instant [ns after the start] on: in place, or renamed over the first, as it was then.

    Parameters
    ----------
    written : Writing
        How it was written first.
    begin : int
    changed : int or None
        The place of a byte that is another one now.

    >>> import random
    >>> again = write_again(write_growing("Red/a.fits", 5000, random.Random(1), (0, 90)), 1000)
    >>> again.steps[0].action, again.whole
    ('reopen', 1090)
    """
    later = begin - written.steps[0].at
    hidden = written.steps[-1].action == "rename"
    steps = []
    for step in written.steps:
        inside = changed is not None and step.action == "write" and step.offset <= changed < step.offset + step.length
        steps.append(
            Step(
                at=step.at + later,
                path=step.path,
                action="reopen" if step.action == "create" and not hidden else step.action,
                source=step.source,
                offset=step.offset,
                length=step.length,
                changed=changed if inside else None,
                to=step.to,
            )
        )
    return Writing(steps=tuple(steps), appears=steps[0].at, whole=steps[-1].at)


def _cuts(size: int, chance: Chance, chunks: int, least: int) -> tuple[int, ...]:
    """Return where chunks begin and end, both ends of the file included.

    None is at the end of a block, where what there is could be a shorter FITS file, and each is as long as it takes to be known.
    """
    shortest = max(_SHORTEST_CUT, least)
    if size <= shortest + 2:
        return (0, size)
    drawn = {cut for _ in range(chunks - 1) if (cut := chance.randrange(shortest, size)) % _BLOCK}
    return (0, *sorted(drawn or {size - 1 if (size - 1) % _BLOCK else size - 2}), size)


def _writes(path: str, source: str, cuts: Sequence[int], span: tuple[int, int]) -> list[Step]:
    """Return the writing of chunks, evenly over a span of time; nothing is written at its very ends."""
    begin, end = span
    pairs = [(a, b) for a, b in pairwise(cuts) if a < b]
    return [
        Step(at=begin + (end - begin) * number // (len(pairs) + 1), path=path, action="write", source=source, offset=a, length=b - a)
        for number, (a, b) in enumerate(pairs, 1)
    ]


def _under(name: str, step: Step) -> Step:
    """Return a step that is done under another name."""
    return Step(at=step.at, path=name, action=step.action, source=step.source, offset=step.offset, length=step.length)
