"""Real faults around a watcher that runs: each has a clear event, and is over without a restart when its cause is gone."""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from postgres_servers import running
from watching import PATIENCE, STRACE, Mounts, Watched, let_pass, wait_for

from assembler.service.journal import Journal
from assembler.telemetry.load import read_samples
from assembler.telemetry.urls import load_history

FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), "")


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


def test_output_that_may_only_be_read_goes_on_when_it_may_be_written(mounted):
    first, second = mounted.frames
    mounted.mounts.disk(mounted.out)
    mounted.begin()
    mounted.mounts.run("mount", "-o", "remount,ro", mounted.out)
    mounted.deliver(first)
    assert "Read-only file system" in mounted.wait("failed", frame=first)["reason"]
    mounted.wait_health("output", "degraded")
    assert "Read-only file system" in mounted.wait("lease_failed")["reason"]
    mounted.deliver(second)
    mounted.wait("failed", frame=second)
    mounted.mounts.run("mount", "-o", "remount,rw", mounted.out)
    mounted.wait("published", frame=first)
    mounted.wait("published", frame=second)
    mounted.wait_health("output", "ok")
    mounted.end()
    assert mounted.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_an_output_directory_that_is_removed_is_made_again(watched):
    first, second = watched.frames
    watched.begin()
    watched.deliver(first)
    watched.wait("published", frame=first)
    watched.wait("lease_taken")
    shutil.rmtree(watched.out)
    watched.deliver(second)
    watched.wait("lease_lost")
    watched.wait("lease_taken")
    watched.wait("published", frame=second)
    watched.wait_health("lease", "ok")
    watched.end()
    assert set(watched.l0s()) == {second}
    assert watched.told()[second] == ("published", 1, 1)


@pytest.mark.parametrize(("number", "below"), [("the same", "l0"), ("another", "")])
def test_nothing_is_written_where_the_output_was_mounted(mounted, number, below):
    """The lease that is on the disk is taken up again at once when the disk is back, be it as another device, as over a network."""
    first, second = mounted.frames
    disk, archive = mounted.mounts.disk(mounted.work / "disk"), mounted.out
    mounted.out = archive / below
    mounted.mounts.bind(disk, archive)
    mounted.begin("--no-standby")
    mounted.deliver(first)
    mounted.wait("published", frame=first)
    mounted.mounts.unmount(archive)
    mounted.deliver(second)
    mounted.wait("output_is_elsewhere")
    mounted.wait_health("lease", "degraded")
    if number == "another":
        content = disk
        disk = mounted.mounts.disk(mounted.work / "other")
        mounted.mounts.run("cp", "-a", f"{content}/.", disk)
    assert os.listdir(mounted.inside(archive)) == []
    mounted.mounts.bind(disk, archive)
    mounted.wait("published", frame=second)
    mounted.wait_health("lease", "ok")
    mounted.end()
    assert not mounted.count("lease_lost")
    assert os.listdir(archive) == []
    assert mounted.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_an_output_that_is_mounted_only_later_is_taken(mounted):
    first, second = mounted.frames
    mounted.begin()
    mounted.deliver(first)
    mounted.wait("published", frame=first)
    mounted.wait("lease_taken")
    mounted.mounts.disk(mounted.out)
    mounted.deliver(second)
    mounted.wait("lease_lost")
    mounted.wait("lease_taken")
    mounted.wait("published", frame=second)
    mounted.end()
    assert set(mounted.l0s()) == {second}


