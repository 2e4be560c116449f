"""What the command line prints: lines for people, without anything that a terminal would act on, and JSON for programs."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

import click

from assembler.errors import OutputError
from assembler.service.log import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from assembler.core.findings import Finding
    from assembler.core.instrument import Instrument
    from assembler.core.plan import Plan

_WORDS = {"error": "ERROR", "warning": "warning", "info": "info"}


class Saying(Silent):
    """A log that says events on standard error, those that it has a text for; the text has the names of their fields in braces."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def warning(self, event: str, **fields: Any) -> None:
        """Say an event in one line."""
        if event in self._texts:
            told = {name: "; ".join(value) if isinstance(value, list) else value for name, value in fields.items()}
            say(self._texts[event].format(**told))


class _Heedless:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Results:
    """Standard output of a command whose work is worth more than telling of it: it goes on where nobody takes that any more.

    ``exit_code`` is 4 where a disk did not take it, and 0 where a reader has read enough.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._is_taken = True

    def __call__(self, text: str, *, nl: bool = True) -> None:
        """Write text, as long as it is taken; that it is no more is said once."""
        if not self._is_taken:
            return
        try:
            click.echo(text, nl=nl)
        except OSError as error:
            self._is_taken = False
            self.exit_code = 0 if isinstance(error, BrokenPipeError) else OutputError.exit_code
            give_up(sys.stdout)
            say(f"standard output takes no more ({error.strerror}); the work goes on without")


def give_up(stream: IO[str]) -> None:
    """Let a standard stream that fails lead nowhere, so that what is left in its buffer fails nobody, and the exit code stays."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(text: str) -> None:
    """Say something in one line on standard error; where nobody takes it, it is lost, and nothing else is."""
    click.echo(one_line(text), file=heedless(sys.stderr))


def heedless(stream: IO[str]) -> IO[str]:
    """Return a stream without which the work goes on: what it does not take, such as a terminal that was closed, is lost."""
    return cast("IO[str]", _Heedless(stream))


def print_plan(planned: "Plan") -> None:
    """Print everything that an L0 would be."""
    from assembler.core.plan import Source
    from assembler.core.times import time_table

    click.echo(f"# {planned.filename}\n")
    for card in planned.hdus[0].cards:
        click.echo(card.rstrip())
    click.echo("\n# Times: source, begin, end, their distances from the exposure's and the tolerance [s]; durations [s]")
    for cells in time_table(planned.times):
        click.echo(" ".join(f"{cell:{width}}" for cell, width in zip(cells, (20, 29, 29, 18, 18, 0), strict=True)).rstrip())
    click.echo("\n# HDUs")
    for number, hdu in enumerate(planned.hdus):
        data = hdu.data
        if isinstance(data, Source):
            told = f"{data.length} bytes of {visible(data.path)}, HDU {data.hdu}"
        else:
            told = f"{data.count} rows" if data else ""
        click.echo(f"{number:4} {hdu.name:24} {len(hdu.cards):5} cards  {told}".rstrip())
    click.echo("\n# Input cards: origin, HDU, card, fate, where it is now")
    for row in planned.ledger:
        card = row.card if row.card.isprintable() and row.card.isascii() else ascii(row.card)[1:-1]
        now = f"{row.extension} {row.keyword}{f', corrected to {row.correction}' if row.correction else ''}"
        click.echo(f"{row.origin:10} {row.hdu:3} {row.number:4}  {card[:32]:32}  {row.fate:9}  {now}".rstrip())
    click.echo("\n# Findings")
    for found in planned.findings:
        click.echo(line(found))


def print_lint(instrument: "Instrument", findings: "Sequence[Finding]", *, as_json: bool) -> int:
    """Print what is wrong with the YAML for the samples, and return the exit code."""
    from assembler.core.findings import SETTLED_IN_YAML
    from assembler.core.snapshots import writers

    wrong = [f for f in findings if f.code in SETTLED_IN_YAML]
    if as_json:
        print_json([finding(f) for f in wrong])
        return 1 if wrong else 0
    for found in wrong:
        click.echo(line(found))
    if not wrong:
        cards = len(writers(instrument))
        told = f"{len(instrument.origins)} origins, {cards} telemetry cards, {len(instrument.table)} keywords of the table"
        click.echo(f"{instrument.name}: {told}: fine")
    return 1 if wrong else 0


def tell(findings: "Sequence[Finding]") -> None:
    """Print findings beside the result."""
    for found in findings:
        click.echo(line(found), err=True)


def line(found: "Finding") -> str:
    """Return a finding in one line."""
    about = " ".join(part for part in (found.origin, found.keyword) if part)
    return f"{_WORDS[found.severity]:8}" + one_line(f"{found.code}{f' ({about})' if about else ''}: {found.message}")


def finding(found: "Finding") -> dict[str, str]:
    """Return a finding for JSON."""
    from dataclasses import asdict

    return asdict(found)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=1))


def write_report(path: "Path", parts: Iterable[str]) -> None:
    """Write a report, whole or not at all; what is no text in UTF-8 is escaped.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    draft = path.with_name(f".{os.urandom(8).hex()}.report")  # which is short, however long the name is
    try:
        try:
            with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
                stream.writelines(parts)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    except OutputError as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error


def span(length: int) -> str:
    """Say in a few characters how long something [ns] takes; what a clock that was set back makes of it is none.

    >>> [span(round(seconds * 1e9)) for seconds in (-1, 0.25, 59, 3600, 86_400 * 3)]
    ['0.0 s', '0.2 s', '59 s', '60 min', '3 d']
    """
    seconds = max(length, 0) / 1e9
    for most, unit, divisor in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < most:
            return f"{seconds:.1f} s" if seconds < 10 else f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def one_line(text: str) -> str:
    """Return text as one line, without anything that a terminal would act on."""
    return visible(" ".join(text.split()))


def visible(text: str) -> str:
    """Return text with what a terminal would act on shown as ``?``."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
