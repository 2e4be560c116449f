"""The command that records exposures: one row for each, made of its L0's headers, in a database or for whoever reads it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assembler import console
from assembler.core.columns import COLUMNS
from assembler.errors import AssemblerError, InputError, OutputError
from assembler.options import INSTRUMENT, JSON, load_named, stopped_by_signals

if TYPE_CHECKING:
    from assembler.core.record import Record
    from assembler.service.record_store import RecordStore


@click.command()
@click.argument("l0s", nargs=-1, required=True, metavar="L0...")
@click.option(
    "--to", "url", metavar="URL", help="Where to write it: sqlite:///PATH, made where it is not there, or postgresql://HOST/DATABASE."
)
@INSTRUMENT
@JSON
def record(l0s: tuple[str, ...], url: str | None, yaml: str | None, as_json: bool) -> int:
    """Print the record of exposures, made of their L0s, or write it to a database.

    A record is a row for the exposure, one for each origin, and one for each other keyword of telemetry. It replaces what the database has
    of the exposure, unless that is of a newer version of the L0. What cannot be made a column is told, and is no error.

    \b
    assembler record KP.20240422.28832.89.fits
    assembler record 2024apr21/L0/*.fits --to sqlite:///exposures.db
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    from assembler.service.l0_records import read_record
    from assembler.service.record_store import open_store

    instrument = load_named(yaml)
    store = open_store(url) if url is not None else None
    codes, told = [0], []
    with stopped_by_signals():
        try:
            for l0 in l0s:
                try:
                    made = read_record(Path(l0), instrument)
                    for problem in made.problems:
                        click.echo(console.one_line(f"{l0}: {problem}"), err=True)
                    told.append({"l0": l0, **_keep(l0, made, store, as_json=as_json)})
                except (InputError, OutputError) as error:
                    if error.exit_code == OutputError.exit_code and error.retry:  # nor would it take the next one
                        raise
                    codes.append(error.exit_code)
                    told.append({"l0": l0, "problem": _tell(error, l0)})
        finally:
            if store:
                store.close()
            if as_json:
                console.print_json(told)
    return max(codes)


def _keep(l0: str, made: "Record", store: "RecordStore | None", *, as_json: bool) -> dict[str, Any]:
    """Write a record, or print it where nobody keeps it, and return what of it is told to programs."""
    if store is None:
        if not as_json:
            _print(made)
        return {**asdict(made)}
    written = store.put(made)
    if not as_json:
        told = "written" if written else f"left alone; {store.name} has a newer version of it"
        click.echo(console.one_line(f"{l0}: {made.columns['obs_id']}, version {made.version}: {told}"))
    return {"obs_id": made.columns["obs_id"], "version": made.version, "written": written, "problems": made.problems}


def _print(made: "Record") -> None:
    """Print a record for people."""
    for name, cell in made.columns.items():
        unit = COLUMNS[name].unit.removesuffix(" from zenith")
        shown = {None: "-", True: "yes", False: "no"}.get(cell, str(cell)) if cell is None or isinstance(cell, bool) else str(cell)
        click.echo(f"{name:24} {console.visible(shown)}{f' {unit}' if unit and cell is not None else ''}")
    click.echo()
    for row in made.origins:
        if not row.attached:
            click.echo(f"{row.origin:12} missing: {row.reason or 'nobody tells why'}")
            continue
        times = f"{row.begin_time or '-'} to {row.end_time or '-'}, {'-' if row.elapsed is None else f'{row.elapsed:g}'} s"
        amplifiers = f", {row.amplifiers} amplifiers" if row.amplifiers is not None else ""
        frame = f", frame {row.frame}" if row.frame is not None else ""
        click.echo(console.visible(f"{row.origin:12} {row.file_name}{frame}{amplifiers}, {times}"))
    click.echo()
    for keyword in made.keywords:
        click.echo(console.visible(f"{keyword.keyword:8} {keyword.value}{f' {keyword.unit}' if keyword.unit else ''}"))
    click.echo()


def _tell(error: AssemblerError, l0: str) -> str:
    told = console.one_line(str(error))
    click.echo(told if told.startswith(l0) else f"{l0}: {told}", err=True)
    return told
