"""A night in batch: every L0 there once and verified, whatever stops it in between, and what came of it told."""

import contextlib
import csv
import datetime as dt
import fcntl
import json
import os
import pty
import random
import re
import resource
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path

import kpf_night
import pytest
from orders import night_order

from assembler.fits.blocks import scan
from assembler.service.night import make_night
from assembler.service.processes import begin_server
from assembler.service.reader import verify_l0
from assembler.service.survey import survey_night
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


def test_what_a_kill_left_is_removed_though_nothing_is_to_be_made(recorded, tmp_path):
    """It was killed between the name of an L0 and that of its draft, and only what is missing is made then."""
    assert run(recorded, tmp_path / "out").returncode == 0
    name = min(os.listdir(tmp_path / "out"))
    left = tmp_path / "out" / f".{name}.0123456789abcdef.part"
    os.link(tmp_path / "out" / name, left)
    assert run(recorded, tmp_path / "out", "--diff").returncode == 0
    assert left.exists()
    assert run(recorded, tmp_path / "out", "--only-missing").stderr.splitlines()[-1].startswith("0 exposures: nothing to do")
    check(tmp_path / "out", 12)


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


def deadly(mark: Path, *, always: bool) -> int:
    """Tell the time, but be killed instead, the first time or always."""
    if always or not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return time.time_ns()


@pytest.mark.parametrize("always", [False, True])
def test_an_exposure_whose_process_is_killed_is_tried_once_more_and_the_others_are_made(kpf, tmp_path, always):
    night = kpf_night.make_night(tmp_path, exposures=3, shape=(4, 4))
    told = night_order(kpf, tmp_path / "out", clock=partial(deadly, tmp_path / "mark", always=always))
    results = list(make_night(told, survey_night(kpf, night.directory).tasks, 2))
    assert {result.task.frame for result in results} == set(night.frames)
    state, code, reason = ("failed", 4, "its process was killed, twice; run again") if always else ("made", 0, "")
    assert {(result.state, result.exit_code, result.reason) for result in results} == {(state, code, reason)}


