"""Complete or not over NFS: no sub-FITS that another host still writes is settled before it is whole on the server."""

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from assembler.core.settling import Course, Look, Rules, decide, follow
from assembler.fits.blocks import BLOCK, scan
from assembler.fits.complete import look

SECOND = 10**9
SETTLING = 3 * SECOND
PAUSE = 1.0
LONG_PAUSE = 5.0
"""Longer than the settling time [s]."""


class Watcher:
    """Looks at a file through one mount, by the clock of the server, until it is settled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.verdicts: list[str] = []
        self._clock = path.with_name("clock")

    def now(self) -> int:
        """Return the instant that the server sets [ns]."""
        descriptor = os.open(self._clock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        try:
            os.utime(descriptor)
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)

    def wait(self) -> None:
        """Look until the file is settled."""
        rules, course = Rules(settling=SETTLING, stall=60 * SECOND), Course()
        while True:
            now = self.now()
            told = look(str(self.path))
            self.verdicts.append(told.verdict)
            course = follow(course, Look(instant=now, signature=told.signature, verdict=told.verdict))
            decision = decide(course, rules)
            if decision.state != "waiting":
                assert decision.state == "settled"
                return
            assert decision.next_look is not None
            time.sleep(max(0.05, (decision.next_look - now) / SECOND))


@pytest.fixture
def content(sub_fits, tmp_path) -> bytes:
    """Return the bytes of a sub-FITS of half a megabyte."""
    return sub_fits(tmp_path, rows=256, value=7).read_bytes()


def append(path: Path, content: bytes) -> None:
    """Write a file bit by bit; the host of the writer keeps its end back for longer than the settling time."""
    places = (0, BLOCK, 2 * BLOCK + 100, len(content) // 2)
    with path.open("wb", buffering=0) as file:
        for start, end in itertools.pairwise(places):
            file.write(content[start:end])
            os.fsync(file.fileno())
            time.sleep(PAUSE)
        file.write(content[places[-1] :])
        time.sleep(LONG_PAUSE)


def reserve(path: Path, content: bytes) -> None:
    """Reserve the space, wait for long, then write the headers, and then the pixels bit by bit."""
    with path.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, len(content))
        time.sleep(LONG_PAUSE)
        for start in range(0, len(content), len(content) // 3):
            file.write(content[start : start + len(content) // 3])
            os.fsync(file.fileno())
            time.sleep(PAUSE)


def replace(path: Path, content: bytes) -> None:
    """Write a part under the name, and give up; write it all under another name, and rename it into place."""
    path.write_bytes(content[: len(content) // 2])
    time.sleep(LONG_PAUSE)
    other = path.with_name("other")
    other.write_bytes(content)
    other.rename(path)


@pytest.mark.parametrize("write", [append, reserve, replace])
def test_a_sub_fits_that_another_host_writes_settles_only_when_all_of_it_is_there(mounts, content, write):
    watcher = Watcher(mounts.b / "sub.fits")
    assert look(str(watcher.path)).verdict == "absent"
    errors: list[BaseException] = []

    def work() -> None:
        try:
            write(mounts.a / "sub.fits", content)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    writer = threading.Thread(target=work)
    writer.start()
    while "sub.fits" not in os.listdir(mounts.b):
        time.sleep(0.05)
    watcher.wait()
    there = (mounts.export / "sub.fits").read_bytes(), (mounts.b / "sub.fits").read_bytes()
    writer.join()
    assert errors == []
    assert there == (content, content)
    assert {"growing", "preallocated"}.intersection(watcher.verdicts)
    assert watcher.verdicts[-3:] == ["complete"] * 3
    assert len(scan(str(watcher.path)).hdus) == 2
