"""The journal as the watcher keeps it: while it cannot be written, exposures go on, and what was to be noted is noted afterwards."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from assembler.core.instants import SECOND
from assembler.core.instrument import Instrument
from assembler.core.states import FINAL, STEPS, State, next_attempt
from assembler.errors import AssemblerError, OutputError
from assembler.service.journal import Journal
from assembler.service.journal_reader import Entry, ExposureName, Sighting
from assembler.service.log import Log

KEPT = 30 * 86_400 * SECOND
"""For how long the journal keeps what is done [ns], and exposures longer, as long as their night is there."""

_MOST_OWED = 20_000


_LAST = 20


class Diary:
    """Notes what the watcher does. One thread uses it.

    Parameters
    ----------
    journal : Journal
    instrument : Instrument
        May be set anew.
    l0s : callable
        Returns the paths of the L0s that there are, for a journal that has to be made anew.
    clock : callable
        Returns the instant [ns].
    log : Log
    """

    def __init__(
        self, journal: Journal, instrument: Instrument, l0s: Callable[[], Iterable[Path]], clock: Callable[[], int], log: Log
    ) -> None:
        self._journal = journal
        self.instrument = instrument
        self._l0s = l0s
        self._clock = clock
        self._log = log
        self._owed: deque[Callable[[], None]] = deque(maxlen=_MOST_OWED)  # who loses the oldest is told by the L0s at the next start
        self._attempts: dict[str, int] = {}
        self._is_new = False
        self.failure = ""
        if journal.moved_aside:
            log.warning("journal_moved_aside", path=journal.path, to=journal.moved_aside)

    def begin(self) -> list[Entry]:
        """Catch up with the L0s that there are, and return what was open when the last watcher stopped."""
        try:
            self._rebuild()
            return self._journal.resume()
        except OutputError as error:
            self._fail(error)
            return []

    def has_l0_in(self, directory: Path) -> bool:
        """Tell whether the last L0s were made in a directory."""
        try:
            return any(Path(entry.l0).parent == directory for entry in self._journal.read.last(_LAST) if entry.l0)
        except OutputError as error:
            self._fail(error)
            return False

    def note(self, name: ExposureName, state: State, detail: str = "", **known: Any) -> None:
        """Note a state, as `Journal.note` does; states that were passed over on the way are noted, too."""
        if state == "assembling":
            self._attempts[name.key] = self._attempts.get(name.key, 0) + 1
        elif state == "published":
            self._attempts.pop(name.key, None)
        self._do(partial(self._write, name, state, detail, known))

    def note_failure(self, name: ExposureName, error: AssemblerError, random: float) -> int | None:
        """Note that an exposure failed, and return when to try again [ns], or None when that is of no use."""
        again = next_attempt(error, self._attempts.get(name.key, 1), self._clock(), random)
        self.note(name, "failed", str(error), reason=str(error), again_at=again)
        if again is None:
            self._attempts.pop(name.key, None)
        return again

    def note_sub_fits(self, sightings: Iterable[Sighting]) -> None:
        """Note sub-FITS that were seen, as `Journal.note_sub_fits` does."""
        self._do(partial(self._write_sub_fits, tuple(sightings)))

    def of_night(self, night: str) -> tuple[list[Entry], list[Sighting]]:
        """Return the exposures of a night, and the sub-FITS in it that belong to none; nothing when the journal cannot be read."""
        for _ in range(2):  # one that is damaged or gone is made anew at once: without it, a whole night would be made again
            try:
                return self._journal.read.of_night(night), [s for s in self._journal.read.orphans() if s.path.startswith(f"{night}/")]
            except OutputError as error:
                self._fail(error)
                self._renew()
        return [], []

    def entry(self, name: ExposureName) -> Entry | None:
        """Return an exposure, as far as is known."""
        try:
            return self._journal.read.exposure(name.key)
        except OutputError as error:
            self._fail(error)
            return None

    def counts(self) -> Mapping[State, int]:
        """Return how many exposures are in each state; nothing while the journal cannot be read, or its file is not what it was."""
        if self.failure:
            return {}
        try:
            self._journal.check()
            return self._journal.read.counts()
        except OutputError as error:
            self._fail(error)
            return {}

    def forget(self, watched: Iterable[str]) -> None:
        """Forget what is long done, as `Journal.forget` does."""
        if self.failure:
            return
        try:
            gone = self._journal.forget(self._clock() - KEPT, tuple(watched))
        except OutputError as error:
            self._fail(error)
            return
        if gone:
            self._log.info("journal_shortened", exposures=gone)

    def mend(self) -> bool:
        """Open the journal again if it failed, and note what is owed; return whether it was begun anew, and knows only the L0s."""
        if self.failure:
            self._renew()
        if self.failure:
            return False
        is_new, self._is_new = self._is_new, False
        return is_new

    def _renew(self) -> None:
        """Open the journal again, and note what is owed."""
        try:
            moved = self._journal.renew()
            if moved:
                self._log.warning("journal_moved_aside", path=self._journal.path, to=moved)
            while self._owed:  # before the L0s tell of the same, more briefly
                self._owed[0]()
                self._owed.popleft()
            if self._journal.needs_rebuild:
                self._rebuild()
                self._is_new = True
        except OutputError as error:
            self.failure = str(error)
            return
        self.failure = ""
        self._log.info("journal_recovered", path=self._journal.path)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def _rebuild(self) -> None:
        rebuilt = self._journal.rebuild(self._unknown(), self.instrument)
        if rebuilt.noted or rebuilt.refused:
            self._log.info("journal_caught_up", l0s=rebuilt.noted, refused=len(rebuilt.refused))
        for path, reason in rebuilt.refused:
            self._log.warning("l0_not_read", path=path, reason=reason)

    def _unknown(self) -> list[Path]:
        """Return the L0s that the journal does not know and has not forgotten, or that were written after it was told of them."""
        known = {entry.l0: entry.changed for entry in self._journal.read.last(2**31)}
        oldest = 0 if self._journal.needs_rebuild else self._clock() - KEPT
        unknown = []
        for path in self._l0s():
            try:
                written = path.stat().st_mtime_ns
            except OSError:
                continue
            if written > known.get(str(path), oldest):
                unknown.append(path)
        return unknown

    def _write(self, name: ExposureName, state: State, detail: str, known: dict[str, Any]) -> None:
        entry = self._journal.read.exposure(name.key)
        try:
            for passed in _way(entry.state if entry else None, state)[:-1]:
                self._journal.note(name, passed, sub_fits=known.get("sub_fits", ()))  # a stop here leaves none without its files
            self._journal.note(name, state, detail, **known)
        except ValueError as error:
            self._log.warning("journal_refused", frame=name.frame, night=name.night, reason=str(error))

    def _write_sub_fits(self, sightings: Iterable[Sighting]) -> None:
        try:
            self._journal.note_sub_fits(sightings)
        except ValueError as error:
            self._log.warning("journal_refused", reason=str(error))

    def _do(self, write: Callable[[], None]) -> None:
        """Write something, or owe it; in order, so that what is owed comes first."""
        if not self.failure:
            try:
                write()
            except OutputError as error:
                self._fail(error)
            else:
                return
        self._owed.append(write)

    def _fail(self, error: OutputError) -> None:
        if not self.failure:
            self._log.error("journal_failed", reason=str(error))
        self.failure = str(error)


def _way(before: State | None, after: State) -> list[State]:
    """Return the shortest lawful way from one state to another, without the first and with the last.

    Of two, it is the one through states that do not last: nothing was published or superseded on the way.

    >>> _way("seen", "published"), _way(None, "waiting"), _way("published", "assembling")
    (['ready', 'assembling', 'published'], ['seen', 'waiting'], ['ready', 'assembling'])
    """
    ways: list[list[State]] = [["seen"]] if before is None else [[state] for state in _steps(before)]
    for way in ways:
        if way[-1] == after:
            return way
        ways += [[*way, step] for step in _steps(way[-1]) if step not in way]
    raise ValueError(f"no way leads from {before} to {after}")


def _steps(state: State) -> list[State]:
    return sorted(STEPS[state], key=lambda step: (step in FINAL, step))
