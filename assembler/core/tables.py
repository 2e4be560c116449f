"""Tables of the L0's own, as bytes: plain columns only, so that pipelines can load them with pandas."""

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, cast

from assembler.core.cards import printable_text, read_records, text_of, write_card

Cell = str | int | float | bool | None
Form = Literal["A", "J", "D", "L"]
_WIDTHS: dict[Form, int] = {"J": 4, "D": 8, "L": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: text (A), 32-bit integer (J), double (D, where None is NaN) or logical (L)."""

    name: str
    form: Form
    unit: str = ""
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)  # without slots, so that what is worked out once is kept
class Table:
    """A binary table (FITS Standard 7.3): its columns, and the cells of each as Python values."""

    name: str
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of_rows(cls, name: str, columns: tuple[Column, ...], rows: Sequence[tuple[Cell, ...]]) -> "Table":
        """Make a table of its rows."""
        return cls(name=name, columns=columns, cells=tuple(zip(*rows, strict=True)) if rows else ((),) * len(columns))

    @cached_property
    def rows(self) -> tuple[tuple[Cell, ...], ...]:
        """Its rows."""
        return tuple(zip(*self.cells, strict=True))

    @property
    def count(self) -> int:
        """How many rows it has."""
        return len(self.cells[0]) if self.cells else 0

    def widths(self) -> tuple[int, ...]:
        """Return the width of each column [bytes]; text is as wide as its longest cell."""
        return self._widths

    def cards(self) -> tuple[str, ...]:
        """Return the header without CHECKSUM, DATASUM and END."""
        widths = self.widths()
        facts = [
            ("XTENSION", "'BINTABLE'", "binary table extension"),
            ("BITPIX", text_of(8), "array data type"),
            ("NAXIS", text_of(2), "number of array dimensions"),
            ("NAXIS1", text_of(sum(widths)), "[byte] width of a row"),
            ("NAXIS2", text_of(self.count), "number of rows"),
            ("PCOUNT", text_of(0), "no heap"),
            ("GCOUNT", text_of(1), "number of groups"),
            ("TFIELDS", text_of(len(self.columns)), "number of columns"),
            ("EXTNAME", text_of(self.name), "extension name"),
        ]
        for number, (column, width) in enumerate(zip(self.columns, widths, strict=True), 1):
            facts.append((f"TTYPE{number}", text_of(column.name), column.meaning))
            facts.append((f"TFORM{number}", text_of(f"{width}A" if column.form == "A" else column.form), ""))
            if column.unit:
                facts.append((f"TUNIT{number}", text_of(column.unit), ""))
        return tuple(card for fact in facts for card in write_card(*fact))

    def data(self) -> bytes:
        """Return the rows as they are in the file, without fill."""
        widths = self.widths()
        stride = sum(widths)
        data = bytearray(stride * self.count)
        offset = 0
        for column, cells, width in zip(self.columns, self.cells, widths, strict=True):
            encoded = _encode(column.form, width, cells)
            for place in range(width):  # one byte of every row at a time, which is quicker than row by row
                data[offset + place :: stride] = encoded[place::width]
            offset += width
        return bytes(data)

    @cached_property
    def _widths(self) -> tuple[int, ...]:
        return tuple(
            max(1, max(map(len, cast(tuple[str, ...], cells)), default=1)) if column.form == "A" else _WIDTHS[column.form]
            for column, cells in zip(self.columns, self.cells, strict=True)
        )


def _encode(form: Form, width: int, cells: Sequence[Cell]) -> bytes:
    """Return the cells of a column one after the other."""
    if form == "A":
        text = f"%-{width}s" * len(cells) % tuple(cells)  # in half the time of so many calls of ljust
        return printable_text(text).encode("ascii")
    if form == "L":
        return b"".join([b"T" if cell else b"F" for cell in cells]) if any(cells) else b"F" * len(cells)
    if form == "J":
        return struct.pack(f">{len(cells)}i", *cells)
    return struct.pack(f">{len(cells)}d", *(math.nan if cell is None else cell for cell in cells))


def read_table(images: Sequence[str], data: bytes) -> Table:
    """Read a table that a `Table` wrote.

    Parameters
    ----------
    images : sequence of str
        The cards of its header.
    data : bytes
        Its data unit; fill may follow the rows.

    Raises
    ------
    ValueError
        When it is no such table.
    """
    values = {r.keyword: r.value for r in read_records(images) if r.kind == "value"}
    count, rows, width = (values.get(keyword) for keyword in ("TFIELDS", "NAXIS2", "NAXIS1"))
    if not (isinstance(count, int) and isinstance(rows, int) and isinstance(width, int)) or rows * width > len(data):
        raise ValueError("is no table of an L0")
    columns, edges = [], [0]
    for number in range(1, count + 1):
        found = re.fullmatch(r"(\d*)([AJDL])", str(values.get(f"TFORM{number}", "")))
        if not found:
            raise ValueError(f"TFORM{number} is not one that an L0 has")
        form = cast(Form, found.group(2))
        columns.append(Column(name=str(values.get(f"TTYPE{number}", "")), form=form, unit=str(values.get(f"TUNIT{number}") or "")))
        edges.append(edges[-1] + (int(found.group(1) or 1) if form == "A" else _WIDTHS[form]))
    if edges[-1] != width:
        raise ValueError(f"its rows are {width} bytes wide, its columns {edges[-1]}")
    read = [
        tuple(_decode(c.form, data[at + left : at + right]) for c, (left, right) in zip(columns, pairwise(edges), strict=True))
        for at in range(0, rows * width, max(width, 1))
    ]
    return Table.of_rows(str(values.get("EXTNAME", "")), tuple(columns), read)


def _decode(form: Form, data: bytes) -> Cell:
    if form == "A":
        return data.decode("latin-1").rstrip(" \0")
    if form == "L":
        return data == b"T"
    if form == "J":
        return int.from_bytes(data, "big", signed=True)
    number: float = struct.unpack(">d", data)[0]
    return None if number != number else number  # noqa: PLR0124 - NaN is what differs from itself
