"""Writing: an L0 is there whole and verified or not at all, its pixels are those of the sub-FITS, and faults are real."""

import errno
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from assembler.core.instants import parse_iso, unix_seconds
from assembler.core.plan import Source
from assembler.errors import InputError, OutputError, VerificationError
from assembler.fits import copying
from assembler.fits.blocks import scan
from assembler.fits.verifier import verify_file, verify_plan
from assembler.fits.writer import draft, publish, remove_abandoned, sum_l0, write_l0
from assembler.telemetry import sqlite
from assembler.telemetry.load import read_samples


def test_every_data_unit_is_byte_for_byte_that_of_its_sub_fits(found, history_url, make):
    outcome = make(found, history_url)
    l0 = outcome.path.read_bytes()
    there = {h.extname: l0[h.offset : h.offset + h.length] for h in scan(str(outcome.path)).hdus}
    checked = 0
    for hdu in outcome.plan.hdus:
        if isinstance(hdu.data, Source):
            source = Path(hdu.data.path).read_bytes()
            assert there[hdu.name] == source[hdu.data.offset : hdu.data.offset + hdu.data.length]
            checked += 1
    assert checked == 9


def test_strangers_open_it_and_find_every_checksum_right(found, history_url, make, fitsverify):
    path = make(found, history_url).path
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        for hdu in hdus:
            assert hdu.verify_checksum() == hdu.verify_datasum() == 1
    with fitsio.FITS(str(path)) as opened:
        assert opened[1].read().dtype == np.uint32
    fitsverify(path)


def test_nothing_but_the_l0_is_left(found, make):
    outcome = make(found)
    assert os.listdir(outcome.path.parent) == [outcome.path.name]
    assert outcome.path.stat().st_nlink == 1


def test_the_same_exposure_again_is_left_alone(found, history_url, make):
    first = make(found, history_url)
    before = first.path.stat()
    second = make(found, history_url, written=first.path.stat().st_mtime_ns)
    assert (first.made, second.made) == (True, False)
    assert (first.path.stat().st_ino, first.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_l0_of_that_name_is_never_overwritten(found, history_url, make):
    path = make(found).path
    before = path.read_bytes()
    with pytest.raises(OutputError, match="never overwritten"):
        make(found, history_url)
    path.write_bytes(b"somebody's notes")
    with pytest.raises(OutputError, match="never overwritten"):
        make(found)
    assert path.read_bytes() == b"somebody's notes" != before


def test_an_l0_that_differs_in_its_telemetry_only_is_another_one(kpf, found, make, tmp_path, night):
    """A value between two snapshots changes no card of the primary, only an average of TELEMETRY."""
    urls = []
    for number, value in enumerate(("19.5", "20.5")):
        path = tmp_path / f"{number}.db"
        source = kpf.table[0].source
        sqlite.load(str(path), [*read_samples(night.telemetry), (source, from_iso("2024-04-22T08:00:50"), value)])
        urls.append(f"sqlite:///{path}")
    first = make(found, urls[0])
    assert not make(found, urls[0]).made
    with pytest.raises(OutputError, match="TELEMETRY"):
        make(found, urls[1])
    assert first.path.is_file()


def from_iso(text: str) -> float:
    return unix_seconds(parse_iso(text))


def test_of_two_who_publish_one_name_one_wins(tmp_path):
    with draft(tmp_path, "x.fits") as one, draft(tmp_path, "x.fits") as two:
        one.path.write_bytes(b"one")
        two.path.write_bytes(b"two")
        assert publish(one, "x.fits").read_bytes() == b"one"
        with pytest.raises(OutputError, match="never overwritten"):
            publish(two, "x.fits")
    assert os.listdir(tmp_path) == ["x.fits"]
    assert (tmp_path / "x.fits").read_bytes() == b"one"


def test_a_link_that_was_made_though_the_answer_was_lost_counts(tmp_path):
    with draft(tmp_path, "x.fits") as mine:
        os.link(mine.path, tmp_path / "x.fits")
        assert publish(mine, "x.fits") == tmp_path / "x.fits"
    assert os.listdir(tmp_path) == ["x.fits"]


def test_a_draft_that_a_killed_process_left_is_removed_and_one_in_use_is_not(tmp_path):
    abandoned = tmp_path / ".x.fits.0123456789abcdef.part"
    abandoned.write_bytes(b"half")
    other = tmp_path / ".y.fits.0123456789abcdef.part"
    other.write_bytes(b"another L0's")
    with draft(tmp_path, "x.fits") as living:
        remove_abandoned(tmp_path, "x.fits")
        assert living.path.exists()
        assert not abandoned.exists()
    assert os.listdir(tmp_path) == [other.name]


@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced"])
def test_a_sub_fits_that_changes_after_planning_is_noticed(found, make, tmp_path, change):
    plan = make(found).plan
    source = next(h.data for h in plan.hdus if isinstance(h.data, Source))
    path = Path(source.path)
    data = path.read_bytes()
    if change == "is replaced":
        path.unlink()
    path.write_bytes(data + b"more" if change == "grows" else data[:-2880] if change == "shrinks" else data)
    with draft(tmp_path / "new", plan.filename) as target, pytest.raises(InputError, match=path.name) as caught:
        write_l0(plan, target)
    assert caught.value.reason == "still-growing"
    assert caught.value.retry
    assert os.listdir(tmp_path / "new") == []


def test_a_sub_fits_that_vanishes_costs_only_its_own_origin(found, make):
    Path(found.subs["red"].path).unlink()
    outcome = make(found)
    names = [h.name for h in outcome.plan.hdus]
    assert ("RED_AMP1" in names, "GREEN_AMP1" in names) == (False, True)
    assert [f.code for f in outcome.plan.findings if f.origin == "red"] == ["absent"]


def test_a_sub_fits_that_was_written_anew_meanwhile_is_looked_at_once_more(found, make):
    path = Path(found.subs["red"].path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"GMT", b"HST"))
    outcome = make(found)
    assert "RDTM_ZO = 'HST     '           / time zone Kwd red TM_ZONE" in [c.rstrip() for c in outcome.plan.hdus[0].cards]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_sub_fits_whose_file_is_lost_while_it_is_read_costs_only_its_own_origin(found, make, monkeypatch, failing):
    """Another host removed it, or its server went away: asking for its size fails, before reading or after."""
    real = copying.signature_of

    def stale(stream):
        if os.readlink(f"/proc/self/fd/{stream.fileno()}") == found.subs["red"].path:
            red.append(stream)
            if len(red) % 2 == failing % 2:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(stream)

    red: list[object] = []
    monkeypatch.setattr(copying, "signature_of", stale)
    outcome = make(found)
    assert [(f.code, f.origin) for f in outcome.plan.findings if f.severity == "error"] == [("unreadable", "red")]
    assert "GREEN_AMP1" in [h.name for h in outcome.plan.hdus]
    verify_file(outcome.path)


