"""Blocks: every HDU of a good file is found, and no bad file does more than raise one clear error."""

import errno
import gzip
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from assembler.errors import InputError
from assembler.fits.blocks import scan, scan_primary

CARDS = {
    "primary": [
        "SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0",
        "EXTEND  =                    T",
    ],
    "image": [
        "XTENSION= 'IMAGE   '", "BITPIX  =                   16", "NAXIS   =                    2", "NAXIS1  =                   30",
        "NAXIS2  =                   50", "PCOUNT  =                    0", "GCOUNT  =                    1", "EXTNAME = 'AMP1    '",
    ],
}  # fmt: skip


def block(cards: list[str]) -> bytes:
    text = "".join(c.ljust(80) for c in [*cards, "END"])
    return text.ljust(-(-len(text) // 2880) * 2880).encode("latin-1")


def whole() -> bytes:
    """Return a file with a primary and two images of 3000 bytes."""
    image = block(CARDS["image"]) + bytes(range(250)) * 12 + bytes(2760)
    return block(CARDS["primary"]) + image + image


def write(directory: Path, data: bytes, name: str = "sub.fits") -> str:
    path = directory / name
    path.write_bytes(data)
    return str(path)


def test_headers_and_data_units_are_where_astropy_finds_them(tmp_path):
    path = write(tmp_path, whole())
    found = scan(path)
    with fits.open(path) as hdus:
        for mine, theirs in zip(found.hdus, hdus, strict=True):
            info = theirs.fileinfo()
            assert (mine.offset, mine.length) == (info["datLoc"], info["datSpan"])
            assert [i.rstrip() for i in mine.images] == [c.image.rstrip() for c in theirs.header.cards]
    assert (found.trailing, found.compressed) == (0, False)


@pytest.mark.parametrize("name", ["sub.fits", "sub.fits.gz"])
def test_gzip_is_told_by_its_bytes_not_by_its_name(tmp_path, name):
    plain = scan(write(tmp_path, whole(), "plain.fits.gz"))
    packed = scan(write(tmp_path, gzip.compress(whole()), name))
    assert (plain.compressed, packed.compressed) == (False, True)
    assert packed.hdus == plain.hdus


def test_every_cut_is_noticed(tmp_path):
    data = whole()
    ends = {2880, 2880 + 2880 + 5760, len(data)}
    for cut in range(0, len(data), 1000):
        path = write(tmp_path, data[:cut])
        if cut in ends:
            continue
        with pytest.raises(InputError, match=r"sub\.fits") as caught:
            scan(path)
        assert caught.value.reason == "truncated"
    packed = gzip.compress(data)
    for cut in range(2, len(packed) - 1, 7):
        with pytest.raises(InputError, match=r"sub\.fits"):
            scan(write(tmp_path, packed[:cut]))


def test_bytes_after_the_last_hdu_are_counted(tmp_path):
    assert scan(write(tmp_path, whole() + b"x" * 5000)).trailing == 5000
    assert scan(write(tmp_path, gzip.compress(whole() + b"x" * 5000))).trailing == 5000


def test_fill_and_padding_that_are_not_as_they_should_be_are_noticed(tmp_path):
    data = bytearray(whole())
    data[-1] = 7
    data[2879] = ord("x")
    found = scan(write(tmp_path, bytes(data)))
    assert [h.clean_fill for h in found.hdus] == [True, True, False]
    assert [h.blank_padding for h in found.hdus] == [False, True, True]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("NAXIS   =                    2", "NAXIS   =            777777701", "NAXIS is 777777701"),
        ("NAXIS1  =                   30", "NAXIS1  =  9223372036854775808", "asks for"),
        ("NAXIS1  =                   30", "NAXIS1  =                  -30", "not a count"),
        ("NAXIS1  =                   30", "NAXIS1  =                 30.0", "not a count"),
        ("NAXIS1  =                   30", "NOTHING =                   30", "NAXIS1 is None"),
        ("NAXIS1  =                   30", "NAXIS1\x1d =                   30", "NAXIS1 is None"),
        ("BITPIX  =                   16", "BITPIX  =                   17", "BITPIX is 17"),
        ("BITPIX  =                   16", "BITPIX  = 'sixteen'           ", "not a count"),
        ("GCOUNT  =                    1", "GCOUNT  =     9999999999999999", "asks for"),
        ("END" + " " * 77, "FIN" + " " * 77, "HDU"),
    ],
)
def test_no_header_is_believed(tmp_path, old, new, told):
    data = whole().decode("latin-1")
    at = data.rindex(old)
    path = write(tmp_path, (data[:at] + new + data[at + len(old) :]).encode("latin-1"))
    with pytest.raises(InputError, match=told) as caught:
        scan(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"SIMPLE", b"just some text\n" * 500, b"\0" * 10_000, b"\x1f\x8b", gzip.compress(b"text", mtime=0)])
def test_what_is_no_fits_file_is_refused(tmp_path, data):
    with pytest.raises(InputError, match=r"sub\.fits"):
        scan(write(tmp_path, data))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.fits")
    for path in (tmp_path, tmp_path / "pipe.fits", tmp_path / "nothing.fits", tmp_path / "nul\0.fits"):
        with pytest.raises(InputError):
            scan(str(path))
        with pytest.raises(InputError):
            scan_primary(str(path))


def survives(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory), data)
        for read in (scan, scan_primary):
            with suppress(InputError):
                read(path)


@given(st.binary(max_size=9000), st.booleans())
def test_random_bytes_raise_nothing_else(data, begins):
    survives((b"SIMPLE  =                    T".ljust(80) if begins else b"") + data)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(whole()) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_flipped_bytes_raise_nothing_else(flips):
    data = bytearray(whole())
    for place, value in flips:
        data[place] = value
    survives(bytes(data))
    survives(bytes(data[:2880]) + gzip.compress(bytes(data))[: max(flips)[0]])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_of_a_gzip_stream_raise_nothing_else(flips):
    data = bytearray(gzip.compress(whole()))
    for place, value in flips:
        data[place % len(data)] = value
    survives(bytes(data))


@pytest.mark.parametrize("read", [scan, scan_primary])
@pytest.mark.parametrize(("call", "number"), [("fstat", 1), ("fstat", 2), ("pread", 1)])
def test_a_file_that_another_host_removes_while_it_is_opened_is_one_clear_error(tmp_path, monkeypatch, read, call, number):
    path = write(tmp_path, whole())
    real, calls = getattr(os, call), []

    def stale(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(*arguments)

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, call, stale)
    with pytest.raises(InputError, match=r"sub\.fits: cannot be read: .*Stale file handle"):
        read(path)
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == before
