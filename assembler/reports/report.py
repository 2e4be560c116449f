"""A report of many nights: kept on disk night by night as they are done, and put together at the end."""

import codecs
import csv
import io
import json
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from assembler import console
from assembler.core.lines import as_line
from assembler.errors import ConfigurationError, OutputError
from assembler.reports.accounts import Plain
from assembler.reports.page import page_head, page_section, page_tail

_CHUNK = 1 << 20
_LONGEST = 10_000
"""Of a cell; no path is longer, and spreadsheets take three times as much."""

_COLUMNS = ("night", "frame", "state", "version", "l0", "errors", "warnings", "missing", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a report is written.

    Attributes
    ----------
    head, tail : callable
        Return what comes before and after the nights, of what is told of them all: ``overview`` in it has the summary of each.
    section : callable
        Returns what is written of a night.
    between : str
        What stands between two nights.
    """

    head: Callable[[Plain], str]
    section: Callable[[Plain], str]
    tail: Callable[[Plain], str]
    between: str = ""


class Report:
    """Collects what is told of nights, and keeps none of it in memory.

    Parameters
    ----------
    form : Form
    spool : file
        A temporary one, for bytes, without a buffer: what cannot be written must not come up once more when it is closed.
    """

    def __init__(self, form: Form, spool: IO[bytes]) -> None:
        self._form = form
        self._spool = spool
        self._is_empty = True
        self._trouble = ""

    def add(self, account: Plain) -> None:
        """Add a night that is done; that the disk does not take it is told in the end, so that it stops no other night."""
        text = ("" if self._is_empty else self._form.between) + self._form.section(account)
        self._is_empty = False
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while rest and not self._trouble:
                rest = rest[self._spool.write(rest) :]
        except OSError as error:
            self._trouble = error.strerror or str(error)

    def parts(self, overall: Plain) -> Iterator[str]:
        """Return the whole report, piece by piece.

        Raises
        ------
        OutputError
            When the disk did not take all of it.
        """
        if self._trouble:
            raise OutputError(self._trouble)
        yield self._form.head(overall)
        self._spool.seek(0)
        yield from codecs.iterdecode(iter(partial(self._spool.read, _CHUNK), b""), "utf-8")
        yield self._form.tail(overall)


def form_of(path: str) -> Form:
    """Return how a report is written, by its suffix.

    Raises
    ------
    ConfigurationError
        When it has another one.
    """
    form = _FORMS.get(Path(path).suffix.lower())
    if form is None:
        *others, last = _FORMS
        raise ConfigurationError(f"--report {path}: a report is written as {', '.join(others)} or {last}")
    return form


class Reports:
    """The reports of a run: one in a file, one on standard output, or both, or none."""

    def __init__(self, path: str | None, filed: Report | None, printed: Report | None) -> None:
        self._path = path
        self._filed = filed
        self._printed = printed
        self._overview: list[Plain] = []

    def add(self, account: Plain) -> None:
        """Add a night that is done; only its counts are kept in memory."""
        self._overview.append({"night": account["night"], "summary": account["summary"]})
        for report in filter(None, (self._filed, self._printed)):
            report.add(account)

    def conclude(self, overall: Plain, out: Callable[..., None]) -> None:
        """Put the reports where they belong, the file whole or not at all; ``out`` writes to standard output.

        Raises
        ------
        OutputError
            When the disk does not take one; the other one is there nonetheless.
        """
        overall = overall | {"overview": self._overview}
        trouble = None
        if self._filed is not None and self._path is not None:
            try:
                console.write_report(Path(self._path), self._filed.parts(overall))
            except OutputError as error:
                trouble = error
        for part in self._printed.parts(overall) if self._printed is not None else ():
            out(part, nl=False)
        if trouble:
            raise trouble


@contextmanager
def open_reports(path: str | None, *, printed: bool) -> Iterator[Reports]:
    """Begin reports, and see that there is room for them; nothing of them is left behind, whatever happens.

    Parameters
    ----------
    path : str or None
        Where one will be, in the form that its suffix tells.
    printed : bool
        Whether one goes to standard output, as JSON.

    Raises
    ------
    ConfigurationError
        When the suffix is another one.
    OutputError
        When there is no room.
    """
    form = form_of(path) if path is not None else JSON
    if path is not None and os.path.isdir(path):
        raise OutputError(f"{path}: cannot be written: it is a directory")
    with ExitStack() as stack:
        try:
            if path is not None:
                with suppress(FileNotFoundError):
                    os.stat(path)  # such as a name that is too long
            filed = stack.enter_context(_spool(os.path.dirname(os.path.abspath(path)))) if path is not None else None
            shown = stack.enter_context(_spool(None)) if printed else None
        except OSError as error:
            raise OutputError(f"{path or 'the report'}: cannot be written: {error.strerror}") from error
        yield Reports(path, Report(form, filed) if filed else None, Report(JSON, shown) if shown else None)


def _spool(directory: str | None) -> IO[bytes]:
    """Open a file that has no name, and so is gone when it is closed, or its process is killed."""
    return tempfile.TemporaryFile("w+b", buffering=0, dir=directory)


def told_command(words: Sequence[str]) -> str:
    """Return a command line for people, without what could be a password.

    >>> told_command(["assembler", "night", "my night", "--history=postgresql://kpf:secret@host/db"])
    "assembler night 'my night' --history=postgresql://..."
    """
    hidden = [re.sub(r"(\w+://).*", r"\1...", word) if "@" in word or "password" in word else word for word in words]
    return shlex.join(hidden)


def _json_head(overall: Plain) -> str:
    told = {name: value for name, value in overall.items() if name != "overview"}
    return json.dumps(told, indent=1).removesuffix("\n}") + ',\n "nights": [\n'


def _csv_rows(account: Plain) -> str:
    """Return a row for each exposure, each gap, and each sub-FITS that belongs to none."""
    night = account["night"]
    rows: list[Sequence[object]] = []
    for one in account["exposures"]:
        missing = " ".join(f"{origin}:{reason}" for origin, reason in one["missing"].items())
        name = one["first"] if one["frame"] is None else one["frame"]
        counted = [one["findings"].get(severity, 0) for severity in ("error", "warning")]
        why = one["reason"] or ("" if one["diff"] is None or one["diff"]["same"] else one["diff"]["summary"])
        rows.append((night, name, one["state"], one["version"], one["l0"], *counted, missing, why))
    for first, last in account["gaps"]:
        rows.append((night, f"{first}-{last}", "gap", "", "", "", "", "", "no sub-FITS has these frames"))
    for stray in account["strays"]:
        rows.append((night, "", "stray", "", stray["path"], "", "", stray["origin"], stray["reason"]))
    for label in account["undated"]:
        rows.append((night, label, "undated", "", "", "", "", "", "left out: no sub-FITS tells its begin"))
    if account["reason"]:
        rows.append((night, "", "failed", "", "", "", "", "", account["reason"]))
    if account["summary"]["stopped"]:
        rows.append((night, "", "left", "", "", "", "", "", account["summary"]["stopped"]))
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows([[_cell(value) for value in row] for row in rows])
    return stream.getvalue()


def _cell(value: object) -> object:
    """Return what is one line, and what a spreadsheet takes for text and never for a formula."""
    if not isinstance(value, str):
        return value
    line = as_line(value, _LONGEST)
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line


JSON = Form(head=_json_head, section=lambda account: json.dumps(account, indent=1), tail=lambda _: "\n ]\n}\n", between=",\n")
_FORMS = {
    ".json": JSON,
    ".csv": Form(head=lambda _: _csv([_COLUMNS]), section=_csv_rows, tail=lambda _: ""),
    ".html": Form(head=page_head, section=page_section, tail=page_tail),
}
