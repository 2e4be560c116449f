"""Cleaning: nothing is removed but what an archive has and an L0 gives back byte for byte, and that is looked at now."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import kpf_night
import pytest

from assembler.fits.blocks import scan
from assembler.service import cleaning

DAY = 86_400
OLD = 1_700_000_000


class Observatory:
    """A night with its L0s and an archive that has them, all of it a long time ago."""

    def __init__(self, directory: Path, call, exposures: int = 1) -> None:
        self.call = call
        self.night = kpf_night.make_night(directory / "data", exposures=exposures)
        self.out = self.night.directory / "L0"
        self.archive = directory / "archive"
        self.archive.mkdir()
        self.history = f"sqlite:///{directory}/history.db"
        call("telemetry", "load", self.night.telemetry, "--history", self.history)

    def make(self, *words: object, code: int = 0) -> None:
        """Assemble the night, and archive what came of it."""
        self.age()
        assert self.call("night", self.night.directory, "--history", self.history)[0] == code
        told = self.call("archive", *self.l0s, "--to", self.archive, *words)
        assert told[0] == 0, told

    @property
    def l0s(self) -> list[Path]:
        return sorted(self.out.glob("*.fits"))

    @property
    def sub_fits(self) -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in sorted(self.night.directory.glob("*/*.fits")) if p.parent != self.out}

    def age(self, at: int = OLD) -> None:
        for path in self.sub_fits:
            os.utime(path, (at, at))

    def clean(self, *words: object, code: int = 0) -> tuple[str, str]:
        got, out, told = self.call("clean", self.night.directory, "--archive", self.archive, *words)
        assert got == code, told
        return out, told

    def keeps(self, reason: str, *words: object, code: int = 0) -> None:
        """Make sure that nothing is removed, and the reason is told."""
        before = self.sub_fits
        _, told = self.clean("--delete", *words, code=code)
        assert reason in told
        assert self.sub_fits == before


@pytest.fixture
def one(tmp_path, call) -> Observatory:
    """An exposure, neither assembled nor archived yet."""
    return Observatory(tmp_path, call)


@pytest.fixture
def there(tmp_path, call) -> Observatory:
    made = Observatory(tmp_path, call, exposures=2)
    made.make()
    return made


def flip(path: Path, place: int) -> None:
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_the_archive_has_and_the_l0_gives_back_is_listed_and_then_removed_and_nothing_else(there, tmp_path):
    before = there.sub_fits
    others = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p not in before}
    out, told = there.clean()
    assert sorted(out.splitlines()) == sorted(f"removable: {path}" for path in before)
    assert told == f"exposures: 2 removable; {sum(map(len, before.values())) / 1e9:.1f} GB\n"
    assert there.sub_fits == before
    out, _ = there.clean("--delete")
    assert sorted(out.splitlines()) == sorted(f"removed: {path}" for path in before)
    assert not there.sub_fits
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == others
    assert there.clean("--delete") == ("", "exposures: none; 0.0 GB\n")
    for l0 in there.l0s:
        assert there.call("split", l0, "--out", tmp_path / "back" / l0.stem)[0] == 0
    assert sorted(p.read_bytes() for p in (tmp_path / "back").rglob("*.fits")) == sorted(before.values())


@pytest.mark.parametrize("hdu", ["PRIMARY", "GREEN_AMP1", "CA_HK", "CARDS", "FINDINGS"])
def test_one_corrupt_byte_in_one_l0_keeps_everything_of_the_night(there, hdu):
    at = next(h for h in scan(str(there.l0s[1])).hdus if (h.extname or "PRIMARY") == hdu)
    flip(there.l0s[1], at.offset + 7 if at.length else at.offset - 2880 + 90)
    there.keeps(f"{there.l0s[1]} is not what was archived: its SHA-256 is ", code=1)
    there.keeps("something else of this night is damaged, so nothing is removed", code=1)


@pytest.mark.parametrize("place", [0, 3, 200])
def test_an_l0_that_is_none_any_more_keeps_everything_of_the_night(there, place):
    flip(there.l0s[0], place)
    there.keeps(str(there.l0s[0]), code=1)


def test_headers_without_pixels_among_the_l0s_are_nobodys_damage(there):
    assert there.call("plan", there.l0s[0], "--write", there.out / "beside.headers.fits")[0] == 0
    assert there.clean()[1].startswith("exposures: 2 removable; ")


def test_one_corrupt_byte_in_the_archives_copy_keeps_everything_of_the_night(there):
    copy = next(there.archive.rglob(there.l0s[0].name))
    copy.chmod(0o644)
    flip(copy, 5000)
    there.keeps(f"{copy} is not what its receipt says, or is not there", code=1)
    copy.unlink()
    there.keeps(f"{copy} is not what its receipt says, or is not there", code=1)


def test_a_receipt_that_is_none_keeps_everything_of_the_night(there):
    receipt = next(there.archive.rglob(f"{there.l0s[0].name}.receipt.json"))
    receipt.chmod(0o644)
    receipt.write_text('{"receipt": 1, "name": "../x"}')
    there.keeps("its receipt is none", code=1)


def test_a_receipt_of_another_file_than_the_l0_itself_keeps_everything_of_the_night_and_is_no_duplicate(there):
    """As whoever mends a receipt by hand after the archive's copy was damaged may leave it."""
    copy = next(there.archive.rglob(there.l0s[0].name))
    flip(copy, 5000)
    receipt = copy.with_name(f"{copy.name}.receipt.json")
    told = json.loads(receipt.read_text())
    receipt.write_text(json.dumps(told | {"sha256": hashlib.sha256(copy.read_bytes()).hexdigest()}))
    (copy.parent / "SHA256SUMS").unlink()
    there.keeps("its receipt is none: it is not compressed, and has another SHA-256 than its L0", code=1)
    code, out, _ = there.call("archive", there.l0s[0], "--to", there.archive)
    assert code == 1
    assert "refused" in out


