"""One watcher for an output directory, on whichever host: a lease of numbered files.

A claim is a file ``.watcher.lease.000042`` that says who made it. The highest number holds the lease; its holder renews it by
touching it. A claim that was not touched for a term, or whose process is known to have ended because this kernel had it, may be
outdone by linking another one to the next number, which link(2) gives to one only. All times are modification times that the file
server set, so that no host's clock counts.

A lease cannot stop a holder that was paused (a suspended host, a file server that was away) and goes on where it was: until it
asks again it believes that it holds. The lease saves two watchers from doing the same work. That no L0 is written twice is due to
the link that publishes it, which fails where the name is taken.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from assembler.errors import OutputError
from assembler.service.claims import Claims, Identity, has_ended, identity_in, name_of

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lease, for messages.

    Attributes
    ----------
    number : int
        Of its claim.
    identity : Identity or None
        As its file tells it, or None where it tells nothing of use.
    renewed : int
        When it was last renewed, by the file server's clock [ns since 1970]. 0: it was released.
    """

    number: int
    identity: Identity | None
    renewed: int

    def __str__(self) -> str:
        who = f"process {self.identity.pid} on {self.identity.host}" if self.identity else "someone who does not say who"
        return f"{who} (lease {self.number})"


class Lease:
    """A lease that is held, or was. `acquire` makes it; one thread uses it.

    Its holder calls `renew` several times a term, and does nothing more as the watcher once that returns False.

    Attributes
    ----------
    number : int
        Of its claim; 0 once it was released.
    """

    def __init__(self, claims: Claims, term: int, identity: Identity, number: int) -> None:
        self._claims = claims
        self._term = term
        self._identity = identity
        self.number = number

    @classmethod
    def acquire(cls, directory: Path, term: float, identity: Identity, *, claims: Callable[[Path], Claims] = Claims) -> Self | None:
        """Take the lease of a directory if nobody holds it; return None at once if somebody does, or was quicker.

        Parameters
        ----------
        directory : Path
        term : float
            How long a claim holds after it was renewed [s]; the same for all who ask for the lease.
        identity : Identity
        claims : callable
            Gives access to the directory.

        Raises
        ------
        OutputError
            When the directory is not there, cannot be written to, or its file system has no links.
        """
        room = claims(directory)
        lease = cls(room, round(term * 1e9), identity, 0)
        temporary = room.write(json.dumps(asdict(identity)).encode())
        try:
            for _ in range(_ATTEMPTS):
                number = lease._next(temporary)
                if number is None:
                    return None
                if number and room.link(temporary, number):
                    lease.number = number
                    return lease if lease.renew() else None
            return None
        finally:
            room.remove(temporary)

    def renew(self) -> bool:
        """Renew the lease, and clean up after earlier holders; return whether it is still held.

        A holder that comes late, after its claim has expired, has to take the lease anew like anybody else.

        Raises
        ------
        OutputError
            When the directory cannot be read or written to. The lease may still be held: try again.
        """
        times = self._claims.touch(name_of(self.number)) if self._is_own() else None
        if times is None:
            return False
        before, now = times
        late = not self._holds(before, now)
        if late:  # whoever saw that may be about to link the next number
            if not self._claims.link(name_of(self.number), self.number + 1):
                return False
            self.number += 1
        numbers, temporaries = self._claims.scan()
        if numbers[-1:] != [self.number]:
            return False
        for number in numbers[:-1]:
            self._claims.remove(name_of(number))
        for name in temporaries:
            with suppress(OutputError):  # what somebody else put there keeps nobody from holding the lease
                seen = self._claims.read(name)
                if seen and not self._holds(seen[1], now):
                    self._claims.remove(name)
        return True

    def is_mine(self) -> bool:
        """Tell whether the lease is still held, from the directory as it is now; nothing is written.

        Raises
        ------
        OutputError
            When that cannot be told.
        """
        return self._is_own() and self._claims.scan()[0][-1:] == [self.number]

    def release(self) -> None:
        """Let the next one have the lease at once.

        The claim stays, expired, so that numbers never go back: one that was paused before its link must not get a low one.

        Raises
        ------
        OutputError
            When that cannot be written; then the lease expires after its term.
        """
        if self._is_own():
            self._claims.expire(name_of(self.number))
        self.number = 0

    def holder(self) -> Holder | None:
        """Tell who holds the lease now, which may be another one."""
        return _holder(self._claims)

    def _next(self, temporary: str) -> int | None:
        """Return the number that may be claimed; None when somebody holds the lease, 0 when the directory changed meanwhile."""
        # The clock is read before the claim: a pause in between makes the claim look younger, never older.
        touched = self._claims.touch(temporary)
        numbers, _ = self._claims.scan()
        if touched is None:
            return None
        if not numbers:
            return 1
        seen = self._claims.read(name_of(numbers[-1]))
        if seen is None:
            return 0
        renewed, now = seen[1], touched[1]
        if renewed > now:  # renewed meanwhile, or the server's clock was set back since: a look at the clock after tells
            touched = self._claims.touch(temporary)
            now = min(renewed, touched[1]) if touched else renewed
        told = identity_in(seen[0])
        if told is not None and has_ended(told):
            return numbers[-1] + 1
        return None if self._holds(renewed, now) else numbers[-1] + 1

    def _holds(self, renewed: int, now: int) -> bool:
        """Tell whether a claim has not expired; one from the future is of a time before the server's clock was set back."""
        return abs(now - renewed) <= self._term

    def _is_own(self) -> bool:
        seen = self._claims.read(name_of(self.number))
        told = identity_in(seen[0]) if seen else None
        return told is not None and told.token == self._identity.token


def holder(directory: Path) -> Holder | None:
    """Tell who holds the lease of a directory, or held it last and did not release it; None when there is nobody.

    Raises
    ------
    OutputError
        When the directory cannot be read.
    """
    return _holder(Claims(directory))


def _holder(claims: Claims) -> Holder | None:
    for _ in range(_ATTEMPTS):
        numbers, _ = claims.scan()
        if not numbers:
            return None
        seen = claims.read(name_of(numbers[-1]))
        if seen:
            return Holder(number=numbers[-1], identity=identity_in(seen[0]), renewed=seen[1]) if seen[1] else None
    return None