def test_a_journal_that_another_program_has_locked_keeps_no_exposure_waiting(watched):
    first, second = watched.frames
    watched.begin()
    with closing(sqlite3.connect(watched.journal, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        watched.deliver(first)
        assert "another program has the journal" in watched.wait("journal_failed")["reason"]
        watched.wait("published", frame=first)
        watched.wait_health("journal", "degraded")
        watched.deliver(second)
        watched.wait("published", frame=second)
        assert not watched.count("journal_recovered")
        other.execute("ROLLBACK")
    watched.wait("journal_recovered")
    watched.wait_health("journal", "ok")
    watched.end()
    assert not watched.count("journal_moved_aside")
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_a_journal_that_is_locked_at_the_start_is_waited_for(watched):
    first, _ = watched.frames
    Journal(watched.journal, time.time_ns).close()
    with closing(sqlite3.connect(watched.journal, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        watched.start()
        watched.deliver(first)
        assert "another program has the journal" in watched.wait("watcher_cannot_go_on")["reason"]
        other.execute("ROLLBACK")
    watched.wait("watching")
    watched.wait("published", frame=first)
    watched.end()
    assert watched.told() == {first: ("published", 1, 1)}


@pytest.mark.parametrize("fault", ["overwritten", "removed", "emptied"])
def test_a_journal_that_is_ruined_is_made_anew_from_the_l0s(tmp_path, fault):
    """What has no L0 yet is noted anew, too."""
    with closing(Watched(tmp_path, 3)) as watched:
        ruin_the_journal(watched, fault)


def ruin_the_journal(watched: Watched, fault: str) -> None:
    first, second, third = watched.frames
    watched.begin()
    watched.deliver(first)
    watched.wait("published", frame=first)
    watched.deliver(third, but=["red"])
    watched.wait("sub_fits_settled", origin="green", frame=third)
    wait_for("the third one to wait", lambda: third in watched.told())
    if fault == "overwritten":
        with watched.journal.open("r+b") as file:
            file.write(os.urandom(watched.journal.stat().st_size))
    elif fault == "emptied":
        os.truncate(watched.journal, 0)
    else:
        for companion in ("", "-wal", "-shm"):
            Path(f"{watched.journal}{companion}").unlink(missing_ok=True)
    watched.deliver(second)
    watched.wait("journal_failed")
    watched.wait("published", frame=second)
    watched.wait("journal_recovered")
    watched.wait_health("journal", "ok")
    wait_for("the third one to wait", lambda: watched.told().get(third) == ("waiting", 0, 0))
    watched.deliver(third, "red")
    watched.wait("published", frame=third, version=1, missing={})
    watched.end()
    assert watched.count("journal_moved_aside") == (fault != "removed")
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1), third: ("published", 1, 1)}


def test_a_journal_whose_disk_is_full_keeps_no_exposure_waiting(mounted):
    first, second = mounted.frames
    mounted.journal = mounted.mounts.disk(mounted.work / "disk", "1m") / "journal.sqlite"
    mounted.begin()
    filling = fill(mounted.inside(mounted.journal.parent))
    mounted.deliver(first)
    assert "no room left" in mounted.wait("journal_failed")["reason"]
    mounted.wait("published", frame=first)
    mounted.wait_health("journal", "degraded")
    mounted.deliver(second)
    mounted.wait("published", frame=second)
    filling.unlink()
    mounted.wait("journal_recovered")
    mounted.wait_health("journal", "ok")
    mounted.end()
    assert mounted.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_a_history_that_comes_later_makes_a_new_version(watched):
    first, _ = watched.frames
    later, path = watched.work / "later.db", watched.work / "history.db"
    load_history(f"sqlite:///{later}", read_samples(watched.night.telemetry))
    watched.begin("--history", f"sqlite:///{path}", "--patience", "0.5 s")
    watched.wait("history_away")
    watched.deliver(first)
    watched.wait("published", frame=first, version=1)
    watched.wait_health("history", "degraded")
    assert watched.told()[first][0] == "waiting"
    later.rename(path)
    watched.wait("history_answers_again")
    watched.wait("published", frame=first, version=2)
    watched.wait_health("history", "ok")
    watched.end()
    assert len(watched.l0s()) == len(list(watched.out.glob("superseded/*.v1.fits"))) == 1
    assert watched.told() == {first: ("published", 2, 2)}


def test_a_history_whose_server_stops_and_starts_delays_nothing_and_is_asked_again(watched):
    first, second = watched.frames
    with running() as server:
        load_history(server.url(), read_samples(watched.night.telemetry))
        watched.begin("--history", server.url(), "--patience", "0.5 s")
        watched.deliver(first)
        watched.wait("published", frame=first, version=1)
        server.stop()
        watched.deliver(second)
        watched.wait("history_away")
        watched.wait("published", frame=second, version=1)
        watched.wait_health("history", "degraded")
        assert {frame: state for frame, (state, _, _) in watched.told().items()} == {first: "published", second: "waiting"}
        server.start()
        watched.wait("history_answers_again")
        watched.wait("published", frame=second, version=2)
        watched.wait_health("history", "ok")
        watched.end()
    assert set(watched.l0s()) == {first, second}
    assert len(list(watched.out.glob("superseded/*.v1.fits"))) == 1
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 2, 2)}


