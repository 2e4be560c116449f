"""The sender: whatever fails, and wherever it is stopped, each receiver gets each message, in order, at least once."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from announced import NOW, Told, away, hooked, in_order_of_first, notice, receiver, refusing
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import Recording
from watching import wait_for

from assembler.core.announcements import ToCommand, ToFile
from assembler.core.instants import SECOND
from assembler.core.states import LONGEST_PAUSE
from assembler.service.announcement_queue import AnnouncementQueue
from assembler.service.announcer import Announcer
from assembler.service.sender import Sender

A, B = receiver("a"), receiver("b")


class Killed(BaseException):
    """The process is gone, right after a receiver got something."""


class Desk:
    """A queue, and senders of it one after the other, on a clock that is set by hand."""

    def __init__(self, work: Path, receivers=(A, B)) -> None:
        self.path = str(work / "queue.sqlite")
        self.receivers = receivers
        self.now = NOW
        self.log = Recording()
        self.queue = AnnouncementQueue(self.path, receivers, NOW)
        self.put_so_far = 0
        self.ways = {r.name: Told() for r in receivers}
        self.begin()

    def begin(self) -> None:
        self.sender = Sender(
            self.path, self.receivers, clock=lambda: self.now, log=self.log, chance=lambda: 0.0, ways=lambda r: self.ways[r.name]
        )
        self.sender.open()

    def put(self, count: int = 1, *, made: bool = True) -> None:
        for _ in range(count):
            self.queue.put(notice(self.put_so_far), self.now)
            self.put_so_far += 1
        for entry in self.queue.unmade() if made else ():
            self.queue.made(entry.number, json.dumps({"id": entry.id}))

    def send(self, receiver) -> None:
        """Let one step be taken; a kill ends the process, and another one begins."""
        try:
            self.sender.send_one(receiver)
        except Killed:
            self.sender._queue.close()
            self.begin()

    def ids(self) -> list[str]:
        return [notice(number).id for number in range(self.put_so_far)]

    def close(self) -> None:
        self.sender._queue.close()
        self.queue.close()


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def killed() -> None:
    raise Killed


class KilledAfter(Told):
    """Keeps a message, and only then is the process gone."""

    def send(self, message: str, identity: str) -> None:
        answer = next(self.answers)
        if answer is killed:
            self.got.append(identity)
        answer()
        self.got.append(identity)


@settings(max_examples=60)
@given(
    steps=st.lists(st.sampled_from(["put", "a", "b", "later", "much later", "back"]), max_size=40),
    answers=st.lists(st.sampled_from([away, refusing, killed, None, None]), max_size=30),
)
def test_each_receiver_has_all_in_order_whatever_fails_in_between(steps, answers):
    with tempfile.TemporaryDirectory() as work:
        desk = Desk(Path(work))
        for name in ("a", "b"):
            turns = [answer or (lambda: None) for answer in answers]
            desk.ways[name] = KilledAfter(itertools.chain(turns, itertools.repeat(lambda: None)))
        desk.begin()
        for step in steps:
            if step == "put":
                desk.put()
            elif step in ("a", "b"):
                desk.send(A if step == "a" else B)
            else:
                desk.now += {"later": SECOND, "much later": 2 * LONGEST_PAUSE, "back": -3600 * SECOND}[step]
            for name in ("a", "b"):
                got = in_order_of_first(desk.ways[name].got)
                assert got == desk.ids()[: len(got)]
        for _ in range(len(answers) + desk.put_so_far):
            desk.now += LONGEST_PAUSE
            desk.send(A)
            desk.send(B)
        for name in ("a", "b"):
            assert in_order_of_first(desk.ways[name].got) == desk.ids()
        desk.close()


def test_one_that_fails_is_tried_after_a_pause_and_holds_up_nobody_else(desk):
    desk.ways["a"] = Told(itertools.chain([away, away], itertools.repeat(lambda: None)))
    desk.begin()
    desk.put(2)
    for _ in range(3):
        desk.send(A)
        desk.send(B)
    assert (desk.ways["a"].got, desk.ways["b"].got) == ([], desk.ids())
    assert (desk.queue.standing(A).attempts, desk.queue.standing(A).again) == (1, NOW + 2 * SECOND)
    desk.now += 2 * SECOND
    desk.send(A)
    assert (desk.queue.standing(A).attempts, desk.queue.standing(A).again) == (2, desk.now + 4 * SECOND)
    desk.now += 4 * SECOND
    desk.send(A)
    assert desk.ways["a"].got == desk.ids()[:1]
    assert [event for event in desk.log.events() if event != "announced"] == ["receiver_failed", "receiver_answers_again"]


def test_one_that_refuses_for_good_is_told_once_and_keeps_its_place_until_somebody_skips_it(desk):
    desk.ways["a"] = Told(itertools.chain([refusing] * 3, itertools.repeat(lambda: None)))
    desk.begin()
    desk.put(2)
    for _ in range(3):
        desk.send(A)
        desk.now += LONGEST_PAUSE
    assert desk.queue.standing(A).refused
    assert [level for level, event, _ in desk.log.told if event == "receiver_refused"] == ["error"]
    desk.queue.received(A, desk.queue.first(A).number)  # as --skip does it
    desk.send(A)
    assert desk.ways["a"].got == desk.ids()[1:]


def test_what_was_received_and_could_not_be_noted_is_not_sent_again_by_the_same_process(desk, monkeypatch):
    desk.put(2)
    full = desk.queue.__class__.received

    def fails(*_args):
        raise OSError

    monkeypatch.setattr(AnnouncementQueue, "received", fails)
    with pytest.raises(OSError):  # noqa: PT011 - the stand-in's own
        desk.sender.send_one(A)
    monkeypatch.setattr(AnnouncementQueue, "received", full)
    desk.send(A)
    desk.send(A)
    assert desk.ways["a"].got == desk.ids()


def test_a_message_that_cannot_be_made_yet_holds_up_those_behind_it(desk, tmp_path):
    desk.put(made=False)
    desk.sender.make_messages()
    desk.send(A)
    assert desk.ways["a"].got == []
    assert "is not there, nor in superseded" in desk.queue.standing(A).error
    assert desk.log.events() == ["announcement_not_made"]


_SENDING = """
import sys
from assembler.core.announcements import Receiver, ToCommand, ToFile
from assembler.service.log import Silent
from assembler.service.sender import Sender
import time
path, got = sys.argv[1:]
Sender(path, (Receiver(name="a", way=ToFile(path=got)),), clock=time.time_ns, log=Silent()).start()
sys.stdin.read()
"""


def begin_to_send(*words: object) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", _SENDING, *map(str, words)], stdin=subprocess.PIPE, env=environment)


def test_killed_again_and_again_it_sends_all_in_order_and_what_comes_twice_has_the_same_id(tmp_path):
    path, got = str(tmp_path / "queue.sqlite"), tmp_path / "got.jsonl"
    with closing(AnnouncementQueue(path, (A,), NOW)) as queue:
        for number in range(400):
            queue.put(notice(number), NOW, message=json.dumps({"id": notice(number).id}))

        def received() -> list[str]:
            return [json.loads(line)["id"] for line in got.read_text().splitlines()] if got.exists() else []

        chance, kills = random.Random(7), 0
        while queue.standing(A).waiting:
            process, least = begin_to_send(path, got), len(set(received())) + chance.randrange(1, 60)
            wait_for("more to be sent", lambda least=least: len(set(received())) >= least or not queue.standing(A).waiting)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdin.close()
            kills += 1
    assert kills > 3
    assert in_order_of_first(received()) == [notice(number).id for number in range(400)]


def test_two_senders_at_once_send_nothing_twice_and_the_second_goes_on_when_the_first_is_killed(tmp_path):
    path, got = str(tmp_path / "queue.sqlite"), tmp_path / "got.jsonl"
    with closing(AnnouncementQueue(path, (A,), NOW)) as queue:
        senders = [begin_to_send(path, got), begin_to_send(path, got)]
        try:
            for number in range(50):
                queue.put(notice(number), NOW, message=json.dumps({"id": notice(number).id}))
            wait_for("the first ones", lambda: not queue.standing(A).waiting)
            assert [json.loads(line)["id"] for line in got.read_text().splitlines()] == [notice(number).id for number in range(50)]
            holder = next(s for s in senders if any("queue.sqlite.sending" in os.readlink(f) for f in Path(f"/proc/{s.pid}/fd").iterdir()))
            holder.send_signal(signal.SIGKILL)
            queue.put(notice(50), NOW, message=json.dumps({"id": notice(50).id}))
            wait_for("the other one to send", lambda: not queue.standing(A).waiting)
        finally:
            for sender in senders:
                sender.kill()
                sender.wait()
                sender.stdin.close()
    assert in_order_of_first([json.loads(line)["id"] for line in got.read_text().splitlines()])[-1] == notice(50).id


def test_a_webhook_that_fails_in_every_way_for_a_while_gets_all_in_order_and_others_do_not_wait(tmp_path, l0):
    """Down, then 500, then a reset; a command that hangs beside it."""
    hanging = receiver("hanging", way=ToCommand(words=("sleep", "600")), timeout=600.0)
    log, now = Recording(), itertools.count(NOW, LONGEST_PAUSE)  # so that nobody waits for a pause
    with hooked() as hook:
        pass  # it is down now, and its port is known
    down = receiver("hook", way=hook.way)
    file = receiver("file", way=ToFile(path=str(tmp_path / "got.jsonl")))
    path = str(tmp_path / "queue.sqlite")
    announcer = Announcer(path, (down, hanging, file), "KPF", clock=lambda: next(now), log=log)
    try:
        announcer.published(l0, version=1, written=_date(l0))
        for number in range(5):
            announcer.archived(l0, f"file:///archive/{number}.fits", size=number, sha256="0" * 64)
        wait_for("the file to have all", lambda: _lines(tmp_path / "got.jsonl") == 6)
        wait_for("the webhook to have failed", lambda: announcer.standings()[0].attempts)
        with hooked(hook.port) as again:
            answers = iter([lambda r: again.say(r, 500), lambda r: r.connection.shutdown(2), lambda r: again.say(r, 503)])

            def answer(request) -> None:
                next(answers, lambda r: again.say(r, 200))(request)

            again.answer = answer
            wait_for("the webhook to have all", lambda: not announcer.standings()[0].waiting)
            ids = again.ids()
        assert in_order_of_first(ids) == [json.loads(line)["id"] for line in (tmp_path / "got.jsonl").read_text().splitlines()]
        assert announcer.standings()[1].waiting == 6
    finally:
        assert announcer.close()  # the command that hangs holds up no stop


def test_while_the_queue_cannot_be_written_nothing_fails_and_it_is_put_in_afterwards(tmp_path, l0):
    log, now = Recording(), itertools.count(NOW, SECOND)
    got = tmp_path / "got.jsonl"
    state = tmp_path / "state"
    state.write_text("a file where the directory should be")
    file = receiver("file", way=ToFile(path=str(got)))
    announcer = Announcer(str(state / "queue.sqlite"), (file,), "KPF", clock=lambda: next(now), log=log)
    try:
        announcer.start()
        announcer.published(l0, version=1, written=_date(l0))
        announcer.archived(l0, "file:///archive/a.fits", size=1, sha256="0" * 64)
        assert announcer.failure
        state.unlink()
        wait_for("both to be sent", lambda: _lines(got) == 2)
    finally:
        assert announcer.close()
    assert [json.loads(line)["event"] for line in got.read_text().splitlines()] == ["published", "archived"]
    assert log.events().count("announcements_failed") >= 1
    assert "announcements_recovered" in log.events()


def test_a_queue_that_is_damaged_while_it_is_used_is_made_anew_and_told_of_the_l0s(tmp_path, l0):
    log, got = Recording(), tmp_path / "got.jsonl"
    path = tmp_path / "queue.sqlite"
    announcer = Announcer(
        str(path), (receiver("file", way=ToFile(path=str(got))),), "KPF", clock=lambda: l0.stat().st_mtime_ns + SECOND, log=log
    )
    try:
        path.write_bytes(b"no queue")
        announcer.catch_up(l0.parent)
        wait_for("the L0 to be announced", lambda: _lines(got) == 1)
    finally:
        assert announcer.close()
    assert "announcements_moved_aside" in log.events()
    assert "announcements_caught_up" in log.events()


def test_nothing_is_left_of_a_sender_that_was_stopped(tmp_path):
    before = threading.active_count()
    announcer = Announcer(str(tmp_path / "queue.sqlite"), (A, B), "KPF", clock=lambda: NOW, log=Recording())
    announcer.start()
    wait_for("its threads", lambda: threading.active_count() > before)
    assert announcer.close()
    assert threading.active_count() == before


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _date(l0: Path) -> str:
    from assembler.fits.versions import standing_l0

    return standing_l0(l0).written
