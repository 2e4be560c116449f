"""The command that tells what an L0 would be, checks a YAML, and writes the headers of an L0 without its pixels."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assembler import __version__, console
from assembler.errors import ConfigurationError, InputError
from assembler.options import (
    CORRECTIONS,
    FRAME,
    HISTORY,
    INPUTS,
    INSTRUMENT,
    JSON,
    OUT,
    PATIENCE,
    find_inputs,
    lent_history,
    load_corrections,
    load_named,
    output_directory,
    stopped_by_signals,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assembler.core.findings import Finding
    from assembler.core.headers import Header
    from assembler.core.plan import Plan


@click.command()
@INPUTS
@FRAME
@OUT
@HISTORY
@PATIENCE
@INSTRUMENT
@CORRECTIONS
@JSON
@click.option("--lint", is_flag=True, help="Check the YAML and the corrections alone, and against sample sub-FITS when some are given.")
@click.option(
    "--write",
    metavar="FILE",
    help="Write the headers there, without pixels (.fits, .yaml, .json), and print its path; also those of an L0.",
)
@click.option(
    "--from-telemetry",
    metavar="TIME",
    help="Plan without sub-FITS the last exposure that the history tells of as of TIME, in UTC, or as of now.",
)
def plan(
    inputs: tuple[str, ...],
    frame: int | None,
    out: str | None,
    history: str | None,
    patience: str,
    yaml: str | None,
    corrections: str | None,
    as_json: bool,
    lint: bool,
    write: str | None,
    from_telemetry: str | None,
) -> int:
    """Print what the L0 would be: primary, HDUs, the fate of each input card, findings. Nothing is written, but for --write.

    \b
    assembler plan 2024apr21 --frame 215921 --history sqlite:///history.db
    assembler plan 2024apr21 --frame 215921 --history sqlite:///history.db --from-telemetry now --write header.yaml
    assembler plan KP.20240422.28832.89.fits --write KP.20240422.28832.89.json
    assembler plan --lint -i prefixes.yaml
    assembler plan --lint Green/kpf_215921.fits Red/kpf_215921.fits
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    from assembler.core.findings import has_errors
    from assembler.service import pipeline

    if lint and (write is not None or from_telemetry is not None):
        raise ConfigurationError("--lint checks a YAML; --write and --from-telemetry do not go with it")
    if from_telemetry is not None and history is None:
        raise ConfigurationError("--from-telemetry asks a keyword history; name it with --history")
    target = Path(write) if write is not None else None
    if target is not None:
        from assembler.service.headers import check_suffix, headers_of_l0

        check_suffix(target)
        if len(inputs) == 1 and frame is None and from_telemetry is None and (there := headers_of_l0(Path(inputs[0]))):
            if (history, corrections, out) != (None, None, None):
                told = "is an L0, whose headers are written as they are; --history, --corrections and --out do not go with it"
                raise ConfigurationError(f"{inputs[0]} {told}")
            return _write(target, there[1], there[0], (), as_json=as_json)
    instrument = load_named(yaml)
    wrong = load_corrections(corrections, yaml, instrument)
    if lint and not inputs:
        return console.print_lint(instrument, (), as_json=as_json)
    if from_telemetry is not None:
        from assembler.service.early import plan_from_telemetry

        now = time.time_ns()
        as_of = _instant(from_telemetry, now)
        directory = _night_to_be(inputs, out, instrument.output)
        with lent_history(history, patience) as opened:
            assert opened is not None
            planned = plan_from_telemetry(
                instrument, opened, directory, as_of=as_of, frame=frame, corrections=wrong, version=__version__, now=now
            )
    else:
        found = find_inputs(instrument, inputs, frame)
        with lent_history(history, patience) as opened:
            directory = output_directory(out, instrument, inputs, frame)
            try:
                planned = pipeline.plan_exposure(found, opened, directory, corrections=wrong, version=__version__, now=time.time_ns())
            except InputError as error:
                if found.subs or history is None:
                    raise
                raise InputError(f"{error}; --from-telemetry TIME plans without them") from None
    if lint:
        return console.print_lint(instrument, planned.findings, as_json=as_json)
    if target is not None:
        return _write_planned(target, planned, as_json=as_json)
    _print(planned, as_json=as_json)
    return 1 if has_errors(planned.findings) else 0


def _print(planned: "Plan", *, as_json: bool) -> None:
    from assembler.core import plan as core

    if as_json:
        click.echo(core.to_json(planned))
    else:
        console.print_plan(planned)


def _write_planned(target: Path, planned: "Plan", *, as_json: bool) -> int:
    from assembler.core.headers import planned_headers

    return _write(target, planned_headers(planned), planned.filename, planned.findings, as_json=as_json)


def _write(target: Path, headers: "Sequence[Header]", filename: str, findings: "tuple[Finding, ...]", *, as_json: bool) -> int:
    """Write headers, and print where they are."""
    from assembler.core.findings import has_errors
    from assembler.service.headers import write_headers

    with stopped_by_signals():
        write_headers(target, headers, filename)
    if as_json:
        console.print_json({"path": str(target), "l0": filename, "findings": [console.finding(f) for f in findings]})
    else:
        click.echo(str(target))
        console.tell([f for f in findings if f.severity != "info"])
    return 1 if has_errors(findings) else 0


def _instant(told: str, now: int) -> int:
    """Return the instant [ns] as of which telemetry is asked."""
    from assembler.core.choice import read_since

    if told == "now":
        return now
    try:
        instant = read_since(told)
    except ValueError as error:
        raise ConfigurationError(f"--from-telemetry {error}, or now") from None
    if instant > now:
        raise ConfigurationError(f"--from-telemetry {told}: is later than now, and nobody knows what is broadcast until then")
    return instant


def _night_to_be(inputs: "Sequence[str]", out: str | None, below: str) -> Path:
    """Return where an L0 goes whose sub-FITS may not be there yet."""
    if len(inputs) > 1 or (inputs and Path(inputs[0]).is_file()):
        raise ConfigurationError("--from-telemetry takes no sub-FITS, but the night's directory at most")
    if out is not None:
        return Path(out)
    return Path(inputs[0]) / below if inputs else Path()
