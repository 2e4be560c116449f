"""The command that assembles whole nights in batch, and reports what came of every exposure."""

import csv
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from assembler import __version__, console
from assembler.errors import ConfigurationError
from assembler.options import CORRECTIONS, HISTORY, INSTRUMENT, JSON, duration, load_corrections, load_named, stopped_by_signals

if TYPE_CHECKING:
    from assembler.service.night import Result
    from assembler.service.survey import Survey

_IMPORTED = ("assembler.__main__", "assembler.service.night", "assembler.service.replay", "assembler.telemetry.sqlite", "fitsio")
"""What the processes need."""

_SUFFIXES = (".json", ".csv")
_COLUMNS = ("night", "frame", "state", "version", "l0", "errors", "warnings", "missing", "reason")


@click.command()
@click.argument("nights", nargs=-1, required=True, metavar="NIGHT...")
@click.option("--out", metavar="DIR", help="Where the L0s go [default: where the YAML says, below each NIGHT].")
@HISTORY
@click.option("--patience", metavar="TIME", default="10 s", show_default=True, help="How long an exposure may wait for the history in all.")
@INSTRUMENT
@CORRECTIONS
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes side by side [default: the processors there are].")
@click.option("--frames", metavar="LIST", help="Only these, such as 215921,215930-215940.")
@click.option("--only-missing", is_flag=True, help="Only exposures without any L0 in DIR; the others are not even compared.")
@click.option("--supersede", metavar="REASON", help="Replace L0s that are there and differ by newer versions; the old ones are kept.")
@click.option("--report", metavar="FILE", help="Write what came of every exposure there, as JSON (.json) or CSV (.csv).")
@JSON
def night(
    nights: tuple[str, ...],
    out: str | None,
    history: str | None,
    patience: str,
    yaml: str | None,
    corrections: str | None,
    jobs: int | None,
    frames: str | None,
    only_missing: bool,
    supersede: str | None,
    report: str | None,
    as_json: bool,
) -> int:
    """Make the L0 of every exposure of a night, or of many, and print their paths.

    An L0 that is there and would come out the same is left alone, so a night that was stopped goes on when it is run again. One
    that differs is refused, unless --supersede tells why it is to be replaced. One exposure that fails stops no other. The exit
    code is that of the worst.

    \b
    assembler night 2024apr21 --out l0 --history sqlite:///history.db --report 2024apr21.csv
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    if report is not None and not report.endswith(_SUFFIXES):
        raise ConfigurationError(f"--report {report}: a report is written as {' or '.join(_SUFFIXES)}")
    if supersede is not None and not supersede.strip():
        raise ConfigurationError("--supersede: tell why the L0s are to be superseded")
    from assembler.service.processes import begin_server

    most = jobs or len(os.sched_getaffinity(0))
    if most > 1:
        begin_server(_IMPORTED)  # which takes as long as looking at some hundred exposures, and is done meanwhile
    from assembler.service.night import Order, make_night
    from assembler.service.replay import open_history
    from assembler.service.survey import survey_night, without_l0

    instrument = load_named(yaml)
    wrong = load_corrections(corrections, yaml, instrument)
    wanted = _frames(frames)
    seconds = duration("--patience", patience) / 1e9
    if history is not None:
        open_history(history, seconds).close()  # what is wrong with it is one error now, and not one of every exposure
    surveys, results = [], []
    with stopped_by_signals():
        for directory in dict.fromkeys(os.path.abspath(told) for told in nights):
            survey = survey_night(instrument, Path(directory))
            surveys.append(survey)
            target = Path(out) if out is not None else Path(directory) / instrument.output
            tasks = [task for task in survey.tasks if wanted is None or task.frame in wanted]
            if only_missing:
                tasks = without_l0(tasks, target, instrument)
            order = Order(
                instrument=instrument,
                corrections=wrong,
                out=target,
                opening=partial(open_history, history, seconds) if history is not None else None,
                patience=seconds,
                supersede=supersede,
                version=__version__,
                clock=time.time_ns,
            )
            with _progress(directory, len(tasks), as_json=as_json) as told:
                for result in make_night(order, tasks, min(most, max(1, len(tasks)))):
                    told(result)
                    results.append(result)
    plain = _plain(surveys, results)
    if report is not None:
        console.write_report(Path(report), json.dumps(plain, indent=1) + "\n" if report.endswith(".json") else _csv(plain))
    if as_json:
        console.print_json(plain)
    _summary(surveys, results)
    return max((result.exit_code for result in results), default=0)


class _Told(Protocol):
    def __call__(self, result: "Result") -> None:
        """Tell of an exposure that is done."""


@contextmanager
def _progress(directory: str, count: int, *, as_json: bool) -> "Iterator[_Told]":
    """Show how far a night is: as a bar where somebody looks, else as lines."""

    def lines(result: "Result") -> None:
        if result.path and not as_json:
            click.echo(result.path)
        if result.reason:
            click.echo(console.one_line(f"{result.task.label}: {result.reason}"), err=True)

    if not sys.stderr.isatty():
        yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(console.visible(os.path.basename(directory)), total=count, rate="")
        begun, size, warnings, errors = time.monotonic(), 0, 0, 0

        def both(result: "Result") -> None:
            nonlocal size, warnings, errors
            lines(result)
            size += result.size
            warnings += result.findings.get("warning", 0)
            errors += result.findings.get("error", 0)
            rate = size / 1e6 / max(0.001, time.monotonic() - begun)
            bar.update(shown, advance=1, rate=f"{rate:.0f} MB/s, {errors} errors, {warnings} warnings")

        yield both


def _frames(told: str | None) -> "frozenset[int] | _Ranges | None":
    """Read which frames are wanted; None for all."""
    if told is None:
        return None
    ranges = []
    for part in told.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() and int(first) <= int(last) if dash else not last)):
            raise ConfigurationError(f"--frames {told!a}: expected numbers and ranges, such as 215921,215930-215940")
        ranges.append(range(int(first), int(last or first) + 1))
    return _Ranges(ranges)


class _Ranges:
    """Ranges of frames, however long."""

    def __init__(self, ranges: Sequence[range]) -> None:
        self._ranges = ranges

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, int) and any(frame in one for one in self._ranges)


def _plain(surveys: "Sequence[Survey]", results: "Iterable[Result]") -> dict[str, Any]:
    """Return the report for JSON."""
    by_night: dict[str, list[Result]] = {survey.night: [] for survey in surveys}
    for result in results:
        by_night[result.task.night].append(result)
    return {
        "nights": [
            {
                "night": survey.night,
                "exposures": [_exposure(result) for result in sorted(by_night[survey.night], key=_in_order)],
                "gaps": [list(gap) for gap in survey.gaps],
                "strays": [{"origin": s.origin, "path": s.path, "reason": s.reason} for s in survey.strays],
            }
            for survey in surveys
        ]
    }


def _in_order(result: "Result") -> tuple[bool, int, str]:
    return result.task.frame is None, result.task.frame or 0, result.task.first


def _exposure(result: "Result") -> dict[str, Any]:
    return {
        "frame": result.task.frame,
        "first": result.task.first,
        "state": result.state,
        "l0": result.path,
        "version": result.version,
        "sub_fits": dict(result.task.paths),
        "missing": result.missing,
        "findings": result.findings,
        "reason": result.reason,
    }


def _csv(plain: dict[str, Any]) -> str:
    """Return a row for each exposure, each gap, and each sub-FITS that belongs to none."""
    stream = io.StringIO()
    rows = csv.writer(stream)
    rows.writerow(_COLUMNS)
    for told in plain["nights"]:
        for one in told["exposures"]:
            missing = " ".join(f"{origin}:{reason}" for origin, reason in one["missing"].items())
            name = one["first"] if one["frame"] is None else one["frame"]
            counted = [one["findings"].get(severity, 0) for severity in ("error", "warning")]
            row = [told["night"], name, one["state"], one["version"], one["l0"], *counted, missing, one["reason"]]
            rows.writerow([_cell(value) for value in row])
        for first, last in told["gaps"]:
            rows.writerow([_cell(told["night"]), f"{first}-{last}", "gap", "", "", "", "", "", "no sub-FITS has these frames"])
        for stray in told["strays"]:
            rows.writerow(
                [_cell(value) for value in (told["night"], "", "stray", "", stray["path"], "", "", stray["origin"], stray["reason"])]
            )
    return stream.getvalue()


def _cell(value: object) -> object:
    """Return what a spreadsheet takes for text and never for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _summary(surveys: "Sequence[Survey]", results: "Sequence[Result]") -> None:
    counts = Counter(result.state for result in results)
    told = ", ".join(f"{counts[state]} {state}" for state in ("made", "superseded", "same", "failed") if counts[state])
    gaps = sum(last - first + 1 for survey in surveys for first, last in survey.gaps)
    strays = sum(len(survey.strays) for survey in surveys)
    click.echo(f"{len(results)} exposures: {told or 'nothing to do'}; {gaps} frames that nobody has, {strays} stray sub-FITS", err=True)
