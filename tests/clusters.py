"""A Dask cluster on the loopback: a scheduler and workers, all processes of their own, that may be stopped and killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from watching import PATIENCE, ROOT, wait_for

_HERE = ("--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")


class Cluster:
    """A scheduler, and as many workers as a test wants to have; ``place`` is where they keep what they keep."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._trouble = place / "trouble"
        self._trouble.mkdir()
        self._environment = {**os.environ, "CLUSTER_TROUBLE": str(self._trouble), "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
        told = place / "scheduler.json"
        self.scheduler = self._start("scheduler", "dask_scheduler", "--port", 0, "--scheduler-file", told)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._count = 0
        self.address = wait_for("the scheduler", lambda: told.exists() and json.loads(told.read_text() or "{}").get("address"))

    def have(self, count: int, *, around: Iterable[str] = ()) -> None:
        """See that there are so many workers, of two threads each."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) > count:
            self.kill(self.workers.pop())
        new = []
        for _ in range(count - len(self.workers)):
            self._count += 1
            new.append(f"worker{self._count}")
            place = self.place / new[-1]
            options = ("--nthreads", 2, "--local-directory", place, "--preload", ROOT / "tests" / "cluster_trouble.py")
            self.workers.append(self._start(new[-1], "dask_worker", self.address, "--no-nanny", *options, around=around))
        for name in new:
            wait_for(f"{name}", lambda name=name: b"Registered to:" in (self.place / f"{name}.log").read_bytes())

    def arrange(self, event: str, action: str, path: str) -> None:
        """Arrange for trouble, see `cluster_trouble`."""
        (self._trouble / f"{event}.{action}").write_text(path)

    def stopped(self) -> int:
        """Wait until a worker is stopped by what was arranged, and return its process."""
        told = self._trouble / "stopped"
        pid = int(wait_for("a worker that stops", lambda: told.exists() and told.read_text()))
        wait_for("it to stop", lambda: "T" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        assert pid in {worker.pid for worker in self.workers}
        return pid

    def calm(self) -> None:
        """Take back what was arranged, and let nobody be stopped."""
        shutil.rmtree(self._trouble)
        self._trouble.mkdir()
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill one of them, and what it began."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            self.kill(process)

    def _start(self, name: str, program: str, *words: object, around: Iterable[str] = ()) -> subprocess.Popen[bytes]:
        command = [*around, sys.executable, "-m", f"distributed.cli.{program}", *map(str, (*_HERE, *words))]
        with (self.place / f"{name}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=self._environment, cwd=self.place, start_new_session=True)
