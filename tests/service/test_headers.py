"""Files with the headers of an L0: strangers read them, nobody takes them for an L0, and nothing else is overwritten."""

import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from assembler.core.cards import keyword_of
from assembler.core.headers import planned_headers
from assembler.errors import ConfigurationError, InputError, OutputError, VerificationError
from assembler.fits.blocks import scan
from assembler.fits.versions import standing_l0
from assembler.service.finder import find_given
from assembler.service.headers import headers_of_l0, write_headers
from assembler.service.journal_l0s import read_l0
from assembler.service.reader import own_table, verify_l0
from assembler.service.survey import l0s_in

SUMS = ("CHECKSUM", "DATASUM")


@pytest.fixture
def every_kind(one, make, tmp_path) -> Path:
    """Return an L0 with images of one to three axes, tables with and without a heap, and compressed tiles."""
    rng = np.random.default_rng(1)
    heap = fits.Column("v", "PJ()", array=np.array([np.arange(3), np.arange(2)], dtype=object))
    image = fits.ImageHDU(rng.integers(0, 99, (4, 5)).astype("u2"), name="IMG")
    image.header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1.0, "CRPIX2": 3.0, "CRVAL1": 1.0, "CRVAL2": 2.0})
    parts = [
        image,
        fits.ImageHDU(np.arange(5), name="ONE"),
        fits.ImageHDU(np.zeros((2, 3, 4), "f4"), name="CUBE"),
        fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2]), heap], name="VLA"),
        fits.TableHDU.from_columns([fits.Column("a", "I6", array=[1, 2])], name="ASC"),
        fits.CompImageHDU(rng.integers(0, 99, (40, 50)).astype("i4"), name="TILES"),
        fits.ImageHDU(name="NONE"),
    ]
    path = tmp_path / "sub.fits"
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path, checksum=True)
    return make(find_given(one, [str(path)])).path


def written(path: Path, target: Path) -> Path:
    name, headers = headers_of_l0(path)
    write_headers(target, headers, name)
    return target


def test_strangers_open_every_hdu_and_find_the_structure_and_no_data(every_kind, tmp_path, fitsverify):
    path = written(every_kind, tmp_path / "bare.fits")
    fitsverify(path)
    whole, bare = scan(str(every_kind)), scan(str(path))
    assert [h.extname for h in bare.hdus] == [h.extname for h in whole.hdus]
    assert [h.length for h in bare.hdus[:-3]] == [0] * (len(bare.hdus) - 3)
    with fits.open(path, checksum=True) as hdus, fitsio.FITS(path) as opened:
        assert len(opened) == len(hdus) == len(whole.hdus)
        assert [hdu.get_extname() for hdu in opened] == [h.extname for h in whole.hdus]
        assert hdus["CAM_CUBE"].shape == (0, 3, 4)
        assert (hdus["CAM_IMG"].header["NAXIS1"], hdus["CAM_IMG"].header["CRPIX2"], hdus["CAM_IMG"].header["BZERO"]) == (5, 3.0, 32768)
        assert hdus["CAM_VLA"].columns.names == ["a", "v"]
        assert len(hdus["CAM_VLA"].data) == len(hdus["CAM_ASC"].data) == 0
        assert hdus["CAM_TILES"].header["ZNAXIS1"] == 50
        assert "In the L0, ZIMAGE is T" in list(hdus["CAM_TILES"].header["HISTORY"])
        assert "HISTORY" not in hdus["CAM_NONE"].header


@pytest.mark.parametrize("from_l0", [True, False])
def test_the_tables_of_the_l0_keep_their_rows(l0, tmp_path, from_l0, found, history_url, make):
    name, headers = headers_of_l0(l0)
    if not from_l0:
        headers = planned_headers(make(found, history_url).plan)
    path = tmp_path / "bare.fits"
    write_headers(path, headers, name)
    bare, whole = scan(str(path)), scan(str(l0))
    for table in ("TELEMETRY", "CARDS", *(["FINDINGS"] if from_l0 else [])):
        assert own_table(bare, table) == own_table(whole, table)


def test_nobody_takes_it_for_an_l0_whatever_it_is_called(l0, kpf, tmp_path):
    for name in (l0.name, l0.name.replace(".fits", ".headers.fits"), "x.fits"):
        path = written(l0, tmp_path / "bare" / name)
        with pytest.raises(VerificationError, match="has the headers of an L0 and not its pixels"):
            verify_l0(path)
        with pytest.raises(InputError, match="is no L0"):
            read_l0(str(path), kpf)
        if name == l0.name:
            with pytest.raises(OutputError, match="is no L0 of this name"):
                standing_l0(path)
        assert l0s_in(path.parent, kpf) == {}
        path.unlink()
    verify_l0(l0)


