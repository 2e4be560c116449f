"""The queue: what is put is there once, in order, for each receiver, whatever processes do."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from announced import NOW, notice, receiver

from assembler.core.announcements import KEPT
from assembler.errors import OutputError
from assembler.service.announcement_queue import AnnouncementQueue, SendingLock

LOG, HOOK = receiver("log"), receiver("hook", events=frozenset({"archived"}))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state" / "KPF.announcements.sqlite")


@pytest.fixture
def queue(path):
    with closing(AnnouncementQueue(path, (LOG, HOOK), NOW)) as opened:
        yield opened


def waiting(queue, receiver):
    return [entry.id for entry in queue.waiting(receiver)]


def test_each_receiver_has_what_it_wants_in_the_order_of_putting(queue):
    notices = [notice(n, event="archived" if n % 2 else "published", url=f"s3://a/{n}" if n % 2 else "") for n in range(6)]
    assert [queue.put(told, NOW + n) for n, told in enumerate(notices)] == [True] * 6
    assert waiting(queue, LOG) == [told.id for told in notices]
    assert waiting(queue, HOOK) == [told.id for told in notices if told.event == "archived"]


def test_what_was_put_is_not_put_again_sent_or_not(queue):
    assert queue.put(notice(), NOW)
    assert not queue.put(notice(), NOW + 1)
    queue.received(LOG, queue.first(LOG).number)
    assert not queue.put(notice(), NOW + 2)
    assert waiting(queue, LOG) == []


def test_a_message_stays_the_same_once_it_is_made(queue):
    queue.put(notice(), NOW)
    (entry,) = queue.unmade()
    queue.made(entry.number, "first")
    queue.made(entry.number, "second")
    assert queue.first(LOG).message == "first"
    assert queue.unmade() == []


def test_a_receiver_that_is_new_gets_what_is_put_from_then_on(path, queue):
    queue.put(notice(1), NOW)
    late = receiver("late")
    with closing(AnnouncementQueue(path, (LOG, HOOK, late), NOW)) as other:
        other.put(notice(2), NOW)
        assert waiting(other, late) == [notice(2).id]
        assert waiting(other, LOG) == [notice(1).id, notice(2).id]


def test_a_place_never_goes_back(queue):
    for n in (1, 2):
        queue.put(notice(n), NOW)
    first, second = queue.waiting(LOG)
    queue.received(LOG, second.number)
    queue.received(LOG, first.number)
    assert waiting(queue, LOG) == []


def test_failing_is_remembered_until_something_is_received(queue):
    queue.put(notice(), NOW)
    queue.failed(LOG, 3, NOW + 5, "it is away", refused=True)
    standing = queue.standing(LOG)
    assert (standing.waiting, standing.attempts, standing.again, standing.refused, standing.error) == (1, 3, NOW + 5, True, "it is away")
    queue.received(LOG, queue.first(LOG).number)
    standing = queue.standing(LOG)
    assert (standing.waiting, standing.attempts, standing.again, standing.refused, standing.error) == (0, 0, 0, False, "")


def test_what_everybody_has_is_forgotten_after_ninety_days_and_what_waits_is_not(queue):
    for n in (1, 2, 3):
        queue.put(notice(n), NOW)
    queue.received(LOG, queue.first(LOG).number)
    assert queue.forget(NOW + KEPT) == 0
    assert queue.forget(NOW + KEPT + 1) == 1
    assert waiting(queue, LOG) == [notice(2).id, notice(3).id]
    assert queue.put(notice(1), NOW + KEPT + 2)
    assert waiting(queue, LOG)[-1] == notice(1).id  # numbers are never used again


def test_a_path_that_is_no_utf8_comes_back_as_it_was(queue):
    strange = notice(path=os.fsdecode(b"/l0/caf\xe9.fits"), url=os.fsdecode(b"file:///caf\xe9.fits"))
    queue.put(notice(url="\ud800"), NOW)  # which is no text at all, and no reason to fail
    queue.received(LOG, queue.first(LOG).number)
    queue.put(strange, NOW, modified=7)
    assert queue.first(LOG).notice == strange
    assert queue.knows(strange.path, 7)
    assert not queue.knows(strange.path, 8)


@pytest.mark.parametrize("damage", [b"no queue at all", b"", "page"])
def test_a_damaged_file_is_moved_aside_and_the_new_one_says_that_nobody_knows_since_when(path, damage):
    with closing(AnnouncementQueue(path, (LOG,), NOW)) as first:
        assert first.begun() == NOW
        first.put(notice(), NOW)
    if damage == "page":
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096)
    else:
        with open(path, "wb") as file:
            file.write(damage)
    with closing(AnnouncementQueue(path, (LOG,), NOW)) as second:
        if damage == b"":  # SQLite takes an empty file for a new one
            assert (second.moved_aside, second.begun()) == ("", NOW)
        else:
            assert os.path.exists(second.moved_aside)
            assert second.begun() == 0
        assert second.put(notice(), NOW)


def test_a_file_of_another_program_is_not_changed(path):
    os.makedirs(os.path.dirname(path))
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
        other.commit()
    with closing(AnnouncementQueue(path, (LOG,), NOW)) as queue, closing(sqlite3.connect(queue.moved_aside)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_queue_that_was_moved_away_is_noticed(path, queue):
    assert queue.is_in_place()
    os.rename(path, f"{path}.away")
    assert not queue.is_in_place()


def test_a_full_disk_is_one_clear_error_and_nothing_is_half_put(queue):
    (pages,) = queue._connection.execute("PRAGMA page_count").fetchone()
    queue._connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for n in range(10_000):
            queue.put(notice(n, written="x" * 500), NOW)

    with pytest.raises(OutputError, match="no room left for announcements"):
        fill()
    queue._connection.execute("PRAGMA max_page_count = 1000000")
    told = waiting(queue, LOG)
    assert told == [notice(n, written="x" * 500).id for n in range(len(told))]


_PUTTING = """
import sys
from announced import NOW, notice, receiver
from assembler.service.announcement_queue import AnnouncementQueue
queue = AnnouncementQueue(sys.argv[1], (receiver("log"),), NOW)
for number in range(50):
    queue.put(notice(number, instrument=sys.argv[2]), NOW)
    queue.put(notice(number, path=f"/{sys.argv[2]}/{number}"), NOW)
"""


def test_processes_that_put_at_once_lose_nothing_and_put_nothing_twice(path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [subprocess.Popen([sys.executable, "-c", _PUTTING, path, name], env=environment) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    with closing(AnnouncementQueue(path, (LOG,), NOW)) as queue:
        entries = queue.waiting(LOG, 1000)
    assert sorted(e.id for e in entries) == sorted(
        {*(notice(n).id for n in range(50)), *(notice(n, path=f"/{name}/{n}").id for name in "abc" for n in range(50))}
    )
    for name in "abc":
        assert [e.notice.path for e in entries if e.notice.path.startswith(f"/{name}/")] == [f"/{name}/{n}" for n in range(50)]


def test_one_process_sends_at_a_time(path, queue):
    first, second = SendingLock(path), SendingLock(path)
    assert first.take()
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()
