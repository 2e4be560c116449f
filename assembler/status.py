"""The command that shows what becomes of the exposures: once, for programs, or live."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from assembler import console
from assembler.errors import AssemblerError, ConfigurationError
from assembler.options import INSTRUMENT, JOURNAL, JSON, default_journal, load_named, stopped_by_signals

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from assembler.core.states import State
    from assembler.service.journal_reader import Entry, Step
    from assembler.service.overview import Done, Mark, News, Overview

_WIDTH = 80
_MOST = 40
_PAUSE = 1.0
"""Columns where there is no terminal; how many exposures in flight are listed; seconds between two looks."""

_STATES = {"published": "green", "failed": "bold red", "waiting": "yellow", "superseded": "dim"}
_SEVERITIES = {"error": "bold red", "warning": "yellow", "info": ""}


@click.command()
@JOURNAL
@INSTRUMENT
@JSON
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C: live on a terminal, elsewhere a line for each new state.")
@click.option("-n", "count", type=click.IntRange(0, 10_000), default=10, metavar="COUNT", show_default=True, help="How many of those done.")
def status(journal: str | None, yaml: str | None, as_json: bool, follow: bool, count: int) -> int:
    """Show which exposures are in flight, what they wait for, and what became of the last ones.

    Exit code 1: one of those shown as done failed for good, or its L0 has findings of severity error. 2: there is no journal.
    4: it cannot be read. With --follow it is 0, since a journal that is away may come back.

    \b
    assembler status -n 20
    assembler status --follow --journal /var/lib/l0-assembler/kpf.sqlite
    """  # noqa: D301
    from assembler.service.overview import read_news, read_overview, to_plain

    path = journal if journal is not None else str(default_journal(load_named(yaml).name, os.environ, Path.home()))
    if follow:
        with stopped_by_signals(), _ended_by_interrupt():
            if as_json or not sys.stdout.isatty():
                tell_news(lambda last: read_news(path, last), as_json=as_json, sleep=time.sleep)
            else:
                _follow_live(lambda: read_overview(path, count, time.time_ns()))
        return 0
    overview = read_overview(path, count, time.time_ns())
    if as_json:
        console.print_json(to_plain(overview))
    else:
        _print_once(overview)
    return overview.exit_code


def show(overview: "Overview") -> "Group":
    """Return what a terminal shows; what the journal holds is text in it, and never markup."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Table] = [_heading(overview), Text()]
    parts += [_in_flight(overview), Text()] if overview.in_flight else [Text("Nothing in flight", style="bold"), Text()]
    parts += [_done(overview.done), Text()] if overview.done else []
    parts.append(_counts(overview.counts))
    if overview.orphans:
        parts += [Text(), *_orphans(overview)]
    return Group(*parts)


def line(step: "Step", entry: "Entry") -> str:
    """Return a new state in one line, without anything that a terminal would act on."""
    from assembler.core.instants import format_iso, round_to

    at = format_iso(round_to(step.at, 10**6), digits=3)
    about = [f"{at}Z", f"{_label(entry)} ({_night(entry)})", step.state]
    if step.state == "published" and entry.state == "published":
        about += [os.path.basename(entry.l0), f"v{entry.version}" if entry.version > 1 else "", _missing(entry), _findings(entry)]
    elif step.state == "waiting" == entry.state and entry.awaited:
        about.append(f"for {', '.join(entry.awaited)}")
    if step.detail:
        about.append(f"- {step.detail}")
    return console.one_line(" ".join(filter(None, about)))


def tell_news(read: "Callable[[Mark | None], News]", *, as_json: bool, sleep: Callable[[float], None]) -> None:
    """Print a line for each new state, for ever; and one when the journal goes away, and when it is back.

    Parameters
    ----------
    read : callable
        Returns what was noted after a line; `assembler.service.overview.read_news`.
    as_json : bool
    sleep : callable
        Waits [s]; what it raises ends the whole.
    """
    from assembler.service.overview import step_to_plain

    last: Mark | None = None
    trouble = ""
    while True:
        try:
            news = read(last)
        except AssemblerError as error:
            if str(error) != trouble:
                trouble = str(error)
                _tell(f"assembler: {trouble}")
            if isinstance(error, ConfigurationError):
                last = last or (0, 0)  # one that is not there yet is told from its beginning
        else:
            if trouble or last is None:
                _tell("assembler: the journal can be read again" if trouble else "following from here on; Ctrl-C ends it")
            last, trouble = news.last, ""
            for step, entry in news.lines:
                click.echo(json.dumps(step_to_plain(step, entry)) if as_json else _encodable(line(step, entry)))
        sleep(_PAUSE)


def _follow_live(read: "Callable[[], Overview]") -> None:
    """Show on the terminal what there is, once a second, for ever; while the journal is away, what was there last, and why."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    terminal = Console(highlight=False, markup=False, emoji=False)
    shown: Group | Text = Text()
    with Live(console=terminal, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            try:
                shown = show(read())
                live.update(shown, refresh=True)
            except AssemblerError as error:
                live.update(Group(_text(console.one_line(str(error)), "bold red"), Text(), shown), refresh=True)
            time.sleep(_PAUSE)


def _print_once(overview: "Overview") -> None:
    """Print it as wide as the terminal is; elsewhere plainly."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False, markup=False, emoji=False).print(show(overview))
    else:
        click.echo(plain(overview, _WIDTH), nl=False)


def plain(overview: "Overview", width: int) -> str:
    """Return what a terminal of some width shows, without colours."""
    from rich.console import Console

    page = StringIO()
    Console(
        file=page, width=width, force_terminal=False, color_system=None, legacy_windows=False, highlight=False, markup=False, emoji=False
    ).print(show(overview))
    return "".join(f"{row.rstrip()}\n" for row in page.getvalue().splitlines())


