"""A night on many machines: each exposure is a task of a Dask cluster, whose workers mount the same partition.

Which worker makes which exposure is decided here, and only what keeps the workers busy is sent at a time. So nothing grows with the
length of a night; no exposure is sent to a worker that was not asked for its version and its paths before; and when a worker dies
it is known which exposures it had. They are made by others, at the end and each alone on its worker: what kills one worker after the
other is told by that from what was in bad company. Whoever finds that the one who died had published the L0 leaves it alone.
"""

import os
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pydoc import locate
from queue import Empty, SimpleQueue
from typing import Any

from assembler.core.lines import as_line
from assembler.errors import ConfigurationError
from assembler.service.cluster_worker import Refusal, closed, finish, make_here, other_version, pack, refusal
from assembler.service.night import Order, Result, failed_result
from assembler.service.survey import Task

_SILENT = 30.0
"""How long the scheduler may take for an answer [s]."""

_ANSWER = 1.0
"""How long an answer that is there may take to be fetched before others are looked at [s]."""

_LATE = 5.0
"""How long until an answer that could not be fetched is tried again: its worker may be asleep, and the others are not to wait [s]."""

_ROUND = 0.5
"""How long until the workers that there are are looked at again [s]."""

_AGAIN = 60.0
"""How long until a worker that was not fit is asked again: a mount may come back [s]."""

_PAUSED = 30.0
"""How long a worker may be paused until others take over what it has: Dask pauses one that comes near its memory limit [s]."""

_FINISH = 120.0
"""How long is waited for what is being made when the night is stopped [s]."""

_MOST_DEATHS = 3


