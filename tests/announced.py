"""For tests of announcing: notices, receivers, and a real HTTP server that behaves as it is told."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from assembler.core.announcements import Notice, Receiver, ToFile, ToWebhook
from assembler.core.instants import SECOND
from assembler.errors import DeliveryError

NOW = 1_790_000_000 * SECOND


def notice(number: int = 1, **changes) -> Notice:
    told = {"event": "published", "path": f"/l0/KP.{number}.fits", "version": 1, "written": "2024-04-22T08:11:30.500", "instrument": "KPF"}
    return Notice(**(told | changes))


def receiver(name: str = "log", **changes) -> Receiver:
    return Receiver(**({"name": name, "way": ToFile(path="/nowhere")} | changes))


class Told:
    """A way that keeps what it got; ``answers`` are called in turn before it keeps a message, and may raise."""

    def __init__(self, answers: Iterator[Callable[[], None]] | None = None) -> None:
        self.answers = answers or itertools.repeat(lambda: None)
        self.got: list[str] = []

    def send(self, message: str, identity: str) -> None:
        next(self.answers)()
        self.got.append(identity)

    def stop(self) -> None:
        pass

    close = stop


def away() -> None:
    raise DeliveryError("it is away")


def refusing() -> None:
    raise DeliveryError("it is of no use", retry=False)


def in_order_of_first(got: list[str]) -> list[str]:
    """Return what was got, without what was got again, as a receiver that drops by id has it."""
    return list(dict.fromkeys(got))


class Hook:
    """An HTTP server on the loopback; ``answer`` is what it does with a request, unless another one is set."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda request: self.say(request, 204)
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.headers.append(dict(self.headers))
                self.message = json.loads(body)
                hook.answer(self)

            def log_message(self, *_args: object) -> None:
                pass

        class QuietServer(ThreadingHTTPServer):
            def handle_error(self, *_args: object) -> None:  # of a connection that was reset on purpose
                pass

        self._server = QuietServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.02))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/l0"

    @property
    def way(self) -> ToWebhook:
        return ToWebhook(url=self.url)

    def ids(self) -> list[str]:
        return [message["id"] for message in self.got]

    def say(self, request: BaseHTTPRequestHandler, status: int, text: str = "", **headers: str) -> None:
        """Answer; what is answered with 2xx was received."""
        if status < 300:
            self.got.append(request.message)
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(text.encode())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def hooked(port: int = 0) -> Iterator[Hook]:
    hook = Hook(port)
    try:
        yield hook
    finally:
        hook.close()
