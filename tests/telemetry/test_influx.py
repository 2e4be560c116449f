"""InfluxDB 2 and 3: the same answers as from SQLite, and no other answer is believed."""

import json
import shutil
import socket
import ssl
import subprocess
import tempfile
from contextlib import contextmanager
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from influx_servers import Store, serving

from assembler.core.instants import from_unix
from assembler.core.samples import Sample
from assembler.errors import ConfigurationError, TelemetryError
from assembler.telemetry.influx import open_influx
from assembler.telemetry.sqlite import SqliteHistory, load
from assembler.telemetry.urls import open_history

PLACES = {2: "an%20org/a%20bucket%2F1", 3: "a%20db"}
NAMES = ["met.TEMP", "met.PRES", 'it\'s.a "NAME"; --', "lsst.sal.ESS.temperatureItem0", 'o\\"${r}\n.field\t${x} \\']
TEXT = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=8)
SAMPLES = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 40).map(float), TEXT), max_size=40)
NOON = 1_713_772_800 * 10**9
SECOND = 10**9

both = pytest.mark.parametrize("version", [2, 3])


@contextmanager
def history_of(version, server, token="", timeout=10.0):
    history = open_influx(f"influx{version}://{server.place}/{PLACES[version]}", token, timeout)
    try:
        yield history
    finally:
        history.close()


@pytest.fixture(scope="module", params=[2, 3])
def stored(request):
    """Return a version, a store, and a server that answers from it as that version does."""
    store = Store()
    with serving(store.answer2 if request.param == 2 else store.answer3) as server:
        yield request.param, store, server


@pytest.fixture
def filled(stored):
    """Return an empty store, a history of what is put into it, and their server."""
    version, store, server = stored
    store.clear()
    with history_of(version, server) as history:
        yield store, history, server


@settings(max_examples=60)
@given(SAMPLES, st.lists(st.floats(-1, 41), max_size=3), st.floats(0, 40), st.floats(0, 40))
def test_answers_are_those_of_sqlite(stored, samples, instants, begin, end):
    version, store, server = stored
    store.clear()
    for name, time, value in samples:
        store.write(name, int(time) * SECOND, value)
    with tempfile.TemporaryDirectory() as directory, history_of(version, server) as history:
        load(f"{directory}/history.db", samples)
        other = SqliteHistory(f"{directory}/history.db")
        wanted = [*NAMES, "no.body", "nobody", ".nobody"]
        try:
            assert history.as_of(wanted, instants) == other.as_of(wanted, instants)
            assert history.during(wanted, begin, end) == other.during(wanted, begin, end)
            assert history.during(wanted, -3e9, 9e9) == other.during(wanted, -3e9, 9e9)
        finally:
            other.close()


def test_numbers_and_truth_become_text(filled):
    store, history, _ = filled
    values = {"a.float": 1.43, "a.small": 9.5e-06, "a.int": -3, "a.true": True, "a.false": False, "a.text": 'x, "y"\nz', "a.empty": ""}
    for name, value in values.items():
        store.write(name, NOON, value)
    (told,) = history.as_of([*values, "a.host", "a.time"], [NOON / SECOND])
    assert {name: float(told.pop(name).value) for name in ("a.float", "a.small")} == {"a.float": 1.43, "a.small": 9.5e-06}
    assert {name: sample.value for name, sample in told.items()} == {
        "a.int": "-3",
        "a.true": "true",
        "a.false": "false",
        "a.text": 'x, "y"\nz',
        "a.empty": "",
    }
    assert history.during(["a.small", "a.int", "a.true"], 0, 2e9)["a.small"].average == 9.5e-06


def test_a_number_of_many_noughts_stays_a_number(filled):
    store, history, _ = filled
    store.write("a.b", NOON, 1.2345678e-33)
    assert history.during(["a.b"], 0, 2e9)["a.b"].average == 1.2345678e-33


