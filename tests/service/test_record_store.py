"""Records in SQLite and in a real PostgreSQL server: the newest version of each exposure, whole, whoever writes at the same time."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from threading import Barrier, Thread

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres_servers import Server, running

from assembler.core.columns import COLUMNS
from assembler.core.record import KeywordRow, OriginRow, Record
from assembler.errors import ConfigurationError, OutputError
from assembler.service import record_sqlite
from assembler.service.record_store import open_store

TIMES = [name for name, column in COLUMNS.items() if column.kind == "time"] + ["begin_time", "end_time"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def another(server, tmp_path_factory) -> dict[str, Callable[[], str]]:
    """Return by kind what makes a new place for records, and returns its URL."""
    directory, numbers = tmp_path_factory.mktemp("records"), count()
    return {
        "sqlite": lambda: f"sqlite:///{directory}/{next(numbers)}.db",
        "postgresql": lambda: server.url(server.make_database()),
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def url(another, request) -> str:
    return another[request.param]()


def ask(url: str, question: str) -> list[tuple]:
    """Ask a store by other means than those it is written by."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            told = connection.execute(question).fetchall()
            connection.commit()
            return told
    with psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
        cursor = connection.execute(question)
        return cursor.fetchall() if cursor.description else []


def put(url: str, record: Record) -> bool:
    with closing(open_store(url)) as store:
        return store.put(record)


def record(obs_id: str = "T.1", number: int | None = 1, version: int = 1, begin: str = "2024-04-22T08:00:32.886179", **more) -> Record:
    columns = dict.fromkeys(COLUMNS) | {
        "instrument": "T",
        "obs_id": obs_id,
        "exposure_id": number,
        "begin_time": begin,
        "l0_name": f"{obs_id}.fits",
        "l0_version": version,
    }
    return Record(
        columns=columns | more,
        origins=(
            OriginRow(origin="one", attached=True, file_name="one.fits", frame=7, begin_time=begin, elapsed=1.5, amplifiers=4),
            OriginRow(origin="two", attached=False, reason="absent"),
        ),
        keywords=(KeywordRow(keyword="A", value="1.50", unit="m", moment="begin"), KeywordRow(keyword="B", value="", unit="", moment="")),
    )


def told(url: str, table: str, names: str) -> list[tuple]:
    return ask(url, f"SELECT {names} FROM {table} ORDER BY {names.partition(',')[0]}")


def as_iso(cell) -> str | None:
    """Return an instant as it was written, of whichever database."""
    if cell is None or isinstance(cell, str):
        return cell and cell.removesuffix("Z")
    return cell.strftime("%Y-%m-%dT%H:%M:%S.%f")


def test_a_record_is_read_back_as_it_was(url):
    full = {"exposure_time": 30.068, "day_obs": 20240422, "has_simulated": False, "can_see_sky": True, "target_name": "it's; --"}
    made = record(**full, exposure_id=2**63 - 1)
    assert put(url, made)
    (row,) = told(url, "exposure", ", ".join(COLUMNS))
    read = dict(zip(COLUMNS, row, strict=True))
    read |= {name: as_iso(read[name]) for name in TIMES}
    assert read == made.columns
    (one, two) = told(url, "exposure_origin", "origin, attached, reason, file_name, frame, begin_time, end_time, elapsed, amplifiers")
    assert (*one[:5], as_iso(one[5]), *one[6:]) == ("one", True, None, "one.fits", 7, "2024-04-22T08:00:32.886179", None, 1.5, 4)
    assert two == ("two", False, "absent", None, None, None, None, None, None)
    assert told(url, "exposure_keyword", "keyword, value, unit, moment") == [("A", "1.50", "m", "begin"), ("B", "", "", "")]


def test_the_same_again_replaces_all_of_it(url):
    put(url, record(target_name="before"))
    less = replace(record(target_name=None, airmass=1.5), origins=(), keywords=(KeywordRow(keyword="C", value="2", unit="", moment="end"),))
    assert put(url, less)
    assert told(url, "exposure", "obs_id, target_name, airmass") == [("T.1", None, 1.5)]
    assert told(url, "exposure_origin", "origin") == []
    assert told(url, "exposure_keyword", "keyword, value") == [("C", "2")]


def test_a_newer_version_replaces_an_older_one_and_never_the_other_way_round(url):
    assert put(url, record(version=1, target_name="first"))
    assert put(url, record(version=3, target_name="third"))
    assert not put(url, replace(record(version=2, target_name="second"), keywords=()))
    assert told(url, "exposure", "l0_version, target_name") == [(3, "third")]
    assert len(told(url, "exposure_keyword", "keyword")) == 2


def test_an_l0_that_got_another_name_is_the_same_exposure(url):
    put(url, record("T.1", 1, 1))
    put(url, record("T.9", 9, 1))
    assert put(url, record("T.2", 1, 2, "2024-04-22T08:01:09.000000"))
    assert told(url, "exposure", "obs_id, exposure_id, l0_version") == [("T.2", 1, 2), ("T.9", 9, 1)]
    assert {obs_id for (obs_id,) in told(url, "exposure_origin", "obs_id")} == {"T.2", "T.9"}
    assert not put(url, record("T.1", 1, 1))


