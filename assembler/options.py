"""What several commands of the command line share: options, the instrument that they name, and how signals stop them."""

import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from assembler import console
from assembler.errors import ConfigurationError

if TYPE_CHECKING:
    from assembler.core.corrections import Correction
    from assembler.core.instrument import Instrument
    from assembler.service.finder import Found
    from assembler.service.record_store import RecordStore
    from assembler.service.recorder import Recorder
    from assembler.telemetry.history import History

INSTRUMENT = click.option("-i", "--instrument", "yaml", metavar="FILE", help="The instrument's YAML [default: prefixes.yaml].")
HISTORY = click.option(
    "--history",
    metavar="URL",
    help="The keyword history: sqlite:///, postgresql://, csv:///, jsonl:///, influx2://, influx3://; l0://PATH, to replay an L0's.",
)
PATIENCE = click.option(
    "--patience", metavar="TIME", default="10 s", show_default=True, help="How long the exposure may wait for the keyword history in all."
)
CORRECTIONS = click.option(
    "--corrections", metavar="DIR", help="YAML files of what is known to be wrong [default: corrections beside the instrument's YAML]."
)
RECORD = click.option(
    "--record",
    "to_record",
    metavar="URL",
    help="Record each L0 in a database, sqlite:///PATH or postgresql://HOST/DATABASE; one that is away delays none.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
INPUTS = click.argument("inputs", nargs=-1, metavar="NIGHT | SUBFITS...")
FRAME = click.option("--frame", type=click.IntRange(min=0), help="The frame to assemble, where the input is a night's directory.")
OUT = click.option(
    "--out", metavar="DIR", help="Where the L0 goes [default: here; of a night, where the YAML says]. Made where it is not there."
)
JOURNAL = click.option(
    "--journal",
    metavar="FILE",
    help="What the watcher remembers, on a local disk [default: l0-assembler/INSTRUMENT.sqlite in $XDG_STATE_HOME or ~/.local/state].",
)

STOPPED = 130
"""Exit code of a command that was stopped by a signal."""

_OF_RECORDS = {
    "records_wait": "its record has to wait: {reason}",
    "record_refused": "{path} is not recorded: {reason}",
    "record_lacks": "{path}: not in its record: {problems}",
    "records_missing": "not recorded in {store}: {count}; `assembler record L0... --to URL` does it later",
}
"""What is said of events of a recorder; of others nothing."""


def load_named(yaml: str | None) -> "Instrument":
    """Load the instrument whose YAML is named, or the one to use when none is."""
    from assembler.config import default_instrument, load_instrument

    return load_instrument(Path(yaml) if yaml else default_instrument())


def default_journal(name: str, environ: Mapping[str, str], home: Path) -> Path:
    """Return where the journal of an instrument is, unless told otherwise.

    A variable that holds no absolute path counts for nothing, as the XDG Base Directory Specification asks.

    >>> default_journal("KPF/2", {}, Path("/home/kpf"))
    PosixPath('/home/kpf/.local/state/l0-assembler/KPF_2.sqlite')
    """
    state = environ.get("XDG_STATE_HOME", "")
    directory = Path(state) if os.path.isabs(state) else home / ".local" / "state"
    return directory / "l0-assembler" / f"{re.sub('[^A-Za-z0-9_.-]', '_', name)}.sqlite"


class Stop:
    """Whether signals asked the program to stop, and whether the first one ends it wherever it is."""

    def __init__(self) -> None:
        self._asked = 0
        self._most = 0

    @property
    def asked(self) -> bool:
        """Whether there was one."""
        return self._asked > 0

    @property
    def insisted(self) -> bool:
        """Whether there was one more, after which nothing is to be begun or finished."""
        return self._asked > 1

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        """Do what a signal asks for."""
        self._asked += 1
        if self._asked > self._most:
            raise KeyboardInterrupt
        with suppress(OSError):  # and not through a stream, which may be in the middle of a write
            line = b"stopping when what is in hand is finished; it is given up when that is asked for again\n"
            os.write(2, (b"\n" if os.isatty(2) else b"") + line)  # a terminal has a bar there

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Let the first signal be looked after later; the next one ends the program."""
        yield from self._bearing(1)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal end what is done here, even if it was there before."""
        if self.asked:
            raise KeyboardInterrupt
        yield from self._bearing(0)

    def _bearing(self, most: int) -> Iterator[None]:
        before, self._most = self._most, most
        try:
            yield
        finally:
            self._most = before


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, so that nothing half done stays behind.

    One that is ignored already, as nohup has it, stays ignored.
    """
    stop = Stop()
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop.ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def load_corrections(directory: str | None, yaml: str | None, instrument: "Instrument") -> "tuple[Correction, ...]":
    """Return the corrections of a directory that was named, or of the one beside the instrument's YAML, where it is there."""
    from assembler.config import default_instrument

    beside = (Path(yaml) if yaml else default_instrument()).parent / "corrections"
    if directory is None and not beside.is_dir():
        return ()
    from assembler import corrections  # pydantic and ruamel.yaml cost 0.1 s

    return corrections.load_corrections(Path(directory) if directory is not None else beside, instrument)


@contextmanager
def lent_history(url: str | None, patience: str) -> "Iterator[History | None]":
    """Open a history for one exposure, which waits for it no longer than it may."""
    if url is None:
        yield None
        return
    from assembler.service.replay import open_history
    from assembler.telemetry.patience import Patience

    seconds = duration("--patience", patience) / 1e9
    lent = Patience.opening(lambda: open_history(url, seconds), seconds)
    try:
        yield lent.exposure()
    finally:
        lent.close()


def record_store(url: str | None) -> "RecordStore | None":
    """Return the store for records that a URL names; nobody calls it yet."""
    if url is None:
        return None
    from assembler.service.record_store import open_store

    return open_store(url)


@contextmanager
def lent_recorder(store: "RecordStore | None") -> "Iterator[Recorder | None]":
    """Lend what records L0s in a store, if there is one, and says on standard error what it cannot."""
    if store is None:
        yield None
        return
    from assembler.service.recorder import recording

    with recording(store, console.Saying(_OF_RECORDS)) as recorder:
        yield recorder


def duration(option: str, text: str) -> int:
    """Read the length of time that an option was given [ns].

    Raises
    ------
    ConfigurationError
        When it is none.
    """
    from assembler.core.instants import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def find_inputs(instrument: "Instrument", inputs: Sequence[str], frame: int | None) -> "Found":
    """Find the sub-FITS of one exposure: those of a frame of a night, or those that are named.

    Raises
    ------
    ConfigurationError
        When the command line does not tell which.
    InputError
        When there is no such night.
    """
    from assembler.service.finder import find_given, find_night

    if frame is not None:
        if len(inputs) != 1:
            raise ConfigurationError("--frame goes with one night's directory")
        return find_night(instrument, Path(inputs[0]), frame)
    if not inputs:
        raise ConfigurationError("name the sub-FITS, or a night's directory with --frame")
    if len(inputs) == 1 and Path(inputs[0]).is_dir():
        raise ConfigurationError(f"{inputs[0]} is a directory; which frame? Say --frame N")
    return find_given(instrument, inputs)


def output_directory(out: str | None, instrument: "Instrument", inputs: Sequence[str], frame: int | None) -> Path:
    """Return where the L0 of one exposure goes: where it was told, below the night, or here."""
    if out is not None:
        return Path(out)
    return Path(inputs[0]) / instrument.output if frame is not None else Path()