def test_times_agree_to_the_microsecond_and_below(filled):
    store, history, _ = filled
    seconds = 1713772826.768356
    store.write("a.b", from_unix(seconds) - 500, "before")
    store.write("a.b", from_unix(seconds), "at")
    store.write("a.b", from_unix(seconds) + 1000, "after")
    assert history.as_of(["a.b"], [seconds]) == [{"a.b": Sample(time=seconds, value="at")}]
    assert history.during(["a.b"], seconds, seconds)["a.b"].samples == 1
    store.write("a.c", NOON + 1, "a nanosecond later is the same time in a double")
    assert history.as_of(["a.c"], [NOON / SECOND])[0]["a.c"].time == NOON / SECOND


def test_of_several_series_the_latest_counts_and_of_two_at_once_the_last_text(filled):
    store, history, _ = filled
    for tag, time, value in (("x", 1, "old"), ("y", 3, "b"), ("z", 3, "a"), ("w", 2, "mid")):
        store.write("a.b", time * SECOND, value, tag)
    assert history.as_of(["a.b"], [9.0, 2.5]) == [{"a.b": Sample(time=3.0, value="b")}, {"a.b": Sample(time=2.0, value="mid")}]
    told = history.during(["a.b"], 0.0, 9.0)["a.b"]
    assert (told.samples, told.first.value, told.last.value) == (4, "old", "b")


def test_hundreds_of_names_are_one_question(filled):
    store, history, server = filled
    names = [f"m{n % 7}.f{n}" for n in range(300)]
    for n, name in enumerate(names):
        store.write(name, n * SECOND, str(n))
    before = len(server.questions)
    told = history.as_of(names, [150.0, 1e6, -5.0])
    assert [len(values) for values in told] == [151, 300, 0]
    assert told[1]["m5.f250"] == Sample(time=250.0, value="250")
    # InfluxDB 3: the catalog, and statements that its planner can bear.
    assert len(server.questions) - before == (1 if "influx2" in history._server.name else 1 + 8)
    assert {name: a.samples for name, a in history.during(names, 0.0, 1e6).items()} == dict.fromkeys(names, 1)


def test_the_catalog_is_read_again_for_a_name_that_is_not_in_it():
    store = Store()
    with serving(store.answer3) as server, history_of(3, server) as history:
        store.write("a.b", 0, "1")
        assert list(history.as_of(["a.b"], [1.0])[0]) == ["a.b"]
        assert list(history.as_of(["a.b"], [1.0])[0]) == ["a.b"]
        assert ["information_schema" in q["q"] for q in server.questions] == [True, False, False]
        store.write("a.c", 0, "2")
        assert list(history.as_of(["a.b", "a.c", "d.e"], [1.0])[0]) == ["a.b", "a.c"]
        assert ["information_schema" in q["q"] for q in server.questions[3:]] == [True, False]


def test_a_table_that_has_gone_is_one_error_and_then_no_name():
    store = Store()
    with serving(store.answer3) as server, history_of(3, server) as history:
        store.write("a.b", 0, "1")
        history.as_of(["a.b"], [1.0])
        store.clear()
        with pytest.raises(TelemetryError, match="no such table"):
            history.as_of(["a.b"], [1.0])
        assert history.as_of(["a.b"], [1.0]) == [{}]


@both
def test_the_token_goes_into_the_header_and_nowhere_else(version):
    store = Store()

    def refuses(request, question):
        request.reply(json.dumps({"code": "unauthorized", "message": "no s3cret here"}).encode(), "application/json", 401)

    with serving(store.answer2 if version == 2 else store.answer3) as server, history_of(version, server, "s3cret\n") as history:
        history.during(["a.b"], 0.0, 1.0)
        assert server.headers[0]["Authorization"] == {2: "Token s3cret", 3: "Bearer s3cret"}[version]
        assert server.paths[0] == {2: "/api/v2/query?org=an%20org", 3: "/api/v3/query_sql"}[version]
        assert "s3cret" not in json.dumps(server.questions)
    with serving(refuses) as server, history_of(version, server, "s3cret") as history:
        with pytest.raises(TelemetryError, match=r"INFLUX_TOKEN is not accepted; 401 .*no \*\*\* here") as caught:
            history.as_of(["a.b"], [1.0])
        assert not caught.value.retry
    with (
        serving(store.answer2) as server,
        pytest.raises(ConfigurationError, match="INFLUX_TOKEN") as caught,
        history_of(version, server, "s3\ncret"),
    ):
        pass
    assert "cret" not in str(caught.value)


