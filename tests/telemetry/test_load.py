"""CSV: every line becomes a sample, or the line that does not is named."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.errors import ConfigurationError
from assembler.telemetry.load import read_csv

HEADER = "service,keyword,time,value\n"
FIELD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)


@given(st.lists(st.tuples(FIELD, FIELD, st.floats(-1e10, 1e10), FIELD), max_size=10))
def test_what_csv_writes_is_read_back(tmp_path_factory, rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("service", "keyword", "time", "value"), *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    assert list(read_csv(path)) == [(f"{s}.{k}", t, v) for s, k, t, v in rows]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r":1: no column service, keyword, time, value"),
        ("service,keyword,value\n", r":1: no column time"),
        (HEADER + "met,TEMP,noon,20\n", r":2: time 'noon' is not UNIX seconds"),
        (HEADER + "met,TEMP,1,20\nmet,TEMP,nan,20\n", r":3: time 'nan'"),
        (HEADER + "met,TEMP,1e300,20\n", r":2: time '1e300'"),
        (HEADER + "met,TEMP,1\n", r":2: 3 fields, expected 4"),
        (HEADER + 'met,TEMP,1,"20\n', r"is no CSV"),
    ],
)
def test_the_line_that_is_wrong_is_named(tmp_path, text, told):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        list(read_csv(path))


def test_what_cannot_be_read_is_one_clear_error(tmp_path):
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"met,TEMP,1,\xe9\n")
    for name in ("latin.csv", "nothing.csv", "."):
        with pytest.raises(ConfigurationError, match=r".+"):
            list(read_csv(tmp_path / name))


def test_columns_may_come_in_any_order_and_more_of_them(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\ufefftime,host,value,keyword,service\n1.5,kpf,20,TEMP,met\n\n", encoding="utf-8")
    assert list(read_csv(path)) == [("met.TEMP", 1.5, "20")]
