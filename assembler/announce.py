"""The command that sends what waits to be announced, shows it, or gives one message up."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assembler import console
from assembler.announcing import ANNOUNCE, Aside, load_receivers, queue_beside
from assembler.errors import ConfigurationError
from assembler.options import INSTRUMENT, JOURNAL, JSON, default_journal, duration, load_named, stopped_by_signals

if TYPE_CHECKING:
    from assembler.core.announcements import Receiver
    from assembler.service.announcement_queue import AnnouncementQueue, Entry, Standing

_LOOK = 0.05


@click.command()
@INSTRUMENT
@ANNOUNCE
@JOURNAL
@click.option("--patience", metavar="TIME", default="60 s", show_default=True, help="How long to try.")
@click.option("--list", "listing", is_flag=True, help="Send nothing; show what waits for whom, the oldest first.")
@click.option("--skip", metavar="RECEIVER", help="Send nothing; give up the oldest message that waits for RECEIVER, and print its id.")
@JSON
def announce(
    yaml: str | None, announce: str | None, journal: str | None, patience: str, listing: bool, skip: str | None, as_json: bool
) -> int:
    """Send what waits to be announced: that an L0 was published, or archived.

    Each receiver gets its messages in the order in which they were put, and the next one only when it has the one before. The exit
    code is 4 where some still wait at the end.

    \b
    assembler announce
    assembler announce --list
    assembler announce --skip hook
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    from assembler.service.announcement_queue import AnnouncementQueue
    from assembler.service.journal_file import check_place
    from assembler.service.mounts import read_mountinfo

    instrument = load_named(yaml)
    receivers = load_receivers(announce, yaml)
    if not receivers:
        raise ConfigurationError("nobody is told of L0s: there is no announce.yaml beside the instrument's YAML; name one with --announce")
    path = queue_beside(Path(journal) if journal else default_journal(instrument.name, os.environ, Path.home()))
    check_place(path, read_mountinfo())
    if listing and skip is not None:
        raise ConfigurationError("--list shows, and --skip changes; leave one out")
    queue = AnnouncementQueue(path, receivers, time.time_ns())
    try:
        if queue.moved_aside:
            click.echo(f"announcements: {path} was damaged, and is now {queue.moved_aside}; what waited in it is lost", err=True)
        if skip is not None:
            return _skip(queue, receivers, skip, as_json=as_json)
        if not listing:
            with stopped_by_signals():
                _send(queue, receivers, duration("--patience", patience) / 1e9)
        return _tell(queue, receivers, listing=listing, as_json=as_json)
    finally:
        queue.close()


def _skip(queue: "AnnouncementQueue", receivers: "tuple[Receiver, ...]", name: str, *, as_json: bool) -> int:
    receiver = next((r for r in receivers if r.name == name), None)
    if receiver is None:
        raise ConfigurationError(f"--skip {name!a}: no receiver has this name; expected {', '.join(r.name for r in receivers)}")
    entry = queue.first(receiver)
    if entry is None:
        raise ConfigurationError(f"--skip {name}: nothing waits for it")
    queue.received(receiver, entry.number)
    if as_json:
        console.print_json({"receiver": name, "skipped": entry.id})
    else:
        click.echo(entry.id)
    return 0


def _send(queue: "AnnouncementQueue", receivers: "tuple[Receiver, ...]", seconds: float) -> None:
    """Try to send everything, for so long [s]."""
    from assembler.service.sender import Sender

    sender = Sender(queue.path, receivers, clock=time.time_ns, log=Aside(), is_urged=True)
    deadline = time.monotonic() + seconds
    sender.start()
    try:
        while any(queue.standing(receiver).waiting for receiver in receivers) and time.monotonic() < deadline:
            time.sleep(_LOOK)
    finally:
        sender.stop()


def _tell(queue: "AnnouncementQueue", receivers: "tuple[Receiver, ...]", *, listing: bool, as_json: bool) -> int:
    standings = [queue.standing(receiver) for receiver in receivers]
    if as_json:
        told = [_plain(s, queue.waiting(s.receiver) if listing else None) for s in standings]
        console.print_json(told)
    else:
        for standing in standings:
            click.echo(_line(standing))
            for entry in queue.waiting(standing.receiver) if listing else ():
                click.echo(f"  {console.one_line(' '.join(map(str, _told(entry).values())))}")
    sys.stdout.flush()
    return 0 if listing or not any(s.waiting for s in standings) else 4


def _line(standing: "Standing") -> str:
    why = f": {standing.error}" if standing.waiting and standing.error else ""
    good = ", refused for good" if standing.waiting and standing.refused else ""
    return console.one_line(f"{standing.receiver.shown}: {standing.waiting or 'nothing'} waits{good}{why}")


def _told(entry: "Entry") -> dict[str, str | int]:
    from assembler.core.instants import SECOND, format_iso

    notice = entry.notice
    return {
        "time": f"{format_iso(entry.at // SECOND * SECOND, digits=0)}Z",
        "id": entry.id,
        "event": notice.event,
        "version": notice.version,
        "what": notice.url or notice.path,
    }


def _plain(standing: "Standing", entries: "list[Entry] | None") -> dict[str, object]:
    from assembler.core.instants import SECOND, format_iso

    told: dict[str, object] = {
        "receiver": standing.receiver.name,
        "waiting": standing.waiting,
        "attempts": standing.attempts,
        "again": f"{format_iso(standing.again // SECOND * SECOND, digits=0)}Z" if standing.again else None,
        "refused": standing.refused,
        "error": standing.error,
    }
    return told | ({"messages": [_told(entry) for entry in entries]} if entries is not None else {})
