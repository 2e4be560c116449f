"""The command that assembles whole nights in batch, and reports what came of every exposure."""

import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from assembler import __version__, console
from assembler.announcing import ANNOUNCE, Nobody, announcing, load_receivers
from assembler.errors import AssemblerError, ConfigurationError, InputError
from assembler.options import (
    CORRECTIONS,
    HISTORY,
    INSTRUMENT,
    JSON,
    RECORD,
    STOPPED,
    Stop,
    duration,
    lent_recorder,
    load_corrections,
    load_named,
    record_store,
    stopped_by_signals,
)

if TYPE_CHECKING:
    from assembler.core.choice import Choice
    from assembler.core.instrument import Instrument
    from assembler.core.shards import Shard
    from assembler.reports.tally import Tally
    from assembler.service.announcer import Announcer
    from assembler.service.night import Order, Result
    from assembler.service.recorder import Recorder
    from assembler.service.survey import Survey, Task

Told = TypeVar("Told")

_IMPORTED = ("assembler.__main__", "assembler.service.night", "assembler.service.replay", "assembler.telemetry.sqlite", "fitsio")
"""What the processes need."""

_MOST_CHANGES = 100
"""Of what differs in an exposure; a report tells how many more there are, and `assembler diff` tells all."""

_MOST_MB_S = 1_000_000
"""More than any disk does."""

PROCESSES = click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Processes side by side [default: the processors there are]."
)
PACE = click.option(
    "--max-mb-s", type=click.IntRange(1, _MOST_MB_S), metavar="N", help="Copy, and compare, no more than N MB/s, all processes together."
)
SCHEDULER = click.option(
    "--scheduler", metavar="URL", help="Let the workers of a Dask cluster do it: tcp://HOST:PORT or tls://HOST:PORT of its scheduler."
)
FRAMES = click.option("--frames", metavar="LIST", help="Only these, such as 215921,215930-215940.")
SINCE = click.option("--since", metavar="TIME", help="Only exposures that begin then or later: a date, or a date and time, in UTC.")
UNTIL = click.option("--until", metavar="TIME", help="Only exposures that begin before that time, or on that date or before it, in UTC.")
ORIGINS = click.option("--origin", "origins", multiple=True, metavar="NAME", help="Only exposures with a sub-FITS of it; may be repeated.")
SHARD = click.option(
    "--shard", metavar="I/N", help="Only part I of N of the exposures, the same ones wherever and whenever it is asked for."
)
ONLY_MISSING = click.option("--only-missing", is_flag=True, help="Only exposures without any L0 in DIR; the others are not even compared.")


