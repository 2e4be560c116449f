"""A directory behind SSH as an archive's store, through fsspec and paramiko.

A file is written under a hidden name, synced where the server can, closed, read again, and renamed by SFTP's own rename, which
fails where the name is taken. Only a server that known_hosts has is spoken to; who we are is told by an SSH agent or the keys in ~/.ssh.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from assembler.core.lines import as_line
from assembler.core.places import Place
from assembler.core.receipts import Content
from assembler.errors import ConfigurationError, OutputError, TakenError
from assembler.service.destination import DAY, PART, chunks, is_abandoned_name, read_content

if TYPE_CHECKING:
    from paramiko import HostKeys, SFTPClient, SFTPFile
    from paramiko.sftp_attr import SFTPAttributes

_PORT = 22
_PATIENCE = 60.0
"""How long the server may keep silent [s]."""

_WINDOW = 4 << 20
"""Asked for at once [bytes]; paramiko's own prefetch of a whole file keeps most of it in memory."""

_NO_KEY = "the server does not let us in; keys are those of an SSH agent, or in ~/.ssh"
_FSYNC = "fsync@openssh.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A directory on a server."""

    files: Any  # fsspec's file system
    root: str
    shown: str

    def url(self, place: Place) -> str:
        """Return the URL of a file."""
        return f"{self.shown}/{place}"

    def names(self, folder: tuple[str, ...]) -> frozenset[str]:
        """Return the names in a folder; none where there is no such folder."""
        with self._told(folder), suppress(FileNotFoundError):
            return frozenset(self._ftp.listdir(self._join(folder)))
        return frozenset()

    def read(self, place: Place, longest: int) -> bytes | None:
        """Return what a small file holds, or None where there is none."""
        with self._told(place), self._opened(self._path(place), longest) as opened:
            return None if opened is None else b"".join(_pieces(*opened))

    def content(self, place: Place) -> Content | None:
        """Read a file, and return what it holds; None where there is none."""
        with self._told(place), self._opened(self._path(place)) as opened:
            return None if opened is None else _content(*opened)

    def add(self, place: Place, stream: IO[bytes], content: Content) -> None:
        """Keep a file, and give it its name when it was read again and found to be right."""
        with self._written(place, stream, content) as draft:
            try:
                self._ftp.rename(draft, self._path(place))
            except OSError as error:  # SFTP has one code for whatever does not work
                if self._status(self._path(place)) is not None:
                    url = self.url(place)
                    raise TakenError(f"{url} exists, and nothing in an archive is overwritten", path=url) from error
                raise

    def replace(self, place: Place, data: bytes) -> None:
        """Keep a small file under a name, in one step, whatever had it before."""
        with self._written(place, BytesIO(data), read_content(BytesIO(data).read)) as draft:
            self._ftp.posix_rename(draft, self._path(place))

    @contextmanager
    def alone(self, folder: tuple[str, ...]) -> Iterator[None]:  # noqa: ARG002
        """Do nothing: SFTP has no locks that would go when an archiver is killed."""
        yield

    def tidy(self, folder: tuple[str, ...]) -> None:
        """Remove temporary files older than a day, by the server's clock: that which the newest name of the folder was made by."""
        with self._told(folder):
            try:
                found = self._ftp.listdir_attr(self._join(folder))
            except FileNotFoundError:
                return
            parts = [f for f in found if is_abandoned_name(f.filename)]
            if not parts:
                return
            now = self._now(folder)
            for part in parts:
                if part.st_mtime is not None and now - part.st_mtime > DAY:
                    with suppress(FileNotFoundError):
                        self._ftp.remove(self._join((*folder, part.filename)))

    def close(self) -> None:
        """Close the connection."""
        self.files.client.close()

    @property
    def _ftp(self) -> "SFTPClient":
        return self.files.ftp

    def _now(self, folder: tuple[str, ...]) -> int:
        """Return what the server's clock tells a file that is made now [UNIX s]."""
        probe = self._draft(Place(folder=folder, name="clock"))
        with self._ftp.open(probe, "wx") as file:
            now = file.stat().st_mtime or 0
        self._ftp.remove(probe)
        return now

    def _join(self, parts: tuple[str, ...]) -> str:
        return "/".join((self.root.rstrip("/"), *parts)) or "/"

    def _path(self, place: Place) -> str:
        return self._join((*place.folder, place.name))

    def _draft(self, place: Place) -> str:
        return self._join((*place.folder, f".{place.name}.{os.urandom(8).hex()}{PART}"))

    def _status(self, path: str) -> "SFTPAttributes | None":
        """Return what has a name, be it a link, or None."""
        try:
            return self._ftp.lstat(path)
        except FileNotFoundError:
            return None

    @contextmanager
    def _opened(self, path: str, longest: int | None = None) -> "Iterator[tuple[SFTPFile, int] | None]":
        """Open a regular file that is there; lend it with its size [bytes]."""
        status = self._status(path)
        if status is None:
            yield None
            return
        if not stat.S_ISREG(status.st_mode or 0):
            raise OutputError(f"{self.shown}: {path} is no regular file", retry=False)
        with self._ftp.open(path, "rb") as file:
            size = file.stat().st_size or 0
            if longest is not None and size > longest:
                raise OutputError(f"{self.shown}: {path} is larger than the {longest >> 20} MiB that it may have", retry=False)
            yield file, size

    @contextmanager
    def _written(self, place: Place, stream: IO[bytes], content: Content) -> Iterator[str]:
        """Write a temporary file, sync and close it, and read it again; remove it on the way out, if it is there still."""
        draft = self._draft(place)
        with self._told(place):
            self._make(place.folder)
            try:
                with self._ftp.open(draft, "wx") as file:
                    file.set_pipelined(True)
                    before = b""
                    for piece in chunks(stream, content):
                        file.write(before)
                        before = piece
                    file.set_pipelined(False)  # the last write waits for what became of all that were before it
                    file.write(before)
                    self._sync(file)
                with self._opened(draft) as opened:
                    arrived = None if opened is None else _content(*opened)
                if arrived != content:
                    raise OutputError(f"{self.url(place)}: what arrived is not what was sent; it was removed")
                yield draft
            finally:
                with suppress(*_errors()):
                    self._ftp.remove(draft)

    def _sync(self, file: "SFTPFile") -> None:
        """Have the server bring a file to its disk, where it knows OpenSSH's word for that."""
        from paramiko.sftp import CMD_EXTENDED

        try:
            self._ftp._request(CMD_EXTENDED, _FSYNC, file.handle)  # noqa: SLF001 - paramiko has no other way to say it
        except OSError as error:
            if error.errno is not None or "unsupported" not in str(error).lower():
                raise

    def _make(self, folder: tuple[str, ...]) -> None:
        """Make the folders that are not there."""
        for depth in range(1, len(folder) + 1):
            path = self._join(folder[:depth])
            try:
                self._ftp.stat(path)
            except FileNotFoundError:
                try:
                    self._ftp.mkdir(path)
                except OSError:
                    self._ftp.stat(path)  # another archiver was quicker, or it is an error

    @contextmanager
    def _told(self, what: Place | tuple[str, ...]) -> Iterator[None]:
        """Tell what the server cannot do, or that it is away, as what it is: a failure of the store."""
        where = self.url(what) if isinstance(what, Place) else "/".join((self.shown, *what))
        try:
            yield
        except _errors() as error:
            raise OutputError(f"{where}: {_words(error)}") from error


