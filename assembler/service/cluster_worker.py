"""What a worker of a cluster does for a night: it tells whether it is fit to, and makes one exposure after the other.

A worker is a process that outlives many nights, and may have several threads. What an order needs is kept by the order: it is read
once, and each thread that makes an exposure is lent a history of its own, as histories are asked by one thread at a time. The rest of the
way of an exposure is safe in threads: what it keeps in memory never changes, drafts have names of their own, fitsio holds the
interpreter's lock for the whole of each call, and conversions of time scales wait for each other.

Nothing here knows the engine of the cluster.
"""

import os
import pickle
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assembler import __version__
from assembler.core.lines import as_line
from assembler.errors import AssemblerError
from assembler.fits.pace import at_once
from assembler.fits.writer import draft
from assembler.service.finder import names_in
from assembler.service.night import Order, Result, failed_result, make_exposure
from assembler.service.survey import Task
from assembler.telemetry.patience import Patience

MARK = "night"
"""What files without content are called where the L0s go, by which that directory is known and tried."""

_MOST_ORDERS = 4
"""How many orders are kept. One is given up when the night is done; one whose client was killed, when so many others came."""

_NOT_THERE = "is not there; is the same partition mounted?"

_LONGEST_FINISH = 600.0
"""How long giving up waits for exposures that are being made [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """An order as it travels with every exposure, so that any worker can take over from any other.

    Attributes
    ----------
    name : str
        Tells it from all other orders.
    version : str
        Of the assembler that packed it.
    packed : bytes
    """

    name: str
    version: str
    packed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a worker does not make an exposure, and the path that is not there, if that is why."""

    reason: str
    path: str = ""


class _Kept:
    """An order and its histories: those that nobody uses now, and how many exposures are being made."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.pace = order.pacing() if order.pacing else at_once
        self.idle: list[Patience] = []
        self.busy = 0

    def close(self) -> None:
        while self.idle:
            self.idle.pop().close()


_kept: OrderedDict[str, _Kept] = OrderedDict()
_changed = threading.Condition()


def pack(name: str, order: Order) -> Parcel:
    """Pack an order."""
    return Parcel(name=name, version=order.version, packed=zlib.compress(pickle.dumps(order), 1))


def refusal(parcel: Parcel, paths: Sequence[str]) -> str:
    """Return why exposures of an order are not to be sent to this worker, or the empty string.

    Parameters
    ----------
    parcel : Parcel
    paths : sequence of str
        What has to be there.
    """
    if reason := other_version(__version__, parcel):
        return reason
    for path in paths:
        if not sees(path):
            return f"{path} {_NOT_THERE}"
    try:
        with _lent(parcel) as (kept, _):
            if not kept.order.dry:
                with draft(kept.order.out, MARK):  # one that may not write would fail one exposure after the other, and be quick at it
                    pass
            return ""
    except AssemblerError as error:
        return str(error)


def make_here(parcel: Parcel, task: Task, *, trusting: bool) -> Result | Refusal:
    """Make an exposure.

    Parameters
    ----------
    parcel : Parcel
    task : Task
    trusting : bool
        Whether sub-FITS that are not there, or cannot be opened, are to be taken for missing. Else the exposure is refused: it may be
        that they are only not mounted here, or not for this user, and an L0 does not depend on who made it.
    """
    if reason := other_version(__version__, parcel):
        return Refusal(reason=reason)
    for _, path in task.paths if not trusting else ():
        if reason := closed(path):
            return Refusal(reason=reason, path=path)
    try:
        with _lent(parcel) as (kept, history):
            return make_exposure(task, kept.order, history, kept.pace)
    except AssemblerError as error:
        return failed_result(task, as_line(error), error.exit_code)


def finish(name: str) -> None:
    """Wait for the exposures of an order that are being made, and give up what is kept for it."""
    with _changed:
        _changed.wait_for(lambda: name not in _kept or not _kept[name].busy, timeout=_LONGEST_FINISH)
        gone = _kept.pop(name, None)
    if gone and not gone.busy:
        gone.close()


def closed(path: str) -> str:
    """Return why a sub-FITS cannot be opened, or the empty string."""
    if not sees(path):
        return f"{path} {_NOT_THERE}"
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return f"{path} cannot be opened: {error.strerror}"
    return ""


def sees(path: str) -> bool:
    """Tell whether a path is there; over a network one that was missed once is only found by scanning its directory."""
    if os.path.lexists(path):
        return True
    try:
        return os.path.basename(path) in names_in(Path(path).parent)
    except OSError:
        return False


def other_version(theirs: object, parcel: Parcel) -> str:
    """Return why a worker with some version of the assembler, or None, is not to be sent exposures, or the empty string."""
    if theirs == parcel.version:
        return ""
    told = f"its assembler is version {theirs}" if theirs is not None else "it has no assembler"
    return f"{told}, the one that sends the exposures is {parcel.version}; install the same on all"


@contextmanager
def _lent(parcel: Parcel) -> Iterator[tuple[_Kept, Patience | None]]:
    """Lend an order, and a history for one exposure."""
    with _changed:
        kept = _kept.get(parcel.name)
        if kept is None:
            kept = _kept[parcel.name] = _Kept(pickle.loads(zlib.decompress(parcel.packed)))  # noqa: S301 - from whom sends us work
        _kept.move_to_end(parcel.name)
        kept.busy += 1
        history = kept.idle.pop() if kept.idle else None
        idle = [name for name, other in _kept.items() if not other.busy]
        surplus = [_kept.pop(name) for name in idle[: max(0, len(_kept) - _MOST_ORDERS)]]
    for other in surplus:
        other.close()
    try:
        order = kept.order
        if history is None and order.opening is not None:
            history = Patience.opening(order.opening, order.patience)
        yield kept, history
    finally:
        with _changed:
            kept.busy -= 1
            if history is not None:
                kept.idle.append(history)
            stray = kept.busy == 0 and _kept.get(parcel.name) is not kept
            _changed.notify_all()
        if stray:  # it was given up meanwhile
            kept.close()