def test_where_no_process_can_be_begun_that_is_why_each_exposure_failed(kpf, tmp_path):
    night = kpf_night.make_night(tmp_path, exposures=3, shape=(4, 4))
    order = night_order(kpf, tmp_path / "out", clock=time.time_ns)
    tasks = survey_night(kpf, night.directory).tasks
    begin_server()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.dup(0))  # the first number that no file has
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        results = list(make_night(order, tasks, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [result.task for result in results] == list(tasks)
    assert {(r.state, r.exit_code, r.reason) for r in results} == {("failed", 4, "no process can be begun: Too many open files; run again")}
    assert [result.state for result in make_night(order, tasks, 2)] == ["made"] * 3


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_it_leaves_nothing_half_reports_what_was_done_and_goes_on_when_it_is_run_again(recorded, tmp_path, number, jobs):
    """The pace leaves it seconds to do; the second night is not begun."""
    (tmp_path / "later").mkdir()
    words = command(recorded, tmp_path / "out", tmp_path / "later", "--jobs", jobs, "--max-mb-s", 1, "--report", tmp_path / "r.json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, cwd=ROOT, start_new_session=True) as process:
        told = process.stdout.readline()
        os.killpg(process.pid, number)
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    paths = (told + rest).decode().split()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(os.path.basename(path) for path in paths)
    check(tmp_path / "out", len(paths))
    report = json.loads((tmp_path / "r.json").read_text())
    summary, (night, later) = report["summary"], report["nights"]
    assert sorted(one["l0"] for one in night["exposures"]) == sorted(paths)
    assert summary["exposures"] == summary["states"]["made"] == len(paths)
    assert summary["left"] == night["summary"]["left"] == 12 - len(paths) > 0
    assert (summary["nights_left"], later["summary"]["nights_left"], summary["exit_code"]) == (1, 1, 130)
    lines = [line for line in err.decode().splitlines() if line]
    assert lines[0].startswith("stopping when what is in hand is finished")
    assert lines[-2].endswith(f"stopped with {12 - len(paths)} exposures and 1 night left; run again to go on")
    assert lines[-1] == "assembler: stopped"
    assert run(recorded, tmp_path / "out").returncode == 0
    check(tmp_path / "out", 12)


@pytest.mark.parametrize(
    ("streams", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&-", 0),
        ("| true", 0),
        ("| head -n 1", 0),
        ("2>&1 | head -n 1", 0),
        (">/dev/full", 4),
        ("2>/dev/full", 0),
        ("--json >/dev/full", 4),
        ("--json | head -n 1", 0),
        (">/dev/full 2>/dev/full", 4),
    ],
)
def test_where_nobody_takes_what_is_told_the_night_is_made_nonetheless(recorded, tmp_path, streams, code):
    told = shlex.join(command(recorded, tmp_path / "out", "--report", tmp_path / "r.csv"))
    script = f"({told} {streams.partition('|')[0]}; echo $? > {tmp_path}/code)"
    script += f" |{streams.partition('|')[2]}" if "|" in streams else ""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (tmp_path / "code").read_text() == f"{code}\n"
    assert "Traceback" not in done.stderr
    assert [row["state"] for row in csv.DictReader((tmp_path / "r.csv").read_text().splitlines())] == ["made"] * 12
    check(tmp_path / "out", 12)


def test_it_outlives_its_terminal_where_sighup_is_ignored_as_nohup_has_it(recorded, tmp_path):
    mine, theirs = pty.openpty()
    words = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command(recorded, tmp_path / "out", "--jobs", 1)]
    screen = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, cwd=ROOT, env=screen) as process:
        os.close(theirs)
        assert os.read(mine, 1)  # of the bar
        os.close(mine)
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
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
        (("--report", "night.xls"), 2, "a report is written as .json, .csv or .html"),
        (("--supersede", " "), 2, "tell why"),
        (("--history", "sqlite:///nowhere.db"), 5, "nowhere.db"),
        (("--jobs", "0"), 2, "--jobs"),
        (("--max-mb-s", "0"), 2, "--max-mb-s"),
        (("--max-mb-s", "nan"), 2, "--max-mb-s"),
        (("--max-mb-s", "1" + 400 * "0"), 2, "--max-mb-s"),
        (("--since", "yesterday"), 2, "--since 'yesterday': expected a date or a time in UTC"),
        (("--until", "2024-02-30"), 2, "--until '2024-02-30': expected a date"),
        (("--since", "2024-04-22T10:00", "--until", "2024-04-22T10:00"), 2, "nothing is between them"),
        (("--origin", "red", "--origin", "blue"), 2, "KPF has no such origin; expected green, red, ca_hk, expmeter, guide"),
        (("--report", "nowhere/r.html"), 4, "nowhere/r.html: cannot be written"),
        (("",), 3, "'': there is no such directory; nothing was done"),
        (("nowhere", "nor here"), 3, "nor here: there is no such directory; nothing was done"),
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


def test_by_time_and_by_origin_only_those_are_made_and_told_of(recorded, tmp_path):
    begins = [recorded.exposure(frame).begin for frame in recorded.frames]
    since, until = (f"{begins[number] - dt.timedelta(seconds=5):%Y-%m-%dT%H:%M:%S}" for number in (3, 6))
    done = run(recorded, tmp_path / "out", "--since", since, "--until", until, "--json", "--max-mb-s", 500)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert [e["frame"] for e in told["nights"][0]["exposures"]] == list(recorded.frames[3:6])
    assert told["summary"]["exposures"] == 3
    check(tmp_path / "out", 3)
    day = run(recorded, tmp_path / "out", "--since", "2024-04-22", "--until", "2024-04-22", "--origin", "guide")
    assert day.stderr.splitlines()[-1].startswith("12 exposures: 9 made, 3 same")
    none = run(recorded, tmp_path / "out", "--until", "2024-04-21")
    assert (none.returncode, none.stderr.splitlines()[-1][:27]) == (0, "0 exposures: nothing to do;")


def test_of_several_nights_each_has_its_part_of_the_report_and_a_summary_says_what_failed_and_why(tmp_path):
    nights = [kpf_night.make_night(tmp_path / name, exposures=3, shape=(4, 4)) for name in ("a", "b", "c<img>")]
    (tmp_path / "none").mkdir()
    (tmp_path / "c<img>" / "2024apr21" / "CRED2" / "kpfguide_cube_<script>.fits").write_bytes(b"SIMPLE")
    (tmp_path / "out").mkdir()
    for frame in nights[0].frames[:2]:  # so their L0s cannot be made
        for path in nights[0].sub_fits(frame).values():
            path.write_bytes(path.read_bytes().replace(b"DATE-BEG=", b"DATE-XXX=").replace(b"MJD-OBS =", b"MJD-XXX ="))
    words = [*command(nights[0], tmp_path / "out")[:4], nights[0].directory, tmp_path / "none", nights[2].directory]
    words += ["-i", ROOT / "prefixes.yaml", "--report", tmp_path / "r.html"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, cwd=ROOT)
    lines = done.stderr.splitlines()
    assert done.returncode == 3
    assert f"{tmp_path / 'none'}: there is no sub-FITS of KPF here" in lines
    assert lines[-1].startswith("6 exposures: 4 made, 2 failed; 0 frames that nobody has, 3 stray sub-FITS")
    failed = next(line for line in lines if line.startswith("failed, exit code 3: "))
    assert all(f"2024apr21 {frame}" in failed for frame in nights[0].frames[:2])
    assert sum(line.startswith("2024apr21: ") for line in lines) == 2  # no terminal: a line for each night, which was quick
    page = (tmp_path / "r.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count('<section class="night"') == 3
    assert "kpfguide_cube_&lt;script&gt;.fits" in page
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c<img>", "none", "out", "r.html"]


@pytest.mark.parametrize("both", [False, True])
def test_on_a_terminal_there_is_a_bar_with_the_paths_above_it_or_where_they_are_sent(recorded, tmp_path, both):
    mine, theirs = pty.openpty()
    words = command(recorded, tmp_path / "out", "--jobs", 1)
    screen = os.environ | {"TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"}
    with subprocess.Popen(words, stdout=theirs if both else subprocess.PIPE, stderr=theirs, cwd=ROOT, env=screen) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := os.read(mine, 65_536):
                shown += part
        os.close(mine)
        paths = [] if both else process.stdout.read().decode().split()
    text = re.sub(r"\x1b\[[0-9]*m", "", shown.decode())
    lines = re.split(r"\r\n|\r|\x1b\[2K", text)
    assert any("2024apr21" in line and " 12/12" in line for line in lines)
    found = [line for line in lines if line.startswith(str(tmp_path))] if both else paths
    assert {os.path.basename(path) for path in found} == set(os.listdir(tmp_path / "out"))


@pytest.mark.parametrize("screen", [{"TERM": "dumb"}, {"TERM": "xterm", "TTY_COMPATIBLE": "0"}])
def test_on_a_terminal_where_no_bar_can_move_there_are_lines(recorded, tmp_path, screen):
    mine, theirs = pty.openpty()
    with subprocess.Popen(command(recorded, tmp_path / "out"), stdout=theirs, stderr=theirs, cwd=ROOT, env=os.environ | screen):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):
            while part := os.read(mine, 65_536):
                shown += part
        os.close(mine)
    lines = shown.decode().splitlines()
    assert len(lines) == 14
    assert lines[-2].startswith("2024apr21: 12 of 12 exposures, ")
    assert "\x1b" not in shown.decode()


@pytest.mark.parametrize("columns", [12, 30, 60])
def test_in_a_narrow_terminal_the_bar_tells_how_many_are_done(recorded, tmp_path, columns):
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    screen = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | {"TERM": "xterm", "NO_COLOR": "1"}
    place = tmp_path / "n"
    place.symlink_to(recorded.directory)
    words = [place if word == str(recorded.directory) else word for word in command(recorded, tmp_path / "out", "--jobs", 1)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stdin=theirs, stderr=theirs, cwd=ROOT, env=screen):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):
            while part := os.read(mine, 65_536):
                shown += part
        os.close(mine)
    bars = [line for line in re.split(r"\r\n|\r|\x1b\[2K", shown.decode()) if line.startswith("n ")]
    assert bars
    assert all(re.match(r"n \d+/12", bar) for bar in bars)
    assert max(map(len, bars)) <= columns


