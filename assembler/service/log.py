"""What the service tells while it runs: events with fields; where they go is not its business."""

from typing import Any, Protocol, Self


class Log(Protocol):
    """Takes events. A logger of structlog is one, and so is `Silent`.

    An event is a name in snake_case; what it is about are fields, whose values may be anything. No method raises.
    """

    def debug(self, event: str, **fields: Any) -> Any:
        """Tell what only a developer wants to know."""

    def info(self, event: str, **fields: Any) -> Any:
        """Tell what happened."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Tell of something that gets along by itself, or that somebody should look at some time."""

    def error(self, event: str, **fields: Any) -> Any:
        """Tell of something that somebody has to look at."""

    def exception(self, event: str, **fields: Any) -> Any:
        """Tell of the exception that is being handled, as an error."""

    def bind(self, **fields: Any) -> "Log":
        """Return a log whose events all have these fields."""


class Silent:
    """A log for those who want none."""

    def debug(self, event: str, **fields: Any) -> None:
        """Tell nobody."""

    info = warning = error = exception = debug

    def bind(self, **_fields: Any) -> Self:
        """Return itself."""
        return self
