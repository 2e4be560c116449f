"""The embedded history: SQLite, with every keyword's samples in the order of their times."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from urllib.parse import quote

from assembler.core.samples import Aggregate, Sample, aggregate
from assembler.errors import TelemetryError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keywords (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS samples (
    keyword INTEGER NOT NULL REFERENCES keywords, time REAL NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (keyword, time)
) WITHOUT ROWID;
"""
_AS_OF = """
SELECT k.name, s.time, s.value
FROM json_each(?) AS wanted
JOIN keywords AS k ON k.name = wanted.value
JOIN samples AS s ON s.keyword = k.id
    AND s.time = (SELECT max(time) FROM samples WHERE keyword = k.id AND time <= ?)
"""
_DURING = """
SELECT k.name, s.time, s.value
FROM json_each(?) AS wanted
JOIN keywords AS k ON k.name = wanted.value
JOIN samples AS s ON s.keyword = k.id AND s.time BETWEEN ? AND ?
ORDER BY k.id, s.time
"""


_BUSY = 0.5
"""How long one attempt waits for somebody who writes [s]."""


class SqliteHistory:
    """A history in an SQLite file, opened for reading.

    Parameters
    ----------
    path : str
        The file; with a connection, what messages call it.
    connection : sqlite3.Connection, optional
        To an open history, which is then closed with this one.
    """

    def __init__(self, path: str, connection: sqlite3.Connection | None = None) -> None:
        self._path = path
        if connection is not None:
            self._connection = connection
            return
        check_file(path, "sqlite")
        try:
            self._connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, check_same_thread=False, timeout=_BUSY)
            self._connection.execute("SELECT keyword, time, value FROM samples LIMIT 1")
        except sqlite3.Error as error:
            if not _is_busy(error):  # being loaded; a question will tell
                raise TelemetryError(f"{path}: is no keyword history: {error}") from error

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one."""
        wanted = json.dumps(list(names))
        try:
            return [
                {name: Sample(time, str(value)) for name, time, value in self._connection.execute(_AS_OF, (wanted, instant))}
                for instant in instants
            ]
        except sqlite3.Error as error:
            raise TelemetryError(f"{self._path}: {error}", retry=_is_busy(error)) from error

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return numbers over the samples from begin to end, both included, of each name that has any."""
        try:
            rows = self._connection.execute(_DURING, (json.dumps(list(names)), begin, end))
            return {name: aggregate((time, str(value)) for _, time, value in group) for name, group in groupby(rows, key=itemgetter(0))}
        except sqlite3.Error as error:
            raise TelemetryError(f"{self._path}: {error}", retry=_is_busy(error)) from error

    def interrupt(self) -> None:
        """End a query that is under way in another thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def load(path: str, rows: Iterable[tuple[str, float, str]]) -> int:
    """Add samples to the history at a path, all or none; a sample of the same keyword and time is replaced.

    Parameters
    ----------
    path : str
        Made where it is not there.
    rows : iterable of (str, float, str)
        ``service.KEYWORD``, UNIX seconds, value.

    Returns
    -------
    int
        How many samples were read.
    """
    if not Path(path).parent.is_dir():
        raise TelemetryError(f"{path}: there is no directory {Path(path).parent}")
    try:
        connection = sqlite3.connect(path)
    except sqlite3.Error as error:
        raise TelemetryError(f"{path}: {error}") from error
    try:
        return add(connection, rows)
    except sqlite3.Error as error:
        raise TelemetryError(f"{path}: {error}") from error
    finally:
        connection.close()


def add(connection: sqlite3.Connection, rows: Iterable[tuple[str, float, str]]) -> int:
    """Add samples as `load` does, through a connection."""
    connection.executescript(_SCHEMA)
    numbers: dict[str, int] = dict(connection.execute("SELECT name, id FROM keywords"))
    count = 0

    def numbered() -> Iterable[tuple[int, float, str]]:
        nonlocal count
        for name, time, value in rows:
            if name not in numbers:
                numbers[name] = len(numbers) + 1
            count += 1
            yield numbers[name], time, value

    with connection:
        known = len(numbers)
        connection.executemany("INSERT OR REPLACE INTO samples (keyword, time, value) VALUES (?, ?, ?)", numbered())
        connection.executemany("INSERT INTO keywords (name, id) VALUES (?, ?)", list(numbers.items())[known:])
    return count


def _is_busy(error: sqlite3.Error) -> bool:
    """Tell whether somebody writes to the file just now."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def check_file(path: str, scheme: str) -> None:
    """Raise a TelemetryError when there is no file at the path of a URL."""
    if not Path(path).is_file():
        hint = f"; an absolute path has four slashes: {scheme}:////{path}" if Path(f"/{path}").is_file() else ""
        raise TelemetryError(f"there is no history {path}{hint}")
