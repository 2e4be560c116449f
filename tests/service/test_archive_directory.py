"""A directory as an archive: killed at each step, out of disk, links, and what others left."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import stores

from assembler.core.places import TEMPLATE
from assembler.service.archive import Order, archive_l0
from assembler.service.destination_urls import open_destination

STRACE = shutil.which("strace")
FOLDER = "20240422"
CHANGING = ("mkdir", "openat", "write", "fsync", "link", "linkat", "unlink", "unlinkat", "rename", "renameat", "renameat2")


def command(l0s, to, *more):
    return [sys.executable, "-m", "assembler", "archive", *map(str, l0s), "--to", str(to), *more]


def run(program):
    return subprocess.run(program, capture_output=True, text=True, check=False)


def steps(l0, archive, log):
    """Return each system call by which an archiver changes an archive, as its name and its number among those of its thread."""
    traced = run([STRACE, "-f", "-y", "-o", str(log), "-e", f"trace=?{',?'.join(CHANGING)}", *command([l0], archive)])
    assert traced.returncode == 0, traced.stderr
    counts, found = {}, []
    for line in log.read_text().splitlines():
        told = re.match(r"(\d+) +(\w+)\((.*)", line)
        if not told:
            continue
        thread, call, words = told.groups()
        counts[thread, call] = counts.get((thread, call), 0) + 1
        if str(archive) in words and (call != "openat" or "O_CREAT" in words):
            found.append((call, counts[thread, call]))
    return found


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_killed_at_each_step_the_next_run_makes_it_whole(l0s, tmp_path):
    """Kills before each call that changes the archive, and so after each of them; then archives again."""
    probe = run([STRACE, "-f", "-o", os.devnull, "true"])
    if probe.returncode != 0:
        pytest.skip("processes may not be traced here")
    archive = tmp_path / "archive"
    archive.mkdir()
    run(command([l0s[0]], archive))  # so that whatever is remembered, is
    shutil.rmtree(archive)
    archive.mkdir()
    every = steps(l0s[0], archive, tmp_path / "log")
    assert len(every) > 15
    assert {"mkdir", "openat", "write", "fsync", "unlink", "rename"} <= {call for call, _ in every}
    states = []
    for call, number in every:
        shutil.rmtree(archive)
        archive.mkdir()
        killed = run([STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={number}", *command([l0s[0]], archive)])
        assert killed.returncode in (-9, 137), (call, number, killed.stderr)
        visible = [p for p in archive.rglob("*") if p.is_file() and not p.name.startswith(".")]
        assert all(p.read_bytes() == l0s[0].read_bytes() for p in visible if p.name == l0s[0].name)
        with closing(open_destination(str(archive))) as destination:
            order = Order(destination=destination, template=TEMPLATE, rules=None, compress=False, version="test", clock=lambda: 0)
            states.append(archive_l0(l0s[0], order).state)
        files = stores.in_directory(archive, "", {}).files()
        assert not [name for name in files if Path(name).name.startswith(".")]
        stores.check_folder(files, FOLDER, [l0s[0].name], tmp_path)
    assert states == sorted(states)  # accepted up to where the file had its name, duplicate from there on
    assert set(states) == {"accepted", "duplicate"}


@pytest.mark.parametrize("call", ["fsync", "write", "link,linkat", "mkdir"])
@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_a_disk_that_fails_is_to_be_tried_again_and_has_nothing_half(l0s, tmp_path, call):
    archive = tmp_path / "archive"
    archive.mkdir()
    every = [number for name, number in steps(l0s[0], archive, tmp_path / "log") if name == call.split(",")[0]]
    shutil.rmtree(archive)
    archive.mkdir()
    failing = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:error=EIO:when={every[0]}"]
    result = run([*failing, *command([l0s[0]], archive, "--json")])
    assert result.returncode == 4, result.stderr
    (told,) = json.loads(result.stdout)
    assert (told["state"], told["kind"]) == ("failed", "storage")
    assert "Input/output error" in told["reason"]
    assert stores.in_directory(archive, "", {}).files() == {}


def test_a_full_disk_is_to_be_tried_again_and_has_nothing_half(l0s, tmp_path):
    """Archives into a memory file system that has room for one of three, which a user may mount in a name space of his own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=400k tmpfs "$1" || exit 77; disk=$1; shift; "$@"; code=$?; find "$disk" -type f; exit $code'
    for unshare in (["unshare", "-Urm"], ["unshare", "-m"]):
        result = run([*unshare, "sh", "-c", script, "sh", str(disk), *command(l0s, disk)])
        if result.returncode not in (1, 77):
            break
    else:
        pytest.skip("no name space and no mount is to be had here")
    assert result.returncode == 4, result.stderr
    told = result.stdout.splitlines()
    assert [line.split(": ")[1] for line in told[:3]] == ["accepted", "failed", "failed"]
    assert all(line.endswith("No space left on device") for line in told[1:3])
    assert sorted(Path(line).name for line in told[3:]) == [l0s[0].name, f"{l0s[0].name}.receipt.json", "SHA256SUMS"]
    assert "Traceback" not in result.stderr


