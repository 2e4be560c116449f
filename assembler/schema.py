"""What an instrument's YAML may say: its keys, and what each of them looks like."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from assembler.core.instants import parse_duration
from assembler.core.instrument import MomentForm, TimeForm, ValueType
from assembler.problems import STRICT, matching


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


class TelemetryModel(_Model):
    """A keyword of a snapshot."""

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


class TableRowModel(_Model):
    """A history keyword that is in the TELEMETRY table only."""

    type: ValueType = "float"
    unit: Text = ""
    description: Text = ""


class EventModel(_Model):
    """A moment that the history tells."""

    source: HistoryKeyword = Field(alias="from")
    form: MomentForm = "iso"


class SnapshotModel(_Model):
    """What is asked for at one moment."""

    at: EventModel | None = None
    offset: Duration = "0 s"
    keywords: dict[Keyword, TelemetryModel] = {}


class DurationModel(_Model):
    """A keyword that tells how long the exposure was."""

    unit: Literal["s", "ms", "us", "min", "h", "d"] = "s"
    tolerance: Duration = "1 s"


class ServiceTimeModel(_Model):
    """A begin or end as the exposure service tells it."""

    source: HistoryKeyword = Field(alias="from")
    card: Keyword
    comment: Text = ""


class ExposureModel(_Model):
    """How begin and end are decided."""

    begin: ServiceTimeModel | None = None
    end: ServiceTimeModel | None = None
    settling: Duration = "0 s"
    triggered: HistoryKeyword | None = None
    trust: list[str] = []
    durations: dict[HistoryKeyword, DurationModel] = {}


class AmplifierCardsModel(_Model):
    """Cards that belong to one amplifier each, by read mode."""

    name: Pattern | None = None
    modes: dict[str, dict[str, int]]


class AmplifiersModel(_Model):
    """The amplifiers of an origin."""

    extensions: list[ExtensionName]
    cards: dict[Pattern, AmplifierCardsModel]


class TimesModel(_Model):
    """Where an origin tells its begin and end."""

    begin: Keyword | None = None
    end: Keyword | None = None
    elapsed: Keyword | None = None
    form: TimeForm = "iso"
    unit: Literal["s", "ms", "us", "min", "h", "d"] = "s"
    scale: Literal["UTC", "TAI", "TT", "TDB", "TCG", "TCB", "GPS", "UT1"] | None = None
    tolerance: Duration = "0 s"
    durations: dict[Keyword, DurationModel] = {}


class OriginModel(_Model):
    """A camera or subsystem."""

    prefix: Prefix
    flag: Keyword
    file: Keyword
    files: FilePattern
    match: Literal["frame", "time"] = "frame"
    frame: Keyword | None = None
    triggered: Text = ""
    required: bool = True
    renamed: bool = False
    readout: Duration = "0 s"
    announced: HistoryKeyword | None = None
    extensions: dict[ExtensionName, int | str] = {}
    amplifiers: AmplifiersModel | None = None
    times: TimesModel = Field(default_factory=TimesModel)
    renames: dict[SourceKeyword, Keyword] = {}


class ColumnModel(_Model):
    """What fills a column of the exposure's record."""

    source: Keyword | list[Keyword] | None = Field(default=None, alias="from")
    value: Scalar | None = None
    template: Text | None = None
    unit: Text = ""
    words: dict[str, Scalar] = {}
    pattern: Text = ""


class SiteModel(_Model):
    """Where the observatory is."""

    longitude: float | int
    latitude: float | int
    height: float | int


class RecordModel(_Model):
    """How the record of an exposure is made."""

    location: SiteModel | None = None
    day_begins: Duration = "12 h"
    frame: Literal["icrs", "fk5"] = "icrs"
    equinox: Keyword | None = None
    columns: dict[str, ColumnModel] = {}


class InstrumentModel(_Model):
    """The whole file."""

    instrument: Text
    filename: FileName
    output: str = "."
    missing: Literal["omit", "empty"] = "omit"
    margin: Duration = "60 s"
    shared: list[Keyword] = []
    exposure: ExposureModel = Field(default_factory=ExposureModel)
    origins: dict[Name, OriginModel]
    snapshots: dict[MomentName, SnapshotModel] = {}
    telemetry: dict[HistoryKeyword, TableRowModel] = {}
    record: RecordModel = Field(default_factory=RecordModel)


def broadcast_text(value: Scalar) -> str:
    """Return a value of the YAML as a history has it, as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
