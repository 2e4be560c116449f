"""The files of a lease: numbered claims in a directory that may be on another host, and who made them."""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from assembler.errors import OutputError

_CLAIM = ".watcher.lease."
_NUMBERED = re.compile(re.escape(_CLAIM) + "([0-9]{6,})")
_SUFFIX = ".part"
_LONGEST = 4096
_LONGEST_TEXT = 80
_GONE = (errno.ENOENT, errno.ESTALE)

Told = TypeVar("Told")


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
    process : str
        What tells its process from all others that its kernel ever had; empty where that is not known.
    """

    host: str
    pid: int
    token: str
    started: int
    version: str
    process: str = ""


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

        def look(descriptor: int) -> tuple[bytes, int]:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OutputError(f"{self.directory / name} is no regular file; remove it, it stands where a watcher's lease belongs")
            return os.pread(descriptor, _LONGEST, 0), status.st_mtime_ns

        with self._telling("read"):
            return self._open(name, look)

    def touch(self, name: str) -> tuple[int, int] | None:
        """Have the server set a file's modification time; return the one before and the new one [ns], None when it is gone.

        Raises
        ------
        OutputError
            When it cannot be touched.
        """

        def renew(descriptor: int) -> tuple[int, int]:
            before = os.fstat(descriptor).st_mtime_ns
            os.utime(descriptor)
            return before, os.fstat(descriptor).st_mtime_ns

        with self._telling("renewed"):
            return self._open(name, renew)

    def expire(self, name: str) -> None:
        """Make a file so old that its claim has expired.

        Raises
        ------
        OutputError
            When it cannot be touched.
        """
        with self._telling("released"):
            self._open(name, lambda descriptor: os.utime(descriptor, ns=(0, 0)))

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
        claim = name_of(number)
        return bool(self._open(name, lambda one: self._open(claim, lambda other: os.path.sameopenfile(one, other))))

    def _open(self, name: str, action: Callable[[int], Told]) -> Told | None:
        """Open a file, for reading only, and do something with it; None when it is gone, be it only after it was opened."""
        try:
            descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return action(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return None

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            told = f"{self.directory}: the watcher's lease cannot be {what}: {error.strerror}"
            raise OutputError(f"{told}; the directory has to be there, and the watcher has to be able to write to it") from error


def this_process(version: str, started: int) -> Identity:
    """Return the identity of this process, with a new token.

    Parameters
    ----------
    version : str
        Of the assembler.
    started : int
        [ns since 1970].
    """
    return Identity(
        host=os.uname().nodename,
        pid=os.getpid(),
        token=os.urandom(16).hex(),
        started=started,
        version=version,
        process=_process(os.getpid()),
    )


def has_ended(identity: Identity) -> bool:
    """Tell whether a process is known to have ended: it was one of this kernel, and is there no more."""
    kernel = identity.process.rpartition(" ")[0]
    mine = _process(os.getpid()).rpartition(" ")[0]
    return bool(kernel) and kernel == mine and identity.pid > 0 and _process(identity.pid) != identity.process


def _process(pid: int) -> str:
    """Return what tells a process from all others: the kernel's start, its table of processes, and when the process began.

    Empty where the system does not tell; what a process that is not there would have is told without its begin.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        table = os.stat("/proc/self/ns/pid").st_ino
    except (OSError, ValueError):
        return ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return f"{boot} {table} "
    is_alive = len(fields) > 19 and fields[0] not in (b"Z", b"X")
    return f"{boot} {table} {fields[19].decode('ascii', 'replace') if is_alive else ''}"


def name_of(number: int) -> str:
    """Return the name of the file with a claim.

    >>> name_of(42)
    '.watcher.lease.000042'
    """
    return f"{_CLAIM}{number:06d}"


def identity_in(content: bytes) -> Identity | None:
    """Read who made a claim. Anybody may have written it: it is cut to size, and only what can be printed is kept."""
    try:
        told = json.loads(content)
        texts = {name: _printable(told[name]) for name in ("host", "token", "version")}
        texts["process"] = _printable(told.get("process", ""))
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
