"""Corrections of an instrument's exposures: a directory of YAML files; an error names file, line, place and what was expected."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from assembler.config import yaml_text
from assembler.core.cards import COMMENTARY, Record, Value, date_fault, text_of
from assembler.core.corrections import Correction, conflict, is_told, telemetry_field
from assembler.core.extensions import tells_how_data_are_stored
from assembler.core.instants import parse_iso
from assembler.core.instrument import Instrument
from assembler.core.snapshots import writers
from assembler.errors import ConfigurationError
from assembler.problems import STRICT, checked, matching, refuse
from assembler.yaml import Place

_LONGEST = 500
"""Characters that a corrected value may have: every row of the CARDS table is as wide as the longest."""

_TYPES = {"EXTNAME": (str, "text"), "EXTVER": (int, "a whole number"), "EXTLEVEL": (int, "a whole number")}
"""Of the keywords whose type the FITS Standard tells (4.4.2.6), which one."""


def _value(value: Any) -> Value:
    if isinstance(value, str) and not (value.isascii() and value.isprintable() and len(value) <= _LONGEST):
        raise ValueError(f"expected printable ASCII of up to {_LONGEST} characters")
    if not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("expected text, a number, true, false or null")
    return value


def _frames(value: Any) -> tuple[int, int]:
    frames = value if isinstance(value, list) else [value, value]
    if len(frames) != 2 or not all(type(n) is int for n in frames) or not 0 <= frames[0] <= frames[1]:
        raise ValueError("expected a frame number, or [first, last]")
    return frames[0], frames[1]


def _time(text: str) -> str:
    parse_iso(text)
    return text


_Value = Annotated[Any, AfterValidator(_value)]
_Time = Annotated[str, AfterValidator(_time)]


class _Model(BaseModel):
    model_config = STRICT


class _Correction(_Model):
    reason: Annotated[str, matching(r"(?=.*[!-~])[ -~]{1,300}", "why, in up to 300 characters of printable ASCII")]
    frames: Annotated[Any, AfterValidator(_frames)] = None
    since: _Time | None = Field(default=None, alias="from")
    until: _Time | None = None
    origin: str | None = None
    hdu: int | None = None
    keyword: Annotated[str, matching(r"[!-~]{1,8}", "a keyword of up to 8 printable characters")] | None = None
    history: str | None = None
    was: _Value = None
    value: _Value


class _Document(_Model):
    corrections: list[_Correction]


def load_corrections(directory: Path, instrument: Instrument) -> tuple[Correction, ...]:
    """Read every ``*.yaml`` file of a directory, in the order of their names; hidden ones are none.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there; or that there is no such directory, or that two of them give
        one card different values. Where only an exposure can tell that two meet, it is told when that exposure is planned.
    """
    try:
        with os.scandir(directory) as entries:
            names = sorted(e.name for e in entries if e.name.endswith(".yaml") and not e.name.startswith("."))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{directory}: there is no such directory of corrections") from error
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot be read: {error}") from error
    corrections = [c for name in names for c in read_corrections(yaml_text(directory / name), str(directory / name), instrument)]
    _refuse_conflicts(corrections)
    return tuple(corrections)


def read_corrections(text: str, name: str, instrument: Instrument) -> tuple[Correction, ...]:
    """Read corrections from the text of a YAML file.

    Parameters
    ----------
    text : str
    name : str
        The file's path, for the errors; its last part is for HISTORY.
    instrument : Instrument
        Whose origins and history keywords they may name.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there.
    """
    model, lines = checked(text, name, _Document)
    refuse(
        (
            (("corrections", index, *where), told)
            for index, correction in enumerate(model.corrections)
            for where, told in _contradictions(correction, instrument)
        ),
        lines,
        name,
    )
    return tuple(_correction(c, name, lines["corrections", i]) for i, c in enumerate(model.corrections))


def _refuse_conflicts(corrections: Sequence[Correction]) -> None:
    """Refuse two that differ of which every exposure of some frame, or of some time, would have both."""
    spans: dict[tuple[Any, ...], list[tuple[float, float, Correction]]] = {}
    for correction in corrections:
        timed = correction.since is not None or correction.until is not None
        if correction.frames and timed:
            continue
        start, end = correction.frames or (_or(correction.since, -math.inf), _or(correction.until, math.inf) - 1)
        about = (timed, correction.what, *((type(w), w) for w in correction.was))
        spans.setdefault(about, []).append((start, end, correction))
    for alike in spans.values():
        running: list[tuple[float, Correction]] = []
        for start, end, correction in sorted(alike, key=lambda span: span[0]):
            running = [(last, other) for last, other in running if last >= start]
            for _, other in running:
                if not is_told(correction.value, text_of(other.value)):
                    first, second = sorted((other, correction), key=corrections.index)
                    raise conflict(first, second, correction.what)
            running.append((end, correction))


def _or(instant: int | None, otherwise: float) -> float:
    return otherwise if instant is None else instant


def _contradictions(model: _Correction, instrument: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield what is right by itself and wrong together, or for the instrument, with its place in the entry."""
    if model.frames is None and model.since is None and model.until is None:
        yield (), "expected frames, from or until"
    if model.since is not None and model.until is not None and parse_iso(model.since) >= parse_iso(model.until):
        yield ("until",), f"expected a time after {model.since}, found {model.until}"
    if model.history is not None:
        if model.origin is not None or model.keyword is not None or model.hdu is not None:
            yield ("history",), "expected either history, or origin and keyword"
        else:
            yield from _contradicting_history(model, model.history, instrument)
    elif model.origin is None or model.keyword is None:
        yield (), "expected origin and keyword, or history"
    else:
        names = [o.name for o in instrument.origins]
        if model.origin not in names:
            yield ("origin",), f"expected an origin: {', '.join(names)}; found {model.origin}"
        if model.hdu is not None and not 0 <= model.hdu < 10_000:
            yield ("hdu",), f"expected the number of an HDU, from 0, found {model.hdu}"
        yield from _contradicting_card(model, model.keyword.upper())