@both
@pytest.mark.parametrize(
    ("status", "told", "retry"),
    [
        (400, "400 Bad Request: compilation failed", False),
        (401, "set INFLUX_TOKEN; 401", False),
        (403, "set INFLUX_TOKEN; 403", False),
        (404, "is the name right", False),
        (429, "429 Too Many Requests", True),
        (500, "500 Internal Server Error: compilation failed", True),
        (503, "503", True),
    ],
)
def test_a_refusal_says_what_to_do_and_whether_to_ask_again(version, status, told, retry):
    body = {2: {"code": "x", "message": "compilation failed"}, 3: {"error": "compilation failed"}}[version]
    assert_refused(version, lambda request, _: request.reply(json.dumps(body).encode(), "application/json", status), told, retry=retry)


@both
def test_a_redirect_is_not_followed(version):
    store = Store()
    with serving(store.answer2) as other:
        target = f"http://{other.place}/api/v2/query"
        assert_refused(version, lambda request, _: request.reply(b"", "text/html", 307, Location=target), "points elsewhere", retry=False)
        assert other.questions == []


KINDS = {2: "text/csv", 3: "application/jsonl"}
NONSENSE = {
    "other content": (b"<html>", {"kind": "text/html"}, "answers with text/html"),
    "compressed": (b"\x1f\x8b\n", {"Content_Encoding": "gzip"}, "encoding gzip"),
    "no text": (b"\xff\xfe\n", {}, "no text in UTF-8"),
    "one endless line": (b"x" * (2**20 + 2**17), {}, "a line of more than"),
    "many endless lines": ((b"x" * 2**16 for _ in range(40)), {}, "a line of more than"),
    "half a line": (b",result,table", {}, "middle of a line"),
    "something else": (b"it is\nten past nine\n", {}, "is no annotated CSV|is no JSON"),
    "too deep": (b"[" * 100_000 + b"\n", {}, "is no annotated CSV|is no JSON|no CSV"),
    "other rows": (b'["a"]\n', {}, "is no annotated CSV|no lines of JSON objects"),
}


@both
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused(version, name):
    body, headers, told = NONSENSE[name]
    body = body if isinstance(body, bytes) else [b"x" * 2**16] * 40

    def answer(request, _):
        request.reply(body, **{"kind": KINDS[version], **headers})

    assert_refused(version, answer, told, retry=False)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (",error,reference\r\n,failed to read: disk is on fire,897\r\n", "disk is on fire"),
        ("error,reference\r\ndisk is on fire,897\r\n", "disk is on fire"),
        ("#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,disk is on fire,\r\n", "disk is on fire"),
        (",result,table,_time,_value,_field,_measurement\r\n,0,0,1970-01-01T00:00:01Z,1,b\r\n", "does not fit its table"),
        (",result,table,_time,_value,_field,_measurement\r\n,0,0,yesterday,1,b,a\r\n", "yesterday"),
        (",result,table,_time,_value,_field,_measurement\r\n,0,0,1970-01-01T00:00:01Z,1,c,a\r\n", "not what was asked"),
        (",result,table,_time,_value,_field,_measurement\r\n,7,0,1970-01-01T00:00:01Z,1,b,a\r\n", "not asked"),
        (",result,table,_time,_value,_field,_measurement\r\n,0,0,1970-01-01T00:00:59Z,1,b,a\r\n", "not asked"),
        (",result,table,_time,_value\r\n,0,0,1970-01-01T00:00:01Z,1\r\n", "_measurement"),
        (',result,table,_time,_value,_field,_measurement\r\n,0,0,1970-01-01T00:00:01Z,"1,b,a\r\n', "no CSV"),
    ],
)
def test_flux_that_went_wrong_on_the_way_is_an_error(body, told):
    assert_refused(2, lambda request, _: request.reply(body.encode(), "text/csv"), told, retry=False)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"n": 9, "ns": 1, "value": "1"}, "not what was asked"),
        ({"n": 0, "ns": "1970-01-01", "value": "1"}, "not what was asked"),
        ({"n": 0, "ns": 1, "value": 1}, "not what was asked"),
        ({"n": True, "ns": 1, "value": "1"}, "not what was asked"),
        ({"n": 0, "ns": 6 * SECOND, "value": "1"}, "not asked"),
    ],
)
def test_rows_that_no_statement_asked_for_are_refused(row, told):
    def answer(request, question):
        catalog = {"table_name": "a", "column_name": "b", "data_type": "Utf8"}
        request.reply(json.dumps(catalog if question["params"] else row).encode() + b"\n", "application/json")

    assert_refused(3, answer, told, retry=False)


