"""Where events go: structlog, as JSON lines for programs, or as lines for people where somebody looks at a terminal.

What is in an event is data, and trusted with nothing: no value breaks a line or reaches a terminal raw. A stream that fails costs
the events, never the program.
"""

import errno
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Protocol

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from assembler.core.instants import format_iso
from assembler.core.lines import as_line
from assembler.errors import AssemblerError, ConfigurationError
from assembler.service.log import Log

Level = Literal["debug", "info", "warning", "error"]

_LEVELS = {"debug": (10, "debug"), "info": (20, "info"), "warning": (30, "warning"), "error": (40, "ERROR")}
_FIRST = ("timestamp", "level", "event")
_DEEPEST = 5
_MOST_ITEMS = 100
_MOST_FRAMES = 30
_MOST_CAUSES = 10


class Stream(Protocol):
    """What events are written to: standard error, or a `LogFile`."""

    def write(self, text: str, /) -> object:
        """Write text."""

    def flush(self) -> object:
        """See that it is written."""

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""


def configure(
    stream: Stream,
    *,
    clock: Callable[[], int],
    as_json: bool | None = None,
    least: Level = "info",
    on_lost: Callable[[], object] = lambda: None,
) -> Log:
    """Return the log whose events go to a stream; any thread may use it.

    Nothing global is set up: structlog elsewhere in the process stays as it is.

    Parameters
    ----------
    stream : Stream
    clock : callable
        Returns the instant [ns since 1970], for ``timestamp``.
    as_json : bool, optional
        JSON lines or lines for people; unless told, JSON where the stream is no terminal.
    least : str
        The level below which events are dropped.
    on_lost : callable
        Called for each event that the stream did not take.
    """
    renderer: Processor = _as_json if (not _is_terminal(stream) if as_json is None else as_json) else _as_text

    def stamp(_logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        event["timestamp"] = f"{format_iso(clock() // 1000 * 1000)}Z"
        event["level"] = level
        return event

    log: Log = structlog.wrap_logger(
        _Lines(stream, on_lost),
        processors=[stamp, _take_exception, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[least][0]),
        context_class=dict,
    ).bind()
    return log


class LogFile:
    """A file that lines are added to, and that is made anew once somebody renamed or removed it, as logrotate does.

    A write that failed in the middle of a line, because the disk was full, is ended before the next one.

    Parameters
    ----------
    path : Path or str
        Its directory has to be there, best on a local disk.

    Raises
    ------
    ConfigurationError
        When it cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = os.path.abspath(path)
        self._lock = RLock()
        self._torn = False
        try:
            self._file = self._open()
        except OSError as error:
            raise ConfigurationError(f"{self._path}: cannot be written as a log: {error.strerror}; name another file") from error

    def write(self, text: str) -> int:
        """Write text at the end of the file that has the name now.

        Raises
        ------
        OSError
            When the disk is full or fails, or the file was closed.
        """
        content = text.encode("utf-8", "backslashreplace")
        with self._lock:
            self._follow()
            if self._torn:
                content = b"\n" + content
            while content:
                written = os.write(self._file, content)
                self._torn = content[written - 1 : written] != b"\n"
                content = content[written:]
        return len(text)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def isatty(self) -> bool:
        """Tell that this is no terminal."""
        return False

    def close(self) -> None:
        """Close the file, for good."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def _follow(self) -> None:
        """Open the file anew when its name leads elsewhere; go on with the old one when that fails, for nothing is lost so."""
        if self._file < 0:
            raise OSError(errno.EBADF, "the log was closed")
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            named = None
        except OSError:
            return
        open_one = os.fstat(self._file)
        if named is None or (named.st_dev, named.st_ino) != (open_one.st_dev, open_one.st_ino):
            with suppress(OSError):
                new = self._open()
                os.close(self._file)
                self._file, self._torn = new, False

    def _open(self) -> int:
        # A FIFO that nobody reads would block without O_NONBLOCK; for a file it means nothing.
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


class _Lines:
    """Writes one line after the other; a stream that is gone or full loses them."""

    def __init__(self, stream: Stream, on_lost: Callable[[], object]) -> None:
        self._stream = stream
        self._on_lost = on_lost
        self._lock = RLock()  # a signal may come while its own thread writes

    def write(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(self._encodable(line) + "\n")
                self._stream.flush()
            except (OSError, ValueError, RuntimeError):  # gone or full; closed; a signal came while it was being written to
                self._on_lost()

    debug = info = warning = error = critical = write

    def _encodable(self, line: str) -> str:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return line.encode(encoding, "backslashreplace").decode(encoding)


def _is_terminal(stream: Stream) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def _take_exception(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """Put the exception itself into its field, however it was given."""
    given = event.pop("exc_info", None)
    if isinstance(given, tuple) and len(given) == 3:
        given = given[1]
    elif given and not isinstance(given, BaseException):
        given = sys.exc_info()[1]
    if isinstance(given, BaseException):
        event["exception"] = given
    return event


def _as_json(_logger: WrappedLogger, _level: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in _FIRST}
    return json.dumps(_plain({**first, **event}))


def _as_text(_logger: WrappedLogger, _level: str, event: EventDict) -> str:
    """Return the event as one line, and the way to a bug in further ones, which are indented."""
    time, level, name = (event.pop(name) for name in _FIRST)
    raised = event.get("exception")
    words = [str(time)[11:23], f"{_LEVELS[level][1] if level in _LEVELS else level:7}", as_line(name)]
    words += [f"{as_line(field)}={_shown(value)}" for field, value in sorted(event.items(), key=lambda item: as_line(item[0]))]
    lines = [" ".join(words)]
    if isinstance(raised, BaseException) and not isinstance(raised, AssemblerError):
        lines += [f"    {as_line(line)}" for part in _way(raised) for line in part.rstrip().split("\n")]
    return "\n".join(lines)


def _shown(value: object) -> str:
    """Return a value for people: in quotes where it would not be one word."""
    if isinstance(value, BaseException):
        value = _named(value)
    plain = _plain(value)
    told = as_line(plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False))
    return json.dumps(told, ensure_ascii=False) if isinstance(plain, str) and (not told or set(told) & set(" =\"'")) else told


def _plain(value: object, depth: int = 0) -> Any:
    """Return a value as JSON has it, of a bounded size, with every text as one line."""
    if value is None or isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, BaseException):
        return _account(value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {as_line(name): _plain(inner, depth + 1) for name, inner in islice(value.items(), _MOST_ITEMS)}
    if depth < _DEEPEST and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner, depth + 1) for inner in islice(value, _MOST_ITEMS)]
    return as_line(value)