@click.command()
@click.argument("nights", nargs=-1, required=True, metavar="NIGHT...")
@click.option("--out", metavar="DIR", help="Where the L0s go [default: where the YAML says, below each NIGHT].")
@HISTORY
@click.option("--patience", metavar="TIME", default="10 s", show_default=True, help="How long an exposure may wait for the history in all.")
@INSTRUMENT
@CORRECTIONS
@PROCESSES
@PACE
@SCHEDULER
@FRAMES
@SINCE
@UNTIL
@ORIGINS
@SHARD
@ONLY_MISSING
@click.option("--diff", is_flag=True, help="Write nothing; tell what would be otherwise, card by card, and why.")
@click.option("--supersede", metavar="REASON", help="Replace L0s that are there and differ by newer versions; the old ones are kept.")
@ANNOUNCE
@click.option("--report", metavar="FILE", help="Write what came of every exposure there, as a page (.html), JSON (.json) or CSV (.csv).")
@RECORD
@JSON
def night(
    nights: tuple[str, ...],
    out: str | None,
    history: str | None,
    patience: str,
    yaml: str | None,
    corrections: str | None,
    jobs: int | None,
    max_mb_s: int | None,
    scheduler: str | None,
    frames: str | None,
    since: str | None,
    until: str | None,
    origins: tuple[str, ...],
    shard: str | None,
    only_missing: bool,
    diff: bool,
    supersede: str | None,
    announce: str | None,
    report: str | None,
    to_record: str | None,
    as_json: bool,
) -> int:
    """Make the L0 of every exposure of a night, or of many, and print their paths.

    An L0 that is there and would come out the same is left alone, so a night that was stopped goes on when it is run again: Ctrl-C lets
    what is in hand be finished, and a second one does not. One
    that differs is refused, with what differs, unless --supersede tells why it is to be replaced. One exposure that fails stops no
    other. The exit code is that of the worst; of --diff it is 1 where anything would be written.

    \b
    assembler night 2024apr21 --out l0 --history sqlite:///history.db --report 2024apr21.html
    assembler night 2024apr21 --out l0 --history sqlite:///history.db --diff
    assembler night 2024apr* --out l0 --since 2024-04-22T10:30 --origin red --max-mb-s 50
    """  # noqa: D301 - click's own mark for lines that are not to be joined
    from assembler.service.processes import begin_server

    begun = time.time_ns()
    if scheduler is not None and jobs is not None:
        raise ConfigurationError("--jobs is for this machine, and the workers of --scheduler tell how many they are; leave one out")
    most = jobs or (len(os.sched_getaffinity(0)) if scheduler is None else 1)
    if most > 1:
        begin_server(_IMPORTED)  # which takes as long as looking at some hundred exposures, and is done meanwhile
    from assembler.core.shards import parse_shard
    from assembler.reports.report import open_reports
    from assembler.reports.tally import Tally
    from assembler.service.night import Order
    from assembler.service.replay import absolute_history, open_history
    from assembler.service.survey import l0s_in

    if supersede is not None and not supersede.strip():
        raise ConfigurationError("--supersede: tell why the L0s are to be superseded")
    if supersede is not None and diff:
        raise ConfigurationError("--diff writes nothing, and --supersede does; look at the one before the other")
    if to_record is not None and diff:
        raise ConfigurationError("--diff writes nothing, and --record does; leave one out")
    store = record_store(to_record)
    instrument = load_named(yaml)
    wrong = load_corrections(corrections, yaml, instrument)
    receivers = () if diff else load_receivers(announce, yaml)
    choice = _choice(instrument, frames, since, until, origins)
    directories = _directories(nights)
    seconds = duration("--patience", patience) / 1e9
    if history is not None:
        history = absolute_history(history) if scheduler is not None else history
        open_history(history, seconds).close()  # what is wrong with it is one error now, and not one of every exposure
    order = partial(
        Order,
        instrument=instrument,
        corrections=wrong,
        opening=partial(open_history, history, seconds) if history is not None else None,
        patience=seconds,
        supersede=supersede,
        version=__version__,
        clock=time.time_ns,
        dry=diff,
    )
    batch = partial(
        _Batch,
        instrument=instrument,
        order=order,
        out=Path(out) if out is not None else None,
        choice=choice,
        shard=_read("--shard", parse_shard, shard),
        only_missing=only_missing,
        l0s=lru_cache(maxsize=1)(lambda out: l0s_in(out, instrument)),  # nights that share a directory ask once
        jobs=most,
        rate=max_mb_s * 1e6 if max_mb_s is not None else None,
        results=console.Results(),
        paths=not as_json,
        tally=Tally(nights=len(directories) > 1),
    )
    with (
        stopped_by_signals() as stop,
        announcing(receivers, instrument.name) as announcer,
        open_reports(report, printed=as_json) as reports,
        lent_recorder(store) as recorder,
        _makers(scheduler, stop) as make,
    ):
        all_nights = batch(make=make, stop=stop, announcer=announcer, recorder=recorder)
        with stop.patient():
            for directory in directories:
                reports.add(_make(all_nights, directory))
            _tell_summary(all_nights.tally)
            if all_nights.tally.exposures or not stop.asked:
                reports.conclude(_overall(all_nights, begun), all_nights.results)
        if stop.asked:
            raise KeyboardInterrupt
    return max(all_nights.tally.exit_code, all_nights.results.exit_code)


