"""CSV and JSON lines: every line becomes a sample, or the line that does not is named."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.errors import ConfigurationError
from assembler.telemetry.load import read_samples

HEADER = "service,keyword,time,value\n"
FIELD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)


@given(st.lists(st.tuples(FIELD, FIELD, st.floats(-1e10, 1e10), FIELD), max_size=10))
def test_what_csv_writes_is_read_back(tmp_path_factory, rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("service", "keyword", "time", "value"), *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    assert list(read_samples(path)) == [(f"{s}.{k}", t, v) for s, k, t, v in rows]


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
        list(read_samples(path))


def test_what_cannot_be_read_is_one_clear_error(tmp_path):
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"met,TEMP,1,\xe9\n")
    for name in ("latin.csv", "nothing.csv", "."):
        with pytest.raises(ConfigurationError, match=r".+"):
            list(read_samples(tmp_path / name))


def test_columns_may_come_in_any_order_and_more_of_them(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\ufefftime,host,value,keyword,service\n1.5,kpf,20,TEMP,met\n\n", encoding="utf-8")
    assert list(read_samples(path)) == [("met.TEMP", 1.5, "20")]


@given(st.lists(st.tuples(FIELD, FIELD, st.floats(-1e10, 1e10), FIELD), max_size=10))
def test_what_json_writes_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("jsonl") / "t.JSONL"
    lines = [json.dumps(dict(zip(("time", "value", "service", "keyword"), (t, v, s, k), strict=True))) for s, k, t, v in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    assert list(read_samples(path)) == [(f"{s}.{k}", t, v) for s, k, t, v in rows]


def test_numbers_stay_as_they_are_written_and_null_is_no_sample(tmp_path):
    path = tmp_path / "t.jsonl"
    values = ["1.430", "-3", "9.5E-06", "true", "false", "null", '"text, \\u00e9\\n"', "123456789012345678901234567890"]
    path.write_text("".join(f'{{"service":"a","keyword":"b","time":{n},"value":{v},"host":null}}\r\n\n' for n, v in enumerate(values)))
    assert [(time, value) for _, time, value in read_samples(path)] == [
        (0.0, "1.430"),
        (1.0, "-3"),
        (2.0, "9.5E-06"),
        (3.0, "true"),
        (4.0, "false"),
        (6.0, "text, é\n"),
        (7.0, "123456789012345678901234567890"),
    ]


GOOD = '{"service": "met", "keyword": "TEMP", "time": 1, "value": 20}'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("met,TEMP,1,20", "is no JSON: "),
        (GOOD[:-1], "is no JSON: "),
        (GOOD * 2, "is no JSON: "),
        ("[" * 100_000, "is no JSON: "),
        ("[]", "is no JSON object"),
        ('{"service": "met", "value": 1}', "no keyword, time; expected"),
        (GOOD.replace('"TEMP"', "null"), "service and keyword are to be strings"),
        (GOOD.replace("1", "true"), "time 'true' is not UNIX seconds"),
        (GOOD.replace("1", "NaN"), "time 'NaN' is not UNIX seconds"),
        (GOOD.replace("1", "1e300"), "time '1e300' is not UNIX seconds"),
        (GOOD.replace("1", "[1]"), "is not UNIX seconds"),
        (GOOD.replace("20", "[20]"), "neither a string, a number, true, false nor null"),
        (GOOD.replace("20", '"\\ud800"'), "half of a character"),
    ],
)
def test_the_line_of_json_that_is_wrong_is_named(tmp_path, line, told):
    path = tmp_path / "t.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(ConfigurationError, match=f"t.jsonl:3: .*{told}"):
        list(read_samples(path))


def test_what_is_no_jsonl_in_its_name_is_read_as_csv(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(HEADER + "met,TEMP,1,20\n")
    assert list(read_samples(path)) == [("met.TEMP", 1.0, "20")]
    (tmp_path / "latin.jsonl").write_bytes(b'{"service": "\xe9"}\n')
    for name in ("latin.jsonl", "nothing.jsonl"):
        with pytest.raises(ConfigurationError, match=r"is no JSON lines in UTF-8|cannot be read"):
            list(read_samples(tmp_path / name))
