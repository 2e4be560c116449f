"""Snapshots: telemetry into cards, and whether what was broadcast can be believed."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation

from assembler.core.cards import CARD_LENGTH, printable_text, text_of, write_card, write_commentary
from assembler.core.findings import Finding, finding
from assembler.core.instants import SECOND, format_iso, from_unix, is_unix_time, unix_seconds
from assembler.core.instrument import Instrument, Snapshot, TelemetryKeyword, ValueType
from assembler.core.samples import NOTHING, Answers, Sample, number_of

LONGEST = 4000
"""Characters of a telemetry value that an L0 keeps."""

_FENCE = "- " * ((CARD_LENGTH - 8) // 2)
_INTEGER = re.compile(r"[+-]?\d{1,19}")
_TRUTH = {"true": "T", "t": "T", "1": "T", "false": "F", "f": "F", "0": "F"}
_LONG_NUMBER = 60


def snapshot_cards(instrument: Instrument, answers: Answers) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Write every snapshot between fences that tell its instant."""
    written = writers(instrument)
    cards: list[str] = []
    findings: list[Finding] = []
    if answers.failure:
        told = f"{answers.failure}; no telemetry keyword is available"
        findings.append(finding("history-unavailable", told))
    elif not answers.asked:
        findings.append(finding("no-history", "no keyword history was given; no telemetry keyword is available"))
    for snapshot in instrument.snapshots:
        mine = tuple(k for k in snapshot.keywords if written[k.card] is k)
        block, told_of = _snapshot(snapshot, mine, answers)
        cards += block
        findings += told_of
    return tuple(cards), tuple(findings)


def writers(instrument: Instrument) -> dict[str, TelemetryKeyword]:
    """Return by card who writes it: of two snapshots the earlier one, unless the YAML prefers another."""
    result: dict[str, TelemetryKeyword] = {}
    for snapshot in instrument.snapshots:
        for keyword in snapshot.keywords:
            if keyword.card not in result or (keyword.prefer and not result[keyword.card].prefer):
                result[keyword.card] = keyword
    return result


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


def number_text(text: str, form: ValueType, scale: str = "", layout: str = "") -> str | None:
    """Return a broadcast number in the unit and the format of its card; None when it is none.

    Parameters
    ----------
    text : str
        As it was broadcast.
    form : str
        ``int`` or ``float``.
    scale : str
        What to multiply with, as a decimal number; exactly, so that no digits appear from nowhere.
    layout : str
        As printf has it.

    >>> number_text("1250", "float", scale="0.001"), number_text("2.71828", "float", layout="%.2f")
    ('1.250', '2.72')
    """
    if number_of(text.strip()) is None:
        return None
    try:
        number = Decimal(text.strip()) * Decimal(scale or "1")
        if form == "int":
            text = str(int(number)) if number == number.to_integral_value() else ""
        elif scale:
            text = str(number)
        return layout % (int(number) if layout.endswith("d") else float(number)) if layout and text else text or None
    except (InvalidOperation, OverflowError):
        return None


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
        sample = _broadcast(keyword, snapshot.moment, answers)
        if sample is None and answers.asked and instant is not None and keyword.default is not None:
            used = f"{keyword.source} has no value at {snapshot.moment}; the YAML's default is written"
            findings.append(finding("default-used", used, keyword=keyword.card))
            cards += write_card(keyword.card, field_of(keyword.default, keyword.type) or "", keyword.comment)
        elif sample is None:
            lost.append(keyword)
        else:
            text, doubts = _field(keyword, sample, snapshot.moment)
            findings += doubts
            findings += _doubts(keyword, sample, snapshot.moment, answers)
            cards += write_card(keyword.card, text, keyword.comment)
    for keyword in lost:
        if keyword.missing == "undefined":
            cards += write_card(keyword.card, "", keyword.comment)
        else:
            cards += _comment(f"Not available: {keyword.card} ({keyword.source})")
        if answers.asked:
            absent = f"{keyword.source} has no value at {snapshot.moment}"
            findings.append(finding("not-available" if keyword.required else "optional-not-available", absent, keyword=keyword.card))
    return cards, findings


def card_field(keyword: TelemetryKeyword, moment: str, answers: Answers) -> str | None:
    """Return the value field that a keyword's card has when nobody corrects it; None when the history has no value for it.

    A value that is not of its type is given as the text that it was.
    """
    sample = _broadcast(keyword, moment, answers)
    return None if sample is None else _field(keyword, sample, moment)[0] or text_of(sample.value[:LONGEST])


