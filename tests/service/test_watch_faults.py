"""Real faults around a watcher that runs: each has a clear event, and is over without a restart when its cause is gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from watching import Mounts, Watched


@pytest.fixture
def watched(tmp_path) -> Iterator[Watched]:
    """Return a watcher that sees the mounts that everybody sees."""
    made = Watched(tmp_path)
    yield made
    made.close()


@pytest.fixture
def mounted(tmp_path) -> Iterator[Watched]:
    """Return a watcher with a mount table of its own."""
    made = Watched(tmp_path, mounts=Mounts())
    yield made
    made.close()


def fill(directory: Path) -> Path:
    """Fill a disk to its last byte, and return the file that does."""
    path = directory / "filling"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return path


def test_output_that_is_full_goes_on_when_there_is_room(mounted):
    first, second = mounted.frames
    mounted.mounts.disk(mounted.out, "2m")
    mounted.begin()
    mounted.deliver(first)
    mounted.wait("published", version=1)
    filling = fill(mounted.inside(mounted.out))
    mounted.deliver(second)
    failed = mounted.wait("failed", frame=second)
    assert failed["reason"] == f"{mounted.out}: the L0 cannot be written: No space left on device"
    mounted.wait_health("output", "degraded")
    assert set(mounted.l0s()) == {first}
    filling.unlink()
    mounted.wait("published", version=1)
    mounted.wait_health("output", "ok")
    mounted.end()
    assert mounted.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}