@both
def test_samples_in_no_order_are_refused(version):
    def answer(request, question):
        if version == 2:
            rows = "".join(f",0,0,1970-01-01T00:00:0{n}Z,1,b,a\r\n" for n in (2, 1))
            request.reply(f",result,table,_time,_value,_field,_measurement\r\n{rows}".encode(), "text/csv")
        else:
            catalog = [{"table_name": "a", "column_name": "b", "data_type": "Utf8"}]
            rows = catalog if question["params"] else [{"n": 0, "ns": n, "value": "1"} for n in (2, 1)]
            request.reply("".join(f"{json.dumps(row)}\n" for row in rows).encode(), "application/jsonl")

    with serving(answer) as server, history_of(version, server) as history, pytest.raises(TelemetryError, match="no order of time"):
        history.during(["a.b"], 0.0, 5.0)


@both
def test_an_answer_that_does_not_say_where_it_ends_is_refused(version):
    def answer(request, _):
        request.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Type: {KINDS[version]}\r\n\r\n".encode())
        request.close_connection = True

    assert_refused(version, answer, "does not say where it ends", retry=False)


@both
@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_connection_that_is_cut_is_no_answer(version, framing):
    def answer(request, _):
        request.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Type: {KINDS[version]}\r\n{framing}\r\n\r\n".encode())
        request.wfile.write(b"2\r\n\r\n\r\n" if "chunked" in framing else b"\r\n")
        request.close_connection = True

    assert_refused(version, answer, "before the answer was complete|no JSON", retry=version == 2)


@both
def test_a_server_that_closes_at_once_or_is_none_is_told(version):
    def closes(request, _):
        request.close_connection = True

    def talks(request, _):
        request.wfile.write(b"220 mail.example.org ESMTP\r\n")
        request.close_connection = True

    assert_refused(version, closes, "closed before", retry=True)
    assert_refused(version, talks, "as a web server does", retry=False)


@both
def test_a_server_that_is_away_is_worth_a_retry(version):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    history = open_influx(f"influx{version}://127.0.0.1:{port}/{PLACES[version]}", "")
    with pytest.raises(TelemetryError, match="cannot be reached: Connection refused") as caught:
        history.as_of(["a.b"], [1.0])
    assert caught.value.retry


@both
def test_a_server_that_says_nothing_is_not_waited_for(version):
    with serving(lambda request, _: request.server.over.wait()) as server, history_of(version, server, timeout=0.05) as history:
        with pytest.raises(TelemetryError, match=r"no answer for 0\.05 s") as caught:
            history.as_of(["a.b"], [1.0])
        assert caught.value.retry
        server.over.set()


