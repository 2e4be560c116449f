"""What the journal tells: exposures with their states, histories and sub-FITS; nothing here writes."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any
from urllib.parse import quote

from assembler.core.states import LONGEST_PAUSE, OPEN, STATES, State, read_state
from assembler.errors import ConfigurationError, OutputError
from assembler.service.journal_texts import Signature, as_text, bound, read_awaited, read_missing, read_signature

APPLICATION = 0x4C30_4A4C
VERSION = 2
BUSY = 1.0
"""How long to wait for another program that has the file [s]; the watcher waits so long each time, and has better things to do."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_COLUMNS = (
    "key, instrument, night, frame, first, state, since, changed, attempts, next_attempt, l0, version, infos, warnings, errors, reason,"
    " awaited, until, missing"
)
_DONE = "(state IN ('published', 'superseded') OR (state = 'failed' AND next_attempt IS NULL))"
_DUE = "state = 'failed' AND next_attempt IS NOT NULL AND (next_attempt <= ? OR next_attempt > ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureName:
    """What an exposure is known by.

    Attributes
    ----------
    instrument : str
    night : str
        The night's directory, absolute.
    frame : int or None
    first : str
        The file name of the sub-FITS that it began with, for exposures without a frame number.
    """

    instrument: str
    night: str
    frame: int | None
    first: str = ""

    @property
    def key(self) -> str:
        """The one text that tells it from all others; two slashes are in no path, so no file name can make it another's."""
        return f"{self.night}#{self.frame}" if self.frame is not None else f"{self.night}//{self.first}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A sub-FITS that was seen: whose it is, and as which file.

    Attributes
    ----------
    path : str
    origin : str
    signature : tuple of int or None
        None where the journal was made anew from an L0, which does not tell it.
    key : str
        Of its exposure; empty for an orphan.
    """

    path: str
    origin: str
    signature: Signature | None
    key: str = ""

    def is_same(self, signature: Signature) -> bool:
        """Tell whether a file with this signature is the one that was seen, as far as is known."""
        return self.signature in (None, signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An exposure as the journal has it.

    Attributes
    ----------
    name : ExposureName
    state : str
    since, changed : int
        When it came into its state, and when anything was noted last [ns].
    attempts : int
        How often it was begun to be assembled since it was last done.
    next_attempt : int or None
        When to try again [ns]; None for never, and for exposures that have not failed.
    l0 : str
        Path of its L0, or empty while there is none.
    version : int
        Of its L0; 0 while there is none.
    sub_fits : mapping of str to Sighting
        By origin.
    findings : mapping of str to int
        How many of each severity.
    reason : str
        Why it failed or was superseded, or empty.
    awaited : tuple of str
        The origins that it waits for, in the order of the YAML; empty for one that does not wait.
    until : int or None
        When they are given up [ns]; None where that is not known.
    missing : mapping of str to str
        By origin, why its L0 lacks it: the code of the finding.
    """

    name: ExposureName
    state: State
    since: int
    changed: int
    attempts: int
    next_attempt: int | None
    l0: str
    version: int
    sub_fits: Mapping[str, Sighting]
    findings: Mapping[str, int]
    reason: str
    awaited: tuple[str, ...] = ()
    until: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of an exposure's history: when [ns], which state, and what there is to say."""

    at: int
    state: State
    detail: str


