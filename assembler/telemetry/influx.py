"""Histories in InfluxDB 2 (asked in Flux, answered in annotated CSV) and InfluxDB 3 (SQL, JSON lines)."""

import csv
import json
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from urllib.parse import quote, unquote, urlsplit

from assembler.core.instants import SECOND, format_iso, parse_iso, unix_seconds
from assembler.core.samples import Aggregate, Sample, aggregate
from assembler.errors import ConfigurationError, TelemetryError
from assembler.telemetry.history import PATIENCE
from assembler.telemetry.server import Server

_FORMS = {"influx2": "HOST:PORT/ORG/BUCKET", "influx3": "HOST:PORT/DATABASE"}
_EARLIEST = parse_iso("1858-11-17T00:00:00")
_LATEST = 2**63 - 2
"""The last nanosecond that InfluxDB can tell has one more after it, because a Flux range ends before its stop."""

_CATALOG = (
    'SELECT "table_name", "column_name", "data_type" FROM information_schema.columns'
    " WHERE \"table_schema\" NOT IN ('information_schema', 'system') AND \"table_name\" IN (TABLES)"
)
_SELECTS = 128
"""Fields in one SQL statement: planning takes the server longer than all the rest."""

_BARE = '\n  |> drop(columns: ["_start", "_stop"])'
"""Columns that say the same in each row; gone last, because only what follows the filter at once is done where the samples are."""

