"""The URLs of keyword histories: which backend each is for, to ask it or to fill it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from assembler.errors import ConfigurationError
from assembler.telemetry.history import PATIENCE, History

KINDS = (
    "sqlite:///PATH, postgresql://USER@HOST:PORT/DATABASE, csv:///PATH, jsonl:///PATH, influx2://HOST:PORT/ORG/BUCKET "
    "or influx3://HOST:PORT/DATABASE"
)
"""What the URL of a history may look like, for messages."""

FILES = ("sqlite", "csv", "jsonl")
"""Of these, the one that names a path."""


def open_history(url: str, patience: float = PATIENCE) -> History:
    """Open the history that a URL names, for reading.

    A file has to be there; a server is called when the first question is asked.

    Parameters
    ----------
    url : str
    patience : float
        How long a server may take for one answer [s]; what all questions of an exposure may take is the caller's business
        (`assembler.telemetry.patience`).

    Raises
    ------
    ConfigurationError
        When no backend knows such a URL.
    TelemetryError
        When it is not there.
    """
    # Each backend brings libraries that only those need who have such a history.
    match url.partition("://")[0]:
        case "sqlite":
            from assembler.telemetry.sqlite import SqliteHistory

            return SqliteHistory(path_of(url))
        case "postgresql" | "postgres":
            with _psycopg():
                from assembler.telemetry.postgres import PostgresHistory

            return PostgresHistory(url, timeout=patience)
        case "csv" | "jsonl" as form:
            from assembler.telemetry.logs import LogHistory

            return LogHistory(path_of(url), form)
        case "influx2" | "influx2+https" | "influx3" | "influx3+https":
            from assembler.telemetry.influx import open_influx

            return open_influx(url, os.environ.get("INFLUX_TOKEN", ""), patience)
        case _:
            raise ConfigurationError(f"{_named(url)}: no such kind of history; expected {KINDS}")


def load_history(url: str, rows: Iterable[tuple[str, float, str]]) -> int:
    """Add samples to the history that a URL names, all or none, and return how many they were.

    Parameters
    ----------
    url : str
        A history in a file is made where it is not there; in a server, the tables are.
    rows : iterable of (str, float, str)
        ``service.KEYWORD``, UNIX seconds, value; of the same keyword and time, the last one counts.
    """
    match url.partition("://")[0]:
        case "sqlite":
            from assembler.telemetry import sqlite

            return sqlite.load(path_of(url), rows)
        case "postgresql" | "postgres":
            with _psycopg():
                from assembler.telemetry import postgres

            return postgres.load(url, rows)
        case _:
            raise ConfigurationError(
                f"{_named(url)}: no such kind of history to load into; expected sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE"
            )


def _named(url: str) -> str:
    """Return what may be told of a URL of any kind: nothing that could be a password."""
    return "that URL" if "@" in url or "password" in url else url


@contextmanager
def _psycopg() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(f"a history in PostgreSQL needs psycopg ({error}); install l0-assembler[postgres]") from error


def path_of(url: str) -> str:
    """Return the path of a URL ``sqlite:///PATH``; a relative path has three slashes, an absolute one four.

    >>> path_of("sqlite:///night.db"), path_of("sqlite:////data/night.db")
    ('night.db', '/data/night.db')
    """
    scheme, _, path = url.partition(":///")
    if not path:
        raise ConfigurationError(f"{url}: no path; expected {scheme.partition(':')[0]}:///PATH")
    return path