class JournalReader:
    """Reads the journal.

    Parameters
    ----------
    connection : sqlite3.Connection
    path : str
        What messages call it.
    lock : context manager, optional
        That of the writer, where the connection is the writer's own.
    """

    def __init__(self, connection: sqlite3.Connection, path: str, lock: AbstractContextManager[object] | None = None) -> None:
        self._connection = connection
        self._path = path
        self._lock = RLock() if lock is None else lock

    def open_exposures(self) -> list[Entry]:
        """Return what is not done, the longest waiting first."""
        return self._entries(f"state IN ({_marks(OPEN)}) ORDER BY turn", *sorted(OPEN))

    def due(self, now: int) -> list[Entry]:
        """Return what failed and is to be tried again at an instant [ns] or before.

        A retry that is farther away than any pause can be is due: the clock was set back.
        """
        return self._entries(f"{_DUE} ORDER BY turn", now, now + LONGEST_PAUSE)

    def last(self, count: int) -> list[Entry]:
        """Return the exposures that something was noted of last, the newest first."""
        return self._entries("TRUE ORDER BY turn DESC LIMIT ?", count)

    def exposure(self, key: str) -> Entry | None:
        """Return one exposure, or None."""
        return next(iter(self._entries("key = ?", bound(key))), None)

    def of_night(self, night: str) -> list[Entry]:
        """Return the exposures of a night's directory, in the order in which they were last noted."""
        return self._entries("night = ? ORDER BY turn", bound(night))

    def history(self, key: str) -> list[Step]:
        """Return the history of an exposure, oldest first."""
        rows = self._rows("SELECT at, state, detail FROM history WHERE key = ? ORDER BY id", bound(key))
        with told(self._path):
            return [_step(*row) for row in rows]

    def counts(self) -> dict[State, int]:
        """Return how many exposures are in each state."""
        rows = dict(self._rows("SELECT state, count(*) FROM exposures GROUP BY state"))
        return {state: rows.get(state, 0) for state in STATES}

    def tried_again(self) -> list[Entry]:
        """Return what failed and is to be tried again at some time, the longest ago first."""
        return self._entries("state = 'failed' AND next_attempt IS NOT NULL ORDER BY turn")

    def done(self, count: int) -> list[Entry]:
        """Return the last exposures that are done: published, superseded, or failed for good; the newest first."""
        return self._entries(f"{_DONE} ORDER BY turn DESC LIMIT ?", count)

    def steps_after(self, number: int, count: int) -> list[tuple[int, str, Step]]:
        """Return the newest lines of all histories, oldest first, each with its number, which grows, and its exposure's key."""
        statement = "SELECT id, key, at, state, detail FROM history WHERE id > ? ORDER BY id DESC LIMIT ?"
        rows = self._rows(statement, number, count)[::-1]
        with told(self._path):
            return [(_whole(row), as_text(key), _step(*step)) for row, key, *step in rows]

    def sighting(self, path: str) -> Sighting | None:
        """Return what is known of a sub-FITS by its path, or None."""
        return next(iter(self._sightings("path = ?", bound(path))), None)

    def orphans(self) -> list[Sighting]:
        """Return the sub-FITS that belong to no exposure."""
        return self._sightings("key IS NULL ORDER BY path")

    def newest_orphans(self, count: int) -> list[tuple[int, Sighting]]:
        """Return the orphans that were seen last, each with when that was [ns]; the newest last."""
        rows = self._rows(
            "SELECT seen, path, origin, signature, key FROM sub_fits WHERE key IS NULL ORDER BY seen DESC, path DESC LIMIT ?", count
        )
        with told(self._path):
            return [(_whole(seen), _sighting(tuple(row))) for seen, *row in rows[::-1]]

    def count_orphans(self) -> int:
        """Return how many sub-FITS belong to no exposure."""
        return _whole(self._rows("SELECT count(*) FROM sub_fits WHERE key IS NULL")[0][0])

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Let all that is asked meanwhile be of one moment; for a reader with a connection of its own."""
        self._rows("BEGIN")
        try:
            yield
        finally:
            with told(self._path):
                self._connection.rollback()

    def sightings(self) -> dict[str, Sighting]:
        """Return by path every sub-FITS that was seen, so that a scan need not ask for each."""
        return {s.path: s for s in self._sightings("TRUE ORDER BY path")}

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def check(self) -> None:
        """Read everything.

        Raises
        ------
        ValueError
            When a row is not one that a journal has.
        """
        for row in self._connection.execute(f"SELECT {_COLUMNS} FROM exposures"):  # noqa: S608 - constants
            _entry(row, {})
        for row in self._connection.execute("SELECT path, origin, signature, key FROM sub_fits"):
            _sighting(row)
        for at, state, detail in self._connection.execute("SELECT at, state, detail FROM history"):
            _step(at, state, detail)

    def _entries(self, condition: str, *values: object) -> list[Entry]:
        with self._lock, told(self._path):
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM exposures WHERE {condition}", values).fetchall()  # noqa: S608 - constants
            return [_entry(row, {s.origin: s for s in self._sightings("key = ? ORDER BY origin, path", row[0])}) for row in rows]

    def _sightings(self, condition: str, *values: object) -> list[Sighting]:
        rows = self._rows(f"SELECT path, origin, signature, key FROM sub_fits WHERE {condition}", *values)  # noqa: S608 - constants
        with told(self._path):
            return [_sighting(row) for row in rows]

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, told(self._path):
            return self._connection.execute(statement, values).fetchall()


def open_reader(path: str) -> JournalReader:
    """Open a journal for reading only, whether or not a watcher writes it; to be closed soon, since the watcher may begin a new one.

    Raises
    ------
    ConfigurationError
        When there is none, or it is that of another version of the assembler.
    OutputError
        When it cannot be read just now.
    """
    if not os.path.isfile(path):
        raise ConfigurationError(f"{path}: there is no journal; name the one that the watcher was given (--journal FILE)")
    with told(path):
        connection = connect(path, "ro")
        try:
            mark = mark_of(connection)
        except sqlite3.Error as error:
            connection.close()
            if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or os.path.exists(f"{path}-wal"):
                raise
            connection = connect(path, "ro&immutable=1")  # closed properly, in a directory where we may not write
            mark = mark_of(connection)
    if mark == (APPLICATION, VERSION):
        return JournalReader(connection, path)
    connection.close()
    if mark[0] != APPLICATION:
        raise ConfigurationError(f"{path}: is no journal")
    raise ConfigurationError(f"{path}: is a journal of format {mark[1]}, not {VERSION}; use the assembler of the watcher that writes it")


def mark_of(connection: sqlite3.Connection) -> tuple[object, object]:
    """Return whose file it is, and of which format."""
    (application,), (version,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
    return application, version


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Connect to an SQLite file, trusting it with nothing; transactions are begun and ended by hand."""
    uri = f"file:{quote(os.fsencode(path))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def told(path: str) -> Iterator[None]:
    """Turn what SQLite raises into an error that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            what = "there is no room left for the journal; make room on its disk"
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            what = "another program has the journal open for writing; close that one"
        elif is_damage(error):
            what = f"the journal is damaged ({error}); opened again, it is moved aside and made anew from the L0s"
        else:
            what = f"the journal cannot be read or written: {error}; look after its disk"
        raise OutputError(f"{path}: {what}") from error
    except (ValueError, TypeError) as error:
        raise OutputError(
            f"{path}: the journal is damaged ({error}); opened again, it is moved aside and made anew from the L0s"
        ) from error


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether a file is at fault, and not its disk or another program."""
    return _code(error) in _DAMAGED


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _entry(row: tuple[Any, ...], sub_fits: Mapping[str, Sighting]) -> Entry:
    key, instrument, night, frame, first, state, since, changed, attempts, again, l0, version, *counted, reason, awaited, until, missing = (
        row
    )
    name = ExposureName(
        instrument=as_text(instrument), night=as_text(night), frame=None if frame is None else int(as_text(frame)), first=as_text(first)
    )
    if as_text(key) != name.key:
        raise ValueError(f"{name.key} is filed under {as_text(key)}")
    return Entry(
        name=name,
        state=read_state(as_text(state)),
        since=_whole(since),
        changed=_whole(changed),
        attempts=_whole(attempts),
        next_attempt=None if again is None else _whole(again),
        l0=as_text(l0),
        version=_whole(version),
        sub_fits=sub_fits,
        findings=dict(zip(("info", "warning", "error"), map(_whole, counted), strict=True)),
        reason=as_text(reason),
        awaited=read_awaited(awaited),
        until=None if until is None else _whole(until),
        missing=read_missing(missing),
    )


def _step(at: object, state: object, detail: object) -> Step:
    return Step(at=_whole(at), state=read_state(as_text(state)), detail=as_text(detail))


def _sighting(row: tuple[Any, ...]) -> Sighting:
    path, origin, signature, key = row
    return Sighting(
        path=as_text(path), origin=as_text(origin), signature=read_signature(signature), key="" if key is None else as_text(key)
    )


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value
