"""A night in batch: every exposure through the pipeline, in parallel processes; one that fails stops no other."""

import ctypes
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from assembler.core.corrections import Correction
from assembler.core.exposure import MISSING_CODES
from assembler.core.instrument import Instrument
from assembler.errors import AssemblerError
from assembler.service.finder import find_paths
from assembler.service.pipeline import assemble
from assembler.service.survey import Task
from assembler.telemetry.history import History
from assembler.telemetry.patience import Patience

State = Literal["made", "same", "superseded", "failed"]

_PR_SET_PDEATHSIG = 1


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
    supersede : str or None
        Why an L0 that is there and differs is to be replaced; None: it is not to be.
    version : str
        Of the assembler.
    clock : callable
        Tells the instant [ns] that is DATE.
    """

    instrument: Instrument
    corrections: Sequence[Correction]
    out: Path
    opening: Callable[[], History] | None
    patience: float
    supersede: str | None
    version: str
    clock: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of an exposure.

    Attributes
    ----------
    task : Task
    state : str
        One of `State`.
    path : str
        Of its L0; empty where it failed.
    version : int
    findings : mapping of str to int
        How many of each severity.
    missing : mapping of str to str
        By origin, why it is not in the L0.
    size : int
        Bytes that were written.
    reason : str
        Why it failed.
    exit_code : int
        0, 1 with findings of severity error, or that of what it failed with.
    """

    task: Task
    state: State
    path: str = ""
    version: int = 0
    findings: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    size: int = 0
    reason: str = ""
    exit_code: int = 0


class _Worker:
    """What a process keeps from one exposure to the next."""

    order: Order
    history: Patience | None = None


def make_night(order: Order, tasks: Iterable[Task], jobs: int) -> Generator[Result]:
    """Assemble exposures, and yield what became of each as it is done.

    Closing the iterator stops: what is being written is finished, nothing more is begun.

    Parameters
    ----------
    order : Order
    tasks : iterable of Task
    jobs : int
        How many processes; 1: this one.
    """
    if jobs == 1:
        _begin(order)
        try:
            for task in tasks:
                yield _make(task)
        finally:
            if _Worker.history:
                _Worker.history.close()
                _Worker.history = None
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin_child, initargs=(order,))
    try:
        futures: dict[Future[Result], Task] = {pool.submit(_make, task): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield Result(task=futures[future], state="failed", reason="its process was killed; run again", exit_code=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_child(order: Order) -> None:
    """Leave Ctrl-C to the parent, which lets what is being written be finished, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGKILL)
    _begin(order)


def _begin(order: Order) -> None:
    _Worker.order = order
    _Worker.history = Patience.opening(order.opening, order.patience) if order.opening else None


def _make(task: Task) -> Result:
    return make_exposure(task, _Worker.order, _Worker.history)


def make_exposure(task: Task, order: Order, history: Patience | None) -> Result:
    """Assemble one exposure; whatever is wrong with it is its result."""
    try:
        found = find_paths(order.instrument, dict(task.paths), task.missing, task.frame)
        outcome = assemble(
            found,
            history.exposure() if history else None,
            order.out,
            corrections=order.corrections,
            version=order.version,
            clock=order.clock,
            supersede=order.supersede,
        )
    except AssemblerError as error:
        return Result(task=task, state="failed", reason=str(error), exit_code=error.exit_code)
    findings = Counter(f.severity for f in outcome.plan.findings)
    return Result(
        task=task,
        state="same" if not outcome.made else "superseded" if outcome.replaced else "made",
        path=str(outcome.path),
        version=outcome.version,
        findings={severity: findings[severity] for severity in ("error", "warning", "info")},
        missing={f.origin: f.code for f in outcome.plan.findings if f.origin and f.code in MISSING_CODES},
        size=os.stat(outcome.path).st_size if outcome.made else 0,
        exit_code=1 if findings["error"] else 0,
    )
