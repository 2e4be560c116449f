"""The watcher's memory of what was done with every exposure, on a local disk; the L0s are the truth, and it is made anew from them."""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import RLock

from assembler.core.instrument import Instrument
from assembler.core.states import FINAL, State, attempts_after, check_step, next_attempt, read_state, resumed
from assembler.errors import AssemblerError, OutputError
from assembler.service import journal_file
from assembler.service.journal_l0s import L0Account, Rebuilt, read_l0s
from assembler.service.journal_reader import (
    APPLICATION,
    VERSION,
    Entry,
    ExposureName,
    JournalReader,
    Sighting,
    connect,
    mark_of,
    told,
)
from assembler.service.journal_texts import as_text, bound, format_json, format_signature
from assembler.service.mounts import read_mountinfo

_LONGEST_TEXT = 1000
_LONGEST_HISTORY = 200
_BATCH = 100
_REBUILT = "rebuilt"
_WAITING = frozenset({"seen", "waiting"})
_DONE = """
SELECT key, night FROM exposures
WHERE (state IN ('published', 'superseded') OR (state = 'failed' AND next_attempt IS NULL)) AND changed < ?
"""


class Journal:
    """The journal, open for writing by this process alone.

    Every operation is one transaction, which is on the disk when it returns, or has not happened at all. Any thread may call.
    After an `OutputError`, `renew` opens the file again; what is damaged is moved aside.

    Parameters
    ----------
    path : Path or str
        Made where it is not there, with its directory.
    clock : callable
        Returns the instant [ns].
    mountinfo : str, optional
        The mount table; that of this process unless told otherwise.

    Attributes
    ----------
    path : str
        Without symbolic links.
    moved_aside : str
        Where a file was moved to that was no journal, or was damaged, when this one was opened; else empty.
    read : JournalReader
        All that it can be asked.

    Raises
    ------
    ConfigurationError
        When the path is on a network file system, or is a directory.
    OutputError
        When another process has the journal, or its disk is full or fails.
    """

    def __init__(self, path: Path | str, clock: Callable[[], int], mountinfo: str | None = None) -> None:
        self.path = os.path.realpath(path)
        self._clock = clock
        self._lock = RLock()
        journal_file.check_place(self.path, read_mountinfo() if mountinfo is None else mountinfo)
        self._taken = journal_file.take(self.path)
        try:
            self._open()
        except BaseException:
            os.close(self._taken)
            raise

    @property
    def needs_rebuild(self) -> bool:
        """Whether it was begun anew and has not been told of the L0s yet."""
        with self._lock, told(self.path):
            return self._connection.execute("SELECT 1 FROM marks WHERE name = ?", (_REBUILT,)).fetchone() is None

    def note(
        self,
        name: ExposureName,
        state: State,
        detail: str = "",
        *,
        sub_fits: Iterable[Sighting] = (),
        l0: str | None = None,
        version: int | None = None,
        findings: Mapping[str, int] | None = None,
        missing: Mapping[str, str] | None = None,
        reason: str = "",
        again_at: int | None = None,
        awaited: tuple[str, ...] | None = None,
        until: int | None = None,
    ) -> None:
        """Note that an exposure came into a state, or what more is known in it.

        Parameters
        ----------
        name : ExposureName
        state : str
        detail : str
            For the history.
        sub_fits : iterable of Sighting
            What was found; of an origin that had another file, that file becomes an orphan. Their keys are set here.
        l0, version, findings : optional
            What the L0 is, and how many findings of each severity it has; None leaves them as they were.
        missing : mapping of str to str, optional
            By origin, why the L0 lacks it; None leaves it as it was.
        reason : str
            Why it failed or was superseded.
        again_at : int, optional
            Of a failed one: when to try again [ns].
        awaited : tuple of str, optional
            The origins that it waits for, in the order of the YAML; None leaves them as they were. One that is neither seen nor
            waiting waits for none.
        until : int, optional
            When they are given up [ns]; None leaves that as it was, unless ``awaited`` is told anew.

        Raises
        ------
        OutputError
            When it could not be written; nothing of it was.
        ValueError
            When that step is not lawful, or a sub-FITS that did not change belongs to another exposure that stands.
        """
        with self._transaction():
            before = self._state_of(name.key)
            lawful = check_step(before, state)
            self._step(name, before, lawful, detail, version=version, reason=reason, again_at=again_at)
            self._await(name.key, lawful, awaited, until)
            for sighting in sub_fits:
                self._attach(sighting, name.key)
            self._describe(name.key, l0, version, findings, missing)

    def note_failure(self, name: ExposureName, error: AssemblerError, random: float) -> int | None:
        """Note that an exposure failed, and return when to try again [ns], or None when that is of no use.

        ``random`` is at least 0 and less than 1. For what is raised, see `note`.
        """
        with self._transaction():
            before = self._state_of(name.key)
            (attempts,) = self._execute("SELECT coalesce(max(attempts), 0) FROM exposures WHERE key = ?", bound(name.key)).fetchone()
            again = next_attempt(error, attempts, self._clock(), random)
            self._step(name, before, check_step(before, "failed"), str(error), reason=str(error), again_at=again)
        return again

    def note_sub_fits(self, sightings: Iterable[Sighting]) -> None:
        """Note sub-FITS that were seen, each as an orphan, or as that of the exposure it names, whose state stays.

        So is a signature learnt that the journal does not have, because it was made anew.
        """
        with self._transaction():
            for sighting in sightings:
                self._attach(sighting, sighting.key)

    def resume(self) -> list[Entry]:
        """Make ready again what a stop found in the middle, and return everything that is open; to be called once at a start."""
        with self._transaction():
            for entry in self.read.open_exposures():
                if resumed(entry.state) != entry.state:
                    self._step(entry.name, entry.state, resumed(entry.state), f"begun again after a stop while {entry.state}")
        return self.read.open_exposures()

    def rebuild(self, paths: Iterable[Path | str], instrument: Instrument) -> Rebuilt:
        """Note of each L0 that it was published, unless that much is known; the order of the paths does not matter.

        What cannot be read, or is no L0, is told in the result and passed over.

        Parameters
        ----------
        paths : iterable of path
            L0s, those in ``superseded/`` too, if wanted.
        instrument : Instrument
            Whose L0s they are.
        """
        l0s, refused = read_l0s(paths, instrument)
        noted = 0
        for begin in range(0, max(len(l0s), 1), _BATCH):
            with self._transaction():
                for told_by in l0s[begin : begin + _BATCH]:
                    noted += self._take_over(told_by)
                if begin + _BATCH >= len(l0s):
                    self._execute("INSERT OR REPLACE INTO marks (name, at) VALUES (?, ?)", _REBUILT, self._clock())
        return Rebuilt(noted=noted, refused=refused)

    def forget(self, older_than: int, watched: Collection[str] = ()) -> int:
        """Forget what is done and was not touched since an instant [ns]: published, superseded, or failed for good.

        Of the nights that are watched, the exposures and their sub-FITS stay, lest they be taken for new, and only their
        histories go. Orphans seen before that go, too, unless they are below a night that is watched; and so does what is open
        in a night that is not, where nobody will ever go on with it.

        Returns
        -------
        int
            How many exposures were forgotten.
        """
        with self._transaction():
            done = self._execute(_DONE, older_than).fetchall()
            old = self._execute("SELECT key, night FROM exposures WHERE changed < ?", older_than).fetchall()
            gone = [(key,) for key, night in old if as_text(night) not in watched]
            orphans = self._execute("SELECT path FROM sub_fits WHERE key IS NULL AND seen < ?", older_than).fetchall()
            unwatched = [(path,) for (path,) in orphans if not any(as_text(path).startswith(f"{night}/") for night in watched)]
            for statement, keys in (
                ("DELETE FROM history WHERE key = ?", [(key,) for key, _ in done]),
                ("DELETE FROM exposures WHERE key = ?", gone),
                ("DELETE FROM sub_fits WHERE path = ?", unwatched),
            ):
                with told(self.path):
                    self._connection.executemany(statement, keys)
        return len(gone)

    def check(self) -> None:
        """See that whoever opens the file now finds the journal in it; what this process reads may come from its memory.

        Raises
        ------
        OutputError
            When the file is gone, or is no journal any more.
        """
        self._check_that_it_is_there()
        with told(self.path), closing(connect(self.path, "ro")) as newcomer:
            mark = mark_of(newcomer)
        if mark != (APPLICATION, VERSION):
            raise OutputError(f"{self.path}: is no journal any more; opened again, it is moved aside and made anew from the L0s")

    def renew(self) -> str:
        """Open the file again, as at a start, and return where it was moved to if it was damaged, or the empty string.

        Raises
        ------
        OutputError
            When that cannot be done just now; it may be called again.
        """
        with self._lock:
            held = self._taken >= 0 and journal_file.is_taken(self.path, self._taken)
            self.close(keep=held)
            if not held:
                self._taken = journal_file.take(self.path)
            self._open()
            return self.moved_aside

    def close(self, *, keep: bool = False) -> None:
        """Let go of the file, and unless told to keep it, of the right to write it."""
        with self._lock:
            try:
                self._connection.close()
            except sqlite3.Error:  # damage, or a disk that fails, which the next start looks into
                pass
            finally:
                if not keep and self._taken >= 0:
                    os.close(self._taken)
                    self._taken = -1

    def _open(self) -> None:
        opened = journal_file.open_file(self.path, self._clock())
        self._connection, self._inode, self.moved_aside = opened.connection, opened.inode, opened.aside
        self.read = JournalReader(self._connection, self.path, self._lock)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._check_that_it_is_there()
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
                self._execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # where SQLite has rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise

    def _check_that_it_is_there(self) -> None:
        """Raise when the file was removed or replaced, since SQLite would go on writing to what nobody can find."""
        try:
            if os.stat(self.path).st_ino == self._inode:
                return
            what = "was replaced by another file"
        except OSError as error:
            what = f"cannot be found any more ({error.strerror})"
        raise OutputError(f"{self.path}: the journal {what}; opened again, it is made anew from the L0s")

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        with told(self.path):
            return self._connection.execute(statement, values)

    def _state_of(self, key: str) -> State | None:
        row = self._execute("SELECT state FROM exposures WHERE key = ?", bound(key)).fetchone()
        return row and read_state(row[0])

    def _step(
        self,
        name: ExposureName,
        before: State | None,
        state: State,
        detail: str,
        *,
        at: int | None = None,
        version: int | None = None,
        reason: str = "",
        again_at: int | None = None,
    ) -> None:
        """Write a state and a line of history; that a version replaces an older one is a line of its own."""
        now, key = self._clock() if at is None else at, bound(name.key)
        (turn,) = self._execute("SELECT coalesce(max(turn), 0) + 1 FROM exposures").fetchone()
        if before is None:
            frame = None if name.frame is None else str(name.frame)
            self._execute(
                "INSERT INTO exposures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, '', 0, 0, 0, 0, '', '[]', NULL, '{}')",
                *(key, bound(name.instrument), bound(name.night), frame, bound(name.first), state, now, now, turn),
            )
        attempts, known = self._execute("SELECT attempts, version FROM exposures WHERE key = ?", key).fetchone()
        self._execute(
            "UPDATE exposures SET since = CASE state WHEN ?1 THEN since ELSE ?2 END, state = ?1, changed = ?2, turn = ?3,"
            " attempts = ?4, next_attempt = ?5, reason = ?6 WHERE key = ?7",
            *(state, now, turn, attempts_after(before, state, attempts), again_at if state == "failed" else None),
            *(bound(reason[:_LONGEST_TEXT]) if state in FINAL else "", key),
        )
        if state not in _WAITING:
            self._execute("UPDATE exposures SET awaited = '[]', until = NULL WHERE key = ?", key)
        if state == "published" and 0 < known < (version or 0):
            self._remember(name.key, now, "superseded", f"version {known} by version {version}")
        self._remember(name.key, now, state, detail)

    def _remember(self, key: str, at: int, state: State, detail: str) -> None:
        """Write a line of history, and forget the oldest ones of an exposure that has very many."""
        self._execute(
            "INSERT INTO history (key, at, state, detail) VALUES (?, ?, ?, ?)", bound(key), at, state, bound(detail[:_LONGEST_TEXT])
        )
        self._execute(
            "DELETE FROM history WHERE key = ?1 AND id <= (SELECT id FROM history WHERE key = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            *(bound(key), _LONGEST_HISTORY),
        )

    def _take_over(self, l0: L0Account) -> bool:
        """Note that an exposure was published, as its L0 tells; tell whether that was news. What is being made is left alone."""
        name = l0.name
        row = self._execute("SELECT state, version FROM exposures WHERE key = ?", bound(name.key)).fetchone()
        if row and (row[0] not in ("published", *_WAITING) or row[1] >= l0.version):
            return False
        told_by = f"told by {l0.path}"
        self._step(name, row and row[0], "published", told_by, at=l0.written, version=l0.version)
        for sighting in l0.sub_fits:
            self._attach(sighting, name.key)
        self._describe(name.key, l0.path, l0.version, l0.findings, l0.missing)
        return True

    def _await(self, key: str, state: State, awaited: tuple[str, ...] | None, until: int | None) -> None:
        """Write what an exposure waits for; None leaves it as it was."""
        if state in _WAITING:
            self._execute(
                "UPDATE exposures SET awaited = coalesce(?1, awaited), until = coalesce(?2, CASE WHEN ?1 IS NULL THEN until END)"
                " WHERE key = ?3",
                *(None if awaited is None else format_json(awaited), until, bound(key)),
            )

    def _describe(
        self, key: str, l0: str | None, version: int | None, findings: Mapping[str, int] | None, missing: Mapping[str, str] | None
    ) -> None:
        """Write what an L0 is; None leaves it as it was."""
        counted = (None, None, None) if findings is None else tuple(findings.get(s, 0) for s in ("info", "warning", "error"))
        self._execute(
            "UPDATE exposures SET l0 = coalesce(?, l0), version = coalesce(?, version), infos = coalesce(?, infos),"
            " warnings = coalesce(?, warnings), errors = coalesce(?, errors), missing = coalesce(?, missing) WHERE key = ?",
            *(None if l0 is None else bound(l0), version, *counted, None if missing is None else format_json(dict(missing)), bound(key)),
        )

    def _attach(self, sighting: Sighting, key: str) -> None:
        """Write whose a sub-FITS is."""
        path, signature = bound(sighting.path), format_signature(sighting.signature)
        if key and self._state_of(key) is None:
            raise ValueError(f"{sighting.path} cannot belong to {key}, which is not known")
        owner = self._execute(
            "SELECT key, signature, (SELECT state FROM exposures AS e WHERE e.key = s.key) FROM sub_fits AS s WHERE path = ?", path
        ).fetchone()
        if owner and owner[0] not in (None, bound(key)) and owner[1] == signature is not None and owner[2] != "superseded":
            other = f"belong to {key} as well" if key else "be an orphan"
            raise ValueError(f"{sighting.path} belongs to {owner[0]!r} and cannot {other}")
        if key:
            self._execute(
                "UPDATE sub_fits SET key = NULL WHERE key = ? AND origin = ? AND path <> ?", bound(key), bound(sighting.origin), path
            )
        self._execute(
            "INSERT INTO sub_fits (path, origin, signature, key, seen) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (path) DO UPDATE"
            " SET origin = ?2, signature = coalesce(?3, signature), key = ?4, seen = ?5",
            *(path, bound(sighting.origin), signature, bound(key) if key else None, self._clock()),
        )
