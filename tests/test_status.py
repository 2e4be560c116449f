"""`assembler status`: what it shows of a made journal, on a terminal, without one, as JSON, and live."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from contextlib import closing, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from assembler import status
from assembler.cli import run
from assembler.core.instants import SECOND, parse_iso
from assembler.core.states import STATES
from assembler.errors import OutputError
from assembler.service.journal import Journal
from assembler.service.journal_file import taken_by
from assembler.service.journal_reader import ExposureName, Sighting
from assembler.service.overview import read_news, read_overview, to_plain

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "status.txt"
NOW = parse_iso("2024-04-22T08:10:00")


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: int = NOW - 600 * SECOND) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def named(frame=None, night="/data/2024apr21", first="") -> ExposureName:
    return ExposureName(instrument="kpf", night=night, frame=frame, first=first)


def sub(origin, frame) -> Sighting:
    return Sighting(path=f"/data/2024apr21/{origin}/kpf_{frame}.fits", origin=origin, signature=(1, 2, 3))


def publish(journal, clock, frame, seconds=3, **more) -> None:
    journal.note(named(frame), "seen", sub_fits=[sub("red", frame)])
    for state in ("ready", "assembling", "verified"):
        journal.note(named(frame), state)
    clock.now += int(seconds * SECOND)
    told = {"version": 1, "findings": {"info": 4}, "missing": {}} | more
    journal.note(named(frame), "published", l0=f"/out/KP.20240422.{frame}.00.fits", **told)


def fill(journal, clock) -> None:
    """Note some of everything that there is to show."""
    publish(journal, clock, 28832)
    publish(
        journal, clock, 28900, 0.4, findings={"info": 5, "warning": 2, "error": 1}, missing={"ca_hk": "absent", "guide": "not-triggered"}
    )
    publish(journal, clock, 28990, 62, findings={"warning": 1}, missing={"red": "truncated", "green": "absent-though-triggered"})
    for state in ("ready", "assembling", "verified"):
        journal.note(named(28990), state)
    journal.note(named(28990), "published", version=2, findings={"info": 1}, missing={})
    journal.note(named(29001), "seen", sub_fits=[sub("green", 29001)])
    clock.now += 90 * SECOND
    journal.note(named(29001), "failed", reason="/data/2024apr21/green/kpf_29001.fits, HDU 0: has no END card; it is no FITS file")
    journal.note_sub_fits(Sighting(path=f"/data/2024apr21/stray_{n}.fits", origin="guide", signature=(1, 1, 1)) for n in range(7))
    journal.note(named(29100), "seen", sub_fits=[sub("red", 29100)])
    for state in ("ready", "assembling"):
        journal.note(named(29100), state)
    clock.now = NOW - 30 * SECOND
    journal.note(named(29100), "failed", reason="/out: there is no room left; make room", again_at=NOW + 12 * SECOND)
    journal.note(named(29200), "seen", sub_fits=[sub("green", 29200), sub("red", 29200)])
    journal.note(named(29200), "waiting", awaited=("ca_hk", "guide"), until=NOW + 48 * SECOND)
    clock.now = NOW - 2 * SECOND
    journal.note(named(first="kpfguide_cube_13578.fits"), "seen", sub_fits=[sub("guide", 13578)], awaited=("red",), until=NOW - 1)
    journal.note(named(29300), "seen", sub_fits=[sub("green", 29300)])
    journal.note(named(29300), "ready")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path, clock):
    with closing(Journal(path, clock)) as journal:
        yield journal


@pytest.fixture
def call(monkeypatch, capsys):
    """Return what runs the command in this process: (exit code, standard output, standard error)."""

    def invoke(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["assembler", "status", *map(str, words)])
        return run(), *capsys.readouterr()

    return invoke


def test_the_table_is_as_it_is_kept_for_review(journal, clock, path, request):
    fill(journal, clock)
    shown = replace(read_overview(str(path), 10, NOW), journal="/state/l0-assembler/KPF.sqlite", watcher="process 4711")
    page = "".join(f"# {width} columns\n\n{status.plain(shown, width)}\n" for width in (80, 120))
    if request.config.getoption("--renew-golden"):
        GOLDEN.write_text(page)
    assert page == GOLDEN.read_text()


@pytest.mark.parametrize("width", [20, 44, 80, 300])
def test_no_line_is_wider_than_the_terminal(journal, clock, path, width):
    fill(journal, clock)
    journal.note(named(first="x" * 5000), "seen", sub_fits=[sub("o" * 300, 1)])
    assert max(map(len, status.plain(read_overview(str(path), 10, NOW), width).splitlines())) <= width


def test_without_a_terminal_there_is_no_colour_and_80_columns_whatever_the_environment_says(journal, clock, path, call, monkeypatch):
    fill(journal, clock)
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "200", "TTY_COMPATIBLE": "1", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    code, out, _ = call("--journal", path)
    assert code == 1
    assert "\x1b" not in out
    assert 60 < max(map(len, out.splitlines())) <= 80


HOSTILE = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    | st.sampled_from(["[red]x[/red]", "[/]", "[link=http://x]y", ":boom:", "\x1b[2J\x1b]0;title\x07", "a\nb\rc\td\x00", "\x9b31m"])
    | st.sampled_from(["\u202eevil", "\udcff", "x" * 3000])
)
SGR = re.compile(r"\x1b\[[0-9;]*m")


@settings(max_examples=60)
@given(data=st.data())
def test_nothing_that_a_name_holds_reaches_the_terminal_raw(tmp_path_factory, data):
    """Every text of the journal is hostile in turn; what is printed is printable, colours of our own aside."""
    path = tmp_path_factory.mktemp("journal") / f"journal{data.draw(st.sampled_from(['', '[red]', chr(27)]))}.sqlite"
    with closing(Journal(path, Clock())) as journal:
        for number in range(2):
            text = [data.draw(HOSTILE) for _ in range(9)]
            name = ExposureName(instrument=text[0], night=f"/{text[1]}", frame=None, first=f"{number}{text[2]}")
            seen = Sighting(path=f"/{number}{text[3]}", origin=text[4], signature=None)
            journal.note(name, "seen", text[5], sub_fits=[seen], awaited=(text[6],))
            if number:
                for state in ("ready", "assembling"):
                    journal.note(name, state, text[5])
                state = data.draw(st.sampled_from(["published", "failed"]))
                again = data.draw(st.sampled_from([None, NOW])) if state == "failed" else None
                journal.note(name, state, l0=f"/{text[7]}", missing={text[6]: text[8]}, reason=text[8], again_at=again)
        journal.note_sub_fits([Sighting(path=f"/orphan{text[0]}", origin=text[1], signature=None)])
        overview = read_overview(str(path), 10, NOW)
        news = read_news(str(path), (0, 0))
    pages = [status.plain(overview, 100), *(status.line(step, entry) for step, entry in news.lines)]
    assert all(row.isprintable() for page in pages for row in page.splitlines())
    assert all("\n" not in page for page in pages[1:])
    assert SGR.sub("", coloured(overview)).replace("\n", "").isprintable()
    json.dumps(to_plain(overview)).encode("ascii")


def coloured(overview) -> str:
    page = StringIO()
    console = Console(file=page, force_terminal=True, color_system="truecolor", width=100, highlight=False, markup=False, emoji=False)
    console.print(status.show(overview))
    return page.getvalue()


def test_markup_in_a_name_is_shown_as_it_is(journal, path):
    journal.note(named(first="[bold]x[/]"), "seen")
    journal.note_sub_fits([Sighting(path="/data/[red]:boom:", origin="red", signature=None)])
    for page in (status.plain(read_overview(str(path), 1, NOW), 80), SGR.sub("", coloured(read_overview(str(path), 1, NOW)))):
        assert "[bold]x[/]" in page
        assert "/data/[red]:boom:" in page


def test_errors_and_warnings_have_a_colour_on_a_terminal(journal, clock, path):
    publish(journal, clock, 1, findings={"warning": 77, "error": 88})
    page = coloured(read_overview(str(path), 10, NOW))
    assert re.search(r"\x1b\[1;31m *88", page)
    assert re.search(r"\x1b\[33m *77", page)


def keys(value):
    """Return the names in JSON, with what they hold."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else type(value).__name__