def test_no_exposure_is_given_up_because_its_input_was_unmounted(mounted):
    """The disk is away for longer than a camera is awaited, and its last sub-FITS is written meanwhile, from elsewhere."""
    first, second = mounted.frames
    mounted.write_yaml(margin=2)
    disk = mounted.mounts.disk(mounted.work / "disk")
    mounted.begin()
    mounted.mounts.bind(disk, mounted.place)
    mounted.deliver(first, but=["red"])
    mounted.wait("sub_fits_settled", origin="green")
    mounted.mounts.unmount(mounted.place)
    mounted.wait("input_gone")
    mounted.wait_health("input", "degraded")
    let_pass(2.5)
    mounted.deliver(first, "red", place=disk)
    mounted.mounts.bind(disk, mounted.place)
    mounted.wait("input_is_back")
    mounted.wait("published", frame=first, missing={})
    mounted.wait_health("input", "ok")
    mounted.deliver(second)
    mounted.wait("published", frame=second, missing={})
    mounted.end()
    assert not mounted.count("gave_up_waiting")
    assert mounted.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_no_exposure_is_given_up_because_its_night_was_renamed_for_a_while(watched):
    first, second = watched.frames
    watched.write_yaml(margin=2)
    watched.begin()
    watched.deliver(first, but=["red"])
    watched.wait("sub_fits_settled", origin="green")
    elsewhere = watched.place.rename(watched.work / "elsewhere")
    watched.wait("input_gone")
    let_pass(2.5)
    watched.deliver(first, "red", place=elsewhere)
    elsewhere.rename(watched.place)
    watched.wait("input_is_back")
    watched.wait("published", frame=first, missing={})
    watched.deliver(second)
    watched.wait("published", frame=second, missing={})
    watched.end()
    assert not watched.count("gave_up_waiting")
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


