"""A watcher that announces: receivers never hold it up, and what it published is announced, whatever stops it in between."""

import json
import os
import urllib.request
from pathlib import Path

import pytest
from announced import hooked, in_order_of_first
from watching import STRACE, Watched, wait_for


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path, exposures=3)
    yield watched
    watched.close()


def announce(watched: Watched, *receivers: str) -> Path:
    path = watched.work / "announce.yaml"
    path.write_text("\n".join(["receivers:", "- {name: log, file: got.jsonl}", *(f"- {entry}" for entry in receivers), ""]))
    return path


def got(watched: Watched) -> list[dict]:
    path = watched.work / "got.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def metrics(watched: Watched) -> str:
    port = next(told["port"] for told in reversed(watched.events()) if told["event"] == "answering")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_a_webhook_that_is_down_over_a_restart_gets_all_in_order_afterwards(watched):
    first, second, third = watched.frames
    with hooked() as hook:
        pass  # nobody is at its port now
    path = announce(watched, f"{{name: hook, webhook: '{hook.url}'}}")
    watched.begin("--announce", path)
    watched.deliver(first)
    watched.wait("published", frame=first)
    watched.wait("announced", receiver="log")
    watched.wait("receiver_failed", receiver="hook")
    wait_for("the metric", lambda: 'assembler_announcements_waiting{receiver="hook"} 1.0' in metrics(watched))
    assert 'assembler_announcements_total{receiver="log",result="received"} 1.0' in metrics(watched)
    watched.deliver(second)
    watched.wait("published", frame=second)
    watched.end()
    with hooked(hook.port) as again:
        watched.begin("--announce", path)
        watched.deliver(third)
        watched.wait("receiver_answers_again", receiver="hook")
        wait_for("the webhook to have all", lambda: len(set(again.ids())) == 3)
        watched.end()
    assert [told["frame"] for told in got(watched)] == [first, second, third]
    assert in_order_of_first(again.ids()) == [told["id"] for told in got(watched)]


def test_a_command_that_hangs_holds_up_neither_l0s_nor_the_stop(watched):
    watched.begin("--announce", announce(watched, "{name: hanging, command: [sleep, '600'], timeout: 600 s}"))
    for frame in watched.frames:
        watched.deliver(frame)
        watched.wait("published", frame=frame)
    wait_for("the file to have all", lambda: len(got(watched)) == 3)
    watched.end()
    assert watched.events()[-1]["finished"]


def test_a_new_version_is_announced_after_the_one_that_it_supersedes(watched):
    frame = watched.frames[0]
    watched.write_yaml(2)
    watched.begin("--announce", announce(watched))
    watched.deliver(frame, but=("red",))
    watched.wait("published", frame=frame, version=1)
    watched.deliver(frame, "red")
    watched.wait("published", frame=frame, version=2)
    wait_for("both messages", lambda: len(got(watched)) == 2)
    watched.end()
    one, two = got(watched)
    assert (one["version"], two["version"]) == (1, 2)
    assert two["supersedes"]["checksum"] == one["checksum"]
    assert "red" not in one["origins"]
    assert "red" in two["origins"]


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_killed_between_publishing_and_announcing_it_announces_at_the_next_start(watched, call):
    first, second, _ = watched.frames
    path = announce(watched)
    watched.begin("--announce", path)
    watched.deliver(first)
    wait_for("the first message", lambda: len(got(watched)) == 1)
    queue = watched.journal.with_suffix(".announcements.sqlite-wal")
    watched.inject("-P", queue, "-e", "trace=pwrite64,fdatasync", "-e", f"inject={call}:signal=KILL:when=1")
    watched.deliver(second)
    watched.process.wait(60)
    assert second in watched.l0s()
    watched.begin("--announce", path)
    wait_for("the message of what was published", lambda: len({told["id"] for told in got(watched)}) == 2)
    watched.end()
    assert in_order_of_first([told["frame"] for told in got(watched)]) == [first, second]


def test_what_was_published_while_the_queue_could_not_be_written_is_announced_at_the_next_start(watched):
    """It is killed before the queue is back."""
    first, second, _ = watched.frames
    path = announce(watched)
    watched.begin("--announce", path)
    watched.deliver(first)
    wait_for("the first message", lambda: len(got(watched)) == 1)
    queue = watched.journal.with_suffix(".announcements.sqlite")
    queue.rename(queue.with_suffix(".away"))
    queue.mkdir()
    watched.deliver(second)
    watched.wait("published", frame=second)
    watched.wait("announcements_failed")
    watched.process.kill()
    watched.process.wait()
    queue.rmdir()
    queue.with_suffix(".away").rename(queue)
    watched.begin("--announce", path)
    watched.wait("announcements_caught_up", l0s=1)
    wait_for("the other message", lambda: len(got(watched)) == 2)
    watched.end()
    assert [told["frame"] for told in got(watched)] == [first, second]


def test_l0s_that_were_there_before_anybody_was_to_be_told_are_not_announced(watched):
    first, second, _ = watched.frames
    watched.begin()
    watched.deliver(first)
    watched.wait("published", frame=first)
    watched.end()
    (old,) = watched.l0s().values()
    os.utime(old, (1_700_000_000, 1_700_000_000))
    watched.begin("--announce", announce(watched))
    watched.deliver(second)
    wait_for("a message", lambda: bool(got(watched)))
    watched.end()
    assert [told["frame"] for told in got(watched)] == [second]


def test_a_standby_that_takes_over_announces_what_the_other_one_published(watched):
    """The other one has a queue that nobody else can read, with what it did not get rid of."""
    first, second, _ = watched.frames
    watched.begin("--announce", announce(watched))
    other = watched.another("standby")
    other.journal = other.work / "journal.sqlite"
    other.start("--announce", announce(other))
    other.wait("lease_held_by_another")
    watched.deliver(first)
    wait_for("the first message", lambda: len(got(watched)) == 1)
    watched.process.kill()
    watched.process.wait()
    other.wait("watching")
    other.deliver(second)
    wait_for("both messages", lambda: len(got(other)) == 2)
    other.end()
    assert [told["frame"] for told in got(other)] == [first, second]
    assert got(other)[0]["id"] == got(watched)[0]["id"]


def test_a_queue_that_is_damaged_under_way_costs_no_announcement(watched):
    """What waited in it for the webhook is announced again, to everybody."""
    first, second, third = watched.frames
    with hooked() as hook:
        pass  # nobody is at its port now
    watched.begin("--announce", announce(watched, f"{{name: hook, webhook: '{hook.url}'}}"))
    watched.deliver(first)
    watched.wait("receiver_failed", receiver="hook")
    watched.deliver(second)
    wait_for("the second message", lambda: len(got(watched)) == 2)
    queue = watched.journal.with_suffix(".announcements.sqlite")
    for companion in ("-wal", "-shm"):
        queue.with_name(queue.name + companion).unlink()
    damaged = queue.with_suffix(".damaged")
    damaged.write_bytes(b"no queue" * 1000)
    damaged.rename(queue)
    watched.wait("announcements_moved_aside")
    watched.deliver(third)
    with hooked(hook.port) as again:
        wait_for("the webhook to have all", lambda: len(set(again.ids())) == 3)
        watched.end()
    assert in_order_of_first([told["frame"] for told in again.got]) == [first, second, third]
    assert in_order_of_first([told["frame"] for told in got(watched)]) == [first, second, third]
