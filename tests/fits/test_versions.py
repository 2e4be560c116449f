"""Superseding: whoever is at it at once, and whoever is killed, no version is lost, none is there twice, the name is never free."""

import errno
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from standins import NAME, chain, look, replace_once, write
from turns import done_before, take_turns

from assembler.errors import OutputError, VerificationError
from assembler.fits.blocks import signature_of
from assembler.fits.verifier import verify_file
from assembler.fits.versions import Standing, retire_l0, standing_l0, supersede_l0
from assembler.fits.writer import draft
from assembler.service.reader import explain, verify_l0


def play(seed: int, workers: int, kills: int) -> None:
    """Let workers replace an L0, in a random order of their calls, some of them killed; then one more finishes."""
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        directory = Path(name)
        write(directory / NAME, {"version": 1, "id": "first", "over": None})
        won: list[str] = []
        works = [lambda who=str(w): replace_once(directory, f"w{who}-", won) for w in range(workers)]
        killed = {w: generator.randint(1, 25) for w in generator.sample(range(workers), kills)}
        seen = ["first"]
        sticky = generator.choice([1, 3, 9])  # short and long stretches of one worker

        def choices():
            while True:
                yield from itertools.repeat(generator.randrange(10**6), generator.randint(1, sticky))

        for _ in take_turns(works, choices(), killed):
            there = chain(directory)
            assert there[: len(seen)] == seen
            seen = there
        replace_once(directory, "last-", won)
        there = chain(directory)
        assert set(won) <= set(there)
        assert there[-1].startswith("last-")
        assert len(there) - 1 <= workers + 1
        assert sorted(os.listdir(directory)) == ["superseded", NAME]
        assert len(os.listdir(directory / "superseded")) == len(there) - 1


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_in_whatever_order_they_go_no_version_is_lost_and_none_is_there_twice(workers):
    for seed in range(150):
        play(seed, workers, 0)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_whoever_is_killed_wherever_no_version_is_lost_and_the_next_one_goes_on(workers):
    for seed in range(200):
        play(seed, workers, 1 + seed % workers)


def test_who_was_stopped_between_link_and_rename_is_told_to_plan_again(tmp_path):
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    won: list[str] = []
    slow, fast = (lambda: replace_once(tmp_path, "slow", won)), (lambda: replace_once(tmp_path, "fast", won))
    kept = tmp_path / "superseded" / "x.v1.fits"

    def choices():
        while not kept.exists():
            yield 0
        while not won:
            yield 1
        while True:
            yield 0

    for _ in take_turns([slow, fast], choices(), {}):
        pass
    assert won == ["fast0", "slow1"]
    assert chain(tmp_path) == ["first", "fast0", "slow1"]


@pytest.mark.parametrize(("event", "call"), [("os.link", os.link), ("os.rename", os.rename)])
def test_a_call_that_was_done_though_the_answer_was_lost_counts(tmp_path, event, call):
    """Over a network the same call is sent again when no answer comes, and is answered that it cannot be done."""
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    won: list[str] = []
    with done_before(event, call):
        replace_once(tmp_path, "mine", won)
    assert won == ["mine0"]
    assert chain(tmp_path) == ["first", "mine0"]
    assert sorted(os.listdir(tmp_path)) == ["superseded", NAME]


def test_a_draft_that_another_host_removed_is_told_to_be_planned_again(tmp_path, monkeypatch):
    """Over a network, asking for the size of an open file fails then."""
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    _, standing = look(tmp_path / NAME)
    real = os.fstat
    with draft(tmp_path, NAME) as target:
        inode = target.path.stat().st_ino

        def stale(descriptor: int) -> os.stat_result:
            if real(descriptor).st_ino == inode:
                target.path.unlink()
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return real(descriptor)

        monkeypatch.setattr(os, "fstat", stale)
        assert supersede_l0(target, NAME, standing) is None
    assert chain(tmp_path) == ["first"]


def test_a_file_that_is_not_the_one_planned_against_stays(tmp_path):
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    _, standing = look(tmp_path / NAME)
    write(tmp_path / NAME, {"version": 1, "id": "edited", "over": None})
    with draft(tmp_path, NAME) as target:
        assert supersede_l0(target, NAME, standing) is None
    assert chain(tmp_path) == ["edited"]
    (tmp_path / NAME).unlink()
    with draft(tmp_path, NAME) as target:
        assert supersede_l0(target, NAME, standing) is None
    assert os.listdir(tmp_path) == []