@pytest.mark.parametrize(("version", "begin"), [(1, "2024-04-22T08:01:09.000000"), (2, "2024-04-24T08:00:00.000000")])
def test_another_exposure_with_the_same_id_is_refused_and_nothing_is_lost(url, version, begin):
    put(url, record("T.1", 1))
    with pytest.raises(OutputError, match=r"exposure_id 1 of T is that of T\.1 already, and not of T\.2") as caught:
        put(url, record("T.2", 1, version, begin))
    assert not caught.value.retry
    assert told(url, "exposure", "obs_id, l0_version") == [("T.1", 1)]


def test_exposures_without_an_id_are_told_apart_by_their_name(url):
    assert put(url, record("T.1", None))
    assert put(url, record("T.2", None))
    assert put(url, record("T.2", 2))
    assert told(url, "exposure", "obs_id, exposure_id") == [("T.1", None), ("T.2", 2)]


def test_two_instruments_share_a_store(url):
    put(url, record())
    put(url, record(instrument="U"))
    assert told(url, "exposure", "instrument, obs_id") == [("T", "T.1"), ("U", "T.1")]


def test_of_many_writers_at_once_the_newest_version_of_each_exposure_stays(url):
    errors, begin = [], Barrier(4)

    def write(turn: int) -> None:
        try:
            with closing(open_store(url)) as store:
                begin.wait()
                for number in range(6):
                    store.put(record(f"T.{number}", number, (turn + number) % 4 + 1))  # each writer begins with another version
        except Exception as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    threads = [Thread(target=write, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert told(url, "exposure", "obs_id, l0_version") == [(f"T.{number}", 4) for number in range(6)]
    assert len(told(url, "exposure_origin", "obs_id")) == 12


def test_tables_of_somebody_else_are_left_alone(url):
    ask(url, "CREATE TABLE exposure (id integer)")
    with pytest.raises(OutputError, match="has a table exposure already, which is none of exposure records"):
        put(url, record())
    assert ask(url, "SELECT * FROM exposure") == []


def test_tables_of_a_newer_assembler_are_left_alone(url):
    put(url, record())
    ask(url, "UPDATE exposure_schema SET version = 2")
    with pytest.raises(OutputError, match="its tables of exposures are 2, and this assembler knows 1"):
        put(url, record(version=2))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_whatever_a_text_says_it_is_a_text(url, text):
    made = record(target_name=text, scheduler_note=f"'); DROP TABLE exposure; -- {text}", instrument=f"T{text}")
    assert put(url, replace(made, keywords=(KeywordRow(keyword="A", value=text, unit="%s", moment="$1"),)))
    rows = [row for row in told(url, "exposure", "instrument, target_name, scheduler_note") if row[0] == made.columns["instrument"]]
    assert rows == [(f"T{text}", text, made.columns["scheduler_note"])]


def test_a_server_that_was_away_takes_the_next_record(server):
    url = server.url(server.make_database())
    with closing(open_store(url)) as store:
        assert store.put(record())
        server.stop()
        try:
            with pytest.raises(OutputError) as caught:
                store.put(record(version=2))
            assert caught.value.retry
        finally:
            server.start()
        assert store.put(record(version=2))
    assert told(url, "exposure", "l0_version") == [(2,)]


def test_a_server_that_is_not_there_is_told_without_the_password():
    with closing(open_store("postgresql://kpf:s3cret@127.0.0.1:9/exposures")) as store, pytest.raises(OutputError) as caught:
        store.put(record())
    assert str(caught.value).startswith("PostgreSQL at 127.0.0.1:9/exposures: ")
    assert "s3cret" not in str(caught.value)
    assert caught.value.retry


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "x.db").write_text("no database, but as long as the header of one: " + "x" * 100)
    with pytest.raises(OutputError, match=r"x\.db: file is not a database") as caught:
        put(f"sqlite:///{tmp_path}/x.db", record())
    assert not caught.value.retry
    with pytest.raises(OutputError, match="there is no directory"):
        put(f"sqlite:///{tmp_path}/none/x.db", record())


def test_a_file_that_has_an_odd_name_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put("sqlite:///:memory:", record())
    assert ask("sqlite:///./:memory:", "SELECT count(*) FROM exposure") == [(1,)]


def test_a_file_that_somebody_else_writes_to_all_the_time_may_be_free_later(tmp_path, monkeypatch):
    monkeypatch.setattr(record_sqlite, "_BUSY", 0.01)
    url = f"sqlite:///{tmp_path}/x.db"
    put(url, record())
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutputError, match="database is locked") as caught:
            put(url, record(version=2))
    assert caught.value.retry
    assert put(url, record(version=2))


@pytest.mark.parametrize("url", ["mysql://x/y", "exposures.db", "postgresql://kpf:s3cret@[/x", "sqlite://x"])
def test_a_url_of_no_store_is_told_without_what_may_be_a_password(url):
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)
