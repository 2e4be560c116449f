"""The embedded history: as-of queries agree with the obvious way, whatever was broadcast when."""

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ASKED, INSTANTS, TIME, expected_as_of, expected_during, samples

from assembler.core.samples import Sample
from assembler.errors import ConfigurationError, TelemetryError
from assembler.telemetry.history import open_history
from assembler.telemetry.sqlite import load


@settings(max_examples=40)
@given(samples(st.text(max_size=8)), INSTANTS, TIME, TIME)
def test_the_last_value_at_or_before_a_time_is_found(rows, instants, begin, end):
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "history.db")
        load(path, rows)
        history = open_history(f"sqlite:///{path}")
        told = history.as_of(ASKED, instants)
        numbers = history.during(ASKED, begin, end)
        history.close()
    assert told == [expected_as_of(rows, instant) for instant in instants]
    assert numbers == expected_during(rows, begin, end)


def test_loading_twice_changes_nothing(tmp_path):
    path = str(tmp_path / "history.db")
    samples = [("met.TEMP", 1.0, "20"), ("met.TEMP", 2.0, "21")]
    assert load(path, samples) == load(path, iter(samples)) == 2
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchone() == (2,)
    connection.close()


def test_a_load_that_fails_half_way_leaves_nothing(tmp_path):
    path = str(tmp_path / "history.db")
    load(path, [("met.TEMP", 1.0, "20")])

    def breaks():
        yield "met.TEMP", 2.0, "21"
        yield "met.PRES", 2.0, "600"
        raise ConfigurationError("line 3 is wrong")

    with pytest.raises(ConfigurationError, match="line 3"):
        load(path, breaks())
    history = open_history(f"sqlite:///{path}")
    assert history.as_of(["met.TEMP", "met.PRES"], [9.0]) == [{"met.TEMP": Sample(time=1.0, value="20")}]
    history.close()


def test_a_history_that_is_not_there_or_is_none_is_one_clear_error(tmp_path):
    (tmp_path / "text.db").write_text("no database, just some text that is long enough to be read as one\n" * 40)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    for name, told in (("nothing.db", "there is no history"), ("text.db", "is no keyword history"), ("other.db", "is no keyword history")):
        with pytest.raises(TelemetryError, match=told):
            open_history(f"sqlite:///{tmp_path / name}")
    with pytest.raises(TelemetryError, match="no directory"):
        load(str(tmp_path / "nowhere" / "history.db"), [])


def test_a_path_with_three_slashes_that_was_meant_to_be_absolute_is_told(tmp_path, monkeypatch):
    load(str(tmp_path / "history.db"), [("met.TEMP", 1.0, "20")])
    monkeypatch.chdir(tmp_path)
    assert open_history("sqlite:///history.db").close() is None
    with pytest.raises(TelemetryError, match="four slashes"):
        open_history(f"sqlite:///{str(tmp_path)[1:]}/history.db")


@pytest.mark.parametrize("url", ["", "history.db", "mysql://host/db", "sqlite://", "sqlite:///"])
def test_a_url_of_no_backend_is_a_usage_error(url):
    with pytest.raises(ConfigurationError, match="sqlite:///PATH"):
        open_history(url)


def test_reading_does_not_change_the_history(tmp_path):
    path = tmp_path / "history ?#%.db"
    load(str(path), [("met.TEMP", 1.0, "20")])
    before = path.read_bytes()
    path.chmod(0o444)
    history = open_history(f"sqlite:///{path}")
    assert history.as_of(["met.TEMP"], [1.0])[0]["met.TEMP"].value == "20"
    history.close()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_history_that_is_being_loaded_is_asked_again(tmp_path):
    path = tmp_path / "history.db"
    load(str(path), [("met.TEMP", 1.0, "20")])
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    history = open_history(f"sqlite:///{path}")
    with pytest.raises(TelemetryError) as told:
        history.as_of(["met.TEMP"], [1.0])
    assert told.value.retry
    writer.execute("ROLLBACK")
    writer.close()
    assert history.as_of(["met.TEMP"], [1.0])[0]["met.TEMP"].value == "20"
    history.close()