def _broadcast(keyword: TelemetryKeyword, moment: str, answers: Answers) -> Sample | None:
    """Return what is written for a keyword: its value at the moment, or what its samples over the exposure come to.

    Without a sample in the exposure, that is the value with which it began.
    """
    if not keyword.during:
        return answers.value(moment, keyword.source)
    over = answers.aggregates.get(keyword.source, NOTHING)
    if not over.samples:
        return answers.value("begin", keyword.source)
    if keyword.during in ("first", "last"):
        return over.first if keyword.during == "first" else over.last
    number = {"min": over.minimum, "max": over.maximum, "mean": over.average}[keyword.during]
    if number is None:
        return None
    text = str(int(number)) if keyword.type == "int" and number.is_integer() else repr(number)
    return Sample(time=unix_seconds(answers.instants.get("end", 0)), value=text)


def _field(keyword: TelemetryKeyword, sample: Sample, moment: str) -> tuple[str, list[Finding]]:
    """Return the value field of a card, and whether the value was of its type, within its range, and fit into a header."""
    value: str | None = sample.value
    if keyword.type in ("int", "float") and (keyword.scale or keyword.format):
        value = number_text(sample.value, keyword.type, keyword.scale, keyword.format)
    text = field_of(value, keyword.type) if value is not None else None
    shown = f"{keyword.source} at {moment} is {sample.value[:_LONG_NUMBER]!a}"
    if text is None:
        return "", [finding("type-differs", f"{shown}, not of type {keyword.type}", keyword=keyword.card)]
    if keyword.type == "str" and printable_text(sample.value[:LONGEST]) != sample.value:
        return text, [finding("text-mended", f"{shown}, which does not fit into a header as it is", keyword=keyword.card)]
    number = number_of(text.strip()) if keyword.type in ("int", "float") else None
    if number is None or (keyword.low is None and keyword.high is None):
        return text, []
    low, high = (keyword.low if keyword.low is not None else number), (keyword.high if keyword.high is not None else number)
    if low <= number <= high:
        return text, []
    told = f"{keyword.source} at {moment} is {text.strip()}, its range is {_bound(keyword.low)} to {_bound(keyword.high)}"
    return text, [finding("out-of-range", told, keyword=keyword.card)]


def _doubts(keyword: TelemetryKeyword, sample: Sample, moment: str, answers: Answers) -> Iterator[Finding]:
    """Yield why a value is written and yet not to be relied on: too old, left over, or a word for not knowing."""
    instant = answers.instants.get(moment)
    if keyword.max_age is not None and instant is not None and is_unix_time(sample.time):
        age = instant - from_unix(sample.time)
        if age > keyword.max_age:
            told = f"{keyword.source} at {moment} is {age / SECOND:.3f} s old, at most {keyword.max_age / SECOND:g} s is allowed"
            yield finding("stale", told, keyword=keyword.card)
    if keyword.must_refresh and answers.previous is not None and sample.time < unix_seconds(answers.previous):
        partner = keyword.must_refresh if "." in keyword.must_refresh else ""
        if not partner or _changed(partner, moment, answers):
            since = f", while {partner} changed" if partner else ""
            told = f"{keyword.source} is {sample.value[:_LONG_NUMBER]!a} since before the previous exposure"
            told += f" ({format_iso(answers.previous)}){since}"
            yield finding("not-refreshed", told, keyword=keyword.card)
    if sample.value.strip() in keyword.suspect and _holds(keyword, moment, answers):
        with_what = ", ".join(f"{s} is {answers.values[moment][s].value[:_LONG_NUMBER]!a}" for s in keyword.suspect_when)
        told = f"{keyword.source} at {moment} is {sample.value[:_LONG_NUMBER]!a}{f' while {with_what}' if with_what else ''}"
        yield finding("suspect-value", told, keyword=keyword.card)


def _changed(source: str, moment: str, answers: Answers) -> bool:
    """Tell whether a history keyword has another value than when the previous exposure began."""
    now, then = answers.value(moment, source), answers.before.get(source)
    return now is not None and then is not None and now.value != then.value


def _holds(keyword: TelemetryKeyword, moment: str, answers: Answers) -> bool:
    """Tell whether everything is as it has to be for a value to be suspect."""
    told = {source: answers.value(moment, source) for source in keyword.suspect_when}
    return all(sample is not None and sample.value.strip() in keyword.suspect_when[source] for source, sample in told.items())


def _bound(number: float | None) -> str:
    return "any" if number is None else f"{number:g}"


def _comment(text: str) -> tuple[str, ...]:
    return write_commentary("COMMENT", text)
