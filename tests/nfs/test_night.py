"""A night over NFS: its sub-FITS come through one mount, the watcher has the other one, and the server has its troubles."""

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import kpf_exposure
import pytest
import watching
from watching import ROOT, Watched, wait_for

from assembler.service.journal_l0s import read_l0

PATIENCE = 120.0
EXPOSURES, SPACING, SPEED, SEED = 12, 8.0, 2.5, 290
"""With this seed, one of the night's sub-FITS comes too late, one comes again as another one, one never, and one has no exposure."""
DEADLINE = 60.0
"""By the clock of the night [s]. It leaves time for the server to be away."""
STUCK = 4.0
"""After how long without a round the watcher says that it is blocked [s]."""
ROOM = 100_000
"""What is left of a disk that is full [bytes]: more than a sub-FITS takes, and less than an L0."""
VERSIONS = {"published": 1, "partial": 1, "superseded": 2}

HOST = """
hostname "$0"
mount --bind "$1" "$2"
mount --bind "$3" /proc/sys/kernel/random/boot_id
shift 3
exec "$@"
"""
"""Runs a command as on a host of its own: with its name, its mount, and what tells its kernel from others."""


class Host(Watched):
    """A watcher on a host of its own, which has one of the mounts where the other host has the other one."""

    def __init__(self, work: Path, name: str, side: Path, path: Path) -> None:
        work.mkdir()
        super().__init__(work, exposures=3)
        self.place, self.out = path / "played", path / "out"
        self._path, self._side = path, side
        (work / "boot_id").write_text(f"00000000-0000-4000-8000-{name.encode().hex():0>12}\n")
        self._around = ["unshare", "--mount", "--uts", "sh", "-ec", HOST, name, side, path, work / "boot_id"]

    def watch(self) -> None:
        """Begin to watch, or to wait for the lease."""
        self.start("--settling", "3 s", around=self._around)

    def inside(self, path: Path) -> Path:
        """Return the path by which the test gets at what is mounted."""
        return self._side / path.relative_to(self._path) if path.is_relative_to(self._path) else path


@pytest.fixture(autouse=True)
def _patience(monkeypatch) -> None:
    """Wait longer: everything is slower here."""
    monkeypatch.setattr(watching, "PATIENCE", PATIENCE)


@pytest.fixture
def keep(server) -> Iterator[Callable]:
    """Return what takes note of something that is to be closed at the end."""
    kept = []

    def take(one):
        kept.append(one)
        return one

    yield take
    if not server.runs:  # who waits for it does not even end when it is killed
        server.start()
    for one in kept:
        one.close()


class Player:
    """The simulator, as a process that plays a night through a mount."""

    def __init__(self, watched: Watched, to: Path, telemetry: Path, history: str) -> None:
        self.report, self._log = watched.work / "report.json", watched.work / "simulate.log"
        command = [sys.executable, "-m", "assembler", "simulate", str(watched.night.directory), "--to", str(to), "-i", str(watched.yaml)]
        command += ["--report", str(self.report), "--speed", str(SPEED), "--trouble", "30", "--seed", str(SEED)]
        command += ["--deadline", f"{DEADLINE:g} s", "--telemetry", str(telemetry), "--history", history]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def expected(self) -> dict[int, dict]:
        """Return by frame what has to come of it; it is told before the first sub-FITS comes."""
        wait_for("the simulator", self.report.exists)
        return {int(frame): told for frame, told in self._told()["exposures"].items()}

    def orphans(self) -> set[str]:
        """Return the paths, below the night's directory, of sub-FITS that belong to no exposure."""
        return {path for orphan in self._told()["orphans"] for path in orphan["files"].values()}

    def finish(self) -> None:
        """Wait until the night is over."""
        assert self.process.wait(PATIENCE) == 0, self._log.read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def _told(self) -> dict:
        return json.loads(self.report.read_text())