EXPOSURE = {
    "instrument": "str", "night": "str", "frame": "int", "first": "str", "state": "str", "since": "str", "changed": "str",
    "found": {"green": "str", "red": "str"}, "awaited": ["str"], "until": "str", "attempts": "int", "next_attempt": "NoneType",
    "reason": "str", "l0": "str", "version": "int", "missing": {}, "findings": {"info": "int", "warning": "int", "error": "int"},
}  # fmt: skip


def test_json_has_the_names_that_are_documented_in_the_same_order(journal, clock, path, call):
    fill(journal, clock)
    code, out, _ = call("--journal", path, "--json")
    told = json.loads(out)
    assert code == 1
    assert [list(told), list(told["watcher"]), list(told["orphans"])] == [
        ["journal", "at", "watcher", "in_flight", "done", "counts", "orphans"],
        ["running", "process"],
        ["count", "newest"],
    ]
    assert told["watcher"] == {"running": True, "process": os.getpid()}
    waiting = next(e for e in told["in_flight"] if e["state"] == "waiting")
    assert keys(waiting) == EXPOSURE
    assert list(waiting) == list(EXPOSURE)
    assert (waiting["since"], waiting["until"]) == ("2024-04-22T08:09:30.000000Z", "2024-04-22T08:10:48.000000Z")
    assert [list(e) for e in told["done"]] == [[*EXPOSURE, "seconds"]] * 4
    assert [(e["frame"], e["version"], e["seconds"]) for e in told["done"]] == [
        (28832, 1, 3.0),
        (28900, 1, 0.4),
        (28990, 2, 62.0),
        (29001, 0, 90.0),
    ]
    assert told["done"][1]["missing"] == {"ca_hk": "absent", "guide": "not-triggered"}
    assert list(told["counts"]) == list(STATES)
    assert keys(told["orphans"]) == {"count": "int", "newest": [{"path": "str", "origin": "str", "seen": "str"}]}
    text = (ROOT / "docs" / "status.md").read_text()
    assert [n for n in (*told, *told["watcher"], *told["orphans"], *told["done"][0]) if f"`{n}`" not in text] == []


