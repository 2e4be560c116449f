"""Versions of an L0: a newer one takes the name in one step, the older ones are kept as they were, and nothing is done twice."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import kpf_night
import pytest
from astropy.io import fits
from turns import done_before

from assembler.errors import ConfigurationError, OutputError, TakenError
from assembler.fits.blocks import scan
from assembler.fits.verifier import verify_file
from assembler.service.finder import find_night
from assembler.service.reader import verify_l0

STRACE = shutil.which("strace")
WHY = "the sub-FITS of red came late"


@pytest.fixture
def late(kpf, night, make):
    """Return an exposure whose L0 was made without red, which is there by now."""
    path = night.sub_fits(night.frames[0])["red"]
    path.rename(path.with_suffix(".away"))
    make(find_night(kpf, night.directory, night.frames[0]))
    path.with_suffix(".away").rename(path)
    return find_night(kpf, night.directory, night.frames[0])


def test_a_latecomer_makes_a_new_version_that_tells_what_it_replaced_and_why(late, make, tmp_path, fitsverify):
    (old,) = (tmp_path / "out").iterdir()
    before, status = old.read_bytes(), old.stat()
    with pytest.raises(OutputError, match="never overwritten") as told:
        make(late)
    assert not told.value.retry  # nothing but a decision helps
    outcome = make(late, supersede=WHY)
    kept = tmp_path / "out" / "superseded" / old.name.replace(".fits", ".v1.fits")
    assert (outcome.path, outcome.made, outcome.version, outcome.replaced) == (old, True, 2, kept)
    assert kept.read_bytes() == before
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns, kept.stat().st_nlink) == (status.st_ino, status.st_mtime_ns, 1)
    with fits.open(old) as hdus:
        header = hdus[0].header
        assert (header["L0VER"], header["RED"], header["OFNAME"]) == (2, "YES", old.name)
        assert list(header["HISTORY"])[:3] == [
            "Version 2 replaces version 1, written 2026-09-21T14:13:20.000",
            f"SHA-256 {hashlib.sha256(before).hexdigest()}",
            f"Reason: {WHY}",
        ]
    for path in (old, kept):
        verify_l0(path)
        fitsverify(path)
    assert sorted(os.listdir(tmp_path / "out")) == [old.name, "superseded"]


@pytest.mark.parametrize("reason", [None, WHY])
def test_a_name_that_was_left_without_a_file_gets_its_newest_version_back_before_anything_else_is_done(late, make, tmp_path, reason):
    """So does an NFS client leave it that is killed while it replaces a file that is open on its host."""
    (old,) = (tmp_path / "out").iterdir()
    before = old.read_bytes()
    kept = tmp_path / "out" / "superseded" / old.name.replace(".fits", ".v1.fits")
    kept.parent.mkdir()
    (kept.parent / old.name.replace(".fits", ".v02.fits")).write_text("no version")
    old.rename(kept)
    if reason is None:
        with pytest.raises(OutputError, match="never overwritten"):
            make(late)
        assert old.samefile(kept)
    else:
        outcome = make(late, supersede=reason)
        assert (outcome.path, outcome.made, outcome.version, outcome.replaced) == (old, True, 2, kept)
        verify_l0(old)
    assert kept.read_bytes() == before
    verify_l0(kept)


def test_superseding_with_the_same_inputs_changes_nothing(late, make, tmp_path):
    made = make(late, supersede=WHY)
    before = made.path.stat()
    for reason in (WHY, "to be sure", None):
        again = make(late, written=2 * 10**18, supersede=reason)
        assert (again.made, again.version, again.replaced) == (False, 2, None)
    after = made.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(os.listdir(tmp_path / "out" / "superseded")) == 1


def test_the_first_l0_of_a_name_is_version_1_whatever_is_asked(found, make, tmp_path):
    outcome = make(found, supersede=WHY)
    assert (outcome.made, outcome.version, outcome.replaced) == (True, 1, None)
    assert os.listdir(tmp_path / "out") == [outcome.path.name]
    assert not any(image.startswith("HISTORY Version") for image in scan(str(outcome.path)).hdus[0].images)


def test_versions_go_on_and_every_one_is_kept_as_it_was(kpf, night, make, tmp_path):
    path = night.sub_fits(night.frames[0])["red"]
    contents = []
    for number, zone in enumerate((b"GMT", b"HST", b"PST", b"GMT")):
        path.write_bytes(path.read_bytes().replace(contents[-1][1] if contents else zone, zone))
        outcome = make(find_night(kpf, night.directory, night.frames[0]), supersede=f"time zone {number}")
        assert outcome.version == number + 1
        contents.append((outcome.path.read_bytes(), zone))
    kept = tmp_path / "out" / "superseded"
    assert [(kept / f"{outcome.path.stem}.v{n}.fits").read_bytes() for n in (1, 2, 3)] == [c for c, _ in contents[:3]]
    for version in kept.iterdir():
        verify_file(version)


@pytest.mark.parametrize(("number", "reason"), [*((n, None) for n in (2, 3, 4)), *((n, "mine") for n in (2, 3, 4, 5, 6, 7))])
def test_an_l0_that_is_replaced_while_it_is_compared_is_looked_at_again(late, make, tmp_path, number, reason):
    """Another assembler makes the very version that is wanted, when the one before was looked at and is read to be compared."""
    (old,) = (tmp_path / "out").iterdir()
    made = []
    with done_before("open", lambda *_: made.append(make(late, supersede=WHY)), path=old, number=number):
        outcome = make(late, supersede=reason)
    assert (made[0].version, made[0].made) == (2, True)
    assert (outcome.version, outcome.made) == (2, False)
    assert len(os.listdir(tmp_path / "out" / "superseded")) == 1


def test_a_rotten_l0_is_kept_too(late, make, tmp_path):
    (old,) = (tmp_path / "out").iterdir()
    data = bytearray(old.read_bytes())
    data[-5000] ^= 1
    old.write_bytes(bytes(data))
    outcome = make(late, supersede="its checksum is wrong")
    assert outcome.replaced is not None
    assert outcome.replaced.read_bytes() == bytes(data)
    verify_l0(outcome.path)


@pytest.mark.parametrize("reason", ["", "  "])
def test_no_reason_is_no_reason(found, make, tmp_path, reason):
    with pytest.raises(ConfigurationError, match="tell why"):
        make(found, supersede=reason)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_l0_is_never_superseded(found, make):
    path = make(found).path
    path.write_bytes(b"somebody's notes")
    with pytest.raises(OutputError, match=r"no L0.*never overwritten"):
        make(found, supersede=WHY)
    assert path.read_bytes() == b"somebody's notes"


def test_a_reader_finds_a_whole_l0_of_one_version_at_any_time(kpf, night, make, tmp_path):
    """Opens the final name in a loop while versions are made; a mixture would not have the checksums of its own."""
    path = night.sub_fits(night.frames[0])["red"]
    l0 = make(find_night(kpf, night.directory, night.frames[0])).path
    seen: list[bytes] = []
    stop = threading.Event()
    problems: list[Exception] = []

    def read() -> None:
        try:
            while not stop.is_set():
                content = l0.read_bytes()
                if not seen or seen[-1] != content:
                    seen.append(content)
        except OSError as error:
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    made = [l0.read_bytes()]
    for number in range(8):
        path.write_bytes(path.read_bytes().replace(*((b"GMT", b"HST") if number % 2 == 0 else (b"HST", b"GMT"))))
        made.append(make(find_night(kpf, night.directory, night.frames[0]), supersede=f"change {number}").path.read_bytes())
    stop.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert set(seen) <= set(made)
    assert len(set(seen)) > 1
    assert len(os.listdir(tmp_path / "out" / "superseded")) == 8


def command(night: kpf_night.Night, out: Path, *words: str) -> list[str]:
    program = [sys.executable, "-m", "assembler", "assemble", str(night.directory), "--frame", str(night.frames[0])]
    return [*program, "--out", str(out), *words]


def whole(out: Path, name: str, first: bytes) -> int:
    """Check that the name has a whole L0, that the first is kept, and each version once; return the newest one's number."""
    with fits.open(out / name) as hdus:
        newest = hdus[0].header["L0VER"]
    verify_l0(out / name)
    kept = out / "superseded"
    versions = {1: out / name} if newest == 1 else {n: kept / name.replace(".fits", f".v{n}.fits") for n in range(1, newest)}
    assert versions[1].read_bytes() == first
    for path in versions.values():
        verify_l0(path)
    return newest


