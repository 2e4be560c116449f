"""Telemetry into cards and the table: what the observatory was like before, during and after the exposure."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from assembler.core.cards import CARD_LENGTH, printable_text, text_of, write_card, write_commentary
from assembler.core.findings import Finding, finding
from assembler.core.instants import format_iso, from_unix, is_unix_time
from assembler.core.instrument import MOMENTS, Instrument, Moment, Snapshot, TelemetryKeyword, ValueType
from assembler.core.tables import Cell, Column, Table

LONGEST = 4000
"""Characters of a telemetry value that an L0 keeps."""

_FENCE = "- " * ((CARD_LENGTH - 8) // 2)
_INTEGER = re.compile(r"[+-]?\d{1,19}")
_TRUTH = {"true": "T", "t": "T", "1": "T", "false": "F", "f": "F", "0": "F"}
_NUMBER_LENGTH = 40

TELEMETRY_COLUMNS = (
    Column(name="keyword", form="A", meaning="service and keyword of the history"),
    Column(name="average", form="D", meaning="mean over the samples of the exposure"),
    Column(name="stddev", form="D", meaning="population standard deviation of these"),
    Column(name="min", form="D", meaning="least of these"),
    Column(name="max", form="D", meaning="greatest of these"),
    Column(name="samples", form="J", meaning="broadcasts from begin to end"),
    Column(name="units", form="A"),
    Column(name="description", form="A"),
    *(
        column
        for moment in MOMENTS
        for column in (
            Column(name=moment, form="A", meaning=f"value at the snapshot {moment}, as text"),
            Column(name=f"{moment}_time", form="A", meaning="when it was broadcast (UTC)"),
        )
    ),
    Column(name="cards", form="A", meaning="keywords of the primary, with their snapshots"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A broadcast: when [UNIX s] and what, as text."""

    time: float
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """What the samples of one history keyword come to; None where no sample is a number.

    ``samples`` counts all of them; ``stddev`` is that of the population; ``first`` and ``last`` are samples as they were.
    """

    samples: int
    average: float | None = None
    stddev: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    first: Sample | None = None
    last: Sample | None = None