@both
def test_a_server_without_tls_is_told(version):
    with serving(lambda request, _: None) as server:
        history = open_influx(f"influx{version}+https://{server.place}/{PLACES[version]}", "")
        with pytest.raises(TelemetryError, match=r"no encrypted connection|cannot be reached|closed"):
            history.as_of(["a.b"], [1.0])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the file of a certificate of 127.0.0.1 with its key."""
    if not (program := shutil.which("openssl")):
        pytest.skip("no openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([program, "req", *options, "-keyout", path.with_suffix(".key"), "-out", path], check=True, capture_output=True)
    path.write_text(path.with_suffix(".key").read_text() + path.read_text())
    return path


@both
def test_tls_is_spoken_with_whom_a_certificate_vouches_for(version, certificate, monkeypatch):
    store = Store()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(store.answer2 if version == 2 else store.answer3, context) as server:
        history = open_influx(f"influx{version}+https://{server.place}/{PLACES[version]}", "s3cret")
        with pytest.raises(TelemetryError, match="its certificate is not accepted") as caught:
            history.as_of(["a.b"], [1.0])
        assert not caught.value.retry
        assert server.headers == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        store.write("a.b", 0, "20")
        assert history.as_of(["a.b"], [1.0]) == [{"a.b": Sample(time=0.0, value="20")}]
        server.answer = hangs
        server.asked.clear()
        caught = []

        def ask():
            with pytest.raises(TelemetryError, match="interrupted"):
                history.as_of(["a.b"], [1.0])
            caught.append(True)

        thread = Thread(target=ask)
        thread.start()
        server.asked.wait()
        history.interrupt()
        thread.join()
        assert caught == [True]
        history.close()


def hangs(request, _):
    request.server.over.wait()


def trickles(request, _):
    def drops():
        while not request.server.over.wait(0.01):
            yield b" "

    request.reply(drops(), "text/csv json")


def mumbles(request, _):
    while not request.server.over.wait(0.01):
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")


@both
@pytest.mark.parametrize("answer", [hangs, trickles, mumbles])
def test_an_interruption_ends_the_question_and_not_the_next(version, answer):
    store = Store()
    caught = []

    def ask():
        with pytest.raises(TelemetryError, match="interrupted") as told:
            history.as_of(["a.b"], [1.0])
        caught.append(told.value)

    with serving(answer) as server, history_of(version, server) as history:
        thread = Thread(target=ask)
        thread.start()
        server.asked.wait()
        history.interrupt()
        thread.join()
        assert [error.retry for error in caught] == [True]
        server.answer = store.answer2 if version == 2 else store.answer3
        assert history.as_of(["a.b"], [1.0]) == [{}]


@pytest.mark.parametrize(
    "url",
    [
        "influx2://host/org/bucket",
        "influx2://host:8086/org",
        "influx2://host:8086/org/",
        "influx2://host:8086/org/bucket/more",
        "influx2://:8086/org/bucket",
        "influx2://host:port/org/bucket",
        "influx3://host:8181",
        "influx3://host:8181/",
        "influx3://host:8181/db/more",
        "influx3://ho st:8181/db",
        "influx3://[::1:8181/db",
    ],
)
def test_a_url_of_another_form_is_a_usage_error(url):
    with pytest.raises(ConfigurationError, match=r"HOST:PORT/"):
        open_history(url)


@pytest.mark.parametrize(
    "url", ["influx2://user:s3cret@host:8086/o/b", "influx3://host:8181/db?token=s3cret", "influx3://s3cret@host:1/d#s3cret"]
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigurationError, match="INFLUX_TOKEN") as caught:
        open_history(url)
    assert "s3cret" not in str(caught.value)


def test_the_token_is_that_of_the_environment(monkeypatch):
    store = Store()
    monkeypatch.setenv("INFLUX_TOKEN", "from the environment")
    with serving(store.answer3) as server:
        history = open_history(f"influx3://{server.place}/a%20db")
        assert history.as_of(["a.b"], [1.0]) == [{}]
        history.close()
        assert server.headers[0]["Authorization"] == "Bearer from the environment"


def assert_refused(version, answer, told, *, retry):
    with serving(answer) as server, history_of(version, server) as history:
        with pytest.raises(TelemetryError, match=told) as caught:
            history.as_of(["a.b"], [5.0])
        assert caught.value.retry == retry
        assert str(caught.value).startswith(f"influx{version}://{server.place}/")
        assert len(str(caught.value).splitlines()) == 1