def test_the_exit_code_tells_whether_one_that_is_shown_has_to_be_looked_at(journal, clock, path, call):
    def code(*words):
        return call("--journal", path, *words)[0]

    assert code() == 0
    publish(journal, clock, 1, findings={"error": 1})
    assert code() == 1
    publish(journal, clock, 2, findings={"warning": 9})
    assert (code(), code("-n", 1)) == (1, 0)
    journal.note(named(3), "seen")
    journal.note(named(3), "failed", reason="disk full", again_at=NOW)
    assert code("-n", 1) == 0
    journal.note(named(3), "ready")
    journal.note(named(3), "failed", reason="no FITS")
    assert code("-n", 1) == 1


def test_the_journal_of_the_instrument_is_the_one_that_is_shown(tmp_path, call, monkeypatch, clock):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    code, _, told = call()
    assert code == 2
    assert "there is no journal" in told
    with closing(Journal(tmp_path / "l0-assembler" / "KPF.sqlite", clock)) as journal:
        journal.note(named(77), "seen")
        code, out, _ = call()
    assert code == 0
    assert "77 " in out


def test_a_journal_that_cannot_be_read_exits_4(path, call):
    path.write_bytes(b"no SQLite at all" * 200)
    code, out, told = call("--journal", path)
    assert (code, out) == (4, "")
    assert "damaged" in told


def test_who_has_it_open_is_told_and_nothing_is_kept_of_it(path, clock):
    assert taken_by(str(path)) == ""
    asking = threading.Event()

    def ask():
        while not asking.is_set():
            taken_by(str(path))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(30):
            journal = Journal(path, clock)
            assert taken_by(str(path)) == f"process {os.getpid()}"
            journal.close()
    finally:
        asking.set()
        thread.join()
    assert taken_by(str(path)) == ""


