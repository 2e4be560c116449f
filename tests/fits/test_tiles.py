"""Tile compression: the L0 comes back byte for byte or there is no copy, and strangers read the same pixels."""

import gzip
import os
import resource
import shutil
import signal
import subprocess
import sys
from itertools import chain, pairwise

import fitsio
import kpf_night
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from assembler.core import tiles as core_tiles
from assembler.core.cards import text_of, write_card
from assembler.core.tiles import is_compressed
from assembler.errors import InputError, OutputError, VerificationError
from assembler.fits import tiles
from assembler.fits.blocks import padded, scan
from assembler.fits.sums import encode, fold, word_sum
from assembler.fits.tiles import compress_l0, decompress_l0
from assembler.fits.writer import render_header
from assembler.service.finder import find_night

pytestmark = pytest.mark.filterwarnings("ignore:The following header keyword is invalid", "ignore:Invalid 'BLANK' keyword")
"""astropy does not like all that headers hold."""

FUNPACK = shutil.which("funpack")
BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
PRIMARY = ("SIMPLE  =                    T / conforms", "BITPIX  =                    8", "NAXIS   =                    0", "EXTEND  = T")
ODD = (
    "GAIN    = 1.0D+05",
    "NUMBER  = 0007",
    "UNDEF   =",
    "NOVALUE something that is no value",
    "HIERARCH ESO DET OUT1 GAIN = 2.50 / [e-/ADU] gain",
    "COMMENT   a comment",
    "HISTORY   what was before",
    "         a keyword of blanks",
    "",
    "DUP     =                    1",
    "DUP     =                    2",
    "TIGHT   = 'unpadded'/tight",
    "COMPLEX = (1.0, 2.0)",
    "INHERIT =                    F",
    "ZCMD    =                    3",
    "DATE-OBS= '2024-01-01'",
)
LONG = ("LONGSTR = 'a long string that goes on in the next card&'", "CONTINUE  'and here &' / comment", "CONTINUE  'it''s the end' / more")


def hdu(cards, data=b"", padding=b"\0", after_end=b""):
    """Return an HDU whose checksums fit, also where the header ends in something else than blanks, or is no ASCII."""
    data += padding * (padded(len(data)) - len(data))
    total = word_sum(data) if data else 0
    rendered = render_header([card.encode("ascii", "replace").decode().ljust(80) for card in cards], total)
    header = bytearray(rendered)
    for number, card in enumerate(cards):
        header[80 * number : 80 * number + len(card)] = card.encode("latin-1")
    header[len(header) - len(after_end) :] = after_end
    place = header.index(b"CHECKSUM= '", 80 * len(cards)) + 11
    header[place : place + 16] = b"0" * 16
    header[place : place + 16] = encode(fold(word_sum(header) + total)).encode()
    return bytes(header) + data


def image(pixels, name="", more=(), padding=b"\0", after_end=b""):
    axes = {f"NAXIS{n}": length for n, length in enumerate(pixels.shape[::-1], 1)}
    bitpix = BITPIX[pixels.dtype.str[1:]]
    values = {"XTENSION": "IMAGE", "BITPIX": bitpix, "NAXIS": pixels.ndim, **axes, "PCOUNT": 0, "GCOUNT": 1}
    values |= {"EXTNAME": name} if name else {}
    cards = [write_card(keyword, text_of(value))[0] for keyword, value in values.items()]
    return hdu((*cards, *more), pixels.astype(pixels.dtype.newbyteorder(">")).tobytes(), padding, after_end)


def noise(shape=(60, 100), kind="i2", seed=1):
    return np.random.default_rng(seed).normal(1000, 6, shape).astype(kind)


def floats(kind="f4"):
    """Return floats with few bits, and all that a float may be."""
    pixels = noise(kind=kind).round(1)
    pixels.flat[:5] = [np.nan, np.inf, -np.inf, -0.0, np.finfo(kind).tiny / 8]
    pixels.view(kind.replace("f", "u")).flat[5] += 1  # another NaN
    pixels.view(kind.replace("f", "u")).flat[6] = 0x7F800001 if kind == "f4" else 0x7FF0000000000001
    return pixels


def hdus_of(path):
    """Return every HDU as its bytes, and whether it is one that was compressed."""
    found, content = scan(str(path)), path.read_bytes()
    ends = [0, *(h.offset + h.length for h in found.hdus)]
    return [(content[a:b], is_compressed(h)) for (a, b), h in zip(pairwise(ends), found.hdus, strict=True)]


