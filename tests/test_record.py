"""`assembler record`: what it prints, what it writes, and what it says of what is no L0."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import kpf_night
import pytest
from astropy.io import fits

from assembler.core.columns import COLUMNS


def told(path: Path, question: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_without_a_database_the_record_is_printed_and_nothing_is_written(l0, call, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call("record", l0)
    assert (code, err) == (0, "")
    assert "tracking_ra              196.2204166667 deg\n" in out
    assert "has_simulated            no\n" in out
    assert "green        kpf_215921.fits, frame 215921, 2 amplifiers, 2024-04-22T08:00:32.886179 to" in out
    assert "LST      " in out
    assert sorted(tmp_path.rglob("*")) == before


def test_for_programs_it_is_json(l0, call):
    code, out, _ = call("record", l0, "--json")
    (record,) = json.loads(out)
    assert code == 0
    assert list(record["columns"]) == list(COLUMNS)
    assert [row["origin"] for row in record["origins"]] == ["green", "red", "ca_hk", "expmeter", "guide"]
    assert {"keyword": "DRA", "value": "0.0", "unit": "s/s", "moment": "middle"} in record["keywords"]
    assert record["problems"] == []


def test_a_record_is_written_and_written_again(l0, call, tmp_path):
    for _ in range(2):
        code, out, err = call("record", l0, "--to", f"sqlite:///{tmp_path}/e.db")
        assert (code, out, err) == (0, f"{l0}: KP.20240422.28832.89, version 1: written\n", "")
    assert told(tmp_path / "e.db", "SELECT obs_id, exposure_id, day_obs FROM exposure") == [("KP.20240422.28832.89", 215921, 20240422)]
    assert told(tmp_path / "e.db", "SELECT count(*) FROM exposure_origin WHERE attached") == [(5,)]


def test_a_superseded_l0_does_not_come_back(l0, call, night, tmp_path):
    to = ("--to", f"sqlite:///{tmp_path}/e.db")
    assert call("assemble", night.directory, "--frame", night.frames[0], "--supersede", "without telemetry")[0] == 0
    old = l0.parent / "superseded" / "KP.20240422.28832.89.v1.fits"
    code, out, _ = call("record", l0, old, *to, "--json")
    assert code == 0
    assert [(row["version"], row["written"]) for row in json.loads(out)] == [(2, True), (1, False)]
    assert told(tmp_path / "e.db", "SELECT l0_version, airmass FROM exposure") == [(2, None)]


def test_an_origin_that_is_missing_is_told_with_the_reason(call, night, history_url):
    night.sub_fits(night.frames[0])["red"].unlink()
    _, out, _ = call("assemble", night.directory, "--frame", night.frames[0], "--history", history_url)
    _, out, _ = call("record", out.strip(), "--json")
    rows = {row["origin"]: row for row in json.loads(out)[0]["origins"]}
    assert {name: row["attached"] for name, row in rows.items()} == {n: n != "red" for n in ("green", "red", "ca_hk", "expmeter", "guide")}
    assert rows["red"] == dict.fromkeys(rows["red"]) | {"origin": "red", "attached": False, "reason": "absent-though-triggered"}


def test_without_telemetry_the_record_has_what_the_cameras_tell(call, night):
    _, out, _ = call("assemble", night.directory, "--frame", night.frames[0])
    _, out, err = call("record", out.strip(), "--json")
    (record,) = json.loads(out)
    unknown = {name for name, cell in record["columns"].items() if cell is None}
    never = {"dark_time", "physical_filter", "scheduler_note", "wind_speed", "wind_direction", "seeing"}
    from_telemetry = {"observation_type", "observation_reason", "target_name", "target_id", "exposure_time_requested"}
    assert unknown == never | from_telemetry | {"airmass", "pressure", "humidity", "can_see_sky"}
    assert (record["keywords"], record["problems"], err) == ([], [], "")


def test_a_corrected_card_is_told_as_it_is_in_the_l0(call, night, history_url, tmp_path):
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "x.yaml").write_text(
        "corrections:\n  - reason: the shutter says so\n    origin: green\n    keyword: ELAPSED\n    value: 29.5\n"
        "    frames: 215921\n  - reason: a typing error\n    history: kpfconfig.IMTYPE\n    value: Dark\n    frames: 215921\n"
    )
    words = ("--frame", night.frames[0], "--history", history_url, "--corrections", tmp_path / "wrong")
    _, out, _ = call("assemble", night.directory, *words)
    _, out, _ = call("record", out.strip(), "--json")
    (record,) = json.loads(out)
    assert record["columns"]["observation_type"] == "dark"
    assert record["origins"][0]["elapsed"] == 29.5


def test_what_does_not_fit_is_told_and_the_rest_is_recorded(l0, call, tmp_path):
    other = tmp_path / l0.name
    shutil.copy(l0, other)
    fits.setval(other, "EL", value="high")
    fits.setval(other, "IMTYPE", value="Odd \\x1b[31m")
    code, out, err = call("record", other, "--to", f"sqlite:///{tmp_path}/e.db")
    assert code == 0
    assert out.endswith(": written\n")
    assert f"{other}: zenith_angle: EL is no number\n" in err
    assert err.isprintable() or "\x1b" not in err
    assert told(tmp_path / "e.db", "SELECT zenith_angle, observation_type, azimuth FROM exposure") == [(None, None, 12.03)]


def test_what_is_no_l0_is_told_and_the_others_are_recorded(l0, call, night, tmp_path):
    sub_fits = night.sub_fits(night.frames[0])["green"]
    code, out, err = call("record", sub_fits, l0, tmp_path / "none.fits", "--to", f"sqlite:///{tmp_path}/e.db")
    assert code == 3
    assert out == f"{l0}: KP.20240422.28832.89, version 1: written\n"
    assert err.splitlines()[0].startswith(f"{sub_fits}: no table TELEMETRY, so this is no L0")
    assert len(err.splitlines()) == 2


def test_an_l0_of_another_instrument_is_told(l0, call):
    code, _, err = call("record", l0, "-i", "examples/stis.yaml")
    assert (code, err) == (3, f"{l0}: is no L0 of STIS; name its instrument's YAML with -i\n")


@pytest.mark.parametrize(
    ("url", "code", "line"),
    [
        ("mysql://h/d", 2, "assembler: mysql://h/d: no such kind of store for records; expected sqlite:///PATH or"),
        ("sqlite:////no/such/x.db", 4, "assembler: /no/such/x.db: there is no directory /no/such"),
    ],
)
def test_a_database_that_cannot_be_is_one_line(l0, call, url, code, line):
    told_code, out, err = call("record", l0, "--to", url)
    assert (told_code, out) == (code, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_assemble_records_what_it_made_or_found(call, night, history_url, tmp_path):
    words = ("assemble", night.directory, "--frame", night.frames[0], "--history", history_url, "--record", f"sqlite:///{tmp_path}/e.db")
    for _ in range(2):
        code, out, _ = call(*words)
        assert code == 0
        (tmp_path / "e.db").rename(tmp_path / "before.db")
        assert told(tmp_path / "before.db", "SELECT l0_name FROM exposure") == [(Path(out.strip()).name,)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_night_is_recorded(call, tmp_path, jobs):
    night = kpf_night.make_night(tmp_path / "many", exposures=3)
    words = ("--jobs", jobs, "--out", tmp_path / "l0", "--record", f"sqlite:///{tmp_path}/e.db")
    assert call("night", night.directory, *words)[0] == 0
    assert [number for (number,) in told(tmp_path / "e.db", "SELECT exposure_id FROM exposure ORDER BY 1")] == list(night.frames)


@pytest.mark.parametrize("command", ["assemble", "night"])
def test_a_database_that_is_away_costs_no_l0_and_is_said(call, night, tmp_path, command):
    frame = ("--frame", night.frames[0]) if command == "assemble" else ()
    code, out, err = call(command, night.directory, *frame, "--record", "postgresql://kpf:s3cret@127.0.0.1:9/exposures")
    l0 = Path(out.strip())
    assert (code, l0.exists()) == (0, True)
    assert "its record has to wait: PostgreSQL at 127.0.0.1:9/exposures: " in err
    assert "not recorded in PostgreSQL at 127.0.0.1:9/exposures: 1; `assembler record L0... --to URL` does it later" in err
    assert "s3cret" not in out + err
    assert call("record", l0, "--to", f"sqlite:///{tmp_path}/e.db")[0] == 0


@pytest.mark.parametrize("command", ["assemble", "night", "watch"])
def test_a_url_of_no_database_is_told_before_anything_is_done(call, night, tmp_path, command):
    frame = ("--frame", night.frames[0]) if command == "assemble" else ()
    code, out, err = call(command, night.directory, *frame, "--out", tmp_path / "l0", "--record", "mysql://x")
    assert (code, out) == (2, "")
    assert err.startswith("assembler: mysql://x: no such kind of store for records")
    assert not (tmp_path / "l0").exists()


def test_what_would_be_otherwise_is_not_recorded(call, night):
    code, _, err = call("night", night.directory, "--diff", "--record", "sqlite:///e.db")
    assert (code, err) == (2, "assembler: --diff writes nothing, and --record does; leave one out\n")