def _heading(overview: "Overview") -> "Text":
    from assembler.core.instants import SECOND, format_iso

    at = format_iso(overview.at // SECOND * SECOND, digits=0)
    heading = _text(f"{at}Z {overview.journal}: ", "bold")
    if overview.watcher is None:
        return heading.append("whether a watcher runs cannot be told", style="yellow")
    if not overview.watcher:
        return heading.append("no watcher has it open", style="bold yellow")
    return heading.append_text(_text(f"watched by {overview.watcher}", "green"))


def _in_flight(overview: "Overview") -> "Table":
    shown = overview.in_flight[:_MOST]
    more = f", the first {_MOST} of them" if len(overview.in_flight) > _MOST else ""
    table = _table(f"In flight: {len(overview.in_flight)}{more}")
    _column(table, "exposure", ratio=3)
    _column(table, "night", ratio=2)
    _column(table, "state", width=10)
    _column(table, "for", width=6)
    table.add_column("found", ratio=3, overflow="fold")
    table.add_column("what comes next", ratio=5, overflow="fold")
    for entry in shown:
        table.add_row(
            _text(_label(entry)),
            _text(_night(entry)),
            _text(entry.state, _STATES.get(entry.state, "")),
            _text(console.span(overview.at - entry.since)),
            _text(" ".join(entry.sub_fits)),
            _next(entry, overview.at),
        )
    return table


def _next(entry: "Entry", now: int) -> "Text":
    """Say what an exposure waits for, or when it is tried again and why it has to be."""
    told = []
    if entry.awaited:
        left = "" if entry.until is None else f", {console.span(entry.until - now)} left" if entry.until > now else ", time is up"
        told.append(f"waits for {', '.join(entry.awaited)}{left}")
    if entry.next_attempt is not None:
        when = f"in {console.span(entry.next_attempt - now)}" if entry.next_attempt > now else "now"
        told.append(f"attempt {entry.attempts + 1} {when}: {entry.reason}")
    elif entry.attempts > 1:
        told.append(f"attempt {entry.attempts}")
    return _text("; ".join(told), "red" if entry.state == "failed" else "")


def _done(done: "tuple[Done, ...]") -> "Table":
    table = _table("Done, the newest last")
    _column(table, "L0 or exposure", ratio=3)
    for header, width in (("ver", 3), ("state", 10), ("took", 6), ("err", 3), ("warn", 4), ("info", 4)):
        _column(table, header, width=width)
    table.add_column("missing, or why", ratio=2, overflow="fold")
    for one in done:
        entry = one.entry
        has_l0 = entry.state == "published" and entry.l0
        why = _text(_missing(entry), "yellow") if entry.state == "published" else _text(entry.reason, _STATES.get(entry.state, ""))
        table.add_row(
            _text(os.path.basename(entry.l0) if has_l0 else f"{_label(entry)} ({_night(entry)})"),
            _text(str(entry.version or "")),
            _text(entry.state, _STATES.get(entry.state, "")),
            _text("" if one.took is None else console.span(one.took)),
            *(_text(str(entry.findings[severity] or ""), style) for severity, style in _SEVERITIES.items()),
            why,
        )
    return table


def _counts(counts: "Mapping[State, int]") -> "Text":
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return _text(f"Exposures: {told or 'none'}", "bold")


def _orphans(overview: "Overview") -> "Iterator[Text]":
    few = f", the newest {len(overview.newest_orphans)}" if overview.orphans > len(overview.newest_orphans) else ""
    yield _text(f"Orphans, sub-FITS that belong to no exposure: {overview.orphans}{few}", "bold yellow")
    for seen, sighting in overview.newest_orphans:
        yield _text(f"{sighting.path} ({sighting.origin}, {console.span(overview.at - seen)} ago)")


def _findings(entry: "Entry") -> str:
    """Say how many findings there are of each severity, the gravest first."""
    counted = [(severity, entry.findings[severity]) for severity in _SEVERITIES if entry.findings[severity]]
    return ", ".join(f"{count} {severity}{'s' if count > 1 and severity != 'info' else ''}" for severity, count in counted)


def _missing(entry: "Entry") -> str:
    """Say which origins an L0 lacks; one that was not triggered is none that it should have."""
    lacks = [f"{origin} {reason}" for origin, reason in entry.missing.items() if reason != "not-triggered"]
    return f"without {', '.join(lacks)}" if lacks else ""


def _label(entry: "Entry") -> str:
    return entry.name.first if entry.name.frame is None else str(entry.name.frame)


def _night(entry: "Entry") -> str:
    return os.path.basename(entry.name.night) or entry.name.night


def _table(title: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    return Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        expand=True,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _column(table: "Table", header: str, *, ratio: int = 0, width: int = 0) -> None:
    """Add a column of names, which are cut, or of short words."""
    overflow: Literal["ellipsis", "crop"] = "ellipsis" if _speaks_unicode() else "crop"
    justify: Literal["right", "left"] = "right" if width and width < 8 else "left"
    table.add_column(header, ratio=ratio or None, width=width or None, no_wrap=True, overflow=overflow, justify=justify)


def _text(text: str, style: str = "") -> "Text":
    """Return text that is nothing but text: no markup, and nothing that a terminal would act on."""
    from rich.text import Text

    return Text(_encodable(console.visible(text)), style=style)


def _encodable(text: str) -> str:
    """Return text with what standard output cannot say as ``?``."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8")


def _tell(text: str) -> None:
    click.echo(console.one_line(text), err=True)


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Take Ctrl-C for the end that it is: nothing was half done."""
    try:
        yield
    except KeyboardInterrupt:
        return