def refused(directory: Path, told: str) -> None:
    """Supersede, which must fail and leave everything as it was."""
    old, standing = look(directory / NAME)
    with draft(directory, NAME) as target, pytest.raises(OutputError, match=told) as caught:
        supersede_l0(target, NAME, standing)
    assert "\n" not in str(caught.value)
    assert look(directory / NAME)[0] == old
    assert [n for n in os.listdir(directory) if n.startswith(".")] == []


def test_another_file_under_the_superseded_name_is_never_touched(tmp_path):
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    (tmp_path / "superseded").mkdir()
    (tmp_path / "superseded" / "x.v1.fits").write_text("somebody's")
    refused(tmp_path, "x.v1.fits is there already, and is another file")
    assert (tmp_path / "superseded" / "x.v1.fits").read_text() == "somebody's"


def test_superseded_that_is_no_directory_is_one_clear_error(tmp_path):
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    (tmp_path / "superseded").write_text("a file")
    refused(tmp_path, "cannot be superseded: Not a directory")


def test_where_hard_links_are_not_possible_that_is_said(tmp_path):
    """The directory of superseded versions is on another file system."""
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system is to be had here")
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    other = tempfile.mkdtemp(dir="/dev/shm")
    try:
        (tmp_path / "superseded").symlink_to(other)
        refused(tmp_path, f"hard links are not possible here: .*{os.strerror(errno.EXDEV)}")
        assert os.listdir(other) == []
    finally:
        shutil.rmtree(other)


def test_a_read_only_directory_of_superseded_versions_is_one_clear_error(tmp_path):
    """Mounted read-only in a name space of its own, as root may write to any directory that merely forbids it."""
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    (tmp_path / "superseded").mkdir()
    code = f"from pathlib import Path\nimport test_versions\ntest_versions.refused(Path({str(tmp_path)!r}), 'cannot be kept.*Read-only')"
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 77; shift; "$@"'
    for unshare in (["unshare", "-Urm"], ["unshare", "-m"]):
        program = [*unshare, "sh", "-c", script, "sh", str(tmp_path / "superseded"), sys.executable]
        paths = os.pathsep.join(
            [
                str(Path(__file__).parent),
                str(Path(__file__).parent.parent),
                str(Path(__file__).parent.parent.parent),
                os.environ.get("PYTHONPATH", ""),
            ]
        )
        told = subprocess.run([*program, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths})
        if told.returncode not in (1, 77) or "Traceback" in told.stderr:
            break
    else:
        pytest.skip("no name space and no mount is to be had here")
    assert told.returncode == 0, told.stderr
    assert os.listdir(tmp_path / "superseded") == []


@pytest.fixture
def kept(found, make) -> Path:
    """Return an L0 as it is kept when it was superseded."""
    made = make(found).path
    (made.parent / "superseded").mkdir()
    return made.rename(made.parent / "superseded" / made.name.replace(".fits", ".v1.fits"))


def test_a_superseded_version_is_verified_and_explained_where_it_is_kept(kept, monkeypatch):
    verify_l0(kept)
    assert explain(kept, "RDTM_ZO")[0].extension == "PRIMARY"
    monkeypatch.chdir(kept.parent)
    verify_l0(Path(kept.name))


@pytest.mark.parametrize("name", ["superseded/{stem}.v2.fits", "superseded/{stem}.fits.v1.fits", "other/{stem}.v1.fits", "{stem}.v1.fits"])
def test_a_superseded_version_elsewhere_or_of_another_number_is_not(kept, name):
    other = kept.parent.parent / name.format(stem=kept.name.removesuffix(".v1.fits"))
    other.parent.mkdir(exist_ok=True)
    kept.rename(other)
    with pytest.raises(VerificationError, match="its OFNAME is"):
        verify_file(other)


@pytest.mark.parametrize(
    ("old", "new"), [(b"L0VER   =                    1", b"L0VER   =                    0"), (b"OFNAME  = 'K", b"OFNAME  = 'J")]
)
def test_what_is_no_l0_of_that_name_is_not_superseded(found, make, old, new):
    path = make(found).path
    assert standing_l0(path).version == 1
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    with pytest.raises(OutputError, match="is no L0 of this name"):
        standing_l0(path)


def test_an_l0_that_another_assembler_retires_meanwhile_is_retired(tmp_path):
    write(tmp_path / NAME, {"version": 1, "id": "first", "over": None})
    standing = Standing(path=tmp_path / NAME, version=1, written="", signature=signature(tmp_path / NAME))
    kept = retire_l0(standing)
    assert retire_l0(standing) == kept
    assert os.listdir(tmp_path) == ["superseded"]
    kept.unlink()
    with pytest.raises(OutputError):
        retire_l0(standing)


def signature(path: Path) -> tuple[int, int, int]:
    with path.open("rb") as file:
        return signature_of(file)
