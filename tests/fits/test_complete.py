"""Complete or not: no half file is taken for a whole one, however it is written, and looking never fails."""

import gzip
import os
import random
from pathlib import Path

import kpf_night
import pytest

from assembler.core.settling import Look, Rules, judge
from assembler.fits.blocks import BLOCK, scan
from assembler.fits.complete import look

CUTS = 60
ORIGINS = tuple(kpf_night.PATHS)


@pytest.fixture(scope="module")
def contents(tmp_path_factory) -> dict[str, bytes]:
    """Return the bytes of a sub-FITS of each origin."""
    night = kpf_night.make_night(tmp_path_factory.mktemp("night"))
    return {origin: path.read_bytes() for origin, path in night.sub_fits(night.frames[0]).items()}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "sub.fits"


def ends(content: bytes, path: Path) -> set[int]:
    """Return where the HDUs end [bytes]: a cut there cannot be told from a whole file."""
    path.write_bytes(content)
    return {hdu.offset + hdu.length for hdu in scan(str(path)).hdus}


def cuts(content: bytes) -> list[int]:
    generator = random.Random(len(content))
    blocks = range(0, len(content), BLOCK)
    chosen = [*blocks[:10], *blocks[-10:], *generator.sample(blocks, min(CUTS, len(blocks)))]
    return sorted({max(0, at + shift) for at in chosen for shift in (-1, 0, 1, 100)} | set(generator.sample(range(len(content)), CUTS)))


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_whole_file_is_complete_and_need_not_be_scanned_again(contents, path, origin):
    path.write_bytes(contents[origin])
    told = look(str(path))
    assert (told.verdict, told.message, told.trailing, told.compressed) == ("complete", "", 0, False)
    assert told.sub == scan(str(path))
    assert told.signature == told.sub.signature


@pytest.mark.parametrize("origin", ORIGINS)
def test_no_beginning_of_a_file_is_complete_unless_it_is_cut_where_an_hdu_ends(contents, path, origin):
    content = contents[origin]
    boundaries = ends(content, path)
    for cut in cuts(content):
        path.write_bytes(content[:cut])
        assert look(str(path)).verdict == ("complete" if cut in boundaries else "growing"), cut
    for cut in sorted(boundaries):
        path.write_bytes(content[:cut])
        assert look(str(path)).verdict == "complete"


