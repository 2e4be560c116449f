"""Wakes the watcher before its own scan would: inotify on local file systems, in a thread that nobody ever waits for.

The watcher's scan is the truth. What is told here only makes it early, so nothing here raises, blocks, or has to be right: where a
directory cannot be watched, where events were lost, and where the thread is stuck on a mount whose server is gone, the scan finds
the same files a little later.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from assembler.service.mounts import filesystem_of, is_remote

if TYPE_CHECKING:  # watchdog costs 40 ms, and is imported by the thread that uses it
    from assembler.service.inotify import Inotify, Notice

_SELDOM = 60.0
"""How long a directory that cannot be watched is left alone, and a thread that just died [s]."""
_PATIENCE = 2.0
"""How long stopping waits for the thread [s]."""
_MOST = 10_000
"""How many closed files are remembered until somebody asks."""


class Waker:
    """Watches directories, not what is below them, and calls `wake` when something happened in one.

    Parameters
    ----------
    wake : callable
        Is called from another thread, often, and when a directory is newly watched, because files may have been closed just
        before; it must return at once.
    mountinfo : callable
        Returns the mount table as in ``/proc/self/mountinfo``.
    force : bool, optional
        Whether to use inotify on whatever file system; by default it is used on local ones only, because elsewhere it does not tell
        what other hosts do.
    clock : callable
        Returns seconds of a clock that never goes back.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        mountinfo: Callable[[], str],
        *,
        force: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wake = wake
        self._mountinfo = mountinfo
        self._force = force
        self._clock = clock
        self._heard = _Heard()
        self._wanted: frozenset[str] = frozenset()
        self._listener: _Listener | None = None
        self._again = -float("inf")
        self._failure = ""
        self._stopped = False

    def watch(self, directories: Collection[str]) -> None:
        """Have these directories watched from now on, and no others; call it each round.

        Returns at once: the listening thread does it. It looks at every directory again, so that one which was removed and made
        anew, or mounted over, is watched anew. A thread that has died is begun again.
        """
        self._wanted = frozenset(directories)
        if self._stopped or self._force is False:
            return
        if self._listener and not self._listener.is_alive():
            self._failure, self._listener = self._listener.failure, None
        if self._listener is None and self._wanted and self._clock() >= self._again:
            self._begin()
        if self._listener:
            self._listener.want(self._wanted)

    @property
    def unwatched(self) -> Mapping[str, str]:
        """The directories that are not watched, each with the reason."""
        if self._force is False:
            return dict.fromkeys(self._wanted, "inotify is switched off")
        listener = self._listener
        outcome = listener.outcome if listener else {}
        other = (listener.failure if listener else self._failure) or "not watched yet"
        return {d: reason for d in self._wanted if (reason := outcome.get(d, other))}

    def closed(self) -> set[str]:
        """Return the files that were closed after writing, or renamed into place, since the last call.

        Each is the watched directory with the name in it, as `os.path.join` makes it. It tells of the file that had the name then.
        """
        return self._heard.take_closed()

    def overflowed(self) -> bool:
        """Tell whether events were lost since the last call; what was known of closed files was forgotten then."""
        return self._heard.take_lost()

    def stop(self) -> None:
        """End listening. A thread that is stuck in a dead mount is left to itself, and lets go of everything once it is back."""
        self._stopped = True
        if self._listener:
            self._listener.end()
            self._listener.join(_PATIENCE)

    def _begin(self) -> None:
        self._again = self._clock() + _SELDOM
        try:
            listener = _Listener(self._wake, self._mountinfo, self._heard, force=bool(self._force), clock=self._clock)
        except OSError as error:
            self._failure = f"inotify cannot be used: {error.strerror}"
            return
        try:
            listener.start()
        except RuntimeError as error:
            listener.close()
            self._failure = f"inotify cannot be used: {error}"
            return
        self._listener = listener