def test_an_l0_without_a_receipt_keeps_its_sub_fits_and_the_others_go(there):
    next(there.archive.rglob(f"{there.l0s[0].name}.receipt.json")).unlink()
    before = there.sub_fits
    _, told = there.clean("--delete")
    assert f"{there.l0s[0].name} has no receipt, so its L0 is not archived" in told
    assert len(there.sub_fits) == len(before) // 2
    assert all(before[path] == content for path, content in there.sub_fits.items())


def test_young_sub_fits_stay_even_one_of_several(there):
    there.keeps("its sub-FITS are not old enough", "--older-than", "20000 d")
    for frame in there.night.frames:
        path = there.night.sub_fits(frame)["red"]
        os.utime(path)
    there.keeps("its sub-FITS are not old enough")


def test_a_sub_fits_that_is_not_what_the_l0_was_made_of_stays_with_its_exposure(there):
    frame = there.night.frames[0]
    path = there.night.sub_fits(frame)["red"]
    flip(path, path.stat().st_size - 3000)
    before = there.sub_fits
    _, told = there.clean("--delete")
    assert f"{frame}: kept: {path} is not what its L0 was made of" in told
    assert set(there.sub_fits) == {p for p in before if p in there.night.sub_fits(frame).values()}
    assert there.sub_fits[path] == before[path]


def test_a_sub_fits_that_came_after_the_l0_was_made_stays_with_its_exposure(one, tmp_path):
    path = one.night.sub_fits(one.night.frames[0])["ca_hk"]
    path.rename(tmp_path / "aside")
    one.make(code=1)
    (tmp_path / "aside").rename(path)
    one.age()
    one.keeps(f"{path} is not in its L0")


@pytest.mark.parametrize("change", [gzip.compress, lambda content: content + b"more"])
def test_what_the_l0_cannot_give_back_stays_with_its_exposure(one, change):
    path = one.night.sub_fits(one.night.frames[0])["red"]
    path.write_bytes(change(path.read_bytes()))
    one.make()
    one.keeps(f"its L0 does not give back {path}: ")


def test_another_version_than_the_archives_keeps_its_sub_fits(there):
    frame = there.night.frames[0]
    words = ("--out", there.out, "--supersede", "to see", "--corrections", "examples/kpf-corrections")
    corrected = there.call("assemble", there.night.directory, "--frame", frame, *words)
    assert "it is version 2" in corrected[2]
    _, told = there.clean("--delete")
    assert "version 1 of its L0 is archived, and not version 2" in told
    assert there.night.sub_fits(frame)["red"].exists()


def test_links_and_strays_stay(there, tmp_path):
    frame = there.night.frames[0]
    path = there.night.sub_fits(frame)["red"]
    path.rename(tmp_path / "elsewhere.fits")
    path.symlink_to(tmp_path / "elsewhere.fits")
    stray = path.with_name("kpf_999999.fits")
    stray.write_bytes(b"SIMPLE  = nothing")
    os.utime(stray, (OLD, OLD))
    _, told = there.clean("--delete")
    assert f"{path} is no regular file" in told
    assert path.is_symlink()
    assert stray.exists()


