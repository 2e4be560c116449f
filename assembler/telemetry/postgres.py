"""The server's history: PostgreSQL, with a table for each service, in the form that Lick's keygrabber keeps."""

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import sql

from assembler.core.samples import Aggregate, Sample, aggregate
from assembler.errors import ConfigurationError, TelemetryError
from assembler.telemetry.history import PATIENCE
from assembler.telemetry.postgres_server import Connection, Server, encoding_of, find_tables, is_text

_LONGEST_NAME = 63  # bytes of a table's name; PostgreSQL cuts what is longer
_IDLE_TIMEOUT = 60  # s; a transaction of an assembler that was frozen ends, and is in nobody's way
_LOAD_PATIENCE = 120.0  # s; a server that writes much may be too busy to take more for a while
_BATCH = 5000  # rows that are fetched at a time
_LOADING = 0x4C30  # the advisory lock that keeps two loads from adding the same samples side by side
_INCOMING = sql.Identifier("pg_temp", "samples.incoming")  # with a dot, as no service has it


# The latest time first, then what was broadcast at it: of several values the greatest, so that the answer is always the same.
# The index finds both, in every version of PostgreSQL and whatever its statistics are.
_AS_OF = """
SELECT w.number, m.moment, latest.time::float8, told.value
FROM unnest({numbers}::int[], {keywords}::text[]) AS w (number, keyword)
CROSS JOIN unnest($1::float8[]) WITH ORDINALITY AS m (instant, moment)
CROSS JOIN LATERAL (
    SELECT s.time FROM {table} AS s
    WHERE s.keyword = w.keyword AND s.time > '-infinity' AND s.time <= m.instant AND coalesce(s.ascvalue, s.binvalue) IS NOT NULL
    ORDER BY s.time DESC LIMIT 1
) AS latest
CROSS JOIN LATERAL (
    SELECT max(coalesce(s.ascvalue, s.binvalue) COLLATE "C") AS value FROM {table} AS s
    WHERE s.keyword = w.keyword AND s.time = latest.time
) AS told
"""
_DURING = """
SELECT w.number AS number, s.time::float8 AS time, coalesce(s.ascvalue, s.binvalue) COLLATE "C" AS value
FROM unnest({numbers}::int[], {keywords}::text[]) AS w (number, keyword)
JOIN {table} AS s ON s.keyword = w.keyword AND s.time > '-infinity' AND s.time < 'infinity' AND s.time BETWEEN $1 AND $2
WHERE coalesce(s.ascvalue, s.binvalue) IS NOT NULL
"""
_CREATE = """
CREATE TABLE IF NOT EXISTS {table}
    (time double precision, keyword text, binvalue text, ascvalue text, repeated integer, discarded integer)
"""
_DELETE = """
DELETE FROM {table} AS old USING {incoming} AS new
WHERE new.service = $1 AND old.keyword = new.keyword COLLATE "default" AND old.time = new.time
"""
_INSERT = """
INSERT INTO {table} (time, keyword, binvalue, ascvalue, repeated, discarded)
SELECT DISTINCT ON (keyword, time) time, keyword, value, value, 0, 0 FROM {incoming} WHERE service = $1
ORDER BY keyword, time, number DESC
"""


