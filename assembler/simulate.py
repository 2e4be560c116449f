"""The command that rehearses: a recorded night is played, and what a watcher must make of it is told."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assembler import console
from assembler.errors import ConfigurationError, TelemetryError
from assembler.options import INSTRUMENT, JSON, load_named, stopped_by_signals

if TYPE_CHECKING:
    from assembler.core.instrument import Instrument
    from assembler.core.rehearsal import Expectation, Script
    from assembler.core.writers import Step
    from assembler.service.simulator import Sample, Telemetry

_LATE = 0.1
"""How late a step may be before it is told [s]."""


@click.command()
@click.argument("source", metavar="NIGHT")
@click.option("--to", required=True, metavar="DIR", help="Where the night appears, as a directory of the same name.")
@click.option("--telemetry", metavar="FILE", help="What was broadcast meanwhile, CSV or JSON lines (.jsonl); needs --history.")
@click.option("--history", metavar="URL", help="The history that it is broadcast into: sqlite:///PATH or postgresql://HOST/DATABASE.")
@click.option(
    "--speed", type=float, default=1.0, metavar="N", show_default=True, help="How many times faster than it was; inf: no waiting."
)
@click.option("--seed", type=int, default=0, metavar="N", show_default=True, help="Another seed gives another order and other trouble.")
@click.option("--trouble", type=float, default=0.0, metavar="PERCENT", show_default=True, help="How many of the exposures are in trouble.")
@click.option(
    "--deadline",
    "deadlines",
    multiple=True,
    metavar="[ORIGIN=]TIME",
    help="How long after an exposure's end the watcher waits for a sub-FITS, by the clock of the night [default: 60 s].",
)
@click.option("--report", metavar="FILE", help="Write what must come of it there, as JSON, before it begins.")
@INSTRUMENT
@JSON
def simulate(
    source: str,
    to: str,
    telemetry: str | None,
    history: str | None,
    speed: float,
    seed: int,
    trouble: float,
    deadlines: tuple[str, ...],
    report: str | None,
    yaml: str | None,
    as_json: bool,
) -> int:
    """Play a recorded night into a directory as the data system would, and tell what a watcher must make of it.

    Sub-FITS come after their exposure's end, in any order, growing or renamed into place; telemetry is broadcast as it was.
    Exposures in trouble have one late, broken, missing or written twice. The recorded night is only read.

    \b
    assembler simulate demo/2024apr21 --to rehearsal --speed 20 --trouble 10 --report expected.json
    assembler simulate demo/2024apr21 --to rehearsal --telemetry demo/telemetry.csv --history sqlite:///rehearsal.db
    """  # noqa: D301
    import random

    from assembler.core.rehearsal import write_script
    from assembler.service import simulator

    if not speed > 0:
        raise ConfigurationError(f"--speed: {speed} is no number above 0")
    if not 0 <= trouble <= 100:
        raise ConfigurationError(f"--trouble: {trouble} is no percentage")
    instrument = load_named(yaml)
    waited = _deadlines(instrument, deadlines)
    recordings = simulator.read_recordings(instrument, Path(source))
    feed = _telemetry(telemetry, history)
    script = write_script(
        recordings,
        random.Random(seed),  # noqa: S311 - a rehearsal is to be the same again
        deadlines=waited,
        trust=instrument.exposure.trust,
        trouble=trouble / 100,
        awaited=simulator.awaited_origins(instrument, recordings, feed.samples) if feed else None,
    )
    with stopped_by_signals():
        target = simulator.prepare_target(Path(source), Path(to), script)
        told = {"night": str(target), "seed": seed, "deadlines": {name: wait / 1e9 for name, wait in waited.items()}} | _plain(script)
        if report:
            console.write_report(Path(report), (json.dumps(told, indent=1), "\n"))
        click.echo(_summary(script, speed, max(waited.values())), err=True)
        latest = simulator.play(
            script, Path(source), target, clock=time.monotonic, sleep=time.sleep, speed=speed, telemetry=feed, told=_tell_step
        )
    if latest > _LATE:
        click.echo(f"the latest step was {latest:.2f} s late; play slower if a deadline is not much longer than that", err=True)
    if as_json:
        console.print_json(told)
    else:
        for expected in script.expectations:
            click.echo(console.one_line(_line(expected)))
    return 0


def _deadlines(instrument: "Instrument", told: Sequence[str]) -> dict[str, int]:
    """Return by origin how long a watcher waits [ns]."""
    from assembler.core.instants import SECOND, parse_duration

    names = [origin.name for origin in instrument.origins]
    waits = dict.fromkeys(names, 60 * SECOND)
    for text in sorted(told, key=lambda t: "=" in t):  # that of an origin counts more than that of all
        name, separator, length = text.rpartition("=")
        if separator and name not in names:
            raise ConfigurationError(f"--deadline: {name!a} is no origin; expected one of {', '.join(names)}")
        try:
            waits |= dict.fromkeys([name] if separator else names, parse_duration(length))
        except ValueError as error:
            raise ConfigurationError(f"--deadline: {error}") from None
    return waits


def _telemetry(file: str | None, history: str | None) -> "Telemetry | None":
    """Read what is to be broadcast, and see that the history takes it."""
    if file is None and history is None:
        return None
    if file is None or history is None:
        raise ConfigurationError("--telemetry FILE and --history URL go together: what is broadcast, and where it is kept")
    from assembler.service.simulator import Telemetry
    from assembler.telemetry.load import read_samples
    from assembler.telemetry.urls import load_history

    samples = sorted(read_samples(Path(file)), key=lambda sample: sample[1])
    load_history(history, ())

    def load(some: "Sequence[Sample]") -> None:
        try:
            load_history(history, some)
        except TelemetryError as error:
            click.echo(console.one_line(f"{len(some)} samples are kept for later: {error}"), err=True)
            raise

    return Telemetry(samples=tuple(samples), load=load)


def _plain(script: "Script") -> dict[str, Any]:
    from dataclasses import asdict

    length = script.steps[-1].at / 1e9 if script.steps else 0.0
    exposures = {str(e.frame): asdict(e) for e in script.expectations if e.frame is not None}
    return {"length": length, "exposures": exposures, "orphans": [asdict(e) for e in script.expectations if e.frame is None]}


def _summary(script: "Script", speed: float, longest: int) -> str:
    length = script.steps[-1].at / 1e9 if script.steps else 0.0
    trouble = sum(bool(e.trouble) for e in script.expectations)
    told = f"{len(script.expectations)} exposures and orphans, {trouble} in trouble, {length:.0f} s"
    return f"{told}, at speed {speed:g} {length / speed:.0f} s; a watcher is to wait {longest / 1e9 / speed:.2f} s for a sub-FITS"


def _tell_step(step: "Step") -> None:
    """Tell of what changes under a final name, or never will."""
    if step.action in ("leave", "rename", "reopen") or (step.action == "finish" and not step.path.rpartition("/")[2].startswith(".")):
        click.echo(f"{step.at / 1e9:10.3f} s  {step.action:7} {console.visible(step.to or step.path)}", err=True)


def _line(expected: "Expectation") -> str:
    what = ", ".join(
        [f"{origin} {reason}" for origin, reason in expected.missing.items()]
        + [f"first {o} {reason}" for o, reason in expected.late.items()]
    )
    name = str(expected.frame) if expected.frame is not None else " ".join(expected.files.values())
    why = f" ({expected.trouble} {expected.origin})" if expected.trouble else ""
    return f"{name} {expected.state}{f': {what}' if what else ''}{why}"
