"""The history in a PostgreSQL server that is away, slow, frozen or unwilling: a question ends, and says whether to ask again."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest

from assembler.core.samples import NOTHING, Sample
from assembler.errors import TelemetryError
from assembler.telemetry import postgres
from assembler.telemetry.history import load_history
from assembler.telemetry.postgres import PostgresHistory
from assembler.telemetry.postgres_server import Server

ROWS = [("met.TEMP", 1.0, "20"), ("met.TEMP", 2.0, "21"), ("dome.TEMP", 1.0, "9")]
ANSWER = [{"met.TEMP": Sample(time=2.0, value="21"), "dome.TEMP": Sample(time=1.0, value="9")}]
PATIENCE = 60
"""What is waited for before a test fails [s]."""

OURS = "application_name = 'l0-assembler'"
QUESTIONS = [
    pytest.param(lambda history: history.as_of(["met.TEMP", "dome.TEMP"], [9.0]), id="as_of"),
    pytest.param(lambda history: history.during(["met.TEMP", "dome.TEMP"], 0, 9), id="during"),
]


@pytest.fixture
def loaded(url):
    load_history(url, ROWS)
    return url


@pytest.fixture
def history(loaded):
    opened = PostgresHistory(loaded, timeout=PATIENCE)
    yield opened
    opened.close()


def ask(history):
    return history.as_of(["met.TEMP", "dome.TEMP"], [9.0])


def wait_until(condition):
    """Return what a condition comes to, once it comes to something."""
    deadline = time.monotonic() + PATIENCE
    while not (told := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return told


@contextmanager
def waiting(server, database, history, question):
    """Ask a question that waits for a lock; yield the server process that waits, and what comes of the question."""
    with closing(server.connect(database)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute("LOCK TABLE met IN ACCESS EXCLUSIVE MODE")
        asked = pool.submit(question, history)
        found = f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND datname = '{database}' AND wait_event_type = 'Lock'"
        ((process,),) = wait_until(lambda: server.tell(found))
        yield process, asked


def sessions(server, database):
    return server.tell(f"SELECT state FROM pg_stat_activity WHERE {OURS} AND datname = '{database}'")


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_server_that_stops_in_the_middle_is_asked_again_when_it_is_back(server, database, history, question):
    before = question(history)
    try:
        with waiting(server, database, history, question) as (_, asked):
            server.stop()
            error = asked.exception(PATIENCE)
        assert isinstance(error, TelemetryError)
        assert error.retry, error
        with pytest.raises(TelemetryError) as told:
            question(history)
        assert told.value.retry, told.value
    finally:
        server.start()
    assert question(history) == before


def test_a_server_that_was_restarted_unnoticed_is_asked_again(server, history):
    assert ask(history) == ANSWER
    server.stop()
    server.start()
    with pytest.raises(TelemetryError) as told:
        ask(history)
    assert told.value.retry, told.value
    assert ask(history) == ANSWER


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_to_a_frozen_server_can_be_ended(server, database, history, question):
    before = question(history)
    with waiting(server, database, history, question) as (process, asked):
        os.kill(process, signal.SIGSTOP)
        try:
            history.interrupt()
            error = asked.exception(PATIENCE)
            assert isinstance(error, TelemetryError)
            assert error.retry, error
            assert "interrupted" in str(error)
        finally:
            os.kill(process, signal.SIGCONT)
    assert question(history) == before


def test_an_interruption_without_a_question_does_nothing(history):
    history.interrupt()
    assert ask(history) == ANSWER
    history.interrupt()
    assert ask(history) == ANSWER


def test_an_interruption_while_the_connection_is_made_ends_the_question(history, monkeypatch):
    connect = psycopg.connect

    def interrupted(**parameters):
        made = connect(**parameters)
        history.interrupt()
        return made

    with monkeypatch.context() as patch:
        patch.setattr(psycopg, "connect", interrupted)
        with pytest.raises(TelemetryError, match="interrupted") as told:
            ask(history)
    assert told.value.retry
    assert ask(history) == ANSWER


def test_an_interruption_that_comes_too_late_does_not_reach_the_next_question(history, monkeypatch):
    statement = PostgresHistory._statement

    def late(self, *arguments):
        told = statement(self, *arguments)
        self._socket, kept = None, self._socket  # as if the answer were just there
        self.interrupt()
        self._socket = kept
        return told

    with monkeypatch.context() as patch:
        patch.setattr(PostgresHistory, "_statement", late)
        assert ask(history) == ANSWER
    assert ask(history) == ANSWER


def test_a_server_that_takes_a_call_but_says_nothing_is_given_up():
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        history = PostgresHistory(f"postgresql://u:hunter2@127.0.0.1:{silent.getsockname()[1]}/db")
        with pytest.raises(TelemetryError, match="timeout") as told:
            ask(history)
        history.close()
    assert told.value.retry
    assert "hunter2" not in str(told.value)


def test_a_server_that_is_not_there_may_come():
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        port = nobody.getsockname()[1]
    for hosts in (f"127.0.0.1:{port}", f"127.0.0.1:{port},localhost:{port}"):
        url = f"postgresql://u:hunter2@{hosts}/db"
        history = PostgresHistory(url)
        for attempt in (lambda history=history: ask(history), lambda url=url: load_history(url, ROWS)):
            with pytest.raises(TelemetryError, match=f"^PostgreSQL at {hosts}/db: ") as told:
                attempt()
            assert told.value.retry, told.value
            assert "hunter2" not in str(told.value)
            assert "\n" not in str(told.value)
        history.close()


def test_a_statement_that_takes_too_long_is_ended_by_the_server(server, database, loaded):
    history = PostgresHistory(loaded, timeout=0.05)
    for question in (ask, lambda history: history.during(["met.TEMP"], 0, 9)):
        with closing(server.connect(database)) as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE met IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(TelemetryError, match="statement timeout") as told:
                question(history)
        assert told.value.retry
    history.close()


def test_the_session_can_read_only_and_tells_its_name(server, database, history):
    ask(history)
    assert sessions(server, database) == [("idle",)]
    for statement in ("INSERT INTO met VALUES (3, 'TEMP')", "DROP TABLE met", "CREATE TABLE x (y int)"):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            history._connection.execute(statement)


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_transaction_stays_open_after_a_question(server, database, history, question):
    question(history)
    wait_until(lambda: sessions(server, database) == [("idle",)])
    history.close()
    wait_until(lambda: sessions(server, database) == [])


def test_samples_are_fetched_as_they_are_counted(server, database, history, monkeypatch):
    """The server has more of them while the first ones are counted."""
    seen = []

    def watched(broadcasts):
        for one in broadcasts:
            seen.append((one, *sessions(server, database)))
        return NOTHING

    monkeypatch.setattr(postgres, "_BATCH", 1)
    monkeypatch.setattr(postgres, "aggregate", watched)
    history.during(["met.TEMP"], 0, 9)
    assert seen == [((time, value), ("idle in transaction",)) for _, time, value in ROWS[:2]]


def test_one_connection_is_kept(server, database, history):
    pids = set()
    for _ in range(10):
        ask(history)
        history.during(["met.TEMP"], 0, 9)
        pids.add(history._connection.info.backend_pid)
    assert len(pids) == 1


def test_a_closed_history_answers_nothing(server, database, history):
    history.close()
    with pytest.raises(TelemetryError, match="closed") as told:
        ask(history)
    assert not told.value.retry
    history.close()
    assert sessions(server, database) == []


def test_closing_ends_a_question_of_another_thread(server, database, history):
    with waiting(server, database, history, ask) as (_, asked):
        history.close()
        assert isinstance(asked.exception(PATIENCE), TelemetryError)
    wait_until(lambda: sessions(server, database) == [])


def test_what_does_not_get_better_by_itself_is_not_asked_again(server, database, loaded):
    server.tell("CREATE ROLE guest LOGIN; CREATE ROLE locked LOGIN PASSWORD 'hunter2'; CREATE ROLE stranger", database)
    server.restrict("locked")
    server.tell("CREATE TABLE wrong (time text, keyword text, ascvalue text, binvalue text)", database)
    try:
        for url, name, expected in (
            (server.url("nowhere"), "met.TEMP", 'database "nowhere" does not exist'),
            (server.url(database, "nobody"), "met.TEMP", 'role "nobody" does not exist'),
            (server.url(database, "stranger"), "met.TEMP", "not permitted to log in"),
            (server.url(database, "locked"), "met.TEMP", "no password supplied"),
            (server.url(database, "locked:hunter3"), "met.TEMP", "password authentication failed"),
            (server.url(database, "guest"), "met.TEMP", "permission denied for table met"),
            (loaded, "wrong.TEMP", "operator does not exist"),
        ):
            history = PostgresHistory(url)
            with pytest.raises(TelemetryError, match=expected) as told:
                history.as_of([name], [9.0])
            history.close()
            assert not told.value.retry, told.value
            assert "hunter" not in str(told.value)
            assert "\n" not in str(told.value)
        right = PostgresHistory(server.url(database, "locked:hunter2"))
        with pytest.raises(TelemetryError, match="permission denied for table met"):
            ask(right)
        right.close()
    finally:
        server.tell("DROP ROLE guest; DROP ROLE locked; DROP ROLE stranger", database)


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (psycopg.OperationalError("connection failed: FATAL:  the database system is starting up"), True),
        (psycopg.OperationalError("connection failed: FATAL:  the database system is in recovery mode"), True),
        (psycopg.OperationalError("connection failed: FATAL:  sorry, too many clients already"), True),
        (psycopg.OperationalError("connection is bad: Temporary failure in name resolution"), True),
        (psycopg.OperationalError("consuming input failed: SSL connection has been closed unexpectedly"), True),
        (psycopg.OperationalError("connection failed: server does not support SSL, but SSL was required"), False),
        (psycopg.OperationalError('connection failed: FATAL:  no pg_hba.conf entry for host "10.0.0.1"'), False),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.CannotConnectNow(), True),
        (psycopg.errors.SerializationFailure(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.InsufficientPrivilege(), False),
        (psycopg.errors.UndefinedColumn(), False),
        (psycopg.errors.InternalError_(), False),
        (psycopg.ProgrammingError("the query has 1 placeholder but 2 parameters were passed"), False),
        (OSError(24, "Too many open files"), True),
    ],
)
def test_which_trouble_may_pass(error, retry):
    assert Server("postgresql://host/db").trouble(error).retry is retry


def test_a_load_that_loses_its_server_adds_nothing(server, database, loaded, history):
    def stopped():
        yield "met.TEMP", 3.0, "22"
        server.tell(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND application_name = 'l0-assembler'"
        )
        for number in range(1_000_000):
            yield "met.TEMP", 4.0 + number, "23"

    with pytest.raises(TelemetryError) as told:
        load_history(loaded, stopped())
    assert told.value.retry, told.value
    assert ask(history) == ANSWER


def test_two_loads_at_once_add_the_same_samples_once(server, database, loaded):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: load_history(loaded, [*ROWS, ("new.K", 1.0, "x")]), range(4))) == [4] * 4
    assert server.tell("SELECT (SELECT count(*) FROM met), (SELECT count(*) FROM new)", database) == [(2, 1)]
