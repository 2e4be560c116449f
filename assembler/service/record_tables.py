"""The tables that records are kept in: the same in every database, but for its types and its marks for parameters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from assembler.core.columns import ALWAYS, COLUMNS
from assembler.core.record import Cell, KeywordRow, OriginRow, Record
from assembler.core.record_merge import Standing, judge
from assembler.errors import OutputError

SCHEMA = 1
"""The version of the tables that this assembler makes."""

TABLES = ("exposure", "exposure_origin", "exposure_keyword", "exposure_schema")

_KEY = ("instrument", "obs_id")
_ORIGIN_KINDS = {"attached": "bool", "frame": "int", "begin_time": "time", "end_time": "time", "elapsed": "float", "amplifiers": "int"}
_ORIGIN = tuple(f.name for f in fields(OriginRow))
_KEYWORD = tuple(f.name for f in fields(KeywordRow))


class Session(Protocol):
    """A transaction of a database: what it is told is kept when it ends well, and otherwise never was."""

    def ask(self, statement: str, parameters: Sequence[Cell] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement, and return the rows that it answers with."""
        ...

    def tell(self, statement: str, rows: Iterable[Sequence[Cell]]) -> None:
        """Execute a statement for each of many rows of parameters."""
        ...

    def has_table(self, name: str) -> bool:
        """Tell whether there is a table of a name, whoever made it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a database calls things.

    Attributes
    ----------
    types : mapping of str to str
        By kind of a column.
    mark : callable
        Returns the mark of a parameter, by its number from 1.
    as_text : str
        What makes ISO 8601 in UTC of an instant, with ``{}`` for the column.
    """

    types: Mapping[str, str]
    mark: Callable[[int], str]
    as_text: str

    def marks(self, count: int) -> str:
        """Return the marks of so many parameters."""
        return ", ".join(map(self.mark, range(1, count + 1)))


def prepare(session: Session, dialect: Dialect, store: str) -> None:
    """See that the tables are there as this assembler knows them, and make them where there are none.

    Raises
    ------
    OutputError
        When there are others, or those of a newer assembler.
    """
    if session.has_table("exposure_schema"):
        versions = [version for (version,) in session.ask("SELECT version FROM exposure_schema")]
        if versions != [SCHEMA]:
            told = ", ".join(map(str, versions)) or "of no version"
            raise OutputError(f"{store}: its tables of exposures are {told}, and this assembler knows {SCHEMA}", retry=False)
        return
    taken = [name for name in TABLES if session.has_table(name)]
    if taken:
        raise OutputError(f"{store}: has a table {taken[0]} already, which is none of exposure records; name another database", retry=False)
    for statement in _creation(dialect):
        session.ask(statement)


def put(session: Session, dialect: Dialect, store: str, record: Record) -> bool:
    """Write a record, in place of what there is of its exposure; return whether that was done, and no newer version was there.

    Raises
    ------
    OutputError
        When another exposure has its id.
    """
    key = tuple(record.columns[name] for name in _KEY)
    found = session.ask(
        f"SELECT obs_id, l0_version, {dialect.as_text.format('begin_time')} FROM exposure "  # noqa: S608 - the dialect's own words
        f"WHERE instrument = {dialect.mark(1)} AND (obs_id = {dialect.mark(2)} OR exposure_id = {dialect.mark(3)})",
        (*key, record.columns["exposure_id"]),
    )
    verdict = judge(record, [Standing(obs_id=obs_id, version=version, begin_time=begin) for obs_id, version, begin in found])
    if verdict.conflict:
        told = (
            f"{store}: exposure_id {record.columns['exposure_id']} of {key[0]} is that of {verdict.conflict} already, and not of {key[1]}"
        )
        raise OutputError(f"{told}; see that the YAML's record gives each exposure another one", retry=False)
    if not verdict.is_newest:
        return False
    where = f"WHERE instrument = {dialect.mark(1)} AND obs_id = {dialect.mark(2)}"
    for gone in verdict.gone:
        _forget(session, where, (key[0], gone))
        session.ask(f"DELETE FROM exposure {where}", (key[0], gone))  # noqa: S608
    changed = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in _KEY)
    session.ask(
        f"INSERT INTO exposure ({', '.join(COLUMNS)}) VALUES ({dialect.marks(len(COLUMNS))}) "  # noqa: S608
        f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {changed}",
        [_instant(record.columns[name], COLUMNS[name].kind) for name in COLUMNS],
    )
    _forget(session, where, key)
    origins = (asdict(row) for row in record.origins)
    session.tell(
        f"INSERT INTO exposure_origin ({', '.join((*_KEY, *_ORIGIN))}) VALUES ({dialect.marks(len(_KEY) + len(_ORIGIN))})",  # noqa: S608
        [(*key, *(_instant(row[name], _ORIGIN_KINDS.get(name, "text")) for name in _ORIGIN)) for row in origins],
    )
    keywords = (asdict(row) for row in record.keywords)
    session.tell(
        f"INSERT INTO exposure_keyword ({', '.join((*_KEY, *_KEYWORD))}) VALUES ({dialect.marks(len(_KEY) + len(_KEYWORD))})",  # noqa: S608
        [(*key, *(row[name] for name in _KEYWORD)) for row in keywords],
    )
    return True


def _forget(session: Session, where: str, key: Sequence[Cell]) -> None:
    """Remove the rows of an observation's origins and keywords."""
    for table in ("exposure_origin", "exposure_keyword"):
        session.ask(f"DELETE FROM {table} {where}", key)  # noqa: S608 - names of tables are ours


def _creation(dialect: Dialect) -> list[str]:
    """Return the statements that make the tables."""
    types = dialect.types
    columns = [f"{name} {types[column.kind]}{' NOT NULL' if name in ALWAYS else ''}" for name, column in COLUMNS.items()]
    key = [f"instrument {types['text']} NOT NULL", f"obs_id {types['text']} NOT NULL"]
    belongs = "FOREIGN KEY (instrument, obs_id) REFERENCES exposure (instrument, obs_id)"
    origins = [f"{name} {types[_ORIGIN_KINDS.get(name, 'text')]}{' NOT NULL' * (name in ('origin', 'attached'))}" for name in _ORIGIN]
    keywords = [f"{name} {types['text']} NOT NULL" for name in _KEYWORD]
    return [
        f"CREATE TABLE exposure ({', '.join(columns)}, PRIMARY KEY (instrument, obs_id), UNIQUE (instrument, exposure_id))",
        f"CREATE TABLE exposure_origin ({', '.join([*key, *origins])}, PRIMARY KEY (instrument, obs_id, origin), {belongs})",
        f"CREATE TABLE exposure_keyword ({', '.join([*key, *keywords])}, PRIMARY KEY (instrument, obs_id, keyword), {belongs})",
        "CREATE INDEX exposure_begin ON exposure (begin_time)",
        "CREATE INDEX exposure_day ON exposure (day_obs)",
        "CREATE INDEX exposure_keyword_keyword ON exposure_keyword (keyword)",
        f"CREATE TABLE exposure_schema (version {types['int']} NOT NULL)",
        f"INSERT INTO exposure_schema (version) VALUES ({SCHEMA})",  # noqa: S608
    ]


def _instant(value: Cell, kind: str) -> Cell:
    """Return a cell as it is told to a database: an instant with its zone."""
    return f"{value}Z" if kind == "time" and value is not None else value
