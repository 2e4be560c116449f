"""Read an L0 by itself: explain its cards, and verify that it is whole."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assembler.core.cards import keyword_of, read_record, read_records, shown
from assembler.core.exposure import Hdu, SubFits
from assembler.core.instants import format_iso, from_unix, parse_iso
from assembler.core.instrument import MOMENTS
from assembler.core.ledger import LedgerRow, ledger_table, read_ledger
from assembler.core.plan import findings_table
from assembler.core.prefixes import rule_name
from assembler.core.tables import Cell, Table, read_table
from assembler.core.telemetry import telemetry_columns
from assembler.errors import ConfigurationError, InputError, VerificationError
from assembler.fits.blocks import open_fits, scan
from assembler.fits.verifier import verify_file

_RULES = {
    "kept": "kept as it was",
    "amplifier": "moved to the extension of its amplifier",
    "shared": "shared by all origins, so written once",
    "structure": "describes the file that it was in",
    "dropped": "dropped by rule; only the ledger has it",
}
_COLUMNS = {
    name: [(c.name, c.form) for c in columns]
    for name, columns in (
        ("TELEMETRY", telemetry_columns(MOMENTS)),
        ("CARDS", ledger_table(()).columns),
        ("FINDINGS", findings_table(()).columns),
    )
}
_LONGEST_TABLE = 1 << 30
"""Of the data of one of the L0's own tables [bytes]; real ones have a few MiB."""

_SNAPSHOT = re.compile(r"Snapshot (\w+): (\S+) UTC *")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where one card came from: pairs of what and told, in the order to print."""

    keyword: str
    extension: str
    facts: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """Return the account as lines of text."""
        head = f"{self.keyword} in {self.extension}" if self.extension else f"{self.keyword}: in the ledger only"
        return [head, *(f"  {what:10} {told}".rstrip() for what, told in self.facts)]


def explain(path: Path, keyword: str) -> list[Account]:
    """Tell where the cards with a keyword came from; the keyword is that of the L0, or that of the sub-FITS.

    Raises
    ------
    InputError
        When it is no L0, or has no such keyword.
    """
    if not keyword:
        raise ConfigurationError("name a keyword")
    found = scan(str(path))
    ledger = read_ledger(own_table(found, "CARDS"))
    findings = own_table(found, "FINDINGS").rows
    collided = {str(row[3]) for row in findings if row[0] in ("name-collision", "duplicate-keyword")}
    corrected = [(str(row[2]), str(row[3]), str(row[4])) for row in findings if row[0] == "corrected"]
    accounts = [_of_ledger(row, collided, corrected) for row in ledger if keyword in (row.keyword, *_originals(row))]
    try:
        accounts += _of_telemetry(found, keyword)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: TELEMETRY is not as an assembler writes it: {error}", path=str(path)) from error
    written = {a.keyword for a in accounts if a.extension == "PRIMARY"}
    if keyword not in written and keyword not in ("COMMENT", "HISTORY", ""):
        accounts += _of_assembler(found, keyword)
    if not accounts:
        raise InputError(f"{path}: no card {keyword}, neither in the L0 nor in its sub-FITS", path=str(path))
    return accounts


def verify_l0(path: Path) -> None:
    """Verify an L0: the file itself, and that every card is where the ledger says.

    Raises
    ------
    VerificationError
        That names what is wrong.
    """
    verify_file(path)
    found = scan(str(path))
    try:
        ledger = read_ledger(own_table(found, "CARDS"))
    except InputError as error:
        raise VerificationError(str(error)) from error
    headers = {h.extname or "PRIMARY": {keyword_of(i) for i in h.images} for h in found.hdus}
    for row in ledger:
        if row.extension and row.keyword not in headers.get(row.extension, ()):
            raise VerificationError(f"{path}: the ledger has {row.keyword} of {row.origin} in {row.extension}, where it is not")
        if row.fate == "dropped" and row.extension:
            raise VerificationError(f"{path}: the ledger has {row.keyword} of {row.origin} both dropped and in {row.extension}")


def own_table(found: SubFits, name: str) -> Table:
    """Read one of the L0's own tables.

    Raises
    ------
    InputError
        When it is not there, or is not one that an assembler made.
    """
    hdu = next((h for h in found.hdus if h.extname == name), None)
    if hdu is None:
        raise InputError(f"{found.path}: no table {name}, so this is no L0", path=found.path)
    check_table_length(found.path, hdu)
    with open_fits(found.path) as (stream, _):
        stream.seek(hdu.offset)
        data = stream.read(hdu.length)
    try:
        table = read_table(hdu.images, data)
    except ValueError as error:
        raise InputError(f"{found.path}: {name}: {error}", path=found.path) from error
    wanted = _COLUMNS[name]
    if [(c.name, c.form) for c in table.columns][: len(wanted)] != wanted:
        raise InputError(f"{found.path}: {name} has other columns than that of an L0", path=found.path)
    return table


def check_table_length(path: str, hdu: Hdu) -> None:
    """Raise `InputError` where one of the L0's own tables is too large to be one, since it is read as a whole."""
    if hdu.length > _LONGEST_TABLE:
        told = f"{hdu.extname} has {hdu.length} bytes, more than the {_LONGEST_TABLE >> 20} MiB that a table of an L0 may have"
        raise InputError(f"{path}: {told}", path=path)