_LONGEST_NUMBER = 40
_NO_TIME: tuple[int, str] = (-(2**63), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A sample as it was answered: of which question and name, when [ns], and what."""

    question: str
    name: str
    time: int
    value: str


def open_influx(url: str, token: str, timeout: float = PATIENCE) -> "Influx2History | Influx3History":
    """Open ``influx2://HOST:PORT/ORG/BUCKET`` or ``influx3://HOST:PORT/DATABASE``; ``+https`` after the digit is for TLS.

    Nothing is asked yet.

    Parameters
    ----------
    url : str
        Its parts may be percent-encoded.
    token : str
        The secret that lets us read, or the empty string; never part of the URL, nor of a message.
    timeout : float
        How long to wait for the connection, and then for each piece of an answer [s].

    Raises
    ------
    ConfigurationError
        When the URL, or the token, is not of that form.
    """
    kind, _, security = url.partition("://")[0].partition("+")
    form = f"{kind}://{_FORMS[kind]}"
    if "@" in url or "?" in url or "#" in url:
        # It may hold a secret, and so is not repeated.
        raise ConfigurationError(f"{kind}: the URL has a user, a password or parameters; expected {form}, and the token in INFLUX_TOKEN")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        host, port = "", 0
    if not (host and port and host.isascii() and host.isprintable() and " " not in host):
        raise ConfigurationError(f"{url}: no host and port; expected {form}")
    if security not in ("", "https"):
        raise ConfigurationError(f"{url}: +{security} is not known; expected {form}, or {kind}+https://")
    names = [unquote(part) for part in parts.path.removeprefix("/").split("/")]
    if len(names) != _FORMS[kind].count("/") or not all(names):
        raise ConfigurationError(f"{url}: expected {form}, a slash inside of a name as %2F")
    scheme = "Token" if kind == "influx2" else "Bearer"
    server = Server(url, host, port, tls=bool(security), scheme=scheme, token=token, timeout=timeout)
    return Influx2History(server, *names) if kind == "influx2" else Influx3History(server, *names)


class Influx2History:
    """A history in a bucket of InfluxDB 2: what stands before the last dot of a name is the measurement, then comes the field."""

    def __init__(self, server: Server, organisation: str, bucket: str) -> None:
        self._server = server
        self._path = f"/api/v2/query?org={quote(organisation, safe='')}"
        self._bucket = bucket

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one, of whatever tags."""
        self._server.begin()
        wanted = _parted(names)
        ends = {str(number): _at_or_before(instant) for number, instant in enumerate(instants)}
        yields = [
            f"{self._source(_EARLIEST, end, wanted)}\n  |> last(){_BARE}\n  |> yield(name: {_flux(number)})"
            for number, end in ends.items()
            if end > _EARLIEST
        ]
        found: dict[str, dict[str, tuple[int, str]]] = {number: {} for number in ends}
        if wanted and yields:
            with closing(self._rows("\n".join(yields), wanted)) as rows:
                for row in rows:
                    if row.question not in found or row.time > ends[row.question]:
                        raise self._server.error("answers what was not asked")
                    values = found[row.question]
                    # Each series has a last one; the latest of all counts, of two at once the one whose text comes last.
                    values[row.name] = max(values.get(row.name, _NO_TIME), (row.time, row.value))
        return [{name: _sample(*told) for name, told in values.items()} for values in found.values()]

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return what the samples from begin to end, both included, come to, of each name that has any."""
        self._server.begin()
        wanted = _parted(names)
        first, last = max(_at_or_after(begin), _EARLIEST), _at_or_before(end)
        if not wanted or last < first:
            return {}
        grouped = '|> group(columns: ["_measurement", "_field"])\n  |> sort(columns: ["_time", "_value"])'
        query = f'{self._source(first, last, wanted)}\n  {grouped}{_BARE}\n  |> yield(name: "0")'
        with closing(self._rows(query, wanted)) as rows:
            return _aggregates(rows, first, last, self._server)

    def interrupt(self) -> None:
        """End a question that is under way in another thread."""
        self._server.interrupt()

    def close(self) -> None:
        """Let go of the server; there is a connection only while it is asked."""
        self._server.interrupt()

    def _source(self, first: int, last: int, wanted: Iterable[tuple[str, str]]) -> str:
        """Return the Flux of the samples from first to last [ns], both included."""
        fields = [f"(r._measurement == {_flux(measurement)} and r._field == {_flux(field)})" for measurement, field in wanted]
        return (
            f"from(bucket: {_flux(self._bucket)})\n  |> range(start: {_rfc3339(first)}, stop: {_rfc3339(last + 1)})\n"
            f"  |> filter(fn: (r) => {_nested(fields, '({} or {})')})"
        )

    def _rows(self, query: str, wanted: Mapping[tuple[str, str], str]) -> Generator[_Row, None, None]:
        dialect = {"header": True, "delimiter": ",", "annotations": ["datatype", "group", "default"]}
        question = {"type": "flux", "query": query, "dialect": dialect}
        with self._server.ask(self._path, question, "csv") as lines:
            try:
                for cells, types in _annotated(lines, self._server):
                    yield _Row(
                        question=cells["result"],
                        name=wanted[cells["_measurement"], cells["_field"]],
                        time=parse_iso(cells["_time"]),
                        value=_value(cells["_value"], types.get("_value", "")),
                    )
            except csv.Error as error:
                raise self._server.error(f"the answer is no CSV: {error}") from error
            except (KeyError, ValueError) as error:
                raise self._server.error(f"the answer is not what was asked for: {error}") from error


class Influx3History:
    """A history in a database of InfluxDB 3: what stands before the last dot of a name is the table, then comes the column."""

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self._columns: set[tuple[str, str]] = set()

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one, of whatever tags."""
        self._server.begin()
        ends = {str(number): _at_or_before(instant) for number, instant in enumerate(instants)}
        asked = [
            (question, name, f'"time" <= {_timestamp(end)} ORDER BY "time" DESC, {_text_of(place[1])} DESC LIMIT 1', place)
            for place, name in self._known(names).items()
            for question, end in ends.items()
        ]
        found: dict[str, dict[str, Sample]] = {number: {} for number in ends}
        with closing(self._rows(asked, "")) as rows:
            for row in rows:
                if row.time > ends[row.question]:
                    raise self._server.error("answers what was not asked")
                found[row.question][row.name] = _sample(row.time, row.value)
        return list(found.values())

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return what the samples from begin to end, both included, come to, of each name that has any."""
        self._server.begin()
        first, last = _at_or_after(begin), _at_or_before(end)
        between = f'"time" >= {_timestamp(first)} AND "time" <= {_timestamp(last)}'
        asked = [("0", name, between, place) for place, name in self._known(names).items()]
        with closing(self._rows(asked, " ORDER BY 1, 2, 3")) as rows:
            return _aggregates(rows, first, last, self._server)

    def interrupt(self) -> None:
        """End a question that is under way in another thread."""
        self._server.interrupt()

    def close(self) -> None:
        """Let go of the server; there is a connection only while it is asked."""
        self._server.interrupt()

    def _known(self, names: Sequence[str]) -> dict[tuple[str, str], str]:
        """Return those names that the database has, because a statement that names another fails as a whole."""
        wanted = _parted(names)
        missing = dict.fromkeys(table for table, column in wanted if (table, column) not in self._columns)
        if missing:
            tables = {f"t{number}": table for number, table in enumerate(missing)}
            statement = _CATALOG.replace("TABLES", ", ".join(f"${parameter}" for parameter in tables))
            for line in self._answer(statement, tables):
                table, column, kind = (line.get(name) for name in ("table_name", "column_name", "data_type"))
                if not (isinstance(table, str) and isinstance(column, str) and isinstance(kind, str)):
                    raise self._server.error("the answer has no names of columns")
                # What is no field are tags, which are dictionaries, and the time.
                if not kind.startswith(("Dictionary", "Timestamp")):
                    self._columns.add((table, column))
        return {place: name for place, name in wanted.items() if place in self._columns}

    def _rows(self, asked: Sequence[tuple[str, str, str, tuple[str, str]]], order: str) -> Generator[_Row, None, None]:
        """Ask for question, name, condition, and table with column; give what is answered."""
        for begin in range(0, len(asked), _SELECTS):
            some = asked[begin : begin + _SELECTS]
            selects = [_select(number, *place, condition) for number, (_, _, condition, place) in enumerate(some)]
            for line in self._answer(_nested(selects, 'SELECT * FROM ({} UNION ALL {}) AS "s"') + order, {}):
                number, time, value = line.get("n"), line.get("ns"), line.get("value")
                if not (type(number) is type(time) is int and isinstance(value, str) and 0 <= number < len(some)):
                    raise self._server.error("the answer is not what was asked for")
                yield _Row(question=some[number][0], name=some[number][1], time=time, value=value)

    def _answer(self, statement: str, parameters: Mapping[str, str]) -> Iterator[dict[str, object]]:
        question = {"db": self._database, "q": statement, "format": "jsonl", "params": parameters}
        try:
            with self._server.ask("/api/v3/query_sql", question, "json") as lines:
                for line in lines:
                    try:
                        told = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise self._server.error(f"the answer is no JSON lines: {error}") from error
                    if not isinstance(told, dict):
                        raise self._server.error("the answer is no lines of JSON objects")
                    yield told
        except TelemetryError:
            # A table may have gone since the catalog was read.
            self._columns.clear()
            raise


def _parted(names: Iterable[str]) -> dict[tuple[str, str], str]:
    """Return names by measurement and field; a name without both is in no InfluxDB."""
    parts = {(name.rpartition(".")[0], name.rpartition(".")[2]): name for name in names}
    return {place: name for place, name in parts.items() if all(place)}


def _aggregates(rows: Iterable[_Row], first: int, last: int, server: Server) -> dict[str, Aggregate]:
    """Return what the samples come to, name by name as they come in."""

    def in_order(group: Iterable[_Row]) -> Iterator[tuple[float, str]]:
        before = first
        for row in group:
            if not before <= row.time <= last:
                raise server.error("answers what was not asked, or in no order of time")
            before = row.time
            yield unix_seconds(row.time), row.value

    told: dict[str, Aggregate] = {}
    for name, group in groupby(rows, key=lambda row: row.name):
        if name in told:
            raise server.error("answers one name twice")
        told[name] = aggregate(in_order(group))
    return told


def _sample(time: int, value: str) -> Sample:
    return Sample(time=unix_seconds(time), value=value)


def _at_or_before(seconds: float) -> int:
    """Return the last nanosecond that is not after UNIX seconds [s] when it is written as such, in a double."""
    if seconds >= _LATEST / SECOND:
        return _LATEST
    if seconds <= -_LATEST / SECOND:
        return -_LATEST
    last = math.floor((Fraction(seconds) + Fraction(math.nextafter(seconds, math.inf))) / 2 * SECOND)
    return last - (unix_seconds(last) > seconds)


def _at_or_after(seconds: float) -> int:
    return -_at_or_before(-seconds)


def _nested(parts: Sequence[str], pair: str) -> str:
    """Join parts two by two, and these again; a chain would nest as deep as it is long in the parsers of servers."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return pair.format(*(_nested(half, pair) for half in (parts[:middle], parts[middle:])))


def _rfc3339(instant: int) -> str:
    return f"{format_iso(instant, 9)}Z"


def _timestamp(instant: int) -> str:
    return f"TIMESTAMP '{_rfc3339(instant)}'"


def _flux(text: str) -> str:
    """Return a string as Flux writes it."""
    for character, escaped in (("\\", "\\\\"), ('"', '\\"'), ("${", "\\${"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(character, escaped)
    return f'"{text}"'


def _identifier(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _select(number: int, table: str, column: str, condition: str) -> str:
    """Return the SQL of the samples of a column: their number in the statement, times [ns] and values as text."""
    columns = f'{number} AS "n", CAST("time" AS BIGINT) AS "ns", {_text_of(column)} AS "value"'
    where = f"{_identifier(column)} IS NOT NULL AND {condition}"
    # All that is put in is a number of ours, or an identifier that the catalog has, quoted.
    return f'SELECT * FROM (SELECT {columns} FROM {_identifier(table)} WHERE {where}) AS "s"'  # noqa: S608


def _text_of(column: str) -> str:
    return f"CAST({_identifier(column)} AS VARCHAR)"


def _value(text: str, kind: str) -> str:
    """Return a value as text; Flux writes a number without exponent, however many noughts that takes."""
    return repr(float(text)) if kind == "double" and len(text) > _LONGEST_NUMBER else text


def _annotated(lines: Iterable[str], server: Server) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Read annotated CSV: for each row its cells and their types, by column."""
    notes: dict[str, list[str]] = {}
    header: list[str] = []
    failed = False
    for record in csv.reader(lines, strict=True):
        if not record or (header and record[0].startswith("#")):
            notes, header = {}, []
        if not record:
            continue
        if record[0].startswith("#"):
            notes[record[0]] = record
        elif not header:
            header = record
            failed = "error" in header and "_value" not in header
            if header[0] and not failed:
                raise server.error("the answer is no annotated CSV")
        elif len(record) != len(header):
            raise server.error("the answer has a row that does not fit its table")
        elif failed:
            raise server.error(record[header.index("error")])
        else:
            defaults = notes.get("#default") or [""] * len(header)
            # A line break inside of a value comes as the ends of lines do.
            cells = (cell.replace("\r\n", "\n") or default for cell, default in zip(record, defaults, strict=True))
            yield dict(zip(header, cells, strict=True)), dict(zip(header, notes.get("#datatype", ()), strict=False))