NOTHING = Aggregate(samples=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the keyword history told of one exposure.

    Attributes
    ----------
    instants : mapping of str to int
        By moment, the instant [ns] that was asked for.
    values : mapping of str to (mapping of str to Sample)
        By moment and history keyword, the last value at or before it.
    aggregates : mapping of str to Aggregate
        By history keyword, over the exposure.
    asked : bool
        False when there is no history.
    corrected : mapping of str to str
        By keyword of the primary, the value field that it gets, whatever the history told.
    """

    instants: Mapping[Moment, int] = field(default_factory=dict)
    values: Mapping[Moment, Mapping[str, Sample]] = field(default_factory=dict)
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    asked: bool = False
    corrected: Mapping[str, str] = field(default_factory=dict)

    def value(self, moment: Moment, source: str) -> Sample | None:
        """Return the value of a history keyword at a moment."""
        return self.values.get(moment, {}).get(source)


def aggregate(broadcasts: Iterable[tuple[float, str]]) -> Aggregate:
    """Return what samples come to: (UNIX seconds, value) of each, in the order of time.

    >>> told = aggregate([(1.0, "1.0"), (2.0, "3.0"), (3.0, "Off")])
    >>> told.samples, told.average, told.stddev, told.last.value
    (3, 2.0, 1.0, 'Off')
    """
    samples = count = 0
    first = last = None
    mean = squares = 0.0
    low, high = math.inf, -math.inf
    for last in broadcasts:
        first = first or last
        samples += 1
        text = last[1]
        number = number_of(text)
        if number is None:
            continue
        count += 1
        step = number - mean
        mean += step / count
        squares += step * (number - mean)
        low, high = min(low, number), max(high, number)
    ends = (Sample(time=time, value=value) for time, value in (first, last)) if first and last else (None, None)
    earliest, latest = ends
    if not count or not all(map(math.isfinite, (mean, squares))):
        return Aggregate(samples=samples, first=earliest, last=latest)
    mean, spread = min(max(mean, low), high), math.sqrt(squares / count)
    return Aggregate(samples=samples, average=mean, stddev=spread, minimum=low, maximum=high, first=earliest, last=latest)


def number_of(text: str) -> float | None:
    """Return the finite number that a broadcast value is, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    # Python reads more than FITS and keyword histories have: digits of any script, 1_000, nan.
    return number if math.isfinite(number) and len(text) <= _NUMBER_LENGTH and text.isascii() and "_" not in text else None


def field_of(text: str, form: ValueType) -> str | None:
    """Return the value field of a broadcast value, digits as they were, or None when it is not of the type.

    >>> field_of("9.513e-06", "float").strip(), field_of("true", "bool").strip(), field_of("Off", "float")
    ('9.513E-06', 'T', None)
    """
    if form == "str":
        return text_of(text[:LONGEST])
    text = text.strip()
    if form == "bool":
        told = _TRUTH.get(text.lower())
    elif form == "int":
        told = text if _INTEGER.fullmatch(text) else None
    elif number_of(text) is None:
        told = None
    else:
        told = text.upper() if re.search(r"[.eE]", text) else f"{text}.0"
    return told.rjust(20) if told else None


def snapshot_cards(instrument: Instrument, answers: Answers) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Write every snapshot between fences that tell its instant."""
    written = writers(instrument)
    cards: list[str] = []
    findings: list[Finding] = []
    if not answers.asked:
        findings.append(finding("no-history", "no keyword history was given; no telemetry keyword is available"))
    for snapshot in instrument.snapshots:
        mine = tuple(k for k in snapshot.keywords if written[k.card] is k)
        block, told = _snapshot(snapshot, mine, answers)
        cards += block
        findings += told
    return tuple(cards), tuple(findings)


def writers(instrument: Instrument) -> dict[str, TelemetryKeyword]:
    """Return by card who writes it: of two snapshots the earlier one, unless the YAML prefers another."""
    result: dict[str, TelemetryKeyword] = {}
    for snapshot in instrument.snapshots:
        for keyword in snapshot.keywords:
            if keyword.card not in result or (keyword.prefer and not result[keyword.card].prefer):
                result[keyword.card] = keyword
    return result


def telemetry_table(instrument: Instrument, answers: Answers) -> Table:
    """Make the TELEMETRY table: one row for each history keyword that the YAML names."""
    facts = {k.source: k for k in instrument.table}
    cards: dict[str, list[str]] = {}
    written = writers(instrument)
    for snapshot in instrument.snapshots:
        for keyword in snapshot.keywords:
            facts.setdefault(keyword.source, keyword)
            if written[keyword.card] is keyword:
                cards.setdefault(keyword.source, []).append(f"{keyword.card}@{snapshot.moment}")
    rows = []
    for source, keyword in facts.items():
        numbers = _numbers(answers, keyword)
        row: list[Cell] = [source, numbers.average, numbers.stddev, numbers.minimum, numbers.maximum]
        row += [answers.aggregates.get(source, NOTHING).samples, keyword.unit, keyword.comment]
        for moment in MOMENTS:
            sample = answers.value(moment, source)
            row += [sample.value[:LONGEST], _when(sample)] if sample else ["", ""]
        rows.append((*row, " ".join(cards.get(source, ()))))
    return Table(name="TELEMETRY", columns=TELEMETRY_COLUMNS, rows=tuple(rows))


def _when(sample: Sample) -> str:
    """Return when a value was broadcast; nothing where the history has a time of no age at all."""
    return format_iso(from_unix(sample.time)) if is_unix_time(sample.time) else ""


def _numbers(answers: Answers, keyword: TelemetryKeyword) -> Aggregate:
    """Return the numbers over the exposure, or those of the last value before it when there was no broadcast.

    Text has none, even where it looks like a number, as an identifier or a checksum may.
    """
    if keyword.type not in ("int", "float"):
        return NOTHING
    numbers = answers.aggregates.get(keyword.source, NOTHING)
    before = answers.value("begin", keyword.source)
    return numbers if numbers.samples or not before else aggregate([(before.time, before.value)])


def _snapshot(snapshot: Snapshot, keywords: Sequence[TelemetryKeyword], answers: Answers) -> tuple[list[str], list[Finding]]:
    instant = answers.instants.get(snapshot.moment)
    told = f"{format_iso(instant)} UTC" if instant is not None else "the instant is not known"
    cards = [*_comment(_FENCE), *_comment(f"Snapshot {snapshot.moment}: {told}"), *_comment(_FENCE)]
    findings: list[Finding] = []
    lost = []
    for keyword in keywords:
        if keyword.card in answers.corrected:
            cards += write_card(keyword.card, answers.corrected[keyword.card], keyword.comment)
            continue
        sample = answers.value(snapshot.moment, keyword.source)
        if sample is None:
            lost.append(keyword)
            continue
        text = field_of(sample.value, keyword.type)
        if text is None:
            wrong = f"{keyword.source} at {snapshot.moment} is {sample.value[:60]!a}, not of type {keyword.type}"
            findings.append(finding("type-differs", wrong, keyword=keyword.card))
            text = ""
        elif keyword.type == "str" and printable_text(sample.value[:LONGEST]) != sample.value:
            wrong = f"{keyword.source} at {snapshot.moment} is {sample.value[:60]!a}, which does not fit into a header as it is"
            findings.append(finding("text-mended", wrong, keyword=keyword.card))
        cards += write_card(keyword.card, text, keyword.comment)
    for keyword in lost:
        cards += _comment(f"Not available: {keyword.card} ({keyword.source})")
        if answers.asked:
            absent = f"{keyword.source} has no value at {snapshot.moment}"
            findings.append(finding("not-available", absent, keyword=keyword.card))
    return cards, findings


def _comment(text: str) -> tuple[str, ...]:
    return write_commentary("COMMENT", text)
