"""The record of an exposure: what of it a database is asked for, from the headers of its L0 alone."""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from assembler.core.cards import Value, printable_text
from assembler.core.columns import COLUMNS, LARGEST, Column
from assembler.core.instants import DAY, format_iso, parse_iso
from assembler.core.instrument import MOMENTS, ColumnRule, Instrument, RecordRule
from assembler.core.lines import as_line
from assembler.core.quantities import QUANTITIES, converted, number
from assembler.core.snapshots import writers
from assembler.core.versions import is_version

Cell = str | int | float | bool | None

LONGEST = 500
"""Characters of a text that a record keeps."""

MOST_KEYWORDS = 5000
"""Keywords that a record keeps besides its columns."""

_EPOCH = dt.date(1970, 1, 1).toordinal()
_J2000 = 2000.0
_FIELD = re.compile(r"\{(day_obs|seq_num|exposure_id)(?::(0?\d{1,2}))?\}")
_TIMES = {"begin_time": "DATE-BEG", "end_time": "DATE-END", "l0_written": "DATE"}
_COORDINATES = ("tracking_ra", "tracking_dec")
_BEYOND_ZENITH = -1.0
_FIRST = ("instrument", "seq_num", "exposure_id", "obs_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginRow:
    """What a record tells of one origin.

    Attributes
    ----------
    origin : str
        As the YAML names it.
    attached : bool
        Whether its HDUs are in the L0.
    reason : str or None
        Why they are not: the code of the finding.
    file_name : str or None
        Of its sub-FITS.
    frame : int or None
        The frame number that its sub-FITS tells.
    begin_time, end_time : str or None
        As its sub-FITS tells them, in UTC.
    elapsed : float or None
        How long it was [s]: as a keyword tells it, or else from its begin to its end.
    amplifiers : int or None
        How many amplifiers were read; None of an origin that has none.
    """

    origin: str
    attached: bool
    reason: str | None = None
    file_name: str | None = None
    frame: int | None = None
    begin_time: str | None = None
    end_time: str | None = None
    elapsed: float | None = None
    amplifiers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordRow:
    """A card of the L0's primary that fills no column: its value as text, the unit and the snapshot that the YAML tells."""

    keyword: str
    value: str
    unit: str
    moment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An exposure as a database knows it.

    Attributes
    ----------
    columns : mapping of str to (str, int, float, bool or None)
        Every column of `assembler.core.columns.COLUMNS`; None where it is not known.
    origins : tuple of OriginRow
    keywords : tuple of KeywordRow
    problems : tuple of str
        What of the headers could not be made a column, one line each.
    """

    columns: Mapping[str, Cell]
    origins: tuple[OriginRow, ...] = ()
    keywords: tuple[KeywordRow, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """The L0's version."""
        told = self.columns["l0_version"]
        assert isinstance(told, int)
        return told


def exposure_record(instrument: Instrument, values: Mapping[str, Value], origins: Sequence[OriginRow] = ()) -> Record:
    """Make the record of an exposure.

    Parameters
    ----------
    instrument : Instrument
    values : mapping of str to value
        Of the primary header of an L0 of this instrument (`is_l0_of`), by keyword.
    origins : sequence of OriginRow
    """
    columns, problems = exposure_columns(instrument, values)
    return Record(columns=columns, origins=tuple(origins), keywords=_rest(instrument, values), problems=tuple(problems))


def exposure_columns(instrument: Instrument, values: Mapping[str, Value]) -> tuple[dict[str, Cell], list[str]]:
    """Return the columns of an exposure, and in one line each what of the headers could not be made one.

    Parameters
    ----------
    instrument : Instrument
    values : mapping of str to value
        Of the primary header of an L0, by keyword.
    """
    told: dict[str, Cell] = dict.fromkeys(COLUMNS)
    problems: list[str] = []

    def tell(column: str, made: Callable[[], Cell], source: str) -> None:
        try:
            cell = made()
        except ValueError as error:
            problems.append(as_line(f"{column}: {source or 'what the YAML says'} {error}", LONGEST))
        else:
            told[column] = told[column] if cell is None else cell

    for column, keyword in _TIMES.items():
        tell(column, lambda keyword=keyword: _time(values.get(keyword)), keyword)  # type: ignore[misc]
    name = values.get("OFNAME")
    version = values.get("L0VER")
    told["l0_name"] = _text(name) if isinstance(name, str) else ""
    told["l0_version"] = version if is_version(version) else 1
    told["instrument"] = _text(instrument.name)
    told["obs_id"] = str(told["l0_name"]).removesuffix(".fits")
    if isinstance(told["begin_time"], str):
        told["day_obs"] = day_of(parse_iso(told["begin_time"]), instrument.record)
    rules = {rule.column: rule for rule in instrument.record.columns}
    for column in dict.fromkeys([*_FIRST, *COLUMNS]):
        if column in rules:
            source = source_of(rules[column], values)
            tell(column, lambda column=column, source=source: _cell(rules[column], source, values, told), source)  # type: ignore[misc]
    problems += _without_other_equinox(instrument.record, values, told)
    return told, problems


def day_of(begin: int, rule: RecordRule) -> int:
    """Return the date of the night, YYYYMMDD, that an exposure belongs to which began at an instant [ns].

    >>> noon = RecordRule(day_begins=DAY // 2)
    >>> day_of(parse_iso("2024-04-22T08:00:00"), noon), day_of(parse_iso("2024-04-22T12:00:00"), noon)
    (20240421, 20240422)
    """
    date = dt.date.fromordinal((begin - rule.day_begins) // DAY + _EPOCH)
    return date.year * 10_000 + date.month * 100 + date.day


def is_l0_of(instrument: Instrument, values: Mapping[str, Value]) -> bool:
    """Tell whether a primary header is that of an L0 of an instrument that this assembler wrote, and of no other.

    Its name has to be one that the YAML makes, and its origins have to be those of the YAML. What an L0 was made with, an older
    YAML or another version, does not matter.

    Parameters
    ----------
    instrument : Instrument
    values : mapping of str to value
    """
    name = values.get("OFNAME")
    if not isinstance(name, str) or not _name_pattern(instrument.filename).fullmatch(name):
        return False
    flags = [values.get(origin.flag) for origin in instrument.origins]
    files = {origin.flag: values.get(origin.file_card) for origin in instrument.origins}
    return (
        isinstance(values.get("FAVER"), str)
        and is_version(values.get("L0VER"))
        and values.get("TIMESYS") == "UTC"
        and values.get("CAMERAS") == len(instrument.origins)
        and all(flag in ("YES", "NO") for flag in flags)
        and all((values.get(flag) == "YES") == bool(file) for flag, file in files.items())
    )


def source_of(rule: ColumnRule, values: Mapping[str, Value]) -> str:
    """Return the keyword that fills a column: the first one that has a value; the empty string where none has.

    >>> source_of(ColumnRule(column="target_name", sources=("OBJECT", "TARGNAME")), {"OBJECT": " ", "TARGNAME": "T1"})
    'TARGNAME'
    """
    told = ((source, values.get(source)) for source in rule.sources)
    return next((source for source, value in told if (value.strip() if isinstance(value, str) else value is not None)), "")


def template_fields(template: str) -> tuple[str, ...]:
    """Return the fields of a template, with the empty string for each brace that belongs to none.

    >>> template_fields("{day_obs}{seq_num:05}"), template_fields("{night}")
    (('day_obs', 'seq_num'), ('', ''))
    """
    fields = tuple(found[1] for found in _FIELD.finditer(template))
    return fields + ("",) * len(re.findall("[{}]", _FIELD.sub("", template)))


def column_cell(column: Column, value: Value, unit: str = "") -> Cell:
    """Return a value as a column has it.

    Raises
    ------
    ValueError
        When it cannot be that; the text says why, for behind what it is.

    >>> column_cell(COLUMNS["zenith_angle"], 44.25, "elevation"), column_cell(COLUMNS["azimuth"], -10)
    (45.75, 350.0)
    """
    if column.kind == "text":
        return _text(value if isinstance(value, str) else _told(value))
    if column.kind == "bool":
        return _truth(value)
    if column.kind == "int":
        return _whole(value, column)
    units = QUANTITIES[column.unit]
    told = converted(value, units[unit] if unit else next(iter(units.values())))
    if column is COLUMNS["zenith_angle"] and _BEYOND_ZENITH <= told < 0:
        return 0.0  # a telescope that leans back a little
    if not column.least <= told <= column.greatest:
        raise ValueError(f"is {told:g}, which is not from {column.least:g} to {column.greatest:g}")
    return told % 360 % 360 if column.wraps else told  # once more, as a little less than 0 becomes 360 itself


def _cell(rule: ColumnRule, source: str, values: Mapping[str, Value], told: Mapping[str, Cell]) -> Cell:
    """Return what a rule makes of the headers; None where there is nothing to make it of."""
    column = COLUMNS[rule.column]
    if rule.template:
        made = _fill(rule.template, told)
        return None if made is None else column_cell(column, made)
    if not rule.sources:
        return column_cell(column, rule.value)
    if not source:
        return None
    value = values.get(source)
    if rule.pattern:
        found = re.fullmatch(rule.pattern, _told(value)[:LONGEST].strip())
        if column.kind == "bool":
            return found is not None
        if found is None or found[1] is None:
            raise ValueError(f"is {_told(value)[:60]!r}, which is not as {rule.pattern!r} says")
        value = found[1]
    if rule.words:
        word = _told(value).strip().lower()
        if word not in rule.words:
            raise ValueError(f"is {_told(value)[:60]!r}, which is none of the words")
        value = rule.words[word]
    return column_cell(column, value, rule.unit)


def _fill(template: str, told: Mapping[str, Cell]) -> str | None:
    """Return a template with its fields; None where one of them is not known."""
    if any(told[name] is None for name in template_fields(template)):
        return None

    def field(found: re.Match[str]) -> str:
        width = found[2] or "0"
        text = str(told[found[1]])
        return text.rjust(int(width), "0" if width.startswith("0") else " ")

    return _FIELD.sub(field, template)


def _without_other_equinox(rule: RecordRule, values: Mapping[str, Value], told: dict[str, Cell]) -> Iterable[str]:
    """Forget coordinates that are of another equinox than J2000."""
    value = values.get(rule.equinox) if rule.equinox else None
    value = value.strip().removeprefix("J") if isinstance(value, str) else value
    if value in (None, "") or all(told[name] is None for name in _COORDINATES):
        return
    try:
        if abs(number(value) - _J2000) < 1e-3:
            return
    except ValueError:
        pass
    told.update(dict.fromkeys(_COORDINATES))
    yield as_line(f"{' and '.join(_COORDINATES)}: {rule.equinox} is {_told(value)[:60]!r}, and not 2000", LONGEST)


def _rest(instrument: Instrument, values: Mapping[str, Value]) -> tuple[KeywordRow, ...]:
    """Return the cards of telemetry, of the exposure service and shared ones, as far as no column has them."""
    used = {source for rule in instrument.record.columns for source in rule.sources} | {instrument.record.equinox}
    known = {s.card: ("", "service") for s in (instrument.exposure.begin, instrument.exposure.end) if s}
    known |= dict.fromkeys(sorted(instrument.shared), ("", ""))
    moments = _moments(instrument)
    known |= {card: (keyword.unit, moments[card]) for card, keyword in writers(instrument).items()}
    rows = [
        KeywordRow(keyword=keyword, value=_text(_told(value)), unit=unit, moment=moment)
        for keyword, (unit, moment) in known.items()
        if keyword not in used and (value := values.get(keyword)) is not None
    ]
    return tuple(rows[:MOST_KEYWORDS])


def instant_of(instrument: Instrument, card: str, values: Mapping[str, Value]) -> str | None:
    """Return the instant at which the value of a card was taken, in UTC; of one that nobody tells, the begin; None where it is no time."""
    told = dict(zip(MOMENTS, ("DATE-BEG", "DATE-MID", "DATE-END"), strict=True))
    keyword = told.get(_moments(instrument).get(card, ""), "DATE-BEG")
    try:
        return _time(values.get(keyword))
    except ValueError:
        return None


def _moments(instrument: Instrument) -> dict[str, str]:
    """Return the moment whose snapshot writes each card of telemetry."""
    wanted = writers(instrument)
    return {k.card: snapshot.moment for snapshot in instrument.snapshots for k in snapshot.keywords if wanted[k.card] is k}


def _time(value: Value) -> str | None:
    if value is None:
        return None
    return format_iso(parse_iso(_told(value)))


def _told(value: Value) -> str:
    """Return a value as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "" if value is None else str(value)


def _text(value: str) -> str:
    return printable_text(value.strip())[:LONGEST]


def _truth(value: Value) -> bool:
    word = _told(value).strip().lower()
    if word not in ("true", "false", "t", "f", "yes", "no", "1", "0"):
        raise ValueError(f"is {word[:60]!r}, which is neither true nor false")
    return word in ("true", "t", "yes", "1")


def _whole(value: Value, column: Column) -> int:
    told: int
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,30}\s*", value, re.ASCII):
        told = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        told = value
    else:
        real = number(value)
        if not real.is_integer():
            raise ValueError("is no whole number")
        told = int(real)
    if not max(column.least, -LARGEST) <= told <= LARGEST:
        raise ValueError(f"is no whole number from {max(column.least, -LARGEST):.0f} to {LARGEST}")
    return told


def _name_pattern(template: str) -> re.Pattern[str]:
    """Return what names of L0s look like; {stem} is that of a sub-FITS."""
    fields = {"{date}": r"\d{8}", "{seconds}": r"\d{5}\.\d\d", "{frame}": r"\d+", "{stem}": r"[A-Za-z0-9_-]+"}
    parts = re.split(r"(\{\w+\})", template)
    return re.compile("".join(fields.get(part) or re.escape(part) for part in parts), re.ASCII)
