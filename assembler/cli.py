"""The command line: results to standard output, everything else to standard error, and the exit code tells.

0 done; 1 done with findings of severity error, or verification failed; 2 usage or configuration; 3 input cannot be
assembled; 4 output or storage failed; 5 a keyword history cannot be opened or filled.
"""

import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click

from assembler import __version__, console
from assembler.announcing import ANNOUNCE, announcing, load_receivers
from assembler.errors import AssemblerError, InputError, TakenError, VerificationError
from assembler.options import (
    CORRECTIONS,
    FRAME,
    HISTORY,
    INPUTS,
    INSTRUMENT,
    JSON,
    OUT,
    PATIENCE,
    RECORD,
    STOPPED,
    find_inputs,
    lent_history,
    lent_recorder,
    load_corrections,
    load_named,
    output_directory,
    record_store,
    stopped_by_signals,
)

_ELSEWHERE = ("announce", "archive", "clean", "diff", "init", "night", "plan", "record", "simulate", "split", "status", "watch")
"""Commands that are in modules of their own, named as they are."""

_MOST_LINES = 40
"""Of what differs from an L0 that is there, where one was to be made."""


def run() -> int:
    """Run the command line; return its exit code."""
    try:
        colour = False if os.environ.get("NO_COLOR") else None  # None: where a terminal shows it
        result = command.main(standalone_mode=False, prog_name="assembler", color=colour)
    except AssemblerError as error:
        console.say(f"assembler: {error}")
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        console.say("assembler: stopped")
        return STOPPED
    except BrokenPipeError:
        console.give_up(sys.stdout)
        return 0
    except OSError as error:  # a disk that is full, behind standard output
        console.give_up(sys.stdout)
        console.say(f"assembler: {error}")
        return 4
    return result if isinstance(result, int) else 0


class _Commands(click.Group):
    """A group that imports the module of a command when the command is asked for: whoever assembles does not wait for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted((*super().list_commands(ctx), *_ELSEWHERE))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            found: click.Command = getattr(import_module(f"assembler.{cmd_name}"), cmd_name)
            return found
        return super().get_command(ctx, cmd_name)


@click.group(name="assembler", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="l0-assembler")
def command() -> None:
    """Assemble an exposure's sub-FITS into the one L0 that an archive keeps."""