class PostgresHistory:
    """A history in a PostgreSQL server, which is called when there is a question and keeps the connection.

    Parameters
    ----------
    url : str
        As libpq has it: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``.
    timeout : float
        How long the server may take for a statement [s].

    Raises
    ------
    ConfigurationError
        When it is no such URL.
    """

    def __init__(self, url: str, *, timeout: float = PATIENCE) -> None:
        self._server = Server(url)
        self._timeout = timeout
        self._connection: Connection | None = None
        self._tables: dict[str, sql.Identifier] = {}
        self._lock = threading.Lock()  # for what follows; all else is the asking thread's
        self._socket: socket.socket | None = None
        self._asking = self._interrupted = self._closed = False

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one.

        Of samples of the same time it is the one with the greatest value. A row without a finite time or a value is no sample.

        Raises
        ------
        TelemetryError
            When the server does not answer; ``retry`` tells whether it may later.
        """
        answers: list[dict[str, Sample]] = [{} for _ in instants]
        with self._question() as connection:
            statement, parameters = self._statement(connection, _AS_OF, names, [[float(instant) for instant in instants]])
            if statement is not None and instants:
                for number, moment, time, value in connection.execute(statement, parameters):
                    answers[moment - 1][names[number]] = Sample(time=time, value=value)
        return list(answers)

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return what the samples from begin to end, both included, come to, of each name that has any.

        Raises
        ------
        TelemetryError
            When the server does not answer; ``retry`` tells whether it may later.
        """
        with self._question() as connection:
            statement, parameters = self._statement(connection, _DURING, names, [float(begin), float(end)])
            if statement is None:
                return {}
            # A cursor of the server needs a transaction. Where it fails, the connection is dropped and the transaction with it.
            connection.execute("BEGIN")
            with connection.cursor(name="samples") as cursor:
                cursor.itersize = _BATCH
                cursor.execute(statement + sql.SQL(" ORDER BY number, time, value"), parameters)
                groups = groupby(cursor, key=itemgetter(0))
                told = {names[number]: aggregate((time, value) for _, time, value in group) for number, group in groups}
            connection.execute("COMMIT")
            return told

    def interrupt(self) -> None:
        """End a question that is under way in another thread, even if the server is frozen; the connection is dropped."""
        with self._lock:
            if not self._asking:
                return
            self._interrupted = True
            if self._socket:
                with suppress(OSError):  # the peer was quicker
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection; a question that is under way in another thread ends."""
        with self._lock:
            self._closed = True
            asking = self._asking
        self.interrupt()
        if not asking:
            self._drop()

    @contextmanager
    def _question(self) -> Iterator[Connection]:
        """Keep a connection for a question; after any error, or an interruption, it is dropped and the next question gets a new one."""
        with self._lock:
            if self._closed:
                raise TelemetryError(f"{self._server.name}: the history was closed")
            self._asking, self._interrupted = True, False
        whole = False
        try:
            yield self._connected()
            whole = True
        except (psycopg.Error, OSError) as error:
            if self._interrupted:
                raise TelemetryError(f"{self._server.name}: the question was interrupted", retry=True) from error
            raise self._server.trouble(error) from error
        finally:
            with self._lock:
                self._asking = False
            if not whole or self._interrupted or self._closed:
                self._drop()

    def _connected(self) -> Connection:
        if self._connection is None:
            milliseconds = str(max(1, int(self._timeout * 1000)))
            limits = {"statement_timeout": milliseconds, "idle_in_transaction_session_timeout": str(_IDLE_TIMEOUT * 1000)}
            self._connection = self._server.connect(limits | {"default_transaction_read_only": "on"}, self._timeout)
            # Its own descriptor: psycopg may close the connection's at any time, and its number may then be somebody else's.
            own = socket.socket(fileno=os.dup(self._connection.fileno()))
            with self._lock:
                self._socket = own
            if self._interrupted:
                raise psycopg.OperationalError("interrupted")
            if encoding_of(self._connection) == "SQL_ASCII":  # it keeps any bytes, and does not tell as UTF-8 what is none
                self._connection.execute("SET client_encoding = 'SQL_ASCII'")
        return self._connection

    def _drop(self) -> None:
        with self._lock:
            own, self._socket = self._socket, None
        connection, self._connection = self._connection, None
        self._tables.clear()
        if connection:
            connection.close()
        if own:
            own.close()

    def _statement(
        self, connection: Connection, template: str, names: Sequence[str], parameters: list[Any]
    ) -> tuple[sql.Composed | None, list[Any]]:
        """Return one statement for all names whose service has a table, with its parameters; None where there is none."""
        encoding = encoding_of(connection)
        wanted: dict[str, list[tuple[int, str]]] = {}
        for number, name in enumerate(names):
            service, dot, keyword = name.partition(".")
            if dot and is_text(name, encoding):
                wanted.setdefault(service, []).append((number, keyword))
        unknown = [service for service in wanted if service not in self._tables]
        if unknown:
            self._tables |= find_tables(connection, unknown)
        parts = []
        for service, asked in wanted.items():
            if service not in self._tables:
                continue
            numbers, keywords = zip(*asked, strict=True)
            parameters += [list(numbers), list(keywords)]
            places = {"numbers": sql.SQL(f"${len(parameters) - 1}"), "keywords": sql.SQL(f"${len(parameters)}")}
            parts.append(sql.SQL(template).format(table=self._tables[service], **places))
        return (sql.SQL(" UNION ALL ").join(parts) if parts else None), parameters


def load(url: str, rows: Iterable[tuple[str, float, str]]) -> int:
    """Add samples to the history in a server, all or none; a sample of the same keyword and time is replaced.

    Parameters
    ----------
    url : str
        The database has to be there; the tables of services are made where they are not.
    rows : iterable of (str, float, str)
        ``service.KEYWORD``, UNIX seconds, value.

    Returns
    -------
    int
        How many samples were read.

    Raises
    ------
    ConfigurationError
        When a sample is none that PostgreSQL can keep.
    TelemetryError
        When the server does not take them.
    """
    server = Server(url)
    try:
        # What is not committed when the connection is closed never was.
        with closing(server.connect({"statement_timeout": "0"}, _LOAD_PATIENCE)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT pg_advisory_xact_lock($1)", [_LOADING])
            count, services = _copy(connection, rows)
            for service, number in sorted(services.items()):
                _move(connection, service, number)
            connection.execute("COMMIT")
    except psycopg.Error as error:
        raise server.trouble(error) from error
    return count


def _copy(connection: Connection, rows: Iterable[tuple[str, float, str]]) -> tuple[int, dict[str, int]]:
    """Bring rows into a temporary table; return how many they were, and the number of each service."""
    incoming = {"incoming": _INCOMING}
    columns = '(service int, keyword text COLLATE "C", time double precision, number bigint, value text)'
    connection.execute(sql.SQL(f"CREATE TEMPORARY TABLE {{incoming}} {columns} ON COMMIT DROP").format(**incoming))
    services: dict[str, int] = {}
    count = 0
    with connection.cursor().copy(sql.SQL("COPY {incoming} FROM STDIN").format(**incoming)) as copy:
        for name, time, value in rows:
            service, _, keyword = name.partition(".")
            if service not in services:
                _check_service(service)
                services[service] = len(services)
            if not (is_text(name, "UTF8") and is_text(value, "UTF8")):
                raise ConfigurationError(f"{name!a} at {time}: PostgreSQL keeps no text with a NUL or half a character")
            copy.write_row((services[service], keyword, time, count, value))
            count += 1
    connection.execute(sql.SQL("CREATE INDEX ON {incoming} (service, keyword, time, number DESC)").format(**incoming))
    connection.execute(sql.SQL("ANALYZE {incoming}").format(**incoming))
    return count, services


def _move(connection: Connection, service: str, number: int) -> None:
    """Bring what came of a service into its table, which is made where it is not there."""
    before = find_tables(connection, [service])
    if before:
        connection.execute(sql.SQL(_DELETE).format(table=before[service], incoming=_INCOMING), [number])
    else:
        connection.execute(sql.SQL(_CREATE).format(table=sql.Identifier(service)))
    table = (before or find_tables(connection, [service])).get(service)
    if table is None:
        raise TelemetryError(
            f"{service}: in PostgreSQL there is another kind of table of this name; samples have time, keyword, ascvalue and binvalue"
        )
    connection.execute(sql.SQL(_INSERT).format(table=table, incoming=_INCOMING), [number])
    if not before:
        connection.execute(sql.SQL("CREATE INDEX ON {table} (keyword, time)").format(table=table))
        connection.execute(sql.SQL("ANALYZE {table}").format(table=table))


def _check_service(service: str) -> None:
    if not service or len(service.encode(errors="replace")) > _LONGEST_NAME:
        raise ConfigurationError(f"{service[:100]!a}: PostgreSQL has no table of this name; a service has 1 to {_LONGEST_NAME} bytes")
