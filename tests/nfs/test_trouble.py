"""A server that goes away and a disk that is full: nothing is lost, nothing half done, and it goes on when they are well again."""

import os
import threading
import time

import pytest
from turns import done_before

from assembler.errors import OutputError
from assembler.service.claims import this_process
from assembler.service.finder import find_given
from assembler.service.lease import Lease
from assembler.service.reader import verify_l0

AWAY = 3.0
"""How long the server is away [s]."""
ROWS = 4096
"""Of a sub-FITS of 8 MB."""


@pytest.fixture
def found(one, sub_fits, tmp_path):
    return find_given(one, [str(sub_fits(tmp_path, rows=ROWS, value=3))])


def test_a_full_disk_is_an_error_that_a_retry_helps_with_and_nothing_is_left(found, make, mounts, full):
    full.fill(leave=1 << 20)
    for _ in range(2):
        with pytest.raises(OutputError, match=r"No space left on device") as told:
            make(found, out=mounts.b / "out")
        assert told.value.retry
        assert mounts.names() == ["out"]
        assert os.listdir(mounts.export / "out") == []
    full.make_room()
    made = make(found, out=mounts.b / "out")
    verify_l0(mounts.a / "out" / made.path.name)
    assert os.listdir(mounts.export / "out") == [made.path.name]


def test_a_disk_without_any_room_is_an_error_that_a_retry_helps_with_and_nothing_is_left(found, make, mounts, full):
    (mounts.export / "out").mkdir()
    full.fill()
    for attempt in (lambda: make(found, out=mounts.b / "out"), lambda: Lease.acquire(mounts.b, 600, this_process("test", 0))):
        with pytest.raises(OutputError, match=r"No space left on device") as told:
            attempt()
        assert told.value.retry
    assert (mounts.names(), os.listdir(mounts.export / "out")) == (["out"], [])
    full.make_room()
    assert Lease.acquire(mounts.b, 600, this_process("test", 0))
    verify_l0(make(found, out=mounts.b / "out").path)


@pytest.mark.parametrize(
    ("event", "number"), [("os.scandir", 1), ("open", 1), ("os.link", 1), ("os.remove", 1)], ids=["first", "written", "published", "tidied"]
)
def test_an_assembly_waits_for_a_server_that_goes_away_at_any_step_and_finishes_when_it_is_back(found, make, mounts, server, event, number):
    """The server stops right before a call, and comes back by itself a little later."""
    (mounts.export / "out").mkdir()

    def stop(*_) -> None:
        server.stop()
        threading.Timer(AWAY, server.start).start()

    with done_before(event, stop, number=number):
        made = make(found, out=mounts.b / "out")
    assert server.runs
    verify_l0(mounts.a / "out" / made.path.name)
    assert os.listdir(mounts.export / "out") == [made.path.name]


def test_an_assembly_whose_server_goes_away_while_it_writes_finishes_when_it_is_back(found, make, mounts, server):
    (mounts.export / "out").mkdir()
    made = []
    thread = threading.Thread(target=lambda: made.append(make(found, out=mounts.b / "out")))
    thread.start()
    while not any(path.stat().st_size for path in (mounts.export / "out").iterdir()):
        time.sleep(0.001)
    server.stop()
    time.sleep(AWAY)
    server.start()
    thread.join()
    verify_l0(mounts.a / "out" / made[0].path.name)
    assert os.listdir(mounts.export / "out") == [made[0].path.name]
