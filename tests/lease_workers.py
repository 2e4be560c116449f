"""Processes that want a lease and tell when they have it, with clocks that may be off."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from assembler.service.lease import holder

TERM = 0.4
PATIENCE = 60

WORKER = """
import os, sys, time
directory, term, offset, mode = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
for name in ("time", "monotonic"):  # the local clock is off, and the lease must not care
    setattr(time, name, lambda told=getattr(time, name): told() + offset)
for name in ("time_ns", "monotonic_ns"):
    setattr(time, name, lambda told=getattr(time, name): told() + int(offset * 1e9))
from pathlib import Path
from assembler.service.claims import this_process
from assembler.service.lease import Lease

def say(what, number):
    print(what, number, flush=True)

identity = this_process("test", time.time_ns())
rounds = 0
while rounds < 10:
    lease = Lease.acquire(Path(directory), term, identity)
    if lease is None:
        time.sleep(0.005)
        continue
    say("held", lease.number)
    if mode == "race":
        witness = os.open(f"{directory}/witness", os.O_CREAT | os.O_EXCL)  # fails when two hold the lease
        time.sleep(0.003)
        assert lease.renew() and lease.is_mine()
        os.close(witness)
        os.unlink(f"{directory}/witness")
        lease.release()
        rounds += 1
    else:
        while True:
            number = lease.number
            if not lease.renew():
                break
            if lease.number != number:
                say("held", lease.number)
            time.sleep(term / 20)
        say("lost", number)
"""


class Workers:
    """Processes that want the lease of a directory, and what they said, which is kept in a place."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.processes: list[subprocess.Popen] = []

    def start(self, directory: Path, *, term: float = TERM, offset: float = 0.0, mode: str = "hold") -> subprocess.Popen:
        with (self.place / f"said-{len(self.processes)}").open("wb") as said:
            program = [sys.executable, "-c", WORKER, str(directory), str(term), str(offset), mode]
            self.processes.append(subprocess.Popen(program, stdout=said, stderr=subprocess.STDOUT))
        return self.processes[-1]

    def said(self, process: subprocess.Popen | None = None) -> list[str]:
        """Return the whole lines of one process, or of all."""
        places = [self.processes.index(process)] if process else range(len(self.processes))
        texts = [(self.place / f"said-{place}").read_text() for place in places]
        return [line for text in texts for line in text.rpartition("\n")[0].splitlines()]

    def holder(self, directory: Path) -> subprocess.Popen:
        """Return the process that a directory names."""
        until(lambda: holder(directory))
        pid = holder(directory).identity.pid
        return next(p for p in self.processes if p.pid == pid)

    def stop(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def until(state) -> None:
    deadline = time.monotonic() + PATIENCE
    while not state():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
