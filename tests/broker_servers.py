"""Real message brokers on the loopback, to be stopped hard and started again: RabbitMQ and Redis, where they are installed."""

import os
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from watching import wait_for

_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""What Debian's /usr/sbin/rabbitmq-server runs as another user."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Server(ABC):
    """A server as a process group of its own, with a directory of its own."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.work.mkdir()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program that is run."""

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.work)}

    def is_ready(self) -> bool:
        return answers(self.port)

    def start(self) -> None:
        with (self.work / "told").open("ab") as told:
            self._process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                cwd=self.work,
                stdout=told,
                stderr=told,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

        def is_ready() -> bool:
            assert self._process.poll() is None, (self.work / "told").read_text()
            return self.is_ready()

        wait_for(f"{type(self).__name__}: {self.work / 'told'}", is_ready)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


class RabbitMQ(Server):
    """With an epmd of its own, so that nothing of the host's is touched."""

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._distribution, self._epmd_port = free_port(), free_port()
        self._epmd = subprocess.Popen(["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"], stdin=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        return f"amqp://127.0.0.1:{self.port}//"

    def command(self) -> list[str]:
        return [str(_RABBITMQ)]

    def environment(self) -> dict[str, str]:
        nowhere = str(self.work / "nowhere")
        return super().environment() | {
            "RABBITMQ_MNESIA_BASE": str(self.work / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.work / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_NODENAME": "test@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_ENABLED_PLUGINS_FILE": nowhere,
            "RABBITMQ_CONFIG_FILE": nowhere,
            "RABBITMQ_CONF_ENV_FILE": nowhere,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
        }

    def is_ready(self) -> bool:
        return answers(self.port) and "Server startup complete" in (self.work / "told").read_text().rpartition("Starting RabbitMQ")[2]

    def close(self) -> None:
        self.stop()
        self._epmd.terminate()
        self._epmd.wait()


class Redis(Server):
    """One that has each write on its disk before it answers."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        told = {"bind": "127.0.0.1", "port": self.port, "dir": self.work, "appendonly": "yes", "appendfsync": "always", "save": ""}
        return ["redis-server", *(word for name, value in told.items() for word in (f"--{name}", str(value)))]

    def close(self) -> None:
        self.stop()


@contextmanager
def running(kind: type[RabbitMQ | Redis], work: Path) -> Iterator[RabbitMQ | Redis]:
    """Lend a broker of a kind; a test that needs one that is not installed is skipped."""
    if kind is RabbitMQ and not (_RABBITMQ.exists() and shutil.which("epmd")):
        pytest.skip("RabbitMQ is not installed")
    if kind is Redis and not shutil.which("redis-server"):
        pytest.skip("Redis is not installed")
    server = kind(work)
    try:
        server.start()
        yield server
    finally:
        server.close()
