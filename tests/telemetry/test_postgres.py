"""The history in a PostgreSQL server: the same answers as any other, whatever is in the tables and whatever is asked for."""

import math
import sys

import kpf_night
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import ASKED, INSTANTS, TIME, expected_as_of, expected_during, samples

from assembler.core.samples import Sample, aggregate
from assembler.errors import ConfigurationError, TelemetryError
from assembler.telemetry import postgres
from assembler.telemetry.load import read_samples
from assembler.telemetry.postgres import PostgresHistory
from assembler.telemetry.urls import load_history, open_history

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
TABLE = "CREATE TABLE met (time double precision, keyword text, binvalue text, ascvalue text, repeated integer, discarded integer)"
ODD = [
    'met"; DROP TABLE met; --.KEY',
    "it's.K'); DROP TABLE met; --",
    "%s.%s",
    "100%.%(x)s",
    "$1.$2",
    "{table}.{0}",
    "météo.Größe 温度",
    "met.a.b.c",
    "met.",
    "Met.TEMP",
    "met.temp",
    " met.TEMP ",
    "back\\slash.tab\tline\nquote\"'",
    "x" * 63 + "." + "K" * 2000,
]
"""Names that a service and its keyword may have, so that they can be loaded and found."""
NOBODY = [
    "",
    ".",
    "met",
    ".TEMP",
    "met\0.TEMP",
    "met.TEMP\0",
    "met.\ud800",
    "\udfff.TEMP",
    "public.met.TEMP",
    '"met".TEMP',
    "x" * 64 + ".K",
    "x" * 100_000 + ".K",
    "met." + "K" * 100_000,
    "pg_stat_activity.query",
    "pg_class.relname",
]
"""Names that can only be asked for."""


@pytest.fixture
def history(url):
    opened = PostgresHistory(url)
    yield opened
    opened.close()


@pytest.fixture
def tell(server, database):
    """Return what makes the test's database do something."""
    return lambda statement: server.tell(statement, database)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples(TEXT), INSTANTS, TIME, TIME)
def test_the_last_value_at_or_before_a_time_is_found(tell, url, rows, instants, begin, end):
    tell("DROP SCHEMA public CASCADE")
    tell("CREATE SCHEMA public")
    assert load_history(url, rows) == len(rows)
    history = open_history(url)
    told = history.as_of(ASKED, instants)
    numbers = history.during(ASKED, begin, end)
    history.close()
    assert told == [expected_as_of(rows, instant) for instant in instants]
    assert numbers == expected_during(rows, begin, end)


