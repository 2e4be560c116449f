"""The TELEMETRY table: what the history told, so completely that an L0 can stand in for the history it was made with."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from assembler.core.instants import format_iso, from_unix, is_unix_time, unix_seconds
from assembler.core.instrument import MOMENTS, Instrument, TelemetryKeyword
from assembler.core.samples import NOTHING, Aggregate, Answers, Sample, aggregate
from assembler.core.snapshots import LONGEST, writers
from assembler.core.tables import Cell, Column, Table

_BEFORE_ALL = -math.inf
_NUMBERS = ("int", "float")
"""Types that have numbers over the exposure; text has none, even where it looks like one, as an identifier may."""


def telemetry_columns(moments: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns of the table; those of moments that an instrument adds come last."""
    return (
        Column(name="keyword", form="A", meaning="service and keyword of the history"),
        Column(name="average", form="D", meaning="mean over the samples of the exposure"),
        Column(name="stddev", form="D", meaning="population standard deviation of these"),
        Column(name="min", form="D", meaning="least of these"),
        Column(name="max", form="D", meaning="greatest of these"),
        Column(name="samples", form="J", meaning="broadcasts from begin to end"),
        Column(name="units", form="A"),
        Column(name="description", form="A"),
        *(column for moment in MOMENTS for column in _moment_columns(moment)),
        Column(name="cards", form="A", meaning="keywords of the primary, with their snapshots"),
        Column(name="further", form="A", meaning="other samples that counted: JSON, UNIX s and value"),
        *(column for moment in moments if moment not in MOMENTS for column in _moment_columns(moment)),
    )


def _moment_columns(moment: str) -> tuple[Column, ...]:
    return (
        Column(name=moment, form="A", meaning=f"value at the snapshot {moment}, as text"),
        Column(name=f"{moment}_time", form="A", meaning="when it was broadcast (UTC)"),
        Column(name=f"{moment}_age", form="D", unit="s", meaning=f"how long before the snapshot {moment}"),
    )


def telemetry_table(instrument: Instrument, answers: Answers) -> Table:
    """Make the TELEMETRY table: one row for each history keyword that the YAML names."""
    facts, cards, numeric = _named(instrument)
    edges = {k.source for s in instrument.snapshots for k in s.keywords if k.during in ("first", "last")}
    moments = []
    for moment in instrument.moments:
        instant = answers.instants.get(moment)
        moments.append((answers.values.get(moment, {}), unix_seconds(instant) if instant is not None else None))
    rows = []
    for source, keyword in facts.items():
        numbers = _numbers(answers, source) if source in numeric else NOTHING
        samples = [values.get(source) for values, _ in moments]
        cells = [_cells(sample, at) for sample, (_, at) in zip(samples, moments, strict=True)]
        lost = [s for s, (_, _, age) in zip(samples, cells, strict=True) if s and (age is None or not _shows(s.value))]
        counted = [*lost, *_besides(source, answers, edges)]
        rows.append((
            source, numbers.average, numbers.stddev, numbers.minimum, numbers.maximum,
            answers.aggregates.get(source, NOTHING).samples, keyword.unit, keyword.comment,
            *(cell for of_moment in cells[: len(MOMENTS)] for cell in of_moment),
            " ".join(cards.get(source, ())), _further(counted, samples, lost) if counted else "",
            *(cell for of_moment in cells[len(MOMENTS) :] for cell in of_moment),
        ))  # fmt: skip
    return Table.of_rows("TELEMETRY", telemetry_columns(instrument.moments), rows)