@pytest.fixture
def pack(tmp_path):
    """Return what compresses bytes and decompresses them again, and tells of each HDU whether it was compressed."""

    def compress(content):
        source, target, back = (tmp_path / name for name in ("source.fits", "target.fits", "back.fits"))
        source.write_bytes(content)
        compress_l0(source, target)
        decompress_l0(target, back)
        assert back.read_bytes() == content
        assert target.stat().st_size <= len(content)
        for (before, _), (after, compressed) in zip(hdus_of(source), hdus_of(target), strict=True):
            assert compressed or before == after
        return target, [compressed for _, compressed in hdus_of(target)]

    return compress


@pytest.fixture(scope="module")
def l0():
    """Return what stands in for an L0: images that are worth compressing."""
    more = ("BZERO   =                32768", "BSCALE  =                    1", *ODD, *LONG)
    return hdu(PRIMARY) + image(noise(), "ONE", more) + image(floats(), "TWO") + image(noise((7, 700), "i4"), "THREE")


@pytest.fixture
def source(tmp_path, l0):
    path = tmp_path / "in" / "l0.fits"
    path.parent.mkdir()
    path.write_bytes(l0)
    return path


SHAPES = st.one_of(
    st.integers(1500, 140_000).map(lambda n: (n,)),
    st.tuples(st.integers(1, 90), st.integers(40, 900)),
    st.tuples(st.integers(1, 4000), st.integers(1, 3)),
    st.tuples(st.integers(1, 5), st.integers(1, 30), st.integers(20, 90)),
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 30), st.integers(1, 90)),
)
IMAGES = st.fixed_dictionaries(
    {
        "shape": SHAPES,
        "kind": st.sampled_from(list(BITPIX)),
        "seed": st.integers(0, 2**32),
        "way": st.sampled_from(["noise", "bits", "few bits", "constant", "ramp", "extremes"]),
        "scaled": st.booleans(),
        "blank": st.booleans(),
        "name": st.sampled_from(["", "NAME"]),
        "cards": st.lists(st.sampled_from([*((card,) for card in ODD), LONG]), max_size=12),
    }
)


