"""``assembler split``: an L0 taken apart into its sub-FITS again."""

from pathlib import Path

import click

from assembler import console
from assembler.options import JSON, stopped_by_signals


@click.command()
@click.argument("l0", metavar="L0")
@click.option("--out", required=True, metavar="DIR", help="Where the sub-FITS go, below it in a directory for each origin.")
@JSON
def split(l0: str, out: str, as_json: bool) -> int:
    """Give back every sub-FITS from an L0 alone, and prove each by the SHA-256 that the L0 tells.

    What was not in the L0 (bytes after the last HDU, the padding of a header, gzip around it) has a finding there, and is said. A
    sub-FITS that differs and nothing explains it is not written. Nothing is overwritten. Exit code 1 when any is not given back.

    \b
    assembler split KP.20240422.28832.89.fits --out given-back
    """  # noqa: D301
    from dataclasses import asdict

    from assembler.service.splitting import split_l0

    with stopped_by_signals():
        given = split_l0(Path(l0), Path(out))
    if as_json:
        console.print_json([asdict(one) for one in given])
    for one in given if not as_json else ():
        click.echo(console.one_line(f"{one.path or f'{one.origin}/{one.file}'}: {one.state}, SHA-256 {one.digest or 'not known'}"))
        if one.problem:
            click.echo(console.one_line(f"{one.origin}: {one.problem}"), err=True)
    return 0 if all(one.is_given_back for one in given) else 1
