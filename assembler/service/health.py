"""Whether the watcher is well, told by itself: from memory only, so that it can be told while the working thread is blocked."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, get_args

from assembler.core.instants import format_iso
from assembler.core.lines import as_line

Part = Literal["round", "lease", "history", "journal", "input", "output"]
PARTS: tuple[Part, ...] = get_args(Part)

_LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the watcher is.

    Attributes
    ----------
    is_alive : bool
        False when the working thread is stuck; what is merely degraded goes on, and mends itself when its cause is gone.
    body : Mapping
        ``status`` (ok, degraded, unhealthy), ``round_age`` [s], ``limit`` [s], and ``parts``, each with ``state``, ``text`` and
        ``since``.
    """

    is_alive: bool
    body: Mapping[str, Any]

    def as_json(self) -> bytes:
        """Return the body as one line of JSON."""
        return json.dumps(self.body).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    state: Literal["unknown", "ok", "degraded"]
    text: str
    since: int


class Health:
    """What is known of each part of the watcher; any thread may call, and none waits.

    Parameters
    ----------
    limit : float
        After how long without the end of a round the watcher is stuck [s].
    clock : callable
        Returns seconds of a clock that never goes back.
    wall : callable
        Returns the instant [ns since 1970], for people.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic, wall: Callable[[], int] = time.time_ns) -> None:
        self._limit = limit
        self._clock = clock
        self._wall = wall
        self._lock = Lock()
        self._beat = clock()
        self._parts: dict[Part, _Told] = dict.fromkeys(PARTS, _Told(state="unknown", text="not looked at yet", since=wall()))

    def beat(self) -> None:
        """Tell that a round has ended, whatever came of it; the working thread calls this."""
        with self._lock:
            self._beat = self._clock()
        if self._parts["round"].state == "unknown":
            self.ok("round")

    def ok(self, part: Part, text: str = "") -> None:
        """Tell that a part is as it should be."""
        self._tell(part, "ok", text)

    def degraded(self, part: Part, text: str) -> None:
        """Tell that a part is not as it should be, and why; the rest goes on without it."""
        self._tell(part, "degraded", text)

    def verdict(self) -> Verdict:
        """Return how the watcher is now."""
        with self._lock:
            parts, age = dict(self._parts), max(0.0, self._clock() - self._beat)
        is_stuck = age > self._limit
        if is_stuck:
            since = self._wall() - round(age * 1e9)
            text = f"no round ended for {age:.0f} s: something blocks, such as a file server that is away"
            parts["round"] = _Told(state="degraded", text=text, since=since)
        is_degraded = any(told.state == "degraded" for told in parts.values())
        told_parts = {
            part: {"state": told.state, "text": told.text, "since": f"{format_iso(told.since // 10**6 * 10**6, 3)}Z"}
            for part, told in parts.items()
        }
        status = "unhealthy" if is_stuck else "degraded" if is_degraded else "ok"
        return Verdict(
            is_alive=not is_stuck, body={"status": status, "round_age": round(age, 3), "limit": self._limit, "parts": told_parts}
        )

    def _tell(self, part: Part, state: Literal["ok", "degraded"], text: str) -> None:
        line, now = as_line(text, _LONGEST_TEXT), self._wall()
        with self._lock:
            before = self._parts[part]
            self._parts[part] = _Told(state=state, text=line, since=before.since if before.state == state else now)
