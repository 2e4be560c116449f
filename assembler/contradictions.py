"""What an instrument's YAML must not say: what is right by itself, and wrong together with the rest."""

import re
from collections.abc import Iterator

from assembler.core.columns import COLUMNS
from assembler.core.extensions import is_structure
from assembler.core.instants import DAY, parse_duration
from assembler.core.instrument import MOMENTS, Instrument
from assembler.core.plan import OWN_TABLES
from assembler.core.primary import OWN_KEYWORDS, reserved_names
from assembler.core.quantities import QUANTITIES
from assembler.core.record import column_cell, template_fields
from assembler.core.snapshots import field_of
from assembler.core.telemetry import telemetry_columns
from assembler.schema import ColumnModel, InstrumentModel, RecordModel, SnapshotModel, broadcast_text
from assembler.yaml import Place


def contradictions(model: InstrumentModel, instrument: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield what is right by itself and wrong together, with its place."""
    if not model.origins:
        yield ("origins",), "expected at least one origin"
    yield from _contradicting_cards(model)
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
    yield from _contradicting_record(model.record)


def _contradicting_moment(moment: str, snapshot: SnapshotModel) -> Iterator[tuple[Place, str]]:
    place: Place = ("snapshots", moment)
    if (moment in MOMENTS) == (snapshot.at is not None):
        told = "is the exposure's own; expected no at" if moment in MOMENTS else f"expected at, or one of {', '.join(MOMENTS)}"
        yield place, told
    if moment not in MOMENTS and moment in {c.name for c in telemetry_columns(())}:
        yield place, "is a column of the TELEMETRY table; expected another name"
    for card, keyword in snapshot.keywords.items():
        where = (*place, "keywords", card)
        if keyword.default is not None and field_of(broadcast_text(keyword.default), keyword.type) is None:
            yield (*where, "default"), f"expected a value of type {keyword.type}; found {keyword.default!r}"
        if keyword.type not in ("int", "float"):
            for name in ("format", "scale", "range"):
                if getattr(keyword, name):
                    yield (*where, name), f"is for numbers; expected type int or float, found {keyword.type}"
            if keyword.during in ("min", "max"):
                yield (*where, "during"), f"{keyword.during} is of numbers; expected type int or float, found {keyword.type}"
        if keyword.during == "mean" and keyword.type != "float":
            yield (*where, "during"), f"a mean is seldom whole; expected type float, found {keyword.type}"
        bounds = keyword.range
        if bounds is not None and (len(bounds) != 2 or (None not in bounds and bounds[0] > bounds[1])):  # type: ignore[operator]
            yield (*where, "range"), "expected the least and the greatest value, null where there is none"
        if keyword.suspect_when and not keyword.suspect:
            yield (*where, "suspect_when"), "expected suspect too"


def _contradicting_cards(model: InstrumentModel) -> Iterator[tuple[Place, str]]:
    """Yield prefixes, announcing keywords, and cards of the L0 itself, that two would share."""
    prefixes: dict[str, str] = {}
    announced: dict[str, str] = {}
    owners = dict.fromkeys(OWN_KEYWORDS, "every L0")
    claims: list[tuple[Place, str, str]] = []
    for name, origin in model.origins.items():
        place: Place = ("origins", name)
        if origin.prefix in prefixes:
            yield (*place, "prefix"), f"{origin.prefix} is that of {prefixes[origin.prefix]} already; expected another one"
        prefixes.setdefault(origin.prefix, name)
        if origin.announced in announced:
            yield (*place, "announced"), f"{origin.announced} is that of {announced[origin.announced]} already; expected another one"
        if origin.announced:
            announced.setdefault(origin.announced, name)
        claims += [((*place, "flag"), origin.flag, name), ((*place, "file"), origin.file, name)]
    for what, service in (("begin", model.exposure.begin), ("end", model.exposure.end)):
        if service:
            claims.append((("exposure", what, "card"), service.card, "the exposure service"))
    for place, card, owner in claims:
        if card in owners or is_structure(card):
            yield place, f"{card} is that of {owners.get(card, 'every L0')} already; expected another one"
        owners.setdefault(card, owner)


def _contradicting_names(model: InstrumentModel, reserved: frozenset[str]) -> Iterator[tuple[Place, str]]:
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
        if origin.times.scale not in (None, "UTC") and origin.times.form == "unix":
            yield ("origins", name, "times", "scale"), f"UNIX seconds are in UTC; expected another form, or no {origin.times.scale}"


def _contradicting_extensions(model: InstrumentModel) -> Iterator[tuple[Place, str]]:
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


def _contradicting_record(model: RecordModel) -> Iterator[tuple[Place, str]]:
    if model.location:
        for name, least, greatest in (("longitude", -180, 360), ("latitude", -90, 90), ("height", -1000, 100_000)):
            if not least <= getattr(model.location, name) <= greatest:
                yield ("record", "location", name), f"expected a number from {least} to {greatest}"
    if parse_duration(model.day_begins) >= DAY:
        yield ("record", "day_begins"), "expected a time of day, less than 24 h"
    for name, column in model.columns.items():
        place: Place = ("record", "columns", name)
        if name not in COLUMNS or COLUMNS[name].is_told:
            yield place, f"is no column that the YAML fills; expected {', '.join(n for n, c in COLUMNS.items() if not c.is_told)}"
        else:
            yield from _contradicting_column(place, name, column)


def _contradicting_column(place: Place, name: str, model: ColumnModel) -> Iterator[tuple[Place, str]]:
    column = COLUMNS[name]
    ways = [way for way, told in (("from", model.source), ("value", model.value), ("template", model.template)) if told not in (None, [])]
    if len(ways) != 1:
        yield place, f"expected one of from, value and template; found {' and '.join(ways) or 'none'}"
    for way in ("unit", "words", "pattern"):
        if getattr(model, way) and "from" not in ways:
            yield (*place, way), "is for what a keyword tells; expected from"
    units = QUANTITIES[column.unit] if column.kind == "float" else {}
    if model.unit and model.unit not in units:
        yield (*place, "unit"), f"expected {' or '.join(u for u in units if u) or 'none'}; found {model.unit!r}"
    for where, told in ((("value",), model.value), *((("words", word), told) for word, told in model.words.items())):
        if told is not None:
            try:
                column_cell(column, told, model.unit if model.unit in units else "")
            except ValueError as error:
                yield (*place, *where), f"{told!r} {error}"
    if model.pattern:
        try:
            groups = re.compile(model.pattern).groups
        except re.error as error:
            yield (*place, "pattern"), f"is no regular expression: {error}"
        else:
            if column.kind != "bool" and groups != 1:
                yield (*place, "pattern"), "expected one group, in parentheses, for the text that is wanted"
    if model.template:
        earlier = {"seq_num": ("day_obs",), "exposure_id": ("day_obs", "seq_num")}.get(name, ("day_obs", "seq_num", "exposure_id"))
        if column.kind not in ("text", "int"):
            yield (*place, "template"), "is for text and whole numbers"
        elif not set(template_fields(model.template)) <= set(earlier):
            yield (
                (*place, "template"),
                f"expected no other fields than {', '.join(f'{{{field}}}' for field in earlier)}, as in {{day_obs:08}}",
            )
