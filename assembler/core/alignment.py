"""What became of each item of one sequence in another: as few changes as possible, none of them blamed on a neighbour.

An item is its text and its name. Two items with the same text are the same; two with the same name may be one that was
changed; others are never paired. The fewest changes are found as Ukkonen (1985) does: of each number of changes, only how
far one comes on each diagonal is kept, so that the effort grows with what differs and not with what there is.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence

Item = tuple[Hashable, Hashable]
Pair = tuple[int | None, int | None]

LIMIT = 200
"""So many changes are found in the best way; beyond, headers are cut first, at what there is once in both."""


def align(old: Sequence[Item], new: Sequence[Item], limit: int = LIMIT) -> list[Pair]:
    """Pair the items of two sequences, in their order.

    Parameters
    ----------
    old, new : sequence of (text, name)
    limit : int
        Up to so many changes there are as few as possible; the effort is bounded by it.

    Returns
    -------
    list of (int or None, int or None)
        Places in old and new; None where there is no counterpart.

    >>> align([("A=1", "A"), ("B=1", "B")], [("A=1", "A"), ("C=1", "C"), ("B=2", "B")])
    [(0, 0), (None, 1), (1, 2)]
    """
    pairs: list[Pair] = []
    ranges = [(0, len(old), 0, len(new))]
    while ranges:  # the last one is the earliest
        start, end, first, last = ranges.pop()
        while start < end and first < last and old[start][0] == new[first][0]:
            pairs.append((start, first))
            start, first = start + 1, first + 1
        tail = 0
        while start < end - tail and first < last - tail and old[end - tail - 1][0] == new[last - tail - 1][0]:
            tail += 1
        here, there = old[start : end - tail], new[first : last - tail]
        found = _shortest(here, there, max(limit, 2))  # two single items have to come out, else there is no end
        if found is not None:
            pairs += [(a if a is None else a + start, b if b is None else b + first) for a, b in found]
            pairs += [(end - n, last - n) for n in range(tail, 0, -1)]
            continue
        cuts = _once_in_both(here, there, 0) or _once_in_both(here, there, 1)
        if not cuts:
            a, b = len(here) // 2, len(there) // 2
            parts = [(0, a, 0, b), (a, len(here) + tail, b, len(there) + tail)]
        else:
            parts, a, b = [], 0, 0
            for c, d in cuts:
                parts += [(a, c, b, d), (c, c + 1, d, d + 1)]
                a, b = c + 1, d + 1
            parts.append((a, len(here) + tail, b, len(there) + tail))
        ranges += [(a + start, c + start, b + first, d + first) for a, c, b, d in reversed(parts)]
    return pairs


def _shortest(old: Sequence[Item], new: Sequence[Item], limit: int) -> list[Pair] | None:
    """Pair items with the fewest changes; None where that takes more than a limit."""
    if not old or not new:
        return [*((a, None) for a in range(len(old))), *((None, b) for b in range(len(new)))]
    common = sum((Counter(text for text, _ in old) & Counter(text for text, _ in new)).values())
    if max(len(old), len(new)) - common > limit:
        return None
    rows: list[dict[int, int]] = []
    aim = len(new) - len(old)
    for cost in range(limit + 1):
        row: dict[int, int] = {}
        spare = limit - cost
        for diagonal in range(max(-cost, aim - spare), min(cost, aim + spare) + 1):
            place = max(_steps(old, new, rows[-1], diagonal)) if rows else 0
            if place < 0:
                continue
            while place < len(old) and place + diagonal < len(new) and old[place][0] == new[place + diagonal][0]:
                place += 1
            row[diagonal] = place
        rows.append(row)
        if row.get(aim) == len(old):
            return _trace(old, new, rows, aim)
    return None


def _steps(old: Sequence[Item], new: Sequence[Item], before: dict[int, int], diagonal: int) -> tuple[int, int, int, int]:
    """Return how far one comes in old by one more change: changing, removing, adding an item, or nothing; -1 is nowhere."""
    here = before.get(diagonal, -1)
    removed = before.get(diagonal + 1, -2) + 1
    added = before.get(diagonal - 1, -1)
    changed = -1
    if 0 <= here < len(old) and here + diagonal < len(new) and old[here][1] == new[here + diagonal][1]:
        changed = here + 1
    if removed > len(old):
        removed = -1
    if added + diagonal > len(new):
        added = -1
    return changed, removed, added, here


def _trace(old: Sequence[Item], new: Sequence[Item], rows: Sequence[dict[int, int]], diagonal: int) -> list[Pair]:
    """Walk back from the ends to the begins."""
    pairs: list[Pair] = []
    place = len(old)
    for cost in range(len(rows) - 1, -1, -1):
        changed, removed, added, here = _steps(old, new, rows[cost - 1], diagonal) if cost else (-1, -1, -1, 0)
        start = max(changed, removed, added, here)
        pairs += [(a, a + diagonal) for a in range(place - 1, start - 1, -1)]
        if changed == start:
            place = start - 1
            pairs.append((place, place + diagonal))
        elif added == start:  # of one that came and one that went, that which went is told first
            place, diagonal = start, diagonal - 1
            pairs.append((None, place + diagonal))
        elif removed == start:
            place, diagonal = start - 1, diagonal + 1
            pairs.append((place, None))
        else:
            place = start
    return pairs[::-1]


def _once_in_both(old: Sequence[Item], new: Sequence[Item], part: int) -> list[tuple[int, int]]:
    """Return the places of what there is once in both, in the longest order that both have; part 0 is texts, 1 names."""
    once_old, once_new = ({t for t, n in Counter(item[part] for item in some).items() if n == 1} for some in (old, new))
    places = {item[part]: place for place, item in enumerate(new)}
    once = once_old & once_new
    return rising([(a, places[item[part]]) for a, item in enumerate(old) if item[part] in once])


def rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest part of pairs, which rise in their first, that rises in the second too.

    >>> rising([(0, 3), (1, 0), (2, 1)])
    [(1, 0), (2, 1)]
    """
    lowest: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for number, (_, value) in enumerate(pairs):
        at = bisect_left(lowest, value)
        before.append(ends[at - 1] if at else -1)
        lowest[at : at + 1] = [value]
        ends[at : at + 1] = [number]
    result = []
    number = ends[-1] if ends else -1
    while number >= 0:
        result.append(pairs[number])
        number = before[number]
    return result[::-1]
