"""Records in an SQLite file."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from assembler.core.record import Cell, Record
from assembler.errors import OutputError
from assembler.service.record_tables import Dialect, prepare, put

_BUSY = 10.0
"""How long to wait for somebody else who writes [s]."""

_DIALECT = Dialect(
    types={"text": "TEXT", "int": "INTEGER", "float": "REAL", "bool": "BOOLEAN", "time": "TEXT"},
    mark=lambda number: f"?{number}",
    as_text="rtrim({}, 'Z')",
)


class SqliteStore:
    """Records in a file, which is made where it is not there; it is open only while something is written.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path: str) -> None:
        self.name = path

    def put(self, record: Record) -> bool:
        """Write a record, in place of what there is of its exposure; return whether that was done, and no newer version was there.

        Raises
        ------
        OutputError
            When it cannot be written; ``retry`` tells whether it may later.
        """
        if not Path(self.name).parent.is_dir():
            raise OutputError(f"{self.name}: there is no directory {Path(self.name).parent}")
        try:
            with closing(sqlite3.connect(Path(self.name).absolute(), timeout=_BUSY, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                session = _Session(connection)
                prepare(session, _DIALECT, self.name)
                written = put(session, _DIALECT, self.name, record)
                connection.execute("COMMIT")  # what is not committed when it is closed never was
                return written
        except sqlite3.Error as error:
            hopeless = isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error)
            raise OutputError(f"{self.name}: {error}", retry=not hopeless) from error

    def close(self) -> None:
        """Let go of the file, which is none but while something is written."""


class _Session:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ask(self, statement: str, parameters: Sequence[Cell] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, tuple(parameters)).fetchall()

    def tell(self, statement: str, rows: Iterable[Sequence[Cell]]) -> None:
        self._connection.executemany(statement, rows)

    def has_table(self, name: str) -> bool:
        return bool(self.ask("SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?1", (name,)))
