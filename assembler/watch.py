"""The command that watches: it puts the service together from what the command line says, and runs it."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assembler import __version__
from assembler.announcing import ANNOUNCE, load_receivers, queue_beside
from assembler.errors import ConfigurationError, OutputError
from assembler.options import (
    CORRECTIONS,
    HISTORY,
    INSTRUMENT,
    JOURNAL,
    RECORD,
    default_journal,
    duration,
    load_corrections,
    load_named,
    record_store,
)

if TYPE_CHECKING:
    from assembler.core.instrument import Instrument
    from assembler.service.announcer import Announcer
    from assembler.service.log import Log
    from assembler.service.maker import Setup
    from assembler.service.signs import Signs
    from assembler.service.watcher import Watcher

_PATIENCE = 2.0
"""How long the start waits for what file systems tell of the places that were named [s]."""


@click.command()
@click.argument("place", metavar="NIGHT | ROOT")
@click.option("--out", metavar="DIR", help="Where the L0s go [default: where the YAML says, below NIGHT or ROOT].")
@HISTORY
@click.option("--patience", metavar="TIME", default="10 s", show_default=True, help="How long an exposure may wait for the history in all.")
@click.option(
    "--settling",
    metavar="TIME",
    default="3 s",
    show_default=True,
    help="How long a whole sub-FITS has to stay as it is, where nothing tells that its writer closed it.",
)
@JOURNAL
@INSTRUMENT
@CORRECTIONS
@ANNOUNCE
@RECORD
@click.option("--one-night/--nights", default=None, help="What the first argument is [default: what the first sub-FITS in it tell].")
@click.option("--standby/--no-standby", default=True, help="Wait while another watcher has DIR [default], or exit.")
@click.option("--inotify/--no-inotify", default=None, help="Be woken by inotify or not [default: on local file systems].")
@click.option("--listen", metavar="HOST:PORT", help="Answer /healthz and /metrics there, on loopback only.")
@click.option(
    "--stuck", metavar="TIME", default="60 s", show_default=True, help="How long a round may take before /healthz says that it is stuck."
)
@click.option("--log", metavar="FILE", help="Write events there, and go on with a new file when it was rotated [default: standard error].")
@click.option("--json/--no-json", "as_json", default=None, help="Write events as JSON, or for people [default: by terminal].")
def watch(
    place: str,
    out: str | None,
    history: str | None,
    patience: str,
    settling: str,
    journal: str | None,
    yaml: str | None,
    corrections: str | None,
    announce: str | None,
    to_record: str | None,
    one_night: bool | None,
    standby: bool,
    inotify: bool | None,
    listen: str | None,
    stuck: str,
    log: str | None,
    as_json: bool | None,
) -> int:
    """Make the L0 of every exposure as its sub-FITS come, until SIGTERM or Ctrl-C.

    NIGHT is the directory of one night, ROOT one with a directory for each night; new nights are picked up by themselves. SIGHUP
    has the YAML and the corrections read again. What is done is in the journal: `assembler status` shows it.

    \b
    assembler watch /data/2024apr21 --out /data/2024apr21/L0 --history postgresql://keywords/history
    assembler watch /data --out /archive/l0 --history sqlite:///history.db --listen 127.0.0.1:9464
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    from assembler.events import LogFile, configure
    from assembler.service.announcer import Announcer
    from assembler.service.claims import this_process
    from assembler.service.health import Health
    from assembler.service.health_server import HealthServer, read_address
    from assembler.service.journal_file import check_place
    from assembler.service.keeper import Keeper
    from assembler.service.meters import Meters
    from assembler.service.mounts import read_mountinfo
    from assembler.service.notify import Notifier
    from assembler.service.recorder import recording
    from assembler.service.running import Parts, Service
    from assembler.service.signs import Signs
    from assembler.service.waker import Waker

    setup = _read(yaml, corrections)
    instrument = setup.instrument
    receivers = load_receivers(announce, yaml)
    store = record_store(to_record)
    target = Path(os.path.abspath(out if out is not None else Path(place) / instrument.output))
    kept_in = Path(journal) if journal else default_journal(instrument.name, os.environ, Path.home())
    _within(_PATIENCE, lambda: _check_places(place, target, instrument))
    check_place(os.path.realpath(kept_in), read_mountinfo())
    steady = _steady_clock()
    with ExitStack() as stack:
        meters, health = Meters(), Health(duration("--stuck", stuck) / 1e9)
        stream = stack.enter_context(closing(LogFile(Path(log)))) if log else sys.stderr or stack.enter_context(open(os.devnull, "w"))
        told = configure(stream, clock=time.time_ns, as_json=as_json, on_lost=meters.lost_event)
        recorder = stack.enter_context(recording(store, told)) if store else None
        setup = replace(setup, recorder=recorder)
        if listen:
            server = stack.enter_context(HealthServer(*read_address(listen), health, meters, log=told))
            told.info("answering", address=listen, port=server.port)
        announcer = Announcer(queue_beside(kept_in), receivers, instrument.name, clock=time.time_ns, log=told, meters=meters)
        stack.callback(announcer.close)
        announcer.open()
        wake = threading.Event()
        identity = lambda: this_process(__version__, time.time_ns())  # noqa: E731 - two words need no name of their own
        keeper = Keeper(target, identity, told, wake.set)
        service = Service(
            _opening(
                setup,
                place,
                target,
                kept_in,
                history,
                duration("--patience", patience),
                duration("--settling", settling),
                steady,
                told,
                Signs(meters, health),
                one_night,
                keeper.is_first,
                announcer,
            ),
            lambda: replace(_read(yaml, corrections), recorder=recorder),
            Parts(
                keeper=keeper,
                waker=Waker(wake.set, read_mountinfo, force=inotify),
                notifier=Notifier.from_environment(os.environ),
                health=health,
                meters=meters,
                log=told,
            ),
            steady=steady,
            standby=standby,
            wake=wake,
        )
        if service.run():
            return 0
    if sys.stderr:
        sys.stderr.flush()
    os._exit(0)  # a thread is blocked in a file system that does not answer, and would keep the interpreter from ending


