"""Records in a PostgreSQL server."""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from assembler.core.record import Cell, Record
from assembler.errors import OutputError
from assembler.service.record_tables import Dialect, prepare, put
from assembler.telemetry.postgres_server import Connection, Server

_TIMEOUT = 10.0
"""How long a statement may take, be it that it waits for another writer [s]."""

_WRITING = 0x4C31
"""The advisory lock of those who write: what there is of an exposure stays as it is until its record is written."""

_DIALECT = Dialect(
    types={"text": "text", "int": "bigint", "float": "double precision", "bool": "boolean", "time": "timestamp with time zone"},
    mark=lambda number: f"${number}",
    as_text="""to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')""",
)


class PostgresStore:
    """Records in a server, which is called when there is something to write and keeps the connection.

    Parameters
    ----------
    url : str
        As libpq has it: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``.

    Raises
    ------
    ConfigurationError
        When it is no such URL.
    """

    def __init__(self, url: str) -> None:
        self._server = Server(url, "records")
        self.name = self._server.name
        self._connection: Connection | None = None

    def put(self, record: Record) -> bool:
        """Write a record, in place of what there is of its exposure; return whether that was done, and no newer version was there.

        Raises
        ------
        OutputError
            When it cannot be written; ``retry`` tells whether it may later.
        """
        whole = False
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            connection.execute("SELECT pg_advisory_xact_lock($1)", [_WRITING])
            session = _Session(connection)
            prepare(session, _DIALECT, self.name)
            written = put(session, _DIALECT, self.name, record)
            connection.execute("COMMIT")
            whole = True
        except (psycopg.Error, OSError) as error:
            trouble = self._server.trouble(error)
            raise OutputError(str(trouble), retry=trouble.retry) from error
        finally:
            if not whole:
                self.close()  # and with it what was not committed
        return written

    def close(self) -> None:
        """Let go of the connection; the next record gets a new one."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            milliseconds = str(int(_TIMEOUT * 1000))
            options = {"statement_timeout": milliseconds, "idle_in_transaction_session_timeout": milliseconds, "timezone": "UTC"}
            self._connection = self._server.connect(options, _TIMEOUT)
        return self._connection


class _Session:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ask(self, statement: str, parameters: Sequence[Cell] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement.encode(), list(parameters))
        return cursor.fetchall() if cursor.description else []

    def tell(self, statement: str, rows: Iterable[Sequence[Cell]]) -> None:
        self._connection.cursor().executemany(statement.encode(), rows)

    def has_table(self, name: str) -> bool:
        return bool(self.ask("SELECT 1 WHERE to_regclass($1) IS NOT NULL", (name,)))
