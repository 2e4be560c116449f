"""The lease: one holder, whatever is killed, stopped, lost on the way, or shown by a clock."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lease_workers import PATIENCE, Workers, until

from assembler.errors import OutputError
from assembler.service.claims import Claims, Identity, has_ended, name_of, this_process
from assembler.service.lease import Lease, holder

TERM = 0.4
LONG = 600.0
RACERS = 4
STRACE = shutil.which("strace")


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def workers(out):
    found = Workers(out.parent)
    yield found
    found.stop()


def identity(name: str = "one") -> Identity:
    return Identity(host=name, pid=1, token=name * 4, started=0, version="test")


def age(out: Path, number: int, seconds: float) -> None:
    """Make a claim older."""
    path = out / name_of(number)
    then = path.stat().st_mtime_ns - round(seconds * 1e9)
    os.utime(path, ns=(then, then))


def names(out: Path) -> list[str]:
    return sorted(os.listdir(out))


# Real processes


@pytest.mark.parametrize("offsets", [(0.0,) * RACERS, (0.0, -86400.0, 86400.0, -3.0)], ids=["true-clocks", "clocks-that-are-off"])
def test_of_racing_processes_one_holds_at_a_time(workers, out, offsets):
    """Each makes a file that must not be there while it holds the lease, ten times."""
    racers = [workers.start(out, term=LONG, offset=offset, mode="race") for offset in offsets]
    assert [racer.wait(PATIENCE) for racer in racers] == [0] * RACERS, workers.said()
    held = [int(line.split()[1]) for line in workers.said()]
    assert sorted(held) == list(range(1, 10 * RACERS + 1))
    assert names(out) == [name_of(10 * RACERS)]


def test_of_a_holder_that_is_killed_exactly_one_takes_over(workers, out):
    first = workers.start(out)
    until(lambda: workers.said(first))
    for offset in (0.0, -86400.0, 86400.0):
        workers.start(out, offset=offset)
    first.kill()
    number = int(workers.said(first)[-1].split()[1]) + 1
    until(lambda: f"held {number}" in workers.said())
    assert workers.said().count(f"held {number}") == 1
    until(lambda: workers.holder(out) is not first)


def test_a_holder_that_was_stopped_for_longer_than_the_term_notices_that_it_lost(workers, out):
    first = workers.start(out)
    until(lambda: workers.said(first))
    workers.start(out)
    first.send_signal(signal.SIGSTOP)
    until(lambda: workers.holder(out) is not first)
    first.send_signal(signal.SIGCONT)
    until(lambda: any(line.startswith("lost") for line in workers.said(first)))
    held = [line for line in workers.said() if line.startswith("held")]
    assert len(held) == len(set(held))


def test_a_holder_that_was_stopped_while_nobody_asked_goes_on_under_the_next_number(workers, out):
    first = workers.start(out)
    until(lambda: workers.said(first))

    def goes_on() -> bool:
        """Stop it, for as long as its claim says then; where that hits it in the middle of renewing, it may not be late."""
        first.send_signal(signal.SIGSTOP)
        os.waitpid(first.pid, os.WUNTRACED)
        age(out, holder(out).number, 10 * TERM)
        first.send_signal(signal.SIGCONT)
        return len(workers.said(first)) > 1

    until(goes_on)
    said = workers.said(first)
    assert said == [f"held {number + 1}" for number in range(len(said))]


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize("call", ["fsync", "utimensat", "link,linkat", "unlink,unlinkat"])
def test_killed_at_each_step_of_taking_it_nothing_is_left_for_longer_than_the_term(out, call):
    if subprocess.run([STRACE, "-f", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        pytest.skip("processes may not be traced here")
    take = (
        "import sys; from pathlib import Path; from assembler.service.claims import this_process; "
        "from assembler.service.lease import Lease; assert Lease.acquire(Path(sys.argv[1]), 600, this_process('test', 0))"
    )
    killed = 0
    for when in range(1, 5):
        inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={when}"]
        result = subprocess.run([*inject, sys.executable, "-Bc", take, str(out)], capture_output=True, text=True, check=False)
        killed += result.returncode != 0
        assert result.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), result.stderr
        for name in os.listdir(out):
            os.utime(out / name, (1, 1))
        lease = Lease.acquire(out, LONG, identity())
        assert lease.is_mine()
        assert names(out) == [name_of(lease.number)]
        lease.release()
    assert killed


# One step after the other


def test_who_holds_it_keeps_it_from_others_and_is_told(out):
    mine = Lease.acquire(out, LONG, identity())
    assert Lease.acquire(out, LONG, identity("two")) is None
    assert mine.renew()
    assert mine.is_mine()
    assert (holder(out), mine.holder()) == (holder(out),) * 2
    assert str(holder(out)) == "process 1 on one (lease 1)"
    assert holder(out).identity == identity()
    assert names(out) == [name_of(1)]


def test_a_released_lease_is_free_at_once_and_its_numbers_go_on(out):
    first = Lease.acquire(out, LONG, identity())
    first.release()
    assert (holder(out), first.is_mine(), first.renew()) == (None, False, False)
    second = Lease.acquire(out, LONG, identity())
    assert second.number == 2
    first.release()
    assert second.is_mine()
    assert names(out) == [name_of(2)]


def test_an_expired_claim_is_outdone_and_its_holder_is_told(out):
    first = Lease.acquire(out, LONG, identity())
    age(out, 1, LONG + 1)
    second = Lease.acquire(out, LONG, identity("two"))
    assert (second.is_mine(), first.is_mine(), first.renew()) == (True, False, False)
    first.release()
    assert second.renew()


def test_a_claim_from_before_the_servers_clock_was_set_back_does_not_hold_for_ever(out):
    Lease.acquire(out, LONG, identity())
    age(out, 1, -LONG / 2)
    assert Lease.acquire(out, LONG, identity("two")) is None
    age(out, 1, -2 * LONG)
    assert Lease.acquire(out, LONG, identity("two"))


def test_stray_temporary_files_are_cleaned_by_the_next_holder_when_they_are_old(out):
    for name in ("old", "fresh"):
        (out / f".watcher.lease.{name}.part").write_text("x")
    os.utime(out / ".watcher.lease.old.part", (1, 1))
    (out / ".watcher.lease.link.part").symlink_to("/dev/zero")
    (out / ".KP.fits.old.part").write_text("not ours")
    os.utime(out / ".KP.fits.old.part", (1, 1))
    Lease.acquire(out, LONG, identity())
    assert names(out) == [".KP.fits.old.part", name_of(1), ".watcher.lease.fresh.part", ".watcher.lease.link.part"]


def test_a_directory_that_was_removed_and_made_again_has_a_new_holder(out):
    first = Lease.acquire(out, LONG, identity())
    (out / name_of(1)).unlink()
    out.rmdir()
    assert (first.is_mine(), first.renew()) == (False, False)
    with pytest.raises(OutputError, match=r"out: the watcher's lease cannot be .*: No such file or directory; the directory has to be"):
        Lease.acquire(out, LONG, identity())
    out.mkdir()
    second = Lease.acquire(out, LONG, identity("two"))
    assert (second.number, second.is_mine(), first.is_mine(), first.renew()) == (1, True, False, False)
    first.release()
    assert second.is_mine()


def test_a_directory_that_cannot_be_written_to_is_a_clear_error(out):
    """A file system that is mounted for reading only stops root too."""
    script = """
        mount -t tmpfs -o size=64k tmpfs "$1" && "$2" -c "$3" "$1" make && mount -o remount,ro "$1" || exit 77
        exec "$2" -c "$3" "$1" ask"""
    ask = """