def test_a_night_is_told_as_by_the_embedded_history(tmp_path, url):
    telemetry = kpf_night.make_night(tmp_path / "data").telemetry
    rows = list(read_samples(telemetry))
    names = sorted({name for name, _, _ in rows})
    times = sorted(time for _, time, _ in rows)
    instants = [times[0] - 1, times[0], times[len(times) // 2], times[-1] + 1]
    answers = []
    for place in (f"sqlite:///{tmp_path / 'history.db'}", url):
        load_history(place, rows)
        history = open_history(place)
        answers.append((history.as_of(names, instants), history.during(names, instants[1], instants[2])))
        history.close()
    assert answers[0] == answers[1]
    assert answers[0][0][-1].keys() == set(names)


def test_an_l0_is_the_same_from_either_history(night, found, make, history_url, url, tmp_path):
    load_history(url, read_samples(night.telemetry))
    made = []
    for place in (history_url, url):
        path = make(found, place).path
        made.append(path.read_bytes())
        path.unlink()
    assert made[0] == made[1]


def test_a_name_is_never_a_piece_of_a_statement(tell, url, history):
    rows = [("met.TEMP", 1.0, "20")] + [(name, 1.0, f"value {n}") for n, name in enumerate(ODD)]
    load_history(url, rows)
    tables = tell("SELECT count(*) FROM pg_class WHERE relkind = 'r'")
    expected = {name: Sample(time=1.0, value=value) for name, _, value in rows}
    assert history.as_of([*NOBODY, *expected], [2.0, 0.0]) == [expected, {}]
    assert history.during([*NOBODY, *expected], 0, 2) == {name: aggregate([(1.0, value)]) for name, _, value in rows}
    for name in NOBODY:
        assert history.as_of([name], [2.0]) == [{}], name
        assert history.during([name], 0, 2) == {}, name
    assert tell("SELECT count(*) FROM pg_class WHERE relkind = 'r'") == tables


def test_nothing_asked_is_nothing_told(url, history):
    load_history(url, [("met.TEMP", 1.0, "20")])
    assert history.as_of([], [1.0, 2.0]) == [{}, {}]
    assert history.as_of(["met.TEMP"], []) == []
    assert history.during([], 0, 9) == {}
    assert history.during(["met.TEMP"], 9, 0) == {}


def test_a_name_that_is_asked_for_twice_is_told(url, history):
    load_history(url, [("met.TEMP", 1.0, "20")])
    assert history.as_of(["met.TEMP", "met.TEMP"], [1.0, 1.0]) == [{"met.TEMP": Sample(time=1.0, value="20")}] * 2
    assert history.during(["met.TEMP", "met.TEMP"], 0, 9)["met.TEMP"].samples == 1


def test_of_samples_of_the_same_time_always_the_same_is_told(tell, history):
    tell(TABLE)
    for values in (["9", "10", "a", "B"], ["B", "a", "10", "9"]):
        tell("TRUNCATE met")
        for value in values:
            tell(f"INSERT INTO met VALUES (1, 'TEMP', NULL, '{value}', 0, 0)")
        assert history.as_of(["met.TEMP"], [1.0]) == [{"met.TEMP": Sample(time=1.0, value="a")}]
        assert history.during(["met.TEMP"], 1.0, 1.0) == {"met.TEMP": aggregate([(1.0, v) for v in ("10", "9", "B", "a")])}


@pytest.mark.parametrize("time", ["NULL", "'nan'", "'infinity'", "'-infinity'"])
def test_a_row_without_a_time_is_no_sample(tell, history, time):
    tell(TABLE)
    tell(f"INSERT INTO met VALUES ({time}, 'TEMP', '0', '0', 0, 0), ({time}, 'ONLY', '0', '0', 0, 0), (1, 'TEMP', '1', '1', 0, 0)")
    assert history.as_of(["met.TEMP", "met.ONLY"], [0.0, 1e300]) == [{}, {"met.TEMP": Sample(time=1.0, value="1")}]
    for begin in (-1e300, -math.inf):
        assert history.during(["met.TEMP", "met.ONLY"], begin, -begin) == {"met.TEMP": aggregate([(1.0, "1")])}


def test_the_value_is_in_either_column_and_a_row_without_any_is_no_sample(tell, history):
    tell(TABLE)
    tell(
        "INSERT INTO met VALUES (1, 'K', '1', 'one', 0, 0), (2, 'K', '2', NULL, 0, 0), (3, 'K', NULL, NULL, 0, 0), (3, NULL, '', '', 0, 0)"
    )
    told = [told["met.K"].value for told in history.as_of(["met.K"], [1, 2, 3])]
    assert told == ["one", "2", "2"]
    assert history.during(["met.K"], 0, 9) == {"met.K": aggregate([(1.0, "one"), (2.0, "2")])}


def test_more_samples_than_are_fetched_at_a_time_are_all_counted(url, history, monkeypatch):
    monkeypatch.setattr(postgres, "_BATCH", 7)
    rows = [(f"met.K{n % 3}", float(n), str(n)) for n in range(100)]
    load_history(url, rows)
    told = history.during(["met.K0", "met.K1", "met.K2"], 0, 99)
    assert told == {f"met.K{k}": aggregate([(t, v) for _, t, v in rows[k::3]]) for k in range(3)}


def test_a_table_that_is_made_later_is_noticed(url, history):
    assert history.as_of(["met.TEMP"], [9.0]) == [{}]
    load_history(url, [("met.TEMP", 1.0, "20")])
    assert history.as_of(["met.TEMP"], [9.0]) == [{"met.TEMP": Sample(time=1.0, value="20")}]


def test_a_table_that_goes_is_noticed(tell, url, history):
    load_history(url, [("met.TEMP", 1.0, "20")])
    history.as_of(["met.TEMP"], [9.0])
    tell("DROP TABLE met")
    with pytest.raises(TelemetryError, match="does not exist") as told:
        history.as_of(["met.TEMP"], [9.0])
    assert told.value.retry
    assert history.as_of(["met.TEMP"], [9.0]) == [{}]


def test_a_table_of_another_form_is_no_service(tell, history):
    tell("CREATE TABLE met (time double precision, keyword text, value text)")
    assert history.as_of(["met.TEMP"], [9.0]) == [{}]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_read(server, database, encoding):
    name = f"{database}_{encoding.lower()}"
    server.tell(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    server.tell(TABLE, name)
    server.tell(
        "SET client_encoding = 'SQL_ASCII'; INSERT INTO met VALUES (1, 'DEG', NULL, E'20 \\xb0', 0, 0), (1, 'OK', NULL, 'y', 0, 0)", name
    )
    history = PostgresHistory(server.url(name))
    (told,) = history.as_of(["met.DEG", "met.OK", "met.温度", "温度.OK"], [9.0])
    history.close()
    assert {n: s.value for n, s in told.items()} == {"met.DEG": {"LATIN1": "20 °", "SQL_ASCII": "20 \ufffd"}[encoding], "met.OK": "y"}


def test_the_index_answers(tell, url, history):
    load_history(url, ((f"met.K{n % 50}", float(n), str(n)) for n in range(20_000)))
    names = [f"met.K{n}" for n in range(50)]
    history.as_of(names, [1.0])
    connection = history._connection
    for template, parameters in ((postgres._AS_OF, [[1e4, 2e4]]), (postgres._DURING, [10_000.0, 10_100.0])):
        statement, asked = history._statement(connection, template, names, parameters)
        plan = "\n".join(line for (line,) in connection.execute(psycopg.sql.SQL("EXPLAIN ") + statement, asked))
        assert "Seq Scan" not in plan, plan
        assert "met_keyword_time_idx" in plan, plan


def test_loading_twice_changes_nothing(tell, url):
    rows = [("met.TEMP", 1.0, "20"), ("met.TEMP", 2.0, "21")]
    assert load_history(url, rows) == load_history(url, iter(rows)) == 2
    assert tell("SELECT * FROM met ORDER BY time") == [(1.0, "TEMP", "20", "20", 0, 0), (2.0, "TEMP", "21", "21", 0, 0)]


def test_of_the_same_keyword_and_time_the_last_line_counts(tell, url):
    load_history(url, [("met.TEMP", 1.0, "0"), ("met.TEMP", 2.0, "1")])
    tell("INSERT INTO met VALUES (1, 'TEMP', '0', '0', 3, 0)")
    assert load_history(url, [("met.TEMP", 1.0, "z"), ("met.TEMP", 1.0, "a"), ("dome.TEMP", 1.0, "c")]) == 3
    assert tell("SELECT time, ascvalue FROM met ORDER BY time") == [(1.0, "a"), (2.0, "1")]


def test_a_load_that_fails_half_way_leaves_nothing(tell, url, history):
    load_history(url, [("met.TEMP", 1.0, "20")])

    def breaks():
        yield "met.TEMP", 2.0, "21"
        yield "dome.TEMP", 2.0, "600"
        raise ConfigurationError("line 3 is wrong")

    with pytest.raises(ConfigurationError, match="line 3"):
        load_history(url, breaks())
    assert history.as_of(["met.TEMP", "dome.TEMP"], [9.0]) == [{"met.TEMP": Sample(time=1.0, value="20")}]
    assert tell("SELECT count(*) FROM pg_class WHERE relname = 'dome'") == [(0,)]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("met.TEMP", 1.0, "a\0b"), "'met.TEMP' at 1.0: .* NUL"),
        (("met.TE\0MP", 1.0, "ab"), r"'met.TE\\x00MP' at 1.0: .* NUL"),
        (("m\0t.TEMP", 1.0, "ab"), "NUL"),
        (("met.TEMP", 1.0, "\ud800"), "half a character"),
        (("\ud800.TEMP", 1.0, ""), "half a character"),
        (("x" * 64 + ".TEMP", 1.0, "ab"), "63 bytes"),
        (("é" * 32 + ".TEMP", 1.0, "ab"), "63 bytes"),
        ((".TEMP", 1.0, "ab"), "63 bytes"),
    ],
)
def test_what_postgresql_cannot_keep_is_refused_with_all_that_came_with_it(tell, url, row, told):
    with pytest.raises(ConfigurationError, match=told):
        load_history(url, [("met.TEMP", 1.0, "20"), row, ("met.TEMP", 2.0, "20")])
    assert tell("SELECT count(*) FROM pg_class WHERE relname = 'met'") == [(0,)]


