"""The journal's file: made in one step, held by one process, and moved aside when it is not what a journal is."""

import fcntl
import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from assembler.core.instants import format_iso
from assembler.core.states import STATES
from assembler.errors import ConfigurationError, OutputError
from assembler.service.journal_reader import APPLICATION, VERSION, JournalReader, connect, is_damage, told
from assembler.service.mounts import filesystem_of, is_remote

_TABLES = f"""
CREATE TABLE exposures (
    key TEXT PRIMARY KEY NOT NULL, instrument TEXT NOT NULL, night TEXT NOT NULL, frame TEXT, first TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ({", ".join(f"'{state}'" for state in STATES)})),
    since INTEGER NOT NULL, changed INTEGER NOT NULL, turn INTEGER NOT NULL,
    attempts INTEGER NOT NULL, next_attempt INTEGER, l0 TEXT NOT NULL, version INTEGER NOT NULL,
    infos INTEGER NOT NULL, warnings INTEGER NOT NULL, errors INTEGER NOT NULL, reason TEXT NOT NULL,
    awaited TEXT NOT NULL, until INTEGER, missing TEXT NOT NULL
);
CREATE TABLE history (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL REFERENCES exposures ON DELETE CASCADE,
    at INTEGER NOT NULL, state TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE TABLE sub_fits (
    path TEXT PRIMARY KEY NOT NULL, origin TEXT NOT NULL, signature TEXT, key TEXT REFERENCES exposures ON DELETE CASCADE,
    seen INTEGER NOT NULL
);
CREATE TABLE marks (name TEXT PRIMARY KEY NOT NULL, at INTEGER NOT NULL);
CREATE INDEX exposures_by_state ON exposures (state);
CREATE INDEX exposures_by_night ON exposures (night);
CREATE INDEX exposures_by_turn ON exposures (turn);
CREATE INDEX history_by_key ON history (key, id);
CREATE INDEX sub_fits_by_key ON sub_fits (key);
"""
_COMPANIONS = ("", "-wal", "-shm", "-journal")
_LONGEST_LOG = 4 << 20
_LEAST = 512
_LOOKS = 10
_PAUSE = 0.01
"""How often, and after which pause [s], to look again before saying that another process has the journal: who only asks has it briefly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A journal's file that is open for writing; ``aside`` is where one was moved to that was none, or empty."""

    connection: sqlite3.Connection
    aside: str
    inode: int


def check_place(path: str, mountinfo: str) -> None:
    """Make sure that a journal may be at a path.

    Raises
    ------
    ConfigurationError
        When it is on a network file system, where SQLite's locks and shared memory do not hold, or is a directory.
    """
    kind = filesystem_of(path, mountinfo)
    if is_remote(kind):
        raise ConfigurationError(f"{path}: is on a network file system ({kind}), where a journal breaks; name a path on a local disk")
    if os.path.isdir(path):
        raise ConfigurationError(f"{path}: is a directory; name a file for the journal")


def take(path: str) -> int:
    """Take the journal for this process, through a file beside it that stays; return its descriptor, to be closed at the end.

    Raises
    ------
    OutputError
        When another process has it, or the disk fails.
    """
    name = f"{path}.lock"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        while True:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                _lock(descriptor)
                if is_taken(path, descriptor):
                    with suppress(OSError):  # only a courtesy, which a full disk may not allow
                        os.ftruncate(descriptor, 0)
                        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                    return descriptor
            except BlockingIOError:
                told_by = _holder(descriptor)
                os.close(descriptor)
                raise OutputError(f"{path}: {told_by} has this journal; stop that one, or name another journal") from None
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)  # removed in between: this lock would be nobody's business
    except OSError as error:
        raise OutputError(f"{name}: cannot be locked: {error.strerror}; look after the journal's directory") from error


def _lock(descriptor: int) -> None:
    for _ in range(_LOOKS - 1):
        with suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_PAUSE)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(descriptor: int) -> str:
    """Return who has the journal, as its process wrote it down."""
    holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    return f"process {holder}" if holder.isascii() and holder.isdecimal() else "another process"


