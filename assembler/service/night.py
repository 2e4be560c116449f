"""A night in batch: every exposure through the pipeline, in parallel processes; one that fails stops no other."""

import gc
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from assembler.core.corrections import Correction
from assembler.core.exposure import MISSING_CODES
from assembler.core.findings import Finding, has_errors
from assembler.core.instrument import Instrument
from assembler.core.lines import as_line
from assembler.errors import AssemblerError, OutputError, TakenError
from assembler.fits.pace import Pace, at_once
from assembler.fits.versions import finish_retiring, standing_l0
from assembler.service.comparison import Comparison, Making, compare_with_now
from assembler.service.finder import find_paths
from assembler.service.pipeline import assemble, is_there, plan_exposure
from assembler.service.processes import work_in_processes
from assembler.service.survey import Task
from assembler.telemetry.history import History
from assembler.telemetry.patience import Patience

State = Literal["made", "same", "superseded", "new", "differs", "failed"]

MOST_WORST = 20
"""How many findings of an exposure are told with their messages; all are in its L0."""

_LONGEST = 400
_BEFORE_COLLECTING = 50_000
"""How many values are made before Python looks for cycles among them: an exposure has none, and looking took a tenth of its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What all exposures have in common.

    Attributes
    ----------
    instrument : Instrument
    corrections : sequence of Correction
    out : Path
        Where the L0s go.
    opening : callable or None
        Opens the keyword history; is called once in each process.
    patience : float
        How long an exposure may wait for it [s].
    pacing : callable or None
        Makes what copying keeps to in one process; is called once in each. None: all go as fast as they can.
    supersede : str or None
        Why an L0 that is there and differs is to be replaced; None: it is not to be.
    version : str
        Of the assembler.
    clock : callable
        Tells the instant [ns] that is DATE.
    dry : bool
        Whether to write nothing, and only tell what would be.
    """

    instrument: Instrument
    corrections: Sequence[Correction]
    out: Path
    opening: Callable[[], History] | None
    patience: float
    pacing: Callable[[], Pace] | None
    supersede: str | None
    version: str
    clock: Callable[[], int]
    dry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of an exposure; small, whatever its L0 has to tell.

    Attributes
    ----------
    task : Task
    state : str
        One of `State`.
    path : str
        Of its L0; empty where it failed.
    version : int
    written, replaced : str
        DATE of its L0, and where the one is kept that it replaced now; empty where nothing was written, or replaced.
    findings : mapping of str to int
        How many of each severity.
    codes : mapping of str to int
        How many of each code.
    worst : tuple of Finding
        Errors, then warnings: the first `MOST_WORST`, with messages that are not too long.
    missing : mapping of str to str
        By origin, why it is not in the L0; where it failed, as far as is known.
    size : int
        Bytes that were written.
    reason : str
        Why it failed.
    exit_code : int
        0, 1 with findings of severity error, or that of what it failed with; where nothing is written, 1 for what would be.
    comparison : Comparison or None
        What differs between the L0 that is there and what would be made; None where it is not known.
    """

    task: Task
    state: State
    path: str = ""
    version: int = 0
    written: str = ""
    replaced: str = ""
    findings: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    worst: tuple[Finding, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    size: int = 0
    reason: str = ""
    exit_code: int = 0
    comparison: Comparison | None = None


class _Worker:
    """What a process keeps from one exposure to the next."""

    order: Order
    history: Patience | None = None
    pace: Pace = staticmethod(at_once)


def make_night(
    order: Order, tasks: Iterable[Task], jobs: int, is_over: Callable[[], bool] = lambda: False
) -> Generator[Result, None, None]:
    """Assemble exposures, and yield what became of each as it is done.

    Closing the iterator stops: what is being written is finished, nothing more is begun. A KeyboardInterrupt has it given up.

    Parameters
    ----------
    order : Order
    tasks : iterable of Task
    jobs : int
        How many processes; 1: this one.
    is_over : callable
        Tells that nothing more is to be begun; what is being made then is made, and told.
    """
    if jobs == 1:
        collecting = gc.get_threshold()
        _begin(order)
        try:
            for task in takewhile(lambda _: not is_over(), tasks):
                yield _make(task)
        finally:
            gc.set_threshold(*collecting)
            if _Worker.history:
                _Worker.history.close()
                _Worker.history = None
        return
    left = dict.fromkeys(tasks)
    results = work_in_processes(tuple(left), jobs, partial(_begin, order), _make, is_over)
    try:
        for task, result in results:
            del left[task]
            yield result or failed_result(task, "its process was killed, twice; run again", 4)
    except OutputError as error:  # no process can be begun any more; later there may be room
        yield from (failed_result(task, f"{error}; run again", error.exit_code) for task in left)
    finally:
        results.close()


def _begin(order: Order) -> None:
    """Make a process ready for exposures."""
    gc.set_threshold(_BEFORE_COLLECTING)
    _Worker.order = order
    _Worker.pace = order.pacing() if order.pacing else at_once
    _Worker.history = Patience.opening(order.opening, order.patience) if order.opening else None


def _make(task: Task) -> Result:
    return make_exposure(task, _Worker.order, _Worker.history, _Worker.pace)


def make_exposure(task: Task, order: Order, history: Patience | None, pace: Pace) -> Result:
    """Assemble one exposure, or tell what would be; whatever is wrong with it is its result."""
    try:
        found = find_paths(order.instrument, dict(task.paths), task.missing, task.frame)
        lent = history.exposure() if history else None
        making = Making(
            found=found, history=lent, corrections=order.corrections, directory=order.out, version=order.version, now=order.clock()
        )
        return _compare(task, making, pace) if order.dry else _assemble(task, making, order, pace)
    except AssemblerError as error:
        return failed_result(task, as_line(error), error.exit_code)
    except OSError as error:  # such as an L0 that another assembler gave another name meanwhile
        return failed_result(task, as_line(error), OutputError.exit_code)


def _assemble(task: Task, making: Making, order: Order, pace: Pace) -> Result:
    for other in task.others:
        finish_retiring(Path(other), Path(task.l0))
    try:
        outcome = assemble(
            making.found,
            making.history,
            making.directory,
            corrections=making.corrections,
            version=making.version,
            clock=order.clock,
            supersede=order.supersede,
            former=Path(task.l0) if task.l0 else None,
            pace=pace,
        )
    except TakenError as error:
        with suppress(AssemblerError):
            comparison = compare_with_now(Path(error.path), making, pace=pace)
            return replace(failed_result(task, as_line(error.differing(comparison.summary)), error.exit_code), comparison=comparison)
        raise
    findings = outcome.plan.findings
    return Result(
        task=task,
        state="same" if not outcome.made else "superseded" if outcome.replaced else "made",
        path=str(outcome.path),
        version=outcome.version,
        written=outcome.written,
        replaced=str(outcome.replaced or ""),
        size=os.stat(outcome.path).st_size if outcome.made else 0,
        exit_code=1 if has_errors(findings) else 0,
        **_told(findings),
    )


def _compare(task: Task, making: Making, pace: Pace) -> Result:
    """Tell what would become of an exposure, and write nothing."""
    plan = plan_exposure(
        making.found, making.history, making.directory, corrections=making.corrections, version=making.version, now=making.now
    )
    path = Path(task.l0) if task.l0 else making.directory / plan.filename
    told = _told(plan.findings)
    if not is_there(path.parent, path.name):
        return Result(task=task, state="new", path=str(path), exit_code=1, **told)
    comparison = compare_with_now(path, making, pace=pace)
    state: State = "differs" if comparison.differs else "same"
    version = standing_l0(path).version
    return Result(task=task, state=state, path=str(path), version=version, exit_code=int(comparison.differs), comparison=comparison, **told)


def _told(findings: tuple[Finding, ...]) -> dict[str, Any]:
    """Return what a result tells of findings."""
    counts = Counter(f.severity for f in findings)
    return {
        "findings": {severity: counts[severity] for severity in ("error", "warning", "info")},
        "codes": dict(sorted(Counter(f.code for f in findings).items())),
        "worst": _worst(findings),
        "missing": {f.origin: f.code for f in findings if f.origin and f.code in MISSING_CODES},
    }


def failed_result(task: Task, reason: str, exit_code: int) -> Result:
    """Return the result of an exposure that has no L0, and why."""
    missing = {lost.origin: lost.reason for lost in task.missing}
    return Result(task=task, state="failed", missing=missing, reason=reason, exit_code=exit_code)


def _worst(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    ordered = [f for severity in ("error", "warning") for f in findings if f.severity == severity]
    return tuple(replace(f, message=as_line(f.message, _LONGEST)) for f in ordered[:MOST_WORST])
