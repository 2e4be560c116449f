"""Splitting: an L0 alone gives every sub-FITS back byte for byte, says so by SHA-256, and never says so of what is not."""

import gzip
import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import kpf_night
import pytest

from assembler.errors import InputError, OutputError
from assembler.fits.blocks import scan
from assembler.fits.tiles import compress_l0
from assembler.service.finder import find_given, find_night
from assembler.service.reader import verify_l0
from assembler.service.recorded import read_recording
from assembler.service.splitting import given_back, split_l0


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def edit(path: Path, change) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize("amplifiers", [2, 4])
def test_every_sub_fits_of_a_night_comes_back_byte_for_byte(kpf, tmp_path, make, amplifiers):
    night = kpf_night.make_night(tmp_path / "night", amplifiers=amplifiers)
    for frame in night.frames:
        found = find_night(kpf, night.directory, frame)
        out = tmp_path / "back" / str(frame)
        given = split_l0(make(found).path, out)
        assert [(one.origin, one.state, one.problem) for one in given] == [(name, "same", "") for name in found.subs]
        for one in given:
            original = Path(found.subs[one.origin].path)
            assert Path(one.path) == out / one.origin / original.name
            assert Path(one.path).read_bytes() == original.read_bytes()
            assert one.digest == sha256(original)


