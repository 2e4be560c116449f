"""Work in processes side by side: one thing in hand at a time in each, so that one that is killed takes nothing else with it.

The processes are forked by a server that has imported everything and has no threads: forking the caller, who may have some,
is not safe, and importing everything anew in each takes longer than many an exposure.
"""

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Generic, TypeVar

from assembler.errors import OutputError

_ATTEMPTS = 2
_AHEAD = 2
"""How many things a process is given at a time: one in hand, and the next, so that it does not wait while the parent tells of the last."""

_ROUND = 0.2
"""How long until it is asked again whether nothing more is to be begun [s]."""

_PAUSES = (0.01, 0.1, 1.0)
"""How long until it is tried once more to begin a process [s]."""

_AT_ONCE = signal.SIGUSR1
"""What has a process give up what it has in hand, and remove what of that is half."""

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What stops a program; a terminal, and whoever ends a group, sends it to all processes, and what it means is the parent's business."""

Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


def begin_server(imported: Sequence[str] = ()) -> None:
    """Begin the server that processes are forked from, unless there is one, and do not wait until it has imported everything.

    Nothing has to call this; whoever does early enough does not wait later.

    Parameters
    ----------
    imported : sequence of str
        Modules that it imports, so that no process has to.

    Raises
    ------
    OutputError
        When the system does not let it be begun.
    """
    if imported:  # a server that has to be begun once more gets what the first one had
        forkserver.set_forkserver_preload(list(imported))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)  # from its first moment on
    try:
        resource_tracker.ensure_running()  # which allows two of them again; begun by the server's beginning, it would just before that
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        forkserver.ensure_running()
    except OSError as error:
        raise OutputError(f"no process can be begun: {error}; one process, --jobs 1, needs no other (or see $TMPDIR)") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def work_in_processes(
    things: Iterable[Thing],
    count: int,
    begin: Callable[[], None],
    work: Callable[[Thing], Answer],
    is_over: Callable[[], bool] = lambda: False,
) -> Generator[tuple[Thing, Answer | None], None, None]:
    """Do something with each of many things, and yield each with its answer as that is there.

    A thing whose process is killed is tried once more, in another process; when that is killed too, its answer is None. Things are
    taken as they are needed. Closing the iterator lets what is under way be finished, and begins nothing more; a KeyboardInterrupt
    while it waits has it given up, and one more has the processes killed.

    Parameters
    ----------
    things : iterable
    count : int
        How many processes there are at a time, at most.
    begin : callable
        Is called once in each process, before its first thing.
    work : callable
        Is called with each thing, in one of the processes.
    is_over : callable
        Tells that nothing more is to be begun; is asked every now and then. What is under way is answered, other things are not.

    Raises
    ------
    OutputError
        When the system has no process for it.
    """
    rest, again = iter(things), deque[_Job[Thing]]()
    workers: dict[Connection, _Worker[Thing, Answer]] = {}
    done: list[tuple[Thing, Answer | None]] = []
    is_ending = False

    def next_job() -> _Job[Thing] | None:
        return None if is_ending else again.popleft() if again else next(map(_Job, rest), None)

    try:
        while True:
            if is_over() and not is_ending:
                is_ending = True
                for worker in workers.values():
                    worker.begin_no_more()
            for room in range(_AHEAD):  # each has one before any has the next
                for worker in workers.values():
                    if len(worker.jobs) == room and (job := next_job()):
                        worker.give(job)
                while room == 0 and len(workers) < count and (job := next_job()):
                    try:
                        worker = _begun(begin, work)
                    except OutputError:
                        if not workers:
                            raise
                        again.append(job)
                        count = len(workers)  # with so many it goes on
                        break
                    workers[worker.connection] = worker
                    worker.give(job)
            yield from done  # now that nobody waits for it
            busy = [connection for connection, worker in workers.items() if worker.jobs]
            if not busy:
                return
            done = []
            for connection in wait(busy, _ROUND):
                assert isinstance(connection, Connection)
                worker = workers[connection]
                try:
                    answer: Answer | None = connection.recv()
                    done.append((worker.jobs.popleft().thing, answer))
                except (EOFError, OSError):  # it was killed, perhaps while it told
                    del workers[connection]
                    worker.end()
                    if is_ending:
                        continue
                    killed, *untouched = worker.jobs
                    killed.deaths += 1
                    if killed.deaths < _ATTEMPTS:
                        again.append(killed)
                    else:
                        done.append((killed.thing, None))
                    again.extend(untouched)
    except KeyboardInterrupt:
        for worker in workers.values():
            worker.kill(_AT_ONCE)
        raise
    finally:
        _end(list(workers.values()))


