"""Tables: what astropy and we read back is what was put in."""

import io

from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.tables import Column, Table, read_table

COLUMNS = (
    Column(name="text", form="A"),
    Column(name="count", form="J"),
    Column(name="number", form="D", unit="C"),
    Column(name="yes", form="L"),
)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(str.rstrip)
ROWS = st.lists(
    st.tuples(TEXT, st.integers(-(2**31), 2**31 - 1), st.one_of(st.none(), st.floats(allow_nan=False)), st.booleans()), max_size=20
)


@given(ROWS)
def test_a_table_comes_back(rows):
    table = Table.of_rows("TEST", COLUMNS, rows)
    again = read_table(table.cards(), table.data() + bytes(100))
    assert again.rows == table.rows
    assert [(c.name, c.form, c.unit) for c in again.columns] == [(c.name, c.form, c.unit) for c in COLUMNS]


@given(ROWS)
def test_astropy_reads_it_alike(rows):
    table = Table.of_rows("TEST", COLUMNS, rows)
    header, data = "".join((*table.cards(), "END".ljust(80))), table.data()
    primary = "".join(
        c.ljust(80) for c in ("SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0", "END")
    )
    whole = primary.ljust(2880) + header.ljust(-(-len(header) // 2880) * 2880)
    with fits.open(io.BytesIO(whole.encode() + data.ljust(-(-len(data) // 2880) * 2880, b"\0"))) as hdus:
        found = hdus["TEST"].data
        assert [str(v) for v in found["text"]] == [r[0] for r in rows]
        assert [int(v) for v in found["count"]] == [r[1] for r in rows]
        assert [bool(v) for v in found["yes"]] == [r[3] for r in rows]