def open_sftp(host: str, port: int | None, user: str, path: str) -> Behind:
    """Connect to a server.

    Raises
    ------
    ConfigurationError
        When paramiko is not installed.
    OutputError
        When the server is away, not known, does not know us, or has no such directory.
    """
    try:
        import paramiko
        from fsspec.implementations.sftp import SFTPFileSystem
    except ImportError:
        raise ConfigurationError("--to sftp://...: needs paramiko; install the extra: pip install 'l0-assembler[sftp]'") from None

    class KnownHosts(SFTPFileSystem):  # type: ignore[misc]
        """fsspec's, but for whom it connects to: fsspec accepts any host key, and reads no known_hosts."""

        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            _load_known_hosts(self.client.get_host_keys())
            self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            try:
                self.client.connect(self.host, **self.ssh_kwargs)
                self.ftp = self.client.open_sftp()
            except BaseException:
                self.client.close()
                raise

    at = f"{host}:{port}" if port is not None else host
    shown = f"sftp://{quote(user) + '@' if user else ''}{at}{quote(path.rstrip('/'))}"
    options: dict[str, Any] = {"port": port or _PORT, "username": user or None}
    options |= {"timeout": _PATIENCE, "banner_timeout": _PATIENCE, "auth_timeout": _PATIENCE, "channel_timeout": _PATIENCE}
    try:
        files = KnownHosts(host, skip_instance_cache=True, **options)
    except paramiko.BadHostKeyException as error:
        told = f"{shown}: the server shows another host key than known_hosts has; it may be another server"
        raise OutputError(told, retry=False) from error
    except paramiko.AuthenticationException as error:
        raise OutputError(f"{shown}: {_NO_KEY}") from error
    except _errors() as error:
        told = f"{shown}: {_words(error)}"
        if "No authentication methods" in told:  # paramiko found no key that it could offer
            told = f"{shown}: {_NO_KEY}"
        if "not found in known_hosts" in told:
            told = f"{shown}: known_hosts does not have the server; connect to it once with ssh, and compare its host key"
        raise OutputError(told) from error
    files.ftp.get_channel().settimeout(_PATIENCE)
    opened = Behind(files=files, root=path, shown=shown)
    try:
        with opened._told(()):  # noqa: SLF001
            if not stat.S_ISDIR(files.ftp.stat(path).st_mode or 0):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OutputError:
        opened.close()
        raise
    return opened


