"""Reports: put together night by night, one per run, whole or not at all."""

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports_results import ORIGINS, failed, made, survey, task

from assembler import console
from assembler.core.difference import Change
from assembler.errors import ConfigurationError, OutputError
from assembler.reports.accounts import bad_night_account, left_night_account, night_account
from assembler.reports.report import JSON, Report, Reports, form_of, open_reports, told_command
from assembler.reports.tally import STATES, Tally
from assembler.service.comparison import Comparison
from assembler.service.survey import Stray

OVERALL = {"assembler": "1.0", "instrument": "KPF", "command": "assembler night x", "begun": "2024-04-22T08:00:00", "ended": "later"}


def conclude(reports) -> None:
    tally = Tally(nights=True)
    for night in ("/data/2024apr21", "/data/2024apr22"):
        reports.add(night_account(survey(night), [made(9), failed(3, "=no room", night=night)], ORIGINS))
    reports.add(bad_night_account("/data/2024apr23", "it went away", 3))
    reports.conclude(OVERALL | {"summary": tally.plain()}, console.Results())


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
        reports.conclude(OVERALL | {"summary": Tally().plain()}, console.Results())
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
        reports.conclude(OVERALL | {"summary": Tally().plain()}, console.Results())
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
    with pytest.raises(OutputError, match="File name too long"), open_reports(str(tmp_path / f"{'r' * 255}.csv"), printed=False):
        pass
    with pytest.raises(ConfigurationError, match=r"\.json, \.csv or \.html"), open_reports("r.htm", printed=False):
        pass


def test_a_name_may_be_as_long_as_names_may_be_and_its_suffix_in_capitals(tmp_path):
    name = f"{'r' * 251}.CSV"
    with open_reports(str(tmp_path / name), printed=False) as reports:
        conclude(reports)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_disk_that_is_full_keeps_no_night_from_being_added_and_is_told_in_the_end(tmp_path, capsys):
    with Path("/dev/full").open("r+b", buffering=0) as full, (tmp_path / "spool").open("w+b", buffering=0) as spool:
        reports = Reports(str(tmp_path / "r.html"), Report(form_of("r.html"), full), Report(JSON, spool))
        with pytest.raises(OutputError, match=r"r\.html: cannot be written: No space left on device"):
            conclude(reports)
    assert os.listdir(tmp_path) == ["spool"]
    assert len(json.loads(capsys.readouterr().out)["nights"]) == 3


def test_each_form_says_outright_that_it_was_stopped_and_what_is_left(tmp_path):
    for name in ("r.json", "r.csv", "r.html"):
        with open_reports(str(tmp_path / name), printed=False) as reports:
            tally = Tally()
            tally.add_night(survey(), [made(9)], left=3)
            tally.nights_left = 1
            reports.add(night_account(survey(), [made(9)], ORIGINS, left=3))
            reports.add(left_night_account("/data/2024apr22"))
            reports.conclude(OVERALL | {"summary": tally.plain()}, console.Results())
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["summary"]["stopped"] == "stopped with 3 exposures and 1 night left; run again to go on"
    assert [night["summary"]["left"] for night in told["nights"]] == [3, 0]
    assert [night["summary"]["nights_left"] for night in told["nights"]] == [0, 1]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert [(row["night"], row["reason"]) for row in rows if row["state"] == "left"] == [
        ("/data/2024apr21", "stopped with 3 exposures left; run again to go on"),
        ("/data/2024apr22", "stopped with 1 night left; run again to go on"),
    ]
    page = (tmp_path / "r.html").read_text()
    top, *nights = page.split('<section class="night"')
    assert "Stopped with 3 exposures and 1 night left; run again to go on." in top
    assert ["Stopped with 3 exposures left" in night for night in nights] == [True, False]
    assert ["Stopped with 1 night left" in night for night in nights] == [False, True]


