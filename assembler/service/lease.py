"""One watcher for an output directory, on whichever host: a lease of numbered files.

A claim is a file ``.watcher.lease.000042`` that says who made it. The highest number holds the lease; its holder renews it by
touching it. A claim that was not touched for a term may be outdone by linking another one to the next number, which link(2)
gives to one only. All times are modification times that the file server set, so that no host's clock counts.

A lease cannot stop a holder that was paused (a suspended host, a file server that was away) and goes on where it was: until it
asks again it believes that it holds. The lease saves two watchers from doing the same work. That no L0 is written twice is due to
the link that publishes it, which fails where the name is taken.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from assembler.errors import OutputError

_CLAIM = ".watcher.lease."
_NUMBERED = re.compile(re.escape(_CLAIM) + "([0-9]{6,})")
_SUFFIX = ".part"
_LONGEST = 4096
_LONGEST_TEXT = 80
_GONE = (errno.ENOENT, errno.ESTALE)
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who claims a lease.

    Attributes
    ----------
    host, version : str
        Where it runs, and the program's version; for people only.
    pid : int
    token : str
        Random, at most 80 characters, so that no other process has it, before or after.
    started : int
        When it started [ns since 1970], by its own clock; for people only.
    """

    host: str
    pid: int
    token: str
    started: int
    version: str


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


class Claims:
    """The claims in one directory: every access to the file system that a lease needs, one step each.

    Names are found by scanning, never by asking for one that may not be there: NFS remembers for half a minute that it was not.
    A file is opened anew to learn its times, because NFS remembers those too.

    Parameters
    ----------
    directory : Path
        Has to exist. It is not made: where a disk is not mounted, it would be made below.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def scan(self) -> tuple[list[int], list[str]]:
        """Return the numbers of the claims, lowest first, and the names of temporary files.

        Raises
        ------
        OutputError
            When the directory cannot be read.
        """
        with self._telling("read"), os.scandir(self.directory) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_CLAIM)]
        numbers = [int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name)) and name == name_of(int(match[1]))]
        return sorted(numbers), [name for name in names if name.endswith(_SUFFIX)]

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Return the beginning of a file and its modification time [ns]; None when it is gone.

        Raises
        ------
        OutputError
            When it cannot be read, or is no file.
        """
        with self._telling("read"), self._open(name) as descriptor:
            if descriptor is None:
                return None
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OutputError(f"{self.directory / name} is no regular file; remove it, it stands where a watcher's lease belongs")
            return os.pread(descriptor, _LONGEST, 0), status.st_mtime_ns

    def touch(self, name: str) -> tuple[int, int] | None:
        """Have the server set a file's modification time; return the one before and the new one [ns], None when it is gone.

        Raises
        ------
        OutputError
            When it cannot be touched.
        """
        with self._telling("renewed"), self._open(name) as descriptor:
            if descriptor is None:
                return None
            before = os.fstat(descriptor).st_mtime_ns
            os.utime(descriptor)
            return before, os.fstat(descriptor).st_mtime_ns

    def expire(self, name: str) -> None:
        """Make a file so old that its claim has expired.

        Raises
        ------
        OutputError
            When it cannot be touched.
        """
        with self._telling("released"), self._open(name) as descriptor:
            if descriptor is not None:
                os.utime(descriptor, ns=(0, 0))

    def write(self, content: bytes) -> str:
        """Write a temporary file, and return its name.

        Raises
        ------
        OutputError
            When the disk does not take it; then it is not there.
        """
        name = f"{_CLAIM}{os.urandom(16).hex()}{_SUFFIX}"
        path = self.directory / name
        with self._telling("taken"):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                try:
                    if os.write(descriptor, content) < len(content):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(descriptor)  # whoever sees the name sees the content
                finally:
                    os.close(descriptor)
            except OSError:
                self.remove(name)
                raise
        return name

    def link(self, name: str, number: int) -> bool:
        """Give a file the name of a claim too; return False when another one was quicker, or the file is gone.

        Raises
        ------
        OutputError
            When the file system does not do it.
        """
        with self._telling("taken"):
            try:
                os.link(self.directory / name, self.directory / name_of(number), follow_symlinks=False)
            except OSError as error:
                # Over a network the answer may be lost though the link was made. Links cannot be counted here: a claim that is
                # linked to the next number may still have its temporary name.
                if self._is_linked(name, number):
                    return True
                # Of the two, a file that is gone was taken for a stray one: its owner was paused for longer than a term.
                if error.errno not in (errno.EEXIST, *_GONE):
                    raise
                return False
        return True

    def remove(self, name: str) -> None:
        """Remove a file; where that cannot be done, a later holder will."""
        with suppress(OSError):
            os.unlink(self.directory / name)

    def _is_linked(self, name: str, number: int) -> bool:
        if number not in self.scan()[0]:
            return False
        with self._open(name) as one, self._open(name_of(number)) as other:
            return one is not None and other is not None and os.path.sameopenfile(one, other)

    @contextmanager
    def _open(self, name: str) -> Iterator[int | None]:
        """Open a file, for reading only; None when it is gone."""
        try:
            descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            told = f"{self.directory}: the watcher's lease cannot be {what}: {error.strerror}"
            raise OutputError(f"{told}; the directory has to be there, and the watcher has to be able to write to it") from error


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
        return None if self._holds(renewed, now) else numbers[-1] + 1

    def _holds(self, renewed: int, now: int) -> bool:
        """Tell whether a claim has not expired; one from the future is of a time before the server's clock was set back."""
        return abs(now - renewed) <= self._term

    def _is_own(self) -> bool:
        seen = self._claims.read(name_of(self.number))
        told = _identity(seen[0]) if seen else None
        return told is not None and told.token == self._identity.token


def holder(directory: Path) -> Holder | None:
    """Tell who holds the lease of a directory, or held it last and did not release it; None when there is nobody.

    Raises
    ------
    OutputError
        When the directory cannot be read.
    """
    return _holder(Claims(directory))


def this_process(version: str, started: int) -> Identity:
    """Return the identity of this process, with a new token.

    Parameters
    ----------
    version : str
        Of the assembler.
    started : int
        [ns since 1970].
    """
    return Identity(host=os.uname().nodename, pid=os.getpid(), token=os.urandom(16).hex(), started=started, version=version)


def name_of(number: int) -> str:
    """Return the name of the file with a claim.

    >>> name_of(42)
    '.watcher.lease.000042'
    """
    return f"{_CLAIM}{number:06d}"


def _holder(claims: Claims) -> Holder | None:
    for _ in range(_ATTEMPTS):
        numbers, _ = claims.scan()
        if not numbers:
            return None
        seen = claims.read(name_of(numbers[-1]))
        if seen:
            return Holder(number=numbers[-1], identity=_identity(seen[0]), renewed=seen[1]) if seen[1] else None
    return None


def _identity(content: bytes) -> Identity | None:
    """Read who made a claim. Anybody may have written it: it is cut to size, and only what can be printed is kept."""
    try:
        told = json.loads(content)
        texts = {name: _printable(told[name]) for name in ("host", "token", "version")}
        pid, started = told["pid"], told["started"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not (type(pid) is int and type(started) is int and abs(pid) < 1 << 63 and abs(started) < 1 << 63):
        return None
    return Identity(**texts, pid=pid, started=started)


def _printable(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:_LONGEST_TEXT])
