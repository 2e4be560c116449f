"""What wakes the watcher early: real inotify, real limits, and nothing that raises, blocks or leaks."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assembler.service.waker import Waker

LOCAL = "1 1 0:1 / / rw - ext4 /dev/sda rw"
STRACE = shutil.which("strace")
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


class Bell:
    """Counts its rings; `heard` waits for what is to come."""

    def __init__(self) -> None:
        self.rings = 0
        self._rung = threading.Condition()

    def ring(self) -> None:
        with self._rung:
            self.rings += 1
            self._rung.notify_all()

    def heard(self, what: Callable[[], bool]) -> bool:
        with self._rung:
            return self._rung.wait_for(what, 20)


def until(holds: Callable[[], bool]) -> bool:
    """Wait for what no bell tells."""
    for _ in range(4000):
        if holds():
            return True
        time.sleep(0.005)
    return False


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def waker(bell) -> Iterator[Waker]:
    """Return a waker on local file systems; none of its threads and descriptors is left behind."""
    before = descriptors()
    waker = Waker(bell.ring, lambda: LOCAL)
    yield waker
    waker.stop()
    assert not [t for t in threading.enumerate() if t.name == "waker"]
    assert descriptors() == before


def watching(waker: Waker, bell: Bell, *directories: Path) -> list[str]:
    """Have directories watched, and return their paths once they are."""
    names = [str(d) for d in directories]
    waker.watch(names)
    assert bell.heard(lambda: bell.rings > 0 and not waker.unwatched)
    return names


def told(waker: Waker, bell: Bell, *paths: Path) -> bool:
    """Wait until just these files were told to be closed."""
    found: set[str] = set()

    def all_there() -> bool:
        found.update(waker.closed())
        return found >= {str(p) for p in paths}

    return bell.heard(all_there) and found == {str(p) for p in paths}


def test_a_file_counts_as_closed_when_it_is_closed_however_often_it_grew(tmp_path, waker, bell):
    watching(waker, bell, tmp_path)
    with (tmp_path / "grows.fits").open("wb") as grows:
        assert bell.heard(lambda: bell.rings > 1)
        rings = bell.rings
        for _ in range(500):
            grows.write(b" " * 2880)
            grows.flush()
        (tmp_path / "other.fits").write_bytes(b"")
        assert told(waker, bell, tmp_path / "other.fits")
        assert bell.rings <= rings + 2
    assert told(waker, bell, tmp_path / "grows.fits")
    assert waker.closed() == set()


def test_a_file_renamed_into_place_counts_as_closed_and_one_that_was_linked_only_wakes(tmp_path, waker, bell):
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    watching(waker, bell, place)
    (elsewhere / "draft").write_bytes(b"whole")
    rings = bell.rings
    (place / "linked.fits").hardlink_to(elsewhere / "draft")
    assert bell.heard(lambda: bell.rings > rings)
    assert waker.closed() == set()
    (elsewhere / "draft").rename(place / "frame.fits")
    assert told(waker, bell, place / "frame.fits")
    (place / "frame.fits").rename(elsewhere / "draft")  # nothing waits for the other half of a rename
    (place / "next.fits").write_bytes(b"whole")
    assert told(waker, bell, place / "next.fits")


def test_a_name_that_is_gone_or_made_anew_is_not_closed_any_more(tmp_path, waker, bell):
    watching(waker, bell, tmp_path)
    for name in ("removed", "renamed", "anew"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "removed").unlink()
    (tmp_path / "renamed").rename(tmp_path / "new name")
    (tmp_path / "anew").unlink()
    with (tmp_path / "anew").open("wb"):
        (tmp_path / "last").write_bytes(b"")
        assert until(lambda: str(tmp_path / "last") in waker._heard._closed)
        assert waker.closed() == {str(tmp_path / "last"), str(tmp_path / "new name")}


def test_the_close_of_a_file_that_lost_its_name_is_not_told_of_the_next_one(tmp_path, waker, bell):
    watching(waker, bell, tmp_path)
    with (tmp_path / "frame").open("wb") as old:
        (tmp_path / "frame").unlink()
        with (tmp_path / "frame").open("wb"):
            old.write(b"late")
            old.close()
            (tmp_path / "last").write_bytes(b"")
            assert told(waker, bell, tmp_path / "last")
    assert told(waker, bell, tmp_path / "frame")


@pytest.mark.parametrize("way", ["removed", "renamed"])
def test_a_directory_that_vanishes_and_returns_is_watched_anew(tmp_path, waker, bell, way):
    night = tmp_path / "night"
    night.mkdir()
    names = watching(waker, bell, night)
    (night / "old").write_bytes(b"")
    assert until(lambda: bool(waker._heard._closed))
    rings = bell.rings
    if way == "removed":
        shutil.rmtree(night)
    else:
        night.rename(tmp_path / "put away")
    assert bell.heard(lambda: bell.rings > rings)
    waker.watch(names)
    assert until(lambda: waker.unwatched == {str(night): "No such file or directory"})
    assert waker.closed() == set()
    night.mkdir()
    rings = bell.rings
    waker.watch(names)
    assert bell.heard(lambda: bell.rings > rings and not waker.unwatched)
    (night / "new").write_bytes(b"")
    assert told(waker, bell, night / "new")


def test_a_path_that_leads_elsewhere_is_watched_where_it_leads(tmp_path, waker, bell):
    first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "link"
    first.mkdir()
    second.mkdir()
    link.symlink_to(first)
    names = watching(waker, bell, link)
    (tmp_path / "draft").symlink_to(second)
    (tmp_path / "draft").rename(link)
    rings = bell.rings
    waker.watch(names)
    assert bell.heard(lambda: bell.rings > rings)
    (first / "old place").write_bytes(b"")
    (second / "frame").write_bytes(b"")
    assert told(waker, bell, link / "frame")


def test_two_paths_to_one_directory_are_both_told(tmp_path, waker, bell):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    watching(waker, bell, real, link)
    (real / "frame").write_bytes(b"")
    assert told(waker, bell, real / "frame", link / "frame")
    waker.watch([str(link)])
    assert until(lambda: set(waker._listener.outcome) == {str(link)})
    (real / "next").write_bytes(b"")
    assert told(waker, bell, link / "next")


def test_a_new_directory_wakes_and_is_no_closed_file(tmp_path, waker, bell):
    watching(waker, bell, tmp_path)
    rings = bell.rings
    (tmp_path / "draft").mkdir()
    assert bell.heard(lambda: bell.rings > rings)
    (tmp_path / "draft").rename(tmp_path / "2024apr21")
    (tmp_path / "file").write_bytes(b"")
    assert told(waker, bell, tmp_path / "file")


def test_lost_events_are_told_and_what_was_known_is_forgotten(tmp_path):
    """More events than the kernel keeps, while the thread that reads them is held."""
    held, reached = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        held.wait(60)

    waker = Waker(hold, lambda: LOCAL)
    waker.watch([str(tmp_path)])
    assert reached.wait(20)  # it is held, just after the directory was watched
    limit = int(QUEUE.read_text())
    for number in range(limit // 2 + 10):  # created and closed: two events each
        os.close(os.open(tmp_path / str(number), os.O_WRONLY | os.O_CREAT))
    assert not waker.overflowed()
    held.set()
    assert until(lambda: waker._heard._lost)
    assert waker.closed() == set()
    assert waker.overflowed()
    assert not waker.overflowed()
    (tmp_path / "next").write_bytes(b"")
    assert until(lambda: str(tmp_path / "next") in waker.closed())
    waker.stop()


def test_closed_files_that_nobody_asks_for_take_bounded_memory(tmp_path, waker, bell):
    watching(waker, bell, tmp_path)
    for number in range(10_001):
        waker._heard.add(str(number))
    assert waker.closed() == {"10000"}


def test_a_thousand_directories_come_and_go_and_leave_nothing(tmp_path, waker, bell):
    directories = [tmp_path / str(n) for n in range(1000)]
    for d in directories:
        d.mkdir()
    before = descriptors()
    for _ in range(3):
        watching(waker, bell, *directories)
        assert descriptors() == before + 2
        assert len([t for t in threading.enumerate() if t.name == "waker"]) == 1
        (directories[-1] / "frame").write_bytes(b"")
        assert told(waker, bell, directories[-1] / "frame")
        (directories[-1] / "frame").unlink()
        waker.watch([])
        assert until(lambda: not waker._listener._watches)
        assert not waker._listener._directories


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "autofs"])
def test_what_is_remote_is_not_watched_unless_forced(tmp_path, bell, kind):
    table = f"1 1 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {tmp_path} rw - {kind} server:/x rw"
    (tmp_path / "Green").mkdir()
    near = Waker(bell.ring, lambda: table)
    near.watch([str(tmp_path / "Green")])
    reason = f"is on {kind}, where inotify does not tell what other hosts do"
    assert until(lambda: near.unwatched == {str(tmp_path / "Green"): reason})
    assert bell.rings == 0
    near.stop()
    forced = Waker(bell.ring, lambda: table, force=True)
    watching(forced, bell, tmp_path / "Green")
    forced.stop()


def test_a_link_to_what_is_remote_is_remote(tmp_path, waker, bell):
    table = f"{LOCAL}\n2 1 0:2 / {tmp_path / 'mount'} rw - nfs4 server:/x rw"
    (tmp_path / "mount").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mount")
    remote = Waker(bell.ring, lambda: table)
    remote.watch([str(tmp_path / "link")])
    assert until(lambda: "nfs4" in remote.unwatched[str(tmp_path / "link")])
    remote.stop()


def test_what_is_mounted_and_unmounted_is_followed(tmp_path, bell):
    tables = [LOCAL]
    waker = Waker(bell.ring, lambda: tables[-1])
    names = watching(waker, bell, tmp_path)
    tables.append(f"{LOCAL}\n2 1 0:2 / {tmp_path} rw - nfs4 server:/x rw")
    waker.watch(names)
    assert until(lambda: "nfs4" in waker.unwatched.get(names[0], ""))
    tables.append(LOCAL)
    rings = bell.rings
    waker.watch(names)
    assert bell.heard(lambda: bell.rings > rings and not waker.unwatched)
    waker.stop()


def test_switched_off_it_has_no_thread(tmp_path, bell):
    waker = Waker(bell.ring, lambda: LOCAL, force=False)
    waker.watch([str(tmp_path)])
    assert waker.unwatched == {str(tmp_path): "inotify is switched off"}
    assert not [t for t in threading.enumerate() if t.name == "waker"]
    assert (waker.closed(), waker.overflowed()) == (set(), False)
    waker.stop()


def test_a_mount_that_blocks_keeps_nobody_but_the_thread(tmp_path, bell):
    back = threading.Event()
    before = descriptors()

    def blocked() -> str:
        assert back.wait(60)
        return LOCAL

    waker = Waker(bell.ring, blocked)
    for _ in range(100):
        waker.watch([str(tmp_path)])
    assert waker.unwatched == {str(tmp_path): "not watched yet"}
    waker.stop()
    waker.watch([str(tmp_path)])
    back.set()
    assert until(lambda: not [t for t in threading.enumerate() if t.name == "waker"])
    assert descriptors() == before


def test_a_thread_that_dies_is_begun_again_but_not_all_the_time(tmp_path, bell):
    at, broken = [0.0], [False]

    def wake() -> None:
        bell.ring()
        if broken[0]:
            raise OSError(5, "Input/output error")

    waker = Waker(wake, lambda: LOCAL, clock=lambda: at[0])
    names = watching(waker, bell, tmp_path)
    before = descriptors()
    broken[0] = True
    (tmp_path / "frame").write_bytes(b"")
    assert until(lambda: waker.unwatched == {names[0]: "inotify cannot be used: Input/output error"})
    assert waker.overflowed()
    broken[0] = False
    waker._listener.join()
    assert descriptors() == before - 2
    waker.watch(names)
    assert waker.unwatched == {names[0]: "inotify cannot be used: Input/output error"}
    at[0] = 100.0
    rings = bell.rings
    waker.watch(names)
    assert bell.heard(lambda: bell.rings > rings and not waker.unwatched)
    (tmp_path / "next").write_bytes(b"")
    assert told(waker, bell, tmp_path / "next")
    waker.stop()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("inotify_add_watch:error=ENOSPC:when=1", "fs.inotify.max_user_watches"),
        ("inotify_add_watch:error=EACCES:when=1", "Permission denied"),
    ],
)
def test_what_the_kernel_refuses_is_told_and_tried_again_seldom(tmp_path, fault, reason):
    probe = subprocess.run([STRACE or "false", "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("strace is not there, or may not trace")
    program = f"""
