"""Health and metrics for whoever asks on this machine: GET /healthz and /metrics, and nothing else."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self

from assembler.errors import ConfigurationError
from assembler.service.health import Health
from assembler.service.log import Log, Silent
from assembler.service.meters import CONTENT_TYPE, Meters

LOOPBACK = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
MOST_REQUESTS = 8
"""How many requests are served at a time; further ones are turned away."""

_LONGEST_REQUEST = 16_384
_SECONDS = 5.0
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"


def read_address(text: str) -> tuple[str, int]:
    """Return address and port of ``127.0.0.1:9464`` or ``[::1]:9464``.

    Raises
    ------
    ConfigurationError
        When it is none of this machine's own addresses, or has no port.

    >>> read_address("127.0.0.1:9464"), read_address("[::1]:0")
    (('127.0.0.1', 9464), ('::1', 0))
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65_536):
        raise ConfigurationError(f"{text}: is no address to listen at; write 127.0.0.1:PORT or [::1]:PORT")
    return _loopback(host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host), int(port)


class HealthServer:
    """Answers in threads of its own, from what `Health` and `Meters` hold, whatever the working thread does or waits for.

    A client has a few seconds for its request and for taking the answer, and a few kilobytes for its request.

    Parameters
    ----------
    address : str
        127.0.0.1 or ::1.
    port : int
        0: any that is free.
    health : Health
    meters : Meters
    log : Log
        Is told of bugs only.
    seconds : float
        How long a request may take in all [s].

    Attributes
    ----------
    port : int
        That it listens at.

    Raises
    ------
    ConfigurationError
        When the address is not this machine's own, or is taken.
    """

    def __init__(
        self, address: str, port: int, health: Health, meters: Meters, *, log: Log | None = None, seconds: float = _SECONDS
    ) -> None:
        family = LOOPBACK[_loopback(address)]
        try:
            self._server = _Server(family, (address, port), _answers(health, meters), log or Silent(), seconds)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"{address}, port {port}: {reason}; name another port, or stop who listens there") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(min(0.25, seconds),), name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer; what came in since the server was made is answered, too."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, cut off who is still being answered, and return when all threads have ended."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


Answer = tuple[HTTPStatus, str, bytes]


def _answers(health: Health, meters: Meters) -> dict[str, Callable[[], Answer]]:
    """Return what answers at each path."""

    def tell_health() -> Answer:
        verdict = health.verdict()
        return HTTPStatus.OK if verdict.is_alive else HTTPStatus.SERVICE_UNAVAILABLE, _JSON, verdict.as_json()

    def tell_metrics() -> Answer:
        try:
            return HTTPStatus.OK, CONTENT_TYPE, meters.exposition()
        except ConfigurationError as error:
            return HTTPStatus.NOT_IMPLEMENTED, _TEXT, f"{error}\n".encode()

    return {"/healthz": tell_health, "/metrics": tell_metrics}


class _Server(ThreadingHTTPServer):
    """Bounded in threads and in time: who is slow is cut off, who comes when all places are taken is turned away."""

    daemon_threads = False  # joined when the server is closed, and cut off before
    block_on_close = True
    request_queue_size = 64

    def __init__(self, family: int, address: tuple[str, int], answers: dict[str, Callable[[], Answer]], log: Log, seconds: float) -> None:
        self.address_family = family
        self.answers = answers
        self.seconds = seconds
        self._log = log
        self._until: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._pause = threading.Event()
        super().__init__(address, _Request)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # that of HTTPServer asks the name service who we are, which may take its time
        self.server_name, self.server_port = "loopback", self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # out of files: who waits keeps waiting, and asking at once again would take a processor
            self._pause.wait(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_free = len(self._until) < MOST_REQUESTS
            if is_free:
                self._until[request] = time.monotonic() + self.seconds
        if is_free:
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.setblocking(False)
            request.send(_BUSY)
        self.shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off who takes too long."""
        now = time.monotonic()
        self._cut_off(lambda until: until < now)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._until.pop(request, None)
            super().shutdown_request(request)

    def server_close(self) -> None:
        self._cut_off(lambda _until: True)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - overridden
        self._log.exception("health_answer_failed")

    def _cut_off(self, is_over: Callable[[float], bool]) -> None:
        with self._lock:  # so that none of them is closed, and its number another file's, in between
            for request, until in self._until.items():
                if is_over(until):
                    with suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)


class _Bounded(BufferedIOBase):
    """What is read of a request, up to a limit."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.left = _LONGEST_REQUEST

    def readline(self, size: int | None = -1, /) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        line: bytes = self._source.readline(wanted)
        self.left -= len(line)
        return line

    def close(self) -> None:
        self._source.close()
        super().close()


class _Request(BaseHTTPRequestHandler):
    """One request, and its answer; nothing of the request is in the answer."""

    server: _Server
    rfile: _Bounded

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.seconds)
        self.rfile = _Bounded(self.rfile)

    def handle(self) -> None:
        with suppress(OSError):  # the client is gone, or was cut off
            super().handle()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()

    def parse_request(self) -> bool:
        is_request = super().parse_request()
        if is_request and self.rfile.left <= 0:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        return is_request

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(*answer())

    do_HEAD = do_GET  # noqa: N815 - as http.server looks for it

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - overridden
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:  # what http.server says of a method that it has no function for
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self._send(status, _TEXT, f"{status.phrase}\n".encode())

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)  # without a banner

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - overridden
        """Say nothing: what is asked is no event."""

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.close_connection = True
        self.request_version = self.protocol_version  # who asked as in 1991 is answered as today
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _loopback(address: str) -> str:
    if address not in LOOPBACK:
        raise ConfigurationError(f"{address}: health and metrics are told on this machine only; write 127.0.0.1 or ::1")
    return address
