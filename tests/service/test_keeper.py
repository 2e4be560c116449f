"""The keeper: it has the lease, or says why not; whoever lost it knows at once."""

import itertools
import os
import shutil
import threading
from pathlib import Path

import pytest
from recording import Recording

from assembler.service.claims import Identity, name_of
from assembler.service.keeper import Keeper
from assembler.service.lease import Lease, holder

TERM = 600.0
OTHER = Identity(host="elsewhere", pid=7, token="another", started=0, version="test")


class Times:
    """A clock that a test sets [s]."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Times:
    return Times()


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def log() -> Recording:
    return Recording()


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "deep" / "out"


@pytest.fixture
def keeper(out, log, clock, woken) -> Keeper:
    count = itertools.count()

    def identity() -> Identity:
        return Identity(host="here", pid=1, token=f"token {next(count)}", started=0, version="test")

    return Keeper(out, identity, log, lambda: woken.append("woken"), term=TERM, clock=clock)


def outdate(out: Path) -> None:
    """Make the claim that holds so old that it has expired."""
    os.utime(out / name_of(holder(out).number), (1, 1))


def test_it_makes_the_directory_takes_the_lease_and_tells_once(keeper, out, log, woken):
    assert not keeper.held
    for _ in range(3):
        keeper.attempt()
        assert keeper.held
    assert keeper.is_in_place()
    assert holder(out).identity.host == "here"
    assert (keeper.trouble, woken, log.events()) == ("", ["woken"], ["lease_taken"])


def test_a_lease_that_was_not_renewed_for_a_term_is_not_held(keeper, clock):
    keeper.attempt()
    clock.now += TERM - 1
    assert keeper.held
    clock.now += 2
    assert not keeper.held
    keeper.attempt()
    assert keeper.held


def test_where_another_one_has_it_it_says_who_and_takes_it_when_that_one_lets_go(keeper, out, log, woken):
    out.mkdir(parents=True)
    other = Lease.acquire(out, TERM, OTHER)
    for _ in range(3):
        keeper.attempt()
        assert not keeper.held
    assert keeper.second.is_set()
    assert keeper.holder == keeper.trouble == "process 7 on elsewhere (lease 1)"
    assert (woken, log.events()) == ([], ["lease_held_by_another"])
    other.release()
    keeper.attempt()
    assert keeper.held
    assert log.events() == ["lease_held_by_another", "lease_taken"]


def test_one_that_lost_it_to_another_knows_at_once(keeper, out, log, woken):
    keeper.attempt()
    outdate(out)
    assert Lease.acquire(out, TERM, OTHER)
    keeper.attempt()
    assert not keeper.held
    assert log.events() == ["lease_taken", "lease_lost", "lease_held_by_another"]
    assert woken == ["woken"] * 2


def test_one_that_came_late_though_nobody_asked_goes_on(keeper, out, log):
    keeper.attempt()
    outdate(out)
    keeper.attempt()
    assert keeper.held
    assert log.events() == ["lease_taken"]


def test_a_directory_that_is_removed_is_made_again_with_a_lease(keeper, out, log):
    keeper.attempt()
    shutil.rmtree(out)
    assert not keeper.is_in_place()
    keeper.attempt()
    assert keeper.held
    assert keeper.is_in_place()
    assert holder(out).number == 1
    assert log.events() == ["lease_taken", "lease_lost", "lease_taken"]


def test_where_the_lease_is_lost_and_cannot_be_had_again_it_is_not_held_meanwhile(keeper, out, log):
    keeper.attempt()
    (out / name_of(1)).unlink()
    (out / name_of(2)).mkdir()
    for _ in range(2):
        keeper.attempt()
        assert not keeper.held
    assert log.events() == ["lease_taken", "lease_lost", "lease_failed"]
    (out / name_of(2)).rmdir()
    keeper.attempt()
    assert keeper.held
    assert log.events()[-1] == "lease_taken"


def test_a_lease_that_cannot_be_asked_for_is_told_once(keeper, out, log):
    out.parent.mkdir()
    out.write_text("a file in its place")
    for _ in range(3):
        keeper.attempt()
        assert not keeper.held
    assert str(out) in keeper.trouble
    assert log.events() == ["lease_failed"]


def test_a_directory_of_which_the_disk_is_gone_gets_no_lease_until_that_is_back(keeper, out, log):
    """A link stands for the mount point, so that what is below the disk may be below the same name."""
    disk, below = Path("/dev/shm"), out.parents[1] / "below"
    below.mkdir()
    if not disk.is_dir() or len({path.stat().st_dev for path in (below, Path("/"))}) > 1 or below.stat().st_dev == disk.stat().st_dev:
        pytest.skip("there is no second file system on that of the tests")
    mounted = disk / f"mounted-{os.getpid()}"
    mounted.mkdir()
    out.parent.mkdir()
    out.symlink_to(mounted)
    try:
        keeper.attempt()
        out.unlink()
        out.symlink_to(below)
        assert not keeper.is_in_place()
        for _ in range(2):
            keeper.attempt()
            assert not keeper.held
        assert os.listdir(below) == []
        assert log.events() == ["lease_taken", "output_is_elsewhere"]
        out.unlink()
        out.symlink_to(mounted)
        keeper.attempt()
        assert keeper.held  # the claim was kept
        assert keeper.is_in_place()
    finally:
        shutil.rmtree(mounted)


def test_a_directory_on_which_a_disk_is_mounted_by_now_gets_a_lease_there(keeper, out, log):
    disk, below = Path("/dev/shm"), out.parents[1] / "below"
    below.mkdir()
    if not disk.is_dir() or below.stat().st_dev == disk.stat().st_dev:
        pytest.skip("there is no second file system")
    mounted = disk / f"mounted-{os.getpid()}"
    mounted.mkdir()
    out.parent.mkdir()
    out.symlink_to(below)
    try:
        keeper.attempt()
        out.unlink()
        out.symlink_to(mounted)
        assert not keeper.is_in_place()
        keeper.attempt()
        assert keeper.held
        assert keeper.is_in_place()
        assert holder(out).number == 1
        assert log.events() == ["lease_taken", "lease_lost", "lease_taken"]
    finally:
        shutil.rmtree(mounted)


def test_as_a_thread_it_takes_the_lease_and_lets_it_go_when_it_is_stopped(out, log):
    taken = threading.Event()
    keeper = Keeper(out, lambda: Identity(host="here", pid=1, token="x", started=0, version="test"), log, taken.set, term=TERM)
    keeper.start()
    assert taken.wait(30)
    assert keeper.held
    keeper.stop(30)
    assert not keeper.is_alive()
    assert holder(out) is None
    assert log.events() == ["lease_taken"]


def test_one_that_never_had_the_lease_is_stopped_as_well(keeper):
    keeper.stop(30)
    assert not keeper.held
