"""An L0 as what can be compared: HDUs with their cards, the rows of its own tables, and digests of the data."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from assembler.core.cards import keyword_of
from assembler.core.difference import Row, Unit
from assembler.core.exposure import Hdu
from assembler.core.plan import Plan, Source
from assembler.core.tables import Cell, Table, read_table

_SUMS = ("CHECKSUM", "DATASUM ")


def plan_units(plan: Plan, digest_of: Callable[[Source], str]) -> tuple[Unit, ...]:
    """Return what a plan would make.

    Parameters
    ----------
    plan : Plan
    digest_of : callable
        Tells the data of a sub-FITS HDU.
    """
    units = []
    for hdu in plan.hdus:
        if isinstance(hdu.data, Table):
            written = read_table(hdu.cards, hdu.data.data())  # as it is read back: blanks at the end are no part of a text
            units.append(Unit(name=hdu.name, cards=hdu.cards, rows=table_rows(written)))
        else:
            units.append(Unit(name=hdu.name, cards=hdu.cards, digest=digest_of(hdu.data) if hdu.data else ""))
    return tuple(units)


def file_units(
    hdus: Iterable[Hdu],
    tables: Mapping[str, Table],
    digests: Mapping[str, str],
    faults: Mapping[int, tuple[str, ...]],
    *,
    sums: bool = False,
) -> tuple[Unit, ...]:
    """Return what an L0 has.

    Parameters
    ----------
    hdus : iterable of Hdu
    tables : mapping of str to Table
        By name, those that the assembler makes.
    digests : mapping of str to str
        By name, the data of the other HDUs.
    faults : mapping of int to tuple of str
        By number of an HDU, what of its checksums does not fit.
    sums : bool
        Whether CHECKSUM and DATASUM take part; a plan has none.
    """
    units = []
    for hdu in hdus:
        name = hdu.extname or "PRIMARY"
        cards = tuple(image for image in hdu.images if sums or not image.startswith(_SUMS))
        table = tables.get(name)
        rows = table_rows(table) if table else ()
        units.append(Unit(name=name, cards=cards, digest=digests.get(name, ""), rows=rows, faults=faults.get(hdu.index, ())))
    return tuple(units)


def table_rows(table: Table) -> tuple[Row, ...]:
    """Return the rows of one of the L0's own tables.

    The ledger numbers the HDUs of a sub-FITS, and the cards of a header. A number that the order of the rows tells as well is left
    out, else one HDU or one card more would change every row behind it.
    """
    names = [column.name for column in table.columns]
    rows, seen, hdus = [], Counter[tuple[str, str]](), Counter[str]()
    for cells in table.rows:
        told = dict(zip(names, cells, strict=True))
        name = _row_name(table.name, told)
        if table.name == "CARDS":
            origin, hdu = place = (str(told.get("origin")), str(told.get("hdu")))
            hdus[origin] += not seen[place]
            seen[place] += 1
            if hdu == str(hdus[origin] - 1):
                del told["hdu"]
            if told.get("index") == seen[place]:
                del told["index"]
        rows.append(Row(name=name, cells=_cells(told)))
    return tuple(rows)


def _row_name(table: str, told: Mapping[str, Cell]) -> str:
    if table == "CARDS":
        return f"{told.get('origin')} HDU {told.get('hdu')} {keyword_of(str(told.get('card', '')))}".rstrip()
    wanted: Sequence[str] = ("code", "origin", "keyword") if table == "FINDINGS" else ("keyword",)
    return " ".join(str(told.get(name)) for name in wanted if told.get(name))


def _cells(told: Mapping[str, Cell]) -> tuple[str, ...]:
    """Return the cells that say something."""
    return tuple(f"{name}={value!r}" for name, value in told.items() if value not in (None, "") and value is not False)