def strange(content: bytes) -> bytes:
    """Return a sub-FITS with cards that FITS forbids, or that the L0 cannot have as they are."""
    end = content.index(b"END".ljust(80))
    cards = [
        b"HIERARCH ESO DET ID = 5 / no short name",
        b"lower   = 'x'",
        b"DEGREES = 'caf\xe9 100%'",
        b"",
        b"COMMENT  twice",
        b"COMMENT  twice",
        b"TM_ZONE = 'twice   '",
        b"LONG    = 'a string that is so long that it goes on in another card, said &'",
        b"CONTINUE  'the card before it' / and its comment",
        b"NANVALUE=                  NaN",
        b"CONTINUE  'that continues nothing'",
        b"EXPTIME = 1.0D+05",
    ]
    header = content[:end] + b"".join(card.ljust(80) for card in cards) + b"END".ljust(80)
    rest = content[end + 80 :].lstrip(b" ")
    return header.ljust(-(-len(header) // 2880) * 2880) + rest


def test_cards_that_the_l0_mends_renames_or_drops_come_back_as_they_were(kpf, night, make, tmp_path):
    paths = night.sub_fits(night.frames[0])
    for origin in ("green", "guide", "ca_hk"):
        edit(paths[origin], strange)
    outcome = make(find_night(kpf, night.directory, night.frames[0]))
    assert {"card-mended", "hierarch-dropped", "duplicate-keyword"} <= {f.code for f in outcome.plan.findings}
    for one in split_l0(outcome.path, tmp_path / "back"):
        assert one.state == "same"
        assert Path(one.path).read_bytes() == paths[one.origin].read_bytes()


def other_padding(content: bytes) -> bytes:
    end = content.index(b"END".ljust(80))
    return content[: end + 80] + b"\0" + content[end + 81 :]


LOST = {
    "trailing-bytes": (lambda c: c + b"what a writer left behind", lambda c: c),
    "header-padding": (other_padding, lambda c: c),
    "compressed": (lambda c: gzip.compress(c, 1), lambda c: c),
    "compressed and trailing-bytes": (lambda c: gzip.compress(c + b"more"), lambda c: c),
}


@pytest.mark.parametrize("code", LOST)
def test_what_the_l0_cannot_give_back_has_a_finding_and_the_rest_comes_back(kpf, night, make, tmp_path, code):
    path = night.sub_fits(night.frames[0])["red"]
    before = path.read_bytes()
    change, kept = LOST[code]
    edit(path, change)
    outcome = make(find_night(kpf, night.directory, night.frames[0]))
    codes = set(code.split(" and "))
    assert codes <= {f.code for f in outcome.plan.findings if f.origin == "red"}
    given = {one.origin: one for one in split_l0(outcome.path, tmp_path / "back")}
    assert {name: one.state for name, one in given.items()} == dict.fromkeys(given, "same") | {"red": "explained"}
    assert codes - {"compressed"} <= set(given["red"].findings)
    assert given["red"].problem.startswith(code.removeprefix("compressed and "))
    assert Path(given["red"].path).read_bytes() == kept(before)
    assert given["red"].is_given_back


def test_a_fill_that_is_not_zeros_comes_back(kpf, night, make, tmp_path):
    path = night.sub_fits(night.frames[0])["red"]
    edit(path, lambda c: c[:-1] + b"\x07")
    outcome = make(find_night(kpf, night.directory, night.frames[0]))
    assert "data-fill" in {f.code for f in outcome.plan.findings}
    (red,) = [one for one in split_l0(outcome.path, tmp_path / "back") if one.origin == "red"]
    assert (red.state, Path(red.path).read_bytes()) == ("same", path.read_bytes())


def test_a_name_that_says_gz_is_given_back_without_it(one, tmp_path, make, night):
    path = tmp_path / "guide.fits.gz"
    path.write_bytes(gzip.compress(night.sub_fits(night.frames[0])["guide"].read_bytes()))
    (given,) = split_l0(make(find_given(one, [str(path)])).path, tmp_path / "back")
    assert given.path == str(tmp_path / "back" / "cam" / "guide.fits")
    assert Path(given.path).read_bytes() == gzip.decompress(path.read_bytes())


def test_a_name_that_needs_more_than_one_card_is_the_l0s_own(one, tmp_path, make, night):
    path = shutil.copy(night.sub_fits(night.frames[0])["red"], tmp_path / f"{'long' * 40}.fits")
    l0 = make(find_given(one, [f"cam={path}"])).path
    verify_l0(l0)
    assert scan(str(l0)).hdus[0].value("OFNAME") == l0.name == f"{'long' * 40}.l0.fits"
    assert [given.state for given in split_l0(l0, tmp_path / "back")] == ["same"]
    assert sha256(tmp_path / "back" / "cam" / path.name) == sha256(path)


def test_each_version_gives_back_what_it_was_made_of(kpf, night, make, tmp_path):
    path = night.sub_fits(night.frames[0])["red"]
    first = path.read_bytes()
    make(find_night(kpf, night.directory, night.frames[0]))
    edit(path, lambda c: c[:-2880] + bytes([c[-2880] ^ 1]) + c[-2879:])
    outcome = make(find_night(kpf, night.directory, night.frames[0]), supersede="the camera wrote it again")
    assert outcome.replaced is not None
    for l0, content in ((outcome.replaced, first), (outcome.path, path.read_bytes())):
        (red,) = [one for one in split_l0(l0, tmp_path / l0.name) if one.origin == "red"]
        assert (red.state, Path(red.path).read_bytes()) == ("same", content)


@pytest.mark.skipif(shutil.which("fpack") is None, reason="fpack is not installed")
def test_an_l0_that_was_tile_compressed_and_unpacked_again_gives_back_the_same(found, make, tmp_path):
    path = tmp_path / "packed.fits"
    shutil.copy(make(found).path, path)
    for program in (["fpack", "-D", "-Y", "-g", "-q", "0"], ["funpack", "-D"]):
        before = {p.name for p in tmp_path.glob("packed*")}
        subprocess.run([*program, before.pop()], cwd=tmp_path, check=True)
    assert {one.state for one in split_l0(path, tmp_path / "back")} == {"same"}


def test_an_l0_that_is_still_compressed_is_to_be_unpacked_first(kpf, make, tmp_path):
    night = kpf_night.make_night(tmp_path / "night", shape=(300, 200))
    packed = tmp_path / "packed.fits.fz"
    compress_l0(make(find_night(kpf, night.directory, night.frames[0])).path, packed)
    given = {one.origin: one for one in split_l0(packed, tmp_path / "back")}
    assert given["green"].state == "lost"
    assert given["green"].problem.endswith("; it is tile-compressed, unpack the L0 first, with funpack")


@pytest.mark.parametrize("seed", range(3))
def test_whatever_bit_of_the_l0_is_another_one_nothing_wrong_is_given_back_as_right(found, history_url, make, tmp_path, seed):
    path = make(found, history_url).path
    whole = path.read_bytes()
    hdus = {h.extname: h for h in scan(str(path)).hdus}
    chance = random.Random(seed)
    data = [h for name, h in hdus.items() if h.length and name not in ("TELEMETRY", "FINDINGS")]
    places = [h.offset + chance.randrange(h.length) for h in data for _ in range(4)] + [chance.randrange(len(whole)) for _ in range(20)]
    originals = {name: Path(sub.path).read_bytes() for name, sub in found.subs.items()}
    found_out = 0
    for number, place in enumerate(places):
        content = bytearray(whole)
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        out = tmp_path / str(number)
        try:
            given = split_l0(path, out)
        except InputError:
            found_out += 1
            continue
        for one in given:
            if one.state == "same":
                assert Path(one.path).read_bytes() == originals[one.origin]
            assert one.state != "explained"
        written = {p.split("/")[0] for p in tree(out)} if out.exists() else set()
        assert written == {one.origin for one in given if one.path}
        assert not any(one.path for one in given if one.state in ("differs", "lost"))
        found_out += any(one.state != "same" for one in given)
    assert found_out >= len(data) * 2


def test_a_table_that_claims_to_be_huge_is_told_of_and_not_read_into_memory(found, make, tmp_path, call):
    """Gives CARDS 4 TB of rows, all of which the file has, and none of which the disk has."""
    path = make(found).path
    content = path.read_bytes()
    cards = next(h for h in scan(str(path)).hdus if h.extname == "CARDS")
    at = content.index(b"NAXIS2  = ", content.index(b"EXTNAME = 'CARDS") - 900)
    rows = 4_000_000_000_000 // cards.value("NAXIS1")
    length = -(-rows * cards.value("NAXIS1") // 2880) * 2880
    with path.open("r+b") as file:
        file.seek(at + 10)
        file.write(f"{rows:20}".encode())
        file.seek(cards.offset + length)
        file.write(content[cards.offset + cards.length :])
    message = f"assembler: {path}: CARDS has {length} bytes, more than the 1024 MiB that a table of an L0 may have\n"
    assert call("split", path, "--out", tmp_path / "back") == (3, "", message)
    assert call("plan", path, "--write", tmp_path / "headers.json") == (3, "", message)
    assert not (tmp_path / "back").exists()


def test_a_damaged_data_unit_is_not_explained_by_a_finding_about_something_else(kpf, night, make):
    edit(night.sub_fits(night.frames[0])["red"], lambda c: c + b"more")
    path = make(find_night(kpf, night.directory, night.frames[0])).path
    hdu = next(h for h in scan(str(path)).hdus if h.extname == "RED_AMP1")
    edit(path, lambda c: c[: hdu.offset] + bytes([c[hdu.offset] ^ 1]) + c[hdu.offset + 1 :])
    (red,) = [one for one in given_back(read_recording(path)) if one.origin == "red"]
    assert (red.state, red.problem) == (
        "differs",
        "trailing-bytes: that is not in this file, all else is; and RED_AMP1 does not sum up to its DATASUM",
    )


def test_nothing_is_overwritten_and_what_is_there_already_is_left_alone(found, make, tmp_path):
    path = make(found).path
    first = split_l0(path, tmp_path / "back")
    inodes = [os.stat(one.path).st_ino for one in first]
    assert split_l0(path, tmp_path / "back") == first
    assert [os.stat(one.path).st_ino for one in first] == inodes
    Path(first[0].path).write_bytes(b"somebody's notes")
    with pytest.raises(OutputError, match="nothing is overwritten"):
        split_l0(path, tmp_path / "back")
    assert Path(first[0].path).read_bytes() == b"somebody's notes"
    Path(first[0].path).unlink()
    Path(first[0].path).mkdir()
    with pytest.raises(OutputError, match="nothing is overwritten"):
        split_l0(path, tmp_path / "back")
    Path(first[0].path).rmdir()
    Path(first[0].path).symlink_to(first[1].path)
    with pytest.raises(OutputError, match="nothing is overwritten"):
        split_l0(path, tmp_path / "back")


@pytest.mark.parametrize(
    ("was", "name", "count"),
    [(b"kpf_215921.fits", b"../../x.fits   ", 1), (b"kpf_215921.fits", b"..             ", 1), (b"green", b"../..", -1)],
)
def test_names_in_the_ledger_are_no_paths(found, make, tmp_path, was, name, count):
    path = make(found).path
    whole = path.read_bytes()
    hdu = next(h for h in scan(str(path)).hdus if h.extname == "CARDS")
    assert len(was) == len(name)
    path.write_bytes(whole[: hdu.offset] + whole[hdu.offset :].replace(was, name, count))
    out = tmp_path / "inside" / "back"
    given = split_l0(path, out)
    assert any(one.problem.endswith("no names to write a file under") for one in given)
    assert {p.relative_to(out).parts[0] for p in tmp_path.rglob("*") if p.is_file() and out in p.parents} <= set(found.subs)
    assert not list(tmp_path.glob("**/x.fits"))


def test_an_l0_that_does_not_tell_what_a_sub_fits_was_gives_it_back_and_says_that_nobody_knows(found, make, tmp_path):
    path = make(found).path
    edit(path, lambda c: c.replace(b"ORIGIN1 ", b"ORIGINX ", 1))
    given = {one.origin: one for one in split_l0(path, tmp_path / "back")}
    assert (given["green"].state, given["green"].is_given_back) == ("unrecorded", False)
    assert Path(given["green"].path).read_bytes() == Path(found.subs["green"].path).read_bytes()


def test_the_command_tells_what_came_back(found, make, tmp_path, call):
    path = make(found).path
    code, out, told = call("split", str(path), "--out", str(tmp_path / "back"))
    assert (code, told) == (0, "")
    assert out.splitlines()[0] == f"{tmp_path}/back/green/kpf_215921.fits: same, SHA-256 {sha256(Path(found.subs['green'].path))}"
    hdu = next(h for h in scan(str(path)).hdus if h.extname == "GREEN_AMP1")
    edit(path, lambda c: c[: hdu.offset] + bytes([c[hdu.offset] ^ 1]) + c[hdu.offset + 1 :])
    code, out, told = call("split", str(path), "--out", str(tmp_path / "again"))
    assert code == 1
    assert out.startswith("green/kpf_215921.fits: differs, SHA-256 ")
    assert "the L0 is damaged or was changed" in told
    assert not (tmp_path / "again" / "green").exists()
    code, _, told = call("split", found.subs["red"].path, "--out", str(tmp_path / "none"))
    assert (code, "so this is no L0" in told) == (3, True)