import sys
from pathlib import Path
from assembler.errors import OutputError
from assembler.service.claims import this_process
from assembler.service.lease import Lease, holder
directory = Path(sys.argv[1])
if sys.argv[2] == "make":
    assert Lease.acquire(directory, 600, this_process("test", 0))
else:
    assert holder(directory)
    try:
        Lease.acquire(directory, 600, this_process("test", 0))
    except OutputError as error:
        print(error.retry, error)
"""
    for unshare in (["unshare", "-Urm"], ["unshare", "-m"]):
        program = [*unshare, "sh", "-c", script, "sh", str(out), sys.executable, ask]
        result = subprocess.run(program, capture_output=True, text=True, check=False)
        if result.returncode not in (1, 77):
            break
    else:
        pytest.skip("no name space and no mount is to be had here")
    assert result.stdout.startswith(f"True {out}: the watcher's lease cannot be taken: Read-only file system; "), result.stderr


@pytest.mark.parametrize("call", ["fstat", "utime", "pread"])
def test_a_claim_that_another_host_removes_right_after_it_was_opened_is_gone(out, monkeypatch, call):
    """Over a network, what is asked of an open file fails then."""
    claims = Claims(out)
    mine = Lease.acquire(out, LONG, identity())

    def stale(*_, **__):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, call, stale)
    told = [claims.read(name_of(1)) if call != "utime" else None, claims.touch(name_of(1)) if call != "pread" else None]
    claims.expire(name_of(1))
    held = mine.renew()
    monkeypatch.undo()
    assert (told, held) == ([None, None], False)


@pytest.mark.parametrize("late", [False, True])
def test_a_link_whose_answer_was_lost_is_found(out, monkeypatch, late):
    real = os.link

    def lossy(*arguments, **options):
        real(*arguments, **options)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "link", lossy)
    mine = Lease.acquire(out, LONG, identity())
    if late:
        age(out, 1, LONG + 1)
        assert mine.renew()
    assert (mine.is_mine(), mine.number) == (True, 1 + late)


def test_a_link_that_fails_leaves_nothing(out, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(OutputError, match="cannot be taken: Operation not permitted"):
        Lease.acquire(out, LONG, identity())
    assert names(out) == []


def test_something_else_under_the_name_of_a_claim_is_a_clear_error(out):
    (out / name_of(7)).mkdir()
    with pytest.raises(OutputError, match=r"000007 is no regular file; remove it"):
        Lease.acquire(out, LONG, identity())


BROKEN = [b"", b"[]", b"null", b"[" * 100_000, b"{" + b" " * 10_000, b'{"host": 1}', b"9" * 5000, b"\xff\xfe", json.dumps(dict.fromkeys(
    ("host", "token", "version", "pid", "started"), True)).encode()]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_claim_that_says_nothing_of_use_holds_and_expires_like_any_other(out, content):
    (out / name_of(3)).write_bytes(content)
    assert Lease.acquire(out, LONG, identity()) is None
    assert str(holder(out)) == "someone who does not say who (lease 3)"
    age(out, 3, LONG + 1)
    assert Lease.acquire(out, LONG, identity()).number == 4


@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from(["host", "pid", "token", "started", "version"]), st.text()
    | st.integers() | st.floats() | st.none()).map(lambda told: json.dumps(told).encode()))  # fmt: skip
def test_whatever_a_claim_says_the_message_is_one_short_printable_line(content):
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, name_of(1)).write_bytes(content)
        assert str(holder(Path(directory))).isprintable()
        assert len(str(holder(Path(directory)))) < 200


def test_names_that_are_no_claims_do_not_count(out):
    for name in (".watcher.lease.9", ".watcher.lease.0000012", ".watcher.lease.x00001", "watcher.lease.000009", ".watcher.lease.000009~"):
        (out / name).touch()
    assert Lease.acquire(out, LONG, identity()).number == 1


def test_two_tokens_are_never_the_same():
    assert this_process("test", 0).token != this_process("test", 0).token


# Any order of steps, with the server's clock in the test's hands


class World:
    """Directories, a clock, and what happens between two steps of a process: time passes, and others do theirs."""

    def __init__(self, directory: Path, script) -> None:
        self.directory = directory
        self.now = 10**18
        self.script = iter(script)
        self.leases: dict[str, Lease] = {}
        self.busy: set[str] = set()
        self.renewed: dict[int, int] = {}
        self.winners: dict[int, str] = {}
        self.released: set[int] = set()

    def step(self) -> None:
        """Let happen what the script says next, within the step of whoever is at it, who is paused meanwhile."""
        pause, name, action = next(self.script, (0, "", ""))
        self.now += pause
        if not name or name in self.busy:
            return
        self.busy.add(name)
        lease = self.leases.get(name)
        if action == "release" and lease:
            number = lease.number
            lease.release()
            self.released.add(number)
            del self.leases[name]
        elif action == "go" and lease:
            if lease.renew():
                self.confirm(name, lease)
            else:
                del self.leases[name]
        elif action == "go":
            lease = Lease.acquire(self.directory, 1e-7, identity(name), claims=lambda path: Stepwise(path, self, name))
            if lease:
                self.leases[name] = lease
                self.confirm(name, lease)
        self.busy.remove(name)

    def confirm(self, name: str, lease: Lease) -> None:
        """Note until when a process may believe that it holds."""
        assert self.winners.setdefault(lease.number, name) == name
        path = self.directory / name_of(lease.number)
        if path.exists():
            self.renewed[lease.number] = path.stat().st_mtime_ns


class Stepwise(Claims):
    """Claims with a pause before each step, and the clock of the world."""

    def __init__(self, directory: Path, world: World, name: str) -> None:
        super().__init__(directory)
        self.world = world
        self.name = name

    def scan(self):
        self.world.step()
        return super().scan()

    def read(self, name):
        self.world.step()
        return super().read(name)

    def touch(self, name):
        self.world.step()
        path = self.directory / name
        if not path.exists():
            return None
        before = path.stat().st_mtime_ns
        os.utime(path, ns=(self.world.now, self.world.now))
        return before, self.world.now

    def link(self, name, number):
        self.world.step()
        made = super().link(name, number)
        if made and number > max(self.world.winners, default=0):
            self.world.winners[number] = self.name
            renewed = self.world.renewed.get(number - 1)
            kept = self.world.winners.get(number - 1) == self.name or number - 1 in self.world.released
            assert kept or renewed is None or self.world.now - renewed > 100, "taken from a holder that had renewed it"
        return made

    def remove(self, name):
        self.world.step()
        super().remove(name)


WHO = st.sampled_from(["", "", "", "", "", "", "a", "b", "c"])
STEP = st.tuples(st.sampled_from([0, 0, 1, 30, 60, 101]), WHO, st.sampled_from(["go", "go", "go", "go", "release"]))


class Paused(Claims):
    """Claims whose owner is paused once before a step, while others do theirs."""

    def __init__(self, directory: Path, step: str, meanwhile) -> None:
        super().__init__(directory)
        self.step = step
        self.meanwhile = meanwhile

    def pause(self, step: str) -> None:
        if step == self.step:
            self.step = ""
            self.meanwhile()

    def read(self, name):
        self.pause("read")
        return super().read(name)

    def link(self, name, number):
        self.pause("link")
        return super().link(name, number)


def test_one_that_was_paused_before_its_link_does_not_win_a_number_that_is_long_past(out):
    Lease.acquire(out, LONG, identity("dead"))
    age(out, 1, LONG + 1)
    others = []

    def meanwhile():
        others.append(Lease.acquire(out, LONG, identity("two")))
        age(out, 2, LONG + 1)
        others.append(Lease.acquire(out, LONG, identity("three")))

    assert Lease.acquire(out, LONG, identity(), claims=lambda path: Paused(path, "link", meanwhile)) is None
    assert [lease.is_mine() for lease in others] == [False, True]
    assert others[1].renew()
    assert names(out) == [name_of(3)]


def test_one_that_was_paused_over_many_renewals_does_not_take_them_for_a_clock_set_back(out):
    world = World(out, [])
    mine = Lease.acquire(out, 1e-7, identity(), claims=lambda path: Stepwise(path, world, "one"))

    def meanwhile():
        for _ in range(3):
            world.now += 60
            assert mine.renew()

    class Both(Paused, Stepwise):
        def __init__(self, path: Path) -> None:
            Stepwise.__init__(self, path, world, "two")
            self.step, self.meanwhile = "read", meanwhile

    assert Lease.acquire(out, 1e-7, identity("two"), claims=Both) is None
    assert mine.is_mine()


@given(st.lists(STEP, max_size=120))
def test_however_their_steps_interleave_no_number_is_won_twice_and_none_is_taken_before_its_term(script):
    """Pauses any process between any two steps, for less or more than the term of 100 ns."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), script)
        for _ in range(len(script) + 1):
            world.step()
        assert [number for number, _ in sorted(world.winners.items())] == list(range(1, len(world.winners) + 1))
        assert sum(lease.is_mine() for lease in world.leases.values()) <= 1
        assert not [name for name in os.listdir(directory) if name.endswith(".part")]


def test_the_lease_of_a_process_that_was_killed_here_is_free_at_once(tmp_path):
    code = (
        "import sys, pathlib; from assembler.service.lease import Lease; from assembler.service.claims import this_process;"
        "assert Lease.acquire(pathlib.Path(sys.argv[1]), 1000.0, this_process('test', 0)); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holding:
        assert holding.stdout.readline() == b"held\n"
        assert Lease.acquire(tmp_path, 1000.0, this_process("test", 0)) is None
        holding.kill()
    assert Lease.acquire(tmp_path, 1000.0, this_process("test", 0)) is not None


@pytest.mark.parametrize("process", ["", "another-kernel 1 7", "x", "a b c d"])
def test_of_a_process_of_another_kernel_nothing_is_known(process):
    assert not has_ended(Identity(host="h", pid=2**22 + 1, token="t", started=0, version="v", process=process))


def test_a_process_that_runs_has_not_ended():
    assert not has_ended(this_process("test", 0))
