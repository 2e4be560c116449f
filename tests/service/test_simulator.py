"""Playing a night: what is on the disk and in the history in the end is what the script says, and the recorded night stays as it was."""

import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import kpf_night
import pytest

from assembler.core.exposure import SubFits
from assembler.core.instants import SECOND
from assembler.core.rehearsal import Script, write_script
from assembler.core.writers import Step
from assembler.errors import ConfigurationError, InputError, OutputError, TelemetryError
from assembler.fits.blocks import scan
from assembler.service.finder import find_night
from assembler.service.simulator import Telemetry, awaited_origins, play, prepare_target, read_recordings
from assembler.telemetry import sqlite
from assembler.telemetry.load import read_samples

MINUTE = dict.fromkeys(kpf_night.PATHS, 60 * SECOND)


class Wall:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def twenty(tmp_path) -> kpf_night.Night:
    return kpf_night.make_night(tmp_path / "recorded", exposures=20, shape=(4, 4))


def script_of(kpf, night, trouble=0.0, seed=1) -> Script:
    recordings = read_recordings(kpf, night.directory)
    return write_script(recordings, random.Random(seed), deadlines=MINUTE, trust=kpf.exposure.trust, trouble=trouble)


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def samples_of(path: Path) -> list[tuple[str, float, str]]:
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT name, time, value FROM samples JOIN keywords ON id = keyword ORDER BY name, time").fetchall()


def broken(path: Path) -> str:
    try:
        scan(str(path))
    except InputError as error:
        return error.reason
    return ""


@pytest.mark.parametrize("seed", range(5))
def test_the_tree_in_the_end_is_what_is_expected(kpf, twenty, tmp_path, seed):
    before = tree(twenty.directory)
    script = script_of(kpf, twenty, trouble=1.0, seed=seed)
    target = prepare_target(twenty.directory, tmp_path / "played", script)
    wall = Wall()
    play(script, twenty.directory, target, clock=wall.clock, sleep=wall.sleep, speed=float("inf"))
    assert wall.slept == []
    assert tree(twenty.directory) == before
    played = tree(target)
    for expected in script.expectations:
        for origin, path in expected.files.items():
            differing = [n for n, (a, b) in enumerate(zip(played.pop(path), before[path], strict=True)) if a != b]
            assert len(differing) == (expected.trouble == "again-other" and origin == expected.origin)
            assert broken(target / path) == ""
        if expected.frame is not None:
            paths = {o: str(p.relative_to(twenty.directory)) for o, p in twenty.sub_fits(expected.frame).items()}
            assert {o: "truncated" if p in played else "absent" for o, p in paths.items() if o not in expected.files} == expected.missing
            found = find_night(kpf, target, expected.frame)
            assert {o: os.path.relpath(s.path, target) for o, s in found.subs.items()} == expected.files
            assert {m.origin: m.reason for m in found.exposure.missing} == expected.missing
            for path in paths.values():
                assert broken(target / path) == "truncated" if played.pop(path, None) is not None else True
    assert all(name.rpartition("/")[2].startswith(".") for name in played)  # of writers that died
    assert len(played) <= sum(e.trouble == "dies" for e in script.expectations)


def test_a_byte_that_is_another_one_is_of_the_data(kpf, night):
    for recording in read_recordings(kpf, night.directory):
        found: SubFits = scan(str(night.directory / recording.path))
        assert any(hdu.offset <= recording.changeable < hdu.offset + hdu.length for hdu in found.hdus)


def test_the_history_in_the_end_is_that_of_a_plain_load(kpf, twenty, tmp_path):
    sqlite.load(str(tmp_path / "plain.db"), read_samples(twenty.telemetry))
    script = script_of(kpf, twenty)
    target = prepare_target(twenty.directory, tmp_path / "played", script)
    samples = tuple(sorted(read_samples(twenty.telemetry), key=lambda sample: sample[1]))
    batches: list[int] = []

    def load(some) -> None:
        batches.append(sqlite.load(str(tmp_path / "played.db"), some))

    wall = Wall()
    play(script, twenty.directory, target, clock=wall.clock, sleep=wall.sleep, telemetry=Telemetry(samples=samples, load=load))
    assert samples_of(tmp_path / "played.db") == samples_of(tmp_path / "plain.db")
    assert len(batches) > 100
    assert max(batches) < len(samples) / 10


