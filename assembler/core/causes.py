"""Why two L0s differ: one ingredient is exchanged at a time, and each change belongs to the steps in which it comes about."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from assembler.core.difference import Change, Unit, compare_units, grouped


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """An L0 on the way from an old one to a new one: its HDUs, and what was exchanged since the stage before."""

    units: tuple[Unit, ...]
    cause: str = ""


def explain_changes(changes: Sequence[Change], stages: Sequence[Stage]) -> tuple[Change, ...]:
    """Return changes with their causes; what is expected has none.

    Parameters
    ----------
    changes : sequence of Change
        What differs between the first stage and the last.
    stages : sequence of Stage

    >>> old, new = ((Unit(name="A", cards=(card.ljust(80),)),) for card in ("GAIN    =    5.0", "GAIN    =    5.5"))
    >>> stages = [Stage(units=old), Stage(units=new, cause="telemetry")]
    >>> [c.causes for c in explain_changes(compare_units(old, new), stages)]
    [('telemetry',)]
    """
    steps = [_step(a, b) for a, b in pairwise(stages) if a.units != b.units]
    followed = [_followed(change, steps) for change in changes]
    claimed = {touch for touches in followed for touch in touches}
    done = _what_was_done(steps)
    by_name, by_hdu = _where(steps)
    explained = []
    for change, touches in zip(changes, followed, strict=True):
        found = touches or _alike(change, done, claimed)
        claimed |= found
        near = by_name.get((change.part, change.hdu, change.keyword)) or by_hdu.get(change.hdu) or range(len(steps))
        causes = dict.fromkeys(steps[number].cause for number in sorted({t[0] for t in found}) or near)
        explained.append(change if change.expected else replace(change, causes=tuple(causes)))
    return tuple(explained)


_Touch = tuple[int, str, str, str, int]
"""The number of a step, and part, HDU, ``old`` or ``new``, and place of an item that it changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One exchange: what it changed, and for each header and table where its items went, and where they came from."""

    cause: str
    changes: tuple[Change, ...]
    forward: dict[tuple[str, str], list[int | None]]
    backward: dict[tuple[str, str], list[int | None]]
    touched: frozenset[tuple[str, str, str, int]]
    """Part, HDU, ``old`` or ``new``, and place of every item that it changed."""


def _step(before: Stage, after: Stage) -> _Step:
    changes = compare_units(before.units, after.units)
    counts = [{(part, unit.name): count for unit in stage.units for part, count in _counts(unit)} for stage in (before, after)]
    forward: dict[tuple[str, str], list[int | None]] = {}
    backward: dict[tuple[str, str], list[int | None]] = {}
    for key in counts[0].keys() & counts[1].keys():
        mine = [c for c in changes if (c.part, c.hdu) == key]
        there: list[int | None] = [None] * counts[0][key]
        origin: list[int | None] = [None] * counts[1][key]
        gone, came = {c.old_place for c in mine}, {c.new_place for c in mine}
        kept = zip((a for a in range(len(there)) if a not in gone), (b for b in range(len(origin)) if b not in came), strict=True)
        for a, b in (*kept, *((c.old_place, c.new_place) for c in mine)):
            if a is not None and b is not None:
                there[a], origin[b] = b, a
        forward[key], backward[key] = there, origin
    touched = [(c.part, c.hdu, side, p) for c in changes for side, p in (("old", c.old_place), ("new", c.new_place)) if p is not None]
    return _Step(cause=after.cause, changes=changes, forward=forward, backward=backward, touched=frozenset(touched))


def _counts(unit: Unit) -> tuple[tuple[str, int], ...]:
    return ("card", len(grouped(unit.cards))), ("row", len(unit.rows))


def _followed(change: Change, steps: Sequence[_Step]) -> set[_Touch]:
    """Return where a card or row was changed: the old one followed to the end, and the new one to the begin."""
    key = (change.part, change.hdu)
    found: set[_Touch] = set()
    place = change.old_place
    for number, step in enumerate(steps):
        # Its HDU may come or go, which is told of the HDU; and no plan has checksums, the last cards of a header.
        if place is None or place >= len(step.forward.get(key, ())):
            break
        if (*key, "old", place) in step.touched:
            found.add((number, *key, "old", place))
        place = step.forward[key][place]
    place = change.new_place
    for number, step in reversed([*enumerate(steps)]):
        if place is None or place >= len(step.backward.get(key, ())):
            break
        if (*key, "new", place) in step.touched:
            found.add((number, *key, "new", place))
        place = step.backward[key][place]
    return found


_Done = tuple[str, str, str, tuple[str, ...], tuple[str, ...]]
"""Kind, part, HDU, and the old and the new item of a change, wherever it was."""


def _what_was_done(steps: Sequence[_Step]) -> dict[_Done, deque[set[_Touch]]]:
    """Return by what was done where that was, the first step first."""
    done: dict[_Done, deque[set[_Touch]]] = {}
    for number, step in enumerate(steps):
        for c in step.changes:
            sides = (("old", c.old_place), ("new", c.new_place))
            touches: set[_Touch] = {(number, c.part, c.hdu, side, place) for side, place in sides if place is not None}
            done.setdefault((c.kind, c.part, c.hdu, c.old, c.new), deque()).append(touches)
    return done


def _alike(change: Change, done: Mapping[_Done, deque[set[_Touch]]], claimed: Collection[_Touch]) -> set[_Touch]:
    """Return one place where the same was done and that is nobody's yet: of cards that are alike, any may be the one that came."""
    same = done.get((change.kind, change.part, change.hdu, change.old, change.new), deque())
    while same:
        touches = same.popleft()  # once claimed it stays so, and is not looked at again
        if touches.isdisjoint(claimed):
            return touches
    return set()


def _where(steps: Sequence[_Step]) -> tuple[dict[tuple[str, str, str], list[int]], dict[str, list[int]]]:
    """Return the steps that changed something, by part, HDU and keyword, and by HDU."""
    by_name: dict[tuple[str, str, str], list[int]] = {}
    by_hdu: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        for name in dict.fromkeys((c.part, c.hdu, c.keyword) for c in step.changes):
            by_name.setdefault(name, []).append(number)
        for hdu in dict.fromkeys(c.hdu for c in step.changes):
            by_hdu.setdefault(hdu, []).append(number)
    return by_name, by_hdu
