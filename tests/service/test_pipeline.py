"""One exposure through, whatever its sub-FITS are: an L0 that is verified, or one clear error; never the loss of the rest."""

import contextlib
import gzip
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import kpf_night
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assembler.core.plan import Source
from assembler.errors import AssemblerError, InputError, VerificationError
from assembler.fits.blocks import scan
from assembler.service.comparison import Making, compare_with_now
from assembler.service.finder import find_given, find_night
from assembler.service.pipeline import assemble
from assembler.service.reader import explain, verify_l0
from assembler.telemetry import sqlite
from assembler.telemetry.load import read_samples
from assembler.telemetry.urls import open_history


@pytest.fixture(scope="module")
def expmeter(tmp_path_factory) -> bytes:
    """Return the bytes of a sub-FITS with tables."""
    night = kpf_night.make_night(tmp_path_factory.mktemp("expmeter"), shape=(4, 4))
    return night.sub_fits(night.frames[0])["expmeter"].read_bytes()


def outcome_of(one, data: bytes) -> None:
    """Assemble bytes as the only sub-FITS: it must be one clear error, or an L0 that has every card."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "sub.fits"
        path.write_bytes(data)
        try:
            made = assemble(find_given(one, [str(path)]), None, Path(directory) / "out", version="test", clock=lambda: 10**18)
        except AssemblerError as error:
            told = str(error)
        else:
            verify_l0(made.path)
            assert [r.card for r in made.plan.ledger] == [i for h in scan(str(path)).hdus for i in h.images]
            return
    assert "sub.fits" in told or ".l0.fits" in told
    assert "\n" not in told


def test_cut_at_every_thousandth_byte(one, expmeter):
    for cut in range(0, len(expmeter), 1000):
        outcome_of(one, expmeter[:cut])
        outcome_of(one, gzip.compress(expmeter)[: cut // 10])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 255)), min_size=1, max_size=10), packed=st.booleans())
def test_flipped_bytes(one, expmeter, flips, packed):
    data = bytearray(expmeter)
    for place, value in flips:
        data[place % len(data)] = value
    outcome_of(one, gzip.compress(bytes(data)) if packed else bytes(data))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=6000), begins=st.booleans())
def test_random_bytes(one, data, begins):
    outcome_of(one, (b"SIMPLE  =                    T".ljust(80) if begins else b"") + data)


@pytest.mark.parametrize("data", [b"", b"\0" * 28_800, b"This is a log, not an image.\n" * 400])
def test_what_is_no_fits_file(one, data):
    outcome_of(one, data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"TFORM1  = '26A", b"TFORM1  = '26Z"),
        (b"TFIELDS =  ", b"TFIELDS = 9"),
        (b"GCOUNT  =                    1", b"GCOUNT  =                    2"),
    ],
)
def test_an_hdu_that_cfitsio_cannot_open_costs_only_its_own_origin(kpf, night, make, old, new):
    path = night.sub_fits(night.frames[0])["expmeter"]
    data = path.read_bytes()
    form = old if old in data else old.replace(b"26A", b"23A")
    assert form in data
    path.write_bytes(data.replace(form, new[: len(form)], 1))
    outcome = make(find_night(kpf, night.directory, night.frames[0]))
    assert [f.code for f in outcome.plan.findings if f.severity == "error"] in (["unreadable"], ["truncated"])
    assert "GREEN_AMP1" in [h.name for h in outcome.plan.hdus]
    verify_l0(outcome.path)
    again = find_night(kpf, night.directory, night.frames[0])
    assert not make(again).made
    now = Making(found=again, history=None, corrections=(), directory=outcome.path.parent, version="test")
    assert not compare_with_now(outcome.path, now).differs


def test_a_compressed_sub_fits_gives_the_same_data_and_is_told(kpf, night, make, tmp_path):
    paths = night.sub_fits(night.frames[0])
    plain = make(find_night(kpf, night.directory, night.frames[0]), out=tmp_path / "plain")
    for name in ("guide", "red"):
        paths[name].write_bytes(gzip.compress(paths[name].read_bytes()))
    packed = make(find_night(kpf, night.directory, night.frames[0]), out=tmp_path / "packed")
    assert [f.origin for f in packed.plan.findings if f.code == "compressed"] == ["red", "guide"]
    with fits.open(plain.path) as one, fits.open(packed.path) as two:
        assert [h.header.get("DATASUM") for h in one[1:-3]] == [h.header.get("DATASUM") for h in two[1:-3]]
    verify_l0(packed.path)


def test_tile_compressed_images_pass_as_they_are(one, make, tmp_path):
    path = tmp_path / "packed.fits"
    image = fits.CompImageHDU(data=fits.getdata(tile(tmp_path)), name="STAMP", compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, checksum=True)
    outcome = make(find_given(one, [str(path)]))
    source = next(h.data for h in outcome.plan.hdus if isinstance(h.data, Source))
    with fits.open(outcome.path) as hdus:
        assert (hdus[1].data == fits.getdata(tile(tmp_path))).all()
        assert isinstance(hdus[1], fits.CompImageHDU)
    assert outcome.path.read_bytes().count(path.read_bytes()[source.offset : source.offset + source.length]) == 1


def tile(directory: Path) -> Path:
    path = directory / "tile.fits"
    with contextlib.suppress(FileExistsError), path.open("xb") as stream:
        hdu = kpf_night.image_hdu("TILE", kpf_night.np.arange(1200, dtype=kpf_night.np.uint16).reshape(30, 40))
        kpf_night.write_hdu(stream, ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0"])
        kpf_night.write_hdu(stream, hdu.cards, hdu.data)
    return path


def test_the_times_of_the_exposure_service_are_those_of_this_exposure_live_and_later(kpf, tmp_path, make):
    """Three exposures in one history: each gets its own begin and end, also the first, when the next has begun already."""
    night = kpf_night.make_night(tmp_path / "three", exposures=3)
    sqlite.load(str(tmp_path / "h.db"), read_samples(night.telemetry))
    for frame in night.frames:
        outcome = make(find_night(kpf, night.directory, frame), f"sqlite:///{tmp_path / 'h.db'}", tmp_path / "l0")
        one = night.exposure(frame)
        with fits.open(outcome.path) as hdus:
            assert hdus[0].header["DATE-BEG"] == one.begin.strftime("%Y-%m-%dT%H:%M:%S.%f")
            assert hdus[0].header["DATE-END"] == one.end.strftime("%Y-%m-%dT%H:%M:%S.%f")
            assert hdus[0].header["FRAMENO"] == frame


def test_sub_fits_are_never_touched(kpf, night, history_url, make):
    paths = night.sub_fits(night.frames[0]).values()
    before = [(p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in paths]
    for path in paths:
        path.chmod(0o444)
        path.parent.chmod(0o555)
    make(find_night(kpf, night.directory, night.frames[0]), history_url)
    assert [(p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in paths] == before
    for path in paths:
        path.parent.chmod(0o755)
    shutil.rmtree(night.directory)


def test_nothing_but_bad_files_is_one_clear_error_that_names_them_all(kpf, night, make):
    for path in night.sub_fits(night.frames[0]).values():
        path.write_bytes(b"not FITS")
    with pytest.raises(InputError) as caught:
        make(find_night(kpf, night.directory, night.frames[0]))
    assert str(caught.value).count("no FITS file") == 4


@pytest.mark.parametrize("asked", ["begin", "end"])
def test_a_service_that_tells_only_one_of_the_times_is_asked_for_it(kpf, night, history_url, make, asked):
    rule = replace(kpf.exposure, **{"end" if asked == "begin" else "begin": None})
    found = find_night(replace(kpf, exposure=rule), night.directory, night.frames[0])
    chosen = [f.message for f in make(found, history_url).plan.findings if f.code == "time-chosen"]
    told = ["exposure service", "green"]
    assert [m.rpartition("from ")[2] for m in chosen] == (told if asked == "begin" else told[::-1])


def test_the_table_is_filled_though_no_snapshot_is_in_the_yaml(kpf, night, history_url, make):
    instrument = replace(kpf, snapshots=())
    outcome = make(find_night(instrument, night.directory, night.frames[0]), history_url)
    with fits.open(outcome.path) as hdus:
        told = hdus["TELEMETRY"].data[: len(kpf.table)]
        assert (told["samples"] > 0).all()
        assert all(told["middle"])


def test_a_mended_card_is_explained_under_either_keyword(one, make, tmp_path):
    path = tmp_path / "cam.fits"
    cards = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0"]
    with path.open("wb") as stream:
        kpf_night.write_hdu(stream, [*cards, "ActualX =               55.583", "HIERARCH ESO DET ID = 5"])
    made = make(find_given(one, [str(path)])).path
    (account,) = explain(made, "ACTUALX")
    assert account.keyword == "CMACTUA"
    assert account.facts[-1] == (
        "rule",
        "prefixed with CM, its last two characters cut off; mended: " + account.facts[-1][1].partition("mended: ")[2],
    )
    assert explain(made, "CMACTUA") == [account]
    assert explain(made, "ESO DET ID") == explain(made, "HIERARCH ESO DET ID")
    assert explain(made, "ESO DET ID")[0].facts[-1] == ("rule", "dropped by rule; only the ledger has it")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=20))
def test_an_l0_that_was_tampered_with_is_explained_or_refused(small_l0, tmp_path_factory, flips):
    whole = small_l0.read_bytes()
    tables = len(whole) - 60_000
    data = bytearray(whole)
    for place, value in flips:
        data[tables + place % 60_000] = value
    path = tmp_path_factory.mktemp("tampered") / small_l0.name
    path.write_bytes(bytes(data))
    for keyword in ("TARGNAME", "RDTM_ZO", "DATE-BEG"):
        with contextlib.suppress(InputError):
            assert explain(path, keyword)
    if bytes(data) != whole:
        with pytest.raises((VerificationError, InputError)):
            verify_l0(path)


@pytest.fixture(scope="module")
def small_l0(kpf, tmp_path_factory):
    directory = tmp_path_factory.mktemp("small")
    night = kpf_night.make_night(directory, shape=(4, 4))
    sqlite.load(str(directory / "h.db"), read_samples(night.telemetry))
    history = open_history(f"sqlite:///{directory / 'h.db'}")
    made = assemble(find_night(kpf, night.directory, night.frames[0]), history, directory, version="test", clock=lambda: 10**18)
    history.close()
    return made.path
