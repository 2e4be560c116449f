"""Real faults of the journal: killed at any moment, two processes, bytes that changed, a full disk, a disk that fails."""

import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assembler.errors import ConfigurationError, OutputError
from assembler.service.journal import Journal
from assembler.service.journal_reader import ExposureName, Sighting, open_reader

KILLS = 30
STRACE = shutil.which("strace")
NOTE = """
import itertools, sys, time
from assembler.service.journal import Journal
from assembler.service.journal_reader import ExposureName, Sighting

journal = Journal(sys.argv[1], time.time_ns)
print("open", journal.moved_aside, flush=True)
for frame in itertools.count(int(sys.argv[2])):
    name = ExposureName(instrument="kpf", night="/data/night", frame=frame)
    for state in ("seen", "waiting", "ready", "assembling", "verified", "published"):
        found = [Sighting(path=f"/data/night/{frame}.fits", origin="red", signature=(1, 2, 3))] if state == "seen" else []
        journal.note(name, state, "d" * 50, sub_fits=found)
        print(frame, state, flush=True)
"""
FULL = """
import itertools, os, sys, time
from assembler.errors import OutputError
from assembler.service.journal import Journal
from assembler.service.journal_reader import ExposureName

def note(journal, frames):
    for frame in frames:
        journal.note(ExposureName(instrument="kpf", night="/n", frame=frame), "seen", "d" * 500)
        acknowledged.append(frame)

def fill(path):
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

acknowledged = []
frames = itertools.count()
disk = sys.argv[1]
journal = Journal(f"{disk}/journal.db", time.time_ns)
note(journal, itertools.islice(frames, 20))
for _ in range(3):
    fill(f"{disk}/ballast")
    try:
        note(journal, frames)
    except OutputError as error:
        assert error.retry and "no room left" in str(error), error
    assert journal.read.counts()["seen"] == len(acknowledged)
    os.unlink(f"{disk}/ballast")
    note(journal, itertools.islice(frames, 3))
    assert journal.renew() == ""
    assert journal.read.counts()["seen"] == len(acknowledged)
fill(f"{disk}/ballast")
try:
    Journal(f"{disk}/other.db", time.time_ns)
except OutputError as error:
    assert error.retry, error
else:
    raise AssertionError("a journal on a full disk")
os.unlink(f"{disk}/ballast")
note(Journal(f"{disk}/other.db", time.time_ns), [0])
assert [n for n in os.listdir(disk) if "corrupt" in n] == []
print("done")
"""


def ticks():
    return itertools.count(10**18, 10**9).__next__


def start(path, first=0) -> subprocess.Popen:
    """Start a process that notes states until it is killed, and tells each when it is noted."""
    program = [sys.executable, "-c", NOTE, str(path), str(first)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def traces(directory: Path) -> bool:
    """Tell whether a process may be traced here."""
    probe = [STRACE or "false", "-f", "-o", os.devnull, "true"]
    return subprocess.run(probe, cwd=directory, capture_output=True, check=False).returncode == 0


def test_killed_at_random_moments_it_knows_everything_that_was_acknowledged(tmp_path):
    path = tmp_path / "journal.db"
    generator = random.Random(4)
    acknowledged = {}
    for number in range(KILLS):
        process = start(path, 1000 * number)
        assert process.stdout.readline() == "open \n", process.communicate()
        lines = [process.stdout.readline() for _ in range(generator.randrange(40))]
        time.sleep(generator.uniform(0, 0.003))
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].splitlines(keepends=True)
        assert process.returncode == -signal.SIGKILL
        for line in lines:
            if line.endswith("\n"):
                frame, state = line.split()
                acknowledged[int(frame)] = state
    journal = Journal(path, ticks())
    assert journal.moved_aside == ""
    assert journal._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    order = ["seen", "waiting", "ready", "assembling", "verified", "published"]
    for frame, state in acknowledged.items():
        entry = journal.read.exposure(f"/data/night#{frame}")
        assert order.index(entry.state) in (order.index(state), order.index(state) + 1)
        assert [s.state for s in journal.read.history(entry.name.key)] == order[: order.index(entry.state) + 1]
        assert journal.read.sighting(f"/data/night/{frame}.fits").key == entry.name.key
    middle = [e for e in journal.read.open_exposures() if e.state in ("assembling", "verified")]
    assert {e.name: "ready" for e in middle}.items() <= {e.name: e.state for e in journal.resume()}.items()
    journal.close()
    assert sorted(os.listdir(tmp_path)) == ["journal.db", "journal.db.lock"]


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize("call", ["rename,renameat,renameat2", "fdatasync", "pwrite64", "unlink,unlinkat", "ftruncate"])
def test_killed_at_each_step_of_its_beginning_the_next_start_has_a_sound_journal(tmp_path, call):
    if not traces(tmp_path):
        pytest.skip("processes may not be traced here")
    for when in range(1, 12):
        directory = tmp_path / str(when)
        directory.mkdir()
        inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={when}"]
        program = [sys.executable, "-c", NOTE.replace("itertools.count(int(sys.argv[2]))", "[0]"), str(directory / "journal.db")]
        code = subprocess.run([*inject, *program], capture_output=True, check=False).returncode
        journal = Journal(directory / "journal.db", ticks())
        assert journal.moved_aside == ""
        assert sum(journal.read.counts().values()) <= 1
        journal.close()
        assert sorted(os.listdir(directory)) == ["journal.db", "journal.db.lock"]
        if code == 0:
            break
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL)


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize(("call", "error"), [("fdatasync", "EIO"), ("pwrite64", "ENOSPC"), ("pwrite64", "EIO")])
def test_a_disk_that_fails_is_told_and_a_note_is_not_acknowledged(tmp_path, call, error):
    """Fails every such call from the fortieth on, when the journal was made long since."""
    if not traces(tmp_path):
        pytest.skip("processes may not be traced here")
    inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:error={error}:when=40+"]
    program = [sys.executable, "-c", NOTE, str(tmp_path / "journal.db"), "0"]
    result = subprocess.run([*inject, *program], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"assembler.errors.OutputError: {tmp_path}/journal.db: ")
    lines = result.stdout.splitlines()[1:]
    journal = Journal(tmp_path / "journal.db", ticks())
    assert journal.moved_aside == ""
    steps = sum(len(journal.read.history(e.name.key)) for e in journal.read.last(1000))
    assert len(lines) <= steps <= len(lines) + 1
    journal.close()


