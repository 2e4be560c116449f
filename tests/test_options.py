"""What commands share: where the journal is, and how signals stop them."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.options import default_journal, stopped_by_signals

HOME = Path("/home/kpf")


def test_the_journal_is_in_the_state_directory_of_the_user():
    assert default_journal("kpf", {}, HOME) == HOME / ".local/state/l0-assembler/kpf.sqlite"
    assert default_journal("kpf", {"XDG_STATE_HOME": "/state"}, HOME) == Path("/state/l0-assembler/kpf.sqlite")
    assert default_journal("kpf", {"XDG_STATE_HOME": "state"}, HOME) == HOME / ".local/state/l0-assembler/kpf.sqlite"


@given(st.text())
def test_no_name_of_an_instrument_leads_out_of_it(name):
    path = default_journal(name, {}, HOME)
    assert path.parent == HOME / ".local/state/l0-assembler"
    assert path.name.isascii()
    assert path.name.isprintable()


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_is_done_at_once_and_what_is_patient_with_the_second_one(number, capfd):
    with stopped_by_signals() as stop, pytest.raises(KeyboardInterrupt):
        send(number)
    assert (stop.asked, stop.insisted) == (True, False)
    with stopped_by_signals() as stop, stop.patient():
        send(number)
        assert (stop.asked, stop.insisted) == (True, False)
        assert "stopping when what is in hand is finished" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            raise AssertionError("this is not begun")
        with pytest.raises(KeyboardInterrupt):
            send(number)
        assert stop.insisted


def test_what_is_to_end_at_once_does_so_where_all_else_is_patient(capfd):
    with stopped_by_signals() as stop, stop.patient():
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            send(signal.SIGTERM)
        assert (stop.asked, stop.insisted) == (True, False)
    assert capfd.readouterr().err == ""


def test_a_signal_that_is_ignored_as_nohup_has_it_stays_ignored_and_others_are_as_they_were_before():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    others = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with stopped_by_signals() as stop:
            send(signal.SIGHUP)
        assert not stop.asked
        assert [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)] == [signal.SIG_IGN, *others]
    finally:
        signal.signal(signal.SIGHUP, before)