def _load_known_hosts(keys: "HostKeys") -> None:
    """Add what known_hosts of the host and of the user have, but for keys that a line revokes.

    A line of a certificate authority is left out, as paramiko knows no certificates of hosts: their servers are not known then.
    """
    from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

    entries, revoked = [], set()
    for path in ("/etc/ssh/ssh_known_hosts", os.path.expanduser("~/.ssh/known_hosts")):
        lines = []
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
        for words in lines:
            if len(words) > 3 and words[0] == "@revoked":
                revoked.add(words[3])
            elif len(words) > 2 and words[0][0] not in "#@":
                with suppress(InvalidHostKey, ValueError):
                    entries.append(HostKeyEntry.from_line(" ".join(words[:3])))
    for entry in entries:
        if entry is not None and entry.key is not None and entry.key.get_base64() not in revoked:
            for name in entry.hostnames or ():
                keys.add(name, entry.key.get_name(), entry.key)


def _pieces(file: "SFTPFile", size: int) -> Iterator[bytes]:
    """Read a file as it is now, a window of requests after the other."""
    for start in range(0, size, _WINDOW):
        yield from file.readv([(start, min(_WINDOW, size - start))])
    if file.read(1):
        raise OSError(errno.EIO, "it became longer while it was read")


def _content(file: "SFTPFile", size: int) -> Content:
    pieces = _pieces(file, size)
    return read_content(lambda _: next(pieces, b""))


def _errors() -> tuple[type[Exception], ...]:
    from paramiko import SSHException

    return (OSError, EOFError, SSHException)


def _words(error: Exception) -> str:
    told = getattr(error, "strerror", None) or str(error)
    if told == "Failure":
        return "the server says no more than that it failed; its disk may be full"
    return as_line(told, 200) or "the connection was lost"
