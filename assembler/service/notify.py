"""What systemd is told: that the service is ready, alive, reloading or stopping, by datagrams to the socket that it names."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

from assembler.core.lines import as_line

_LONGEST_STATUS = 400


class Notifier:
    """Tells systemd, or whoever listens at an address; without one, nobody.

    Nothing here raises or waits: a listener that is gone or does not listen is not told.

    Parameters
    ----------
    address : str
        The path of a socket, ``@`` and its name when it is an abstract one, or empty.
    watchdog : float, optional
        Within which time `alive` has to be called again and again [s]; best at half of it.
    monotonic : callable
        Returns the instant of CLOCK_MONOTONIC [ns].

    Attributes
    ----------
    watchdog : float or None
    """

    def __init__(self, address: str = "", watchdog: float | None = None, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self.watchdog = watchdog
        self._monotonic = monotonic
        self._address = b""
        self._socket: socket.socket | None = None
        if address[:1] in ("/", "@"):
            with suppress(OSError, UnicodeError):  # a service that cannot tell is still a service
                self._address = os.fsencode("\0" + address[1:] if address[0] == "@" else address)
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int | None = None, monotonic: Callable[[], int] = time.monotonic_ns) -> Self:
        """Return the notifier that the environment of a service asks for.

        Parameters
        ----------
        environ : Mapping
            Of which ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` count.
        pid : int, optional
            Of the process that is meant; this one unless told.
        monotonic : callable
            As above.
        """
        process = str(os.getpid() if pid is None else pid)
        period = environ.get("WATCHDOG_USEC", "")
        meant = environ.get("WATCHDOG_PID", process) == process and period.isascii() and period.isdigit() and len(period) < 20
        return cls(environ.get("NOTIFY_SOCKET", ""), int(period) / 1e6 if meant and int(period) else None, monotonic)

    def ready(self) -> None:
        """Tell that the service has started, or has read its configuration again."""
        self._tell("READY=1")

    def alive(self) -> None:
        """Tell that the service is alive; nothing where nobody asked for it."""
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """Tell that the configuration is being read again; `ready` tells the end of it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic() // 1000}")

    def stopping(self) -> None:
        """Tell that the service is about to end."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """Tell in one line what the service is doing; whatever is in it, it is a status and nothing else."""
        self._tell(f"STATUS={as_line(text, _LONGEST_STATUS)}")

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket:
            self._socket.close()
        self._socket = None

    def _tell(self, message: str) -> None:
        if self._socket:
            with suppress(OSError, ValueError):
                self._socket.sendto(message.encode(), self._address)
