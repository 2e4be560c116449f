"""Small servers that answer as InfluxDB 2 and 3 do, from samples in memory, and others that answer as no server should."""

import json
import re
import sqlite3
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from threading import Event, Thread

from assembler.core.instants import format_iso, parse_iso

TYPES = {str: "string", float: "double", int: "long", bool: "boolean"}
ARROW = {str: "Utf8", float: "Float64", int: "Int64", bool: "Boolean"}
STRING = r'"(?:\\.|[^"\\])*"'
SOURCE = re.compile(
    rf"from\(bucket: ({STRING})\)\n  \|> range\(start: (\S+), stop: (\S+)\)\n  \|> filter\(fn: \(r\) => (.*)\)\n"
    rf'  \|> (last\(\)|group\(columns: \["_measurement", "_field"\]\)\n  \|> sort\(columns: \["_time", "_value"\]\))\n'
    rf'  \|> drop\(columns: \["_start", "_stop"\]\)\n  \|> yield\(name: ({STRING})\)\n?'
)
FIELD = re.compile(rf"\(r\._measurement == ({STRING}) and r\._field == ({STRING})\)")


class Answering(ThreadingMixIn, HTTPServer):
    """A server that gives each question to a function, until the test is over."""

    daemon_threads = False

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Question)
        self.answer = answer
        self.asked, self.over = Event(), Event()
        self.headers: list[dict[str, str]] = []
        self.questions: list[dict] = []
        self.paths: list[str] = []

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Say nothing of clients that went away, which is what some tests make them do."""


class Question(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(dict(self.headers))
        self.server.questions.append(question)
        self.server.paths.append(self.path)
        self.server.asked.set()
        self.server.answer(self, question)

    def log_message(self, *args):
        pass

    def reply(self, body: bytes | Iterable[bytes], kind: str, status: int = 200, **headers: str):
        """Answer with a body of known length, or in chunks."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if isinstance(body, bytes):
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in body:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving(answer: Callable[[Question, dict], None], tls: ssl.SSLContext | None = None) -> Iterator[Answering]:
    server = Answering(answer)
    if tls:
        # The handshake is the business of the thread that answers, as those who refuse a certificate just hang up.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Store:
    """Samples by measurement, field and series (a tag), each a mapping of times [ns] to values."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.series = defaultdict(dict)

    def write(self, name: str, time: int, value, tag: str = "kpf"):
        measurement, _, field = name.rpartition(".")
        self.series[measurement, field, tag][time] = value

    def answer2(self, request: Question, question: dict):
        """Answer a Flux query in annotated CSV."""
        assert request.headers["Accept-Encoding"] == "identity"
        assert question["dialect"]["annotations"] == ["datatype", "group", "default"]
        body = "".join(self._results(question["query"])) or "\r\n"
        # In pieces that end anywhere, as they do on the way.
        told = body.encode()
        request.reply((told[n : n + 97] for n in range(0, len(told), 97)), "text/csv; charset=utf-8")

    def _results(self, flux: str) -> Iterator[str]:
        assert SOURCE.sub("", flux) == "", flux
        for number, (bucket, start, stop, condition, kind, result) in enumerate(SOURCE.findall(flux)):
            assert unquoted(bucket) == "a bucket/1"
            assert set(FIELD.sub("", condition)) <= set("() or")
            wanted = {(unquoted(measurement), unquoted(field)) for measurement, field in FIELD.findall(condition)}
            within = {
                place: {t: v for t, v in samples.items() if parse_iso(start) <= t < parse_iso(stop)}
                for place, samples in sorted(self.series.items())
                if place[:2] in wanted
            }
            if kind == "last()":
                tables = [[(*place, max(samples), samples[max(samples)])] for place, samples in within.items() if samples]
            else:
                tables = []
                for measurement, field in sorted({place[:2] for place in within}):
                    rows = [(*p, t, v) for p, samples in within.items() if p[:2] == (measurement, field) for t, v in samples.items()]
                    tables += [sorted(rows, key=lambda row: row[3:])] if rows else []
            if tables:
                yield ("\r\n" if number else "") + annotated(unquoted(result), tables)

    def answer3(self, request: Question, question: dict):
        """Answer an SQL statement in JSON lines, which SQLite understands nearly as InfluxDB 3 does."""
        assert question["db"] == "a db"
        assert question["format"] == "jsonl"
        database = sqlite3.connect(":memory:")
        database.row_factory = sqlite3.Row
        try:
            self._fill(database)
            statement = re.sub(r"TIMESTAMP '([^']+)'", lambda found: str(parse_iso(found.group(1))), question["q"])
            rows = [dict(row) for row in database.execute(statement, question["params"])]
            request.reply((json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows), "application/jsonl")
        except sqlite3.Error as error:
            request.reply(json.dumps({"error": f"datafusion error: {error}"}).encode(), "application/json", 500)
        finally:
            database.close()

    def _fill(self, database: sqlite3.Connection):
        database.execute("ATTACH ':memory:' AS information_schema")
        database.execute("CREATE TABLE information_schema.columns (table_schema, table_name, column_name, data_type)")
        fields = defaultdict(dict)
        for (table, column, _), samples in self.series.items():
            for value in samples.values():
                fields[table][column] = ARROW[type(value)]
        for table, columns in fields.items():
            every = {"host": "Dictionary(Int32, Utf8)", "time": "Timestamp(Nanosecond, None)", **columns}
            database.executemany("INSERT INTO information_schema.columns VALUES ('iox', ?, ?, ?)", [(table, *c) for c in every.items()])
            database.execute(f"CREATE TABLE {identifier(table)} ({', '.join(map(identifier, every))})")
        for (table, column, tag), samples in self.series.items():
            rows = [(tag, time, str(value).lower() if isinstance(value, bool) else value) for time, value in samples.items()]
            database.executemany(f"INSERT INTO {identifier(table)} (host, time, {identifier(column)}) VALUES (?, ?, ?)", rows)


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def unquoted(literal: str) -> str:
    """Read a Flux string; what Flux would evaluate in it is an error."""
    assert not re.search(r"(?<!\\)(?:\\\\)*\$\{", literal), literal
    return re.sub(r"\\(\$\{|.)", lambda found: {"n": "\n", "r": "\r", "t": "\t"}.get(found.group(1), found.group(1)), literal[1:-1])


def annotated(result: str, tables: list[list[tuple]]) -> str:
    """Write tables as the CSV writer of Flux does: columns anew where they differ, with an empty line before."""
    written, before = [], None
    columns = ["", "result", "table", "_time", "_value", "_field", "_measurement", "host"]
    for number, rows in enumerate(tables):
        kind = TYPES[type(rows[0][4])]
        if kind != before:
            written += [""] if before else []
            written.append(f"#datatype,string,long,dateTime:RFC3339,{kind},string,string,string")
            written.append("#group,false,false,false,false,true,true,true")
            written.append(f"#default,{result},,,,,,")
            written.append(",".join(columns))
            before = kind
        for measurement, field, tag, time, value in rows:
            cells = ["", "", str(number), f"{format_iso(time, 0)}Z", flux_text(value), field, measurement, tag]
            written.append(",".join(map(cell, cells)))
    return "".join(f"{line}\r\n" for line in written)


def flux_text(value) -> str:
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def cell(text: str) -> str:
    """Write a cell as Go does: a line break becomes two characters, a carriage return none."""
    if text and (set(text) & set(',"\r\n') or text[0].isspace() or text == r"\."):
        return '"' + text.replace('"', '""').replace("\r", "").replace("\n", "\r\n") + '"'
    return text
