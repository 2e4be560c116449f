"""Announcing from the command line: what is published is announced once it is there, and whatever fails of it costs no L0."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import kpf_night
import pytest
from announced import hooked, in_order_of_first

STRACE = shutil.which("strace")
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    """Keep the queue away from the user's own."""
    directory = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(directory))
    return directory


@pytest.fixture
def told(tmp_path):
    """Return what writes announce.yaml, with a file first, and returns its path."""

    def write(*more: str) -> Path:
        path = tmp_path / "announce.yaml"
        path.write_text("\n".join(["receivers:", "- {name: log, file: got.jsonl}", *(f"- {entry}" for entry in more), ""]))
        return path

    return write


@pytest.fixture
def got(tmp_path):
    def read() -> list[dict]:
        path = tmp_path / "got.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read


@pytest.fixture
def assemble(call, night, tmp_path):
    def run(announce: Path, *words: object, out: str = "out") -> tuple[int, str, str]:
        return call("assemble", night.directory, "--frame", night.frames[0], "--out", tmp_path / out, "--announce", announce, *words)

    return run


def sha256(path: Path | str) -> str:
    return "sha256:" + hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_what_was_published_is_announced_once_with_what_is_in_it(assemble, told, got):
    code, out, _ = assemble(told())
    assert code == 0
    path = Path(out.strip())
    (message,) = got()
    assert (message["event"], message["path"], message["name"], message["version"]) == ("published", str(path), path.name, 1)
    assert (message["size"], message["checksum"]) == (path.stat().st_size, sha256(path))
    assert (message["instrument"], message["frame"], message["supersedes"], message["url"]) == ("KPF", 215921, None, None)
    assert message["origins"] == ["green", "red", "ca_hk", "expmeter", "guide"]
    assert message["findings"]["codes"]["no-history"] == 1
    assert assemble(told())[0] == 0
    assert len(got()) == 1


def test_a_version_that_supersedes_tells_which_and_one_that_was_superseded_meanwhile_where_it_is(assemble, call, told, got, history_url):
    away = told("{name: hook, webhook: 'http://127.0.0.1:1/'}")
    assemble(away)
    assert assemble(away, "--history", history_url, "--supersede", "the history")[0] == 0
    first, second = got()
    assert second["version"] == 2
    assert second["supersedes"]["version"] == 1
    assert second["supersedes"]["checksum"] == first["checksum"] == sha256(second["supersedes"]["path"])
    assert second["checksum"] == sha256(second["path"])
    assert Path(second["supersedes"]["path"]).parent.name == "superseded"


def test_a_version_that_was_superseded_before_its_message_was_made_is_told_from_where_it_is_kept(
    assemble, told, got, tmp_path, night, call
):
    """While another process has the lock, nothing is made or sent."""
    from assembler.service.announcement_queue import SendingLock

    (tmp_path / "state" / "l0-assembler").mkdir(parents=True)
    lock = SendingLock(str(tmp_path / "state" / "l0-assembler" / "KPF.announcements.sqlite"))
    assert lock.take()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assembler.announcing.AFTERWARDS", 0.2)
        assemble(told())
        code, _, said = assemble(told(), "--supersede", "without green", "--corrections", _corrections(tmp_path))
    assert code == 0, said
    assert "2 wait for log (not sent yet)" in said
    lock.release()
    assert call("announce", "--announce", told())[0] == 0
    first, second = got()
    assert [first["version"], second["version"]] == [1, 2]
    assert first["path"] == second["supersedes"]["path"]
    assert (first["name"], first["checksum"]) == (second["name"], sha256(first["path"]))


def _corrections(tmp_path: Path) -> Path:
    directory = tmp_path / "wrong"
    directory.mkdir()
    (directory / "a.yaml").write_text(
        "corrections:\n- {reason: a test, frames: 215921, origin: green, keyword: EXPTIME, value: 30068}\n", encoding="utf-8"
    )
    return directory


def test_an_l0_that_was_removed_and_made_again_is_another_file_and_is_announced_again(assemble, told, got):
    path = Path(assemble(told())[1].strip())
    path.unlink()
    assemble(told())
    first, second = got()
    assert (first["path"], first["version"]) == (second["path"], second["version"])
    assert first["id"] != second["id"]
    assert second["checksum"] == sha256(path)


def test_receivers_that_are_away_cost_a_line_and_are_caught_up_by_announce(assemble, call, told, got):
    with hooked() as hook:
        hook.answer = lambda request: hook.say(request, 503)
        announce = told(f"{{name: hook, webhook: '{hook.url}', headers: {{Authorization: Bearer s3cr3t}}}}")
        code, _, said = assemble(announce)
        assert code == 0
        why = f"http://127.0.0.1:{hook.port}: answered 503 Service Unavailable"
        assert f"announcements: 1 wait for hook ({why}); `assembler announce` sends them" in said
        assert "s3cr3t" not in said
        assert len(got()) == 1
        code, listed, _ = call("announce", "--announce", announce, "--list", "--json")
        assert code == 0
        log, waits = json.loads(listed)
        assert (log["waiting"], waits["waiting"], waits["attempts"], waits["messages"][0]["id"]) == (0, 1, 1, got()[0]["id"])
        assert log["messages"] == []
        hook.answer = lambda request: hook.say(request, 200)
        code, sent, _ = call("announce", "--announce", announce)
        assert (code, sent.splitlines()[1]) == (0, f"hook (http://127.0.0.1:{hook.port}): nothing waits")
        assert hook.got == got()


