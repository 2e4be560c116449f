"""What an instrument's YAML says, as frozen values. `assembler.config` reads them; nothing here knows KPF."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Match = Literal["frame", "time"]
TimeForm = Literal["iso", "mjd", "jd", "unix"]
ValueType = Literal["str", "int", "float", "bool"]
Moment = Literal["begin", "middle", "end"]
MOMENTS: tuple[Moment, ...] = ("begin", "middle", "end")


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
    """

    begin: str
    end: str
    elapsed: str
    form: TimeForm
    elapsed_unit: int
    tolerance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A camera or subsystem that delivers a sub-FITS."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTime:
    """The exposure service's own begin or end: its history keyword, and the card that tells it as it was."""

    source: str
    card: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureRule:
    """How begin and end are decided."""

    begin: ServiceTime | None
    end: ServiceTime | None
    settling: int
    triggered: str
    trust: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryKeyword:
    """A history keyword; ``card`` is its keyword in the primary, or empty when it is in the TELEMETRY table only."""

    card: str
    source: str
    type: ValueType
    unit: str
    comment: str
    prefer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The telemetry keywords that are asked for at one moment, moved by an offset [ns]."""

    moment: Moment
    offset: int
    keywords: tuple[TelemetryKeyword, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """An instrument: everything that its YAML says; ``output`` is where its L0s go, below a night's directory."""

    name: str
    filename: str
    output: str
    missing: Literal["omit", "empty"]
    shared: frozenset[str]
    exposure: ExposureRule
    origins: tuple[Origin, ...]
    snapshots: tuple[Snapshot, ...]
    table: tuple[TelemetryKeyword, ...]

    def origin(self, name: str) -> Origin:
        """Return an origin by its name."""
        return next(o for o in self.origins if o.name == name)

    def sources(self) -> tuple[str, ...]:
        """Return every history keyword that an L0 wants, each once: the table's, then those of the snapshots."""
        wanted = [k.source for k in self.table] + [k.source for s in self.snapshots for k in s.keywords]
        return tuple(dict.fromkeys([*wanted, *([self.exposure.triggered] if self.exposure.triggered else [])]))


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
            "exposure": ExposureRule(**{**exposure, **times, "trust": tuple(exposure["trust"])}),
            "origins": tuple(map(_origin_from, plain["origins"])),
            "snapshots": tuple(
                Snapshot(**{**s, "keywords": tuple(TelemetryKeyword(**k) for k in s["keywords"])}) for s in plain["snapshots"]
            ),
            "table": tuple(TelemetryKeyword(**k) for k in plain["table"]),
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
            "times": OriginTimes(**plain["times"]),
        }
    )
