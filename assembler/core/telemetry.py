"""The TELEMETRY table: what the history told, so completely that an L0 can stand in for the history it was made with."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assembler.core.cards import printable_text
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
    facts = {k.source: k for k in instrument.table}
    cards: dict[str, list[str]] = {}
    written = writers(instrument)
    numeric = {k.source for k in instrument.table if k.type in _NUMBERS}
    edges: set[str] = set()
    for snapshot in instrument.snapshots:
        for keyword in snapshot.keywords:
            facts.setdefault(keyword.source, keyword)
            if written[keyword.card] is keyword:
                cards.setdefault(keyword.source, []).append(f"{keyword.card}@{snapshot.moment}")
            if keyword.type in _NUMBERS:
                numeric.add(keyword.source)
            if keyword.during in ("first", "last"):
                edges.add(keyword.source)
    for asked in (instrument.exposure.begin, instrument.exposure.end):
        if asked:
            facts.setdefault(asked.source, _untyped(asked.source, asked.comment))
            cards.setdefault(asked.source, []).append(f"{asked.card}@service")
    for source in instrument.sources():
        facts.setdefault(source, _untyped(source))
    rows = []
    for source, keyword in facts.items():
        numbers = _numbers(answers, source) if source in numeric else NOTHING
        row: list[Cell] = [source, numbers.average, numbers.stddev, numbers.minimum, numbers.maximum]
        row += [answers.aggregates.get(source, NOTHING).samples, keyword.unit, keyword.comment]
        shown: list[Sample] = []
        cells = {moment: _cells(answers.value(moment, source), answers.instants.get(moment), shown) for moment in instrument.moments}
        row += [cell for moment in MOMENTS for cell in cells.pop(moment)]
        row += [" ".join(cards.get(source, ())), _further(source, answers, shown, edges)]
        rows.append((*row, *(cell for further in cells.values() for cell in further)))
    return Table(name="TELEMETRY", columns=telemetry_columns(instrument.moments), rows=tuple(rows))


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


def _cells(sample: Sample | None, instant: int | None, shown: list[Sample]) -> tuple[Cell, Cell, Cell]:
    """Return the cells of a moment; a sample that they give back as it was is added to those shown."""
    if sample is None:
        return "", "", None
    age = _age(sample, instant)
    if age is not None and _shows(sample.value):
        shown.append(sample)
    return sample.value[:LONGEST], _when(sample), age


def _number(cell: Cell) -> float | None:
    return cell if isinstance(cell, float) else None


def _untyped(source: str, comment: str = "") -> TelemetryKeyword:
    return TelemetryKeyword(card="", source=source, type="str", unit="", comment=comment)


def _shows(value: str) -> bool:
    """Tell whether a column of text gives a value back as it was: it holds printable characters, and strips blanks at the end."""
    return printable_text(value[:LONGEST]).rstrip() == value


def _when(sample: Sample) -> str:
    """Return when a value was broadcast; nothing where the history has a time of no age at all."""
    return format_iso(from_unix(sample.time)) if is_unix_time(sample.time) else ""


def _age(sample: Sample | None, instant: int | None) -> float | None:
    """Return how long before an instant [ns] a value was broadcast [s], where that gives its time back to the last bit.

    It does unless the time is of another age altogether, as in a history that is broken.
    """
    if sample is None or instant is None or not is_unix_time(sample.time):
        return None
    age = unix_seconds(instant) - sample.time
    return age if unix_seconds(instant) - age == sample.time else None


def _further(source: str, answers: Answers, shown: list[Sample], edges: set[str]) -> str:
    """Return as JSON the samples of a keyword that counted, and that the columns of the moments do not give back as they were."""
    counted = [sample for moment in answers.values for sample in [answers.value(moment, source)] if sample]
    counted += answers.further.get(source, ())
    counted += [answers.before[source]] if source in answers.before else []
    if source in edges:
        over = answers.aggregates.get(source, NOTHING)
        counted += [edge for edge in (over.first, over.last) if edge]
    times = {s.time for s in shown}
    missing = {s.time: s.value[:LONGEST] for s in counted if s.time not in times}
    pairs = [[time if is_unix_time(time) else None, value] for time, value in sorted(missing.items())]
    return json.dumps(pairs, separators=(",", ":")) if pairs else ""


def _numbers(answers: Answers, source: str) -> Aggregate:
    """Return the numbers over the exposure, or those of the last value before it when there was no broadcast."""
    numbers = answers.aggregates.get(source, NOTHING)
    before = answers.value("begin", source)
    return numbers if numbers.samples or not before else aggregate([(before.time, before.value)])