class LostError(Exception):
    """The scheduler is not there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The way to a cluster.

    Attributes
    ----------
    client : distributed.Client
    address : str
        Of the scheduler.
    tell : callable
        Is told in one line what an operator should know.
    patience : float
        How long a first worker is waited for [s].
    """

    client: Any
    address: str
    tell: Callable[[str], None]
    patience: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """An exposure that is to be made: how many workers died with it, and whether what cannot be opened is known to be missing."""

    task: Task
    deaths: int = 0
    trusting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A task of Dask: at which worker, what it calls, and for which exposure; None: it asks whether the worker is fit."""

    future: Any
    worker: str
    call: Callable[..., Any]
    job: _Job | None


class ClusterNight:
    """The exposures of one order on their way through a cluster.

    Parameters
    ----------
    link : Link
    order : Order
    waiting : deque of Task
        At least one.
    mark : str
        A file where the L0s go, which is there as long as the night takes: whoever sees it has the same directory there.
    """

    def __init__(self, link: Link, order: Order, waiting: deque[Task], mark: str) -> None:
        self._link = link
        self._parcel = pack(uuid.uuid4().hex, order)
        self._paths = (mark, *dict.fromkeys(os.path.dirname(path) for _, path in waiting[0].paths))
        self._began = os.stat(mark).st_mtime_ns  # by the clock of whoever keeps the files
        self._waiting = waiting
        self._again: deque[_Job] = deque()
        self._suspects: deque[_Job] = deque()
        self._sent: dict[str, _Sent] = {}
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._load: Counter[str] = Counter()
        self._alone: set[str] = set()
        self._late: dict[str, float] = {}
        self._paused: dict[str, float] = {}
        self._given_up: set[str] = set()
        self._threads: dict[str, int] = {}
        self._fit: set[str] = set()
        self._unfit: dict[str, tuple[str, float]] = {}
        self._next_look = 0.0
        self._idle = False

    def begin(self) -> None:
        """Wait until a worker is fit.

        Raises
        ------
        ConfigurationError
            When there is none, or none that is fit.
        """
        where, deadline = f"--scheduler {self._link.address}", time.monotonic() + self._link.patience
        while not self._fit:
            list(self._look())
            if not self._fit and not self._sent and self._threads and self._threads.keys() <= self._unfit.keys():
                told = [f"{worker}: {reason}" for worker, (reason, _) in self._unfit.items()]
                more = f" (and {len(told) - 1} more workers)" if len(told) > 1 else ""
                raise ConfigurationError(f"{where}: no worker is fit: {told[0]}{more}")
            if time.monotonic() > deadline:
                silent = "all of its workers are paused" if self._paused else "it has no workers"
                told_of = "no worker has answered" if self._threads else silent
                raise ConfigurationError(f"{where}: {told_of} within {self._link.patience:g} s")
            list(self._collect())

    def results(self) -> Iterator[Result]:
        """Send exposures as workers have room, and yield what became of them, until all are done."""
        while any(self.left()):
            yield from self._look()
            self._send()
            yield from self._collect()

    def left(self) -> Iterator[Task]:
        """Return the exposures of which nothing is known."""
        jobs = (*(sent.job for sent in self._sent.values()), *self._again, *self._suspects)
        yield from (job.task for job in jobs if job)
        yield from self._waiting

    def finish(self) -> None:
        """Have begun exposures finished and the others forgotten, and let the workers give up what they keep for the order."""
        import distributed

        with suppress(LostError, distributed.CancelledError), self._calling() as client:
            client.cancel([sent.future for sent in self._sent.values()])
            ends = {worker: self._submit(worker, finish, self._parcel.name) for worker in self._fit & self._there(client).keys()}
            distributed.fire_and_forget(list(ends.values()))
            busy = {worker: end for worker, end in ends.items() if self._load[worker]}
            if busy:
                self._link.tell(f"{self._link.address}: what is being made is being finished")
            deadline = time.monotonic() + _FINISH
            while busy and time.monotonic() < deadline:
                with suppress(TimeoutError):
                    next(iter(busy.values())).exception(timeout=_ROUND)
                there = self._there(client)
                busy = {worker: end for worker, end in busy.items() if worker in there and not end.done()}

    def _there(self, client: Any) -> Any:
        """Return which workers there are; those that take nothing new are among them."""
        return client.sync(client.scheduler.ncores, workers=None, callback_timeout=_SILENT)

    @contextmanager
    def _calling(self) -> Iterator[Any]:
        """Lend the client; what goes wrong with it is that the scheduler is lost."""
        import distributed

        try:
            yield self._link.client
        except (OSError, RuntimeError, ValueError, distributed.client.ClosedClientError) as error:
            raise LostError from error

    def _look(self) -> Iterator[Result]:
        """See which workers there are, ask new ones, and take exposures back from those that are gone."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _ROUND
        with self._calling() as client:
            there = self._there(client)
            self._threads = client.sync(client.scheduler.ncores_running, workers=None, callback_timeout=_SILENT)
            self._paused = {worker: self._paused.get(worker, now) for worker in there if worker not in self._threads}
            given_up = {worker for worker, since in self._paused.items() if now - since > _PAUSED}
            gone = [sent for sent in self._sent.values() if sent.worker not in there or sent.worker in given_up]
            if gone:
                client.cancel([sent.future for sent in gone])
        self._fit &= there.keys() - given_up
        self._unfit = {worker: told for worker, told in self._unfit.items() if worker in there}
        lost = Counter(sent.worker for sent in gone if sent.job)
        for worker in lost.keys() | given_up - self._given_up:
            what = "is paused, mostly for its memory limit; see its log" if worker in given_up else "is gone"
            more = f"; others take over its {lost[worker]} exposures" if lost[worker] else ""
            self._link.tell(f"the worker {worker} {what}{more}")
        self._given_up = given_up
        for sent in gone:
            yield from self._take_back(sent)
        for key in [key for key, again in self._late.items() if now > again]:
            del self._late[key]
            self._done.put(self._sent[key].future)
        asked = {sent.worker for sent in self._sent.values() if sent.job is None}
        for worker in self._threads.keys() - self._fit - asked:
            if worker not in self._unfit or now > self._unfit[worker][1]:
                self._send_to(worker, None, locate, "assembler.__version__")  # nothing of ours: what it cannot unpickle ends a worker
                asked.add(worker)
        idle = not self._fit and not asked and any(self.left())
        if idle and not self._idle:
            self._link.tell(f"{self._link.address}: no worker is there that may be sent anything; waiting for one")
        self._idle = idle

    def _send(self) -> None:
        """Give each worker one exposure for each of its threads, and one more, so that none waits for us."""
        while (worker := self._free_worker()) and (job := self._next_job()):
            self._send_job(worker, job)
        if self._waiting or self._again:
            return
        for worker in self._fit:
            if self._suspects and self._threads.get(worker) and not self._load[worker]:
                self._alone.add(worker)
                self._send_job(worker, self._suspects.popleft())

    def _free_worker(self) -> str | None:
        room = {
            worker: self._threads.get(worker, 0) + 1 - self._load[worker] for worker in self._fit - self._alone if worker in self._threads
        }
        worker = max(room, key=lambda name: room[name], default=None)
        return worker if worker is not None and room[worker] > 0 else None

    def _next_job(self) -> _Job | None:
        if self._again:
            return self._again.popleft()
        return _Job(task=self._waiting.popleft()) if self._waiting else None

    def _send_job(self, worker: str, job: _Job) -> None:
        try:
            self._send_to(worker, job, make_here, self._parcel, job.task, trusting=job.trusting)
        except LostError:
            self._again.append(job)
            raise
        self._load[worker] += 1

    def _send_to(self, worker: str, job: _Job | None, call: Callable[..., Any], *words: object, **facts: object) -> None:
        future = self._submit(worker, call, *words, **facts)
        self._sent[future.key] = _Sent(future=future, worker=worker, call=call, job=job)
        future.add_done_callback(self._done.put)

    def _submit(self, worker: str, call: Callable[..., Any], *words: object, **facts: object) -> Any:
        with self._calling() as client:
            return client.submit(call, *words, **facts, workers=[worker], pure=False)

    def _collect(self) -> Iterator[Result]:
        """Wait for answers until it is time to look again."""
        with suppress(Empty):
            future = self._done.get(timeout=max(0.001, self._next_look - time.monotonic()))
            while True:
                if sent := self._sent.get(future.key):
                    yield from self._receive(sent)
                future = self._done.get_nowait()

    def _receive(self, sent: _Sent) -> Iterator[Result]:
        import distributed

        try:
            with self._calling():
                error = sent.future.exception(timeout=_ANSWER)
                answer = None if error else sent.future.result(timeout=_ANSWER)
        except LostError as lost:
            if not isinstance(lost.__cause__, TimeoutError):
                raise
            self._next_look = 0.0  # its worker may be gone
            self._late[sent.future.key] = time.monotonic() + _LATE
            return
        except distributed.CancelledError as cancelled:
            if self._link.client.status != "running":
                raise LostError from cancelled
            yield from self._take_back(sent)
            return
        job = sent.job
        if isinstance(error, (distributed.scheduler.KilledWorker, distributed.scheduler.NoValidWorkerError)):
            yield from self._take_back(sent)
        elif job is None:
            self._forget(sent)
            if error:
                self._judge(sent.worker, f"it, or the scheduler, cannot use this assembler: {_named(error)}")
            elif sent.call is refusal:
                self._judge(sent.worker, str(answer))
            elif reason := other_version(answer, self._parcel):
                self._judge(sent.worker, reason)
            else:
                self._send_to(sent.worker, None, refusal, self._parcel, self._paths)
        elif isinstance(answer, Refusal):
            self._forget(sent)
            ours = not (answer.path and closed(answer.path))
            self._again.append(job if ours else replace(job, trusting=True))
            if ours:
                self._judge(sent.worker, answer.reason)
        else:
            self._forget(sent)
            reason = _named(error) if error else f"it answers with {type(answer).__name__}"
            failed = failed_result(job.task, f"the worker {sent.worker}: {reason}", 4)
            yield self._as_it_was(job, answer) if isinstance(answer, Result) else failed

    def _judge(self, worker: str, reason: str) -> None:
        if not reason:
            self._fit.add(worker)
            self._unfit.pop(worker, None)
            return
        self._fit.discard(worker)
        reason = as_line(reason, 500)
        if self._unfit.get(worker, ("", 0.0))[0] != reason:
            self._link.tell(f"the worker {worker} is sent nothing: {reason}")
        self._unfit[worker] = reason, time.monotonic() + _AGAIN

    def _take_back(self, sent: _Sent) -> Iterator[Result]:
        """Let another worker make an exposure whose worker died, unless too many have."""
        self._forget(sent)
        if sent.job is None:
            return
        job = replace(sent.job, deaths=sent.job.deaths + 1)
        if job.deaths < _MOST_DEATHS:
            self._suspects.append(job)
            return
        reason = f"{job.deaths} workers died while they had it, the last one was {sent.worker}; see its log, and run again"
        yield failed_result(job.task, reason, 4)

    def _forget(self, sent: _Sent) -> None:
        del self._sent[sent.future.key]
        self._late.pop(sent.future.key, None)
        sent.future.release()
        if sent.job is not None:
            self._load[sent.worker] -= 1
            self._alone.discard(sent.worker)
            if not self._load[sent.worker]:
                del self._load[sent.worker]

    def _as_it_was(self, job: _Job, result: Result) -> Result:
        """Tell of an L0 that a worker published before it died, and that another one found there, as made."""
        if not job.deaths or result.state != "same":
            return result
        try:
            there = os.stat(result.path)
        except OSError:
            return result
        if there.st_mtime_ns < self._began:
            return result
        return replace(result, state="superseded" if result.version > 1 else "made", size=there.st_size)


def _named(error: BaseException) -> str:
    """Return an exception's kind and the first line of what it tells."""
    first, _, _ = str(error).strip().partition("\n")
    return as_line(f"{type(error).__name__}: {first}", 300)
