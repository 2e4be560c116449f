"""What an instrument's YAML may say; an error names file, line, place and what was expected.

ruamel.yaml finds the nodes with their lines, pydantic says which of them are wrong, and what is right becomes the
frozen values of `assembler.core.instrument`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from assembler.core.extensions import is_structure
from assembler.core.instants import UNITS, parse_duration
from assembler.core.instrument import (
    MOMENTS,
    AmplifierCard,
    DurationRule,
    Event,
    ExposureRule,
    Extension,
    Instrument,
    MomentForm,
    Origin,
    OriginTimes,
    ServiceTime,
    Snapshot,
    TelemetryKeyword,
    TimeForm,
    ValueType,
)
from assembler.core.plan import OWN_TABLES
from assembler.core.primary import OWN_KEYWORDS, reserved_names
from assembler.core.snapshots import field_of
from assembler.core.telemetry import telemetry_columns
from assembler.errors import ConfigurationError
from assembler.problems import STRICT, first_problem, matching
from assembler.yaml import Place, dotted, read_yaml


def _duration(text: str) -> str:
    parse_duration(text)
    return text


Keyword = Annotated[str, matching(r"[A-Z0-9_-]{1,8}", "a FITS keyword: up to 8 of A-Z, 0-9, - and _")]
SourceKeyword = Annotated[str, matching(r"[ -~]{1,71}", "a keyword of up to 71 printable characters")]
Pattern = Annotated[str, matching(r"(?=.{1,8}$)[A-Z0-9_-]*#*[A-Z0-9_-]*", "up to 8 characters, with # for each digit, for example GAIN##")]
Prefix = Annotated[str, matching(r"[A-Z]{2}", "two upper-case letters")]
Name = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]{0,19}", "a word of up to 20 letters, digits and _")]
ExtensionName = Annotated[str, matching(r"[A-Z0-9_-]{1,60}", "an extension name: A-Z, 0-9, - and _")]
HistoryKeyword = Annotated[str, matching(r"[^.\s]+\.\S+", "service.KEYWORD")]
Duration = Annotated[str, AfterValidator(_duration)]
MomentName = Annotated[str, matching(r"[a-z][a-z0-9]{0,15}", "a word of up to 16 lower-case letters and digits")]
NumberFormat = Annotated[str, matching(r"(%[ 0+-]?\d{0,2}(\.\d{1,2})?[dfeEgG])?", "how printf writes one number, for example %.3f")]
Scalar = str | int | float | bool
Text = Annotated[str, matching(r"[ -~]*", "printable ASCII")]
FileName = Annotated[
    str,
    matching(
        r"(?:[A-Za-z0-9_.+-]|\{(?:date|seconds|frame|stem)\})+",
        "a file name with {date}, {seconds}, {frame} or {stem}, and no directory",
    ),
]
FilePattern = Annotated[
    str,
    matching(
        r"(?!(?:.*/)?\.\.?/)(?:[^{}*/]+/)*(?:[^{}*/]|\*|\{frame\})+",
        "a path below the night's directory; in the file's name * for anything and {frame} for the frame number",
    ),
]


class _Model(BaseModel):
    model_config = STRICT


class _Telemetry(_Model):
    source: HistoryKeyword = Field(alias="from")
    type: ValueType = "str"
    format: NumberFormat = ""
    scale: float | int | None = None
    unit: Text = ""
    comment: Text = ""
    prefer: bool = False
    required: bool = True
    default: Scalar | None = None
    missing: Literal["comment", "undefined"] = "comment"
    during: Literal["first", "last", "min", "max", "mean"] | None = None
    max_age: Duration | None = None
    must_refresh: bool | HistoryKeyword = False
    range: list[float | int | None] | None = None
    suspect: list[Scalar] = []
    suspect_when: dict[HistoryKeyword, list[Scalar]] = {}


class _TableRow(_Model):
    type: ValueType = "float"
    unit: Text = ""
    description: Text = ""


class _Event(_Model):
    source: HistoryKeyword = Field(alias="from")
    form: MomentForm = "iso"


class _Snapshot(_Model):
    at: _Event | None = None
    offset: Duration = "0 s"
    keywords: dict[Keyword, _Telemetry] = {}


class _Duration(_Model):
    unit: Literal["s", "ms", "us", "min", "h", "d"] = "s"
    tolerance: Duration = "1 s"


class _ServiceTime(_Model):
    source: HistoryKeyword = Field(alias="from")
    card: Keyword
    comment: Text = ""


class _Exposure(_Model):
    begin: _ServiceTime | None = None
    end: _ServiceTime | None = None
    settling: Duration = "0 s"
    triggered: HistoryKeyword | None = None
    trust: list[str] = []
    durations: dict[HistoryKeyword, _Duration] = {}


class _AmplifierCards(_Model):
    name: Pattern | None = None
    modes: dict[str, dict[str, int]]


class _Amplifiers(_Model):
    extensions: list[ExtensionName]
    cards: dict[Pattern, _AmplifierCards]


class _Times(_Model):
    begin: Keyword | None = None
    end: Keyword | None = None
    elapsed: Keyword | None = None
    form: TimeForm = "iso"
    unit: Literal["s", "ms", "us", "min", "h", "d"] = "s"
    scale: Literal["UTC", "TAI", "TT", "TDB", "TCG", "TCB", "GPS", "UT1"] | None = None
    tolerance: Duration = "0 s"
    durations: dict[Keyword, _Duration] = {}


class _Origin(_Model):
    prefix: Prefix
    flag: Keyword
    file: Keyword
    files: FilePattern
    match: Literal["frame", "time"] = "frame"
    frame: Keyword | None = None
    triggered: Text = ""
    extensions: dict[ExtensionName, int | str] = {}
    amplifiers: _Amplifiers | None = None
    times: _Times = Field(default_factory=_Times)
    renames: dict[SourceKeyword, Keyword] = {}


class _Instrument(_Model):
    instrument: Text
    filename: FileName
    output: str = "."
    missing: Literal["omit", "empty"] = "omit"
    shared: list[Keyword] = []
    exposure: _Exposure = Field(default_factory=_Exposure)
    origins: dict[Name, _Origin]
    snapshots: dict[MomentName, _Snapshot] = {}
    telemetry: dict[HistoryKeyword, _TableRow] = {}


def read_instrument(text: str, name: str) -> Instrument:
    """Read an instrument from the text of a YAML file.

    Parameters
    ----------
    text : str
    name : str
        The file's, for the errors.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there.
    """
    tree, lines = read_yaml(text, name)
    try:
        model = _Instrument.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError(first_problem(error, lines, name, _Instrument)) from None
    problems = sorted((lines.get(where, 1), dotted(where), told) for where, told in _contradictions(model))
    if problems:
        line, where, told = problems[0]
        raise ConfigurationError(f"{name}:{line}: {where}: {told}")
    return _instrument(model)


def _contradictions(model: _Instrument) -> Iterator[tuple[Place, str]]:
    """Yield what is right by itself and wrong together, with its place."""
    if not model.origins:
        yield ("origins",), "expected at least one origin"
    yield from _contradicting_cards(model)
    instrument = _instrument(model)
    reserved = reserved_names(instrument)
    yield from _contradicting_names(model, reserved)
    yield from _contradicting_extensions(model)
    for index, shared in enumerate(model.shared):
        if shared in reserved or is_structure(shared):
            yield ("shared", index), f"{shared} is a card of the L0 itself or of its telemetry; expected another one"
    for index, name in enumerate(model.exposure.trust):
        if name not in model.origins:
            yield ("exposure", "trust", index), f"expected an origin: {', '.join(model.origins)}; found {name}"
    for moment, snapshot in model.snapshots.items():
        yield from _contradicting_moment(moment, snapshot)
        for card, keyword in snapshot.keywords.items():
            where = ("snapshots", moment, "keywords", card)
            if card in reserved_names(instrument, telemetry=False) or is_structure(card):
                yield where, "the L0 itself has a card of that name; expected another one"
            others = [m for m, s in model.snapshots.items() if m != moment and card in s.keywords and s.keywords[card].prefer]
            if keyword.prefer and others:
                yield (*where, "prefer"), f"snapshot {others[0]} is preferred too; expected one"


def _contradicting_moment(moment: str, snapshot: _Snapshot) -> Iterator[tuple[Place, str]]:
    place: Place = ("snapshots", moment)
    if (moment in MOMENTS) == (snapshot.at is not None):
        told = "is the exposure's own; expected no at" if moment in MOMENTS else f"expected at, or one of {', '.join(MOMENTS)}"
        yield place, told
    if moment not in MOMENTS and moment in {c.name for c in telemetry_columns(())}:
        yield place, "is a column of the TELEMETRY table; expected another name"
    for card, keyword in snapshot.keywords.items():
        where = (*place, "keywords", card)
        if keyword.default is not None and field_of(_broadcast(keyword.default), keyword.type) is None:
            yield (*where, "default"), f"expected a value of type {keyword.type}; found {keyword.default!r}"
        if keyword.type not in ("int", "float"):
            for name in ("format", "scale", "range"):
                if getattr(keyword, name):
                    yield (*where, name), f"is for numbers; expected type int or float, found {keyword.type}"
            if keyword.during in ("min", "max", "mean"):
                yield (*where, "during"), f"{keyword.during} is of numbers; expected type int or float, found {keyword.type}"
        bounds = keyword.range
        if bounds is not None and (len(bounds) != 2 or (None not in bounds and bounds[0] > bounds[1])):  # type: ignore[operator]
            yield (*where, "range"), "expected the least and the greatest value, null where there is none"
        if keyword.suspect_when and not keyword.suspect:
            yield (*where, "suspect_when"), "expected suspect too"


def _contradicting_cards(model: _Instrument) -> Iterator[tuple[Place, str]]:
    """Yield prefixes, and cards of the L0 itself, that two would share."""
    prefixes: dict[str, str] = {}
    owners = dict.fromkeys(OWN_KEYWORDS, "every L0")
    claims: list[tuple[Place, str, str]] = []
    for name, origin in model.origins.items():
        place: Place = ("origins", name)
        if origin.prefix in prefixes:
            yield (*place, "prefix"), f"{origin.prefix} is that of {prefixes[origin.prefix]} already; expected another one"
        prefixes.setdefault(origin.prefix, name)
        claims += [((*place, "flag"), origin.flag, name), ((*place, "file"), origin.file, name)]
    for what, service in (("begin", model.exposure.begin), ("end", model.exposure.end)):
        if service:
            claims.append((("exposure", what, "card"), service.card, "the exposure service"))
    for place, card, owner in claims:
        if card in owners or is_structure(card):
            yield place, f"{card} is that of {owners.get(card, 'every L0')} already; expected another one"
        owners.setdefault(card, owner)


def _contradicting_names(model: _Instrument, reserved: frozenset[str]) -> Iterator[tuple[Place, str]]:
    renamed: dict[str, str] = {}
    for name, origin in model.origins.items():
        for keyword, new in origin.renames.items():
            where = ("origins", name, "renames", keyword)
            if new in renamed:
                yield where, f"{new} is the new name of {renamed[new]} already; expected another one"
            elif new in reserved or is_structure(new):
                yield where, f"{new} is a card of the L0 itself or of its telemetry; expected another one"
            renamed.setdefault(new, f"{keyword} of {name}")
        if origin.times.elapsed and not origin.times.begin:
            yield ("origins", name, "times", "elapsed"), "expected begin too"


def _contradicting_extensions(model: _Instrument) -> Iterator[tuple[Place, str]]:
    owners: dict[str, str] = {}
    for name, origin in model.origins.items():
        for extension, hdu in origin.extensions.items():
            where = ("origins", name, "extensions", extension)
            if extension in owners or extension in (*OWN_TABLES, "PRIMARY"):
                yield where, f"is an extension of {owners.get(extension, 'every L0')} already; expected another name"
            if (isinstance(hdu, str) and not re.fullmatch(r"[^,]+(,\d{1,9})?", hdu)) or (isinstance(hdu, int) and hdu < 0):
                yield where, f"expected an HDU's number, its EXTNAME, or EXTNAME,EXTVER; found {hdu!r}"
            owners.setdefault(extension, name)
        if not origin.amplifiers:
            continue
        for index, extension in enumerate(origin.amplifiers.extensions):
            if extension not in origin.extensions:
                yield ("origins", name, "amplifiers", "extensions", index), f"{extension} is no extension of {name}"
        for pattern, cards in origin.amplifiers.cards.items():
            place: Place = ("origins", name, "amplifiers", "cards", pattern)
            digits = pattern.count("#")
            if not digits or "#" * digits not in pattern:
                yield place, "expected one group of #, one for each digit"
            if cards.name and "#" in cards.name and cards.name.count("#") != digits:
                yield (*place, "name"), f"expected as many # as {pattern} has, or none"
            for mode, numbers in cards.modes.items():
                if not re.fullmatch(r"[1-9]\d{0,3}", mode):
                    yield (*place, "modes", mode), "expected a read mode: the number of amplifier HDUs"
                    continue
                for number, amplifier in numbers.items():
                    inside = (*place, "modes", mode, number)
                    if not re.fullmatch(rf"\d{{{digits}}}", number):
                        yield inside, f"expected {digits} digits, as {pattern} has"
                    if not 1 <= amplifier <= min(int(mode), len(origin.amplifiers.extensions)):
                        yield inside, f"expected an amplifier from 1 to {min(int(mode), len(origin.amplifiers.extensions))}"


def _instrument(model: _Instrument) -> Instrument:
    return Instrument(
        name=model.instrument,
        filename=model.filename,
        output=model.output,
        missing=model.missing,
        shared=frozenset(model.shared),
        exposure=ExposureRule(
            begin=_service_time(model.exposure.begin),
            end=_service_time(model.exposure.end),
            settling=parse_duration(model.exposure.settling),
            triggered=model.exposure.triggered or "",
            trust=tuple(model.exposure.trust) or tuple(model.origins),
            durations=_durations(model.exposure.durations),
        ),
        origins=tuple(_origin(name, origin) for name, origin in model.origins.items()),
        snapshots=tuple(
            _snapshot(moment, model.snapshots[moment])
            for moment in dict.fromkeys([*MOMENTS, *model.snapshots])
            if moment in model.snapshots
        ),
        table=tuple(
            TelemetryKeyword(card="", source=source, type=row.type, unit=row.unit, comment=row.description)
            for source, row in model.telemetry.items()
        ),
    )


def _snapshot(moment: str, model: _Snapshot) -> Snapshot:
    return Snapshot(
        moment=moment,
        offset=parse_duration(model.offset),
        keywords=tuple(_telemetry(card, keyword) for card, keyword in model.keywords.items()),
        event=Event(source=model.at.source, form=model.at.form) if model.at else None,
    )


def _telemetry(card: str, model: _Telemetry) -> TelemetryKeyword:
    low, high = model.range if model.range and len(model.range) == 2 else (None, None)
    return TelemetryKeyword(
        card=card,
        source=model.source,
        type=model.type,
        unit=model.unit,
        comment=model.comment,
        prefer=model.prefer,
        required=model.required,
        default=_broadcast(model.default) if model.default is not None else None,
        missing=model.missing,
        format=model.format,
        scale=str(model.scale) if model.scale is not None else "",
        low=low,
        high=high,
        max_age=parse_duration(model.max_age) if model.max_age else None,
        must_refresh=model.must_refresh if isinstance(model.must_refresh, str) else "always" if model.must_refresh else "",
        during=model.during or "",
        suspect=tuple(map(_broadcast, model.suspect)),
        suspect_when={source: tuple(map(_broadcast, values)) for source, values in model.suspect_when.items()},
    )


def _broadcast(value: Scalar) -> str:
    """Return a value of the YAML as a history has it, as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _durations(model: Mapping[str, _Duration]) -> tuple[DurationRule, ...]:
    return tuple(
        DurationRule(source=source, unit=UNITS[told.unit], tolerance=parse_duration(told.tolerance)) for source, told in model.items()
    )