def _opening(
    setup: "Setup",
    place: str,
    out: Path,
    journal: Path,
    history: str | None,
    patience: int,
    settling: int,
    steady: Callable[[], int],
    log: "Log",
    signs: "Signs",
    is_night: bool | None,
    is_first: Callable[[], bool],
    announcer: "Announcer",
) -> "Callable[[Callable[[], bool]], Watcher]":
    """Return what opens the watcher; a history that is wrong, and not merely away, is an error before."""
    from assembler.fits.writer import remove_abandoned
    from assembler.service.diary import Diary
    from assembler.service.journal import Journal
    from assembler.service.lender import Lender
    from assembler.service.replay import open_history
    from assembler.service.watcher import Watcher

    lender = None
    if history is not None:
        lender = Lender(setup.instrument, lambda: open_history(history, patience / 1e9), patience / 1e9, log)
        lender.lend()  # a URL that is wrong is an error now; a history that is merely away is waited for

    def open_watcher(may_go_on: Callable[[], bool]) -> "Watcher":
        remove_abandoned(out)
        with ExitStack() as opened:
            diary = Diary(Journal(journal, time.time_ns), setup.instrument, lambda: sorted(out.glob("*.fits")), time.time_ns, log)
            opened.callback(diary.close)  # unless all is well, so that the next attempt may take the journal
            if is_first() and diary.has_l0_in(out):
                told = "never had a watcher, and the journal knows L0s there; is it mounted?"
                raise OutputError(f"{out}: {told} If it was emptied on purpose, begin with another journal ({journal})")
            diary.begin()
            announcer.catch_up(out)
            announcer.start()
            watcher = Watcher(
                setup,
                Path(place),
                out,
                diary,
                lender,
                settling=settling,
                version=__version__,
                clock=time.time_ns,
                steady=steady,
                log=log,
                signs=signs,
                is_night=is_night,
                may_go_on=may_go_on,
                announcer=announcer,
            )
            opened.pop_all()
        return watcher

    return open_watcher


def _within(seconds: float, check: Callable[[], None]) -> None:
    """Raise what a check finds, unless it takes longer: on a mount whose server is away it may never end, and nobody waits for that."""
    found: list[ConfigurationError] = []

    def run() -> None:
        try:
            check()
        except ConfigurationError as error:
            found.append(error)

    thread = threading.Thread(target=run, name="check", daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        raise found[0]


def _check_places(place: str, out: Path, instrument: "Instrument") -> None:
    """See that the two are directories, or may become such, and that no L0 would be taken for a sub-FITS, and put into an L0.

    Raises
    ------
    ConfigurationError
        When they are not.
    """
    from assembler.service.finder import fits_pattern

    for directory in (place, out):
        if os.path.exists(directory) and not os.path.isdir(directory):
            raise ConfigurationError(f"{directory}: is no directory; name another one")
    name = re.sub(r"\{\w+\}", "1", instrument.filename)
    for origin in instrument.origins:
        folder = os.path.join(place, os.path.dirname(origin.files))
        if os.path.realpath(folder) == os.path.realpath(out) and fits_pattern(origin, os.path.join(folder, name)):
            told = f"L0s there would be taken for sub-FITS of {origin.name} ({origin.files})"
            raise ConfigurationError(f"{out}: {told}; name another directory with --out, best one that is not below {place}")


def _read(yaml: str | None, corrections: str | None) -> "Setup":
    """Read the instrument and what is known to be wrong.

    Raises
    ------
    ConfigurationError
        When either is wrong, or exposures could never be complete.
    """
    from assembler.service.maker import Setup

    instrument = load_named(yaml)
    alone = [o for o in instrument.origins if o.match == "frame" and o.required and not o.frame and "{frame}" not in o.files]
    if len(alone) > 1:
        told = f"sub-FITS of {alone[0].name} and {alone[1].name} tell no frame number, so that nobody knows which belong together"
        raise ConfigurationError(f"{told}; name it (frame, or {{frame}} in files), match one by time, or require only one")
    return Setup(instrument=instrument, corrections=load_corrections(corrections, yaml, instrument))


def _steady_clock() -> Callable[[], int]:
    """Return a clock [ns] that shows the time of day as it is now, and is never set afterwards."""
    apart = time.time_ns() - time.monotonic_ns()
    return lambda: time.monotonic_ns() + apart