@pytest.fixture
def two_versions(late, night, tmp_path):
    """Return the output directory, the name and the bytes of an L0 of which there is a newer version to be made."""
    (old,) = (tmp_path / "out").iterdir()
    return tmp_path / "out", old.name, old.read_bytes()


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize("call", ["mkdir,mkdirat", "link,linkat", "rename,renameat,renameat2", "fsync", "pwrite64", "unlink,unlinkat"])
def test_killed_at_each_step_of_superseding_the_next_run_finishes(night, two_versions, tmp_path, call):
    out, name, first = two_versions
    probe = subprocess.run([STRACE, "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("processes may not be traced here")
    killed = 0
    for when in range(1, 60, 6 if call == "pwrite64" else 1):
        shutil.rmtree(out)
        out.mkdir()
        (out / name).write_bytes(first)
        inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={when}"]
        told = subprocess.run([*inject, *command(night, out, "--supersede", WHY)], capture_output=True, text=True, check=False)
        whole(out, name, first)
        if told.returncode in (0, 1):
            break
        killed += 1
        assert told.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), told.stderr
        again = subprocess.run(command(night, out, "--supersede", WHY), capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert whole(out, name, first) == 2
        assert sorted(os.listdir(out)) == [name, "superseded"]
        assert len(os.listdir(out / "superseded")) == 1
    assert killed


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_what_is_verified_was_closed_and_what_is_replaced_was_kept_on_the_disk_before(night, two_versions, tmp_path):
    """The order of the calls is what a power loss, and a network file system, leave to rely on."""
    out, name, _ = two_versions
    trace = tmp_path / "trace"
    told = subprocess.run(
        [STRACE, "-f", "-qq", "-y", "-s", "300", "-o", trace, *command(night, out, "--supersede", WHY)],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode == 1 and "ptrace" in told.stderr:
        pytest.skip("processes may not be traced here")
    lines = [line.partition(" ")[2].strip() for line in trace.read_text(errors="replace").splitlines() if str(out) in line]
    draft = next(line.split(f"{out}/")[1].split('"')[0] for line in lines if "O_EXCL" in line)
    opened = [i for i, line in enumerate(lines) if line.startswith("openat") and f'{draft}"' in line]
    wanted = [
        ("openat", f'{draft}"', "O_RDWR"),
        ("pwrite64", draft),
        ("fsync", draft),
        ("close", draft),
        ("openat", f'{draft}"', "O_RDONLY"),
        ("link", f'{name}"', f'superseded/{name.removesuffix(".fits")}.v1.fits"'),
        ("fsync", "superseded>"),
        ("rename", f'{draft}"', f'{name}"'),
        ("fsync", f"{out}>"),
    ]
    at = opened[0]
    for words in wanted:
        at = next(i for i in range(at + 1, len(lines)) if lines[i].startswith(words[0]) and all(w in lines[i] for w in words[1:]))


def test_killed_at_random_moments_no_version_is_lost(night, two_versions):
    out, name, first = two_versions
    start = time.monotonic()
    subprocess.run(command(night, out, "--supersede", WHY), capture_output=True, check=True)
    length = time.monotonic() - start
    generator = random.Random(20)
    for _ in range(20):
        shutil.rmtree(out)
        out.mkdir()
        (out / name).write_bytes(first)
        process = subprocess.Popen(command(night, out, "--supersede", WHY), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(length * generator.uniform(0.4, 1.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        whole(out, name, first)
    subprocess.run(command(night, out, "--supersede", WHY), capture_output=True, check=True)
    assert whole(out, name, first) == 2
    assert sorted(os.listdir(out)) == [name, "superseded"]


def test_of_several_who_supersede_at_once_one_makes_the_version_and_the_others_leave_it_alone(night, two_versions):
    out, name, first = two_versions
    processes = [
        subprocess.Popen(command(night, out, "--supersede", WHY), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, told
    assert sum("it is version 2" in t for t in told) == 1
    assert sum("it was there already" in t for t in told) == 3
    assert whole(out, name, first) == 2
    assert sorted(os.listdir(out)) == [name, "superseded"]


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("link,linkat", "EPERM"),
        ("link,linkat", "EACCES"),
        ("rename,renameat,renameat2", "EACCES"),
        ("fsync", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("mkdir,mkdirat", "EROFS"),
    ],
)
def test_a_disk_that_fails_exits_4_and_leaves_the_l0_that_was_there(night, two_versions, call, error):
    out, name, first = two_versions
    inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:error={error}:when=1+"]
    told = subprocess.run([*inject, *command(night, out, "--supersede", WHY)], capture_output=True, text=True, check=False)
    if told.returncode == 1 and "ptrace" in told.stderr:
        pytest.skip("processes may not be traced here")
    assert told.returncode == 4, told.stderr
    assert "Traceback" not in told.stderr
    assert str(out) in told.stderr
    assert (out / name).read_bytes() == first
    assert [n for n in os.listdir(out) if n not in (name, "superseded")] == []
    again = subprocess.run(command(night, out, "--supersede", WHY), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert whole(out, name, first) == 2
    assert len(os.listdir(out / "superseded")) == 1


def test_a_full_disk_exits_4_and_leaves_the_l0_that_was_there(night, two_versions, tmp_path):
    """Supersedes on a memory file system that has no room for a second one."""
    out, name, first = two_versions
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size="$3" tmpfs "$1" || exit 77; cp "$2" "$1"; disk=$1; old=$2; shift 3; "$@"; code=$?; '
        'cmp "$old" "$disk/${old##*/}" || exit 99; ls -A "$disk" >&3; exit $code'
    )
    listing = tmp_path / "listing"
    for unshare in (["unshare", "-Urm"], ["unshare", "-m"]):
        size = str(len(first) + 40_000)
        program = ["sh", "-c", f'exec 3>"{listing}"; exec "$@"', "sh", *unshare, "sh", "-c", script, "sh", str(disk), str(out / name), size]
        told = subprocess.run([*program, *command(night, disk, "--supersede", WHY)], capture_output=True, text=True, check=False)
        if told.returncode not in (1, 77):
            break
    else:
        pytest.skip("no name space and no mount is to be had here")
    assert told.returncode == 4, told.stderr
    assert "No space left on device" in told.stderr
    assert listing.read_text().split() == [name]


@pytest.fixture
def renamed(kpf, night, make, tmp_path):
    """Return an L0 without green, and the exposure with green, whose times give the L0 another name."""
    green = night.sub_fits(night.frames[0])["green"]
    told = green.read_bytes()
    green.unlink()
    former = make(find_night(kpf, night.directory, night.frames[0])).path
    begin = told.index(b"DATE-BEG=") + len("DATE-BEG= 'YYYY-MM-DDThh:mm:")
    assert told[begin : begin + 2].isdigit()
    green.write_bytes(told[:begin] + b"%02d" % (int(told[begin : begin + 2]) - 1) + told[begin + 2 :])
    return former, find_night(kpf, night.directory, night.frames[0])


def test_an_exposure_whose_times_are_known_better_has_one_l0_under_its_new_name(renamed, make, tmp_path):
    former, found = renamed
    before = former.read_bytes()
    with pytest.raises(TakenError, match="is the L0 of this exposure"):
        make(found, former=former)
    outcome = make(found, former=former, supersede=WHY)
    kept = tmp_path / "out" / "superseded" / former.name.replace(".fits", ".v1.fits")
    assert outcome.path.name != former.name
    assert (outcome.version, outcome.replaced, kept.read_bytes()) == (2, kept, before)
    assert fits.getval(outcome.path, "L0VER") == 2
    assert sorted(os.listdir(tmp_path / "out")) == [outcome.path.name, "superseded"]
    again = make(found, former=former, supersede=WHY)
    assert (again.made, again.path) == (False, outcome.path)


@pytest.mark.parametrize("reason", [None, WHY])
def test_an_l0_whose_directory_is_named_otherwise_keeps_its_name(found, make, tmp_path, reason):
    path = make(found).path
    again = make(found, former=Path(os.path.relpath(path)), supersede=reason)
    assert (again.made, again.replaced) == (False, None)
    assert os.listdir(tmp_path / "out") == [path.name]


def test_stopped_between_the_new_name_and_the_old_one_the_next_run_finishes(renamed, make, tmp_path):
    former, found = renamed
    aside = tmp_path / "aside"
    shutil.copy2(former, aside)
    made = make(found, former=former, supersede=WHY)
    kept = made.replaced
    os.link(kept, former)  # as it was when the name was there twice
    again = make(found, former=former, supersede=WHY)
    assert (again.made, again.version, again.replaced) == (False, 2, kept)
    assert kept.read_bytes() == aside.read_bytes()
    assert sorted(os.listdir(tmp_path / "out")) == [made.path.name, "superseded"]


@pytest.mark.parametrize("number", [1, 2])
def test_an_l0_that_another_assembler_gives_its_new_name_meanwhile_is_found_there(renamed, make, tmp_path, number):
    former, found = renamed
    with done_before("open", lambda *_: make(found, former=former, supersede=WHY), path=former, number=number):
        outcome = make(found, former=former, supersede=WHY)
    assert (outcome.made, outcome.version) == (False, 2)
    assert sorted(os.listdir(tmp_path / "out")) == [outcome.path.name, "superseded"]


def test_stopped_between_the_new_name_and_the_old_one_an_exposure_that_differs_again_is_superseded(renamed, kpf, night, make, tmp_path):
    former, found = renamed
    made = make(found, former=former, supersede=WHY)
    os.link(made.replaced, former)
    red = night.sub_fits(night.frames[0])["red"]
    red.write_bytes(red.read_bytes().replace(b"GMT", b"HST"))
    again = make(find_night(kpf, night.directory, night.frames[0]), former=former, supersede=WHY)
    assert (again.made, again.version, again.path) == (True, 3, made.path)
    assert sorted(os.listdir(tmp_path / "out")) == [made.path.name, "superseded"]
    assert sorted(os.listdir(tmp_path / "out" / "superseded")) == sorted([made.replaced.name, made.path.name.replace(".fits", ".v2.fits")])


def test_a_name_that_an_exposure_has_no_more_may_be_that_of_another(renamed, kpf, night, make, tmp_path):
    """Its times were those of another exposure, which comes later."""
    former, found = renamed
    made = make(found, former=former, supersede=WHY)
    (frame,) = night.frames
    other = frame + 1
    for origin, path in night.sub_fits(frame).items():
        if origin in ("red", "ca_hk"):  # which tell the times that the first exposure had without green
            theirs = path.read_bytes().replace(str(frame).encode(), str(other).encode())
            path.with_name(path.name.replace(str(frame), str(other))).write_bytes(theirs)
    night.sub_fits(frame)["guide"].unlink()  # it is found by its times
    outcome = make(find_night(kpf, night.directory, other))
    assert (outcome.path, outcome.made, outcome.version, outcome.replaced) == (former, True, 2, None)
    header = fits.getheader(former)
    assert (header["FRAMENO"], header["L0VER"]) == (other, 2)
    assert list(header["HISTORY"])[2] == "Reason: the name was that of another exposure"
    verify_l0(former)
    assert make(find_night(kpf, night.directory, other)).made is False
    red = night.sub_fits(frame)["red"].with_name(f"kpf_{other}.fits")
    red.write_bytes(red.read_bytes().replace(b"GMT", b"HST"))
    assert make(find_night(kpf, night.directory, other), supersede=WHY).version == 3
    kept = sorted(os.listdir(tmp_path / "out" / "superseded"))
    assert kept == [former.name.replace(".fits", f".v{number}.fits") for number in (1, 2)]
    assert sorted(os.listdir(tmp_path / "out")) == sorted([former.name, made.path.name, "superseded"])