def _number(value: float | None) -> float | str | None:
    """Return a number as it is, unless not all who read JSON can hold it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    return value if value is None or abs(value) < 2**63 else as_line(hex(value))


def _account(raised: BaseException) -> dict[str, Any]:
    """Return an exception as one value: what it says, what it came from, and, of a bug, where it was raised."""
    told: dict[str, Any] = {"type": type(raised).__name__, "message": as_line(raised)}
    causes: list[str] = []
    before = raised
    while (cause := before.__cause__ or (None if before.__suppress_context__ else before.__context__)) and len(causes) < _MOST_CAUSES:
        causes.append(_named(cause))
        before = cause
    if causes:
        told["causes"] = causes
    if isinstance(raised, AssemblerError):
        told["retry"] = raised.retry
    else:
        frames = traceback.extract_tb(raised.__traceback__)[-_MOST_FRAMES:]
        told["frames"] = [as_line(f"{frame.filename}:{frame.lineno} {frame.name}") for frame in frames]
    return told


def _named(raised: BaseException) -> str:
    return as_line(f"{type(raised).__name__}: {as_line(raised)}")


def _way(raised: BaseException) -> list[str]:
    """Return the traceback, innermost frames only where there are very many."""
    try:
        return traceback.format_exception(raised, limit=-_MOST_FRAMES)
    except Exception:  # noqa: BLE001 - of a stranger's exception
        return [_named(raised)]