def test_a_night_comes_out_as_expected_though_the_server_was_away_and_the_disk_full(mounts, server, full, keep, kpf, tmp_path, monkeypatch):
    """And in the end the watcher stops although the server is away again."""
    monkeypatch.setattr(kpf_exposure, "SPACING", dt.timedelta(seconds=SPACING))
    monkeypatch.setattr(kpf_exposure, "LENGTH", dt.timedelta(seconds=0.4 * SPACING))
    watched = keep(Watched(tmp_path, EXPOSURES, margin=DEADLINE / SPEED))
    watched.place, watched.out = mounts.b / "played", mounts.b / "out"
    (mounts.a / "played").mkdir()
    history = f"sqlite:///{tmp_path / 'history.db'}"
    player = keep(Player(watched, mounts.a / "played", without_decoys(watched), history))
    expected = player.expected()
    versions = {frame: VERSIONS[told["state"]] for frame, told in expected.items()}
    assert set(versions.values()) == {1, 2}
    watched.begin("--settling", "3 s", "--stuck", f"{STUCK:g} s", "--history", history)

    def made(frames, least: Callable[[int], int]) -> bool:
        told = watched.told()
        return all(frame in told and told[frame][0] == "published" and told[frame][1] >= least(frame) for frame in frames)

    wait_for("the first L0s", lambda: made(sorted(expected)[:2], lambda _: 1))
    server.stop()
    wait_for("503", lambda: watched.health()[0] == 503)
    assert "something blocks" in watched.wait("watcher_blocked")["reason"]
    server.start()
    watched.wait("watcher_goes_on")

    wait_for("the first version of all", lambda: made(expected, lambda _: 1))
    full.fill(leave=ROOM)
    failed = watched.wait("failed")
    assert "No space left on device" in failed["reason"]
    assert failed["again_in"] > 0
    watched.wait_health("output", "degraded")
    full.make_room()

    player.finish()
    wait_for("the last version of all", lambda: made(expected, versions.get))
    orphans = {str(watched.place / watched.night.directory.name / path) for path in player.orphans()}
    wait_for("the orphans", lambda: orphans == {told["path"] for told in watched.events() if told["event"] == "orphan"})
    watched.wait_health("output", "ok")

    server.stop()
    wait_for("503", lambda: watched.health()[0] == 503)
    watched.process.send_signal(signal.SIGTERM)
    assert watched.process.wait(PATIENCE) == 0, watched.account()
    watched.wait("stopped", finished=False)
    server.start()

    watched.check()
    for event in ("lease_lost", "journal_failed", "journal_refused", "watcher_cannot_go_on"):
        assert not watched.count(event), watched.account()
    assert watched.told() == {frame: ("published", version, version) for frame, version in versions.items()}
    l0s = [read_l0(str(path), kpf) for path in (mounts.a / "out").glob("*.fits")]
    assert {l0.name.frame: {one.origin for one in l0.sub_fits} for l0 in l0s} == {
        frame: set(told["files"]) for frame, told in expected.items()
    }
    assert {l0.name.frame: l0.version for l0 in l0s} == versions
    kept = {f"{Path(l0.path).stem}.v{version}.fits" for l0 in l0s for version in range(1, l0.version)}
    assert names_below(mounts) == {Path(l0.path).name for l0 in l0s} | kept
    verified = subprocess.run(
        [sys.executable, "-m", "assembler", "verify", *sorted(map(str, (mounts.a / "out").rglob("*.fits")))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr


def test_a_watcher_on_another_host_takes_over_from_one_that_was_killed_and_nothing_is_made_twice_or_lost(mounts, keep, tmp_path):
    (tmp_path / "mounted").mkdir()
    (mounts.export / "played").mkdir()
    first, second = (
        keep(Host(tmp_path / name, name, side, tmp_path / "mounted")) for name, side in (("summit", mounts.a), ("base", mounts.b))
    )
    done, begun, later = first.frames
    first.watch()
    first.wait("watching")
    second.watch()
    assert "on summit" in second.wait("lease_held_by_another")["reason"]
    second.deliver(done)
    first.wait("published", frame=done)
    content = {frame: path.read_bytes() for frame, path in second.l0s().items()}
    second.deliver(begun, but=["red"])
    first.wait("sub_fits_settled", frame=begun)
    first.process.kill()
    first.process.wait()
    first.deliver(begun, "red")
    first.deliver(later)
    assert second.count("watching") == 0
    second.wait("watching")
    for frame in (begun, later):
        second.wait("published", frame=frame)
    assert second.told() == {done: ("published", 1, 1), begun: ("published", 1, 1), later: ("published", 1, 1)}

    first.watch()
    first.wait("lease_held_by_another")
    second.end()
    first.wait("lease_taken")
    wait_for("the journal to know what the other one did", lambda: first.told() == second.told())
    first.end()
    assert [told["frame"] for told in first.events() + second.events() if told["event"] == "published"] == [done, begun, later]
    assert first.told() == second.told()
    l0s = first.l0s()
    assert set(l0s) == {done, begun, later}
    assert l0s[done].read_bytes() == content[done]
    assert names_below(mounts) == {path.name for path in l0s.values()}


def without_decoys(watched: Watched) -> Path:
    """Return the night's telemetry without values of who was triggered that belong to no exposure; here they would be a neighbour's."""
    lines = watched.night.telemetry.read_text().splitlines(keepends=True)
    path = watched.work / "telemetry.csv"
    path.write_text("".join(line for line in lines if not re.search(r'TRIGTARG.* (earlier|later)"', line)))
    return path


def names_below(mounts) -> set[str]:
    """Return the names of all files in the output directory as the server has them, but for the claim of the lease."""
    mounts.names()
    found = {name for _, _, names in os.walk(mounts.export / "out") for name in names}
    return {name for name in found if not re.fullmatch(r"\.watcher\.lease\.\d+", name)}