def test_what_killed_archivers_left_is_removed_and_what_is_in_use_is_not(l0s, tmp_path):
    import fcntl

    folder = tmp_path / FOLDER
    folder.mkdir()
    left, used, foreign = (folder / name for name in (f".a.{'0' * 16}.part", f".b.{'1' * 16}.part", ".c.part"))
    for path in (left, used, foreign):
        path.write_bytes(b"half")
    with used.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert run(command([l0s[0]], tmp_path)).returncode == 0
    assert {p.name for p in folder.iterdir() if p.name.startswith(".")} == {used.name, foreign.name}


@pytest.mark.parametrize("stranger", ["link", "directory", "large"])
def test_a_receipt_of_a_stranger_that_cannot_be_read_is_no_trouble_of_another_l0(l0s, tmp_path, stranger):
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "other.fits").write_bytes(b"")
    receipt = folder / "other.fits.receipt.json"
    if stranger == "link":
        receipt.symlink_to(l0s[1])
    elif stranger == "directory":
        receipt.mkdir()
    else:
        receipt.touch()
        os.truncate(receipt, (16 << 20) + 1)
    result = run(command([l0s[0]], tmp_path, "--json"))
    assert (result.returncode, json.loads(result.stdout)[0]["state"]) == (0, "accepted")
    assert [line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()] == [l0s[0].name]


@pytest.mark.parametrize("what", ["SHA256SUMS", "{name}", "{name}.receipt.json"])
def test_a_directory_under_a_name_of_the_archive_refuses_the_l0_as_trying_again_does_not_help(l0s, tmp_path, what):
    (tmp_path / FOLDER / what.format(name=l0s[0].name)).mkdir(parents=True)
    (told,) = json.loads(run(command([l0s[0]], tmp_path, "--json")).stdout)
    assert (told["state"], told["kind"]) == ("refused", "content")
    assert "is no regular file" in told["reason"]


@pytest.mark.parametrize("link", ["file", "nothing", "itself"])
def test_a_link_under_the_name_is_no_file_of_the_archive(l0s, tmp_path, link):
    """Follows none, be it to the very same L0, and replaces none."""
    archive = tmp_path / "archive"
    (archive / FOLDER).mkdir(parents=True)
    name = archive / FOLDER / l0s[0].name
    name.symlink_to({"file": l0s[0], "nothing": tmp_path / "nothing", "itself": name}[link])
    result = run(command([l0s[0]], archive, "--json"))
    (told,) = json.loads(result.stdout)
    assert (result.returncode, told["state"], told["kind"]) == (1, "refused", "content")
    assert "is a symbolic link" in told["reason"]
    assert [p for p in archive.rglob("*") if p.name != FOLDER] == [name]
    assert name.is_symlink()


def test_a_pipe_under_the_name_stops_nobody(l0s, tmp_path):
    (tmp_path / FOLDER).mkdir()
    os.mkfifo(tmp_path / FOLDER / l0s[0].name)
    result = run(command([l0s[0]], tmp_path))
    assert result.returncode == 1
    assert "is no regular file" in result.stdout


def test_an_archive_that_is_not_there_is_not_made(l0s, tmp_path):
    """A disk that is not mounted would be hidden by it."""
    result = run(command([l0s[0]], tmp_path / "nothing"))
    assert result.returncode == 4
    assert result.stderr.splitlines()[-1] == f"assembler: {tmp_path / 'nothing'}: there is no such file or directory"
    assert not (tmp_path / "nothing").exists()


def test_a_file_in_the_place_of_a_folder_fails(l0s, tmp_path):
    (tmp_path / FOLDER).write_bytes(b"")
    result = run(command([l0s[0]], tmp_path))
    assert result.returncode == 4
    assert "Not a directory" in result.stdout


def test_an_l0_that_is_in_the_archive_already_gets_its_receipt_there(l0s, tmp_path):
    (tmp_path / FOLDER).mkdir()
    there = tmp_path / FOLDER / l0s[0].name
    shutil.copy(l0s[0], there)
    inode = there.stat().st_ino
    assert ": duplicate: " in run(command([there], tmp_path)).stdout
    assert there.stat().st_ino == inode
    stores.check_folder(stores.in_directory(tmp_path, "", {}).files(), FOLDER, [there.name], tmp_path)


def test_a_draft_that_somebody_took_for_abandoned_is_made_anew(l0s, tmp_path, monkeypatch):
    """Removes the first draft of each file, as another archiver would that came between its making and its lock."""
    from assembler.service import destination_directory

    fill, removed = destination_directory.Directory._fill, set()

    def losing(self, target, place, stream, content):
        if place.name not in removed:
            removed.add(place.name)
            target.path.unlink()
        fill(self, target, place, stream, content)

    monkeypatch.setattr(destination_directory.Directory, "_fill", losing)
    order = Order(
        destination=open_destination(str(tmp_path)), template=TEMPLATE, rules=None, compress=False, version="test", clock=lambda: 0
    )
    assert archive_l0(l0s[0], order).state == "accepted"
    assert len(removed) == 3
    stores.check_folder(stores.in_directory(tmp_path, "", {}).files(), FOLDER, [l0s[0].name], tmp_path)
