"""Read an instrument's YAML; an error names file, line, place and what was expected.

ruamel.yaml finds the nodes with their lines, pydantic says which of them are wrong, and what is right becomes the
frozen values of `assembler.core.instrument`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from assembler.contradictions import contradictions
from assembler.core.instants import UNITS, parse_duration
from assembler.core.instrument import (
    MOMENTS,
    AmplifierCard,
    ColumnRule,
    DurationRule,
    Event,
    ExposureRule,
    Extension,
    Instrument,
    Origin,
    OriginTimes,
    RecordRule,
    ServiceTime,
    Site,
    Snapshot,
    TelemetryKeyword,
)
from assembler.problems import checked, refuse
from assembler.schema import (
    ColumnModel,
    DurationModel,
    InstrumentModel,
    OriginModel,
    RecordModel,
    ServiceTimeModel,
    SnapshotModel,
    TelemetryModel,
    broadcast_text,
)


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
    model, lines = checked(text, name, InstrumentModel)
    instrument = _instrument(model)
    refuse(contradictions(model, instrument), lines, name)
    return replace(instrument, digest=hashlib.sha256(text.encode()).hexdigest())


def _instrument(model: InstrumentModel) -> Instrument:
    return Instrument(
        name=model.instrument,
        filename=model.filename,
        output=model.output,
        missing=model.missing,
        margin=parse_duration(model.margin),
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
        record=_record(model.record),
    )


def _snapshot(moment: str, model: SnapshotModel) -> Snapshot:
    return Snapshot(
        moment=moment,
        offset=parse_duration(model.offset),
        keywords=tuple(_telemetry(card, keyword) for card, keyword in model.keywords.items()),
        event=Event(source=model.at.source, form=model.at.form) if model.at else None,
    )


def _telemetry(card: str, model: TelemetryModel) -> TelemetryKeyword:
    low, high = model.range if model.range and len(model.range) == 2 else (None, None)
    return TelemetryKeyword(
        card=card,
        source=model.source,
        type=model.type,
        unit=model.unit,
        comment=model.comment,
        prefer=model.prefer,
        required=model.required,
        default=broadcast_text(model.default) if model.default is not None else None,
        missing=model.missing,
        format=model.format,
        scale=str(model.scale) if model.scale is not None else "",
        low=low,
        high=high,
        max_age=parse_duration(model.max_age) if model.max_age else None,
        must_refresh=model.must_refresh if isinstance(model.must_refresh, str) else "always" if model.must_refresh else "",
        during=model.during or "",
        suspect=tuple(map(broadcast_text, model.suspect)),
        suspect_when={source: tuple(map(broadcast_text, values)) for source, values in model.suspect_when.items()},
    )


def _durations(model: Mapping[str, DurationModel]) -> tuple[DurationRule, ...]:
    return tuple(
        DurationRule(source=source, unit=UNITS[told.unit], tolerance=parse_duration(told.tolerance)) for source, told in model.items()
    )


def _origin(name: str, model: OriginModel) -> Origin:
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
        required=model.required,
        renamed=model.renamed,
        readout=parse_duration(model.readout),
        announced=model.announced or "",
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


def _record(model: RecordModel) -> RecordRule:
    site = model.location
    return RecordRule(
        columns=tuple(_column(name, column) for name, column in model.columns.items()),
        day_begins=parse_duration(model.day_begins),
        frame=model.frame,
        equinox=model.equinox or "",
        site=Site(longitude=float(site.longitude), latitude=float(site.latitude), height=float(site.height)) if site else None,
    )


def _column(name: str, model: ColumnModel) -> ColumnRule:
    return ColumnRule(
        column=name,
        sources=(model.source,) if isinstance(model.source, str) else tuple(model.source or ()),
        value=model.value,
        template=model.template or "",
        unit=model.unit,
        words={word.strip().lower(): meaning for word, meaning in model.words.items()},
        pattern=model.pattern,
    )


def _service_time(model: ServiceTimeModel | None) -> ServiceTime | None:
    return ServiceTime(source=model.source, card=model.card, comment=model.comment) if model else None