def test_a_history_that_is_gone_for_a_while_gets_everything_when_it_is_back(kpf, twenty, tmp_path):
    script = script_of(kpf, twenty)
    target = prepare_target(twenty.directory, tmp_path / "played", script)
    samples = tuple(sorted(read_samples(twenty.telemetry), key=lambda sample: sample[1]))
    wall, taken, refused = Wall(), [], []

    def load(some) -> None:
        if 1100 < wall.now < 1500:
            refused.append(len(some))
            raise TelemetryError("gone", retry=True)
        taken.extend(some)

    telemetry = Telemetry(samples=samples, load=load)
    play(script, twenty.directory, target, clock=wall.clock, sleep=wall.sleep, telemetry=telemetry)
    assert taken == list(samples)
    assert refused == sorted(refused) != []

    def never(_) -> None:
        raise TelemetryError("gone")

    again = prepare_target(twenty.directory, tmp_path / "again", script)
    with pytest.raises(TelemetryError, match="gone"):
        play(script, twenty.directory, again, clock=wall.clock, sleep=wall.sleep, telemetry=Telemetry(samples=samples, load=never))
    assert tree(again) == tree(target)


def test_how_late_it_was_is_told(kpf, night, tmp_path):
    script = script_of(kpf, night)
    wall = Wall()

    def slowly(_) -> None:
        wall.now += 0.5

    def run(name: str, **more) -> float:
        target = prepare_target(night.directory, tmp_path / name, script)
        return play(script, night.directory, target, clock=wall.clock, sleep=wall.sleep, **more)

    assert run("in-time") == pytest.approx(0, abs=1e-6)
    assert run("late", told=slowly, speed=1000) > 1
    assert run("whenever", told=slowly, speed=float("inf")) == 0


@pytest.mark.parametrize("speed", [0.5, 1, 20, 1000])
def test_nothing_comes_before_its_time_nor_telemetry_after_what_came_later(kpf, twenty, tmp_path, speed):
    script = script_of(kpf, twenty, trouble=0.5)
    target = prepare_target(twenty.directory, tmp_path / "played", script)
    samples = tuple(sorted(read_samples(twenty.telemetry), key=lambda sample: sample[1]))
    wall = Wall()
    done, loaded = [], [samples[0][1]]

    def load(some) -> None:
        loaded.append(some[-1][1])
        if len(done) < len(script.steps):
            assert some[-1][1] <= script.start / SECOND + (wall.now - 1000.0) * speed + 1e-3

    def told(step) -> None:
        done.append(step)
        assert (wall.now - 1000.0) * speed >= step.at / SECOND - 1e-3
        if step.action in ("finish", "rename"):
            later = [s for s in samples if s[1] <= (script.start + step.at) / SECOND]
            assert not later or loaded[-1] >= later[-1][1]

    telemetry = Telemetry(samples=samples, load=load)
    play(script, twenty.directory, target, clock=wall.clock, sleep=wall.sleep, speed=speed, telemetry=telemetry, told=told)
    assert tuple(done) == script.steps
    assert wall.now - 1000.0 == pytest.approx(script.steps[-1].at / SECOND / speed)