def test_a_second_process_is_told_who_has_the_journal(tmp_path):
    path = tmp_path / "journal.db"
    process = start(path)
    assert process.stdout.readline() == "open \n"
    process.stdout.readline()
    with pytest.raises(OutputError, match=f"process {process.pid} has this journal") as told:
        Journal(path, ticks())
    assert told.value.retry
    reader = open_reader(str(path))
    before = reader.counts()
    while reader.counts() == before:
        process.stdout.readline()
    reader.close()
    process.kill()
    process.communicate()
    journal = Journal(path, ticks())
    assert sum(journal.read.counts().values()) > 0
    with pytest.raises(OutputError, match=f"process {os.getpid()} has this journal"):
        Journal(path, ticks())
    journal.close()
    Journal(path, ticks()).close()


def test_another_program_that_writes_the_file_is_waited_for_and_then_told(tmp_path):
    journal = Journal(tmp_path / "journal.db", ticks())
    journal._connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    name = ExposureName(instrument="kpf", night="/n", frame=1)
    with pytest.raises(OutputError, match="another program") as told:
        journal.note(name, "seen")
    assert told.value.retry
    other.execute("ROLLBACK")
    other.close()
    journal.note(name, "seen")
    journal.close()


def test_a_full_disk_is_told_and_when_there_is_room_again_it_goes_on(tmp_path):
    """Writes to a memory file system that is too small, mounted in a name space of its own."""
    script = 'mount -t tmpfs -o size=4m tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1"'
    for unshare in (["unshare", "-Urm"], ["unshare", "-m"]):
        program = [*unshare, "sh", "-c", script, "sh", str(tmp_path), sys.executable, FULL]
        result = subprocess.run(program, capture_output=True, text=True, check=False)
        if result.stdout:
            break
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> dict[str, bytes]:
    """Return the files of a journal with thirty exposures: closed, and as it is while it is open."""
    directory = tmp_path_factory.mktemp("template")
    path = directory / "journal.db"
    journal = Journal(path, ticks())
    fill(journal)
    files = {name: (directory / name).read_bytes() for name in ("journal.db-wal", "journal.db-shm")}
    files["journal.db-early"] = path.read_bytes()
    journal.close()
    files["journal.db"] = path.read_bytes()
    return files


def fill(journal: Journal) -> None:
    for frame in range(30):
        name = ExposureName(instrument="kpf", night="/data/night", frame=frame)
        journal.note(name, "seen", "x" * 300, sub_fits=[Sighting(path=f"/data/{frame}", origin="red", signature=(1, 2, 3))])
        if frame % 3:
            journal.note(name, "failed", reason="no FITS", again_at=10**18 if frame % 2 else None)


def use(directory: Path) -> Journal:
    """Open a journal whatever its bytes are, and use all of it: it is sound, or it was moved aside."""
    before = {p.name: p.read_bytes() for p in directory.iterdir()}
    journal = Journal(directory / "journal.db", ticks())
    if journal.moved_aside:
        assert journal.needs_rebuild
        aside = Path(journal.moved_aside)
        assert aside.name.startswith("journal.db.corrupt-20010909T")
        assert aside.read_bytes() == before["journal.db"] or "journal.db-wal" in before
        assert journal.read.last(5) == []
    for told in (journal.read.open_exposures, journal.read.counts, journal.read.sightings, journal.read.orphans, journal.resume):
        told()
    journal.read.due(2 * 10**18)
    for entry in journal.read.last(100):
        journal.read.history(entry.name.key)
    journal.note(ExposureName(instrument="kpf", night="/new", frame=1), "seen")
    journal.forget(2 * 10**18, ["/new"])
    assert journal.read.exposure("/new#1").state == "seen"
    journal.close()
    return journal