class Clock:
    """A clock of the watcher's own, to be set while it runs; that which is never set goes on as it is."""

    def __init__(self, work: Path) -> None:
        self._offset = work / "offset"
        self.set(0)
        told = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(self._offset), "FAKETIME_NO_CACHE": "1"}
        self.environment = {**told, "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}

    def set(self, seconds: int) -> None:
        """Set it to the time that it is and so many seconds."""
        self._offset.write_text(f"{seconds:+}")


@pytest.mark.skipif(not FAKETIME, reason="needs libfaketime, which CI installs")
def test_a_clock_that_is_set_back_makes_nothing_late(watched):
    first, second = watched.frames
    clock = Clock(watched.work)
    watched.write_yaml(margin=2)
    watched.begin(environment=clock.environment)
    watched.deliver(first, but=["red"])
    watched.wait("sub_fits_settled", origin="green")
    clock.set(-3600)
    assert round(watched.wait("clock_was_set")["seconds"]) == -3600
    watched.wait("gave_up_waiting", frame=first)
    watched.wait("published", frame=first, missing={"red": "absent"})
    watched.deliver(second)
    watched.wait("published", frame=second, missing={})
    watched.deliver(first, "red")
    watched.wait("published", frame=first, version=2, missing={})
    watched.end()
    assert watched.told() == {first: ("published", 2, 2), second: ("published", 1, 1)}


@pytest.mark.skipif(not FAKETIME, reason="needs libfaketime, which CI installs")
def test_a_clock_that_is_set_forward_gives_nothing_up(watched):
    first, second = watched.frames
    clock = Clock(watched.work)
    watched.begin(environment=clock.environment)
    watched.deliver(first, but=["red"])
    watched.wait("sub_fits_settled", origin="green")
    clock.set(3600)
    assert round(watched.wait("clock_was_set")["seconds"]) == 3600
    watched.deliver(second)
    watched.wait("published", frame=second, missing={})
    watched.deliver(first, "red")
    watched.wait("published", frame=first, version=1, missing={})
    watched.end()
    assert not watched.count("gave_up_waiting")
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_a_sub_fits_that_cannot_be_read_for_a_moment_is_in_its_l0(watched):
    """It could be read when it settled, and can be again after a while."""
    first, _ = watched.frames
    red = watched.sub_fits(first, "red")
    watched.begin()
    watched.deliver(first, but=["green"])
    watched.wait("sub_fits_settled", origin="red")
    tracer = watched.inject("-P", red, "-e", "inject=pread64:error=EIO")
    watched.deliver(first, "green")
    assert "Input/output error" in watched.wait("sub_fits_changed", path=str(red))["reason"]
    tracer.close()
    watched.wait("published", frame=first, version=1, missing={})
    watched.end()
    assert watched.told() == {first: ("published", 1, 1)}


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_a_sub_fits_that_cannot_be_read_is_left_out_and_told_to_be_unreadable(watched):
    first, second = watched.frames
    red = watched.sub_fits(first, "red")
    watched.write_yaml(margin=4)
    watched.begin()
    watched.inject("-P", red, "-e", "inject=pread64:error=EIO")
    watched.deliver(first)
    watched.deliver(second)
    watched.wait("published", frame=second, missing={})
    assert "Input/output error" in watched.wait("sub_fits_given_up", path=str(red))["reason"]
    watched.wait("published", frame=first, version=1, missing={"red": "unreadable"})
    watched.end()
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_an_l0_that_does_not_come_to_the_disk_is_written_again(watched):
    first, _ = watched.frames
    watched.begin()
    tracer = watched.inject("-e", "inject=fsync:error=EIO")
    watched.deliver(first)
    failed = watched.wait("failed", frame=first)
    assert failed["reason"] == f"{watched.out}: the L0 cannot be written: Input/output error"
    watched.wait_health("output", "degraded")
    assert watched.l0s() == {}
    tracer.close()
    watched.wait("published", frame=first, version=1)
    watched.wait_health("output", "ok")
    watched.end()
    assert watched.told() == {first: ("published", 1, 1)}


def test_an_input_that_blocks_blocks_neither_health_nor_the_end(mounted):
    """A file system that does not answer lies over the night, goes away, and comes again for good."""
    first, second = mounted.frames
    mounted.begin("--stuck", "2 s", "--no-inotify")
    mounted.deliver(first)
    mounted.wait("published", frame=first)
    holder = mounted.block(mounted.place)
    wait_for("503", lambda: mounted.health()[0] == 503)
    told = mounted.health()[1]
    assert told["status"] == "unhealthy"
    assert "something blocks" in told["parts"]["round"]["text"]
    assert "something blocks" in mounted.wait("watcher_blocked")["reason"]
    mounted.let_go(holder, mounted.place)
    wait_for("200", lambda: mounted.health()[0] == 200)
    mounted.wait("watcher_goes_on")
    mounted.deliver(second)
    mounted.wait("published", frame=second)
    mounted.block(mounted.place)
    wait_for("503", lambda: mounted.health()[0] == 503)
    mounted.end()
    mounted.wait("stopped", finished=False)
    assert mounted.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_an_output_that_blocks_blocks_neither_health_nor_the_end(mounted):
    first, second = mounted.frames
    mounted.begin("--stuck", "2 s")
    mounted.deliver(first)
    mounted.wait("published", frame=first)
    holder = mounted.block(mounted.out)
    mounted.deliver(second)
    wait_for("503", lambda: mounted.health()[0] == 503)
    mounted.wait("watcher_blocked")
    mounted.let_go(holder, mounted.out)
    mounted.wait("watcher_goes_on")
    mounted.wait("published", frame=second)
    wait_for("200", lambda: mounted.health()[0] == 200)
    mounted.end()
    assert mounted.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_an_output_that_is_not_mounted_at_the_start_is_waited_for(watched):
    """What stands for the mount point is the directory itself, with another one in its place."""
    first, second = watched.frames
    watched.begin()
    watched.deliver(first)
    watched.wait("published", frame=first)
    watched.end()
    mounted = watched.out.with_name("mounted")
    watched.out.rename(mounted)
    watched.start()
    assert "is it mounted?" in watched.wait("watcher_cannot_go_on")["reason"]
    watched.deliver(second)
    assert [name for name in os.listdir(watched.out) if not name.startswith(".watcher.lease.")] == []
    shutil.rmtree(watched.out)
    mounted.rename(watched.out)
    watched.wait("published", frame=second)
    watched.end()
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_a_second_watcher_that_is_not_to_wait_ends_with_one_clear_line(watched):
    first, _ = watched.frames
    watched.begin()
    other = watched.another("other")
    other.start("--no-standby")
    assert other.process.wait(PATIENCE) == 4
    (line,) = (other.work / "stderr").read_text().splitlines()
    assert line.startswith(f"assembler: another watcher holds the lease of this directory: process {watched.pid} on ")
    watched.deliver(first)
    watched.wait("published", frame=first)
    watched.end()
    assert not watched.count("lease_lost")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_second_watcher_goes_on_where_the_first_one_ended(watched, number):
    first, second = watched.frames
    watched.begin()
    other = watched.another("other")
    other.start()
    other.wait("lease_held_by_another")
    watched.deliver(first)
    watched.wait("published", frame=first)
    watched.deliver(second, but=["red"])
    watched.wait("sub_fits_settled", origin="green", frame=second)
    assert not other.count("watching")
    watched.process.send_signal(number)
    assert watched.process.wait(PATIENCE) == (0 if number == signal.SIGTERM else -number)
    other.wait("watching")
    other.deliver(second, "red")
    other.wait("published", frame=second, missing={})
    other.end()
    assert not other.count("published", frame=first)
    assert other.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_a_bad_yaml_is_refused_and_a_good_one_taken(watched):
    first, second = watched.frames
    watched.begin()
    watched.deliver(first, but=["red"])
    watched.wait("sub_fits_settled", origin="green")
    good = watched.yaml.read_text()
    watched.yaml.write_text(good.replace("prefix: RD", "prefix: GR"))
    watched.process.send_signal(signal.SIGHUP)
    assert str(watched.yaml) in watched.wait("configuration_refused")["reason"]
    watched.deliver(first, "red")
    watched.wait("published", frame=first, version=1, missing={})
    watched.deliver(second, but=["red"])
    watched.wait("sub_fits_settled", origin="green", frame=second)
    watched.yaml.write_text(good.replace("filename: KP.", "filename: NEW."))
    watched.process.send_signal(signal.SIGHUP)
    watched.wait("configuration_taken")
    watched.deliver(second, "red")
    assert watched.wait("published", frame=second, version=1, missing={})["obsid"].startswith("NEW.")
    watched.end()
    assert watched.l0s()[first].name.startswith("KP.")
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_a_stop_in_the_middle_of_an_exposure_finishes_it(watched):
    first, second = watched.frames
    watched.begin()
    watched.inject("-e", "inject=fsync:delay_enter=1000000")
    watched.deliver(first)
    watched.deliver(second)
    wait_for("an L0 that is being written", lambda: any(name.endswith(".part") and ".fits." in name for name in os.listdir(watched.out)))
    watched.end()
    (made,) = watched.l0s()
    assert watched.told()[made] == ("published", 1, 1)
    assert watched.events()[-1] | {"timestamp": ""} == {"timestamp": "", "level": "info", "event": "stopped", "finished": True}


def test_without_inotify_everything_is_found_by_scanning(watched):
    first, second = watched.frames
    watched.begin("--no-inotify")
    watched.deliver(first)
    watched.wait("published", frame=first, missing={})
    watched.deliver(second)
    watched.wait("published", frame=second, missing={})
    watched.end()
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_a_watcher_that_was_paused_goes_on(watched):
    """To be stopped and continued, as by a debugger or a suspended host, is no signal to end."""
    first, second = watched.frames
    watched.begin()
    watched.deliver(first, but=["red"])
    watched.wait("sub_fits_settled", origin="green")
    watched.pause()
    watched.deliver(second)
    let_pass(1.5)
    watched.process.send_signal(signal.SIGCONT)
    watched.wait("published", frame=second, missing={})
    watched.deliver(first, "red")
    watched.wait("published", frame=first, missing={})
    watched.end()
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}


def test_events_that_were_lost_lose_no_file(watched):
    """More happens than the kernel keeps, while the watcher is paused; the files come after that."""
    first, second = watched.frames
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 200_000:
        pytest.skip(f"the kernel keeps {most} events here, which takes too long to fill")
    watched.begin("--inotify")
    watched.deliver(first)
    watched.wait("published", frame=first)
    green = watched.place / "Green"
    wait_for("inotify", lambda: f" ino:{green.stat().st_ino:x} " in watched.inotify())
    watched.pause()
    names = [green / name for name in (".one", ".other")]
    for _ in range(most // 3):  # each is made and closed at least; events that equal the last one count once
        for name in names:
            name.touch()
        for name in names:
            name.unlink()
    watched.deliver(second)
    watched.process.send_signal(signal.SIGCONT)
    watched.wait("events_lost")
    watched.wait("published", frame=second, missing={})
    watched.end()
    assert watched.told() == {first: ("published", 1, 1), second: ("published", 1, 1)}
