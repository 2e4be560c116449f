"""What the journal tells of a night under way, read at one moment: exposures in flight, the last ones done, orphans, the watcher."""

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from assembler.core.instants import SECOND, format_iso
from assembler.core.states import State
from assembler.errors import OutputError
from assembler.service.journal_file import taken_by
from assembler.service.journal_reader import Entry, Sighting, Step, open_reader

_ORPHANS = 5
_LINES = 1000

Mark = tuple[int, int]
"""A line of the histories: which file it is in, and its number there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An exposure that is done, and how long it took from the first note of it to the last [ns]; None where that is forgotten."""

    entry: Entry
    took: int | None

    @property
    def is_bad(self) -> bool:
        """Whether somebody has to look at it: it failed for good, or its L0 has findings of severity error."""
        return self.entry.state == "failed" or (self.entry.state == "published" and self.entry.findings["error"] > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What there is to show.

    Attributes
    ----------
    journal : str
        Its path.
    at : int
        When it was asked [ns].
    watcher : str or None
        Who has it open for writing, as in ``process 4711``; empty for nobody, None where that cannot be told.
    in_flight : tuple of Entry
        What is not done, and what failed and is tried again; the longest untouched first.
    done : tuple of Done
        The last ones, the newest last.
    counts : mapping of str to int
        How many exposures are in each state.
    orphans : int
        How many sub-FITS belong to no exposure.
    newest_orphans : tuple of (int, Sighting)
        Some of them, each with when it was seen [ns]; the newest last.
    """

    journal: str
    at: int
    watcher: str | None
    in_flight: tuple[Entry, ...]
    done: tuple[Done, ...]
    counts: Mapping[State, int]
    orphans: int
    newest_orphans: tuple[tuple[int, Sighting], ...]

    @property
    def exit_code(self) -> int:
        """1 when somebody has to look at an exposure that is shown as done, else 0."""
        return 1 if any(done.is_bad for done in self.done) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What was noted since somebody asked last: the lines, with their exposures as they are now, and where the next ones begin."""

    last: Mark
    lines: tuple[tuple[Step, Entry], ...]


def read_overview(path: str, count: int, now: int) -> Overview:
    """Read what there is to show of a journal, and let go of it.

    Parameters
    ----------
    path : str
    count : int
        How many of those that are done.
    now : int
        [ns]

    Raises
    ------
    ConfigurationError
        When there is none.
    OutputError
        When it cannot be read just now.
    """
    watcher = taken_by(path)
    with closing(open_reader(path)) as reader, reader.at_one_moment():
        done = []
        for entry in reversed(reader.done(count)):
            steps = reader.history(entry.name.key)
            done.append(Done(entry=entry, took=steps[-1].at - steps[0].at if len(steps) > 1 else None))
        return Overview(
            journal=path,
            at=now,
            watcher=watcher,
            in_flight=tuple(sorted((*reader.open_exposures(), *reader.tried_again()), key=lambda e: (e.changed, e.name.key))),
            done=tuple(done),
            counts=reader.counts(),
            orphans=reader.count_orphans(),
            newest_orphans=tuple(reader.newest_orphans(_ORPHANS)),
        )


def read_news(path: str, last: Mark | None) -> News:
    """Read what was noted after a line, or with None, nothing but where the last one is; for what is raised see `read_overview`.

    Of a journal that was begun anew all lines are told, or the newest ones of very many.
    """
    with closing(open_reader(path)) as reader, reader.at_one_moment():
        file = _inode(path)
        newest = next((number for number, _, _ in reader.steps_after(0, 1)), 0)
        if last is None:
            return News(last=(file, newest), lines=())
        steps = reader.steps_after(last[1] if last[0] == file and last[1] <= newest else 0, _LINES)
        entries = {key: reader.exposure(key) for _, key, _ in steps}
        return News(last=(file, newest), lines=tuple((step, entry) for _, key, step in steps if (entry := entries[key]) is not None))


def to_plain(overview: Overview) -> dict[str, Any]:
    """Return what JSON shows; each name is always there, and docs/status.md tells what it means."""
    return {
        "journal": overview.journal,
        "at": _iso(overview.at),
        "watcher": {"running": None if overview.watcher is None else bool(overview.watcher), "process": _process(overview.watcher)},
        "in_flight": [entry_to_plain(entry) for entry in overview.in_flight],
        "done": [entry_to_plain(done.entry) | {"seconds": None if done.took is None else done.took / SECOND} for done in overview.done],
        "counts": dict(overview.counts),
        "orphans": {
            "count": overview.orphans,
            "newest": [{"path": s.path, "origin": s.origin, "seen": _iso(seen)} for seen, s in overview.newest_orphans],
        },
    }


def entry_to_plain(entry: Entry) -> dict[str, Any]:
    """Return an exposure for JSON."""
    return {
        "instrument": entry.name.instrument,
        "night": entry.name.night,
        "frame": entry.name.frame,
        "first": entry.name.first,
        "state": entry.state,
        "since": _iso(entry.since),
        "changed": _iso(entry.changed),
        "found": {origin: sighting.path for origin, sighting in entry.sub_fits.items()},
        "awaited": list(entry.awaited),
        "until": _iso(entry.until),
        "attempts": entry.attempts,
        "next_attempt": _iso(entry.next_attempt),
        "reason": entry.reason,
        "l0": entry.l0,
        "version": entry.version,
        "missing": dict(entry.missing),
        "findings": dict(entry.findings),
    }


def step_to_plain(step: Step, entry: Entry) -> dict[str, Any]:
    """Return a line of history for JSON, with its exposure as it is by now."""
    return {"at": _iso(step.at), "state": step.state, "detail": step.detail, "exposure": entry_to_plain(entry)}


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError as error:
        raise OutputError(f"{path}: the journal cannot be found any more ({error.strerror})") from error


def _process(watcher: str | None) -> int | None:
    number = (watcher or "").removeprefix("process ")
    return int(number) if number.isdecimal() else None


def _iso(instant: int | None) -> str | None:
    return None if instant is None else f"{format_iso(instant)}Z"