def drawn_image(*, shape, kind, seed, way, scaled, blank, name, cards):
    """Return an image extension: any BITPIX, shape and pixels, scaled or not, with cards of all sorts."""
    rng, size, width = np.random.default_rng(seed), int(np.prod(shape)), int(kind[1])
    raw = rng.integers(0, 256, (size, width), dtype="u1")
    if way == "noise":
        pixels = rng.normal(100, 9, size).astype(kind)
    elif way == "ramp":
        pixels = np.arange(size).astype(kind)
    elif way == "extremes" and kind[0] != "f":
        limits = np.iinfo(kind)
        pixels = rng.choice(np.array([limits.min, limits.max, 0, limits.max // 2], kind), size)
    elif way == "constant":
        pixels = raw[:1].repeat(size, axis=0).view(kind).ravel()
    elif way == "few bits":
        pixels = (raw & np.repeat([0, 255], [width // 2, width - width // 2]).astype("u1")).view(kind).ravel()
    else:
        pixels = raw.view(kind).ravel()
    scaling = ["BZERO   = 32768", "BSCALE  = 0.25"] if scaled else []
    scaling += [f"BLANK   = {int(pixels[0])}"] if blank and kind[0] != "f" else []
    return image(pixels.reshape(shape), name, (*scaling, *chain.from_iterable(cards)))


@settings(max_examples=60)
@given(st.lists(IMAGES, min_size=1, max_size=3), st.sampled_from([1000, 50_000, 4 << 20]), st.sampled_from([1000, 4 << 20]))
def test_whatever_the_image_it_comes_back_and_strangers_read_the_same(tmp_path_factory, fitsverify, drawn, there, back_again):
    directory = tmp_path_factory.mktemp("any")
    source, target, back, unpacked = (directory / name for name in ("source", "target", "back", "unpacked"))
    content = hdu(PRIMARY) + b"".join(drawn_image(**one) for one in drawn)
    source.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_RUN", there)
        compress_l0(source, target)
        patch.setattr(tiles, "_RUN", back_again)
        decompress_l0(target, back)
    assert back.read_bytes() == content
    agree(source, target)
    fitsverify(target)
    if FUNPACK:
        subprocess.run([FUNPACK, "-O", unpacked, target], check=True, capture_output=True)
        assert unpacked.read_bytes() == content
    shutil.rmtree(directory)


def agree(source, target):
    """Check that astropy and cfitsio read the same pixels, of the copy and of the source."""
    options = {"do_not_scale_image_data": True, "memmap": False, "checksum": True}
    with fits.open(source, **options) as before, fits.open(target, **options) as after:
        assert len(before) == len(after)
        for one, other in zip(before[1:], after[1:], strict=True):
            if isinstance(one, fits.ImageHDU):
                assert isinstance(other, (fits.ImageHDU, fits.CompImageHDU))
                assert native(one.data) == native(other.data)
    with fitsio.FITS(str(source)) as before, fitsio.FITS(str(target)) as after:
        for one, other in zip(before[1:], after[1:], strict=True):
            if one.has_data() and isinstance(one, fitsio.hdu.ImageHDU):
                assert native(one.read()) == native(other.read())


def native(pixels):
    return pixels.shape, pixels.astype(pixels.dtype.newbyteorder("=")).tobytes()


def test_integers_and_floats_get_shorter_to_the_last_bit(pack):
    kinds = {kind: noise(kind=kind) for kind in ("u1", "i2", "i4")} | {kind: floats(kind) for kind in ("f4", "f8")}
    target, compressed = pack(hdu(PRIMARY) + b"".join(image(pixels, kind.upper()) for kind, pixels in kinds.items()))
    assert compressed == [False, *[True] * 5]
    found = {h.extname: h.value("ZCMPTYPE") for h in scan(str(target)).hdus[1:]}
    assert found == {"U1": "RICE_1", "I2": "RICE_1", "I4": "RICE_1", "F4": "GZIP_2", "F8": "GZIP_2"}


def test_an_l0_of_kpf_comes_back_and_its_tables_stay(kpf, tmp_path, make, fitsverify):
    night = kpf_night.make_night(tmp_path / "data", shape=(128, 96))
    l0 = make(find_night(kpf, night.directory, night.frames[0])).path
    packed = tmp_path / "packed" / l0.name
    compress_l0(l0, packed)
    decompress_l0(packed, tmp_path / "back.fits")
    assert (tmp_path / "back.fits").read_bytes() == l0.read_bytes()
    compressed = {h.extname for h in scan(str(packed)).hdus if is_compressed(h)}
    assert {"GREEN_AMP1", "GREEN_AMP2", "RED_AMP1", "RED_AMP2", "CA_HK"} <= compressed
    assert not {"", "EXPMETER_SCI", "TELEMETRY", "CARDS", "FINDINGS"} & compressed
    assert packed.stat().st_size < 0.8 * l0.stat().st_size
    fitsverify(packed)
    agree(l0, packed)


@pytest.mark.skipif(not FUNPACK, reason="there is no funpack")
def test_funpack_gives_back_the_l0_byte_for_byte(source, tmp_path):
    compress_l0(source, tmp_path / "copy.fits")
    subprocess.run([FUNPACK, "-O", tmp_path / "unpacked.fits", tmp_path / "copy.fits"], check=True)
    assert (tmp_path / "unpacked.fits").read_bytes() == source.read_bytes()


def test_a_heap_of_more_than_two_gigabytes_has_offsets_of_64_bits(source, tmp_path, monkeypatch, fitsverify):
    """A limit that is lower stands in for an image that is larger."""
    monkeypatch.setattr(core_tiles, "_NARROW_HEAP", 10_000)
    compress_l0(source, tmp_path / "copy.fits")
    decompress_l0(tmp_path / "copy.fits", tmp_path / "back.fits")
    assert (tmp_path / "back.fits").read_bytes() == source.read_bytes()
    assert {h.value("TFORM1")[:2] for h in scan(str(tmp_path / "copy.fits")).hdus[1:]} == {"1Q"}
    fitsverify(tmp_path / "copy.fits")
    agree(source, tmp_path / "copy.fits")


@pytest.mark.parametrize(
    "extension",
    [
        image(noise(), more=["ZIMAGE  =                    T"]),
        image(noise(), more=["TTYPE1  = 'COLUMN'"]),
        image(noise(), padding=b"\1"),
        image(noise(kind="i8")),
        image(np.random.default_rng(1).integers(0, 2**32, (60, 100), "u4").view("f4")),
        image(np.random.default_rng(1).integers(0, 2**16, (60, 100), "u2").view("i2")),
        image(noise((1, 1))),
        image(noise((1, 2, 30, 50))),
        hdu(["XTENSION= 'IMAGE'", "BITPIX  = 8", "NAXIS   = 0", "PCOUNT  = 0", "GCOUNT  = 1"]),
        image(noise(), after_end=b"x"),
        image(noise(), more=["TEMP    = '21 \xb0C'"]),
    ],
    ids=[
        "reserved",
        "column",
        "fill",
        "64 bits",
        "random floats",
        "random integers",
        "one pixel",
        "4 axes",
        "no data",
        "header padding",
        "not ASCII",
    ],
)
def test_what_cannot_be_compressed_or_gains_nothing_stays_as_it_is(pack, extension):
    _, compressed = pack(hdu(PRIMARY) + extension + image(noise()))
    assert compressed == [False, False, True]


def test_an_image_that_others_compressed_stays_as_they_did_it(pack, tmp_path):
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(noise()), fits.ImageHDU(noise())]).writeto(tmp_path / "mixed.fits", checksum=True)
    assert pack((tmp_path / "mixed.fits").read_bytes())[1] == [False, False, True]


def test_a_copy_is_not_compressed_again(source, tmp_path):
    compress_l0(source, tmp_path / "once.fits")
    with pytest.raises(InputError, match=r"once\.fits, HDU 1: is tile-compressed by the assembler already"):
        compress_l0(tmp_path / "once.fits", tmp_path / "twice.fits")
    assert sorted(os.listdir(tmp_path)) == ["in", "once.fits"]


def test_a_name_that_is_taken_is_left_alone(source, tmp_path, monkeypatch):
    target = tmp_path / "copy.fits"
    target.write_text("somebody's notes")
    for call in (compress_l0, decompress_l0):
        with pytest.raises(OutputError, match="never overwritten"):
            call(source, target)
    target.unlink()
    real = tiles.encode_run
    monkeypatch.setattr(tiles, "encode_run", lambda *given: target.write_text("somebody's notes") and real(*given))
    with pytest.raises(OutputError, match="never overwritten"):
        compress_l0(source, target)
    assert target.read_text() == "somebody's notes"
    assert sorted(os.listdir(tmp_path)) == ["copy.fits", "in"]


@pytest.mark.parametrize("place", [0, -1])
def test_one_pixel_that_would_come_back_otherwise_means_no_copy(source, tmp_path, monkeypatch, place):
    def wrong(tiling, pixels, columns, rows):
        pixels = bytearray(pixels)
        pixels[place] ^= 1
        return real(tiling, memoryview(pixels), columns, rows)

    real = tiles.encode_run
    monkeypatch.setattr(tiles, "encode_run", wrong)
    with pytest.raises(VerificationError, match=r"l0.fits: cannot be restored from its compressed copy: .*DATASUM"):
        compress_l0(source, tmp_path / "out" / "copy.fits")
    assert os.listdir(tmp_path / "out") == []


def test_cards_that_would_come_back_otherwise_mean_no_copy(source, tmp_path, monkeypatch):
    """Cards that change places sum up the same, so that no checksum tells."""

    def swapped(images, *rest, **given):
        images = list(images)
        images[-3], images[-4] = images[-4], images[-3]
        return real(images, *rest, **given)

    real = tiles.compressed_cards
    monkeypatch.setattr(tiles, "compressed_cards", swapped)
    with pytest.raises(VerificationError, match="gives back something else"):
        compress_l0(source, tmp_path / "out" / "copy.fits")
    assert os.listdir(tmp_path / "out") == []


def test_what_cfitsio_refuses_to_compress_stays_as_it_is(source, tmp_path, monkeypatch):
    def refuse(*_given, **_options):
        raise OSError("FITSIO status = 413: error compressing image\n")

    monkeypatch.setattr(fitsio.FITS, "write", refuse)
    compress_l0(source, tmp_path / "copy.fits")
    assert [compressed for _, compressed in hdus_of(tmp_path / "copy.fits")] == [False, False, True, False]


def test_a_source_that_changes_meanwhile_is_not_copied(source, tmp_path, monkeypatch):
    def touched(*given):
        os.utime(source)
        return real(*given)

    real = tiles.encode_run
    monkeypatch.setattr(tiles, "encode_run", touched)
    with pytest.raises(InputError, match="changed while it was read") as told:
        compress_l0(source, tmp_path / "out" / "copy.fits")
    assert told.value.retry
    assert os.listdir(tmp_path / "out") == []


def test_a_disk_that_is_full_leaves_nothing_behind(source, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        for call in (compress_l0, decompress_l0):
            with pytest.raises(OutputError, match="cannot be written"):
                call(source, tmp_path / "out" / "copy.fits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path / "out") == []


def test_killed_at_any_run_nothing_is_visible_and_the_next_one_leaves_only_the_copy(source, tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from assembler.fits import tiles
real, left = tiles.{0}, int(sys.argv[3])
def deadly(*given):
    global left
    left -= 1
    return real(*given) if left else os.kill(os.getpid(), signal.SIGKILL)
tiles.{0} = deadly
tiles.compress_l0(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    target = tmp_path / "out" / "copy.fits"
    for call in ("encode_run", "decode_run", "publish"):
        for turn in (1, 2) if call != "publish" else (1,):
            words = [sys.executable, "-c", code.format(call), source, target, str(turn)]
            assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
            assert [name for name in os.listdir(target.parent) if not name.startswith(".")] == []
            assert len(os.listdir(target.parent)) == 1
    compress_l0(source, target)
    assert os.listdir(target.parent) == ["copy.fits"]


def test_a_source_that_is_damaged_gzip_or_absent_is_one_clear_error(source, tmp_path, l0):
    target = tmp_path / "out" / "copy.fits"
    with pytest.raises(InputError, match="no such file"):
        compress_l0(tmp_path / "absent.fits", target)
    damaged = bytearray(l0)
    damaged[-5000] ^= 1
    source.write_bytes(damaged)
    with pytest.raises(VerificationError, match=r"l0\.fits: THREE: DATASUM is .* damaged"):
        compress_l0(source, target)
    for nothing_over_it in (l0 + b"more", l0.replace(b"CHECKSUM=", b"CHECKOLD=", 1)):
        source.write_bytes(nothing_over_it)
        with pytest.raises(VerificationError, match=r"bytes after the last HDU|CHECKSUM does not fit"):
            compress_l0(source, target)
    source.write_bytes(gzip.compress(l0))
    with pytest.raises(InputError, match="unpack it first"):
        compress_l0(source, target)
    assert not target.exists()


def test_a_copy_with_any_byte_changed_is_not_decompressed(source, tmp_path):
    copy, target = tmp_path / "copy.fits", tmp_path / "out" / "back.fits"
    compress_l0(source, copy)
    content = copy.read_bytes()
    for place in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[place] ^= 4
        copy.write_bytes(damaged)
        with pytest.raises((InputError, VerificationError), match=r"copy\.fits"):
            decompress_l0(copy, target)
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("where", ["table", "heap", "tile", "cards"])
def test_a_copy_that_lies_with_checksums_that_fit_is_one_clear_error(source, tmp_path, number, where):
    copy, target = tmp_path / "copy.fits", tmp_path / "out" / "back.fits"
    compress_l0(source, copy)
    found, content = scan(str(copy)).hdus[number], copy.read_bytes()
    data = bytearray(content[found.offset : found.offset + found.length])
    cards = list(found.images[:-2])
    table = 8 * found.value("NAXIS2")
    if where == "table":
        data[:table] = np.random.default_rng(1).integers(0, 256, table, "u1").tobytes()
    elif where == "heap":
        data[table:] = np.random.default_rng(1).integers(0, 256, len(data) - table, "u1").tobytes()
    elif where == "tile":
        data[:8] = (0).to_bytes(4) + (0).to_bytes(4)
    else:
        cards = [c.replace("ZNAXIS1 =", "ZNAXIS9 =") for c in cards]
    content = content[: found.offset - padded(80 * (len(cards) + 3))] + hdu(cards, bytes(data)) + content[found.offset + found.length :]
    copy.write_bytes(content)
    with pytest.raises(VerificationError, match=rf"copy.fits, HDU {number}: cannot be decompressed|copy.fits: decompressed, "):
        decompress_l0(copy, target)
    assert os.listdir(target.parent) == []


def test_a_larger_l0_needs_no_more_memory(tmp_path):
    code = """
import re, sys
from pathlib import Path
from assembler.fits.tiles import compress_l0, decompress_l0
source, copy, back = map(Path, sys.argv[1:])
compress_l0(source, copy)
decompress_l0(copy, back)
print(re.search(r"VmHWM: *(\\d+)", Path("/proc/self/status").read_text().replace("\\t", " ")).group(1))
"""
    peaks = []
    for count in (1, 6):
        source = tmp_path / f"{count}.fits"
        with source.open("wb") as file:
            file.write(hdu(PRIMARY))
            for _ in range(2):
                file.write(image(noise((count * 1000, 2000), "i4"), "ONE"))
        words = [sys.executable, "-c", code, source, tmp_path / f"{count}.packed", tmp_path / f"{count}.back"]
        peaks.append(int(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] - peaks[0] < 16 << 10  # of 80 MB more
    assert peaks[1] < 100 << 10
