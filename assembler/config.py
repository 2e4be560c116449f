"""Load an instrument: its YAML is checked once, and remembered as long as it stays the same to the letter.

Checking takes longer than assembling a small exposure, and a fresh process for each exposure is how archives call the
assembler. What was checked is therefore kept in the user's cache directory, together with the whole text that it came from;
it counts only when that text, and the code that checked it, are the same.
"""

import json
import os
import zlib
from contextlib import suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from assembler import __version__
from assembler.core.instrument import Instrument, TelemetryKeyword, instrument_from
from assembler.errors import ConfigurationError

_KEYWORD_DEFAULTS = {f.name: f.default for f in fields(TelemetryKeyword) if f.default is not MISSING} | {"suspect_when": {}}


def default_instrument() -> Path:
    """Return the YAML to use when none is named: prefixes.yaml here, or the one that came with the assembler."""
    here = Path("prefixes.yaml")
    return here if here.is_file() else shipped_instrument() or here


def shipped_instrument() -> Path | None:
    """Return the YAML that came with the assembler."""
    package = Path(__file__).parent
    return next((p for p in (package / "prefixes.yaml", package.parent / "prefixes.yaml") if p.is_file()), None)


def yaml_text(path: Path) -> str:
    """Return the text of a YAML file, every byte of it, so that its SHA-256 is what `sha256sum` tells.

    Raises
    ------
    ConfigurationError
        When it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error


def load_instrument(path: Path) -> Instrument:
    """Read an instrument's YAML.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there.
    """
    text = yaml_text(path)
    memory = _memory(path)
    known = _recall(memory, text)
    if known is not None:
        return known
    from assembler.instruments import read_instrument  # pydantic and ruamel.yaml cost 0.1 s

    instrument = read_instrument(text, str(path))
    _remember(memory, text, instrument)
    return instrument


def _memory(path: Path) -> Path:
    """Return where the instrument of a YAML file is remembered."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if not cache.is_absolute():  # nobody's home
        return Path(os.devnull) / "none"
    return cache / "l0-assembler" / f"{zlib.crc32(os.fsencode(path.absolute())):08x}.json"


def _checked_by() -> list[Any]:
    """Return what tells the code that checks from any other: the version, and the files' sizes and times."""
    names = (
        "schema.py",
        "instruments.py",
        "contradictions.py",
        "problems.py",
        "core/instrument.py",
        "core/columns.py",
        "core/quantities.py",
    )
    files = [Path(__file__).parent / name for name in names]
    return [__version__, *([s.st_size, s.st_mtime_ns] for s in map(os.stat, files))]


def _recall(memory: Path, text: str) -> Instrument | None:
    """Return the instrument of a text when it is remembered; whatever is wrong with the memory, it is only that."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        sum_told, _, written = memory.read_bytes().partition(b"\n")
        if int(sum_told) == zlib.crc32(written):
            document = json.loads(written)
            if document["text"] == text and document["checked by"] == _checked_by():
                return instrument_from(document["instrument"])
    return None


def _remember(memory: Path, text: str, instrument: Instrument) -> None:
    """Keep an instrument with its text; where that is not possible, the next process checks again."""
    plain = asdict(instrument) | {"shared": sorted(instrument.shared)}
    for keyword in (*plain["table"], *(k for s in plain["snapshots"] for k in s["keywords"])):
        for name in [n for n, default in _KEYWORD_DEFAULTS.items() if keyword[n] == default]:
            del keyword[name]  # most keywords have most defaults, and what is not there need not be read
    written = json.dumps({"text": text, "checked by": _checked_by(), "instrument": plain}).encode()
    draft = memory.with_name(f".{memory.name}.{os.getpid()}")
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.write_bytes(b"%d\n%s" % (zlib.crc32(written), written))
        draft.replace(memory)
