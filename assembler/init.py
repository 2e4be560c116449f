"""The command that begins: sample sub-FITS are looked at, and the YAML of an instrument to start from is written."""

import os
import re
import time
from typing import TYPE_CHECKING

import click

from assembler import __version__, console
from assembler.errors import ConfigurationError, InputError
from assembler.options import JSON

if TYPE_CHECKING:
    from assembler.core.draft import Draft
    from assembler.core.draft_files import SampleFile
    from assembler.core.findings import Finding

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,19}")


@click.command()
@click.argument("samples", nargs=-1, required=True, metavar="[ORIGIN=]SUBFITS...")
@JSON
def init(samples: tuple[str, ...], as_json: bool) -> int:
    """Print a commented YAML to start from, made of sample sub-FITS: one of each origin, all of one exposure.

    It passes plan --lint with these samples and assembles them. What no YAML can settle is told, with exit code 1.

    \b
    assembler init oc7w11viq_raw.fits oc7w11viq_spt.fits > stis.yaml
    assembler init blue=b1.fits.gz red=r1.fits.gz > kast.yaml
    """  # noqa: D301
    from assembler.core.draft import draft_instrument
    from assembler.core.draft_text import write_draft

    draft = draft_instrument([_sample(given) for given in samples])
    text = write_draft(draft)
    wrong = _check(draft, text, {origin: path for (origin, _), path in zip(draft.samples, map(_path, samples), strict=True)})
    if as_json:
        found = [console.finding(f) for f in wrong]
        console.print_json({"yaml": text, "samples": dict(draft.samples), "shared": draft.alike, "findings": found})
        return 1 if wrong else 0
    click.echo(text, nl=False)
    told = [f"{len(draft.instrument.origins)} origins, {sum(len(o.renames) for o in draft.instrument.origins)} renames"]
    told += [f"{len(draft.alike)} cards that may be shared"] if draft.alike else []
    click.echo(", ".join(told), err=True)
    console.tell(wrong)
    return 1 if wrong else 0


def _sample(given: str) -> "SampleFile":
    from assembler.core.draft_files import SampleFile
    from assembler.fits.blocks import scan

    path = _path(given)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{console.one_line(path)}: is no name in UTF-8, and no pattern of a YAML fits it") from None
    return SampleFile(sub=scan(path), origin=given.partition("=")[0] if _is_named(given) else "")


def _path(given: str) -> str:
    return os.path.abspath(given.partition("=")[2] if _is_named(given) else given)


def _is_named(given: str) -> bool:
    return "=" in given and bool(_NAME.fullmatch(given.partition("=")[0]))


def _check(draft: "Draft", text: str, paths: dict[str, str]) -> "list[Finding]":
    """Read the YAML back and plan with it; return the findings that plan --lint will have, and who was left out.

    Raises
    ------
    InputError
        When what the samples have cannot be said in a YAML, or makes no L0.
    """
    from pathlib import Path

    from assembler.core.exposure import MISSING_CODES
    from assembler.core.findings import SETTLED_IN_YAML
    from assembler.instruments import read_instrument
    from assembler.service import finder, pipeline

    try:
        instrument = read_instrument(text, "the YAML")
    except ConfigurationError as error:
        raise InputError(f"no YAML can be made of these samples: {error}") from None
    if instrument != draft.instrument:
        raise InputError("no YAML can be made of these samples: it would not be read back as it is meant")
    found = finder.find_paths(instrument, paths)
    plan = pipeline.plan_exposure(found, None, Path(), version=__version__, now=time.time_ns())
    return [f for f in plan.findings if f.code in SETTLED_IN_YAML or f.code in MISSING_CODES]
