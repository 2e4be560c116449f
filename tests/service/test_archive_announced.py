"""Archiving is announced: at least once whenever it is stopped, in order, and only of what is there under its final name."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import stores
from announced import hooked

STRACE = shutil.which("strace")
FOLDER = "20240422"


class Desk:
    """An archive, a receiver, and a queue of one test's own."""

    def __init__(self, directory: Path, receivers: str) -> None:
        self.archive = directory / "archive"
        self.archive.mkdir()
        self.log = directory / "told.jsonl"
        self.yaml = directory / "announce.yaml"
        self.yaml.write_text(receivers.format(log=self.log))
        self.environ = {**os.environ, "XDG_STATE_HOME": str(directory / "state"), "XDG_CACHE_HOME": str(directory / "cache")}

    def run(self, l0s, *before: str) -> subprocess.CompletedProcess[str]:
        words = [*before, sys.executable, "-m", "assembler", "archive", *map(str, l0s), "--to", str(self.archive)]
        return subprocess.run([*words, "--announce", str(self.yaml)], capture_output=True, text=True, check=False, env=self.environ)

    @property
    def told(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


TO_FILE = "receivers:\n  - {{name: log, file: {log}}}\n"


def test_what_is_archived_is_told_with_its_place_and_checksum_and_a_duplicate_is_not_told_again(l0s, tmp_path):
    desk = Desk(tmp_path, TO_FILE)
    assert desk.run(l0s).returncode == 0
    assert [m["name"] for m in desk.told] == [l0.name for l0 in l0s]
    for message in desk.told:
        there = desk.archive / FOLDER / message["name"]
        sums = (desk.archive / FOLDER / "SHA256SUMS").read_text()
        assert (message["event"], message["url"], message["path"]) == ("archived", str(there), None)
        assert message["size"] == there.stat().st_size
        assert f"{message['checksum'].removeprefix('sha256:')}  {message['name']}\n" in sums
    before = desk.told
    result = desk.run(l0s)
    assert [line.split(": ")[1] for line in result.stdout.splitlines()] == ["duplicate"] * len(l0s)
    assert desk.told == before


def test_what_is_refused_is_not_told(l0s, tmp_path):
    desk = Desk(tmp_path, TO_FILE)
    broken = tmp_path / l0s[0].name
    broken.write_bytes(l0s[0].read_bytes()[:-1] + b"\1")
    assert desk.run([broken]).returncode == 1
    assert desk.told == []


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize("call", ["link", "fsync", "fdatasync", "pwrite64", "write"])
def test_killed_at_any_moment_there_is_one_file_one_receipt_and_a_message_in_the_end(l0s, tmp_path, call):
    """Kills before one after the other of the calls by which files, the queue and the receiver are written."""
    log = tmp_path / "calls"
    counted = Desk(make(tmp_path / "counted"), TO_FILE).run(l0s[:1], STRACE, "-f", "-o", str(log), "-e", f"trace={call}")
    if counted.returncode != 0 and not log.exists():
        pytest.skip("processes may not be traced here")
    count = max_by_thread(log.read_text(), call)
    assert count > 0
    numbers = sorted({1, 2, *range(1, count + 1, max(1, count // 4)), count} & {*range(1, count + 1)})
    kills = 0
    for number in numbers:
        desk = Desk(make(tmp_path / str(number)), TO_FILE)
        killed = desk.run(l0s[:1], STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={number}")
        kills += killed.returncode in (-9, 137)
        there = desk.archive / FOLDER / l0s[0].name
        assert not desk.told or there.read_bytes() == l0s[0].read_bytes()
        result = desk.run(l0s[:1])
        assert result.returncode == 0, (call, number, result.stderr)
        stores.check_folder(stores.in_directory(desk.archive, "", {}).files(), FOLDER, [l0s[0].name], desk.archive.parent)
        assert len({m["id"] for m in desk.told}) == 1, (call, number, result.stderr)
        assert {m["url"] for m in desk.told} == {str(there)}
    assert kills >= len(numbers) - 1


def make(directory: Path) -> Path:
    directory.mkdir()
    return directory


def max_by_thread(log: str, call: str) -> int:
    """Return how often the thread that calls most often does: a tracer counts for each of them."""
    counts: dict[str, int] = {}
    for thread in re.findall(rf"^(\d+) +{call}\(", log, re.MULTILINE):
        counts[thread] = counts.get(thread, 0) + 1
    return max(counts.values(), default=0)


def test_while_the_receiver_is_away_messages_wait_and_then_come_in_order(l0s, tmp_path):
    with hooked() as hook:
        port = hook.port
    desk = Desk(tmp_path, f"receivers:\n  - {{{{name: hook, webhook: 'http://127.0.0.1:{port}/l0'}}}}\n")
    for l0 in l0s:
        result = desk.run([l0])
        assert result.returncode == 0
        assert "wait for hook" in result.stderr
    with hooked(port) as hook:
        sent = subprocess.run(
            [sys.executable, "-m", "assembler", "announce", "--announce", str(desk.yaml), "--patience", "60 s"],
            capture_output=True,
            text=True,
            check=False,
            env=desk.environ,
        )
        assert sent.returncode == 0, sent.stderr
        assert [m["name"] for m in hook.got] == [l0.name for l0 in l0s]