@pytest.mark.parametrize("origin", ORIGINS)
def test_space_that_was_reserved_and_is_filled_from_the_front_is_not_complete_before_the_last_header_is_there(contents, path, origin):
    """From then on only pixels are missing, which cannot be told from pixels that are zero."""
    content = contents[origin]
    path.write_bytes(content)
    written = -(-len(content[: scan(str(path)).hdus[-1].offset].rstrip(b" ")) // 80) * 80  # to the end of the last END
    for cut in cuts(content):
        path.write_bytes(content[:cut] + bytes(len(content) - cut))
        verdict = look(str(path)).verdict
        assert (verdict == "complete") == (cut >= written), cut
        assert verdict in ("complete", "preallocated", "growing")


@pytest.mark.parametrize("origin", ORIGINS)
def test_space_that_was_reserved_and_is_filled_from_the_back_is_not_complete_before_its_first_byte_is_there(contents, path, origin):
    content = contents[origin]
    for cut in cuts(content):
        path.write_bytes(bytes(cut) + content[cut:])
        assert look(str(path)).verdict == ("preallocated" if cut else "complete"), cut


@pytest.mark.parametrize("chunk", [BLOCK, 2881, 8191])
def test_a_file_that_grows_in_chunks_settles_only_when_all_of_it_is_there(contents, path, chunk):
    """Looks at it after every chunk, and three times after the last; a writer that pauses at an HDU's end is given less time."""
    content = contents["green"]
    rules = Rules(settling=30, stall=1000)
    looks = []
    with path.open("wb", buffering=0) as file:
        for instant, at in enumerate(range(0, len(content), chunk)):
            file.write(content[at : at + chunk])
            told = look(str(path))
            looks.append(Look(instant=10 * instant, signature=told.signature, verdict=told.verdict))
            assert judge(looks, rules).state == "waiting"
    for _ in range(3):
        told = look(str(path))
        looks.append(Look(instant=looks[-1].instant + 15, signature=told.signature, verdict=told.verdict))
    assert judge(looks, rules).state == "settled"


def test_a_file_that_is_replaced_by_another_of_the_same_size_and_time_settles_anew(contents, path):
    rules = Rules(settling=30, stall=1000)
    looks = []
    for instant in (0, 15):
        path.write_bytes(contents["green"])
        os.utime(path, (1, 1))
        told = look(str(path))
        looks.append(Look(instant=instant, signature=told.signature, verdict=told.verdict))
    other = path.with_name("other")
    other.write_bytes(contents["green"])
    os.utime(other, (1, 1))
    other.rename(path)
    for instant in (30, 45, 60):
        told = look(str(path))
        looks.append(Look(instant=instant, signature=told.signature, verdict=told.verdict))
        assert judge(looks, rules).state == ("settled" if instant == 60 else "waiting")


def test_a_file_that_changes_while_it_is_looked_at_is_growing(contents, path, monkeypatch):
    path.write_bytes(contents["green"])
    real = os.pread

    def slow(descriptor, length, offset):
        if length == 1:
            os.utime(path, (1, 1))
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", slow)
    assert look(str(path)).verdict == "growing"


def test_gzip_is_complete_with_its_last_byte(contents, path):
    content = gzip.compress(contents["green"], mtime=0)
    for cut in [*range(2, 40), *random.Random(1).sample(range(40, len(content)), CUTS), *range(len(content) - 12, len(content))]:
        path.write_bytes(content[:cut])
        assert (look(str(path)).verdict, look(str(path)).compressed) == ("growing", True), cut
        path.write_bytes(content[:cut] + bytes(len(content) - cut))
        assert look(str(path)).verdict != "complete" or content[cut:].strip(b"\0") == b"", cut
    path.write_bytes(content)
    assert (look(str(path)).verdict, look(str(path)).compressed) == ("complete", True)


def test_bytes_after_the_last_hdu_are_told(contents, path):
    path.write_bytes(contents["green"] + b"x" * 5000)
    told = look(str(path))
    assert (told.verdict, told.trailing, told.message) == ("trailing", 5000, f"{path} has 5000 bytes after its last HDU")
    assert told.sub is not None


@pytest.mark.parametrize("more", [1, 79, 80, BLOCK - 1])
def test_an_hdu_that_is_being_appended_is_no_trailing_bytes(contents, path, more):
    path.write_bytes(contents["green"] + b"XTENSION= 'IMAGE   '".ljust(more)[:more])
    assert look(str(path)).verdict == "growing"


@pytest.mark.parametrize("more", [100, BLOCK, 10 * BLOCK])
def test_zeros_where_an_hdu_may_come_are_reserved_space_but_what_is_there_can_be_had(contents, path, more):
    path.write_bytes(contents["green"] + bytes(more))
    told = look(str(path))
    assert (told.verdict, told.sub.trailing) == ("preallocated", more)
    assert told.message.endswith(f"there are zeros where HDU {len(told.sub.hdus)} should be")


@pytest.mark.parametrize(
    ("content", "verdict"),
    [(b"", "growing"), (bytes(1), "preallocated"), (bytes(BLOCK * 3), "preallocated"), (b"text" * 999, "unreadable")],
)
def test_what_is_no_fits_file_yet_is_told(path, content, verdict):
    path.write_bytes(content)
    told = look(str(path))
    assert (told.verdict, told.sub) == (verdict, None)
    assert str(path) in told.message


def test_what_cannot_be_opened_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    told = [look(str(tmp_path / name)) for name in ("nothing", "pipe", "nul\0", ".")]
    assert [t.verdict for t in told] == ["absent", "unreadable", "unreadable", "unreadable"]
    assert [t.signature for t in told] == [None] * 4


def test_a_disk_that_fails_is_told(contents, path, monkeypatch):
    path.write_bytes(contents["green"])

    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fails)
    told = look(str(path))
    assert (told.verdict, told.message) == ("unreadable", f"{path}: cannot be read: Input/output error")
