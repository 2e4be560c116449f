"""Logs as histories: what they have now is the answer, however they came to it."""

import csv
import io
import json
import os
import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assembler.core.samples import Sample
from assembler.errors import ConfigurationError, TelemetryError
from assembler.telemetry import logs
from assembler.telemetry.load import read_samples
from assembler.telemetry.sqlite import SqliteHistory, load
from assembler.telemetry.urls import open_history

HEADER = "service,keyword,time,value\n"
FORMS = ("csv", "jsonl")
NAMES = ("met.TEMP", "met.PRES", "ünï.ÇØDÉ")
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
SAMPLES = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 20).map(float), TEXT), max_size=12)

both = pytest.mark.parametrize("form", FORMS)


def written(form, samples, *, header=True):
    """Return samples as a log of that form."""
    rows = [(*name.split(".", 1), time, value) for name, time, value in samples]
    if form == "jsonl":
        return "".join(json.dumps(dict(zip(("service", "keyword", "time", "value"), row, strict=True))) + "\n" for row in rows)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return (HEADER if header else "") + text.getvalue()


def asked(history):
    return history.as_of(NAMES, [5.0, 10.0, 1e9]), history.during(NAMES, 3.0, 12.0)


@pytest.fixture
def log(tmp_path):
    """Return what writes a log, and what opens it."""

    def make(form, text):
        path = tmp_path / f"log.{form}"
        path.write_bytes(text.encode())
        return path, closing(open_history(f"{form}:///{path}"))

    return make


@both
@settings(max_examples=40)
@given(SAMPLES, SAMPLES, st.data())
def test_answers_are_those_of_sqlite_while_the_log_grows(tmp_path_factory, form, first, more, data):
    directory = tmp_path_factory.mktemp("log")
    path = directory / "log"
    path.write_bytes(written(form, first).encode())
    load(str(directory / "history.db"), first)
    with closing(open_history(f"{form}:///{path}")) as history, closing(SqliteHistory(str(directory / "history.db"))) as other:
        assert asked(history) == asked(other)
        for sample in more:
            line = written(form, [sample], header=False).encode()
            # A writer's buffer ends anywhere but at the end of a line; in a value of many lines it is half a record.
            cut = data.draw(st.integers(0, line.index(b"\n")))
            with path.open("ab", buffering=0) as file:
                file.write(line[:cut])
                assert asked(history) == asked(other)
                file.write(line[cut:])
            load(str(directory / "history.db"), [sample])
            assert asked(history) == asked(other)


@both
@pytest.mark.parametrize("how", ["replaced", "shortened", "rewritten", "rewritten and longer"])
def test_a_log_that_did_not_merely_grow_is_read_anew(log, form, how):
    path, opened = log(form, written(form, [("met.TEMP", float(n), "old") for n in range(500)] + [("met.PRES", 1.0, "600")]))
    with opened as history:
        assert set(history.as_of(NAMES, [9.0])[0]) == {"met.TEMP", "met.PRES"}
        text = written(form, [("met.TEMP", float(n), "new") for n in range({"shortened": 3, "rewritten and longer": 900}.get(how, 500))])
        if how == "replaced":
            other = path.with_suffix(".new")
            other.write_text(text)
            other.rename(path)
        else:
            with path.open("r+") as file:
                file.write(text)
                file.truncate()
            os.utime(path, ns=(1, 1))
        assert history.as_of(NAMES, [2.0]) == [{"met.TEMP": Sample(time=2.0, value="new")}]


@both
def test_only_what_was_appended_is_read(log, form, monkeypatch):
    path, opened = log(form, written(form, [("met.TEMP", 1.0, "20")]))
    counted = []
    add = logs.add
    monkeypatch.setattr(logs, "add", lambda connection, rows: counted.append(add(connection, rows)))
    with opened as history:
        for time in (2.0, 3.0):
            with path.open("a") as file:
                file.write(written(form, [("met.TEMP", time, "21")], header=False))
            assert history.as_of(NAMES, [9.0])[0]["met.TEMP"].time == time
            assert history.during(NAMES, 0.0, 9.0)["met.TEMP"].samples == time
    assert counted == [1, 1]


@both
def test_an_empty_log_is_a_history_of_nothing_and_grows(log, form):
    path, opened = log(form, "")
    with opened as history:
        assert asked(history) == ([{}, {}, {}], {})
        path.write_text(written(form, [("met.TEMP", 1.0, "20")])[:-1])
        assert asked(history) == ([{}, {}, {}], {})
        with path.open("a") as file:
            file.write("\n")
        assert history.as_of(NAMES, [1.0]) == [{"met.TEMP": Sample(time=1.0, value="20")}]


