"""A log that keeps what it was told, for tests of those who tell."""

import re
import sys
from typing import Any

EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class Recording:
    """Keeps events as (level, event, fields); an event that is not in snake_case fails the test."""

    def __init__(self, told: list[tuple[str, str, dict[str, Any]]] | None = None, bound: dict[str, Any] | None = None) -> None:
        self.told = [] if told is None else told
        self.bound = bound or {}

    def debug(self, event: str, **fields: Any) -> None:
        self._keep("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._keep("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._keep("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._keep("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        self._keep("error", event, {**fields, "exception": sys.exc_info()[1]})

    def bind(self, **fields: Any) -> "Recording":
        return Recording(self.told, {**self.bound, **fields})

    def events(self) -> list[str]:
        """Return the names of the events, in order."""
        return [event for _, event, _ in self.told]

    def _keep(self, level: str, event: str, fields: dict[str, Any]) -> None:
        assert EVENT.fullmatch(event), event
        self.told.append((level, event, {**self.bound, **fields}))
