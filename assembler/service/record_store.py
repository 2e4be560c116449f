"""Where records are kept: what every store can do, and which of them a URL names."""

from typing import Protocol

from assembler.core.record import Record
from assembler.errors import ConfigurationError
from assembler.telemetry.urls import path_of

KINDS = "sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE"
"""What the URL of a store may look like, for messages."""


class RecordStore(Protocol):
    """Keeps the records of exposures; ``name`` is what messages call it, without any password."""

    name: str

    def put(self, record: Record) -> bool:
        """Write a record, in place of what there is of its exposure; return whether that was done, and no newer version was there.

        Raises
        ------
        OutputError
            When it cannot be written; ``retry`` tells whether it may later.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


def open_store(url: str) -> RecordStore:
    """Return the store that a URL names; it is called when there is something to write.

    Raises
    ------
    ConfigurationError
        When no store has such a URL.
    """
    match url.partition("://")[0]:
        case "sqlite":
            from assembler.service.record_sqlite import SqliteStore

            return SqliteStore(path_of(url))
        case "postgresql" | "postgres":
            try:
                from assembler.service.record_postgres import PostgresStore
            except ImportError as error:
                raise ConfigurationError(f"records in PostgreSQL need psycopg ({error}); install l0-assembler[postgres]") from error
            return PostgresStore(url)
        case _:
            told = "that URL" if "@" in url or "password" in url else url
            raise ConfigurationError(f"{told}: no such kind of store for records; expected {KINDS}")
