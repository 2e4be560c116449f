"""What several commands of the command line share: options, the instrument that they name, and how signals stop them."""

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from assembler.core.instrument import Instrument

INSTRUMENT = click.option("-i", "--instrument", "yaml", metavar="FILE", help="The instrument's YAML [default: prefixes.yaml].")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
JOURNAL = click.option(
    "--journal",
    metavar="FILE",
    help="What the watcher remembers, on a local disk [default: l0-assembler/INSTRUMENT.sqlite in $XDG_STATE_HOME or ~/.local/state].",
)


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


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, so that nothing half done stays behind."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