@pytest.mark.parametrize("service", ["met", "pg_class"])
def test_a_table_that_is_no_service_is_left_alone(tell, url, service):
    tell("CREATE TABLE met (x text)")
    with pytest.raises(TelemetryError, match=f"{service}: in PostgreSQL there is another kind of table") as told:
        load_history(url, [("dome.TEMP", 1.0, "20"), (f"{service}.TEMP", 1.0, "20")])
    assert not told.value.retry
    assert tell("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname <> 'met'") == [(0,)]


def test_many_services_are_loaded_and_asked_at_once(url, history):
    rows = [(f"service{n}.K", float(n), str(n)) for n in range(300)]
    assert load_history(url, iter(rows)) == 300
    assert history.as_of([n for n, _, _ in rows], [1e3]) == [{n: Sample(time=t, value=v) for n, t, v in rows}]


def test_samples_are_not_gathered_before_they_are_loaded(server, url, database):
    """The server has the first ones while later ones are still to come."""
    seen = []

    def watched():
        for n in range(20_000):
            yield "met.TEMP", float(n), "x" * 100
        seen.append(server.tell(f"SELECT tuples_processed FROM pg_stat_progress_copy WHERE datname = '{database}'"))

    load_history(url, watched())
    ((count,),) = seen[0]
    assert count > 10_000


