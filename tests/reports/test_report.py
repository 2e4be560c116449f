"""Reports: put together night by night, one per run, whole or not at all."""

import csv
import io
import json
import os

import pytest
from reports_results import ORIGINS, failed, made, survey

from assembler.core.difference import Change
from assembler.errors import ConfigurationError, OutputError
from assembler.reports.accounts import bad_night_account, night_account
from assembler.reports.report import open_reports, told_command
from assembler.reports.tally import Tally
from assembler.service.comparison import Comparison

OVERALL = {"assembler": "1.0", "instrument": "KPF", "command": "assembler night x", "begun": "2024-04-22T08:00:00", "ended": "later"}


def conclude(reports) -> None:
    tally = Tally(nights=True)
    for night in ("/data/2024apr21", "/data/2024apr22"):
        reports.add(night_account(survey(night), [made(9), failed(3, "=no room", night=night)], ORIGINS))
    reports.add(bad_night_account("/data/2024apr23", "it went away", 3))
    reports.conclude(OVERALL | {"summary": tally.plain()})


def test_json_on_standard_output_is_that_of_the_file(tmp_path, capsys):
    with open_reports(str(tmp_path / "r.json"), printed=True) as reports:
        conclude(reports)
    text = (tmp_path / "r.json").read_text()
    assert capsys.readouterr().out == text
    told = json.loads(text)
    assert [night["night"] for night in told["nights"]] == ["/data/2024apr21", "/data/2024apr22", "/data/2024apr23"]
    assert [one["frame"] for one in told["nights"][0]["exposures"]] == [3, 9]
    assert told["nights"][0]["exposures"][1]["worst"][0] == {
        "code": "truncated", "severity": "error", "origin": "red", "keyword": "", "message": "red ends early",
    }  # fmt: skip
    assert told["nights"][0]["exposures"][1]["codes"]["time-candidate"] == 3
    assert told["nights"][2]["reason"] == "it went away"
    assert "overview" not in told
    assert os.listdir(tmp_path) == ["r.json"]


def test_without_nights_json_is_json_still(tmp_path):
    with open_reports(str(tmp_path / "r.json"), printed=False) as reports:
        reports.conclude(OVERALL | {"summary": Tally().plain()})
    assert json.loads((tmp_path / "r.json").read_text())["nights"] == []


def test_csv_has_a_row_for_each_exposure_gap_stray_and_night_that_was_none(tmp_path):
    with open_reports(str(tmp_path / "r.csv"), printed=False) as reports:
        conclude(reports)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert [row["state"] for row in rows] == [*["failed", "made", "gap", "gap", "stray"] * 2, "failed"]
    assert rows[0]["reason"] == "'=no room"  # a spreadsheet takes it for text


def test_csv_tells_of_an_exposure_that_differs_by_which_causes(tmp_path):
    change = Change(kind="changed", part="data", hdu="RED_AMP1", old=("1",), new=("2",), causes=("the sub-FITS of red",))
    differing = Comparison(path="a.fits", against="now", changes=(change,))
    same = Comparison(path="b.fits", against="now", changes=())
    results = [made(8, state="same", comparison=same), made(9, state="differs", comparison=differing)]
    with open_reports(str(tmp_path / "r.csv"), printed=False) as reports:
        reports.add(night_account(survey(), results, ORIGINS))
        reports.conclude(OVERALL | {"summary": Tally().plain()})
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert [row["reason"] for row in rows[:2]] == ["", "1 difference: 1 by the sub-FITS of red"]


def test_a_run_that_is_stopped_leaves_what_was_there(tmp_path):
    (tmp_path / "r.html").write_text("that of yesterday")

    def run() -> None:
        with open_reports(str(tmp_path / "r.html"), printed=False) as reports:
            reports.add(night_account(survey(), [made(9)], ORIGINS))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert os.listdir(tmp_path) == ["r.html"]
    assert (tmp_path / "r.html").read_text() == "that of yesterday"


def test_that_there_is_no_room_is_told_at_once(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"), open_reports(str(tmp_path / "nowhere" / "r.csv"), printed=False):
        pass
    (tmp_path / "d.json").mkdir()
    with pytest.raises(OutputError, match="it is a directory"), open_reports(str(tmp_path / "d.json"), printed=False):
        pass
    with pytest.raises(ConfigurationError, match=r"\.json, \.csv or \.html"), open_reports("r.HTML", printed=False):
        pass


def test_no_password_is_told():
    words = ["assembler", "night", "x", "--history", "influx2://me:secret@host/org", "--history=postgresql://h/d?password=secret"]
    assert "secret" not in told_command(words)
    assert told_command(["a", "--history", "sqlite:///h.db"]) == "a --history sqlite:///h.db"
