"""Corrections of real files: the L0 is verified, its ledger gives the sub-FITS back, and twice is as once."""

import pytest
from astropy.io import fits

from assembler.core.corrections import Correction
from assembler.core.instants import parse_iso
from assembler.errors import ConfigurationError
from assembler.fits.blocks import scan
from assembler.service.finder import find_given, find_night
from assembler.service.pipeline import assemble, plan_exposure
from assembler.service.reader import explain, verify_l0


def correction(**given) -> Correction:
    return Correction(**{"file": "a.yaml", "place": "a.yaml:1", "reason": "known", "frames": (215921, 215921), **given})


WRONG = (
    correction(origin="green", keyword="EXPTIME", value=30.068, was=(0,)),
    correction(origin="ca_hk", keyword="TEMPDET", value=None),
    correction(origin="red", hdu=1, keyword="EXTNAME", value="RED_AMP1"),
    correction(origin="red", keyword="FIRMWARE", value="it's " + "/long" * 40),
    correction(origin="green", keyword="GAIN02", value=5.5),
    correction(origin="green", keyword="NOSUCH", value=1),
)


@pytest.fixture
def make(tmp_path):
    """Return what assembles with corrections, without a history."""

    def made(found, corrections=WRONG, out="out"):
        return assemble(found, None, tmp_path / out, corrections=corrections, version="test", clock=lambda: 10**18)

    return made


def test_an_l0_with_corrections_is_lawful_and_says_so(found, make, fitsverify):
    outcome = make(found)
    verify_l0(outcome.path)
    fitsverify(outcome.path)
    with fits.open(outcome.path, checksum=True) as hdus:
        assert hdus[0].header["GREXPTI"] == 30.068
        assert hdus[0].header["RDFIRMWA"] == "it's " + "/long" * 40
        assert hdus["CA_HK"].header["TEMPDET"] is None
        assert hdus["GREEN_AMP1"].header["GAIN02"] == 5.5
        assert "Corrected green HDU 0 EXPTIME: 0 is now 30.068 (a.yaml: known)" in list(hdus[0].header["HISTORY"])
    assert [f.code for f in outcome.plan.findings if f.code.startswith("correction")] == ["correction-unused"]


def test_the_ledger_has_the_sub_fits_as_they_are(found, make):
    plan = make(found).plan
    subs = [scan(sub.path) for _, sub in found.exposure.attached]
    assert [r.card for r in plan.ledger] == [i for s in subs for h in s.hdus for i in h.images]


def test_a_second_time_it_is_the_same_l0(kpf, night, make):
    assert make(find_night(kpf, night.directory, 215921)).made
    assert not make(find_night(kpf, night.directory, 215921), WRONG[::-1]).made


def test_a_correction_that_changes_nothing_gives_the_same_l0_as_none(kpf, night, make):
    same = correction(origin="green", keyword="EXPTIME", value=0)
    assert make(find_night(kpf, night.directory, 215921), ()).made
    assert not make(find_night(kpf, night.directory, 215921), (same,)).made


@pytest.mark.parametrize(("since", "told"), [("2024-04-22T08:00:32.886179", 1), ("2024-04-22T08:00:32.886180", 0)])
def test_a_rule_with_dates_goes_by_the_begin_that_the_files_tell_uncorrected(found, tmp_path, since, told):
    begin = correction(origin="green", keyword="DATE-BEG", value="2024-04-21T08:00:32")
    rule = correction(frames=None, since=parse_iso(since), origin="green", keyword="EXPTIME", value=1)
    plan = plan_exposure(found, None, tmp_path, corrections=(begin, rule), version="test", now=10**18)
    assert sum("EXPTIME: 0 is now 1 " in f.message for f in plan.findings) == told
    assert plan.filename.startswith("KP.20240421.28832")


def test_a_frame_number_that_was_wrong_brings_the_sub_fits_back(kpf, night, tmp_path):
    path = night.sub_fits(215921)["red"]
    path.write_bytes(path.read_bytes().replace(b"FRAMENO =               215921", b"FRAMENO =               215999", 1))
    found = find_night(kpf, night.directory, 215921)
    assert [m.reason for m in found.exposure.missing] == ["frame-differs"]
    right = correction(origin="red", keyword="FRAMENO", was=(215999,), value=215921)
    plan = plan_exposure(found, None, tmp_path, corrections=(right,), version="test", now=10**18)
    assert not any(f.code == "frame-differs" for f in plan.findings)
    assert "RED_AMP1" in [h.name for h in plan.hdus]


def test_two_that_differ_stop_the_exposure_before_anything_is_written(found, make, tmp_path):
    with pytest.raises(ConfigurationError, match=r"a.yaml:1 and b.yaml:7 both correct EXPTIME in HDU 0 of .*kpf_215921.fits"):
        make(found, (*WRONG, correction(place="b.yaml:7", frames=(1, 10**6), origin="green", keyword="EXPTIME", value=31)))
    assert not (tmp_path / "out").exists()


def test_cards_of_one_keyword_are_explained_each(one, make, tmp_path):
    path = tmp_path / "cam.fits"
    hdu = fits.PrimaryHDU()
    hdu.header["DATE-BEG"] = "2024-01-01T00:00:00"
    hdu.header["GAIN"] = 1
    hdu.header.append(("GAIN", 2), end=True)
    hdu.writeto(path)
    right = correction(frames=None, since=0, origin="cam", keyword="GAIN", value=3)
    accounts = explain(make(find_given(one, [str(path)]), (right,)).path, "GAIN")
    assert [dict(a.facts)["corrected"].split(" (")[0] for a in accounts] == ["1 is now 3", "2 is now 3"]
