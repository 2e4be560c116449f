"""Threads that take turns at every call that touches a directory: any order of calls, and any kill, as a test says.

Python tells an audit hook of open, link, rename, unlink, mkdir and scandir before they are done. A thread of `Turns` waits there
until it has its turn, so that real code runs in a given order, without patching it.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EVENTS = frozenset({"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.scandir"})


class Killed(BaseException):
    """What stands for SIGKILL: neither this nor any later call is done."""


class _Player(threading.Thread):
    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.work, self.turn, self.arrived = work, threading.Semaphore(0), threading.Semaphore(0)
        self.killed = self.done = False
        self.error: BaseException | None = None

    def run(self) -> None:
        _here.player = self
        try:
            self.work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told to whoever plays
            self.error = error
        finally:
            _here.player = None
            self.done = True
            self.arrived.release()

    def wait(self) -> None:
        if not self.killed:
            self.arrived.release()
            self.turn.acquire()
        if self.killed:
            raise Killed


_here = threading.local()
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event not in EVENTS:
        return
    if player := getattr(_here, "player", None):
        player.wait()
    elif (wanted := getattr(_here, "wanted", None)) and wanted.is_now(event, arguments[0]):
        _here.wanted = None
        wanted.action(*arguments[:2])


@dataclass(kw_only=True)
class _Wanted:
    event: str
    action: Callable[..., object]
    path: str | None
    left: int

    def is_now(self, event: str, path: object) -> bool:
        if event != self.event or self.path not in (None, path if isinstance(path, int) else os.fspath(path)):
            return False
        self.left -= 1
        return self.left == 0


def _listen() -> None:
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)


@contextmanager
def done_before(event: str, action: Callable[..., object], *, path: Path | None = None, number: int = 1) -> Iterator[None]:
    """Do something with the arguments of a call right before it is made in this thread: the first of its kind, or a later one of a path."""
    _listen()
    _here.wanted = _Wanted(event=event, action=action, path=path and str(path), left=number)
    try:
        yield
        assert _here.wanted is None, f"there was no {event}"
    finally:
        _here.wanted = None


def take_turns(works: list[Callable[[], None]], choices: Iterator[int], kills: dict[int, int]) -> Iterator[None]:
    """Run works side by side, one call at a time; yield between the calls.

    Parameters
    ----------
    works : list of callable
    choices : iterator of int
        Who is next, modulo those who are left.
    kills : dict of int to int
        By work, the number of its call that it is killed at.
    """
    _listen()
    players = [_Player(work) for work in works]
    counts = [0] * len(players)
    for player in players:
        player.start()
        player.arrived.acquire()
    while left := [p for p in players if not p.done]:
        player = left[next(choices) % len(left)]
        number = players.index(player)
        counts[number] += 1
        player.killed = kills.get(number) == counts[number]
        player.turn.release()
        player.arrived.acquire()
        yield
    for player in players:
        player.join()
        if player.error:
            raise player.error
