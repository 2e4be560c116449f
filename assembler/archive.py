"""The command that hands L0s over to an archive."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assembler import __version__, console
from assembler.announcing import ANNOUNCE, announcing, load_receivers
from assembler.errors import ConfigurationError
from assembler.options import INSTRUMENT, JSON, load_named, stopped_by_signals

if TYPE_CHECKING:
    from assembler.service.archive_candidates import Rules
    from assembler.service.archive_results import Result


@click.command()
@click.argument("l0s", nargs=-1, required=True, metavar="L0...")
@click.option("--to", metavar="DEST", help="The archive: a directory, file:///PATH, s3://BUCKET/PREFIX or sftp://USER@HOST:PORT/PATH.")
@click.option("--check", is_flag=True, help="Only tell which L0s an archive would refuse; without --to.")
@click.option(
    "--template", metavar="TEXT", help="Where in it an L0 goes, such as {year}/{month}/{name}; there are {date}, {day} and {version}, too."
)
@click.option("--compress", is_flag=True, help="Keep a Rice-compressed copy, NAME.fz, that was proven to give the L0 back.")
@click.option("--rules", metavar="FILE", help="What the archive asks of L0s [default: archive.yaml beside the instrument's YAML].")
@ANNOUNCE
@INSTRUMENT
@JSON
def archive(
    l0s: tuple[str, ...],
    to: str | None,
    check: bool,
    template: str | None,
    compress: bool,
    rules: str | None,
    announce: str | None,
    yaml: str | None,
    as_json: bool,
) -> int:
    """Hand L0s over to an archive, and tell of each what came of it: accepted, duplicate, refused or failed.

    An L0 is verified, judged by the archive's rules, copied, read again there, and only then named; a receipt and a line in SHA256SUMS
    follow. Nothing there is ever overwritten: the same L0 again is a duplicate, another one of the same name is refused. What was
    stopped or failed is run again, and goes on from there. Exit code 1 where any was refused, 4 where the store failed.

    \b
    assembler archive 2024apr21/L0/*.fits --to /archive/kpf
    assembler archive 2024apr21/L0/*.fits --to s3://kpf/l0 --compress
    assembler archive 2024apr21/L0/*.fits --check
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    if check == (to is not None):
        raise ConfigurationError("say where the archive is with --to DEST, or --check to copy nothing" + (", not both" if check else ""))
    if check and compress:
        raise ConfigurationError("--check copies nothing, so --compress does not go with it")
    receivers = load_receivers(announce, yaml) if to is not None else ()
    codes = set()
    results = []
    with stopped_by_signals(), announcing(receivers, load_named(yaml).name if receivers else "") as announcer:

        def told(result: "Result") -> None:
            if result.receipt is not None:
                content = result.receipt.content
                announcer.archived(Path(result.l0), result.url, size=content.size, sha256=content.sha256)

        for result in _results(l0s, to, template, rules, yaml, compress=compress, told=told):
            codes.add(result.exit_code)
            if as_json:
                results.append(result.plain())
            else:
                _tell(result)
    if as_json:
        console.print_json(results)
    return max(codes, default=0)


def _results(
    l0s: tuple[str, ...],
    to: str | None,
    template: str | None,
    rules: str | None,
    yaml: str | None,
    *,
    compress: bool,
    told: "Callable[[Result], None]",
) -> "Iterator[Result]":
    from assembler.core.places import TEMPLATE, check_template
    from assembler.service.archive import Order, archive_l0, check_l0
    from assembler.service.destination_urls import open_destination

    loaded = _load(rules, yaml)
    judged, place = loaded if loaded is not None else (None, "")
    try:
        place = check_template(template) if template is not None else place or TEMPLATE
    except ValueError as error:
        raise ConfigurationError(f"--template: {error}") from None
    if to is None:
        for l0 in l0s:
            yield check_l0(Path(l0), place, judged)
        return
    with closing(open_destination(to)) as destination:
        order = Order(
            destination=destination,
            template=place,
            rules=judged,
            compress=compress,
            version=__version__,
            clock=time.time_ns,
            told=told,
        )
        for l0 in l0s:
            yield archive_l0(Path(l0), order)


def _load(named: str | None, yaml: str | None) -> "tuple[Rules, str] | None":
    """Return the archive's rules, and where it wants L0s; None where there are no rules, which is said."""
    from assembler.archive_rules import default_rules, read_rules
    from assembler.config import default_instrument, yaml_text
    from assembler.core.rules import broken_rules
    from assembler.service.archive_candidates import Rules

    path = Path(named) if named is not None else default_rules(Path(yaml) if yaml else default_instrument())
    if path is None:
        click.echo("there is no archive.yaml beside the instrument's YAML, so only structure and checksums are checked", err=True)
        return None
    text = yaml_text(path)
    told = read_rules(text, str(path))
    if named is None and told.instrument and told.instrument != (name := load_named(yaml).name):
        click.echo(f"{path} is for {told.instrument}, not {name}, so only structure and checksums are checked", err=True)
        return None
    return Rules(judge=partial(broken_rules, told), sha256=hashlib.sha256(text.encode()).hexdigest()), told.place


def _tell(result: "Result") -> None:
    """Print a result as one line, and what belongs to it below."""
    click.echo(
        console.one_line(f"{result.l0}: {result.state}" + (f": {result.reason or result.url}" if result.reason or result.url else ""))
    )
    for told in result.broken:
        click.echo(f"  {console.one_line(f'{told.rule}: {told.message}')}")
    for told in result.warnings:
        click.echo(console.one_line(f"{result.l0}: warning: {told.rule}: {told.message}"), err=True)
