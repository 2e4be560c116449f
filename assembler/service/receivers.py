"""The ways to a receiver: a file, a webhook, a command, a message broker. Each takes one message, or tells why it did not."""

import errno
import io
import os
import signal
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from assembler.core.announcements import Receiver, Secret, ToBroker, ToCommand, ToFile, ToWebhook, redacted
from assembler.core.lines import as_line
from assembler.errors import DeliveryError

if TYPE_CHECKING:
    from http.client import HTTPConnection
    from socket import socket

    from _typeshed import WriteableBuffer

_LONGEST_TOLD = 300
"""Characters of what a receiver says about a message that it does not take."""

_FOR_GOOD = (400, 413, 415, 422)
"""Status codes that speak of the message, which will be the same the next time."""

_SHORTEST_SECRET = 4
"""Characters of an argument that nobody may be told; options such as ``-v`` are in many words."""

_LOOK = 0.1
_GRACE = 1.0


class Way(Protocol):
    """Takes messages to one receiver. One thread calls `send`; another one may call `stop`."""

    def send(self, message: str, identity: str) -> None:
        """Have a message received: when this returns, the receiver has it.

        Raises
        ------
        DeliveryError
            When it does not, or nobody knows.
        """

    def stop(self) -> None:
        """Have what is being sent end soon; what the receiver made of it does not count."""

    def close(self) -> None:
        """Let go of what is open, in the thread that sent."""


def way_to(receiver: Receiver, environment: Mapping[str, str] = os.environ) -> Way:
    """Return the way to a receiver; nothing is opened yet."""
    way = receiver.way
    if isinstance(way, ToFile):
        return _File(way)
    if isinstance(way, ToWebhook):
        return _Webhook(way, receiver.timeout, environment)
    if isinstance(way, ToCommand):
        return _Command(way, receiver.timeout)
    assert isinstance(way, ToBroker)
    from assembler.service.broker import Broker

    return Broker(way, receiver.timeout, lambda secret: read_secret(secret, environment))


def read_secret(secret: Secret, environment: Mapping[str, str]) -> str:
    """Return a secret, as it is now.

    Raises
    ------
    DeliveryError
        When the environment variable or the file is not there.
    """
    if secret.environment:
        if secret.environment not in environment:
            raise DeliveryError(f"the environment variable {secret.environment} is not set")
        return environment[secret.environment]
    if not secret.file:
        return secret.value
    try:
        with open(secret.file, encoding="utf-8") as stream:
            return stream.read(10_000).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeliveryError(f"{secret.file}: cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from error


class _File:
    """Adds lines to a file, each by one write, and sees that it is on the disk."""

    def __init__(self, way: ToFile) -> None:
        self._path = way.path

    def send(self, message: str, identity: str) -> None:
        del identity  # it is in the message
        try:
            is_new = not os.path.lexists(self._path)
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
            try:
                self._add(descriptor, f"{message}\n".encode())
            finally:
                os.close(descriptor)
            if is_new:
                directory = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
        except OSError as error:
            raise DeliveryError(f"{self._path}: cannot be written: {error.strerror}") from error

    def stop(self) -> None:
        """Do nothing: a line is written at once."""

    close = stop

    def _add(self, descriptor: int, line: bytes) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DeliveryError(f"{self._path}: is no file")
        if status.st_size and os.pread(descriptor, 1, status.st_size - 1) != b"\n":
            line = b"\n" + line  # a line before was cut off, by a full disk or a power cut
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)