def snapshot_instants(found: SubFits) -> dict[str, int]:
    """Return by moment the instant [ns] that telemetry was asked for, as the fences of the primary tell it.

    Raises
    ------
    ValueError
        When what a fence tells is no time.
    """
    fences = (_SNAPSHOT.fullmatch(image[8:].strip()) for image in found.hdus[0].images if image.startswith("COMMENT "))
    return {fence.group(1): parse_iso(fence.group(2)) for fence in fences if fence}


def _originals(row: LedgerRow) -> tuple[str, ...]:
    """Return the keyword that a card had, in upper case; of a HIERARCH card, its words too."""
    first = keyword_of(row.card).upper()
    if first != "HIERARCH":
        return (first,)
    words = read_record(0, row.card).keyword.upper()
    return (words, words.removeprefix("HIERARCH "))


def _of_ledger(row: LedgerRow, collided: Collection[str], corrected: Sequence[tuple[str, str, str]]) -> Account:
    rule = _naming_rule(row, collided) if row.fate == "prefixed" else _RULES.get(row.fate, row.fate)
    facts = [
        ("from", f"{row.file}, HDU {row.hdu}, card {row.number}, of {row.origin}"),
        ("card", row.card.rstrip() if row.card.isprintable() else ascii(row.card.rstrip())[1:-1]),
        ("rule", "kept, but for its value" if row.correction and row.fate == "kept" else rule),
    ]
    if row.correction:
        facts.append(("corrected", _correction(row, corrected)))
    return Account(keyword=row.keyword or keyword_of(row.card), extension=row.extension, facts=tuple(facts))


def _correction(row: LedgerRow, corrected: Sequence[tuple[str, str, str]]) -> str:
    """Tell how a card's value was corrected, and why, in the words of the finding."""
    record = read_record(0, row.card)
    names = [f"{row.origin} HDU {row.hdu} {name}" for name in (record.original, record.keyword)]
    told = [m.partition(": ")[2] for origin, _, m in corrected if origin == row.origin and m.partition(": ")[0] in names]
    exact = f"{shown(record.text)} is now {row.correction} ("  # a keyword may stand there twice
    return (
        next((t for t in sorted(told, key=lambda t: not t.startswith(exact)) if f" is now {row.correction} (" in t), "") or row.correction
    )


