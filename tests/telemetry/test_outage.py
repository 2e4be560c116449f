"""An exposure while the history's server is in trouble: the L0 is made, and says how it was made."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from assembler.fits.blocks import scan
from assembler.service.replay import open_history
from assembler.telemetry.load import read_samples
from assembler.telemetry.patience import Patience
from assembler.telemetry.urls import load_history

SHORT, LONG = 1.0, 60.0
"""How long an exposure waits for a server that does not come back, and for one that does [s]."""

LOCKED = "SELECT pid FROM pg_stat_activity WHERE application_name = 'l0-assembler' AND wait_event_type = 'Lock'"


@pytest.fixture
def loaded(night, url) -> str:
    load_history(url, read_samples(night.telemetry))
    return url


@contextmanager
def lent(url: str, seconds: float) -> Iterator[Patience]:
    patience = Patience(open_history(url, LONG), seconds)
    yield patience
    patience.close()


@contextmanager
def in_the_middle(server, database: str, done: list) -> Iterator[None]:
    """Have a question wait for a lock, and do something to its process then; in a thread, beside the exposure."""
    asked = threading.Event()

    def watch() -> None:
        while not asked.is_set():
            waiting = server.tell(LOCKED)
            if waiting:
                done[0](waiting[0][0])
                return

    with closing(server.connect(database)) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE dcs1 IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            asked.set()
            thread.join()


def trouble(outcome) -> dict[str, str]:
    return {f.code: f.message for f in outcome.plan.findings if f.code == "history-unavailable"}


def is_without_telemetry(path: Path) -> bool:
    images = scan(str(path)).hdus[0].images
    return any(i.startswith("COMMENT Not available: TARGNAME") for i in images) and not any(i.startswith("TARGNAME") for i in images)


def test_a_server_that_stops_in_the_middle_of_a_query_costs_the_telemetry_and_no_more(server, database, loaded, found, make):
    try:
        with lent(loaded, SHORT) as patience, in_the_middle(server, database, [lambda _pid: server.stop()]):
            outcome = make(found, patience.exposure())
    finally:
        server.start()
    assert "PostgreSQL at" in trouble(outcome)["history-unavailable"]
    assert is_without_telemetry(outcome.path)
    assert outcome.plan.times.begin is not None


def test_a_server_that_is_restarted_in_the_middle_of_a_query_costs_nothing(server, database, loaded, found, make, history_url, tmp_path):
    def restart(_pid: int) -> None:
        server.stop()
        server.start()

    with lent(loaded, LONG) as patience, in_the_middle(server, database, [restart]):
        outcome = make(found, patience.exposure())
    assert trouble(outcome) == {}
    assert outcome.plan.hdus == make(found, history_url, out=tmp_path / "out").plan.hdus


def test_a_server_that_hangs_costs_the_telemetry_of_one_exposure(server, database, loaded, found, make, tmp_path):
    frozen: list[int] = []

    def freeze(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        frozen.append(pid)

    with lent(loaded, SHORT) as patience:
        try:
            with in_the_middle(server, database, [freeze]):
                outcome = make(found, patience.exposure(), out=tmp_path / "first")
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert "no answer within 1 s" in trouble(outcome)["history-unavailable"]
        assert is_without_telemetry(outcome.path)
        after = make(found, patience.exposure(), out=tmp_path / "second")
    assert trouble(after) == {}
    assert not is_without_telemetry(after.path)


def test_a_server_that_is_not_there_costs_the_telemetry(found, make, tmp_path):
    with lent(f"postgresql://postgres@/none?host={tmp_path}", SHORT) as patience:
        outcome = make(found, patience.exposure())
    assert "history-unavailable" in trouble(outcome)
    assert is_without_telemetry(outcome.path)


def test_a_server_full_of_nonsense_costs_the_telemetry_at_once(server, database, loaded, found, make):
    server.tell("ALTER TABLE dcs1 DROP COLUMN time; ALTER TABLE dcs1 ADD COLUMN time text; UPDATE dcs1 SET time = 'noon'", database)
    with lent(loaded, LONG) as patience:
        outcome = make(found, patience.exposure())
    assert "history-unavailable" in trouble(outcome)
    assert is_without_telemetry(outcome.path)