@command.command()
@INPUTS
@FRAME
@OUT
@HISTORY
@PATIENCE
@INSTRUMENT
@CORRECTIONS
@click.option("--supersede", metavar="REASON", help="Replace an L0 that is there and differs by a newer version; the old one is kept.")
@ANNOUNCE
@RECORD
@JSON
def assemble(
    inputs: tuple[str, ...],
    frame: int | None,
    out: str | None,
    history: str | None,
    patience: str,
    yaml: str | None,
    corrections: str | None,
    supersede: str | None,
    announce: str | None,
    to_record: str | None,
    as_json: bool,
) -> int:
    """Make the L0 of one exposure and print its path.

    The sub-FITS are those of a frame in a night's directory, or the ones that are given; ORIGIN=PATH says whose a file is
    where its name does not. The L0 is there whole and verified, or not at all. It never replaces another one, unless
    --supersede tells why; then the old one is kept in superseded beside it.

    \b
    assembler assemble 2024apr21 --frame 215921 --history sqlite:///history.db
    assembler assemble -i stis.yaml --out . oc7w11viq_raw.fits oc7w11viq_spt.fits
    assembler assemble 2024apr21 --frame 215921 --supersede 'the sub-FITS of red came late'
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    from assembler.core.findings import has_errors
    from assembler.service import pipeline

    instrument = load_named(yaml)
    wrong = load_corrections(corrections, yaml, instrument)
    receivers = load_receivers(announce, yaml)
    store = record_store(to_record)
    found = find_inputs(instrument, inputs, frame)
    with stopped_by_signals(), lent_history(history, patience) as opened, announcing(receivers, instrument.name) as announcer:
        target = output_directory(out, instrument, inputs, frame)
        try:
            outcome = pipeline.assemble(
                found, opened, target, corrections=wrong, version=__version__, clock=time.time_ns, supersede=supersede
            )
        except TakenError as error:
            from assembler import changes
            from assembler.service import comparison

            making = comparison.Making(
                found=found, history=opened, corrections=wrong, directory=target, version=__version__, now=time.time_ns()
            )
            with suppress(AssemblerError):  # then what the refusal says of it has to do
                differing = comparison.compare_with_now(Path(error.path), making)
                for line in changes.change_lines(differing, _MOST_LINES):
                    click.echo(line, err=True)
                error = error.differing(differing.summary)
            raise error from None
        announcer.published(outcome.path, version=outcome.version, written=outcome.written, replaced=outcome.replaced)
    plan = outcome.plan
    if as_json:
        told = {"path": str(outcome.path), "made": outcome.made, "version": outcome.version}
        told |= {"replaced": str(outcome.replaced) if outcome.replaced else None, "findings": [console.finding(f) for f in plan.findings]}
        console.print_json(told)
    else:
        click.echo(str(outcome.path))
        if not outcome.made:
            click.echo("it was there already, and is the same", err=True)
        if outcome.replaced:
            click.echo(f"it is version {outcome.version}; version {outcome.version - 1} is {outcome.replaced}", err=True)
        console.tell([f for f in plan.findings if f.severity != "info"])
    with lent_recorder(store) as recorder:
        if recorder:
            recorder.add(outcome.path, instrument)
    return 1 if has_errors(plan.findings) else 0


@command.command()
@click.argument("files", nargs=-1, required=True, metavar="L0...")
@JSON
def verify(files: tuple[str, ...], as_json: bool) -> int:
    """Verify L0s: structure, every checksum, every HDU through cfitsio, name, ledger.

    \b
    assembler verify 2024apr21/L0/*.fits
    """  # noqa: D301
    from assembler.service.reader import verify_l0

    results: dict[str, str] = {}
    codes = set()
    for file in files:
        try:
            verify_l0(Path(file))
            results[file] = ""
        except (InputError, VerificationError) as error:
            results[file] = console.one_line(str(error).removeprefix(f"{file}: "))
            codes.add(error.exit_code)
        if not as_json:
            click.echo(f"{file}: {'FAILED: ' + results[file] if results[file] else 'verified'}")
    if as_json:
        console.print_json([{"file": file, "verified": not told, "problem": told} for file, told in results.items()])
    return min(codes, default=0)


@command.command()
@click.argument("l0", metavar="L0")
@click.argument("keyword")
@JSON
def explain(l0: str, keyword: str, as_json: bool) -> int:
    """Tell where a card of an L0 came from: file, HDU, original card, rule; or history keyword, time and age.

    KEYWORD is the one in the L0, or the one that the card had in its sub-FITS.

    \b
    assembler explain KP.20240422.28832.89.fits RDTM_ZO
    """  # noqa: D301
    from dataclasses import asdict

    from assembler.service.reader import explain as explain_card

    accounts = explain_card(Path(l0), keyword.strip().upper())
    if as_json:
        console.print_json([asdict(a) for a in accounts])
    else:
        click.echo("\n\n".join("\n".join(map(console.visible, a.lines())) for a in accounts))
    return 0


@command.group()
def telemetry() -> None:
    """Look after keyword histories."""


@telemetry.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--history", required=True, metavar="URL", help="sqlite:///PATH, made where it is not there, or postgresql://HOST/DATABASE.")
@JSON
def load(files: tuple[str, ...], history: str, as_json: bool) -> int:
    """Add samples from CSV, or JSON lines (.jsonl), to a history: service, keyword, time [UNIX s], value.

    A file is added whole or not at all.

    \b
    assembler telemetry load telemetry.csv --history sqlite:///history.db
    """  # noqa: D301
    from assembler.telemetry.load import read_samples
    from assembler.telemetry.urls import load_history

    counts = {file: load_history(history, read_samples(Path(file))) for file in files}
    if as_json:
        console.print_json(counts)
    else:
        for file, count in counts.items():
            click.echo(f"{file}: {count} samples")
    return 0


@telemetry.command()
@click.argument("l0", metavar="L0")
@click.option("--history", required=True, metavar="URL", help="The keyword history as it is now.")
@PATIENCE
@JSON
def compare(l0: str, history: str, patience: str, as_json: bool) -> int:
    """Tell what a history says by now otherwise than it did when an L0 was made. Exit code 1 when there is anything.

    \b
    assembler telemetry compare KP.20240422.28832.89.fits --history sqlite:///history.db
    """  # noqa: D301
    from dataclasses import asdict

    from assembler.service import replay

    recorded = replay.RecordedHistory(Path(l0))
    with lent_history(history, patience) as opened:
        assert opened is not None
        changes = replay.compare(recorded, opened)
    if as_json:
        console.print_json([asdict(change) for change in changes])
    else:
        for change in changes:
            click.echo(console.one_line(f"{change.keyword} {change.what}: {change.l0} in the L0, {change.history} in the history"))
        click.echo(f"{len(recorded.names)} keywords, {len(changes)} differences", err=True)
    return 1 if changes else 0