def test_a_night_that_is_named_twice_is_made_once_by_whatever_name(recorded, tmp_path):
    (tmp_path / "latest").symlink_to(recorded.directory)
    done = run(recorded, tmp_path / "out", tmp_path / "latest", f"{recorded.directory}/../{recorded.directory.name}/")
    assert (done.returncode, done.stderr.splitlines()[-1].split(";")[0]) == (0, "12 exposures: 12 made")


def test_a_night_that_goes_away_meanwhile_fails_and_the_others_go_on(recorded, tmp_path):
    """The second one is removed as soon as the first L0 of the first is told, long before its turn."""
    gone = tmp_path / "gone"
    gone.mkdir()
    words = command(recorded, tmp_path / "out", "--jobs", 1, "--report", tmp_path / "r.json")
    words[5:5] = [str(gone), str(recorded.directory)]  # the recorded one is first already, and is not done twice
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline()
        gone.rmdir()
        process.stdout.read()
        lines = process.stderr.read().splitlines()
    assert process.returncode == 3
    assert lines[-2] == f"failed, exit code 3: gone: {gone}: there is no such directory"
    assert lines[-1].startswith("12 exposures: 12 made, 1 night failed; 0 frames")
    told = json.loads((tmp_path / "r.json").read_text())
    assert [night["reason"] for night in told["nights"]] == ["", f"{gone}: there is no such directory"]


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