def taken_by(path: str) -> str | None:
    """Return which process has a journal open for writing, empty for none, None where that cannot be told; nothing is kept of it."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return ""


def is_taken(path: str, descriptor: int) -> bool:
    """Tell whether the file through which a journal was taken is still the one that others find."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(f"{path}.lock"))
    except OSError:
        return False


def open_file(path: str, now: int) -> Opened:
    """Open the journal that this process has taken, or a new one, after moving aside what is no journal.

    Parameters
    ----------
    path : str
    now : int
        [ns]; it is in the name of what is moved aside.

    Raises
    ------
    OutputError
        When it cannot be read or made just now, which says nothing against the file.
    """
    aside = ""
    try:
        there = os.path.lexists(path)
        connection = _open_sound(path) if there else None
        if connection is None:
            if any(os.path.lexists(path + companion) for companion in _COMPANIONS):
                aside = move_aside(path, now)
            _make(path)
            with told(path):
                connection = _prepared(connect(path, "rw"))
        return Opened(connection=connection, aside=aside, inode=os.stat(path).st_ino)
    except OSError as error:
        raise OutputError(f"{path}: the journal cannot be opened: {error.strerror}; look after its disk") from error


def _open_sound(path: str) -> sqlite3.Connection | None:
    """Open a journal; return None when it is none, or is damaged."""
    if os.stat(path).st_size < _LEAST:  # which SQLite would take for a file that is yet to be made
        return None
    connection = None
    try:
        connection = connect(path, "rw")
        if _is_sound(connection, path):
            return _prepared(connection)
    except (ValueError, TypeError, OverflowError):
        pass
    except sqlite3.Error as error:
        if not _blames_the_file(error, path):
            _close(connection)
            with told(path):
                raise
    _close(connection)
    return None


def _is_sound(connection: sqlite3.Connection, path: str) -> bool:
    """Tell whether every byte is as a journal has it, as far as SQLite and we can tell."""
    ask = connection.execute
    if (ask("PRAGMA application_id").fetchone(), ask("PRAGMA user_version").fetchone()) != ((APPLICATION,), (VERSION,)):
        return False
    if _schema(connection) != _expected_schema():
        return False
    if ask("PRAGMA integrity_check(1)").fetchone() != ("ok",) or ask("PRAGMA foreign_key_check").fetchone() is not None:
        return False
    JournalReader(connection, path).check()
    ask("BEGIN IMMEDIATE")
    ask(f"PRAGMA user_version = {VERSION}")  # tells whether the file's header lets it be written
    ask("ROLLBACK")
    return True


def _blames_the_file(error: sqlite3.Error, path: str) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_READONLY:
        return os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)
    return is_damage(error) or code in (
        0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_CONSTRAINT,
    )  # fmt: skip


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Make a connection write as a journal is written; only now, so that no file of another program is changed."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_LONGEST_LOG}")
    except sqlite3.Error:
        _close(connection)
        raise
    return connection


def _make(path: str) -> None:
    """Make an empty journal under another name, and give it its own in one step, so that none is ever half made."""
    new = f"{path}.new"
    for companion in _COMPANIONS:
        with suppress(FileNotFoundError):
            os.unlink(new + companion)
    with told(path):
        connection = connect(new, "rwc")
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            _close(connection)
    os.rename(new, path)
    _sync(os.path.dirname(path))


def move_aside(path: str, now: int) -> str:
    """Move a file with all that belongs to it out of the way, and return its new name."""
    stamp = format_iso(now, digits=0).replace("-", "").replace(":", "")
    number, name = 1, f"{path}.corrupt-{stamp}"
    while any(os.path.lexists(name + companion) for companion in _COMPANIONS):
        number += 1
        name = f"{path}.corrupt-{stamp}.{number}"
    for companion in reversed(_COMPANIONS):  # the file itself last, so that a stop in between is made good by the next start
        with suppress(FileNotFoundError):
            os.rename(path + companion, name + companion)
    _sync(os.path.dirname(path))
    return name


def _schema(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()


def _expected_schema() -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(_TABLES)
        return _schema(connection)
    finally:
        connection.close()


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with suppress(sqlite3.Error):
            connection.close()


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