def _origin(name: str, model: _Origin) -> Origin:
    amplifiers = model.amplifiers
    return Origin(
        name=name,
        prefix=model.prefix,
        flag=model.flag,
        file_card=model.file,
        files=model.files,
        match=model.match,
        frame=model.frame or "",
        triggered=model.triggered,
        extensions=tuple(Extension(name=extension, hdu=hdu) for extension, hdu in model.extensions.items()),
        amplifiers=tuple(amplifiers.extensions) if amplifiers else (),
        amplifier_cards=tuple(
            AmplifierCard(
                pattern=pattern,
                name=cards.name or pattern,
                modes={int(mode): dict(numbers) for mode, numbers in cards.modes.items() if mode.isdecimal()},
            )
            for pattern, cards in (amplifiers.cards.items() if amplifiers else ())
        ),
        renames=dict(model.renames),
        times=OriginTimes(
            begin=model.times.begin or "",
            end=model.times.end or "",
            elapsed=model.times.elapsed or "",
            form=model.times.form,
            elapsed_unit=UNITS[model.times.unit],
            tolerance=parse_duration(model.times.tolerance),
            scale=model.times.scale or "",
            durations=_durations(model.times.durations),
        ),
    )


def _service_time(model: _ServiceTime | None) -> ServiceTime | None:
    return ServiceTime(source=model.source, card=model.card, comment=model.comment) if model else None
