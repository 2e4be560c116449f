"""How far a night is: a bar where somebody looks, else a line now and then."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from assembler import console
from assembler.changes import change_lines
from assembler.reports.tally import Tally

if TYPE_CHECKING:
    from rich.console import Console

    from assembler.service.night import Result

PAUSE = 30_000_000_000
"""Between two lines [ns]."""

_MOST_LINES = 20
"""Of what differs from an L0 that was refused."""

Tell = Callable[["Result"], None]


@contextmanager
def show_progress(night: str, count: int, *, out: Callable[[str], None] | None, clock: Callable[[], int]) -> Iterator[Tell]:
    """Lend what tells of each exposure that is done; on the way out, say how far the night got.

    Parameters
    ----------
    night : str
    count : int
        How many exposures there are.
    out : callable or None
        Writes a line to standard output, where the L0s' paths go; None: they are not told.
    clock : callable
        Tells a time that never goes back [ns].
    """
    so_far = Progress(night, count, clock)
    screen = _screen()
    if screen is not None:
        plain = sys.stdout.isatty()
        with _bar(so_far, screen, whole=plain) as (above, coloured, advance):

            def tell_above(result: "Result") -> None:
                _tell(result, (above if plain else out) if out else None, above)
                _tell_changes(result, (coloured if plain else out) if out else None, coloured)
                so_far.add(result)
                advance()

            yield tell_above
        return

    def tell(result: "Result") -> None:
        _tell(result, out, console.say)
        _tell_changes(result, out, partial(click.echo, file=console.heedless(sys.stderr)))
        so_far.add(result)
        if so_far.is_due():
            console.say(so_far.line())

    yield tell
    if so_far.done:
        console.say(so_far.line())


def _screen() -> "Console | None":
    """Return standard error as a terminal that a bar may move on, if it is one."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    screen = Console(file=console.heedless(sys.stderr))
    return screen if screen.is_terminal and not screen.is_dumb_terminal else None


def _tell(result: "Result", out: Callable[[str], None] | None, say: Callable[[str], None]) -> None:
    if result.path and out and not result.comparison:
        out(result.path if result.state != "new" else f"{result.path}: is not there yet")
    if result.reason:
        say(console.one_line(f"{result.task.label}: {result.reason}"))


def _tell_changes(result: "Result", out: Callable[[str], None] | None, say: Callable[[str], None]) -> None:
    """Say what differs: all of it where that was asked for, else as much as tells why an L0 was refused."""
    told = result.comparison
    if told is None or not told.differs:
        return
    if result.state == "failed":
        for line in change_lines(told, _MOST_LINES):
            say(f"  {line}")
    elif out:
        out(f"{console.visible(result.path)}: {told.summary}")
        for line in change_lines(told):
            out(f"  {line}")


class Progress:
    """How far a night is, and how quick."""

    def __init__(self, night: str, count: int, clock: Callable[[], int]) -> None:
        self.name = os.path.basename(night) or night
        self.count = count
        self._clock = clock
        self._begun = self._told = clock()
        self._tally = Tally()

    @property
    def done(self) -> int:
        """How many exposures are done."""
        return self._tally.exposures

    def add(self, result: "Result") -> None:
        """Count an exposure that is done."""
        self._tally.add(result)

    def is_due(self) -> bool:
        """Tell whether it is time for a line; the last one comes anyway."""
        now = self._clock()
        if now - self._told < PAUSE or self.done == self.count:
            return False
        self._told = now
        return True

    def pace(self) -> str:
        """Say how quick it is, and what was found."""
        rate = self._tally.size / 1e6 / max(1e-3, (self._clock() - self._begun) / 1e9)
        counts = self._tally.findings
        failed = f", {self._tally.states['failed']} failed" if self._tally.states["failed"] else ""
        return f"{rate:.0f} MB/s{failed}, {counts['error']} errors, {counts['warning']} warnings"

    def line(self) -> str:
        """Say how far it is."""
        return f"{self.name}: {self.done} of {self.count} exposures, {self.pace()}, {self._time()}"

    def short(self) -> str:
        """Say the same in fewer words, those first that are worth most: a terminal may have room for those only."""
        told = f"{console.visible(self.name)} {self.done}/{self.count}"
        return f"{told}, {self._time()}, {self.pace()}" if self.done else told

    def _time(self) -> str:
        elapsed = self._clock() - self._begun
        left = self.count - self.done
        return f"{console.span(elapsed * left // max(1, self.done))} left" if left else f"in {console.span(elapsed)}"


@contextmanager
def _bar(
    so_far: Progress, screen: "Console", *, whole: bool
) -> Iterator[tuple[Callable[[str], None], Callable[[str], None], Callable[[], None]]]:
    """Show a bar; lend what prints a line above it, what prints one with colours of our own there, and what moves it.

    ``whole`` tells whether standard output is on that terminal, too, so that what is written there goes above the bar.
    """
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    with Bar(*columns, console=screen, transient=True, redirect_stdout=whole) as bar:
        shown = bar.add_task(so_far.short(), total=so_far.count)
        yield (
            lambda text: bar.console.print(Text(console.visible(text)), soft_wrap=True),
            lambda text: bar.console.print(Text.from_ansi(text), soft_wrap=True),
            lambda: bar.update(shown, advance=1, description=so_far.short()),
        )
