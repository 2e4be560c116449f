"""Keeps the lease of the output directory, in a thread of its own: the directory may be on a mount that blocks."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from assembler.errors import OutputError
from assembler.service.claims import Identity
from assembler.service.lease import Lease, holder
from assembler.service.log import Log

TERM = 30.0
"""How long a claim holds after it was renewed [s]; the same for all watchers of a directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """On which file system a directory is: the number of its device, and where it is mounted."""

    device: int
    mount: Path


class Keeper(threading.Thread):
    """Asks for the lease until it has it, renews it, and asks again when it was lost.

    Parameters
    ----------
    directory : Path
    identity : callable
        Returns who asks, with a new token each time.
    log : Log
    wake : callable
        Is called when the lease was taken or lost.
    term : float
        [s]
    clock : callable
        Returns seconds of a clock that never goes back.

    Attributes
    ----------
    second : threading.Event
        Set when another watcher was found to hold the lease.
    holder : str
        Who that is.
    trouble : str
        Why the lease is not held.
    """

    def __init__(
        self,
        directory: Path,
        identity: Callable[[], Identity],
        log: Log,
        wake: Callable[[], None],
        *,
        term: float = TERM,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="lease", daemon=True)
        self._directory = directory
        self._identity = identity
        self._log = log
        self._wake = wake
        self._term = term
        self._clock = clock
        self._stop_asked = threading.Event()
        self._renewed: float | None = None
        self._lease: Lease | None = None
        self.second = threading.Event()
        self.holder = ""
        self.trouble = "not asked for yet"
        self._place: _Place | None = None

    @property
    def held(self) -> bool:
        """Whether the lease is held: it was renewed less than a term ago, which it was not where the mount blocks."""
        renewed = self._renewed
        return renewed is not None and self._clock() - renewed < self._term

    def is_first(self) -> bool:
        """Tell whether nobody is known to have had this lease before."""
        return self._lease is not None and self._lease.number == 1

    def is_in_place(self) -> bool:
        """Tell whether the directory is on the file system on which the lease was taken, and not where that one was mounted."""
        try:
            return self._place is not None and os.stat(self._directory).st_dev == self._place.device
        except OSError:
            return False

    def run(self) -> None:
        """Keep the lease until `stop` is called."""
        while not self._stop_asked.is_set():
            self.attempt()
            self._stop_asked.wait(self._term / (30 if self._lease and self.trouble else 6))  # what is ours is had back soon
        if self._lease:
            try:
                self._lease.release()
            except OutputError as error:
                self._log.warning("lease_not_released", reason=str(error))

    def attempt(self) -> None:
        """Renew the lease, or ask for it."""
        began = self._clock()
        try:
            place = _find(self._directory)
            if self._is_elsewhere(place):  # the claim is where it was, and is renewed when that is mounted again
                self._renewed = None
                return
            if self._lease and self._lease.renew():
                self._place = place  # over a network, what is mounted again has another number
            elif self._lease:
                self._lease = self._renewed = None
                self._log.warning("lease_lost", directory=str(self._directory))
                self._wake()
            is_new = self._lease is None
            if is_new:
                self._lease = self._acquire()
        except (OutputError, OSError) as error:
            self._tell("lease_failed", str(error))
            return
        if self._lease is None:
            self._renewed = None
            return
        self._renewed = began
        if is_new or self.trouble:
            self._log.info("lease_taken", number=self._lease.number, directory=str(self._directory))
            self._wake()
        self.trouble = ""

    def _acquire(self) -> Lease | None:
        """Ask for the lease; a directory that was removed is made again, unless it is a mount that is gone."""
        self._directory.mkdir(parents=True, exist_ok=True)
        place = _find(self._directory)
        if self._is_elsewhere(place):  # since a moment ago
            return None
        lease = Lease.acquire(self._directory, self._term, self._identity())
        if lease is None:
            self.holder = self._name_holder()
            self._tell("lease_held_by_another", self.holder)
            self.second.set()
            return None
        self._place = place
        return lease

    def _is_elsewhere(self, place: _Place) -> bool:
        """Tell whether the directory is on the file system below the one of the lease, which then is not mounted."""
        if self._place is None or place.mount not in self._place.mount.parents:
            return False
        self._tell("output_is_elsewhere", f"{self._directory}: nothing is mounted at {self._place.mount} any more; mount it again")
        return True

    def stop(self, seconds: float) -> None:
        """Release the lease, unless that takes longer than it may."""
        self._stop_asked.set()
        if self.is_alive():
            self.join(seconds)

    def _name_holder(self) -> str:
        try:
            return str(holder(self._directory) or "somebody who is gone by now")
        except OutputError as error:
            return str(error)

    def _tell(self, event: str, trouble: str) -> None:
        """Log what is wrong, once."""
        if trouble != self.trouble:
            self._log.warning(event, directory=str(self._directory), reason=trouble)
        self.trouble = trouble


def _find(directory: Path) -> _Place:
    """Return where a directory is, or would be made."""
    path = directory.resolve()
    while not path.exists():
        path = path.parent
    device = path.stat().st_dev
    while path != path.parent and path.parent.stat().st_dev == device:
        path = path.parent
    return _Place(device=device, mount=path)
