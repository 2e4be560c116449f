"""The watcher as a service: a thread that works, one that keeps the lease, and the main one, which waits for nobody but signals."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from assembler.errors import AssemblerError, ConfigurationError, OutputError
from assembler.service.health import Health, Verdict
from assembler.service.keeper import Keeper
from assembler.service.log import Log
from assembler.service.maker import Setup
from assembler.service.meters import Meters
from assembler.service.notify import Notifier
from assembler.service.waker import Waker
from assembler.service.watcher import Watcher

GRACE = 10.0
"""How long the exposure that is being made may take when a stop was asked for [s]."""

_SHORT_GRACE = 1.0
"""The same where it is blocked anyhow [s]."""

_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a service is made of; each is begun and stopped by `Service`, but for the watcher, which is opened when there is a lease."""

    keeper: Keeper
    waker: Waker
    notifier: Notifier
    health: Health
    meters: Meters
    log: Log


class Service:
    """Runs a watcher until it is told to stop.

    Parameters
    ----------
    opening : callable
        Opens the watcher, with its journal; is called in the working thread, once the lease is held. It is given what tells
        whether to make another L0.
    reading : callable
        Reads the YAML again.
    parts : Parts
    steady : callable
        Returns an instant [ns] by a clock that is never set.
    standby : bool
        Whether to wait where another watcher holds the lease.
    wake : threading.Event
        Is set when there may be something to do.
    """

    def __init__(
        self,
        opening: Callable[[Callable[[], bool]], Watcher],
        reading: Callable[[], Setup],
        parts: Parts,
        *,
        steady: Callable[[], int],
        standby: bool,
        wake: threading.Event,
    ) -> None:
        self._opening = opening
        self._reading = reading
        self._parts = parts
        self._steady = steady
        self._standby = standby
        self._wake = wake
        self._stop_asked = threading.Event()
        self._setup: Setup | None = None
        self._was_lost = False
        self._is_blocked = False
        self._worker = threading.Thread(target=self._work, name="watcher", daemon=True)

    def run(self) -> bool:
        """Run until SIGTERM or SIGINT, or until another watcher is found where none is to be waited for.

        Returns
        -------
        bool
            Whether the thread that works came to its end; otherwise it is blocked, and the process is to end without it.

        Raises
        ------
        OutputError
            When another watcher has the lease, and is not to be waited for.
        """
        parts = self._parts
        with _blocked():
            parts.keeper.start()
            self._worker.start()
            parts.notifier.ready()
            try:
                self._listen()
            finally:
                is_done = self._end()
        return is_done

    def _listen(self) -> None:
        """Wait for signals, and meanwhile tell systemd that all is well, as long as it is."""
        parts = self._parts
        pause = _PAUSE if parts.notifier.watchdog is None else min(_PAUSE, parts.notifier.watchdog / 3)
        while True:
            # Where the process was paused or traced meanwhile, Python may return what is no signal at all.
            got = signal.sigtimedwait(_SIGNALS, pause)
            number = got.si_signo if got else 0
            if number in (signal.SIGTERM, signal.SIGINT):
                return
            if number == signal.SIGHUP:
                self._reload()
            if self._worker.is_alive():  # one that waits for a file server is alive: beginning anew would not bring that back
                parts.notifier.alive()
            verdict = parts.health.verdict()
            parts.notifier.status(_status(verdict))
            self._tell(verdict)
            if parts.keeper.second.is_set() and not parts.keeper.held and not self._standby:
                told = f"another watcher holds the lease of this directory: {parts.keeper.holder}"
                raise OutputError(f"{told}; stop that one, or wait for it with --standby", retry=False)

    def _tell(self, verdict: Verdict) -> None:
        """Log that the working thread is blocked, since it cannot say so itself, and that it goes on."""
        if verdict.is_alive and self._is_blocked:
            self._parts.log.info("watcher_goes_on")
        elif not verdict.is_alive and not self._is_blocked:
            self._parts.log.error("watcher_blocked", reason=verdict.body["parts"]["round"]["text"])
        self._is_blocked = not verdict.is_alive

    def _end(self) -> bool:
        parts = self._parts
        parts.notifier.stopping()
        parts.log.info("stopping")
        self._stop_asked.set()
        self._wake.set()
        self._worker.join(GRACE if parts.health.verdict().is_alive else _SHORT_GRACE)
        is_done = not self._worker.is_alive()
        parts.keeper.stop(2.0 if is_done else 0.0)
        parts.waker.stop()
        parts.log.info("stopped", finished=is_done)
        return is_done

    def _reload(self) -> None:
        self._parts.notifier.reloading()
        try:
            self._setup = self._reading()
        except ConfigurationError as error:
            self._parts.log.error("configuration_refused", reason=str(error))  # noqa: TRY400 - it is no bug
        else:
            self._wake.set()
        self._parts.notifier.ready()

    def _may_go_on(self) -> bool:
        return not self._stop_asked.is_set() and self._parts.keeper.held and self._parts.keeper.is_in_place()

    def _work(self) -> None:
        """Go round until the stop; nothing that happens here ends it before."""
        watcher: Watcher | None = None
        pause = _PAUSE
        while not self._stop_asked.is_set():
            try:
                watcher, wait = self._step(watcher)
                pause = _PAUSE
            except AssemblerError as error:
                self._parts.log.error("watcher_cannot_go_on", reason=str(error), again_in=pause)  # noqa: TRY400 - it is no bug
                wait, pause = pause, min(2 * pause, _LONGEST_PAUSE)
            except Exception as error:
                self._parts.log.exception("bug", exc_info=error)
                self._parts.meters.failed(error)
                if watcher:
                    self._setup = self._setup or watcher.setup  # the next step takes it, and begins anew
                wait, pause = pause, min(2 * pause, _LONGEST_PAUSE)
            self._parts.health.beat()
            self._wake.wait(wait)
            self._wake.clear()
        if watcher:
            watcher.close()

    def _step(self, watcher: Watcher | None) -> tuple[Watcher | None, float]:
        """Go round once; return how long to wait [s]."""
        parts = self._parts
        held = parts.keeper.held
        parts.meters.up("lease", held)
        if not held:
            self._was_lost = True
            parts.health.degraded("lease", parts.keeper.trouble)
            return watcher, _PAUSE
        parts.health.ok("lease")
        if watcher is None:
            watcher = self._opening(self._may_go_on)
            parts.log.info("watching")
        elif self._was_lost:
            watcher.resume()
        self._was_lost = False
        setup, self._setup = self._setup, None
        if setup:
            watcher.take(setup)
            parts.log.info("configuration_taken")
        if parts.waker.overflowed():
            parts.log.warning("events_lost")
        until = watcher.round(sorted(parts.waker.closed()))
        parts.waker.watch(watcher.scanner.directories())
        parts.meters.round_ended()
        return watcher, max(0.0, (until - self._steady()) / 1e9)


def _status(verdict: Verdict) -> str:
    """Say in a few words how the watcher is."""
    wrong = [f"{part}: {told['text']}" for part, told in verdict.body["parts"].items() if told["state"] == "degraded"]
    return "; ".join([str(verdict.body["status"]), *wrong])


@contextmanager
def _blocked() -> Iterator[None]:
    """Keep signals for whoever waits for them; threads that are begun meanwhile get none."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
