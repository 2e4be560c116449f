"""What an L0 tells of what it was made of: its sub-FITS and its corrections, as they were then."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from assembler.core.cards import Value, printable_text, read_records, shown, value_of
from assembler.core.corrections import Correction
from assembler.core.delivered import Delivered, read_delivered
from assembler.core.exposure import REASONS, Hdu, Missing, SubFits
from assembler.core.findings import Finding
from assembler.core.instrument import Instrument, Origin
from assembler.core.ledger import LedgerRow, read_ledger
from assembler.core.plan import OWN_TABLES
from assembler.core.tables import Table
from assembler.core.versions import SUPERSEDED
from assembler.errors import ConfigurationError, InputError
from assembler.fits.blocks import data_length, padded, scan, scan_primary
from assembler.service.finder import Found, find_night, find_paths, fitting_files
from assembler.service.journal_l0s import exposure_of
from assembler.service.reader import own_table

_ALL_ONES = 0xFFFFFFFF
_IS_NOW = " is now "


@dataclass(frozen=True, kw_only=True)  # without slots, so that what is worked out once is kept
class Recording:
    """An L0 as a record of its own making.

    Attributes
    ----------
    found : SubFits
        The L0 itself.
    tables : mapping of str to Table
        The L0's own.
    ledger : tuple of LedgerRow
    findings : tuple of Finding
    """

    found: SubFits
    tables: Mapping[str, Table]
    ledger: tuple[LedgerRow, ...]
    findings: tuple[Finding, ...]

    @cached_property
    def values(self) -> dict[str, Value]:
        """The values of its primary."""
        return self.found.hdus[0].values()

    @cached_property
    def sources(self) -> tuple[Delivered, ...]:
        """What each sub-FITS was, as CARDS tells it; nothing where its header is another one than was written."""
        hdu = next((h for h in self.found.hdus if h.extname == "CARDS"), None)
        if hdu is None or (hdu.header_sum + _datasum(hdu)) % _ALL_ONES:
            return ()
        return read_delivered(hdu.images)

    @cached_property
    def extensions(self) -> dict[tuple[str, int], Hdu]:
        """By origin and number of an HDU in its sub-FITS, the HDU of the L0 that has its data."""
        hdus = {h.extname: h for h in self.found.hdus[1:] if h.extname not in OWN_TABLES}
        kept = (row for row in self.ledger if row.fate in ("kept", "structure") and row.extension in hdus)
        return {(row.origin, row.hdu): hdus[row.extension] for row in kept}

    def text(self, keyword: str) -> str:
        """Return the text of a card of its primary; empty where there is none."""
        value = self.values.get(keyword)
        return value if isinstance(value, str) else ""

    def datasum(self, origin: str, hdu: int) -> int:
        """Return what a data unit of a sub-FITS summed up to, as the L0 tells; 0 where it had no data."""
        extension = self.extensions.get((origin, hdu))
        return _datasum(extension) if extension else 0


def read_recording(path: Path) -> Recording:
    """Read an L0 as a record of its own making.

    Raises
    ------
    InputError
        When it cannot be read, or is no L0.
    """
    found = scan(str(path))
    tables = {name: own_table(found, name) for name in OWN_TABLES}
    rows = ([str(cell) for cell in row] for row in tables["FINDINGS"].rows)
    findings = tuple(
        Finding(code=code, severity=severity, origin=origin, keyword=keyword, message=message)  # type: ignore[arg-type]
        for code, severity, origin, keyword, message, *_ in rows
    )
    return Recording(found=found, tables=tables, ledger=read_ledger(tables["CARDS"]), findings=findings)


def home_of(path: Path) -> Path:
    """Return the directory that an L0 is made in: of a superseded one, that which the newest version is in."""
    directory = Path(os.path.abspath(path)).parent
    return directory.parent if directory.name == SUPERSEDED else directory


def night_of(directory: Path, output: str) -> Path | None:
    """Return the night whose L0s are in a directory, where the YAML's ``output`` tells it.

    >>> night_of(Path("/data/2024apr21/L0"), "L0"), night_of(Path("/archive"), "L0")
    (PosixPath('/data/2024apr21'), None)
    """
    parts, there = Path(output).parts, directory.parts
    depth = len(there) - len(parts)
    return Path(*there[:depth]) if depth > 0 and there[depth:] == parts else None


def find_again(instrument: Instrument, path: Path, night: Path | None) -> Found:
    """Find the sub-FITS of an L0's exposure in a night, as they are by now.

    They are those of its frame number, or, where it has none, those of their names. The paths that it tells are not followed: what
    a file says is never a path.

    Raises
    ------
    ConfigurationError
        When nobody says which night.
    InputError
        When it is no L0 of this instrument, or there is no such night, or none of its sub-FITS is there.
    """
    primary = scan_primary(str(path))
    exposure = exposure_of(primary, instrument)
    if night is None:
        raise ConfigurationError(f"{path}: name the night that its sub-FITS are in with --night; they were in {exposure.night}")
    if exposure.frame is not None:
        found = find_night(instrument, night, exposure.frame)
    else:
        found = _find_named(instrument, night, primary.hdus[0].values())
    if not found.subs and not found.missing:
        raise InputError(f"{night}: has no sub-FITS of {path}; name the night that they are in with --night", path=str(path))
    return found


def _find_named(instrument: Instrument, night: Path, values: Mapping[str, Value]) -> Found:
    """Find sub-FITS by the names that an L0 tells; its primary has these values."""
    named = {o.name: str(values.get(o.file_card) or "").rsplit("/", 1)[-1] for o in instrument.origins}
    there = {
        o.name: [p for p, _ in fitting_files(o, night) if printable_text(os.path.basename(p)) == named[o.name]] for o in instrument.origins
    }
    return find_paths(instrument, {name: paths[0] for name, paths in there.items() if paths})


def recorded_found(instrument: Instrument, recording: Recording) -> Found:
    """Return the sub-FITS that an L0 was made of, as the ledger has them, and why others were missing.

    What the header of a sub-FITS summed up to is not recorded, but whether its CHECKSUM fitted is; they get a sum that says the same.

    Raises
    ------
    InputError
        When the ledger has no lawful headers.
    """
    subs = {}
    for name, rows in groupby(recording.ledger, key=lambda row: row.origin):
        origin = next((o for o in instrument.origins if o.name == name), None)
        if origin is not None:
            subs[name] = _sub_fits(origin, list(rows), recording)
    missing = tuple(
        Missing(origin=f.origin, reason=f.code, message=f.message)
        for f in recording.findings
        if f.code in REASONS
        and f.code not in ("absent", "not-triggered")
        and f.origin in {o.name for o in instrument.origins} - subs.keys()
    )
    frame = recording.values.get("FRAMENO")
    return Found(instrument=instrument, subs=subs, missing=missing, frame=frame if isinstance(frame, int) else None)


def recorded_corrections(instrument: Instrument, recording: Recording) -> tuple[Correction, ...]:
    """Return corrections that do to the recorded sub-FITS and history what was done to them."""
    told = [f for f in recording.findings if f.code == "corrected"]
    return (*_of_cards(recording.ledger, told), *_of_telemetry(instrument, recording, told))


def _datasum(hdu: Hdu) -> int:
    told = str(hdu.value("DATASUM") or "0").strip()
    return int(told) if told.isdecimal() and len(told) <= 10 else 0


def _sub_fits(origin: Origin, rows: Sequence[LedgerRow], recording: Recording) -> SubFits:
    file = rows[0].file
    path = recording.text(origin.file_card) or next(
        (v for v in recording.values.values() if isinstance(v, str) and v.endswith(f"/{file}")), file
    )
    told = [f for f in recording.findings if f.origin == origin.name]

    def says(code: str, hdu: int) -> bool:
        return any(f.code == code and f.message.startswith(f"{path}, HDU {hdu}:") for f in told)

    hdus = []
    position = 0
    for index, cards in groupby(rows, key=lambda row: row.hdu):
        images = tuple(row.card for row in cards)
        offset = position + padded(80 * (len(images) + 1))
        length = padded(data_length("".join(images).encode("latin-1"), path, index))
        position = offset + length
        fitting = -recording.datasum(origin.name, index) % _ALL_ONES
        hdus.append(
            Hdu(
                index=index,
                images=images,
                offset=offset,
                length=length,
                header_sum=fitting + says("checksum-wrong", index),
                blank_padding=not says("header-padding", index),
                clean_fill=not says("data-fill", index),
            )
        )
    trailing = next((f.message for f in told if f.code == "trailing-bytes"), "").removeprefix(f"{path} has ").partition(" ")[0]
    return SubFits(
        path=path,
        compressed=any(f.code == "compressed" for f in told),
        hdus=tuple(hdus),
        trailing=int(trailing) if trailing.isdecimal() and len(trailing) < 20 else 0,
        digest=next((told.digest for told in recording.sources if told.origin == origin.name), ""),
    )


def _of_cards(ledger: Sequence[LedgerRow], told: Sequence[Finding]) -> Iterator[Correction]:
    """Return the corrections of cards of sub-FITS: the ledger has the values, the findings who said so."""
    for (origin, hdu), some in groupby(ledger, key=lambda row: (row.origin, row.hdu)):
        rows = list(some)
        if not any(row.correction for row in rows):
            continue
        for record in read_records([row.card for row in rows]):
            new = rows[record.place].correction
            if not new:
                continue
            head = f"{shown(record.text)}{_IS_NOW}{new} ("
            for name in dict.fromkeys((record.original, record.keyword)):
                what = f"{origin} HDU {hdu} {name}: {head}"
                message = next((f.message for f in told if f.message.startswith(what)), "")
                if message:
                    yield _correction(message.removeprefix(what)[:-1], new, (value_of(record.text),), origin=origin, hdu=hdu, keyword=name)
                    break


def _of_telemetry(instrument: Instrument, recording: Recording, told: Sequence[Finding]) -> Iterator[Correction]:
    """Return the corrections of telemetry: the cards have the values."""
    cards = {k.card: k.source for s in instrument.snapshots for k in s.keywords}
    cards |= {asked.card: asked.source for asked in (instrument.exposure.begin, instrument.exposure.end) if asked}
    for found in told:
        source = cards.get(found.keyword)
        if found.origin or source is None or not found.message.startswith(f"{source}: "):
            continue
        old, _, rest = found.message.removeprefix(f"{source}: ").partition(_IS_NOW)
        new, _, by = rest.partition(" (")
        record = recording.found.hdus[0].record(found.keyword)
        if record is not None and rest.startswith(f"{shown(record.text)} ("):
            new, by = shown(record.text), rest.removeprefix(f"{shown(record.text)} (")
        was = () if old == "not available" else (_value(old),)
        yield _correction(by[:-1], new, was, history=source)


def _correction(
    by: str, new: str, was: tuple[Value, ...], *, origin: str = "", hdu: int = 0, keyword: str = "", history: str = ""
) -> Correction:
    file, _, reason = by.partition(": ")
    return Correction(
        file=file,
        place=f"the L0's {file}",
        reason=reason,
        value=_value(new),
        was=was,
        origin=origin,
        hdu=hdu,
        keyword=keyword,
        history=history,
    )


def _value(told: str) -> Value:
    """Return the value that people were told of."""
    if told in ("undefined", "not available"):
        return None
    try:
        return value_of(told)
    except ValueError:
        return told  # an instant