WRONG = {"csv": ["met,TEMP,noon,20", "met,TEMP,1", 'met,TEMP,1,"20"x'], "jsonl": ["{", "[1]", '{"service": "met"}', "met,TEMP,1,20"]}


@pytest.mark.parametrize(("form", "line"), [(form, line) for form in FORMS for line in WRONG[form]])
def test_a_wrong_line_is_named_whenever_it_comes_and_until_it_is_mended(log, form, line):
    good = written(form, [("met.TEMP", 1.0, "20"), ("met.TEMP", 2.0, "21")])
    number = good.count("\n") + 1
    with pytest.raises(TelemetryError, match=rf"log.{form}:{number}: "):
        log(form, f"{good}{line}\n{good}")
    path, opened = log(form, good)
    with opened as history:
        asked(history)
        path.write_text(f"{good}{line}\n")
        for _ in range(2):
            with pytest.raises(TelemetryError, match=rf"log.{form}:{number}: ") as caught:
                asked(history)
            assert not caught.value.retry
        path.write_text(good)
        assert history.as_of(NAMES, [9.0]) == [{"met.TEMP": Sample(time=2.0, value="21")}]


def test_a_quote_that_is_still_open_is_worth_a_retry(log):
    path, opened = log("csv", HEADER + "met,TEMP,1,20\n")
    with opened as history:
        with path.open("a") as file:
            file.write('met,TEMP,2,"two\n')
        with pytest.raises(TelemetryError, match=r"log.csv:3: is no CSV") as caught:
            asked(history)
        assert caught.value.retry
        with path.open("a") as file:
            file.write('lines"\n')
        assert history.as_of(NAMES, [9.0]) == [{"met.TEMP": Sample(time=2.0, value="two\nlines")}]


@both
def test_a_log_that_is_not_there_or_is_no_text_is_one_clear_error(log, tmp_path, monkeypatch, form):
    with pytest.raises(TelemetryError, match="there is no history"):
        open_history(f"{form}:///{tmp_path}/nothing")
    path, opened = log(form, written(form, [("met.TEMP", 1.0, "20")]))
    monkeypatch.chdir(tmp_path)
    open_history(f"{form}:///log.{form}").close()
    with pytest.raises(TelemetryError, match=f"four slashes: {form}:////"):
        open_history(f"{form}:///{str(path)[1:]}")
    with opened as history:
        path.unlink()
        with pytest.raises(TelemetryError, match="cannot be read") as caught:
            asked(history)
        assert caught.value.retry
    for bad in (b"\xff\n", b"x" * (logs.LONGEST_LINE + 1)):
        path.write_bytes(bad)
        with pytest.raises(TelemetryError, match=rf"log.{form}:1: "):
            open_history(f"{form}:///{path}")


@both
def test_an_interruption_ends_the_reading_and_not_the_next_question(log, form, monkeypatch):
    path, opened = log(form, written(form, [("met.TEMP", 1.0, "20")]))
    with opened as history:
        with path.open("a") as file:
            file.write(written(form, [("met.TEMP", 2.0, "21")], header=False))
        add = logs.add

        def interrupted(connection, rows):
            history.interrupt()
            return add(connection, rows)

        with monkeypatch.context() as patch:
            patch.setattr(logs, "add", interrupted)
            with pytest.raises(TelemetryError, match="interrupted"):
                asked(history)
        assert history.as_of(NAMES, [9.0])[0]["met.TEMP"].value == "21"


def test_a_process_that_is_killed_leaves_nothing_behind(log, tmp_path):
    path, opened = log("csv", written("csv", [(NAMES[n % 2], float(n), "x" * 50) for n in range(20_000)]))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    program = "import os, sys; from assembler.telemetry.urls import open_history; h = open_history(sys.argv[1]); os.kill(os.getpid(), 9)"
    environment = {**os.environ, "TMPDIR": str(temporary), "SQLITE_TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", program, f"csv:///{path}"], env=environment, check=False)
    opened.thing.close()
    assert done.returncode == -9
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("url", ["csv://", "csv:///", "jsonl:///", "jsonl://x"])
def test_a_url_without_a_path_is_a_usage_error(url):
    with pytest.raises(ConfigurationError, match=r":///PATH"):
        open_history(url)


@both
def test_an_l0_from_a_log_is_that_from_sqlite(form, make, found, history_url, night, tmp_path):
    log = night.telemetry
    if form == "jsonl":
        log = tmp_path / "telemetry.jsonl"
        log.write_text(written("jsonl", read_samples(night.telemetry)))
    made = []
    for url in (f"{form}:///{log}", history_url):
        path = make(found, url).path
        made.append(path.read_bytes())
        path.unlink()
    assert made[0] == made[1]
