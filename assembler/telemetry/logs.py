"""Histories read directly from logs: CSV or JSON lines, which may still grow."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import BinaryIO

from assembler.core.samples import Aggregate, Sample
from assembler.errors import ConfigurationError, TelemetryError
from assembler.telemetry.load import csv_samples, jsonl_samples
from assembler.telemetry.sqlite import SqliteHistory, add, check_file

LONGEST_LINE = 2**20
"""Bytes of a line that is still believed; no telemetry value comes near."""

_END = 4096
"""Bytes at either end of what was read that have to be the same for a log to have merely grown."""


class LogHistory:
    """A history in a log; each question is answered with all complete lines that the log has then.

    The log is copied into a temporary SQLite file that has no name, so that it goes with the process, however that ends. A log
    that only grew is read on from where reading ended; one that is shorter, replaced or rewritten is read anew.

    Parameters
    ----------
    path : str
        The log.
    form : str
        ``csv`` or ``jsonl``.

    Raises
    ------
    TelemetryError
        When there is no log, or a line is wrong; with file and line.
    """

    def __init__(self, path: str, form: str) -> None:
        check_file(path, form)
        self._path = path
        self._form = form
        self._interrupted = False
        self._seen: tuple[int, ...] = ()
        self._ends = (b"", b"")
        self._header = ""
        self._offset = self._number = 0
        # SQLite makes a file for a database without a name, and unlinks it at once.
        self._connection = sqlite3.connect("", check_same_thread=False)
        self._history = SqliteHistory(path, self._connection)
        try:
            add(self._connection, ())
            self._read()
        except BaseException:
            self.close()
            raise

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one."""
        self._read()
        return self._history.as_of(names, instants)

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return numbers over the samples from begin to end, both included, of each name that has any."""
        self._read()
        return self._history.during(names, begin, end)

    def interrupt(self) -> None:
        """End a question, or the reading before it, that is under way in another thread."""
        self._interrupted = True
        with suppress(sqlite3.Error):
            self._history.interrupt()

    def close(self) -> None:
        """Let go of the copy."""
        self._history.close()

    def _read(self) -> None:
        """Read what the log has more than at the last time, all or nothing."""
        self._interrupted = False
        try:
            with open(self._path, "rb") as file:
                facts = os.fstat(file.fileno())
                seen = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
                if seen != self._seen:
                    if not self._has_grown(file, seen):
                        self._forget()
                    self._read_on(file)
                    self._seen = seen
        except OSError as error:
            raise TelemetryError(f"{self._path}: cannot be read: {error.strerror}", retry=True) from error
        except sqlite3.Error as error:
            raise TelemetryError(f"{self._path}: cannot be copied: {error}") from error

    def _has_grown(self, file: BinaryIO, seen: tuple[int, ...]) -> bool:
        return seen[:2] == self._seen[:2] and seen[2] > self._seen[2] and self._ends == _ends(file, self._offset)

    def _forget(self) -> None:
        self._seen, self._header = (), ""
        self._offset = self._number = 0
        with self._connection:
            self._connection.execute("DELETE FROM samples")
            self._connection.execute("DELETE FROM keywords")

    def _read_on(self, file: BinaryIO) -> None:
        lines = _CompleteLines(file, self._path, self._offset, self._number, lambda: self._interrupted)
        try:
            add(self._connection, self._samples(iter(lines)))
        except ConfigurationError as error:
            # Only a quote that was not closed is noticed so late; whoever writes may be about to close it.
            raise TelemetryError(str(error), retry=lines.exhausted) from error
        self._offset, self._number = lines.offset, lines.number
        self._ends = _ends(file, self._offset)

    def _samples(self, lines: Iterator[str]) -> Iterable[tuple[str, float, str]]:
        if self._form == "jsonl":
            return jsonl_samples(lines, self._path, self._number)
        self._header = self._header or next(lines, "")
        return csv_samples(chain([self._header], lines), self._path, max(self._number - 1, 0)) if self._header else ()


class _CompleteLines:
    """The lines of a log from an offset on; what follows the last line end is left for later, when it is complete."""

    def __init__(self, file: BinaryIO, path: str, offset: int, number: int, interrupted: Callable[[], bool]) -> None:
        self.offset = offset
        self.number = number
        self.exhausted = False
        self._file = file
        self._path = path
        self._interrupted = interrupted

    def __iter__(self) -> Iterator[str]:
        self._file.seek(self.offset)
        while (line := self._file.readline(LONGEST_LINE)).endswith(b"\n"):
            if self._interrupted():
                raise TelemetryError(f"{self._path}: the question was interrupted", retry=True)
            try:
                text = line.decode("utf-8" if self.offset else "utf-8-sig")
            except UnicodeDecodeError as error:
                raise ConfigurationError(f"{self._path}:{self.number + 1}: is no UTF-8: {error}") from error
            self.offset += len(line)
            self.number += 1
            yield text
        if len(line) == LONGEST_LINE:
            raise ConfigurationError(f"{self._path}:{self.number + 1}: a line of more than {LONGEST_LINE} bytes")
        self.exhausted = True


def _ends(file: BinaryIO, offset: int) -> tuple[bytes, bytes]:
    """Return the first and the last bytes before an offset."""
    file.seek(0)
    first = file.read(min(_END, offset))
    file.seek(max(offset - _END, 0))
    return first, file.read(min(_END, offset))