def test_a_writer_keeps_its_file_open_until_it_is_done(kpf, night, tmp_path):
    """What inotify tells of a closed file is not to come after each chunk."""
    script = script_of(kpf, night)
    target = prepare_target(night.directory, tmp_path / "played", script)
    opened: set[str] = set()

    def told(step) -> None:
        (opened.add if step.action == "create" else opened.discard if step.action == "finish" else str)(step.path)
        here = {os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")}
        assert {os.path.relpath(p, target) for p in here if p.startswith(f"{target}/")} == opened

    play(script, night.directory, target, clock=lambda: 0.0, sleep=lambda _: None, speed=float("inf"), told=told)
    assert opened == set()


def stops_in(kpf, night, tmp_path, action: str, error: type[BaseException]) -> tuple[Script, Path, Callable[[], None]]:
    script = script_of(kpf, night)
    target = prepare_target(night.directory, tmp_path / "played", script)

    def told(step) -> None:
        if step.action == action:
            raise error

    return script, target, lambda: play(script, night.directory, target, clock=lambda: 0, sleep=print, speed=float("inf"), told=told)


@pytest.mark.parametrize("action", ["create", "write", "finish", "rename"])
def test_stopped_at_any_step_it_leaves_no_half_file_and_nothing_open(kpf, night, tmp_path, action):
    _, target, run = stops_in(kpf, night, tmp_path, action, KeyboardInterrupt)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(KeyboardInterrupt):
        run()
    assert os.listdir("/proc/self/fd") == before
    original = tree(night.directory)
    assert all(original[path] == content for path, content in tree(target).items())


def test_stopped_before_any_line_of_a_step_it_leaves_no_half_file(night, tmp_path):
    """A signal comes between any two lines."""
    name, hidden = "Green/kpf_215921.fits", "Green/.kpf_215921.fits.1"
    size = (night.directory / name).stat().st_size
    steps = (
        Step(at=0, path=name, action="create"),
        Step(at=1, path=name, action="write", source=name, length=size),
        Step(at=2, path=name, action="finish"),
        Step(at=3, path=name, action="reopen"),
        Step(at=4, path=name, action="truncate", length=size),
        Step(at=5, path=name, action="write", source=name, length=size),
        Step(at=6, path=name, action="finish"),
        Step(at=7, path=hidden, action="create"),
        Step(at=8, path=hidden, action="write", source=name, length=size),
        Step(at=9, path=hidden, action="finish"),
        Step(at=10, path=hidden, action="rename", to="Green/kpf_215922.fits"),
    )
    script = Script(start=0, steps=steps, expectations=())
    original = (night.directory / name).read_bytes()
    lines = 0
    while True:
        target = prepare_target(night.directory, tmp_path / str(lines), script)
        stopped = stopped_before(script, night.directory, target, lines + 1)
        left = tree(target)
        assert set(left) <= {name, "Green/kpf_215922.fits"}, lines
        assert set(left.values()) <= {original}, lines
        if not stopped:
            break
        lines += 1
    assert len(left) == 2
    assert lines > 50


def stopped_before(script: Script, source: Path, target: Path, line: int) -> bool:
    """Play a script, stopped before a line that its steps run, counted from 1; tell whether there is such a line."""
    left = line

    def trace(frame, event, _):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace if left > 0 and frame.f_code.co_name in ("do", "_open_to_write") else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        play(script, source, target, clock=lambda: 0.0, sleep=lambda _: None, speed=math.inf)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_and_leaves_no_half_file(night, tmp_path, number):
    """Stops it while the first files grow, which takes a second or two."""
    program = [sys.executable, "-m", "assembler", "simulate", str(night.directory), "--to", str(tmp_path / "played")]
    program += ["--speed", "1000", "--deadline", "10000 s"]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    target = tmp_path / "played" / night.directory.name
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None and not any(target.glob("*/*")):
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.endswith("assembler: stopped\n")
    assert "Traceback" not in told
    original = tree(night.directory)
    assert all(original[path] == content for path, content in tree(target).items())


def test_a_recorded_night_is_never_written_into(kpf, night, tmp_path):
    script = script_of(kpf, night)
    before = tree(night.directory)
    inside = tmp_path / "inside"
    inside.symlink_to(night.directory / "Green")
    for directory in (night.directory, night.directory.parent, night.directory / "x", inside):
        with pytest.raises(ConfigurationError, match="name another directory"):
            prepare_target(night.directory, directory, script)
    by_link = tmp_path / "linked" / night.directory.name
    by_link.mkdir(parents=True)
    (by_link / "Green").symlink_to(night.directory / "Red")
    with pytest.raises(ConfigurationError, match="is a way into the recorded night"):
        prepare_target(night.directory, by_link.parent, script)
    assert tree(night.directory) == before
    assert not (night.directory / "x").exists()


def test_a_night_is_not_played_over_another_one(kpf, night, tmp_path):
    script = script_of(kpf, night)
    target = prepare_target(night.directory, tmp_path / "played", script)
    play(script, night.directory, target, clock=lambda: 0, sleep=print, speed=float("inf"))
    with pytest.raises(ConfigurationError, match=r"has .*\.fits already"):
        prepare_target(night.directory, tmp_path / "played", script)


def test_what_goes_wrong_meanwhile_is_one_clear_error(kpf, night, tmp_path):
    script = script_of(kpf, night)
    target = prepare_target(night.directory, tmp_path / "played", script)
    (target / script.steps[0].path).write_bytes(b"of somebody else")
    with pytest.raises(OutputError, match="File exists; somebody else writes there"):
        play(script, night.directory, target, clock=lambda: 0, sleep=print, speed=float("inf"))
    assert (target / script.steps[0].path).read_bytes() == b"of somebody else"
    (target / script.steps[0].path).unlink()
    recorded = night.sub_fits(night.frames[0])["red"]
    os.truncate(recorded, 1000)
    with pytest.raises(InputError, match=r"kpf_215921.fits: ends at byte \d+; it was longer"):
        play(script, night.directory, target, clock=lambda: 0, sleep=print, speed=float("inf"))
    assert not any(name.startswith("Red/") for name in tree(target))


def test_what_is_broken_in_the_recorded_night_is_expected_to_be_so(kpf, twenty):
    one, two, three = (twenty.sub_fits(frame) for frame in twenty.frames[:3])
    os.truncate(one["green"], 5000)
    two["red"].write_bytes(b"no FITS at all")
    three["green"].write_bytes(two["green"].read_bytes())
    (twenty.directory / "CaHK" / "kpf_hk_7.fits").mkdir()
    script = script_of(kpf, twenty)
    told = [dict(e.missing) for e in script.expectations]
    assert told[:4] == [{"green": "truncated"}, {"red": "unreadable"}, {"green": "frame-differs"}, {}]
    assert [e.state for e in script.expectations] == ["partial"] * 3 + ["published"] * 17


def test_who_is_awaited_is_told_by_telemetry(kpf, night):
    night.sub_fits(night.frames[0])["red"].unlink()
    recordings = read_recordings(kpf, night.directory)
    samples = sorted(read_samples(night.telemetry), key=lambda sample: sample[1])
    awaited = awaited_origins(kpf, recordings, samples)
    assert awaited == {night.frames[0]: frozenset(kpf_night.PATHS)}
    (expected,) = write_script(recordings, random.Random(1), deadlines=MINUTE, awaited=awaited).expectations
    assert (expected.state, expected.missing) == ("partial", {"red": "absent"})
    assert awaited_origins(kpf, recordings, []) == {}


def test_a_directory_without_sub_fits_is_no_night(kpf, tmp_path):
    for path, told in ((tmp_path, "has no sub-FITS of KPF"), (tmp_path / "x", "no such directory")):
        with pytest.raises(InputError, match=told):
            read_recordings(kpf, path)


class TestCommand:
    """What is printed, and where."""

    @pytest.fixture
    def call(self, monkeypatch, capsys):
        from assembler.cli import run

        def invoke(*words: object) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "argv", ["assembler", "simulate", *map(str, words)])
            code = run()
            return code, *capsys.readouterr()

        return invoke

    def test_the_report_and_json_tell_what_must_come_of_each_frame(self, call, twenty, tmp_path):
        words = (twenty.directory, "--to", tmp_path / "played", "--speed", "inf", "--trouble", "50", "--seed", "3")
        code, out, told = call(*words, "--report", tmp_path / "r.json", "--json", "--deadline", "30 s", "--deadline", "red=90 s")
        assert code == 0
        report = json.loads(out)
        assert report == json.loads((tmp_path / "r.json").read_text())
        assert (report["deadlines"]["green"], report["deadlines"]["red"]) == (30.0, 90.0)
        every = [*report["exposures"].values(), *report["orphans"]]
        assert sum(bool(e["trouble"]) for e in every) == 10
        assert {"state", "frame", "files", "missing", "late", "trouble", "origin"} == set(every[0])
        assert set(report["exposures"]) <= set(map(str, twenty.frames))
        assert "a watcher is to wait" in told

    def test_the_history_is_filled_and_each_frame_has_a_line(self, call, night, tmp_path):
        history = ("--telemetry", night.telemetry, "--history", f"sqlite:///{tmp_path / 'h.db'}")
        code, out, _ = call(night.directory, "--to", tmp_path / "played", "--speed", "inf", *history)
        assert (code, out) == (0, "215921 published\n")
        sqlite.load(str(tmp_path / "plain.db"), read_samples(night.telemetry))
        assert samples_of(tmp_path / "h.db") == samples_of(tmp_path / "plain.db")

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (["--speed", "0"], 2, "--speed: 0.0 is no number above 0"),
            (["--speed", "nan"], 2, "--speed"),
            (["--trouble", "101"], 2, "--trouble"),
            (["--trouble", "nan"], 2, "--trouble"),
            (["--deadline", "blue=3 s"], 2, "'blue' is no origin"),
            (["--deadline", "soon"], 2, "--deadline: 'soon' is not a number"),
            (["--history", "sqlite:///h.db"], 2, "go together"),
            (["--telemetry", "nowhere.csv", "--history", "sqlite:///h.db"], 2, "nowhere.csv: cannot be read"),
            (["--report", "/nowhere/r.json"], 4, "/nowhere/r.json: cannot be written"),
        ],
    )
    def test_what_cannot_be_done_is_one_clear_line_before_anything_is_played(self, call, night, tmp_path, words, code, told):
        given, out, err = call(night.directory, "--to", tmp_path / "played", *words)
        assert (given, out, told in err) == (code, "", True), err
        assert tree(tmp_path / "played") == {}
