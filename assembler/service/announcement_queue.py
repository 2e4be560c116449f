"""The queue of announcements: an SQLite file that any process may put into, and in which each receiver has a place of its own.

What is put has a number, and the order of the numbers is the order in which it is sent. A receiver's place is the number of the last
message that it has; so one that is away has no part in what others get.
"""

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import RLock
from typing import Any

from assembler.core.announcements import KEPT, Notice, Receiver
from assembler.errors import OutputError
from assembler.service.journal_file import move_aside
from assembler.service.journal_reader import connect, is_damage
from assembler.service.journal_texts import as_text, bound

APPLICATION = 0x4C30_414E
VERSION = 1

_TABLES = """
CREATE TABLE announcements (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL, path TEXT NOT NULL,
    version INTEGER NOT NULL, written TEXT NOT NULL, instrument TEXT NOT NULL, replaced TEXT NOT NULL, url TEXT NOT NULL,
    at INTEGER NOT NULL, modified INTEGER, message TEXT, error TEXT NOT NULL
);
CREATE TABLE receivers (
    name TEXT PRIMARY KEY NOT NULL, place INTEGER NOT NULL, attempts INTEGER NOT NULL, again INTEGER NOT NULL,
    refused INTEGER NOT NULL, error TEXT NOT NULL
);
CREATE TABLE marks (name TEXT PRIMARY KEY NOT NULL, at INTEGER NOT NULL);
CREATE INDEX announcements_by_path ON announcements (path, modified);
"""
_MOST_AT_ONCE = 100
_LONGEST_LOG = 4 << 20
_COLUMNS = "number, id, event, path, version, written, instrument, replaced, url, at, message, error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What was put: its number, when [ns], and the message once it was made; until then, why it cannot be made yet."""

    number: int
    at: int
    notice: Notice
    message: str | None
    error: str = ""

    @property
    def id(self) -> str:
        """What the message is known by."""
        return self.notice.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a receiver is: how many wait for it, how often the first of them failed, when it is tried again [ns], and why it failed."""

    receiver: Receiver
    waiting: int
    attempts: int
    again: int
    refused: bool
    error: str


class AnnouncementQueue:
    """An open queue. Threads may share it; processes open one each.

    Parameters
    ----------
    path : str
        On a local disk; made where it is not there.
    receivers : sequence of Receiver
        One that is new here gets what is put from now on.
    now : int
        [ns]

    Attributes
    ----------
    moved_aside : str
        Where a file was moved to that was damaged, or empty. What waited in it is lost, and `begun` tells that.

    Raises
    ------
    OutputError
        When it cannot be opened or made just now.
    """

    def __init__(self, path: str, receivers: Sequence[Receiver], now: int) -> None:
        self.path = path
        self._receivers = tuple(receivers)
        self._lock = RLock()
        self.moved_aside = ""
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with _alone(f"{path}.opening"):
                self._connection = self._open(now)
            self._inode = os.stat(path).st_ino
        except OSError as error:
            raise OutputError(f"{path}: announcements cannot be queued: {error.strerror}; look after its disk") from error

    def put(self, notice: Notice, now: int, *, modified: int | None = None, message: str | None = None) -> bool:
        """Put something in, unless it was before, sent or not; it is on the disk then.

        Parameters
        ----------
        notice : Notice
        now : int
            [ns]
        modified : int, optional
            When its L0 was last written [ns], so that it is known without being read.
        message : str, optional
            Where it is made already.

        Returns
        -------
        bool
            Whether it is new.
        """
        with self._writing() as ask:
            done = ask(
                "INSERT INTO announcements"
                " (id, event, path, version, written, instrument, replaced, url, at, modified, message, error)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '') ON CONFLICT (id) DO NOTHING",
                (
                    notice.id, notice.event, bound(notice.path), notice.version, bound(notice.written), bound(notice.instrument),
                    bound(notice.replaced), bound(notice.url), now, modified, message,
                ),
            )  # fmt: skip
            is_new: bool = done.rowcount == 1
            return is_new

    def knows(self, path: str, modified: int) -> bool:
        """Tell whether the L0 of a path that was last written then [ns] was put in."""
        return bool(self._ask("SELECT 1 FROM announcements WHERE path = ? AND modified = ?", bound(path), modified))

    def begun(self) -> int:
        """Return since when what is published is put in here [ns]; 0 where a damaged file was replaced, so that nobody knows."""
        return int(self._ask("SELECT at FROM marks WHERE name = 'begun'")[0][0])

    def unmade(self) -> list[Entry]:
        """Return what has no message yet, the first ones."""
        return self._entries("message IS NULL ORDER BY number LIMIT ?", _MOST_AT_ONCE)

    def made(self, number: int, message: str) -> None:
        """Keep a message, so that it is the same each time it is sent."""
        with self._writing() as ask:
            ask("UPDATE announcements SET message = ?, error = '' WHERE number = ? AND message IS NULL", (message, number))

    def not_made(self, number: int, error: str) -> None:
        """Note why a message cannot be made yet."""
        with self._writing() as ask:
            ask("UPDATE announcements SET error = ? WHERE number = ? AND message IS NULL", (bound(error), number))

    def first(self, receiver: Receiver) -> Entry | None:
        """Return what a receiver is to get next, or None."""
        return next(iter(self.waiting(receiver, 1)), None)

    def waiting(self, receiver: Receiver, most: int = _MOST_AT_ONCE) -> list[Entry]:
        """Return what waits for a receiver, the oldest first."""
        return self._entries(f"{_wanted(receiver)} ORDER BY number LIMIT ?", *_wanting(receiver), most)

    def standing(self, receiver: Receiver) -> Standing:
        """Return how a receiver is."""
        with self._reading() as ask:
            attempts, again, refused, error = ask(
                "SELECT attempts, again, refused, error FROM receivers WHERE name = ?", (receiver.name,)
            ).fetchone()
            condition, values = _wanted(receiver), _wanting(receiver)
            (waiting,) = ask(f"SELECT count(*) FROM announcements WHERE {condition}", values).fetchone()  # noqa: S608 - marks only
            first = ask(f"SELECT error FROM announcements WHERE {condition} ORDER BY number LIMIT 1", values).fetchone()  # noqa: S608
            told = as_text((first[0] if first else "") or error)
        return Standing(receiver=receiver, waiting=waiting, attempts=attempts, again=again, refused=bool(refused), error=told)

    def received(self, receiver: Receiver, number: int) -> None:
        """Note that a receiver has a message, or does without it."""
        with self._writing() as ask:
            ask(
                "UPDATE receivers SET place = ?, attempts = 0, again = 0, refused = 0, error = '' WHERE name = ? AND place < ?",
                (number, receiver.name, number),
            )

    def failed(self, receiver: Receiver, attempts: int, again: int, error: str, *, refused: bool) -> None:
        """Note that a receiver did not take a message, and when it is tried again [ns]."""
        with self._writing() as ask:
            ask(
                "UPDATE receivers SET attempts = ?, again = ?, refused = ?, error = ? WHERE name = ?",
                (attempts, again, int(refused), bound(error), receiver.name),
            )

    def forget(self, now: int) -> int:
        """Remove what everybody has and was put in long ago; return how many that were."""
        with self._writing() as ask:
            numbers = [self._ask(f"SELECT min(number) FROM announcements WHERE {_wanted(r)}", *_wanting(r)) for r in self._receivers]  # noqa: S608
            oldest = min((number for ((number,),) in numbers if number is not None), default=2**62)
            gone: int = ask("DELETE FROM announcements WHERE at < ? AND number < ?", (now - KEPT, oldest)).rowcount
            return gone

    def is_in_place(self) -> bool:
        """Tell whether the file is still the one that others find, and is not known to be damaged; otherwise it is to be opened again."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    def _open(self, now: int) -> sqlite3.Connection:
        """Open the file, or a new one in place of one that is damaged."""
        try:
            return self._opened(now)
        except sqlite3.Error as error:
            if not is_damage(error):
                with _told(self.path):
                    raise
        except ValueError:
            pass
        self.moved_aside = move_aside(self.path, now)
        with _told(self.path):
            return self._opened(0)

    def _opened(self, begun: int) -> sqlite3.Connection:
        if os.path.lexists(self.path) and not stat.S_ISREG(os.stat(self.path).st_mode):
            raise OutputError(f"{self.path}: is no file, and announcements cannot be queued there; remove it")
        connection = connect(self.path, "rwc")
        ask = connection.execute
        try:
            is_empty = _is_empty(connection)
            ask("PRAGMA journal_mode = WAL")
            ask("PRAGMA synchronous = FULL")
            ask(f"PRAGMA journal_size_limit = {_LONGEST_LOG}")
            ask("BEGIN IMMEDIATE")
            if is_empty:
                for statement in _TABLES.split(";"):
                    ask(statement)
                ask(f"PRAGMA application_id = {APPLICATION}")
                ask(f"PRAGMA user_version = {VERSION}")
                ask("INSERT INTO marks VALUES ('begun', ?)", (begun,))
            for receiver in self._receivers:
                ask(
                    "INSERT INTO receivers SELECT ?, coalesce(max(number), 0), 0, 0, 0, '' FROM announcements WHERE TRUE"
                    " ON CONFLICT (name) DO NOTHING",
                    (receiver.name,),
                )
            ask("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        with self._lock, _told(self.path, self._was_damaged):
            yield self._connection.execute

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """Do something as one transaction."""
        with self._lock, _told(self.path, self._was_damaged):
            ask = self._connection.execute
            ask("BEGIN IMMEDIATE")
            try:
                yield ask
                ask("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    ask("ROLLBACK")
                raise

    def _was_damaged(self) -> None:
        self._inode = -1

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._reading() as ask:
            rows: list[tuple[Any, ...]] = ask(statement, values).fetchall()
            return rows

    def _entries(self, condition: str, *values: object) -> list[Entry]:
        return [_entry(row) for row in self._ask(f"SELECT {_COLUMNS} FROM announcements WHERE {condition}", *values)]  # noqa: S608


class SendingLock:
    """Held by the one process that sends what is in a queue; it ends with the process.

    Parameters
    ----------
    path : str
        Of the queue.
    """

    def __init__(self, path: str) -> None:
        self._path = f"{path}.sending"
        self._descriptor = -1

    def take(self) -> bool:
        """Take it, and tell whether this process has it.

        Raises
        ------
        OutputError
            When nobody can tell.
        """
        if self._descriptor >= 0:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be locked: {error.strerror}; look after its directory") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise OutputError(f"{self._path}: cannot be locked: {error.strerror}; look after its directory") from error
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Keep others from making a queue, or moving it aside, at the same time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _told(path: str, on_damage: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Turn what SQLite raises into an error that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            what = "there is no room left for announcements; make room on its disk"
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            what = "another program holds the queue of announcements; close that one"
        elif is_damage(error):
            on_damage()
            what = "the queue of announcements is damaged; it is moved aside when it is opened again"
        else:
            what = f"the queue of announcements cannot be used: {error}; look after its disk"
        raise OutputError(f"{path}: {what}") from error


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Tell whether a file is new; raise a ValueError where it is neither new nor a sound queue."""
    ask = connection.execute
    marks = (ask("PRAGMA application_id").fetchone()[0], ask("PRAGMA user_version").fetchone()[0])
    if marks == (0, 0) and ask("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        return True
    if marks != (APPLICATION, VERSION) or ask("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise ValueError("it is no queue of announcements")
    return False


def _wanted(receiver: Receiver) -> str:
    marks = ", ".join("?" * len(receiver.events))
    return f"number > (SELECT place FROM receivers WHERE name = ?) AND event IN ({marks})"  # noqa: S608 - marks only


def _wanting(receiver: Receiver) -> tuple[str, ...]:
    return (receiver.name, *sorted(receiver.events))


def _entry(row: tuple[Any, ...]) -> Entry:
    number, _, event, *texts, at, message, error = row
    path, version, written, instrument, replaced, url = texts
    notice = Notice(
        event=event,
        path=as_text(path),
        version=version,
        written=as_text(written),
        instrument=as_text(instrument),
        replaced=as_text(replaced),
        url=as_text(url),
    )
    return Entry(number=number, at=at, notice=notice, message=message, error=as_text(error))
