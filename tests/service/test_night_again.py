"""A night made again: what would be otherwise is told and nothing is written, and newer versions take the names of the old ones."""

import errno
import json
import os
import threading
from pathlib import Path

import kpf_night
import pytest
from conftest import ROOT
from orders import night_order

from assembler.fits.blocks import scan
from assembler.service.night import make_night
from assembler.service.reader import snapshot_instants, verify_l0
from assembler.service.survey import survey_night
from assembler.telemetry import sqlite
from assembler.telemetry.load import read_samples

YAML = (ROOT / "prefixes.yaml").read_text()


@pytest.fixture
def night(tmp_path) -> kpf_night.Night:
    made = kpf_night.make_night(tmp_path / "data", exposures=3, shape=(8, 6))
    sqlite.load(str(tmp_path / "history.db"), read_samples(made.telemetry))
    return made


@pytest.fixture
def again(call, night, tmp_path):
    """Return what makes the night, or what is told of it."""

    def run(*words, code=None, frames=None):
        options = ("--out", tmp_path / "out", "--history", f"sqlite:///{tmp_path}/history.db", "--jobs", 1)
        options += ("--frames", frames) if frames else ()
        done, out, told = call("night", night.directory, *options, *words)
        assert code is None or done == code, told
        return out, told

    return run


def state(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in directory.rglob("*") if p.is_file()}


def differing(out: str) -> dict[int, dict]:
    """Return by frame what differs, of the exposures that differ."""
    (told,) = json.loads(out)["nights"]
    assert {e["state"] for e in told["exposures"]} <= {"same", "differs"}
    return {e["frame"]: e["diff"] for e in told["exposures"] if e["state"] == "differs"}


def test_a_changed_yaml_is_told_as_that_with_its_cards(again, night, tmp_path):
    again(code=0)
    before = state(tmp_path / "out")
    other = tmp_path / "other.yaml"
    other.write_text(YAML.replace("ACFMD5: GRACFSUM", "ACFMD5: GRACFNEW"))
    told = differing(again("--diff", "--json", "-i", other, code=1)[0])
    assert set(told) == set(night.frames)
    for diff in told.values():
        assert diff["causes"] == {"YAML": 3}
        changes = [(c["kind"], c["hdu"], c["keyword"]) for c in diff["changes"] if not c["expected"]]
        assert changes == [
            ("removed", "PRIMARY", "GRACFSUM"),
            ("added", "PRIMARY", "GRACFNEW"),
            ("changed", "CARDS", "green HDU 0 ACFMD5"),
        ]
    assert state(tmp_path / "out") == before


def test_a_back_filled_value_is_told_as_telemetry_of_its_exposure_alone(again, night, tmp_path):
    again(code=0)
    l0 = next(p for p in (tmp_path / "out").iterdir() if scan(str(p)).hdus[0].value("FRAMENO") == night.frames[1])
    late = tmp_path / "late.csv"
    late.write_text(f"service,keyword,time,value\ndcs1,AIRMASS,{snapshot_instants(scan(str(l0)))['middle'] / 1e9 - 0.01!r},1.77\n")
    sqlite.load(str(tmp_path / "history.db"), read_samples(late))
    told = differing(again("--diff", "--json", code=1)[0])
    assert set(told) == {night.frames[1]}
    assert told[night.frames[1]]["causes"] == {"telemetry": 2}
    changes = [c for c in told[night.frames[1]]["changes"] if not c["expected"]]
    assert [(c["hdu"], c["keyword"]) for c in changes] == [("PRIMARY", "AIRMASS"), ("TELEMETRY", "dcs1.AIRMASS")]


def test_a_sub_fits_that_came_later_is_told_as_that(again, night, tmp_path):
    path = night.sub_fits(night.frames[2])["red"]
    aside = tmp_path / "red"
    path.rename(aside)
    again(code=1)
    aside.rename(path)
    told = differing(again("--diff", "--json", code=1)[0])
    assert set(told) == {night.frames[2]}
    diff = told[night.frames[2]]
    assert diff["causes"].keys() == {"the sub-FITS of red"}
    added = {(c["part"], c["hdu"], c["keyword"]) for c in diff["changes"] if c["kind"] == "added"}
    assert {("HDU", "RED_AMP1", ""), ("HDU", "RED_AMP2", ""), ("card", "PRIMARY", "RDTM_ZO")} <= added
    assert all(
        c["keyword"].startswith(("RD", "COMMENT", "HISTORY"))
        for c in diff["changes"]
        if c["kind"] == "added" and c["hdu"] == "PRIMARY" and c["part"] == "card"
    )


