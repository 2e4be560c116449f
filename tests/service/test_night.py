"""A night in batch: every L0 there once and verified, whatever stops it in between, and what came of it told."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import kpf_night
import pytest

from assembler.fits.blocks import scan
from assembler.service.reader import verify_l0
from assembler.telemetry import sqlite
from assembler.telemetry.load import read_samples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> kpf_night.Night:
    directory = tmp_path_factory.mktemp("night")
    night = kpf_night.make_night(directory, exposures=12, shape=(8, 6))
    sqlite.load(str(directory / "history.db"), read_samples(night.telemetry))
    return night


def command(night: kpf_night.Night, out: Path, *words: object) -> list[str]:
    told = [sys.executable, "-m", "assembler", "night", night.directory, "--out", out, "-i", ROOT / "prefixes.yaml"]
    return [str(word) for word in (*told, "--history", f"sqlite:///{night.telemetry.with_name('history.db')}", *words)]


def run(night: kpf_night.Night, out: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(night, out, *words), capture_output=True, text=True, check=False, cwd=ROOT)


def check(out: Path, count: int) -> None:
    """See that there is each L0 once, first version, verified, and nothing else."""
    names = sorted(os.listdir(out))
    assert len(names) == count
    assert all(name.startswith("KP.") and name.endswith(".fits") for name in names)
    for name in names:
        verify_l0(out / name)
        assert scan(str(out / name)).hdus[0].value("L0VER") == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_exposure_has_its_l0_and_a_second_run_leaves_them_alone(recorded, tmp_path, jobs):
    first = run(recorded, tmp_path / "out", "--jobs", jobs)
    assert (first.returncode, len(first.stdout.splitlines())) == (0, 12)
    assert first.stderr.splitlines()[-1].startswith("12 exposures: 12 made; 0 frames that nobody has")
    check(tmp_path / "out", 12)
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in os.listdir(tmp_path / "out")}
    second = run(recorded, tmp_path / "out", "--jobs", jobs)
    assert second.stderr.splitlines()[-1].startswith("12 exposures: 12 same")
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in os.listdir(tmp_path / "out")} == before


def test_an_exposure_is_the_same_as_when_it_is_assembled_alone(recorded, tmp_path):
    frame = recorded.frames[3]
    alone = command(recorded, tmp_path / "out", "--frame", frame)
    alone[3] = "assemble"
    assert subprocess.run(alone, capture_output=True, check=False, cwd=ROOT).returncode == 0
    told = json.loads(run(recorded, tmp_path / "out", "--json", "--frames", f"{frame},{frame + 2}-{frame + 3}").stdout)
    assert [(e["frame"], e["state"]) for e in told["nights"][0]["exposures"]] == [(frame, "same"), (frame + 2, "made"), (frame + 3, "made")]


def test_only_what_has_no_l0_is_made_when_that_is_asked(recorded, tmp_path):
    few = f"{recorded.frames[0]}-{recorded.frames[8]}"
    assert run(recorded, tmp_path / "out", "--frames", few).returncode == 0
    rest = run(recorded, tmp_path / "out", "--only-missing")
    assert rest.stderr.splitlines()[-1].startswith("3 exposures: 3 made")
    check(tmp_path / "out", 12)
    assert run(recorded, tmp_path / "out", "--only-missing").stderr.splitlines()[-1].startswith("0 exposures: nothing to do")


def test_killed_at_random_moments_and_run_again_each_l0_is_there_once(recorded, tmp_path):
    chance = random.Random(1)
    for _ in range(6):
        process = subprocess.Popen(
            command(recorded, tmp_path / "out", "--jobs", 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        time.sleep(0.4 + chance.random())
        process.kill()
        process.wait()
    assert run(recorded, tmp_path / "out").returncode == 0
    check(tmp_path / "out", 12)


def test_stopped_by_ctrl_c_it_leaves_nothing_half_and_goes_on_when_it_is_run_again(recorded, tmp_path):
    process = subprocess.Popen(
        command(recorded, tmp_path / "out", "--jobs", 2),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    check(tmp_path / "out", len(os.listdir(tmp_path / "out")))
    assert run(recorded, tmp_path / "out").returncode == 0
    check(tmp_path / "out", 12)


def test_what_fails_stops_no_other_and_is_told(tmp_path):
    night = kpf_night.make_night(tmp_path / "night", exposures=4, shape=(4, 4))
    sqlite.load(str(tmp_path / "night" / "history.db"), read_samples(night.telemetry))
    assert run(night, tmp_path / "out").returncode == 0
    red = night.sub_fits(night.frames[1])["red"]
    red.unlink()
    for path in night.sub_fits(night.frames[2]).values():
        path.unlink()
    report = tmp_path / "report.csv"
    done = run(night, tmp_path / "out", "--report", report)
    assert done.returncode == 4
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert (
        [(row["frame"], row["state"]) for row in rows]
        == [
            (str(night.frames[0]), "same"),
            (str(night.frames[1]), "failed"),
            (str(night.frames[3]), "same"),
            (f"{night.frames[2]}-{night.frames[2]}", "gap"),
            ("", "stray"),  # the guide camera's file of the third, of which nobody tells the frame
        ][: len(rows)]
    )
    assert "an L0 is never overwritten" in rows[1]["reason"]
    again = run(night, tmp_path / "out", "--supersede", "red was lost", "--json")
    assert again.returncode == 1  # an origin that was triggered is absent
    told = {e["frame"]: e for e in json.loads(again.stdout)["nights"][0]["exposures"]}[night.frames[1]]
    assert (told["state"], told["version"], told["missing"]) == ("superseded", 2, {"red": "absent-though-triggered"})


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--frames", "1-x"), 2, "expected numbers and ranges"),
        (("--frames", "5-1"), 2, "expected numbers and ranges"),
        (("--report", "night.xls"), 2, "a report is written as .json or .csv"),
        (("--supersede", " "), 2, "tell why"),
        (("--history", "sqlite:///nowhere.db"), 5, "nowhere.db"),
        (("--jobs", "0"), 2, "--jobs"),
        (("--shard", "4/3"), 2, "expected I/N"),
    ],
)
def test_what_is_wrong_is_one_clear_line(recorded, tmp_path, words, code, told):
    done = run(recorded, tmp_path / "out", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_report_is_data_to_a_spreadsheet(tmp_path):
    """A directory's name may be anything."""
    place = tmp_path / "in"
    night = kpf_night.make_night(place, exposures=1, shape=(4, 4))
    sqlite.load(str(place / "history.db"), read_samples(night.telemetry))
    bad = night.sub_fits(night.frames[0])["guide"]
    bad.rename(bad.with_name("kpfguide_cube_=1+1.fits"))
    report = tmp_path / "report.csv"
    assert run(night, tmp_path / "out", "--report", report).returncode == 0
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in csv.reader(report.read_text().splitlines()) for cell in row)


def test_the_shards_of_a_night_make_each_l0_once_and_together_all_of_them(recorded, tmp_path):
    frames = []
    for number in (1, 2, 3):
        done = run(recorded, tmp_path / "out", "--shard", f"{number}/3", "--jobs", 1, "--json")
        told = json.loads(done.stdout)["nights"][0]["exposures"]
        assert {e["state"] for e in told} <= {"made"}
        frames += [e["frame"] for e in told]
    assert sorted(frames) == sorted(recorded.frames)
    check(tmp_path / "out", 12)
    few = f"{recorded.frames[0]}-{recorded.frames[5]}"
    again = [run(recorded, tmp_path / "out", "--shard", f"{number}/3", "--frames", few, "--jobs", 1) for number in (1, 2, 3)]
    assert sum(len(done.stdout.splitlines()) for done in again) == 6
