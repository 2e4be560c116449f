"""A PostgreSQL server: how it is called, which services it has a table of, and what is said of its trouble."""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from assembler.errors import ConfigurationError, TelemetryError

Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECT_TIMEOUT = 2  # s; the least that libpq knows, because nothing else ends an attempt to connect

# What may be better soon, as SQLSTATEs have it: connection, conflict, resources, locks, operators, the system below, and a table
# that was there and is gone, which the next question will know.
_RETRY = re.compile(r"08|40|53|55P03|57|58|42P01")
# What stays as it is. Of a connection that is refused libpq passes on no SQLSTATE, only the server's text.
_HOPELESS = re.compile(
    r"authentication failed|no password supplied|does not exist|pg_hba\.conf|permission denied|not permitted to log in"
    r"|invalid|unsupported|certificate|SSL was required|does not support SSL",
    re.IGNORECASE,
)

_TABLES = """
SELECT c.relname::text, n.nspname::text
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_catalog.pg_table_is_visible(c.oid)
AND 4 = (SELECT count(*) FROM pg_catalog.pg_attribute AS a
         WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN ('time', 'keyword', 'ascvalue', 'binvalue'))
"""


class _Text(Loader):
    """Text as it can be read: a database without an encoding keeps any bytes, and one bad value must not hide the others."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "replace")


class Server:
    """Where the history, or what else it is, is, and what is said of its trouble."""

    def __init__(self, url: str, what: str = "history") -> None:
        # Nothing of the URL is told, nor what is wrong with it: it may be a piece of the password.
        expected = "expected postgresql://USER@HOST:PORT/DATABASE, and in a password %XX for what is no letter or digit"
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        except (psycopg.Error, UnicodeError):
            raise ConfigurationError(f"the URL of the {what} in PostgreSQL cannot be read; {expected}") from None
        odd = "@" in given.get("host", "") + given.get("dbname", "") or not re.fullmatch(r"[0-9,]*", given.get("port", ""))
        if odd or "\0" in url:
            raise ConfigurationError(f"the URL of the {what} in PostgreSQL has an odd host, port or database; {expected}")
        defaults = {o.keyword.decode(): o.val.decode() for o in Conninfo.get_defaults() if o.val}
        told = defaults | given
        hosts = (told.get("host") or told.get("hostaddr") or "local socket").split(",")
        ports = told.get("port", "").split(",")
        places = ",".join(f"{host}:{port or '5432'}" for host, port in zip(hosts, ports * len(hosts), strict=False))
        self.name = f"PostgreSQL at {places}/{told.get('dbname') or told.get('user', '')}"
        self._given = given

    def connect(self, options: Mapping[str, str], patience: float) -> Connection:
        """Connect, with options of the session, and notice a peer that is gone within about patience [s]."""
        kept = {
            "application_name": "l0-assembler",
            "keepalives_idle": "5",
            "keepalives_interval": "2",
            "keepalives_count": "3",
            "tcp_user_timeout": str(int(patience * 1000)),
        }
        fixed = {
            "connect_timeout": str(_CONNECT_TIMEOUT),
            "client_encoding": "UTF8",
            "options": " ".join([self._given.get("options", ""), *(f"-c {name}={value}" for name, value in options.items())]).strip(),
        }
        connection = psycopg.connect(
            **(kept | self._given | fixed),  # type: ignore[arg-type]  # these are libpq's, all of them text
            autocommit=True,
            prepare_threshold=None,  # a plan is for the names and instants that were asked for
            cursor_factory=psycopg.RawCursor,  # a table's name may have a percent sign
        )
        connection.server_cursor_factory = psycopg.RawServerCursor
        for kind in ("text", "varchar", "bpchar"):
            connection.adapters.register_loader(kind, _Text)
        return connection

    def trouble(self, error: Exception) -> TelemetryError:
        """Return the error in one line, and whether the server may answer later."""
        state, text = None, str(error)
        if isinstance(error, psycopg.Error):
            state, text = error.sqlstate, error.diag.message_primary or text
        away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError) and not _HOPELESS.search(text)
        text = " ".join(text.partition("Multiple connection attempts failed")[0].split())  # the last one's is told first
        return TelemetryError(f"{self.name}: {text}", retry=bool(_RETRY.match(state)) if state else away)


def find_tables(connection: Connection, services: list[str]) -> dict[str, sql.Identifier]:
    """Return the tables of services, as the catalog has them, with the columns of a history."""
    return {name: sql.Identifier(schema, name) for name, schema in connection.execute(_TABLES, [services])}


def encoding_of(connection: Connection) -> str:
    """Return the encoding of the database, as PostgreSQL calls it."""
    return connection.info.parameter_status("server_encoding") or ""


def is_text(text: str, encoding: str) -> bool:
    """Tell whether a database of an encoding can be asked for a text; for others than UTF-8 that is known of ASCII only."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return encoding in ("UTF8", "SQL_ASCII")
