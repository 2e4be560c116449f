"""Keyword histories: who broadcast what when. One protocol; each backend is a module of this package."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from assembler.core.snapshots import Aggregate, Sample
from assembler.errors import ConfigurationError


class History(Protocol):
    """A keyword history. Names are ``service.KEYWORD``, times UNIX seconds [s]."""

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one.

        Raises
        ------
        TelemetryError
            When the history cannot be read.
        """
        ...

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return numbers over the samples from begin to end, both included, of each name that has any."""
        ...

    def close(self) -> None:
        """Let go of the history."""
        ...


def open_history(url: str) -> History:
    """Open the history that a URL names, for reading: ``sqlite:///PATH``.

    Raises
    ------
    ConfigurationError
        When no backend knows such a URL.
    TelemetryError
        When it is not there.
    """
    from assembler.telemetry.sqlite import SqliteHistory  # sqlite3 is only needed by those who have a history

    return SqliteHistory(sqlite_path(url))


def sqlite_path(url: str) -> str:
    """Return the path of a URL ``sqlite:///PATH``; a relative path has three slashes, an absolute one four.

    >>> sqlite_path("sqlite:///night.db"), sqlite_path("sqlite:////data/night.db")
    ('night.db', '/data/night.db')
    """
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise ConfigurationError(f"{url}: no such kind of history; expected sqlite:///PATH")
    return path