def _naming_rule(row: LedgerRow, collided: Collection[str]) -> str:
    """Tell how a prefixed card got its name."""
    record, prefix = read_record(0, row.card), row.keyword[:2]
    mended = f"; mended: {record.fault}" if record.fault else ""
    if row.keyword in collided:
        return f"prefixed; the name that the rule makes was taken, so it got a free one{mended}"
    if row.keyword != rule_name(prefix, record.keyword):
        return f"renamed by the YAML{mended}"
    return f"prefixed with {prefix}{'' if row.keyword == prefix + record.keyword else ', its last two characters cut off'}{mended}"


def _of_telemetry(found: SubFits, keyword: str) -> list[Account]:
    table = own_table(found, "TELEMETRY")
    names = [c.name for c in table.columns]
    instants = snapshot_instants(found)
    accounts = []
    for cells in table.rows:
        row = dict(zip(names, cells, strict=True))
        for written in str(row.get("cards", "")).split():
            card, _, moment = written.partition("@")
            if card != keyword:
                continue
            facts = [("from", f"history keyword {row['keyword']}")]
            if moment != "service":
                asked = f"asked as of {format_iso(instants[moment])} UTC" if moment in instants else "the instant is not known"
                facts.append(("snapshot", f"{moment}, {asked}"))
            facts += [("card", image.rstrip()) for image in (_find(found.hdus[0], card) or ())[:1]]
            facts += _broadcasts(row, moment, instants)
            facts.append(("samples", _numbers(row)))
            facts += _found(found, keyword)
            accounts.append(Account(keyword=card, extension="PRIMARY", facts=tuple(facts)))
    return accounts


def _broadcasts(row: Mapping[str, Cell], moment: str, instants: Mapping[str, int]) -> list[tuple[str, str]]:
    """Tell the value at the moment of a card, then those of the other moments, then what else counted."""
    facts = []
    if row.get(f"{moment}_time"):
        age = row.get(f"{moment}_age")
        old = f", {age:.6f} s before" if isinstance(age, float) else ""
        facts += [("value", str(row[moment])), ("broadcast", f"{row[f'{moment}_time']} UTC{old}")]
    elif moment in instants:
        facts.append(("value", "not available"))
    facts += [(m, f"{row[m]} ({row[f'{m}_time']} UTC)") for m in instants if m != moment and row.get(f"{m}_time")]
    further = json.loads(str(row["further"]) or "[]")
    return [*facts, *(("further", f"{value} ({format_iso(from_unix(time))} UTC)") for time, value in further if time is not None)]


def _numbers(row: Mapping[str, Cell]) -> str:
    """Tell what was broadcast during the exposure."""
    if row.get("average") is None:
        return f"{row['samples']} from begin to end"
    return f"{row['samples']} from begin to end; mean {row['average']:g}, from {row['min']:g} to {row['max']:g}"


def _found(found: SubFits, keyword: str) -> list[tuple[str, str]]:
    """Return the findings about a keyword that is no origin's: code and message."""
    return [(str(row[0]), str(row[4])) for row in own_table(found, "FINDINGS").rows if row[3] == keyword and not row[2]]


def _of_assembler(found: SubFits, keyword: str) -> list[Account]:
    """Account for a card that the assembler itself wrote, with the findings about it."""
    accounts = []
    told = _found(found, keyword)
    for hdu in found.hdus:
        extension = hdu.extname or "PRIMARY"
        mine = extension in ("PRIMARY", "TELEMETRY", "CARDS", "FINDINGS") or keyword in ("CHECKSUM", "DATASUM", "EXTNAME")
        record = _find(hdu, keyword) if mine else None
        if record:
            facts = (("from", "the assembler itself"), ("card", record[0].rstrip()), *told)
            accounts.append(Account(keyword=keyword, extension=extension, facts=facts))
    return accounts[:1]


def _find(hdu: Hdu, keyword: str) -> Sequence[str] | None:
    return next((r.images for r in read_records(hdu.images) if r.keyword == keyword), None)