def _named(instrument: Instrument) -> tuple[dict[str, TelemetryKeyword], dict[str, list[str]], set[str]]:
    """Return every history keyword that the YAML names: its facts, the cards that it is for, and which have numbers."""
    facts = {k.source: k for k in instrument.table}
    cards: dict[str, list[str]] = {}
    written = writers(instrument)
    for snapshot in instrument.snapshots:
        for keyword in snapshot.keywords:
            facts.setdefault(keyword.source, keyword)
            if written[keyword.card] is keyword:
                cards.setdefault(keyword.source, []).append(f"{keyword.card}@{snapshot.moment}")
    for asked in (instrument.exposure.begin, instrument.exposure.end):
        if asked:
            facts.setdefault(asked.source, _untyped(asked.source, asked.comment))
            cards.setdefault(asked.source, []).append(f"{asked.card}@service")
    for source in instrument.sources():
        if source not in facts:
            facts[source] = _untyped(source)
    every = (*instrument.table, *(k for s in instrument.snapshots for k in s.keywords))
    return facts, cards, {k.source for k in every if k.type in _NUMBERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a TELEMETRY table holds of the history that it was made with.

    Attributes
    ----------
    samples : mapping of str to tuple of Sample
        By history keyword, in the order of time.
    aggregates : mapping of str to Aggregate
        By history keyword, over the exposure.
    """

    samples: Mapping[str, tuple[Sample, ...]]
    aggregates: Mapping[str, Aggregate]


def recorded(table: Table, instants: Mapping[str, int]) -> Recorded:
    """Return what a TELEMETRY table holds.

    Parameters
    ----------
    table : Table
    instants : mapping of str to int
        By moment, the instant [ns] that was asked for.

    Raises
    ------
    ValueError
        When it is no such table.
    """
    samples: dict[str, tuple[Sample, ...]] = {}
    aggregates: dict[str, Aggregate] = {}
    places = {column.name: place for place, column in enumerate(table.columns)}
    for row in table.rows:
        name = str(row[places["keyword"]])
        known: dict[float, str] = {}
        for moment, instant in instants.items():
            age = row[places[f"{moment}_age"]] if f"{moment}_age" in places else None
            if isinstance(age, float):
                known[unix_seconds(instant) - age] = str(row[places[moment]])
        further = json.loads(str(row[places["further"]]) or "[]")
        known |= {_BEFORE_ALL if time is None else float(time): str(value) for time, value in further}
        samples[name] = tuple(Sample(time=time, value=value) for time, value in sorted(known.items()))
        count = row[places["samples"]]
        if isinstance(count, int) and count:
            average, spread, low, high = (_number(row[places[n]]) for n in ("average", "stddev", "min", "max"))
            aggregates[name] = Aggregate(samples=count, average=average, stddev=spread, minimum=low, maximum=high)
    return Recorded(samples=samples, aggregates=aggregates)


def _cells(sample: Sample | None, at: float | None) -> tuple[str, str, float | None]:
    """Return value, time and age of a sample [s], asked for at an instant [UNIX s].

    The age gives the sample's time back to the last bit. It does unless the time is of another age altogether, as in a history
    that is broken; then there is none.
    """
    if sample is None:
        return "", "", None
    time, value = sample
    if not is_unix_time(time):
        return value[:LONGEST], "", None
    age = at - time if at is not None else None
    return value[:LONGEST], _when(time), age if age is not None and at is not None and at - age == time else None


def _number(cell: Cell) -> float | None:
    return cell if isinstance(cell, float) else None


def _untyped(source: str, comment: str = "") -> TelemetryKeyword:
    return TelemetryKeyword(card="", source=source, type="str", unit="", comment=comment)


def _shows(value: str) -> bool:
    """Tell whether a column of text gives a value back as it was: it holds printable characters, and strips blanks at the end."""
    return value.isascii() and value.isprintable() and value[-1:] != " " and len(value) <= LONGEST


@lru_cache(maxsize=4096)
def _when(time: float) -> str:
    """Return when a value was broadcast [UNIX s]."""
    return format_iso(from_unix(time))


def _besides(source: str, answers: Answers, edges: set[str]) -> list[Sample]:
    """Return the samples of a keyword that counted, and that no moment has."""
    counted = [*answers.further.get(source, ()), *([answers.before[source]] if source in answers.before else [])]
    if source in edges:
        over = answers.aggregates.get(source, NOTHING)
        counted += [edge for edge in (over.first, over.last) if edge]
    return counted


def _further(counted: Sequence[Sample], at_moments: Sequence[Sample | None], lost: Sequence[Sample]) -> str:
    """Return as JSON the samples that counted, and that the columns of the moments do not give back as they were."""
    shown = {s.time for s in at_moments if s} - {s.time for s in lost}
    missing = {s.time: s.value[:LONGEST] for s in counted if s.time not in shown}
    pairs = [[time if is_unix_time(time) else None, value] for time, value in sorted(missing.items())]
    return json.dumps(pairs, separators=(",", ":")) if pairs else ""


def _numbers(answers: Answers, source: str) -> Aggregate:
    """Return the numbers over the exposure, or those of the last value before it when there was no broadcast."""
    numbers = answers.aggregates.get(source, NOTHING)
    before = answers.value("begin", source)
    return numbers if numbers.samples or not before else aggregate([(before.time, before.value)])