class _Heard:
    """What was told and nobody has asked for yet; shared by the threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed: set[str] = set()
        self._lost = False

    def add(self, path: str) -> None:
        with self._lock:
            if len(self._closed) >= _MOST:  # nobody asks: then they settle like those of which nothing is told
                self._closed.clear()
            self._closed.add(path)

    def forget(self, path: str) -> None:
        with self._lock:
            self._closed.discard(path)

    def forget_directory(self, directory: str) -> None:
        start = os.path.join(directory, "")
        with self._lock:
            self._closed = {path for path in self._closed if not path.startswith(start)}

    def lose(self) -> None:
        with self._lock:
            self._closed.clear()
            self._lost = True

    def take_closed(self) -> set[str]:
        with self._lock:
            told, self._closed = self._closed, set()
            return told

    def take_lost(self) -> bool:
        with self._lock:
            told, self._lost = self._lost, False
            return told


class _Listener(threading.Thread):
    """The thread: all that may block, inotify's numbers, and the mount table are its own.

    Attributes
    ----------
    outcome : mapping of str to str
        By directory, why it is not watched; empty for one that is. It is never changed, but replaced.
    failure : str
        Why the thread has died.
    """

    def __init__(
        self, wake: Callable[[], None], mountinfo: Callable[[], str], heard: _Heard, *, force: bool, clock: Callable[[], float]
    ) -> None:
        super().__init__(name="waker", daemon=True)
        self._wake = wake
        self._mountinfo = mountinfo
        self._heard = heard
        self._force = force
        self._clock = clock
        self._ending = False
        self._wanted: frozenset[str] = frozenset()
        self._table = ""
        self._watches: dict[str, int] = {}
        self._directories: dict[int, set[str]] = {}
        self._refused: dict[str, tuple[str, float]] = {}  # why, and until when it is left alone
        self.outcome: Mapping[str, str] = {}
        self.failure = ""
        self._lock = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def want(self, directories: frozenset[str]) -> None:
        """Have these directories watched, as soon as the thread comes to it."""
        self._wanted = directories
        self._ring()

    def end(self) -> None:
        """Have the thread end."""
        self._ending = True
        self._ring()

    def close(self) -> None:
        """Let go of the bell; nobody else may then be given its number while somebody rings."""
        with self._lock:
            os.close(self._bell)
            self._bell = -1

    def run(self) -> None:
        try:
            from assembler.service.inotify import Inotify

            inotify = Inotify()
            try:
                self._listen(inotify)
            finally:
                inotify.close()
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the watcher goes on with its own scan
            told = error.strerror if isinstance(error, OSError) else ""
            self.failure = f"inotify cannot be used: {told or f'{type(error).__name__}: {error}'}".replace("\n", " ")
            self.outcome = {}
            self._heard.lose()
        finally:
            self.close()

    def _ring(self) -> None:
        with self._lock, suppress(OSError):
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def _listen(self, inotify: "Inotify") -> None:
        poll = select.poll()
        poll.register(inotify, select.POLLIN)
        poll.register(self._bell, select.POLLIN)
        while not self._ending:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if inotify.fileno() in ready:
                for notice in inotify.read():
                    self._take(inotify, notice)
            if self._bell in ready:
                os.eventfd_read(self._bell)
                self._arrange(inotify)

    def _take(self, inotify: "Inotify", notice: "Notice") -> None:
        """Take an event for what it tells: files that are whole, and that it is time to look."""
        from assembler.service.inotify import CLOSED, CREATED, IS_DIRECTORY, LEFT, OVERFLOW

        if notice.mask & OVERFLOW:
            self._heard.lose()
            self._wake()
            return
        directories = tuple(self._directories.get(notice.watch, ()))
        if notice.mask & LEFT:
            for directory in directories:
                self._drop(inotify, directory)
        elif not notice.mask & IS_DIRECTORY:
            for directory in directories:
                path = os.path.join(directory, notice.name)
                if notice.mask & CLOSED:
                    self._heard.add(path)
                else:
                    self._heard.forget(path)
        if directories and notice.mask & (LEFT | CLOSED | CREATED | IS_DIRECTORY):
            self._wake()

    def _arrange(self, inotify: "Inotify") -> None:
        """Make what is watched equal to what is wanted."""
        wanted, now = self._wanted, self._clock()
        table = "" if self._force else self._mountinfo()
        moved, self._table = table != self._table, table
        for directory in self._watches.keys() - wanted:
            self._drop(inotify, directory)
        for directory in self._refused.keys() - wanted:
            del self._refused[directory]
        added = False
        for directory in sorted(wanted):
            if self._ending:
                return
            _, until = self._refused.get(directory, ("", now))
            if moved or now >= until:
                added |= self._try(inotify, directory, now, moved=moved)
        self.outcome = dict.fromkeys(self._watches, "") | {d: reason for d, (reason, _) in self._refused.items()}
        if added:
            self._wake()

    def _try(self, inotify: "Inotify", directory: str, now: float, *, moved: bool) -> bool:
        """Watch a directory, or see that it is still watched; return whether it is newly watched."""
        before = self._watches.get(directory)
        self._refused.pop(directory, None)
        kind = self._remote(directory) if before is None or moved else ""
        if not kind:
            try:
                number = inotify.add(directory)
            except (FileNotFoundError, NotADirectoryError) as error:  # the next round may find it again
                self._drop(inotify, directory)
                self._refused[directory] = (f"{error.strerror}", now)
                return False
            except OSError as error:
                self._drop(inotify, directory)
                self._refused[directory] = (f"{error.strerror}", now + _SELDOM)
                return False
            if number == before:
                return False
            self._drop(inotify, directory)
            self._watches[directory] = number
            self._directories.setdefault(number, set()).add(directory)
            kind = self._remote(directory) if before is not None else ""  # the path leads elsewhere than it did
        if kind:
            self._drop(inotify, directory)
            self._refused[directory] = (f"is on {kind}, where inotify does not tell what other hosts do", now + _SELDOM)
        return not kind

    def _remote(self, directory: str) -> str:
        """Return the type of file system of a directory that is on a remote one, or else the empty string."""
        if self._force:
            return ""
        # What the table alone tells to be remote is not touched: its server may be gone.
        for path in (os.path.abspath(directory), os.path.realpath(directory)):
            kind = filesystem_of(path, self._table)
            if is_remote(kind):
                return kind
        return ""

    def _drop(self, inotify: "Inotify", directory: str) -> None:
        number = self._watches.pop(directory, None)
        if number is None:
            return
        self._heard.forget_directory(directory)
        others = self._directories[number]
        others.discard(directory)
        if not others:
            del self._directories[number]
            inotify.remove(number)
