"""Events: JSON or lines for people, whatever is in them, and whatever becomes of the stream."""

import io
import json
import os
import pty
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.errors import ConfigurationError, OutputError
from assembler.events import LogFile, configure
from assembler.service.log import Silent

AT = 1_790_000_000_123_456_789
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.builds(Path, st.just("a\x1b\nb")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner) | st.frozensets(st.text()),
    max_leaves=10,
)
FIELDS = st.dictionaries(st.text(st.characters(), min_size=1).filter(lambda name: name not in ("event", "self", "exc_info")), ANYTHING)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def log_to(stream, **options):
    return configure(stream, clock=lambda: AT, **options)


def test_an_event_is_a_line_of_json_with_level_time_and_what_was_bound():
    stream = io.StringIO()
    log = log_to(stream).bind(obsid="KP.1").bind(origin="red")
    log.info("l0_published", version=2, seconds=0.25, path=Path("/data/ä"), at=datetime(2026, 1, 1, tzinfo=UTC), codes=("a", "b"))
    log.warning("second")
    first, second = stream.getvalue().splitlines()
    assert json.loads(first) == {
        "timestamp": "2026-09-21T14:13:20.123456Z", "level": "info", "event": "l0_published", "obsid": "KP.1", "origin": "red",
        "version": 2, "seconds": 0.25, "path": "/data/ä", "at": "2026-01-01 00:00:00+00:00", "codes": ["a", "b"],
    }  # fmt: skip
    assert json.loads(second)["level"] == "warning"


def test_at_a_terminal_an_event_is_a_line_for_people_unless_json_is_asked_for():
    stream = Terminal()
    log_to(stream).error("lease_lost", holder="process 1 on b", number=7)
    assert stream.getvalue() == '14:13:20.123 ERROR   lease_lost holder="process 1 on b" number=7\n'
    stream = Terminal()
    log_to(stream, as_json=True).error("lease_lost")
    assert json.loads(stream.getvalue())["event"] == "lease_lost"
    stream = io.StringIO()
    log_to(stream, as_json=False).info("lease_taken")
    assert stream.getvalue() == "14:13:20.123 info    lease_taken\n"


def test_what_is_below_the_least_level_is_dropped():
    stream = io.StringIO()
    for least, count in (("debug", 5), ("info", 4), ("warning", 3), ("error", 2)):
        stream.seek(0)
        stream.truncate()
        log = log_to(stream, least=least)
        for tell in (log.debug, log.info, log.warning, log.error, log.exception):
            tell("told")
        assert len(stream.getvalue().splitlines()) == count


@given(fields=FIELDS, event=st.text(st.characters()))
def test_no_value_breaks_a_line_of_json(fields, event):
    stream = io.StringIO()
    log_to(stream).bind(**fields).info(event, **fields)
    (line, rest) = stream.getvalue().split("\n")
    assert rest == ""
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line, parse_constant=pytest.fail)
    assert told["level"] == "info"
    assert json.dumps(told, ensure_ascii=False).encode()  # no lone surrogate is left
    assert len(line) < 100_000_000


@given(fields=FIELDS, event=st.text(st.characters()))
def test_no_value_reaches_a_terminal_raw(fields, event):
    stream = Terminal()
    log_to(stream).bind(**fields).info(event, **fields)
    (line, rest) = stream.getvalue().split("\n")
    assert rest == ""
    assert line.isprintable()


def test_a_value_that_is_endless_or_contains_itself_is_cut():
    stream = io.StringIO()
    endless = []
    endless.append(endless)
    log_to(stream).info("told", a=endless, b="x" * 10**6, c=list(range(10**5)), d=10**400, e=float("nan"))
    assert len(stream.getvalue()) < 10_000
    assert json.loads(stream.getvalue(), parse_constant=pytest.fail)["e"] == "nan"


def raise_chain(kind, text):
    try:
        os.stat("/nowhere\nat all")
    except OSError as error:
        raise kind(text) from error


@pytest.mark.parametrize("kind", [OutputError, RuntimeError])
def test_an_exception_is_one_field_of_json_with_its_frames_only_when_it_is_a_bug(kind):
    stream = io.StringIO()
    log = log_to(stream)
    try:
        raise_chain(kind, "two\nlines")
    except kind as error:
        log.exception("round_failed")
        told = error
    for fields in ({"exc_info": told}, {"exc_info": (kind, told, told.__traceback__)}, {"exception": told}):
        log.error("round_failed", **fields)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    told = json.loads(lines[0])["exception"]
    assert (told["type"], told["message"]) == (kind.__name__, "two\\nlines")
    assert told["causes"] == ["FileNotFoundError: [Errno 2] No such file or directory: '/nowhere\\nat all'"]
    assert ("frames" in told) == (kind is RuntimeError)
    assert all(json.loads(line)["exception"] == told for line in lines)
    if kind is RuntimeError:
        assert told["frames"][-1].endswith(" raise_chain")


def test_at_a_terminal_only_a_bug_has_a_traceback_and_it_cannot_be_taken_for_an_event():
    stream = Terminal()
    log = log_to(stream)
    forged = "\n14:13:20.123 info    forged \x1b[2J"
    for kind in (OutputError, RuntimeError):
        try:
            raise_chain(kind, forged)
        except kind:
            log.exception("round_failed")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("14:13:20.123 ERROR   round_failed exception=")
    assert lines[1].startswith("14:13:20.123 ERROR   round_failed exception=")
    assert len(lines) > 5
    assert all(line.startswith("    ") for line in lines[2:])
    assert all(line.isprintable() for line in lines)
    assert any("raise_chain" in line for line in lines[2:])