FLIPS = st.lists(st.tuples(st.integers(0, 10**6) | st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=150)
@given(flips=FLIPS, cut=st.none() | st.integers(0, 10**6))
def test_bytes_that_changed_cost_no_more_than_the_memory(tmp_path_factory, template, flips, cut):
    directory = tmp_path_factory.mktemp("journal")
    data = bytearray(template["journal.db"])
    for place, value in flips:
        data[place % len(data)] = value
    (directory / "journal.db").write_bytes(data if cut is None else data[: cut % len(data)])
    use(directory)


@settings(max_examples=60)
@given(flips=FLIPS, which=st.sampled_from(["journal.db", "journal.db-wal", "journal.db-shm"]), cut=st.none() | st.integers(0, 10**6))
def test_bytes_that_changed_in_what_lies_beside_cost_no_more_either(tmp_path_factory, template, flips, which, cut):
    directory = tmp_path_factory.mktemp("journal")
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        data = bytearray(template["journal.db-early" if name == "journal.db" else name])
        if name == which:
            for place, value in flips:
                data[place % len(data)] = value
            data = data if cut is None else data[: cut % len(data)]
        (directory / name).write_bytes(data)
    use(directory)


@settings(max_examples=30)
@given(data=st.binary(max_size=5000), begins=st.booleans())
def test_random_bytes_are_moved_aside(tmp_path_factory, data, begins):
    directory = tmp_path_factory.mktemp("journal")
    (directory / "journal.db").write_bytes((b"SQLite format 3\0" if begins else b"") + data)
    assert use(directory).moved_aside


@pytest.mark.parametrize("statement", ["CREATE TABLE t (x)", "DROP TABLE marks", "PRAGMA user_version = 1", "PRAGMA application_id = 1"])
def test_a_file_of_another_program_or_schema_is_moved_aside_whole(tmp_path, template, statement):
    path = tmp_path / "journal.db"
    if statement != "CREATE TABLE t (x)":
        path.write_bytes(template["journal.db"])
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    aside = use(tmp_path).moved_aside
    connection = sqlite3.connect(aside)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE exposures SET frame = 'x' WHERE frame = '3'",
        "UPDATE sub_fits SET signature = '1 2'",
        "UPDATE history SET state = 'gone' WHERE id = 3",
        "UPDATE exposures SET attempts = 'many'",
        "UPDATE exposures SET awaited = '{}'",
        "UPDATE exposures SET awaited = '[1]'",
        "UPDATE exposures SET missing = 'red'",
        "UPDATE exposures SET missing = printf('%.*c', 100000, '[')",
        "UPDATE exposures SET until = 'soon'",
        "DELETE FROM exposures WHERE frame = '3'",
    ],
)
def test_a_row_that_no_journal_has_is_damage(tmp_path, template, statement):
    path = tmp_path / "journal.db"
    path.write_bytes(template["journal.db"])
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    assert use(tmp_path).moved_aside


def test_two_that_are_moved_aside_in_one_second_do_not_meet(tmp_path):
    for number in range(3):
        (tmp_path / "journal.db").write_bytes(b"%d" % number)
        Journal(tmp_path / "journal.db", lambda: 10**18).close()
    aside = sorted(p for p in tmp_path.iterdir() if "corrupt" in p.name)
    assert [p.read_bytes() for p in aside] == [b"0", b"1", b"2"]


def test_a_log_whose_journal_is_gone_is_not_played_into_the_new_one(tmp_path, template):
    (tmp_path / "journal.db-wal").write_bytes(template["journal.db-wal"])
    journal = Journal(tmp_path / "journal.db", ticks())
    assert journal.moved_aside
    assert journal.read.last(1) == []
    journal.close()


def test_damage_under_way_is_told_and_mended_without_a_restart(tmp_path):
    path = tmp_path / "journal.db"
    journal = Journal(path, ticks())
    fill(journal)
    journal.renew()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(os.urandom(size))
    journal._connection.execute("PRAGMA shrink_memory")
    name = ExposureName(instrument="kpf", night="/data/night", frame=5)
    with pytest.raises(OutputError, match="damaged"):
        journal.note(name, "waiting")
    with pytest.raises(OutputError, match="damaged"):
        journal.read.last(30)
    assert "corrupt" in journal.renew()
    assert journal.needs_rebuild
    journal.note(name, "seen")
    journal.close()


def test_a_journal_that_was_removed_under_way_is_told_and_made_anew_without_a_restart(tmp_path):
    directory = tmp_path / "state"
    journal = Journal(directory / "journal.db", ticks())
    name = ExposureName(instrument="kpf", night="/n", frame=5)
    journal.note(name, "seen")
    shutil.rmtree(directory)
    with pytest.raises(OutputError, match="cannot be found any more"):
        journal.note(name, "waiting")
    journal.renew()
    assert journal.needs_rebuild
    journal.note(name, "seen")
    journal.close()


def test_what_cannot_be_a_journal_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be locked"):
        Journal(tmp_path / "file" / "journal.db", ticks())
    with pytest.raises(ConfigurationError, match="is a directory"):
        Journal(tmp_path, ticks())
