"""One question to a server over HTTP: asked once, followed nowhere, its answer read line by line and not trusted."""

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from threading import Lock

from assembler.errors import ConfigurationError, TelemetryError

LONGEST_LINE = 2**20
"""Bytes of a line that is still believed; no telemetry value comes near."""

_PIECE = 2**16
_TOLD = 200


class Server:
    """A server that answers questions, one at a time, each over a connection of its own.

    Parameters
    ----------
    name : str
        What messages call it; without secrets.
    host, port : str, int
        Where it is.
    tls : bool
        True to speak to it encrypted, and only when its certificate is good.
    scheme : str
        What goes before the token in the header Authorization.
    token : str
        The secret that lets us read, or the empty string.
    timeout : float
        How long to wait for the connection, and then for each piece of the answer [s].

    Raises
    ------
    ConfigurationError
        When the token cannot be sent in a header.
    """

    def __init__(self, name: str, host: str, port: int, *, tls: bool, scheme: str, token: str, timeout: float) -> None:
        token = token.strip()
        if not (token.isascii() and token.isprintable()):
            raise ConfigurationError(f"{name}: INFLUX_TOKEN has characters that are in no token")
        self.name = name
        self._host, self._port, self._tls, self._timeout = host, port, tls, timeout
        self._token = token
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        if token:
            self._headers["Authorization"] = f"{scheme} {token}"
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._interrupted = False

    def begin(self) -> None:
        """Begin a question, which may take several calls; an interruption of the one before is over."""
        with self._lock:
            self._interrupted = False

    def interrupt(self) -> None:
        """End the question that is under way in another thread, even when the server says nothing, or ever more."""
        with self._lock:
            self._interrupted = True
            if self._socket is not None:
                with suppress(OSError):
                    # Not the method of an encrypted socket, which would take its cipher away from under the reader.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextmanager
    def ask(self, path: str, question: Mapping[str, object], content: str) -> Iterator[Iterator[str]]:
        """Post a question as JSON, and give the lines of the answer, each with its end, as they come in.

        Parameters
        ----------
        path : str
            Of the call, with its query.
        question : mapping
            What is asked.
        content : str
            What the type of the answer's content has to contain.

        Raises
        ------
        TelemetryError
            While asking or while reading; worth a retry when the server was away, or is too busy.
        """
        connection = HTTPConnection(self._host, self._port)
        try:
            connection.sock = self._connect()
            connection.request("POST", path, json.dumps(question).encode(), self._headers)
            with closing(connection.getresponse()) as response:
                self._check(response, content)
                yield self._lines(response)
        except (OSError, HTTPException, UnicodeError, TelemetryError) as error:
            if self._interrupted:
                raise TelemetryError(f"{self.name}: the question was interrupted", retry=True) from error
            if isinstance(error, TelemetryError):
                raise
            raise self._failure(error) from error
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def error(self, message: str, *, retry: bool = False) -> TelemetryError:
        """Return an error that names the server; what it told is cut, and the token taken out."""
        told = message.replace(self._token, "***") if self._token else message
        told = " ".join("".join(c if c.isprintable() else " " for c in told).split())
        return TelemetryError(f"{self.name}: {told[:_TOLD]}", retry=retry)

    def _connect(self) -> socket.socket:
        failure = OSError("has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            opened = socket.socket(family, kind, protocol)
            try:
                opened.settimeout(self._timeout)
                self._watch(opened)
                opened.connect(address)
                if self._tls:
                    context = ssl.create_default_context()
                    # The handshake comes after, so that it can be interrupted too.
                    encrypted = context.wrap_socket(opened, server_hostname=self._host, do_handshake_on_connect=False)
                    opened = encrypted
                    self._watch(encrypted)
                    encrypted.do_handshake()
            except OSError as error:
                opened.close()
                failure = error
            except BaseException:
                opened.close()
                raise
            else:
                return opened
        raise failure

    def _watch(self, opened: socket.socket) -> None:
        """Remember the socket for whoever interrupts; who did so already is heard here."""
        with self._lock:
            if self._interrupted:
                raise TelemetryError(f"{self.name}: the question was interrupted", retry=True)
            self._socket = opened

    def _failure(self, error: OSError | HTTPException | UnicodeError) -> TelemetryError:
        match error:
            case ssl.SSLCertVerificationError():
                told, retry = f"its certificate is not accepted: {error.verify_message}", False
            case ssl.SSLError():
                told, retry = f"no encrypted connection is possible: {error.reason or error}", False
            case TimeoutError():
                told, retry = f"no answer for {self._timeout:g} s", True
            case socket.gaierror():
                told, retry = f"the host is not known: {error.strerror}", error.errno != socket.EAI_NONAME
            case IncompleteRead() | RemoteDisconnected():
                told, retry = "the connection was closed before the answer was complete", True
            case OSError():
                told, retry = f"cannot be reached: {error.strerror or error}", True
            case HTTPException():
                told, retry = f"does not answer as a web server does: {type(error).__name__}", False
            case _:
                told, retry = f"the host has no valid name: {error}", False
        return self.error(told, retry=retry)

    def _check(self, response: HTTPResponse, content: str) -> None:
        """Refuse what is no answer to the question."""
        kind, coding = response.getheader("Content-Type", ""), response.getheader("Content-Encoding", "identity")
        if response.status == 200:
            if content not in kind.lower():
                raise self.error(f"answers with {kind or 'no content type'}, not with {content}; is it that server?")
            if coding.lower() != "identity":
                raise self.error(f"answers with the encoding {coding}, which was not asked for")
            return
        if 300 <= response.status < 400:
            # A token must not travel to where the answer points.
            raise self.error(f"points elsewhere, to {response.getheader('Location', 'nowhere')}; name that server instead")
        told = f"{response.status} {response.reason}: {self._reason(response)}"
        match response.status:
            case 401:
                hint = "the token of INFLUX_TOKEN is not accepted" if self._token else "set INFLUX_TOKEN"
            case 403:
                hint = "the token of INFLUX_TOKEN may not read this" if self._token else "set INFLUX_TOKEN"
            case 404:
                hint = "is the name right, and may INFLUX_TOKEN read it?"
            case _:
                hint = ""
        raise self.error(f"{hint}; {told}" if hint else told, retry=response.status == 429 or response.status >= 500)

    def _reason(self, response: HTTPResponse) -> str:
        """Return what an error's answer says; servers say it in JSON, and whoever stands before them in anything."""
        try:
            text = response.read(_PIECE).decode(errors="replace")
        except (OSError, HTTPException):
            return "and says no more"
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return str(told.get("message") or told.get("error") or text) if isinstance(told, dict) else text

    def _lines(self, response: HTTPResponse) -> Iterator[str]:
        rest = b""
        for piece in self._pieces(response):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield self._text(line) + "\n"
            if len(rest) > LONGEST_LINE:
                raise self.error(f"the answer has a line of more than {LONGEST_LINE} bytes")
        if rest:
            raise self.error("the answer ends in the middle of a line")

    def _text(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise self.error("the answer is no text in UTF-8") from None

    def _pieces(self, response: HTTPResponse) -> Iterator[bytes]:
        if response.chunked:
            while piece := response.read1(_PIECE):
                yield piece
            return
        left = response.length
        if left is None:
            raise self.error("the answer does not say where it ends, so that nobody knows whether it is complete")
        while left:
            piece = response.read1(min(left, _PIECE))
            if not piece:
                raise IncompleteRead(b"", left)
            left -= len(piece)
            yield piece
