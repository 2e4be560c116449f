"""Puts what was published or archived into the queue, and has it sent; whatever is wrong with either costs no L0."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from assembler.core.announcements import Notice, Receiver, message
from assembler.core.instants import DAY, SECOND
from assembler.core.versions import SUPERSEDED, is_version, superseded_version
from assembler.errors import InputError, OutputError
from assembler.fits.blocks import scan_primary
from assembler.service.announced_l0 import account_elsewhere
from assembler.service.announcement_queue import AnnouncementQueue, Standing
from assembler.service.log import Log
from assembler.service.meters import Meters
from assembler.service.sender import Sender

_MOST_OWED = 20_000
_SLACK = 600 * SECOND
"""How much the clocks of this computer and of a file server may differ."""

_LOOKING_BACK = 30 * DAY
"""How old an L0 may be that is put in since nobody knows that it was; less than what was sent is remembered for."""

_LOOK = 0.05
_LOCKED = 2.0
"""How long a stop waits for a local disk [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owed:
    notice: Notice
    at: int
    modified: int | None
    message: str | None


class Announcer:
    """Announces L0s. Threads may share it.

    Parameters
    ----------
    path : str
        Of the queue.
    receivers : sequence of Receiver
        None: nobody is told, and nothing is queued.
    instrument : str
    clock : callable
        Returns the instant [ns].
    log : Log
    meters : Meters or None
    """

    def __init__(
        self,
        path: str,
        receivers: Sequence[Receiver],
        instrument: str,
        *,
        clock: Callable[[], int],
        log: Log,
        meters: Meters | None = None,
    ) -> None:
        self._path = path
        self._receivers = tuple(receivers)
        self._instrument = instrument
        self._clock = clock
        self._log = log
        self._sender = Sender(path, receivers, clock=clock, log=log, on_round=self.mend, meters=meters)
        self._queue: AnnouncementQueue | None = None
        self._owed: deque[_Owed] = deque(maxlen=_MOST_OWED)
        self._lock = RLock()
        self._out: Path | None = None
        self._is_new = False
        self.failure = ""

    def open(self) -> None:
        """Open the queue, so that it is there since now: a standby has to know what to announce once it takes over."""
        if self._receivers:
            with self._lock:
                try:
                    self._open()
                except OutputError as error:
                    self._fail(error)

    def published(self, path: Path, *, version: int, written: str, replaced: Path | None = None) -> None:
        """Announce that a version of an L0 is there under its final name, unless that was done.

        Parameters
        ----------
        path : Path
        version : int
            Its L0VER.
        written : str
            Its DATE.
        replaced : Path or None
            Where the L0 is kept that it replaced.
        """
        self.open()
        if self._is_new and self._out is not None:  # what waited in the queue that was damaged is told by the L0s
            self._is_new = False
            self.catch_up(self._out)
        final = os.path.abspath(path)
        kept = os.path.abspath(replaced) if replaced else ""
        notice = Notice(event="published", path=final, version=version, written=written, instrument=self._instrument, replaced=kept)
        modified = None
        with suppress(OSError):
            modified = os.stat(final).st_mtime_ns
        self._put(notice, modified=modified)

    def archived(self, l0: Path, url: str, *, size: int, sha256: str) -> None:
        """Announce that an L0 is in the archive, unless that was done.

        Parameters
        ----------
        l0 : Path
            From which the headers are read.
        url : str
            Where it is in the archive, without a password.
        size : int
            Of the file there [bytes].
        sha256 : str
            Of the file there, in hexadecimal digits.
        """
        if not self._receivers:
            return
        try:
            primary = scan_primary(str(l0)).hdus[0]
            version = primary.value("L0VER")
            notice = Notice(
                event="archived",
                path=os.path.abspath(l0),
                version=version if is_version(version) else 1,
                written=str(primary.value("DATE") or ""),
                instrument=self._instrument,
                url=url,
            )
            at = self._clock()
            self._put(notice, message=message(notice, account_elsewhere(notice, l0, size, sha256), at))
        except InputError as error:
            self._log.error("announcement_not_made", path=str(l0), reason=str(error))

    def catch_up(self, out: Path) -> None:
        """Announce the L0s in a directory, and the superseded ones beside them, that were published and not put in: a stop came between.

        Only what was written since there is a queue is looked at.
        """
        if not self._receivers:
            return
        self._out = out
        new = 0
        try:
            with self._lock:
                queue = self._open()
            since = max(queue.begun() - _SLACK, self._clock() - _LOOKING_BACK)
            for modified, final, path in sorted(_l0s(out, since)):  # a file server may be away here; nobody waits for the lock
                if not queue.knows(str(final), modified) and (notice := self._read(final, path)):
                    new += self._put(notice, modified=modified)
        except OSError as error:
            self._fail(OutputError(f"{out}: cannot be read: {error.strerror}"))
        except OutputError as error:
            self._fail(error)
        if new:
            self._log.info("announcements_caught_up", l0s=new)

    @property
    def is_begun(self) -> bool:
        """Whether anything was announced, or tried to be."""
        return self._queue is not None or bool(self._owed)

    def start(self) -> None:
        """Begin to send what waits."""
        if self._receivers:
            self._sender.start()

    def mend(self) -> None:
        """Put in what could not be, if it can be now."""
        with self._lock:
            if not self._owed:
                return
            try:
                queue = self._open()
                while self._owed:
                    owed = self._owed[0]
                    queue.put(owed.notice, owed.at, modified=owed.modified, message=owed.message)
                    self._owed.popleft()
            except OutputError as error:
                self._fail(error)
                return
            if self.failure:
                self.failure = ""
                self._log.info("announcements_recovered", path=self._path)

    def drain(self, seconds: float) -> None:
        """Wait until each receiver has all, or failed, but no longer than so long [s]."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (self.failure or self._sender.failure):
            if all(not s.waiting or (s.error and not (s.attempts and s.again <= self._clock())) for s in self.standings()):
                return
            time.sleep(_LOOK)

    def standings(self) -> list[Standing]:
        """Return how each receiver is; nothing where the queue cannot be read."""
        with self._lock:
            try:
                queue = self._open()
                return [queue.standing(receiver) for receiver in self._receivers]
            except OutputError as error:
                self._fail(error)
                return []

    def close(self) -> bool:
        """Stop sending, and let go of the queue; return whether no thread is left."""
        is_done = self._sender.stop()
        if self._lock.acquire(timeout=_LOCKED):
            try:
                if self._queue:
                    self._queue.close()
                    self._queue = None
            finally:
                self._lock.release()
        return is_done

    def _put(self, notice: Notice, *, modified: int | None = None, message: str | None = None) -> bool:
        """Put something in, or owe it; return whether it was put in now, and is new."""
        if not self._receivers:
            return False
        with self._lock:
            at = self._clock()
            if self._owed:
                self.mend()
            try:
                if self._owed:
                    raise OutputError(self.failure)  # noqa: TRY301 - in order
                is_new = self._open().put(notice, at, modified=modified, message=message)
            except OutputError as error:
                self._fail(error)
                self._owed.append(_Owed(notice=notice, at=at, modified=modified, message=message))
                return False
            self._sender.start()
        self._sender.nudge()
        return is_new

    def _open(self) -> AnnouncementQueue:
        if self._queue is None or not self._queue.is_in_place():
            before, self._queue = self._queue, None
            if before:
                before.close()
            self._queue = AnnouncementQueue(self._path, self._receivers, self._clock())
            self._is_new = before is not None and self._queue.begun() == 0
            if self._queue.moved_aside:
                self._log.warning("announcements_moved_aside", path=self._path, to=self._queue.moved_aside)
        return self._queue

    def _read(self, final: Path, path: Path) -> Notice | None:
        """Return what is to be put in of an L0 that is at a path; None where it is none."""
        try:
            primary = scan_primary(str(path)).hdus[0]
        except InputError:
            return None
        version, name, written = (primary.value(keyword) for keyword in ("L0VER", "OFNAME", "DATE"))
        if not is_version(version) or name != final.name:
            return None
        return Notice(event="published", path=str(final), version=version, written=str(written or ""), instrument=self._instrument)

    def _fail(self, error: OutputError) -> None:
        if not self.failure:
            self._log.error("announcements_failed", reason=str(error))
        self.failure = str(error)


def _l0s(out: Path, since: int) -> Iterator[tuple[int, Path, Path]]:
    """Yield what was written since then in a directory of L0s: when [ns], the final path, and where it is now."""
    out = Path(os.path.abspath(out))
    for directory in (out, out / SUPERSEDED):
        try:
            entries = list(os.scandir(directory))
        except FileNotFoundError:
            continue
        for entry in entries:
            final = out / (entry.name if directory == out else f"{entry.name.rpartition('.v')[0]}.fits")
            if not entry.name.endswith(".fits") or entry.name.startswith("."):
                continue
            if directory != out and superseded_version(entry.name, final.name) is None:
                continue
            with suppress(OSError):  # it was superseded, or removed, meanwhile
                modified = entry.stat().st_mtime_ns
                if modified >= since:
                    yield modified, final, Path(entry.path)