def test_of_headers_alone_the_same_is_written_again(l0, tmp_path):
    first = written(l0, tmp_path / "a.fits")
    assert written(first, tmp_path / "b.fits").read_bytes() == first.read_bytes()
    for suffix in (".yaml", ".json"):
        assert "HDRONLY" in written(first, tmp_path / f"b{suffix}").read_text()


def test_the_cards_of_an_l0_are_written_as_they_are_checksums_too(l0, tmp_path):
    _, headers = headers_of_l0(l0)
    assert [h.cards for h in headers] == [h.images for h in scan(str(l0)).hdus]
    assert {keyword_of(c) for c in headers[1].cards} >= set(SUMS)
    assert "'CHECKSUM'" in written(l0, tmp_path / "a.yaml").read_text()


@pytest.mark.parametrize("suffix", [".fits", ".yaml", ".json"])
def test_what_it_wrote_is_replaced_and_nothing_else_is(l0, tmp_path, suffix):
    path = tmp_path / f"headers{suffix}"
    first = written(l0, path).read_bytes()
    assert written(l0, path).read_bytes() == first
    for other in (b"", b"{}", b"- name: mine\n", first[:20], b"SIMPLE  =                    T", l0.read_bytes()):
        path.write_bytes(other)
        with pytest.raises(OutputError, match="it is not overwritten"):
            written(l0, path)
        assert path.read_bytes() == other
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="it is not overwritten"):
        written(l0, path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OutputError, match="it is not overwritten"):
        written(l0, path)
    path.unlink()
    path.mkdir()
    with pytest.raises(OutputError, match="it is not overwritten"):
        written(l0, path)
    assert [n for n in os.listdir(tmp_path) if n.startswith(".")] == []


def test_a_sub_fits_is_never_written_to(l0, night, tmp_path):
    path = night.sub_fits(night.frames[0])["green"]
    before = path.read_bytes()
    with pytest.raises(OutputError, match="it is not overwritten"):
        written(l0, path)
    assert path.read_bytes() == before


def test_another_suffix_is_told_before_anything_is_done(l0, tmp_path):
    with pytest.raises(ConfigurationError, match=r"headers are written as \.fits, \.yaml or \.json"):
        written(l0, tmp_path / "x" / "headers.txt")
    assert not (tmp_path / "x").exists()


def test_a_place_that_cannot_be_written_to_is_one_clear_error(l0, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write here"):
        written(l0, tmp_path / "file" / "headers.yaml")


def test_a_file_that_may_not_grow_leaves_what_was_there(l0, tmp_path):
    path = written(l0, tmp_path / "headers.yaml")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"headers\.yaml: cannot be written: File too large"):
            written(l0, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [n for n in os.listdir(tmp_path) if n.startswith(".")] == []


def test_what_is_no_l0_has_no_headers_of_one(night, tmp_path):
    (tmp_path / "text.fits").write_text("no FITS")
    for path in (night.sub_fits(night.frames[0])["green"], tmp_path / "text.fits", tmp_path / "nowhere.fits", tmp_path):
        assert headers_of_l0(path) is None


@pytest.mark.parametrize(("kept", "told"), [(0.5, "the header asks for"), (-1, "no L0 that is whole")])
def test_an_l0_that_is_damaged_is_told_as_one(l0, tmp_path, kept, told):
    damaged = tmp_path / l0.name
    content = l0.read_bytes()
    damaged.write_bytes(content[: int(len(content) * kept)] if kept > 0 else content.replace(b"'FINDINGS'", b"'FINDINGX'"))
    with pytest.raises(InputError, match=told):
        headers_of_l0(damaged)


def test_a_card_that_is_no_text_is_one_clear_error(l0, tmp_path):
    path = tmp_path / "broken.fits"
    shutil.copy(l0, path)
    data = path.read_bytes()
    place = data.index(b"OFNAME  =")
    path.write_bytes(data[: place + 40] + b"\n" + data[place + 41 :])
    with pytest.raises(InputError, match="HDU 0: a card is no text"):
        headers_of_l0(path)


def test_a_name_with_anything_in_it_stays_text(l0, tmp_path):
    name, headers = headers_of_l0(l0)
    cards = tuple(c for c in headers[0].cards if keyword_of(c) != "OFNAME")
    write_headers(tmp_path / "x.fits", (replace(headers[0], cards=cards), *headers[1:]), "it's\n a \u00e9 " + "long " * 30 + name)
    told = scan(str(tmp_path / "x.fits")).hdus[0].values()["HDRONLY"]
    assert told.startswith("it's? a ? long long")