class _Job(Generic[Thing]):
    """A thing, and how often a process was killed that had it in hand."""

    def __init__(self, thing: Thing) -> None:
        self.thing = thing
        self.deaths = 0


class _Worker(Generic[Thing, Answer]):
    """A process, as its parent has it; the first of its jobs is the one in hand."""

    def __init__(self, begin: Callable[[], None], work: Callable[[Thing], Answer]) -> None:
        begin_server()  # unless it is there
        context = get_context("forkserver")
        self.jobs = deque[_Job[Thing]]()
        self.connection, theirs = context.Pipe()
        with theirs:
            self._process = context.Process(target=_serve, args=(theirs, begin, work))
            self._process.start()

    def give(self, job: _Job[Thing]) -> None:
        """Give it something to do; if it is no more, that is seen when its answer is waited for."""
        self.jobs.append(job)
        with suppress(OSError):
            self.connection.send(job.thing)

    def begin_no_more(self) -> None:
        """Have it end when it has answered what it has in hand, though there is more to be done."""
        with suppress(OSError), socket.fromfd(self.connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.shutdown(socket.SHUT_WR)

    def kill(self, number: int) -> None:
        """Send it a signal, if it is there still."""
        if self._process.is_alive() and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def end(self) -> None:
        """Wait for its end, which closing the connection brings about."""
        self.connection.close()
        self._process.join()


def _end(workers: Sequence[_Worker[Thing, Answer]]) -> None:
    """Let processes finish what they have in hand, and wait for their end; who does not want to wait for that kills them."""
    try:
        for worker in workers:
            worker.connection.close()
        for worker in workers:
            worker.end()
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill(signal.SIGKILL)
        for worker in workers:
            worker.end()
        raise


def _begun(begin: Callable[[], None], work: Callable[[Thing], Answer]) -> _Worker[Thing, Answer]:
    for pause in (*_PAUSES, 0.0):
        try:
            return _Worker(begin, work)
        except (EOFError, OSError) as error:  # the server was killed this moment, or the system is short of what that takes
            reason = getattr(error, "strerror", None) or str(error)
        time.sleep(pause)
    raise OutputError(f"no process can be begun: {reason}")


def _serve(connection: Connection, begin: Callable[[], None], work: Callable[[Thing], Answer]) -> None:
    """Do what the parent asks for, until it asks for no more, and end with it however it ends."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        signal.signal(_AT_ONCE, signal.default_int_handler)
        _answer(connection, begin, work)
    except KeyboardInterrupt:  # what it had in hand is given up
        pass
    finally:
        signal.signal(_AT_ONCE, signal.SIG_IGN)


def _answer(connection: Connection, begin: Callable[[], None], work: Callable[[Thing], Answer]) -> None:
    begin()
    while True:
        try:
            thing = connection.recv()
        except (EOFError, OSError):
            return
        if _is_left(connection):
            return
        answer = work(thing)
        try:
            connection.send(answer)
        except OSError:  # nobody wants the next one any more either
            return


def _is_left(connection: Connection) -> bool:
    """Tell whether no more will come, so that what came is not to be done either."""
    with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as stream, suppress(BlockingIOError):
        return not stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return False


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