import os, time
from assembler.service.waker import Waker
at = [0.0]
before = len(os.listdir("/proc/self/fd"))
waker = Waker(lambda: None, lambda: {LOCAL!r}, clock=lambda: at[0])
waker.watch([{str(tmp_path)!r}])
while {reason!r} not in waker.unwatched.get({str(tmp_path)!r}, ""):
    time.sleep(0.01)
at[0] = 61.0
while waker.unwatched:
    waker.watch([{str(tmp_path)!r}])
    time.sleep(0.01)
waker.stop()
assert len(os.listdir("/proc/self/fd")) == before
"""
    traced = [str(STRACE), "-f", "-o", os.devnull, "-e", f"inject={fault}", sys.executable, "-c", program]
    done = subprocess.run(traced, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("left", [0, 1])
def test_without_descriptors_it_says_so_and_goes_on_when_there_are_some(tmp_path, left):
    program = f"""
import os, resource, time
import assembler.service.inotify
from assembler.service.waker import Waker
at = [0.0]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
taken = [os.open("/", os.O_RDONLY) for _ in range(3)]
waker = Waker(lambda: None, lambda: {LOCAL!r}, clock=lambda: at[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1 + {left}, hard))
waker.watch([{str(tmp_path)!r}])
while "cannot be used" not in waker.unwatched[{str(tmp_path)!r}]:
    time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
at[0] = 61.0
while waker.unwatched:
    waker.watch([{str(tmp_path)!r}])
    time.sleep(0.01)
waker.stop()
assert os.open("/", os.O_RDONLY) == taken[-1] + 1
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_watched_already_is_neither_added_nor_woken_for(tmp_path, waker, bell):
    names = watching(waker, bell, tmp_path)
    numbers = dict(waker._listener._watches)
    rings = bell.rings
    for _ in range(10):
        waker.watch(names)
    (tmp_path / "frame").write_bytes(b"")
    assert told(waker, bell, tmp_path / "frame")
    assert waker._listener._watches == numbers
    assert bell.rings <= rings + 2