def test_a_compressed_copy_counts_too(one):
    one.make("--compress")
    (told,) = json.loads(one.clean("--json")[0])
    assert told["state"] == "removable"
    assert told["archived"].endswith(".fits.fz")
    assert set(told["files"]) == set(map(str, one.sub_fits))


def test_what_changes_between_the_look_and_the_removal_stays(there, monkeypatch):
    path = there.night.sub_fits(there.night.frames[0])["green"]
    real = cleaning.given_back

    def meanwhile(recording):
        given = real(recording)
        os.utime(path, (OLD + 1, OLD + 1))
        return given

    monkeypatch.setattr(cleaning, "given_back", meanwhile)
    before = there.sub_fits
    _, told = there.clean("--delete")
    assert f"{path} changed while it was looked at" in told
    assert path in there.sub_fits
    assert before[path] == there.sub_fits[path]


def test_what_is_written_to_and_dated_back_between_the_look_and_the_removal_stays(there, monkeypatch):
    path = there.night.sub_fits(there.night.frames[0])["green"]
    real = cleaning._check_sub_fits

    def meanwhile(recording, paths, signatures):
        real(recording, paths, signatures)
        if str(path) in paths.values():
            flip(path, path.stat().st_size - 3000)

    monkeypatch.setattr(cleaning, "_check_sub_fits", meanwhile)
    _, told = there.clean("--delete")
    assert f"{path} changed while it was looked at" in told
    assert path in there.sub_fits


def test_a_sub_fits_that_is_there_and_not_whole_keeps_its_exposure(one):
    path = one.night.sub_fits(one.night.frames[0])["red"]
    path.write_bytes(path.read_bytes()[:5000])
    one.make(code=1)
    one.keeps(f"{path}, HDU 1: the file ends in its header")


@pytest.mark.parametrize("link", [False, True])
def test_an_l0_that_is_its_own_copy_in_the_archive_keeps_its_sub_fits(there, link):
    copies = [next(there.archive.rglob(path.name)) for path in there.l0s]
    for path, copy in zip(there.l0s, copies, strict=True):
        copy.unlink()
        os.link(path, copy)
    words = () if link else ("--out", copies[0].parent)
    there.keeps(f"{copies[0]} is the L0 itself, and no copy of it", *words)


def test_a_directory_that_nothing_can_be_removed_from_keeps_the_whole_exposure(one):
    one.make()
    path = one.night.sub_fits(one.night.frames[0])["ca_hk"]
    words = [sys.executable, "-m", "assembler", "clean", str(one.night.directory), "--archive", str(one.archive), "--delete"]
    if os.geteuid() == 0:  # who may do everything, unless told otherwise
        words = ["setpriv", "--bounding-set", "-dac_override", *words]
    before = one.sub_fits
    path.parent.chmod(0o555)
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    finally:
        path.parent.chmod(0o755)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"assembler: {path}: cannot be removed: Permission denied\n"
    assert one.sub_fits == before


def test_a_night_that_is_not_there_is_told_the_same_whether_or_not_something_is_to_be_removed(there, tmp_path):
    for words in ((), ("--delete",)):
        told = there.call("clean", tmp_path / "none", "--archive", there.archive, *words)
        assert told == (3, "", f"assembler: {tmp_path / 'none'}: there is no such directory\n")


def test_what_was_removed_is_told_to_programs_though_an_error_ended_it(there, monkeypatch):
    last = there.night.sub_fits(there.night.frames[1])["green"]
    real = os.unlink

    def failing(path, **words):
        if str(path) == str(last):
            raise OSError(5, "Input/output error")
        real(path, **words)

    monkeypatch.setattr(cleaning.os, "unlink", failing)
    out, told = there.clean("--delete", "--json", code=4)
    assert "Input/output error" in told
    assert [(one["label"], one["state"]) for one in json.loads(out)] == [(str(there.night.frames[0]), "removed")]
    assert last.exists()


@pytest.mark.parametrize("when", range(1, 11, 3))
def test_killed_while_removing_it_goes_on_the_next_time(there, when):
    words = ["clean", str(there.night.directory), "--archive", str(there.archive), "--delete"]
    trace = ["strace", "-f", "-qq", "-e", "trace=unlink", "-e", f"inject=unlink:signal=KILL:when={when}", "-o", os.devnull]
    before = there.sub_fits
    done = subprocess.run([*trace, sys.executable, "-m", "assembler", *words], capture_output=True, check=False)
    assert done.returncode != 0
    left = there.sub_fits
    assert all(before[path] == content for path, content in left.items())
    there.clean("--delete")
    assert not there.sub_fits
