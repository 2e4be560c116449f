"""What an instrument's YAML says, as frozen values. `assembler.config` reads them; nothing here knows KPF."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from assembler.core.instants import UNITS

Match = Literal["frame", "time"]
TimeForm = Literal["iso", "mjd", "jd", "unix"]
ValueType = Literal["str", "int", "float", "bool"]
MomentForm = Literal["iso", "mjd", "jd", "unix", "broadcast"]
During = Literal["", "first", "last", "min", "max", "mean"]
MOMENTS = ("begin", "middle", "end")
"""The moments that every exposure has; the YAML may name more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension of the L0 and the HDU of the sub-FITS that it is: its number, its EXTNAME, or ``EXTNAME,EXTVER``."""

    name: str
    hdu: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class AmplifierCard:
    """Cards of a primary that belong to one amplifier each.

    Attributes
    ----------
    pattern : str
        Keyword with ``#`` for each digit, for example ``GAIN##``.
    name : str
        Keyword in the extension, with the same ``#``, or without.
    modes : mapping of int to (mapping of str to int)
        By read mode, the amplifier (from 1) of each number.
    """

    pattern: str
    name: str
    modes: Mapping[int, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationRule:
    """A keyword, of a header or of the history, that tells how long the exposure was.

    Attributes
    ----------
    source : str
    unit : int
        Nanoseconds in its unit.
    tolerance : int
        How far begin and end may be from being as far apart [ns].
    """

    source: str
    unit: int
    tolerance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginTimes:
    """Where an origin tells its begin and end, and how far they may be from the exposure's.

    Attributes
    ----------
    begin, end, elapsed : str
        Keywords; empty when there is none. Elapsed serves where there is no end.
    form : str
        How begin and end are written.
    elapsed_unit : int
        Nanoseconds in the unit of elapsed.
    tolerance : int
        [ns]
    scale : str
        Time scale, whatever TIMESYS says; empty where TIMESYS tells it.
    durations : tuple of DurationRule
        Keywords to compare begin and end with.
    """

    begin: str
    end: str
    elapsed: str
    form: TimeForm
    elapsed_unit: int
    tolerance: int
    scale: str = ""
    durations: tuple[DurationRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A camera or subsystem that delivers a sub-FITS.

    ``required``: whether an exposure waits for it where nobody tells who took part; ``readout``: how long it takes [ns], from
    the exposure's end to its sub-FITS; ``renamed``: whether its writer renames a sub-FITS into place once it is whole;
    ``announced``: the history keyword that tells the path of its newest sub-FITS, or empty.
    """

    name: str
    prefix: str
    flag: str
    file_card: str
    files: str
    match: Match
    frame: str
    triggered: str
    extensions: tuple[Extension, ...]
    amplifiers: tuple[str, ...]
    amplifier_cards: tuple[AmplifierCard, ...]
    renames: Mapping[str, str]
    times: OriginTimes
    required: bool = True
    readout: int = 0
    renamed: bool = False
    announced: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTime:
    """The exposure service's own begin or end: its history keyword, and the card that tells it as it was."""

    source: str
    card: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureRule:
    """How begin and end are decided, and what they are compared with."""

    begin: ServiceTime | None
    end: ServiceTime | None
    settling: int
    triggered: str
    trust: tuple[str, ...]
    durations: tuple[DurationRule, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """History keywords that it asks for, each once."""
        named = [asked.source for asked in (self.begin, self.end) if asked]
        return tuple(dict.fromkeys([*named, *([self.triggered] if self.triggered else []), *(d.source for d in self.durations)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryKeyword:
    """A history keyword, and how its value becomes a card.

    Attributes
    ----------
    card : str
        Its keyword in the primary; empty when it is in the TELEMETRY table only.
    source : str
        ``service.KEYWORD``
    type, unit, comment : str
    prefer : bool
        Whether this one is written where another snapshot has the same card.
    required : bool
        Whether it is worth a warning when there is no value.
    default : str or None
        What is written when the history has no value.
    missing : str
        What is written when there is neither: a comment, or an undefined card.
    format : str
        How a number is written, as printf has it; empty for the digits that were broadcast.
    scale : str
        What a number is multiplied by, as a decimal number; empty for nothing.
    low, high : float or None
        Where a number is plausible, in the unit that is written.
    max_age : int or None
        How old a value may be [ns].
    must_refresh : str
        ``always``, or the history keyword with which it has to change; empty where it may stay as it was.
    during : str
        Which value over the exposure is written; empty for that of the moment.
    suspect : tuple of str
        Values that are broadcast when the true one is not known.
    suspect_when : mapping of str to tuple of str
        By history keyword, the values with which these are suspect; always, when it is empty.
    """

    card: str
    source: str
    type: ValueType
    unit: str
    comment: str
    prefer: bool = False
    required: bool = True
    default: str | None = None
    missing: Literal["comment", "undefined"] = "comment"
    format: str = ""
    scale: str = ""
    low: float | None = None
    high: float | None = None
    max_age: int | None = None
    must_refresh: str = ""
    during: During = ""
    suspect: tuple[str, ...] = ()
    suspect_when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """History keywords that it takes to write it."""
        return (self.source, *([self.must_refresh] if "." in self.must_refresh else []), *self.suspect_when)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A moment that the history tells: the time that a keyword has as its value, or when it was broadcast."""

    source: str
    form: MomentForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The telemetry keywords that are asked for at one moment, moved by an offset [ns].

    ``event`` is None for begin, middle and end.
    """

    moment: str
    offset: int
    keywords: tuple[TelemetryKeyword, ...]
    event: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRule:
    """What fills a column of the exposure's record, `assembler.core.columns.COLUMNS`.

    Attributes
    ----------
    column : str
    sources : tuple of str
        Keywords of the L0's primary; the first one that has a value counts.
    value : str, int, float, bool or None
        What it is in every exposure, where there are no sources.
    template : str
        What it is made of, with ``{day_obs}``, ``{seq_num:05}`` or ``{exposure_id}``, where there are neither.
    unit : str
        Of the sources' value; empty for the column's own.
    words : mapping of str to (str, int, float or bool)
        What each word means, in lower case; a word that is not among them means nothing. Empty: the value is what it is.
    pattern : str
        Regular expression: of a column that is true or false, what the text has to be; of others, with the text wanted as its group.
    """

    column: str
    sources: tuple[str, ...] = ()
    value: str | int | float | bool | None = None
    template: str = ""
    unit: str = ""
    words: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the observatory is: longitude (east is positive) and latitude [deg], and height above the ellipsoid [m] (WGS 84)."""

    longitude: float
    latitude: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRule:
    """How the record of an exposure is made.

    Attributes
    ----------
    columns : tuple of ColumnRule
    day_begins : int
        At which time of day in UTC a night's date begins [ns].
    frame : str
        The celestial frame that right ascension and declination are in, at J2000.
    equinox : str
        Keyword that tells their equinox; where it is another one than J2000, they are unknown. Empty where none tells it.
    site : Site or None
    """

    columns: tuple[ColumnRule, ...] = ()
    day_begins: int = 12 * UNITS["h"]
    frame: Literal["icrs", "fk5"] = "icrs"
    equinox: str = ""
    site: Site | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """An instrument: everything that its YAML says.

    ``output`` is where its L0s go, below a night's directory; ``margin`` is how much longer than its readout an origin is
    awaited [ns]; ``digest`` is the SHA-256 of the YAML's text, empty where
    there is none; other texts may say the same.
    """

    name: str
    filename: str
    output: str
    missing: Literal["omit", "empty"]
    shared: frozenset[str]
    exposure: ExposureRule
    origins: tuple[Origin, ...]
    snapshots: tuple[Snapshot, ...]
    table: tuple[TelemetryKeyword, ...]
    margin: int = 0
    record: RecordRule = field(default_factory=RecordRule)
    digest: str = field(default="", compare=False)

    def origin(self, name: str) -> Origin:
        """Return an origin by its name."""
        return next(o for o in self.origins if o.name == name)

    @property
    def moments(self) -> tuple[str, ...]:
        """Begin, middle and end, then the moments that the YAML adds."""
        return (*MOMENTS, *(s.moment for s in self.snapshots if s.moment not in MOMENTS))

    def sources(self) -> tuple[str, ...]:
        """Return every history keyword that an L0 wants, each once: the table's, those of the snapshots, the exposure's."""
        wanted = [k.source for k in self.table] + [source for s in self.snapshots for k in s.keywords for source in k.sources]
        events = [s.event.source for s in self.snapshots if s.event]
        return tuple(dict.fromkeys([*wanted, *events, *self.exposure.sources]))


def instrument_from(plain: Mapping[str, Any]) -> Instrument:
    """Return the instrument that `dataclasses.asdict` and JSON made plain.

    Raises
    ------
    TypeError, KeyError, AttributeError, ValueError
        When it is none.
    """
    exposure = plain["exposure"]
    times = {name: ServiceTime(**exposure[name]) if exposure[name] else None for name in ("begin", "end")}
    return Instrument(
        **{
            **plain,
            "shared": frozenset(plain["shared"]),
            "exposure": ExposureRule(
                **{**exposure, **times, "trust": tuple(exposure["trust"]), "durations": _durations_from(exposure["durations"])}
            ),
            "origins": tuple(map(_origin_from, plain["origins"])),
            "snapshots": tuple(map(_snapshot_from, plain["snapshots"])),
            "table": tuple(map(_keyword_from, plain["table"])),
            "record": _record_from(plain["record"]),
        }
    )


def _origin_from(plain: Mapping[str, Any]) -> Origin:
    cards = [{**c, "modes": {int(mode): numbers for mode, numbers in c["modes"].items()}} for c in plain["amplifier_cards"]]
    return Origin(
        **{
            **plain,
            "extensions": tuple(Extension(**e) for e in plain["extensions"]),
            "amplifiers": tuple(plain["amplifiers"]),
            "amplifier_cards": tuple(AmplifierCard(**c) for c in cards),
            "times": OriginTimes(**{**plain["times"], "durations": _durations_from(plain["times"]["durations"])}),
        }
    )


def _record_from(plain: Mapping[str, Any]) -> RecordRule:
    site = Site(**plain["site"]) if plain["site"] else None
    columns = tuple(ColumnRule(**{**c, "sources": tuple(c["sources"])}) for c in plain["columns"])
    return RecordRule(**{**plain, "site": site, "columns": columns})


def _durations_from(plain: Sequence[Mapping[str, Any]]) -> tuple[DurationRule, ...]:
    return tuple(DurationRule(**d) for d in plain)


def _snapshot_from(plain: Mapping[str, Any]) -> Snapshot:
    event = Event(**plain["event"]) if plain["event"] else None
    return Snapshot(**{**plain, "event": event, "keywords": tuple(map(_keyword_from, plain["keywords"]))})


def _keyword_from(plain: Mapping[str, Any]) -> TelemetryKeyword:
    when = {source: tuple(values) for source, values in plain.get("suspect_when", {}).items()}
    return TelemetryKeyword(**{**plain, "suspect": tuple(plain.get("suspect", ())), "suspect_when": when})