def test_one_that_refuses_for_good_is_told_waits_and_is_skipped_by_hand(assemble, call, told, got):
    with hooked() as hook:
        hook.answer = lambda request: hook.say(request, 422, "what is an instrument?")
        announce = told(f"{{name: hook, webhook: '{hook.url}'}}")
        _, _, said = assemble(announce)
        assert said.count("answered 422 Unprocessable Entity what is an instrument?") == 1
        assert "refused for good" in said
        assert call("announce", "--announce", announce, "--patience", "0.3 s")[0] == 4
        code, skipped, _ = call("announce", "--announce", announce, "--skip", "hook")
        assert (code, skipped.strip()) == (0, got()[0]["id"])
        assert call("announce", "--announce", announce)[0] == 0
        assert hook.got == []


def test_what_announce_is_told_wrongly_is_one_clear_error(call, told):
    assert call("announce")[::2] == (
        2,
        "assembler: nobody is told of L0s: there is no announce.yaml beside the instrument's YAML; name one with --announce\n",
    )
    assert call("announce", "--announce", told(), "--skip", "hook")[2].startswith(
        "assembler: --skip 'hook': no receiver has this name; expected log"
    )
    assert call("announce", "--announce", told(), "--skip", "log")[2] == "assembler: --skip log: nothing waits for it\n"
    assert call("announce", "--announce", told(), "--skip", "log", "--list")[0] == 2
    assert call("announce", "--announce", told("{name: log, file: x}"))[2].startswith(
        f"assembler: {told('{name: log, file: x}')}:3: receivers[1].name: another"
    )


def test_a_wrong_yaml_is_told_before_anything_is_made(assemble, told, tmp_path):
    code, _, said = assemble(told("{name: x}"))
    assert code == 2
    assert "announce.yaml:3: receivers[1]: expected one of file, webhook, command, broker" in said
    assert not (tmp_path / "out").exists()


def test_a_queue_that_cannot_be_written_costs_a_warning_and_the_next_run_heals_it(assemble, told, got, state):
    state.write_text("no directory")
    code, out, said = assemble(told())
    assert code == 0
    assert Path(out.strip()).exists()
    assert said.startswith(f"announcements: {state}/l0-assembler/KPF.announcements.sqlite: announcements cannot be queued: ")
    state.unlink()
    assert assemble(told())[0] == 0
    assert len(got()) == 1


def test_a_queue_on_a_network_disk_costs_a_warning_and_nobody_is_told(assemble, told, got, tmp_path, monkeypatch):
    (tmp_path / "mountinfo").write_text("1 0 0:1 / / rw - nfs4 server:/ rw\n")
    monkeypatch.setattr("assembler.service.mounts.MOUNTINFO", tmp_path / "mountinfo")
    code, _, said = assemble(told())
    assert code == 0
    assert "is on a network file system (nfs4)" in said.splitlines()[0]
    assert "nobody is told" in said.splitlines()[0]
    assert got() == []


def test_a_night_is_announced_in_order_and_run_again_nothing_is_announced_twice(call, tmp_path, told, got):
    night = kpf_night.make_night(tmp_path / "more", exposures=6, shape=(8, 6))
    words = ("night", night.directory, "--out", tmp_path / "l0", "--jobs", 2, "--announce", told())
    code, out, _ = call(*words)
    assert code == 0
    assert [message["path"] for message in got()] == out.split()
    assert call(*words)[0] == 0
    assert call(*words, "--diff")[0] == 0
    assert len(got()) == 6


def test_what_a_stop_left_unannounced_is_announced_by_a_night_that_makes_only_what_is_missing(call, tmp_path, told, got):
    night = kpf_night.make_night(tmp_path / "more", exposures=2, shape=(8, 6))
    words = ("night", night.directory, "--out", tmp_path / "l0", "--jobs", 1, "--announce", told())
    call(*words, "--frames", night.frames[0])
    call(*words[:-2], "--frames", night.frames[1])  # as if it had been killed before it was put in
    assert len(got()) == 1
    assert call(*words, "--only-missing")[0] == 0
    assert [message["frame"] for message in got()] == list(night.frames)


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_killed_at_any_moment_and_run_again_there_is_one_l0_and_one_message_at_least(night, tmp_path, told, got, state):
    """Kills at each write, sync and rename of the queue, the file and the L0."""
    probe = subprocess.run([STRACE, "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("processes may not be traced here")
    out, announce = tmp_path / "out", told()
    command = [sys.executable, "-m", "assembler", "assemble", str(night.directory), "--frame", str(night.frames[0])]
    command += ["--out", str(out), "--announce", str(announce)]
    kills = 0
    for call, step in (("fsync,fdatasync", 2), ("pwrite64", 9), ("link,linkat,rename,unlink", 2), ("write", 3)):
        for when in range(1, 80, step):
            for path in (out, state):
                shutil.rmtree(path, ignore_errors=True)
            (tmp_path / "got.jsonl").unlink(missing_ok=True)
            inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={when}"]
            result = subprocess.run([*inject, *command], capture_output=True, text=True, check=False, cwd=ROOT)
            if result.returncode == 0:
                break
            assert result.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), result.stderr
            kills += 1
            again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            assert again.returncode == 0, again.stderr
            assert "announcements" not in again.stderr
            (path,) = out.glob("*.fits")
            assert in_order_of_first([message["id"] for message in got()]) == [got()[-1]["id"]]
            assert got()[-1]["checksum"] == sha256(path)
        else:
            pytest.fail(f"{call}: no run got through")
    assert kills > 10
