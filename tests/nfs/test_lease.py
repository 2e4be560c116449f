"""The lease over NFS: of watchers on two hosts one holds it, by the clock of the server; of those who take over, one does."""

import os
import signal

import pytest
from lease_workers import Workers, until

from assembler.service.claims import name_of, this_process
from assembler.service.lease import Lease, holder

TERM = 1.0
LONG = 600.0
DAY = 86400.0


@pytest.fixture
def workers(tmp_path):
    found = Workers(tmp_path)
    yield found
    found.stop()


def test_of_watchers_on_two_hosts_one_holds_and_the_other_is_told_whom(mounts):
    mine = Lease.acquire(mounts.a, LONG, this_process("test", 0))
    assert Lease.acquire(mounts.b, LONG, this_process("test", 0)) is None
    assert (str(holder(mounts.b)), mine.renew(), mine.is_mine()) == (f"process {os.getpid()} on rig (lease 1)", True, True)
    mine.release()
    other = Lease.acquire(mounts.b, LONG, this_process("test", 0))
    assert (other.number, other.is_mine(), mine.is_mine()) == (2, True, False)
    assert mounts.names() == [name_of(2)]


def test_a_lease_expires_by_the_clock_of_the_server_though_the_host_that_renewed_it_knows_it_as_fresh(mounts):
    first = Lease.acquire(mounts.a, LONG, this_process("test", 0))
    path = mounts.export / name_of(1)
    then = path.stat().st_mtime - LONG - 1
    os.utime(path, (then, then))
    second = Lease.acquire(mounts.b, LONG, this_process("test", 0))
    assert (second.number, second.is_mine(), first.is_mine(), first.renew()) == (2, True, False, False)


def test_of_processes_that_race_on_two_hosts_one_holds_at_a_time_whatever_their_clocks_say(mounts, workers):
    """Each makes a file that must not be there while it holds the lease, ten times."""
    sides = ((mounts.a, 0.0), (mounts.b, -DAY), (mounts.a, 3.0), (mounts.b, DAY))
    racers = [workers.start(side, term=LONG, offset=offset, mode="race") for side, offset in sides]
    assert [racer.wait(120) for racer in racers] == [0] * len(sides), workers.said()
    held = [int(line.split()[1]) for line in workers.said()]
    assert sorted(held) == list(range(1, 10 * len(sides) + 1))
    assert mounts.names() == [name_of(10 * len(sides))]


def test_of_a_holder_that_is_stopped_exactly_one_of_several_takes_over_and_of_one_that_is_killed_the_next(mounts, workers):
    first = workers.start(mounts.a, term=TERM)
    until(lambda: workers.said(first))
    others = [workers.start(side, term=TERM, offset=offset) for side, offset in ((mounts.a, DAY), (mounts.b, -DAY), (mounts.b, 0.0))]
    first.send_signal(signal.SIGSTOP)
    until(lambda: any(workers.said(other) for other in others))
    first.send_signal(signal.SIGCONT)
    until(lambda: any(line.startswith("lost") for line in workers.said(first)))
    second = workers.holder(mounts.b)
    second.kill()
    second.wait()
    until(lambda: workers.holder(mounts.b) is not second)
    held = [line for line in workers.said() if line.startswith("held")]
    assert len(held) == len(set(held))
