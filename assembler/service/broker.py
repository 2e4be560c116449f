"""The way to a message broker, through kombu: RabbitMQ, which confirms what it has on its disk, or Redis."""

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from assembler.core.announcements import Secret, ToBroker, redacted
from assembler.core.lines import as_line
from assembler.errors import ConfigurationError, DeliveryError

if TYPE_CHECKING:
    from kombu import Connection

_IDLE = 30.0
"""How long a connection is used again [s]; firewalls forget those on which nothing happens."""

_LONGEST_TOLD = 300


class Broker:
    """Sends messages that outlast the broker's restart.

    Parameters
    ----------
    way : ToBroker
    timeout : float
        How long the broker may take to connect, and to confirm [s].
    reading : callable
        Reads a secret.

    Raises
    ------
    ConfigurationError
        When the extra is not installed.
    """

    def __init__(
        self, way: ToBroker, timeout: float, reading: Callable[[Secret], str], steady: Callable[[], float] = time.monotonic
    ) -> None:
        for module in ("kombu", *(["redis"] if way.url.startswith("redis") else [])):
            try:
                import_module(module)
            except ImportError as error:
                raise ConfigurationError(f"announcing to {way.shown} needs {module} ({error}); install l0-assembler[broker]") from error
        self._way = way
        self._timeout = timeout
        self._reading = reading
        self._steady = steady
        self._used = 0.0
        self._connection: Connection | None = None
        self._returned: list[str] = []
        self._password = ""

    def send(self, message: str, identity: str) -> None:
        """Send a message, and wait until the broker says that it has it."""
        try:
            if self._connection is not None and self._steady() - self._used > _IDLE:
                self.close()
            self._publish(message, identity)
            self._used = self._steady()
        except DeliveryError:
            self.close()
            raise
        except Exception as error:  # noqa: BLE001 - when a connection is lost, libraries of brokers raise whatever comes
            self.close()
            password = urlsplit(self._way.url).password or ""
            secrets = [self._password, password, unquote(password)]
            told = redacted(f"{type(error).__name__}: {error}", secrets)
            raise DeliveryError(as_line(f"{self._way.shown}: {told}", _LONGEST_TOLD)) from None

    def stop(self) -> None:
        """Do nothing: what is being sent is bounded by the timeout."""

    def _publish(self, message: str, identity: str) -> None:
        from kombu import Queue

        self._post(message, identity)
        if self._returned and self._way.queue and self._connection is not None:
            Queue(self._way.queue, durable=True)(self._connection.default_channel).declare()
            self._post(message, identity)
        if self._returned:
            raise DeliveryError(f"{self._way.shown}: no queue takes it: {self._returned[0]}; bind one to the exchange")

    def _post(self, message: str, identity: str) -> None:
        """Publish once; a message that no queue takes is among those that were returned afterwards."""
        self._returned.clear()
        connection = self._connected()
        is_amqp = self._way.url.startswith("amqp")  # nobody else tells of messages that no queue takes
        producer = connection.Producer(on_return=self._was_returned if is_amqp else None, auto_declare=False)
        producer.publish(
            message,
            exchange=self._way.exchange,
            routing_key=self._way.queue or self._way.routing_key,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode="persistent",
            mandatory=is_amqp,
            message_id=identity,
            timeout=self._timeout,
            confirm_timeout=self._timeout,
        )

    def _was_returned(self, _exception: object, exchange: str, routing_key: str, _message: object) -> None:
        self._returned.append(f"exchange {exchange!a}, routing key {routing_key!a}")

    def _connected(self) -> "Connection":
        if self._connection is not None:
            return self._connection
        from kombu import Connection

        url = self._way.url
        options: dict[str, Any] = {"socket_timeout": self._timeout, "socket_connect_timeout": self._timeout}
        verified: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        if url.startswith("amqp"):
            options = {"confirm_publish": True, "read_timeout": self._timeout, "write_timeout": self._timeout}
            verified = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": urlsplit(url).hostname}
        is_safe = url.startswith(("amqps", "rediss"))
        connection = Connection(url, connect_timeout=self._timeout, transport_options=options, ssl=verified if is_safe else False)
        if self._way.password is not None:
            self._password = connection.password = self._reading(self._way.password)
        self._connection = connection
        connection.connect()
        return connection

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.collect(socket_timeout=1.0)
