"""What several commands of the command line share: options, the instrument that they name, and how signals stop them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from assembler.core.instrument import Instrument

INSTRUMENT = click.option("-i", "--instrument", "yaml", metavar="FILE", help="The instrument's YAML [default: prefixes.yaml].")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def load_named(yaml: str | None) -> "Instrument":
    """Load the instrument whose YAML is named, or the one to use when none is."""
    from assembler.config import default_instrument, load_instrument

    return load_instrument(Path(yaml) if yaml else default_instrument())


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
