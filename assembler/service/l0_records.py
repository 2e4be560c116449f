"""The record of an exposure, read from its L0, which can be done as long as there is the L0."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from assembler.core.exposure import MISSING_CODES, Hdu, SubFits
from assembler.core.instrument import Instrument
from assembler.core.ledger import LedgerRow
from assembler.core.record import Record, exposure_record, is_l0_of
from assembler.core.record_origins import origin_rows
from assembler.errors import InputError
from assembler.service.recorded import read_recording, recorded_found
from assembler.service.scales import SCALES


def read_record(path: Path, instrument: Instrument) -> Record:
    """Read what an L0 tells of its exposure.

    Raises
    ------
    InputError
        When it cannot be read, or is no L0 of this instrument.
    """
    recording = read_recording(path)
    if not is_l0_of(instrument, recording.values):
        raise InputError(f"{path}: is no L0 of {instrument.name}; name its instrument's YAML with -i", path=str(path))
    subs = recorded_found(instrument, recording).subs
    attached = {o.name: subs[o.name] for o in instrument.origins if o.name in subs and recording.values.get(o.flag) == "YES"}
    rows = origin_rows(
        instrument,
        {name: _with_corrections(sub, [row for row in recording.ledger if row.origin == name]) for name, sub in attached.items()},
        {f.origin: f.code for f in recording.findings if f.code in MISSING_CODES},
        {hdu.extname for hdu in recording.found.hdus[1:]},
        SCALES,
    )
    return exposure_record(instrument, recording.values, rows)


def _with_corrections(sub: SubFits, rows: Sequence[LedgerRow]) -> SubFits:
    """Return a sub-FITS with the values that its cards have in the L0."""
    corrected: Mapping[int, str] = {
        row.number - 1: "" if row.correction == "undefined" else row.correction for row in rows if row.hdu == 0 and row.correction
    }
    primary: Hdu = replace(sub.hdus[0], corrected=corrected)
    return replace(sub, hdus=(primary, *sub.hdus[1:]))