def test_without_psycopg_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "assembler.telemetry.postgres")
    monkeypatch.delattr("assembler.telemetry.postgres")
    for attempt in (open_history, lambda url: load_history(url, [])):
        with pytest.raises(ConfigurationError, match=r"l0-assembler\[postgres\]"):
            attempt("postgresql://host/db")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@host:port/db",
        "postgresql://u:hunter2@host:54x/db",
        "postgresql://u:hunter2@[::1/db",
        "postgresql://u:hunter2@host/db?nonsense=1",
        "postgresql://u:hunter2@host/db?sslmode",
        "postgresql://u:hunter2%zz@host/db",
        "postgresql://u:hunter2\0@host/db",
        "postgresql://u:hunter2@hunter2@host/db",
        "postgresql://u:hunter2/hunter2@host/db",
        "postgresql://u:12/hunter2@host/db",
        "postgresql://u:hunter2\ud800@host/db",
    ],
)
def test_a_malformed_url_is_a_usage_error_that_keeps_the_password(url):
    for attempt in (open_history, lambda url: load_history(url, [])):
        with pytest.raises(ConfigurationError, match="postgresql://USER@HOST:PORT/DATABASE") as told:
            attempt(url)
        assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("url", ["mysql://u:hunter2@host/db", "mysql://host/db?password=hunter2", "host=x password=hunter2"])
def test_the_url_of_another_kind_keeps_its_password(url):
    for attempt in (open_history, lambda url: load_history(url, [])):
        with pytest.raises(ConfigurationError, match="expected sqlite:///PATH") as told:
            attempt(url)
        assert "hunter2" not in str(told.value)


def test_opening_calls_nobody():
    open_history("postgresql://nobody.invalid/db").close()
    open_history("postgres://nobody.invalid/db").close()
