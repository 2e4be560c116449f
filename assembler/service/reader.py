"""Read an L0 by itself: explain its cards, and verify that it is whole."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from assembler.core.cards import keyword_of, read_record, read_records, shown
from assembler.core.exposure import Hdu, SubFits
from assembler.core.instants import SECOND, parse_iso
from assembler.core.ledger import LedgerRow, ledger_table, read_ledger
from assembler.core.plan import findings_table
from assembler.core.prefixes import rule_name
from assembler.core.snapshots import TELEMETRY_COLUMNS
from assembler.core.tables import Table, read_table
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
        ("TELEMETRY", TELEMETRY_COLUMNS),
        ("CARDS", ledger_table(()).columns),
        ("FINDINGS", findings_table(()).columns),
    )
}
_SNAPSHOT = re.compile(r"Snapshot (\w+): (\S+) UTC")


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
    ledger = read_ledger(_table(found, "CARDS"))
    findings = _table(found, "FINDINGS").rows
    collided = {str(row[3]) for row in findings if row[0] in ("name-collision", "duplicate-keyword")}
    corrected = [(str(row[2]), str(row[3]), str(row[4])) for row in findings if row[0] == "corrected"]
    accounts = [_of_ledger(row, collided, corrected) for row in ledger if keyword in (row.keyword, *_originals(row))]
    accounts += _of_telemetry(found, keyword, corrected)
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
        ledger = read_ledger(_table(found, "CARDS"))
    except InputError as error:
        raise VerificationError(str(error)) from error
    headers = {h.extname or "PRIMARY": {keyword_of(i) for i in h.images} for h in found.hdus}
    for row in ledger:
        if row.extension and row.keyword not in headers.get(row.extension, ()):
            raise VerificationError(f"{path}: the ledger has {row.keyword} of {row.origin} in {row.extension}, where it is not")
        if row.fate == "dropped" and row.extension:
            raise VerificationError(f"{path}: the ledger has {row.keyword} of {row.origin} both dropped and in {row.extension}")


def _table(found: SubFits, name: str) -> Table:
    """Read one of the L0's own tables.

    Raises
    ------
    InputError
        When it is not there, or is not one that an assembler made.
    """
    hdu = next((h for h in found.hdus if h.extname == name), None)
    if hdu is None:
        raise InputError(f"{found.path}: no table {name}, so this is no L0", path=found.path)
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


def _of_telemetry(found: SubFits, keyword: str, corrected: Sequence[tuple[str, str, str]]) -> list[Account]:
    table = _table(found, "TELEMETRY")
    names = [c.name for c in table.columns]
    instants = {m.group(1): m.group(2) for i in found.hdus[0].images if (m := _SNAPSHOT.match(i[8:]))}
    accounts = []
    for cells in table.rows:
        row = dict(zip(names, map(str, cells), strict=True))
        for written in row.get("cards", "").split():
            card, _, moment = written.partition("@")
            if card != keyword:
                continue
            asked, broadcast = instants.get(moment, ""), row.get(f"{moment}_time", "")
            facts = [("from", f"history keyword {row['keyword']}"), ("snapshot", f"{moment}, asked as of {asked} UTC")]
            if broadcast:
                facts += [("value", row[moment]), ("broadcast", f"{broadcast} UTC{_age(asked, broadcast)}")]
            else:
                facts.append(("value", "not available"))
            facts += [("corrected", m.partition(": ")[2]) for origin, about, m in corrected if not origin and about == card]
            accounts.append(Account(keyword=card, extension="PRIMARY", facts=tuple(facts)))
    return accounts


def _age(asked: str, broadcast: str) -> str:
    try:
        return f", {(parse_iso(asked) - parse_iso(broadcast)) / SECOND:.6f} s before"
    except ValueError:  # the instant was not known
        return ""


def _of_assembler(found: SubFits, keyword: str) -> list[Account]:
    """Account for a card that the assembler itself wrote, with the findings about it."""
    accounts = []
    findings = _table(found, "FINDINGS")
    told = tuple((str(row[0]), str(row[4])) for row in findings.rows if row[3] == keyword)
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