@given(st.text(st.characters(codec=None), max_size=60))
def test_a_row_is_one_line_and_no_cell_a_formula_whatever_names_and_reasons_are(text):
    bad = replace(failed(None, text), path=text, task=replace(task(None, f"/{text}", text), paths=()))
    there = survey(f"/{text}", strays=(Stray(origin=text, path=text, reason=text),), undated=(text,))
    lines = form_of("r.csv").section(night_account(there, [bad], ORIGINS)).splitlines()
    assert len(lines) == len(list(csv.reader(lines))) == 5
    assert {len(row) for row in csv.reader(lines)} == {9}
    assert not [cell for row in csv.reader(lines) for cell in row if cell[:1] in tuple("=+-@\t\r\n")]


def test_no_password_is_told():
    words = ["assembler", "night", "x", "--history", "influx2://me:secret@host/org", "--history=postgresql://h/d?password=secret"]
    assert "secret" not in told_command(words)
    assert told_command(["a", "--history", "sqlite:///h.db"]) == "a --history sqlite:///h.db"


RESULTS = st.lists(
    st.builds(
        lambda state, errors, warnings, size, lost: (
            failed(1, f"no room for {lost}")
            if state == "failed"
            else made(1, state=state, size=size, findings={"error": errors, "warning": warnings}, missing={"red": "absent"} if lost else {})
        ),
        st.sampled_from(STATES),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(0, 10**9),
        st.booleans(),
    ),
    max_size=6,
)


@given(st.lists(st.tuples(RESULTS, st.integers(0, 5)), min_size=1, max_size=3))
def test_the_three_forms_agree_and_their_counts_add_up(nights):
    tally, accounts = Tally(nights=True), []
    for number, (results, left) in enumerate(nights):
        night = f"/data/{number}"
        told = [replace(result, task=task(frame, night)) for frame, result in enumerate(results)]
        there = survey(night, gaps=((20, 20 + number),))
        tally.add_night(there, told, left)
        accounts.append(night_account(there, told, ORIGINS, left))
    reports = {name: Report(form_of(name), io.BytesIO()) for name in ("r.json", "r.csv", "r.html")}
    overall = OVERALL | {"summary": tally.plain()}
    overall["overview"] = [{"night": a["night"], "summary": a["summary"]} for a in accounts]
    texts = {}
    for name, report in reports.items():
        for account in accounts:
            report.add(account)
        texts[name] = "".join(report.parts(overall))

    told, page = json.loads(texts["r.json"]), texts["r.html"]
    rows = list(csv.DictReader(io.StringIO(texts["r.csv"])))
    results = [result for results, _ in nights for result in results]
    exposures = [one for night in told["nights"] for one in night["exposures"]]
    for state in STATES:
        count = sum(result.state == state for result in results)
        assert told["summary"]["states"][state] == count == sum(night["summary"]["states"][state] for night in told["nights"])
        assert sum(one["state"] == state for one in exposures) == sum(row["state"] == state for row in rows) == count
        assert page.count(f'<td class="state {state}">') == count
    assert told["summary"]["exposures"] == len(results)
    for severity in ("error", "warning"):
        count = told["summary"]["findings"][severity]
        assert count == sum(one["findings"].get(severity, 0) for one in exposures)
        assert count == sum(int(row[f"{severity}s"] or 0) for row in rows)
    assert told["summary"]["bytes"] == sum(result.size for result in results)
    assert told["summary"]["frames_missing"] == sum(last - first + 1 for night in told["nights"] for first, last in night["gaps"])
    assert sum(row["state"] == "gap" for row in rows) == len(nights)
    assert told["summary"]["strays"] == sum(row["state"] == "stray" for row in rows) == page.count("x.fits</td>")
    assert told["summary"]["left"] == sum(left for _, left in nights)
    assert sum(row["state"] == "left" for row in rows) == sum(left > 0 for _, left in nights)
    assert sum(failure["count"] for failure in told["summary"]["failures"]) == told["summary"]["states"]["failed"]
