"""The protocol of keyword histories: who broadcast what when. Each backend is a module of this package."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from assembler.core.samples import Aggregate, Sample

PATIENCE = 10.0
"""How long a server may take for one answer, unless told otherwise [s]."""


class History(Protocol):
    """A keyword history, asked by one thread at a time. Names are ``service.KEYWORD``, times UNIX seconds [s]."""

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one.

        Raises
        ------
        TelemetryError
            When the history cannot be read.
        """
        ...

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return what the samples from begin to end, both included, come to, of each name that has any."""
        ...

    def interrupt(self) -> None:
        """End a question that is under way in another thread, as soon as it can be; it then raises a TelemetryError."""
        ...

    def close(self) -> None:
        """Let go of the history."""
        ...