def test_without_json_it_is_told_in_lines_and_nothing_is_made(again, night, tmp_path):
    out, told = again("--diff", frames=night.frames[0], code=1)
    assert out == f"{tmp_path}/out/KP.20240422.28832.89.fits: is not there yet\n"
    assert told.splitlines()[-1].startswith("1 exposures: 1 new; ")
    assert not (tmp_path / "out").exists()
    again(frames=night.frames[0])
    out, told = again("--diff", frames=night.frames[0], code=0)
    assert (out, told.splitlines()[-1].partition(";")[0]) == ("", "1 exposures: 1 same")
    night.sub_fits(night.frames[0])["ca_hk"].unlink()
    out, _ = again("--diff", frames=night.frames[0], code=1)
    head, *lines = out.splitlines()
    assert head == f"{tmp_path}/out/KP.20240422.28832.89.fits: 27 differences: 27 by the sub-FITS of ca_hk"
    assert lines[:2] == ["  HDUs, by the sub-FITS of ca_hk", "    - CA_HK"]


def test_what_is_refused_is_told_with_what_differs(again, night, tmp_path):
    again(code=0)
    before = state(tmp_path / "out")
    night.sub_fits(night.frames[0])["ca_hk"].unlink()
    report = tmp_path / "night.html"
    out, told = again("--report", report, code=4)
    assert "an L0 is never overwritten (27 differences: 27 by the sub-FITS of ca_hk)" in told
    assert "  HDUs, by the sub-FITS of ca_hk\n    - CA_HK\n" in told
    assert "more lines; assembler diff tells all of them" in told
    assert len(out.splitlines()) == 2
    assert "27 differences: 27 by the sub-FITS of ca_hk" in report.read_text()
    assert state(tmp_path / "out") == before


def test_a_report_has_the_first_changes_and_tells_how_many_more_there_are(again, tmp_path):
    again(code=0)
    (tmp_path / "history.db").unlink()
    sqlite.load(str(tmp_path / "history.db"), iter([("no.body", 1.0, "1")]))
    told = differing(again("--diff", "--json", code=1)[0])
    for diff in told.values():
        assert len(diff["changes"]) == 100
        assert sum(diff["causes"].values()) == diff["left_out"] + sum(not c["expected"] for c in diff["changes"])


def test_an_exposure_that_gets_another_name_leaves_no_l0_behind_under_the_old_one(again, night, tmp_path):
    """The service's begin was a second early, until it was put right in the history."""
    wrong, right = tmp_path / "wrong.csv", tmp_path / "history.db"
    wrong.write_text(night.telemetry.read_text().replace("2024-04-22T08:00:32.886179", "2024-04-22T08:00:31.886179"))
    right.rename(tmp_path / "right.db")
    sqlite.load(str(right), read_samples(wrong))
    again(frames=night.frames[0], code=0)
    assert os.listdir(tmp_path / "out") == ["KP.20240422.28831.89.fits"]
    (tmp_path / "right.db").rename(right)
    (told,) = differing(again("--diff", "--json", frames=night.frames[0], code=1)[0]).values()
    assert told["causes"].keys() == {"telemetry"}
    assert ("PRIMARY", "OFNAME") in {(c["hdu"], c["keyword"]) for c in told["changes"]}
    _, refused = again(frames=night.frames[0], code=4)
    assert "is the L0 of this exposure, which would be KP.20240422.28832.89.fits now" in refused
    again("--supersede", "the clock was put right", frames=night.frames[0], code=0)
    assert sorted(os.listdir(tmp_path / "out")) == ["KP.20240422.28832.89.fits", "superseded"]
    assert os.listdir(tmp_path / "out" / "superseded") == ["KP.20240422.28831.89.v1.fits"]
    verify_l0(tmp_path / "out" / "KP.20240422.28832.89.fits")
    out, _ = again("--json", frames=night.frames[0], code=0)
    assert [e["state"] for e in json.loads(out)["nights"][0]["exposures"]] == ["same"]
    os.link(tmp_path / "out" / "superseded" / "KP.20240422.28831.89.v1.fits", tmp_path / "out" / "KP.20240422.28831.89.fits")
    again(frames=night.frames[0], code=0)  # as after a stop between the new name and the old one
    assert sorted(os.listdir(tmp_path / "out")) == ["KP.20240422.28832.89.fits", "superseded"]
    assert os.listdir(tmp_path / "out" / "superseded") == ["KP.20240422.28831.89.v1.fits"]


