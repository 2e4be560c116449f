"""The command that tells what differs between an L0 and what would be made now, or another L0, and why."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assembler import __version__, changes, console
from assembler.errors import ConfigurationError
from assembler.options import CORRECTIONS, HISTORY, INSTRUMENT, JSON, PATIENCE, lent_history, load_corrections, load_named

if TYPE_CHECKING:
    from assembler.service.comparison import Comparison


@click.command()
@click.argument("l0", metavar="L0")
@click.option("--against", metavar="OTHER", help="Another L0, such as the version that it replaced, in place of what would be made now.")
@click.option(
    "--night", metavar="NIGHT", help="Where to find the sub-FITS of its frame [default: the one that the L0 is in, as the YAML says]."
)
@HISTORY
@PATIENCE
@INSTRUMENT
@CORRECTIONS
@JSON
def diff(
    l0: str,
    against: str | None,
    night: str | None,
    history: str | None,
    patience: str,
    yaml: str | None,
    corrections: str | None,
    as_json: bool,
) -> int:
    """Tell what would be otherwise if an L0 were made now, card by card and HDU by HDU, and why. Nothing is written.

    Each difference has its cause: the YAML, the assembler's version, corrections, telemetry, the sub-FITS of an origin, the output
    directory; or none, and then the L0 is not what was made. Without --history the telemetry is taken as the L0 has it. Exit
    code 1 when anything differs.

    \b
    assembler diff KP.20240422.28832.89.fits --history sqlite:///history.db
    assembler diff superseded/KP.20240422.28832.89.v1.fits --against KP.20240422.28832.89.fits
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    from assembler.service import comparison
    from assembler.service.recorded import find_again, home_of, night_of

    if against is not None and (night, history, corrections) != (None, None, None):
        raise ConfigurationError("--against compares two L0s as they are; --night, --history and --corrections do not go with it")
    instrument = load_named(yaml)
    path = Path(l0)
    if against is not None:
        return _tell(comparison.compare_l0s(path, Path(against), instrument), as_json=as_json)
    wrong = load_corrections(corrections, yaml, instrument)
    directory = home_of(path)
    found = find_again(instrument, path, Path(night) if night is not None else night_of(directory, instrument.output))
    with lent_history(history, patience) as opened:
        now = comparison.Making(
            found=found, history=opened, corrections=wrong, directory=directory, version=__version__, now=time.time_ns()
        )
        return _tell(comparison.compare_with_now(path, now, replay=history is None), as_json=as_json)


def _tell(found: "Comparison", *, as_json: bool) -> int:
    if as_json:
        console.print_json(changes.plain(found))
    else:
        for line in changes.change_lines(found):
            click.echo(line)
        click.echo(found.summary, err=True)
    return 1 if found.differs else 0