def test_without_an_exception_there_is_none_to_tell():
    stream = io.StringIO()
    log_to(stream).exception("nothing_raised")
    assert "exception" not in json.loads(stream.getvalue())


def test_an_encoding_that_lacks_a_character_gets_it_escaped():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    log_to(stream, as_json=False).info("told", who="Ångström")
    assert raw.getvalue().endswith(b"who=\\xc5ngstr\\xf6m\n")


def test_a_pipe_that_nobody_reads_any_more_loses_events_and_they_are_counted():
    reading, writing = os.pipe()
    lost = []
    with suppress(OSError), open(writing, "w", encoding="utf-8") as stream:
        log = log_to(stream, on_lost=lambda: lost.append(1))
        log.info("first")
        assert len(lost) == 0
        os.close(reading)
        log.info("second")
        assert len(lost) == 1
    log.info("third")
    assert len(lost) == 2


def test_a_full_disk_loses_events_and_they_are_counted():
    lost = []
    stream = LogFile("/dev/full")
    log = log_to(stream, on_lost=lambda: lost.append(1))
    for _ in range(5):
        log.info("told")
    assert len(lost) == 5
    stream.close()


def test_standard_error_that_is_gone_does_not_end_a_program(tmp_path):
    program = (
        "import sys, time\nfrom assembler.events import configure\nlost = []\n"
        "log = configure(sys.stderr, clock=time.time_ns, on_lost=lambda: lost.append(1))\n"
        "for n in range(1000): log.info('told', n=n)\nprint(len(lost))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writing, check=False, text=True)
    os.close(writing)
    assert done.stdout == "1000\n"


def test_a_real_terminal_is_recognized():
    leading, following = pty.openpty()
    with open(following, "w", encoding="utf-8") as stream:
        log_to(stream).info("told", path="\x1b[31m\r\n")
        seen = os.read(leading, 1000)
    os.close(leading)
    assert seen == b"14:13:20.123 info    told path=\\x1b[31m\\r\\n\r\n"


def test_events_of_many_threads_are_whole_lines(tmp_path):
    stream = LogFile(tmp_path / "log")
    log = log_to(stream)
    threads = [threading.Thread(target=lambda t=t: [log.info("told", t=t, n=n, fill="x" * 500) for n in range(100)]) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.close()
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted((e["t"], e["n"]) for e in told) == [(t, n) for t in range(8) for n in range(100)]


def test_a_log_that_is_rotated_by_renaming_goes_on_under_its_name_and_nothing_is_lost(tmp_path):
    path = tmp_path / "watch.log"
    stream = LogFile(path)
    log = log_to(stream)
    for n in range(100):
        log.info("told", n=n)
        if n % 10 == 9:
            path.rename(tmp_path / f"watch.log.{n // 10}")
    stream.close()
    for turn in range(10):
        lines = (tmp_path / f"watch.log.{turn}").read_text().splitlines()
        assert [json.loads(line)["n"] for line in lines] == list(range(10 * turn, 10 * turn + 10))
    assert len(os.listdir("/proc/self/fd")) < 200
    assert not path.exists()


def test_a_log_that_was_truncated_or_removed_goes_on(tmp_path):
    path = tmp_path / "watch.log"
    stream = LogFile(path)
    stream.write("one\n")
    os.truncate(path, 0)
    stream.write("two\n")
    assert path.read_text() == "two\n"
    path.unlink()
    stream.write("three\n")
    assert path.read_text() == "three\n"
    stream.close()


def test_while_a_log_cannot_be_made_anew_the_old_one_is_written(tmp_path):
    directory, moved = tmp_path / "logs", tmp_path / "moved"
    directory.mkdir()
    stream = LogFile(directory / "watch.log")
    directory.rename(moved)
    stream.write("one\n")
    assert (moved / "watch.log").read_text() == "one\n"
    directory.mkdir()
    stream.write("two\n")
    assert (directory / "watch.log").read_text() == "two\n"
    stream.close()
    with pytest.raises(OSError, match="closed"):
        stream.write("three\n")
    stream.close()


def test_a_line_that_was_cut_by_a_full_disk_is_ended_before_the_next_one(tmp_path):
    program = (
        "import resource, signal, sys\nfrom assembler.events import LogFile\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "log = LogFile(sys.argv[1])\nhard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))\n"
        "try: log.write('0123456789\\n')\nexcept OSError: pass\nelse: sys.exit('was not cut')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\nlog.write('next\\n')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "log")], check=True)
    assert (tmp_path / "log").read_text() == "012345\nnext\n"


def test_a_log_that_cannot_be_opened_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing/watch\.log: cannot be written as a log: No such file or directory"):
        LogFile(tmp_path / "missing" / "watch.log")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        LogFile(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigurationError, match="cannot be written as a log"):
        LogFile(tmp_path / "fifo")


def test_the_silent_log_says_nothing():
    log = Silent().bind(a=1)
    for tell in (log.debug, log.info, log.warning, log.error, log.exception):
        assert tell("told", a=2) is None