class TestFollow:
    """Live, in a real terminal and without one; as long as nobody stops it."""

    @pytest.fixture
    def start(self, path):
        """Return what starts the command, with standard output of its own; it is stopped in the end."""
        started = []

        def begin(*words, stdout=subprocess.PIPE, **more):
            command = [sys.executable, "-m", "assembler", "status", "--follow", "--journal", str(path), *words]
            environ = os.environ | {"TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"}
            process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, env=environ, **more)
            started.append(process)
            return process

        yield begin
        for process in started:
            process.kill()
            process.communicate()

    def test_on_a_terminal_it_shows_what_changes_and_outlives_a_journal_that_is_replaced(self, start, journal, path, clock):
        ours, its = pty.openpty()
        termios.tcsetwinsize(its, (40, 300))
        process = start(stdout=its, start_new_session=True)
        os.close(its)
        page = b""

        def wait_for(*texts):
            nonlocal page
            while not all(text.encode() in page for text in texts):
                page += os.read(ours, 65536)
            page = b""

        wait_for("Nothing in flight", f"watched by process {os.getpid()}")
        journal.note(named(4711), "seen", sub_fits=[sub("red", 4711)], awaited=("green",))
        wait_for("4711", "waits for green")
        publish(journal, clock, 4712)
        wait_for("KP.20240422.4712.00.fits", "published")
        journal.close()
        wait_for("no watcher has it open")
        for name in os.listdir(path.parent):
            (path.parent / name).unlink()
        wait_for("there is no journal", "4711")
        path.write_bytes(b"no SQLite at all" * 200)
        wait_for("is damaged")
        with closing(Journal(path, clock)) as anew:
            anew.note(named(4713), "seen")
            wait_for("4713")
        os.killpg(process.pid, signal.SIGINT)
        with suppress(OSError):  # which is how a terminal ends
            while end := os.read(ours, 65536):
                page += end
        assert process.wait() == 0
        assert b"\x1b[?1049l" in page  # what was on the screen before is there again
        assert process.stderr.read() == b""
        os.close(ours)

    def test_without_a_terminal_it_prints_a_line_for_each_new_state(self, start, journal, path, clock):
        publish(journal, clock, 1)
        process = start()
        assert process.stderr.readline() == b"following from here on; Ctrl-C ends it\n"
        clock.now = NOW
        journal.note(named(2), "seen")
        assert process.stdout.readline() == b"2024-04-22T08:10:00.000Z 2 (2024apr21) seen\n"
        publish(journal, clock, 3, missing={"red": "truncated"}, findings={"error": 1, "warning": 2, "info": 3})
        while b" published " not in (line := process.stdout.readline()):
            assert b"\x1b" not in line
        assert line.endswith(b"published KP.20240422.3.00.fits without red truncated 1 error, 2 warnings, 3 info\n")
        journal.close()
        os.rename(path, f"{path}.away")
        assert b"there is no journal" in process.stderr.readline()
        with closing(Journal(path, clock)) as anew:
            anew.note(named(4), "seen", "x\x1b[2J")
            assert b"can be read again" in process.stderr.readline()
            assert process.stdout.readline().endswith(b"Z 4 (2024apr21) seen - x?[2J\n")
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (b"", b"")
        assert process.returncode == 0

    def test_as_json_each_new_state_is_a_line_of_json(self, start, path, clock):
        process = start("--json")
        assert b"there is no journal" in process.stderr.readline()
        with closing(Journal(path, clock)) as journal:
            journal.note(named(5), "seen", "red arrived", sub_fits=[sub("red", 5)])
            told = json.loads(process.stdout.readline())
        assert (told["at"], told["state"], told["detail"]) == ("2024-04-22T08:00:00.000000Z", "seen", "red arrived")
        assert list(told["exposure"]) == list(EXPOSURE)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0

    def test_trouble_is_told_once_and_no_state_is_told_twice_or_lost(self, journal, path, capsys):
        """Reads with trouble in between, by turns."""
        turns = iter(["", "", "disk", "disk", "", ""])
        frames = iter(range(6))

        def read(last):
            journal.note(named(next(frames)), "seen")
            if trouble := next(turns, None):
                raise OutputError(f"{path}: {trouble}")
            return read_news(str(path), last)

        def sleep(_seconds):
            if next(left, None) is None:
                raise KeyboardInterrupt

        left = iter(range(5))
        with pytest.raises(KeyboardInterrupt):
            status.tell_news(read, as_json=False, sleep=sleep)
        out, err = capsys.readouterr()
        assert re.findall(r"Z (\d) ", out) == ["1", "2", "3", "4", "5"]
        assert err.splitlines()[1:] == [f"assembler: {path}: disk", "assembler: the journal can be read again"]


def test_no_other_command_waits_for_what_draws_tables():
    program = "import sys; sys.argv[1:] = ['--help']\nfrom assembler.cli import run\nrun()\n"
    program += "print({'rich', 'sqlite3', 'numpy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert told.endswith("\nset()\n")
    assert "status" in told
