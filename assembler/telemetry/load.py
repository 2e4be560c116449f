"""Read samples from CSV: columns service, keyword, time [UNIX s], value, in any order."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from assembler.core.instants import is_unix_time
from assembler.errors import ConfigurationError

COLUMNS = ("service", "keyword", "time", "value")


def read_csv(path: Path) -> Iterator[tuple[str, float, str]]:
    """Yield (``service.KEYWORD``, UNIX seconds, value) of each line.

    Raises
    ------
    ConfigurationError
        That names the line that is wrong.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise ConfigurationError(f"{path}:1: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
            service, keyword, time, value = (header.index(name) for name in COLUMNS)
            for line in lines:
                if not line:
                    continue
                if len(line) != len(header):
                    raise ConfigurationError(f"{path}:{lines.line_num}: {len(line)} fields, expected {len(header)}")
                yield f"{line[service]}.{line[keyword]}", _seconds(line[time], path, lines.line_num), line[value]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is no CSV in UTF-8: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error


def _seconds(text: str, path: Path, line: int) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not is_unix_time(seconds):
        raise ConfigurationError(f"{path}:{line}: time {text!r} is not UNIX seconds")
    return seconds
