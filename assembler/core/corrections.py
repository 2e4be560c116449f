"""Corrections: values that are known to be wrong get the right ones in the L0, and the L0 says so.

What applies is judged by what the sub-FITS and the history told, never by what another correction made of it. So the order of
corrections does not matter, and applying them to what they were applied to changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from assembler.core.candidates import Candidate
from assembler.core.cards import Record, Value, printable_text, read_records, shown, text_of, value_of, write_commentary
from assembler.core.exposure import Exposure, Hdu, Missing, SubFits, collect
from assembler.core.findings import Finding, finding
from assembler.core.instants import format_iso, parse_iso
from assembler.core.instrument import ExposureRule, Instrument, TelemetryKeyword, ValueType
from assembler.core.samples import Answers
from assembler.core.snapshots import card_field, field_of, writers
from assembler.errors import ConfigurationError

_RULE = "-" * 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One correction: of which exposures, of which card, from what, to what, and why.

    Attributes
    ----------
    file : str
        Name of the file that says so, for HISTORY.
    place : str
        File and line, for errors.
    reason : str
    value : str, bool, int, float or None
        The right one; None for an undefined card.
    was : tuple of Value
        The value that a card has to have for the correction to apply; empty for whatever it has.
    frames : tuple of int or None
        First and last frame, both included; None for every frame.
    since, until : int or None
        The exposure's begin [ns] is at or after ``since``, and before ``until``.
    origin, hdu, keyword : str, int, str
        The card of a sub-FITS; empty where it is a history keyword's.
    history : str
        The history keyword; empty where it is a card of a sub-FITS.
    """

    file: str
    place: str
    reason: str
    value: Value
    was: tuple[Value, ...] = ()
    frames: tuple[int, int] | None = None
    since: int | None = None
    until: int | None = None
    origin: str = ""
    hdu: int = 0
    keyword: str = ""
    history: str = ""

    @property
    def what(self) -> str:
        """What is corrected, as people are told."""
        return self.history or f"{self.origin} HDU {self.hdu} {self.keyword}"

    @property
    def source(self) -> str:
        """Who says so, and why."""
        return printable_text(f"{self.file}: {self.reason}")

    @property
    def names_one_frame(self) -> bool:
        """Whether it is for a single frame."""
        return self.frames is not None and self.frames[0] == self.frames[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A card that was corrected: what it was, what it is now [both as people are told], and by which correction."""

    correction: Correction
    keyword: str
    old: str
    new: str

    @property
    def told(self) -> str:
        """The change in one line."""
        return f"{self.correction.what}: {self.old} is now {self.new} ({self.correction.source})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedExposure:
    """An exposure with its corrections, what they changed, and which of them found nothing to correct."""

    exposure: Exposure
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()


def applying(corrections: Iterable[Correction], frame: int | None, begin: int | None) -> tuple[Correction, ...]:
    """Choose the corrections of one exposure.

    Parameters
    ----------
    corrections : iterable of Correction
    frame : int or None
        The exposure's frame number.
    begin : int or None
        Its begin [ns], as the uncorrected files tell it.

    >>> june = Correction(file="a", place="a:1", reason="", value=1, since=0, until=10, origin="red", keyword="A")
    >>> len(applying([june], None, 9)), len(applying([june], None, 10)), len(applying([june], None, None))
    (1, 0, 0)
    """
    return tuple(c for c in corrections if _is_meant(c, frame, begin))


def correct_exposure(
    instrument: Instrument, subs: Mapping[str, SubFits], missing: Sequence[Missing], frame: int | None, corrections: Sequence[Correction]
) -> CorrectedExposure:
    """Correct the cards of sub-FITS, then put the exposure together.

    Parameters
    ----------
    instrument : Instrument
    subs, missing, frame
        As `assembler.core.exposure.collect` has them.
    corrections : sequence of Correction
        Those of this exposure.

    Raises
    ------
    ConfigurationError
        When two corrections give one card different values.
    """
    changes: list[Change] = []
    findings: list[Finding] = []
    corrected = dict(subs)
    for name in (o.name for o in instrument.origins if o.name in subs):  # in this order, whatever that of the files is
        mine = [c for c in corrections if c.origin == name]
        corrected[name] = _correct_sub(subs[name], mine, changes, findings) if mine else subs[name]
    exposure = collect(instrument, corrected, missing, frame)
    attached = {origin.name for origin, _ in exposure.attached}
    return CorrectedExposure(
        exposure=exposure,
        changes=tuple(c for c in changes if c.correction.origin in attached),
        findings=tuple(f for f in sorted(findings, key=_message) if f.origin in attached),
    )


def correct_service(
    rule: ExposureRule, service: Candidate | None, corrections: Sequence[Correction]
) -> tuple[Candidate | None, tuple[Change, ...]]:
    """Correct what the exposure service told, before it is compared with anything.

    Raises
    ------
    ConfigurationError
        When two corrections differ, or one is no time.
    """
    if service is None:
        return None, ()
    changes = []
    times: dict[str, int | None] = {"begin": service.begin, "end": service.end}
    for which, asked in (("begin", rule.begin), ("end", rule.end)):
        old = times[which]
        mine = [c for c in corrections if asked and c.history == asked.source]
        chosen = _the_one([c for c in mine if not c.was or _instant(c, c.was[0]) == old], asked.card if asked else "")
        if chosen and asked and _instant(chosen, chosen.value) != old:
            times[which] = _instant(chosen, chosen.value)
            told = [format_iso(t) if t is not None else "not available" for t in (old, times[which])]
            changes.append(Change(correction=chosen, keyword=asked.card, old=told[0], new=told[1]))
    return replace(service, begin=times["begin"], end=times["end"]), tuple(changes)


def _instant(correction: Correction, value: Value) -> int | None:
    """Return the instant [ns] that a correction of a time says; None for none."""
    if value is None:
        return None
    try:
        return parse_iso(str(value))
    except ValueError as error:
        raise ConfigurationError(f"{correction.place}: {error}") from None


def correct_answers(
    instrument: Instrument, answers: Answers, corrections: Sequence[Correction]
) -> tuple[Answers, tuple[Change, ...], tuple[Finding, ...]]:
    """Correct the cards of telemetry; the values that the history told stay what they are.

    Raises
    ------
    ConfigurationError
        When two corrections give one card different values, or one a value that a card of its type cannot have.
    """
    mine = [c for c in corrections if c.history]
    if not mine:
        return answers, (), ()
    changes: list[Change] = []
    fields: dict[str, str] = {}
    used: set[Correction] = set()
    written = writers(instrument)
    for moment, keyword in ((s.moment, k) for s in instrument.snapshots for k in s.keywords if written[k.card] is k):
        meant = {c: _typed(c, keyword) for c in mine if c.history == keyword.source}
        if not meant:
            continue
        told_field = card_field(keyword, moment, answers)
        old = told_field or ""
        used |= {c for c, typed in meant.items() if _applies(typed, value_of(old)) or (told_field and is_told(typed.value, old))}
        chosen = _the_one([c for c in meant.values() if _applies(c, value_of(old))], keyword.card)
        if chosen and (told_field is None or not is_told(chosen.value, old)):
            fields[keyword.card] = text_of(chosen.value)
            told = "not available" if told_field is None else shown(old)
            changes.append(Change(correction=chosen, keyword=keyword.card, old=told, new=shown(fields[keyword.card])))
    of_service = {asked.source for asked in (instrument.exposure.begin, instrument.exposure.end) if asked}
    unused = [c for c in mine if c.names_one_frame and c not in used and c.history not in of_service]
    findings = [_unused(c, "the history has another value") for c in unused]
    return replace(answers, corrected=fields), tuple(changes), tuple(sorted(findings, key=_message))


def is_told(value: Value, text: str) -> bool:
    """Tell whether a value field says a value already, type included.

    >>> is_told("GMT", "'GMT     '"), is_told(1, "  1.0")
    (True, False)
    """
    one, other = value_of(text_of(value)), value_of(text)
    return type(one) is type(other) and one == other


def telemetry_field(value: Value, form: ValueType) -> str | None:
    """Return the value field of a corrected value on a telemetry card, or None when it is not of the card's type.

    >>> telemetry_field(30, "float").strip(), telemetry_field(7, "str"), telemetry_field("Off", "float")
    ('30.0', "'7       '", None)
    """
    if value is None:
        return ""
    return field_of(str(value).lower() if isinstance(value, bool) else str(value), form)


def conflict(first: Correction, other: Correction, card: str) -> ConfigurationError:
    """Return the error of two corrections that give one card different values."""
    values = f"to {shown(text_of(first.value))} and to {shown(text_of(other.value))}"
    return ConfigurationError(f"{first.place} and {other.place} both correct {card}, {values}; expected one of them")


def change_findings(changes: Iterable[Change]) -> tuple[Finding, ...]:
    """Return a finding for each corrected card."""
    return tuple(finding("corrected", c.told, origin=c.correction.origin, keyword=c.keyword) for c in changes)


def correction_cards(changes: Sequence[Change]) -> list[str]:
    """Write HISTORY that tells every correction once; nothing where there is none."""
    if not changes:
        return []
    head = "Corrected values; CARDS and TELEMETRY have what there was:"
    cards = [*write_commentary("COMMENT", _RULE), *write_commentary("COMMENT", head)]
    for told in dict.fromkeys(c.told for c in changes):
        cards += write_commentary("HISTORY", f"Corrected {told}")
    return cards


def _is_meant(correction: Correction, frame: int | None, begin: int | None) -> bool:
    if correction.frames is not None and (frame is None or not correction.frames[0] <= frame <= correction.frames[1]):
        return False
    if correction.since is None and correction.until is None:
        return True
    if begin is None:
        return False
    return (correction.since is None or correction.since <= begin) and (correction.until is None or begin < correction.until)


def _correct_sub(sub: SubFits, corrections: Sequence[Correction], changes: list[Change], findings: list[Finding]) -> SubFits:
    hdus = list(sub.hdus)
    for index in sorted({c.hdu for c in corrections}):
        mine = [c for c in corrections if c.hdu == index]
        if index < len(hdus):
            hdus[index] = _correct_hdu(hdus[index], mine, sub.path, changes, findings)
        else:
            findings += [_unused(c, f"{sub.path} has no such HDU") for c in mine if c.frames]
    return replace(sub, hdus=tuple(hdus))


def _correct_hdu(hdu: Hdu, corrections: Sequence[Correction], path: str, changes: list[Change], findings: list[Finding]) -> Hdu:
    found: dict[Correction, list[Record]] = {c: [] for c in corrections}
    used: set[Correction] = set()
    fields: dict[int, str] = {}
    for record, meant in _wanted(hdu, corrections):
        chosen = _the_one([c for c in meant if _applies(c, record.value)], f"{record.original} in HDU {hdu.index} of {path}")
        for correction in meant:
            found[correction].append(record)
            if _applies(correction, record.value) or is_told(correction.value, record.text):
                used.add(correction)
        if chosen and not is_told(chosen.value, record.text):
            fields[record.place] = text_of(chosen.value)
            changes.append(
                Change(correction=chosen, keyword=record.original, old=shown(record.text), new=shown(fields[record.place])),
            )
    for correction in corrections:
        records = found[correction]
        if not records and correction.frames:
            findings.append(_unused(correction, f"{path} has no such card"))
        elif records and correction not in used and correction.names_one_frame:
            findings.append(_unused(correction, f"it is {shown(records[0].text)}"))
    return replace(hdu, corrected=fields)


def _wanted(hdu: Hdu, corrections: Sequence[Correction]) -> Iterator[tuple[Record, list[Correction]]]:
    """Yield each value card that corrections name, as it was written, with these."""
    for record in read_records(hdu.images):
        if record.kind == "value" and (meant := [c for c in corrections if c.keyword in (record.original, record.keyword)]):
            yield record, meant


def _the_one(corrections: Sequence[Correction], card: str) -> Correction | None:
    """Return the correction of a card, the first of those that agree."""
    ordered = sorted(corrections, key=lambda c: (c.file, c.reason, c.place))
    first = next(iter(ordered), None)
    for other in ordered:
        if first and not is_told(other.value, text_of(first.value)):
            raise conflict(first, other, card)
    return first


def _applies(correction: Correction, value: Value) -> bool:
    """Tell whether a correction applies to a card of a value; 0 and 0.0 are one number here, T and 1 are not."""
    if not correction.was:
        return True
    was = value_of(text_of(correction.was[0]))
    return was == value and isinstance(was, bool) == isinstance(value, bool)


def _typed(correction: Correction, keyword: TelemetryKeyword) -> Correction:
    """Return a correction with its values of the type that a telemetry card has."""
    text = telemetry_field(correction.value, keyword.type)
    if text is None:
        told = f"{correction.value!r} is not of type {keyword.type}, which {keyword.card} has in the instrument's YAML"
        raise ConfigurationError(f"{correction.place}: value: {told}")
    was = tuple(value_of(telemetry_field(w, keyword.type) or text_of(w)) for w in correction.was)
    return replace(correction, value=value_of(text), was=was)


def _message(found: Finding) -> str:
    return found.message


def _unused(correction: Correction, why: str) -> Finding:
    told = f"{correction.what}: {why}; nothing was corrected ({correction.source})"
    return finding("correction-unused", told, origin=correction.origin, keyword=correction.keyword or correction.history)