class _Webhook:
    """Sends messages by POST; nothing but 2xx means that they were received, and no redirect is followed."""

    def __init__(
        self, way: ToWebhook, timeout: float, environment: Mapping[str, str], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._way = way
        self._timeout = timeout
        self._environment = environment
        self._steady = steady
        self._connection: HTTPConnection | None = None

    def send(self, message: str, identity: str) -> None:
        from http.client import HTTPException

        del identity
        parts = urlsplit(self._way.url)
        secrets = [t for text in (f"{parts.path}?{parts.query}", parts.path, parts.query) for t in (text, unquote(text)) if t not in "/?"]
        try:
            headers = {"Content-Type": "application/json", "User-Agent": "l0-assembler", "Connection": "close"}
            for name, secret in self._way.headers:
                value = read_secret(secret, self._environment)
                if not (value.isascii() and value.isprintable()):
                    raise DeliveryError(f"header {name}: its value is not printable ASCII")
                secrets += [value, value.rpartition(" ")[2]]
                headers[name] = value
            status, told = self._post(message.encode(), headers)
        except (OSError, HTTPException, ValueError) as error:
            raise DeliveryError(self._told(_words(error), secrets)) from None
        if not 200 <= status < 300:
            raise DeliveryError(self._told(f"answered {status} {told}".rstrip(), secrets), retry=status not in _FOR_GOOD)

    def stop(self) -> None:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(2)

    def close(self) -> None:
        """Do nothing: each message has a connection of its own."""

    def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        import ssl  # these two take longer to import than all else here
        from http.client import HTTPConnection, HTTPResponse, HTTPSConnection

        deadline = self._steady() + self._timeout
        parts = urlsplit(self._way.url)
        host = parts.hostname or ""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection = HTTPSConnection(host, parts.port, timeout=self._timeout, context=context)
        else:
            self._connection = HTTPConnection(host, parts.port, timeout=self._timeout)
        answers: list[_Answer] = []

        def answer_of(sock: "socket", *told: Any, **more: Any) -> HTTPResponse:
            answers.append(_Answer(sock, deadline, self._steady))
            return HTTPResponse(answers[-1], *told, **more)  # type: ignore[arg-type]

        self._connection.response_class = answer_of  # type: ignore[assignment]
        try:
            self._connection.request("POST", target, body=body, headers=dict(headers))
            answer = self._connection.getresponse()
            answers[-1].has_header = True
            told = answer.read(_LONGEST_TOLD).decode("utf-8", "replace") if answer.status >= 400 else ""
            return answer.status, " ".join(f"{answer.reason} {told}".split())
        finally:
            self._connection.close()

    def _told(self, text: str, secrets: list[str]) -> str:
        return as_line(redacted(f"{self._way.shown}: {text}", secrets), _LONGEST_TOLD)


class _Answer(io.RawIOBase):
    """What a server answers, until a deadline: a timeout of a socket begins anew with each byte.

    `http.client` takes a header that is cut off for a whole one; here it is an error, until ``has_header`` says that it was whole.
    """

    def __init__(self, sock: "socket", deadline: float, steady: Callable[[], float]) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline
        self._steady = steady
        self.has_header = False

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what `http.client` reads from, as of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Read what is there, or wait for it until the deadline."""
        left = self._deadline - self._steady()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        if count == 0 and not self.has_header:
            raise ConnectionError("closed before the end of its answer")
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


class _Command:
    """Runs a program with the message on its standard input; exit code 0 means that it was received.

    It is in a session of its own, so that Ctrl-C at the terminal does not stop it half way, and has no signal blocked, as threads of
    the watcher have. One that takes too long is ended with all that it started.
    """

    def __init__(self, way: ToCommand, timeout: float, steady: Callable[[], float] = time.monotonic) -> None:
        self._words = way.words
        self._timeout = timeout
        self._steady = steady
        self._is_stopped = False

    def send(self, message: str, identity: str) -> None:
        del identity
        content = os.memfd_create("message", os.MFD_CLOEXEC)
        errors, said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.set_blocking(said, True)
            os.write(content, f"{message}\n".encode())
            os.lseek(content, 0, os.SEEK_SET)
            try:
                process = os.posix_spawnp(
                    self._words[0],
                    self._words,
                    os.environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, content, 0), (os.POSIX_SPAWN_DUP2, nothing, 1), (os.POSIX_SPAWN_DUP2, said, 2)],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
                )
            except OSError as error:
                raise DeliveryError(f"{self._words[0]}: cannot be run: {error.strerror}") from None
            os.close(said)
            said = -1
            code, told = self._wait(process, errors)
        finally:
            for descriptor in (content, errors, nothing, said):
                if descriptor >= 0:
                    os.close(descriptor)
        if code is None:
            why = "was stopped" if self._is_stopped else f"was not done after {self._timeout:g} s, and {told or 'was stopped'}"
            raise DeliveryError(f"{self._words[0]}: {why}")
        if code:
            ended = f"exit code {code}" if code > 0 else f"signal {-code}"
            told = redacted(told, [word for word in self._words[1:] if len(word) >= _SHORTEST_SECRET])
            raise DeliveryError(as_line(f"{self._words[0]}: {ended}{f': {told}' if told else ''}", _LONGEST_TOLD))

    def stop(self) -> None:
        self._is_stopped = True

    def close(self) -> None:
        """Do nothing: each program was waited for."""

    def _wait(self, process: int, errors: int) -> tuple[int | None, str]:
        """Wait until a process ends, or has to; return how it ended, and the end of what it said."""
        deadline = self._steady() + self._timeout
        ended = os.pidfd_open(process)
        said = b""
        try:
            looking = poll()
            looking.register(ended, POLLIN)
            looking.register(errors, POLLIN)
            while True:
                ready = {descriptor for descriptor, _ in looking.poll(_LOOK * 1000)}
                if errors in ready:
                    chunk = _chunk(errors)
                    said = (said + chunk)[-4 * _LONGEST_TOLD :]
                    if not chunk:
                        looking.unregister(errors)
                if ended in ready:
                    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), _last_line(said + _chunk(errors))
                if self._is_stopped or self._steady() >= deadline:
                    return None, self._end(process, ended)
        finally:
            os.close(ended)

    def _end(self, process: int, ended: int) -> str:
        """End a process and its group, at first kindly; return why it may not be."""
        waiting = poll()
        waiting.register(ended, POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process, number)
            except PermissionError as error:  # sudo and the like
                return f"may not be stopped: {error.strerror}"
            if waiting.poll(_GRACE * 1000):
                break
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process, signal.SIGKILL)  # what it started and left
        os.waitpid(process, 0)
        return ""


def _chunk(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _words(error: Exception) -> str:
    """Say what went wrong, in few words, without the URL."""
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
