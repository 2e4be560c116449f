"""A Dask cluster whose workers make the L0s of a night: how it is reached, and what becomes of a night when it is lost."""

import asyncio
import logging
import os
import re
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from assembler.core.lines import as_line
from assembler.errors import ConfigurationError
from assembler.fits.writer import draft, remove_abandoned
from assembler.service.cluster_night import ClusterNight, Link, LostError
from assembler.service.cluster_worker import MARK
from assembler.service.night import Order, Result, failed_result
from assembler.service.survey import Task

PATIENCE = 60.0
"""How long a first worker is waited for [s]."""

_CONNECT = 10.0
_ADDRESS = re.compile(r"(?:tcp|tls)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):([0-9]{1,5})")
_UNREACHABLE = (OSError, ValueError, TypeError, RuntimeError)
_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application")


@contextmanager
def connect(address: str, tell: Callable[[str], None], patience: float = PATIENCE) -> "Iterator[Cluster]":
    """Connect to the scheduler of a cluster, with the security that the user's Dask configuration has.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` or ``tls://HOST:PORT``.
    tell : callable
        Is told in one line what an operator should know.
    patience : float
        How long a first worker is waited for, and the scheduler at most [s].

    Raises
    ------
    ConfigurationError
        When it is no address, dask.distributed is not installed, or no scheduler answers.
    """
    if not (found := _ADDRESS.fullmatch(address)) or int(found[1]) > 65535:
        shown = "that URL" if "@" in address else as_line(address, 200)  # a password may stand in it
        raise ConfigurationError(f"--scheduler {shown}: expected tcp://HOST:PORT or tls://HOST:PORT")
    try:
        import distributed
    except ImportError as error:
        raise ConfigurationError(f"--scheduler needs dask.distributed ({error}); install l0-assembler[cluster]") from error
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        security = distributed.Security()
        _see_scheduler(address, security, min(_CONNECT, patience))
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                client = distributed.Client(address, security=security, timeout=_CONNECT, set_as_default=False, name="assembler")
        except _UNREACHABLE as error:
            raise ConfigurationError(f"--scheduler {address}: cannot be worked with: {as_line(error, 300)}") from error
        stack.callback(_close, client)
        if any(issubclass(one.category, distributed.versions.VersionMismatchWarning) for one in told):
            tell(f"{address}: Python or Dask are of another version there than here; where that is trouble, install the same")
        yield Cluster(Link(client=client, address=address, tell=tell, patience=patience))


class Cluster:
    """A cluster that makes one night after the other; is made by `connect`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lost = ""
        self._begun = False

    def make_night(self, order: Order, tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """Assemble exposures, and yield what became of each as it is done.

        Closing the iterator stops: what is being written is finished, nothing more is begun.

        Raises
        ------
        ConfigurationError
            When no worker is fit to make these exposures, and none was made before; else each is told as failed.
        OutputError
            When nothing can be written where the L0s go.
        """
        waiting = deque(map(_absolute, tasks))
        if not waiting:
            return
        order = replace(order, out=Path(os.path.abspath(order.out)))
        with _mark(order, waiting[0]) as mark:
            night = ClusterNight(self._link, order, waiting, mark)
            trouble = self._lost
            try:
                if not trouble:
                    night.begin()
                    self._begun = True
                    yield from night.results()
            except LostError:
                trouble = self._lost = f"the scheduler {self._link.address} is lost; run again"
            except ConfigurationError as error:
                if not self._begun:
                    raise
                trouble = str(error)
            finally:
                if not self._lost:
                    night.finish()
            for task in night.left():
                yield failed_result(task, trouble, 4)


def _absolute(task: Task) -> Task:
    """Name the L0s of an exposure so that a worker, which has a working directory of its own, finds the same ones."""
    return replace(task, l0=task.l0 and os.path.abspath(task.l0), others=tuple(map(os.path.abspath, task.others)))


@contextmanager
def _mark(order: Order, first: Task) -> Iterator[str]:
    """Lend a path that is there where the partition is mounted: a file where the L0s go; if nothing is written, what is there."""
    if order.dry:
        yield str(order.out) if order.out.is_dir() else os.path.dirname(first.paths[0][1])
        return
    remove_abandoned(order.out, MARK)
    with draft(order.out, MARK) as mark:
        yield str(mark.path)


def _see_scheduler(address: str, security: Any, limit: float) -> None:
    """Ask once who is there: a client that finds nobody, or no scheduler, takes long to notice and to be rid of."""
    import distributed

    async def ask() -> dict[str, Any]:
        async with distributed.rpc(address, connection_args=security.get_connection_args("client")) as there:
            told: dict[str, Any] = await there.identity()
            return told

    try:
        told = asyncio.run(asyncio.wait_for(ask(), limit))
    except TimeoutError:
        raise ConfigurationError(f"--scheduler {address}: nobody answers there within {limit:g} s") from None
    except _UNREACHABLE as error:
        raise ConfigurationError(f"--scheduler {address}: no scheduler of Dask answers there: {as_line(error, 300)}") from error
    if "workers" not in told:
        raise ConfigurationError(f"--scheduler {address}: that is no scheduler of Dask, but a {as_line(told.get('type'), 40)}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from telling in its own log what is told here in a line."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in before:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _close(client: Any) -> None:
    with suppress(TimeoutError):
        client.close(timeout=_CONNECT)