def _contradicting_history(model: _Correction, source: str, instrument: Instrument) -> Iterator[tuple[Place, str]]:
    fed = [k for k in writers(instrument).values() if k.source == source]
    if not fed:
        yield ("history",), f"expected a history keyword that a snapshot in the instrument's YAML writes a card of, found {source}"
    for keyword in fed:
        if telemetry_field(model.value, keyword.type) is None:
            yield ("value",), f"expected a value of type {keyword.type}, which {keyword.card} has, found {model.value!r}"


def _contradicting_card(model: _Correction, keyword: str) -> Iterator[tuple[Place, str]]:
    if tells_how_data_are_stored(keyword):
        yield ("keyword",), f"{keyword} tells how the data are stored, which stays as it is; expected another one"
    elif keyword in (*COMMENTARY, "CONTINUE", "HIERARCH"):
        yield ("keyword",), f"a {keyword} card has no value to correct; expected another one"
    elif keyword in _TYPES and type(model.value) is not _TYPES[keyword][0]:
        yield ("value",), f"expected {_TYPES[keyword][1]}, as FITS asks for {keyword}, found {model.value!r}"
    elif model.value is not None:
        fault = date_fault(Record(0, (), keyword, keyword, "value", text_of(model.value), ""))
        if fault:
            yield ("value",), f"expected YYYY-MM-DDThh:mm:ss.sss; {model.value!r} is {fault}"


def _correction(model: _Correction, name: str, line: int) -> Correction:
    return Correction(
        file=os.path.basename(name),
        place=f"{name}:{line}",
        reason=model.reason.strip(),
        value=model.value,
        was=(model.was,) if "was" in model.model_fields_set else (),
        frames=model.frames,
        since=parse_iso(model.since) if model.since is not None else None,
        until=parse_iso(model.until) if model.until is not None else None,
        origin=model.origin or "",
        hdu=model.hdu or 0,
        keyword=model.keyword or "",
        history=model.history or "",
    )
