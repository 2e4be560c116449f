"""What commands share: where the journal is."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from assembler.options import default_journal

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
