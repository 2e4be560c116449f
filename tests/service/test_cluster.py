"""A night on a real cluster: every L0 there once, whatever becomes of a worker or of the scheduler, and all of it told."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import distributed
import kpf_night
import pytest
from clusters import Cluster
from orders import night_order
from watching import PATIENCE, ROOT, Mounts, wait_for

from assembler.errors import ConfigurationError
from assembler.fits.blocks import scan
from assembler.service import cluster as clustered
from assembler.service import cluster_night
from assembler.service.finder import find_night
from assembler.service.night import Order, Result
from assembler.service.reader import verify_l0
from assembler.service.survey import survey_night
from assembler.telemetry import sqlite
from assembler.telemetry.load import read_samples

EXPOSURES = 8


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> kpf_night.Night:
    directory = tmp_path_factory.mktemp("night")
    night = kpf_night.make_night(directory, exposures=EXPOSURES, shape=(8, 6))
    sqlite.load(str(directory / "history.db"), read_samples(night.telemetry))
    return night


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with closing(Cluster(tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


@pytest.fixture
def cluster(running):
    yield running
    running.calm()


def history_of(night: kpf_night.Night) -> str:
    return f"sqlite:///{night.telemetry.with_name('history.db')}"


class Command:
    """The command, as a process of its own, on a cluster; its paths are relative to where it runs, and the workers run elsewhere."""

    def __init__(self, address: str, night: kpf_night.Night, out: Path, *words: object) -> None:
        place, there, history = (os.path.relpath(p, ROOT) for p in (night.directory, out, night.telemetry.with_name("history.db")))
        told = [sys.executable, "-m", "assembler", "night", place, "--out", there, "-i", "prefixes.yaml", "--json"]
        told += ["--history", f"sqlite:///{history}", "--scheduler", address, *words]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(word) for word in told], stdout=pipe, stderr=pipe, text=True, cwd=ROOT, start_new_session=True)

    def end(self) -> tuple[int, str]:
        """Return its exit code and what it told beside the result, one line each."""
        self.report, told = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, told

    @property
    def exposures(self) -> list[dict]:
        (night,) = json.loads(self.report)["nights"]
        return night["exposures"]

    @property
    def states(self) -> Counter:
        return Counter(exposure["state"] for exposure in self.exposures)


@pytest.fixture
def begin() -> Iterator[Callable[..., Command]]:
    """Return what begins commands; they end with the test."""
    begun = []

    def start(*words: object) -> Command:
        begun.append(Command(*words))
        return begun[-1]

    yield start
    for command in begun:
        command.process.kill()
        command.process.communicate()


@pytest.fixture
def order(kpf, recorded, tmp_path) -> Order:
    return night_order(kpf, tmp_path / "out", version="0.1.0")


def check(out: Path, count: int) -> None:
    """See that there is each L0 once, first version, verified, and nothing else."""
    names = sorted(os.listdir(out))
    assert (len(names), [name for name in names if name.startswith(".")]) == (count, [])
    for name in names:
        verify_l0(out / name)
        assert scan(str(out / name)).hdus[0].value("L0VER") == 1


def test_a_cluster_without_workers_is_one_clear_line_after_a_while(cluster, order, recorded):
    told = []
    cluster.have(0)
    with clustered.connect(cluster.address, told.append, patience=1.0) as there:
        wrong = pytest.raises(ConfigurationError, match="it has no workers within 1 s")
        with wrong, closing(there.make_night(order, survey_night(order.instrument, recorded.directory).tasks)) as making:
            list(making)
    assert told == [f"{cluster.address}: no worker is there that may be sent anything; waiting for one"]
    assert os.listdir(order.out) == []


def test_a_worker_that_is_killed_in_the_middle_costs_nothing_and_no_exposure_is_made_twice(cluster, recorded, tmp_path, begin):
    cluster.have(2)
    cluster.arrange("os.link", "stop", ".KP.")
    command = begin(cluster.address, recorded, tmp_path / "out", "--report", tmp_path / "report.csv")
    victim = cluster.stopped()
    drafts = [name for name in os.listdir(tmp_path / "out") if name.startswith(".KP.")]
    assert drafts  # it died while it had one
    os.kill(victim, signal.SIGKILL)
    code, told = command.end()
    assert (code, command.states) == (0, {"made": EXPOSURES})
    assert "is gone; others take over its" in told
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 1 + EXPOSURES
    check(tmp_path / "out", EXPOSURES)
    again = begin(cluster.address, recorded, tmp_path / "out")
    assert (again.end()[0], again.states) == (0, {"same": EXPOSURES})


def test_a_cluster_tells_what_would_be_and_writes_nothing(cluster, recorded, tmp_path, begin):
    cluster.have(2)
    out = tmp_path / "out"
    told = begin(cluster.address, recorded, out, "--diff")
    assert (told.end()[0], told.states, out.exists()) == (1, {"new": EXPOSURES}, False)
    assert begin(cluster.address, recorded, out, "--max-mb-s", 500).end()[0] == 0
    told = begin(cluster.address, recorded, out, "--diff")
    assert (told.end()[0], told.states) == (0, {"same": EXPOSURES})
    check(out, EXPOSURES)


def test_when_all_workers_are_gone_it_says_so_and_waits_for_others(cluster, recorded, tmp_path, begin):
    cluster.have(1)
    cluster.arrange("os.link", "stop", ".KP.")
    command = begin(cluster.address, recorded, tmp_path / "out")
    os.kill(cluster.stopped(), signal.SIGKILL)
    wait_for("it to say so", lambda: "waiting for one" in command.process.stderr.readline())
    cluster.have(1)
    assert (command.end()[0], command.states) == (0, {"made": EXPOSURES})
    check(tmp_path / "out", EXPOSURES)


def test_what_a_worker_published_before_it_was_killed_is_told_as_made(cluster, recorded, tmp_path, begin):
    cluster.have(2)
    cluster.arrange("os.remove", "stop", ".KP.")
    command = begin(cluster.address, recorded, tmp_path / "out")
    victim = cluster.stopped()
    assert [name for name in os.listdir(tmp_path / "out") if name.startswith("KP.")]
    os.kill(victim, signal.SIGKILL)
    assert (command.end()[0], command.states) == (0, {"made": EXPOSURES})
    check(tmp_path / "out", EXPOSURES)


def test_a_worker_that_falls_asleep_with_its_answers_keeps_no_other_from_working(cluster, recorded, tmp_path, begin):
    cluster.have(1)
    cluster.arrange("os.link", "stop", ".KP.")
    command = begin(cluster.address, recorded, tmp_path / "out")
    sleeper = cluster.stopped()
    command.process.send_signal(signal.SIGSTOP)
    os.kill(sleeper, signal.SIGCONT)
    with distributed.Client(cluster.address, set_as_default=False) as client:
        wait_for("answers", lambda: sum(map(len, client.has_what().values())) == 3)  # one for each thread, and one in reserve
    os.kill(sleeper, signal.SIGSTOP)
    cluster.have(2)
    command.process.send_signal(signal.SIGCONT)
    wait_for("the other one to make the rest", lambda: len(list((tmp_path / "out").glob("KP.*"))) == EXPOSURES)
    os.kill(sleeper, signal.SIGKILL)
    assert (command.end()[0], command.states) == (0, {"made": EXPOSURES})
    check(tmp_path / "out", EXPOSURES)


def test_what_a_worker_has_that_is_paused_for_its_memory_is_made_by_others(cluster, recorded, order, monkeypatch):
    """Dask pauses a worker that comes near its limit; it keeps what it has, and begins none of it."""
    monkeypatch.setattr(cluster_night, "_PAUSED", 0.5)
    told = []
    cluster.have(1)
    cluster.arrange("os.link", "hold", ".KP.")

    def make_all() -> list[Result]:
        with clustered.connect(cluster.address, told.append) as there:
            return list(there.make_night(order, survey_night(order.instrument, recorded.directory).tasks))

    with distributed.Client(cluster.address, set_as_default=False) as client, ThreadPoolExecutor(1) as pool:
        making = pool.submit(make_all)
        try:
            wait_for("two drafts", lambda: len(list(order.out.glob(".KP.*"))) == 2)
            (paused,) = client.run(lambda dask_worker: setattr(dask_worker.memory_manager, "memory_pause_fraction", 1e-9))
            wait_for("it to be told", lambda: any(f"the worker {paused} is paused" in line for line in told))
            cluster.have(2)
        finally:
            cluster.calm()
        states = Counter(result.state for result in making.result(PATIENCE))
        client.run(lambda dask_worker: setattr(dask_worker.memory_manager, "memory_pause_fraction", 0.8), workers=[paused])
    assert states == {"made": EXPOSURES}
    assert [line for line in told if line.endswith("others take over its 3 exposures")], told
    check(order.out, EXPOSURES)


def test_ctrl_c_lets_what_is_being_made_be_finished_and_begins_nothing_more(cluster, recorded, tmp_path, begin):
    cluster.have(2)
    cluster.arrange("os.link", "stop", ".KP.")
    command = begin(cluster.address, recorded, tmp_path / "out")
    victim = cluster.stopped()
    os.killpg(command.process.pid, signal.SIGINT)
    wait_for("it to say so", lambda: "is being finished" in command.process.stderr.readline())
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for what cannot be finished yet
        command.process.wait(3)
    os.kill(victim, signal.SIGCONT)
    assert command.end()[0] == 130
    check(tmp_path / "out", len(os.listdir(tmp_path / "out")))
    again = begin(cluster.address, recorded, tmp_path / "out")
    assert again.end()[0] == 0
    check(tmp_path / "out", EXPOSURES)


def test_workers_of_another_version_are_sent_nothing(cluster, order, recorded):
    cluster.have(1)
    with clustered.connect(cluster.address, [].append) as there:
        wrong = pytest.raises(ConfigurationError, match=r"no worker is fit: tcp://.*: its assembler is version 0\.1\.0, .* 0\.0\.9")
        tasks = survey_night(order.instrument, recorded.directory).tasks
        with wrong, closing(there.make_night(replace(order, version="0.0.9"), tasks)) as making:
            list(making)
    assert os.listdir(order.out) == []


def test_a_worker_without_the_assembler_is_told_so_and_lives_on(cluster, order, recorded):
    """What a worker of Dask cannot unpickle ends it, and others may work on it, too."""
    cluster.have(0)
    cluster.have(1, around=("env", "CLUSTER_WITHOUT=assembler"))
    with clustered.connect(cluster.address, [].append) as there:
        tasks = survey_night(order.instrument, recorded.directory).tasks
        wrong = pytest.raises(ConfigurationError, match=r"no worker is fit: tcp://.*: it has no assembler")
        with wrong, closing(there.make_night(order, tasks)) as making:
            list(making)
    (stranger,) = cluster.workers
    assert stranger.poll() is None
    cluster.have(0)


@pytest.mark.parametrize(("may_read", "reason"), [(False, "/.night."), (True, ": cannot write here: Read-only file system")])
def test_a_worker_that_has_not_mounted_the_partition_is_told_and_others_make_the_night(
    cluster, recorded, tmp_path, begin, may_read, reason
):
    cluster.have(1)
    with closing(Mounts()) as mounts:
        (tmp_path / "out").mkdir()
        if may_read:
            mounts.bind(tmp_path / "out", tmp_path / "out")
            mounts.run("mount", "-o", "remount,bind,ro", tmp_path / "out")
        else:
            mounts.disk(tmp_path / "out")
        cluster.have(2, around=mounts.command())
        cluster.arrange("os.link", "stop", ".KP.")
        command = begin(cluster.address, recorded, tmp_path / "out")
        fit = cluster.stopped()
        told = wait_for("it to say so", lambda: "is sent nothing: " in (line := command.process.stderr.readline()) and line)
        os.kill(fit, signal.SIGCONT)
        code, _ = command.end()
        cluster.kill(cluster.workers.pop())
    assert (code, command.states) == (0, {"made": EXPOSURES})
    assert f"{tmp_path}/out{reason}" in told
    check(tmp_path / "out", EXPOSURES)


def test_an_exposure_that_kills_its_workers_is_told_and_the_others_are_made(cluster, recorded, tmp_path, kpf, make, begin):
    name = make(find_night(kpf, recorded.directory, recorded.frames[3]), history_of(recorded)).path.name
    cluster.have(4)
    cluster.arrange("os.link", "kill", name)
    command = begin(cluster.address, recorded, tmp_path / "there")
    assert command.end()[0] == 4
    assert command.states == {"made": EXPOSURES - 1, "failed": 1}
    (failed,) = [exposure for exposure in command.exposures if exposure["state"] == "failed"]
    assert failed["frame"] == recorded.frames[3]
    assert failed["reason"].startswith("3 workers died while they had it")
    names = sorted(os.listdir(tmp_path / "there"))
    assert [left for left in names if left.startswith(".") and name not in left] == []
    assert len([left for left in names if left.startswith("KP.")]) == EXPOSURES - 1


def test_without_its_scheduler_what_is_left_is_told_as_failed(recorded, tmp_path, begin):
    (tmp_path / "cluster").mkdir()
    with closing(Cluster(tmp_path / "cluster")) as mortal:
        mortal.have(1)
        mortal.arrange("os.link", "stop", ".KP.")
        command = begin(mortal.address, recorded, tmp_path / "out")
        mortal.stopped()
        mortal.kill(mortal.scheduler)
        code, _ = command.end()
    assert code == 4
    assert command.states["failed"] + command.states["made"] == EXPOSURES
    assert {exposure["reason"] for exposure in command.exposures} - {""} == {f"the scheduler {mortal.address} is lost; run again"}


def test_where_no_scheduler_answers_that_is_one_clear_line(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = "tcp://{}:{}".format(*silent.getsockname())
        wrong = pytest.raises(ConfigurationError, match="nobody answers there within")
        with wrong, clustered.connect(address, [].append, patience=0.5):
            raise AssertionError("there is nobody")


def test_without_the_extra_one_line_tells_what_to_install(tmp_path):
    script = "import sys; sys.modules['distributed'] = None; from assembler.__main__ import main; main()"
    told = [sys.executable, "-c", script, "night", str(tmp_path), "--scheduler", "tcp://127.0.0.1:8786"]
    done = subprocess.run(told, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "install l0-assembler[cluster]" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--scheduler", "127.0.0.1:8786"), r"expected tcp://HOST:PORT"),
        (("--scheduler", "tcp://127.0.0.1:87861"), r"expected tcp://HOST:PORT"),
        (("--scheduler", "tcp://kpf:secret@127.0.0.1:8786"), r"--scheduler that URL: expected tcp://HOST:PORT"),
        (("--scheduler", "tls://127.0.0.1:8786"), r"TLS"),
        (("--scheduler", "tcp://127.0.0.1:8786", "--jobs", "2"), r"leave one out"),
    ],
)
def test_what_is_wrong_is_one_clear_line(tmp_path, words, told):
    command = [sys.executable, "-m", "assembler", "night", str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert told in done.stderr
