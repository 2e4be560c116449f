"""Real faults: killed at any moment, a full disk, a disk that fails. Nothing is lost and no half file is visible."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import kpf_night
import pytest

from assembler.service.reader import verify_l0

KILLS = 50
STRACE = shutil.which("strace")


def command(night: kpf_night.Night, out: Path, url: str) -> list[str]:
    program = [sys.executable, "-m", "assembler", "assemble", str(night.directory), "--frame", str(night.frames[0])]
    return [*program, "--out", str(out), "--history", url]


def traces(directory: Path) -> str | None:
    """Return what a process may be traced with, or None where it may not."""
    probe = subprocess.run([STRACE or "false", "-f", "-o", os.devnull, "true"], cwd=directory, capture_output=True, check=False)
    return STRACE if probe.returncode == 0 else None


def test_killed_at_random_moments_it_leaves_no_file_or_the_whole_one(night, history_url, tmp_path):
    """Kills at fifty moments over the whole of a run, most of them while it writes; the next run always succeeds."""
    out = tmp_path / "out"
    start = time.monotonic()
    first = subprocess.run(command(night, out, history_url), capture_output=True, text=True, check=False)
    length = time.monotonic() - start
    assert first.returncode == 0, first.stderr
    name = Path(first.stdout.strip()).name
    generator = random.Random(50)
    killed = 0
    for _ in range(KILLS):
        shutil.rmtree(out)
        out.mkdir()
        process = subprocess.Popen(command(night, out, history_url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(length * generator.uniform(0.3, 1.05))
        process.send_signal(signal.SIGKILL)
        late = process.wait() != -signal.SIGKILL
        killed += not late
        length *= 0.9 if late else 1.03  # the first run may have been slower than the others, or the machine busier
        visible = [n for n in os.listdir(out) if not n.startswith(".")]
        assert visible in ([], [name])
        if visible:
            verify_l0(out / name)
    assert killed > KILLS // 4
    again = subprocess.run(command(night, out, history_url), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert os.listdir(out) == [name]
    verify_l0(out / name)


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize("call", ["pwrite64", "fsync", "link,linkat", "unlink,unlinkat", "openat"])
def test_killed_at_each_step_it_leaves_no_file_or_the_whole_one(night, history_url, tmp_path, call):
    """Kills at the first, second... call of each kind that changes the output directory, until a run gets through."""
    if not traces(tmp_path):
        pytest.skip("processes may not be traced here")
    out = tmp_path / "out"
    out.mkdir()
    for when in range(1, 40 if call != "openat" else 4, 6 if call == "pwrite64" else 1):
        inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-P", str(out), "-e", f"inject={call}:signal=KILL:when={when}"]
        paths = [] if call == "openat" else [a for a in inject if a not in ("-P", str(out))]
        result = subprocess.run([*(paths or inject), *command(night, out, history_url)], capture_output=True, text=True, check=False)
        visible = [n for n in os.listdir(out) if not n.startswith(".")]
        for name in visible:
            verify_l0(out / name)
        if result.returncode == 0:
            break
        assert result.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), result.stderr
    final = subprocess.run(command(night, out, history_url), capture_output=True, text=True, check=False)
    assert final.returncode == 0, final.stderr
    assert os.listdir(out) == [Path(final.stdout.strip()).name]


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize(("call", "error"), [("fsync", "EIO"), ("fsync", "ENOSPC"), ("pwrite64", "EIO"), ("link,linkat", "EACCES")])
def test_a_disk_that_fails_exits_4_and_leaves_nothing(night, history_url, tmp_path, call, error):
    if not traces(tmp_path):
        pytest.skip("processes may not be traced here")
    out = tmp_path / "out"
    inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:error={error}:when=1"]
    result = subprocess.run([*inject, *command(night, out, history_url)], capture_output=True, text=True, check=False)
    assert result.returncode == 4, result.stderr
    assert str(out) in result.stderr
    assert "Traceback" not in result.stderr
    assert os.listdir(out) == []


def test_a_full_disk_exits_4_and_leaves_nothing(night, history_url, tmp_path):
    """Writes to a memory file system that is too small, which a user may mount in a name space of his own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=64k tmpfs "$1" || exit 77; disk=$1; shift; "$@"; code=$?; ls -A "$disk"; exit $code'
    for unshare in (["unshare", "-Urm"], ["unshare", "-m"]):
        program = [*unshare, "sh", "-c", script, "sh", str(disk), *command(night, disk, history_url)]
        result = subprocess.run(program, capture_output=True, text=True, check=False)
        if result.returncode not in (1, 77):
            break
    else:
        pytest.skip("no name space and no mount is to be had here")
    assert result.returncode == 4, result.stderr
    assert result.stderr.splitlines()[-1].endswith("No space left on device")
    assert str(disk) in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_without_a_trace(night, history_url, tmp_path, number):
    """Stops it while it reads a sub-FITS that is so large that it is still at it."""
    guide = night.sub_fits(night.frames[0])["guide"]
    with guide.open("r+b") as file:
        header = file.read(2880 * 40)
        at = header.index(b"NAXIS2  =", header.index(b"GUIDER_AVG") - 2880)
        file.seek(at)
        file.write(b"NAXIS2  = %20d" % 40_000_000)
        file.truncate(8 << 30)
    out = tmp_path / "out"
    process = subprocess.Popen(command(night, out, history_url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None and not (out.is_dir() and os.listdir(out)):
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert os.listdir(out) == []
