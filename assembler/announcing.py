"""What commands share that announce: who is told, where that is queued, and what is said where it could not be sent at once."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assembler import console
from assembler.errors import ConfigurationError
from assembler.options import default_journal
from assembler.service.log import Silent

if TYPE_CHECKING:
    from assembler.core.announcements import Receiver
    from assembler.service.announcement_queue import Standing
    from assembler.service.announcer import Announcer

ANNOUNCE = click.option(
    "--announce", metavar="FILE", help="YAML of who is told of L0s [default: announce.yaml beside the instrument's YAML, if it is there]."
)

AFTERWARDS = 10.0
"""How long a command waits at its end for what is to be sent [s]."""


class Aside(Silent):
    """A log that says on standard error what somebody has to look at; who failed is told at the end."""

    def error(self, event: str, **fields: Any) -> None:
        """Say why."""
        if event != "receiver_refused":
            click.echo(f"announcements: {console.one_line(str(fields.get('reason', '')))}", err=True)

    def exception(self, event: str, **fields: Any) -> None:
        """Say what kind of defect it is."""
        self.error(event, reason=f"a bug in the assembler: {type(fields.get('exc_info')).__name__}")


class Nobody:
    """Announces nothing, where nobody is to be told; so most commands need none of what announcing needs."""

    def published(self, path: Path, *, version: int, written: str, replaced: Path | None = None) -> None:
        """Do nothing."""

    def archived(self, l0: Path, url: str, *, size: int, sha256: str) -> None:
        """Do nothing."""

    def catch_up(self, out: Path) -> None:
        """Do nothing."""


def load_receivers(announce: str | None, yaml: str | None) -> "tuple[Receiver, ...]":
    """Return who is told, by the YAML that was named, or the one beside the instrument's YAML, where it is there."""
    from assembler.config import default_instrument

    beside = (Path(yaml) if yaml else default_instrument()).parent / "announce.yaml"
    if announce is None and not beside.exists():
        return ()
    from assembler import announcements  # pydantic and ruamel.yaml cost 0.1 s

    return announcements.load_announcements(Path(announce) if announce is not None else beside)


def queue_beside(journal: Path) -> str:
    """Return the path of the queue that goes with a watcher's journal.

    >>> queue_beside(Path("/state/l0-assembler/KPF.sqlite"))
    '/state/l0-assembler/KPF.announcements.sqlite'
    """
    return os.path.realpath(journal.with_suffix(".announcements.sqlite"))


@contextmanager
def announcing(receivers: "Sequence[Receiver]", instrument: str) -> "Iterator[Announcer | Nobody]":
    """Lend what announces; at the end what waits is sent for some seconds, and the rest stays in the queue, which is said.

    Whatever is wrong with the queue or a receiver is said on standard error, and costs nothing else.
    """
    if not receivers:
        yield Nobody()
        return
    from assembler.service.announcer import Announcer
    from assembler.service.journal_file import check_place
    from assembler.service.mounts import read_mountinfo

    queue = queue_beside(default_journal(instrument, os.environ, Path.home()))
    try:
        check_place(queue, read_mountinfo())
    except ConfigurationError as error:
        click.echo(f"announcements: {console.one_line(str(error))} ($XDG_STATE_HOME); nobody is told", err=True)
        yield Nobody()
        return
    announcer = Announcer(queue, receivers, instrument, clock=time.time_ns, log=Aside())
    try:
        yield announcer
        if announcer.is_begun:
            with suppress(KeyboardInterrupt):  # the work is done
                announcer.drain(AFTERWARDS)
            if waiting := waiting_line(announcer.standings()):
                click.echo(f"announcements: {waiting}; `assembler announce` sends them", err=True)
    finally:
        announcer.close()


def waiting_line(standings: "Sequence[Standing]") -> str:
    """Say in one line how many wait for whom, and why; empty where nothing does."""
    told = []
    for standing in standings:
        name, why = standing.receiver.name, standing.error or "not sent yet"
        if standing.refused:
            why = f"refused for good: {why}; `assembler announce --skip {name}` gives it up"
        if standing.waiting:
            told.append(f"{standing.waiting} wait for {name} ({why})")
    return console.one_line("; ".join(told))
