"""``assembler clean``: the sub-FITS of a night that nobody needs any more."""

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assembler import console
from assembler.errors import ConfigurationError
from assembler.options import INSTRUMENT, JSON, load_named, stopped_by_signals

if TYPE_CHECKING:
    from assembler.service.cleaning import Verdict


@click.command()
@click.argument("nights", nargs=-1, required=True, metavar="NIGHT...")
@click.option("--archive", "archived", required=True, metavar="DEST", help="The archive that has the L0s, as archive --to names it.")
@click.option("--template", metavar="TEXT", help="Where in it L0s are [default: as archive puts them].")
@click.option("--out", metavar="DIR", help="Where the L0s are here [default: below each night, where the YAML says].")
@click.option("--older-than", "age", metavar="TIME", default="30 d", show_default=True, help="Younger sub-FITS stay: 90 d, 12 h.")
@click.option("--delete", is_flag=True, help="Remove them; without it they are only listed.")
@INSTRUMENT
@JSON
def clean(
    nights: tuple[str, ...],
    archived: str,
    template: str | None,
    out: str | None,
    age: str,
    delete: bool,
    yaml: str | None,
    as_json: bool,
) -> int:
    """List the sub-FITS of nights that an archive makes needless, or remove them.

    These are the ones older than --older-than whose L0 the archive has with a receipt, and gives them back byte for byte: the L0 here,
    the copy in the archive and every sub-FITS are read and compared now. An exposure's sub-FITS go all together or not at all. Where an
    L0 or its copy is not what the receipt says, nothing of the night is removed, and the exit code is 1.

    \b
    assembler clean 2024apr21 --archive /archive/kpf
    assembler clean 2024apr21 --archive /archive/kpf --older-than '90 d' --delete
    """  # noqa: D301
    from assembler.archive_rules import default_rules, load_rules
    from assembler.config import default_instrument
    from assembler.core.instants import parse_duration
    from assembler.core.places import TEMPLATE, check_template
    from assembler.service.cleaning import Order, clean_night, server_time
    from assembler.service.destination_urls import open_destination

    instrument = load_named(yaml)
    rules = default_rules(Path(yaml) if yaml else default_instrument())
    try:
        asked = load_rules(rules) if rules else None
        place = asked.place if asked and asked.instrument in ("", instrument.name) else ""
        wanted = check_template(template) if template is not None else place or TEMPLATE
        least = parse_duration(age)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    plain: list[dict[str, Any]] = []

    def told(verdict: "Verdict") -> None:
        plain.append(_plain(verdict))
        if not as_json:
            _tell(verdict)

    is_done = False
    try:
        with stopped_by_signals(), closing(open_destination(archived)) as destination:
            for night in map(Path, nights):
                now = min(time.time_ns(), server_time(night)) if delete else time.time_ns()
                directory = Path(out) if out else night / instrument.output
                order = Order(instrument=instrument, out=directory, destination=destination, template=wanted, before=now - least)
                clean_night(night, order, delete=delete, told=told)
        is_done = True
    finally:  # what was removed is told, whatever ended it
        if is_done or plain:
            _conclude(plain, as_json=as_json)
    return 1 if any(one["state"] == "damaged" for one in plain) else 0


def _conclude(plain: "list[dict[str, Any]]", *, as_json: bool) -> None:
    if as_json:
        console.print_json(plain)
    else:
        click.echo(_summary(plain), err=True)


def _plain(verdict: "Verdict") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(verdict)


def _tell(verdict: "Verdict") -> None:
    if verdict.state in ("removable", "removed"):
        for path in verdict.files:
            click.echo(console.one_line(f"{verdict.state}: {path}"))
    else:
        click.echo(console.one_line(f"{verdict.label}: {verdict.state}: {verdict.reason}"), err=True)


def _summary(plain: "list[dict[str, Any]]") -> str:
    """Say in one line what there is."""
    some = [f"{sum(one['state'] == state for one in plain)} {state}" for state in ("removable", "removed", "kept", "damaged")]
    size = sum(one["size"] for one in plain if one["state"] in ("removable", "removed"))
    return f"exposures: {', '.join(told for told in some if not told.startswith('0 ')) or 'none'}; {size / 1e9:.1f} GB"
