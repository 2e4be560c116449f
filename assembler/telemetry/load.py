"""Read samples from CSV or JSON lines: service, keyword, time [UNIX s], value, in any order."""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from assembler.core.instants import is_unix_time
from assembler.errors import ConfigurationError

COLUMNS = ("service", "keyword", "time", "value")


def read_samples(path: Path) -> Iterator[tuple[str, float, str]]:
    """Yield (``service.KEYWORD``, UNIX seconds, value) of each line: of JSON in a ``.jsonl``, of CSV in any other file.

    Raises
    ------
    ConfigurationError
        That names the line that is wrong.
    """
    lines = path.suffix.lower() == ".jsonl"
    try:
        # CSV may have line ends within a value; those of JSON lines are line feeds and no others.
        with path.open(newline="\n" if lines else "", encoding="utf-8-sig") as file:
            yield from (jsonl_samples if lines else csv_samples)(file, str(path))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is no {'JSON lines' if lines else 'CSV'} in UTF-8: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error


def csv_samples(lines: Iterable[str], path: str, before: int = 0) -> Iterator[tuple[str, float, str]]:
    """Yield the samples of CSV lines, the first of which is the header.

    Parameters
    ----------
    lines : iterable of str
        With their ends.
    path : str
        For messages.
    before : int
        How many lines of the file were left out after the header, so that a message names the right one.
    """
    records = csv.reader(lines, strict=True)
    try:
        header = next(records, [])
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise ConfigurationError(f"{path}:1: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
        service, keyword, time, value = (header.index(name) for name in COLUMNS)
        for record in records:
            where = f"{path}:{records.line_num + before}"
            if not record:
                continue
            if len(record) != len(header):
                raise ConfigurationError(f"{where}: {len(record)} fields, expected {len(header)}")
            yield f"{record[service]}.{record[keyword]}", _seconds(record[time], where), record[value]
    except csv.Error as error:
        raise ConfigurationError(f"{path}:{records.line_num + before}: is no CSV: {error}") from error


def jsonl_samples(lines: Iterable[str], path: str, before: int = 0) -> Iterator[tuple[str, float, str]]:
    """Yield the samples of JSON lines; ``before`` lines of the file were left out.

    Numbers stay as they are written, and a null is no sample.
    """
    for number, line in enumerate(lines, before + 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            told = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{where}: is no JSON: {error}") from error
        if not isinstance(told, dict):
            raise ConfigurationError(f"{where}: is no JSON object")
        missing = [name for name in COLUMNS if name not in told]
        if missing:
            raise ConfigurationError(f"{where}: no {', '.join(missing)}; expected {', '.join(COLUMNS)}")
        service, keyword, time, value = (told[name] for name in COLUMNS)
        if not (isinstance(service, str) and isinstance(keyword, str)):
            raise ConfigurationError(f"{where}: service and keyword are to be strings")
        seconds = _seconds(time if isinstance(time, str) else json.dumps(time), where)
        if value is None:
            continue
        if not isinstance(value, str | bool):
            raise ConfigurationError(f"{where}: the value is neither a string, a number, true, false nor null")
        text = value if isinstance(value, str) else json.dumps(value)
        try:
            f"{service}{keyword}{text}".encode()
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{where}: half of a character: {error.object[error.start]!a}") from error
        yield f"{service}.{keyword}", seconds, text


def _seconds(text: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not is_unix_time(seconds):
        raise ConfigurationError(f"{where}: time {text!r} is not UNIX seconds")
    return seconds