def test_every_flipped_bit_is_found(found, history_url, make, tmp_path):
    outcome = make(found, history_url)
    _, sums = sum_l0(outcome.plan)
    whole = outcome.path.read_bytes()
    copy = tmp_path / outcome.path.name
    generator = np.random.default_rng(7)
    for place in [*generator.integers(0, len(whole), 60), 0, len(whole) - 1]:
        data = bytearray(whole)
        data[place] ^= 1 << int(generator.integers(0, 8))
        copy.write_bytes(bytes(data))
        with pytest.raises(VerificationError, match=copy.name):
            verify_plan(copy, outcome.plan, sums)
        with pytest.raises(VerificationError, match=copy.name):
            verify_file(copy)
    copy.write_bytes(whole)
    verify_plan(copy, outcome.plan, sums)
    verify_file(copy)


def test_a_file_cut_short_is_found(found, make, tmp_path):
    outcome = make(found)
    whole = outcome.path.read_bytes()
    copy = tmp_path / outcome.path.name
    for cut in range(0, len(whole), len(whole) // 20):
        copy.write_bytes(whole[:cut])
        with pytest.raises(VerificationError):
            verify_file(copy)


def test_cards_that_are_not_those_of_the_plan_are_found(found, make):
    outcome = make(found)
    _, sums = sum_l0(outcome.plan)
    primary = outcome.plan.hdus[0]
    other = replace(outcome.plan, hdus=(replace(primary, cards=primary.cards[:-1]), *outcome.plan.hdus[1:]))
    with pytest.raises(VerificationError, match="PRIMARY"):
        verify_plan(outcome.path, other, sums)
    with pytest.raises(VerificationError, match="CA_HK: DATASUM"):
        verify_plan(outcome.path, outcome.plan, sums | {"CA_HK": 1})


def test_a_sub_fits_with_wrong_checksums_is_copied_as_it_is_and_said(found, make):
    path = Path(found.subs["ca_hk"].path)
    with fits.open(path, mode="append", checksum=True) as hdus:
        hdus[0].add_checksum()
        hdus.writeto(path.with_suffix(".new"), checksum=True)
    data = bytearray(path.with_suffix(".new").read_bytes())
    data[-2880] ^= 1
    path.write_bytes(bytes(data))
    again = replace(found, subs={**found.subs, "ca_hk": scan(str(path))})
    outcome = make(again)
    wrong = {f.code for f in outcome.plan.findings if f.origin == "ca_hk"}
    assert {"datasum-wrong", "checksum-wrong"} <= wrong
    verify_file(outcome.path)


def test_a_file_that_may_not_grow_leaves_nothing_behind(found, make, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            make(found)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path / "out") == []


def test_a_directory_that_cannot_be_made_is_one_clear_error(found, make, tmp_path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(OutputError, match="cannot"):
        make(found, out=tmp_path / "file" / "below")


def test_the_l0_is_the_same_whoever_is_first_byte_for_byte(found, history_url, make, tmp_path):
    shuffled = replace(found, subs=dict(reversed(found.subs.items())))
    first = make(found, history_url).path.rename(tmp_path / "first.fits")
    assert make(shuffled, history_url).path.read_bytes() == first.read_bytes()


def test_the_heavy_libraries_are_not_needed_to_ask_for_help():
    code = "import sys; import assembler.cli; sys.exit(bool({'numpy', 'fitsio', 'astropy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