@contextmanager
def _makers(scheduler: str | None, stop: Stop) -> "Iterator[Callable[[Order, Sequence[Task], int], Generator[Result, None, None]]]":
    """Lend what makes the exposures of a night until that is to stop: so many processes of this machine, or the workers of a cluster."""
    if scheduler is None:
        from assembler.service.night import make_night

        yield lambda order, tasks, jobs: make_night(order, tasks, jobs, lambda: stop.asked)
        return
    from assembler.service.cluster import connect

    with connect(scheduler, console.say) as cluster:

        def make_there(order: "Order", tasks: "Sequence[Task]", _jobs: int) -> "Generator[Result, None, None]":
            with closing(cluster.make_night(order, tasks)) as making:
                while True:
                    with stop.at_once():  # no answer may come for long
                        result = next(making, None)
                    if result is None:
                        return
                    yield result

        yield make_there


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What all nights have in common; ``tally`` counts what comes of them."""

    instrument: "Instrument"
    order: "Callable[..., Order]"
    out: Path | None
    choice: "Choice"
    shard: "Shard | None"
    only_missing: bool
    l0s: "Callable[[Path], Mapping[str, tuple[str, ...]]]"
    make: "Callable[[Order, Sequence[Task], int], Generator[Result, None, None]]"
    jobs: int
    rate: float | None
    results: console.Results
    paths: bool
    tally: "Tally"
    stop: Stop
    announcer: "Announcer | Nobody"
    recorder: "Recorder | None"


def _make(batch: _Batch, directory: str) -> dict[str, Any]:
    """Make the L0s of a night, and return what came of it, of which nothing is kept here."""
    from assembler.reports.accounts import bad_night_account, left_night_account, night_account

    out = batch.out if batch.out is not None else Path(directory) / batch.instrument.output
    try:
        with batch.stop.at_once():
            survey = _survey(batch, directory, out)
            batch.announcer.catch_up(out)
    except AssemblerError as error:  # it was there when the command began; the other nights go on
        console.say(str(error))
        batch.tally.add_bad_night(directory, str(error), error.exit_code)
        return bad_night_account(directory, str(error), error.exit_code)
    except KeyboardInterrupt:
        batch.tally.nights_left += 1
        return left_night_account(directory)
    results: list[Result] = []
    try:
        _make_exposures(batch, survey, out, results)
    except KeyboardInterrupt:
        if batch.stop.insisted:
            raise
    left = len(survey.tasks) - len(results)
    batch.tally.add_night(survey, results, left)
    return night_account(survey, results, [origin.name for origin in batch.instrument.origins], left)


def _survey(batch: _Batch, directory: str, out: Path) -> "Survey":
    """Return what of a night is to be made, with the L0s that are there."""
    from assembler.service.survey import choose, survey_night

    survey = survey_night(batch.instrument, Path(directory))
    if not (survey.tasks or survey.strays):
        console.say(f"{directory}: there is no sub-FITS of {batch.instrument.name} here")
    survey = choose(survey, batch.choice)
    if batch.shard is not None:
        mine = tuple(task for task in survey.tasks if batch.shard.has(os.path.basename(task.night), task.label))
        survey = replace(survey, tasks=mine)
    there = batch.l0s(out)
    l0s = ((task, there.get(task.name(batch.instrument).key, ())) for task in survey.tasks)
    tasks = (replace(task, l0=paths[0], others=paths[1:]) if paths else task for task, paths in l0s)
    return replace(survey, tasks=tuple(task for task in tasks if not (batch.only_missing and task.l0)))


def _make_exposures(batch: _Batch, survey: "Survey", out: Path, results: "list[Result]") -> None:
    """Make the L0s of what was chosen, tell of each, and add what came of it to the results."""
    from assembler.fits.pace import Pacer
    from assembler.fits.writer import remove_abandoned
    from assembler.reports.progress import show_progress

    jobs = min(batch.jobs, max(1, len(survey.tasks)))
    pacing = partial(Pacer, batch.rate / jobs, time.monotonic_ns, time.sleep) if batch.rate is not None else None
    order = batch.order(out=out, pacing=pacing)
    if not order.dry:
        remove_abandoned(out)  # those that a kill left, of exposures that are not even looked at now, too
    making = batch.make(order, survey.tasks, jobs)
    told = batch.results if batch.paths else None
    with show_progress(survey.night, len(survey.tasks), out=told, clock=time.monotonic_ns) as tell, closing(making):
        for result in making:
            results.append(_as_kept(result))
            if result.written:
                batch.announcer.published(
                    Path(result.path),
                    version=result.version,
                    written=result.written,
                    replaced=Path(result.replaced) if result.replaced else None,
                )
            tell(result)
            if batch.recorder and result.path:
                batch.recorder.add(Path(result.path), batch.instrument)


def _as_kept(result: "Result") -> "Result":
    """Return a result as it is kept until its night is done."""
    told = result.comparison
    return replace(result, comparison=told.bounded(_MOST_CHANGES)) if told else result


def _choice(instrument: "Instrument", frames: str | None, since: str | None, until: str | None, origins: Sequence[str]) -> "Choice":
    """Read which exposures are wanted."""
    from assembler.core.choice import Choice, read_frames, read_since, read_until

    known = [origin.name for origin in instrument.origins]
    unknown = [name for name in origins if name not in known]
    if unknown:
        raise ConfigurationError(f"--origin {unknown[0]!a}: {instrument.name} has no such origin; expected {', '.join(known)}")
    choice = Choice(
        frames=_read("--frames", read_frames, frames) or (),
        since=_read("--since", read_since, since),
        until=_read("--until", read_until, until),
        origins=frozenset(origins),
    )
    if choice.since is not None and choice.until is not None and choice.since >= choice.until:
        raise ConfigurationError(f"--since {since} --until {until}: nothing is between them")
    return choice


def _read(option: str, read: "Callable[[str], Told]", text: str | None) -> "Told | None":
    """Read what an option was given, if it was."""
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from None


def _directories(nights: Sequence[str]) -> list[str]:
    """Return the nights, each once, by whatever names it is told; that one is not there is told before anything is done."""
    directories: dict[tuple[int, int], str] = {}
    wrong = []
    for told in nights:
        directory = os.path.abspath(told)
        try:
            os.scandir(told).close()  # as it is told: nothing, as of a variable that is not set, is not where we are
            there = os.stat(directory)
            directories.setdefault((there.st_dev, there.st_ino), directory)
        except (FileNotFoundError, NotADirectoryError):
            wrong.append(f"{directory if told else repr(told)}: there is no such directory")
        except (OSError, ValueError) as error:
            wrong.append(f"{directory}: cannot be read: {getattr(error, 'strerror', None) or error}")
    if wrong:
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        raise InputError(f"{'; '.join(wrong[:5])}{more}; nothing was done")
    return list(directories.values())


def _overall(batch: _Batch, begun: int) -> dict[str, Any]:
    """Return what is told of all nights together."""
    from assembler.core.instants import format_iso
    from assembler.reports.report import told_command

    return {
        "assembler": __version__,
        "instrument": batch.instrument.name,
        "command": told_command(["assembler", *sys.argv[1:]]),
        "begun": format_iso(begun // 10**9 * 10**9, digits=0),
        "ended": format_iso(time.time_ns() // 10**9 * 10**9, digits=0),
        "summary": batch.tally.plain() | ({"exit_code": STOPPED} if batch.stop.asked else {}),
    }


def _tell_summary(tally: "Tally") -> None:
    for line in (*tally.troubles(), tally.line()):
        console.say(line)
