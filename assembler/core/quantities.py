"""Numbers with a unit, as headers have them, in the unit of a record's column."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from assembler.core.cards import Value

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[EeDd][+-]?\d{1,3})?", re.ASCII)
_SEXAGESIMAL = re.compile(r"([+-]?)(\d{1,3})[: ](\d{1,2})[: ](\d{1,2}(?:\.\d*)?)", re.ASCII)
_LONGEST = 100
_DIGITS = 13  # of a number in another unit; what binary fractions add behind them means nothing


class Unit(NamedTuple):
    """What makes a number of this unit one of the column's: ``number * factor + offset``."""

    factor: float
    offset: float = 0.0
    is_sexagesimal: bool = False


_ANGLES = {
    "deg": Unit(1.0),
    "arcmin": Unit(1 / 60),
    "arcsec": Unit(1 / 3600),
    "rad": Unit(180 / math.pi),
    "h": Unit(15.0),
    "hms": Unit(15.0, is_sexagesimal=True),
    "dms": Unit(1.0, is_sexagesimal=True),
}

QUANTITIES: Mapping[str, Mapping[str, Unit]] = {
    "s": {"s": Unit(1.0), "ms": Unit(1e-3), "us": Unit(1e-6), "min": Unit(60.0), "h": Unit(3600.0), "d": Unit(86_400.0)},
    "deg": _ANGLES,
    "deg from zenith": {**_ANGLES, "elevation": Unit(-1.0, 90.0)},
    "K": {"K": Unit(1.0), "C": Unit(1.0, 273.15), "F": Unit(5 / 9, 273.15 - 32 * 5 / 9)},
    "Pa": {
        "Pa": Unit(1.0),
        "hPa": Unit(100.0),
        "mbar": Unit(100.0),
        "kPa": Unit(1000.0),
        "bar": Unit(1e5),
        "mmHg": Unit(133.322387415),
        "Torr": Unit(101_325 / 760),
        "inHg": Unit(3386.389),
        "atm": Unit(101_325.0),
    },
    "%": {"%": Unit(1.0), "fraction": Unit(100.0)},
    "m/s": {"m/s": Unit(1.0), "km/h": Unit(1 / 3.6), "mph": Unit(0.44704), "kn": Unit(1852 / 3600)},
    "arcsec": {"arcsec": Unit(1.0), "mas": Unit(1e-3), "arcmin": Unit(60.0), "deg": Unit(3600.0)},
    "m": {"m": Unit(1.0), "mm": Unit(1e-3), "um": Unit(1e-6), "cm": Unit(1e-2)},
    "": {"": Unit(1.0)},
}
"""By the unit of a column, the units that its keyword may have; the first is the column's own."""


def converted(value: Value, unit: Unit) -> float:
    """Return a header's value in the unit of a column.

    Raises
    ------
    ValueError
        When it is no number, or none that is finite.

    >>> degrees, celsius = QUANTITIES["deg"], QUANTITIES["K"]
    >>> converted("-00:30:00", degrees["dms"]), converted("12:00:00", degrees["hms"]), converted("1.0D+01", celsius["C"])
    (-0.5, 180.0, 283.15)
    """
    told = (_sexagesimal(value) if unit.is_sexagesimal else number(value)) * unit.factor + unit.offset
    return float(f"{finite(told, value):.{_DIGITS}g}")


def number(value: Value) -> float:
    """Return the number that a header's value is, or tells as text.

    Raises
    ------
    ValueError
        When it is none, or none that is finite.

    >>> number(3), number(" 2.5E1 ")
    (3.0, 25.0)
    """
    if isinstance(value, str) and len(value) <= _LONGEST and _NUMBER.fullmatch(value.strip()):
        return finite(float(re.sub("[Dd]", "E", value.strip())), value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return finite(float(value), value)
        except OverflowError:
            raise ValueError("is too great a number") from None
    raise ValueError("is no number")


def finite(told: float, value: Value) -> float:
    """Return a number that is finite.

    Raises
    ------
    ValueError
        When it is not.
    """
    if not math.isfinite(told):
        raise ValueError(f"is no finite number: {str(value)[:_LONGEST]!r}")
    return told


def _sexagesimal(value: Value) -> float:
    """Return how many whole ones, hours or degrees, a text with minutes and seconds tells."""
    found = _SEXAGESIMAL.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= _LONGEST else None
    if not found:
        raise ValueError("is no text as 12:34:56.7")
    sign, whole, minutes, seconds = found.groups()
    if int(minutes) > 59 or float(seconds) > 60:
        raise ValueError("has more than 60 minutes or seconds")
    told = int(whole) + int(minutes) / 60 + float(seconds) / 3600
    return -told if sign == "-" else told