def test_a_reader_never_finds_an_l0_absent_or_mixed_while_a_night_is_superseded(again, tmp_path):
    again(code=0)
    names = [tmp_path / "out" / name for name in os.listdir(tmp_path / "out")]
    wholes = {path: [path.read_bytes()] for path in names}
    seen: dict[Path, set[bytes]] = {path: set() for path in names}
    problems: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for path in names:
                try:
                    seen[path].add(path.read_bytes())
                except OSError as error:
                    problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(4):
            yaml = tmp_path / f"{number}.yaml"
            yaml.write_text(YAML.replace("ACFMD5: GRACFSUM", f"ACFMD5: GRACFN{number}"))
            out, _ = again("-i", yaml, "--supersede", f"name {number}", code=0)
            assert len(out.splitlines()) == 3
            for path in names:
                wholes[path].append(path.read_bytes())
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert problems == []
    assert all(seen[path] <= set(wholes[path]) for path in names)
    assert any(len(contents) > 1 for contents in seen.values())
    assert len(os.listdir(tmp_path / "out" / "superseded")) == 12


def test_to_tell_and_to_supersede_at_once_makes_no_sense(again):
    assert "--diff writes nothing" in again("--diff", "--supersede", "why", code=2)[1]


def one_name(directory: Path, frames: tuple[int, ...]) -> None:
    """Write a correction by which the second exposure begins when the first does."""
    directory.mkdir()
    correction = f"- {{reason: wrong, frames: {frames[1]}, origin: green, keyword: DATE-BEG, value: '2024-04-22T08:00:32.886179'}}"
    (directory / "2024.yaml").write_text(f"corrections:\n{correction}\n")


def test_an_exposure_never_takes_the_name_of_another_ones_l0(call, night, tmp_path):
    """Their names are of their begin, and one of the two tells a wrong one."""
    one_name(tmp_path / "wrong", night.frames)
    words = ("night", night.directory, "--out", tmp_path / "out", "--jobs", 1, "--supersede", "why")
    for _ in range(2):
        done, _, told = call(*words, "--corrections", tmp_path / "wrong")
        assert done == 4
        assert f"{night.frames[1]}: {tmp_path}/out/KP.20240422.28832.89.fits is the L0 of another exposure" in told
        assert sorted(os.listdir(tmp_path / "out")) == ["KP.20240422.28832.89.fits", "KP.20240422.28953.13.fits"]
        assert scan(str(tmp_path / "out" / "KP.20240422.28832.89.fits")).hdus[0].value("FRAMENO") == night.frames[0]


def test_a_copy_of_an_l0_under_another_name_counts_for_nothing(again, tmp_path):
    again(code=0)
    copy = tmp_path / "out" / "Z.fits"
    copy.write_bytes((tmp_path / "out" / "KP.20240422.28832.89.fits").read_bytes())
    before = state(tmp_path / "out")
    _, told = again(code=0)
    assert told.splitlines()[-1].startswith("3 exposures: 3 same; ")
    again("--supersede", "why", code=0)
    assert state(tmp_path / "out") == before


def test_what_cannot_be_looked_up_fails_with_its_reason(again, tmp_path):
    (tmp_path / "out").write_text("no directory")
    _, told = again("--diff", code=4)
    assert f"{tmp_path}/out: cannot be read: Not a directory" in told


def test_what_the_system_refuses_where_nobody_expects_it_stops_no_other_exposure(kpf, night, tmp_path):
    stale = iter([True])

    def clock() -> int:
        if next(stale, False):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return 0

    tasks = survey_night(kpf, night.directory).tasks
    order = night_order(kpf, tmp_path / "out", version="0.1.0", clock=clock)
    results = list(make_night(order, tasks, 1))
    assert [(r.state, r.exit_code) for r in results] == [("failed", 4), ("made", 0), ("made", 0)]
    assert results[0].reason == "[Errno 116] Stale file handle"
